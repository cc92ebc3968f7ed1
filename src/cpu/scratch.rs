//! Memory that each thread of a session has for itself.

use std::cell::UnsafeCell;

use crate::error::Result;
use crate::memory::AlignedBuffer;

/// The memory of all threads of a session.
pub(super) struct Scratches(Vec<UnsafeCell<AlignedBuffer>>);

// SAFETY: each member of a team uses its own.
unsafe impl Sync for Scratches {}

impl Scratches {
    pub fn new(threads: usize, len: usize) -> Result<Self> {
        let scratch = |_| Ok(UnsafeCell::new(AlignedBuffer::zeros(len, "scratch")?));
        Ok(Scratches((0..threads).map(scratch).collect::<Result<_>>()?))
    }

    /// # Safety
    ///
    /// Nobody else uses this member's memory while the result lives.
    #[expect(clippy::mut_from_ref, reason = "one thread a member")]
    pub unsafe fn of(&self, member: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { (*self.0[member].get()).as_mut_slice() }
    }
}
