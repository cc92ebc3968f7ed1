//! z = x, for the epilogue's sake.

use super::block_task::BlockTask;
use super::epilogue::PairSink;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Simd>(run: &Run, node: &CpuNode, task: usize) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    // SAFETY: input and output have the same shape.
    unsafe {
        let map = |branch| run.pixels(input, task.image, branch).add(task.block * input.block_stride());
        let maps = [map(0), map(1)];
        let sink = PairSink::new::<S>(run, node, task.image, task.block);
        for y in task.rows.clone() {
            for x in 0..output.shape.width {
                let at = y * input.row_stride() + x * S::LANES;
                sink.put::<S>(y, x, [S::load(maps[0].add(at)), S::load(maps[1].add(at))]);
            }
        }
        task.zero_halo(run, output);
    }
}
