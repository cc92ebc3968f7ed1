//! Operators that move a window over a map: convolutions and pools.

use super::super::array::{Array, elements, fault};
use super::super::graph::Node;
use crate::error::Result;

/// How a window moves over a map, [h, w].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Before and after each axis.
    pub pads: [[usize; 2]; 2],
    pub dilation: [usize; 2],
    /// Whether the last window of an axis may reach beyond the padded map.
    pub ceil: bool,
}

impl Window {
    /// What a window spans along an axis.
    fn span(&self, axis: usize) -> Option<usize> {
        (self.kernel[axis].checked_sub(1)?).checked_mul(self.dilation[axis])?.checked_add(1)
    }

    /// How many windows fit along an axis, at least one.
    pub fn count(&self, axis: usize, size: usize) -> Result<usize> {
        let [before, after] = self.pads[axis];
        let room = || {
            let padded = size.checked_add(before)?.checked_add(after)?;
            padded.checked_sub(self.span(axis)?)
        };
        let room = room().ok_or_else(|| fault("a window within the padded map", format!("{self:?}")))?;
        let stride = self.stride[axis];
        if !self.ceil {
            return Ok(room / stride + 1);
        }
        // A window that would start behind the map and its padding before is left out.
        let count = room.div_ceil(stride) + 1;
        Ok(if (count - 1) * stride >= size + before { count - 1 } else { count })
    }
}

/// More than any kernel, stride, pad or dilation: what keeps a file from asking for work without end.
const MOST: usize = 1 << 12;

/// The window of a node over a map of this height and width; `kernel` is that of its weights, where it has them.
pub(in super::super) fn window(node: &Node, size: [usize; 2], kernel: Option<[usize; 2]>) -> Result<Window> {
    let pair = |name: &str, least: usize| -> Result<Option<[usize; 2]>> {
        let Some(values) = node.ints(name)? else { return Ok(None) };
        let values: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
        match values.as_deref() {
            Some(&[h, w]) if h >= least && w >= least && h.max(w) < MOST => Ok(Some([h, w])),
            _ => Err(fault(format!("two numbers from {least} to {} as `{name}`", MOST - 1), "others")),
        }
    };
    let stated = pair("kernel_shape", 1)?;
    let kernel = match (stated, kernel) {
        (Some(stated), Some(kernel)) if stated != kernel => {
            return Err(fault(format!("a kernel of {kernel:?}, as the weights"), format!("{stated:?}")));
        }
        (stated, kernel) => stated.or(kernel).ok_or_else(|| fault("a kernel", "none"))?,
    };
    let is_conv = node.op == "Conv";
    let mut window = Window {
        kernel,
        stride: pair("strides", 1)?.unwrap_or([1, 1]),
        pads: [[0, 0]; 2],
        dilation: pair("dilations", 1)?.unwrap_or([1, 1]),
        ceil: !is_conv && node.int_of("ceil_mode", &[0, 1])? == 1,
    };
    let auto_pad = node.text("auto_pad")?.unwrap_or("NOTSET");
    match auto_pad {
        "NOTSET" => {
            if let Some(pads) = node.ints("pads")? {
                let pads: Option<Vec<usize>> =
                    pads.iter().map(|&v| usize::try_from(v).ok().filter(|&v| v < MOST)).collect();
                let Some(&[top, left, bottom, right]) = pads.as_deref() else {
                    return Err(fault(format!("four pads from 0 to {}", MOST - 1), "others"));
                };
                window.pads = [[top, bottom], [left, right]];
            }
        }
        "VALID" => {}
        "SAME_UPPER" | "SAME_LOWER" => {
            for axis in 0..2 {
                let count = size[axis].div_ceil(window.stride[axis]);
                let span = window.span(axis).ok_or_else(|| fault("a window", "one too large"))?;
                let reach = (count.saturating_sub(1)) * window.stride[axis] + span;
                let total = reach.saturating_sub(size[axis]);
                let (less, more) = (total / 2, total - total / 2);
                window.pads[axis] = if auto_pad == "SAME_UPPER" { [less, more] } else { [more, less] };
            }
        }
        other => return Err(fault("an `auto_pad` that is known", other)),
    }
    Ok(window)
}

/// The dimensions of an array [1, C, H, W].
fn map_dims(x: &Array) -> Result<[usize; 3]> {
    match x.dims[..] {
        [1, channels, height, width] => Ok([channels, height, width]),
        _ => Err(fault("a map of [1, C, H, W]", format!("{:?}", x.dims))),
    }
}

/// About how many floats of the input's columns are multiplied at a time: what stays in a cache.
const TILE_FLOATS: usize = 1 << 16;

/// Output channels, and positions, that are summed up side by side.
const BLOCK: [usize; 2] = [4, 8];

