//! The plan for a GPU: which kernel runs each layer pair, with which tile, on which memory.
//!
//! A value is a pair of NHWC maps in the element type of the plan, channels padded to whole vectors
//! ([`variants::pitch`]), for as many images as the plan's batch; the two branches lie one behind the other. All
//! weights, packed as the kernels read them ([`pack`]), stand in one block of bytes, the constants. `select` chooses
//! tiles for each batch size that gets a CUDA graph; [`variants`] is the table it chooses from, and a [`Tuning`] has what
//! was measured.

mod build;
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod pack;
mod select;
mod tuning;
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod variants;

pub(crate) use build::build;
#[cfg(feature = "cuda")]
pub(crate) use select::candidates;
pub(crate) use select::{DirectChoice, GemmChoice, Problem, Tile};
#[cfg(feature = "cuda")]
pub(crate) use tuning::Entry;
pub use tuning::Tuning;

use super::target::Gpu;
use super::value::ValueId;
use crate::model::{Gate, Input};
use crate::op::{Activation, Conv2d, Pool2d};
use crate::tensor::Shape;
use select::TiledOp;
use variants::{Element, pitch};

/// Nodes, memory and packed weights for a GPU.
#[derive(Clone, Debug)]
pub(crate) struct CudaPlan {
    pub gpu: Gpu,
    pub element: Element,
    pub batch: usize,
    /// The batch sizes that choices were made for, ascending, the last being the plan's batch.
    pub sizes: Vec<usize>,
    pub input: Input,
    /// One a launch, in order.
    pub nodes: Vec<CudaNode>,
    pub values: Vec<CudaValue>,
    /// All packed weights; a [`Constant`] says where each begins.
    pub constants: Vec<u8>,
    pub arena_bytes: usize,
    /// Bytes that reductions over several blocks use, shared by all nodes.
    pub workspace_bytes: usize,
    /// Counters of 4 bytes beside the workspace, zero between launches.
    pub tickets: usize,
    /// Labels of each branch.
    pub labels: [usize; 2],
}

impl CudaPlan {
    /// The smallest size with room for `count` images, as an index of `sizes`.
    pub fn size_for(&self, count: usize) -> usize {
        self.sizes.partition_point(|&size| size < count)
    }

    /// What a node computes at a size of the plan, as far as its tile depends on it, and its tile there; none for a
    /// kernel with one tile.
    pub fn tiled(&self, node: &CudaNode, size: usize) -> Option<(Problem, Tile)> {
        let input = self.values[node.input].shape;
        let output = self.values[node.output?].shape;
        let (op, reduction, tile) = match &node.operation {
            Operation::Conv2d { algorithm, conv, projection, .. } => {
                let projected = projection.map(|projection| self.values[projection.input].shape.channels);
                match algorithm {
                    Algorithm::ImplicitGemm(choices) => (
                        TiledOp::ImplicitGemm,
                        gemm_reduction(conv, input, projected),
                        Tile::Gemm(choices[size]),
                    ),
                    Algorithm::Direct(choices) => (
                        TiledOp::Direct,
                        direct_reduction(conv, input, projected),
                        Tile::Direct(choices[size]),
                    ),
                    Algorithm::Stem | Algorithm::Depthwise => return None,
                }
            }
            Operation::AwsUnitDense { choices: Some(choices), .. } => {
                (TiledOp::AwsUnitDense, 2 * pitch(input.channels), Tile::Gemm(choices[size]))
            }
            _ => return None,
        };
        let positions = self.sizes[size] * output.pixels();
        let channels = output.channels;
        Some((Problem { op, element: self.element, positions, channels, reduction }, tile))
    }

    /// Gives every node of a problem at a size another tile of its kernel.
    pub fn retile(&mut self, size: usize, problem: &Problem, tile: Tile) {
        for index in 0..self.nodes.len() {
            if self.tiled(&self.nodes[index], size).is_none_or(|(other, _)| other != *problem) {
                continue;
            }
            match (&mut self.nodes[index].operation, tile) {
                (
                    Operation::Conv2d { algorithm: Algorithm::ImplicitGemm(choices), .. },
                    Tile::Gemm(choice),
                )
                | (Operation::AwsUnitDense { choices: Some(choices), .. }, Tile::Gemm(choice)) => {
                    choices[size] = choice;
                }
                (Operation::Conv2d { algorithm: Algorithm::Direct(choices), .. }, Tile::Direct(choice)) => {
                    choices[size] = choice;
                }
                _ => {}
            }
        }
        self.make_room();
    }

    /// Makes the workspace and the tickets as large as the largest split reduction needs.
    fn make_room(&mut self) {
        let (mut bytes, mut tickets) = (0, 0);
        for node in &self.nodes {
            for size in 0..self.sizes.len() {
                let Some((problem, Tile::Gemm(GemmChoice { variant, splits, .. }))) = self.tiled(node, size)
                else {
                    continue;
                };
                let (tile_m, tile_n) = (variant.tile_m, variant.tile_n);
                let tiles = problem.positions.div_ceil(tile_m) * problem.channels.div_ceil(tile_n);
                if splits > 1 {
                    bytes = bytes.max(splits * tiles * 2 * tile_m * tile_n * size_of::<f32>());
                    tickets = tickets.max(tiles);
                }
            }
        }
        (self.workspace_bytes, self.tickets) = (bytes, tickets);
    }
}

/// gemm_k of the implicit GEMM: the channels of each tap, and of a projection, rounded up to whole vectors.
fn gemm_reduction(conv: &Conv2d, input: Shape, projected: Option<usize>) -> usize {
    conv.kernel[0] * conv.kernel[1] * pitch(input.channels) + projected.map_or(0, pitch)
}

