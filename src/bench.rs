//! The plan's choices for a CPU, held against measurements.
//!
//! Which algorithm computes a convolution follows from its shape and the batch, by a cost model; [`algorithms`] measures
//! each of them on the processor at hand, as `awsnet bench --algorithms` shows it.

use std::time::Duration;

use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use crate::plan::{Conv2dAlgorithm, Plan, PlanOptions, Target};
use crate::session::RunOptions;

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
