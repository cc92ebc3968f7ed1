//! Two networks as the branches of one model: they must be of one shape, layer by layer.
//!
//! Heads have linear layers of their own, of any number of scores each. Where a network ends otherwise, in a convolution with a
//! channel a score and a mean, the one of fewer scores gets channels of zeros, and both heads take theirs from the map.

use serde_json::Value;

use super::Source;
use super::layers::{Branch, Head, Layer, Source as From, Weights};
use crate::error::{Error, ErrorKind, Result, quoted};

/// Makes two branches alike where the number of their scores is all that they differ in; else the error of the first layer
/// that differs.
pub(super) fn make_alike(sources: &mut [Source], names: &[String]) -> Result<()> {
    let [first, second] = sources else { return Ok(()) };
    let (a, b) = (&mut first.branch, &mut second.branch);
    if a.head.weights.is_none() && b.head.weights.is_none() && a.head.rows != b.head.rows {
        let channels = a.head.rows.max(b.head.rows);
        // Only what has a channel a score can be widened; what cannot stays, and differs.
        if let (Some(wide_a), Some(wide_b)) = (widened(a, channels), widened(b, channels)) {
            (*a, *b) = (wide_a, wide_b);
        }
    }
    check_alike(a, b, names)
}

/// The branch with channels of zeros behind its scores, `channels` in all, and a head that takes the scores from them.
fn widened(branch: &Branch, channels: usize) -> Option<Branch> {
    let From::Layer(last) = branch.head.input else { return None };
    let rows = branch.head.rows;
    if branch.layers[last].shape != [rows, 1, 1] {
        return None;
    }
    let mut layers = branch.layers.clone();
    let mut at = last;
    let weights = loop {
        let layer = &mut layers[at];
        if layer.scale.is_some() || layer.residual.is_some() || layer.shape[0] != rows {
            return None;
        }
        layer.shape[0] = channels;
        layer.batch_norm.iter_mut().flatten().for_each(|values| values.resize(channels, 0.0));
        layer.prelu.iter_mut().for_each(|slope| slope.resize(channels, 0.0));
        if let Some(weights) = &mut layer.weights {
            if layer.operator.contains_key("groups") {
                return None;
            }
            break weights;
        }
        if layer.operator.get("op").and_then(Value::as_str) == Some("concat") {
            return None;
        }
        // The layer before must be this one's alone.
        let From::Layer(before) = layer.inputs[0] else { return None };
        let reads = |layer: &Layer| {
            let others = [layer.scale, layer.residual].into_iter().flatten().map(From::Layer);
            layer.inputs.iter().copied().chain(others).filter(|&source| source == From::Layer(before)).count()
        };
        if layers.iter().map(reads).sum::<usize>() != 1 {
            return None;
        }
        at = before;
    };
    // Rows of zeros, and a head of ones and zeros.
    let row = weights.weight.len() / rows;
    weights.dims[0] = channels;
    weights.weight.resize(channels * row, 0.0);
    weights.bias.iter_mut().for_each(|bias| bias.resize(channels, 0.0));
    let mut selection = vec![0.0; rows * channels];
    (0..rows).for_each(|row| selection[row * channels + row] = 1.0);
    let selection = Weights { dims: vec![rows, channels], weight: selection, bias: None };
    let head = Head { input: branch.head.input, name: "scores".to_owned(), weights: Some(selection), rows };
    Some(Branch { layers, normalisation: branch.normalisation.clone(), head })
}

/// The error of two networks that differ, at the first layer that does.
fn check_alike(first: &Branch, second: &Branch, names: &[String]) -> Result<()> {
    let advice = "two networks share a model file layer by layer; import each into a file of its own";
    let differ = |place: String, expected: String, found: String| {
        Err(Error::new(
            ErrorKind::Model,
            place,
            expected,
            format!("{found} in {} ({advice})", quoted(&names[1])),
        ))
    };
    let expected = |what: String| format!("the same in both networks, {what} as in {}", quoted(&names[0]));
    for (a, b) in first.layers.iter().zip(&second.layers) {
        if !a.is_like(b) {
            return differ(format!("{} and {}", a.place, b.place), expected(a.summary()), b.summary());
        }
    }
    let (few, many) = (first.layers.len(), second.layers.len());
    if few != many {
        let place = first.layers.get(many).or(second.layers.get(few)).map_or("", |layer| &layer.place);
        return differ(place.to_owned(), expected(format!("{few} layers")), format!("{many} layers"));
    }
    if (first.head.input, first.head.weights.is_some()) != (second.head.input, second.head.weights.is_some())
    {
        let what = |head: &Head| if head.weights.is_some() { "a linear layer" } else { "none" };
        return differ(
            "head".to_owned(),
            expected(what(&first.head).to_owned()),
            what(&second.head).to_owned(),
        );
    }
    if first.normalisation != second.normalisation {
        return differ(
            "input".to_owned(),
            expected(format!("the normalisation {:?}", first.normalisation)),
            format!("{:?}", second.normalisation),
        );
    }
    Ok(())
}
