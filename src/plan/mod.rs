//! Every decision about how a model runs, made once: fusion, kernels, tiles, memory, packed weights.
//!
//! [`Plan::build`] looks for the device that the options name, and is pure from there on: no file, and what it gives
//! depends on model, options and target alone. Behind it nobody chooses. `println!("{plan}")` shows what was chosen. Its
//! phases are those of a backend's own plan module:
//!
//! ```text
//! model --graph--> steps --decide--> kernels, tiles, values --place--> offsets --pack--> weights
//! ```
//!
//! All but the last are [`Plan::outline`].

// An operator or an instruction set that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]

mod options;

use std::fmt;
use std::sync::Arc;

pub use crate::cuda::plan::Tuning;
pub use crate::graph::node::{Node, Work};
pub use crate::graph::target::{Conv2dAlgorithm, Gpu, Isa, Precision, Target};
pub use crate::graph::winograd::WinogradTile;
pub use options::PlanOptions;

use crate::cpu::plan::{self as cpu_plan, CpuOptions, CpuPlan};
use crate::cuda::plan::{self as cuda_plan, CudaOptions, CudaPlan};
use crate::device::Resolved;
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::model::{Input, Model};
use crate::predictions::HeadLabels;

/// A model prepared for one backend: what to launch, in which order, on which memory.
///
/// An engine takes the part that runs, weights and all; what a plan says of itself stays with it.
#[derive(Debug)]
pub struct Plan {
    target: Target,
    note: Option<String>,
    batch: usize,
    input: Input,
    branches: usize,
    heads: Arc<[HeadLabels]>,
    flop: u64,
    keep_values: bool,
    nodes: Vec<Node>,
    precision: Precision,
    /// Images that run together.
    pass: usize,
    arena_bytes: u64,
    weight_bytes: u64,
    /// None in an outline, and once an engine has taken it.
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

/// What a backend has decided on and placed; packing its weights makes a plan of it.
enum Outline {
    Reference,
    Cpu(cpu_plan::Outline),
    Cuda(Box<cuda_plan::Outline>),
}

impl Outline {
    fn pack(self, model: Model) -> Result<BackendPlan> {
        Ok(match self {
            Outline::Reference => BackendPlan::Reference(Box::new(model)),
            Outline::Cpu(outline) => BackendPlan::Cpu(outline.pack(model)?),
            Outline::Cuda(outline) => BackendPlan::Cuda(Box::new(outline.pack(model)?)),
        })
    }
}

/// The largest batch: beyond it, indices of images and tasks could overflow.
const MAX_BATCH: usize = 1 << 20;

impl Plan {
    /// Makes the plan for `model`.
    ///
    /// Takes the model, and frees its weights as they are packed; clone it first, which is cheap, to keep it. Layers are
    /// packed on a few threads, which end with it. Errors: those of [`outline`](Self::outline); weights that the precision
    /// cannot hold; not enough memory.
    pub fn build(model: Model, options: &PlanOptions) -> Result<Self> {
        let _environment = FloatEnvironment::enter();
        let (mut plan, outline) = Self::decide(&model, options)?;
        // Layer by layer, packed weights take the place of the model's; a few layers at a time have both, and what is computed
        // between them.
        const AT_ONCE: u64 = 2;
        let largest = plan.nodes.iter().map(|node| node.weight_bytes).max().unwrap_or(0);
        let more = plan.weight_bytes.saturating_sub(model.own_bytes()) + AT_ONCE * largest;
        crate::memory::require(more, "weights", "packed weights")?;
        plan.backend = Some(outline.pack(model)?);
        crate::log::log!(info, "a plan for {}: {}", plan.heading(), plan.sums());
        if let Some(note) = &plan.note {
            crate::log::log!(info, "{note}");
        }
        Ok(plan)
    }

