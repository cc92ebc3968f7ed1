//! The plan for a CPU: which kernel runs each layer pair, with which tile, on which memory, with which weights.
//!
//! ```text
//! Graph --decide--> nodes, values --place--> offsets --pack--> weights
//!         (all choices)             (all sizes)        (all weights)
//! ```
//!
//! [`value`] is how feature maps lie in memory; a file for each kernel that there is something to decide about.

pub(crate) mod concat;
pub(crate) mod conv2d_depthwise;
pub(crate) mod conv2d_direct;
pub(crate) mod conv2d_max_pool;
pub(crate) mod conv2d_winograd;
mod decide;
pub(crate) mod groups;
pub(crate) mod node;
mod pack;
mod place;
pub(crate) mod tile;
pub(crate) mod value;

use crate::error::Result;
use crate::graph::Graph;
use crate::graph::node::{Node, ValueId};
use crate::graph::target::{Conv2dAlgorithm, Isa};
use crate::model::Model;
use node::CpuNode;
use value::Value;

/// Nodes and memory for the CPU backend.
#[derive(Debug)]
pub(crate) struct CpuPlan {
    pub isa: Isa,
    pub nodes: Vec<CpuNode>,
    pub values: Vec<Value>,
    pub image: ValueId,
    pub heads: Vec<HeadOutput>,
    /// Images that go through the nodes together; a batch takes as many passes as it needs.
    pub pass: usize,
    /// Elements of f32 in the arena, for one pass.
    pub arena_len: usize,
    /// Elements of f32 that each thread needs for itself.
    pub scratch_len: usize,
}

/// Where a head's numbers stand: a map in (C, H, W) order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeadOutput {
    pub value: ValueId,
    pub branch: usize,
}

/// How a model is to run on a CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuOptions {
    pub isa: Isa,
    pub batch: usize,
    pub conv2d: Conv2dAlgorithm,
    /// No two values share memory.
    pub keep_values: bool,
}

/// A plan whose weights are still to be packed, and what its nodes say of themselves.
pub(crate) struct Outline {
    decided: decide::Decisions,
    places: place::Places,
    isa: Isa,
}

impl Outline {
    /// Decides and places.
    pub fn new(model: &Model, options: CpuOptions) -> Result<Outline> {
        let CpuOptions { isa, batch, conv2d, keep_values } = options;
        let mut decided = decide::decide(model, &Graph::new(model), isa, batch, conv2d)?;
        let places = place::place(&mut decided, batch, keep_values)?;
        Ok(Outline { decided, places, isa })
    }

    /// What the nodes say of themselves.
    pub fn nodes(&self) -> &[Node] {
        &self.decided.told
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.places.arena_len * size_of::<f32>()
    }

    /// Images that go through the nodes together.
    pub fn pass(&self) -> usize {
        self.places.pass
    }

    /// Packs the weights of the model that the outline was made for.
    pub fn pack(self, model: Model) -> Result<CpuPlan> {
        let Outline { decided, places, isa } = self;
        let decide::Decisions { nodes, values, image, heads, .. } = pack::pack(model, decided)?;
        let place::Places { pass, arena_len, scratch_len } = places;
        Ok(CpuPlan { isa, nodes, values, image, heads, pass, arena_len, scratch_len })
    }
}
