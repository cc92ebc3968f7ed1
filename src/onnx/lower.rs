//! From the graph to a network: every node is computed from constants, moves elements of a map, is gathered in the function
//! of a map, or becomes operations.
//!
//! The batch is one image. So a reshape by a batch of any size comes out as it does for one image, which is what a model file
//! says of a network.

mod combine;
mod product;
mod window;

use std::collections::HashMap;
use std::rc::Rc;

use super::array::{Array, axis, fault};
use super::evaluate::{
    Inputs, Window, batch_norm, clip_bounds, evaluate, is_rearrangement, pad_value, rearrange, reduced_axes,
    reduced_dims, require, scalar, scalar2, shape, transpose,
};
use super::graph::{Graph, Node};
use super::network::{Id, Kind, Network, Weights};
use super::pointwise::Function;
use super::view::{LEAST, Maker, Map, ZERO};
use crate::error::{Result, quoted};

/// A value of the graph.
#[derive(Clone)]
enum Value {
    Constant(Rc<Array>),
    Map(Map),
    /// The softmax of a map, or its logarithm.
    Softmax(Map),
}

/// What a graph computes.
pub(super) struct Lowered {
    pub network: Network,
    /// The scores, with the function that is applied to them last.
    pub output: Map,
    /// Whether they go through a softmax.
    pub softmax: bool,
}

/// A weight has this many elements at most: the largest linear layer of the field has 1e8.
const MAX_SELECTION: usize = 1 << 26;

struct Lowering<'a> {
    network: Network,
    values: HashMap<&'a str, Value>,
}

/// The network that a graph computes of an image [c, h, w], which it reads as [1, c, h, w] or [1, h, w, c].
pub(super) fn lower(graph: &Graph, image: [usize; 3], channels_last: bool) -> Result<Lowered> {
    let [channels, height, width] = image;
    let network = Network::new(image);
    let mut input = Map::whole(0, vec![1, channels, height, width]);
    if channels_last {
        let turned = transpose(&input.indices(), &[0, 2, 3, 1]);
        input = Map::of_indices(0, turned, image.iter().product(), Function::identity())?;
    }
    let values = HashMap::from([(graph.input.as_str(), Value::Map(input))]);
    let mut lowering = Lowering { network, values };
    let all_readers = graph.readers();
    let mut readers = all_readers.clone();
    for node in &graph.nodes {
        let values: Vec<Option<Value>> = node
            .inputs
            .iter()
            .map(|name| {
                let constant = || graph.constants.get(name).map(|array| Value::Constant(Rc::clone(array)));
                lowering.values.get(name.as_str()).cloned().or_else(constant)
            })
            .collect();
        let outputs = lowering.node(node, &values).map_err(|e| e.at(node.place()))?;
        // A second output that only training has.
        if let Some(missing) =
            node.outputs.iter().skip(outputs.len()).find(|&name| all_readers.contains_key(name.as_str()))
            && !missing.is_empty()
        {
            return Err(fault("an output that inference has", quoted(missing)).at(node.place()));
        }
        for (name, mut value) in node.outputs.iter().zip(outputs) {
            if let Value::Map(map) = &mut value
                && !map.function.is_identity()
            {
                map.maker = Some(Rc::new(Maker { layer_name: layer_name(node), place: node.place() }));
            }
            // What several nodes read is computed once, where that can be said already.
            if let Value::Map(map) = &value
                && !map.function.is_identity()
                && all_readers.get(name.as_str()).is_some_and(|&readers| readers > 1)
                && let Ok(plain) = lowering.plain(map, node)
            {
                value = Value::Map(plain);
            }
            lowering.values.insert(name, value);
        }
        for name in &node.inputs {
            if let Some(left) = readers.get_mut(name.as_str()) {
                *left -= 1;
                if *left == 0 {
                    lowering.values.remove(name.as_str());
                }
            }
        }
    }
    let (output, softmax) = match lowering.values.remove(graph.output.as_str()) {
        Some(Value::Map(map)) => (map, false),
        Some(Value::Softmax(map)) => (map, true),
        Some(Value::Constant(_)) | None => {
            return Err(fault("scores that depend on the image", "a constant"));
        }
    };
    Ok(Lowered { network: lowering.network, output, softmax })
}

