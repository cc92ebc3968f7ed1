//! The models, and the job that they run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::cell::UnsafeCell;

use super::pool::Pool;
use super::sync::{Arc, SLEEP};
use super::team::{Ending, Executor, Help, Job, Team};

/// A list of steps whose tasks count how often they have run, in plain memory.
struct Counts {
    /// For each step, the number of its tasks; the caller writes it.
    tasks: Vec<UnsafeCell<usize>>,
    /// For each task, how often it has run.
    counts: Vec<Vec<UnsafeCell<usize>>>,
    fault: Fault,
    /// Orders nothing.
    over: AtomicBool,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// A task panics.
    Panic(usize, usize),
    /// The job is over behind a task.
    Over(usize, usize),
}

// SAFETY: loom checks what `Sync` stands for, access by access.
unsafe impl Sync for Counts {}

fn get<T: Copy>(cell: &UnsafeCell<T>) -> T {
    // SAFETY: loom ends the model where another thread may be writing the cell.
    cell.with(|at| unsafe { *at })
}

fn set<T>(cell: &UnsafeCell<T>, value: T) {
    // SAFETY: loom ends the model where another thread may be at the cell.
    cell.with_mut(|at| unsafe { *at = value });
}

impl Job for Counts {
    fn steps(&self) -> usize {
        self.tasks.len()
    }

    fn tasks(&self, step: usize) -> usize {
        get(&self.tasks[step])
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    unsafe fn run_task(&self, step: usize, task: usize, _: usize) {
        if self.fault == Fault::Panic(step, task) {
            std::panic::resume_unwind(Box::new("a seeded fault"));
        }
        let count = get(&self.counts[step][task]);
        if step > 0 {
            assert!(self.counts[step - 1].iter().all(|before| get(before) == count + 1));
        }
        set(&self.counts[step][task], count + 1);
        if self.fault == Fault::Over(step, task) {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

impl Counts {
    fn new(tasks: &[usize], fault: Fault) -> Self {
        Counts {
            tasks: tasks.iter().map(|&tasks| UnsafeCell::new(tasks)).collect(),
            counts: tasks.iter().map(|&tasks| (0..tasks).map(|_| UnsafeCell::new(0)).collect()).collect(),
            fault,
            over: AtomicBool::new(false),
        }
    }

    /// Writes all that the members read, as the caller may before and after a run.
    fn touch(&self) {
        for (tasks, counts) in self.tasks.iter().zip(&self.counts) {
            set(tasks, counts.len());
            counts.iter().for_each(|count| set(count, get(count)));
        }
    }

    /// How often the tasks of a step have run.
    fn counts(&self, step: usize) -> Vec<usize> {
        self.counts[step].iter().map(get).collect()
    }
}

fn pool(threads: usize) -> Arc<Pool> {
    let pool = Pool::new(threads, Duration::ZERO, std::sync::Arc::new(|_| {}));
    Arc::new(pool.expect("a few threads"))
}

/// A team with threads of its own.
fn team(members: usize) -> Team {
    Team::with_pool(members, pool(members - 1), Duration::ZERO)
}

/// A team runs jobs, each gone before the next is made.
fn runs(team: &mut Team, tasks: &[usize], runs: usize) {
    for _ in 0..runs {
        let job = Counts::new(tasks, Fault::None);
        job.touch();
        assert_eq!(team.run(&job).expect("no task panics"), Ending::Done);
        job.touch();
        for (step, &tasks) in tasks.iter().enumerate() {
            assert_eq!(job.counts(step), vec![1; tasks]);
        }
    }
}

/// A panic in the first step: an error, and the second is not run.
fn panic(members: usize) {
    let job = Counts::new(&[2, 1], Fault::Panic(0, 0));
    assert!(team(members).run(&job).is_err());
    job.touch();
    assert_eq!(job.counts(1), [0]);
}

/// A job that is over in its first step: the second is not run, and the next job is.
fn over(members: usize) {
    let mut team = team(members);
    let job = Counts::new(&[2, 1], Fault::Over(0, 0));
    // Two tasks at once may both be done; then it is the second step that is not begun.
    assert_eq!(team.run(&job).expect("no task panics"), Ending::GivenUp);
    job.touch();
    assert_eq!(job.counts(1), [0]);
    runs(&mut team, &[1], 1);
}

/// Two sessions share a pool, one on a thread of its own, and are gone before it.
fn shared(threads: usize, tasks: &'static [usize]) {
    let pool = pool(threads);
    let [mut one, mut other] = [(); 2].map(|()| Team::with_pool(2, Arc::clone(&pool), Duration::ZERO));
    drop(pool);
    let caller = loom::thread::spawn(move || runs(&mut other, tasks, 1));
    runs(&mut one, tasks, 1);
    drop(one);
    caller.join().expect("no assertion fails");
}

/// An executor that starts a thread for each help.
struct Threads;

impl Executor for Threads {
    fn spawn(&self, help: Help) {
        loom::thread::spawn(|| help.run());
    }
}

/// A team whose helps may all come late: in the next job, or behind the last.
fn executor(members: usize, tasks: &[usize], count: usize) {
    let mut team = Team::with_executor(members, std::sync::Arc::new(Threads), Duration::ZERO);
    runs(&mut team, tasks, count);
}

/// Runs a model in all orders, or in those of at most so many preemptions, and says how many they are: once with members
/// that only spin between jobs, and once with members that sleep.
fn check(what: &str, most_preemptions: Option<usize>, model: fn()) {
    static ORDERS: AtomicU64 = AtomicU64::new(0);
    ORDERS.store(0, Ordering::Relaxed);
    let begin = Instant::now();
    for sleep in [false, true] {
        SLEEP.store(sleep, Ordering::Relaxed);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = most_preemptions;
        builder.max_branches = 3_000;
        builder.check(move || {
            ORDERS.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }
    let bound = most_preemptions.map_or("all".to_owned(), |most| format!("at most {most} preemptions:"));
    let seconds = begin.elapsed().as_secs_f64();
    println!("{what}: {bound} {} orders, {seconds:.1} s", ORDERS.load(Ordering::Relaxed));
}

pub(crate) fn all() {
    check("a team that runs nothing", None, || drop(team(2)));
    check("2 members, a run without steps", None, || runs(&mut team(2), &[], 1));
    check("2 members, a step", Some(3), || runs(&mut team(2), &[2], 1));
    check("2 members, 2 steps", Some(2), || runs(&mut team(2), &[2, 2], 1));
    check("2 members, 2 runs of a step", Some(2), || runs(&mut team(2), &[2], 2));
    check("2 members, a panic", Some(2), || panic(2));
    check("2 members, a job that is over", Some(2), || over(2));
    check("3 members, a step", Some(1), || runs(&mut team(3), &[3], 1));
    check("3 members, 2 runs of a step", Some(1), || runs(&mut team(3), &[2], 2));
    check("3 members, 2 steps", Some(1), || runs(&mut team(3), &[2, 2], 1));
    check("2 sessions and a thread", Some(1), || shared(1, &[2]));
    check("an executor, a step", Some(4), || executor(2, &[2], 1));
    check("an executor, 2 runs", Some(2), || executor(2, &[2], 2));
    check("an executor, 3 members", Some(1), || executor(3, &[3], 1));
}
