//! Winograd convolution: fewer multiplications for 3x3 kernels of stride 1, by the transforms of
//! [`plan::winograd`](crate::plan::winograd).
//!
//! For each of the n*n elements of the transform, a sum over input channels for every tile and output channel is a
//! 1x1 convolution whose pixels are the tiles, and the tile of the direct convolution computes it. The tiles of all
//! images lie one behind the other, so that the last ones, whose maps have few tiles, fill the registers as well.
//!
//! A task computes some of these tiles and some groups of output channels. It transforms the input of its tiles in
//! both branches once, into its thread's own memory; the next task of the thread finds it there if it computes the
//! same tiles. Then for each group and branch come the products, and with the transform back the epilogue.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use super::conv2d_direct::{ConvTile, TileEnd};
use super::epilogue::TileSink;
use super::kernels::Compiled;
use super::run::Run;
use super::scratch::{Held, Scratch};
use super::simd::Simd;
use crate::plan::winograd::{self, Cut, MOST_INPUT, WinogradTile};
use crate::plan::{CpuNode, WinogradKernel};

/// Tasks, in the order [tiles][groups].
pub(super) fn task_count(run: &Run, kernel: &WinogradKernel) -> usize {
    let Cut { parts, .. } = kernel.cut(run.images, run.threads);
    parts[0] * parts[1]
}

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
/// As for [`Kernels::run_task`](super::kernels::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Compiled>(
    run: &Run,
    node: &CpuNode,
    kernel: &WinogradKernel,
    task: usize,
    scratch: &mut Scratch,
) {
    let Cut { tiles, groups, parts } = kernel.cut(run.images, run.threads);
    let first = task / parts[1] * tiles;
    let end = (first + tiles).min(kernel.tiles_of(run.images));
    let groups = kernel.groups.chunks(groups).nth(task % parts[1]).unwrap_or_default();
    let layout = kernel.scratch(&run.plan.values[node.input]);
    let held = scratch.hold(Held { node: ptr::from_ref(node).addr(), first_tile: first });
    let memory = &mut scratch.memory()[..layout.len];
    // SAFETY: the tiles are tiles of the run's images, and the memory has the layout's length.
    unsafe {
        let (inputs, sums) = (memory.as_mut_ptr(), memory.as_mut_ptr().add(layout.sums));
        if !held {
            match kernel.tile {
                WinogradTile::F2 => transform_inputs::<S, 2>(run, node, kernel, &layout, first..end, inputs),
                WinogradTile::F4 => transform_inputs::<S, 4>(run, node, kernel, &layout, first..end, inputs),
            }
        }
        // A branch's transformed input stays in the second cache while all groups read it.
        for (branch, group) in [0, 1].into_iter().flat_map(|b| groups.iter().map(move |group| (b, group))) {
            let input = inputs.add(branch * layout.input_branch);
            let weights = kernel.branches[branch].weights.as_slice().as_ptr().add(group.weights);
            multiply::<S>(kernel, &layout, group.blocks, end - first, input, weights, sums);
            for block in 0..group.blocks {
                let (to, from) = (group.first_block + block, sums.add(block * S::LANES));
                let step = group.blocks * S::LANES;
                match kernel.tile {
                    WinogradTile::F2 => finish::<S, 2>(
                        run,
                        node,
                        kernel,
                        first..end,
                        branch,
                        to,
                        from,
                        [layout.sums_element, step],
                    ),
                    WinogradTile::F4 => finish::<S, 4>(
                        run,
                        node,
                        kernel,
                        first..end,
                        branch,
                        to,
                        from,
                        [layout.sums_element, step],
                    ),
                }
            }
        }
    }
}

