//! What every export runs in.
//!
//! A panic becomes `AWSNET_STATUS_INTERNAL`, which poisons the handle that the call was about: what a fault left half
//! done in it is never looked at again. A failure is delivered twice, to the caller's struct and as the last error of
//! the thread; where the struct itself is wrong, only as the latter.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::{
    AWSNET_STATUS_INTERNAL, AWSNET_STATUS_OK, AWSNET_STATUS_POISONED, Failure, awsnet_error, awsnet_status,
    remember, write_text,
};
use super::pointers::{check, shared};
use super::sink;

/// Something that a caller holds a pointer to.
pub(super) trait Handle {
    /// The parameter's name, for messages.
    const NAME: &'static str;
    fn poison(&self) -> &Poison;
    /// Refuses where a call that uses the handle is going on, and keeps others from beginning.
    fn retire(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Whether a fault of this library has gone through a handle.
#[derive(Debug, Default)]
pub(super) struct Poison(AtomicBool);

impl Poison {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn check(&self, name: &str) -> Result<(), Failure> {
        if self.0.load(Ordering::Acquire) {
            let found = "one that an earlier fault has left unusable";
            return Err(Failure::new(AWSNET_STATUS_POISONED, name, "a handle that works", found));
        }
        Ok(())
    }
}

/// Runs the body of an export that has no handle yet.
///
/// # Safety
///
/// `error` is NULL or points to an `awsnet_error` whose `struct_size` is set.
pub(super) unsafe fn guard(
    error: *mut awsnet_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> awsnet_status {
    // SAFETY: passed on.
    let outcome = unsafe { check_error(error) }.and_then(|()| caught(body));
    // SAFETY: passed on.
    unsafe { deliver(outcome, error) }
}

/// Runs the body of an export on its handle.
///
/// # Safety
///
/// `handle` is NULL or came from an export and has not been destroyed; `error` as for [`guard`].
pub(super) unsafe fn guard_handle<H: Handle>(
    handle: *const H,
    error: *mut awsnet_error,
    body: impl FnOnce(&H) -> Result<(), Failure>,
) -> awsnet_status {
    let enter = || {
        // SAFETY: passed on.
        unsafe { check_error(error) }?;
        // SAFETY: passed on.
        let handle = unsafe { shared(handle, H::NAME) }?;
        handle.poison().check(H::NAME)?;
        let outcome = caught(|| body(handle));
        if matches!(&outcome, Err(failure) if failure.status == AWSNET_STATUS_INTERNAL) {
            handle.poison().set();
        }
        outcome
    };
    let outcome = enter();
    // SAFETY: passed on.
    unsafe { deliver(outcome, error) }
}

/// Frees a handle; NULL is none. It is gone unless [`Handle::retire`] refuses.
///
/// # Safety
///
/// `handle` is NULL or came from an export and has not been destroyed, and no other thread uses it.
pub(super) unsafe fn destroy<H: Handle>(handle: *mut H) -> awsnet_status {
    let body = || {
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: passed on.
        unsafe { shared(handle, H::NAME) }?.retire()?;
        // SAFETY: handles are made with `Box::into_raw`; the caller gives this one up.
        drop(unsafe { Box::from_raw(handle) });
        Ok(())
    };
    // SAFETY: there is no error struct.
    unsafe { guard(std::ptr::null_mut(), body) }
}

/// Runs the body of an export that takes no error struct, and disturbs the last error only where the body panics.
pub(super) fn guard_silently(body: impl FnOnce() -> Result<(), Failure>) -> awsnet_status {
    match caught(body) {
        Ok(()) => AWSNET_STATUS_OK,
        Err(failure) => failure.status,
    }
}

/// Runs the body of an export that cannot fail and returns a value.
pub(super) fn guard_value<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    caught(|| Ok(body())).unwrap_or(otherwise)
}

/// Runs `body`, and makes a failure of a panic.
fn caught<R>(body: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let body = || {
        #[cfg(test)]
        super::tests::panic_if_asked();
        body()
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let failure =
            Failure::new(AWSNET_STATUS_INTERNAL, "awsnet", "no fault in the library", &told(&*payload));
        // A payload may panic again when it is dropped.
        std::mem::forget(payload);
        sink::error(&failure.message);
        Err(failure)
    })
}

/// What a panic says.
fn told(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("of unknown kind"))
}

/// # Safety
///
/// As for [`guard`].
unsafe fn check_error(error: *mut awsnet_error) -> Result<(), Failure> {
    // SAFETY: passed on.
    if error.is_null() || unsafe { is_usable(error) } {
        return Ok(());
    }
    let expected = format!("struct_size of at least {}, aligned to 4 bytes", size_of::<awsnet_error>());
    Err(Failure::argument("error", &expected, "another (begin with AWSNET_ERROR_INIT)"))
}

/// Whether a failure can be written there.
///
/// # Safety
///
/// `error` is not NULL; else as for [`guard`].
unsafe fn is_usable(error: *mut awsnet_error) -> bool {
    // SAFETY: aligned, as checked first; that `struct_size` is there is the caller's word.
    check(error, "error").is_ok() && unsafe { (*error).struct_size } as usize >= size_of::<awsnet_error>()
}

/// # Safety
///
/// As for [`guard`].
unsafe fn deliver(outcome: Result<(), Failure>, error: *mut awsnet_error) -> awsnet_status {
    let Err(failure) = outcome else { return AWSNET_STATUS_OK };
    let status = failure.status;
    // SAFETY: passed on.
    if !error.is_null() && unsafe { is_usable(error) } {
        // SAFETY: `is_usable` has found room for the whole struct, and nobody else uses it during the call.
        let error = unsafe { &mut *error };
        error.status = status;
        // SAFETY: the length is that of the field.
        unsafe { write_text(&failure.message, error.message.as_mut_ptr(), error.message.len()) };
    }
    remember(failure);
    status
}
