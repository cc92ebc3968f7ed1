//! The names of `src/cpu/sync.rs`, on loom.

use std::sync::atomic::{AtomicBool as Setting, Ordering::Relaxed};

pub(super) use loom::cell::UnsafeCell;
pub(super) use loom::hint::spin_loop;
pub(super) use loom::sync::Arc;
pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(super) use loom::thread::{Builder, JoinHandle, Thread};

/// Whether members sleep in the model at hand. Waking a thread shows it all that the waker has done, which would hide
/// a weak order from loom; a member that never sleeps sees what the team's own atomics show it.
pub(super) static SLEEP: Setting = Setting::new(false);

/// The shortest waits. A member that has spun so often in one wait is of no more interest: see [`yield_now`].
pub(super) const SPINS_BEFORE_YIELD: u32 = 1;
pub(super) const YIELDS_BEFORE_SLEEP: u32 = 0;

/// Gives the processor away, in an order from which loom leads no others off: they would differ from those that it has
/// in how long members wait in vain.
pub(super) fn yield_now() {
    loom::skip_branch();
    loom::thread::yield_now();
}

pub(super) fn park() {
    if SLEEP.load(Relaxed) {
        loom::thread::park();
    } else {
        yield_now();
    }
}

pub(super) fn unpark(thread: &Thread) {
    if SLEEP.load(Relaxed) {
        thread.unpark();
    }
}
