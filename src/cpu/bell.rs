//! A bell that says: look again.
//!
//! Whoever waits asks first how often it has rung, then looks for what it waits for, and waits only if that is not there.
//! Whoever brings it rings afterwards. So either the waiter finds it, or the bell has rung since:
//!
//! ```text
//! waiter   heard; look; wait(heard): spin while rings = heard; sleepers + 1; fence; sleep while rings = heard
//! bringer                bring; ring:                              rings + 1; fence; wake if sleepers > 0
//! ```
//!
//! Of two fences one is the first. Behind the second, what was written before the first is seen: the bringer sees the
//! sleeper, or the sleeper sees the bell. Nobody takes a lock, so that a thread that is stopped holds up no other.

use std::time::Duration;

use super::sync::{AtomicUsize, Futex, Ordering, Patience, fence};

/// See the head of this file. Alone in its cache lines, as waiting threads read it all the time.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Bell {
    rings: Futex,
    sleepers: AtomicUsize,
}

impl Bell {
    /// How often it has rung; what was brought before that is seen.
    pub(super) fn heard(&self) -> u32 {
        self.rings.load()
    }

    /// Tells all who wait.
    pub(super) fn ring(&self) {
        self.rings.increment();
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            self.rings.wake_all();
        }
    }

    /// Spins until it rings; false if it has not rung for so long.
    pub(super) fn watch(&self, heard: u32, spin: Duration) -> bool {
        let mut patience = Patience::new(spin);
        while self.rings.load() == heard {
            if !patience.turn() {
                return false;
            }
        }
        true
    }

    /// Spins so long, then sleeps, until it rings.
    pub(super) fn wait(&self, heard: u32, spin: Duration) {
        if self.watch(heard, spin) {
            return;
        }
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while self.rings.load() == heard {
            self.rings.wait(heard);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }
}
