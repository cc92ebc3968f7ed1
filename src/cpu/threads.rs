//! The threads of sessions: how many, whose they are, where they run, and how long they wait before they sleep.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::pool;
use super::processors;
use super::team::{Executor, MAX_THREADS, Team};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::node::Node;
use crate::graph::target::Isa;

/// Which processors the library's threads may use. The caller's own thread stays where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Affinity {
    /// What the process may use, whatever the thread is pinned to that makes the session or the pool: on Linux, what the
    /// process had when it began, and what its main thread has. Elsewhere as [`Inherit`](Self::Inherit).
    #[default]
    Process,
    /// What the thread that makes the session or the pool may use.
    Inherit,
    /// A processor for each thread, by its number: the first thread besides the caller's is pinned to the first, and so
    /// on, from the beginning again where there are fewer. Linux only.
    Pinned(Vec<usize>),
}

/// What each thread calls when it begins, with its number.
#[derive(Clone)]
pub(crate) struct ThreadStart(Option<Arc<pool::Start>>);

impl fmt::Debug for ThreadStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a function" } else { "none" })
    }
}

/// How threads of the library's live.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub spin: Duration,
    pub affinity: Affinity,
    pub thread_start: ThreadStart,
}

/// How long threads wait for more to do before they sleep: as long as steps of most networks are apart, and about as
/// long as it takes to wake one.
const SPIN: Duration = Duration::from_micros(200);

impl Default for Life {
    fn default() -> Self {
        Life { spin: SPIN, affinity: Affinity::default(), thread_start: ThreadStart(None) }
    }
}

impl Life {
    pub fn set_thread_start(&mut self, start: impl Fn(usize) + Send + Sync + 'static) {
        self.thread_start = ThreadStart(Some(Arc::new(start)));
    }

    /// Whether a setter has said where threads run, or what they begin with.
    fn says_of_threads(&self) -> bool {
        self.affinity != Affinity::default() || self.thread_start.0.is_some()
    }

    /// So many threads, each of which has begun.
    fn pool(&self, threads: usize) -> Result<pool::Pool> {
        let begun: Arc<Begun> = Arc::default();
        let Life { affinity, thread_start: ThreadStart(hook), spin } = self.clone();
        let told = Arc::clone(&begun);
        let start = move |number| {
            let begin = || {
                processors::apply(&affinity, number)?;
                if let Some(hook) = &hook {
                    hook(number);
                }
                Ok(())
            };
            told.tell(catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|_| {
                let expected = "a function that returns";
                Err(Error::new(ErrorKind::Input, "thread start", expected, "a panic in it"))
            }));
        };
        let pool = pool::Pool::new(threads, spin, Arc::new(start))?;
        begun.wait(threads)?;
        Ok(pool)
    }
}

/// What threads say when they have begun. It is no channel: who waits for one is left a handle of the thread it is on,
/// which a C program's main thread never frees.
#[derive(Default)]
struct Begun {
    outcomes: Mutex<Vec<Result<()>>>,
    came: Condvar,
}

impl Begun {
    fn tell(&self, outcome: Result<()>) {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        self.came.notify_one();
    }

    /// Waits for so many threads. Errors: of those that told one, the first.
    fn wait(&self, threads: usize) -> Result<()> {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let few = |outcomes: &mut Vec<_>| outcomes.len() < threads;
        let mut outcomes = self.came.wait_while(outcomes, few).unwrap_or_else(PoisonError::into_inner);
        outcomes.drain(..).collect()
    }
}

/// How a [`Pool`] is made: with a thread for each processor of the process but one, unless a setter says otherwise.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PoolOptions {
    threads: usize,
    life: Life,
}

impl PoolOptions {
    /// A thread for each processor but one.
    pub fn new() -> Self {
        PoolOptions::default()
    }

    /// Threads of the pool, which help those that run sessions; 0, the default, takes the processors that the process may
    /// use, as far as a container's quota goes, but one for a caller.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// As [`EngineOptions::spin`](crate::EngineOptions::spin).
    pub fn spin(mut self, spin: Duration) -> Self {
        self.life.spin = spin;
        self
    }

    /// Where the threads run.
    pub fn affinity(mut self, affinity: Affinity) -> Self {
        self.life.affinity = affinity;
        self
    }

    /// As [`EngineOptions::thread_start`](crate::EngineOptions::thread_start).
    pub fn thread_start(mut self, start: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.life.set_thread_start(start);
        self
    }
}

/// Threads that the sessions of any number of engines share. A session that runs has those that are free.
///
/// A clone is the same pool. The threads end with the last clone, engine and session that has it.
///
/// ```
/// use awsnet::{EngineOptions, Pool, PoolOptions};
///
/// # fn main() -> awsnet::Result<()> {
/// let pool = Pool::new(&PoolOptions::new().threads(3))?;
/// let options = EngineOptions::new().pool(&pool);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool(Arc<pool::Pool>);

