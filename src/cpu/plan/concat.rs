//! Concatenations that move nothing: where a map can be written at its place in the wider one, it is.
//!
//! Blocks of channels are what a map consists of, so it can lie inside a concatenation where the channels before it are whole
//! blocks, and where it fills its own or is the last. What cannot is copied by a node. Networks that concatenate again and
//! again, each time all the maps of before and one more (DenseNet), have one wide map for all: a concatenation whose maps are
//! the first ones of a later one is those blocks of it.

use crate::graph::node::ValueId;
use crate::graph::{Graph, Step};
use crate::model::{Model, Source};
use crate::op::Op;

/// Where a layer's map lies inside the map of a concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// The concatenation's layer, which has memory of its own.
    pub concat: usize,
    pub first_block: usize,
}

/// A node that copies what does not lie at its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConcatKernel {
    /// All maps, in their order.
    pub inputs: Vec<ValueId>,
    /// Those to be copied, by their first channels.
    pub parts: Vec<Part>,
}

/// A map that is copied, and where its channels go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub value: ValueId,
    pub first_channel: usize,
    pub channels: usize,
}

/// The home of each layer's map; none where it has memory of its own.
pub(super) fn homes(model: &Model, graph: &Graph, lanes: usize) -> Vec<Option<Home>> {
    let mut homes: Vec<Option<Home>> = vec![None; model.layers().len()];
    let channels = |source: &Source| model.shape(*source).channels;
    let concats: Vec<&Step> =
        graph.steps.iter().filter(|step| *model.layers()[step.first()].op() == Op::Concat).collect();
    // The last one first: it is the widest.
    for (index, step) in concats.iter().enumerate().rev() {
        let own = step.last();
        let whole_blocks = model.layers()[own].output_shape().channels.is_multiple_of(lanes);
        if homes[own].is_none() && whole_blocks {
            // The first blocks of a later one, if all of its maps lie there.
            homes[own] = concats[index + 1..].iter().find_map(|later| {
                let place = |layer: usize| homes[layer].unwrap_or(Home { concat: layer, first_block: 0 });
                let begin = place(later.last());
                let mut channel = 0;
                let all_there = later.inputs.starts_with(&step.inputs)
                    && step.inputs.iter().all(|source| {
                        let expected = Home { first_block: begin.first_block + channel / lanes, ..begin };
                        channel += channels(source);
                        matches!(source, Source::Layer(layer) if homes[*layer] == Some(expected))
                    });
                all_there.then_some(begin)
            });
        }
        let begin = homes[own].unwrap_or(Home { concat: own, first_block: 0 });
        let mut channel = 0;
        for (position, source) in step.inputs.iter().enumerate() {
            let (first, count) = (channel, channels(source));
            channel += count;
            let fits = first.is_multiple_of(lanes)
                && (count.is_multiple_of(lanes)
                    || (position + 1 == step.inputs.len() && homes[own].is_none()));
            if let Source::Layer(layer) = *source
                && fits
                && homes[layer].is_none()
            {
                homes[layer] = Some(Home { first_block: begin.first_block + first / lanes, ..begin });
            }
        }
    }
    homes
}
