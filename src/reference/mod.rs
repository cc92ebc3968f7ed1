//! The oracle: every operator as its formula reads, sums in f64, no blocking, no fusion, no plan.
//!
//! It runs a [`Model`] layer by layer and stays obvious for ever; everything fast is checked against it, and it
//! is checked against an outside implementation (tests/golden).

mod erf;
mod operator;

use crate::model::{AwsUnit, Gate, Head, Layer, Model, Source, Weights};
use crate::op::{Activation, Op};
use crate::tensor::Shape;

/// One image's feature map in one branch, [C, H, W].
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Channels, height and width.
    pub shape: Shape,
    /// The elements, row-major.
    pub data: Vec<f64>,
}

impl Map {
    /// A map of zeros.
    pub fn zeros(shape: Shape) -> Self {
        Map { shape, data: vec![0.0; shape.len()] }
    }

    /// A map of these elements, [C, H, W].
    pub fn from_f32(shape: Shape, data: &[f32]) -> Self {
        assert_eq!(data.len(), shape.len(), "the elements of {shape}");
        Map { shape, data: data.iter().map(|&v| f64::from(v)).collect() }
    }

    /// One channel, row-major.
    pub fn channel(&self, channel: usize) -> &[f64] {
        &self.data[channel * self.shape.pixels()..][..self.shape.pixels()]
    }

    pub(crate) fn channel_mut(&mut self, channel: usize) -> &mut [f64] {
        let pixels = self.shape.pixels();
        &mut self.data[channel * pixels..][..pixels]
    }

    /// Each element through `f`.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Map {
        Map { shape: self.shape, data: self.data.iter().map(|&v| f(v)).collect() }
    }

    /// Each element of two maps of one shape through `f`.
    pub fn zip(&self, other: &Map, f: impl Fn(f64, f64) -> f64) -> Map {
        assert_eq!(self.shape, other.shape, "maps of one shape");
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Map { shape: self.shape, data }
    }
}

/// What a layer gives, a map a branch.
pub type Maps = Vec<Map>;

/// Everything a model computes for one image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Evaluation {
    /// y of every layer, behind its AWS-Unit.
    pub layers: Vec<Maps>,
    /// The logits of every head.
    pub logits: Vec<Vec<f64>>,
}

/// Runs the whole model on one image, [C, H, W], already normalised.
pub fn evaluate(model: &Model, image: &[f32]) -> Evaluation {
    let image = vec![Map::from_f32(model.input().shape, image); model.branches().len()];
    let mut layers: Vec<Maps> = Vec::with_capacity(model.layers().len());
    for layer in model.layers() {
        let maps = |source: Source| match source {
            Source::Image => &image,
            Source::Layer(index) => &layers[index],
        };
        let inputs: Vec<&Maps> = layer.inputs().iter().map(|&source| maps(source)).collect();
        let named = |index: Option<usize>| index.map(|index| &layers[index]);
        layers.push(layer_maps(layer, &inputs, named(layer.scale()), named(layer.residual())));
    }
    let logits = model.heads().iter().map(|head| {
        let input = match head.input() {
            Source::Image => &image[head.branch()],
            Source::Layer(index) => &layers[index][head.branch()],
        };
        head_logits(head, input)
    });
    let logits = logits.collect();
    Evaluation { layers, logits }
}

/// The logits of a head.
fn head_logits(head: &Head, input: &Map) -> Vec<f64> {
    match head.weights() {
        Some(weights) => operator_map(&Op::Linear, &[input], Some(weights)).data,
        None => input.data.clone(),
    }
}

/// y of one layer: operator, scale, residual, activation, AWS-Unit.
pub fn layer_maps(layer: &Layer, inputs: &[&Maps], scale: Option<&Maps>, residual: Option<&Maps>) -> Maps {
    let branches = inputs[0].len();
    let u: Maps = (0..branches)
        .map(|t| {
            let of_branch: Vec<&Map> = inputs.iter().map(|maps| &maps[t]).collect();
            let mut z = operator_map(layer.op(), &of_branch, layer.weights(t));
            if let Some(scale) = scale {
                z = z.zip(&spread(&scale[t], z.shape), |z, scale| z * scale);
            }
            if let Some(residual) = residual {
                z = z.zip(&residual[t], |z, r| z + r);
            }
            activate_map(layer, t, &z)
        })
        .collect();
    match layer.aws() {
        Some(unit) => aws_unit(unit, &u),
        None => u,
    }
}

/// A map of `shape`: the map itself, or C x 1 x 1 spread over all pixels.
pub fn spread(map: &Map, shape: Shape) -> Map {
    if map.shape == shape {
        return map.clone();
    }
    let data = map.data.iter().flat_map(|&v| std::iter::repeat_n(v, shape.pixels())).collect();
    Map { shape, data }
}

/// A layer's activation of a branch's map.
pub fn activate_map(layer: &Layer, branch: usize, z: &Map) -> Map {
    let Some(slopes) = layer.slopes(branch) else {
        return z.map(|v| activate(layer.activation(), v));
    };
    let mut u = z.clone();
    for channel in 0..z.shape.channels {
        let slope = f64::from(slopes[if slopes.len() == 1 { 0 } else { channel }]);
        u.channel_mut(channel).iter_mut().for_each(|v| *v = if *v >= 0.0 { *v } else { slope * *v });
    }
    u
}

