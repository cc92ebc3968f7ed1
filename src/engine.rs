//! A plan made ready to run: what all its sessions share.

use std::sync::Arc;

use crate::cpu::plan::CpuPlan;
use crate::cpu::{self, CpuSession};
#[cfg(feature = "cuda")]
use crate::cuda::{CudaEngine, CudaSession};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use crate::plan::{BackendPlan, Plan, Target};
use crate::session::{Running, Session};

/// How an engine runs: with a thread a processor, and all graphs captured at the start, unless a setter says otherwise.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EngineOptions {
    threads: usize,
    graphs: Graphs,
}

impl EngineOptions {
    /// A thread a processor; all graphs at the start.
    pub fn new() -> Self {
        EngineOptions::default()
    }

    /// Threads of each session, the caller's included; 0, the default, takes one a processor.
    ///
    /// The results are the same bits whatever the number. A GPU needs the caller's only.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// On a GPU: when a session captures its CUDA graphs.
    pub fn graphs(mut self, graphs: Graphs) -> Self {
        self.graphs = graphs;
        self
    }
}

/// When a session on a GPU captures the CUDA graphs that its runs replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Graphs {
    /// When it is made: for one image, for every power of two below the plan's batch, and for the batch. A run of a
    /// number in between computes as many images as the next of them, and takes as long.
    #[default]
    AtStart,
    /// For each number of images when it is first run, which takes longer that once; no image is computed in vain.
    OnFirstUse,
}

/// A plan with everything that callers share. Immutable; clone it or share it between threads.
#[derive(Clone, Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    backend: Backend,
    threads: usize,
}

/// What runs, weights and all; each has taken its part out of the plan.
#[derive(Clone, Debug)]
enum Backend {
    Reference(Arc<Model>),
    Cpu(Arc<CpuPlan>),
    #[cfg(feature = "cuda")]
    Cuda {
        engine: Arc<CudaEngine>,
        graphs: Graphs,
    },
}

impl Engine {
    /// Makes a plan ready to run.
    ///
    /// On a GPU, loads the kernels and uploads the weights. Errors: an instruction set that this processor does not
    /// have, more than 1024 threads; a GPU that is not there, does not have the memory or refuses to work.
    pub fn new(mut plan: Plan, options: &EngineOptions) -> Result<Self> {
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
        let backend = match plan.take_backend() {
            Some(BackendPlan::Reference(model)) => Backend::Reference(Arc::new(*model)),
            Some(BackendPlan::Cpu(plan)) => Backend::Cpu(Arc::new(plan)),
            #[cfg(feature = "cuda")]
            Some(BackendPlan::Cuda(plan)) => {
                Backend::Cuda { engine: Arc::new(CudaEngine::new(*plan)?), graphs: options.graphs }
            }
            #[cfg(not(feature = "cuda"))]
            Some(BackendPlan::Cuda(_)) => {
                let expected = "awsnet with the feature `cuda`";
                return Err(Error::new(ErrorKind::Device, "cuda", expected, "a build without it"));
            }
            None => {
                return Err(Error::new(ErrorKind::Plan, "plan", "a plan with its weights", "one without"));
            }
        };
        Ok(Engine { plan: Arc::new(plan), backend, threads })
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
    /// Errors: not enough memory for the arena, no thread to be had, a device that refuses to work.
    pub fn session(&self) -> Result<Session> {
        let running = match &self.backend {
            Backend::Reference(model) => Running::Reference(Arc::clone(model)),
            Backend::Cpu(plan) => {
                self.check_memory()?;
                Running::Cpu(Box::new(CpuSession::new(Arc::clone(plan), self.threads)?))
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda { engine, graphs } => {
                Running::Cuda(Box::new(CudaSession::new(engine, *graphs == Graphs::AtStart)?))
            }
        };
        Session::new(Arc::clone(&self.plan), running)
    }

    /// Errors where the machine has not as much memory to give as the arena takes.
    fn check_memory(&self) -> Result<()> {
        let bytes = self.plan.arena_bytes();
        match crate::memory::available_bytes() {
            Some(available) if available < bytes => {
                let batch = self.plan.batch();
                let expected = format!("{bytes} bytes of memory for feature maps at batch {batch}");
                Err(Error::new(ErrorKind::Memory, "arena", expected, format!("{available} available")))
            }
            _ => Ok(()),
        }
    }
}
