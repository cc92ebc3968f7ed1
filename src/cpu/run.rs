//! A plan on the memory of a session: where each map lies, and the zeros around it.

use std::ops::Range;

use super::plan::CpuPlan;
use super::plan::value::Value;

/// A plan running on a session's arena.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub plan: &'a CpuPlan,
    /// The arena, of `plan.arena_len` elements.
    pub arena: *mut f32,
    /// Images of this run, at most the plan's pass.
    pub images: usize,
}

// SAFETY: tasks of a node write disjoint elements of the arena, and read only what earlier nodes have written; the
// caller of `run_task` keeps nodes apart.
unsafe impl Sync for Run<'_> {}

impl Run<'_> {
    /// The first element, halo included, of the map that `branch` reads or writes.
    ///
    /// # Safety
    ///
    /// The value is one of the plan, `image` below the number of images.
    #[inline(always)]
    pub unsafe fn map(&self, value: &Value, image: usize, branch: usize) -> *mut f32 {
        let offset = value.offset + image * value.image_stride() + value.branch_offset(branch);
        // SAFETY: the plan has placed the value, for a whole pass, within the arena.
        unsafe { self.arena.add(offset) }
    }

    /// Whether so many elements from an address on are those of a value's images of this run: what kernels assert of what
    /// they read where assertions are on.
    pub fn holds(&self, value: &Value, from: *const f32, len: usize) -> bool {
        let element = size_of::<f32>();
        let begin = self.arena.addr() + value.offset * element;
        let end = begin + ((self.images - 1) * value.image_stride() + value.image_span()) * element;
        begin <= from.addr() && from.addr() + len * element <= end
    }

    /// The first pixel of the map's first block, behind the halo.
    ///
    /// # Safety
    ///
    /// As for [`map`](Self::map).
    #[inline(always)]
    pub unsafe fn pixels(&self, value: &Value, image: usize, branch: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.map(value, image, branch).add(value.origin()) }
    }

    /// Writes the zeros around some rows of some blocks: left and right, and above the first and below the last.
    ///
    /// # Safety
    ///
    /// As for [`map`](Self::map), and nobody else uses these blocks' rows.
    #[inline]
    pub unsafe fn zero_halo(
        &self,
        value: &Value,
        image: usize,
        branch: usize,
        blocks: Range<usize>,
        rows: Range<usize>,
    ) {
        let (row, halo, lanes) = (value.row_stride(), value.halo, value.lanes);
        if halo == Default::default() {
            return;
        }
        for block in blocks {
            // SAFETY: all within the block, which spans top + height + bottom rows.
            unsafe {
                let first = self.map(value, image, branch).add(block * value.block_stride());
                if rows.start == 0 {
                    first.write_bytes(0, halo.top * row);
                }
                for y in rows.clone() {
                    let begin = first.add((halo.top + y) * row);
                    begin.write_bytes(0, halo.left * lanes);
                    begin.add(row - halo.right * lanes).write_bytes(0, halo.right * lanes);
                }
                if rows.end == value.shape.height {
                    first.add((halo.top + value.shape.height) * row).write_bytes(0, halo.bottom * row);
                }
            }
        }
    }
}
