//! A backend against the reference, node by node, each fed with the backend's own previous output.
//!
//! The reference sums in f64 what the backend sums in f32, on the same inputs and the same weights, rounded as the
//! backend stores them. With S = sum of |a||b| + |bias| +
//! |residual| of an output element, the products multiplied by |scale|, and K the length of its sum, the two may differ by
//!
//! ```text
//! bound = L * (1.5*K + 4) * 2^-24 * S + (a * 2^-24 + r) * |reference| + s
//! ```
//!
//! where r is the relative error of storing the result (2^-24 in f32, 2^-11 in f16, 2^-8 in bf16) and s half the
//! smallest number that f16 can store (2^-25, else 0), L is how much the fused activation magnifies an error at most, and a
//! how many roundings it has of its own. An AWS-Unit behind it maps bounds as it maps values, with |A|. An error above its
//! bound is a fault, not noise. Winograd's minimal filtering has an S and a K of its own.

// An operator or an instruction set that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]

mod winograd;

use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::graph::node::ValueId;
use crate::model::init::Random;
use crate::model::{AwsUnit, Gate, Layer, Model, Weights};
use crate::op::Op;
use crate::plan::{Plan, PlanOptions, Precision, Target, WinogradTile, Work};
use crate::reference::{self, Map, Maps};
use crate::session::Session;
use crate::tensor::{DType, Shape};

/// Half a unit in the last place of 1 in f32: the largest relative error of a rounding.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// The error of storing a value: relative, and absolute where numbers are subnormal.
fn storing(precision: Precision) -> (f64, f64) {
    match precision {
        Precision::F32 => (ROUNDING, 0.0),
        Precision::F16 => (1.0 / (1 << 11) as f64, 1.0 / (1 << 25) as f64),
        Precision::BF16 => (1.0 / (1 << 8) as f64, 0.0),
    }
}

/// Images to compare on: `count` of them, [N, C, H, W], uniform from -2 to 2, about what normalised pixels are. The same
/// seed gives the same images.
pub fn random_images(model: &Model, count: usize, seed: u64) -> Vec<f32> {
    let _environment = FloatEnvironment::enter();
    let mut random = Random::new(seed);
    (0..count.saturating_mul(model.input().shape.len())).map(|_| random.between(-2.0, 2.0)).collect()
}

/// How one node agrees with the reference.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeAgreement {
    /// The node's name in the plan.
    pub name: String,
    /// The kernel that computed it.
    pub kernel: String,
    /// The largest |error| / bound of all elements; at most 1 where all is well, and NaN where an element is.
    pub worst: f64,
    /// |error| of that element.
    pub error: f64,
    /// The bound of that element.
    pub bound: f64,
}

