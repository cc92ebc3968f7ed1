//! What happens to all branches' values of a pixel before they are stored: scale, residual, activation, AWS-Unit.

use super::activation::activate;
use crate::cpu::plan::conv2d_max_pool::Strip;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::plan::value::Value;
use crate::cpu::run::Run;
use crate::cpu::simd::Simd;
use crate::op::Activation;

/// Where the sums of a tile of one branch go: some rows, columns and blocks of the output.
#[derive(Clone)]
pub(in crate::cpu) struct TileSink {
    pub(super) output: *mut f32,
    pub(super) output_row: usize,
    pub(super) output_block: usize,
    /// What the sums are multiplied with; null where that is nothing.
    pub(super) scale: *const f32,
    /// From row to row, column to column and block to block; 0 where one factor is for all.
    pub(super) scale_steps: [usize; 3],
    /// Null where nothing is added.
    pub(super) residual: *const f32,
    pub(super) residual_row: usize,
    pub(super) residual_block: usize,
    pub(super) activation: Activation,
    /// A PReLU's, of the tile's first channel; null where there is none.
    pub(super) slopes: *const f32,
    pub(super) mix: Option<TileMix>,
}

/// The AWS-Unit, applied by the tile of the au branch.
#[derive(Clone)]
pub(super) struct TileMix {
    /// A[0][0] for the tile's first channel; A[t][s] is `pair` * (2t + s) elements behind it.
    pub(super) weights: *const f32,
    pub(super) pair: usize,
    /// u of the emotion branch, which y replaces; strides as those of the output.
    pub(super) emotion: *mut f32,
}

impl TileMix {
    /// That of a node whose output this is, if the tile's branch applies it.
    ///
    /// # Safety
    ///
    /// The block is one of the output.
    #[inline(always)]
    unsafe fn new<S: Simd>(
        node: &CpuNode,
        output: &Value,
        branch: usize,
        block: usize,
        emotion: *mut f32,
    ) -> Option<Self> {
        let mix = node.weights.mix.as_ref().filter(|_| branch == 1)?;
        // SAFETY: the packed AWS-Unit has four rows of all padded channels.
        let weights = unsafe { mix.as_slice().as_ptr().add(block * S::LANES) };
        Some(TileMix { weights, pair: output.blocks() * S::LANES, emotion })
    }
}

impl TileSink {
    /// The sink of a node's tiles for an image and a branch, at the first pixel of a block of channels;
    /// `rows` are the strides of the output's, the scale's and the residual's rows.
    ///
    /// # Safety
    ///
    /// The node is one of the run's plan; image, branch and block are within its output.
    #[inline(always)]
    pub unsafe fn new<S: Simd>(
        run: &Run,
        node: &CpuNode,
        image: usize,
        branch: usize,
        block: usize,
        rows: [usize; 3],
    ) -> Self {
        let output = &run.plan.values[node.output];
        let [scale, residual] = [node.scale, node.residual].map(|id| id.map(|id| &run.plan.values[id]));
        // SAFETY: the block lies within the values' maps, whose shapes are the same, but for a scale of one pixel; the slopes
        // are a row of all padded channels for each branch.
        unsafe {
            let at = |value: &Value, branch: usize| {
                run.pixels(value, image, branch).add(block * value.block_stride())
            };
            TileSink {
                output: at(output, branch),
                output_row: rows[0],
                output_block: output.block_stride(),
                scale: scale.map_or(std::ptr::null(), |value| at(value, branch).cast_const()),
                scale_steps: scale.map_or([0; 3], |value| scale_steps(value, output, rows[1])),
                residual: residual.map_or(std::ptr::null(), |value| at(value, branch).cast_const()),
                residual_row: rows[2],
                residual_block: residual.map_or(0, Value::block_stride),
                activation: node.activation,
                slopes: slopes::<S>(node, output, branch, block),
                mix: TileMix::new::<S>(node, output, branch, block, at(output, 0)),
            }
        }
    }