impl Lowering<'_> {
    /// The outputs of a node.
    fn node(&mut self, node: &Node, values: &[Option<Value>]) -> Result<Vec<Value>> {
        // The inputs that are constants, and the index of the first that is none.
        let constants: Vec<Option<&Array>> = values
            .iter()
            .map(|value| match value {
                Some(Value::Constant(array)) => Some(&**array),
                _ => None,
            })
            .collect();
        let is_map = |value: &Option<Value>| matches!(value, Some(Value::Map(_) | Value::Softmax(_)));
        if !values.iter().any(is_map) {
            let outputs = evaluate(node, &constants)?;
            return Ok(outputs.into_iter().map(|array| Value::Constant(Rc::new(array))).collect());
        }
        let map = match &values[0] {
            Some(Value::Softmax(map)) => return self.behind_softmax(node, map, &constants),
            Some(Value::Map(map)) => Some(map),
            _ => None,
        };
        if values.iter().any(|value| matches!(value, Some(Value::Softmax(_)))) {
            return Err(fault("a softmax only at the end", "one that this node reads"));
        }
        if let Some(function) = scalar2(&node.op) {
            return self.combine_all(node, function, values).map(|map| vec![Value::Map(map)]);
        }
        if node.op == "Concat" {
            return self.concat(node, values).map(|map| vec![Value::Map(map)]);
        }
        // All others read one map, the first input.
        let first_only = values[1..].iter().all(|value| !is_map(value));
        let Some(map) = map.filter(|_| first_only || node.op == "CastLike") else {
            return Err(fault("constants but for the first input", "a value that depends on the image"));
        };
        if is_rearrangement(&node.op) {
            return self.rearrange(node, map, &constants);
        }
        let result = match node.op.as_str() {
            "Shape" => return Ok(vec![Value::Constant(Rc::new(shape(node, &map.dims)?))]),
            "Softmax" | "LogSoftmax" => {
                let rank = map.dims.len();
                let before_13 = node.opset < 13;
                let axis = axis(node.int("axis")?.unwrap_or(if before_13 { 1 } else { -1 }), rank)?;
                let len = if before_13 { map.dims[axis..].iter().product() } else { map.dims[axis] };
                if len != map.len() {
                    let found = format!("axis {axis} of {:?}", map.dims);
                    return Err(fault("a softmax over all scores, at the end", found));
                }
                return Ok(vec![Value::Softmax(map.clone())]);
            }
            "Clip" => {
                let (least, most) = clip_bounds(node, &constants)?;
                let map = self.without_fill(map, node)?;
                map.with_function(map.function.clip(least, most)?)
            }
            "HardSigmoid" => {
                // An affine function and a clip, whatever its parameters.
                let number = |name: &str, default: f32| -> Result<Function> {
                    Ok(Function::constant(vec![f64::from(node.float(name)?.unwrap_or(default))]))
                };
                let map = self.without_fill(map, node)?;
                let scaled = Function::combine("Mul", |a, b| a * b, &map.function, &number("alpha", 0.2)?)?;
                let moved = Function::combine("Add", |a, b| a + b, &scaled, &number("beta", 0.5)?)?;
                map.with_function(moved.clip(0.0, 1.0)?)
            }
            "BatchNormalization" => {
                let [factor, term] = batch_norm(node, &constants)?;
                let column = |values: Vec<f64>| {
                    let mut dims = vec![1; map.dims.len().saturating_sub(1).max(1)];
                    dims[0] = values.len();
                    (dims, values)
                };
                let (dims, factor) = column(factor);
                let scaled = self.with_constant(node, "Mul", map, &dims, &factor, false)?;
                let (dims, term) = column(term);
                self.with_constant(node, "Add", &scaled, &dims, &term, false)?
            }
            "PRelu" => {
                let slope = require(&constants, 1)?;
                slope.as_floats()?;
                let map = self.plain(map, node)?;
                let negative = map.with_function(map.function.clip(f64::NEG_INFINITY, 0.0)?);
                let negative =
                    self.with_constant(node, "Mul", &negative, &slope.dims, &slope.to_f64(), false)?;
                let positive = map.function.clip(0.0, f64::INFINITY)?;
                map.with_function(Function::combine("Add", |a, b| a + b, &positive, &negative.function)?)
            }
            "Conv" => self.conv(node, map, require(&constants, 1)?, constants.get(2).copied().flatten())?,
            "MaxPool" | "AveragePool" => self.pool(node, map)?,
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let axes: Vec<usize> = (2..map.dims.len()).collect();
                let dims = map.dims.iter().enumerate().map(|(axis, &dim)| if axis < 2 { dim } else { 1 });
                self.reduce(node, map, &axes, dims.collect(), node.op == "GlobalMaxPool")?
            }
            "ReduceMean" | "ReduceMax" => {
                let axes = reduced_axes(node, &constants, map.dims.len())?;
                let dims = reduced_dims(node, &map.dims, &axes)?;
                self.reduce(node, map, &axes, dims, node.op == "ReduceMax")?
            }
            "Gemm" => self.gemm(node, map, require(&constants, 1)?, constants.get(2).copied().flatten())?,
            "MatMul" => self.mat_mul(node, map, require(&constants, 1)?)?,
            _ => match scalar(node, &constants)? {
                Some(function) => {
                    let map = self.without_fill(map, node)?;
                    map.with_function(map.function.apply(&node.op, function)?)
                }
                None => {
                    let expected = "an operator that a model file can hold";
                    return Err(fault(expected, format!("{} of a map", node.op)));
                }
            },
        };
        Ok(vec![Value::Map(result)])
    }

    /// Nothing but the shape may change behind a softmax.
    fn behind_softmax(&mut self, node: &Node, map: &Map, constants: &Inputs) -> Result<Vec<Value>> {
        match node.op.as_str() {
            "Identity" | "Dropout" | "Cast" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let moved = self.rearrange(node, map, constants)?;
                Ok(moved
                    .into_iter()
                    .map(|value| if let Value::Map(map) = value { Value::Softmax(map) } else { value })
                    .collect())
            }
            _ => Err(fault("a softmax only at the end", "one that this node reads")),
        }
    }

    fn len(&self, id: Id) -> usize {
        self.network.shape(id).iter().product()
    }

    fn add(&mut self, kind: Kind, inputs: Vec<Id>, node: &Node) -> Result<Id> {
        self.network.add(kind, inputs, &layer_name(node), &node.place())
    }

    /// The map with what is computed of it done.
    fn plain(&mut self, map: &Map, node: &Node) -> Result<Map> {
        if map.function.is_identity() {
            return Ok(map.clone());
        }
        let (layer_name, place) = match &map.maker {
            Some(maker) => (maker.layer_name.clone(), maker.place.clone()),
            None => (layer_name(node), node.place()),
        };
        let Some(parts) = map.function.parts() else {
            let expected = "an activation that a model file can hold";
            return Err(fault(expected, "another function of a map, which ends here").at(place));
        };
        let mut id = map.id;
        for part in parts {
            id = self.network.add_part(part, id, &layer_name, &place)?;
        }
        Ok(map.of_another(id))
    }

    /// The map without fills between its elements, which a function would not leave as they are.
    fn without_fill(&mut self, map: &Map, node: &Node) -> Result<Map> {
        if map.has_fill() { self.whole(map, node) } else { Ok(map.clone()) }
    }

    /// The map as one of an operation, [1, C, H, W], whatever that takes.
    fn whole(&mut self, map: &Map, node: &Node) -> Result<Map> {
        let map = self.plain(map, node)?;
        let shape = self.network.shape(map.id);
        let dims = |[channels, height, width]: [usize; 3]| vec![1, channels, height, width];
        if map.is_in_order() && map.dims == dims(shape) {
            return Ok(map);
        }
        let map =
            if map.dims.len() == 4 { map } else { map.channels_first(1.min(map.dims.len() - 1), shape)? };
        let source = map.id;
        let mut id = source;
        let (placement, factor) = match map.placement(shape) {
            Some(placement) => (placement, [1, 1]),
            None => map.repetition(shape).ok_or_else(|| {
                let expected = "maps whose channels stay whole, each element perhaps some times";
                fault(expected, format!("another order of elements, {:?}", map.dims))
            })?,
        };
        if factor != [1, 1] {
            id = self.add(Kind::Upsample2d(factor), vec![id], node)?;
        }
        let single =
            Window { kernel: [1, 1], stride: [1, 1], pads: [[0, 0]; 2], dilation: [1, 1], ceil: false };
        if placement.step != [1, 1] {
            id = self.add(Kind::MaxPool2d(Window { stride: placement.step, ..single }), vec![id], node)?;
        }
        if placement.has_border() && placement.fill != Some(ZERO) {
            return Err(fault("a border of zeros", "another one"));
        }
        let (from, to) = (shape[0], placement.channels.len());
        let all = placement.is_all_channels(from);
        if !all || placement.has_border() {
            // A convolution of one tap: each channel as it is, or those that are wanted.
            let groups = if all { from } else { 1 };
            let row = from / groups;
            if to.saturating_mul(row) > MAX_SELECTION {
                return Err(fault("a selection of fewer channels", format!("{to} of {from}")));
            }
            let mut weight = vec![0.0; to * row];
            for (at, channel) in placement.channels.iter().enumerate() {
                if let Some(channel) = channel {
                    weight[at * row + if all { 0 } else { *channel }] = 1.0;
                }
            }
            let weights = Weights { dims: vec![to, row, 1, 1], weight, bias: None };
            let window = Window { pads: placement.pads, ..single };
            id = self.add(Kind::Conv2d { window, groups, weights }, vec![id], node)?;
        }
        self.network.operations[id].is_non_negative = self.network.is_non_negative(source);
        Ok(Map::whole(id, dims(self.network.shape(id))))
    }

    fn rearrange(&mut self, node: &Node, map: &Map, constants: &Inputs) -> Result<Vec<Value>> {
        let map = self.plain(map, node)?;
        let indices = map.indices();
        let mut inputs = constants.to_vec();
        inputs[0] = Some(&indices);
        let floats = Array::floats(Vec::new(), vec![0.0]);
        if node.op == "CastLike" {
            // Maps are floats, whatever they are cast like.
            inputs[1] = Some(inputs[1].unwrap_or(&floats));
        }
        let fill = match node.op.as_str() {
            "Pad" => match pad_value(node, constants)? {
                0.0 => ZERO,
                value if value < -1e37 => LEAST,
                value => return Err(fault("a padding of zeros", value.to_string())),
            },
            _ => ZERO,
        };
        let len = self.len(map.id);
        let outputs = rearrange(node, &inputs, Some(fill))?;
        outputs
            .into_iter()
            .map(|indices| {
                let moved = Map::of_indices(map.id, indices, len, map.function.clone())?;
                // What a Resize did is said here, where its node can be named.
                let resized = matches!(node.op.as_str(), "Resize" | "Upsample") && moved.dims != map.dims;
                Ok(Value::Map(if resized { self.whole(&moved, node)? } else { moved }))
            })
            .collect()
    }
}

