//! What happens to both branches' values of a pixel before they are stored: residual, activation, AWS-Unit.

use crate::cpu::plan::conv2d_max_pool::Strip;
use crate::cpu::plan::node::CpuNode;
use crate::cpu::plan::value::Value;
use crate::cpu::run::Run;
use crate::cpu::simd::{self, Simd};
use crate::op::Activation;

/// An activation of each lane.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(activation: Activation, v: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        match activation {
            Activation::None => v,
            Activation::Relu => S::max(zero, v),
            Activation::LeakyRelu { negative_slope } => {
                // max(0, v) + slope * min(0, v): one of the two is zero.
                S::mul_add(S::splat(negative_slope), S::min(zero, v), S::max(zero, v))
            }
            Activation::Silu => S::div(v, S::add(S::splat(1.0), simd::exp::<S>(S::sub(zero, v)))),
        }
    }
}

/// Where the sums of a tile of one branch go: some rows, columns and blocks of the output.
#[derive(Clone)]
pub(in crate::cpu) struct TileSink {
    pub(super) output: *mut f32,
    pub(super) output_row: usize,
    pub(super) output_block: usize,
    /// Null where nothing is added.
    pub(super) residual: *const f32,
    pub(super) residual_row: usize,
    pub(super) residual_block: usize,
    pub(super) activation: Activation,
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
    /// `rows` are the strides of the output's and the residual's rows.
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
        rows: [usize; 2],
    ) -> Self {
        let output = &run.plan.values[node.output];
        let residual = node.residual.map(|id| &run.plan.values[id]);
        // SAFETY: the block lies within the values' maps, whose shapes are the same.
        unsafe {
            let at = |value: &Value, branch: usize| {
                run.pixels(value, image, branch).add(block * value.block_stride())
            };
            TileSink {
                output: at(output, branch),
                output_row: rows[0],
                output_block: output.block_stride(),
                residual: residual.map_or(std::ptr::null(), |value| at(value, branch).cast_const()),
                residual_row: rows[1],
                residual_block: residual.map_or(0, Value::block_stride),
                activation: node.activation,
                mix: TileMix::new::<S>(node, output, branch, block, at(output, 0)),
            }
        }
    }

    /// The sink of a node's tiles for a branch, at the first pixel of a block, where both branches' rows lie in strips;
    /// there is no residual.
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
            residual: std::ptr::null(),
            residual_row: 0,
            residual_block: 0,
            activation: node.activation,
            // SAFETY: the caller's promise.
            mix: unsafe { TileMix::new::<S>(node, output, branch, block, strips[0]) },
        }
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
            if !sink.residual.is_null() {
                sink.residual = sink.residual.add(row * self.residual_row + column * S::LANES);
            }
        }
        sink
    }
}

/// Residual, activation and AWS-Unit of a tile of `rows`, `columns` and `blocks`, and its store; `sums` are
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
            for row in 0..rows {
                for column in 0..columns {
                    let mut u = S::load(sums.add(((row * columns + column) * blocks + block) * S::LANES));
                    if !sink.residual.is_null() {
                        let at = row * sink.residual_row + column * S::LANES + block * sink.residual_block;
                        u = S::add(u, S::load(sink.residual.add(at)));
                    }
                    let mut y = activate::<S>(sink.activation, u);
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

/// Where a task stores one block of channels of both branches.
pub(super) struct PairSink {
    output: [*mut f32; 2],
    output_row: usize,
    residual: Option<([*const f32; 2], usize)>,
    activation: Activation,
    /// A[t][s] of the block's channels.
    mix: Option<[[*const f32; 2]; 2]>,
}

impl PairSink {
    /// The sink of a node for a block of channels of an image.
    ///
    /// # Safety
    ///
    /// The node is one of the run's plan; image and block are within its output.
    #[inline(always)]
    pub unsafe fn new<S: Simd>(run: &Run, node: &CpuNode, image: usize, block: usize) -> Self {
        let output = &run.plan.values[node.output];
        // SAFETY: the block lies within the values' maps, whose shapes are the same; the packed AWS-Unit has four
        // rows of all padded channels.
        unsafe {
            let at = |value: &Value, branch: usize| {
                run.pixels(value, image, branch).add(block * value.block_stride())
            };
            let residual = node.residual.map(|id| {
                let value = &run.plan.values[id];
                ([at(value, 0).cast_const(), at(value, 1).cast_const()], value.row_stride())
            });
            let mix = node.weights.mix.as_ref().map(|mix| {
                let first = mix.as_slice().as_ptr().add(block * S::LANES);
                let row = output.blocks() * S::LANES;
                [[first, first.add(row)], [first.add(2 * row), first.add(3 * row)]]
            });
            PairSink {
                output: [at(output, 0), at(output, 1)],
                output_row: output.row_stride(),
                residual,
                activation: node.activation,
                mix,
            }
        }
    }

    /// Finishes and stores z of both branches at a pixel.
    ///
    /// # Safety
    ///
    /// The pixel is within the output.
    #[inline(always)]
    pub unsafe fn put<S: Simd>(&self, y: usize, x: usize, z: [S::V; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            let [mut u_emotion, mut u_au] = z;
            if let Some((residual, row)) = self.residual {
                let at = y * row + x * S::LANES;
                u_emotion = S::add(u_emotion, S::load(residual[0].add(at)));
                u_au = S::add(u_au, S::load(residual[1].add(at)));
            }
            u_emotion = activate::<S>(self.activation, u_emotion);
            u_au = activate::<S>(self.activation, u_au);
            if let Some([emotion, au]) = self.mix {
                let y_emotion = S::mul_add(S::load(emotion[1]), u_au, S::mul(S::load(emotion[0]), u_emotion));
                u_au = S::mul_add(S::load(au[1]), u_au, S::mul(S::load(au[0]), u_emotion));
                u_emotion = y_emotion;
            }
            let at = y * self.output_row + x * S::LANES;
            S::store(self.output[0].add(at), u_emotion);
            S::store(self.output[1].add(at), u_au);
        }
    }
}
