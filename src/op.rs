//! The operators a layer pair can run, and the shapes they give.
//!
//! Every operator reads and writes maps of channels x height x width. A window operator (convolution, pooling)
//! over an extent of `n` with kernel `k`, stride `s`, dilation `d` and padding `p0` before and `p1` after gives
//! `floor((n + p0 + p1 - (d*(k-1) + 1)) / s) + 1`, as in PyTorch. A pooling in ceil mode rounds up instead, as far as its last
//! window begins within the map or the padding before it.

// An operator that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Shape;

/// Zeros (or, for a maximum, nothing) around a map, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same padding on every side.
    pub(crate) fn uniform(pixels: usize) -> Self {
        Padding { top: pixels, left: pixels, bottom: pixels, right: pixels }
    }

    /// Whether this is at least as much on every side.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.max(other) == self
    }

    /// The larger of two paddings on each side.
    pub(crate) fn max(self, other: Self) -> Self {
        Padding {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }
}

/// A cross-correlation with zero padding; the number of output channels is that of its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conv2d {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns from one output pixel to the next.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Rows and columns from one kernel element to the next.
    pub dilation: [usize; 2],
    /// Input and output channels are split into this many groups, each read only by its own.
    pub groups: usize,
}

impl Conv2d {
    /// The zeros around an input that the windows of this output reach, at most the padding.
    pub(crate) fn reach(&self, input: Shape, output: Shape) -> Padding {
        let behind = |axis: usize, before: usize, input: usize, output: usize| {
            let last = (output - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis];
            (last + 1).saturating_sub(before + input)
        };
        let Padding { top, left, .. } = self.padding;
        let (bottom, right) =
            (behind(0, top, input.height, output.height), behind(1, left, input.width, output.width));
        Padding { top, left, bottom, right }
    }

    /// The kernel rows that meet the input's `size` rows and not the zeros around them, for the row `output` of the output;
    /// columns for `axis` 1. Where all do, it asks few of them.
    #[inline]
    pub(crate) fn taps_inside(&self, axis: usize, output: usize, size: usize) -> Range<usize> {
        let before = [self.padding.top, self.padding.left][axis];
        let taps = 0..self.kernel[axis];
        let position = |tap| output * self.stride[axis] + tap * self.dilation[axis];
        let first = taps.clone().find(|&tap| position(tap) >= before).unwrap_or(taps.end);
        let last = taps.clone().rfind(|&tap| position(tap) < before + size);
        first..last.map_or(0, |tap| tap + 1)
    }
}

/// A pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool2d {
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Padding, which never wins a maximum.
    pub padding: Padding,
    /// Whether a last window that is not whole is computed too.
    pub ceil_mode: bool,
    /// Whether an average divides by the padding that its window meets as well; what lies beyond the padding never counts.
    pub count_include_pad: bool,
}

impl Pool2d {
    /// What an average divides by: the positions that the window of the output's `row` and `column` has in `input`, and in
    /// the padding where that counts.
    #[inline]
    pub(crate) fn divisor(&self, input: Shape, row: usize, column: usize) -> usize {
        let Padding { top, left, bottom, right } = self.padding;
        let count = |axis: usize, index: usize, before: usize, size: usize, after: usize| {
            let begin = index * self.stride[axis];
            let end = (begin + self.kernel[axis]).min(before + size + after);
            match self.count_include_pad {
                true => end - begin,
                false => end.min(before + size) - begin.max(before),
            }
        };
        count(0, row, top, input.height, bottom) * count(1, column, left, input.width, right)
    }
}

/// The rows (or columns) of an input of `size` that the window `index` of an adaptive pooling to `output` windows averages, as
/// in PyTorch.
#[inline]
pub(crate) fn adaptive_window(index: usize, size: usize, output: usize) -> Range<usize> {
    index * size / output..((index + 1) * size).div_ceil(output)
}

