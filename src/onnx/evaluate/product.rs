//! Products of matrices.

use super::super::array::{Array, elements, fault};
use super::super::graph::Node;
use super::{broadcast_places, rearrange};
use crate::error::Result;

/// The matrices of a Gemm as they are multiplied: A [m, k] and B [k, n].
pub(super) fn gemm(node: &Node, a: &Array, b: &Array, c: Option<&Array>) -> Result<Array> {
    let turned = |name: &str, x: &Array| -> Result<Array> {
        if x.dims.len() != 2 {
            return Err(fault("matrices", format!("an array of {:?}", x.dims)));
        }
        Ok(if node.int_of(name, &[0, 1])? == 1 { rearrange::transpose(x, &[1, 0]) } else { x.clone() })
    };
    let (a, b) = (turned("transA", a)?, turned("transB", b)?);
    let (alpha, beta) = (node.float("alpha")?.unwrap_or(1.0), node.float("beta")?.unwrap_or(1.0));
    let mut product = mat_mul(&a, &b)?;
    let dims = product.dims.clone();
    let values = match &mut product.data {
        super::Data::Float(values) => values,
        super::Data::Int(_) => return Err(fault("floats", "integers")),
    };
    values.iter_mut().for_each(|value| *value *= alpha);
    if let Some(c) = c {
        if super::broadcast(&c.dims, &dims)? != dims {
            return Err(fault(format!("a term that broadcasts to {dims:?}"), format!("{:?}", c.dims)));
        }
        let c_values = c.as_floats()?;
        for (value, place) in values.iter_mut().zip(broadcast_places(&c.dims, &dims)) {
            *value += beta * c_values[place];
        }
    }
    Ok(product)
}

/// A [.., m, k] by B [k, n].
pub(super) fn mat_mul(a: &Array, b: &Array) -> Result<Array> {
    let (&[k, n], Some((&inner, lead))) = (&b.dims[..], a.dims.split_last()) else {
        return Err(fault("a matrix on the right", format!("an array of {:?}", b.dims)));
    };
    if inner != k {
        return Err(fault(format!("a matrix of {inner} rows"), k.to_string()));
    }
    let dims: Vec<usize> = lead.iter().copied().chain([n]).collect();
    let mut result = vec![0.0; elements(&dims)?];
    let (a, b) = (a.as_floats()?, b.as_floats()?);
    if n > 0 && k > 0 {
        for (row, sums) in a.chunks_exact(k).zip(result.chunks_exact_mut(n)) {
            for (&factor, b_row) in row.iter().zip(b.chunks_exact(n)) {
                for (sum, &value) in sums.iter_mut().zip(b_row) {
                    *sum += factor * value;
                }
            }
        }
    }
    Ok(Array::floats(dims, result))
}
