//! The CPU backend: fp32, one algorithm an operator, compiled for each instruction set.
//!
//! ```text
//! Graph --plan--> CpuPlan --schedule--> tasks, functions --team--> kernels --simd--> instructions
//! ```
//!
//! [`plan`] decides, places and packs; [`schedule`] cuts the nodes for a session's threads; [`team`] runs their tasks, on
//! the caller's thread and on those of a [`pool`]; [`threads`] says whose they are, [`processors`] where they run;
//! [`kernels`] has a file an operator; [`simd`] holds what differs between instruction sets.

// An operator or an instruction set that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]
#![allow(unsafe_code, reason = "vector instructions, and threads that share an arena")]

mod bell;
mod kernels;
pub(crate) mod plan;
mod pool;
mod processors;
mod run;
mod schedule;
mod scratch;
mod simd;
mod sync;
mod team;
mod threads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::graph::node::ValueId;
use crate::limits::Limits;
use crate::memory::AlignedBuffer;
use crate::pixels::Pixels;
use crate::predictions::PredictionBuffers;
use crate::tensor::Shape;
use kernels::dispatch::{self, Kernels};
use plan::value::Value;
use plan::{CpuPlan, HeadOutput};
use run::Run;
use schedule::Schedule;
use scratch::Scratches;
use team::{Ending, Job, Team};

pub use team::{Executor, Help};
pub use threads::{Affinity, Pool, PoolOptions};
pub(crate) use threads::{Helpers, ThreadOptions, Threads};

/// The mutable part of one caller: arena, threads, and memory for each thread.
pub(crate) struct CpuSession {
    plan: Arc<CpuPlan>,
    arena: AlignedBuffer,
    kernels: &'static Kernels,
    schedule: Schedule,
    scratches: Scratches,
    team: Team,
    /// Whether the team has threads besides the caller's, and in which process.
    helped: bool,
    process: u32,
}

/// A run as a job for the team: a step a node.
struct NodeJob<'a> {
    run: Run<'a>,
    kernels: &'static Kernels,
    schedule: &'a Schedule,
    scratches: &'a Scratches,
    limits: Limits<'a>,
}

impl Job for NodeJob<'_> {
    fn steps(&self) -> usize {
        self.run.plan.nodes.len()
    }

    fn tasks(&self, step: usize) -> usize {
        self.schedule.nodes()[step].tasks
    }

    fn is_over(&self) -> bool {
        self.limits.are_over()
    }

    unsafe fn run_task(&self, step: usize, task: usize, member: usize) {
        let (node, schedule) = (&self.run.plan.nodes[step], &self.schedule.nodes()[step]);
        // SAFETY: `CpuSession::new` needs a processor that has the plan's instruction set, and has made the scratch
        // memory; `CpuSession::run` has cut the schedule for the run's images; the team computes each task once, in the
        // order of the nodes, and a member is one thread.
        unsafe {
            let scratch = self.scratches.of(member);
            (self.kernels.run_task)(&self.run, node, schedule, task, scratch)
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

    fn is_over(&self) -> bool {
        self.job.is_over()
    }

    unsafe fn run_task(&self, _: usize, task: usize, member: usize) {
        // SAFETY: the caller runs the steps in order.
        unsafe { self.job.run_task(self.step, task, member) }
    }
}

impl CpuSession {
    /// A session of a plan. Errors: an instruction set that the processor does not have; not enough memory or threads.
    pub(crate) fn new(plan: Arc<CpuPlan>, threads: &Threads) -> Result<Self> {
        let kernels = dispatch::kernels(plan.isa).filter(|kernels| kernels.tables.isa.is_available());
        let kernels = kernels.ok_or_else(|| {
            let expected = format!("a processor with {}, for which the plan was made", plan.isa);
            Error::new(ErrorKind::Device, "cpu", expected, "one without")
        })?;
        let schedule = Schedule::new(&plan, &kernels.tables, threads.members)?;
        let arena = AlignedBuffer::zeros(plan.arena_len, "arena")?;
        let scratches = Scratches::new(threads.members, plan.scratch_len)?;
        let (team, helped, process) = (threads.team()?, threads.members > 1, std::process::id());
        Ok(CpuSession { plan, arena, kernels, schedule, scratches, team, helped, process })
    }

    /// Runs `count` images, at most the plan's batch, pass by pass, and writes their scores.
    ///
    /// Adds what each node takes to `times`, where they are wanted; the threads then meet once more at each node. Errors:
    /// limits that were reached; a process that is forked from the session's, whose threads it does not have; a fault.
    pub(crate) fn run(
        &mut self,
        images: Pixels<'_>,
        count: usize,
        predictions: &mut PredictionBuffers,
        limits: Limits<'_>,
        times: Option<&mut [Duration]>,
    ) -> Result<()> {
        if self.helped && std::process::id() != self.process {
            return Err(threads::left_behind("session"));
        }
        let mut times = times;
        let plan = &*self.plan;
        let image = &plan.values[plan.image];
        for first in (0..count).step_by(plan.pass) {
            let pass = plan.pass.min(count - first);
            for index in 0..pass {
                limits.check()?;
                write_image(image, index, &images, first + index, self.arena.as_mut_slice());
            }
            let arena = self.arena.as_mut_slice().as_mut_ptr();
            self.schedule.cut(plan, pass);
            let run = Run { plan, arena, images: pass };
            let (schedule, scratches) = (&self.schedule, &self.scratches);
            let job = NodeJob { run, kernels: self.kernels, schedule, scratches, limits };
            let mut run = |job: &dyn Job| match self.team.run(job)? {
                Ending::Done => Ok(()),
                Ending::GivenUp => Err(limits.error()),
            };
            match &mut times {
                None => run(&job)?,
                Some(times) => {
                    for (step, time) in times.iter_mut().enumerate() {
                        let start = Instant::now();
                        run(&Only { job: &job, step })?;
                        *time += start.elapsed();
                    }
                }
            }
            for (head, &HeadOutput { value, branch }) in plan.heads.iter().enumerate() {
                let value = &plan.values[value];
                for index in 0..pass {
                    read_map(
                        value,
                        index,
                        branch,
                        self.arena.as_slice(),
                        predictions.logits_mut(head, first + index),
                    );
                }
            }
        }
        predictions.score(count);
        // Late results are none.
        limits.check()
    }

    /// The map of one image and branch of the last run, and its elements as [C, H, W], if it is still there.
    pub(crate) fn map(&self, value: ValueId, image: usize, branch: usize) -> (Shape, Vec<f32>) {
        let value = &self.plan.values[value];
        let mut map = vec![0.0; value.shape.len()];
        read_map(value, image, branch, self.arena.as_slice(), &mut map);
        (value.shape, map)
    }
}

/// Writes the map of an image and branch, [C, H, W], to `to`.
fn read_map(value: &Value, image: usize, branch: usize, arena: &[f32], to: &mut [f32]) {
    let first = value.offset + image * value.image_stride() + value.branch_offset(branch) + value.origin();
    for (channel, to) in to.chunks_exact_mut(value.shape.pixels()).enumerate() {
        let first = first + channel / value.lanes * value.block_stride() + channel % value.lanes;
        for (y, row) in to.chunks_exact_mut(value.shape.width).enumerate() {
            let from = arena[first + y * value.row_stride()..].iter().step_by(value.lanes);
            row.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
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
