//! A node of the CPU backend: its kernel with all that was decided about it, and its packed weights.

use super::concat::ConcatKernel;
use super::conv2d_depthwise::DepthwiseKernel;
use super::conv2d_direct::{ConvKernel, View};
use super::conv2d_max_pool::ConvMaxPool;
use super::conv2d_winograd::WinogradKernel;
use super::value::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::arena::Uses;
use crate::graph::node::ValueId;
use crate::memory::AlignedBuffer;
use crate::model::Gate;
use crate::op::{Activation, Padding, Pool2d};
use crate::tensor::DType;

/// An operator for all branches, and what is fused behind it.
#[derive(Debug)]
pub(crate) struct CpuNode {
    pub kernel: Kernel,
    pub input: ValueId,
    pub output: ValueId,
    /// A map that the sums are multiplied with, or a factor a channel.
    pub scale: Option<ValueId>,
    /// A map that is added to them.
    pub residual: Option<ValueId>,
    pub activation: Activation,
    /// Whether an AWS-Unit with a weight a layer or a channel mixes the branches at last.
    pub mixes: bool,
    /// Empty until they are packed.
    pub weights: NodeWeights,
}

/// The kernel that runs a node, with all it needs to know.
#[derive(Debug)]
pub(crate) enum Kernel {
    Conv2d(Box<ConvKernel>),
    ConvMaxPool(Box<ConvMaxPool>),
    Winograd(Box<WinogradKernel>),
    Depthwise(Box<DepthwiseKernel>),
    MaxPool2d(Pool2d),
    AvgPool2d(Pool2d),
    AdaptiveAvgPool2d([usize; 2]),
    GlobalAvgPool2d,
    Concat(Box<ConcatKernel>),
    Upsample2d([usize; 2]),
    Identity,
    /// Mixes its input by a gate's logits, a value with the channels [to][from][padded channel].
    AwsGate {
        gate: Gate,
        logits: ValueId,
    },
    ImageToBlocks,
}

impl Kernel {
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Conv2d(conv) => match conv.view {
                View::Rows => "conv2d_direct",
                View::Line => "conv2d_pointwise",
                View::Images => "linear",
            },
            Kernel::ConvMaxPool(_) => "conv2d_max_pool",
            Kernel::Winograd(_) => "conv2d_winograd",
            Kernel::Depthwise(_) => "conv2d_depthwise",
            Kernel::MaxPool2d(_) => "max_pool2d",
            Kernel::AvgPool2d(_) => "avg_pool2d",
            Kernel::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            Kernel::GlobalAvgPool2d => "global_avg_pool2d",
            Kernel::Concat(_) => "concat",
            Kernel::Upsample2d(_) => "upsample2d",
            Kernel::Identity => "identity",
            Kernel::AwsGate { .. } => "aws_gate",
            Kernel::ImageToBlocks => "image_to_blocks",
        }
    }

    /// The register tile, of kernels that have one.
    pub fn tile(&self) -> String {
        match self {
            Kernel::Conv2d(conv) => conv.tiling.tile.to_string(),
            Kernel::ConvMaxPool(both) => both.conv.tiling.tile.to_string(),
            Kernel::Winograd(winograd) => winograd.tile.to_string(),
            Kernel::Depthwise(_)
            | Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d
            | Kernel::Concat(_)
            | Kernel::Upsample2d(_)
            | Kernel::Identity
            | Kernel::AwsGate { .. }
            | Kernel::ImageToBlocks => "-".to_owned(),
        }
    }

    /// Elements that each thread needs for itself.
    pub fn scratch_len(&self) -> usize {
        match self {
            Kernel::Winograd(winograd) => winograd.scratch().len,
            Kernel::ConvMaxPool(both) => both.strip().len(),
            Kernel::Conv2d(_)
            | Kernel::Depthwise(_)
            | Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d
            | Kernel::Concat(_)
            | Kernel::Upsample2d(_)
            | Kernel::Identity
            | Kernel::AwsGate { .. }
            | Kernel::ImageToBlocks => 0,
        }
    }

    /// Elements of packed weights in the type of each computed branch, and of its bias, where the output has so many.
    fn branch_lens(&self, branches: usize) -> Vec<(DType, usize, usize)> {
        match self {
            Kernel::Conv2d(conv) => conv.branch_lens(),
            Kernel::ConvMaxPool(both) => both.conv.branch_lens(),
            Kernel::Winograd(winograd) => {
                vec![(DType::F32, winograd.weights_len(), winograd.bias_len()); branches]
            }
            Kernel::Depthwise(depthwise) => {
                vec![(DType::F32, depthwise.weights_len(), depthwise.bias_len()); branches]
            }
            Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d
            | Kernel::Concat(_)
            | Kernel::Upsample2d(_)
            | Kernel::Identity
            | Kernel::AwsGate { .. }
            | Kernel::ImageToBlocks => Vec::new(),
        }
    }

    /// The zeros around the input that its windows reach.
    fn reach(&self, input: &Value, output: &Value) -> Padding {
        let (input, output) = (input.shape, output.shape);
        match self {
            Kernel::Conv2d(conv) => conv.op.reach(input, output),
            Kernel::ConvMaxPool(both) => both.conv.op.reach(input, both.map),
            Kernel::Winograd(winograd) => winograd.reach(input),
            Kernel::Depthwise(depthwise) => depthwise.op.reach(input, output),
            // Windows are clipped to the map.
            Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d => Padding::default(),
            Kernel::Concat(_)
            | Kernel::Upsample2d(_)
            | Kernel::Identity
            | Kernel::AwsGate { .. }
            | Kernel::ImageToBlocks => Padding::default(),
        }
    }
}

