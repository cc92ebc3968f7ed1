//! What the kernels should compute, by its definition and in f64, and how far from it they may be.
//!
//! With S = sum |a||b| + |bias| + |residual| of an output element, K the length of the reduction and L the Lipschitz
//! constant of the activation, a kernel's value y is right if
//!
//!   |y - reference| <= L * (1.5 * K + 4) * 2^-24 * S + u * |reference| + eta
//!
//! u is half a unit in the last place of the output's type, eta half the smallest f16. An AWS-Unit maps bounds as it
//! maps values, with |A|. Maps are `[positions][channels]`, without pad lanes.

use awsnet::__tests::abi::{Activation, Gate, Mix, Pool, Score};
use awsnet::__tests::variants::Element;

use crate::data::{Data, round};

const F32_UNIT: f64 = 1.0 / (1 << 24) as f64;

/// A map of `channels` channels whose 1x1 convolution is added to another convolution's result.
#[derive(Clone, Copy, Debug)]
pub struct Projection {
    pub input: [usize; 2],
    pub channels: usize,
    pub stride: [usize; 2],
}

/// A convolution or pooling: shapes and geometry. Padding is top, left, bottom, right.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub batch: usize,
    pub input: [usize; 2],
    pub in_channels: usize,
    pub channels: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 4],
    pub dilation: [usize; 2],
    pub groups: usize,
    pub projection: Option<Projection>,
}

impl Window {
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|i| {
            let padded = self.input[i] + self.padding[i] + self.padding[i + 2];
            (padded - (self.kernel[i] - 1) * self.dilation[i] - 1) / self.stride[i] + 1
        })
    }

    pub fn in_positions(&self) -> usize {
        self.batch * self.input[0] * self.input[1]
    }

    pub fn positions(&self) -> usize {
        self.batch * self.output()[0] * self.output()[1]
    }

    /// Calls `visit(output position, input position or None for padding, tap)` for every pair of both.
    fn each_tap(&self, mut visit: impl FnMut(usize, Option<usize>, usize)) {
        let [out_h, out_w] = self.output();
        for position in 0..self.positions() {
            let (n, oh, ow) = (position / out_w / out_h, position / out_w % out_h, position % out_w);
            for tap in 0..self.kernel[0] * self.kernel[1] {
                let h = oh * self.stride[0] + tap / self.kernel[1] * self.dilation[0];
                let w = ow * self.stride[1] + tap % self.kernel[1] * self.dilation[1];
                let inside = |at: usize, pad: usize, size: usize| at.checked_sub(pad).filter(|&at| at < size);
                let h = inside(h, self.padding[0], self.input[0]);
                let w = inside(w, self.padding[1], self.input[1]);
                let from = h.zip(w).map(|(h, w)| (n * self.input[0] + h) * self.input[1] + w);
                visit(position, from, tap);
            }
        }
    }
}

/// The results of an operator before bias, residual and activation, and S of each so far.
pub struct Sums {
    pub value: Vec<f64>,
    pub magnitude: Vec<f64>,
    pub length: usize,
}

impl Sums {
    fn zero(count: usize, length: usize) -> Sums {
        Sums { value: vec![0.0; count], magnitude: vec![0.0; count], length }
    }

    fn add(&mut self, at: usize, product: f64) {
        self.value[at] += product;
        self.magnitude[at] += product.abs();
    }
}

/// Adds a projection; `weights` is `[channels][projection channels]`.
pub fn add_projection(
    sums: &mut Sums,
    window: &Window,
    projection: &Projection,
    input: &[f32],
    weights: &[f32],
) {
    let [out_h, out_w] = window.output();
    sums.length += projection.channels;
    for position in 0..window.positions() {
        let (n, oh, ow) = (position / out_w / out_h, position / out_w % out_h, position % out_w);
        let (h, w) = (oh * projection.stride[0], ow * projection.stride[1]);
        assert!(h < projection.input[0] && w < projection.input[1], "outside of the projection");
        let from = (n * projection.input[0] + h) * projection.input[1] + w;
        let x = &input[from * projection.channels..][..projection.channels];
        for o in 0..window.channels {
            for (x, w) in x.iter().zip(&weights[o * projection.channels..]) {
                sums.add(position * window.channels + o, f64::from(*x) * f64::from(*w));
            }
        }
    }
}

