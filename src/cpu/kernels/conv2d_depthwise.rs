//! Depthwise convolution: each channel with a kernel of its own, a block of channels at a time.
//!
//! z[c][y][x] = b[c] + sum over ky, kx of w[c][ky][kx] * input[c][y*s + ky*d - top][x*s + kx*d - left]
//!
//! A few pixels of all branches are summed at once, so that each weight is loaded once for all of them and the
//! AWS-Unit meets both of them in registers.

use super::block_task::BlockTask;
use super::epilogue::BlockSink;
use crate::cpu::plan::conv2d_depthwise::DepthwiseKernel;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::plan::value::Value;
use crate::cpu::run::Run;
use crate::cpu::simd::{Simd, each_column};

/// Pixels summed at once: with both branches 8 sums, which hide the latency of their additions.
const PIXELS: usize = 4;

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Simd, const B: usize>(
    run: &Run,
    node: &CpuNode,
    kernel: &DepthwiseKernel,
    task: usize,
) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    let taps = kernel.op.kernel[0] * kernel.op.kernel[1];
    let padding = kernel.op.padding.top * input.row_stride() + kernel.op.padding.left * input.lanes;
    // SAFETY: the input's halo is at least the padding, so that every window lies within its block.
    unsafe {
        let window = |branch: usize| {
            let map = run.map(input, task.image, branch).add(task.block * input.block_stride());
            map.add(input.origin() - padding).cast_const()
        };
        let from: [*const f32; B] = std::array::from_fn(window);
        let first = task.block * taps * S::LANES;
        let packed = &node.weights.branches;
        let weights: [*const f32; B] = std::array::from_fn(|t| packed[t].weights.wide()[first..].as_ptr());
        let mut bias = [S::splat(0.0); B];
        for (bias, packed) in bias.iter_mut().zip(packed) {
            *bias = S::load(packed.bias.as_slice()[task.block * S::LANES..].as_ptr());
        }
        let sink = BlockSink::<B>::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            let row = y * kernel.op.stride[0] * input.row_stride();
            let from = from.map(|from| from.add(row));
            let width = output.shape.width;
            let (rows, columns) = (
                (kernel.op.kernel[0] - 1) * kernel.op.dilation[0] * input.row_stride(),
                (width - 1) * kernel.op.stride[1] + (kernel.op.kernel[1] - 1) * kernel.op.dilation[1] + 1,
            );
            debug_assert!(run.holds(input, from[B - 1], rows + columns * S::LANES), "{}", input.name);
            let mut x = 0;
            while x + PIXELS <= width {
                pixels::<S, B, PIXELS>(kernel, input, from, weights, bias, &sink, y, x);
                x += PIXELS;
            }
            for x in x..width {
                pixels::<S, B, 1>(kernel, input, from, weights, bias, &sink, y, x);
            }
        }
        task.zero_halo(run, output);
    }
}

/// `N` pixels of a row, from column `x` on.
#[expect(clippy::too_many_arguments, reason = "the constants of a task, kept in registers")]
#[inline(always)]
unsafe fn pixels<S: Simd, const B: usize, const N: usize>(
    kernel: &DepthwiseKernel,
    input: &Value,
    row: [*const f32; B],
    weights: [*const f32; B],
    bias: [S::V; B],
    sink: &BlockSink<B>,
    y: usize,
    x: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let step = kernel.op.stride[1] * S::LANES;
        let mut sums = [[S::splat(0.0); B]; N];
        each_column!(N, pixel, sums[pixel] = bias);
        for ky in 0..kernel.op.kernel[0] {
            for kx in 0..kernel.op.kernel[1] {
                let at = ky * kernel.op.dilation[0] * input.row_stride()
                    + kx * kernel.op.dilation[1] * S::LANES
                    + x * step;
                let tap = (ky * kernel.op.kernel[1] + kx) * S::LANES;
                let mut w = [S::splat(0.0); B];
                for (w, weights) in w.iter_mut().zip(weights) {
                    *w = S::load(weights.add(tap));
                }
                each_column!(N, pixel, {
                    let at = at + pixel * step;
                    for branch in 0..B {
                        let x = S::load(row[branch].add(at));
                        sums[pixel][branch] = S::mul_add(x, w[branch], sums[pixel][branch]);
                    }
                });
            }
        }
        each_column!(N, pixel, sink.put::<S>(y, x + pixel, sums[pixel]));
    }
}
