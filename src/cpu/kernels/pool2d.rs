//! Pooling: the maximum or the mean over a window, and the mean over a whole map.
//!
//! Windows are clipped to the map, so that padding never wins a maximum; a mean divides by the whole window, which
//! counts padding as zeros.

use std::ops::Range;

use super::block_task::BlockTask;
use super::epilogue::PairSink;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;
use crate::op::Pool2d;

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

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_max_task<S: Simd>(run: &Run, node: &CpuNode, pool: &Pool2d, task: usize) {
    // SAFETY: the caller's promise.
    unsafe { run_window_task::<S, true>(run, node, pool, task) }
}

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_avg_task<S: Simd>(run: &Run, node: &CpuNode, pool: &Pool2d, task: usize) {
    // SAFETY: the caller's promise.
    unsafe { run_window_task::<S, false>(run, node, pool, task) }
}

/// The maximum, or the mean, of each window of a block of channels in both branches.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
unsafe fn run_window_task<S: Simd, const MAX: bool>(run: &Run, node: &CpuNode, pool: &Pool2d, task: usize) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    let Pool2d { kernel, stride, padding } = *pool;
    // SAFETY: clipped windows lie within the input's map.
    unsafe {
        let elements = S::splat((kernel[0] * kernel[1]) as f32);
        let first = S::splat(if MAX { f32::NEG_INFINITY } else { 0.0 });
        let map = |branch| run.pixels(input, task.image, branch).add(task.block * input.block_stride());
        let maps = [map(0), map(1)];
        let sink = PairSink::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            let rows = clipped(y, stride[0], padding.top, kernel[0], input.shape.height);
            for x in 0..output.shape.width {
                let columns = clipped(x, stride[1], padding.left, kernel[1], input.shape.width);
                let mut folded = [first; 2];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        for (folded, map) in folded.iter_mut().zip(maps) {
                            let pixel = S::load(map.add(iy * input.row_stride() + ix * S::LANES));
                            *folded = match MAX {
                                true => larger::<S>(*folded, pixel),
                                false => S::add(*folded, pixel),
                            };
                        }
                    }
                }
                if !MAX {
                    folded = [S::div(folded[0], elements), S::div(folded[1], elements)];
                }
                sink.put::<S>(y, x, folded);
            }
        }
        task.zero_halo(run, output);
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

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_global_avg_task<S: Simd>(run: &Run, node: &CpuNode, task: usize) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    // SAFETY: all within the input's map.
    unsafe {
        let mut sums = [S::splat(0.0); 2];
        for (branch, sum) in sums.iter_mut().enumerate() {
            let map = run.pixels(input, task.image, branch).add(task.block * input.block_stride());
            for y in 0..input.shape.height {
                for x in 0..input.shape.width {
                    *sum = S::add(*sum, S::load(map.add(y * input.row_stride() + x * S::LANES)));
                }
            }
        }
        let pixels = S::splat(input.shape.pixels() as f32);
        let means = [S::div(sums[0], pixels), S::div(sums[1], pixels)];
        PairSink::new::<S>(run, node, task.image, task.block).put::<S>(0, 0, means);
        task.zero_halo(run, output);
    }
}
