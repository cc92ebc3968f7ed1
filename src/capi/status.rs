//! What a call comes to: a status, and a message in words.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};

use super::guard::{guard_silently, guard_value};
use super::pointers::check;
use crate::{Error, ErrorKind};

/// What a call came to: one of AWSNET_STATUS_*. Values are never reused; a newer library may return new ones, so
/// treat one that you do not know as a failure.
pub type awsnet_status = i32;

/// Done; the outputs are written.
pub const AWSNET_STATUS_OK: i32 = 0;
/// An argument: NULL where that is not allowed, an unknown value, a length or a batch out of range.
pub const AWSNET_STATUS_INVALID_ARGUMENT: i32 = 1;
/// A buffer for results is shorter than they are.
pub const AWSNET_STATUS_BUFFER_TOO_SMALL: i32 = 2;
/// A file could not be opened or read.
pub const AWSNET_STATUS_FILE: i32 = 3;
/// The contents of a model file break the format.
pub const AWSNET_STATUS_MODEL: i32 = 4;
/// A valid model that cannot run as the options ask: a precision that the device does not have, sizes that overflow.
pub const AWSNET_STATUS_PLAN: i32 = 5;
/// The device asked for is missing or refused to work.
pub const AWSNET_STATUS_DEVICE: i32 = 6;
/// More memory would be needed than there is.
pub const AWSNET_STATUS_MEMORY: i32 = 7;
/// The session is running on another thread. Nothing was done; the run goes on.
pub const AWSNET_STATUS_BUSY: i32 = 8;
/// A fault inside awsnet. The handle is poisoned.
pub const AWSNET_STATUS_INTERNAL: i32 = 9;
/// An earlier fault, in awsnet or of the device, has left the handle unusable. Destroy it; after a fault of a device,
/// that device works again in a new process only.
pub const AWSNET_STATUS_POISONED: i32 = 10;
/// A run did not end in time. Its engine is poisoned.
pub const AWSNET_STATUS_DEADLINE: i32 = 11;

/// A failure, described. The caller's; set struct_size before the call: awsnet_error error = AWSNET_ERROR_INIT;
#[repr(C)]
pub struct awsnet_error {
    /// sizeof(awsnet_error)
    pub struct_size: u32,
    /// What the call returned.
    pub status: awsnet_status,
    /// One line of UTF-8, "PLACE: expected EXPECTED, found FOUND", ending with NUL; cut where it is longer.
    pub message: [c_char; 504],
}

/// A status in words, as in "invalid argument"; "unknown status" for what is none. Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn awsnet_status_name(status: awsnet_status) -> *const c_char {
    guard_value(c"unknown status".as_ptr(), || name(status).as_ptr())
}

fn name(status: awsnet_status) -> &'static CStr {
    match status {
        AWSNET_STATUS_OK => c"ok",
        AWSNET_STATUS_INVALID_ARGUMENT => c"invalid argument",
        AWSNET_STATUS_BUFFER_TOO_SMALL => c"buffer too small",
        AWSNET_STATUS_FILE => c"file",
        AWSNET_STATUS_MODEL => c"model",
        AWSNET_STATUS_PLAN => c"plan",
        AWSNET_STATUS_DEVICE => c"device",
        AWSNET_STATUS_MEMORY => c"memory",
        AWSNET_STATUS_BUSY => c"busy",
        AWSNET_STATUS_INTERNAL => c"internal",
        AWSNET_STATUS_POISONED => c"poisoned",
        AWSNET_STATUS_DEADLINE => c"deadline",
        _ => c"unknown status",
    }
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
        LAST.with_borrow(|last| {
            // SAFETY: `size` bytes at `message` can be written, by the caller's word.
            unsafe { write_text(&last.message, message, size) };
            if !length.is_null() {
                // SAFETY: aligned, as checked above; writable by the caller's word.
                unsafe { length.write(last.message.len()) };
            }
            if !status.is_null() {
                // SAFETY: as for the length.
                unsafe { status.write(last.status) };
            }
        });
        Ok(())
    })
}

/// Why a call fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: awsnet_status,
    pub message: String,
}

impl Failure {
    /// In the words of [`Error`].
    pub fn new(status: awsnet_status, place: &str, expected: &str, found: &str) -> Self {
        Failure { status, message: format!("{place}: expected {expected}, found {found}") }
    }

    pub fn argument(place: &str, expected: &str, found: &str) -> Self {
        Failure::new(AWSNET_STATUS_INVALID_ARGUMENT, place, expected, found)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::File => AWSNET_STATUS_FILE,
            ErrorKind::Model => AWSNET_STATUS_MODEL,
            ErrorKind::Plan => AWSNET_STATUS_PLAN,
            ErrorKind::Input | ErrorKind::Image => AWSNET_STATUS_INVALID_ARGUMENT,
            ErrorKind::Device => AWSNET_STATUS_DEVICE,
            ErrorKind::Poisoned => AWSNET_STATUS_POISONED,
            ErrorKind::Deadline => AWSNET_STATUS_DEADLINE,
            ErrorKind::Memory => AWSNET_STATUS_MEMORY,
            ErrorKind::Internal => AWSNET_STATUS_INTERNAL,
        };
        Failure { status, message: error.to_string() }
    }
}

struct Last {
    status: awsnet_status,
    message: String,
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { status: AWSNET_STATUS_OK, message: String::new() }) };
}

/// Remembers a failure for [`awsnet_error_last`]; a thread that is ending remembers nothing.
pub(super) fn remember(failure: Failure) {
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Last { status: failure.status, message: failure.message };
        }
    });
}

/// Writes as much of `text` as `size` bytes hold in whole characters, and a NUL; nothing where `size` is 0.
///
/// # Safety
///
/// `size` bytes at `to` can be written.
pub(super) unsafe fn write_text(text: &str, to: *mut c_char, size: usize) {
    if size == 0 {
        return;
    }
    let fits = |&len: &usize| len < size && text.is_char_boundary(len);
    let len = (0..=text.len().min(size - 1)).rev().find(fits).unwrap_or(0);
    // SAFETY: `len` is below `size` and within the text; the buffers are of different owners.
    unsafe {
        to.copy_from_nonoverlapping(text.as_ptr().cast(), len);
        to.add(len).write(0);
    }
}
