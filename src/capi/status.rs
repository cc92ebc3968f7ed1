//! What can be asked about statuses: their names, and the last failure of a thread.

use std::ffi::c_char;

use super::failure::{AWSNET_STATUS_OK, awsnet_status, name, with_last, write_text};
use super::guard::{guard_silently, guard_value};
use super::pointers::check;

/// A status in words, as in "invalid argument"; "unknown status" for what is none. Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn awsnet_status_name(status: awsnet_status) -> *const c_char {
    guard_value(c"unknown status".as_ptr(), || name(status).as_ptr())
}

/// The last failure of a call on this thread. A call that succeeds leaves it, so clean up first, ask then.
///
/// message: receives the text with a NUL at its end, cut at a character where size bytes are too few. May be NULL
/// where size is 0.
/// length: receives the bytes of the whole text, without the NUL. May be NULL.
/// status: receives what that call returned, AWSNET_STATUS_OK where none has failed. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_error_last(
    message: *mut c_char,
    size: usize,
    length: *mut usize,
    status: *mut awsnet_status,
) -> awsnet_status {
    guard_silently(|| {
        if size > 0 {
            check(message, "message")?;
        }
        if !length.is_null() {
            check(length, "length")?;
        }
        if !status.is_null() {
            check(status, "status")?;
        }
        with_last(|last| {
            let (text, code) = last.map_or(("", AWSNET_STATUS_OK), |last| (&*last.message, last.status));
            // SAFETY: `size` bytes at `message` can be written, by the caller's word.
            unsafe { write_text(text, message, size) };
            if !length.is_null() {
                // SAFETY: aligned, as checked above; writable by the caller's word.
                unsafe { length.write(text.len()) };
            }
            if !status.is_null() {
                // SAFETY: as for the length.
                unsafe { status.write(code) };
            }
        });
        Ok(())
    })
}
