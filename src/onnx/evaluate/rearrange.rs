//! Operators that compute nothing: each element of what they give is one of what they read, or a fill.

use super::super::array::{Array, Data, axis, broadcast, broadcast_places, elements, fault, strides, walk};
use super::super::graph::Node;
use super::{Inputs, ints_of, optional, require};
use crate::error::Result;

pub(in super::super) fn is_rearrangement(op: &str) -> bool {
    matches!(
        op,
        "Cast"
            | "CastLike"
            | "Concat"
            | "ConstantOfShape"
            | "Dropout"
            | "Expand"
            | "Flatten"
            | "Gather"
            | "Identity"
            | "Pad"
            | "Reshape"
            | "Resize"
            | "Slice"
            | "Split"
            | "Squeeze"
            | "Tile"
            | "Transpose"
            | "Unsqueeze"
            | "Upsample"
    )
}

/// The outputs of such a node. `fill` stands for what a Pad fills with, where not that itself is wanted.
pub(in super::super) fn rearrange(node: &Node, inputs: &Inputs, fill: Option<i64>) -> Result<Vec<Array>> {
    let x = || require(inputs, 0);
    let result = match node.op.as_str() {
        "Identity" => x()?.clone(),
        "Dropout" => {
            if optional(inputs, 2).is_some_and(|training| training.scalar().is_ok_and(|v| v != 0.0)) {
                return Err(fault("a Dropout of inference", "one of training"));
            }
            x()?.clone()
        }
        "Cast" => cast(x()?, node.int("to")?.unwrap_or(0), fill.is_some())?,
        "CastLike" => {
            let float = require(inputs, 1)?.is_float();
            cast(x()?, if float { 1 } else { 7 }, fill.is_some())?
        }
        "Concat" => return concat(node, inputs).map(|array| vec![array]),
        "ConstantOfShape" => {
            let dims = to_dims(x()?.as_ints()?)?;
            let len = elements(&dims)?;
            match node.array("value")? {
                None => Array::floats(dims, vec![0.0; len]),
                Some(value) if value.len() == 1 => value.pick(dims, std::iter::repeat_n(0, len)),
                Some(value) => return Err(fault("one value", format!("{:?}", value.dims))),
            }
        }
        "Expand" => {
            let x = x()?;
            let dims = broadcast(&x.dims, &to_dims(require(inputs, 1)?.as_ints()?)?)?;
            elements(&dims)?;
            x.pick(dims.clone(), broadcast_places(&x.dims, &dims))
        }
        "Flatten" => {
            let dims = &x()?.dims;
            let split = node.int("axis")?.unwrap_or(1);
            let split = if split == dims.len() as i64 { dims.len() } else { axis(split, dims.len())? };
            x()?.with_dims(vec![dims[..split].iter().product(), dims[split..].iter().product()])?
        }
        "Gather" => gather(node, x()?, require(inputs, 1)?)?,
        "Pad" => pad(node, inputs, fill)?,
        "Reshape" => reshape(node, x()?, require(inputs, 1)?.as_ints()?)?,
        "Resize" | "Upsample" => resize(node, inputs)?,
        "Slice" => slice(node, inputs)?,
        "Split" => return split(node, inputs),
        "Squeeze" => {
            let dims = &x()?.dims;
            let axes = match ints_of(node, inputs, Some("axes"), 1)? {
                Some(axes) => axes.into_iter().map(|a| axis(a, dims.len())).collect::<Result<Vec<_>>>()?,
                None => (0..dims.len()).filter(|&a| dims[a] == 1).collect(),
            };
            if let Some(&wide) = axes.iter().find(|&&a| dims[a] != 1) {
                return Err(fault("axes of size 1", format!("axis {wide} of {dims:?}")));
            }
            let left = dims.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, &dim)| dim);
            x()?.with_dims(left.collect())?
        }
        "Tile" => {
            let x = x()?;
            let repeats = to_dims(require(inputs, 1)?.as_ints()?)?;
            if repeats.len() != x.dims.len() {
                return Err(fault(format!("{} repeats", x.dims.len()), repeats.len().to_string()));
            }
            let dims: Option<Vec<usize>> =
                x.dims.iter().zip(&repeats).map(|(&d, &r)| d.checked_mul(r)).collect();
            let dims =
                dims.ok_or_else(|| fault("repeats of a size that a network has", format!("{repeats:?}")))?;
            let from = strides(&x.dims);
            let places = (0..elements(&dims)?).map(|index| {
                let mut rest = index;
                let mut place = 0;
                for axis in (0..dims.len()).rev() {
                    place += rest % dims[axis] % x.dims[axis] * from[axis];
                    rest /= dims[axis];
                }
                place
            });
            x.pick(dims.clone(), places)
        }
        "Transpose" => {
            let x = x()?;
            let rank = x.dims.len();
            let order = match node.ints("perm")? {
                None => (0..rank).rev().collect(),
                Some(perm) => perm.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
            };
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..rank) {
                return Err(fault(format!("an order of {rank} axes"), format!("{order:?}")));
            }
            transpose(x, &order)
        }
        "Unsqueeze" => {
            let dims = &x()?.dims;
            let axes = ints_of(node, inputs, Some("axes"), 1)?.ok_or_else(|| fault("axes", "none"))?;
            let rank = dims.len() + axes.len();
            let axes = axes.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
            let mut left = dims.iter().copied();
            let wider: Vec<usize> =
                (0..rank).map(|a| if axes.contains(&a) { 1 } else { left.next().unwrap_or(1) }).collect();
            x()?.with_dims(wider)?
        }
        other => return Err(fault("a rearrangement", other)),
    };
    Ok(vec![result])
}

