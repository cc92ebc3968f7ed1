//! When a run is to be given up: asked before every task on a CPU, and before every image by the reference.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// What a run keeps to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits<'a> {
    pub deadline: Option<Instant>,
    /// Given up where it is set.
    pub cancel: Option<&'a AtomicBool>,
}

impl Limits<'_> {
    /// Whether the run is to be given up.
    #[inline]
    pub fn are_over(&self) -> bool {
        self.is_cancelled() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    /// An error where the run is to be given up.
    pub fn check(&self) -> Result<()> {
        if self.are_over() { Err(self.error()) } else { Ok(()) }
    }

    /// Why a run was given up.
    pub fn error(&self) -> Error {
        match self.deadline {
            Some(deadline) if !self.is_cancelled() && Instant::now() >= deadline => {
                let found = "one that was given up then";
                Error::new(ErrorKind::Deadline, "run", "a run that ends by its deadline", found)
            }
            _ => Error::new(ErrorKind::Cancelled, "run", "a run that is not cancelled", "one that was"),
        }
    }
}