/// Runs `images`, [N, C, H, W], on a plan with these options and compares every node's output with the reference; the
/// options' batch and `keep_values` are what the comparison needs.
///
/// Gives a row for each node that computes layers, an AWS-Unit or a head, with the worst element over all images.
/// Errors: those of [`Plan::build`], [`Engine::new`] and [`Session::run`]; the reference as the device, which has
/// nothing to be compared with.
pub fn layers(
    model: Model,
    options: &PlanOptions,
    threads: usize,
    images: &[f32],
) -> Result<Vec<NodeAgreement>> {
    let _environment = FloatEnvironment::enter();
    let target = options.resolve()?.target;
    if target == Target::Reference {
        let expected = "a backend to compare with the reference";
        return Err(Error::new(ErrorKind::Input, "device", expected, "the reference itself"));
    }
    let image_len = model.input().shape.len();
    let batch = (images.len() / image_len).max(1);
    let options = options.clone().target(target).batch(batch).keep_values(true);
    let plan = Plan::build(model.clone(), &options)?;
    let engine = Engine::new(plan, &EngineOptions::new().threads(threads))?;
    let mut session = engine.session()?;
    session.run(images)?;
    let precision = engine.plan().precision();
    let model = match precision {
        Precision::F32 => model,
        Precision::F16 => model.rounded(DType::F16),
        Precision::BF16 => model.rounded(DType::BF16),
    };

    let branches = model.branches().len();
    let mut agreements = Vec::new();
    for node in engine.plan().nodes() {
        let mut worst = NodeAgreement {
            name: node.name().to_owned(),
            kernel: node.kernel().to_owned(),
            worst: 0.0,
            error: 0.0,
            bound: 0.0,
        };
        let mut compared = false;
        for image in 0..batch {
            let read = |value: ValueId| -> Result<Maps> {
                (0..branches).map(|branch| read(&session, value, image, branch)).collect()
            };
            let inputs = || node.inputs.iter().map(|&value| read(value)).collect::<Result<Vec<Maps>>>();
            let scale = node.scale.map(read).transpose()?;
            let expected = match node.work() {
                Work::Layers(indices) => {
                    let layers: Vec<&Layer> = indices.iter().map(|&index| &model.layers()[index]).collect();
                    let residual = node.residual.map(read).transpose()?.map(Added::map);
                    layer_bounds(&layers, &inputs()?, scale.as_ref(), residual, node.winograd)
                }
                Work::Projected { layers, projection } => {
                    let layers: Vec<&Layer> = layers.iter().map(|&index| &model.layers()[index]).collect();
                    let source = node.residual.map_or(Err(missing("what is projected")), read)?;
                    let projected = Added::projection(&model.layers()[*projection], &source);
                    layer_bounds(&layers, &inputs()?, scale.as_ref(), Some(projected), None)
                }
                Work::AwsUnit(index) => match model.layers()[*index].aws() {
                    Some(unit) => unit_bounds(unit, Bounded::exact(read(node.inputs[0])?)),
                    None => continue,
                },
                Work::Heads { heads, pooled } => {
                    let mut features = Bounded::exact(read(node.inputs[0])?);
                    if let Some(layer) = pooled {
                        features =
                            layer_bounds(&[&model.layers()[*layer]], &[features.value], None, None, None);
                    }
                    for &head in heads {
                        let branch = model.heads()[head].branch();
                        let expected = head_bounds(model.heads()[head].weights(), &features, branch);
                        let found = session.logits(image, head);
                        let shape = expected.value[0].shape;
                        worst.compare(&Map::from_f32(shape, found), &expected, 0, Precision::F32);
                    }
                    compared = true;
                    continue;
                }
                Work::GatePart(_) | Work::ImageLayout => continue,
            };
            compared = true;
            let found = read(node.output)?;
            for (branch, found) in found.iter().enumerate() {
                worst.compare(found, &expected, branch, precision);
            }
        }
        if compared {
            agreements.push(worst);
        }
    }
    Ok(agreements)
}

fn missing(what: &str) -> Error {
    Error::new(ErrorKind::Internal, "plan", what, "nothing")
}

fn read(session: &Session, value: ValueId, image: usize, branch: usize) -> Result<Map> {
    let (shape, data) = session.read(value, image, branch)?.ok_or_else(|| missing("a value"))?;
    Ok(Map::from_f32(shape, &data))
}

impl NodeAgreement {
    /// Whether every element is within its bound; a NaN is not.
    pub fn holds(&self) -> bool {
        self.worst <= 1.0
    }

    fn compare(&mut self, found: &Map, expected: &Bounded, branch: usize, stored: Precision) {
        let (relative, absolute) = storing(stored);
        let (value, bound) = (&expected.value[branch], &expected.bound[branch]);
        for ((found, value), bound) in found.data.iter().zip(&value.data).zip(&bound.data) {
            let error = (found - value).abs();
            let bound = bound + relative * value.abs() + absolute;
            let ratio = if error == 0.0 { 0.0 } else { error / bound };
            // A NaN wins, and stays.
            if !self.worst.is_nan() && (ratio > self.worst || ratio.is_nan()) {
                (self.worst, self.error, self.bound) = (ratio, error, bound);
            }
        }
    }
}

/// What the reference computes, and how far from it a backend may be; a map a branch.
struct Bounded {
    value: Maps,
    bound: Maps,
}

impl Bounded {
    /// Values that are as the backend has them.
    fn exact(value: Maps) -> Self {
        let bound = value.iter().map(|map| Map::zeros(map.shape)).collect();
        Bounded { value, bound }
    }
}

/// A sum of `terms` products and a few more of magnitude `s`.
fn sum_bound(terms: usize, s: f64) -> f64 {
    (1.5 * terms as f64 + 4.0) * ROUNDING * s
}

/// The length of the sums that an operator computes.
fn terms(op: &Op, input: Shape) -> usize {
    match op {
        Op::Conv2d(conv) => conv.kernel[0] * conv.kernel[1] * input.channels / conv.groups,
        Op::Linear => input.len(),
        Op::BatchNorm => 1,
        Op::MaxPool2d(_) | Op::Concat | Op::Upsample2d(_) | Op::Identity => 0,
        Op::AvgPool2d(pool) => pool.kernel[0] * pool.kernel[1],
        Op::AdaptiveAvgPool2d([h, w]) => {
            (input.height.div_ceil(*h) + 1).saturating_mul(input.width.div_ceil(*w) + 1)
        }
        Op::GlobalAvgPool2d => input.pixels(),
    }
}

