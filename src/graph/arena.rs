//! Where each value lies in the one block of memory that a session owns.
//!
//! Two values may share bytes when no step needs both. The largest value is placed first, each at the lowest
//! offset where it overlaps nothing that lives at the same time (greedy by size, as in Pisarchyk and Lee,
//! "Efficient Memory Management for Deep Neural Net Inference", 2020).

use super::node::ValueId;

/// A value's need: `len` elements while steps `first..=last` run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub len: usize,
    pub first: usize,
    pub last: usize,
}

impl Lifetime {
    fn meets(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// What a node reads and writes: all that lifetimes follow from.
pub(crate) trait Uses {
    /// Every value that the node reads.
    fn reads(&self) -> impl Iterator<Item = ValueId>;

    /// The value that the node writes; none where results leave the arena.
    fn writes(&self) -> Option<ValueId>;
}

/// Values that are needed beyond the nodes that use them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held<'a> {
    /// All of them, from the first node to the end.
    All,
    /// One that is there before the first node, and those that are read behind the last.
    Ends { first: Option<ValueId>, last: &'a [ValueId] },
}

/// When each value, of so many elements, is needed, counted in nodes.
pub(crate) fn lifetimes<N: Uses>(nodes: &[N], lens: Vec<usize>, held: Held<'_>) -> Vec<Lifetime> {
    let mut lifetimes: Vec<Lifetime> =
        lens.into_iter().map(|len| Lifetime { len, first: 0, last: 0 }).collect();
    for (index, node) in nodes.iter().enumerate() {
        if let Some(output) = node.writes() {
            (lifetimes[output].first, lifetimes[output].last) = (index, index);
        }
        for read in node.reads() {
            lifetimes[read].last = index;
        }
    }
    let end = nodes.len();
    match held {
        Held::All => lifetimes.iter_mut().for_each(|l| (l.first, l.last) = (0, end)),
        Held::Ends { first, last } => {
            first.into_iter().for_each(|value| lifetimes[value].first = 0);
            last.iter().for_each(|&value| lifetimes[value].last = end);
        }
    }
    lifetimes
}

/// Offsets are multiples of this many elements: 64 bytes, a cache line and an AVX-512 vector.
pub(crate) const ALIGNMENT: usize = 16;

/// The offset of each value, and the length of the arena; `None` where it would not fit the address space.
pub(crate) fn place(lifetimes: &[Lifetime]) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&value| (std::cmp::Reverse(lifetimes[value].len), value));
    let mut offsets = vec![0; lifetimes.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(lifetimes.len()); // by offset
    let mut arena_len = 0;
    for value in order {
        let len = lifetimes[value].len.checked_next_multiple_of(ALIGNMENT)?;
        let mut offset: usize = 0;
        for &other in placed.iter().filter(|&&other| lifetimes[other].meets(&lifetimes[value])) {
            if offset.checked_add(len)? <= offsets[other] {
                break;
            }
            let other_end = offsets[other] + lifetimes[other].len.next_multiple_of(ALIGNMENT);
            offset = offset.max(other_end);
        }
        let end = offset.checked_add(len).filter(|&end| end <= isize::MAX as usize / size_of::<f32>())?;
        offsets[value] = offset;
        arena_len = arena_len.max(end);
        let index = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(index, value);
    }
    Some((offsets, arena_len))
}

/// The least any placement needs: the most elements alive in one step.
#[cfg(test)]
pub(crate) fn lower_bound(lifetimes: &[Lifetime]) -> usize {
    let steps = lifetimes.iter().map(|l| l.last + 1).max().unwrap_or(0);
    let alive = |step| lifetimes.iter().filter(move |l| (l.first..=l.last).contains(&step));
    (0..steps).map(|step| alive(step).map(|l| l.len.next_multiple_of(ALIGNMENT)).sum()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// splitmix64: enough for choosing cases.
    fn random(state: &mut u64) -> usize {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize
    }

    #[test]
    fn no_two_live_values_overlap_and_the_peak_is_near_the_lower_bound() {
        let (mut used, mut needed) = (0, 0);
        for seed in 0..500u64 {
            let mut state = seed;
            let steps = 1 + random(&mut state) % 60;
            // A chain as networks are: each value lives from its step to a reader soon after, some much longer.
            let lifetimes: Vec<Lifetime> = (0..steps)
                .map(|first| {
                    let reach = if random(&mut state).is_multiple_of(5) { 12 } else { 2 };
                    let last = first + random(&mut state) % reach;
                    Lifetime { len: 1 + random(&mut state) % 10_000, first, last }
                })
                .collect();
            let (offsets, arena_len) = place(&lifetimes).expect("small values fit");
            for (a, first) in lifetimes.iter().enumerate() {
                assert_eq!(offsets[a] % ALIGNMENT, 0, "seed {seed}");
                assert!(offsets[a] + first.len <= arena_len, "seed {seed}");
                for (b, second) in lifetimes.iter().enumerate().skip(a + 1) {
                    let apart = offsets[a] + first.len <= offsets[b] || offsets[b] + second.len <= offsets[a];
                    assert!(apart || !first.meets(second), "seed {seed}: {first:?} and {second:?} overlap");
                }
            }
            let bound = lower_bound(&lifetimes);
            assert!(arena_len >= bound, "seed {seed}");
            assert!(
                arena_len * 2 <= bound * 3,
                "seed {seed}: {arena_len} elements for a lower bound of {bound}"
            );
            used += arena_len;
            needed += bound;
        }
        assert!(used * 100 <= needed * 110, "{used} elements in all for a lower bound of {needed}");
    }

    #[test]
    fn sizes_beyond_the_address_space_are_refused() {
        let huge = Lifetime { len: isize::MAX as usize / 4 - 64, first: 0, last: 1 };
        assert!(place(&[huge]).is_some());
        assert!(place(&[huge, huge]).is_none());
        assert!(place(&[Lifetime { len: usize::MAX, first: 0, last: 0 }]).is_none());
    }
}