impl Lowered {
    /// The operation whose map, flattened, is the scores, once `function` of them is computed.
    pub fn finish(&mut self, function: &Function) -> Result<Id> {
        let values = HashMap::new();
        let network = std::mem::replace(&mut self.network, Network::new([1, 1, 1]));
        let mut lowering = Lowering { network, values };
        let node = Node::output();
        let map = lowering.plain(&self.output.with_function(function.clone()), &node);
        let id = map.and_then(|map| match map.is_in_order() {
            true => Ok(map.id),
            false => lowering.whole(&map, &node).map(|map| map.id),
        });
        self.network = lowering.network;
        id.map_err(|e| e.at("output".to_owned()))
    }
}

fn resized_dims([channels, height, width]: [usize; 3]) -> Vec<usize> {
    vec![1, channels, height, width]
}

/// A layer's name from that of its weight, `layer1.0.conv1.weight`, or from its node's, `/layer1/layer1.0/conv1/Conv`.
fn layer_name(node: &Node) -> String {
    let stem = node.inputs.get(1).and_then(|weight| weight.strip_suffix(".weight"));
    let name = match stem.filter(|stem| !stem.is_empty() && !stem.contains("::")) {
        Some(stem) => stem.to_owned(),
        None => {
            let parts: Vec<&str> = node.name.split('/').filter(|part| !part.is_empty()).collect();
            // The last part is the operator; a part that begins with the one before says it again.
            let mut scopes: Vec<&str> = Vec::new();
            for part in if parts.len() > 1 { &parts[..parts.len() - 1] } else { &parts[..] } {
                let again = |last: &str| part.strip_prefix(last).is_some_and(|rest| rest.starts_with('.'));
                scopes.pop_if(|last| again(last));
                scopes.push(part);
            }
            scopes.join(".")
        }
    };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '_' };
    name.chars().map(allowed).take(100).collect()
}