/// `weights` is `[channels][in_channels / groups][kernel_h][kernel_w]`.
pub fn conv2d(window: &Window, input: &[f32], weights: &[f32]) -> Sums {
    let (group_in, group_out) = (window.in_channels / window.groups, window.channels / window.groups);
    let taps = window.kernel[0] * window.kernel[1];
    let mut sums = Sums::zero(window.positions() * window.channels, taps * group_in);
    window.each_tap(|position, from, tap| {
        let Some(from) = from else { return };
        for o in 0..window.channels {
            for c in 0..group_in {
                let x = input[from * window.in_channels + o / group_out * group_in + c];
                let w = weights[(o * group_in + c) * taps + tap];
                sums.add(position * window.channels + o, f64::from(x) * f64::from(w));
            }
        }
    });
    sums
}

pub fn pool2d(window: &Window, kind: Pool, input: &[f32]) -> Sums {
    let taps = window.kernel[0] * window.kernel[1];
    let channels = window.channels;
    let mut sums = Sums::zero(window.positions() * channels, taps);
    if kind == Pool::Max {
        sums.value.fill(f64::NEG_INFINITY);
    }
    window.each_tap(|position, from, _| {
        let Some(from) = from else { return };
        for c in 0..channels {
            let x = f64::from(input[from * channels + c]);
            let at = position * channels + c;
            match kind {
                Pool::Average => sums.add(at, x / taps as f64),
                Pool::Max => {
                    let wins = x > sums.value[at] || x.is_nan();
                    sums.value[at] = if wins { x } else { sums.value[at] };
                    sums.magnitude[at] = sums.value[at].abs();
                }
            }
        }
    });
    sums
}

pub fn identity(input: &[f32]) -> Sums {
    let value: Vec<f64> = input.iter().map(|&x| f64::from(x)).collect();
    Sums { magnitude: value.iter().map(|x| x.abs()).collect(), value, length: 1 }
}

/// y\[to\] of the dense unit, `weights` `[to][from][out][in]`.
pub fn aws_unit_dense(channels: usize, to: usize, inputs: [&[f32]; 2], weights: &[f32]) -> Sums {
    let positions = inputs[0].len() / channels;
    let mut sums = Sums::zero(positions * channels, 2 * channels);
    for position in 0..positions {
        for (from, input) in inputs.iter().enumerate() {
            for o in 0..channels {
                let row = &weights[((to * 2 + from) * channels + o) * channels..][..channels];
                for (i, &w) in row.iter().enumerate() {
                    let x = input[position * channels + i];
                    sums.add(position * channels + o, f64::from(x) * f64::from(w));
                }
            }
        }
    }
    sums
}

/// The values of an epilogue's operands; the mix as `[to][from]`, each with one value or one a channel.
#[derive(Clone, Debug)]
pub struct EpilogueValues {
    pub bias: Option<[Vec<f32>; 2]>,
    pub residual: Option<[Vec<f32>; 2]>,
    pub activation: Activation,
    pub negative_slope: f32,
    pub mix_kind: Mix,
    pub mix: Vec<f32>,
}

/// A value and how far from it f32 arithmetic may end.
pub struct Expected {
    pub value: Vec<f64>,
    pub bound: Vec<f64>,
}

