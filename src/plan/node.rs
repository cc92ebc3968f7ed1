//! What a plan consists of: one node per launch, in the order in which they run.

use std::ops::Range;

use super::tile::Tiling;
use super::value::{Value, ValueId};
use super::winograd::WinogradTile;
use crate::memory::AlignedBuffer;
use crate::model::Gate;
use crate::op::{Activation, Conv2d, Pool2d};
use crate::tensor::{Branch, DType, Shape};

/// One launch: what of the model it computes, and how.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) kernel: String,
    pub(crate) tile: String,
    pub(crate) tuned: bool,
    pub(crate) fused: String,
    pub(crate) input: ValueId,
    pub(crate) residual: Option<ValueId>,
    pub(crate) output: ValueId,
    pub(crate) flop: u64,
    pub(crate) bytes: u64,
    pub(crate) weight_bytes: u64,
}

impl Node {
    /// The last layer the node computes, the head, or what it prepares.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What of the model the node computes.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The name of the kernel that runs it, which is that of its file.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// How the kernel cuts its output. CPU: the register tile, rows x columns x channel blocks; for
    /// Winograd's algorithm F(rows x columns). CUDA: the block's tile,
    /// positions x channels, and behind a slash the parts of its reduction. `-` where nothing is cut.
    pub fn tile(&self) -> &str {
        &self.tile
    }

    /// Whether a [`Tuning`](crate::Tuning) chose the tile, rather than the plan.
    pub fn tuned(&self) -> bool {
        self.tuned
    }

    /// What is fused behind the operator, in words: what is added, the activation, the AWS-Unit, the pooling.
    pub fn fused(&self) -> &str {
        &self.fused
    }

    /// How many launches it takes.
    pub fn launches(&self) -> usize {
        1
    }

    /// Bytes of weights, of the input and the residual read, and of the output written, for one image.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Multiplications and additions for one image, a multiply-add counting 2.
    pub fn flop(&self) -> u64 {
        self.flop
    }
}

/// What is fused behind an operator in words; `added` names the maps that are added.
pub(crate) fn fused_words(
    added: &[&str],
    activation: Activation,
    mixes: bool,
    pooled: Option<&str>,
) -> String {
    let mut stages: Vec<String> = added.iter().map(|name| format!("+ {name}")).collect();
    if activation != Activation::None {
        stages.push(activation.name().to_owned());
    }
    if mixes {
        stages.push("aws".to_owned());
    }
    stages.extend(pooled.map(str::to_owned));
    stages.join(", ")
}

/// A node of the CPU backend: an operator for both branches, and what is fused behind it.
#[derive(Debug)]
pub(crate) struct CpuNode {
    pub kernel: Kernel,
    pub input: ValueId,
    pub output: ValueId,
    pub epilogue: Epilogue,
}

impl CpuNode {
    /// The register tile, of kernels that have one.
    pub fn tile(&self) -> String {
        match &self.kernel {
            Kernel::Conv2d(conv) => conv.tiling.tile.to_string(),
            Kernel::ConvMaxPool(both) => both.conv.tiling.tile.to_string(),
            Kernel::Winograd(winograd) => winograd.tile.to_string(),
            _ => "-".to_owned(),
        }
    }

    /// Elements that each thread needs for itself.
    pub fn scratch_len(&self) -> usize {
        match &self.kernel {
            Kernel::Winograd(winograd) => winograd.scratch().len,
            Kernel::ConvMaxPool(both) => both.strip().len(),
            _ => 0,
        }
    }

    /// Bytes of packed weights, biases and AWS-Units.
    pub fn weight_bytes(&self) -> u64 {
        fn bytes<W>(branches: &[ConvWeights<W>], of: impl Fn(&W) -> u64) -> u64 {
            branches.iter().map(|branch| of(&branch.weights) + branch.bias.bytes()).sum()
        }
        let branches = match &self.kernel {
            Kernel::Conv2d(conv) => bytes(&conv.branches, StoredWeights::bytes),
            Kernel::ConvMaxPool(both) => bytes(&both.conv.branches, StoredWeights::bytes),
            Kernel::Winograd(winograd) => bytes(&winograd.branches, AlignedBuffer::bytes),
            Kernel::Depthwise(depthwise) => bytes(&depthwise.branches, AlignedBuffer::bytes),
            _ => 0,
        };
        branches + self.epilogue.mix.as_ref().map_or(0, AlignedBuffer::bytes)
    }
}

