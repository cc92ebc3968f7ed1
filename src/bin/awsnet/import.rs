//! `awsnet import`: a model file from ONNX files.

use std::path::{Path, PathBuf};

use awsnet::model::{ChannelOrder, HeadKind};
use awsnet::onnx::{ImportOptions, import};
use clap::ValueEnum;

use crate::failure::{Failure, Outcome, one_line, shown};
use crate::output::{self, OutputFile};

/// Make a model file from networks trained elsewhere, as ONNX files
///
/// One file is a model of one branch; two of one shape are the branches of one model, without AWS-Units. The model is
/// compared with the ONNX graphs on a random image before it is written.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  awsnet import emotion.onnx au.onnx --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 -o model.safetensors
  awsnet import arcface.onnx --mean 0.5 --std 0.5 --order bgr --kind values -o faces.safetensors")]
pub struct Args {
    /// The network of the first branch
    #[arg(value_name = "EMOTION.onnx")]
    first: PathBuf,

    /// The network of the second
    #[arg(value_name = "AU.onnx")]
    second: Option<PathBuf>,

    /// The model file to write; replaced if it is there
    #[arg(short, long, value_name = "MODEL")]
    output: PathBuf,

    /// Labels of the first file's scores: a file of one a line, or the labels [default: class0,class1...]
    #[arg(long, value_name = "FILE|A,B,C")]
    labels: Option<String>,

    /// Labels of the second file's scores [default: unit0,unit1...]
    #[arg(long, value_name = "FILE|A,B,C", requires = "second")]
    au_labels: Option<String>,

    /// What the first file's scores are: classes, units or values [default: units behind a sigmoid, else classes]
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Kind>,

    /// What the second file's scores are [default: classes behind a softmax, else units]
    #[arg(long, value_enum, value_name = "KIND", requires = "second")]
    au_kind: Option<Kind>,

    /// From which probability on units are active, one for all or one each [default: 0.5]; those of the second file, where
    /// there are two
    #[arg(long, value_name = "P,...", value_delimiter = ',')]
    thresholds: Option<Vec<f32>>,

    /// What was subtracted from pixels from 0 to 1, one for all or one a channel [default: 0, or as the graph has it]
    #[arg(long, value_name = "V,...", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,

    /// What they were divided by then; 0.00392157 for a network that reads pixels from 0 to 255 [default: 1, or as the graph
    /// has it]
    #[arg(long, value_name = "V,...", value_delimiter = ',')]
    std: Option<Vec<f32>>,

    /// The order of colours that the network reads: rgb or bgr
    #[arg(long, value_enum, default_value_t = Order::Rgb)]
    order: Order,

    /// Height and width of the image, where the files leave them open: N, or HxW
    #[arg(long, value_name = "N|HxW", value_parser = size)]
    size: Option<[usize; 2]>,

    /// Names of the branches
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_values = ["emotion", "au"])]
    names: Vec<String>,

    /// Write the model without comparing it with the graphs
    #[arg(long)]
    no_check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Classes,
    Units,
    Values,
}

#[derive(Clone, Copy, ValueEnum)]
enum Order {
    Rgb,
    Bgr,
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| text.parse().ok().filter(|side| (1..=1 << 16).contains(side));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err("expected N or HxW, of 1 to 65536 pixels".to_owned()),
    }
}

/// Labels from a file, one a line, or from the text itself.
fn labels(text: &str) -> Result<Vec<String>, Failure> {
    let path = Path::new(text);
    if !path.is_file() {
        return Ok(text.split(',').map(|label| label.trim().to_owned()).collect());
    }
    let lines = std::fs::read_to_string(path).map_err(|e| {
        Failure::failed(format!("{}: expected a readable file of labels, found {e}", shown(path)))
    })?;
    Ok(lines.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

pub fn main(args: &Args) -> Outcome {
    let files: Vec<&Path> =
        [Some(&args.first), args.second.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
    let order = match args.order {
        Order::Rgb => ChannelOrder::Rgb,
        Order::Bgr => ChannelOrder::Bgr,
    };
    let mut options = ImportOptions::new().order(order).check(!args.no_check);
    // One branch needs one name.
    let names = match &args.names[..] {
        [one] if files.len() == 1 => [one.as_str(), "au"],
        [one, other] => [one.as_str(), other.as_str()],
        names => {
            let expected = format!("--names: expected {}, found {}", files.len(), names.len());
            return Err(Failure::usage(expected));
        }
    };
    options = options.branches(names);
    if let Some([height, width]) = args.size {
        options = options.size(height, width);
    }
    if let Some(mean) = &args.mean {
        options = options.mean(mean);
    }
    if let Some(std) = &args.std {
        options = options.std(std);
    }
    for (index, (text, kind)) in
        [(&args.labels, args.kind), (&args.au_labels, args.au_kind)].into_iter().enumerate()
    {
        if let Some(text) = text {
            options = options.labels(index, labels(text)?);
        }
        if let Some(kind) = kind {
            options = options.kind(
                index,
                match kind {
                    Kind::Classes => HeadKind::Classes,
                    Kind::Units => HeadKind::Units,
                    Kind::Values => HeadKind::Values,
                },
            );
        }
    }
    if let Some(thresholds) = &args.thresholds {
        options = options.thresholds(files.len() - 1, thresholds.clone());
    }
    let file = OutputFile::create(&args.output, &files)?;
    let imported = import(&files, &options)?;
    file.write(imported.bytes())?;
    for text in imported.notes() {
        output::remark(&one_line(text));
    }
    match imported.error() {
        Some(error) => output::remark(&format!(
            "the model's scores differ from the graphs' by {error:.1e} of the largest"
        )),
        None => output::remark("the model is not compared with the graphs"),
    }
    Ok(())
}
