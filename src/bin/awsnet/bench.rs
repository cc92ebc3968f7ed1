//! `awsnet bench`: latency and throughput.

use std::time::{Duration, Instant};

use awsnet::Session;
use serde::Serialize;

use crate::common::{Failure, ModelPath, Outcome, RunOptions};
use crate::output::{self, Results};
use crate::verify::random_images;

/// Measure latency and throughput on random images
///
/// One line a batch size: median and tail latencies of single runs after a warm-up. Other work on the machine shows
/// in the tail first.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  awsnet bench model.safetensors --batch 1,8,64 --threads 2")]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// Batch sizes, one after the other
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Vec<u32>,

    /// Runs that are measured [default: as many as take about two seconds, from 10 to 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    runs: Option<u32>,

    /// Evict the caches before each run
    #[arg(long)]
    cold: bool,

    /// The time of each node of the plan as well; CPU only
    #[arg(long)]
    nodes: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

/// A batch size's line of JSON.
#[derive(Serialize)]
struct Line {
    batch: u32,
    median_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    images_per_s: f64,
    gflop_per_s: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeLine>,
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

/// Larger than the last-level cache of any processor of today.
const EVICTION_BYTES: usize = 512 << 20;

pub fn main(args: &Args) -> Outcome {
    let model = args.model.load()?;
    let mut results = Results::new();
    output::catch_interrupt();
    let mut eviction = vec![0u8; if args.cold { EVICTION_BYTES } else { 0 }];
    let last = args.batch.len() - 1;
    let mut model = Some(model);
    for (index, &batch) in args.batch.iter().enumerate() {
        // The last one may take the weights apart, so that they are in memory once.
        let model = if index == last { model.take() } else { model.clone() };
        let Some(model) = model else { break };
        let engine = args.options.engine(model, batch)?;
        let mut session = engine.session()?;
        let images = random_images(batch as usize * engine.plan().input().shape.len(), 1);
        let mut timed = |times: &mut Vec<f64>| -> Result<(), Failure> {
            for (i, byte) in eviction.iter_mut().step_by(64).enumerate() {
                *byte = byte.wrapping_add(i as u8);
            }
            let started = Instant::now();
            session.run(&images)?;
            times.push(started.elapsed().as_secs_f64());
            Ok(())
        };

        // Warm-up: caches, clocks and the threads' first turns.
        let (mut warm_up, started) = (Vec::new(), Instant::now());
        while warm_up.len() < 3 || (started.elapsed() < Duration::from_millis(300) && warm_up.len() < 1000) {
            timed(&mut warm_up)?;
        }
        let typical = percentile(&mut warm_up, 0.5);
        let runs = args.runs.unwrap_or_else(|| ((2.0 / typical) as u32).clamp(10, 1000));
        let mut times = Vec::with_capacity(runs as usize);
        for _ in 0..runs {
            timed(&mut times)?;
            if output::interrupted() {
                return Err(Failure::interrupted(format!(
                    "interrupted after {} of {runs} runs",
                    times.len()
                )));
            }
        }
        let median = percentile(&mut times, 0.5);
        let line = Line {
            batch,
            median_ms: median * 1e3,
            p99_ms: percentile(&mut times, 0.99) * 1e3,
            p999_ms: percentile(&mut times, 0.999) * 1e3,
            images_per_s: f64::from(batch) / median,
            gflop_per_s: engine.plan().flop() as f64 * f64::from(batch) / median / 1e9,
            nodes: match args.nodes {
                true => node_lines(&mut session, &images, batch, runs)?,
                false => Vec::new(),
            },
        };
        if index == 0 && !args.json {
            let header = ["batch", "median ms", "p99 ms", "p99.9 ms", "images/s", "GFLOP/s"];
            results.line(&header.map(|column| format!("{column:>10}")).concat())?;
        }
        match args.json {
            true => results.json(&line)?,
            false => results.line(&format!(
                "{batch:>10}{:>10.3}{:>10.3}{:>10.3}{:>10.1}{:>10.1}",
                line.median_ms, line.p99_ms, line.p999_ms, line.images_per_s, line.gflop_per_s
            ))?,
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
        session.run_timed(images, &mut of_run)?;
        times.iter_mut().zip(of_run).for_each(|(times, time)| times.push(time.as_secs_f64()));
    }
    let lines = session.plan().nodes().iter().zip(&mut times).map(|(node, times)| {
        let median = percentile(times, 0.5);
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

/// The value that a share `p` of `times` does not exceed (nearest rank); sorts them.
fn percentile(times: &mut [f64], p: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let rank = (p * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut times: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.99, 0.999].map(|p| percentile(&mut times, p)), [500.0, 990.0, 999.0]);
        assert_eq!(percentile(&mut [7.0], 0.999), 7.0);
    }
}
