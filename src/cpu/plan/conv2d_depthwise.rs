//! A depthwise convolution and its packed weights.

use crate::error::Result;
use crate::memory::AlignedBuffer;
use crate::op::Conv2d;

/// A convolution with a kernel of its own for each channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DepthwiseKernel {
    pub op: Conv2d,
    /// Channels in a block.
    pub lanes: usize,
}

impl DepthwiseKernel {
    /// Elements of the packed weights of a branch.
    pub fn weights_len(&self) -> usize {
        self.bias_len() * self.op.kernel[0] * self.op.kernel[1]
    }

    /// Elements of the packed bias of a branch.
    pub fn bias_len(&self) -> usize {
        self.op.groups.next_multiple_of(self.lanes)
    }

    /// Weights as [block][kh][kw][lane], from [channel][kh][kw].
    pub fn pack(&self, place: &str, weights: &[f32]) -> Result<AlignedBuffer> {
        let (taps, lanes) = (self.op.kernel[0] * self.op.kernel[1], self.lanes);
        let mut buffer = AlignedBuffer::zeros(self.weights_len(), place)?;
        let out = buffer.as_mut_slice();
        for (channel, row) in weights.chunks_exact(taps).enumerate() {
            for (tap, &value) in row.iter().enumerate() {
                out[(channel / lanes * taps + tap) * lanes + channel % lanes] = value;
            }
        }
        Ok(buffer)
    }
}
