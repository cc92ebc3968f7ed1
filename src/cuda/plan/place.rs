//! Where the values of a plan lie in the arena of a session.

use super::{CudaNode, CudaValue};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::arena::{self, Held};

/// Gives every value its offset, and returns the bytes of the arena; with `keep_values`, no two values share memory.
///
/// The image and the results lie elsewhere. Errors: maps that do not fit the address space together.
pub(super) fn place(
    nodes: &[CudaNode],
    values: &mut [CudaValue],
    batch: usize,
    keep_values: bool,
) -> Result<usize> {
    let too_large = || {
        let found = format!("more, for {batch} images");
        Error::new(ErrorKind::Plan, "arena", "feature maps that fit the address space together", found)
    };
    let len = |value: &CudaValue| {
        let bytes = value.image_bytes.checked_mul(value.branches * batch)?;
        Some(bytes.div_ceil(size_of::<f32>()))
    };
    let lens = values.iter().map(len).collect::<Option<Vec<usize>>>().ok_or_else(too_large)?;
    let held = if keep_values { Held::All } else { Held::Ends { first: None, last: &[] } };
    let (offsets, arena_len) = arena::place(&arena::lifetimes(nodes, lens, held)).ok_or_else(too_large)?;
    for (value, offset) in values.iter_mut().zip(offsets) {
        value.offset = offset * size_of::<f32>();
    }
    Ok(arena_len * size_of::<f32>())
}
