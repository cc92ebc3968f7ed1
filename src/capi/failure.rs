//! What a call comes to: a status, a message in words, and the last failure of each thread.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};

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
/// A run did not end in time. On a GPU its engine is poisoned; elsewhere the session works on.
pub const AWSNET_STATUS_DEADLINE: i32 = 11;
/// A run was given up because the caller's flag was set. The session works on.
pub const AWSNET_STATUS_CANCELLED: i32 = 12;

/// A status in words.
pub(super) fn name(status: awsnet_status) -> &'static CStr {
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
        AWSNET_STATUS_CANCELLED => c"cancelled",
        _ => c"unknown status",
    }
}

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
            ErrorKind::Cancelled => AWSNET_STATUS_CANCELLED,
            ErrorKind::Memory => AWSNET_STATUS_MEMORY,
            ErrorKind::Internal => AWSNET_STATUS_INTERNAL,
        };
        Failure { status, message: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Remembers a failure as this thread's last; a thread that is ending remembers nothing.
pub(super) fn remember(failure: Failure) {
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(failure);
        }
    });
}

/// Shows this thread's last failure to `look`; none where no call has failed.
pub(super) fn with_last<R>(look: impl FnOnce(Option<&Failure>) -> R) -> R {
    LAST.with_borrow(|last| look(last.as_ref()))
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
