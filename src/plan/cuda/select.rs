//! Which tile, and how many blocks share its reduction: a pure function of shape and GPU.
//!
//! The time of a launch is estimated in clocks of a multiprocessor: blocks run in waves, one block a multiprocessor
//! at a time; a block fills its ring, runs its k tiles, each bound by products, by bytes or by the latency of a stage,
//! and stores; behind a split reduction the last block of each tile reads the sums of all. The constants are those of
//! an H100's data sheet and of its manual's instruction latencies: estimates, made to rank candidates, not to predict.

use std::fmt;

use super::variants::{Element, GemmVariant};
use crate::plan::target::Gpu;

/// A tile of the dual GEMM and the number of blocks that share its reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GemmChoice {
    pub variant: &'static GemmVariant,
    pub splits: usize,
}

impl fmt::Display for GemmChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.variant.tile_m, self.variant.tile_n)?;
        if self.splits > 1 {
            write!(f, "/{}", self.splits)?;
        }
        Ok(())
    }
}

/// The GEMM of one branch; a launch computes it for both.
#[derive(Clone, Copy, Debug)]
pub(super) struct GemmShape {
    /// gemm_m
    pub positions: usize,
    /// gemm_n
    pub channels: usize,
    /// gemm_k
    pub reduction: usize,
    /// Matrices A that are multiplied: 2, or 1 where both targets share it.
    pub inputs: usize,
}

/// Multiply-adds of 16-bit numbers that a multiprocessor does in a clock with `mma.sync`.
const PRODUCTS_PER_CLOCK: usize = 1024;
/// Bytes that a multiprocessor reads from the L2 cache in a clock.
const BYTES_PER_CLOCK: usize = 64;
/// Clocks from one barrier of the main loop to the next at least.
const STAGE_CLOCKS: usize = 150;
/// Clocks of a block beside its k tiles: launch, the first loads, the epilogue.
const BLOCK_CLOCKS: usize = 2000;
/// Clocks that a split reduction adds at least: fences, tickets, the last block's wait.
const REDUCTION_CLOCKS: usize = 1500;
/// The most blocks that share a reduction.
const MOST_SPLITS: usize = 16;

fn clocks(choice: &GemmChoice, shape: &GemmShape, gpu: &Gpu) -> usize {
    let GemmVariant { tile_m, tile_n, tile_k, .. } = *choice.variant;
    let tiles = shape.positions.div_ceil(tile_m) * shape.channels.div_ceil(tile_n);
    let waves = (tiles * choice.splits).div_ceil(gpu.multiprocessors.max(1));
    let k_tiles = shape.reduction.div_ceil(tile_k).div_ceil(choice.splits);
    let products = 2 * tile_m * tile_n * tile_k / PRODUCTS_PER_CLOCK;
    let bytes = 2 * (shape.inputs * tile_m + 2 * tile_n) * tile_k / BYTES_PER_CLOCK;
    let main_loop = k_tiles * products.max(bytes).max(STAGE_CLOCKS);
    let sum_bytes = 2 * tile_m * tile_n * size_of::<f32>();
    let reduction = match choice.splits {
        1 => 0,
        splits => REDUCTION_CLOCKS + (splits + 1) * sum_bytes / BYTES_PER_CLOCK,
    };
    waves * (BLOCK_CLOCKS + main_loop + reduction)
}

/// The candidates of a shape: every tile of the table that the GPU has room for, with every useful split.
pub(super) fn candidates<'a>(
    table: &'static [GemmVariant],
    element: Element,
    shape: &'a GemmShape,
    gpu: &'a Gpu,
) -> impl Iterator<Item = GemmChoice> + 'a {
    let fits =
        move |variant: &&GemmVariant| variant.element == element && variant.shared_bytes <= gpu.shared_bytes;
    table.iter().filter(fits).flat_map(|variant| {
        let k_tiles = shape.reduction.div_ceil(variant.tile_k);
        // Every block gets a k tile: shares are rounded up, so that the last may otherwise come out empty.
        let useful = move |&splits: &usize| (splits - 1) * k_tiles.div_ceil(splits) < k_tiles;
        (1..=MOST_SPLITS.min(k_tiles.max(1))).filter(useful).map(move |splits| GemmChoice { variant, splits })
    })
}

/// The candidate with the least estimated time; the first of equals, and of the table where none fits.
pub(super) fn gemm(
    table: &'static [GemmVariant],
    element: Element,
    shape: GemmShape,
    gpu: &Gpu,
) -> Option<GemmChoice> {
    candidates(table, element, &shape, gpu).min_by_key(|choice| clocks(choice, &shape, gpu))
}

#[cfg(test)]
mod tests {
    use super::super::variants::CONV2D_IMPLICIT_GEMM;
    use super::*;

    fn choice(positions: usize, channels: usize, reduction: usize) -> GemmChoice {
        let shape = GemmShape { positions, channels, reduction, inputs: 2 };
        let gpu = Gpu::typical(90).expect("a known GPU");
        gemm(CONV2D_IMPLICIT_GEMM, Element::F16, shape, &gpu).expect("a tile")
    }

    #[test]
    fn small_maps_split_their_reduction_and_large_ones_do_not() {
        assert!(choice(16, 512, 4608).splits > 1); // layer 4 at 112x112
        assert_eq!(choice(64 * 56 * 56, 64, 576).splits, 1);
    }

    #[test]
    fn every_block_of_a_split_has_work() {
        for reduction in 1..3000 {
            let choice = choice(16, 64, reduction);
            let k_tiles = reduction.div_ceil(choice.variant.tile_k);
            assert!((choice.splits - 1) * k_tiles.div_ceil(choice.splits) < k_tiles, "{reduction}: {choice}");
        }
    }

    #[test]
    fn a_gpu_with_little_shared_memory_gets_a_tile_that_fits() {
        let shape = GemmShape { positions: 100, channels: 64, reduction: 576, inputs: 2 };
        let small = Gpu { shared_bytes: 70_000, ..Gpu::typical(86).expect("a known GPU") };
        let choice = gemm(CONV2D_IMPLICIT_GEMM, Element::F16, shape, &small).expect("a tile");
        assert!(choice.variant.shared_bytes <= 70_000);
        let none = Gpu { shared_bytes: 1024, ..small };
        assert_eq!(gemm(CONV2D_IMPLICIT_GEMM, Element::F16, shape, &none), None);
    }
}
