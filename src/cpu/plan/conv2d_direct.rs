//! A direct convolution: its view of the output, its tiles, and the groups of output channels.

use super::groups::{BlockGroup, ConvSpec, block_groups};
use super::tile::{self, Tiling};
use super::value::Value;
use crate::graph::target::Isa;
use crate::op::{Conv2d, Padding};
use crate::tensor::{DType, Shape};

/// What the direct convolution takes for the rows and columns of its tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The rows and columns of each output map.
    Rows,
    /// One row of all pixels of a map: a 1x1 convolution over maps without halo.
    Line,
    /// The images of the batch as rows of one column: the output is 1x1.
    Images,
}

/// A convolution, or what can be seen as one: linear layers, dense AWS-Units, heads.
#[derive(Debug)]
pub(crate) struct ConvKernel {
    pub view: View,
    /// Output rows of an image as the view has them.
    pub rows: usize,
    pub tiling: Tiling,
    /// Rows that one task computes, a multiple of the tile's.
    pub task_rows: usize,
    /// Tiles of a row that one task computes.
    pub task_columns: usize,
    /// What is computed for each output pixel, whatever the view.
    pub op: Conv2d,
    /// Channels that the weight reads: those of a branch's map, or the padded ones of both.
    pub input_channels: usize,
    /// Channels in a block of the input, and of the output.
    pub lanes: [usize; 2],
    pub groups: Vec<BlockGroup>,
    pub branches: Vec<ConvBranch>,
}

/// One of the branches that a convolution computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConvBranch {
    /// Where its input begins within an image.
    pub input_offset: usize,
    /// The type of its packed weights.
    pub weights: DType,
}

impl ConvKernel {
    /// For each computed branch the type and the elements of its packed weights, and those of its bias.
    pub fn branch_lens(&self) -> Vec<(DType, usize, usize)> {
        let [input_lanes, lanes] = self.lanes;
        let taps = self.op.kernel[0] * self.op.kernel[1];
        let weights = self.groups.iter().map(|group| group.weights_len(taps, input_lanes, lanes)).sum();
        let bias = self.groups.iter().map(|group| group.blocks * lanes).sum();
        self.branches.iter().map(|branch| (branch.weights, weights, bias)).collect()
    }

    /// Images that are cut into rows of their own, and rows in each, in a run of so many.
    #[inline]
    pub fn images_and_rows(&self, images: usize) -> (usize, usize) {
        match self.view {
            View::Rows | View::Line => (images, self.rows),
            View::Images => (1, images),
        }
    }

    /// Tasks of a run, in the order [group][image][rows][columns], so that a group's weights stay near.
    pub fn tasks(&self, images: usize) -> usize {
        let (images, rows) = self.images_and_rows(images);
        let column_tasks = self.tiling.columns.len().div_ceil(self.task_columns);
        self.groups.len() * images * rows.div_ceil(self.task_rows) * column_tasks
    }

    /// From one output column's input to the next one's, in elements.
    #[inline]
    pub fn pixel_step(&self) -> usize {
        self.op.stride[1] * self.lanes[0]
    }
}

/// Output pixels that a task computes, about: enough to outweigh handing it out, few enough to share a layer.
const TASK_PIXELS: usize = 112;

/// The most pixels that are taken for one row; larger maps keep their rows.
const MOST_LINE_PIXELS: usize = 1 << 20;

/// A convolution of 3x3 that keeps the size of its maps.
#[cfg(test)]
pub(super) const THREE_BY_THREE: Conv2d = Conv2d {
    kernel: [3, 3],
    padding: Padding { top: 1, left: 1, bottom: 1, right: 1 },
    ..crate::graph::ONE_BY_ONE
};

/// The most pixels of a map for which F16 and BF16 weights stay narrow.
const NARROW_PIXELS: usize = 64;

/// The type in which a direct convolution keeps weights of a type: F16 and BF16 stay as they are where each weight meets
/// so few pixels that it takes longer to come from memory than to be multiplied. Elsewhere to widen it for every tile
/// costs more than it saves. The batch is not asked, so that an algorithm gives the same bits in plans of any batch.
pub(super) fn stored_type(weights: DType, output: Shape) -> DType {
    if output.pixels() <= NARROW_PIXELS { weights } else { DType::F32 }
}

/// View, tiles and groups of a convolution; `others` are the maps that its epilogue reads.
pub(super) fn cut(
    isa: Isa,
    batch: usize,
    spec: &ConvSpec,
    input: &Value,
    output: &Value,
    others: [Option<&Value>; 2],
) -> ConvKernel {
    let Conv2d { kernel, stride, padding, .. } = spec.conv;
    let none = Padding::default();
    let no_halos =
        [input, output].into_iter().chain(others.into_iter().flatten()).all(|value| value.halo == none);
    let pixel_by_pixel = kernel == [1, 1] && stride == [1, 1] && padding == none;
    let view = if output.shape.pixels() == 1 {
        View::Images
    } else if pixel_by_pixel && no_halos && output.shape.pixels() <= MOST_LINE_PIXELS {
        View::Line
    } else {
        View::Rows
    };
    let (rows, columns) = match view {
        View::Rows => (output.shape.height, output.shape.width),
        View::Line => (1, output.shape.pixels()),
        View::Images => (batch, 1),
    };
    let tiling = tile::choose(isa, rows, columns, output.blocks());
    let tile = tiling.tile;
    ConvKernel {
        view,
        rows,
        task_rows: tile.rows * (TASK_PIXELS / (tile.rows * columns)).max(1),
        task_columns: match view {
            View::Line => (TASK_PIXELS / tile.columns).max(1),
            View::Rows | View::Images => tiling.columns.len(),
        },
        tiling,
        op: spec.conv,
        input_channels: spec.input_channels,
        lanes: [input.lanes, output.lanes],
        branches: spec
            .branches
            .iter()
            .map(|&(reads, weights)| ConvBranch { input_offset: input.branch_offset(reads), weights })
            .collect(),
        groups: block_groups(spec, input, output, tile.blocks, kernel[0] * kernel[1]),
    }
}
