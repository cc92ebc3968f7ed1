//! `awsnet bench`: latency and throughput.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use awsnet::bench::{self, AlgorithmTimes};
use awsnet::verify::random_images;
use awsnet::{Engine, Model, RunOptions, Session, Target};
use serde::Serialize;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::options::{self, ModelPath};
use crate::output::{self, Results};

/// Measure latency and throughput on random images
///
/// One line a batch size: median and tail latencies of single runs after a warm-up. Other work on the machine shows
/// in the tail first. A tail is given where at least one run lies beyond it: p99 from 100 runs on, p99.9 from 1000.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  awsnet bench model.safetensors --batch 1,8,64 --threads 2\n  \
                  awsnet bench model.safetensors --runs 10000\n  \
                  awsnet bench model.safetensors --start-up\n  \
                  awsnet bench model.safetensors --algorithms --device cpu\n  \
                  awsnet bench model.safetensors --against without-units.safetensors")]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// Batch sizes, one after the other
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Vec<u32>,

    /// Runs that are measured [default: as many as take about two seconds, from 10 to 1000; 50 with --algorithms]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    runs: Option<u32>,

    /// Evict the caches before each run: the processor's, and on a GPU its L2 cache
    #[arg(long)]
    cold: bool,

    /// Measure the way to a first result instead of runs: load the file, plan, make the engine, run once, without
    /// warm-up [default of --runs: 10]
    #[arg(long)]
    start_up: bool,

    /// The time of each node of the plan as well; on a GPU how much longer the network takes with it than without it and
    /// all that follow, by the device's events
    #[arg(long)]
    nodes: bool,

    /// Measure this model too, a run or a few of the one and of the other in turn, and the ratio of MODEL's time to this
    /// one's: the median of the turns' ratios, with its quartiles
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["start_up", "nodes"])]
    against: Option<PathBuf>,

    /// Measure each convolution that can be computed in several ways in each of them, and show what the plan chooses
    /// beside what is fastest; CPU only
    #[arg(long, conflicts_with_all = ["cold", "start_up", "nodes", "against"])]
    algorithms: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: options::RunOptions,
}

/// A batch size's line of JSON.
#[derive(Serialize)]
struct Line {
    batch: u32,
    median_ms: f64,
    /// As the next, `null` for too few runs.
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    images_per_s: f64,
    gflop_per_s: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<AgainstLine>,
}

/// A node's part of it.
#[derive(Serialize)]
struct NodeLine {
    name: String,
    kernel: String,
    tile: String,
    median_us: f64,
    gflop_per_s: f64,
}

/// What is said of the other model.
#[derive(Serialize)]
struct AgainstLine {
    median_ms: f64,
    ratio: f64,
    ratio_quartiles: [f64; 2],
}

/// Larger than the last-level cache of any processor of today.
const EVICTION_BYTES: usize = 512 << 20;

/// Runs of start-up that are measured where the call does not say.
const START_UP_RUNS: u32 = 10;

/// Runs of each algorithm where the call does not say.
const ALGORITHM_RUNS: u32 = 50;

