//! Convolutions, pools and reductions. What lies between a map and its operator goes into the operator: a border into its
//! padding, another order of channels into its weights, or behind it.

use super::super::array::{Array, fault};
use super::super::evaluate::{Window, transpose, window};
use super::super::graph::Node;
use super::super::network::{Kind, Weights};
use super::super::pointwise::Function;
use super::super::view::{LEAST, Map, ZERO};
use super::{Lowering, MAX_SELECTION, resized_dims};
use crate::error::Result;

impl Lowering<'_> {
    pub(super) fn conv(
        &mut self,
        node: &Node,
        map: &Map,
        weight: &Array,
        bias: Option<&Array>,
    ) -> Result<Map> {
        let mut map = self.plain(map, node)?;
        let &[out, in_group, kh, kw] = &weight.dims[..] else {
            return Err(fault("weights of [out, in, h, w]", format!("{:?}", weight.dims)));
        };
        let &[1, channels, height, width] = &map.dims[..] else {
            return Err(fault("a map of [1, C, H, W]", format!("{:?}", map.dims)));
        };
        let groups = usize::try_from(node.int("group")?.unwrap_or(1)).unwrap_or(0);
        if groups == 0
            || in_group.checked_mul(groups) != Some(channels)
            || !out.is_multiple_of(groups)
            || out == 0
        {
            return Err(fault(
                format!("weights for {channels} channels in {groups} groups"),
                format!("{:?}", weight.dims),
            ));
        }
        let bias = bias.map(|bias| bias.as_floats().map(<[f32]>::to_vec)).transpose()?;
        if bias.as_ref().is_some_and(|bias| bias.len() != out) {
            return Err(fault(format!("a bias of {out} numbers"), "another length"));
        }
        let mut window = window(node, [height, width], Some([kh, kw]))?;
        let mut values = weight.as_floats()?.to_vec();
        let mut dims = weight.dims.clone();
        let mut shape = self.network.shape(map.id);
        let usable = |map: &Map, shape: [usize; 3]| {
            map.placement(shape).filter(|p| p.step == [1, 1] && p.fill.unwrap_or(ZERO) == ZERO)
        };
        let placement = match usable(&map, shape) {
            Some(placement) => placement,
            None => {
                map = self.whole(&map, node)?;
                shape = self.network.shape(map.id);
                usable(&map, shape).ok_or_else(|| fault("a map", "another order of elements"))?
            }
        };
        let mut pads = placement.pads;
        // Which output channel each row of the weights becomes, where they are moved.
        let mut moved = None;
        if !placement.is_all_channels(shape[0]) {
            let taps = kh * kw;
            let picked: Option<Vec<usize>> = placement.channels.iter().copied().collect();
            let mut sorted = picked.clone().unwrap_or_default();
            sorted.sort_unstable();
            if groups == 1 && out.saturating_mul(shape[0] * taps) <= MAX_SELECTION.max(values.len()) {
                // The columns go where the channels are.
                let mut spread = vec![0.0; out * shape[0] * taps];
                for row in 0..out {
                    for (at, channel) in placement.channels.iter().enumerate() {
                        let Some(channel) = channel else { continue };
                        for tap in 0..taps {
                            spread[(row * shape[0] + channel) * taps + tap] +=
                                values[(row * channels + at) * taps + tap];
                        }
                    }
                }
                (values, dims) = (spread, vec![out, shape[0], kh, kw]);
            } else if groups == channels && sorted.iter().copied().eq(0..shape[0]) {
                // Depthwise: the rows go where the channels are, and what comes out is in their order too.
                let each = out / groups;
                let mut rows = vec![0; out];
                let mut turned = vec![0.0; values.len()];
                for (at, channel) in picked.unwrap_or_default().into_iter().enumerate() {
                    for copy in 0..each {
                        let (from, to) = (at * each + copy, channel * each + copy);
                        rows[from] = to;
                        turned[to * taps..][..taps].copy_from_slice(&values[from * taps..][..taps]);
                    }
                }
                values = turned;
                moved = Some(rows);
            } else {
                map = self.whole(&map, node)?;
                pads = [[0, 0]; 2];
            }
        }
        for (own, border) in window.pads.iter_mut().zip(pads) {
            own[0] += border[0];
            own[1] += border[1];
        }
        let bias = match (&moved, bias) {
            (Some(rows), Some(bias)) => {
                let mut turned = vec![0.0; out];
                rows.iter().zip(bias).for_each(|(&to, value)| turned[to] = value);
                Some(turned)
            }
            (_, bias) => bias,
        };
        let weights = Weights { dims, weight: values, bias };
        let id = self.add(Kind::Conv2d { window, groups, weights }, vec![map.id], node)?;
        let shape = self.network.shape(id);
        match moved {
            Some(rows) => Map::of_channels(id, shape, &rows),
            None => Ok(Map::whole(id, resized_dims(shape))),
        }
    }

    pub(super) fn pool(&mut self, node: &Node, map: &Map) -> Result<Map> {
        let mut map = self.plain(map, node)?;
        let &[1, _, height, width] = &map.dims[..] else {
            return Err(fault("a map of [1, C, H, W]", format!("{:?}", map.dims)));
        };
        let is_max = node.op == "MaxPool";
        let mut window = window(node, [height, width], None)?;
        if window.dilation != [1, 1] {
            return Err(fault("a pool without dilation", format!("{:?}", window.dilation)));
        }
        if node.outputs.len() > 1 {
            return Err(fault("one output", "indices of the maxima too"));
        }
        let mut count_include_pad = false;
        if is_max {
            node.int_of("storage_order", &[0])?;
        } else {
            count_include_pad = node.int_of("count_include_pad", &[0, 1])? == 1;
        }
        // A border joins the pool's own padding where that comes to the same.
        let own = window.pads != [[0, 0]; 2];
        let shape = self.network.shape(map.id);
        let mut placement = map.placement(shape);
        let small = |pads: [[usize; 2]; 2]| {
            (0..2).all(|axis| pads[axis].iter().all(|&pad| pad < window.kernel[axis]))
        };
        let joins = placement.as_ref().is_some_and(|p| {
            let zeros_fit =
                if is_max { self.network.is_non_negative(map.id) } else { !own || count_include_pad };
            let fits = match p.fill {
                Some(LEAST) => is_max,
                _ => zeros_fit,
            };
            let sum = [0, 1].map(|axis| [0, 1].map(|side| p.pads[axis][side] + window.pads[axis][side]));
            let mixed = is_max && own && p.fill == Some(ZERO);
            fits && !mixed && !window.ceil && small(sum)
        });
        let usable = placement.as_ref().is_some_and(|p| {
            p.step == [1, 1] && p.channels.iter().all(Option::is_some) && (joins || !p.has_border())
        });
        if !usable {
            map = self.whole(&map, node)?;
            placement = map.placement(self.network.shape(map.id));
        }
        let placement = placement.ok_or_else(|| fault("a map", "another order of elements"))?;
        let shape = self.network.shape(map.id);
        if placement.has_border() {
            for axis in 0..2 {
                for side in 0..2 {
                    window.pads[axis][side] += placement.pads[axis][side];
                }
            }
            count_include_pad = !is_max;
        }
        // Windows that fit without reaching beyond need no ceil.
        if window.ceil {
            let floor = Window { ceil: false, ..window };
            if [0, 1].iter().all(|&a| floor.count(a, shape[1 + a]).ok() == window.count(a, shape[1 + a]).ok())
            {
                window = floor;
            }
        }
        let unpadded = window.pads == [[0, 0]; 2];
        let id = if unpadded && window.kernel == [1, 1] && window.stride == [1, 1] {
            map.id
        } else if !is_max && unpadded && !window.ceil && window.kernel == shape[1..] {
            self.add(Kind::GlobalAvgPool2d, vec![map.id], node)?
        } else if is_max {
            self.add(Kind::MaxPool2d(window), vec![map.id], node)?
        } else {
            let count_include_pad = count_include_pad || unpadded && !window.ceil;
            self.add(Kind::AvgPool2d { window, count_include_pad }, vec![map.id], node)?
        };
        let channels: Option<Vec<usize>> = placement.channels.into_iter().collect();
        let channels = channels.ok_or_else(|| fault("channels", "zeros among them"))?;
        Map::of_channels(id, self.network.shape(id), &channels)
    }

    /// The mean or the maximum over `axes`, which leave `dims`.
    pub(super) fn reduce(
        &mut self,
        node: &Node,
        map: &Map,
        axes: &[usize],
        dims: Vec<usize>,
        is_max: bool,
    ) -> Result<Map> {
        let mut map = self.plain(map, node)?;
        if axes.iter().all(|&axis| map.dims[axis] == 1) {
            let indices = map.indices().with_dims(dims)?;
            return Map::of_indices(map.id, indices, self.len(map.id), map.function);
        }
        if map.has_fill() {
            map = self.whole(&map, node)?;
        }
        let mut found = self.reduced(&map, axes);
        if found.is_none() && map.dims.len() == 4 {
            map = self.whole(&map, node)?;
            found = self.reduced(&map, axes);
        }
        let Some((extent, outputs)) = found else {
            let found = format!("axes {axes:?} of {:?}", map.dims);
            return Err(fault("a reduction over height, width or both", found));
        };
        let all = self.network.shape(map.id)[1..] == extent;
        let window =
            Window { kernel: extent, stride: extent, pads: [[0, 0]; 2], dilation: [1, 1], ceil: false };
        let kind = match is_max {
            true => Kind::MaxPool2d(window),
            false if all => Kind::GlobalAvgPool2d,
            false => Kind::AvgPool2d { window, count_include_pad: true },
        };
        let id = self.add(kind, vec![map.id], node)?;
        Map::of_indices(id, Array::ints(dims, outputs), self.len(id), Function::identity())
    }

    /// The window that a reduction over `axes` takes together: a channel, or one of its rows or columns; and the indices of
    /// what comes out.
    fn reduced(&self, map: &Map, axes: &[usize]) -> Option<([usize; 2], Vec<i64>)> {
        let [_, height, width] = self.network.shape(map.id);
        let kept = (0..map.dims.len()).filter(|axis| !axes.contains(axis));
        let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
        let rows = transpose(&map.indices(), &order);
        let rows = rows.as_ints().ok()?;
        let len: usize = axes.iter().map(|&axis| map.dims[axis]).product();
        [[height, width], [1, width], [height, 1]].into_iter().filter(|[h, w]| h * w == len).find_map(
            |[h, w]| {
                let (out_height, out_width) = (height / h, width / w);
                let mut outputs = Vec::new();
                for row in rows.chunks_exact(len) {
                    let mut sorted = row.to_vec();
                    sorted.sort_unstable();
                    let first = usize::try_from(*sorted.first()?).ok()?;
                    let (channel, r, c) = (first / (height * width), first / width % height, first % width);
                    let expected = (0..h).flat_map(|i| (0..w).map(move |j| (first + i * width + j) as i64));
                    if r % h != 0 || c % w != 0 || !sorted.iter().copied().eq(expected) {
                        return None;
                    }
                    outputs.push(((channel * out_height + r / h) * out_width + c / w) as i64);
                }
                Some(([h, w], outputs))
            },
        )
    }
}