/// The products of one output element of the direct convolution.
fn direct_reduction(conv: &Conv2d, input: Shape, projected: Option<usize>) -> usize {
    conv.kernel[0] * conv.kernel[1] * (input.channels / conv.groups) + projected.unwrap_or(0)
}

/// A byte of the constants where something begins.
pub(crate) type Constant = usize;

/// A pair of maps, a map that both branches share, or the small arrays of a gate.
#[derive(Clone, Debug)]
pub(crate) struct CudaValue {
    pub name: String,
    /// 1 where both branches share it.
    pub branches: usize,
    pub shape: Shape,
    /// Bytes of one image in one branch; 0 for the image itself, which lies outside the arena.
    pub image_bytes: usize,
    /// Where it begins in the arena, in bytes.
    pub offset: usize,
}

impl CudaValue {
    /// Bytes from the beginning of the arena to the map that `branch` reads, of the first image.
    pub fn branch_offset(&self, branch: usize, batch: usize) -> usize {
        self.offset + if self.branches == 2 { branch * batch * self.image_bytes } else { 0 }
    }
}

/// The value of the image as the caller gives it; only the stem and `image_to_nhwc` read it.
pub(crate) const IMAGE: ValueId = 0;

/// A launch.
#[derive(Clone, Debug)]
pub(crate) struct CudaNode {
    pub operation: Operation,
    pub input: ValueId,
    /// None for heads, which write the results.
    pub output: Option<ValueId>,
    pub epilogue: CudaEpilogue,
}

/// What happens to a node's sums before they are stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct CudaEpilogue {
    pub bias: [Option<Constant>; 2],
    pub residual: Option<ValueId>,
    pub activation: Activation,
    pub mix: Mix,
}

/// The weights of an AWS-Unit that an epilogue applies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mix {
    #[default]
    None,
    Layer(Constant),
    Channel(Constant),
}

/// A kernel with what it needs beyond maps and epilogue.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Conv2d {
        algorithm: Algorithm,
        conv: Conv2d,
        weights: [Constant; 2],
        projection: Option<Projection>,
    },
    MaxPool2d(Pool2d),
    AvgPool2d(Pool2d),
    Identity,
    /// The tensor cores' tiles, or none in f32.
    AwsUnitDense {
        weights: [Constant; 2],
        choices: Option<Vec<GemmChoice>>,
    },
    AwsUnitGateMeans,
    AwsUnitGateCoefficients {
        squeeze_weight: Constant,
        squeeze_bias: Constant,
        excite_weight: Constant,
        excite_bias: Constant,
        squeezed: usize,
        gate: Gate,
    },
    AwsUnitGateMix {
        coefficients: ValueId,
    },
    /// The heads that are there, each with weight and bias.
    Heads {
        heads: [Option<[Constant; 2]>; 2],
        pooled: bool,
    },
    ImageToNhwc,
}

/// A 1x1 convolution without padding whose result is added to that of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Projection {
    pub input: ValueId,
    pub stride: [usize; 2],
}

/// How a convolution is computed; tiles one for each size of the plan.
#[derive(Clone, Debug)]
pub(crate) enum Algorithm {
    Stem,
    ImplicitGemm(Vec<GemmChoice>),
    Direct(Vec<DirectChoice>),
    Depthwise,
}

impl Operation {
    /// The kernel's name, which is that of its file.
    pub fn kernel(&self) -> &'static str {
        match self {
            Operation::Conv2d { algorithm, .. } => match algorithm {
                Algorithm::Stem => "conv2d_stem",
                Algorithm::ImplicitGemm(_) => "conv2d_implicit_gemm",
                Algorithm::Direct(_) => "conv2d_direct",
                Algorithm::Depthwise => "conv2d_depthwise",
            },
            Operation::MaxPool2d(_) | Operation::AvgPool2d(_) => "pool2d",
            Operation::Identity => "identity",
            Operation::AwsUnitDense { .. } => "aws_unit_dense",
            Operation::AwsUnitGateMeans => "aws_unit_gate_means",
            Operation::AwsUnitGateCoefficients { .. } => "aws_unit_gate_coefficients",
            Operation::AwsUnitGateMix { .. } => "aws_unit_gate_mix",
            Operation::Heads { .. } => "head",
            Operation::ImageToNhwc => "image_to_nhwc",
        }
    }

    /// The tile at the largest size.
    fn largest(&self) -> Option<Tile> {
        match self {
            Operation::Conv2d { algorithm: Algorithm::ImplicitGemm(choices), .. }
            | Operation::AwsUnitDense { choices: Some(choices), .. } => {
                choices.last().copied().map(Tile::Gemm)
            }
            Operation::Conv2d { algorithm: Algorithm::Direct(choices), .. } => {
                choices.last().copied().map(Tile::Direct)
            }
            _ => None,
        }
    }

    /// The tile at the largest size, in words.
    pub fn tile(&self) -> String {
        match (self, self.largest()) {
            (_, Some(tile)) => tile.to_string(),
            (Operation::Conv2d { algorithm: Algorithm::Stem, .. }, _) => {
                let positions = variants::STEM_PATCH_H * variants::STEM_PATCH_W;
                format!("{positions}x{}", variants::STEM_CHANNELS)
            }
            _ => "-".to_owned(),
        }
    }

    /// Whether a tuning chose the tile at the largest size.
    pub fn is_tuned(&self) -> bool {
        self.largest().is_some_and(|tile| tile.is_tuned())
    }
}
