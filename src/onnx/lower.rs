//! From the graph to a network: every node is computed from constants, moves elements of a map, is gathered in the function
//! of a map, or becomes operations.
//!
//! The batch is one image. So a reshape by a batch of any size comes out as it does for one image, which is what a model file
//! says of a network.

use std::collections::HashMap;
use std::rc::Rc;

use super::array::{Array, Data, axis, broadcast, broadcast_places, fault};
use super::evaluate::{
    Inputs, Window, batch_norm, clip_bounds, evaluate, is_rearrangement, pad_value, rearrange, reduced_axes,
    reduced_dims, require, scalar, scalar2, shape, transpose, window,
};
use super::graph::{Graph, Node};
use super::network::{Id, Kind, Network, Weights};
use super::pointwise::Function;
use super::view::{LEAST, Maker, Map, ZERO};
use crate::error::Result;

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

/// The elements of a map [1, K] from all elements of an operation's map, as a matrix.
fn spread_columns(map: &Map, weight: &[f32], rows: usize, len: usize) -> Result<Vec<f32>> {
    let columns = map.len();
    if map.is_in_order() {
        return Ok(weight.to_vec());
    }
    if rows.saturating_mul(len) > MAX_SELECTION.max(weight.len()) {
        return Err(fault("a matrix of a size that a network has", format!("{rows} x {len}")));
    }
    let indices = map.indices();
    let indices = indices.as_ints()?;
    let mut spread = vec![0.0; rows * len];
    for (from, to) in weight.chunks_exact(columns).zip(spread.chunks_exact_mut(len)) {
        for (&value, &index) in from.iter().zip(indices) {
            match index {
                ZERO => {}
                LEAST => return Err(fault("a border of zeros", "another one")),
                index => to[index as usize] += value,
            }
        }
    }
    Ok(spread)
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

    /// All inputs of an elementwise operator, one after another.
    fn combine_all(
        &mut self,
        node: &Node,
        function: fn(f64, f64) -> f64,
        values: &[Option<Value>],
    ) -> Result<Map> {
        let missing = || fault("all inputs", "one that is left out");
        let mut result = values.first().cloned().flatten().ok_or_else(missing)?;
        for value in &values[1..] {
            let value = value.clone().ok_or_else(missing)?;
            result = match (&result, &value) {
                (Value::Constant(a), Value::Constant(b)) => {
                    let [combined] = <[Array; 1]>::try_from(evaluate(node, &[Some(a), Some(b)])?)
                        .map_err(|_| fault("one output", "others"))?;
                    Value::Constant(Rc::new(combined))
                }
                (Value::Map(map), Value::Constant(constant)) => Value::Map(self.with_constant(
                    node,
                    &node.op,
                    map,
                    &constant.dims,
                    &constant.to_f64(),
                    false,
                )?),
                (Value::Constant(constant), Value::Map(map)) => Value::Map(self.with_constant(
                    node,
                    &node.op,
                    map,
                    &constant.dims,
                    &constant.to_f64(),
                    true,
                )?),
                (Value::Map(a), Value::Map(b)) => Value::Map(self.combine(node, function, a, b)?),
                _ => return Err(fault("a softmax only at the end", "one that this node reads")),
            };
        }
        match result {
            Value::Map(map) => Ok(map),
            _ => Err(fault("a map", "a constant")),
        }
    }

    /// `op` of a map and a constant, which is on the left where `left`.
    fn with_constant(
        &mut self,
        node: &Node,
        op: &str,
        map: &Map,
        constant_dims: &[usize],
        constant: &[f64],
        left: bool,
    ) -> Result<Map> {
        let function = scalar2(op).ok_or_else(|| fault("an operator on numbers", op))?;
        let dims = broadcast(&map.dims, constant_dims)?;
        let map = self.without_fill(map, node)?;
        if dims.iter().product::<usize>() != map.len() {
            let expected = format!("a constant that broadcasts to {:?}", map.dims);
            return Err(fault(expected, format!("{constant_dims:?}")));
        }
        let values = if let [value] = constant {
            vec![*value]
        } else {
            // One number a channel, wherever the channels are.
            let [channels, height, width] = self.network.shape(map.id);
            let mut values = vec![None; channels];
            let indices = map.indices();
            for (&index, place) in indices.as_ints()?.iter().zip(broadcast_places(constant_dims, &dims)) {
                let value = constant[place];
                if *values[index as usize / (height * width)].get_or_insert(value) != value {
                    let found = format!("numbers of {constant_dims:?}");
                    return Err(fault("one number for all, or one a channel", found));
                }
            }
            values.into_iter().map(|value| value.unwrap_or(0.0)).collect()
        };
        let values = Function::constant(values);
        let combined = match left {
            true => Function::combine(op, function, &values, &map.function)?,
            false => Function::combine(op, function, &map.function, &values)?,
        };
        let mut combined = map.with_function(combined);
        combined.dims = map.dims.clone();
        if dims != combined.dims {
            // A constant of more dimensions adds ones before the map's.
            let indices = combined.indices().with_dims(dims)?;
            combined = Map::of_indices(map.id, indices, self.len(map.id), combined.function)?;
        }
        Ok(combined)
    }

    /// An elementwise operator on two maps.
    fn combine(&mut self, node: &Node, function: fn(f64, f64) -> f64, a: &Map, b: &Map) -> Result<Map> {
        if a.id == b.id && a.has_same_indices(b) {
            let (a, b) = (self.without_fill(a, node)?, self.without_fill(b, node)?);
            if a.id == b.id {
                return Ok(a.with_function(Function::combine(&node.op, function, &a.function, &b.function)?));
            }
        }
        let is_product = match node.op.as_str() {
            "Mul" => true,
            "Add" | "Sum" | "Sub" => false,
            other => return Err(fault("a sum or a product of two maps", other)),
        };
        let a = self.plain(a, node)?;
        let mut b = self.plain(b, node)?;
        if node.op == "Sub" {
            let negated = b.function.apply("Neg", Rc::new(|x| -x))?;
            b = self.plain(&b.with_function(negated), node)?;
        }
        if let Some(map) = self.join(node, is_product, &a, &b)? {
            return Ok(map);
        }
        // Elements that lie in different orders are put in one.
        let (dims, ranks) = (broadcast(&a.dims, &b.dims)?, [a.dims.len(), b.dims.len()]);
        if ranks != [4, 4] && ranks != [2, 2] {
            return Err(fault("two maps of one shape, or one of a number a channel", format!("{dims:?}")));
        }
        let (a, b) = (self.whole(&a, node)?, self.whole(&b, node)?);
        let joined = self.join(node, is_product, &a, &b)?.ok_or_else(|| {
            let found = format!("{:?} and {:?}", a.dims, b.dims);
            fault("two maps of one shape, or for a product one of a number a channel", found)
        })?;
        let indices = joined.indices().with_dims(dims)?;
        Map::of_indices(joined.id, indices, self.len(joined.id), joined.function)
    }

    /// The sum or product of two maps, where their elements lie such that it can be said.
    fn join(&mut self, node: &Node, is_product: bool, a: &Map, b: &Map) -> Result<Option<Map>> {
        let dims = broadcast(&a.dims, &b.dims)?;
        let (shape_a, shape_b) = (self.network.shape(a.id), self.network.shape(b.id));
        let kind = if is_product { Kind::Scale } else { Kind::Add };
        if a.has_fill() || b.has_fill() {
            return Ok(None);
        }
        if a.has_same_indices(b) && shape_a == shape_b {
            let id = self.add(kind, vec![a.id, b.id], node)?;
            return Ok(Some(a.of_another(id)));
        }
        let (indices_a, indices_b) = (a.indices(), b.indices());
        let spread_a = indices_a.pick(dims.clone(), broadcast_places(&a.dims, &dims));
        let spread_b = indices_b.pick(dims.clone(), broadcast_places(&b.dims, &dims));
        // Whether each element of `gate`, of one number a channel, meets those of its channel.
        let gates = |gate: &[i64], shape: [usize; 3], full: &[i64], full_shape: [usize; 3]| {
            let plane = (full_shape[1] * full_shape[2]) as i64;
            shape == [full_shape[0], 1, 1] && gate.iter().zip(full).all(|(&gate, &full)| gate == full / plane)
        };
        let (ints_a, ints_b) = (spread_a.as_ints()?, spread_b.as_ints()?);
        let (inputs, indices) = if shape_a == shape_b && ints_a == ints_b {
            (vec![a.id, b.id], spread_a.clone())
        } else if is_product && gates(ints_b, shape_b, ints_a, shape_a) {
            (vec![a.id, b.id], spread_a.clone())
        } else if is_product && gates(ints_a, shape_a, ints_b, shape_b) {
            (vec![b.id, a.id], spread_b.clone())
        } else {
            return Ok(None);
        };
        let len = self.len(inputs[0]);
        let id = self.add(kind, inputs, node)?;
        Map::of_indices(id, indices, len, Function::identity()).map(Some)
    }

    fn concat(&mut self, node: &Node, values: &[Option<Value>]) -> Result<Map> {
        let mut maps = Vec::new();
        for value in values {
            match value {
                Some(Value::Map(map)) => maps.push(self.plain(map, node)?),
                _ => return Err(fault("maps to join", "a constant among them")),
            }
        }
        let first = maps[0].clone();
        if maps.iter().all(|map| map.id == first.id) {
            // Elements of one map: they are moved.
            let indices: Vec<Array> = maps.iter().map(Map::indices).collect();
            let inputs: Vec<Option<&Array>> = indices.iter().map(Some).collect();
            let joined = evaluate(node, &inputs)?.swap_remove(0);
            return Map::of_indices(first.id, joined, self.len(first.id), Function::identity());
        }
        let along = axis(node.int("axis")?.ok_or_else(|| fault("an axis", "none"))?, first.dims.len())?;
        let mut ids = Vec::new();
        for map in &maps {
            if map.dims.len() != first.dims.len() {
                return Err(fault(
                    "maps of as many dimensions",
                    format!("{:?} and {:?}", first.dims, map.dims),
                ));
            }
            let turned = map.channels_first(along, self.network.shape(map.id))?;
            ids.push(self.whole(&turned, node)?.id);
        }
        let plane = |id: Id| self.network.shape(id)[1..].to_vec();
        if let Some(&other) = ids.iter().find(|&&id| plane(id) != plane(ids[0])) {
            let found = format!("{:?} and {:?}", plane(ids[0]), plane(other));
            return Err(fault("maps of one height and width", found));
        }
        let id = self.add(Kind::Concat, ids, node)?;
        let shape = self.network.shape(id);
        Map::whole(id, resized_dims(shape)).channels_back(along, &first.dims, shape)
    }

    fn conv(&mut self, node: &Node, map: &Map, weight: &Array, bias: Option<&Array>) -> Result<Map> {
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

    fn pool(&mut self, node: &Node, map: &Map) -> Result<Map> {
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
    fn reduce(
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

    fn gemm(&mut self, node: &Node, map: &Map, weight: &Array, bias: Option<&Array>) -> Result<Map> {
        let map = self.plain(map, node)?;
        if map.dims.len() != 2 || map.dims[0] != 1 || node.int_of("transA", &[0, 1])? == 1 {
            return Err(fault("a row of one image", format!("{:?}", map.dims)));
        }
        let weight = match (node.int_of("transB", &[0, 1])?, &weight.dims[..]) {
            (1, [_, _]) => weight.clone(),
            (_, [_, _]) => transpose(weight, &[1, 0]),
            _ => return Err(fault("a matrix", format!("{:?}", weight.dims))),
        };
        let (alpha, beta) = (node.float("alpha")?.unwrap_or(1.0), node.float("beta")?.unwrap_or(1.0));
        let bias = match bias {
            None => None,
            Some(bias) => {
                let to = [1, weight.dims[0]];
                if broadcast(&bias.dims, &to)? != to {
                    return Err(fault(format!("a term of {} numbers", to[1]), format!("{:?}", bias.dims)));
                }
                let values = bias.as_floats()?;
                Some(broadcast_places(&bias.dims, &to).map(|place| beta * values[place]).collect())
            }
        };
        self.linear(node, &map, &weight, alpha, bias)
    }

    /// The linear layer of weights [out, in] over all elements of a map, as [1, out].
    fn linear(
        &mut self,
        node: &Node,
        map: &Map,
        weight: &Array,
        alpha: f32,
        bias: Option<Vec<f32>>,
    ) -> Result<Map> {
        let [rows, columns] = weight.dims[..] else {
            return Err(fault("a matrix", format!("{:?}", weight.dims)));
        };
        if columns != map.len() || rows == 0 {
            return Err(fault(format!("a matrix for {} numbers", map.len()), format!("{:?}", weight.dims)));
        }
        let len = self.len(map.id);
        let mut spread = spread_columns(map, weight.as_floats()?, rows, len)?;
        if alpha != 1.0 {
            spread.iter_mut().for_each(|value| *value *= alpha);
        }
        let weights = Weights { dims: vec![rows, len], weight: spread, bias };
        let id = self.add(Kind::Linear(weights), vec![map.id], node)?;
        Ok(Map::whole(id, vec![1, rows]))
    }

    /// A matrix on the right: a linear layer, or where the map has several places, a convolution of one tap at each.
    fn mat_mul(&mut self, node: &Node, map: &Map, weight: &Array) -> Result<Map> {
        let map = self.plain(map, node)?;
        let [columns, rows] = weight.dims[..] else {
            return Err(fault("a matrix on the right", format!("an array of {:?}", weight.dims)));
        };
        let last = map.dims.len().checked_sub(1).filter(|&last| map.dims[last] == columns);
        let last =
            last.ok_or_else(|| fault(format!("a matrix for {:?}", map.dims), format!("{:?}", weight.dims)))?;
        let turned = transpose(weight, &[1, 0]);
        let mut dims = map.dims.clone();
        dims[last] = rows;
        if map.len() == columns {
            let result = self.linear(node, &map, &turned, 1.0, None)?;
            return Ok(Map::whole(result.id, dims));
        }
        let first = map.channels_first(last, self.network.shape(map.id))?;
        let whole = self.whole(&first, node)?;
        let Data::Float(weight) = turned.data else { return Err(fault("floats", "integers")) };
        let window =
            Window { kernel: [1, 1], stride: [1, 1], pads: [[0, 0]; 2], dilation: [1, 1], ceil: false };
        let weights = Weights { dims: vec![rows, columns, 1, 1], weight, bias: None };
        let id = self.add(Kind::Conv2d { window, groups: 1, weights }, vec![whole.id], node)?;
        let shape = self.network.shape(id);
        Map::whole(id, resized_dims(shape)).channels_back(last, &map.dims, shape)
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
            let scopes = if parts.len() > 1 { &parts[..parts.len() - 1] } else { &parts[..] };
            let mut name = String::new();
            for part in scopes {
                match part.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')) && !name.is_empty() {
                    true => name = (*part).to_owned(),
                    false if name.is_empty() => name = (*part).to_owned(),
                    false => name = format!("{name}.{part}"),
                }
            }
            name
        }
    };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '_' };
    name.chars().map(allowed).take(100).collect()
}
