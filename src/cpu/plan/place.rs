//! Where the values of a plan lie: how many images run together, and each value's offset in the arena.

use super::decide::Decisions;
use super::node::CpuNode;
use super::value::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::arena::{self, Held, Lifetime, Uses};
use crate::graph::node::ValueId;

/// Elements of the arena that a pass may take if it has more than one image: 64 MB, about a last-level cache. Fewer
/// images would read the weights from memory more often, more would do the same with the maps.
const PASS_LEN: usize = (64 << 20) / size_of::<f32>();

/// The memory of a session.
pub(super) struct Places {
    /// Images that go through the nodes together.
    pub pass: usize,
    /// Elements of the arena.
    pub arena_len: usize,
    /// Elements that each thread needs for itself.
    pub scratch_len: usize,
}

/// Gives every value its offset; with `keep_values`, no two values share memory.
///
/// Errors: maps that do not fit the address space together; a halo that is smaller than what its readers read.
pub(super) fn place(decided: &mut Decisions, batch: usize, keep_values: bool) -> Result<Places> {
    let Decisions { nodes, values, image, heads, .. } = decided;
    let read_by_heads: Vec<ValueId> = heads.iter().map(|head| head.value).collect();
    nodes.iter().try_for_each(|node| node.check_halo(values))?;
    let offsets = |images: usize| {
        // A part of another value has no memory of its own.
        let len = |value: &Value| match value.within {
            Some(_) => Ok(0),
            None => value.checked_len(images),
        };
        let lens = values.iter().map(len).collect::<Result<Vec<usize>>>()?;
        let held = match keep_values {
            true => Held::All,
            false => Held::Ends { first: Some(*image), last: &read_by_heads },
        };
        let mut lifetimes = arena::lifetimes(nodes, lens, held);
        extend_over_parts(nodes, values, &mut lifetimes);
        arena::place(&lifetimes).ok_or_else(|| {
            let expected = "feature maps that fit the address space together";
            Error::new(ErrorKind::Plan, "arena", expected, format!("more, for {images} images"))
        })
    };
    let pass = match keep_values {
        true => batch,
        false => {
            let (_, image_len) = offsets(1)?;
            let most = (PASS_LEN / image_len).clamp(1, batch);
            batch.div_ceil(batch.div_ceil(most)) // passes of about the same size
        }
    };
    let (offsets, arena_len) = offsets(pass)?;
    for (value, offset) in values.iter_mut().zip(&offsets) {
        value.offset = match value.within {
            None => *offset,
            Some(within) => offsets[within.value] + within.first_block * value.block_stride(),
        };
    }
    let scratch_len = nodes.iter().map(|node: &CpuNode| node.kernel.scratch_len()).max().unwrap_or(0);
    Ok(Places { pass, arena_len, scratch_len })
}

/// A value that others are parts of is needed from when the first of them is written until the last of them is read.
fn extend_over_parts(nodes: &[CpuNode], values: &[Value], lifetimes: &mut [Lifetime]) {
    let mut is_written = vec![false; values.len()];
    nodes.iter().filter_map(Uses::writes).for_each(|value| is_written[value] = true);
    let parts = || values.iter().enumerate().filter_map(|(part, value)| Some((part, value.within?.value)));
    for (_, whole) in parts().filter(|&(_, whole)| !is_written[whole]) {
        lifetimes[whole].first = usize::MAX;
    }
    for (part, whole) in parts() {
        let Lifetime { first, last, .. } = lifetimes[part];
        if is_written[part] {
            lifetimes[whole].first = lifetimes[whole].first.min(first);
        }
        lifetimes[whole].last = lifetimes[whole].last.max(last);
    }
}