/// What every branch of a layer computes, before scale, residual, activation and AWS-Unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Two-dimensional convolution.
    Conv2d(Conv2d),
    /// A matrix applied to the map flattened in (C, H, W) order; gives C x 1 x 1.
    Linear,
    /// The maximum over a window.
    MaxPool2d(Pool2d),
    /// The mean over a window.
    AvgPool2d(Pool2d),
    /// The mean over each of [height, width] windows that cover the map: the window i of n over an extent of s goes from
    /// `floor(i*s/n)` to `ceil((i+1)*s/n)`.
    AdaptiveAvgPool2d([usize; 2]),
    /// The mean over the whole map; gives C x 1 x 1.
    GlobalAvgPool2d,
    /// A factor and a term a channel, each branch its own: what the manifest calls an `identity` with a `batch_norm`.
    BatchNorm,
    /// The channels of several maps of one height and width, one map behind the other.
    Concat,
    /// Each row and column repeated so many times: nearest-neighbour upsampling.
    Upsample2d([usize; 2]),
    /// The input itself.
    Identity,
}

impl Op {
    /// The operator's name in the manifest; `batch_norm` of one that stands alone.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::Linear => "linear",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            Op::GlobalAvgPool2d => "global_avg_pool2d",
            Op::BatchNorm => "batch_norm",
            Op::Concat => "concat",
            Op::Upsample2d(_) => "upsample2d",
            Op::Identity => "identity",
        }
    }

    /// Whether each branch has a weight of its own for this operator.
    pub fn has_weight(&self) -> bool {
        match self {
            Op::Conv2d(_) | Op::Linear | Op::BatchNorm => true,
            Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::AdaptiveAvgPool2d(_)
            | Op::GlobalAvgPool2d
            | Op::Concat
            | Op::Upsample2d(_)
            | Op::Identity => false,
        }
    }

    /// The dimensions of the weight, given the input's shape and the number of output channels.
    pub(crate) fn weight_dims(&self, input: Shape, out_channels: usize) -> Option<Vec<usize>> {
        match self {
            Op::Conv2d(conv) => {
                let [kh, kw] = conv.kernel;
                Some(vec![out_channels, input.channels / conv.groups, kh, kw])
            }
            Op::Linear => Some(vec![out_channels, input.len()]),
            Op::BatchNorm => Some(vec![input.channels]),
            Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::AdaptiveAvgPool2d(_)
            | Op::GlobalAvgPool2d
            | Op::Concat
            | Op::Upsample2d(_)
            | Op::Identity => None,
        }
    }

    /// The shape this operator gives; `out_channels` is that of the weight and counts only where there is one. `inputs` are
    /// the maps it reads, one for all but a concatenation.
    ///
    /// `place` names the layer in errors: groups that do not divide the channels, a window larger than the padded
    /// input, maps of several sizes concatenated, a map too large for the address space.
    pub(crate) fn output_shape(&self, place: &str, inputs: &[Shape], out_channels: usize) -> Result<Shape> {
        let input = inputs[0];
        let error = |expected: String, found: String| Error::new(ErrorKind::Model, place, expected, found);
        let window = |kernel: [usize; 2],
                      stride: [usize; 2],
                      padding: Padding,
                      dilation: [usize; 2],
                      ceil_mode: bool| {
            let extent = |size: usize, before: usize, after: usize, axis: usize| {
                let padded = size.checked_add(before)?.checked_add(after)?;
                let span = (kernel[axis] - 1).checked_mul(dilation[axis])?.checked_add(1)?;
                let whole = padded.checked_sub(span).map_or(0, |steps| steps / stride[axis] + 1);
                // One more window, where pixels are left over for it, unless nothing but the padding behind the map would be
                // in it.
                let begins = whole.checked_mul(stride[axis])?;
                let left_over = begins.saturating_add(span) < padded.saturating_add(stride[axis]);
                let windows = whole + usize::from(ceil_mode && left_over && begins < size + before);
                (windows > 0).then_some(windows)
            };
            let rows = extent(input.height, padding.top, padding.bottom, 0);
            let columns = extent(input.width, padding.left, padding.right, 1);
            match (rows, columns) {
                (Some(height), Some(width)) => Ok((height, width)),
                _ => Err(error(
                    format!(
                        "an output of at least 1x1, that is an input padded to at least the window of {}x{} \
                         (kernel and dilation)",
                        (kernel[0] - 1).saturating_mul(dilation[0]).saturating_add(1),
                        (kernel[1] - 1).saturating_mul(dilation[1]).saturating_add(1),
                    ),
                    format!(
                        "an empty output: {}x{} with padding",
                        input.height.saturating_add(padding.top).saturating_add(padding.bottom),
                        input.width.saturating_add(padding.left).saturating_add(padding.right),
                    ),
                )),
            }
        };
        let shape = match self {
            Op::Conv2d(conv) => {
                for (what, channels) in [("input", input.channels), ("output", out_channels)] {
                    if !channels.is_multiple_of(conv.groups) {
                        return Err(error(
                            format!("{what} channels that are a multiple of `groups` {}", conv.groups),
                            format!("{channels} {what} channels"),
                        ));
                    }
                }
                let (height, width) = window(conv.kernel, conv.stride, conv.padding, conv.dilation, false)?;
                Shape::new(out_channels, height, width)
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
                let (height, width) = window(pool.kernel, pool.stride, pool.padding, [1, 1], pool.ceil_mode)?;
                Shape::new(input.channels, height, width)
            }
            Op::Linear => Shape::new(out_channels, 1, 1),
            Op::AdaptiveAvgPool2d([height, width]) => Shape::new(input.channels, *height, *width),
            Op::GlobalAvgPool2d => Shape::new(input.channels, 1, 1),
            Op::Concat => {
                let mut channels = 0usize;
                for shape in inputs {
                    if (shape.height, shape.width) != (input.height, input.width) {
                        return Err(error(
                            format!(
                                "maps of {}x{} pixels, as the first of them has",
                                input.height, input.width
                            ),
                            shape.to_string(),
                        ));
                    }
                    channels = channels.saturating_add(shape.channels);
                }
                Shape::new(channels, input.height, input.width)
            }
            Op::Upsample2d([h, w]) => {
                Shape::new(input.channels, input.height.saturating_mul(*h), input.width.saturating_mul(*w))
            }
            Op::BatchNorm | Op::Identity => input,
        };
        match shape.checked_len() {
            Some(0) => Err(error("an output with at least one element".into(), format!("{shape}"))),
            Some(_) => Ok(shape),
            None => Err(error("an output that fits the address space".into(), format!("{shape}"))),
        }
    }

    /// Multiplications and additions for one image and one branch, a multiply-add counting 2.
    pub(crate) fn flop(&self, input: Shape, output: Shape) -> u64 {
        let output_len = output.len() as u64;
        match self {
            Op::Conv2d(conv) => {
                let [kh, kw] = conv.kernel.map(|extent| extent as u64);
                let k = kh.saturating_mul(kw).saturating_mul((input.channels / conv.groups) as u64);
                output_len.saturating_mul(k).saturating_mul(2)
            }
            Op::Linear => output_len.saturating_mul(input.len() as u64).saturating_mul(2),
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
                let [kh, kw] = pool.kernel.map(|extent| extent as u64);
                output_len.saturating_mul(kh.saturating_mul(kw))
            }
            // Windows of an adaptive pooling meet each element about once.
            Op::AdaptiveAvgPool2d(_) | Op::GlobalAvgPool2d => input.len() as u64,
            Op::BatchNorm => output_len.saturating_mul(2),
            Op::Concat | Op::Upsample2d(_) | Op::Identity => 0,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Op::Conv2d(Conv2d { kernel, stride, dilation, groups, .. }) => {
                write!(f, " {}x{}", kernel[0], kernel[1])?;
                if *stride != [1, 1] {
                    write!(f, " /{}x{}", stride[0], stride[1])?;
                }
                if *dilation != [1, 1] {
                    write!(f, " dilation {}x{}", dilation[0], dilation[1])?;
                }
                if *groups != 1 {
                    write!(f, " groups {groups}")?;
                }
                Ok(())
            }
            Op::MaxPool2d(Pool2d { kernel, stride, .. }) | Op::AvgPool2d(Pool2d { kernel, stride, .. }) => {
                write!(f, " {}x{} /{}x{}", kernel[0], kernel[1], stride[0], stride[1])
            }
            Op::AdaptiveAvgPool2d([h, w]) | Op::Upsample2d([h, w]) => write!(f, " {h}x{w}"),
            Op::Linear | Op::GlobalAvgPool2d | Op::BatchNorm | Op::Concat | Op::Identity => Ok(()),
        }
    }
}

