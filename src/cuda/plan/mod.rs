//! The plan for a GPU: which kernel runs each layer pair, with which tile, on which memory.
//!
//! ```text
//! Graph --decide--> launches, values --place--> offsets --pack--> constants
//!         (all choices)               (all sizes)        (all weights)
//! ```
//!
//! A value is a map a branch, NHWC in the element type of the plan, channels padded to whole vectors
//! ([`variants::pitch`]), for as many images as the plan's batch; two branches lie one behind the other. A value that
//! only a concatenation reads may be a part of that one's. All weights, packed as the kernels read them ([`pack`]), stand in one block of bytes, the constants. `select` chooses
//! tiles for each batch size that gets a CUDA graph; [`variants`] is the table it chooses from, and a [`Tuning`] has what
//! was measured.

mod constants;
mod decide;
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod pack;
mod place;
mod select;
mod tuning;
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod variants;

#[cfg(feature = "cuda")]
pub(crate) use select::candidates;
pub(crate) use select::{DirectChoice, GemmChoice, Problem, Tile};
#[cfg(feature = "cuda")]
pub(crate) use tuning::Entry;
pub use tuning::Tuning;

use crate::error::Result;
use crate::graph::Graph;
use crate::graph::arena::Uses;
use crate::graph::node::{Node, ValueId};
use crate::graph::target::{Gpu, Precision};
use crate::model::{Gate, Head, HeadKind, Input, Model};
use crate::op::{Activation, Conv2d, Pool2d};
use crate::tensor::Shape;
use select::TiledOp;
use variants::{Element, Splitting, pitch, splitting, squeeze_excite_parts};

/// Nodes, memory and packed weights for a GPU.
#[derive(Clone, Debug)]
pub(crate) struct CudaPlan {
    pub gpu: Gpu,
    pub element: Element,
    pub batch: usize,
    /// Of the model: 1 or 2.
    pub branches: usize,
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
    /// What each head of the model gives, in its order.
    pub heads: Vec<HeadNumbers>,
}

/// What a head gives for an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadNumbers {
    /// How many numbers.
    pub len: usize,
    pub kind: HeadKind,
    /// Whose maps it reads.
    pub branch: usize,
}

impl HeadNumbers {
    fn of(head: &Head) -> HeadNumbers {
        HeadNumbers { len: head.len(), kind: head.kind(), branch: head.branch() }
    }

    /// How many probabilities it has beside them: as many, or none.
    pub fn probabilities(self) -> usize {
        match self.kind {
            HeadKind::Classes | HeadKind::Units => self.len,
            HeadKind::Values => 0,
        }
    }
}

/// How a model is to run on a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CudaOptions<'a> {
    pub gpu: Gpu,
    pub precision: Precision,
    pub batch: usize,
    /// No two values share memory.
    pub keep_values: bool,
    pub tuning: &'a Tuning,
}

/// A plan whose weights are still to be packed, and what its nodes say of themselves.
pub(crate) struct Outline {
    plan: CudaPlan,
    told: Vec<Node>,
    constants: constants::Constants,
}

impl Outline {
    /// Decides and places.
    pub fn new(model: &Model, options: CudaOptions<'_>) -> Result<Outline> {
        let decided = decide::decide(model, &Graph::new(model), &options)?;
        let decide::Decisions { element, sizes, nodes, told, mut values, constants } = decided;
        let CudaOptions { gpu, batch, keep_values, .. } = options;
        let arena_bytes = place::place(&nodes, &mut values, element, batch, keep_values)?;
        let mut plan = CudaPlan {
            gpu,
            element,
            batch,
            branches: model.branches().len(),
            sizes,
            input: model.input().clone(),
            nodes,
            values,
            constants: Vec::new(),
            arena_bytes,
            workspace_bytes: 0,
            tickets: 0,
            heads: model.heads().iter().map(HeadNumbers::of).collect(),
        };
        plan.make_room();
        Ok(Outline { plan, told, constants })
    }

    /// What the launches say of themselves.
    pub fn nodes(&self) -> &[Node] {
        &self.told
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena_bytes
    }

    /// Packs the weights of the model that the outline was made for.
    pub fn pack(self, model: Model) -> Result<CudaPlan> {
        let Outline { mut plan, constants, .. } = self;
        plan.constants = constants.pack(model)?;
        Ok(plan)
    }
}

impl CudaPlan {
    /// The smallest size with room for `count` images, as an index of `sizes`.
    pub fn size_for(&self, count: usize) -> usize {
        self.sizes.partition_point(|&size| size < count)
    }