    /// The sink of a node's tiles for a branch, at the first pixel of a block, where the branches' rows lie in strips;
    /// there is neither scale nor residual.
    ///
    /// # Safety
    ///
    /// The block is one of the node's output.
    #[inline(always)]
    pub unsafe fn in_strip<S: Simd>(
        node: &CpuNode,
        output: &Value,
        branch: usize,
        block: usize,
        strips: [*mut f32; 2],
        layout: &Strip,
    ) -> Self {
        TileSink {
            output: strips[branch],
            output_row: layout.row,
            output_block: layout.block,
            scale: std::ptr::null(),
            scale_steps: [0; 3],
            residual: std::ptr::null(),
            residual_row: 0,
            residual_block: 0,
            activation: node.activation,
            // SAFETY: the slopes are a row of all padded channels for each branch.
            slopes: unsafe { slopes::<S>(node, output, branch, block) },
            // SAFETY: the caller's promise.
            mix: unsafe { TileMix::new::<S>(node, output, branch, block, strips[0]) },
        }
    }

    /// Between which numbers the sums are to be held, where that and a residual is all that happens to them.
    #[inline(always)]
    pub fn bounds(&self) -> Option<[f32; 2]> {
        let bounds = [
            (Activation::None, [f32::NEG_INFINITY, f32::INFINITY]),
            (Activation::Relu, [0.0, f32::INFINITY]),
            (Activation::Relu6, [0.0, 6.0]),
        ];
        let (_, bounds) = bounds.into_iter().find(|&(activation, _)| activation == self.activation)?;
        (self.scale.is_null() && self.mix.is_none()).then_some(bounds)
    }

    /// The sink of a tile whose first pixel is in this row and column.
    ///
    /// # Safety
    ///
    /// The pixel is within the output.
    #[inline(always)]
    pub unsafe fn at<S: Simd>(&self, row: usize, column: usize) -> Self {
        let mut sink = self.clone();
        // SAFETY: the output, the residual and the emotion branch's map have the same shape.
        unsafe {
            let at = row * self.output_row + column * S::LANES;
            sink.output = sink.output.add(at);
            if let Some(mix) = &mut sink.mix {
                mix.emotion = mix.emotion.add(at);
            }
            if !sink.scale.is_null() {
                let [rows, columns, _] = self.scale_steps;
                sink.scale = sink.scale.add(row * rows + column * columns);
            }
            if !sink.residual.is_null() {
                sink.residual = sink.residual.add(row * self.residual_row + column * S::LANES);
            }
        }
        sink
    }
}

/// From a scale's row to the next, a column to the next, a block to the next: where it is one pixel for a map of many, the
/// first two go nowhere. `row` is the step of rows as a view has them.
#[inline]
fn scale_steps(scale: &Value, output: &Value, row: usize) -> [usize; 3] {
    match scale.shape == output.shape {
        true => [row, scale.lanes, scale.block_stride()],
        false => [0, 0, scale.block_stride()],
    }
}

/// A node's slopes in a branch, from a block on; null where it has none.
///
/// # Safety
///
/// The block is one of the node's output.
#[inline(always)]
unsafe fn slopes<S: Simd>(node: &CpuNode, output: &Value, branch: usize, block: usize) -> *const f32 {
    match &node.weights.slopes {
        // SAFETY: a row of all padded channels for each branch.
        Some(slopes) => unsafe {
            slopes.as_slice().as_ptr().add((branch * output.blocks() + block) * S::LANES)
        },
        None => std::ptr::null(),
    }
}

/// Scale, residual, activation and AWS-Unit of a tile of `rows`, `columns` and `blocks`, and its store; `sums` are
/// [row][column][block][lane].
///
/// # Safety
///
/// The tile lies within the output.
#[inline(always)]
pub(super) unsafe fn finish_tile<S: Simd>(
    sink: &TileSink,
    sums: *const f32,
    [rows, columns, blocks]: [usize; 3],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for block in 0..blocks {
            let mix = match &sink.mix {
                Some(mix) => {
                    let first = mix.weights.add(block * S::LANES);
                    let a = [
                        S::load(first),
                        S::load(first.add(mix.pair)),
                        S::load(first.add(2 * mix.pair)),
                        S::load(first.add(3 * mix.pair)),
                    ];
                    Some((a, mix.emotion))
                }
                None => None,
            };
            let slope = match sink.slopes.is_null() {
                true => S::splat(0.0),
                false => S::load(sink.slopes.add(block * S::LANES)),
            };
            for row in 0..rows {
                for column in 0..columns {
                    let mut u = S::load(sums.add(((row * columns + column) * blocks + block) * S::LANES));
                    if !sink.scale.is_null() {
                        let [rows, columns, blocks] = sink.scale_steps;
                        u = S::mul(
                            u,
                            S::load(sink.scale.add(row * rows + column * columns + block * blocks)),
                        );
                    }
                    if !sink.residual.is_null() {
                        let at = row * sink.residual_row + column * S::LANES + block * sink.residual_block;
                        u = S::add(u, S::load(sink.residual.add(at)));
                    }
                    let mut y = activate::<S>(sink.activation, slope, u);
                    let at = row * sink.output_row + column * S::LANES + block * sink.output_block;
                    if let Some((a, emotion)) = mix {
                        let (u_emotion, u_au) = (S::load(emotion.add(at)), y);
                        S::store(emotion.add(at), S::mul_add(a[1], u_au, S::mul(a[0], u_emotion)));
                        y = S::mul_add(a[3], u_au, S::mul(a[2], u_emotion));
                    }
                    S::store(sink.output.add(at), y);
                }
            }
        }
    }
}

