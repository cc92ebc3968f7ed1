//! Direct convolution: no transformed copy of the input, sums in registers from the first product to the last.
//!
//! A tile is `rows` x `columns` output pixels times `blocks` vectors of output channels. For every input channel
//! and kernel element, in the order [input block][ky][kx][channel in block], it loads `blocks` vectors of weights
//! and multiplies them with each of the pixels, broadcast. The order of additions is the same in every tile, so
//! that the bits do not depend on how a map is cut. Narrow tiles leave out products with the zeros around the map, which
//! change no sum (but perhaps the sign of a zero).
//!
//! A task computes some tiles of one group of output channels, first in the emotion branch, then in au, so that the
//! AWS-Unit can be applied while both are in the nearest cache:
//!
//! ```text
//! u_t = activation((bias_t + sum) * scale_t + residual_t), with narrow weights bias_t + factor_t * sum
//! y_t = A[t][emotion] * u_emotion + A[t][au] * u_au
//! ```
//!
//! Linear layers, heads and dense AWS-Units are convolutions too, with the images of the batch as the rows of a
//! map of one column; a 1x1 convolution over maps without halo takes all their pixels for one row.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::compiled::{Compiled, ConvTile, Taps};
use super::epilogue::TileSink;
use crate::cpu::plan::conv2d_direct::{ConvKernel, View};
use crate::cpu::plan::groups::BlockGroup;
use crate::cpu::plan::node::{CpuNode, StoredWeights};
use crate::cpu::plan::tile::{ROWS, max_sums};
use crate::cpu::plan::value::Value;
use crate::cpu::run::Run;
use crate::cpu::schedule::{NodeSchedule, TileFns};
use crate::cpu::simd::{Simd, each_column};
use crate::graph::target::Isa;
use crate::op::Conv2d;
use crate::tensor::DType;

/// The type of packed weights in memory.
pub(super) trait Stored {
    type Element: Copy;
    const DTYPE: DType;
    /// Whether the sums are still to be multiplied with the channels' scale.
    const SCALED: bool;

    /// A vector, widened.
    unsafe fn load<S: Simd>(from: *const Self::Element) -> S::V;
}

/// Single precision, scale included.
pub(super) struct F32;
/// Half precision.
pub(super) struct F16;
/// Brain floating point.
pub(super) struct BF16;

impl Stored for F32 {
    type Element = f32;
    const DTYPE: DType = DType::F32;
    const SCALED: bool = false;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(from) }
    }
}

impl Stored for F16 {
    type Element = u16;
    const DTYPE: DType = DType::F16;
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u16) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(from) }
    }
}

impl Stored for BF16 {
    type Element = u16;
    const DTYPE: DType = DType::BF16;
    const SCALED: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u16) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(from) }
    }
}

/// How far ahead of their use weights are fetched, in bytes: they come from memory while a core computes with
/// those before them. Where a map is small, each weight is used once or twice and comes from memory each time.
const PREFETCH: usize = 32 << 10;

/// Computes one tile. `STEP` is the pixel step where it is known when compiling, else 0.
///
/// # Safety
///
/// The tile's pointers and strides stay within the arena and the packed weights.
#[inline(always)]
pub(super) unsafe fn tile<
    S: Compiled,
    W: Stored,
    const ROWS: usize,
    const COLUMNS: usize,
    const BLOCKS: usize,
    const STEP: usize,
