//! What every backend plans from: a model cut into steps. Pure; no weight is touched.
//!
//! ```text
//! Model --Graph::new--> Graph --decide--> decisions --place--> offsets --pack--> weights      (a backend's plan module)
//! ```
//!
//! A step is a layer and the `identity` layers that its epilogue computes. An epilogue runs its stages in a fixed order:
//! residual, activation, AWS-Unit. An identity joins the layer that it reads when nobody else reads that layer, each of
//! its stages comes behind those the layer has already, and its residual is computed before that layer. An identity with
//! no stage at all is another name for what it reads.
//!
//! [`node`] is what a plan says of itself, [`arena`] the memory of a session, [`target`] what can be asked of a plan,
//! [`winograd`] the mathematics of an algorithm that options and [`verify`](crate::verify) speak of.

// An operator or an instruction set that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]

pub(crate) mod arena;
pub(crate) mod node;
pub(crate) mod target;
pub(crate) mod winograd;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Model, Source};
use crate::op::{Activation, Conv2d, Op, Padding};
use crate::tensor::{Branch, Shape};

/// One or more layers that one node computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The layer whose operator runs, and the identities fused into it.
    pub layers: Vec<usize>,
    pub input: Source,
    pub residual: Option<Source>,
    pub activation: Activation,
    /// The layer whose AWS-Unit mixes the result.
    pub aws: Option<usize>,
}

impl Step {
    /// The layer whose operator runs.
    pub fn first(&self) -> usize {
        self.layers[0]
    }

    /// The layer whose value the step gives.
    pub fn last(&self) -> usize {
        self.layers[self.layers.len() - 1]
    }

    /// Whether nothing is behind the operator.
    pub fn is_plain(&self) -> bool {
        self.next_stage() == 0
    }

    /// How many stages of the epilogue are taken: a stage of this index or more may still join.
    fn next_stage(&self) -> usize {
        if self.aws.is_some() {
            3
        } else if self.activation != Activation::None {
            2
        } else if self.residual.is_some() {
            1
        } else {
            0
        }
    }
}

/// The steps of a model, in an order in which each reads earlier ones only.
#[derive(Debug)]
pub(crate) struct Graph {
    pub steps: Vec<Step>,
    /// What each head reads.
    heads: [Source; 2],
    /// How often steps and heads read each layer's value.
    reads: Vec<usize>,
}

impl Graph {
    /// Cuts a model into steps.
    pub fn new(model: &Model) -> Graph {
        let layers = model.layers();
        let mut readers = vec![0usize; layers.len()];
        let heads = model.heads.iter().map(|head| head.input());
        let residuals = layers.iter().filter_map(|layer| layer.residual().map(Source::Layer));
        for source in layers.iter().map(|layer| layer.input()).chain(residuals).chain(heads) {
            if let Source::Layer(layer) = source {
                readers[layer] += 1;
            }
        }

        let mut steps: Vec<Step> = Vec::new();
        let mut step_of: Vec<Option<usize>> = Vec::new(); // the step whose last layer this is
        let mut resolved: Vec<Source> = Vec::new(); // what to read for each layer: the last layer of a step, or the image
        for (index, layer) in layers.iter().enumerate() {
            let residual = layer.residual().map(|r| resolve(&resolved, Source::Layer(r)));
            let input = resolve(&resolved, layer.input());
            let aws = layer.aws().map(|_| index);
            let first_stage = if residual.is_some() {
                Some(0)
            } else if layer.activation() != Activation::None {
                Some(1)
            } else {
                aws.map(|_| 2)
            };
            if *layer.op() == Op::Identity {
                let Some(first_stage) = first_stage else {
                    resolved.push(input);
                    step_of.push(None);
                    continue;
                };
                let before = match layer.input() {
                    Source::Layer(before) if readers[before] == 1 => step_of[before],
                    Source::Layer(_) | Source::Image => None,
                };
                // What the identity adds may be computed only behind the step that it would join.
                let residual_is_there = |step_index: usize| match residual {
                    Some(Source::Layer(layer)) => step_of[layer].is_some_and(|step| step < step_index),
                    Some(Source::Image) | None => true,
                };
                if let Some(step_index) = before
                    && first_stage >= steps[step_index].next_stage()
                    && residual_is_there(step_index)
                {
                    let step = &mut steps[step_index];
                    step.layers.push(index);
                    step.residual = step.residual.or(residual);
                    if layer.activation() != Activation::None {
                        step.activation = layer.activation();
                    }
                    step.aws = aws;
                    resolved.push(Source::Layer(index));
                    step_of.push(Some(step_index));
                    continue;
                }
            }
            step_of.push(Some(steps.len()));
            resolved.push(Source::Layer(index));
            steps.push(Step { layers: vec![index], input, residual, activation: layer.activation(), aws });
        }
        let heads = Branch::BOTH.map(|branch| resolve(&resolved, model.head(branch).input()));
        let mut reads = vec![0usize; layers.len()];
        let by_steps = steps.iter().flat_map(|step| [Some(step.input), step.residual]).flatten();
        for source in by_steps.chain(heads) {
            if let Source::Layer(layer) = source {
                reads[layer] += 1;
            }
        }
        Graph { steps, heads, reads }
    }

    /// What a branch's head reads.
    pub fn head(&self, branch: Branch) -> Source {
        self.heads[branch as usize]
    }

    /// How many steps and heads read the value of `layer`.
    pub fn readers(&self, layer: usize) -> usize {
        self.reads[layer]
    }

    /// The step that gives the value of `source`; none for the image.
    pub fn step(&self, source: Source) -> Option<&Step> {
        match source {
            Source::Image => None,
            Source::Layer(layer) => self.steps.iter().find(|step| step.last() == layer),
        }
    }
}

fn resolve(resolved: &[Source], source: Source) -> Source {
    match source {
        Source::Image => Source::Image,
        Source::Layer(layer) => resolved[layer],
    }
}

/// The value that each layer's readers read, as a backend decides on them.
#[derive(Debug)]
pub(crate) struct LayerValues(Vec<Option<node::ValueId>>);

impl LayerValues {
    pub fn new(model: &Model) -> LayerValues {
        LayerValues(vec![None; model.layers().len()])
    }

    pub fn set(&mut self, layer: usize, value: node::ValueId) {
        self.0[layer] = Some(value);
    }

    /// Steps come behind those that they read.
    pub fn of(&self, layer: usize) -> Result<node::ValueId> {
        self.0[layer].ok_or_else(|| {
            let found = format!("layer {layer} read before it is computed");
            Error::new(ErrorKind::Internal, "plan", "steps in the order of what they read", found)
        })
    }
}

/// A 1x1 convolution, a matrix applied to every pixel.
pub(crate) const ONE_BY_ONE: Conv2d = Conv2d {
    kernel: [1, 1],
    stride: [1, 1],
    padding: Padding { top: 0, left: 0, bottom: 0, right: 0 },
    dilation: [1, 1],
    groups: 1,
};

/// A linear layer over a map, as the convolution that it equals.
pub(crate) fn whole_map(input: Shape) -> Conv2d {
    Conv2d { kernel: [input.height, input.width], ..ONE_BY_ONE }
}

/// Whether each channel has a kernel of its own.
pub(crate) fn is_depthwise(conv: &Conv2d, input: Shape, output: Shape) -> bool {
    conv.groups > 1 && conv.groups == input.channels && conv.groups == output.channels
}