fn to_dims(values: &[i64]) -> Result<Vec<usize>> {
    let dims = values.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>();
    dims.ok_or_else(|| fault("dimensions of at least 0", format!("{values:?}")))
}

/// ONNX's numbers of types: 1, 10, 11 and 16 are floats. Indices, which stand for floats, stay as they are.
fn cast(x: &Array, to: i64, indices: bool) -> Result<Array> {
    let to_float = matches!(to, 1 | 10 | 11 | 16);
    Ok(match &x.data {
        Data::Int(_) if indices && to_float => x.clone(),
        Data::Float(_) if to_float => x.clone(),
        Data::Int(v) if to_float => Array::floats(x.dims.clone(), v.iter().map(|&v| v as f32).collect()),
        Data::Float(v) if matches!(to, 6 | 7) => {
            Array::ints(x.dims.clone(), v.iter().map(|&v| v as i64).collect())
        }
        Data::Int(_) if matches!(to, 6 | 7 | 9) && !indices => x.clone(),
        _ => return Err(fault("a cast to floats, or of a shape to integers", format!("one to type {to}"))),
    })
}

pub(in super::super) fn transpose(x: &Array, order: &[usize]) -> Array {
    let from = strides(&x.dims);
    let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis]).collect();
    let steps = order.iter().map(|&axis| from[axis]).collect();
    x.pick(dims.clone(), walk(&dims, steps))
}

