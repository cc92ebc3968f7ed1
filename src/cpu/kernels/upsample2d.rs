//! z[c][y][x] = input[c][y / factor_h][x / factor_w], rounded down: nearest-neighbour upsampling.

use super::block_task::BlockTask;
use super::epilogue::BlockSink;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Simd, const B: usize>(
    run: &Run,
    node: &CpuNode,
    factor: [usize; 2],
    task: usize,
) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    // SAFETY: the output has factor times the rows and columns of the input.
    unsafe {
        let maps = task.pixels::<B>(run, input);
        let sink = BlockSink::<B>::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            let row = y / factor[0] * input.row_stride();
            for column in 0..input.shape.width {
                let mut z = [S::splat(0.0); B];
                for (z, map) in z.iter_mut().zip(maps) {
                    *z = S::load(map.add(row + column * S::LANES));
                }
                for x in column * factor[1]..(column + 1) * factor[1] {
                    sink.put::<S>(y, x, z);
                }
            }
        }
        task.zero_halo(run, output);
    }
}