fn activate(activation: Activation, slope: f32, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu => x.max(0.0) + f64::from(slope) * x.min(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

fn lipschitz(activation: Activation) -> f64 {
    match activation {
        Activation::Silu => 1.1, // its slope is at most 1.0998
        _ => 1.0,
    }
}

/// u and y of both branches.
pub fn finish(sums: [Sums; 2], channels: usize, e: &EpilogueValues) -> [Expected; 2] {
    let mut t = 0;
    let u = sums.map(|mut sums| {
        for at in 0..sums.value.len() {
            let bias = e.bias.as_ref().map_or(0.0, |bias| f64::from(bias[t][at % channels]));
            let residual = e.residual.as_ref().map_or(0.0, |residual| f64::from(residual[t][at]));
            sums.value[at] = activate(e.activation, e.negative_slope, sums.value[at] + bias + residual);
            sums.magnitude[at] += bias.abs() + residual.abs();
        }
        t += 1;
        let factor = lipschitz(e.activation) * (1.5 * sums.length as f64 + 4.0) * F32_UNIT;
        Expected { value: sums.value, bound: sums.magnitude.iter().map(|s| factor * s).collect() }
    });
    if e.mix_kind == Mix::None {
        return u;
    }
    let each = e.mix.len() / 4;
    [0, 1].map(|to| {
        let mixed = |from: usize, values: &[f64], absolute: bool| -> Vec<f64> {
            let coefficient = |at: usize| f64::from(e.mix[(to * 2 + from) * each + at % channels % each]);
            let a = |at| if absolute { f64::abs(coefficient(at)) } else { coefficient(at) };
            values.iter().enumerate().map(|(at, v)| a(at) * v).collect()
        };
        let add = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a + b).collect();
        Expected {
            value: add(mixed(0, &u[0].value, false), mixed(1, &u[1].value, false)),
            bound: add(mixed(0, &u[0].bound, true), mixed(1, &u[1].bound, true)),
        }
    })
}

/// A sum of products with a bias, and how far f32 arithmetic on inputs with these bounds may end from it.
fn linear(weights: &[f32], bias: f32, input: &[f64], bounds: &[f64]) -> (f64, f64) {
    let (mut value, mut bound, mut magnitude) = (f64::from(bias), 0.0, f64::from(bias).abs());
    for (&w, (x, b)) in weights.iter().zip(input.iter().zip(bounds)) {
        value += f64::from(w) * x;
        magnitude += (f64::from(w) * x).abs();
        bound += f64::from(w).abs() * b;
    }
    (value, bound + (1.5 * weights.len() as f64 + 4.0) * F32_UNIT * magnitude)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The layers of a gated AWS-Unit: squeeze `[squeezed][2 * channels]`, excite `[to][from][channels][squeezed]`.
pub struct GateWeights {
    pub squeeze: Vec<f32>,
    pub squeeze_bias: Vec<f32>,
    pub excite: Vec<f32>,
    pub excite_bias: Vec<f32>,
}

/// y of the gated unit over `batch` images.
///
/// Errors of the logits pass through the gate with a factor of at most 1/2 (softmax over two) or 1/4 (sigmoid), and its
/// own arithmetic adds a few roundings.
pub fn aws_unit_gate(
    inputs: [&[f32]; 2],
    batch: usize,
    channels: usize,
    gate: Gate,
    weights: &GateWeights,
) -> [Expected; 2] {
    let positions = inputs[0].len() / batch / channels;
    let squeezed = weights.squeeze_bias.len();
    let mut expected = [(); 2].map(|_| Expected { value: Vec::new(), bound: Vec::new() });
    for n in 0..batch {
        let of = |s: usize, position: usize, c: usize| {
            f64::from(inputs[s][(n * positions + position) * channels + c])
        };
        let share = positions as f64;
        let (mean, mean_bound): (Vec<f64>, Vec<f64>) = (0..2 * channels)
            .map(|at| {
                let x = (0..positions).map(|position| of(at / channels, position, at % channels));
                let magnitude = x.clone().map(f64::abs).sum::<f64>() / share;
                (x.sum::<f64>() / share, (1.5 * share + 4.0) * F32_UNIT * magnitude)
            })
            .unzip();
        let (squeeze, squeeze_bound): (Vec<f64>, Vec<f64>) = (0..squeezed)
            .map(|j| {
                let row = &weights.squeeze[j * 2 * channels..][..2 * channels];
                let (value, bound) = linear(row, weights.squeeze_bias[j], &mean, &mean_bound);
                (value.max(0.0), bound)
            })
            .unzip();
        for position in 0..positions {
            for c in 0..channels {
                let u = [0, 1].map(|s| of(s, position, c));
                for (t, expected) in expected.iter_mut().enumerate() {
                    let [(first, first_bound), (second, second_bound)] = [0, 1].map(|s| {
                        let row = (t * 2 + s) * channels + c;
                        let excite = &weights.excite[row * squeezed..][..squeezed];
                        linear(excite, weights.excite_bias[row], &squeeze, &squeeze_bound)
                    });
                    let (a, bound) = match gate {
                        Gate::Softmax => {
                            let a = sigmoid(first - second);
                            ([a, 1.0 - a], [(first_bound + second_bound) / 4.0; 2])
                        }
                        Gate::Sigmoid => {
                            ([sigmoid(first), sigmoid(second)], [first_bound / 4.0, second_bound / 4.0])
                        }
                    };
                    // exp, addition, division, product and sum: 8 roundings cover them.
                    let bound = |s: usize| (bound[s] + 8.0 * F32_UNIT * a[s]) * u[s].abs();
                    expected.value.push(a[0] * u[0] + a[1] * u[1]);
                    expected.bound.push(bound(0) + bound(1));
                }
            }
        }
    }
    expected
}

/// The logits of one image `[positions][channels]`: `weights` is `[labels][channels]` over the means where `pooled`, else
/// `[labels][channels][positions]`.
pub fn head_logits(
    image: &[f32],
    channels: usize,
    weights: &[f32],
    bias: Option<&[f32]>,
    labels: usize,
    pooled: bool,
) -> Expected {
    let positions = image.len() / channels;
    let features = weights.len() / labels;
    let mut logits = Expected { value: Vec::new(), bound: Vec::new() };
    for label in 0..labels {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[label]));
        let (mut value, mut magnitude) = (bias, bias.abs());
        for c in 0..channels {
            for p in 0..positions {
                let (weight, share) = match pooled {
                    true => (weights[label * features + c], 1.0 / positions as f64),
                    false => (weights[label * features + c * positions + p], 1.0),
                };
                let product = f64::from(weight) * f64::from(image[p * channels + c]) * share;
                value += product;
                magnitude += product.abs();
            }
        }
        logits.value.push(value);
        logits.bound.push((1.5 * image.len() as f64 + 4.0) * F32_UNIT * magnitude);
    }
    logits
}

