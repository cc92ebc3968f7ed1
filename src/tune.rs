//! Tiles measured on the GPU at hand, and the files that keep them; on a CPU, the plan's choices beside the others.
//!
//! A [`Tuning`] takes the place of a plan's own choices ([`PlanOptions::tuning`]); [`measure`] makes one, [`load`] reads
//! one, and [`from_env`] reads the one that the environment variable `AWSNET_TUNE` names, as the command line and the C
//! interface do. `docs/tuning.md` has the format. A plan for a CPU takes no tuning: its choices are a function of shapes,
//! which [`algorithms`] holds against measurements.

use std::path::Path;
use std::time::Duration;

#[cfg(feature = "cuda")]
pub use crate::cuda::tune::Measurement;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
#[cfg(feature = "cuda")]
use crate::plan::BackendPlan;
use crate::plan::{Conv2dAlgorithm, Plan, PlanOptions, Target, Tuning};
use crate::session::RunOptions;

/// The environment variable that names a tuning file.
pub const VARIABLE: &str = "AWSNET_TUNE";

/// The longest tuning file: beyond it, the path is no tuning file's.
const MOST_BYTES: u64 = 16 << 20;

/// Reads a tuning file.
///
/// Errors name the file and, in it, the entry: those of [`Tuning::from_json`], a file that cannot be read, or of more
/// than 16 MiB.
pub fn load(path: impl AsRef<Path>) -> Result<Tuning> {
    use std::io::Read;
    let path = path.as_ref();
    let unreadable = |error| Error::io(path, "a readable tuning file", error);
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::other("no regular file")));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(unreadable(std::io::Error::other(format!("more than {MOST_BYTES} bytes"))));
    }
    Tuning::from_json(&text).map_err(|error| error.in_file(path))
}

/// Reads the tuning file that `AWSNET_TUNE` names; without the variable, or where it is empty, there is no tuning.
///
/// Errors: as [`load`].
pub fn from_env() -> Result<Tuning> {
    match std::env::var_os(VARIABLE) {
        Some(path) if !path.is_empty() => load(path),
        _ => Ok(Tuning::default()),
    }
}

/// What [`measure`] found for one kernel and shape; times are of the whole network.
#[cfg(feature = "cuda")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The kernel, as the plan shows it.
    pub kernel: &'static str,
    /// Images of the batch it was measured at.
    pub images: usize,
    /// Positions, channels and length of the reduction.
    pub shape: [usize; 3],
    /// The tile that the plan chooses, and the network's median time with it in microseconds.
    pub before: (String, f32),
    /// The fastest tile, likewise.
    pub after: (String, f32),
    /// Problems measured so far, this one included, and all that there are.
    pub progress: [usize; 2],
}

/// Measures tiles for a model on the GPU of `options`, at every batch size that its plan captures a graph for.
///
/// One kernel and shape after the other, each candidate is put into the whole network, whose graph is replayed; the
/// fastest stays. `told` hears of each outcome, and ends the measurement by returning false. The tuning has an entry for
/// each, measured or not improved upon. Errors: those of [`Plan::build`] and of an engine; a target that is no GPU of
/// this machine; a driver that tells no time.
#[cfg(feature = "cuda")]
pub fn measure(
    model: Model,
    options: &PlanOptions,
    how: &Measurement,
    mut told: impl FnMut(&Outcome) -> bool,
) -> Result<Tuning> {
    use crate::cuda::plan::{Entry, Problem};

    let mut plan = Plan::build(model, options)?;
    let Some(BackendPlan::Cuda(cuda_plan)) = plan.take_backend() else {
        return Err(Error::new(ErrorKind::Device, "tuning", "a GPU", plan.target().to_string()));
    };
    let (capability, multiprocessors) = (cuda_plan.gpu.capability, cuda_plan.gpu.multiprocessors);
    let mut done = 0;
    let measured = crate::cuda::measure(*cuda_plan, how, |measured, all| {
        done += 1;
        let Problem { op, positions, channels, reduction, .. } = measured.problem;
        told(&Outcome {
            kernel: op.kernel(),
            images: measured.images,
            shape: [positions, channels, reduction],
            before: (measured.before.0.to_string(), measured.before.1),
            after: (measured.after.0.to_string(), measured.after.1),
            progress: [done, all],
        })
    })?;
    let mut tuning = Tuning::default();
    for measured in measured {
        let (tile, us) = measured.after;
        let problem = measured.problem;
        tuning.push(Entry { capability, multiprocessors, problem, tile, network_us: Some(us) });
    }
    Ok(tuning)
}