>(
    t: &ConvTile,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let step = if STEP == 0 { t.pixel_step } else { STEP };
        let mut sums = [[[S::splat(0.0); BLOCKS]; COLUMNS]; ROWS];
        if !W::SCALED {
            for block in 0..BLOCKS {
                let bias = S::load(t.bias.add(block * S::LANES));
                for row in &mut sums {
                    each_column!(COLUMNS, column, row[column][block] = bias);
                }
            }
        }
        // Wide tiles lie in wide maps, where few products are with zeros.
        let spares = const { COLUMNS <= 7 };
        let tap_weights = t.input_lanes * BLOCKS * S::LANES;
        let [ky_taps, kx_taps] = &t.taps;
        for input_block in 0..t.input_blocks {
            let from = t.input.add(input_block * t.input_block);
            let lanes = if input_block + 1 == t.input_blocks { t.last_lanes } else { t.input_lanes };
            for ky in ky_taps.any.clone() {
                let (above, below) = (spares && ky < ky_taps.first_from, spares && ky >= ky_taps.last_to);
                let first_tap = (input_block * t.kernel[0] + ky) * t.kernel[1] + kx_taps.any.start;
                let mut tap = t.weights.cast::<W::Element>().add(first_tap * tap_weights);
                for kx in kx_taps.any.clone() {
                    let mut weights = tap;
                    tap = tap.add(tap_weights);
                    let mut from = from.add(ky * t.tap_steps[0] + kx * t.tap_steps[1]);
                    let (left, right) = (spares && kx < kx_taps.first_from, spares && kx >= kx_taps.last_to);
                    for _ in 0..lanes {
                        let mut w = [S::splat(0.0); BLOCKS];
                        for (block, w) in w.iter_mut().enumerate() {
                            let weights = weights.add(block * S::LANES);
                            *w = W::load::<S>(weights);
                            if block * S::LANES * size_of::<W::Element>() % 64 == 0 {
                                S::prefetch(weights.wrapping_byte_add(PREFETCH).cast()); // a line
                            }
                        }
                        for (row, sums) in sums.iter_mut().enumerate() {
                            if (above && row == 0) || (below && row == ROWS - 1) {
                                continue;
                            }
                            let from = from.add(row * t.input_row);
                            each_column!(COLUMNS, column, {
                                if !((left && column == 0) || (right && column == COLUMNS - 1)) {
                                    let x = S::splat(*from.add(column * step));
                                    for (sum, w) in sums[column].iter_mut().zip(w) {
                                        *sum = S::mul_add(x, w, *sum);
                                    }
                                }
                            });
                        }
                        weights = weights.add(BLOCKS * S::LANES);
                        from = from.add(1);
                    }
                }
            }
        }
        if W::SCALED {
            for block in 0..BLOCKS {
                let bias = S::load(t.bias.add(block * S::LANES));
                let scale = S::load(t.scale.add(block * S::LANES));
                for row in &mut sums {
                    each_column!(COLUMNS, column, {
                        row[column][block] = S::mul_add(row[column][block], scale, bias);
                    });
                }
            }
        }
        // Where nothing but a residual and a bound or two is behind the sums, they go straight to their place.
        if let Some([least, most]) = t.sink.bounds() {
            let (least, most) = (S::splat(least), S::splat(most));
            if !t.sink.residual.is_null() {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let from = t.sink.residual.add(row * t.sink.residual_row);
                    each_column!(COLUMNS, column, {
                        for (block, sum) in sums[column].iter_mut().enumerate() {
                            let from = from.add(column * S::LANES + block * t.sink.residual_block);
                            *sum = S::add(*sum, S::load(from));
                        }
                    });
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let to = t.sink.output.add(row * t.sink.output_row);
                each_column!(COLUMNS, column, {
                    for (block, &sum) in sums[column].iter().enumerate() {
                        let to = to.add(column * S::LANES + block * t.sink.output_block);
                        S::store(to, S::min(most, S::max(least, sum)));
                    }
                });
            }
            return;
        }
        // The sums leave the registers here, so that nothing that follows can keep them out of there above.
        let mut stored = Sums([const { MaybeUninit::uninit() }; SUMS_LEN]);
        let to = stored.0.as_mut_ptr().cast::<f32>();
        for (row, sums) in sums.iter().enumerate() {
            each_column!(COLUMNS, column, {
                for (block, &sum) in sums[column].iter().enumerate() {
                    S::store(to.add(((row * COLUMNS + column) * BLOCKS + block) * S::LANES), sum);
                }
            });
        }
        S::finish_tile(&t.sink, to, [ROWS, COLUMNS, BLOCKS]);
    }
}

/// Elements of the largest tile's sums.
const SUMS_LEN: usize = 28 * 16;
const _: () = {
    let mut index = 0;
    while index < Isa::ALL.len() {
        let isa = Isa::ALL[index];
        assert!(max_sums(isa) * isa.lanes() <= SUMS_LEN);
        index += 1;
    }
};

/// Room for a tile's sums, [row][column][block][lane].
#[repr(align(64))]
struct Sums([MaybeUninit<f32>; SUMS_LEN]);

/// Rows of tiles that a task computes in each branch.
pub(super) struct Rows<'a> {
    pub group: &'a BlockGroup,
    pub image: usize,
    /// Of the output, as the view has them.
    pub rows: Range<usize>,
    /// Where the tiles begin in each row.
    pub first_column: usize,
    pub column_tiles: &'a [usize],
}

/// From one row of a view to the next: of a map, or from image to image.
#[inline]
fn row_of(conv: &ConvKernel, value: &Value, rows: usize) -> usize {
    match conv.view {
        View::Images => value.image_stride(),
        View::Rows | View::Line => rows * value.row_stride(),
    }
}

/// Computes one task: some rows of tiles of one group, in every branch that the node computes.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Compiled>(
    run: &Run,
    node: &CpuNode,
    schedule: &NodeSchedule,
    conv: &ConvKernel,
    task: usize,
) {
    let (images, rows) = conv.images_and_rows(run.images);
    let column_tasks = conv.tiling.columns.len().div_ceil(conv.task_columns);
    let (task, column_task) = (task / column_tasks, task % column_tasks);
    let row_tasks = rows.div_ceil(conv.task_rows);
    let (task, row_task) = (task / row_tasks, task % row_tasks);
    let (group, image) = (&conv.groups[task / images], task % images);
    let first_row = row_task * conv.task_rows;
    let row_end = rows.min(first_row + conv.task_rows);
    let column_tiles = conv.tiling.columns.chunks(conv.task_columns);
    let first_column: usize = column_tiles.clone().take(column_task).flatten().sum();
    let Some(column_tiles) = column_tiles.clone().nth(column_task) else { return };
    let part = Rows { group, image, rows: first_row..row_end, first_column, column_tiles };

    let values = &run.plan.values;
    let output = &values[node.output];
    let sink_rows = [Some(node.output), node.scale, node.residual]
        .map(|id| id.map_or(0, |id| row_of(conv, &values[id], 1)));
    for branch in 0..conv.branches.len() {
        // SAFETY: the groups' blocks are blocks of these values, and the rows and columns are within them.
        unsafe {
            let sink = TileSink::new::<S>(run, node, image, branch, group.first_block, sink_rows);
            let tiles = &schedule.tiles[branch];
            compute_rows::<S>(run, node, conv, tiles, branch, &part, |row, column| sink.at::<S>(row, column));
            let blocks = group.first_block..group.first_block + group.blocks;
            match conv.view {
                View::Rows => run.zero_halo(output, image, branch, blocks, first_row..row_end),
                View::Images => {
                    for image in first_row..row_end {
                        run.zero_halo(output, image, branch, blocks.clone(), 0..1);
                    }
                }
                View::Line => {}
            }
        }
    }
}

