//! Memory that each thread of a session has for itself, and what it holds between tasks.

use std::cell::UnsafeCell;

use crate::error::Result;
use crate::memory::AlignedBuffer;

/// One thread's memory.
pub(super) struct Scratch {
    memory: AlignedBuffer,
    holds: Option<Held>,
}

/// What a task may find there: the transformed tiles of a node from a first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The address of the node in its plan.
    pub node: usize,
    pub first_tile: usize,
}

impl Scratch {
    /// Says what the memory will hold, and whether it holds that already.
    pub fn hold(&mut self, wanted: Held) -> bool {
        self.holds.replace(wanted) == Some(wanted)
    }

    pub fn memory(&mut self) -> &mut [f32] {
        self.memory.as_mut_slice()
    }
}

/// The memory of all threads of a session.
pub(super) struct Scratches(Vec<UnsafeCell<Scratch>>);

// SAFETY: each member of a team uses its own, and the caller uses them between jobs only.
unsafe impl Sync for Scratches {}

impl Scratches {
    pub fn new(threads: usize, len: usize) -> Result<Self> {
        let scratch =
            |_| Ok(UnsafeCell::new(Scratch { memory: AlignedBuffer::zeros(len, "scratch")?, holds: None }));
        Ok(Scratches((0..threads).map(scratch).collect::<Result<_>>()?))
    }

    /// Forgets what they hold, since the maps of the next run are others.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|scratch| scratch.get_mut().holds = None);
    }

    /// # Safety
    ///
    /// Nobody else uses this member's scratch while the result lives.
    #[expect(clippy::mut_from_ref, reason = "one thread a member")]
    pub unsafe fn of(&self, member: usize) -> &mut Scratch {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0[member].get() }
    }
}