/// Where a task stores one block of channels of all `B` branches.
pub(super) struct BlockSink<const B: usize> {
    output: [*mut f32; B],
    output_row: usize,
    /// The factors, and the steps from row to row and column to column.
    scale: Option<([*const f32; B], [usize; 2])>,
    residual: Option<([*const f32; B], usize)>,
    activation: Activation,
    /// Of the block's channels; null where there are none.
    slopes: [*const f32; B],
    /// A[t][s] of the block's channels.
    mix: Option<[[*const f32; 2]; 2]>,
}

impl<const B: usize> BlockSink<B> {
    /// The sink of a node for a block of channels of an image.
    ///
    /// # Safety
    ///
    /// The node is one of the run's plan; image and block are within its output.
    #[inline(always)]
    pub unsafe fn new<S: Simd>(run: &Run, node: &CpuNode, image: usize, block: usize) -> Self {
        let output = &run.plan.values[node.output];
        // SAFETY: the block lies within the values' maps, whose shapes are the same, but for a scale of one pixel; the packed
        // AWS-Unit has four rows of all padded channels, the slopes one for each branch.
        unsafe {
            let at = |value: &Value| -> [*mut f32; B] {
                std::array::from_fn(|branch| {
                    run.pixels(value, image, branch).add(block * value.block_stride())
                })
            };
            let scale = node.scale.map(|id| {
                let value = &run.plan.values[id];
                let [row, column, _] = scale_steps(value, output, value.row_stride());
                (at(value).map(<*mut f32>::cast_const), [row, column])
            });
            let residual = node.residual.map(|id| {
                let value = &run.plan.values[id];
                (at(value).map(<*mut f32>::cast_const), value.row_stride())
            });
            let mix = node.weights.mix.as_ref().map(|mix| {
                let first = mix.as_slice().as_ptr().add(block * S::LANES);
                let row = output.blocks() * S::LANES;
                [[first, first.add(row)], [first.add(2 * row), first.add(3 * row)]]
            });
            BlockSink {
                output: at(output),
                output_row: output.row_stride(),
                scale,
                residual,
                activation: node.activation,
                slopes: std::array::from_fn(|branch| slopes::<S>(node, output, branch, block)),
                mix,
            }
        }
    }

    /// Finishes and stores z of all branches at a pixel.
    ///
    /// # Safety
    ///
    /// The pixel is within the output.
    #[inline(always)]
    pub unsafe fn put<S: Simd>(&self, y: usize, x: usize, z: [S::V; B]) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut u = z;
            for branch in 0..B {
                if let Some((scale, [row, column])) = self.scale {
                    u[branch] = S::mul(u[branch], S::load(scale[branch].add(y * row + x * column)));
                }
                if let Some((residual, row)) = self.residual {
                    u[branch] = S::add(u[branch], S::load(residual[branch].add(y * row + x * S::LANES)));
                }
                let slope = match self.slopes[branch].is_null() {
                    true => S::splat(0.0),
                    false => S::load(self.slopes[branch]),
                };
                u[branch] = activate::<S>(self.activation, slope, u[branch]);
            }
            if let (2, Some([emotion, au])) = (B, self.mix) {
                let [u_emotion, u_au] = [u[0], u[B - 1]];
                u[0] = S::mul_add(S::load(emotion[1]), u_au, S::mul(S::load(emotion[0]), u_emotion));
                u[B - 1] = S::mul_add(S::load(au[1]), u_au, S::mul(S::load(au[0]), u_emotion));
            }
            let at = y * self.output_row + x * S::LANES;
            for (output, u) in self.output.iter().zip(u) {
                S::store(output.add(at), u);
            }
        }
    }
}
