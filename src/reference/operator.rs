//! The operators on one map, loops in the order of their formulas.

use super::Map;
use crate::op::{Conv2d, Op, Pool2d, adaptive_window};
use crate::tensor::Shape;

/// z = operator(x), with the weight and bias of operators that have them; a concatenation reads several maps.
pub(super) fn apply(op: &Op, inputs: &[&Map], weight: &[f64], bias: &[f64]) -> Map {
    let x = inputs[0];
    match op {
        Op::Conv2d(conv) => conv2d(conv, x, weight, bias),
        Op::Linear => linear(x, weight, bias),
        Op::MaxPool2d(pool) => {
            pool2d(pool, x, |elements, _| elements.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        Op::AvgPool2d(pool) => pool2d(pool, x, |elements, count| elements.iter().sum::<f64>() / count),
        Op::AdaptiveAvgPool2d([height, width]) => {
            let mut z = Map::zeros(Shape::new(x.shape.channels, *height, *width));
            for c in 0..x.shape.channels {
                for i in 0..*height {
                    for j in 0..*width {
                        let rows = adaptive_window(i, x.shape.height, *height);
                        let columns = adaptive_window(j, x.shape.width, *width);
                        let count = (rows.len() * columns.len()) as f64;
                        let elements = rows.flat_map(|y| columns.clone().map(move |x| (y, x)));
                        let sum: f64 =
                            elements.map(|(row, column)| x.channel(c)[row * x.shape.width + column]).sum();
                        z.channel_mut(c)[i * width + j] = sum / count;
                    }
                }
            }
            z
        }
        Op::GlobalAvgPool2d => {
            let mut z = Map::zeros(Shape::new(x.shape.channels, 1, 1));
            for (c, z) in z.data.iter_mut().enumerate() {
                *z = x.channel(c).iter().sum::<f64>() / x.shape.pixels() as f64;
            }
            z
        }
        Op::BatchNorm => {
            let mut z = x.clone();
            for (c, (factor, term)) in weight.iter().zip(bias).enumerate() {
                z.channel_mut(c).iter_mut().for_each(|v| *v = *v * factor + term);
            }
            z
        }
        Op::Concat => {
            let channels = inputs.iter().map(|map| map.shape.channels).sum();
            let data = inputs.iter().flat_map(|map| map.data.iter().copied()).collect();
            Map { shape: Shape { channels, ..x.shape }, data }
        }
        Op::Upsample2d([h, w]) => {
            let Shape { channels, height, width } = x.shape;
            let mut z = Map::zeros(Shape::new(channels, height * h, width * w));
            for c in 0..channels {
                for (index, v) in z.channel_mut(c).iter_mut().enumerate() {
                    let (row, column) = (index / (width * w), index % (width * w));
                    *v = x.channel(c)[row / h * width + column / w];
                }
            }
            z
        }
        Op::Identity => x.clone(),
    }
}

/// The row or column of the input that output `index` meets at kernel element `tap`, unless it is padding.
fn meets(
    index: usize,
    stride: usize,
    tap: usize,
    dilation: usize,
    before: usize,
    size: usize,
) -> Option<usize> {
    (index * stride + tap * dilation).checked_sub(before).filter(|&i| i < size)
}

/// z[o][y][x] = b[o] + sum over i, ky, kx of w[o][i][ky][kx] * input[group(o) + i][y*s + ky*d - top][x*s + kx*d - left]
fn conv2d(conv: &Conv2d, input: &Map, weight: &[f64], bias: &[f64]) -> Map {
    let Shape { channels, height, width } = input.shape;
    let [kh, kw] = conv.kernel;
    let extent = |size: usize, before: usize, after: usize, axis: usize| {
        (size + before + after - (conv.dilation[axis] * (conv.kernel[axis] - 1) + 1)) / conv.stride[axis] + 1
    };
    let out_height = extent(height, conv.padding.top, conv.padding.bottom, 0);
    let out_width = extent(width, conv.padding.left, conv.padding.right, 1);
    let (out_channels, in_group) = (bias.len(), channels / conv.groups);
    let out_group = out_channels / conv.groups;
    let mut z = Map::zeros(Shape::new(out_channels, out_height, out_width));
    for o in 0..out_channels {
        let map = z.channel_mut(o);
        map.fill(bias[o]);
        for i in 0..in_group {
            let source = input.channel(o / out_group * in_group + i);
            for ky in 0..kh {
                for kx in 0..kw {
                    let w = weight[((o * in_group + i) * kh + ky) * kw + kx];
                    for y in 0..out_height {
                        let Some(iy) =
                            meets(y, conv.stride[0], ky, conv.dilation[0], conv.padding.top, height)
                        else {
                            continue;
                        };
                        for x in 0..out_width {
                            let column =
                                meets(x, conv.stride[1], kx, conv.dilation[1], conv.padding.left, width);
                            if let Some(ix) = column {
                                map[y * out_width + x] += w * source[iy * width + ix];
                            }
                        }
                    }
                }
            }
        }
    }
    z
}

/// z[o] = b[o] + sum over features of w[o][feature] * input[feature], features in (C, H, W) order
fn linear(input: &Map, weight: &[f64], bias: &[f64]) -> Map {
    let features = input.data.len();
    let mut z = Map::zeros(Shape::new(bias.len(), 1, 1));
    for (o, z) in z.data.iter_mut().enumerate() {
        let row = &weight[o * features..][..features];
        *z = bias[o] + row.iter().zip(&input.data).map(|(w, x)| w * x).sum::<f64>();
    }
    z
}

/// The rows or columns of the input that the window of output `index` meets, padding left out.
fn window(index: usize, stride: usize, kernel: usize, before: usize, size: usize) -> std::ops::Range<usize> {
    let begin = index * stride;
    begin.saturating_sub(before)..(begin + kernel).saturating_sub(before).min(size)
}

/// Each window's elements inside the map through `reduce`, which is also told what an average divides by.
fn pool2d(pool: &Pool2d, input: &Map, reduce: impl Fn(&[f64], f64) -> f64) -> Map {
    let Shape { channels, height, width } = input.shape;
    let [kh, kw] = pool.kernel;
    // As many windows as begin within the map or the padding before it, whole ones unless in ceil mode.
    let extent = |size: usize, before: usize, after: usize, axis: usize| {
        let (kernel, stride) = (pool.kernel[axis], pool.stride[axis]);
        (0..).take_while(move |i| {
            let begin = i * stride;
            let whole = begin + kernel <= size + before + after;
            let first_beyond = begin + kernel >= size + before + after + stride;
            begin < size + before && (whole || (pool.ceil_mode && !first_beyond))
        })
    };
    let rows = extent(height, pool.padding.top, pool.padding.bottom, 0).count();
    let columns = extent(width, pool.padding.left, pool.padding.right, 1).count();
    let mut z = Map::zeros(Shape::new(channels, rows, columns));
    let mut elements = Vec::new();
    for c in 0..channels {
        for y in 0..rows {
            for x in 0..columns {
                elements.clear();
                for iy in window(y, pool.stride[0], kh, pool.padding.top, height) {
                    for ix in window(x, pool.stride[1], kw, pool.padding.left, width) {
                        elements.push(input.channel(c)[iy * width + ix]);
                    }
                }
                // Padding counts as far as it goes, where it counts at all.
                let with_padding = |index: usize, axis: usize, size: usize, around: usize| {
                    let begin = index * pool.stride[axis];
                    (begin + pool.kernel[axis]).min(size + around) - begin
                };
                let count = match pool.count_include_pad {
                    false => elements.len(),
                    true => {
                        with_padding(y, 0, height, pool.padding.top + pool.padding.bottom)
                            * with_padding(x, 1, width, pool.padding.left + pool.padding.right)
                    }
                };
                z.channel_mut(c)[y * columns + x] = reduce(&elements, count as f64);
            }
        }
    }
    z
}
