//! Winograd convolution: fewer multiplications for 3x3 kernels of stride 1, by the transforms of
//! [`graph::winograd`](crate::graph::winograd).
//!
//! For each of the n*n elements of the transform, a sum over input channels for every tile and output channel is a
//! product of two matrices, tiles by input channels and input channels by output channels. The tiles of all images lie
//! one behind the other, so that small maps fill the registers as well.
//!
//! A task computes some of these tiles and some groups of output channels, first in the emotion branch, then in au. It
//! transforms the input of its tiles once. Then for each group come the products, and with the transform back the
//! epilogue.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::compiled::{Compiled, Products};
use super::epilogue::TileSink;
use crate::cpu::plan::conv2d_winograd::{Scratch, WinogradKernel, product_columns};
use crate::cpu::plan::groups::BlockGroup;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::schedule::{NodeSchedule, ProductFns};
use crate::cpu::simd::{Simd, each_column};
use crate::graph::node::ValueId;
use crate::graph::winograd::{MOST_INPUT, WinogradTile};

/// The image, and the row and column of tiles in it.
#[inline(always)]
fn place(kernel: &WinogradKernel, tile: usize) -> (usize, usize, usize) {
    let [rows, columns] = kernel.tiles;
    (tile / (rows * columns), tile / columns % rows, tile % columns)
}

/// Computes one task: some tiles in some groups, in both branches.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Compiled>(
    run: &Run,
    node: &CpuNode,
    schedule: &NodeSchedule,
    kernel: &WinogradKernel,
    task: usize,
    scratch: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match kernel.tile {
            WinogradTile::F2 => run_task_of::<S, 2>(run, node, schedule, kernel, task, scratch),
            WinogradTile::F4 => run_task_of::<S, 4>(run, node, schedule, kernel, task, scratch),
        }
    }
}

/// [`run_task`] with output tiles of M x M.
#[inline(always)]
unsafe fn run_task_of<S: Compiled, const M: usize>(
    run: &Run,
    node: &CpuNode,
    schedule: &NodeSchedule,
    kernel: &WinogradKernel,
    task: usize,
    scratch: &mut [f32],
) {
    let cut = schedule.cut;
    let first = task / cut.parts[1] * cut.tiles;
    let tiles = first..(first + cut.tiles).min(kernel.tiles_of(run.images));
    let groups = kernel.groups.chunks(cut.groups).nth(task % cut.parts[1]).unwrap_or_default();
    let layout = kernel.scratch();
    let memory = &mut scratch[..layout.len];
    // SAFETY: the tiles are tiles of the run's images, and the memory has the layout's length.
    unsafe {
        let input = memory.as_mut_ptr();
        let sums = input.add(layout.sums);
        for branch in 0..node.weights.branches.len() {
            transform_input::<S, M>(run, node, kernel, &layout, tiles.clone(), branch, input);
            for group in groups {
                let len = group.weights_len(kernel.elements(), kernel.lanes, kernel.lanes);
                let weights = &node.weights.branches[branch].weights.wide()[group.weights..][..len];
                let weights = weights.as_ptr();
                let products = &schedule.products;
                multiply::<S>(kernel, products, &layout, group.blocks, tiles.len(), input, weights, sums);
                for block in 0..group.blocks {
                    finish::<S, M>(run, node, kernel, &layout, tiles.clone(), branch, group, block, sums);
                }
            }
        }
    }
}

/// Transforms the input of some tiles: Bt d B.
///
/// # Safety
///
/// As for [`run_task`]; `to` has room as `layout` says.
#[expect(clippy::needless_range_loop, reason = "rows and columns of a matrix and of its transpose")]
#[inline(always)]
unsafe fn transform_input<S: Simd, const M: usize>(
    run: &Run,
    node: &CpuNode,
    kernel: &WinogradKernel,
    layout: &Scratch,
    tiles: Range<usize>,
    branch: usize,
    to: *mut f32,
) {
    let input = &run.plan.values[node.input];
    let (n, row_stride) = (M + 2, input.row_stride());
    let padding = kernel.padding.top * row_stride + kernel.padding.left * S::LANES;
    // SAFETY: the input's halo holds all that its tiles reach over.
    unsafe {
        for block in 0..input.blocks() {
            let to = to.add(block * layout.input_block);
            for (index, tile) in tiles.clone().enumerate() {
                let (image, row, column) = place(kernel, tile);
                let from = run.map(input, image, branch).cast_const().add(block * input.block_stride());
                let from = from.add(input.origin() - padding + row * M * row_stride + column * M * S::LANES);
                let reads = (n - 1) * (row_stride + S::LANES) + S::LANES;
                debug_assert!(run.holds(input, from, reads), "{}", input.name);
                let mut columns = [[S::splat(0.0); MOST_INPUT]; MOST_INPUT];
                for y in 0..n {
                    let mut d = [S::splat(0.0); MOST_INPUT];
                    for x in 0..n {
                        d[x] = S::load(from.add(y * row_stride + x * S::LANES));
                    }
                    let v = input_line::<S, M>(d);
                    for x in 0..n {
                        columns[x][y] = v[x];
                    }
                }
                for x in 0..n {
                    let v = input_line::<S, M>(columns[x]);
                    for y in 0..n {
                        S::store(to.add((y * n + x) * layout.input_element + index * S::LANES), v[y]);
                    }
                }
            }
        }
    }
}

