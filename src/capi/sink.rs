//! Where messages go that are no statuses: to the callback of whoever wants to hear them.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::sync::RwLock;

use super::failure::{AWSNET_STATUS_BUSY, Failure};

/// How grave a message is: one of AWSNET_LOG_*.
pub type awsnet_log_level = i32;

/// A fault inside awsnet; the call returns AWSNET_STATUS_INTERNAL.
pub const AWSNET_LOG_ERROR: i32 = 1;
/// A choice that was made, as where AWSNET_DEVICE_AUTO has led.
pub const AWSNET_LOG_INFO: i32 = 3;

/// Receives a message: one line of UTF-8, which lives until the function returns. It is called on the thread of the
/// call that has something to say, from several threads at once where there are several. It must return (no longjmp,
/// no exception), and must not set the callback.
pub type awsnet_log_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: awsnet_log_level, message: *const c_char)>;

struct Logger {
    callback: awsnet_log_callback,
    user_data: *mut c_void,
}

// SAFETY: `user_data` is the callback's alone, which the caller promises can be called from any thread.
unsafe impl Send for Logger {}
// SAFETY: as above.
unsafe impl Sync for Logger {}

static LOGGER: RwLock<Logger> = RwLock::new(Logger { callback: None, user_data: std::ptr::null_mut() });

thread_local! {
    /// Whether this thread is inside the callback.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Sets the callback, or takes it back; when it returns, the one before is not running and is never called again.
///
/// # Safety
///
/// Until the next call, `callback` may be called with `user_data` on any thread.
pub(super) unsafe fn set(callback: awsnet_log_callback, user_data: *mut c_void) -> Result<(), Failure> {
    if LOGGING.get() {
        let (expected, found) = ("a call from outside the callback", "one from inside it");
        return Err(Failure::new(AWSNET_STATUS_BUSY, "callback", expected, found));
    }
    let mut logger = LOGGER.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    *logger = Logger { callback, user_data };
    Ok(())
}

pub(super) fn error(message: &str) {
    log(AWSNET_LOG_ERROR, message);
}

pub(super) fn info(message: &str) {
    log(AWSNET_LOG_INFO, message);
}

/// Tells the callback, under the lock that keeps it from being replaced meanwhile. What the callback's own calls have
/// to say is dropped.
fn log(level: awsnet_log_level, message: &str) {
    if LOGGING.replace(true) {
        return;
    }
    let logger = LOGGER.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(callback) = logger.callback
        && let Ok(message) = CString::new(message)
    {
        // SAFETY: given to `set` for this; the message outlives the call.
        unsafe { callback(logger.user_data, level, message.as_ptr()) };
    }
    LOGGING.set(false);
}
