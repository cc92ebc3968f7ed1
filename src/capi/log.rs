//! Who hears what awsnet has to say beside statuses.

use std::ffi::c_void;

use super::failure::{awsnet_error, awsnet_status};
use super::guard::guard;
use super::sink::{self, awsnet_log_callback};

/// Sets who receives messages, for the whole process; NULL for nobody, as at the start. When it returns, the callback
/// set before is not running and is never called again.
///
/// AWSNET_STATUS_BUSY: called from inside the callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_log_set(
    callback: awsnet_log_callback,
    user_data: *mut c_void,
    error: *mut awsnet_error,
) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { guard(error, || sink::set(callback, user_data)) }
}
