//! What ONNX's operators compute, in naive loops: constants are folded by it, arrays of indices are rearranged by it, and a
//! whole graph is run by it to check what was made of the graph.
//!
//! Formulas are those of the ONNX specification. Scalars are computed in f64, sums of products in f32.

mod product;
mod rearrange;
mod window;

use std::collections::HashMap;
use std::rc::Rc;

use super::array::{Array, Data, axis, broadcast, broadcast_places, elements, fault};
use super::graph::{Graph, Node};
use crate::error::Result;

pub(super) use window::{Window, window};

/// A function of one number.
pub(super) type Scalar = Rc<dyn Fn(f64) -> f64>;

/// A function of two numbers.
pub(super) type Scalar2 = fn(f64, f64) -> f64;

/// The inputs of a node; `None` where one is left out.
pub(super) type Inputs<'a> = [Option<&'a Array>];

/// The input of this index, which the operator does not do without.
pub(super) fn require<'a>(inputs: &Inputs<'a>, index: usize) -> Result<&'a Array> {
    optional(inputs, index).ok_or_else(|| fault(format!("an input {index}"), "none"))
}

/// The input of this index, where there is one.
pub(super) fn optional<'a>(inputs: &Inputs<'a>, index: usize) -> Option<&'a Array> {
    inputs.get(index).copied().flatten()
}

/// Integers that an attribute gives in early versions of the operators and an input later.
pub(super) fn ints_of(
    node: &Node,
    inputs: &Inputs,
    attribute: Option<&str>,
    input: usize,
) -> Result<Option<Vec<i64>>> {
    if let Some(array) = optional(inputs, input) {
        return Ok(Some(array.as_ints()?.to_vec()));
    }
    match attribute {
        Some(name) => Ok(node.ints(name)?.map(<[i64]>::to_vec)),
        None => Ok(None),
    }
}

