//! Memory for feature maps and weights, and how much of it the machine could still give.

#![allow(unsafe_code, reason = "memory from the allocator itself, for its alignment")]

mod cgroup;

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, Result};

/// Bytes that can be had without swapping, and without passing the limit of a container, where the system tells; an
/// allocation beyond them would succeed on many systems and end the process later, when it is touched.
pub(crate) fn available_bytes() -> Option<u64> {
    let found = [of_the_machine(), cgroup::available_bytes()];
    found.into_iter().flatten().min()
}

/// An error where so many bytes cannot be had; `what` says what they are for.
pub(crate) fn require(bytes: u64, place: &str, what: &str) -> Result<()> {
    match available_bytes() {
        Some(available) if available < bytes => {
            let expected = format!("{bytes} bytes of memory for {what}");
            Err(Error::new(ErrorKind::Memory, place, expected, format!("{available} available")))
        }
        _ => Ok(()),
    }
}

fn of_the_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A cache line, and an AVX-512 vector.
const LINE_BYTES: usize = 64;

/// A page of the kind that spares a processor most look-ups of addresses, where the system has them: weights are
/// streamed through once a run, and with small pages the look-ups take longer than the bytes.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Numbers that begin at a multiple of 64 bytes, on huge pages where there are enough of them.
pub(crate) struct AlignedBuffer<T: Pod = f32> {
    start: NonNull<T>,
    len: usize,
}

impl<T: Pod> AlignedBuffer<T> {
    /// `len` zeros; `what` names them where there is not enough memory.
    pub(crate) fn zeros(len: usize, what: &str) -> Result<Self> {
        let not_enough = || {
            let bytes = len.saturating_mul(size_of::<T>());
            Error::new(ErrorKind::Memory, what, format!("{bytes} bytes of memory"), "not enough")
        };
        if len == 0 {
            return Ok(AlignedBuffer { start: NonNull::dangling(), len });
        }
        let layout = Self::layout(len).ok_or_else(not_enough)?;
        // SAFETY: the layout is not empty, and what is allocated is filled before anyone reads it.
        let start = unsafe {
            let start = NonNull::new(alloc(layout).cast::<T>()).ok_or_else(not_enough)?;
            prefer_huge_pages(start.cast(), layout);
            start.write_bytes(0, len);
            start
        };
        Ok(AlignedBuffer { start, len })
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.checked_mul(size_of::<T>())?;
        let alignment = if bytes < HUGE_PAGE_BYTES / 2 { LINE_BYTES } else { HUGE_PAGE_BYTES };
        Layout::from_size_align(bytes, alignment).ok()
    }

    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(self.as_slice()) as u64
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `zeros` has allocated and filled so many, and any bits are a number.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: `zeros` has allocated and filled so many, and they are borrowed as the buffer is.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Asks for huge pages, before the first touch.
///
/// # Safety
///
/// The memory was allocated with the layout.
unsafe fn prefer_huge_pages(start: NonNull<u8>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() == HUGE_PAGE_BYTES {
        // SAFETY: the advice leaves contents and permissions as they are; a system that refuses it takes small pages.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
    let _ = (start, layout);
}

impl<T: Pod> Drop for AlignedBuffer<T> {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len).filter(|layout| layout.size() > 0) {
            // SAFETY: allocated with this layout by `zeros`.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

// SAFETY: the memory is the buffer's alone, as that of a `Vec` is.
unsafe impl<T: Pod + Send> Send for AlignedBuffer<T> {}
// SAFETY: as above.
unsafe impl<T: Pod + Sync> Sync for AlignedBuffer<T> {}

impl<T: Pod> std::fmt::Debug for AlignedBuffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_every_size_are_aligned_zeros() {
        for len in [0, 1, 15, 16, 17, HUGE_PAGE_BYTES / 8 - 1, HUGE_PAGE_BYTES / 8, HUGE_PAGE_BYTES + 3] {
            let mut buffer = AlignedBuffer::<f32>::zeros(len, "test").expect("a few megabytes");
            assert!(len == 0 || buffer.as_slice().as_ptr().addr().is_multiple_of(LINE_BYTES), "{len}");
            assert_eq!(buffer.as_slice(), vec![0.0; len]);
            buffer.as_mut_slice().fill(1.0);
            assert_eq!(buffer.bytes(), 4 * len as u64);
        }
        let error = AlignedBuffer::<f32>::zeros(usize::MAX / 8, "arena").expect_err("more than there is");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Memory, "arena"));
    }
}
