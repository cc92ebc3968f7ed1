//! `awsnet tune`: tiles measured on the GPU at hand.

use std::path::PathBuf;

use awsnet::{PlanOptions, Target, Tuning, tune};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::options::{ModelPath, RunOptions};
use crate::output::{self, OutputFile, Results};

/// Measure tiles on the GPU at hand, for AWSNET_TUNE
///
/// One kernel and shape after the other, each candidate is put into the whole network, whose graph is replayed; the
/// fastest stays. The result is a tuning file: with AWSNET_TUNE=FILE, every command takes its tiles where GPU,
/// precision and shape are those that were measured, and `awsnet plan` marks them. docs/tuning.md has the format.
///
/// A plan for a CPU takes no tuning: `awsnet bench MODEL --algorithms` holds its choices against the others.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  awsnet tune model.safetensors --batch 8 -o h100.json\n  AWSNET_TUNE=h100.json awsnet bench model.safetensors --batch 8"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// The tuning file to write; one that is there keeps its entries for other GPUs and shapes [default: to stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Images that run together; the powers of two below are measured too
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    batch: u32,

    /// Candidates for each shape
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    candidates: u32,

    /// Runs for each candidate, whose median counts
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,

    /// Evict the device's L2 cache before each run
    #[arg(long)]
    cold: bool,

    /// One JSON object a line; needs -o
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

pub fn main(args: &Args) -> Outcome {
    let target = args.options.target()?;
    if !matches!(target, Target::Cuda(_)) {
        return Err(Failure::usage(format!(
            "tune: expected a GPU, whose tiles are measured, found {target} (for a CPU: awsnet bench MODEL --algorithms)"
        )));
    }
    if args.json && args.output.is_none() {
        return Err(Failure::usage("--json needs -o FILE: without it the tuning goes to stdout"));
    }
    let options =
        PlanOptions::new().target(target).precision(args.options.precision).batch(args.batch as usize);
    let model = args.model.load()?;
    // A file that is to be extended is read first, and a place that cannot be written is found out before the work.
    let mut tuning = match &args.output {
        Some(path) if path.exists() => tune::load(path)?,
        _ => Tuning::default(),
    };
    let output = match &args.output {
        Some(path) => Some(OutputFile::create(path, &[&args.model.path])?),
        None => None,
    };
    let (candidates, runs) = (args.candidates as usize, args.runs as usize);
    let how = tune::Measurement::new().candidates(candidates).runs(runs).cold(args.cold);
    output::catch_interrupt();

    let mut results = Results::new();
    let mut unwritable = None;
    let told = output.is_some();
    if told && !args.json {
        results.line(&format!(
            "{:<20}  {:>6}  {:>20}  {:>9}  {:>9}  {:>10}  {:>10}",
            "kernel", "images", "shape", "plan's", "fastest", "us", "us"
        ))?;
    }
    let measured = tune::measure(model, &options, &how, |outcome| {
        let [positions, channels, reduction] = outcome.shape;
        let ((before, before_us), (after, after_us)) = (&outcome.before, &outcome.after);
        let written = match (told, args.json) {
            (false, _) => {
                let [done, all] = outcome.progress;
                output::remark(&format!("{done} of {all}: {}, {before} to {after}", outcome.kernel));
                Ok(())
            }
            (true, true) => results.json(&json!({
                "kernel": outcome.kernel, "images": outcome.images, "positions": positions,
                "channels": channels, "reduction": reduction, "before": before, "after": after,
                "before_us": before_us, "after_us": after_us,
            })),
            (true, false) => results.line(&format!(
                "{:<20}  {:>6}  {:>20}  {before:>9}  {after:>9}  {before_us:>10.2}  {after_us:>10.2}",
                outcome.kernel,
                outcome.images,
                format!("{positions}x{channels}x{reduction}"),
            )),
        };
        unwritable = written.err();
        unwritable.is_none() && !output::interrupted()
    })?;
    if let Some(failure) = unwritable {
        return Err(failure);
    }
    if output::interrupted() {
        return Err(Failure::interrupted("interrupted: nothing is written"));
    }
    tuning.merge(measured);
    match output {
        Some(output) => output.write(tuning.to_json().as_bytes()),
        None => results.line(tuning.to_json().trim_end()),
    }
}