impl Pool {
    /// Makes the threads.
    ///
    /// Errors: more than 1023 of them; a thread that cannot be had, or not be pinned, or whose start panics.
    pub fn new(options: &PoolOptions) -> Result<Self> {
        let threads = match options.threads {
            0 => processors::available(&options.life.affinity)?.min(MAX_THREADS) - 1,
            threads => threads,
        };
        if threads >= MAX_THREADS {
            let expected = format!("from 1 to {}", MAX_THREADS - 1);
            return Err(Error::new(ErrorKind::Input, "threads", expected, threads.to_string()));
        }
        Ok(Pool(Arc::new(options.life.pool(threads)?)))
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.0.threads()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// Whose threads help in runs.
#[derive(Clone, Default)]
pub(crate) enum Helpers {
    /// Each session's own.
    #[default]
    Own,
    Pool(Pool),
    Executor(Arc<dyn Executor>),
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Helpers::Own => f.write_str("Own"),
            Helpers::Pool(pool) => pool.fmt(f),
            Helpers::Executor(_) => f.write_str("Executor"),
        }
    }
}

/// What is asked of threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThreadOptions {
    /// The caller's included; 0 is what the network can use.
    pub threads: usize,
    pub life: Life,
    pub helpers: Helpers,
}

/// The threads of each session of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    /// The caller's included.
    pub members: usize,
    life: Life,
    helpers: Helpers,
}

impl Threads {
    /// What the options come to for runs of so many images through these nodes.
    ///
    /// Errors: more than 1024 threads; options that say the same of two kinds of threads; processors that cannot be had.
    pub fn new(options: &ThreadOptions, nodes: &[Node], images: usize, isa: Isa) -> Result<Self> {
        let ThreadOptions { threads, life, helpers } = options.clone();
        if !matches!(helpers, Helpers::Own) && life.says_of_threads() {
            let expected = "affinity and thread start to be left to the pool or the executor";
            return Err(Error::new(ErrorKind::Input, "threads", expected, "one set beside it"));
        }
        if threads > MAX_THREADS {
            let expected = format!("from 1 to {MAX_THREADS}");
            return Err(Error::new(ErrorKind::Input, "threads", expected, threads.to_string()));
        }
        let available = match &helpers {
            Helpers::Pool(pool) => pool.threads() + 1,
            // What is asked for is had, wherever threads need not be pinned.
            _ if threads > 0 && !matches!(life.affinity, Affinity::Pinned(_)) => threads,
            Helpers::Own | Helpers::Executor(_) => processors::available(&life.affinity)?,
        };
        let members = match threads {
            0 => useful(nodes, images, isa, available.min(MAX_THREADS)),
            threads if matches!(helpers, Helpers::Pool(_)) => threads.min(available),
            threads => threads,
        };
        Ok(Threads { members, life, helpers })
    }

    /// A session's team. Errors: threads that cannot be had, or that are another process's.
    pub(super) fn team(&self) -> Result<Team> {
        let spin = self.life.spin;
        Ok(match &self.helpers {
            _ if self.members == 1 => Team::alone(),
            Helpers::Own => {
                let pool = self.life.pool(self.members - 1)?;
                Team::with_pool(self.members, Arc::new(pool), spin)
            }
            Helpers::Pool(pool) if !pool.0.is_here() => {
                return Err(left_behind("pool"));
            }
            Helpers::Pool(pool) => Team::with_pool(self.members, Arc::clone(&pool.0), spin),
            Helpers::Executor(executor) => Team::with_executor(self.members, Arc::clone(executor), spin),
        })
    }
}

/// What is said where threads would be needed that a forked process does not have.
pub(super) fn left_behind(place: &str) -> Error {
    let expected = format!("a {place} that this process has made");
    let found = "one of the process that it was forked from, where the threads have stayed";
    Error::new(ErrorKind::Poisoned, place, expected, found)
}

/// The fewest of the available threads with which runs of so many images take about as long as they can take. A thread more
/// has its part of the arithmetic of every node, and every node waits for it.
fn useful(nodes: &[Node], images: usize, isa: Isa, available: usize) -> usize {
    // Of a thread, about; what Winograd's algorithm saves counts as done.
    let flop_per_us = match isa {
        Isa::Portable => 30e3,
        Isa::Neon => 40e3,
        Isa::Avx2 => 80e3,
        Isa::Avx512 => 200e3,
    };
    /// What a node takes for the threads to agree, and for each that shares it, in us.
    const AGREE: [f64; 2] = [2.0, 0.2];
    /// Time that is worth a thread.
    const WORTH: f64 = 1.1;
    let alone: f64 = nodes.iter().map(|node| node.flop() as f64).sum::<f64>() * images as f64 / flop_per_us;
    let taken = |threads: usize| match threads {
        1 => alone,
        threads => alone / threads as f64 + nodes.len() as f64 * (AGREE[0] + AGREE[1] * threads as f64),
    };
    let least = (1..=available).map(taken).fold(f64::INFINITY, f64::min);
    (1..=available).find(|&threads| taken(threads) <= WORTH * least).unwrap_or(1)
}
