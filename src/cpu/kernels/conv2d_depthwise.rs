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
use crate::cpu::simd::Simd;

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
        let weights = [0, 1]
            .map(|b| node.weights.branches[b].weights.wide().as_ptr().add(task.block * taps * S::LANES));
        let bias = [0, 1]
            .map(|b| S::load(node.weights.branches[b].bias.as_slice().as_ptr().add(task.block * S::LANES)));
        let sink = PairSink::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            let row = y * kernel.op.stride[0] * input.row_stride();
            let width = output.shape.width;
            let mut x = 0;
            while x + PIXELS <= width {
                pixels::<S, PIXELS>(
                    kernel,
                    input,
                    from.map(|from| from.add(row)),
                    weights,
                    bias,
                    &sink,
                    y,
                    x,
                );
                x += PIXELS;
            }
            for x in x..width {
                pixels::<S, 1>(kernel, input, from.map(|from| from.add(row)), weights, bias, &sink, y, x);
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
    unsafe {
        let step = kernel.op.stride[1] * S::LANES;
        let mut sums = [[bias[0]; N], [bias[1]; N]];
        for ky in 0..kernel.op.kernel[0] {
            for kx in 0..kernel.op.kernel[1] {
                let at = ky * kernel.op.dilation[0] * input.row_stride()
                    + kx * kernel.op.dilation[1] * S::LANES
                    + x * step;
                let tap = (ky * kernel.op.kernel[1] + kx) * S::LANES;
                for (branch, sums) in sums.iter_mut().enumerate() {
                    let w = S::load(weights[branch].add(tap));
                    for (pixel, sum) in sums.iter_mut().enumerate() {
                        *sum = S::mul_add(S::load(row[branch].add(at + pixel * step)), w, *sum);
                    }
                }
            }
        }
        let [emotion, au] = sums;
        for (pixel, z) in emotion.into_iter().zip(au).enumerate() {
            sink.put::<S>(y, x + pixel, [z.0, z.1]);
        }
    }
}
