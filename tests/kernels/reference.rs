//! What the kernels should compute, by its definition and in f64, and how far from it they may be.
//!
//! With S = (sum |a||b| + |bias|) * |scale| + |residual| of an output element, K the length of the reduction, L the
//! Lipschitz constant of the activation and r its own roundings, a kernel's value y is right if
//!
//!   |y - reference| <= L * (1.5 * K + 4) * 2^-24 * S + (r * 2^-24 + u) * |reference| + eta
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
    /// Whether a last window of a pooling that is not whole is computed too.
    pub ceil: bool,
}

impl Window {
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|i| {
            let padded = self.input[i] + self.padding[i] + self.padding[i + 2];
            let steps = padded - (self.kernel[i] - 1) * self.dilation[i] - 1;
            let whole = steps / self.stride[i] + 1;
            // One more, where it begins in the map or the padding before it.
            let more = self.ceil
                && !steps.is_multiple_of(self.stride[i])
                && whole * self.stride[i] < self.input[i] + self.padding[i];
            whole + usize::from(more)
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
#[derive(Clone)]
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

/// An average counts the padding that its windows meet, where `include_pad` says so, and nothing beyond.
pub fn pool2d(window: &Window, kind: Pool, include_pad: bool, input: &[f32]) -> Sums {
    let taps = window.kernel[0] * window.kernel[1];
    let channels = window.channels;
    let [_, out_w] = window.output();
    let divisor = |position: usize| -> usize {
        let at = [position / out_w % window.output()[0], position % out_w];
        let counted = |i: usize| {
            let (before, behind) = (window.padding[i], window.padding[i] + window.input[i]);
            let all = if include_pad { 0..behind + window.padding[i + 2] } else { before..behind };
            let first = at[i] * window.stride[i];
            (first..first + window.kernel[i]).filter(|row| all.contains(row)).count()
        };
        counted(0) * counted(1)
    };
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
                Pool::Average | Pool::AdaptiveAverage => sums.add(at, x / divisor(position) as f64),
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

/// The mean of each of `output` windows that cover the map, as PyTorch lays them.
pub fn adaptive_average(
    batch: usize,
    input_size: [usize; 2],
    channels: usize,
    output: [usize; 2],
    input: &[f32],
) -> Sums {
    let span = |i: usize, at: usize| {
        let end = ((at + 1) * input_size[i]) as f64 / output[i] as f64;
        at * input_size[i] / output[i]..end.ceil() as usize
    };
    let largest = (0..2).map(|i| (0..output[i]).map(|at| span(i, at).len()).max().unwrap_or(1)).product();
    let mut sums = Sums::zero(batch * output[0] * output[1] * channels, largest);
    for at in 0..sums.value.len() {
        let (position, c) = (at / channels, at % channels);
        let (n, oh, ow) =
            (position / output[1] / output[0], position / output[1] % output[0], position % output[1]);
        let (rows, columns) = (span(0, oh), span(1, ow));
        let share = (rows.len() * columns.len()) as f64;
        for (h, w) in rows.flat_map(|h| columns.clone().map(move |w| (h, w))) {
            let from = (n * input_size[0] + h) * input_size[1] + w;
            sums.add(at, f64::from(input[from * channels + c]) / share);
        }
    }
    sums
}

/// Each row and column repeated.
pub fn upsample2d(
    batch: usize,
    [height, width]: [usize; 2],
    channels: usize,
    factor: [usize; 2],
    input: &[f32],
) -> Sums {
    let (rows, columns) = (height * factor[0], width * factor[1]);
    let of_position = |position: usize| {
        let (n, h, w) = (position / columns / rows, position / columns % rows, position % columns);
        let from = (n * height + h / factor[0]) * width + w / factor[1];
        input[from * channels..][..channels].iter().copied()
    };
    identity(&(0..batch * rows * columns).flat_map(of_position).collect::<Vec<f32>>())
}

/// The channels of several maps, each `[positions][channels]`, one behind the other.
pub fn concat(positions: usize, inputs: &[(usize, &[f32])]) -> Vec<f32> {
    let of_position = |position: usize| {
        inputs.iter().flat_map(move |(channels, map)| map[position * channels..][..*channels].iter().copied())
    };
    (0..positions).flat_map(of_position).collect()
}

/// A layer of a squeeze-and-excitation: `[out][in]`.
pub struct Matrix {
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub activation: Activation,
    pub negative_slope: f32,
}

/// What the matrices make of the means of each image's channels.
pub fn squeeze_excite(input: &[f32], batch: usize, channels: usize, matrices: [&Matrix; 2]) -> Expected {
    let positions = input.len() / batch / channels;
    let mut expected = Expected { value: Vec::new(), bound: Vec::new() };
    for image in input.chunks_exact(positions * channels) {
        let share = positions as f64;
        let (mut x, mut bounds): (Vec<f64>, Vec<f64>) = (0..channels)
            .map(|c| {
                let values = image.iter().skip(c).step_by(channels).map(|&v| f64::from(v));
                let magnitude = values.clone().map(f64::abs).sum::<f64>() / share;
                (values.sum::<f64>() / share, (1.5 * share + 4.0) * F32_UNIT * magnitude)
            })
            .unzip();
        for matrix in matrices {
            let (lipschitz, roundings) =
                uncertainty(matrix.activation, f64::from(matrix.negative_slope.abs()));
            (x, bounds) = matrix
                .weights
                .chunks_exact(x.len())
                .zip(&matrix.bias)
                .map(|(row, &bias)| {
                    let (z, bound) = linear(row, bias, &x, &bounds);
                    let y = activate(matrix.activation, matrix.negative_slope, z);
                    (y, lipschitz * bound + roundings * F32_UNIT * y.abs())
                })
                .unzip();
        }
        expected.value.extend(x);
        expected.bound.extend(bounds);
    }
    expected
}

pub fn identity(input: &[f32]) -> Sums {
    let value: Vec<f64> = input.iter().map(|&x| f64::from(x)).collect();
    // An infinity has no roundings.
    let magnitude = value.iter().map(|x| if x.is_infinite() { 0.0 } else { x.abs() }).collect();
    Sums { magnitude, value, length: 1 }
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
    pub scale: Option<[Vec<f32>; 2]>,
    /// Positions that share one of `scale`; 0 where each has its own.
    pub scale_positions: usize,
    pub residual: Option<[Vec<f32>; 2]>,
    /// Of a PReLU, one a channel.
    pub slopes: Option<[Vec<f32>; 2]>,
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
        Activation::LeakyRelu | Activation::Prelu if x < 0.0 => f64::from(slope) * x,
        Activation::LeakyRelu | Activation::Prelu => x,
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Elu => x.max(0.0) + x.min(0.0).exp_m1(),
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Tanh => x.tanh(),
        // 0 from the left, in the limit.
        Activation::Silu | Activation::Gelu | Activation::GeluTanh if x == f64::NEG_INFINITY => 0.0,
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * normal_distribution(x),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * sigmoid(2.0 * u)
        }
    }
}

/// The standard normal distribution's share below x, to about 1e-13 of itself down to where it is nothing in f32: by the
/// series of erf near 0, and by the continued fraction of erfc beyond.
fn normal_distribution(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.is_nan() || x.is_infinite() {
        return if x.is_nan() { x } else { f64::from(u8::from(x > 0.0)) };
    }
    if x.abs() < 3.0 {
        // 1/2 + density * (x + x^3 / 3 + x^5 / (3 * 5) + ...)
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs() {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        // A difference of like numbers below 0; at -3 it still has 13 digits.
        return 0.5 + density * sum;
    }
    // The tail: density / (x + 1 / (x + 2 / (x + 3 / ...)))
    let magnitude = x.abs();
    let fraction = (1..200).rev().fold(magnitude, |rest, i| magnitude + f64::from(i) / rest);
    let tail = density / fraction;
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// How much an activation magnifies an error at most, and how many roundings it has of its own.
fn uncertainty(activation: Activation, steepest: f64) -> (f64, f64) {
    match activation {
        Activation::None | Activation::Relu | Activation::Relu6 => (1.0, 0.0),
        Activation::LeakyRelu | Activation::Prelu => (steepest.max(1.0), 1.0),
        Activation::Elu | Activation::Tanh => (1.0, 16.0),
        Activation::Sigmoid => (0.25, 16.0),
        Activation::HardSigmoid => (1.0 / 6.0, 4.0),
        Activation::HardSwish => (1.5, 4.0),
        Activation::Silu => (1.1, 16.0), // the slope is at most 1.0998
        Activation::Gelu | Activation::GeluTanh => (1.13, 16.0),
    }
}

/// u and y of both branches.
pub fn finish(sums: [Sums; 2], channels: usize, e: &EpilogueValues) -> [Expected; 2] {
    let mut t = 0;
    let u = sums.map(|mut sums| {
        let slopes = e.slopes.as_ref().map(|slopes| &slopes[t]);
        let slope = |at: usize| slopes.map_or(e.negative_slope, |slopes| slopes[at % channels]);
        for at in 0..sums.value.len() {
            let bias = e.bias.as_ref().map_or(0.0, |bias| f64::from(bias[t][at % channels]));
            let scale = e.scale.as_ref().map_or(1.0, |scale| {
                let (position, channel) = (at / channels, at % channels);
                let row = position.checked_div(e.scale_positions).unwrap_or(position);
                f64::from(scale[t][row * channels + channel])
            });
            let residual = e.residual.as_ref().map_or(0.0, |residual| f64::from(residual[t][at]));
            let z = (sums.value[at] + bias) * scale + residual;
            sums.value[at] = activate(e.activation, slope(at), z);
            sums.magnitude[at] = (sums.magnitude[at] + bias.abs()) * scale.abs() + residual.abs();
        }
        t += 1;
        let steepest = (0..channels).map(|at| f64::from(slope(at).abs())).fold(0.0, f64::max);
        let (lipschitz, roundings) = uncertainty(e.activation, steepest);
        let factor = lipschitz * (1.5 * (sums.length + 1) as f64 + 4.0) * F32_UNIT;
        let bounds = sums.magnitude.iter().zip(&sums.value);
        let bound = bounds.map(|(s, value)| factor * s + roundings * F32_UNIT * value.abs()).collect();
        Expected { value: sums.value, bound }
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
        Score::None => logits.value.clone(),
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
            assert!(data != Data::Integer && y.is_nan(), "element {at}: {y} instead of NaN");
            continue;
        }
        if reference.is_infinite() {
            assert!(f64::from(y) == reference, "element {at}: {y} instead of {reference}");
            continue;
        }
        if data.is_exact() {
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
