//! What one call at a time may use, on whatever thread: a second is refused, not kept waiting.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::{AWSNET_STATUS_BUSY, Failure};
use super::guard::Handle;

/// A handle's value that has one user at a time.
#[derive(Debug)]
pub(super) struct Exclusive<T> {
    /// Set while a call uses `value`, and for ever by the call that destroys it.
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

impl<T> Exclusive<T> {
    pub fn new(value: T) -> Self {
        Exclusive { busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the value, to give it back never: for the call that destroys the handle.
    pub fn claim(&self, name: &str) -> Result<(), Failure> {
        if self.busy.swap(true, Ordering::Acquire) {
            let expected = format!("an idle {name}");
            let found = "one that is running on another thread";
            return Err(Failure::new(AWSNET_STATUS_BUSY, name, &expected, found));
        }
        Ok(())
    }

    /// The value, for this call alone, of a handle that works.
    pub fn enter<'a, H: Handle>(&'a self, handle: &'a H) -> Result<Entered<'a, T, H>, Failure> {
        self.claim(H::NAME)?;
        let entered = Entered { of: self, handle };
        // Whoever held it before may have panicked after this call looked.
        handle.poison().check(H::NAME)?;
        Ok(entered)
    }

    #[cfg(test)]
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }
}

/// A value that this thread has to itself. A panic meanwhile poisons its handle.
pub(super) struct Entered<'a, T, H: Handle> {
    of: &'a Exclusive<T>,
    handle: &'a H,
}

impl<T, H: Handle> Deref for Entered<'_, T, H> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `busy` was clear and is set; nobody else gets here until it is cleared on drop.
        unsafe { &*self.of.value.get() }
    }
}

impl<T, H: Handle> DerefMut for Entered<'_, T, H> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.of.value.get() }
    }
}

impl<T, H: Handle> Drop for Entered<'_, T, H> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.handle.poison().set();
        }
        self.of.busy.store(false, Ordering::Release);
    }
}
