//! The names of `src/cpu/sync.rs`, on loom.

use std::sync::atomic::{AtomicBool as Setting, Ordering::Relaxed};
use std::time::Duration;

use loom::sync::Condvar;
use loom::sync::atomic::AtomicU32;

pub(super) use loom::cell::UnsafeCell;
pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use loom::sync::{Arc, Mutex};
pub(super) use loom::thread::{Builder, JoinHandle};

/// Whether members sleep in the model at hand. The lock that stands for the system's would show a sleeper all that its
/// waker has done, and hide a weak order from loom; a member that never sleeps sees what the team's own atomics show it.
pub(super) static SLEEP: Setting = Setting::new(false);

/// A word to sleep on, as the system has them: it compares the word under a lock that wakers take too.
#[derive(Default)]
pub(super) struct Futex {
    word: AtomicU32,
    lock: Mutex<()>,
    asleep: Condvar,
}

impl Futex {
    pub(super) fn load(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    pub(super) fn increment(&self) {
        self.word.fetch_add(1, Ordering::Release);
    }

    pub(super) fn wait(&self, value: u32) {
        if !SLEEP.load(Relaxed) {
            return wait_in_vain();
        }
        let held = self.lock.lock().expect("no panic under the lock");
        if self.word.load(Ordering::Relaxed) == value {
            drop(self.asleep.wait(held));
        }
    }

    pub(super) fn wake_all(&self) {
        if SLEEP.load(Relaxed) {
            let _held = self.lock.lock().expect("no panic under the lock");
            self.asleep.notify_all();
        }
    }
}

/// Gives the processor away, in an order from which loom leads no others off: they would differ from those that it has in
/// how long members wait in vain.
fn wait_in_vain() {
    loom::skip_branch();
    loom::thread::yield_now();
}

/// The shortest: a member that has looked once goes to sleep. One that never sleeps is of no more interest then: see
/// [`wait_in_vain`].
pub(super) struct Patience;

impl Patience {
    pub(super) fn new(_: Duration) -> Self {
        Patience
    }

    pub(super) fn turn(&mut self) -> bool {
        false
    }
}
