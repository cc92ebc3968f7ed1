//! A team of threads that runs one job together, and a job that is a list of steps.
//!
//! The caller is a member. Between jobs the others spin a little, then sleep; within a job the members meet after
//! each step by counting arrivals. There is no lock and no allocation on the way.
//!
//! The others hold the job by a pointer whose lifetime only the caller keeps: it stays in [`Team::run`] until all have
//! left the job. So nothing may unwind out of that function meanwhile. A panic of the job itself is caught at its step
//! and ends in an error; any other, of which there is none, would end the process.
//!
//! `tests/loom` runs this file in every order of its members' accesses.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sync::{
    Arc, AtomicBool, AtomicUsize, Builder, JoinHandle, Ordering, SPINS_BEFORE_YIELD, Thread, UnsafeCell,
    YIELDS_BEFORE_SLEEP, park, spin_loop, unpark, yield_now,
};
use crate::error::{Error, ErrorKind, Result};

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

/// The job at hand, as the sleeping members find it, and the number of its steps.
#[derive(Clone, Copy)]
struct JobPointer(*const (dyn Job + 'static), usize);

struct Shared {
    members: usize,
    /// Counts the jobs; a change starts the next one.
    generation: AtomicUsize,
    /// Valid from the change of `generation` until every member has left the job.
    job: UnsafeCell<Option<JobPointer>>,
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

/// Ends the process where a panic would unwind out of a member while others count on it: they would wait for it for
/// ever, or hold a job that is gone.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// One turn of a loop that waits: spins at first, then gives the processor away.
fn pause(turns: &mut u32) {
    if *turns < SPINS_BEFORE_YIELD {
        spin_loop();
    } else {
        yield_now();
    }
    *turns = turns.saturating_add(1);
}

impl Team {
    /// `threads` members, the caller included, for jobs of at most `steps` steps.
    pub(super) fn new(threads: usize, steps: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            members: threads,
            generation: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            next: (0..steps).map(|_| AtomicUsize::new(0)).collect(),
            arrived: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut team = Team { shared, others: Vec::new(), wake: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let spawned = Builder::new().name(format!("awsnet-{index}")).spawn(move || shared.serve(index));
            let handle = spawned.map_err(|source| {
                let expected = format!("{threads} threads");
                Error::new(ErrorKind::Memory, "threads", expected, format!("{} and then: {source}", index))
            })?;
            team.wake.push(handle.thread().clone());
            team.others.push(handle);
        }
        Ok(team)
    }

    /// Runs a job to its end. An error means that the job has panicked, and that its steps from there on are not done;
    /// the team must not be used again.
    pub(super) fn run(&mut self, job: &dyn Job) -> Result<()> {
        let shared = &*self.shared;
        let steps = job.steps();
        if steps > shared.next.len() {
            let expected = format!("a job of at most {} steps", shared.next.len());
            return Err(Error::new(ErrorKind::Internal, "run", expected, steps.to_string()));
        }
        for next in &shared.next {
            next.store(0, Ordering::Relaxed);
        }
        shared.arrived.store(0, Ordering::Relaxed);
        shared.left.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime changes; `run` ends after every member has left the job, see `held`.
        let pointer =
            unsafe { std::mem::transmute::<*const (dyn Job + '_), *const (dyn Job + 'static)>(job) };
        // SAFETY: no other member reads the pointer before `generation` changes: all have left the job before.
        shared.job.with_mut(|at| unsafe { *at = Some(JobPointer(pointer, steps)) });
        let held = AbortOnUnwind;
        shared.generation.fetch_add(1, Ordering::Release);
        self.wake.iter().for_each(unpark);
        shared.work(job, steps, 0);
        let mut turns = 0;
        while shared.left.load(Ordering::Acquire) + 1 < shared.members {
            pause(&mut turns);
        }
        std::mem::forget(held);
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
        let serving = AbortOnUnwind;
        let mut seen = 0;
        loop {
            let mut turns = 0;
            while self.generation.load(Ordering::Acquire) == seen {
                if turns < SPINS_BEFORE_YIELD + YIELDS_BEFORE_SLEEP {
                    pause(&mut turns);
                } else {
                    park();
                    turns = 0;
                }
            }
            seen = self.generation.load(Ordering::Acquire);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // SAFETY: written before `generation` changed, and not again before this member leaves.
            if let Some(JobPointer(job, steps)) = self.job.with(|at| unsafe { *at }) {
                // SAFETY: the caller keeps the job alive until every member has left.
                self.work(unsafe { &*job }, steps, member);
            }
            self.left.fetch_add(1, Ordering::Release);
        }
        std::mem::forget(serving);
    }

    /// A member's part in the steps of a job.
    fn work(&self, job: &dyn Job, steps: usize, member: usize) {
        for step in 0..steps {
            // A panic in a step before is seen here: its member has noted it, then arrived.
            if !self.panicked.load(Ordering::Relaxed) {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let tasks = job.tasks(step);
                    loop {
                        let task = self.next[step].fetch_add(1, Ordering::Relaxed);
                        if task >= tasks {
                            break;
                        }
                        // SAFETY: the counter hands out each task once; all tasks of the steps before are done, as the
                        // loop below waits for a step's end and none of them has panicked.
                        unsafe { job.run_task(step, task, member) };
                    }
                }));
                if outcome.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            // Every task of this step is done, and seen by all, when all members have arrived.
            self.arrived.fetch_add(1, Ordering::Release);
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
        self.wake.iter().for_each(unpark);
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

    /// Where a job panics.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        Task(usize, usize),
        Tasks(usize),
    }

    struct Sums {
        tasks: Vec<usize>,
        done: Vec<AtomicU64>,
        fault: Fault,
    }

    impl Job for Sums {
        fn steps(&self) -> usize {
            self.tasks.len()
        }
        fn tasks(&self, step: usize) -> usize {
            if self.fault == Fault::Tasks(step) {
                std::panic::resume_unwind(Box::new("a seeded fault"));
            }
            self.tasks[step]
        }
        unsafe fn run_task(&self, step: usize, task: usize, _: usize) {
            self.done[step].fetch_add(task as u64 + 1, Ordering::Relaxed);
            if step > 0 {
                let before = self.done[step - 1].load(Ordering::Relaxed);
                assert_eq!(before, (1..=self.tasks[step - 1] as u64).sum::<u64>(), "step {step} began early");
            }
            if self.fault == Fault::Task(step, task) {
                std::panic::resume_unwind(Box::new("a seeded fault"));
            }
        }
    }

    impl Sums {
        fn new(tasks: &[usize], fault: Fault) -> Self {
            Sums { tasks: tasks.to_vec(), done: tasks.iter().map(|_| AtomicU64::new(0)).collect(), fault }
        }

        fn done(&self) -> Vec<u64> {
            self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
        }
    }

    #[test]
    fn every_task_runs_once_and_steps_follow_one_another() {
        for threads in [1, 2, 5] {
            let mut team = Team::new(threads, 4).expect("a few threads");
            for round in 0..200 {
                let job = Sums::new(&[7, 0, 1, round], Fault::None);
                team.run(&job).expect("no task panics");
                let expected: Vec<u64> = job.tasks.iter().map(|&n| (1..=n as u64).sum()).collect();
                assert_eq!(job.done(), expected);
            }
        }
    }

    #[test]
    fn a_panic_ends_in_an_error_and_no_step_behind_it_is_run() {
        for threads in [1, 3] {
            for fault in [Fault::Task(1, 4), Fault::Tasks(1)] {
                let mut team = Team::new(threads, 3).expect("a few threads");
                let job = Sums::new(&[2, 9, 5], fault);
                assert_eq!(team.run(&job).expect_err("the fault is reported").kind(), ErrorKind::Internal);
                assert_eq!((job.done()[0], job.done()[2]), (3, 0));
                let next = Sums::new(&[2], Fault::None);
                assert_eq!(team.run(&next).expect_err("no use any more").kind(), ErrorKind::Internal);
                assert_eq!(next.done(), [0]);
            }
        }
    }

    #[test]
    fn a_job_of_more_steps_than_the_team_was_made_for_is_refused() {
        let mut team = Team::new(2, 1).expect("two threads");
        let error = team.run(&Sums::new(&[1, 1], Fault::None)).expect_err("two steps");
        assert_eq!((error.kind(), error.found()), (ErrorKind::Internal, "2"));
        team.run(&Sums::new(&[1], Fault::None)).expect("the team goes on");
    }
}