    /// A plan without weights: everything that it says of itself, in a moment. No engine takes it.
    ///
    /// Errors: a device that is not there, a batch of 0 or above 1048576, a precision that the backend does not have, feature maps beyond the address
    /// space, a tuning with a tile that the GPU has no room for.
    pub fn outline(model: &Model, options: &PlanOptions) -> Result<Self> {
        let _environment = FloatEnvironment::enter();
        Self::decide(model, options).map(|(plan, _)| plan)
    }

    fn decide(model: &Model, options: &PlanOptions) -> Result<(Self, Outline)> {
        let PlanOptions { precision, batch, keep_values, conv2d, ref tuning, .. } = *options;
        if batch == 0 || batch > MAX_BATCH {
            let expected = format!("from 1 to {MAX_BATCH} images");
            return Err(Error::new(ErrorKind::Plan, "batch", expected, batch.to_string()));
        }
        let Resolved { target, note } = options.resolve()?;
        let precision = match (target, precision) {
            (Target::Cuda(_), precision) => precision.unwrap_or(Precision::F16),
            (Target::Cpu(_) | Target::Reference, None | Some(Precision::F32)) => Precision::F32,
            (Target::Cpu(_) | Target::Reference, Some(other @ (Precision::F16 | Precision::BF16))) => {
                let expected = format!("f32, the precision of {target}");
                return Err(Error::new(ErrorKind::Plan, "precision", expected, other.to_string()));
            }
        };
        let mut plan = Plan {
            target,
            note,
            batch,
            input: model.input().clone(),
            branches: model.branches().len(),
            heads: HeadLabels::of(model),
            flop: model.flop(),
            keep_values,
            nodes: Vec::new(),
            precision,
            pass: batch,
            arena_bytes: 0,
            weight_bytes: 0,
            backend: None,
        };
        let outline = match target {
            Target::Reference => {
                plan.weight_bytes = model.parameters() * size_of::<f32>() as u64;
                return Ok((plan, Outline::Reference));
            }
            Target::Cpu(isa) => {
                let options = CpuOptions { isa, batch, conv2d, keep_values };
                let outline = cpu_plan::Outline::new(model, options)?;
                plan.nodes = outline.nodes().to_vec();
                plan.pass = outline.pass();
                plan.arena_bytes = outline.arena_bytes() as u64;
                Outline::Cpu(outline)
            }
            Target::Cuda(gpu) => {
                let options = CudaOptions { gpu, precision, batch, keep_values, tuning };
                let outline = cuda_plan::Outline::new(model, options)?;
                plan.nodes = outline.nodes().to_vec();
                plan.arena_bytes = outline.arena_bytes() as u64;
                Outline::Cuda(Box::new(outline))
            }
        };
        plan.weight_bytes = plan.nodes.iter().map(|node| node.weight_bytes).sum();
        Ok((plan, outline))
    }

    /// Takes out what the backend runs; none in an outline, and where an engine has done so before.
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

    /// The names of the heads, in the model's order.
    pub fn head_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.heads.iter().map(|head| head.name.as_str())
    }

    /// The labels of a head's scores; `None` where the model has no head of this name, and empty where its numbers have no
    /// names.
    pub fn labels(&self, head: &str) -> Option<&[String]> {
        self.heads.iter().find(|labels| labels.name == head).map(|labels| labels.labels.as_slice())
    }

    /// How many branches the network has, one or two.
    pub fn branches(&self) -> usize {
        self.branches
    }

    pub(crate) fn heads(&self) -> &Arc<[HeadLabels]> {
        &self.heads
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
        self.arena_bytes
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
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
        let counted = match self.target {
            Target::Cuda(_) => "launches",
            Target::Cpu(_) | Target::Reference => "nodes",
        };
        format!(
            "{} {counted}, {:.2} MB of weights, {:.2} MB of arena, {:.1} MFLOP an image",
            self.launches(),
            self.weight_bytes() as f64 / 1e6,
            self.arena_bytes() as f64 / 1e6,
            self.flop as f64 / 1e6,
        )
    }

    /// How a batch is cut, in words, where it is.
    fn passes(&self) -> String {
        match self.pass < self.batch {
            true => format!(", {} images at a time", self.pass),
            false => String::new(),
        }
    }
}