pub fn main(args: &Args) -> Outcome {
    if args.algorithms {
        return algorithms(args);
    }
    let mut results = Results::new();
    output::catch_interrupt();
    let mut stopwatch = Stopwatch { eviction: vec![0u8; if args.cold { EVICTION_BYTES } else { 0 }] };
    let last = args.batch.len() - 1;
    let mut model = if args.start_up { None } else { Some(args.model.load()?) };
    let other = args.against.as_ref().map(|path| ModelPath { path: path.clone() }.load()).transpose()?;
    for (index, &batch) in args.batch.iter().enumerate() {
        let Measured { times, flop, nodes, against } = match (model.take(), &other) {
            (None, _) => start_ups(args, batch, &mut stopwatch)?,
            (Some(loaded), None) => {
                // The last one may take the weights apart, so that they are in memory once.
                model = (index < last).then(|| loaded.clone());
                runs(args, loaded, batch, &mut stopwatch)?
            }
            (Some(loaded), Some(other)) => {
                let measured = turns(args, [&loaded, other], batch, &mut stopwatch)?;
                model = Some(loaded);
                measured
            }
        };
        let median = nearest_rank(&times, 0.5);
        let line = Line {
            batch,
            median_ms: median * 1e3,
            p99_ms: tail(&times, 0.99).map(|time| time * 1e3),
            p999_ms: tail(&times, 0.999).map(|time| time * 1e3),
            images_per_s: f64::from(batch) / median,
            gflop_per_s: flop as f64 * f64::from(batch) / median / 1e9,
            nodes,
            against,
        };
        if index == 0 && !args.json {
            let header = ["batch", "median ms", "p99 ms", "p99.9 ms", "images/s", "GFLOP/s"];
            results.line(&header.map(|column| format!("{column:>10}")).concat())?;
        }
        let or_dash = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.3}"));
        match args.json {
            true => results.json(&line)?,
            false => results.line(&format!(
                "{batch:>10}{:>10.3}{:>10}{:>10}{:>10.1}{:>10.1}",
                line.median_ms,
                or_dash(line.p99_ms),
                or_dash(line.p999_ms),
                line.images_per_s,
                line.gflop_per_s
            ))?,
        }
        if let Some(AgainstLine { median_ms, ratio, ratio_quartiles: [low, high] }) =
            line.against.as_ref().filter(|_| !args.json)
        {
            results.line(&format!(
                "{median_ms:>20.3} against; the ratio in turns {ratio:.3}, quartiles {low:.3} to {high:.3}"
            ))?;
        }
        for node in line.nodes.iter().filter(|_| !args.json) {
            results.line(&format!(
                "{:>12.1} us {:>8.1} GFLOP/s  {:<18} {:>7}  {}",
                node.median_us, node.gflop_per_s, node.kernel, node.tile, node.name
            ))?;
        }
    }
    Ok(())
}

/// What is measured of a batch size.
struct Measured {
    /// Seconds a run, sorted.
    times: Vec<f64>,
    /// Of an image.
    flop: u64,
    nodes: Vec<NodeLine>,
    against: Option<AgainstLine>,
}

/// Times runs of one session after a warm-up.
fn runs(args: &Args, model: Model, batch: u32, stopwatch: &mut Stopwatch) -> Result<Measured, Failure> {
    let mut subject = Subject::new(args, model, batch)?;
    let count = run_count(args, subject.warm_up(args, stopwatch)?);
    let times = repeat(count, || subject.run(args, stopwatch))?;
    let nodes = match args.nodes {
        true => node_lines(&mut subject.session, &subject.images, batch, count)?,
        false => Vec::new(),
    };
    Ok(Measured { times, flop: subject.engine.plan().flop(), nodes, against: None })
}

/// A session and what it runs on.
struct Subject {
    engine: Engine,
    session: Session,
    images: Vec<f32>,
}

impl Subject {
    fn new(args: &Args, model: Model, batch: u32) -> Result<Self, Failure> {
        let images = random_images(&model, batch as usize, 1);
        let engine = args.options.engine(model, batch)?;
        let session = engine.session()?;
        Ok(Subject { engine, session, images })
    }

    /// The seconds of a run.
    fn run(&mut self, args: &Args, stopwatch: &mut Stopwatch) -> Result<f64, Failure> {
        if args.cold {
            self.session.evict_device_cache()?;
        }
        stopwatch.time(|| Ok(self.session.run(&self.images).map(|_| ())?))
    }

    /// Runs until caches, clocks and threads have had their first turns; gives the seconds of a run.
    fn warm_up(&mut self, args: &Args, stopwatch: &mut Stopwatch) -> Result<f64, Failure> {
        let (mut times, started) = (Vec::new(), Instant::now());
        while times.len() < 3 || (started.elapsed() < Duration::from_millis(300) && times.len() < 1000) {
            times.push(self.run(args, stopwatch)?);
        }
        Ok(nearest_rank(&sorted(times), 0.5))
    }
}

/// How many runs to measure, of so many seconds each.
fn run_count(args: &Args, seconds: f64) -> u32 {
    args.runs.unwrap_or_else(|| ((2.0 / seconds) as u32).clamp(10, 1000))
}