/// The part of the model that a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// These layers, one behind the other; those behind the first are identities fused into it, and on a CPU a max
    /// pooling may be the last. A dense or gate unit of the last one is left to a node of its own.
    Layers(Vec<usize>),
    /// The same, and the layer `projection`, a 1x1 convolution that nothing but their addition reads. The node's
    /// residual is what that layer reads.
    Projected {
        /// As in `Layers`.
        layers: Vec<usize>,
        /// The layer whose result is added.
        projection: usize,
    },
    /// The AWS-Unit of this layer.
    AwsUnit(usize),
    /// A part of a unit's computation that has no counterpart in the model: the means and hidden layers of a gate.
    GatePart(usize),
    /// The image in the layout that the backend's kernels read.
    ImageLayout,
    /// The logits of these branches' heads.
    Heads {
        /// Whose.
        branches: Vec<Branch>,
        /// The global average pooling that is computed on the way, where the heads read one.
        pooled: Option<usize>,
    },
}

/// What happens to a node's sums before they are stored.
#[derive(Debug, Default)]
pub(crate) struct Epilogue {
    /// A map that is added.
    pub residual: Option<ValueId>,
    pub activation: Activation,
    /// The AWS-Unit's weights, [to][from][padded channel].
    pub mix: Option<AlignedBuffer>,
}

impl Epilogue {
    pub fn is_empty(&self) -> bool {
        self.residual.is_none() && self.activation == Activation::None && self.mix.is_none()
    }
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
    GlobalAvgPool2d,
    Identity,
    /// Mixes its input by a gate's logits, a value with the channels [to][from][padded channel].
    AwsGate {
        gate: Gate,
        logits: ValueId,
    },
    ImageToBlocks,
}

impl Kernel {
    pub(crate) fn name(&self) -> &'static str {
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
            Kernel::GlobalAvgPool2d => "global_avg_pool2d",
            Kernel::Identity => "identity",
            Kernel::AwsGate { .. } => "aws_gate",
            Kernel::ImageToBlocks => "image_to_blocks",
        }
    }
}

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
    /// For each computed branch, where its input begins within an image.
    pub input_offsets: Vec<usize>,
    /// The computed branches' weights.
    pub branches: Vec<ConvWeights<StoredWeights>>,
    pub groups: Vec<BlockGroup>,
}

/// A direct convolution, epilogue included, and the max pooling of its map.
#[derive(Debug)]
pub(crate) struct ConvMaxPool {
    pub conv: ConvKernel,
    /// Of one branch of the convolution.
    pub map: Shape,
    /// Channels in a block.
    pub lanes: usize,
    pub pool: Pool2d,
}

/// A convolution by Winograd's minimal filtering.
#[derive(Debug)]
pub(crate) struct WinogradKernel {
    pub tile: WinogradTile,
    /// Rows and columns of tiles in a map.
    pub tiles: [usize; 2],
    /// The most tiles that one task computes, of those of all images one behind the other.
    pub most_tiles: usize,
    /// From a map's first pixel inside the halo back to the first that is read: rows and columns of padding.
    pub padding: [usize; 2],
    /// Channels in a block.
    pub lanes: usize,
    /// Input channels, padded to whole blocks.
    pub channels: usize,
    pub groups: Vec<BlockGroup>,
    /// Both branches' transformed weights.
    pub branches: Vec<ConvWeights>,
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

/// A branch's packed weights and bias.
#[derive(Debug)]
pub(crate) struct ConvWeights<W = AlignedBuffer> {
    /// [group][input block][kh][kw][channel in block][output channels of the group]; for Winograd's algorithm
    /// [group][row and column of the transform][input channel][output channels of the group]; depthwise
    /// [block][kh][kw][lane].
    pub weights: W,
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
        dtype: DType,
        bits: AlignedBuffer<u16>,
        /// [padded output channel]
        scale: AlignedBuffer,
    },
}

impl StoredWeights {
    fn bytes(&self) -> u64 {
        match self {
            StoredWeights::F32(weights) => weights.bytes(),
            StoredWeights::Narrow { bits, scale, .. } => bits.bytes() + scale.bytes(),
        }
    }
}

/// A depthwise convolution.
#[derive(Debug)]
pub(crate) struct DepthwiseKernel {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: [usize; 2],
    pub branches: Vec<ConvWeights>,
}
