//! The maps of a concatenation that do not lie at their place already, copied there.

use super::block_task::BlockTask;
use crate::cpu::plan::concat::{ConcatKernel, Part};
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;

/// Writes those channels of a block that come from the parts; the others are there.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Simd>(run: &Run, node: &CpuNode, kernel: &ConcatKernel, task: usize) {
    let output = &run.plan.values[node.output];
    let task = BlockTask::new(output, task);
    let block = task.block * S::LANES..(task.block + 1) * S::LANES;
    let meets =
        |part: &&Part| part.first_channel < block.end && block.start < part.first_channel + part.channels;
    if !kernel.parts.iter().any(|part| meets(&part)) {
        return;
    }
    if block.end > output.shape.channels {
        for branch in 0..output.branches {
            // SAFETY: the block is one of the output; lanes behind the last channel become zeros.
            unsafe {
                let to = run.pixels(output, task.image, branch).add(task.block * output.block_stride());
                for y in task.rows.clone() {
                    to.add(y * output.row_stride()).write_bytes(0, output.shape.width * S::LANES);
                }
            }
        }
    }
    for &Part { value, first_channel, channels } in kernel.parts.iter().filter(meets) {
        let (first, end) = (block.start.max(first_channel), block.end.min(first_channel + channels));
        let input = &run.plan.values[value];
        for branch in 0..output.branches {
            // SAFETY: input and output have the same rows and columns; the channels are those of the part, of which the last
            // block of its map may have fewer than lanes.
            unsafe {
                let from = run.pixels(input, task.image, branch).cast_const();
                let to = run.pixels(output, task.image, branch).add(task.block * output.block_stride());
                for y in task.rows.clone() {
                    let to = to.add(y * output.row_stride());
                    let whole = first == block.start && (first - first_channel).is_multiple_of(input.lanes);
                    if whole && input.lanes == S::LANES {
                        // The lanes behind a part's last channel are written over by the part behind it, or are nobody's.
                        let from = from.add((first - first_channel) / S::LANES * input.block_stride());
                        let from = from.add(y * input.row_stride());
                        for x in 0..output.shape.width {
                            S::store(to.add(x * S::LANES), S::load(from.add(x * S::LANES)));
                        }
                        continue;
                    }
                    for channel in first..end {
                        let of_part = channel - first_channel;
                        let from = from.add(of_part / input.lanes * input.block_stride());
                        let from = from.add(y * input.row_stride() + of_part % input.lanes);
                        for x in 0..output.shape.width {
                            *to.add(x * S::LANES + channel - block.start) = *from.add(x * input.lanes);
                        }
                    }
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { task.zero_halo(run, output) };
}
