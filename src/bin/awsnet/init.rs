//! `awsnet init`: a model file with random weights.

use std::path::PathBuf;

use awsnet::DType;
use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::model::{AwsKind, Gate};
use clap::ValueEnum;

use crate::failure::{Failure, Outcome};
use crate::options::parse;
use crate::output::OutputFile;

/// Write a model file with random weights, for benchmarks and tests
///
/// Two networks of the same architecture, or one, named as in torchvision, with an AWS-Unit behind the stem and each block.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  awsnet init --arch resnet18 --size 112 --aws channel -o resnet18.safetensors"
)]
pub struct Args {
    /// The network: resnet18, resnet50, vgg11, mobilenet, mobilenet_v3_small, efficientnet_b0, densenet121 or tiny
    #[arg(long, value_name = "NAME", value_parser = parse::<Architecture>)]
    arch: Architecture,

    /// Height and width of the image in pixels
    #[arg(long, default_value_t = 112, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,

    /// Two branches, emotion and au, or emotion alone, which has no AWS-Units
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    branches: u8,

    /// The kind of AWS-Unit
    #[arg(long, value_enum, default_value_t = Aws::Channel)]
    aws: Aws,

    /// The same seed gives the same file
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Type of the weights
    #[arg(long, value_enum, default_value_t = Type::F32)]
    dtype: Type,

    /// The file to write; replaced if it is there
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Aws {
    None,
    Layer,
    Channel,
    Dense,
    Gate,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    F32,
    F16,
    Bf16,
}

pub fn main(args: &Args) -> Outcome {
    let aws = match args.aws {
        Aws::None => None,
        Aws::Layer => Some(AwsKind::Layer),
        Aws::Channel => Some(AwsKind::Channel),
        Aws::Dense => Some(AwsKind::Dense),
        Aws::Gate => Some(AwsKind::Gate(Gate::Softmax)),
    };
    let dtype = match args.dtype {
        Type::F32 => DType::F32,
        Type::F16 => DType::F16,
        Type::Bf16 => DType::BF16,
    };
    let options = InitOptions::new()
        .architecture(args.arch)
        .size(args.size as usize)
        .branches(usize::from(args.branches))
        .aws(aws)
        .seed(args.seed)
        .dtype(dtype);
    let file = OutputFile::create(&args.output, &[])?;
    // What `init` refuses is a size that the architecture does not take.
    file.write(&init(&options).map_err(|e| Failure::usage(e.to_string()))?)
}
