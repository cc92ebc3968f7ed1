//! Threads that run one job together, and a job that is a list of steps.
//!
//! The caller is a member, and does all that nobody else does. The others are threads of a [`pool`](super::pool), or of an
//! [`Executor`] of the caller's. They are *helpers*: nobody counts on them. What a run waits for is tasks.
//!
//! The tasks of a step stand on a [`Board`]. Whoever takes one owes it: a step ends when all its tasks are done, and the
//! member that does the last of them posts the next step. A member that comes late, or is stopped between two tasks, finds
//! none to take, and holds up nobody.
//!
//! ```text
//! post     step, unfinished = tasks, open = tasks - 1 (release); ring     by the one member that is left
//! take     open - 1 (acquire), if there is one; then read the step        a task taken keeps its step and job there
//! finish   unfinished - 1 (acquire, release); at 0 nobody has a task      so that this member may write the step
//! ```
//!
//! The job is held by a pointer whose lifetime only the caller keeps, in [`Team::run`], until the last step is done. So it
//! is read by members with an unfinished task, and by nobody else; all else that a helper touches is the board, which it
//! shares. And nothing may unwind out of a member that has taken a task. A panic of the job itself is caught at its task
//! and ends in an error; any other, of which there is none, would end the process.
//!
//! `tests/loom` runs this file in every order of its members' accesses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::bell::Bell;
use super::pool::Pool;
use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;

/// The most threads that a team can have.
pub(crate) const MAX_THREADS: usize = 1024;

/// A list of steps, each of so many tasks.
pub(super) trait Job: Sync {
    /// The number of steps.
    fn steps(&self) -> usize;

    /// The number of tasks in a step.
    fn tasks(&self, step: usize) -> usize;

    /// Whether the job is to be given up; asked before every task.
    fn is_over(&self) -> bool;

    /// Computes one task, on the thread of this member; the caller is member 0.
    ///
    /// # Safety
    ///
    /// Each task is computed once, when all tasks of the steps before it are done; a member is one thread.
    unsafe fn run_task(&self, step: usize, task: usize, member: usize);
}

/// How a run of a job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Ending {
    /// All of it is done.
    Done,
    /// It was over before that; the steps from somewhere on are not done.
    GivenUp,
}

/// Threads of the caller's own that help in runs, such as those of a pool that it has anyway.
///
/// ```
/// use awsnet::{Executor, Help};
///
/// struct Rayon;
///
/// impl Executor for Rayon {
///     fn spawn(&self, help: Help) {
///         // rayon::spawn(move || help.run());
///         # help.run();
///     }
/// }
/// ```
pub trait Executor: Send + Sync {
    /// Has [`Help::run`] called on a thread, soon or late. Returns at once.
    ///
    /// Called within runs, on any of their threads, whenever there is more to do than threads at it: no more often than
    /// the engine's threads besides the caller's have not come back. A run never waits for a help that has not begun.
    fn spawn(&self, help: Help);
}

/// A place for a thread in the runs of a session; see [`Executor`].
pub struct Help(Arc<Board>);

impl Help {
    /// Works on the session's run until there is nothing to do for as long as the engine's threads spin. Too late it
    /// returns at once, and does no harm; after its session neither.
    pub fn run(self) {
        let board = &self.0;
        let Some(place) = board.places.iter().position(|taken| !taken.swap(true, Ordering::Acquire)) else {
            return;
        };
        let working = AbortOnUnwind;
        let environment = FloatEnvironment::enter();
        loop {
            let heard = board.helpers.heard();
            let any = Board::help(board, place + 1);
            if !any && (board.done.load(Ordering::Acquire) || !board.helpers.watch(heard, board.spin)) {
                break;
            }
        }
        drop(environment);
        std::mem::forget(working);
        board.places[place].store(false, Ordering::Release);
    }
}

