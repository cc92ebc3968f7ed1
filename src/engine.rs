//! A plan made ready to run, and the sessions that run it.

use std::sync::Arc;

use crate::cpu::{self, CpuSession};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BackendPlan, Plan, Target, ValueId};
use crate::predictions::{PredictionBuffers, Predictions};
use crate::reference;
use crate::tensor::{Branch, Shape};

/// How an engine runs.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Threads of each session, the caller's included; 0 takes one a processor.
    ///
    /// The results are the same bits whatever the number.
    pub threads: usize,
}

/// A plan with everything that callers share. Immutable; clone it or share it between threads.
#[derive(Clone, Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    threads: usize,
}

impl Engine {
    /// Makes a plan ready to run.
    ///
    /// Errors: an instruction set that this processor does not have, more than 1024 threads.
    pub fn new(plan: Plan, options: &EngineOptions) -> Result<Self> {
        if let Target::Cpu(isa) = plan.target()
            && !isa.is_available()
        {
            let expected = format!("a processor with {isa}, for which the plan was made");
            return Err(Error::new(ErrorKind::Device, "cpu", expected, "one without"));
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(cpu::MAX_THREADS),
            threads => threads,
        };
        if threads > cpu::MAX_THREADS {
            let expected = format!("from 1 to {}", cpu::MAX_THREADS);
            return Err(Error::new(ErrorKind::Input, "threads", expected, threads.to_string()));
        }
        Ok(Engine { plan: Arc::new(plan), threads })
    }

    /// The plan that the engine runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads of each session, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A session: one caller's memory and threads.
    ///
    /// Errors: not enough memory for the arena, no thread to be had.
    pub fn session(&self) -> Result<Session> {
        let plan = &*self.plan;
        let backend = match &plan.backend {
            BackendPlan::Reference(_) => BackendSession::Reference,
            BackendPlan::Cpu(cpu_plan) => {
                let bytes = plan.arena_bytes();
                if let Some(available) =
                    crate::memory::available_bytes().filter(|&available| available < bytes)
                {
                    let expected =
                        format!("{bytes} bytes of memory for feature maps at batch {}", plan.batch());
                    return Err(Error::new(
                        ErrorKind::Memory,
                        "arena",
                        expected,
                        format!("{available} available"),
                    ));
                }
                BackendSession::Cpu(Box::new(CpuSession::new(cpu_plan, self.threads)?))
            }
        };
        let heads = Branch::BOTH.map(|branch| plan.head(branch));
        let predictions = PredictionBuffers::new(heads, plan.batch())?;
        Ok(Session { plan: Arc::clone(&self.plan), backend, predictions, broken: false })
    }
}

/// One caller's mutable part: feature maps, threads, results. Send it to the thread that uses it; it needs no lock.
pub struct Session {
    plan: Arc<Plan>,
    backend: BackendSession,
    predictions: PredictionBuffers,
    broken: bool,
}

enum BackendSession {
    Reference,
    Cpu(Box<CpuSession>),
}

impl Session {
    /// Runs the network on `images`, [N, C, H, W], normalised as [`Input`](crate::model::Input) says, N from 1 to
    /// the plan's batch.
    ///
    /// Blocks until the predictions are there; they are borrowed until the next run. Nothing is allocated, except
    /// by the reference. NaN and
    /// infinity pass through as in any floating-point sum, and a maximum of a window may drop a NaN; they make
    /// predictions useless and harm nothing else. Errors: a length that is no whole number of images, or too many.
    pub fn run(&mut self, images: &[f32]) -> Result<Predictions<'_>> {
        let count = self.count(images)?;
        if self.broken {
            let found = "one whose last run broke off";
            return Err(Error::new(ErrorKind::Internal, "session", "a session that works", found));
        }
        let heads = Branch::BOTH.map(|branch| self.plan.head(branch));
        let result = match (&mut self.backend, &self.plan.backend) {
            (BackendSession::Cpu(session), BackendPlan::Cpu(plan)) => {
                session.run(plan, images, count, &mut self.predictions)
            }
            (BackendSession::Reference, BackendPlan::Reference(model)) => {
                for (index, image) in images.chunks_exact(model.input().shape.len()).enumerate() {
                    let evaluation = reference::evaluate(model, image);
                    for branch in Branch::BOTH {
                        let logits = &evaluation.logits[branch as usize];
                        let out = self.predictions.logits_mut(branch, index, logits.len());
                        out.iter_mut().zip(logits).for_each(|(out, &logit)| *out = logit as f32);
                    }
                }
                Ok(())
            }
            _ => Err(Error::new(ErrorKind::Internal, "session", "the backend of its plan", "another")),
        };
        self.broken = result.is_err();
        result.map(|()| self.predictions.finish(heads, count))
    }

    /// The number of images in a buffer.
    fn count(&self, images: &[f32]) -> Result<usize> {
        let shape = self.plan.input().shape;
        let (len, batch) = (shape.len(), self.plan.batch());
        let count = images.len() / len;
        if count == 0 || count > batch || !images.len().is_multiple_of(len) {
            let expected = format!("from 1 to {batch} images of {len} values ({shape})");
            return Err(Error::new(ErrorKind::Input, "images", expected, format!("{} values", images.len())));
        }
        Ok(count)
    }

    /// What a node of the plan gave for one image and branch in the last run, [C, H, W].
    ///
    /// `None` unless the plan was built with `keep_values`, and for an index out of range. A node that computes one
    /// map for both branches, or for one of them, gives it for either.
    pub fn value(&self, node: usize, image: usize, branch: Branch) -> Option<Vec<f32>> {
        let node = self.plan.nodes().get(node)?;
        let kept = self.plan.keeps_values() && image < self.plan.batch();
        kept.then(|| self.read(node.output, image, branch).1)
    }

    /// The shape and elements of a value of the plan, if it is still there.
    pub(crate) fn read(&self, value: ValueId, image: usize, branch: Branch) -> (Shape, Vec<f32>) {
        match (&self.backend, &self.plan.backend) {
            (BackendSession::Cpu(session), BackendPlan::Cpu(plan)) => {
                let value = &plan.values[value];
                (value.shape, session.map(value, image, branch))
            }
            _ => (Shape::new(0, 0, 0), Vec::new()),
        }
    }

    /// The plan that the session runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("target", &self.plan.target()).finish_non_exhaustive()
    }
}
