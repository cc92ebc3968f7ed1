//! The models, and the job that they run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use loom::cell::UnsafeCell;

use super::sync::SLEEP;
use super::team::{Job, Team};

/// A list of steps whose tasks count how often they have run, in plain memory.
struct Counts {
    /// For each step, the number of its tasks; the caller writes it.
    tasks: Vec<UnsafeCell<usize>>,
    /// For each task, how often it has run.
    counts: Vec<Vec<UnsafeCell<usize>>>,
    /// The task that panics.
    fault: Option<(usize, usize)>,
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

    unsafe fn run_task(&self, step: usize, task: usize, _: usize) {
        if self.fault == Some((step, task)) {
            std::panic::resume_unwind(Box::new("a seeded fault"));
        }
        let count = get(&self.counts[step][task]);
        if step > 0 {
            assert!(self.counts[step - 1].iter().all(|before| get(before) == count + 1));
        }
        set(&self.counts[step][task], count + 1);
    }
}

impl Counts {
    fn new(tasks: &[usize], fault: Option<(usize, usize)>) -> Self {
        Counts {
            tasks: tasks.iter().map(|&tasks| UnsafeCell::new(tasks)).collect(),
            counts: tasks.iter().map(|&tasks| (0..tasks).map(|_| UnsafeCell::new(0)).collect()).collect(),
            fault,
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

/// A team of so many members runs the job so many times.
fn runs(members: usize, tasks: &[usize], runs: usize) {
    let mut team = Team::new(members, tasks.len()).expect("a few threads");
    let job = Counts::new(tasks, None);
    for run in 1..=runs {
        job.touch();
        team.run(&job).expect("no task panics");
        job.touch();
        for (step, &tasks) in tasks.iter().enumerate() {
            assert_eq!(job.counts(step), vec![run; tasks]);
        }
    }
}

/// Jobs without steps, where members meet at the end only.
fn nothing(members: usize, runs: usize) {
    let mut team = Team::new(members, 0).expect("a few threads");
    for _ in 0..runs {
        team.run(&Counts::new(&[], None)).expect("nothing panics");
    }
}

/// A panic in the first step: an error, and the second is not run.
fn panic(members: usize) {
    let mut team = Team::new(members, 2).expect("a few threads");
    let job = Counts::new(&[2, 1], Some((0, 0)));
    assert!(team.run(&job).is_err());
    job.touch();
    assert_eq!(job.counts(1), [0]);
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
    check("a team that runs nothing", None, || drop(Team::new(2, 0)));
    check("2 members, 2 runs without steps", None, || nothing(2, 2));
    check("2 members, a step", None, || runs(2, &[2], 1));
    check("2 members, 2 steps", Some(5), || runs(2, &[1, 1], 1));
    check("2 members, 2 runs of a step", Some(4), || runs(2, &[1], 2));
    check("2 members, 2 runs of 2 steps", Some(3), || runs(2, &[1, 1], 2));
    check("2 members, a panic", Some(4), || panic(2));
    check("3 members, 2 runs without steps", Some(1), || nothing(3, 2));
    check("3 members, a step", Some(2), || runs(3, &[1], 1));
    check("3 members, 2 runs of a step", Some(1), || runs(3, &[1], 2));
    check("3 members, 2 steps", Some(1), || runs(3, &[1, 1], 1));
    check("3 members, a panic", Some(1), || panic(3));
}
