//! How a convolution is cut: its view of the output, its tiles, and the groups of output channels.

use super::node::{BlockGroup, ConvKernel, View};
use super::target::Isa;
use super::tile;
use super::value::Value;
use crate::op::{Conv2d, Padding};
use crate::tensor::Shape;

/// Output pixels that a task computes, about: enough to outweigh handing it out, few enough to share a layer.
const TASK_PIXELS: usize = 112;

/// The most pixels that are taken for one row; larger maps keep their rows.
const MOST_LINE_PIXELS: usize = 1 << 20;

/// A convolution, or what can be seen as one, before it is cut.
pub(super) struct ConvSpec {
    pub conv: Conv2d,
    /// Channels that the weight reads: those of a branch's map, or the padded ones of both.
    pub input_channels: usize,
    /// For each computed branch, the first input branch that it reads.
    pub reads: Vec<usize>,
}

/// A 1x1 convolution, a matrix applied to every pixel.
pub(super) const ONE_BY_ONE: Conv2d = Conv2d {
    kernel: [1, 1],
    stride: [1, 1],
    padding: Padding { top: 0, left: 0, bottom: 0, right: 0 },
    dilation: [1, 1],
    groups: 1,
};

/// A convolution of 3x3 that keeps the size of its maps.
#[cfg(test)]
pub(super) const THREE_BY_THREE: Conv2d =
    Conv2d { kernel: [3, 3], padding: Padding { top: 1, left: 1, bottom: 1, right: 1 }, ..ONE_BY_ONE };

/// A linear layer over a map, as the convolution that it equals.
pub(super) fn whole_map(input: Shape) -> Conv2d {
    Conv2d { kernel: [input.height, input.width], ..ONE_BY_ONE }
}

/// The most pixels of a map for which F16 and BF16 weights stay narrow.
const NARROW_PIXELS: usize = 64;

/// Whether a direct convolution keeps F16 and BF16 weights as they are: where each weight meets so few pixels that it
/// takes longer to come from memory than to be multiplied. Elsewhere to widen it for every tile costs more than it saves.
/// The batch is not asked, so that an algorithm gives the same bits in plans of any batch.
pub(super) fn keeps_narrow(output: Shape) -> bool {
    output.pixels() <= NARROW_PIXELS
}

/// View, tiles and groups of a convolution; the weights are still to be packed.
pub(super) fn cut(
    isa: Isa,
    batch: usize,
    spec: &ConvSpec,
    input: &Value,
    output: &Value,
    residual: Option<&Value>,
) -> ConvKernel {
    let Conv2d { kernel, stride, padding, .. } = spec.conv;
    let none = Padding::default();
    let no_halos =
        [Some(input), Some(output), residual].into_iter().flatten().all(|value| value.halo == none);
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
        input_offsets: spec.reads.iter().map(|&branch| input.branch_offset(branch)).collect(),
        branches: Vec::new(),
        groups: block_groups(spec, input, output, tile.blocks, kernel[0] * kernel[1]),
    }
}

/// The output blocks that each pass computes, with the input blocks that any of their channels reads, and so many weights
/// for a pair of channels.
pub(super) fn block_groups(
    spec: &ConvSpec,
    input: &Value,
    output: &Value,
    blocks: usize,
    taps: usize,
) -> Vec<BlockGroup> {
    let all_inputs = spec.input_channels.div_ceil(input.lanes);
    let (in_group, out_group) =
        (spec.input_channels / spec.conv.groups, output.shape.channels / spec.conv.groups);
    let mut weights = 0;
    let mut groups = Vec::new();
    for first_block in (0..output.blocks()).step_by(blocks) {
        let blocks = blocks.min(output.blocks() - first_block);
        let input_blocks = if spec.conv.groups == 1 {
            0..all_inputs
        } else {
            let first = first_block * output.lanes;
            let last = ((first_block + blocks) * output.lanes).min(output.shape.channels) - 1;
            let first_input = first / out_group * in_group;
            let last_input = (last / out_group + 1) * in_group - 1;
            first_input / input.lanes..last_input / input.lanes + 1
        };
        let group = BlockGroup { first_block, blocks, input_blocks, weights };
        weights += group.weights_len(taps, input.lanes, output.lanes);
        groups.push(group);
    }
    groups
}
