//! The tile of the direct convolution: how many output pixels and channel blocks stay in registers at once.
//!
//! A tile of `rows` x `columns` pixels and `blocks` channel blocks keeps rows*columns*blocks vectors of sums.
//! For each input channel and kernel element it loads `blocks` vectors of weights and rows*columns broadcast
//! pixels, and multiplies each with each. [`exists`] is the one table of tiles that the CPU backend compiles;
//! [`choose`] picks from it by shape alone.

use std::fmt;

use crate::graph::target::Isa;

/// Output pixels and channel blocks computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Output rows.
    pub rows: usize,
    /// Output columns.
    pub columns: usize,
    /// Blocks of output channels.
    pub blocks: usize,
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.rows, self.columns, self.blocks)
    }
}

/// The tile sizes along each axis.
pub const ROWS: [usize; 3] = [4, 2, 1];
/// The tile sizes along each axis.
pub const COLUMNS: [usize; 8] = [14, 7, 6, 5, 4, 3, 2, 1];
/// The tile sizes along each axis.
pub const BLOCKS: [usize; 2] = [2, 1];

/// Sums that fit the registers beside the weights of a block or more and a broadcast pixel.
pub const fn max_sums(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 28,  // of 32
        Isa::Avx2 => 12,    // of 16
        Isa::Neon => 14,    // of 15 pairs, with the weights; a pixel has one of the other two registers
        Isa::Portable => 6, // of 16, which hold half a vector each
    }
}

/// Whether the backend compiles this tile for an instruction set.
pub const fn exists(isa: Isa, tile: Tile) -> bool {
    let sums = tile.rows * tile.columns * tile.blocks;
    match isa {
        Isa::Neon => sums <= max_sums(isa) + 1 - tile.blocks,
        Isa::Avx512 | Isa::Avx2 | Isa::Portable => sums <= max_sums(isa),
    }
}

/// How a map of `rows` x `columns` pixels and `blocks` channel blocks is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiling {
    /// The tile; smaller ones of the same table finish the edges.
    pub tile: Tile,
    /// The widths that make up a row.
    pub columns: Vec<usize>,
}

/// Cuts a map so that the modelled cycles are fewest.
///
/// The model of a tile, for one input channel and kernel element: a processor starts two multiply-adds and two
/// loads a cycle, and a sum waits four cycles for the one before it.
pub fn choose(isa: Isa, rows: usize, columns: usize, blocks: usize) -> Tiling {
    let cycles = |tile: Tile| -> usize {
        let sums = tile.rows * tile.columns * tile.blocks;
        let loads = tile.rows * tile.columns + tile.blocks;
        // In eighths of a cycle; a tile's prologue and epilogue cost about as much as a hundredth of its sums.
        (4 * sums).max(4 * loads).max(32) + 1
    };
    let mut best: Option<(usize, Tiling)> = None;
    for tile_blocks in BLOCKS {
        for tile_rows in ROWS.into_iter().rev() {
            let narrowest = Tile { rows: tile_rows, columns: 1, blocks: tile_blocks };
            if tile_blocks > blocks || tile_rows > rows || !exists(isa, narrowest) {
                continue;
            }
            let mut line_cost = 0;
            let mut line: Option<Vec<usize>> = None;
            for (count, r) in row_parts(rows, tile_rows) {
                let cost = |c| cycles(Tile { rows: r, columns: c, blocks: tile_blocks });
                let usable = |c| exists(isa, Tile { rows: tile_rows, columns: c, blocks: tile_blocks });
                let columns = match &line {
                    Some(columns) => columns.clone(),
                    None => split(columns, cost, usable),
                };
                line_cost += count * columns.iter().map(|&c| cost(c)).sum::<usize>();
                line.get_or_insert(columns);
            }
            // The weights of a block are read once for every row of tiles: from the second cache, or, since small maps
            // have many channels, from beyond it.
            let read = if rows * columns < 64 { 8 } else { 2 };
            let tile_lines: usize = row_parts(rows, tile_rows).iter().map(|(count, _)| count).sum();
            let Some(line) = line else { continue };
            let weight_reads = tile_lines * line.len() * tile_blocks;
            let block_groups = blocks.div_ceil(tile_blocks);
            let total = block_groups * (line_cost + read * weight_reads);
            let tile = Tile {
                rows: tile_rows,
                columns: line.iter().copied().max().unwrap_or(1),
                blocks: tile_blocks,
            };
            if best.as_ref().is_none_or(|(cost, _)| total < *cost) {
                best = Some((total, Tiling { tile, columns: line }));
            }
        }
    }
    // A map has at least one row, column and block, for which the tile 1x1x1 exists.
    best.map(|(_, tiling)| tiling).unwrap_or_else(|| Tiling {
        tile: Tile { rows: 1, columns: 1, blocks: 1 },
        columns: vec![1; columns],
    })
}