/// What a layer adds before its activation.
struct Added {
    value: Maps,
    /// The sum that rounding errors are measured by.
    magnitude: Maps,
    /// Products that are summed together with the layer's own.
    terms: usize,
}

impl Added {
    /// A map as the backend has it.
    fn map(value: Maps) -> Self {
        Added { magnitude: value.iter().map(|map| map.map(f64::abs)).collect(), value, terms: 0 }
    }

    /// A layer without residual, activation and unit, computed in the same sum.
    fn projection(layer: &Layer, source: &Maps) -> Self {
        let of = |f: fn(&Op, &[&Map], Option<&Weights>) -> Map| {
            source.iter().enumerate().map(|(t, map)| f(layer.op(), &[map], layer.weights(t))).collect()
        };
        Added {
            value: of(reference::operator_map),
            magnitude: of(reference::operator_magnitude),
            terms: terms(layer.op(), source[0].shape),
        }
    }
}

/// How uncertain an operator's result is when what it reads is, by so much: the linear map of the bounds by the weights'
/// magnitudes, less the bias that it adds, or, of an identity or a maximum, no more than the worst of what it reads.
fn carried(op: &Op, bound: &Map, weights: Option<&Weights>) -> Map {
    if weights.is_none() {
        return reference::operator_map(op, &[bound], None);
    }
    let with = reference::operator_magnitude(op, &[bound], weights);
    let nothing = reference::operator_magnitude(op, &[&Map::zeros(bound.shape)], weights);
    with.zip(&nothing, |with, without| with - without)
}

/// A layer, which Winograd's algorithm computes where there is a `tile`, and the layers fused behind it; a dense or gate
/// unit is a node of its own. Of a concatenation there are several inputs.
fn layer_bounds(
    layers: &[&Layer],
    inputs: &[Maps],
    scale: Option<&Maps>,
    residual: Option<Added>,
    tile: Option<WinogradTile>,
) -> Bounded {
    let mut current = Bounded::exact(inputs[0].clone());
    for (index, layer) in layers.iter().enumerate() {
        let mut next = Bounded { value: Vec::new(), bound: Vec::new() };
        for t in 0..current.value.len() {
            let xs: Vec<&Map> = match index {
                0 => inputs.iter().map(|maps| &maps[t]).collect(),
                _ => vec![&current.value[t]],
            };
            let weights = layer.weights(t);
            let mut z = reference::operator_map(layer.op(), &xs, weights);
            let mut s = reference::operator_magnitude(layer.op(), &xs, weights);
            let mut terms = terms(layer.op(), xs[0].shape);
            if let (Some(tile), Op::Conv2d(conv), Some(weights), 0) = (tile, layer.op(), weights, index) {
                s = winograd::magnitude(tile, conv, xs[0], weights, z.shape);
                terms = xs[0].shape.channels + winograd::TRANSFORM_TERMS;
            }
            // What this layer reads is uncertain where it is fused behind another.
            let mut carried = match index {
                0 => Map::zeros(z.shape),
                _ => carried(layer.op(), &current.bound[t], weights),
            };
            if let (Some(scale), Some(_)) = (scale, layer.scale()) {
                let scale = reference::spread(&scale[t], z.shape);
                z = z.zip(&scale, |z, scale| z * scale);
                s = s.zip(&scale, |s, scale| s * scale.abs());
                carried = carried.zip(&scale, |bound, scale| bound * scale.abs());
                terms += 1;
            }
            if let (Some(residual), Some(_)) = (&residual, layer.residual()) {
                z = z.zip(&residual.value[t], |z, r| z + r);
                s = s.zip(&residual.magnitude[t], |s, r| s + r);
                terms += residual.terms;
            }
            let lipschitz = layer.activation().lipschitz(layer.steepest());
            let own = layer.activation().own_roundings() * ROUNDING;
            let u = reference::activate_map(layer, t, &z);
            let bound = s.zip(&carried, |s, carried| lipschitz * (sum_bound(terms, s) + carried));
            next.bound.push(bound.zip(&u, |bound, u| bound + own * u.abs()));
            next.value.push(u);
        }
        current = match layer.aws() {
            Some(unit @ (AwsUnit::Layer(_) | AwsUnit::Channel(_))) => unit_bounds(unit, next),
            _ => next,
        };
    }
    current
}

