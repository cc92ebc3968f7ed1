//! Which blocks of channels a convolution computes together, and the input blocks that they read.

use std::ops::Range;

use super::value::Value;
use crate::op::Conv2d;
use crate::tensor::DType;

/// A convolution, or what can be seen as one, before it is cut.
pub(super) struct ConvSpec {
    pub conv: Conv2d,
    /// Channels that the weight reads: those of a branch's map, or the padded ones of both.
    pub input_channels: usize,
    /// For each computed branch, the first input branch that it reads, and the type of its packed weights.
    pub branches: Vec<(usize, DType)>,
}

/// Output channel blocks that are computed together, and the input blocks they need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockGroup {
    pub first_block: usize,
    pub blocks: usize,
    pub input_blocks: Range<usize>,
    /// Where the group's weights begin, behind the branch's.
    pub weights: usize,
}

impl BlockGroup {
    /// Its channels of an output, without padding.
    pub fn channels(&self, output: &Value) -> Range<usize> {
        let (first, end) = (self.first_block * output.lanes, (self.first_block + self.blocks) * output.lanes);
        first..end.min(output.shape.channels)
    }

    /// Elements of its packed weights in one branch.
    pub fn weights_len(&self, taps: usize, input_lanes: usize, lanes: usize) -> usize {
        self.input_blocks.len() * taps * input_lanes * self.blocks * lanes
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