/// The axes of a reduction, in order; all of them where none is named.
pub(super) fn reduced_axes(node: &Node, inputs: &Inputs, rank: usize) -> Result<Vec<usize>> {
    match ints_of(node, inputs, Some("axes"), 1)? {
        Some(axes) if !axes.is_empty() => {
            let mut axes = axes.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
            axes.sort_unstable();
            axes.dedup();
            Ok(axes)
        }
        _ if node.int_of("noop_with_empty_axes", &[0, 1])? == 1 => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}

/// Runs the whole graph on one image; gives its output.
pub(super) fn run(graph: &Graph, image: Array) -> Result<Array> {
    let mut readers = graph.readers();
    let mut values: HashMap<&str, Rc<Array>> = HashMap::from([(graph.input.as_str(), Rc::new(image))]);
    for node in &graph.nodes {
        let inputs: Vec<Option<Rc<Array>>> = node
            .inputs
            .iter()
            .map(|name| values.get(name.as_str()).or_else(|| graph.constants.get(name)).cloned())
            .collect();
        let arrays: Vec<Option<&Array>> = inputs.iter().map(Option::as_deref).collect();
        let outputs = evaluate(node, &arrays).map_err(|e| e.at(node.place()))?;
        for (name, output) in node.outputs.iter().zip(outputs) {
            values.insert(name, Rc::new(output));
        }
        for name in &node.inputs {
            // What nobody reads any more makes room.
            if let Some(left) = readers.get_mut(name.as_str()) {
                *left -= 1;
                if *left == 0 {
                    values.remove(name.as_str());
                }
            }
        }
    }
    let output = values.get(graph.output.as_str()).or_else(|| graph.constants.get(&graph.output));
    Ok(output.map(|output| (**output).clone()).unwrap_or_else(|| Array::list(Vec::new())))
}

/// The outputs of a node.
pub(super) fn evaluate(node: &Node, inputs: &Inputs) -> Result<Vec<Array>> {
    if let Some(function) = scalar(node, inputs)? {
        return Ok(vec![map(require(inputs, 0)?, |v| function(v))]);
    }
    if let Some(function) = scalar2(&node.op) {
        let mut result = require(inputs, 0)?.clone();
        for index in 1..inputs.len() {
            result = combine(&node.op, function, &result, require(inputs, index)?)?;
        }
        return Ok(vec![result]);
    }
    if rearrange::is_rearrangement(&node.op) {
        return rearrange::rearrange(node, inputs, None);
    }
    let x = || require(inputs, 0);
    let result = match node.op.as_str() {
        "Constant" => constant(node)?,
        "Shape" => shape(node, &x()?.dims)?,
        "Where" => choose(x()?, require(inputs, 1)?, require(inputs, 2)?)?,
        "Conv" => window::conv(node, x()?, require(inputs, 1)?, optional(inputs, 2))?,
        "MaxPool" | "AveragePool" | "GlobalMaxPool" | "GlobalAveragePool" => window::pool(node, x()?)?,
        "Gemm" => product::gemm(node, x()?, require(inputs, 1)?, optional(inputs, 2))?,
        "MatMul" => product::mat_mul(x()?, require(inputs, 1)?)?,
        "BatchNormalization" => {
            let [factor, term] = batch_norm(node, inputs)?;
            per_channel(x()?, &factor, &term)?
        }
        "PRelu" => {
            let (x, slope) = (x()?, require(inputs, 1)?);
            let negative = combine("Mul", |a, b| a.min(0.0) * b, x, slope)?;
            combine("Add", |a, b| a.max(0.0) + b, x, &negative)?
        }
        "ReduceMean" | "ReduceMax" => reduce(node, x()?, &reduced_axes(node, inputs, x()?.dims.len())?)?,
        "Softmax" | "LogSoftmax" => softmax(node, x()?)?,
        other => return Err(fault("an operator that can be computed", other)),
    };
    Ok(vec![result])
}

/// The function that an operator applies to every element, where it is such an operator. Its parameters, if they are
/// inputs, must be there.
pub(super) fn scalar(node: &Node, inputs: &Inputs) -> Result<Option<Scalar>> {
    let parameter =
        |name: &str, default: f64| -> Result<f64> { Ok(node.float(name)?.map_or(default, f64::from)) };
    Ok(Some(match node.op.as_str() {
        "Abs" => Rc::new(f64::abs),
        "Clip" => {
            let (least, most) = clip_bounds(node, inputs)?;
            Rc::new(move |x| x.max(least).min(most))
        }
        "Elu" => {
            let alpha = parameter("alpha", 1.0)?;
            Rc::new(move |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
        }
        "Erf" => Rc::new(erf),
        "Exp" => Rc::new(f64::exp),
        "Floor" => Rc::new(f64::floor),
        "Gelu" => match node.text("approximate")?.unwrap_or("none") {
            "none" => Rc::new(gelu),
            "tanh" => Rc::new(gelu_tanh),
            other => return Err(fault("`approximate` none or tanh", other)),
        },
        "HardSigmoid" => {
            let (alpha, beta) = (parameter("alpha", 0.2)?, parameter("beta", 0.5)?);
            Rc::new(move |x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        "HardSwish" => Rc::new(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => {
            let alpha = parameter("alpha", 0.01)?;
            Rc::new(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "Log" => Rc::new(f64::ln),
        "Neg" => Rc::new(|x| -x),
        "Reciprocal" => Rc::new(f64::recip),
        "Relu" => Rc::new(|x| x.max(0.0)),
        "Sigmoid" => Rc::new(sigmoid),
        "Softplus" => Rc::new(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        "Sqrt" => Rc::new(f64::sqrt),
        "Swish" => {
            let alpha = parameter("alpha", 1.0)?;
            Rc::new(move |x| x * sigmoid(alpha * x))
        }
        "Tanh" => Rc::new(f64::tanh),
        _ => return Ok(None),
    }))
}

/// The function that an operator applies to pairs of elements, where it is such an operator.
pub(super) fn scalar2(op: &str) -> Option<Scalar2> {
    Some(match op {
        "Add" | "Sum" => |a, b| a + b,
        "Div" => |a, b| a / b,
        "Equal" => |a, b| f64::from(a == b),
        "Max" => f64::max,
        "Min" => f64::min,
        "Mul" => |a, b| a * b,
        "Pow" => f64::powf,
        "Sub" => |a, b| a - b,
        _ => return None,
    })
}

/// The bounds of a Clip: attributes in early versions, inputs later.
pub(super) fn clip_bounds(node: &Node, inputs: &Inputs) -> Result<(f64, f64)> {
    let bound = |name: &str, index: usize, default: f64| match optional(inputs, index) {
        Some(bound) => bound.scalar(),
        None => Ok(node.float(name)?.map_or(default, f64::from)),
    };
    Ok((bound("min", 1, f64::NEG_INFINITY)?, bound("max", 2, f64::INFINITY)?))
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

pub(super) fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

/// The error function: its Taylor series, and beyond 4, where less than 2e-8 is missing to 1, that.
pub(super) fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 4.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut sum, mut term) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn map(x: &Array, function: impl Fn(f64) -> f64) -> Array {
    match &x.data {
        Data::Float(v) => {
            Array::floats(x.dims.clone(), v.iter().map(|&v| function(f64::from(v)) as f32).collect())
        }
        Data::Int(v) => Array::ints(x.dims.clone(), v.iter().map(|&v| function(v as f64) as i64).collect()),
    }
}

/// `function` of two arrays that broadcast; of integers, integers.
fn combine(op: &str, function: impl Fn(f64, f64) -> f64, a: &Array, b: &Array) -> Result<Array> {
    let dims = broadcast(&a.dims, &b.dims)?;
    elements(&dims)?;
    let places = broadcast_places(&a.dims, &dims).zip(broadcast_places(&b.dims, &dims));
    Ok(match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => {
            let value = |(i, j): (usize, usize)| function(f64::from(a[i]), f64::from(b[j]));
            if op == "Equal" {
                let values = places.map(|place| value(place) as i64).collect();
                return Ok(Array::ints(dims, values));
            }
            let values = places.map(|place| value(place) as f32).collect();
            Array::floats(dims, values)
        }
        (Data::Int(a), Data::Int(b)) => {
            let value = |(i, j): (usize, usize)| -> Result<i64> {
                let (a, b) = (a[i], b[j]);
                Ok(match op {
                    "Add" | "Sum" => a.wrapping_add(b),
                    "Sub" => a.wrapping_sub(b),
                    "Mul" => a.wrapping_mul(b),
                    "Div" => {
                        a.checked_div(b).ok_or_else(|| fault("a divisor other than 0", b.to_string()))?
                    }
                    _ => function(a as f64, b as f64) as i64,
                })
            };
            let values = places.map(value).collect::<Result<_>>()?;
            Array::ints(dims, values)
        }
        _ => return Err(fault("two arrays of one type", "floats and integers")),
    })
}

fn constant(node: &Node) -> Result<Array> {
    if let Some(array) = node.array("value")? {
        return Ok((**array).clone());
    }
    if let Some(values) = node.ints("value_ints")? {
        return Ok(Array::list(values.to_vec()));
    }
    if let Some(values) = node.floats("value_floats")? {
        return Ok(Array::floats(vec![values.len()], values.to_vec()));
    }
    if let Some(value) = node.int("value_int")? {
        return Ok(Array::ints(Vec::new(), vec![value]));
    }
    match node.float("value_float")? {
        Some(value) => Ok(Array::floats(Vec::new(), vec![value])),
        None => Err(fault("a value", "none")),
    }
}

/// The dimensions from `start` to `end`.
pub(super) fn shape(node: &Node, dims: &[usize]) -> Result<Array> {
    let rank = dims.len() as i64;
    let bound = |name: &str, default: i64| -> Result<usize> {
        let value = node.int(name)?.unwrap_or(default);
        let from_start = if value < 0 { value.saturating_add(rank) } else { value };
        Ok(from_start.clamp(0, rank) as usize)
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    Ok(Array::list(dims[start..end.max(start)].iter().map(|&dim| dim as i64).collect()))
}

fn choose(condition: &Array, yes: &Array, no: &Array) -> Result<Array> {
    let dims = broadcast(&broadcast(&condition.dims, &yes.dims)?, &no.dims)?;
    elements(&dims)?;
    let spread = |array: &Array| array.pick(dims.clone(), broadcast_places(&array.dims, &dims));
    let (condition, yes, no) = (spread(condition), spread(yes), spread(no));
    let condition = condition.as_ints()?;
    let data = match (yes.data, no.data) {
        (Data::Float(yes), Data::Float(no)) => {
            Data::Float((0..yes.len()).map(|i| if condition[i] != 0 { yes[i] } else { no[i] }).collect())
        }
        (Data::Int(yes), Data::Int(no)) => {
            Data::Int((0..yes.len()).map(|i| if condition[i] != 0 { yes[i] } else { no[i] }).collect())
        }
        _ => return Err(fault("two arrays of one type", "floats and integers")),
    };
    Ok(Array { dims, data })
}

/// A batch norm as a factor and a term a channel.
pub(super) fn batch_norm(node: &Node, inputs: &Inputs) -> Result<[Vec<f64>; 2]> {
    node.int_of("training_mode", &[0])?;
    node.int_of("spatial", &[1])?;
    if node.outputs.len() > 1 {
        return Err(fault("one output", format!("{}, which only training has", node.outputs.len())));
    }
    let eps = node.float("epsilon")?.map_or(1e-5, f64::from);
    let column = |index: usize| -> Result<Vec<f64>> {
        let array = require(inputs, index)?;
        array.as_floats()?;
        Ok(array.to_f64())
    };
    let (weight, bias, mean, variance) = (column(1)?, column(2)?, column(3)?, column(4)?);
    if [bias.len(), mean.len(), variance.len()] != [weight.len(); 3] {
        return Err(fault("four columns of one length", "others"));
    }
    let factor: Vec<f64> = weight.iter().zip(&variance).map(|(w, v)| w / (v + eps).sqrt()).collect();
    let term = (0..factor.len()).map(|c| bias[c] - mean[c] * factor[c]).collect();
    Ok([factor, term])
}

/// A factor and a term for each index of axis 1.
fn per_channel(x: &Array, factor: &[f64], term: &[f64]) -> Result<Array> {
    let channels = x.dims.get(1).copied().unwrap_or(1);
    if channels != factor.len() {
        return Err(fault(format!("{channels} channels"), factor.len().to_string()));
    }
    let plane: usize = x.dims.iter().skip(2).product();
    let values = x.as_floats()?.iter().enumerate();
    let values = values.map(|(i, &v)| {
        let channel = i / plane % channels;
        (f64::from(v) * factor[channel] + term[channel]) as f32
    });
    Ok(Array::floats(x.dims.clone(), values.collect()))
}

/// The dimensions that a reduction leaves.
pub(super) fn reduced_dims(node: &Node, dims: &[usize], axes: &[usize]) -> Result<Vec<usize>> {
    let keep = node.int_of("keepdims", &[1, 0])? == 1;
    let left = dims.iter().enumerate().filter_map(|(axis, &dim)| match axes.contains(&axis) {
        true => keep.then_some(1),
        false => Some(dim),
    });
    Ok(left.collect())
}

fn reduce(node: &Node, x: &Array, axes: &[usize]) -> Result<Array> {
    let rows: Vec<usize> =
        (0..x.dims.len()).filter(|axis| !axes.contains(axis)).chain(axes.iter().copied()).collect();
    let rows = rearrange::transpose(x, &rows);
    let len: usize = axes.iter().map(|&axis| x.dims[axis]).product();
    if len == 0 {
        return Err(fault("axes that are not empty", format!("{:?}", x.dims)));
    }
    let reduced = rows.as_floats()?.chunks_exact(len).map(|row| match node.op.as_str() {
        "ReduceMax" => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        _ => (row.iter().map(|&v| f64::from(v)).sum::<f64>() / len as f64) as f32,
    });
    Ok(Array::floats(reduced_dims(node, &x.dims, axes)?, reduced.collect()))
}

fn softmax(node: &Node, x: &Array) -> Result<Array> {
    let rank = x.dims.len();
    let (default, single) = if node.opset < 13 { (1, false) } else { (-1, true) };
    let axis = axis(node.int("axis")?.unwrap_or(default), rank)?;
    // Before version 13 the axis and all behind it are one.
    let len = if single { x.dims[axis] } else { x.dims[axis..].iter().product() };
    let step: usize = if single { x.dims[axis + 1..].iter().product() } else { 1 };
    let mut values = x.as_floats()?.to_vec();
    for start in (0..values.len()).filter(|i| i / step.max(1) % len.max(1) == 0) {
        let places = || (0..len).map(|i| start + i * step);
        let most = places().map(|place| f64::from(values[place])).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = places().map(|place| (f64::from(values[place]) - most).exp()).sum();
        for place in places() {
            let log = f64::from(values[place]) - most - sum.ln();
            values[place] = if node.op == "Softmax" { log.exp() } else { log } as f32;
        }
    }
    Ok(Array::floats(x.dims.clone(), values))
}

pub(super) use rearrange::{is_rearrangement, pad_value, rearrange, transpose};
