//! Every decision about how a model runs, made once: fusion, kernels, tiles, memory, packed weights.
//!
//! [`Plan::build`] is pure: no file, no device, and what it gives depends on its arguments alone. Behind it nobody
//! chooses. `println!("{plan}")` shows what was chosen.

mod arena;
mod build;
mod conv;
pub(crate) mod conv_max_pool;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the backend reads it"))]
pub mod cuda;
mod fuse;
mod node;
mod pack;
mod target;
pub mod tile;
mod value;
pub(crate) mod winograd;

use std::fmt;

pub(crate) use cuda::CudaPlan;
pub use cuda::Tuning;
pub(crate) use node::{
    BlockGroup, ConvKernel, ConvMaxPool, CpuNode, DepthwiseKernel, Kernel, StoredWeights, View,
    WinogradKernel,
};
pub use node::{Node, Work};
pub use target::{Gpu, Isa, Precision, Target};
pub use value::{Value, ValueId};
pub use winograd::WinogradTile;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Input, Model};
use crate::tensor::Branch;

/// How a model is to run.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The backend.
    pub target: Target,
    /// The type of the feature maps; `None` takes the backend's own: f32 on a CPU, f16 on a GPU.
    pub precision: Option<Precision>,
    /// The most images that one run takes. Plans of different batch may use different algorithms, and differ in the last
    /// bits; a plan gives an image the same bits with any other images.
    pub batch: usize,
    /// Keeps every node's output until the run ends, for [`Session::value`](crate::Session::value).
    pub keep_values: bool,
    /// For a GPU: measured tiles, which take the place of the plan's own choices.
    pub tuning: Tuning,
    /// How the CPU backend computes convolutions that it can compute in several ways.
    pub conv2d: Conv2dAlgorithm,
}

impl Default for PlanOptions {
    /// One image at a time on the CPU at hand.
    fn default() -> Self {
        PlanOptions {
            target: Target::default(),
            precision: None,
            batch: 1,
            keep_values: false,
            tuning: Tuning::default(),
            conv2d: Conv2dAlgorithm::Auto,
        }
    }
}

/// How to compute a convolution with a 3x3 kernel of stride 1 and dilation 1 in one group; there is one way for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conv2dAlgorithm {
    /// What should take the least time, by a model of its cost. It knows shapes and the batch alone.
    #[default]
    Auto,
    /// A sum of products: the smallest rounding error.
    Direct,
    /// Winograd's minimal filtering, with larger rounding errors, some ten times with F4.
    Winograd(WinogradTile),
}

impl Conv2dAlgorithm {
    /// Every way, without [`Auto`](Self::Auto).
    pub const ALL: [Conv2dAlgorithm; 3] = [
        Conv2dAlgorithm::Direct,
        Conv2dAlgorithm::Winograd(WinogradTile::F2),
        Conv2dAlgorithm::Winograd(WinogradTile::F4),
    ];
}

impl fmt::Display for Conv2dAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conv2dAlgorithm::Auto => f.write_str("auto"),
            Conv2dAlgorithm::Direct => f.write_str("direct"),
            Conv2dAlgorithm::Winograd(tile) => tile.fmt(f),
        }
    }
}

/// The scores that a head gives, and how they are read.
#[derive(Clone, Debug)]
pub(crate) struct HeadLabels {
    pub labels: Vec<String>,
    /// Empty for the emotion head.
    pub thresholds: Vec<f32>,
}

/// A model prepared for one backend: what to launch, in which order, on which memory.
#[derive(Debug)]
pub struct Plan {
    target: Target,
    batch: usize,
    input: Input,
    heads: [HeadLabels; 2],
    flop: u64,
    keep_values: bool,
    nodes: Vec<Node>,
    precision: Precision,
    pub(crate) backend: BackendPlan,
}

/// What a plan holds for its backend.
#[derive(Debug)]
pub(crate) enum BackendPlan {
    /// The reference runs the model layer by layer, as it stands.
    Reference(Box<Model>),
    Cpu(CpuPlan),
    Cuda(Box<CudaPlan>),
}

/// Nodes and memory for the CPU backend.
#[derive(Debug)]
pub(crate) struct CpuPlan {
    pub isa: Isa,
    pub nodes: Vec<CpuNode>,
    pub values: Vec<Value>,
    pub image: ValueId,
    pub head_logits: [ValueId; 2],
    /// Images that go through the nodes together; a batch takes as many passes as it needs.
    pub pass: usize,
    /// Elements of f32 in the arena, for one pass.
    pub arena_len: usize,
    /// Elements of f32 that each thread needs for itself.
    pub scratch_len: usize,
}

/// The largest batch: beyond it, indices of images and tasks could overflow.
const MAX_BATCH: usize = 1 << 20;

