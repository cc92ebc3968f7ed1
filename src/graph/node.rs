//! What a plan says of itself: one node per launch, in the order in which they run.

use super::winograd::WinogradTile;
use crate::op::Activation;

/// The index of a value of a plan: a feature map, or a pair of them, with its place in memory.
pub(crate) type ValueId = usize;

/// One launch: what of the model it computes, and how.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) kernel: String,
    pub(crate) tile: String,
    pub(crate) tuned: bool,
    pub(crate) fused: String,
    /// The tile of a node that Winograd's algorithm computes.
    pub(crate) winograd: Option<WinogradTile>,
    /// All that the operator reads, in its order.
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) scale: Option<ValueId>,
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

/// What is fused behind an operator in words; `scale` names the map that it is multiplied with, `added` the maps that are
/// added.
pub(crate) fn fused_words(
    scale: Option<&str>,
    added: &[&str],
    activation: Activation,
    mixes: bool,
    pooled: Option<&str>,
) -> String {
    let mut stages: Vec<String> = scale.iter().map(|name| format!("* {name}")).collect();
    stages.extend(added.iter().map(|name| format!("+ {name}")));
    if activation != Activation::None {
        stages.push(activation.name().to_owned());
    }
    if mixes {
        stages.push("aws".to_owned());
    }
    stages.extend(pooled.map(str::to_owned));
    stages.join(", ")
}

/// The part of the model that a node computes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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
    /// The logits of these heads.
    Heads {
        /// Their indices.
        heads: Vec<usize>,
        /// The global average pooling that is computed on the way, where the heads read one.
        pooled: Option<usize>,
    },
}
