//! What the graph alone says of launches: steps that another step's launch computes, and results that are parts of another
//! step's.

use super::super::variants::{self, VECTOR};
use crate::graph::target::Gpu;
use crate::graph::{Graph, ONE_BY_ONE, Step};
use crate::model::{AwsUnit, Model, Source};
use crate::op::{Activation, Op};

/// The global average pooling that all heads and nothing else read, each with a linear layer: the head's kernel computes
/// it on the way.
pub(super) fn pooled_by_heads(model: &Model, graph: &Graph) -> Option<usize> {
    let heads = model.heads();
    let source = graph.head(0);
    let step = graph.step(source)?;
    let layer = step.last();
    let alone = step.layers.len() == 1 && step.is_plain() && step.input() != Source::Image;
    let pools = model.layers[layer].op == Op::GlobalAvgPool2d;
    let all = (0..heads.len()).all(|head| graph.head(head) == source && heads[head].weights().is_some());
    (alone && pools && all && graph.readers(layer) == heads.len()).then_some(layer)
}

/// Whether an operator is a 1x1 convolution over all channels, without padding.
fn is_one_by_one(op: &Op) -> bool {
    matches!(op, Op::Conv2d(conv) if conv.kernel == [1, 1] && conv.groups == 1 && conv.padding == ONE_BY_ONE.padding)
}

/// The step whose result `step`, a convolution, adds and nobody else reads, where that is a 1x1 convolution: both are
/// one sum, which one launch computes.
pub(super) fn projection_beside<'a>(model: &Model, graph: &'a Graph, step: &Step) -> Option<&'a Step> {
    let projection = graph.step(step.residual?)?;
    let layer = projection.last();
    let one_by_one = is_one_by_one(&model.layers[layer].op);
    let beside = matches!(model.layers[step.first()].op, Op::Conv2d(conv) if conv.groups == 1);
    let mapped = step.input() != Source::Image && projection.input() != Source::Image;
    // A scale would multiply the projection too.
    let foldable = projection.layers.len() == 1
        && projection.is_plain()
        && one_by_one
        && beside
        && mapped
        && step.scale.is_none();
    (foldable && graph.readers(layer) == 1).then_some(projection)
}

/// Whether an operator is a matrix over the channels of a single pixel.
fn is_matrix(model: &Model, step: &Step) -> bool {
    let layer = &model.layers[step.first()];
    let alone = step.scale.is_none() && step.residual.is_none() && step.aws.is_none();
    let multiplies = is_one_by_one(&layer.op) || layer.op == Op::Linear;
    multiplies && alone && layer.input_shape.pixels() == 1 && step.activation != Activation::Prelu
}

/// The global average pooling and the first of two matrices that `step`, the second, reads, where nobody else reads
/// either: a squeeze-and-excitation, which one launch computes.
pub(super) fn squeezed_before<'a>(
    model: &Model,
    graph: &'a Graph,
    gpu: &Gpu,
    step: &Step,
) -> Option<[&'a Step; 2]> {
    /// Of both matrices together: one block of an image multiplies by all of them.
    const MOST_WEIGHTS: usize = 1 << 20;
    let squeeze = graph.step(step.input())?;
    let pool = graph.step(squeeze.input())?;
    let [pooled, hidden, excited] =
        [pool, squeeze, step].map(|step| model.layers[step.first()].output_shape.channels);
    let averages =
        matches!(model.layers[pool.first()].op, Op::GlobalAvgPool2d | Op::AdaptiveAvgPool2d([1, 1]));
    let matches = averages && pool.is_plain() && is_matrix(model, squeeze) && is_matrix(model, step);
    let alone = graph.readers(pool.last()) == 1 && graph.readers(squeeze.last()) == 1;
    let weights = hidden.saturating_mul(pooled.saturating_add(excited));
    let shared_bytes = variants::squeeze_excite_shared_bytes(pooled, hidden, excited);
    let fits = weights <= MOST_WEIGHTS && shared_bytes <= gpu.shared_bytes;
    (matches && alone && fits).then_some([pool, squeeze])
}

/// Where a step's result goes when it is a part of a concatenation's: the layer of that one and the first channel there.
pub(super) type Place = (usize, usize);

/// The results that are written where a concatenation, their only reader, would copy them to, for each layer.
///
/// A part begins at a whole vector and, unless it is the last, ends at one, since who writes a map clears its pad lanes. What
/// is left is copied by one run of launches: where it would be several runs, only the first parts are written in place.
pub(super) fn places(
    model: &Model,
    graph: &Graph,
    elsewhere: &[usize],
    squeezed: &[Option<[&Step; 2]>],
) -> Vec<Option<Place>> {
    let mut places = vec![None; model.layers.len()];
    let writes_in_place = |layer: usize| {
        let index = graph.steps.iter().position(|step| step.last() == layer);
        index.is_some_and(|index| {
            let unit = graph.steps[index].aws.and_then(|layer| model.layers[layer].aws());
            let mixed_elsewhere = matches!(unit, Some(AwsUnit::Gate { .. }));
            squeezed[index].is_none() && !elsewhere.contains(&layer) && !mixed_elsewhere
        })
    };
    for step in graph.steps.iter().filter(|step| model.layers[step.first()].op == Op::Concat) {
        let mut first = 0usize;
        let mut parts: Vec<(usize, Option<usize>)> = Vec::new(); // the first channel, and the layer that can be in place
        for (index, &source) in step.inputs.iter().enumerate() {
            let channels = model.shape(source).channels;
            let last = index + 1 == step.inputs.len();
            let aligned = first.is_multiple_of(VECTOR) && (last || channels.is_multiple_of(VECTOR));
            let layer = match source {
                Source::Layer(layer) if aligned && graph.readers(layer) == 1 => Some(layer),
                Source::Layer(_) | Source::Image => None,
            };
            parts.push((first, layer.filter(|&layer| writes_in_place(layer))));
            first += channels;
        }
        let copied = |index: usize| parts[index].1.is_none();
        let runs = (0..parts.len()).filter(|&i| copied(i) && (i == 0 || !copied(i - 1))).count();
        let taken = match runs {
            0 | 1 => parts.len(),
            _ => (0..parts.len()).find(|&i| copied(i)).unwrap_or(0),
        };
        for &(first, layer) in &parts[..taken] {
            if let Some(layer) = layer {
                places[layer] = Some((step.last(), first));
            }
        }
    }
    places
}