pub(super) fn conv(node: &Node, x: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array> {
    let [channels, height, width] = map_dims(x)?;
    let &[out_channels, in_group, kh, kw] = &weight.dims[..] else {
        return Err(fault("weights of [out, in, h, w]", format!("{:?}", weight.dims)));
    };
    let groups = node.int("group")?.unwrap_or(1);
    let groups = usize::try_from(groups).ok().filter(|&g| g > 0 && out_channels.is_multiple_of(g));
    let Some(groups) = groups.filter(|&g| in_group.checked_mul(g) == Some(channels)) else {
        return Err(fault(format!("groups of {in_group} of {channels} channels"), "others"));
    };
    let window = window(node, [height, width], Some([kh, kw]))?;
    let (out_height, out_width) = (window.count(0, height)?, window.count(1, width)?);
    let positions = out_height * out_width;
    let dims = vec![1, out_channels, out_height, out_width];
    let mut output = vec![0.0; elements(&dims)?];
    let (x, weight) = (x.as_floats()?, weight.as_floats()?);
    let bias = bias.map(Array::as_floats).transpose()?;
    if bias.is_some_and(|bias| bias.len() != out_channels) {
        return Err(fault(format!("{out_channels} biases"), "another number"));
    }
    let (rows, out_group) = (in_group * kh * kw, out_channels / groups);
    let tile = (TILE_FLOATS / rows.max(1)).min(positions).next_multiple_of(BLOCK[1]).max(BLOCK[1]);
    let mut columns = vec![0.0; rows * tile];
    for group in 0..groups {
        for start in (0..positions).step_by(tile) {
            let len = tile.min(positions - start);
            // columns[row][position]: what the tap `row` reads for each position of the tile.
            for (row, column) in columns.chunks_exact_mut(tile).enumerate() {
                let (channel, tap) = (group * in_group + row / (kh * kw), row % (kh * kw));
                for (position, value) in column[..len].iter_mut().enumerate() {
                    let (oh, ow) = ((start + position) / out_width, (start + position) % out_width);
                    let inside = |out: usize, axis: usize, tap: usize, size: usize| {
                        let at = out * window.stride[axis] + tap * window.dilation[axis];
                        at.checked_sub(window.pads[axis][0]).filter(|&at| at < size)
                    };
                    *value = match (inside(oh, 0, tap / kw, height), inside(ow, 1, tap % kw, width)) {
                        (Some(h), Some(w)) => x[(channel * height + h) * width + w],
                        _ => 0.0,
                    };
                }
            }
            let last = (group + 1) * out_group;
            for out in (group * out_group..last).step_by(BLOCK[0]) {
                // Rows beyond the last are computed and dropped.
                let taps: [&[f32]; BLOCK[0]] =
                    std::array::from_fn(|row| &weight[(out + row).min(last - 1) * rows..][..rows]);
                for from in (0..len).step_by(BLOCK[1]) {
                    let mut sums = [[0.0; BLOCK[1]]; BLOCK[0]];
                    for (row, column) in columns.chunks_exact(tile).enumerate() {
                        let Some(values) = column[from..].first_chunk::<{ BLOCK[1] }>() else { continue };
                        for (sums, taps) in sums.iter_mut().zip(taps) {
                            for (sum, value) in sums.iter_mut().zip(values) {
                                *sum += taps[row] * value;
                            }
                        }
                    }
                    let count = (len - from).min(BLOCK[1]);
                    for (row, sums) in sums.iter().enumerate().take(last - out) {
                        let bias = bias.map_or(0.0, |bias| bias[out + row]);
                        let to = &mut output[(out + row) * positions + start + from..][..count];
                        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum + bias);
                    }
                }
            }
        }
    }
    Ok(Array::floats(dims, output))
}

pub(super) fn pool(node: &Node, x: &Array) -> Result<Array> {
    let [channels, height, width] = map_dims(x)?;
    let size = [height, width];
    let (window, count_pads) = match node.op.as_str() {
        "GlobalMaxPool" | "GlobalAveragePool" => {
            let all =
                Window { kernel: size, stride: [1, 1], pads: [[0, 0]; 2], dilation: [1, 1], ceil: false };
            (all, false)
        }
        "AveragePool" => (window(node, size, None)?, node.int_of("count_include_pad", &[0, 1])? == 1),
        _ => {
            node.int_of("storage_order", &[0])?;
            (window(node, size, None)?, false)
        }
    };
    let is_max = matches!(node.op.as_str(), "MaxPool" | "GlobalMaxPool");
    let dims = vec![1, channels, window.count(0, height)?, window.count(1, width)?];
    let mut output = Vec::with_capacity(elements(&dims)?);
    for plane in x.as_floats()?.chunks_exact(height * width) {
        for (oh, ow) in (0..dims[2]).flat_map(|oh| (0..dims[3]).map(move |ow| (oh, ow))) {
            // The positions along an axis that a window reads, and how many it would with its padding.
            let along = |axis: usize, out: usize| {
                let start = (out * window.stride[axis]) as i64 - window.pads[axis][0] as i64;
                let size = size[axis] as i64;
                let end = size + window.pads[axis][1] as i64;
                let taps = (0..window.kernel[axis] as i64)
                    .map(move |tap| start + tap * window.dilation[axis] as i64);
                let padded = taps.clone().filter(|&at| at < end).count();
                (taps.filter(move |at| (0..size).contains(at)), padded)
            };
            let ((rows, padded_rows), (columns, padded_columns)) = (along(0, oh), along(1, ow));
            let (mut sum, mut most, mut read) = (0.0, f32::NEG_INFINITY, 0);
            for row in rows {
                for column in columns.clone() {
                    let value = plane[row as usize * width + column as usize];
                    sum += f64::from(value);
                    most = most.max(value);
                    read += 1;
                }
            }
            let divisor = if count_pads { padded_rows * padded_columns } else { read };
            output.push(if is_max { most } else { (sum / divisor as f64) as f32 });
        }
    }
    Ok(Array::floats(dims, output))
}
