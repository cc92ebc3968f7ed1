//! What [`team`](super::team) and [`pool`](super::pool) are made of: atomics, a cell, threads, a word to sleep on, and how
//! long a member waits before it sleeps.
//!
//! `tests/loom` compiles those files beside a file of the same names that stands on loom instead.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Arc, Mutex};
pub(super) use std::thread::{Builder, JoinHandle};

use std::sync::atomic::AtomicU32;
use std::thread::yield_now;
use std::time::{Duration, Instant};

/// A word that threads sleep on while it has a value.
#[derive(Default)]
pub(super) struct Futex {
    word: AtomicU32,
    #[cfg(not(target_os = "linux"))]
    asleep: (Mutex<()>, std::sync::Condvar),
}

impl Futex {
    /// The value, and all that was done before it was written.
    pub(super) fn load(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Another value, for those who sleep on this one.
    pub(super) fn increment(&self) {
        self.word.fetch_add(1, Ordering::Release);
    }

    /// Sleeps while the word has this value and nobody wakes; may wake by itself.
    #[cfg(target_os = "linux")]
    pub(super) fn wait(&self, value: u32) {
        let (operation, for_ever) = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, std::ptr::null::<()>());
        // SAFETY: the word is alive; the kernel compares it with the value, and writes nothing.
        unsafe { libc::syscall(libc::SYS_futex, self.word.as_ptr(), operation, value, for_ever) };
    }

    /// Wakes all who sleep here.
    #[cfg(target_os = "linux")]
    pub(super) fn wake_all(&self) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the kernel looks for sleepers by the address alone.
        unsafe { libc::syscall(libc::SYS_futex, self.word.as_ptr(), operation, i32::MAX) };
    }

    /// Sleeps while the word has this value and nobody wakes; may wake by itself.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn wait(&self, value: u32) {
        // Nothing under this lock can panic.
        let held = self.asleep.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.word.load(Ordering::Relaxed) == value {
            drop(self.asleep.1.wait(held));
        }
    }

    /// Wakes all who sleep here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn wake_all(&self) {
        // Whoever has compared the word under the lock is asleep when it is free.
        drop(self.asleep.0.lock());
        self.asleep.1.notify_all();
    }
}

/// How long a member that waits keeps its processor busy.
pub(super) struct Patience {
    spin: Duration,
    turns: u32,
    began: Option<Instant>,
}

/// A member spins so long, and then gives its processor away between looks, to whoever may be doing what it waits for.
const ALONE: Duration = Duration::from_micros(50);

/// Turns between looks at the clock.
const TURNS: u32 = 32;

impl Patience {
    pub(super) fn new(spin: Duration) -> Self {
        Patience { spin, turns: 0, began: None }
    }

    /// One turn of a loop that waits; false when it is time to sleep.
    pub(super) fn turn(&mut self) -> bool {
        if self.spin.is_zero() {
            return false;
        }
        self.turns = self.turns.wrapping_add(1);
        if !self.turns.is_multiple_of(TURNS) {
            spin_loop();
            return true;
        }
        let waited = self.began.get_or_insert_with(Instant::now).elapsed();
        if waited >= ALONE {
            yield_now();
        }
        waited < self.spin
    }
}

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
