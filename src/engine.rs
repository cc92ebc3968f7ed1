//! A plan made ready to run: what all its sessions share.

use std::sync::Arc;
use std::time::Duration;

use crate::cpu::plan::CpuPlan;
use crate::cpu::{Affinity, CpuSession, Executor, Helpers, Pool, ThreadOptions, Threads};
#[cfg(feature = "cuda")]
use crate::cuda::{CudaEngine, CudaSession};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::model::Model;
use crate::plan::{BackendPlan, Plan, Target};
use crate::session::{Running, Session};

/// How an engine runs: with as many threads as the network can use, and all graphs captured at the start, unless a setter
/// says otherwise. What concerns threads is a CPU's; a GPU and the reference need the caller's only.
///
/// `docs/latency.md` is about choosing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EngineOptions {
    threads: ThreadOptions,
    graphs: Graphs,
}

impl EngineOptions {
    /// As many threads as the network can use; all graphs at the start.
    pub fn new() -> Self {
        EngineOptions::default()
    }

    /// Threads of each session, the caller's included; 0, the default, takes as many as make a run of a whole batch
    /// faster, up to the processors that the process may use and a container's quota.
    ///
    /// The results are the same bits whatever the number.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads.threads = threads;
        self
    }

    /// How long a thread that waits, for more to do or for others to be done, keeps its processor before it sleeps; 200 us
    /// unless this says otherwise. Behind the first 50 us it gives the processor to any other thread that wants it.
    ///
    /// Zero never spins: each wait then ends with a wake-up by the system. [`Duration::MAX`] never sleeps, which is for
    /// processors that nothing else is to use.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.threads.life.spin = spin;
        self
    }

    /// Where the threads of sessions run, besides the caller's, which stays where it is.
    pub fn affinity(mut self, affinity: Affinity) -> Self {
        self.threads.life.affinity = affinity;
        self
    }

    /// What each thread of a session calls first, with its number from 0 on: to take a name, a priority, a place in
    /// somebody's accounting. The session is made when all have returned; one that panics is an error of it.
    pub fn thread_start(mut self, start: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.threads.life.set_thread_start(start);
        self
    }

    /// Sessions have no threads of their own, but those of a pool, as many of them as are free and no more than
    /// [`threads`](Self::threads) says. Where those run and begin is the pool's to say.
    pub fn pool(mut self, pool: &Pool) -> Self {
        self.threads.helpers = Helpers::Pool(pool.clone());
        self
    }

    /// Sessions have no threads of their own, but ask an executor of the caller's for help. Takes the place of a
    /// [`pool`](Self::pool).
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.threads.helpers = Helpers::Executor(executor);
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
}

/// What runs, weights and all; each has taken its part out of the plan.
#[derive(Clone, Debug)]
enum Backend {
    Reference(Arc<Model>),
    Cpu(Arc<CpuPlan>, Threads),
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
    /// have, more than 1024 threads, processors that cannot be had, where threads run and begin beside a pool or an executor;
    /// a GPU that is not there, does not have the memory or refuses to work.
    pub fn new(mut plan: Plan, options: &EngineOptions) -> Result<Self> {
        let Some(planned) = plan.take_backend() else {
            return Err(Error::new(ErrorKind::Plan, "plan", "a plan with its weights", "one without"));
        };
        if let Target::Cpu(isa) = plan.target()
            && !isa.is_available()
        {
            let expected = format!("a processor with {isa}, for which the plan was made");
            return Err(Error::new(ErrorKind::Device, "cpu", expected, "one without"));
        }
        let backend = match planned {
            BackendPlan::Reference(model) => Backend::Reference(Arc::new(*model)),
            BackendPlan::Cpu(cpu) => {
                let threads = Threads::new(&options.threads, plan.nodes(), cpu.pass, cpu.isa)?;
                Backend::Cpu(Arc::new(cpu), threads)
            }
            #[cfg(feature = "cuda")]
            BackendPlan::Cuda(plan) => {
                Backend::Cuda { engine: Arc::new(CudaEngine::new(*plan)?), graphs: options.graphs }
            }
            #[cfg(not(feature = "cuda"))]
            BackendPlan::Cuda(_) => {
                let expected = "awsnet with the feature `cuda`";
                return Err(Error::new(ErrorKind::Device, "cuda", expected, "a build without it"));
            }
        };
        Ok(Engine { plan: Arc::new(plan), backend })
    }

    /// The plan that the engine runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads of each session, the caller's included.
    pub fn threads(&self) -> usize {
        match &self.backend {
            Backend::Cpu(_, threads) => threads.members,
            Backend::Reference(_) => 1,
            #[cfg(feature = "cuda")]
            Backend::Cuda { .. } => 1,
        }
    }

    /// A session: one caller's memory and threads.
    ///
    /// Errors: not enough memory for the arena, no thread to be had, one whose start panics; a pool of the process that this
    /// one was forked from; a device that refuses to work.
    pub fn session(&self) -> Result<Session> {
        let _environment = FloatEnvironment::enter();
        let running = match &self.backend {
            Backend::Reference(model) => Running::Reference(Arc::clone(model)),
            Backend::Cpu(plan, threads) => {
                self.check_memory()?;
                Running::Cpu(Box::new(CpuSession::new(Arc::clone(plan), threads)?))
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
        let what = format!("feature maps at batch {}", self.plan.batch());
        crate::memory::require(self.plan.arena_bytes(), "arena", &what)
    }
}
