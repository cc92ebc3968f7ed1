//! The image from NCHW into blocks of channels, for operators that read it so.

use super::block_task::BlockTask;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
pub(super) unsafe fn run_task(run: &Run, node: &CpuNode, task: usize) {
    let (input, output) = (&run.plan.values[node.input], &run.plan.values[node.output]);
    let task = BlockTask::new(output, task);
    let first_channel = task.block * output.lanes;
    // SAFETY: both values hold the image; lanes behind the last channel become zero.
    unsafe {
        let from = run.pixels(input, task.image, 0);
        let to = run.pixels(output, task.image, 0).add(task.block * output.block_stride());
        for y in task.rows.clone() {
            for x in 0..output.shape.width {
                for lane in 0..output.lanes {
                    let channel = first_channel + lane;
                    let value = match channel < input.shape.channels {
                        true => *from.add(channel * input.block_stride() + y * input.row_stride() + x),
                        false => 0.0,
                    };
                    *to.add(y * output.row_stride() + x * output.lanes + lane) = value;
                }
            }
        }
        task.zero_halo(run, output);
    }
}
