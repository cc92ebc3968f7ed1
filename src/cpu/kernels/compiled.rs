//! What is compiled for an instruction set beside its vectors: register tiles of the direct convolution, and products of
//! Winograd's algorithm. They are data, tables of functions with names: a test runs each by itself, and a
//! [schedule](crate::cpu::schedule) takes those that a plan needs.

use std::ops::Range;

use super::epilogue::TileSink;
use crate::cpu::plan::tile::{Tile, exists, max_sums};
use crate::cpu::simd::Simd;
use crate::graph::target::Isa;
use crate::tensor::DType;

/// An instruction set, as generic kernels use it.
pub(in crate::cpu) trait Compiled: Simd {
    /// [`epilogue::finish_tile`](super::epilogue::finish_tile), compiled once.
    ///
    /// # Safety
    ///
    /// As for that function.
    unsafe fn finish_tile(sink: &TileSink, sums: *const f32, sizes: [usize; 3]);
}

/// Computes a tile of output pixels and stores it; see [`conv2d_direct::tile`](super::conv2d_direct::tile).
pub(in crate::cpu) type TileFn = unsafe fn(&ConvTile);

/// Where a tile reads and writes. Strides are in elements.
pub(in crate::cpu) struct ConvTile {
    /// The first kernel element's input for the tile's first pixel, in the group's first input block.
    pub input: *const f32,
    /// From one output row's input to the next one's.
    pub input_row: usize,
    /// From one output column's input to the next one's.
    pub pixel_step: usize,
    pub input_block: usize,
    pub input_blocks: usize,
    /// Channels in an input block.
    pub input_lanes: usize,
    /// Those of the last input block that the weights read: the others are padding.
    pub last_lanes: usize,
    pub kernel: [usize; 2],
    /// Which of the kernel's rows and columns are computed.
    pub taps: [Taps; 2],
    /// From one kernel row's, and column's, input to the next one's.
    pub tap_steps: [usize; 2],
    /// Elements of the type that the tile's function is compiled for.
    pub weights: *const (),
    pub bias: *const f32,
    /// What the sums of narrow weights are multiplied with; null for f32.
    pub scale: *const f32,
    pub sink: TileSink,
}

impl ConvTile {
    /// The elements that a tile of such a size reads, as distances from `input`; none where all products are with zeros.
    #[inline]
    pub fn reads(&self, rows: usize, columns: usize) -> Option<Range<usize>> {
        let [ky, kx] = self.taps.each_ref().map(|taps| taps.any.clone());
        if ky.is_empty() || kx.is_empty() {
            return None;
        }
        let first = ky.start * self.tap_steps[0] + kx.start * self.tap_steps[1];
        let last = (self.input_blocks - 1) * self.input_block
            + (rows - 1) * self.input_row
            + (columns - 1) * self.pixel_step
            + (ky.end - 1) * self.tap_steps[0]
            + (kx.end - 1) * self.tap_steps[1]
            + self.input_lanes;
        Some(first..last)
    }
}

/// The kernel rows (or columns) that meet more than the zeros around the map, in a tile's rows (or columns). Over a map of
/// 4x4 pixels, products with those zeros are a third of all.
#[derive(Clone)]
pub(in crate::cpu) struct Taps {
    /// In any row.
    pub any: Range<usize>,
    /// In the first row, from here on.
    pub first_from: usize,
    /// In the last row, up to here.
    pub last_to: usize,
}

impl Taps {
    /// From those of the tile's first row, and of its last.
    #[inline]
    pub fn new(first: Range<usize>, last: Range<usize>) -> Self {
        Taps { any: last.start..first.end, first_from: first.start, last_to: last.end }
    }
}

/// A tile of the direct convolution, compiled.
pub(in crate::cpu) struct TileKernel {
    /// Tile, type of weights, pixel step.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests say which kernel it is"))]
    pub name: &'static str,
    pub tile: Tile,
    pub weights: DType,
    /// The only pixel step that it computes; any where there is none.
    pub step: Option<usize>,
    pub run: TileFn,
}

/// Whether a tile is compiled for weights of a type and a pixel step, 0 being any.
///
/// A step that is known lets all pixels of a row be addressed from one register. That of neighbours in blocks of channels
/// is worth a function for every tile of more than one column; that of stride 2, and those of the planes of an image, where
/// the sums take at least half of the registers, as they do over all but the smallest maps. Narrow weights are for small maps
/// in blocks of channels. What runs on any processor is not compiled for speed.
pub(super) const fn is_compiled(isa: Isa, tile: Tile, weights: DType, step: usize) -> bool {
    if !exists(isa, tile) {
        return false;
    }
    let fills = 2 * tile.rows * tile.columns * tile.blocks >= max_sums(isa);
    match (isa, weights) {
        (_, DType::F32 | DType::F16 | DType::BF16) if step == 0 => true,
        (Isa::Avx512 | Isa::Avx2 | Isa::Neon, DType::F32) => {
            tile.columns > 1 && (step == isa.lanes() || fills)
        }
        (Isa::Avx512 | Isa::Avx2 | Isa::Neon, DType::F16 | DType::BF16) => {
            tile.columns > 1 && step == isa.lanes() && fills
        }
        (Isa::Portable, DType::F32 | DType::F16 | DType::BF16) => false,
    }
}

/// Multiplies some tiles of Winograd's algorithm with a group's weights, for each element of the transform; see
/// [`conv2d_winograd::products`](super::conv2d_winograd::products).
pub(in crate::cpu) type ProductsFn = unsafe fn(&Products);

/// Where products are read and written. Strides are in elements.
pub(in crate::cpu) struct Products {
    /// Of the transform.
    pub elements: usize,
    /// [element][input block][tile][channel in block]
    pub input: *const f32,
    pub input_element: usize,
    pub input_block: usize,
    pub input_blocks: usize,
    /// [element][input channel][output channel]
    pub weights: *const f32,
    /// What is fetched ahead, and how many vectors of it for each input block and element.
    pub ahead: *const f32,
    pub ahead_lines: usize,
    /// [element][tile][output channel]
    pub sums: *mut f32,
    pub sums_element: usize,
}

/// The products of so many tiles and blocks of output channels, compiled.
pub(in crate::cpu) struct ProductsKernel {
    /// Tiles x blocks.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests say which kernel it is"))]
    pub name: &'static str,
    pub columns: usize,
    pub blocks: usize,
    pub run: ProductsFn,
}

/// Everything that is compiled for an instruction set.
pub(in crate::cpu) struct Tables {
    pub isa: Isa,
    pub(super) tiles: &'static [&'static [Option<TileKernel>]],
    pub(super) products: &'static [Option<ProductsKernel>],
}

impl Tables {
    /// Every tile of the direct convolution.
    pub fn tiles(&self) -> impl Iterator<Item = &'static TileKernel> {
        self.tiles.iter().copied().flatten().flatten()
    }

    /// Every kernel for the products of Winograd's algorithm.
    pub fn products(&self) -> impl Iterator<Item = &'static ProductsKernel> {
        self.products.iter().flatten()
    }
}