/// Times two models in turns of a run or a few.
///
/// What a machine does beside them changes within seconds, and so reaches both models of a turn alike. What is made
/// first in a process may get the better memory: in half of the turns that is this model, in the other half, for which
/// both are made anew, the other one; a ratio is the geometric mean of one of either.
fn turns(
    args: &Args,
    models: [&Model; 2],
    batch: u32,
    stopwatch: &mut Stopwatch,
) -> Result<Measured, Failure> {
    /// Seconds that a model has in a turn, about: few enough that the machine is the same for both. It has at least one run,
    /// behind one that brings its weights back into the caches, and at most [`MOST_RUNS`].
    const TURN_S: f64 = 0.05;
    const MOST_RUNS: f64 = 5.0;
    let (mut times, mut halves) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let (mut turn_runs, mut turns) = (1, 0);
    for (half, ratios) in halves.iter_mut().enumerate() {
        let made = [half, 1 - half];
        let mut make = |model: usize| -> Result<(Subject, f64), Failure> {
            let mut subject = Subject::new(args, models[model].clone(), batch)?;
            let seconds = subject.warm_up(args, stopwatch)?;
            Ok((subject, seconds))
        };
        let [(first, first_s), (second, second_s)] = [make(made[0])?, make(made[1])?];
        let mut subjects = [first, second];
        if half == 0 {
            let longest = first_s.max(second_s);
            turn_runs = (TURN_S / longest).clamp(1.0, MOST_RUNS) as u32;
            // As many with one of them ahead as with the other.
            turns = run_count(args, longest).div_ceil(2 * turn_runs).next_multiple_of(2);
        }
        for turn in 0..turns {
            let mut medians = [0.0; 2];
            for index in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                subjects[index].run(args, stopwatch)?;
                let of_turn = repeat(turn_runs, || subjects[index].run(args, stopwatch))?;
                medians[made[index]] = nearest_rank(&of_turn, 0.5);
                times[made[index]].extend(of_turn);
            }
            ratios.push(medians[0] / medians[1]);
        }
    }
    let [times, others] = times.map(sorted);
    let [this_first, other_first] = halves;
    let ratios = sorted(this_first.iter().zip(other_first).map(|(a, b)| (a * b).sqrt()).collect());
    let against = AgainstLine {
        median_ms: nearest_rank(&others, 0.5) * 1e3,
        ratio: nearest_rank(&ratios, 0.5),
        ratio_quartiles: [nearest_rank(&ratios, 0.25), nearest_rank(&ratios, 0.75)],
    };
    Ok(Measured { times, flop: models[0].flop(), nodes: Vec::new(), against: Some(against) })
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Times whole ways from the file to a first result.
fn start_ups(args: &Args, batch: u32, stopwatch: &mut Stopwatch) -> Result<Measured, Failure> {
    let model = args.model.load()?;
    let (images, flop) = (random_images(&model, batch as usize, 1), model.flop());
    drop(model);
    let start_up = || {
        stopwatch.time(|| {
            let engine = args.options.engine(args.model.load()?, batch)?;
            engine.session()?.run(&images)?;
            Ok(())
        })
    };
    let times = repeat(args.runs.unwrap_or(START_UP_RUNS), start_up)?;
    Ok(Measured { times, flop, nodes: Vec::new(), against: None })
}

/// The ways to compute each convolution, batch size by batch size.
fn algorithms(args: &Args) -> Outcome {
    let target = args.options.target()?;
    if !matches!(target, Target::Cpu(_)) {
        return Err(Failure::usage(format!("--algorithms: expected --device cpu, found {target}")));
    }
    let model = args.model.load()?;
    let runs = args.runs.unwrap_or(ALGORITHM_RUNS) as usize;
    let mut results = Results::new();
    for &batch in &args.batch {
        let options = args.options.plan_options(batch)?;
        let measured = bench::algorithms(&model, &options, args.options.threads(), runs)?;
        match args.json {
            true => measured.iter().try_for_each(|times| results.json(&algorithm_line(batch, times)))?,
            false => algorithm_table(batch, &measured).iter().try_for_each(|line| results.line(line))?,
        }
    }
    Ok(())
}

/// A convolution's line of JSON.
fn algorithm_line(batch: u32, times: &AlgorithmTimes) -> serde_json::Value {
    let us: serde_json::Map<_, _> =
        times.us.iter().map(|(way, us)| (way.to_string(), (*us).into())).collect();
    let (chosen, fastest) = (times.chosen.to_string(), times.fastest().0.to_string());
    json!({ "batch": batch, "node": times.node, "chosen": chosen, "fastest": fastest, "us": us })
}

