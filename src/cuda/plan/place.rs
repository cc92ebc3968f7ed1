//! Where the values of a plan lie in the arena of a session.

use super::variants::Element;
use super::{CudaNode, CudaValue};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::arena::{self, Held, Uses};
use crate::graph::node::ValueId;

/// Gives every value its offset, and returns the bytes of the arena; with `keep_values`, no two values share memory.
///
/// The image and the results lie elsewhere; a part of a value lies where that one does. Errors: maps that do not fit the
/// address space together.
pub(super) fn place(
    nodes: &[CudaNode],
    values: &mut [CudaValue],
    element: Element,
    batch: usize,
    keep_values: bool,
) -> Result<usize> {
    let too_large = || {
        let found = format!("more, for {batch} images");
        Error::new(ErrorKind::Plan, "arena", "feature maps that fit the address space together", found)
    };
    let len = |value: &CudaValue| {
        let bytes = if value.within.is_some() { 0 } else { value.image_bytes };
        let bytes = bytes.checked_mul(value.branches * batch)?;
        Some(bytes.div_ceil(size_of::<f32>()))
    };
    let lens = values.iter().map(len).collect::<Option<Vec<usize>>>().ok_or_else(too_large)?;
    let held = if keep_values { Held::All } else { Held::Ends { first: None, last: &[] } };
    let whole = whole_uses(nodes, values);
    let (offsets, arena_len) = arena::place(&arena::lifetimes(&whole, lens, held)).ok_or_else(too_large)?;
    for index in 0..values.len() {
        let (root, channel) = root(values, index);
        values[index].offset = offsets[root] * size_of::<f32>() + channel * element.bytes();
    }
    Ok(arena_len * size_of::<f32>())
}

/// The value that memory is given to, and the first channel of `value` there.
fn root(values: &[CudaValue], value: ValueId) -> (ValueId, usize) {
    match values[value].within {
        None => (value, 0),
        Some((whole, first)) => {
            let (root, channel) = root(values, whole);
            (root, channel + first)
        }
    }
}

/// What a node reads and writes of the values that memory is given to.
struct WholeUses {
    reads: Vec<ValueId>,
    writes: Option<ValueId>,
}

impl Uses for WholeUses {
    fn reads(&self) -> impl Iterator<Item = ValueId> {
        self.reads.iter().copied()
    }

    fn writes(&self) -> Option<ValueId> {
        self.writes
    }
}

/// A value whose parts several nodes write is needed from the first of them on.
fn whole_uses(nodes: &[CudaNode], values: &[CudaValue]) -> Vec<WholeUses> {
    let mut written = vec![false; values.len()];
    let of_node = |node: &CudaNode| {
        let mut reads: Vec<ValueId> = node.reads().map(|value| root(values, value).0).collect();
        let writes = node.writes().map(|value| root(values, value).0).filter(|&whole| {
            let first = !std::mem::replace(&mut written[whole], true);
            if !first {
                reads.push(whole);
            }
            first
        });
        WholeUses { reads, writes }
    };
    nodes.iter().map(of_node).collect()
}
