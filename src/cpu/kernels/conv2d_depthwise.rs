//! Depthwise convolution: each channel with a kernel of its own, a block of channels at a time.
//!
//! z[c][y][x] = b[c] + sum over ky, kx of w[c][ky][kx] * input[c][y*s + ky*d - top][x*s + kx*d - left]
//!
//! A few pixels of both branches are summed at once, so that each weight is loaded once for all of them and the
//! AWS-Unit meets both branches in registers.

use super::block_task::BlockTask;
use super::epilogue::PairSink;
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
pub(super) unsafe fn run_task<S: Simd>(run: &Run, node: &CpuNode, kernel: &DepthwiseKernel, task: usize) {
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
        let from = [window(0), window(1)];
        let [emotion, au] = [&node.weights.branches[0], &node.weights.branches[1]];
        let first = task.block * taps * S::LANES;
        let weights = [emotion.weights.wide()[first..].as_ptr(), au.weights.wide()[first..].as_ptr()];
        let first = task.block * S::LANES;
        let bias = [
            S::load(emotion.bias.as_slice()[first..].as_ptr()),
            S::load(au.bias.as_slice()[first..].as_ptr()),
        ];
        let sink = PairSink::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            let row = y * kernel.op.stride[0] * input.row_stride();
            let from = [from[0].add(row), from[1].add(row)];
            let width = output.shape.width;
            let (rows, columns) = (
                (kernel.op.kernel[0] - 1) * kernel.op.dilation[0] * input.row_stride(),
                (width - 1) * kernel.op.stride[1] + (kernel.op.kernel[1] - 1) * kernel.op.dilation[1] + 1,
            );
            debug_assert!(run.holds(input, from[1], rows + columns * S::LANES), "{}", input.name);
            let mut x = 0;
            while x + PIXELS <= width {
                pixels::<S, PIXELS>(kernel, input, from, weights, bias, &sink, y, x);
                x += PIXELS;
            }
            for x in x..width {
                pixels::<S, 1>(kernel, input, from, weights, bias, &sink, y, x);
            }
        }
        task.zero_halo(run, output);
    }
}

/// `N` pixels of a row, from column `x` on.
#[expect(clippy::too_many_arguments, reason = "the constants of a task, kept in registers")]
#[inline(always)]
unsafe fn pixels<S: Simd, const N: usize>(
    kernel: &DepthwiseKernel,
    input: &Value,
    row: [*const f32; 2],
    weights: [*const f32; 2],
    bias: [S::V; 2],
    sink: &PairSink,
    y: usize,
    x: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let step = kernel.op.stride[1] * S::LANES;
        let mut sums = [[bias[0]; N], [bias[1]; N]];
        for ky in 0..kernel.op.kernel[0] {
            for kx in 0..kernel.op.kernel[1] {
                let at = ky * kernel.op.dilation[0] * input.row_stride()
                    + kx * kernel.op.dilation[1] * S::LANES
                    + x * step;
                let tap = (ky * kernel.op.kernel[1] + kx) * S::LANES;
                let w = [S::load(weights[0].add(tap)), S::load(weights[1].add(tap))];
                each_column!(N, pixel, {
                    let at = at + pixel * step;
                    sums[0][pixel] = S::mul_add(S::load(row[0].add(at)), w[0], sums[0][pixel]);
                    sums[1][pixel] = S::mul_add(S::load(row[1].add(at)), w[1], sums[1][pixel]);
                });
            }
        }
        each_column!(N, pixel, sink.put::<S>(y, x + pixel, [sums[0][pixel], sums[1][pixel]]));
    }
}