/// The sums over all input channels, for each element of the transform.
///
/// # Safety
///
/// `input` and `sums` are a thread's, with the layout of the plan, `weights` a group's.
#[expect(clippy::too_many_arguments, reason = "what a task consists of")]
#[inline(always)]
unsafe fn multiply<S: Compiled>(
    kernel: &WinogradKernel,
    products: &ProductFns,
    layout: &Scratch,
    blocks: usize,
    tiles: usize,
    input: *const f32,
    weights: *const f32,
    sums: *mut f32,
) {
    let (elements, width) = (kernel.elements(), blocks * S::LANES);
    let weights_element = kernel.channels * width;
    // Parts of about the same size, each as wide as the registers allow.
    let parts = tiles.div_ceil(product_columns(S::ISA, blocks));
    let input_blocks = kernel.channels / S::LANES;
    // Every part fetches its share of the next element's weights.
    let ahead_lines = (S::LANES * blocks).div_ceil(parts);
    // All elements at once, or one by one, so that its weights stay in the first cache for all parts.
    let together = if parts == 1 { elements } else { 1 };
    for element in (0..elements).step_by(together) {
        let mut first = 0;
        let weights = weights.wrapping_add(element * weights_element);
        for part in 0..parts {
            let columns = (tiles - first).div_ceil(parts - part);
            // SAFETY: the caller's promise.
            unsafe {
                let part = Products {
                    elements: together,
                    input: input.add(element * layout.input_element + first * S::LANES),
                    input_element: layout.input_element,
                    input_block: layout.input_block,
                    input_blocks,
                    weights,
                    ahead: weights
                        .wrapping_add(weights_element + part * input_blocks * ahead_lines * S::LANES),
                    ahead_lines,
                    sums: sums.add(element * layout.sums_element + first * width),
                    sums_element: layout.sums_element,
                };
                products.of(columns, blocks)(&part);
            }
            first += columns;
        }
    }
}

/// The products of `COLUMNS` tiles and `BLOCKS` blocks of output channels.
///
/// # Safety
///
/// The pointers and strides stay within a thread's memory.
#[inline(always)]
pub(super) unsafe fn products<S: Simd, const COLUMNS: usize, const BLOCKS: usize>(p: &Products) {
    let (mut weights, mut ahead) = (p.weights, p.ahead);
    // SAFETY: the caller's promise.
    unsafe {
        for element in 0..p.elements {
            let to = p.sums.add(element * p.sums_element);
            let mut sums = [[S::splat(0.0); BLOCKS]; COLUMNS];
            for input_block in 0..p.input_blocks {
                let mut from = p.input.add(element * p.input_element + input_block * p.input_block);
                for _ in 0..p.ahead_lines {
                    S::prefetch(ahead);
                    ahead = ahead.wrapping_add(S::LANES);
                }
                for _ in 0..S::LANES {
                    let mut w = [S::splat(0.0); BLOCKS];
                    for (block, w) in w.iter_mut().enumerate() {
                        *w = S::load(weights.add(block * S::LANES));
                    }
                    each_column!(COLUMNS, column, {
                        let x = S::splat(*from.add(column * S::LANES));
                        for (sum, w) in sums[column].iter_mut().zip(w) {
                            *sum = S::mul_add(x, w, *sum);
                        }
                    });
                    weights = weights.add(BLOCKS * S::LANES);
                    from = from.add(1);
                }
            }
            each_column!(COLUMNS, column, {
                for (block, &sum) in sums[column].iter().enumerate() {
                    S::store(to.add((column * BLOCKS + block) * S::LANES), sum);
                }
            });
        }
    }
}

