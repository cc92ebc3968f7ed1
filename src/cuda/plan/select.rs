//! Which tile, and how many blocks share its reduction: a pure function of shape, type, GPU and tuning.
//!
//! A [`Tuning`](super::Tuning) that has measured the problem decides. Otherwise the time of a launch is estimated in clocks of a
//! multiprocessor: blocks run in waves, one block a multiprocessor
//! at a time; a block fills its ring, runs its k tiles, each bound by products, by bytes or by the latency of a stage,
//! and stores; behind a split reduction the last block of each tile reads the sums of all. The constants are those of
//! an H100's data sheet and of its manual's instruction latencies: estimates, made to rank candidates, not to predict.

use std::fmt;

use super::variants::{
    AWS_UNIT_DENSE, CONV2D_DIRECT, CONV2D_IMPLICIT_GEMM, DirectVariant, Element, GemmVariant, VECTOR,
};
use crate::error::Result;
use crate::graph::target::Gpu;

/// A kernel that there are several tiles of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TiledOp {
    ImplicitGemm,
    Direct,
    AwsUnitDense,
}

impl TiledOp {
    pub const ALL: [TiledOp; 3] = [TiledOp::ImplicitGemm, TiledOp::Direct, TiledOp::AwsUnitDense];

    /// The kernel's name, which is that of its file.
    pub const fn kernel(self) -> &'static str {
        match self {
            TiledOp::ImplicitGemm => "conv2d_implicit_gemm",
            TiledOp::Direct => "conv2d_direct",
            TiledOp::AwsUnitDense => "aws_unit_dense",
        }
    }

    /// The tiles of the tensor cores.
    fn gemm_variants(self) -> &'static [GemmVariant] {
        match self {
            TiledOp::ImplicitGemm => CONV2D_IMPLICIT_GEMM,
            TiledOp::AwsUnitDense => AWS_UNIT_DENSE,
            TiledOp::Direct => &[],
        }
    }
}

/// What a launch computes, as far as the choice of its tile depends on it: the GEMM of one branch; a launch computes it
/// for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Problem {
    pub op: TiledOp,
    pub element: Element,
    /// 1 or 2.
    pub branches: usize,
    /// gemm_m
    pub positions: usize,
    /// gemm_n
    pub channels: usize,
    /// gemm_k
    pub reduction: usize,
}

impl Problem {
    /// Every tile that a kernel has in its type.
    fn tiles(&self) -> impl Iterator<Item = Tile> {
        let element = self.element;
        let gemm = self.op.gemm_variants().iter().filter(move |variant| variant.element == element);
        let direct = CONV2D_DIRECT.iter().filter(move |variant| variant.element == element);
        let direct = direct.filter(|_| self.op == TiledOp::Direct);
        gemm.map(|variant| Tile::Gemm(GemmChoice { variant, splits: 1, tuned: false }))
            .chain(direct.map(|variant| Tile::Direct(DirectChoice { variant, tuned: false })))
    }
}

/// A tile of the dual GEMM and the number of blocks that share its reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GemmChoice {
    pub variant: &'static GemmVariant,
    pub splits: usize,
    /// By a tuning.
    pub tuned: bool,
}

/// The positions that a thread of the direct convolution computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectChoice {
    pub variant: &'static DirectVariant,
    /// By a tuning.
    pub tuned: bool,
}

/// How a launch is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tile {
    Gemm(GemmChoice),
    Direct(DirectChoice),
}

impl Tile {
    /// The tile of a problem by its name; the error says what of it is wrong, and what is expected there.
    pub fn named(problem: &Problem, name: &str, splits: usize) -> Result<Tile, (&'static str, String)> {
        let Some(tile) = problem.tiles().find(|tile| tile.name() == name) else {
            let names: Vec<String> = problem.tiles().map(|tile| tile.name()).collect();
            return Err(match names.split_last() {
                None => ("precision", "f16 or bf16, which the kernel has tiles in".to_owned()),
                Some((last, others)) => ("tile", format!("{} or {last}", others.join(", "))),
            });
        };
        match tile {
            Tile::Direct(_) if splits > 1 => {
                Err(("splits", "1 of a kernel that does not split its reduction".to_owned()))
            }
            Tile::Direct(_) => Ok(tile),
            Tile::Gemm(choice) => {
                let k_tiles = problem.reduction.div_ceil(choice.variant.tile_k);
                match splits <= most_splits(k_tiles) && is_useful(splits, k_tiles) {
                    true => Ok(Tile::Gemm(GemmChoice { splits, ..choice })),
                    false => {
                        let most = most_splits(k_tiles);
                        let parts = format!("each with a part of a reduction of {k_tiles} parts");
                        Err(("splits", format!("from 1 to {most} blocks, {parts}")))
                    }
                }
            }
        }
    }

