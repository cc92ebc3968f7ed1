//! The CPU backend: fp32, one algorithm an operator, compiled for each instruction set.
//!
//! [`kernels`] leads from a node to its kernel; each operator has a file; [`simd`] holds what differs between
//! instruction sets; [`team`] runs a node's tasks on several threads.

#![allow(unsafe_code, reason = "vector instructions, and threads that share an arena")]
#![allow(clippy::undocumented_unsafe_blocks)]

mod aws_gate;
mod conv2d_depthwise;
mod conv2d_direct;
mod conv2d_max_pool;
mod conv2d_winograd;
mod epilogue;
mod identity;
mod image_to_blocks;
mod kernels;
mod pool2d;
mod run;
mod scratch;
mod simd;
mod sync;
mod team;

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::memory::AlignedBuffer;
use crate::pixels::Pixels;
use crate::plan::{CpuPlan, Value};
use crate::predictions::PredictionBuffers;
use crate::tensor::Branch;
use kernels::Kernels;
use run::Run;
use scratch::Scratches;
use team::{Job, Team};

pub(crate) use team::MAX_THREADS;

/// The mutable part of one caller: arena, threads, and memory for each thread.
pub(crate) struct CpuSession {
    arena: AlignedBuffer,
    scratches: Scratches,
    team: Team,
}

/// A run as a job for the team: a step a node.
struct NodeJob<'a> {
    run: Run<'a>,
    kernels: &'static Kernels,
    scratches: &'a Scratches,
}

impl Job for NodeJob<'_> {
    fn steps(&self) -> usize {
        self.run.plan.nodes.len()
    }

    fn tasks(&self, step: usize) -> usize {
        kernels::task_count(&self.run, &self.run.plan.nodes[step])
    }

    unsafe fn run_task(&self, step: usize, task: usize, member: usize) {
        // SAFETY: `CpuSession::new` needs a processor that has the plan's instruction set, and has made the scratch
        // memory; the team computes each task once, in the order of the nodes, and a member is one thread.
        unsafe {
            let scratch = self.scratches.of(member);
            (self.kernels.run_task)(&self.run, &self.run.plan.nodes[step], task, scratch)
        }
    }
}

/// One step of a job, as a job.
struct Only<'a> {
    job: &'a NodeJob<'a>,
    step: usize,
}

impl Job for Only<'_> {
    fn steps(&self) -> usize {
        1
    }

    fn tasks(&self, _: usize) -> usize {
        self.job.tasks(self.step)
    }

    unsafe fn run_task(&self, _: usize, task: usize, member: usize) {
        // SAFETY: the caller runs the steps in order.
        unsafe { self.job.run_task(self.step, task, member) }
    }
}

impl CpuSession {
    /// A session of a plan whose instruction set the processor has.
    pub(crate) fn new(plan: &CpuPlan, threads: usize) -> Result<Self> {
        assert!(plan.isa.is_available(), "{}", plan.isa);
        let arena = AlignedBuffer::zeros(plan.arena_len, "arena")?;
        let scratches = Scratches::new(threads, plan.scratch_len)?;
        Ok(CpuSession { arena, scratches, team: Team::new(threads, plan.nodes.len())? })
    }

    /// Runs `count` images, at most the plan's batch, pass by pass, and writes their logits.
    ///
    /// Adds what each node takes to `times`, where they are wanted; the threads then meet once more at each node.
    pub(crate) fn run(
        &mut self,
        plan: &CpuPlan,
        images: Pixels<'_>,
        count: usize,
        predictions: &mut PredictionBuffers,
        times: Option<&mut [Duration]>,
    ) -> Result<()> {
        let mut times = times;
        let image = &plan.values[plan.image];
        for first in (0..count).step_by(plan.pass) {
            let pass = plan.pass.min(count - first);
            for index in 0..pass {
                write_image(image, index, &images, first + index, self.arena.as_mut_slice());
            }
            let arena = self.arena.as_mut_slice().as_mut_ptr();
            let run = Run { plan, arena, images: pass, threads: self.team.members() };
            let kernels = simd::kernels(plan.isa);
            let job = NodeJob { run, kernels, scratches: &self.scratches };
            match &mut times {
                None => self.team.run(&job)?,
                Some(times) => {
                    for (step, time) in times.iter_mut().enumerate() {
                        let start = Instant::now();
                        self.team.run(&Only { job: &job, step })?;
                        *time += start.elapsed();
                    }
                }
            }
            for branch in Branch::BOTH {
                let logits = &plan.values[plan.head_logits[branch as usize]];
                for index in 0..pass {
                    // A 1x1 map without halo: its channels lie one behind the other.
                    let from = &self.arena.as_slice()[logits.offset + index * logits.image_stride()..];
                    let labels = logits.shape.channels;
                    predictions.logits_mut(branch, first + index, labels).copy_from_slice(&from[..labels]);
                }
            }
        }
        Ok(())
    }

    /// The map of one image and branch of the last run as [C, H, W], if it is still there.
    pub(crate) fn map(&self, value: &Value, image: usize, branch: Branch) -> Vec<f32> {
        let first = value.offset
            + image * value.image_stride()
            + value.branch_offset(branch as usize)
            + value.origin();
        let mut map = Vec::with_capacity(value.shape.len());
        for channel in 0..value.shape.channels {
            let (block, lane) = (channel / value.lanes, channel % value.lanes);
            for y in 0..value.shape.height {
                for x in 0..value.shape.width {
                    let at = first
                        + block * value.block_stride()
                        + y * value.row_stride()
                        + x * value.lanes
                        + lane;
                    map.push(self.arena.as_slice()[at]);
                }
            }
        }
        map
    }
}

/// Writes an image to its place and the zeros around it.
fn write_image(value: &Value, index: usize, images: &Pixels<'_>, image: usize, arena: &mut [f32]) {
    let (height, width) = (value.shape.height, value.shape.width);
    let first = value.offset + index * value.image_stride();
    let planes = arena[first..first + value.image_stride()].chunks_exact_mut(value.block_stride());
    for (channel, plane) in planes.take(value.shape.channels).enumerate() {
        let (above, rest) = plane.split_at_mut(value.halo.top * value.row_stride());
        let (rows, below) = rest.split_at_mut(height * value.row_stride());
        above.fill(0.0);
        below.fill(0.0);
        for (y, row) in rows.chunks_exact_mut(value.row_stride()).enumerate() {
            row[..value.halo.left].fill(0.0);
            images.write_row(value.shape, image, channel, y, &mut row[value.halo.left..][..width]);
            row[value.halo.left + width..].fill(0.0);
        }
    }
}