    /// What a node computes at a size of the plan, as far as its tile depends on it, and its tile there; none for a
    /// kernel with one tile.
    pub fn tiled(&self, node: &CudaNode, size: usize) -> Option<(Problem, Tile)> {
        let tile = node.operation.tile_at(|_| size)?;
        let input = self.values[node.input].shape;
        let output = self.values[node.output?].shape;
        let projection = node.operation.projection();
        let projected = projection.map(|projection| self.values[projection.input].shape.channels);
        let (op, reduction) = match (&node.operation, tile) {
            (Operation::Conv2d { conv, .. }, Tile::Gemm(_)) => {
                (TiledOp::ImplicitGemm, gemm_reduction(conv, input, projected))
            }
            (Operation::Conv2d { conv, .. }, Tile::Direct(_)) => {
                (TiledOp::Direct, direct_reduction(conv, input, projected))
            }
            (_, Tile::Gemm(_) | Tile::Direct(_)) => (TiledOp::AwsUnitDense, 2 * pitch(input.channels)),
        };
        let (positions, channels) = (self.sizes[size] * output.pixels(), output.channels);
        let (element, branches) = (self.element, self.branches);
        Some((Problem { op, element, branches, positions, channels, reduction }, tile))
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

    /// Makes the workspace and the tickets as large as the largest reduction over several blocks needs.
    fn make_room(&mut self) {
        let mut most = Splitting::default();
        for node in &self.nodes {
            if let Operation::SqueezeExcite { .. } = node.operation {
                let input = self.values[node.input].shape;
                let images = self.batch * self.branches;
                let sums = images * squeeze_excite_parts(input.pixels()) * pitch(input.channels);
                most.workspace_bytes = most.workspace_bytes.max(sums * size_of::<f32>());
                most.tickets = most.tickets.max(images);
            }
            for size in 0..self.sizes.len() {
                if let Some((problem, Tile::Gemm(GemmChoice { variant, splits, .. }))) =
                    self.tiled(node, size)
                {
                    let Splitting { workspace_bytes, tickets } =
                        splitting(variant, self.branches, problem.positions, problem.channels, splits);
                    most.workspace_bytes = most.workspace_bytes.max(workspace_bytes);
                    most.tickets = most.tickets.max(tickets);
                }
            }
        }
        (self.workspace_bytes, self.tickets) = (most.workspace_bytes, most.tickets);
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
    /// Bytes of one image in one branch, of a part those of the whole; 0 for the image itself, which lies outside the
    /// arena.
    pub image_bytes: usize,
    /// Elements from one position to the next.
    pub pitch: usize,
    /// The value of a concatenation that it is a part of, and its first channel there.
    pub within: Option<(ValueId, usize)>,
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
    pub scale: Option<ValueId>,
    pub residual: Option<ValueId>,
    pub activation: Activation,
    /// Of a PReLU.
    pub slopes: [Option<Constant>; 2],
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
    AdaptiveAvgPool2d,
    Upsample2d([usize; 2]),
    /// Copies what nobody wrote in place.
    Concat(Copies),
    /// The global average of the input and two 1x1 convolutions of it.
    SqueezeExcite {
        squeezed: usize,
        squeeze: Excitation,
        excite: Excitation,
    },
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
    /// Linear layers.
    Heads {
        heads: Vec<LinearHead>,
        pooled: bool,
    },
    /// The scores of the head of this index: of what the node reads, or of the logits that are there.
    HeadScore {
        head: usize,
        of_logits: bool,
    },
    ImageToNhwc,
}

/// Maps that one launch copies side by side.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    /// Each with the output channel that its first one is copied to.
    pub inputs: Vec<(ValueId, usize)>,
    /// The first channel that is written, and the one behind the last.
    pub channels: [usize; 2],
}

/// One of the two layers of a squeeze-and-excitation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excitation {
    pub weights: [Constant; 2],
    pub bias: [Constant; 2],
    pub activation: Activation,
}

/// A head with a linear layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearHead {
    pub head: usize,
    pub branch: usize,
    pub weight: Constant,
    pub bias: Constant,
    /// Whether its scores are computed with it.
    pub scored: bool,
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