/// How many tiles of which height cover `rows`: as many full ones as fit, then smaller ones.
pub fn row_parts(rows: usize, tile_rows: usize) -> Vec<(usize, usize)> {
    let mut left = rows;
    let mut parts = Vec::new();
    for r in ROWS.into_iter().filter(|&r| r <= tile_rows) {
        if left / r > 0 {
            parts.push((left / r, r));
        }
        left %= r;
    }
    parts
}

/// The cheapest way to make `width` out of tile widths, wide ones first.
fn split(width: usize, cost: impl Fn(usize) -> usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
    let widths: Vec<usize> = COLUMNS.into_iter().filter(|&c| usable(c)).collect();
    let widest = widths.first().copied().unwrap_or(1);
    // Far from the end the widest tile is best; the last few are searched.
    let searched = width.min(4 * widest + width % widest);
    let mut result = vec![widest; (width - searched) / widest];
    let searched = width - result.len() * widest;
    let mut best = vec![(0, 0); searched + 1]; // (cost, last width)
    for w in 1..=searched {
        let options = widths.iter().filter(|&&c| c <= w).map(|&c| (best[w - c].0 + cost(c), c));
        best[w] =
            options.min_by_key(|&(cost, c)| (cost, std::cmp::Reverse(c))).unwrap_or((usize::MAX / 2, 1));
    }
    let mut tail = Vec::new();
    let mut w = searched;
    while w > 0 {
        tail.push(best[w].1);
        w -= best[w].1;
    }
    tail.sort_by(|a, b| b.cmp(a));
    result.extend(tail);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_is_covered_by_tiles_that_exist() {
        for &isa in Isa::ALL {
            for rows in 1..=17 {
                for columns in (1..=60).chain([112, 113, 224, 1000]) {
                    for blocks in 1..=4 {
                        let Tiling { tile, columns: widths } = choose(isa, rows, columns, blocks);
                        assert_eq!(widths.iter().sum::<usize>(), columns);
                        let parts = row_parts(rows, tile.rows);
                        assert_eq!(parts.iter().map(|(count, r)| count * r).sum::<usize>(), rows);
                        for &c in &widths {
                            assert!(COLUMNS.contains(&c));
                            for &(_, r) in &parts {
                                let part = Tile { rows: r, columns: c, blocks: tile.blocks };
                                assert!(exists(isa, part), "{isa} {rows}x{columns}x{blocks}: {part}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn usual_maps_get_full_tiles() {
        let tile = |rows, columns| choose(Isa::Avx512, rows, columns, 8).tile;
        for (rows, columns) in [(56, 56), (28, 28), (14, 14), (7, 7)] {
            let tile = tile(rows, columns);
            assert_eq!(
                tile.rows * tile.columns * tile.blocks,
                max_sums(Isa::Avx512),
                "{rows}x{columns}: {tile}"
            );
        }
        // All of a small map at once, so that each weight is read once.
        assert_eq!(tile(4, 4), Tile { rows: 4, columns: 4, blocks: 1 });
    }
}