/// y and its bound, from u and its bound.
fn unit_bounds(unit: &AwsUnit, u: Bounded) -> Bounded {
    let c = u.value[0].shape.channels;
    let a = reference::aws_weights(unit, &u.value);
    let dense = matches!(unit, AwsUnit::Dense(_));
    let uncertain = match unit {
        AwsUnit::Gate { gate, squeeze_weight, squeeze_bias, excite_weight, excite_bias } => {
            gate_bounds(*gate, [squeeze_weight, squeeze_bias, excite_weight, excite_bias], &u)
        }
        AwsUnit::Layer(_) | AwsUnit::Channel(_) | AwsUnit::Dense(_) => vec![0.0; 4 * c],
    };
    let terms = if dense { 2 * c } else { 2 };
    let value = reference::aws_unit(unit, &u.value);
    let of_branch = |t: usize| {
        let mut bound = Map::zeros(value[t].shape);
        for s in 0..2 {
            for o in 0..c {
                for i in if dense { 0..c } else { o..o + 1 } {
                    let weight = if dense { a[t][s][o * c + i] } else { a[t][s][o] }.abs();
                    let weight_error = uncertain[(t * 2 + s) * c + o];
                    let sources = u.value[s].channel(i).iter().zip(u.bound[s].channel(i));
                    for (bound, (u, u_bound)) in bound.channel_mut(o).iter_mut().zip(sources) {
                        *bound +=
                            weight * u_bound + weight_error * u.abs() + sum_bound(terms, weight * u.abs());
                    }
                }
            }
        }
        bound
    };
    let bound = (0..2).map(of_branch).collect();
    Bounded { value, bound }
}

/// How uncertain a gate's weights are, [to][from][channel], from sums over the maps and two small layers.
fn gate_bounds(gate: Gate, [w0, b0, w1, b1]: [&[f32]; 4], u: &Bounded) -> Vec<f64> {
    let magnitudes = |w: &[f32]| w.iter().map(|w| w.abs()).collect::<Vec<f32>>();
    let (w0, b0, w1, b1) = (magnitudes(w0), magnitudes(b0), magnitudes(w1), magnitudes(b1));
    let pixels = u.value[0].shape.pixels();
    let (mut means, mut mean_bounds) = (Vec::new(), Vec::new());
    for (value, bound) in u.value.iter().zip(&u.bound) {
        for channel in 0..value.shape.channels {
            let mean = value.channel(channel).iter().map(|v| v.abs()).sum::<f64>() / pixels as f64;
            let uncertain = bound.channel(channel).iter().sum::<f64>() / pixels as f64;
            means.push(mean);
            mean_bounds.push(uncertain + sum_bound(pixels, mean));
        }
    }
    let layer = |w: &[f32], b: &[f32], x: &[f64], x_bound: &[f64]| -> (Vec<f64>, Vec<f64>) {
        let s = reference::affine(w, b, x);
        let carried = reference::affine(w, &vec![0.0; b.len()], x_bound);
        let bound = s.iter().zip(carried).map(|(&s, carried)| carried + sum_bound(x.len(), s)).collect();
        (s, bound)
    };
    let (g, g_bound) = layer(&w0, &b0, &means, &mean_bounds);
    let (_, l_bound) = layer(&w1, &b1, &g, &g_bound);
    // The slope of a sigmoid is at most 1/4; its own roundings are of the order of one in the last place of 1.
    let own = 8.0 * ROUNDING;
    let c = u.value[0].shape.channels;
    (0..4 * c)
        .map(|index| {
            let (pair, channel) = (index / c, index % c);
            let from = l_bound[index];
            match gate {
                Gate::Sigmoid => from / 4.0 + own,
                Gate::Softmax => (from + l_bound[(pair ^ 1) * c + channel]) / 4.0 + own,
            }
        })
        .collect()
}

/// The logits of a branch's head over features that may be uncertain.
fn head_bounds(weights: Option<&Weights>, features: &Bounded, branch: usize) -> Bounded {
    let (x, x_bound) = (&features.value[branch], &features.bound[branch]);
    let flat = |map: &Map| Map { shape: Shape::new(map.data.len(), 1, 1), data: map.data.clone() };
    if weights.is_none() {
        return Bounded { value: vec![flat(x)], bound: vec![flat(x_bound)] };
    }
    let op = Op::Linear;
    let value = reference::operator_map(&op, &[x], weights);
    let s = reference::operator_magnitude(&op, &[x], weights);
    let carried = carried(&op, x_bound, weights);
    let bound = s.zip(&carried, |s, carried| sum_bound(x.shape.len(), s) + carried);
    Bounded { value: vec![value], bound: vec![bound] }
}

#[cfg(test)]
mod tests;