impl CpuNode {
    /// Bytes of packed weights, biases and AWS-Units, packed or not.
    pub fn weight_bytes(&self, values: &[Value]) -> u64 {
        let branch = |(dtype, weights, bias): (DType, usize, usize)| {
            let scale = if dtype == DType::F32 { 0 } else { bias };
            weights * dtype.size_bytes() + (bias + scale) * size_of::<f32>()
        };
        let output = &values[self.output];
        let branches: usize = self.kernel.branch_lens(output.branches).into_iter().map(branch).sum();
        let rows = if self.mixes { 4 } else { 0 }
            + if self.activation == Activation::Prelu { output.branches } else { 0 };
        (branches + rows * output.padded_channels() * size_of::<f32>()) as u64
    }

    /// Errors unless the zeros around the input are at least those that the kernel reads.
    pub fn check_halo(&self, values: &[Value]) -> Result<()> {
        let (input, output) = (&values[self.input], &values[self.output]);
        let reach = self.kernel.reach(input, output);
        if input.halo.covers(reach) {
            return Ok(());
        }
        let place = format!("value {:?}", input.name);
        let expected = format!("zeros around it of at least {reach:?}, which {} reads", self.kernel.name());
        Err(Error::new(ErrorKind::Internal, place, expected, format!("{:?}", input.halo)))
    }
}

impl Uses for CpuNode {
    fn reads(&self) -> impl Iterator<Item = ValueId> {
        let of_kernel = match &self.kernel {
            Kernel::AwsGate { gate: _, logits } => vec![*logits],
            Kernel::Concat(concat) => concat.inputs.clone(),
            Kernel::Conv2d(_)
            | Kernel::ConvMaxPool(_)
            | Kernel::Winograd(_)
            | Kernel::Depthwise(_)
            | Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d
            | Kernel::Upsample2d(_)
            | Kernel::Identity
            | Kernel::ImageToBlocks => Vec::new(),
        };
        [Some(self.input), self.scale, self.residual].into_iter().flatten().chain(of_kernel)
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.output)
    }
}

/// The packed weights of a node.
#[derive(Debug, Default)]
pub(crate) struct NodeWeights {
    /// Of each computed branch.
    pub branches: Vec<BranchWeights>,
    /// Of the AWS-Unit behind the operator, [to][from][padded channel].
    pub mix: Option<AlignedBuffer>,
    /// A PReLU's slopes, [branch][padded channel].
    pub slopes: Option<AlignedBuffer>,
}

impl NodeWeights {
    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        let branches = self.branches.iter().map(|branch| branch.weights.bytes() + branch.bias.bytes());
        let rows = [&self.mix, &self.slopes].into_iter().flatten().map(AlignedBuffer::bytes);
        branches.sum::<u64>() + rows.sum::<u64>()
    }
}

/// A branch's packed weights and bias.
#[derive(Debug)]
pub(crate) struct BranchWeights {
    /// [group][input block][kh][kw][channel in block][output channels of the group]; for Winograd's algorithm
    /// [group][row and column of the transform][input channel][output channels of the group]; depthwise
    /// [block][kh][kw][lane].
    pub weights: StoredWeights,
    /// [padded output channel]
    pub bias: AlignedBuffer,
}

/// Packed weights in the type in which they lie in memory.
#[derive(Debug)]
pub(crate) enum StoredWeights {
    /// With the batch norm's factors multiplied in.
    F32(AlignedBuffer),
    /// F16 or BF16 as the file has them: the kernel widens them in registers and multiplies the sums with the factors.
    Narrow {
        bits: AlignedBuffer<u16>,
        /// [padded output channel]
        scale: AlignedBuffer,
    },
}

impl StoredWeights {
    /// Weights of a kernel that reads F32 alone.
    ///
    /// # Panics
    ///
    /// Where they are narrow: packing makes them as the kernel was decided to read them.
    #[inline]
    pub fn wide(&self) -> &[f32] {
        match self {
            StoredWeights::F32(weights) => weights.as_slice(),
            StoredWeights::Narrow { .. } => panic!("narrow weights of a kernel that reads f32"),
        }
    }

    /// Elements, in whatever type.
    pub fn len(&self) -> usize {
        match self {
            StoredWeights::F32(weights) => weights.as_slice().len(),
            StoredWeights::Narrow { bits, .. } => bits.as_slice().len(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            StoredWeights::F32(weights) => weights.bytes(),
            StoredWeights::Narrow { bits, scale } => bits.bytes() + scale.bytes(),
        }
    }
}