impl Uses for CudaNode {
    fn reads(&self) -> impl Iterator<Item = ValueId> {
        let of_operation = match &self.operation {
            Operation::Conv2d { projection, .. } => projection.map(|projection| projection.input),
            Operation::AwsUnitGateMix { coefficients } => Some(*coefficients),
            Operation::MaxPool2d(_)
            | Operation::AvgPool2d(_)
            | Operation::AdaptiveAvgPool2d
            | Operation::Upsample2d(_)
            | Operation::Concat(_)
            | Operation::SqueezeExcite { .. }
            | Operation::Identity
            | Operation::AwsUnitDense { .. }
            | Operation::AwsUnitGateMeans
            | Operation::AwsUnitGateCoefficients { .. }
            | Operation::Heads { .. }
            | Operation::HeadScore { .. }
            | Operation::ImageToNhwc => None,
        };
        let single = [Some(self.input), self.epilogue.scale, self.epilogue.residual, of_operation];
        single.into_iter().flatten().chain(self.operation.copied().iter().map(|(value, _)| *value))
    }

    fn writes(&self) -> Option<ValueId> {
        self.output
    }
}

impl Operation {
    /// The 1x1 convolution whose result is added to that of another.
    pub fn projection(&self) -> Option<Projection> {
        match self {
            Operation::Conv2d { projection, .. } => *projection,
            Operation::MaxPool2d(_)
            | Operation::AvgPool2d(_)
            | Operation::AdaptiveAvgPool2d
            | Operation::Upsample2d(_)
            | Operation::Concat(_)
            | Operation::SqueezeExcite { .. }
            | Operation::Identity
            | Operation::AwsUnitDense { .. }
            | Operation::AwsUnitGateMeans
            | Operation::AwsUnitGateCoefficients { .. }
            | Operation::AwsUnitGateMix { .. }
            | Operation::Heads { .. }
            | Operation::HeadScore { .. }
            | Operation::ImageToNhwc => None,
        }
    }

    /// The maps that a concatenation copies, and where to; nothing of another operation.
    pub fn copied(&self) -> &[(ValueId, usize)] {
        if let Operation::Concat(copies) = self { &copies.inputs } else { &[] }
    }

    /// The kernel's name, which is that of its file.
    pub fn kernel(&self) -> &'static str {
        match self {
            Operation::Conv2d { algorithm, .. } => match algorithm {
                Algorithm::Stem => "conv2d_stem",
                Algorithm::ImplicitGemm(_) => "conv2d_implicit_gemm",
                Algorithm::Direct(_) => "conv2d_direct",
                Algorithm::Depthwise => "conv2d_depthwise",
            },
            Operation::MaxPool2d(_) | Operation::AvgPool2d(_) | Operation::AdaptiveAvgPool2d => "pool2d",
            Operation::Upsample2d(_) => "upsample2d",
            Operation::Concat(_) => "concat",
            Operation::SqueezeExcite { .. } => "squeeze_excite",
            Operation::Identity => "identity",
            Operation::AwsUnitDense { .. } => "aws_unit_dense",
            Operation::AwsUnitGateMeans => "aws_unit_gate_means",
            Operation::AwsUnitGateCoefficients { .. } => "aws_unit_gate_coefficients",
            Operation::AwsUnitGateMix { .. } => "aws_unit_gate_mix",
            Operation::Heads { .. } => "head",
            Operation::HeadScore { .. } => "head_score",
            Operation::ImageToNhwc => "image_to_nhwc",
        }
    }

    /// The tile at the size that `index` gives for so many sizes; none of a kernel with one tile.
    fn tile_at(&self, index: impl Fn(usize) -> usize) -> Option<Tile> {
        let gemm = |choices: &Vec<GemmChoice>| choices.get(index(choices.len())).copied().map(Tile::Gemm);
        match self {
            Operation::Conv2d { algorithm, .. } => match algorithm {
                Algorithm::ImplicitGemm(choices) => gemm(choices),
                Algorithm::Direct(choices) => choices.get(index(choices.len())).copied().map(Tile::Direct),
                Algorithm::Stem | Algorithm::Depthwise => None,
            },
            Operation::AwsUnitDense { choices, .. } => choices.as_ref().and_then(gemm),
            Operation::MaxPool2d(_)
            | Operation::AvgPool2d(_)
            | Operation::AdaptiveAvgPool2d
            | Operation::Upsample2d(_)
            | Operation::Concat(_)
            | Operation::SqueezeExcite { .. }
            | Operation::Identity
            | Operation::AwsUnitGateMeans
            | Operation::AwsUnitGateCoefficients { .. }
            | Operation::AwsUnitGateMix { .. }
            | Operation::Heads { .. }
            | Operation::HeadScore { .. }
            | Operation::ImageToNhwc => None,
        }
    }

    /// The tile at the largest size.
    fn largest(&self) -> Option<Tile> {
        self.tile_at(|sizes| sizes.saturating_sub(1))
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
