//! Threads that help in the runs of sessions: of one, or of all that share the pool.
//!
//! A thread goes from board to board and takes tasks where there are any; where there are none it waits for the pool's
//! bell, which rings with every step that is posted. The list of boards changes with sessions, never with runs, and each
//! thread keeps the one that it has read: a run takes no lock.

use std::time::Duration;

use super::bell::Bell;
use super::sync::{Arc, AtomicBool, AtomicUsize, Builder, JoinHandle, Mutex, Ordering};
use super::team::{AbortOnUnwind, Board};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;

/// What every thread of a pool calls first, with its number.
pub(super) type Start = dyn Fn(usize) + Send + Sync;

/// The threads of a pool.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// That has the threads; one that is forked from it has not.
    process: u32,
}

struct Shared {
    threads: usize,
    spin: Duration,
    bell: Arc<Bell>,
    list: Mutex<List>,
    /// Counts the changes of the list.
    changes: AtomicUsize,
    stop: AtomicBool,
}

/// The boards of all sessions.
#[derive(Default)]
struct List {
    seats: Option<Arc<Vec<Seat>>>,
    /// The thread that is the first to help the next session: few sessions of few threads each use different ones.
    first: usize,
}

/// A board, and the threads that may work on it: `members - 1` of them, from `first` on.
#[derive(Clone)]
struct Seat {
    board: Arc<Board>,
    members: usize,
    first: usize,
}

impl Pool {
    /// So many threads, which wait as `spin` says; fewer than one is none. Errors: a thread that cannot be had.
    pub(super) fn new(threads: usize, spin: Duration, start: std::sync::Arc<Start>) -> Result<Self> {
        let shared = Arc::new(Shared {
            threads,
            spin,
            bell: Arc::default(),
            list: Mutex::default(),
            changes: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, threads: Vec::new(), process: std::process::id() };
        for number in 0..threads {
            let (shared, start) = (Arc::clone(&pool.shared), start.clone());
            let name = format!("awsnet-{}", number + 1);
            let spawned = Builder::new().name(name).spawn(move || shared.serve(number, &*start));
            pool.threads.push(spawned.map_err(|source| {
                let expected = format!("{threads} threads");
                Error::new(ErrorKind::Memory, "threads", expected, format!("{number} and then: {source}"))
            })?);
        }
        Ok(pool)
    }

    /// The number of threads.
    pub(super) fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Whether the threads are in this process.
    pub(super) fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// What rings when there is something to do.
    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.shared.bell)
    }

    /// Has threads work on a board too, so that it has so many members with the caller.
    pub(super) fn enter(&self, board: &Arc<Board>, members: usize) {
        let threads = self.shared.threads;
        self.change(|list| {
            let seat = Seat { board: Arc::clone(board), members, first: list.first };
            list.first = (list.first + members - 1) % threads.max(1);
            seats(list).chain([seat]).collect()
        });
    }

    /// Has no thread look for work on a board any more; some may hold it for a while.
    pub(super) fn leave(&self, board: &Arc<Board>) {
        // In a forked process nobody looks, and a thread that has stayed behind may have held the lock.
        if self.is_here() {
            self.change(|list| seats(list).filter(|seat| !Arc::ptr_eq(&seat.board, board)).collect());
        }
    }

    fn change(&self, seats: impl FnOnce(&mut List) -> Vec<Seat>) {
        // Nothing under this lock leaves the list half changed.
        let mut list = self.shared.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seats = seats(&mut list);
        list.seats = Some(Arc::new(seats));
        self.shared.changes.fetch_add(1, Ordering::Release);
    }
}

fn seats(list: &List) -> impl Iterator<Item = Seat> {
    list.seats.as_ref().map(|seats| seats.to_vec()).unwrap_or_default().into_iter()
}

impl Shared {
    /// A thread's life.
    fn serve(&self, number: usize, start: &Start) {
        start(number);
        let serving = AbortOnUnwind;
        let _environment = FloatEnvironment::enter();
        let (mut seats, mut seen) = (None, 0);
        loop {
            let heard = self.bell.heard();
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let changes = self.changes.load(Ordering::Acquire);
            if changes != seen {
                let list = self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                (seats, seen) = (list.seats.clone(), changes);
            }
            let mut any = false;
            for seat in seats.iter().flat_map(|seats| seats.iter()) {
                let place = (number + self.threads - seat.first) % self.threads;
                if place + 1 < seat.members {
                    any |= Board::help(&seat.board, place + 1);
                }
            }
            if !any {
                self.bell.wait(heard, self.spin);
            }
        }
        std::mem::forget(serving);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.is_here() {
            // Their threads are another process's.
            self.threads.drain(..).for_each(std::mem::forget);
            return;
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.bell.ring();
        for thread in self.threads.drain(..) {
            // A thread catches the panics of its tasks and of its start, so that joining cannot fail.
            let _ = thread.join();
        }
    }
}