/// The function applied to each element of z * scale + residual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x where x >= 0, else `negative_slope` * x
    LeakyRelu {
        /// The slope on the negative side.
        negative_slope: f32,
    },
    /// As leaky relu, with a slope a channel that is learnt, each branch its own.
    Prelu,
    /// x where x >= 0, else exp(x) - 1
    Elu,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// relu6(x + 3) / 6
    HardSigmoid,
    /// x / (1 + exp(-x))
    Silu,
    /// x * relu6(x + 3) / 6
    HardSwish,
    /// (exp(2x) - 1) / (exp(2x) + 1)
    Tanh,
    /// x * (1 + erf(x / sqrt(2))) / 2
    Gelu,
    /// x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2
    GeluTanh,
}

impl Activation {
    /// The activation's name in the manifest.
    pub fn name(&self) -> &'static str {
        match self {
            Activation::None => "none",
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::Prelu => "prelu",
            Activation::Elu => "elu",
            Activation::Sigmoid => "sigmoid",
            Activation::HardSigmoid => "hardsigmoid",
            Activation::Silu => "silu",
            Activation::HardSwish => "hardswish",
            Activation::Tanh => "tanh",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
        }
    }

    /// A bound on |f'|, which is how much the activation can magnify an error; `steepest` is the largest magnitude of a PReLU's
    /// slopes.
    pub(crate) fn lipschitz(&self, steepest: f32) -> f64 {
        match self {
            Activation::None | Activation::Relu | Activation::Relu6 | Activation::Elu | Activation::Tanh => {
                1.0
            }
            Activation::LeakyRelu { negative_slope } => f64::from(negative_slope.abs()).max(1.0),
            Activation::Prelu => f64::from(steepest).max(1.0),
            Activation::Sigmoid => 0.25,
            Activation::HardSigmoid => 1.0 / 6.0,
            Activation::Silu => 1.1, // the maximum of silu' is 1.0998..., at x = 2.3994
            Activation::HardSwish => 1.5, // at x = 3
            Activation::Gelu => 1.13, // the maximum of gelu' is 1.1289..., at x = sqrt(2)
            Activation::GeluTanh => 1.13,
        }
    }

    /// How far a computed value may be from the function's, in units of 2^-24 of the value, whatever it is given: the
    /// roundings of its own formula.
    pub(crate) fn own_roundings(&self) -> f64 {
        match self {
            Activation::None | Activation::Relu | Activation::Relu6 => 0.0,
            Activation::LeakyRelu { .. } | Activation::Prelu => 1.0,
            Activation::HardSigmoid | Activation::HardSwish => 4.0,
            Activation::Elu
            | Activation::Sigmoid
            | Activation::Silu
            | Activation::Tanh
            | Activation::Gelu
            | Activation::GeluTanh => 16.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_inside_are_those_that_read_the_input() {
        let cases = (1..=5).flat_map(|kernel| (1..=3).map(move |step| (kernel, step)));
        for ((kernel, stride), dilation) in cases.flat_map(|case| [1, 2, 4].map(|d| (case, d))) {
            for (before, size) in (0..=6).flat_map(|before| (1..=7).map(move |size| (before, size))) {
                let padding = Padding { left: before, right: 3, ..Padding::default() };
                let conv = Conv2d {
                    kernel: [1, kernel],
                    stride: [1, stride],
                    padding,
                    dilation: [1, dilation],
                    groups: 1,
                };
                for output in 0..12 {
                    let reads = |tap: &usize| (output * stride + tap * dilation).checked_sub(before);
                    let inside = |tap: &usize| reads(tap).is_some_and(|column| column < size);
                    let expected: Vec<usize> = (0..kernel).filter(inside).collect();
                    let found: Vec<usize> = conv.taps_inside(1, output, size).collect();
                    assert_eq!(found, expected, "{conv:?}, {output} of {size}");
                }
            }
        }
    }
}
