//! Feature maps in memory.
//!
//! A value holds, for every image of the batch, the maps of one branch or of all, in their order. Channels are cut
//! into blocks of as many as a vector has lanes, and around every map lies a halo of zeros as wide as the padding
//! of whoever reads it, so that a kernel never asks whether it has reached a border:
//!
//! ```text
//! [image][branch][channel / lanes][top + height + bottom][left + width + right][channel % lanes]
//! ```
//!
//! Lanes behind the last channel hold what the operators make of zeros, which is finite; the weights that meet them are zeros.
//! The image itself has blocks of one channel, which is NCHW.
//!
//! A value may be some blocks of another, wider one, so that a concatenation need not move what it concatenates; it has that
//! one's halo then.

use crate::error::{Error, ErrorKind, Result, quoted};
use crate::graph::node::ValueId;
use crate::op::Padding;
use crate::tensor::Shape;

/// The widest row of a map: a plan lists the tiles of a row.
const MOST_WIDTH: usize = 1 << 24;

/// A feature map, or the pair of them, with its place in the arena.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    /// The layer that gives it, as the manifest names it, or `image`.
    pub name: String,
    /// 1 where all branches share the map, or where only one has it; else 2.
    pub branches: usize,
    /// The shape of one branch's map.
    pub shape: Shape,
    /// Channels in a block.
    pub lanes: usize,
    /// Zeros around each map.
    pub halo: Padding,
    /// The value that it is a part of, where it has no memory of its own.
    pub within: Option<Within>,
    /// Where it begins in the arena, in elements.
    pub offset: usize,
}

/// The place of a value in a wider one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    pub value: ValueId,
    /// The block of each branch where it begins.
    pub first_block: usize,
    /// Blocks of a branch of the wider one.
    pub blocks: usize,
}

impl Value {
    /// Channels of one branch, padded to whole blocks.
    #[inline]
    pub fn padded_channels(&self) -> usize {
        self.blocks() * self.lanes
    }

    /// Blocks of channels in one branch.
    #[inline]
    pub fn blocks(&self) -> usize {
        self.shape.channels.div_ceil(self.lanes)
    }

    /// Elements from one row to the next.
    #[inline]
    pub fn row_stride(&self) -> usize {
        (self.halo.left + self.shape.width + self.halo.right) * self.lanes
    }

    /// Elements from one block of channels to the next.
    #[inline]
    pub fn block_stride(&self) -> usize {
        (self.halo.top + self.shape.height + self.halo.bottom) * self.row_stride()
    }

    /// Elements from a branch to the next.
    #[inline]
    pub fn branch_stride(&self) -> usize {
        self.within.map_or(self.blocks(), |within| within.blocks) * self.block_stride()
    }

    /// Elements from the first to behind the last of an image, those of others between them included.
    #[inline]
    pub fn image_span(&self) -> usize {
        (self.branches - 1) * self.branch_stride() + self.blocks() * self.block_stride()
    }

    /// Elements from one image of the batch to the next.
    #[inline]
    pub fn image_stride(&self) -> usize {
        self.branches * self.branch_stride()
    }

    /// Elements from the beginning of a block to its first pixel inside the halo.
    #[inline]
    pub fn origin(&self) -> usize {
        self.halo.top * self.row_stride() + self.halo.left * self.lanes
    }

    /// Where the map that `branch` reads begins, behind the beginning of the image.
    #[inline]
    pub fn branch_offset(&self, branch: usize) -> usize {
        if self.branches == 2 { branch * self.branch_stride() } else { 0 }
    }

    /// Elements of so many images, halos included.
    ///
    /// Errors where their number of bytes exceeds the address space: strides and offsets within a value that has passed
    /// cannot overflow.
    pub fn checked_len(&self, images: usize) -> Result<usize> {
        let error = |expected, found| {
            let place = format!("value {}", quoted(&self.name));
            Error::new(ErrorKind::Plan, place, expected, found)
        };
        if self.shape.width > MOST_WIDTH {
            let expected = format!("rows of at most {MOST_WIDTH} pixels");
            return Err(error(expected, self.shape.to_string()));
        }
        let len = || {
            let Padding { top, left, bottom, right } = self.halo;
            let rows = self.shape.height.checked_add(top)?.checked_add(bottom)?;
            let columns = self.shape.width.checked_add(left)?.checked_add(right)?;
            let padded_channels = self.blocks().checked_mul(self.lanes)?.checked_mul(self.branches)?;
            let len = rows.checked_mul(columns)?.checked_mul(padded_channels)?.checked_mul(images)?;
            (len <= isize::MAX as usize / size_of::<f32>()).then_some(len)
        };
        len().ok_or_else(|| {
            let expected = format!("a feature map of {images} images that fits the address space");
            error(expected, format!("{} with its halo", self.shape))
        })
    }
}