    /// Positions x channels of a block, or of a thread of the direct convolution.
    pub fn name(&self) -> String {
        match self {
            Tile::Gemm(choice) => format!("{}x{}", choice.variant.tile_m, choice.variant.tile_n),
            Tile::Direct(choice) => format!("{}x{VECTOR}", choice.variant.positions),
        }
    }

    pub fn splits(&self) -> usize {
        match self {
            Tile::Gemm(choice) => choice.splits,
            Tile::Direct(_) => 1,
        }
    }

    pub fn shared_bytes(&self, branches: usize) -> usize {
        match self {
            Tile::Gemm(choice) => choice.variant.shared_bytes_for(branches),
            Tile::Direct(_) => 0,
        }
    }

    /// The same by a tuning.
    pub fn tuned(self) -> Tile {
        match self {
            Tile::Gemm(choice) => Tile::Gemm(GemmChoice { tuned: true, ..choice }),
            Tile::Direct(choice) => Tile::Direct(DirectChoice { tuned: true, ..choice }),
        }
    }

    pub fn is_tuned(&self) -> bool {
        match self {
            Tile::Gemm(choice) => choice.tuned,
            Tile::Direct(choice) => choice.tuned,
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if self.splits() > 1 {
            write!(f, "/{}", self.splits())?;
        }
        Ok(())
    }
}

/// What a tile of both branches takes on a multiprocessor, in clocks, after what an H100 measured
/// (benches/record/2026-11-26-h100.md).
struct TileClocks {
    tile: [usize; 2],
    /// A k tile of a block that has the multiprocessor to itself, and of one among others, which overlap.
    alone: usize,
    shared: usize,
    /// A block beside its k tiles: launch, the first loads, the epilogue.
    block: usize,
    /// Blocks that run at once.
    at_once: usize,
}

#[rustfmt::skip]
const TILE_CLOCKS: [TileClocks; 5] = [
    TileClocks { tile: [128, 64], alone: 700, shared: 700, block: 11000, at_once: 1 },
    TileClocks { tile: [64, 64], alone: 800, shared: 600, block: 9000, at_once: 2 },
    TileClocks { tile: [64, 32], alone: 480, shared: 350, block: 5400, at_once: 2 },
    TileClocks { tile: [32, 32], alone: 380, shared: 220, block: 4200, at_once: 2 },
    TileClocks { tile: [16, 64], alone: 400, shared: 250, block: 4500, at_once: 2 },
];

/// Bytes of tables in a clock that the last block of a split reduction reads from the L2 cache and adds up.
const BYTES_PER_CLOCK: usize = 32;
/// Clocks that a split reduction adds at least: tickets, the last block's wait.
const REDUCTION_CLOCKS: usize = 2200;
/// The most blocks that share a reduction.
const MOST_SPLITS: usize = 16;

fn most_splits(k_tiles: usize) -> usize {
    MOST_SPLITS.min(k_tiles.max(1))
}

/// Whether every block gets a k tile: shares are rounded up, so that the last may otherwise come out empty.
fn is_useful(splits: usize, k_tiles: usize) -> bool {
    splits == 1 || (splits - 1) * k_tiles.div_ceil(splits) < k_tiles
}

/// Of the multiprocessor that has the most blocks.
fn clocks(choice: &GemmChoice, problem: &Problem, gpu: &Gpu) -> usize {
    let GemmVariant { tile_m, tile_n, tile_k, .. } = *choice.variant;
    let Some(costs) = TILE_CLOCKS.iter().find(|costs| costs.tile == [tile_m, tile_n]) else {
        return usize::MAX;
    };
    let tiles = problem.positions.div_ceil(tile_m) * problem.channels.div_ceil(tile_n);
    let blocks = (tiles * choice.splits).div_ceil(gpu.multiprocessors.max(1));
    let k_tiles = problem.reduction.div_ceil(tile_k).div_ceil(choice.splits);
    let sum_bytes = problem.branches * tile_m * tile_n * size_of::<f32>();
    let reduction = match choice.splits {
        1 => 0,
        splits => REDUCTION_CLOCKS + (splits + 1) * sum_bytes / BYTES_PER_CLOCK,
    };
    // A block of one branch multiplies half as much, and waits as long.
    let of_branches = |clocks: usize| clocks * (1 + problem.branches) / 3;
    let round = |blocks: usize| {
        costs.block + reduction + k_tiles * of_branches(costs.alone.max(blocks * costs.shared))
    };
    let rest = blocks % costs.at_once;
    blocks / costs.at_once * round(costs.at_once) + if rest > 0 { round(rest) } else { 0 }
}

/// Where a tile of the direct convolution stands: the most positions a thread that still give every multiprocessor a
/// block come first, and behind them the fewest.
fn direct_rank(variant: &DirectVariant, problem: &Problem, gpu: &Gpu) -> (bool, usize) {
    let threads = problem.positions.div_ceil(variant.positions) * problem.channels.div_ceil(VECTOR);
    let busy = threads >= variant.threads * gpu.multiprocessors;
    (!busy, if busy { usize::MAX - variant.positions } else { variant.positions })
}

/// Every tile that the GPU has room for, with every useful split, the best by estimate first.
pub(crate) fn candidates(problem: &Problem, gpu: &Gpu) -> Vec<Tile> {
    let fitting = problem.tiles().filter(|tile| tile.shared_bytes(problem.branches) <= gpu.shared_bytes);
    let mut all: Vec<((bool, usize), Tile)> = Vec::new();
    for tile in fitting {
        match tile {
            Tile::Direct(choice) => all.push((direct_rank(choice.variant, problem, gpu), tile)),
            Tile::Gemm(choice) => {
                let k_tiles = problem.reduction.div_ceil(choice.variant.tile_k);
                for splits in (1..=most_splits(k_tiles)).filter(|&splits| is_useful(splits, k_tiles)) {
                    let choice = GemmChoice { splits, ..choice };
                    all.push(((false, clocks(&choice, problem, gpu)), Tile::Gemm(choice)));
                }
            }
        }
    }
    all.sort_by_key(|(rank, _)| *rank); // stable: of equals the first of the table
    all.into_iter().map(|(_, tile)| tile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const F16: Problem = Problem {
        op: TiledOp::ImplicitGemm,
        element: Element::F16,
        branches: 2,
        positions: 100,
        channels: 64,
        reduction: 576,
    };

    fn untuned(problem: &Problem, gpu: &Gpu) -> Option<Tile> {
        candidates(problem, gpu).first().copied()
    }

    fn choice(positions: usize, channels: usize, reduction: usize) -> GemmChoice {
        let gpu = Gpu::typical(90).expect("a known GPU");
        match untuned(&Problem { positions, channels, reduction, ..F16 }, &gpu) {
            Some(Tile::Gemm(choice)) => choice,
            other => panic!("{other:?}"),
        }
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
            assert!(
                (choice.splits - 1) * k_tiles.div_ceil(choice.splits) < k_tiles,
                "{reduction}: {choice:?}"
            );
        }
    }

    #[test]
    fn a_thread_takes_several_positions_where_they_are_many() {
        let gpu = Gpu::typical(90).expect("a known GPU");
        for (positions, tile) in [(1, "1x8"), (64 * 56 * 56, "4x8")] {
            let problem = Problem { op: TiledOp::Direct, positions, ..F16 };
            assert_eq!(untuned(&problem, &gpu).map(|tile| tile.name()).as_deref(), Some(tile));
        }
    }

    #[test]
    fn a_gpu_with_little_shared_memory_gets_a_tile_that_fits() {
        let small = Gpu { shared_bytes: 70_000, ..Gpu::typical(86).expect("a known GPU") };
        let tile = untuned(&F16, &small).expect("a tile");
        assert!(tile.shared_bytes(2) <= 70_000);
        let none = Gpu { shared_bytes: 1024, ..small };
        assert_eq!(untuned(&F16, &none), None);
    }
}
