//! Pooling: the maximum or the mean over a window, and the mean over a whole map.
//!
//! Windows are clipped to the map, so that padding never wins a maximum; what a mean divides by is
//! [`Pool2d::divisor`]. A mean over many pixels adds up parts of them, and then the parts, so that its error does not grow with
//! all of them.

use std::ops::Range;

use super::block_task::BlockTask;
use super::epilogue::BlockSink;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;
use crate::op::{Pool2d, adaptive_window};
use crate::tensor::Shape;

/// The rows or columns of the map that a window meets.
#[inline(always)]
pub(super) fn clipped(
    index: usize,
    stride: usize,
    before: usize,
    kernel: usize,
    size: usize,
) -> Range<usize> {
    let begin = index * stride;
    begin.saturating_sub(before)..(begin + kernel).saturating_sub(before).min(size)
}

/// The larger one of each lane; that of a NaN and a number is the number.
#[inline(always)]
unsafe fn larger<S: Simd>(max: S::V, x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::max(x, max) }
}

/// The maximum of each window of a block of channels in all branches.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_max_task<S: Simd, const B: usize>(
    run: &Run,
    node: &CpuNode,
    pool: &Pool2d,
    task: usize,
) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    let Pool2d { kernel, stride, padding, .. } = *pool;
    // SAFETY: clipped windows lie within the input's map.
    unsafe {
        let maps = task.pixels::<B>(run, input);
        let sink = BlockSink::<B>::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            let rows = clipped(y, stride[0], padding.top, kernel[0], input.shape.height);
            for x in 0..output.shape.width {
                let columns = clipped(x, stride[1], padding.left, kernel[1], input.shape.width);
                let mut most = [S::splat(f32::NEG_INFINITY); B];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        for (most, map) in most.iter_mut().zip(maps) {
                            let pixel = S::load(map.add(iy * input.row_stride() + ix * S::LANES));
                            *most = larger::<S>(*most, pixel);
                        }
                    }
                }
                sink.put::<S>(y, x, most);
            }
        }
        task.zero_halo(run, output);
    }
}

/// Which windows a mean is over.
pub(super) enum Windows<'a> {
    /// Those of a pooling.
    Pool(&'a Pool2d),
    /// So many rows and columns of them, which cover the map.
    Adaptive([usize; 2]),
}

impl Windows<'_> {
    /// The rows and columns of the input in the window of an output, and what the mean divides by.
    #[inline]
    fn of(&self, input: Shape, y: usize, x: usize) -> (Range<usize>, Range<usize>, usize) {
        let Shape { height, width, .. } = input;
        match self {
            Windows::Pool(pool) => {
                let Pool2d { kernel, stride, padding, .. } = **pool;
                let rows = clipped(y, stride[0], padding.top, kernel[0], height);
                let columns = clipped(x, stride[1], padding.left, kernel[1], width);
                (rows, columns, pool.divisor(input, y, x))
            }
            Windows::Adaptive([rows, columns]) => {
                let rows = adaptive_window(y, height, *rows);
                let columns = adaptive_window(x, width, *columns);
                let count = rows.len() * columns.len();
                (rows, columns, count)
            }
        }
    }
}

/// The mean over each window of a block of channels in all branches.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_avg_task<S: Simd, const B: usize>(
    run: &Run,
    node: &CpuNode,
    windows: &Windows,
    task: usize,
) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    // SAFETY: the windows lie within the input's map.
    unsafe {
        let maps = task.pixels::<B>(run, input);
        let sink = BlockSink::<B>::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            for x in 0..output.shape.width {
                let (rows, columns, count) = windows.of(input.shape, y, x);
                let count = S::splat(count as f32);
                let sums = sums::<S, B>(maps, input.row_stride(), rows, columns);
                sink.put::<S>(y, x, sums.map(|sum| S::div(sum, count)));
            }
        }
        task.zero_halo(run, output);
    }
}

/// The sums over some rows and columns of a map of each branch: in one go over rows that have a few hundred pixels together.
#[inline(always)]
unsafe fn sums<S: Simd, const B: usize>(
    maps: [*mut f32; B],
    row_stride: usize,
    rows: Range<usize>,
    columns: Range<usize>,
) -> [S::V; B] {
    const PART: usize = 256;
    let rows_of_part = PART.div_ceil(columns.len().max(1));
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [S::splat(0.0); B];
        for first in rows.clone().step_by(rows_of_part) {
            let mut part = [S::splat(0.0); B];
            for y in first..(first + rows_of_part).min(rows.end) {
                for x in columns.clone() {
                    for (part, map) in part.iter_mut().zip(maps) {
                        *part = S::add(*part, S::load(map.add(y * row_stride + x * S::LANES)));
                    }
                }
            }
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum = S::add(*sum, part);
            }
        }
        sums
    }
}

/// Pools a row of `output_width` windows, which meet the `rows` rows of `width` pixels at `from`, in one block of
/// channels.
///
/// # Safety
///
/// The rows lie one behind the other; `to` begins a row of the output.
#[inline(always)]
pub(super) unsafe fn max_pool_row<S: Simd>(
    pool: &Pool2d,
    width: usize,
    rows: usize,
    from: *const f32,
    output_width: usize,
    to: *mut f32,
) {
    // SAFETY: clipped windows lie within the rows.
    unsafe {
        for x in 0..output_width {
            let columns = clipped(x, pool.stride[1], pool.padding.left, pool.kernel[1], width);
            let mut max = S::splat(f32::NEG_INFINITY);
            for row in 0..rows {
                for column in columns.clone() {
                    max = larger::<S>(max, S::load(from.add((row * width + column) * S::LANES)));
                }
            }
            S::store(to.add(x * S::LANES), max);
        }
    }
}
