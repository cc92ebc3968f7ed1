//! The gate AWS-Unit's last part: logits to weights, and the mix.
//!
//! y_t = A[t][emotion] * u_emotion + A[t][au] * u_au, where A[t][s] is the sigmoid of L[t][s], or the softmax over
//! s, which for two branches is the sigmoid of L[t][s] - L[t][other]. The logits' channels are
//! [to][from][padded channel].

use super::block_task::BlockTask;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::plan::value::Value;
use crate::cpu::run::Run;
use crate::cpu::simd::{Simd, sigmoid};
use crate::graph::node::ValueId;
use crate::model::Gate;

/// # Safety
///
/// As for [`Kernels::run_task`](super::dispatch::Kernels::run_task).
#[inline(always)]
pub(super) unsafe fn run_task<S: Simd>(run: &Run, node: &CpuNode, gate: Gate, logits: ValueId, task: usize) {
    let values = &run.plan.values;
    let (input, output, logits) = (&values[node.input], &values[node.output], &values[logits]);
    let task = BlockTask::new(output, task);
    // SAFETY: input and output have the same shape; the logits are 1x1 maps of four times the padded channels.
    unsafe {
        let first = run.pixels(logits, task.image, 0).add(task.block * S::LANES);
        let mut a = [[S::splat(0.0); 2]; 2];
        for (t, row) in a.iter_mut().enumerate() {
            let logits = first.add(2 * t * output.padded_channels());
            let logits = [S::load(logits), S::load(logits.add(output.padded_channels()))];
            for (s, a) in row.iter_mut().enumerate() {
                *a = match gate {
                    Gate::Softmax => sigmoid::<S>(S::sub(logits[s], logits[1 - s])),
                    Gate::Sigmoid => sigmoid::<S>(logits[s]),
                };
            }
        }
        let block = |value: &Value, branch| {
            run.pixels(value, task.image, branch).add(task.block * value.block_stride())
        };
        let (from, to) = ([block(input, 0), block(input, 1)], [block(output, 0), block(output, 1)]);
        for y in task.rows.clone() {
            for x in 0..output.shape.width {
                let at = y * input.row_stride() + x * S::LANES;
                let u = [S::load(from[0].add(at)), S::load(from[1].add(at))];
                for (a, to) in a.iter().zip(to) {
                    let y_t = S::mul_add(a[1], u[1], S::mul(a[0], u[0]));
                    S::store(to.add(y * output.row_stride() + x * S::LANES), y_t);
                }
            }
        }
        task.zero_halo(run, output);
    }
}