/// Computes rows of tiles in one of the branches that the node computes; `sink` says where a tile of a row and column
/// goes.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn compute_rows<S: Compiled>(
    run: &Run,
    node: &CpuNode,
    conv: &ConvKernel,
    tiles: &TileFns,
    branch: usize,
    part: &Rows,
    sink: impl Fn(usize, usize) -> TileSink,
) {
    let Rows { group, image, ref rows, first_column, column_tiles } = *part;
    let Conv2d { kernel, stride, padding, dilation, .. } = conv.op;
    let input = &run.plan.values[node.input];
    let input_row = row_of(conv, input, stride[0]);
    let pixel_step = stride[1] * input.lanes;
    let inside = |axis, at| conv.op.taps_inside(axis, at, [input.shape.height, input.shape.width][axis]);
    let taps = |axis: usize, first: usize, count: usize| match (conv.view, axis) {
        (View::Line, _) => Taps::new(0..1, 0..1),
        (View::Images, 0) => Taps::new(inside(0, 0), inside(0, 0)),
        _ => Taps::new(inside(axis, first), inside(axis, first + count - 1)),
    };
    let packed = &node.weights.branches[branch];
    let (weights, scale) = match &packed.weights {
        StoredWeights::F32(weights) => {
            (weights.as_slice()[group.weights..].as_ptr().cast::<()>(), std::ptr::null())
        }
        StoredWeights::Narrow { bits, scale } => {
            let scale = scale.as_slice()[group.first_block * S::LANES..].as_ptr();
            (bits.as_slice()[group.weights..].as_ptr().cast(), scale)
        }
    };
    // The padding of a last block is left out, unless both branches are read, one behind the other.
    let channels = conv.input_channels;
    let last_lanes = match group.input_blocks.end == channels.div_ceil(input.lanes) {
        true => channels - (group.input_blocks.end - 1) * input.lanes,
        false => input.lanes,
    };
    let taps_len = kernel[0] * kernel[1];
    debug_assert!(
        group.weights + group.weights_len(taps_len, input.lanes, S::LANES) <= packed.weights.len(),
        "weights of group {} of {}",
        group.first_block,
        input.name
    );
    debug_assert!(first_column + column_tiles.iter().sum::<usize>() <= conv.tiling.columns.iter().sum());
    // SAFETY: the plan's offsets stay within the arena: the halo of the input is at least the padding, and the
    // windows end within the halo behind the map. The packed weights have the lengths that the groups state.
    unsafe {
        let input_map = run.map(input, image, 0).add(conv.branches[branch].input_offset);
        let padding = padding.top * input.row_stride() + padding.left * input.lanes;
        let input_first =
            input_map.add(input.origin() - padding + group.input_blocks.start * input.block_stride());
        let mut row = rows.start;
        while row < rows.end {
            let most = conv.tiling.tile.rows.min(rows.end - row);
            let tile_rows = ROWS.into_iter().find(|&r| r <= most).unwrap_or(1);
            let row_taps = taps(0, row, tile_rows);
            let mut column = first_column;
            for &tile_columns in column_tiles {
                let tile = ConvTile {
                    input: input_first.add(row * input_row + column * pixel_step),
                    input_row,
                    pixel_step,
                    input_block: input.block_stride(),
                    input_blocks: group.input_blocks.len(),
                    input_lanes: input.lanes,
                    last_lanes,
                    kernel,
                    taps: [row_taps.clone(), taps(1, column, tile_columns)],
                    tap_steps: [dilation[0] * input.row_stride(), dilation[1] * input.lanes],
                    weights,
                    bias: packed.bias.as_slice().as_ptr().add(group.first_block * S::LANES),
                    scale,
                    sink: sink(row, column),
                };
                debug_assert!(
                    tile.reads(tile_rows, tile_columns).is_none_or(|reads| {
                        run.holds(input, tile.input.wrapping_add(reads.start), reads.len())
                    }),
                    "{}",
                    input.name
                );
                tiles.of(tile_rows, tile_columns, group.blocks)(&tile);
                column += tile_columns;
            }
            row += tile_rows;
        }
    }
}