impl Drop for Help {
    fn drop(&mut self) {
        self.0.called.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Help {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Help").finish_non_exhaustive()
    }
}

/// A job whose lifetime the caller keeps.
#[derive(Clone, Copy)]
struct JobPointer(*const (dyn Job + 'static));

impl JobPointer {
    /// # Safety
    ///
    /// Until the result is used for the last time, this member has an unfinished task of the job, or is its caller.
    unsafe fn get<'a>(self) -> &'a dyn Job {
        // SAFETY: the caller's promise; `Team::run` stays until no task is unfinished.
        unsafe { &*self.0 }
    }
}

/// The step at hand.
#[derive(Clone, Copy)]
struct Step {
    job: JobPointer,
    index: usize,
    tasks: usize,
}

/// In cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

/// Where the tasks of a session's runs stand.
pub(super) struct Board {
    /// Tasks of the step at hand that nobody has taken.
    open: Apart<AtomicUsize>,
    /// Tasks of the step at hand that are not done.
    unfinished: Apart<AtomicUsize>,
    /// Written by the member that finds no task unfinished; read by members with a task.
    step: UnsafeCell<Option<Step>>,
    /// Whether the job is: the caller waits for this, or for tasks.
    done: AtomicBool,
    given_up: AtomicBool,
    panicked: AtomicBool,
    /// Rings for the caller.
    caller: Bell,
    /// Rings for the helpers, all those of the pool.
    helpers: Arc<Bell>,
    spin: Duration,
    executor: Option<std::sync::Arc<dyn Executor>>,
    /// An executor's helps that are under way.
    called: AtomicUsize,
    /// Which members besides the caller an executor's threads are at the moment.
    places: Box<[AtomicBool]>,
}

// SAFETY: `step` is written by one member while no other has a task, and read by those that have one. Everything else is
// atomic or never changes, and the job is `Sync`.
unsafe impl Sync for Board {}
// SAFETY: as above.
unsafe impl Send for Board {}

/// A session's place at the threads that help it.
pub(super) struct Team {
    board: Arc<Board>,
    pool: Option<Arc<Pool>>,
}

/// Ends the process where a panic would unwind out of a member that others count on: they would wait for its task for
/// ever, or hold a job that is gone.
pub(super) struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl Team {
    /// A team of one: the caller.
    pub(super) fn alone() -> Self {
        Team { board: Arc::new(Board::new(Arc::default(), Duration::ZERO)), pool: None }
    }

    /// The caller, who waits for helpers at work as `spin` says, and threads of the pool, `members` in all; fewer where the
    /// pool has fewer.
    pub(super) fn with_pool(members: usize, pool: Arc<Pool>, spin: Duration) -> Self {
        let board = Arc::new(Board::new(pool.bell(), spin));
        pool.enter(&board, members);
        Team { board, pool: Some(pool) }
    }

    /// The caller and threads of an executor, `members` in all.
    pub(super) fn with_executor(
        members: usize,
        executor: std::sync::Arc<dyn Executor>,
        spin: Duration,
    ) -> Self {
        let mut board = Board::new(Arc::default(), spin);
        board.executor = Some(executor);
        board.places = (1..members).map(|_| AtomicBool::new(false)).collect();
        Team { board: Arc::new(board), pool: None }
    }

    /// Runs a job to its end. An error means that the job has panicked, and that its steps from there on are not done; the
    /// team must not be used again.
    pub(super) fn run(&mut self, job: &dyn Job) -> Result<Ending> {
        let board = &self.board;
        if !board.panicked.load(Ordering::Relaxed) {
            // SAFETY: only the lifetime changes; this function ends after the last task, see `held`.
            let job =
                unsafe { std::mem::transmute::<*const (dyn Job + '_), *const (dyn Job + 'static)>(job) };
            let job = JobPointer(job);
            board.done.store(false, Ordering::Relaxed);
            board.given_up.store(false, Ordering::Relaxed);
            let held = AbortOnUnwind;
            if let Some(step) = Board::post(board, job, 0, 0) {
                Board::carry_on(board, job, step, 0, 0);
                loop {
                    let heard = board.caller.heard();
                    Board::help(board, 0);
                    if board.done.load(Ordering::Acquire) {
                        break;
                    }
                    board.caller.wait(heard, board.spin);
                }
            }
            std::mem::forget(held);
        }
        match (board.panicked.load(Ordering::Relaxed), board.given_up.load(Ordering::Relaxed)) {
            (false, false) => Ok(Ending::Done),
            (false, true) => Ok(Ending::GivenUp),
            (true, _) => {
                let found = "a panic in one of them";
                Err(Error::new(ErrorKind::Internal, "run", "every kernel to return", found))
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.leave(&self.board);
        }
    }
}

impl Board {
    fn new(helpers: Arc<Bell>, spin: Duration) -> Self {
        Board {
            open: Apart(AtomicUsize::new(0)),
            unfinished: Apart(AtomicUsize::new(0)),
            step: UnsafeCell::new(None),
            done: AtomicBool::new(true),
            given_up: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            caller: Bell::default(),
            helpers,
            spin,
            executor: None,
            called: AtomicUsize::new(0),
            places: Box::default(),
        }
    }

    /// Takes tasks until none is open; says whether there was one.
    pub(super) fn help(board: &Arc<Board>, member: usize) -> bool {
        let mut any = false;
        while let Some(open) = board.take() {
            any = true;
            // SAFETY: this member has a task, so that nobody writes the step; it was there when the task was posted.
            if let Some(Step { job, index, tasks }) = board.step.with(|at| unsafe { *at }) {
                Board::carry_on(board, job, index, tasks - open, member);
            }
        }
        any
    }

    /// Takes one of the open tasks, and says how many there were.
    fn take(&self) -> Option<usize> {
        let open = &self.open.0;
        let mut seen = open.load(Ordering::Relaxed);
        while seen > 0 {
            match open.compare_exchange(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(seen),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Does a task that this member has taken. If it is the last of its step, posts the next, and goes on with that one's
    /// first.
    fn carry_on(board: &Arc<Board>, job: JobPointer, mut step: usize, mut task: usize, member: usize) {
        loop {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: this member has not finished its task.
                let job = unsafe { job.get() };
                if job.is_over() {
                    board.given_up.store(true, Ordering::Relaxed);
                }
                if !board.is_broken_off() {
                    // SAFETY: each task is taken once; the steps before were done when this one was posted; a member is
                    // one thread, as pools and places give them out.
                    unsafe { job.run_task(step, task, member) };
                }
            }));
            if outcome.is_err() {
                board.panicked.store(true, Ordering::Relaxed);
            }
            // What nobody has begun is not begun any more.
            let dropped = if board.is_broken_off() { board.open.0.swap(0, Ordering::Relaxed) } else { 0 };
            let finished = 1 + dropped;
            if board.unfinished.0.fetch_sub(finished, Ordering::AcqRel) > finished {
                return;
            }
            match Board::post(board, job, step + 1, member) {
                Some(next) => (step, task) = (next, 0),
                None => return,
            }
        }
    }

    /// Posts the first step from `step` on that has tasks, and takes the first of them for this member; else ends the job.
    /// No task is unfinished: what was written by their members is seen, and nobody reads the step.
    fn post(board: &Arc<Board>, job: JobPointer, step: usize, member: usize) -> Option<usize> {
        let next = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller waits for `done`, which is set below.
            let job = unsafe { job.get() };
            let of = |index| (index, job.tasks(index));
            (step..job.steps()).map(of).find(|&(_, tasks)| tasks > 0)
        }));
        let next = next.unwrap_or_else(|_| {
            board.panicked.store(true, Ordering::Relaxed);
            None
        });
        match next {
            Some((index, tasks)) if !board.is_broken_off() => {
                // SAFETY: nobody has a task.
                board.step.with_mut(|at| unsafe { *at = Some(Step { job, index, tasks }) });
                board.unfinished.0.store(tasks, Ordering::Relaxed);
                if tasks > 1 {
                    board.open.0.store(tasks - 1, Ordering::Release);
                    board.call(board, member, tasks - 1);
                }
                Some(index)
            }
            _ => {
                board.done.store(true, Ordering::Release);
                if member != 0 {
                    board.caller.ring();
                }
                None
            }
        }
    }

    /// Tells the others that there are so many tasks to take.
    fn call(&self, board: &Arc<Board>, member: usize, tasks: usize) {
        self.helpers.ring();
        if member != 0 {
            self.caller.ring();
        }
        let Some(executor) = &self.executor else { return };
        let most = self.places.len().min(tasks);
        for _ in 0..most {
            // Helps that come back at once, with nothing left to do, are not called again.
            if self.open.0.load(Ordering::Relaxed) == 0 {
                return;
            }
            if self.called.fetch_add(1, Ordering::Relaxed) >= most {
                self.called.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let help = Help(Arc::clone(board));
            // An executor that panics is one without threads.
            if catch_unwind(AssertUnwindSafe(|| executor.spawn(help))).is_err() {
                return;
            }
        }
    }

    /// Whether the job is not to be finished.
    fn is_broken_off(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.panicked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Instant;

    /// Where a job panics, and where it is over.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        Task(usize, usize),
        Tasks(usize),
        Over(usize, usize),
    }

    struct Sums {
        tasks: Vec<usize>,
        done: Vec<AtomicU64>,
        fault: Fault,
        over: AtomicBool,
        /// What each task takes.
        pause: Duration,
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
        fn is_over(&self) -> bool {
            self.over.load(Ordering::Relaxed)
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
            if self.fault == Fault::Over(step, task) {
                self.over.store(true, Ordering::Relaxed);
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
    }

    impl Sums {
        fn new(tasks: &[usize], fault: Fault) -> Self {
            let done = tasks.iter().map(|_| AtomicU64::new(0)).collect();
            let (over, pause) = (AtomicBool::new(false), Duration::ZERO);
            Sums { tasks: tasks.to_vec(), done, fault, over, pause }
        }

        fn done(&self) -> Vec<u64> {
            self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
        }

        fn all(&self) -> Vec<u64> {
            self.tasks.iter().map(|&n| (1..=n as u64).sum()).collect()
        }
    }

    /// How members come to a job.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        Pool,
        /// Each help on a thread of its own.
        Threads,
        /// Each help at once, within the call.
        Inline,
        /// Helps that wait until others have run, or for ever.
        Late,
        /// No help is run.
        Refuses,
        /// Asking for help panics.
        Panics,
    }

    const KINDS: [Kind; 6] =
        [Kind::Pool, Kind::Threads, Kind::Inline, Kind::Late, Kind::Refuses, Kind::Panics];

    struct Spawner(Kind, Mutex<Vec<Help>>);

    impl Executor for Spawner {
        fn spawn(&self, help: Help) {
            match self.0 {
                Kind::Threads => drop(thread::spawn(|| help.run())),
                Kind::Inline => help.run(),
                Kind::Late => {
                    let mut late = self.1.lock().expect("no panic under the lock");
                    late.push(help);
                    if late.len() > 2 {
                        let help = late.remove(0);
                        drop(late);
                        help.run();
                    }
                }
                Kind::Refuses => drop(help),
                Kind::Pool | Kind::Panics => std::panic::resume_unwind(Box::new("a seeded fault")),
            }
        }
    }

    fn team(kind: Kind, members: usize, spin: Duration) -> Team {
        match kind {
            Kind::Pool => {
                let pool = Pool::new(members - 1, spin, std::sync::Arc::new(|_| {}));
                Team::with_pool(members, Arc::new(pool.expect("a few threads")), spin)
            }
            _ => Team::with_executor(members, std::sync::Arc::new(Spawner(kind, Mutex::default())), spin),
        }
    }

    fn teams(members: &[usize]) -> impl Iterator<Item = Team> {
        let of = |members: usize| {
            let spins = [Duration::ZERO, Duration::from_micros(200), Duration::MAX];
            let spins = spins.into_iter().filter(move |&spin| spin != Duration::MAX || members < 3);
            spins.flat_map(move |spin| {
                // An inline help that never gives up would never come back.
                let kinds =
                    KINDS.into_iter().filter(move |&kind| spin != Duration::MAX || kind == Kind::Pool);
                kinds.map(move |kind| team(kind, members, spin))
            })
        };
        members.to_vec().into_iter().flat_map(of)
    }

    #[test]
    fn every_task_runs_once_and_steps_follow_one_another() {
        for mut team in teams(&[1, 2, 5]) {
            for round in 0..50 {
                let job = Sums::new(&[7, 0, 1, round], Fault::None);
                assert_eq!(team.run(&job).expect("no task panics"), Ending::Done);
                assert_eq!(job.done(), job.all());
            }
            assert_eq!(team.run(&Sums::new(&[], Fault::None)).expect("nothing to do"), Ending::Done);
        }
    }

    #[test]
    fn a_panic_ends_in_an_error_and_no_step_behind_it_is_run() {
        for fault in [Fault::Task(1, 4), Fault::Tasks(1)] {
            for mut team in teams(&[1, 3]) {
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
    fn a_job_that_is_over_is_given_up_between_two_tasks_and_the_next_is_done() {
        for mut team in teams(&[1, 3]) {
            let begun = Sums::new(&[5, 5], Fault::None);
            begun.over.store(true, Ordering::Relaxed);
            assert_eq!(team.run(&begun).expect("no panic"), Ending::GivenUp);
            assert_eq!(begun.done(), [0, 0]);
            let within = Sums::new(&[2, 100_000, 5], Fault::Over(1, 4));
            assert_eq!(team.run(&within).expect("no panic"), Ending::GivenUp);
            assert!(within.done()[1] < within.all()[1] && within.done()[2] == 0);
            let next = Sums::new(&[2, 3], Fault::None);
            assert_eq!(team.run(&next).expect("no panic"), Ending::Done);
            assert_eq!(next.done(), next.all());
        }
    }

    #[test]
    fn sessions_that_share_a_pool_run_at_once() {
        for threads in [0, 1, 3] {
            let pool = Pool::new(threads, Duration::from_micros(20), std::sync::Arc::new(|_| {}));
            let pool = Arc::new(pool.expect("a few threads"));
            let callers: Vec<_> = (1..=4)
                .map(|members| {
                    let members = members.min(threads + 1);
                    let mut team = Team::with_pool(members, Arc::clone(&pool), Duration::from_micros(20));
                    thread::spawn(move || {
                        for round in 0..200 {
                            let job = Sums::new(&[3, round % 7, 20], Fault::None);
                            assert_eq!(team.run(&job).expect("no task panics"), Ending::Done);
                            assert_eq!(job.done(), job.all());
                        }
                    })
                })
                .collect();
            callers.into_iter().for_each(|caller| caller.join().expect("no assertion fails"));
        }
    }

    #[test]
    fn all_members_take_part() {
        for kind in [Kind::Pool, Kind::Threads] {
            let mut team = team(kind, 4, Duration::from_micros(200));
            let mut job = Sums::new(&[4, 4, 4], Fault::None);
            job.pause = Duration::from_millis(50);
            let began = Instant::now();
            assert_eq!(team.run(&job).expect("no task panics"), Ending::Done);
            let took = began.elapsed();
            // Twelve tasks one behind the other take 600 ms, four at once 150.
            assert!(took < Duration::from_millis(450), "{kind:?}: {took:?}");
        }
    }
}
