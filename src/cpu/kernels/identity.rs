//! z = x, for the epilogue's sake.

use super::block_task::BlockTask;
use super::epilogue::BlockSink;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Simd, const B: usize>(run: &Run, node: &CpuNode, task: usize) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    // SAFETY: input and output have the same shape.
    unsafe {
        let maps = task.pixels::<B>(run, input);
        let sink = BlockSink::<B>::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            for x in 0..output.shape.width {
                let at = y * input.row_stride() + x * S::LANES;
                let mut z = [S::splat(0.0); B];
                for (z, map) in z.iter_mut().zip(maps) {
                    *z = S::load(map.add(at));
                }
                sink.put::<S>(y, x, z);
            }
        }
        task.zero_halo(run, output);
    }
}
