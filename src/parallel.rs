//! Jobs on a few threads, for what is done once: packing weights.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::error::{Error, ErrorKind, Result};

/// The most threads that share the jobs, the caller's included: what is packed comes from memory and goes there.
const MOST_THREADS: usize = 4;

/// Jobs that nobody has taken yet, in order.
type Queue<J> = Arc<Mutex<dyn Iterator<Item = (usize, J)> + Send>>;

/// Does every job, and hands each result to `take` on the caller's thread, with the index of its job, in any order.
///
/// `weight` is about the work of all jobs in elements: little work is done by the caller alone. A job's inputs are gone
/// when it is done, and no more jobs than threads are under way. Threads own what they read, and are joined: who waits in
/// `std::thread::scope` or for a channel is left a handle of the thread it is on, which a C program's main thread never frees.
/// Errors: of the jobs that fail, the first one's; a job that panics.
pub(crate) fn run<J, R, W>(jobs: Vec<J>, weight: usize, work: W, mut take: impl FnMut(usize, R)) -> Result<()>
where
    J: Send + 'static,
    R: Send + 'static,
    W: Fn(J) -> Result<R> + Send + Sync + 'static,
{
    /// Elements that take less time to pack than a thread to start.
    const FEW: usize = 1 << 15;
    let count = jobs.len();
    let queue: Queue<J> = Arc::new(Mutex::new(jobs.into_iter().enumerate()));
    let work = Arc::new(work);
    let (sender, results) = mpsc::channel();
    let available = || thread::available_parallelism().map_or(1, usize::from);
    let threads = if weight <= FEW { 1 } else { available().min(MOST_THREADS).min(count) };
    let mut others = Vec::new();
    for _ in 1..threads {
        let (queue, work, sender) = (Arc::clone(&queue), Arc::clone(&work), sender.clone());
        // Without a thread the others do its part.
        others.extend(thread::Builder::new().spawn(move || while step(&queue, &*work, &sender) {}).ok());
    }
    let mut first_error: Option<(usize, Error)> = None;
    let mut keep = |(index, result): (usize, Result<R>)| match result {
        Ok(result) => take(index, result),
        Err(error) if first_error.as_ref().is_none_or(|(first, _)| index < *first) => {
            first_error = Some((index, error));
        }
        Err(_) => {}
    };
    while step(&queue, &*work, &sender) {
        results.try_iter().for_each(&mut keep);
    }
    for other in others {
        // A thread catches the panics of its jobs, so that joining cannot fail.
        let _ = other.join();
    }
    results.try_iter().for_each(&mut keep);
    first_error.map_or(Ok(()), |(_, error)| Err(error))
}

/// Does the next job; false where none is left.
fn step<J, R>(queue: &Queue<J>, work: &impl Fn(J) -> Result<R>, sender: &Sender<(usize, Result<R>)>) -> bool {
    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let Some((index, job)) = next else { return false };
    // What a job leaves half done is its own, and goes with it.
    let result = catch_unwind(AssertUnwindSafe(|| work(job))).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, "plan", "every job to end", "a panic in one of them"))
    });
    // The receiver lives as long as the threads.
    let _ = sender.send((index, result));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_is_taken_once() {
        for weight in [0, usize::MAX] {
            let mut taken = vec![0; 100];
            run(
                (0..100).collect(),
                weight,
                |job: usize| Ok(job * job),
                |index, result| {
                    taken[index] += result + 1;
                },
            )
            .expect("no job fails");
            assert!(taken.iter().enumerate().all(|(index, &taken)| taken == index * index + 1));
        }
        run(Vec::<usize>::new(), 0, Ok, |_, _| {}).expect("nothing to do");
    }

    #[test]
    fn the_first_error_is_told_and_a_panic_is_one() {
        let error = |job: usize| Error::new(ErrorKind::Memory, format!("job {job}"), "memory", "none");
        let failing = move |job: usize| if job >= 40 { Err(error(job)) } else { Ok(()) };
        let told = run((0..100).collect(), usize::MAX, failing, |_, ()| {}).expect_err("jobs fail");
        assert_eq!(told.place(), "job 40");

        let panics = |job: usize| match job {
            7 => std::panic::resume_unwind(Box::new("a seeded fault")),
            _ => Ok(()),
        };
        for weight in [0, usize::MAX] {
            let told = run((0..20).collect(), weight, panics, |_, ()| {}).expect_err("a job panics");
            assert_eq!(told.kind(), ErrorKind::Internal);
        }
    }
}