impl Plan {
    /// Makes the plan for `model`.
    ///
    /// Takes the model, and frees its weights layer by layer as they are packed; clone it first, which is cheap, to
    /// keep it. For a CPU both branches are packed at once, one of them on a thread that ends with the layer. Errors:
    /// a batch of 0 or above 1048576, a precision that the backend does not have, feature maps beyond the address
    /// space, a tuning with a tile that the GPU has no room for.
    pub fn build(model: Model, options: &PlanOptions) -> Result<Self> {
        let PlanOptions { target, precision, batch, keep_values, conv2d, ref tuning } = *options;
        if batch == 0 || batch > MAX_BATCH {
            let expected = format!("from 1 to {MAX_BATCH} images");
            return Err(Error::new(ErrorKind::Plan, "batch", expected, batch.to_string()));
        }
        let precision = match (target, precision) {
            (Target::Cuda(_), precision) => precision.unwrap_or(Precision::F16),
            (_, None | Some(Precision::F32)) => Precision::F32,
            (_, Some(other)) => {
                let expected = format!("f32, the precision of {target}");
                return Err(Error::new(ErrorKind::Plan, "precision", expected, other.to_string()));
            }
        };
        let input = model.input().clone();
        let flop = model.flop();
        let heads = Branch::BOTH.map(|branch| {
            let head = model.head(branch);
            HeadLabels { labels: head.labels().to_vec(), thresholds: head.thresholds().to_vec() }
        });
        let (nodes, backend) = match target {
            Target::Reference => (Vec::new(), BackendPlan::Reference(Box::new(model))),
            Target::Cpu(isa) => {
                let build::Built { nodes, kernels, values, image, head_logits, pass, arena_len, scratch_len } =
                    build::build(model, isa, batch, conv2d, keep_values)?;
                let plan =
                    CpuPlan { isa, nodes: kernels, values, image, head_logits, pass, arena_len, scratch_len };
                (nodes, BackendPlan::Cpu(plan))
            }
            Target::Cuda(gpu) => {
                let (nodes, plan) = cuda::build(model, gpu, precision, batch, keep_values, tuning)?;
                (nodes, BackendPlan::Cuda(Box::new(plan)))
            }
        };
        Ok(Plan { target, batch, input, heads, flop, keep_values, nodes, precision, backend })
    }

    /// The backend the plan is made for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The most images that one run takes.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The image the network reads.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Multiplications and additions for one image, as the model states them.
    pub fn flop(&self) -> u64 {
        self.flop
    }

    /// The labels of a branch's scores.
    pub fn labels(&self, branch: Branch) -> &[String] {
        &self.heads[branch as usize].labels
    }

    pub(crate) fn head(&self, branch: Branch) -> &HeadLabels {
        &self.heads[branch as usize]
    }

    /// The tile of a node that Winograd's algorithm computes.
    pub(crate) fn winograd_tile(&self, node: usize) -> Option<WinogradTile> {
        match &self.backend {
            BackendPlan::Cpu(plan) => match &plan.nodes[node].kernel {
                Kernel::Winograd(winograd) => Some(winograd.tile),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn keeps_values(&self) -> bool {
        self.keep_values
    }

    /// The type in which feature maps are stored and multiplied.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The nodes in the order in which they run; none for the reference, which runs the model itself.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Launches that a run takes on a GPU; elsewhere the number of nodes.
    pub fn launches(&self) -> usize {
        self.nodes().iter().map(Node::launches).sum()
    }

    /// Bytes of feature maps that a session owns, for as many images as run together.
    pub fn arena_bytes(&self) -> u64 {
        match &self.backend {
            BackendPlan::Reference(_) => 0,
            BackendPlan::Cpu(plan) => (plan.arena_len * size_of::<f32>()) as u64,
            BackendPlan::Cuda(plan) => plan.arena_bytes as u64,
        }
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> u64 {
        match &self.backend {
            BackendPlan::Reference(model) => model.parameters() * size_of::<f32>() as u64,
            BackendPlan::Cpu(_) | BackendPlan::Cuda(_) => {
                self.nodes.iter().map(|node| node.weight_bytes).sum()
            }
        }
    }
}

/// The plan as a table: a row a node, then the sums.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes();
        let width = nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max("node".len());
        writeln!(f, "{}, {}, at batch {}{}", self.target, self.precision, self.batch, self.passes())?;
        if !nodes.is_empty() {
            writeln!(
                f,
                "{:<width$}  {:<20}  {:>8}  {:<28}  {:>9}  {:>9}",
                "node", "kernel", "tile", "fused behind it", "KB", "MFLOP"
            )?;
        }
        for node in nodes {
            writeln!(
                f,
                "{:<width$}  {:<20}  {:>8}  {:<28}  {:>9.1}  {:>9.2}",
                node.name,
                node.kernel,
                node.tile.clone() + if node.tuned { "*" } else { "" },
                node.fused,
                node.bytes as f64 / 1e3,
                node.flop as f64 / 1e6,
            )?;
        }
        let tuned = nodes.iter().filter(|node| node.tuned).count();
        if tuned > 0 {
            writeln!(f, "* {tuned} of {} tiles by a tuning", nodes.len())?;
        }
        let counted = match self.target {
            Target::Cuda(_) => "launches",
            Target::Cpu(_) | Target::Reference => "nodes",
        };
        write!(
            f,
            "{} {counted}, {:.2} MB of weights, {:.2} MB of arena, {:.1} MFLOP an image",
            self.launches(),
            self.weight_bytes() as f64 / 1e6,
            self.arena_bytes() as f64 / 1e6,
            self.flop as f64 / 1e6,
        )
    }
}

impl Plan {
    /// How a batch is cut, in words, where it is.
    fn passes(&self) -> String {
        match &self.backend {
            BackendPlan::Cpu(plan) if plan.pass < self.batch => format!(", {} images at a time", plan.pass),
            _ => String::new(),
        }
    }
}