/// Transforms the input of some tiles in both branches: Bt d B.
///
/// # Safety
///
/// As for [`run_task`]; `to` has room for both branches as `layout` says.
#[expect(clippy::needless_range_loop, reason = "rows and columns of a matrix and of its transpose")]
#[inline(always)]
unsafe fn transform_inputs<S: Simd, const M: usize>(
    run: &Run,
    node: &CpuNode,
    kernel: &WinogradKernel,
    layout: &winograd::Scratch,
    tiles: Range<usize>,
    to: *mut f32,
) {
    let input = &run.plan.values[node.input];
    let (n, row_stride) = (M + 2, input.row_stride());
    let padding = kernel.padding[0] * row_stride + kernel.padding[1] * S::LANES;
    // SAFETY: the input's halo holds all that its tiles reach over.
    unsafe {
        for (branch, block) in (0..2).flat_map(|b| (0..input.blocks()).map(move |block| (b, block))) {
            let to = to.add(branch * layout.input_branch + block * layout.input_block);
            for (index, tile) in tiles.clone().enumerate() {
                let (image, row, column) = place(kernel, tile);
                let from = run.map(input, image, branch).cast_const().add(block * input.block_stride());
                let from = from.add(input.origin() - padding + row * M * row_stride + column * M * S::LANES);
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
/// `input`, `weights` and `sums` are those of a branch and a group, with the layouts of the plan.
#[inline(always)]
unsafe fn multiply<S: Compiled>(
    kernel: &WinogradKernel,
    layout: &winograd::Scratch,
    blocks: usize,
    tiles: usize,
    input: *const f32,
    weights: *const f32,
    sums: *mut f32,
) {
    // Parts of about the same size, each as wide as the registers allow.
    let parts = tiles.div_ceil(winograd::product_columns(S::ISA, blocks));
    let input_blocks = kernel.groups[0].input_blocks.len();
    let weights_len = input_blocks * S::LANES * blocks * S::LANES;
    for element in 0..kernel.tile.input() * kernel.tile.input() {
        let mut first = 0;
        let weights = weights.wrapping_add(element * weights_len);
        for part in 0..parts {
            let columns = (tiles - first).div_ceil(parts - part);
            // SAFETY: the caller's promise.
            unsafe {
                let tile = ConvTile {
                    input: input.add(element * layout.input_element + first * S::LANES),
                    input_row: 0,
                    pixel_step: S::LANES,
                    input_block: layout.input_block,
                    input_blocks,
                    input_lanes: S::LANES,
                    kernel: [1, 1],
                    tap_steps: [0, 0],
                    weights,
                    // Every part fetches its share of the next element's weights.
                    ahead: weights.wrapping_add(weights_len + part * weights_len / parts),
                    ahead_step: blocks * S::LANES / parts,
                    bias: ptr::null(),
                    end: TileEnd::Sums(sums.add(element * layout.sums_element + first * blocks * S::LANES)),
                };
                // Without the tile the run must fail, not go on.
                S::product_tile(columns, blocks).expect("a tile of the table")(&tile);
            }
            first += columns;
        }
    }
}

/// Transforms the sums of a block of channels back, At m A, and finishes them.
///
/// # Safety
///
/// As for [`run_task`]; `sums` are the block's, with these strides of elements of the transform and of tiles.
#[expect(clippy::too_many_arguments, reason = "the constants of a task, kept in registers")]
#[expect(clippy::needless_range_loop, reason = "rows and columns of a matrix and of its transpose")]
#[inline(always)]
unsafe fn finish<S: Compiled, const M: usize>(
    run: &Run,
    node: &CpuNode,
    kernel: &WinogradKernel,
    tiles: Range<usize>,
    branch: usize,
    block: usize,
    sums: *const f32,
    [element, step]: [usize; 2],
) {
    let output = &run.plan.values[node.output];
    let residual = node.epilogue.residual.map(|id| &run.plan.values[id]);
    let rows = [output.row_stride(), residual.map_or(0, |residual| residual.row_stride())];
    let n = M + 2;
    // SAFETY: the block and the tiles are those of the output, of which no row or column behind the map is stored.
    unsafe {
        let bias = S::load(kernel.branches[branch].bias.as_slice().as_ptr().add(block * S::LANES));
        for (index, tile) in tiles.enumerate() {
            let (image, row, column) = place(kernel, tile);
            let from = sums.add(index * step);
            let mut columns = [[S::splat(0.0); MOST_INPUT]; MOST_INPUT];
            for y in 0..n {
                let mut m = [S::splat(0.0); MOST_INPUT];
                for x in 0..n {
                    m[x] = S::load(from.add((y * n + x) * element));
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

/// Bt d, in the first M + 2 elements.
#[inline(always)]
unsafe fn input_line<S: Simd, const M: usize>(d: [S::V; MOST_INPUT]) -> [S::V; MOST_INPUT] {
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
        let times = |factor: f32, a, b| S::mul_add(S::splat(factor), a, b);
        let (even, odd) = (times(-4.0, d[2], d[4]), times(-4.0, d[1], d[3]));
        let (even_2, odd_2) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
        [
            times(4.0, d[0], times(-5.0, d[2], d[4])),
            S::add(even, odd),
            S::sub(even, odd),
            times(2.0, odd_2, even_2),
            times(-2.0, odd_2, even_2),
            times(4.0, d[1], times(-5.0, d[3], d[5])),
        ]
    }
}

/// At m, in the first M elements.
#[inline(always)]
unsafe fn output_line<S: Simd, const M: usize>(m: [S::V; MOST_INPUT]) -> [S::V; 4] {
    unsafe {
        let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        if M == 2 {
            let zero = S::splat(0.0);
            return [S::add(m[0], sum), S::sub(difference, m[3]), zero, zero];
        }
        let times = |factor: f32, a, b| S::mul_add(S::splat(factor), a, b);
        let (sum_2, difference_2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum), sum_2),
            times(2.0, difference_2, difference),
            times(4.0, sum_2, sum),
            S::add(times(8.0, difference_2, difference), m[5]),
        ]
    }
}
