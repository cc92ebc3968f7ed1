//! Products with matrices: linear layers, or convolutions of one tap.

use super::super::array::{Array, Data, broadcast, broadcast_places, fault};
use super::super::evaluate::{Window, transpose};
use super::super::graph::Node;
use super::super::network::{Kind, Weights};
use super::super::view::{LEAST, Map, ZERO};
use super::{Lowering, MAX_SELECTION, resized_dims};
use crate::error::Result;

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
    pub(super) fn gemm(
        &mut self,
        node: &Node,
        map: &Map,
        weight: &Array,
        bias: Option<&Array>,
    ) -> Result<Map> {
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
    pub(super) fn mat_mul(&mut self, node: &Node, map: &Map, weight: &Array) -> Result<Map> {
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