/// z of one branch: the operator with its bias.
pub fn operator_map(op: &Op, inputs: &[&Map], weights: Option<&Weights>) -> Map {
    match weights {
        None => operator::apply(op, inputs, &[], &[]),
        Some(weights) => {
            let weight: Vec<f64> = weights.folded().into_iter().map(f64::from).collect();
            let bias: Vec<f64> = weights.bias().iter().map(|&b| f64::from(b)).collect();
            operator::apply(op, inputs, &weight, &bias)
        }
    }
}

/// The same operator with every weight, bias and element replaced by its magnitude: the sum that rounding errors
/// are measured by.
pub fn operator_magnitude(op: &Op, inputs: &[&Map], weights: Option<&Weights>) -> Map {
    let magnitudes: Maps = inputs.iter().map(|input| input.map(f64::abs)).collect();
    let inputs: Vec<&Map> = magnitudes.iter().collect();
    match weights {
        None => operator::apply(op, &inputs, &[], &[]),
        Some(weights) => {
            let weight: Vec<f64> = weights.folded().into_iter().map(|w| f64::from(w).abs()).collect();
            let bias: Vec<f64> = weights.bias().iter().map(|&b| f64::from(b).abs()).collect();
            operator::apply(op, &inputs, &weight, &bias)
        }
    }
}

/// An activation of one element; of a PReLU, whose slopes are the layer's, see [`activate_map`].
pub(crate) fn activate(activation: Activation, x: f64) -> f64 {
    let relu6 = |x: f64| if x.is_nan() { x } else { x.clamp(0.0, 6.0) };
    match activation {
        Activation::None | Activation::Prelu => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => relu6(x),
        Activation::LeakyRelu { negative_slope } => {
            if x >= 0.0 {
                x
            } else {
                f64::from(negative_slope) * x
            }
        }
        Activation::Elu => {
            if x >= 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::HardSigmoid => relu6(x + 3.0) / 6.0,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::HardSwish => x * relu6(x + 3.0) / 6.0,
        Activation::Tanh => x.tanh(),
        Activation::Gelu => x * erf::normal_cdf(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / (1.0 + (-2.0 * inner).exp())
        }
    }
}

/// The weights `A[to][from]` of a unit for one image: for a dense unit `[out channel][in channel]`, for the others,
/// where a channel meets only itself, `[channel]`.
pub fn aws_weights(unit: &AwsUnit, u: &[Map]) -> [[Vec<f64>; 2]; 2] {
    let c = u[0].shape.channels;
    match unit {
        AwsUnit::Layer(a) => [0, 1].map(|t| [0, 1].map(|s| vec![f64::from(a[t * 2 + s]); c])),
        AwsUnit::Channel(a) | AwsUnit::Dense(a) => {
            let len = a.len() / 4;
            let row =
                |t: usize, s: usize| a[(t * 2 + s) * len..][..len].iter().map(|&v| f64::from(v)).collect();
            [0, 1].map(|t| [0, 1].map(|s| row(t, s)))
        }
        AwsUnit::Gate { gate, squeeze_weight, squeeze_bias, excite_weight, excite_bias } => {
            let mean = |map: &Map, i: usize| map.channel(i).iter().sum::<f64>() / map.shape.pixels() as f64;
            let means: Vec<f64> = u.iter().flat_map(|map| (0..c).map(move |i| mean(map, i))).collect();
            let g: Vec<f64> =
                affine(squeeze_weight, squeeze_bias, &means).into_iter().map(|v| v.max(0.0)).collect();
            let logits = affine(excite_weight, excite_bias, &g);
            let l = |t: usize, s: usize, i: usize| logits[(t * 2 + s) * c + i];
            let weight = |t: usize, s: usize, i: usize| match gate {
                Gate::Softmax => {
                    let top = l(t, 0, i).max(l(t, 1, i));
                    let e = |s| (l(t, s, i) - top).exp();
                    e(s) / (e(0) + e(1))
                }
                Gate::Sigmoid => 1.0 / (1.0 + (-l(t, s, i)).exp()),
            };
            [0, 1].map(|t| [0, 1].map(|s| (0..c).map(|i| weight(t, s, i)).collect()))
        }
    }
}

/// `y_t = sum over s of A[t][s] * u_s`
pub fn aws_unit(unit: &AwsUnit, u: &[Map]) -> Maps {
    let a = aws_weights(unit, u);
    let dense = matches!(unit, AwsUnit::Dense(_));
    let of_branch = |t: usize| {
        let mut y = Map::zeros(u[0].shape);
        let c = y.shape.channels;
        for s in 0..2 {
            for o in 0..c {
                let inputs = if dense { 0..c } else { o..o + 1 };
                for i in inputs {
                    let weight = if dense { a[t][s][o * c + i] } else { a[t][s][o] };
                    let source = u[s].channel(i);
                    y.channel_mut(o).iter_mut().zip(source).for_each(|(y, u)| *y += weight * u);
                }
            }
        }
        y
    };
    (0..2).map(of_branch).collect()
}

/// W x + b, W row-major.
pub(crate) fn affine(weight: &[f32], bias: &[f32], x: &[f64]) -> Vec<f64> {
    let row = |r: usize| weight[r * x.len()..][..x.len()].iter();
    let dot = |r: usize| row(r).zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
    (0..bias.len()).map(|r| f64::from(bias[r]) + dot(r)).collect()
}
