//! Operators on several values, element by element: a map and a constant is a function of the map, two maps are added or
//! multiplied; and maps joined along an axis.

use std::rc::Rc;

use super::super::array::{Array, axis, broadcast, broadcast_places, fault};
use super::super::evaluate::{evaluate, scalar2};
use super::super::graph::Node;
use super::super::network::{Id, Kind};
use super::super::pointwise::Function;
use super::super::view::Map;
use super::{Lowering, Value, resized_dims};
use crate::error::Result;

impl Lowering<'_> {
    /// All inputs of an elementwise operator, one after another.
    pub(super) fn combine_all(
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
    pub(super) fn with_constant(
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

    pub(super) fn concat(&mut self, node: &Node, values: &[Option<Value>]) -> Result<Map> {
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
}
