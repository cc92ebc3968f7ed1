//! What every backend plans from: a model cut into steps. Pure; no weight is touched.
//!
//! ```text
//! Model --Graph::new--> Graph --decide--> decisions --place--> offsets --pack--> weights      (a backend's plan module)
//! ```
//!
//! A step is a layer and the `identity` layers that its epilogue computes. An epilogue runs its stages in a fixed order:
//! scale, residual, activation, AWS-Unit. An identity joins the layer that it reads when nobody else reads that layer, each of
//! its stages comes behind those the layer has already, and its scale and residual are computed before that layer. An identity with
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
use crate::tensor::Shape;

/// One or more layers that one node computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The layer whose operator runs, and the identities fused into it.
    pub layers: Vec<usize>,
    /// What the operator reads, in its order.
    pub inputs: Vec<Source>,
    pub scale: Option<Source>,
    pub residual: Option<Source>,
    pub activation: Activation,
    /// The layer that the activation is of, where there is one: it has a PReLU's slopes.
    pub activates: Option<usize>,
    /// The layer whose AWS-Unit mixes the result.
    pub aws: Option<usize>,
}

impl Step {
    /// What the operator reads; of a concatenation the first.
    pub fn input(&self) -> Source {
        self.inputs[0]
    }

    /// Everything that it reads.
    pub fn reads(&self) -> impl Iterator<Item = Source> {
        self.inputs.iter().copied().chain(self.scale).chain(self.residual)
    }

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
            4
        } else if self.activation != Activation::None {
            3
        } else if self.residual.is_some() {
            2
        } else if self.scale.is_some() {
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
    heads: Vec<Source>,
    /// How often steps and heads read each layer's value.
    reads: Vec<usize>,
}

impl Graph {
    /// Cuts a model into steps.
    pub fn new(model: &Model) -> Graph {
        let layers = model.layers();
        let mut readers = vec![0usize; layers.len()];
        let named = layers.iter().flat_map(|layer| [layer.scale(), layer.residual()]).flatten();
        let inputs = layers.iter().flat_map(|layer| layer.inputs().iter().copied());
        let heads = model.heads().iter().map(|head| head.input());
        for source in inputs.chain(named.map(Source::Layer)).chain(heads) {
            if let Source::Layer(layer) = source {
                readers[layer] += 1;
            }
        }

        let mut steps: Vec<Step> = Vec::new();
        let mut step_of: Vec<Option<usize>> = Vec::new(); // the step whose last layer this is
        let mut resolved: Vec<Source> = Vec::new(); // what to read for each layer: the last layer of a step, or the image
        for (index, layer) in layers.iter().enumerate() {
            let named = |layer: Option<usize>| layer.map(|layer| resolve(&resolved, Source::Layer(layer)));
            let (scale, residual) = (named(layer.scale()), named(layer.residual()));
            let inputs: Vec<Source> =
                layer.inputs().iter().map(|&source| resolve(&resolved, source)).collect();
            let aws = layer.aws().map(|_| index);
            let activates = (layer.activation() != Activation::None).then_some(index);
            let first_stage = if scale.is_some() {
                Some(0)
            } else if residual.is_some() {
                Some(1)
            } else if activates.is_some() {
                Some(2)
            } else {
                aws.map(|_| 3)
            };
            if *layer.op() == Op::Identity {
                let Some(first_stage) = first_stage else {
                    resolved.push(inputs[0]);
                    step_of.push(None);
                    continue;
                };
                let before = match layer.input() {
                    // A concatenation may be no more than a name for memory, which has no epilogue.
                    Source::Layer(before) if readers[before] == 1 && *layers[before].op() != Op::Concat => {
                        step_of[before]
                    }
                    Source::Layer(_) | Source::Image => None,
                };
                // What the identity multiplies or adds may be computed only behind the step that it would join.
                let is_there = |source: Option<Source>, step_index: usize| match source {
                    Some(Source::Layer(layer)) => step_of[layer].is_some_and(|step| step < step_index),
                    Some(Source::Image) | None => true,
                };
                if let Some(step_index) = before
                    && first_stage >= steps[step_index].next_stage()
                    && is_there(scale, step_index)
                    && is_there(residual, step_index)
                {
                    let step = &mut steps[step_index];
                    step.layers.push(index);
                    step.scale = step.scale.or(scale);
                    step.residual = step.residual.or(residual);
                    if activates.is_some() {
                        (step.activation, step.activates) = (layer.activation(), activates);
                    }
                    step.aws = aws;
                    resolved.push(Source::Layer(index));
                    step_of.push(Some(step_index));
                    continue;
                }
            }
            step_of.push(Some(steps.len()));
            resolved.push(Source::Layer(index));
            let (layers, activation) = (vec![index], layer.activation());
            steps.push(Step { layers, inputs, scale, residual, activation, activates, aws });
        }
        let heads: Vec<Source> = model.heads().iter().map(|head| resolve(&resolved, head.input())).collect();
        let mut reads = vec![0usize; layers.len()];
        for source in steps.iter().flat_map(Step::reads).chain(heads.iter().copied()) {
            if let Source::Layer(layer) = source {
                reads[layer] += 1;
            }
        }
        Graph { steps, heads, reads }
    }

    /// What the head of this index reads.
    pub fn head(&self, head: usize) -> Source {
        self.heads[head]
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
