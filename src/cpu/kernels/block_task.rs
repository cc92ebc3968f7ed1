//! Tasks of kernels that compute a block of channels of both branches at once, cut into rows.

use crate::cpu::plan::value::Value;
use crate::cpu::run::Run;

/// One of the tasks [image][block][rows] of an output.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct BlockTask {
    pub image: usize,
    pub block: usize,
    pub rows: std::ops::Range<usize>,
}

/// Elements of output that a task computes, about: what a thread takes from the nearest cache.
const TASK_ELEMENTS: usize = 4096;

impl BlockTask {
    #[inline]
    fn rows_per_task(output: &Value) -> usize {
        (TASK_ELEMENTS / (output.shape.width * output.lanes).max(1)).clamp(1, output.shape.height)
    }

    /// How many tasks an output has.
    pub fn count(output: &Value, images: usize) -> usize {
        images * output.blocks() * output.shape.height.div_ceil(Self::rows_per_task(output))
    }

    /// The task of a number below [`count`](Self::count).
    #[inline]
    pub fn new(output: &Value, task: usize) -> Self {
        let rows = Self::rows_per_task(output);
        let row_tasks = output.shape.height.div_ceil(rows);
        let (task, row_task) = (task / row_tasks, task % row_tasks);
        let first = row_task * rows;
        BlockTask {
            image: task / output.blocks(),
            block: task % output.blocks(),
            rows: first..output.shape.height.min(first + rows),
        }
    }

    /// The first pixel of the task's block in an input that is cut into the same blocks, in each branch.
    ///
    /// # Safety
    ///
    /// The task is one of an output of the run's plan, and the input a value of it with as many blocks.
    #[inline(always)]
    pub unsafe fn pixels<const B: usize>(&self, run: &Run, input: &Value) -> [*mut f32; B] {
        std::array::from_fn(|branch| {
            // SAFETY: the block is one of the input's.
            unsafe { run.pixels(input, self.image, branch).add(self.block * input.block_stride()) }
        })
    }

    /// Writes the zeros around the task's rows in both branches.
    ///
    /// # Safety
    ///
    /// The task is one of this output of the run's plan.
    #[inline]
    pub unsafe fn zero_halo(&self, run: &Run, output: &Value) {
        for branch in 0..output.branches {
            // SAFETY: the task's block and rows are the caller's alone.
            unsafe {
                run.zero_halo(output, self.image, branch, self.block..self.block + 1, self.rows.clone())
            };
        }
    }
}
