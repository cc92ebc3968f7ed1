//! `awsnet tune`: tiles measured on the GPU at hand; on a CPU, the plan's choices beside the others.

use std::path::PathBuf;

use awsnet::tune;
use awsnet::{PlanOptions, Target};
use serde_json::json;

use crate::common::{Failure, ModelPath, Outcome, RunOptions};
use crate::output::Results;

/// Measure tiles on the GPU at hand, for AWSNET_TUNE; on a CPU, check the plan's choices
///
/// On a GPU, one kernel and shape after the other, each candidate is put into the whole network, whose graph is replayed; the
/// fastest stays. The result is a tuning file: with AWSNET_TUNE=FILE, every command takes its tiles where GPU,
/// precision and shape are those that were measured, and `awsnet plan` marks them. docs/tuning.md has the format.
///
/// On a CPU, every convolution that can be computed in several ways is measured in each of them, and shown beside what
/// the plan chooses; nothing is written, since a plan's choices there follow from shapes alone.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  awsnet tune model.safetensors --batch 8 -o h100.json\n  AWSNET_TUNE=h100.json awsnet bench model.safetensors --batch 8\n  awsnet tune model.safetensors --device cpu"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// The tuning file to write; one that is there keeps its entries for other GPUs and shapes [default: to stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Images that run together; on a GPU the powers of two below are measured too
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    batch: u32,

    /// Candidates for each shape; GPU only [default: 12]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    candidates: Option<u32>,

    /// Runs for each candidate, whose median counts
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,

    /// Evict the device's L2 cache before each run; GPU only
    #[arg(long)]
    cold: bool,

    /// One JSON object a line; on a GPU it needs -o
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

/// Candidates for each shape where the call does not say.
#[cfg(feature = "cuda")]
const CANDIDATES: u32 = 12;

pub fn main(args: &Args) -> Outcome {
    let target = args.options.target()?;
    let options =
        PlanOptions::new().target(target).precision(args.options.precision).batch(args.batch as usize);
    match target {
        Target::Cpu(_) => algorithms(args, &options),
        #[cfg(feature = "cuda")]
        _ => tiles(args, &options),
        #[cfg(not(feature = "cuda"))]
        other => Err(Failure::usage(format!("expected --device cpu, found {other}"))),
    }
}

/// The ways to compute each convolution on the CPU.
fn algorithms(args: &Args, options: &PlanOptions) -> Outcome {
    let gpu_only =
        [("-o", args.output.is_some()), ("--candidates", args.candidates.is_some()), ("--cold", args.cold)];
    if let Some((option, _)) = gpu_only.into_iter().find(|(_, given)| *given) {
        let found = args.options.target()?;
        return Err(Failure::usage(format!("{option} is for a GPU: expected --device cuda, found {found}")));
    }
    let measured =
        tune::algorithms(&args.model.load()?, options, args.options.threads(), args.runs as usize)?;
    let mut results = Results::new();
    let mut sums = [0.0; 2];
    for (index, times) in measured.iter().enumerate() {
        let (fastest, fastest_us) = times.fastest();
        sums[0] += times.chosen_us();
        sums[1] += fastest_us;
        if args.json {
            let us: serde_json::Map<_, _> =
                times.us.iter().map(|(way, us)| (way.to_string(), (*us).into())).collect();
            results.json(&json!({
                "node": times.node, "chosen": times.chosen.to_string(), "fastest": fastest.to_string(), "us": us,
            }))?;
            continue;
        }
        if index == 0 {
            let ways: String =
                times.us.iter().map(|(way, _)| format!("{:>10}", format!("{way} us"))).collect();
            results.line(&format!("{:<24}{ways}{:>10}{:>10}", "convolution", "plan's", "fastest"))?;
        }
        let us: String = times.us.iter().map(|(_, us)| format!("{us:>10.1}")).collect();
        let (chosen, fastest) = (times.chosen.to_string(), fastest.to_string());
        results.line(&format!("{:<24}{us}{chosen:>10}{fastest:>10}", times.node))?;
    }
    if args.json {
        return Ok(());
    }
    let [chosen, fastest] = sums.map(|us| us / 1e3);
    results.line(&match measured.len() {
        0 => "no convolution that can be computed in several ways".to_owned(),
        count => format!(
            "{count} convolutions: {chosen:.3} ms as the plan chooses, {fastest:.3} ms with the fastest"
        ),
    })
}

/// The tiles of each kernel and shape on the GPU.
#[cfg(feature = "cuda")]
fn tiles(args: &Args, options: &PlanOptions) -> Outcome {
    use awsnet::Tuning;

    use crate::output::{self, OutputFile};

    if args.json && args.output.is_none() {
        return Err(Failure::usage("--json needs -o FILE: without it the tuning goes to stdout"));
    }
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
    let (candidates, runs) = (args.candidates.unwrap_or(CANDIDATES) as usize, args.runs as usize);
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
    let measured = tune::measure(model, options, &how, |outcome| {
        let [positions, channels, reduction] = outcome.shape;
        let ((before, before_us), (after, after_us)) = (&outcome.before, &outcome.after);
        let written = match (told, args.json) {
            (false, _) => {
                let [done, all] = outcome.progress;
                output::note(&format!("{done} of {all}: {}, {before} to {after}", outcome.kernel));
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