fn concat(node: &Node, inputs: &Inputs) -> Result<Array> {
    let arrays = (0..inputs.len()).map(|index| require(inputs, index)).collect::<Result<Vec<_>>>()?;
    let first = arrays.first().ok_or_else(|| fault("arrays to join", "none"))?;
    let at = axis(node.int("axis")?.ok_or_else(|| fault("an axis", "none"))?, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[at] = 0;
    for array in &arrays {
        let fits =
            array.dims.len() == dims.len() && (0..dims.len()).all(|a| a == at || array.dims[a] == dims[a]);
        if !fits {
            let expected = format!("arrays like {:?} but for axis {at}", first.dims);
            return Err(fault(expected, format!("{:?}", array.dims)));
        }
        dims[at] += array.dims[at];
    }
    elements(&dims)?;
    let behind: usize = dims[at + 1..].iter().product();
    let lead: usize = dims[..at].iter().product();
    let block = |array: &Array| array.dims[at] * behind;
    let parts = (0..lead).flat_map(|row| arrays.iter().map(move |array| (row, array)));
    Ok(if arrays.iter().all(|array| array.is_float()) {
        let mut joined = Vec::new();
        for (row, array) in parts {
            joined.extend_from_slice(&array.as_floats()?[row * block(array)..][..block(array)]);
        }
        Array::floats(dims, joined)
    } else {
        let mut joined = Vec::new();
        for (row, array) in parts {
            joined.extend_from_slice(&array.as_ints()?[row * block(array)..][..block(array)]);
        }
        Array::ints(dims, joined)
    })
}

fn gather(node: &Node, x: &Array, indices: &Array) -> Result<Array> {
    let at = axis(node.int("axis")?.unwrap_or(0), x.dims.len())?;
    let size = x.dims[at];
    let picked = indices.as_ints()?.iter().map(|&index| axis(index, size)).collect::<Result<Vec<_>>>();
    let picked = picked.map_err(|_| fault(format!("indices of {size} elements"), "others"))?;
    let (lead, behind) = (&x.dims[..at], &x.dims[at + 1..]);
    let dims: Vec<usize> = lead.iter().chain(&indices.dims).chain(behind).copied().collect();
    elements(&dims)?;
    let (rows, block): (usize, usize) = (lead.iter().product(), behind.iter().product());
    let places = (0..rows).flat_map(|row| {
        let picked = &picked;
        picked.iter().flat_map(move |&index| {
            let start = (row * size + index) * block;
            start..start + block
        })
    });
    Ok(x.pick(dims, places))
}

/// How much is added before and after each axis, in order.
fn pads(node: &Node, inputs: &Inputs, rank: usize) -> Result<Vec<[i64; 2]>> {
    let pads = ints_of(node, inputs, Some("pads"), 1)?.ok_or_else(|| fault("pads", "none"))?;
    let axes = match optional(inputs, 3) {
        Some(axes) => axes.as_ints()?.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(fault(format!("{} pads", 2 * axes.len()), pads.len().to_string()));
    }
    let mut each = vec![[0, 0]; rank];
    for (index, &axis) in axes.iter().enumerate() {
        each[axis] = [pads[index], pads[index + axes.len()]];
    }
    Ok(each)
}

/// What a Pad fills with.
pub(in super::super) fn pad_value(node: &Node, inputs: &Inputs) -> Result<f64> {
    match optional(inputs, 2) {
        Some(value) => value.scalar(),
        None => Ok(node.float("value")?.map_or(0.0, f64::from)),
    }
}

fn pad(node: &Node, inputs: &Inputs, fill: Option<i64>) -> Result<Array> {
    let x = require(inputs, 0)?;
    let mode = node.text("mode")?.unwrap_or("constant");
    if mode != "constant" {
        return Err(fault("padding with a constant", format!("the mode {mode}")));
    }
    let pads = pads(node, inputs, x.dims.len())?;
    let dims = x.dims.iter().zip(&pads).map(|(&dim, [before, after])| {
        let padded = (dim as i64).checked_add(*before).and_then(|dim| dim.checked_add(*after));
        padded.and_then(|dim| usize::try_from(dim).ok())
    });
    let dims =
        dims.collect::<Option<Vec<_>>>().ok_or_else(|| fault("a padded shape", format!("{pads:?}")))?;
    let len = elements(&dims)?;
    // Where each element comes from, axis by axis.
    let from = strides(&x.dims);
    let place = |index: usize| -> Option<usize> {
        let mut rest = index;
        let mut place = 0;
        for axis in (0..dims.len()).rev() {
            let position = (rest % dims[axis]) as i64 - pads[axis][0];
            rest /= dims[axis];
            let position = usize::try_from(position).ok().filter(|&p| p < x.dims[axis])?;
            place += position * from[axis];
        }
        Some(place)
    };
    Ok(match &x.data {
        Data::Float(v) => {
            let value = pad_value(node, inputs)? as f32;
            Array::floats(dims.clone(), (0..len).map(|i| place(i).map_or(value, |p| v[p])).collect())
        }
        Data::Int(v) => {
            let value = match fill {
                Some(fill) => fill,
                None => pad_value(node, inputs)? as i64,
            };
            Array::ints(dims.clone(), (0..len).map(|i| place(i).map_or(value, |p| v[p])).collect())
        }
    })
}

fn reshape(node: &Node, x: &Array, shape: &[i64]) -> Result<Array> {
    let copies_zero = node.int_of("allowzero", &[0, 1])? == 0;
    let mut open = None;
    let mut dims = Vec::new();
    for (at, &dim) in shape.iter().enumerate() {
        dims.push(match dim {
            0 if copies_zero => *x
                .dims
                .get(at)
                .ok_or_else(|| fault("a 0 where the input has a dimension", format!("{shape:?}")))?,
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            dim => usize::try_from(dim).map_err(|_| fault("one dimension of -1", format!("{shape:?}")))?,
        });
    }
    if let Some(at) = open {
        let rest = elements(&dims)?;
        if rest == 0 || !x.len().is_multiple_of(rest) {
            return Err(fault(format!("a shape of {} elements", x.len()), format!("{shape:?}")));
        }
        dims[at] = x.len() / rest;
    }
    x.with_dims(dims)
}

fn slice(node: &Node, inputs: &Inputs) -> Result<Array> {
    let x = require(inputs, 0)?;
    let missing = |what: &'static str| move || fault(what, "none");
    let starts = ints_of(node, inputs, Some("starts"), 1)?.ok_or_else(missing("starts"))?;
    let ends = ints_of(node, inputs, Some("ends"), 2)?.ok_or_else(missing("ends"))?;
    let axes = ints_of(node, inputs, Some("axes"), 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ints_of(node, inputs, None, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(fault("starts, ends, axes and steps of one length", "others"));
    }
    let mut dims = x.dims.clone();
    let mut first = vec![0; dims.len()];
    let mut step = vec![1; dims.len()];
    for index in 0..starts.len() {
        let at = axis(axes[index], x.dims.len())?;
        let size = x.dims[at] as i64;
        let from_start = |value: i64| if value < 0 { value.saturating_add(size) } else { value };
        let by = steps[index];
        let (start, end) = match by {
            0 => return Err(fault("a step other than 0", "0")),
            1.. => (from_start(starts[index]).clamp(0, size), from_start(ends[index]).clamp(0, size)),
            _ => (
                from_start(starts[index]).clamp(0, (size - 1).max(0)),
                from_start(ends[index]).clamp(-1, size - 1),
            ),
        };
        let span = if by > 0 { end - start } else { start - end };
        dims[at] = usize::try_from(span.max(0)).unwrap_or(0).div_ceil(by.unsigned_abs() as usize);
        (first[at], step[at]) = (start, by);
    }
    let from = strides(&x.dims);
    let places = (0..elements(&dims)?).map(|index| {
        let mut rest = index;
        let mut place = 0;
        for axis in (0..dims.len()).rev() {
            let position = first[axis] + (rest % dims[axis]) as i64 * step[axis];
            rest /= dims[axis];
            place += position as usize * from[axis];
        }
        place
    });
    Ok(x.pick(dims.clone(), places))
}

fn split(node: &Node, inputs: &Inputs) -> Result<Vec<Array>> {
    let x = require(inputs, 0)?;
    let at = axis(node.int("axis")?.unwrap_or(0), x.dims.len())?;
    let (size, parts) = (x.dims[at], node.outputs.len());
    let sizes = match ints_of(node, inputs, Some("split"), 1)? {
        Some(sizes) => to_dims(&sizes)?,
        None => {
            // All of one size; the last is what is left.
            let each = size.div_ceil(parts.max(1));
            (0..parts).map(|part| each.min(size.saturating_sub(part * each))).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if sizes.len() != parts || sum != Some(size) {
        return Err(fault(format!("{parts} parts of {size} elements"), format!("{sizes:?}")));
    }
    let block: usize = x.dims[at + 1..].iter().product();
    let rows: usize = x.dims[..at].iter().product();
    let mut start = 0;
    let mut arrays = Vec::new();
    for part in sizes {
        let mut dims = x.dims.clone();
        dims[at] = part;
        let first = start;
        let places = (0..rows).flat_map(move |row| {
            let begin = (row * size + first) * block;
            begin..begin + part * block
        });
        arrays.push(x.pick(dims, places));
        start += part;
    }
    Ok(arrays)
}

/// A Resize that takes the nearest element.
fn resize(node: &Node, inputs: &Inputs) -> Result<Array> {
    let x = require(inputs, 0)?;
    let rank = x.dims.len();
    let mode = node.text("mode")?.unwrap_or("nearest");
    if mode != "nearest" {
        return Err(fault("the nearest element", format!("the mode {mode}")));
    }
    let is_resize = node.op == "Resize";
    let newer = is_resize && node.opset >= 11;
    let scales = match (is_resize, node.opset >= 11) {
        (true, true) => optional(inputs, 2).filter(|scales| scales.len() > 0),
        (true, false) | (false, _) => optional(inputs, 1),
    };
    let scales = match scales {
        Some(scales) => Some(scales.to_f64()),
        None if is_resize => None,
        None => node.floats("scales")?.map(|scales| scales.iter().map(|&v| f64::from(v)).collect()),
    };
    let sizes = if newer { ints_of(node, inputs, None, 3)? } else { None };
    let axes = match if is_resize { node.ints("axes")? } else { None } {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let (mut dims, mut scale) = (x.dims.clone(), vec![1.0; rank]);
    let count = scales.as_ref().map(Vec::len).or(sizes.as_ref().map(Vec::len)).unwrap_or(0);
    if count != axes.len() {
        return Err(fault(format!("{} scales or sizes", axes.len()), count.to_string()));
    }
    for (index, &axis) in axes.iter().enumerate() {
        match (&scales, &sizes) {
            (Some(scales), _) => {
                scale[axis] = scales[index];
                dims[axis] = (x.dims[axis] as f64 * scales[index]).floor() as usize;
            }
            (None, Some(sizes)) => {
                dims[axis] = to_dims(&sizes[index..=index])?[0];
                scale[axis] = dims[axis] as f64 / x.dims[axis] as f64;
            }
            (None, None) => {}
        }
    }
    if newer && node.text("keep_aspect_ratio_policy")?.unwrap_or("stretch") != "stretch" {
        return Err(fault("sizes as they are", "a policy that keeps the aspect ratio"));
    }
    let (transform, nearest) = match newer {
        true => (
            node.text("coordinate_transformation_mode")?.unwrap_or("half_pixel"),
            node.text("nearest_mode")?.unwrap_or("round_prefer_floor"),
        ),
        false => ("asymmetric", "floor"),
    };
    let position = |axis: usize, out: usize| -> Result<usize> {
        let (out, scale, size) = (out as f64, scale[axis], x.dims[axis]);
        if scale == 1.0 {
            return Ok(out as usize);
        }
        let at = match transform {
            "asymmetric" => out / scale,
            "half_pixel" => (out + 0.5) / scale - 0.5,
            "pytorch_half_pixel" if dims[axis] == 1 => 0.0,
            "pytorch_half_pixel" => (out + 0.5) / scale - 0.5,
            "align_corners" if dims[axis] == 1 => 0.0,
            "align_corners" => out * (size as f64 - 1.0) / (dims[axis] as f64 - 1.0),
            other => return Err(fault("a transformation of coordinates that is known", other)),
        };
        let at = match nearest {
            "floor" => at.floor(),
            "ceil" => at.ceil(),
            "round_prefer_floor" => (at - 0.5).ceil(),
            "round_prefer_ceil" => (at + 0.5).floor(),
            other => return Err(fault("a way to the nearest element that is known", other)),
        };
        Ok((at.max(0.0) as usize).min(size.saturating_sub(1)))
    };
    let from = strides(&x.dims);
    let len = elements(&dims)?;
    if x.len() == 0 && len > 0 {
        return Err(fault("elements to repeat", "none"));
    }
    let along = |axis: usize| (0..dims[axis]).map(|out| Ok(position(axis, out)? * from[axis])).collect();
    let offsets = (0..rank).map(along).collect::<Result<Vec<Vec<usize>>>>()?;
    let places = (0..len).map(|index| {
        let mut rest = index;
        let mut place = 0;
        for axis in (0..rank).rev() {
            place += offsets[axis][rest % dims[axis]];
            rest /= dims[axis];
        }
        place
    });
    Ok(x.pick(dims.clone(), places))
}