/// A probability moves by at most a quarter (sigmoid) or half (softmax) of what its logits move by; exp, sum and division
/// add a rounding for each label and a few more.
pub fn head_probabilities(logits: &Expected, score: Score) -> Expected {
    let largest = logits.bound.iter().copied().fold(0.0, f64::max);
    let total: f64 = logits.value.iter().map(|v| v.exp()).sum();
    let value: Vec<f64> = match score {
        Score::Softmax => logits.value.iter().map(|v| v.exp() / total).collect(),
        Score::Sigmoid => logits.value.iter().map(|&v| sigmoid(v)).collect(),
    };
    let spread = logits.value.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let roundings = (8.0 + logits.value.len() as f64 + 2.0 * spread) * F32_UNIT;
    Expected { bound: value.iter().map(|p| largest + roundings * p).collect(), value }
}

/// Panics unless every value is right. Returns the worst error as a share of its bound.
pub fn compare(element: Element, data: Data, expected: &Expected, found: &[f32]) -> f64 {
    assert_eq!(expected.value.len(), found.len());
    let (unit, eta) = match element {
        Element::F16 => (2f64.powi(-11), 2f64.powi(-25)),
        Element::Bf16 => (2f64.powi(-8), 0.0),
        Element::F32 => (F32_UNIT, 0.0),
    };
    let mut worst = 0f64;
    for (at, (&y, (&reference, &bound))) in
        found.iter().zip(expected.value.iter().zip(&expected.bound)).enumerate()
    {
        if reference.is_nan() {
            assert!(data == Data::Hole && y.is_nan(), "element {at}: {y} instead of NaN");
            continue;
        }
        if data != Data::Random {
            assert!(reference.abs() < (1 << 24) as f64, "the case's sums are too large to be exact");
            let exact = round(element, reference as f32);
            assert!(y == exact, "element {at}: {y} instead of exactly {exact}");
            continue;
        }
        let error = (f64::from(y) - reference).abs();
        let bound = bound + unit * reference.abs() + eta;
        let right = error <= bound;
        assert!(
            right,
            "element {at}: {y} instead of {reference}: off by {error:e}, at most {bound:e} allowed"
        );
        if bound > 0.0 {
            worst = worst.max(error / bound);
        }
    }
    worst
}