/// A row a convolution, then what the plan's choices cost beside the fastest.
fn algorithm_table(batch: u32, measured: &[AlgorithmTimes]) -> Vec<String> {
    let Some(first) = measured.first() else {
        return vec![format!("at batch {batch} no convolution that can be computed in several ways")];
    };
    let ways: String = first.us.iter().map(|(way, _)| format!("{:>10}", format!("{way} us"))).collect();
    let header = format!("{:<24}{ways}{:>10}{:>10}", "convolution", "plan's", "fastest");
    let rows = measured.iter().map(|times| {
        let us: String = times.us.iter().map(|(_, us)| format!("{us:>10.1}")).collect();
        let (chosen, fastest) = (times.chosen.to_string(), times.fastest().0.to_string());
        format!("{:<24}{us}{chosen:>10}{fastest:>10}", times.node)
    });
    let ms = |us: fn(&AlgorithmTimes) -> f64| measured.iter().map(us).sum::<f64>() / 1e3;
    let sums = format!(
        "{} convolutions at batch {batch}: {:.3} ms as the plan chooses, {:.3} ms with the fastest",
        measured.len(),
        ms(AlgorithmTimes::chosen_us),
        ms(|times| times.fastest().1),
    );
    std::iter::once(header).chain(rows).chain([sums]).collect()
}

/// Medians of each node over `runs` runs.
fn node_lines(
    session: &mut Session,
    images: &[f32],
    batch: u32,
    runs: u32,
) -> Result<Vec<NodeLine>, Failure> {
    let mut times = vec![Vec::with_capacity(runs as usize); session.plan().nodes().len()];
    for _ in 0..runs {
        let mut of_run = vec![Duration::ZERO; times.len()];
        session.run_with(images, RunOptions::new().times(&mut of_run))?;
        times.iter_mut().zip(of_run).for_each(|(times, time)| times.push(time.as_secs_f64()));
    }
    let lines = session.plan().nodes().iter().zip(&mut times).map(|(node, times)| {
        times.sort_by(f64::total_cmp);
        let median = nearest_rank(times, 0.5);
        NodeLine {
            name: node.name().to_owned(),
            kernel: node.kernel().to_owned(),
            tile: node.tile().to_owned(),
            median_us: median * 1e6,
            gflop_per_s: node.flop() as f64 * f64::from(batch) / median / 1e9,
        }
    });
    Ok(lines.collect())
}

/// Calls `timed` so many times, or until the user interrupts, and sorts what it gives. Nothing else is allocated on
/// the way.
fn repeat(count: u32, mut timed: impl FnMut() -> Result<f64, Failure>) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(count as usize);
    for _ in 0..count {
        times.push(timed()?);
        if output::interrupted() {
            return Err(Failure::interrupted(format!("interrupted after {} of {count} runs", times.len())));
        }
    }
    Ok(sorted(times))
}

/// Takes times, behind an eviction of the caches where there is something to evict them with.
struct Stopwatch {
    eviction: Vec<u8>,
}

impl Stopwatch {
    /// The seconds that `work` takes.
    fn time(&mut self, work: impl FnOnce() -> Outcome) -> Result<f64, Failure> {
        for (i, byte) in self.eviction.iter_mut().step_by(64).enumerate() {
            *byte = byte.wrapping_add(i as u8);
        }
        let started = Instant::now();
        work()?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// The value of `sorted` that a share `p` of them does not exceed.
fn nearest_rank(sorted: &[f64], p: f64) -> f64 {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The same, if at least one value lies beyond it: the largest of a few values says nothing of a tail.
fn tail(sorted: &[f64], p: f64) -> Option<f64> {
    let beyond = ((1.0 - p) * sorted.len() as f64 + 1e-9).floor();
    (beyond >= 1.0).then(|| nearest_rank(sorted, p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 0.999].map(|p| nearest_rank(&times, p)), [500.0, 990.0, 999.0]);
        assert_eq!(nearest_rank(&[7.0], 0.5), 7.0);
    }

    #[test]
    fn a_tail_needs_a_run_beyond_it() {
        let times: Vec<f64> = (1..=10_000).map(f64::from).collect();
        for (count, p99, p999) in [
            (1, None, None),
            (99, None, None),
            (100, Some(99.0), None),
            (999, Some(990.0), None),
            (1000, Some(990.0), Some(999.0)),
            (10_000, Some(9900.0), Some(9990.0)),
        ] {
            assert_eq!([0.99, 0.999].map(|p| tail(&times[..count], p)), [p99, p999], "{count} runs");
        }
    }
}
