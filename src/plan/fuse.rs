//! Fusion: an `identity` layer moves into the epilogue of the layer before it.
//!
//! An epilogue runs its stages in a fixed order: residual, activation, AWS-Unit. An identity joins the layer that
//! it reads when nobody else reads that layer, each of its stages comes behind those the layer has already, and its
//! residual is computed before that layer.
//! An identity with no stage at all is another name for what it reads.

use crate::model::{Model, Source};
use crate::op::{Activation, Op};

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
    /// The layer whose value the step gives.
    pub fn last(&self) -> usize {
        self.layers[self.layers.len() - 1]
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

/// The steps of a model, in order, and for each source what to read for it.
pub(crate) struct Fused {
    pub steps: Vec<Step>,
    /// What each layer's readers read: the image, or the last layer of a step.
    resolved: Vec<Source>,
    /// How often steps and heads read each layer's value.
    reads: Vec<usize>,
}

impl Fused {
    /// What to read for `source`.
    pub fn resolve(&self, source: Source) -> Source {
        resolve(&self.resolved, source)
    }

    /// Whether a single step or head reads the value of `layer`.
    pub fn is_read_once(&self, layer: usize) -> bool {
        self.reads[layer] == 1
    }
}

fn resolve(resolved: &[Source], source: Source) -> Source {
    match source {
        Source::Image => Source::Image,
        Source::Layer(layer) => resolved[layer],
    }
}

/// Cuts a model into steps.
pub(crate) fn fuse(model: &Model) -> Fused {
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
    let mut resolved: Vec<Source> = Vec::new();
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
                _ => None,
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
    let mut reads = vec![0usize; layers.len()];
    let by_steps = steps.iter().flat_map(|step| [Some(step.input), step.residual]).flatten();
    let by_heads = model.heads.iter().map(|head| resolve(&resolved, head.input()));
    for source in by_steps.chain(by_heads) {
        if let Source::Layer(layer) = source {
            reads[layer] += 1;
        }
    }
    Fused { steps, resolved, reads }
}
