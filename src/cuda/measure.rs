//! Measuring tiles on a device: each candidate in its place in the whole network.
//!
//! Problems are taken one after the other, each keeping its fastest tile when the next is measured. A candidate is timed
//! by replays of the network's graph, not of its own launch: so its weights are in the cache or not as they are in
//! service, and its beginning overlaps its predecessor's end.

use super::engine::CudaEngine;
use super::session::CudaSession;
use crate::cuda::plan::{CudaPlan, Problem, Tile, candidates};
use crate::error::{Error, ErrorKind, Result};
use crate::model::init::Random;

/// The outcome for one problem at one batch size, times in microseconds for the whole network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub problem: Problem,
    pub images: usize,
    pub before: (Tile, f32),
    pub after: (Tile, f32),
}

/// How a candidate is timed: replays of the network, whose median counts, and whether the device's L2 cache is evicted
/// before each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub runs: usize,
    pub cold: bool,
}

/// Measures the tiles of a plan, whose weights go to the device: at most so many for each problem, the best by the
/// plan's estimate. `told` hears of each problem with the number of all of them, and stops the measurement by returning
/// false.
pub(crate) fn measure(
    plan: CudaPlan,
    most: usize,
    timing: Timing,
    mut told: impl FnMut(&Measured, usize) -> bool,
) -> Result<Vec<Measured>> {
    let engine = CudaEngine::new(plan)?;
    let mut plan = engine.plan.clone();
    let mut problems = Vec::<(usize, Problem)>::new();
    for size in 0..plan.sizes.len() {
        for (problem, _) in plan.nodes.iter().filter_map(|node| plan.tiled(node, size)) {
            if !problems.contains(&(size, problem)) {
                problems.push((size, problem));
            }
        }
    }
    let mut all = Vec::new();
    for &(size, problem) in &problems {
        let tile_of = |plan: &CudaPlan| {
            plan.nodes
                .iter()
                .filter_map(|node| plan.tiled(node, size))
                .find_map(|(other, tile)| (other == problem).then_some(tile))
        };
        let Some(current) = tile_of(&plan) else { continue };
        let before = (current, time(&plan, &engine, size, timing)?);
        let mut best = before;
        let others = candidates(&problem, &plan.gpu).into_iter().filter(|tile| *tile != current);
        for tile in others.take(most.saturating_sub(1)) {
            plan.retile(size, &problem, tile);
            let us = time(&plan, &engine, size, timing)?;
            if us < best.1 {
                best = (tile, us);
            }
        }
        plan.retile(size, &problem, best.0);
        let measured = Measured { problem, images: plan.sizes[size], before, after: best };
        all.push(measured);
        if !told(&measured, problems.len()) {
            break;
        }
    }
    Ok(all)
}

/// The median time of the network at a size, in microseconds.
fn time(plan: &CudaPlan, engine: &CudaEngine, size: usize, timing: Timing) -> Result<f32> {
    let engine = std::sync::Arc::new(engine.with_tiles_of(plan.clone())?);
    let mut session = CudaSession::new(&engine, false)?;
    let mut random = Random::new(1);
    for value in session.staging()?.chunks_exact_mut(size_of::<f32>()) {
        value.copy_from_slice(&random.between(-2.0, 2.0).to_ne_bytes());
    }
    let mut times = session.time(plan.sizes[size], timing.runs.max(1), timing.cold)?;
    times.sort_by(f32::total_cmp);
    let median = times.get(times.len() / 2).copied();
    median
        .map(|milliseconds| milliseconds * 1e3)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "tuning", "at least one run", "none"))
}
