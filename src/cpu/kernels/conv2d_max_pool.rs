//! Direct convolution with max pooling behind it; see [`ConvMaxPool`].

use super::compiled::Compiled;
use super::conv2d_direct::{Rows, compute_rows};
use super::epilogue::TileSink;
use super::pool2d::{clipped, max_pool_row};
use crate::cpu::plan::conv2d_max_pool::ConvMaxPool;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::run::Run;
use crate::cpu::schedule::NodeSchedule;

/// Computes one task of [group][image][band]: a band of pooled rows of one group, in both branches.
///
/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Compiled>(
    run: &Run,
    node: &CpuNode,
    schedule: &NodeSchedule,
    kernel: &ConvMaxPool,
    task: usize,
    scratch: &mut [f32],
) {
    let ConvMaxPool { conv, map, pool, .. } = kernel;
    let output = &run.plan.values[node.output];
    let bands = schedule.bands;
    let (task, band) = (task / bands.count, task % bands.count);
    let (group, image) = (&conv.groups[task / run.images], task % run.images);
    let band = band * bands.rows..output.shape.height.min((band + 1) * bands.rows);

    let layout = kernel.strip();
    let strip = scratch[..layout.len()].as_mut_ptr();
    let window = |y| clipped(y, pool.stride[0], pool.padding.top, pool.kernel[0], map.height);
    let mut kept = 0..0; // the convolution's rows in the strip
    // SAFETY: the windows of the rows computed at a time meet at most as many rows as the strip has, and columns of the
    // convolution's map; the band's rows of the group's blocks are the task's alone.
    unsafe {
        // Of a network of one branch the second is nobody's.
        let strips = [strip, strip.wrapping_add(layout.branch)];
        for first in band.clone().step_by(kernel.rows_at_a_time()) {
            let pooled = first..band.end.min(first + kernel.rows_at_a_time());
            let met = window(pooled.start).start..window(pooled.end - 1).end;
            let known = met.start..met.start.max(kept.end);
            let rows = Rows {
                group,
                image,
                rows: known.end..met.end,
                first_column: 0,
                column_tiles: &conv.tiling.columns,
            };
            for (branch, &strip) in strips.iter().enumerate().take(layout.branches) {
                for block in 0..group.blocks {
                    let to = strip.add(block * layout.block);
                    let from = to.wrapping_add((known.start - kept.start) * layout.row);
                    to.copy_from(from, known.len() * layout.row);
                }
                let first_block = group.first_block;
                let sink = TileSink::in_strip::<S>(node, output, branch, first_block, strips, &layout);
                let tiles = &schedule.tiles[branch];
                compute_rows::<S>(run, node, conv, tiles, branch, &rows, |row, column| {
                    sink.at::<S>(row - met.start, column)
                });
            }
            for (branch, from) in strips.into_iter().enumerate().take(layout.branches) {
                for block in 0..group.blocks {
                    let from = from.add(block * layout.block).cast_const();
                    let to = run.pixels(output, image, branch);
                    let to = to.add((group.first_block + block) * output.block_stride());
                    for y in pooled.clone() {
                        let window = window(y);
                        let from = from.add((window.start - met.start) * layout.row);
                        let to = to.add(y * output.row_stride());
                        max_pool_row::<S>(pool, map.width, window.len(), from, output.shape.width, to);
                    }
                }
            }
            kept = met;
        }
        for branch in 0..layout.branches {
            let blocks = group.first_block..group.first_block + group.blocks;
            run.zero_halo(output, image, branch, blocks, band.clone());
        }
    }
}
