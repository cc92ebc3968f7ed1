//! What [`team`](super::team) is made of: atomics, a cell, threads, and how long a member waits before it sleeps.
//!
//! `tests/loom` compiles team.rs beside a file of the same names that stands on loom instead.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(super) use std::thread::{Builder, JoinHandle, Thread, park, yield_now};

/// Wakes a thread that sleeps in [`park`], or keeps it from the next sleep.
pub(super) fn unpark(thread: &Thread) {
    thread.unpark();
}

/// Turns of a waiting loop before a member gives its processor away, and before it goes to sleep between jobs.
pub(super) const SPINS_BEFORE_YIELD: u32 = 4_000;
pub(super) const YIELDS_BEFORE_SLEEP: u32 = 50;

/// A cell that gives its address for the time of one access, which loom can then check.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// To be read.
    pub(super) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
        access(self.0.get())
    }

    /// To be written.
    pub(super) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}