/// Transforms the sums of a block of channels back, At m A, and finishes them.
///
/// # Safety
///
/// As for [`run_task`]; `sums` are the group's.
#[expect(clippy::too_many_arguments, reason = "what a task consists of")]
#[expect(clippy::needless_range_loop, reason = "rows and columns of a matrix and of its transpose")]
#[inline(always)]
unsafe fn finish<S: Compiled, const M: usize>(
    run: &Run,
    node: &CpuNode,
    kernel: &WinogradKernel,
    layout: &Scratch,
    tiles: Range<usize>,
    branch: usize,
    group: &BlockGroup,
    block: usize,
    sums: *const f32,
) {
    let output = &run.plan.values[node.output];
    let row = |id: ValueId| run.plan.values[id].row_stride();
    let rows = [output.row_stride(), node.scale.map_or(0, row), node.residual.map_or(0, row)];
    let n = M + 2;
    let (sums, width) = (sums.wrapping_add(block * S::LANES), group.blocks * S::LANES);
    let block = group.first_block + block;
    // SAFETY: the block and the tiles are those of the output, of which no row or column behind the map is stored.
    unsafe {
        let bias = S::load(node.weights.branches[branch].bias.as_slice().as_ptr().add(block * S::LANES));
        for (index, tile) in tiles.enumerate() {
            let (image, row, column) = place(kernel, tile);
            let from = sums.add(index * width);
            let mut columns = [[S::splat(0.0); MOST_INPUT]; MOST_INPUT];
            for y in 0..n {
                let mut m = [S::splat(0.0); MOST_INPUT];
                for x in 0..n {
                    m[x] = S::load(from.add((y * n + x) * layout.sums_element));
                }
                let half = output_line::<S, M>(m);
                for x in 0..M {
                    columns[x][y] = half[x];
                }
            }
            let first = [row * M, column * M];
            let height = M.min(output.shape.height - first[0]);
            let width = M.min(output.shape.width - first[1]);
            let mut stored = Finished([const { MaybeUninit::uninit() }; 4 * 4 * 16]);
            let to = stored.0.as_mut_ptr().cast::<f32>();
            for x in 0..width {
                let y = output_line::<S, M>(columns[x]);
                for row in 0..height {
                    S::store(to.add((row * width + x) * S::LANES), S::add(y[row], bias));
                }
            }
            let sink = TileSink::new::<S>(run, node, image, branch, block, rows).at::<S>(first[0], first[1]);
            S::finish_tile(&sink, to, [height, width, 1]);
            if column == 0 {
                run.zero_halo(output, image, branch, block..block + 1, first[0]..first[0] + height);
            }
        }
    }
}

/// Room for an output tile.
#[repr(align(64))]
struct Finished([MaybeUninit<f32>; 4 * 4 * 16]);

/// factor * a + b
#[inline(always)]
unsafe fn times<S: Simd>(factor: f32, a: S::V, b: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::mul_add(S::splat(factor), a, b) }
}

/// Bt d, in the first M + 2 elements.
#[inline(always)]
unsafe fn input_line<S: Simd, const M: usize>(d: [S::V; MOST_INPUT]) -> [S::V; MOST_INPUT] {
    // SAFETY: the caller's promise.
    unsafe {
        if M == 2 {
            let zero = S::splat(0.0);
            return [
                S::sub(d[0], d[2]),
                S::add(d[1], d[2]),
                S::sub(d[2], d[1]),
                S::sub(d[1], d[3]),
                zero,
                zero,
            ];
        }
        let (even, odd) = (times::<S>(-4.0, d[2], d[4]), times::<S>(-4.0, d[1], d[3]));
        let (even_2, odd_2) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
        [
            times::<S>(4.0, d[0], times::<S>(-5.0, d[2], d[4])),
            S::add(even, odd),
            S::sub(even, odd),
            times::<S>(2.0, odd_2, even_2),
            times::<S>(-2.0, odd_2, even_2),
            times::<S>(4.0, d[1], times::<S>(-5.0, d[3], d[5])),
        ]
    }
}

/// At m, in the first M elements.
#[inline(always)]
unsafe fn output_line<S: Simd, const M: usize>(m: [S::V; MOST_INPUT]) -> [S::V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        if M == 2 {
            let zero = S::splat(0.0);
            return [times::<S>(0.5, sum, m[0]), S::sub(S::mul(S::splat(0.5), difference), m[3]), zero, zero];
        }
        const SIXTH: f32 = 1.0 / 6.0;
        let (sum_2, difference_2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        let (sum, difference) = (S::mul(S::splat(-SIXTH), sum), S::mul(S::splat(-SIXTH), difference));
        [
            times::<S>(SIXTH / 4.0, sum_2, times::<S>(0.25, m[0], sum)),
            times::<S>(SIXTH / 2.0, difference_2, difference),
            times::<S>(SIXTH, sum_2, sum),
            S::add(times::<S>(2.0 * SIXTH, difference_2, difference), m[5]),
        ]
    }
}