/// How long a convolution takes that the CPU backend can compute in several ways; see [`algorithms`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AlgorithmTimes {
    /// The node's name in the plan.
    pub node: String,
    /// What the plan chooses.
    pub chosen: Conv2dAlgorithm,
    /// Median microseconds of the node with each of [`Conv2dAlgorithm::ALL`], in that order.
    pub us: Vec<(Conv2dAlgorithm, f64)>,
}

impl AlgorithmTimes {
    /// The fastest way, and its microseconds.
    pub fn fastest(&self) -> (Conv2dAlgorithm, f64) {
        let fastest = self.us.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        fastest.unwrap_or((self.chosen, self.chosen_us()))
    }

    /// Microseconds of what the plan chooses.
    pub fn chosen_us(&self) -> f64 {
        let chosen = self.us.iter().find(|(algorithm, _)| *algorithm == self.chosen);
        chosen.map_or(f64::NAN, |&(_, us)| us)
    }
}

/// Measures every convolution of a model that the CPU backend can compute in several ways, in each of them.
///
/// The network runs as a whole, all its convolutions in one way, the ways in turns of a few runs; `runs` count for each,
/// with the same images. The options' algorithm is not asked. Errors: those of [`Plan::build`], of an engine and of a run; a
/// target that is no CPU.
pub fn algorithms(
    model: &Model,
    options: &PlanOptions,
    threads: usize,
    runs: usize,
) -> Result<Vec<AlgorithmTimes>> {
    /// Runs of a turn; one more before them brings the weights back into the caches.
    const TURN: usize = 5;
    let target = options.resolve()?.target;
    if !matches!(target, Target::Cpu(_)) {
        return Err(Error::new(ErrorKind::Device, "algorithms", "a CPU", target.to_string()));
    }
    let plan = |conv2d| Plan::build(model.clone(), &options.clone().target(target).conv2d(conv2d));
    let auto = plan(Conv2dAlgorithm::Auto)?;
    let algorithm = |plan: &Plan, node: usize| {
        plan.nodes()[node].winograd.map_or(Conv2dAlgorithm::Direct, Conv2dAlgorithm::Winograd)
    };
    let mut sessions = Vec::new();
    for &conv2d in Conv2dAlgorithm::ALL {
        let engine = Engine::new(plan(conv2d)?, &EngineOptions::new().threads(threads))?;
        sessions.push(engine.session()?);
    }
    // Those whose kernel follows the option; every plan has the same nodes.
    let nodes = auto.nodes().len();
    let choices: Vec<usize> = (0..nodes)
        .filter(|&node| sessions.iter().any(|session| session.plan().nodes()[node].winograd.is_some()))
        .collect();

    // No value is special, zero least of all.
    let images: Vec<f32> =
        (0..auto.batch() * auto.input().shape.len()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let mut times = vec![vec![Vec::with_capacity(runs); nodes]; sessions.len()];
    let mut of_run = vec![Duration::ZERO; nodes];
    for first in (0..runs).step_by(TURN) {
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            session.run(&images)?;
            for _ in first..runs.min(first + TURN) {
                of_run.fill(Duration::ZERO);
                session.run_with(&images, RunOptions::new().times(&mut of_run))?;
                times.iter_mut().zip(&of_run).for_each(|(times, &time)| times.push(time));
            }
        }
    }
    let mut median_us = |way: usize, node: usize| {
        let times: &mut Vec<Duration> = &mut times[way][node];
        times.sort();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let measured = choices.into_iter().map(|node| AlgorithmTimes {
        node: auto.nodes()[node].name().to_owned(),
        chosen: algorithm(&auto, node),
        us: Conv2dAlgorithm::ALL.iter().enumerate().map(|(way, &a)| (a, median_us(way, node))).collect(),
    });
    Ok(measured.collect())
}
