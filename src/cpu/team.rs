//! A team of threads that runs one job together, and a job that is a list of steps.
//!
//! The caller is a member. Between jobs the others spin a little, then sleep; within a job the members meet after
//! each step by counting arrivals. There is no lock and no allocation on the way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crate::error::{Error, ErrorKind, Result};

/// Turns of a waiting loop before a member gives its processor away, and before it goes to sleep between jobs.
const SPINS_BEFORE_YIELD: u32 = 4_000;
const YIELDS_BEFORE_SLEEP: u32 = 50;

/// The most threads that a team can have.
pub(crate) const MAX_THREADS: usize = 1024;

/// A list of steps, each of so many tasks.
pub(super) trait Job: Sync {
    /// The number of steps.
    fn steps(&self) -> usize;

    /// The number of tasks in a step.
    fn tasks(&self, step: usize) -> usize;

    /// Computes one task, on the thread of this member; the caller is member 0.
    ///
    /// # Safety
    ///
    /// Each task is computed once, when all tasks of the steps before it are done; a member is one thread.
    unsafe fn run_task(&self, step: usize, task: usize, member: usize);
}

/// The job at hand, as the sleeping members find it.
#[derive(Clone, Copy)]
struct JobPointer(*const (dyn Job + 'static));

struct Shared {
    members: usize,
    /// Counts the jobs; a change starts the next one.
    generation: AtomicUsize,
    /// Valid from the change of `generation` until every member has arrived behind the last step.
    job: std::cell::UnsafeCell<Option<JobPointer>>,
    /// For each step, the next task that nobody has taken.
    next: Box<[AtomicUsize]>,
    /// Arrivals behind steps, summed over the job.
    arrived: AtomicUsize,
    /// Members besides the caller that no longer touch the job.
    left: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `job` is written only by the caller while no other member reads it: before `generation` changes, after
// all have left the job before. The job itself is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// The threads of a session.
pub(super) struct Team {
    shared: Arc<Shared>,
    others: Vec<JoinHandle<()>>,
    wake: Vec<Thread>,
}

/// Spins, then yields; false when a sleep would be in order.
fn pause(turns: &mut u32) -> bool {
    *turns += 1;
    if *turns < SPINS_BEFORE_YIELD {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
    *turns < SPINS_BEFORE_YIELD + YIELDS_BEFORE_SLEEP
}

impl Team {
    /// `threads` members, the caller included, for jobs of at most `steps` steps.
    pub(super) fn new(threads: usize, steps: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            members: threads,
            generation: AtomicUsize::new(0),
            job: std::cell::UnsafeCell::new(None),
            next: (0..steps).map(|_| AtomicUsize::new(0)).collect(),
            arrived: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut team = Team { shared, others: Vec::new(), wake: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let spawned =
                thread::Builder::new().name(format!("awsnet-{index}")).spawn(move || shared.serve(index));
            let handle = spawned.map_err(|source| {
                let expected = format!("{threads} threads");
                Error::new(ErrorKind::Memory, "threads", expected, format!("{} and then: {source}", index))
            })?;
            team.wake.push(handle.thread().clone());
            team.others.push(handle);
        }
        Ok(team)
    }

    /// Runs a job to its end. An error means that a task has panicked; the team must not be used again.
    pub(super) fn run(&mut self, job: &dyn Job) -> Result<()> {
        let shared = &*self.shared;
        debug_assert!(job.steps() <= shared.next.len());
        for next in &shared.next {
            next.store(0, Ordering::Relaxed);
        }
        shared.arrived.store(0, Ordering::Relaxed);
        shared.left.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime changes; `run` returns after every member has left the job.
        let pointer =
            unsafe { std::mem::transmute::<*const (dyn Job + '_), *const (dyn Job + 'static)>(job) };
        // SAFETY: no other member reads the pointer before `generation` changes: all have left the job before.
        unsafe { *shared.job.get() = Some(JobPointer(pointer)) };
        shared.generation.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        shared.work(job, 0);
        let mut turns = 0;
        while shared.left.load(Ordering::Acquire) + 1 < shared.members {
            pause(&mut turns);
        }
        match shared.panicked.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Internal,
                "run",
                "every kernel to return",
                "a panic in one of them",
            )),
        }
    }
}

impl Shared {
    /// A member's life besides the caller's.
    fn serve(&self, member: usize) {
        let mut seen = 0;
        loop {
            let mut turns = 0;
            while self.generation.load(Ordering::Acquire) == seen {
                if !pause(&mut turns) {
                    thread::park();
                    turns = 0;
                }
            }
            seen = self.generation.load(Ordering::Acquire);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: written before `generation` changed, and not again before this member leaves.
            if let Some(JobPointer(job)) = unsafe { *self.job.get() } {
                // SAFETY: the caller keeps the job alive until every member has left.
                self.work(unsafe { &*job }, member);
            }
            self.left.fetch_add(1, Ordering::Release);
        }
    }

    /// A member's part in a job.
    fn work(&self, job: &dyn Job, member: usize) {
        for step in 0..job.steps() {
            let tasks = job.tasks(step);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                loop {
                    let task = self.next[step].fetch_add(1, Ordering::Relaxed);
                    if task >= tasks {
                        break;
                    }
                    // SAFETY: the counter hands out each task once; the loop below waits for the step's end.
                    unsafe { job.run_task(step, task, member) };
                }
            }));
            if outcome.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            // Every task of this step is done, and seen by all, when all members have arrived.
            self.arrived.fetch_add(1, Ordering::AcqRel);
            let mut turns = 0;
            while self.arrived.load(Ordering::Acquire) < (step + 1) * self.members {
                pause(&mut turns);
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(Thread::unpark);
        for other in self.others.drain(..) {
            // A member catches the panics of its tasks, so that joining cannot fail.
            let _ = other.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    struct Sums {
        tasks: Vec<usize>,
        done: Vec<AtomicU64>,
        panics_at: Option<(usize, usize)>,
    }

    impl Job for Sums {
        fn steps(&self) -> usize {
            self.tasks.len()
        }
        fn tasks(&self, step: usize) -> usize {
            self.tasks[step]
        }
        unsafe fn run_task(&self, step: usize, task: usize, _: usize) {
            if step > 0 {
                let before = self.done[step - 1].load(Ordering::Relaxed);
                assert_eq!(before, (1..=self.tasks[step - 1] as u64).sum::<u64>(), "step {step} began early");
            }
            if self.panics_at == Some((step, task)) {
                std::panic::resume_unwind(Box::new("a seeded fault"));
            }
            self.done[step].fetch_add(task as u64 + 1, Ordering::Relaxed);
        }
    }

    fn sums(tasks: &[usize], panics_at: Option<(usize, usize)>) -> Sums {
        Sums { tasks: tasks.to_vec(), done: tasks.iter().map(|_| AtomicU64::new(0)).collect(), panics_at }
    }

    #[test]
    fn every_task_runs_once_and_steps_follow_one_another() {
        for threads in [1, 2, 5] {
            let mut team = Team::new(threads, 4).expect("a few threads");
            for round in 0..200 {
                let job = sums(&[7, 0, 1, round], None);
                team.run(&job).expect("no task panics");
                let expected: Vec<u64> = job.tasks.iter().map(|&n| (1..=n as u64).sum()).collect();
                let done: Vec<u64> = job.done.iter().map(|d| d.load(Ordering::Relaxed)).collect();
                assert_eq!(done, expected);
            }
        }
    }

    #[test]
    fn a_panic_ends_in_an_error_and_not_in_a_hang() {
        for threads in [1, 3] {
            let mut team = Team::new(threads, 1).expect("a few threads");
            let outcome = team.run(&sums(&[9], Some((0, 4))));
            assert_eq!(outcome.expect_err("the fault is reported").kind(), ErrorKind::Internal);
        }
    }
}
