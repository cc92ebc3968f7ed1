//! Every decision about how a model runs, made once: fusion, kernels, tiles, memory, packed weights.
//!
//! [`Plan::build`] looks for the device that the options name, and is pure from there on: no file, and what it gives
//! depends on model, options and target alone. Behind it nobody chooses. `println!("{plan}")` shows what was chosen.

mod arena;
mod build;
mod conv;
pub(crate) mod conv_max_pool;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the backend reads it"))]
pub(crate) mod cuda;
mod fuse;
mod node;
mod options;
mod pack;
mod target;
pub(crate) mod tile;
mod value;
pub(crate) mod winograd;

use std::fmt;
use std::sync::Arc;

pub(crate) use cuda::CudaPlan;
pub use cuda::Tuning;
pub(crate) use node::{
    BlockGroup, ConvKernel, ConvMaxPool, CpuNode, DepthwiseKernel, Kernel, StoredWeights, View,
    WinogradKernel,
};
pub use node::{Node, Work};
pub use options::{Conv2dAlgorithm, PlanOptions};
pub use target::{Gpu, Isa, Precision, Target};
pub(crate) use value::{Value, ValueId};
pub use winograd::WinogradTile;

use crate::device::Resolved;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Input, Model};
use crate::tensor::Branch;

/// The scores that a head gives, and how they are read.
#[derive(Clone, Debug)]
pub(crate) struct HeadLabels {
    pub labels: Vec<String>,
    /// Empty for the emotion head.
    pub thresholds: Vec<f32>,
}

/// A model prepared for one backend: what to launch, in which order, on which memory.
///
/// An engine takes the part that runs, weights and all; what a plan says of itself stays with it.
#[derive(Debug)]
pub struct Plan {
    target: Target,
    note: Option<String>,
    batch: usize,
    input: Input,
    heads: Arc<[HeadLabels; 2]>,
    flop: u64,
    keep_values: bool,
    nodes: Vec<Node>,
    /// Of each node, the tile of Winograd's algorithm where that computes it.
    winograd_tiles: Vec<Option<WinogradTile>>,
    precision: Precision,
    /// Images that go through the nodes together.
    pass: usize,
    arena_bytes: u64,
    weight_bytes: u64,
    /// What the backend runs, until an engine takes it.
    backend: Option<BackendPlan>,
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
    /// keep it. For a CPU both branches are packed at once, one of them on a thread that ends with the layer. Errors: a
    /// device that is not there, a batch of 0 or above 1048576, a precision that the backend does not have, feature maps
    /// beyond the address space, a tuning with a tile that the GPU has no room for.
    pub fn build(model: Model, options: &PlanOptions) -> Result<Self> {
        let PlanOptions { precision, batch, keep_values, conv2d, ref tuning, .. } = *options;
        if batch == 0 || batch > MAX_BATCH {
            let expected = format!("from 1 to {MAX_BATCH} images");
            return Err(Error::new(ErrorKind::Plan, "batch", expected, batch.to_string()));
        }
        let Resolved { target, note } = options.resolve()?;
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
        let reference_bytes = model.parameters() * size_of::<f32>() as u64;
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
        let packed_bytes = nodes.iter().map(|node: &Node| node.weight_bytes).sum();
        let (pass, arena_bytes, weight_bytes) = match &backend {
            BackendPlan::Reference(_) => (1, 0, reference_bytes),
            BackendPlan::Cpu(plan) => (plan.pass, (plan.arena_len * size_of::<f32>()) as u64, packed_bytes),
            BackendPlan::Cuda(plan) => (batch, plan.arena_bytes as u64, packed_bytes),
        };
        let plan = Plan {
            target,
            note,
            batch,
            input,
            heads: Arc::new(heads),
            flop,
            keep_values,
            winograd_tiles: winograd_tiles(&backend),
            nodes,
            precision,
            pass,
            arena_bytes,
            weight_bytes,
            backend: Some(backend),
        };
        crate::log::log!(info, "a plan for {}: {}", plan.heading(), plan.sums());
        if let Some(note) = &plan.note {
            crate::log::log!(info, "{note}");
        }
        Ok(plan)
    }

    /// Takes out what the backend runs; none where an engine has done so before.
    pub(crate) fn take_backend(&mut self) -> Option<BackendPlan> {
        self.backend.take()
    }

    /// The backend the plan is made for: what the options' device has come to.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Why [`Device::Auto`](crate::Device::Auto) took no GPU, where it did not.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
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

    pub(crate) fn heads(&self) -> &Arc<[HeadLabels; 2]> {
        &self.heads
    }

    /// The tile of a node that Winograd's algorithm computes.
    pub(crate) fn winograd_tile(&self, node: usize) -> Option<WinogradTile> {
        self.winograd_tiles.get(node).copied().flatten()
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

    /// Launches a run takes.
    pub fn launches(&self) -> usize {
        self.nodes().iter().map(Node::launches).sum()
    }

    /// Bytes of feature maps that a session owns, for as many images as run together.
    pub fn arena_bytes(&self) -> u64 {
        self.arena_bytes
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

/// Of each node, the tile of Winograd's algorithm where that computes it.
fn winograd_tiles(backend: &BackendPlan) -> Vec<Option<WinogradTile>> {
    let tile = |node: &CpuNode| match &node.kernel {
        Kernel::Winograd(winograd) => Some(winograd.tile),
        _ => None,
    };
    match backend {
        BackendPlan::Cpu(plan) => plan.nodes.iter().map(tile).collect(),
        BackendPlan::Reference(_) | BackendPlan::Cuda(_) => Vec::new(),
    }
}

/// The plan as a table: a row a node, then the sums.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes();
        let width = nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max("node".len());
        writeln!(f, "{}", self.heading())?;
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
        f.write_str(&self.sums())
    }
}

impl Plan {
    /// What it is for, in words.
    fn heading(&self) -> String {
        format!("{}, {}, at batch {}{}", self.target, self.precision, self.batch, self.passes())
    }

    /// What it takes, in words.
    fn sums(&self) -> String {
        format!(
            "{} launches, {:.2} MB of weights, {:.2} MB of arena, {:.1} MFLOP an image",
            self.launches(),
            self.weight_bytes() as f64 / 1e6,
            self.arena_bytes() as f64 / 1e6,
            self.flop as f64 / 1e6,
        )
    }

    /// How a batch is cut, in words, where it is.
    fn passes(&self) -> String {
        match self.target {
            Target::Cpu(_) if self.pass < self.batch => format!(", {} images at a time", self.pass),
            _ => String::new(),
        }
    }
}
