//! A direct convolution and the max pooling behind it in one node: the convolution's map, in most networks the largest
//! of all, is never stored.
//!
//! A task computes a band of pooled rows for a group of output channels, a few of them at a time. The rows of the
//! convolution that their windows meet, behind activation and AWS-Unit, lie in a strip that stays in the second cache;
//! the next windows keep those that they meet as well. Where windows overlap, neighbouring bands compute the rows
//! between them twice.

use super::conv2d_direct::{ConvKernel, View};
use super::value::Value;
use crate::op::Pool2d;
use crate::tensor::Shape;

/// Elements of a strip, at most: a fourth of a second cache. Beyond it the rows had better be a map.
const STRIP_LEN: usize = (512 << 10) / size_of::<f32>();

/// A band has at least so many of the convolution's rows for each one that its neighbour computes as well.
const ROWS_TO_SHARED: usize = 16;

/// Tasks for each thread, so that one that is held up does not keep the others waiting.
const TASKS_PER_THREAD: usize = 2;

/// Rows of the convolution that a thread keeps, [branch][block][row][column][channel in block]; strides in elements.
pub(crate) struct Strip {
    pub row: usize,
    pub block: usize,
    pub branch: usize,
    pub branches: usize,
}

impl Strip {
    pub fn len(&self) -> usize {
        self.branches * self.branch
    }
}

/// How a run is cut into tasks: bands of so many pooled rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bands {
    pub rows: usize,
    pub count: usize,
}

/// A direct convolution, epilogue included, and the max pooling of its map.
#[derive(Debug)]
pub(crate) struct ConvMaxPool {
    pub conv: ConvKernel,
    /// Of one branch of the convolution.
    pub map: Shape,
    /// Channels in a block.
    pub lanes: usize,
    pub pool: Pool2d,
}

impl ConvMaxPool {
    /// Whether a convolution that gives maps of this shape and a pooling are worth one node.
    pub fn suits(conv: &ConvKernel, map: Shape, lanes: usize, pool: Pool2d) -> bool {
        // Rows of both branches, and none that no window meets.
        let fits = conv.view == View::Rows && pool.kernel[0] >= pool.stride[0];
        let rows = strip_rows(conv, pool);
        let len = [2, conv.tiling.tile.blocks, rows, map.width, lanes];
        fits && len.into_iter().fold(1, usize::saturating_mul) <= STRIP_LEN
    }

    /// Pooled rows that a task computes at a time: the convolution's tiles have rows enough.
    pub fn rows_at_a_time(&self) -> usize {
        rows_at_a_time(&self.conv, self.pool)
    }

    /// The layout of a thread's memory.
    pub fn strip(&self) -> Strip {
        let row = self.map.width * self.lanes;
        let block = strip_rows(&self.conv, self.pool) * row;
        Strip { row, block, branch: self.conv.tiling.tile.blocks * block, branches: self.conv.branches.len() }
    }

    /// Cuts the rows of each image and group so that there is work for all threads.
    pub fn bands(&self, output: &Value, images: usize, threads: usize) -> Bands {
        let height = output.shape.height;
        let shared = self.pool.kernel[0] - self.pool.stride[0];
        let most = (self.map.height / (shared * ROWS_TO_SHARED).max(1)).clamp(1, height);
        let wanted = (TASKS_PER_THREAD * threads).div_ceil(images * self.conv.groups.len());
        let rows = height.div_ceil(wanted.clamp(1, most));
        Bands { rows, count: height.div_ceil(rows) }
    }
}

fn rows_at_a_time(conv: &ConvKernel, pool: Pool2d) -> usize {
    conv.tiling.tile.rows.div_ceil(pool.stride[0])
}

/// Rows that the windows of the rows computed at a time meet.
fn strip_rows(conv: &ConvKernel, pool: Pool2d) -> usize {
    (rows_at_a_time(conv, pool) - 1) * pool.stride[0] + pool.kernel[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::plan::conv2d_direct::{self, THREE_BY_THREE};
    use crate::cpu::plan::groups::ConvSpec;
    use crate::graph::target::Isa;
    use crate::op::Padding;
    use crate::tensor::DType;

    /// 64 channels of `size` rows and columns from an image, and pooled rows.
    fn joined(isa: Isa, size: usize, kernel: usize, stride: usize) -> (ConvMaxPool, Value) {
        let value = |channels: usize, lanes: usize, size: usize| Value {
            name: "map".into(),
            branches: 2,
            shape: Shape::new(channels, size, size),
            lanes,
            halo: Padding::uniform(1),
            within: None,
            offset: 0,
        };
        let spec = ConvSpec {
            conv: THREE_BY_THREE,
            input_channels: 3,
            branches: vec![(0, DType::F32), (1, DType::F32)],
        };
        let pool = Pool2d {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: Padding::default(),
            ceil_mode: false,
            count_include_pad: true,
        };
        let (image, map) = (value(3, 1, size), value(64, isa.lanes(), size));
        let conv = conv2d_direct::cut(isa, 1, &spec, &image, &map, [None; 2]);
        assert!(ConvMaxPool::suits(&conv, map.shape, map.lanes, pool), "{size} {kernel} {stride}");
        let pooled = value(64, isa.lanes(), (size - kernel) / stride + 1);
        (ConvMaxPool { conv, map: map.shape, lanes: isa.lanes(), pool }, pooled)
    }

    #[test]
    fn bands_cover_all_rows_and_compute_few_of_them_twice() {
        for &isa in Isa::ALL {
            for (size, kernel, stride) in
                [(3, 3, 2), (16, 2, 2), (56, 3, 2), (112, 3, 1), (112, 5, 5), (64, 3, 2)]
            {
                let (both, output) = joined(isa, size, kernel, stride);
                for (images, threads) in [(1, 1), (1, 2), (8, 2), (1, 64), (3, 7)] {
                    let place =
                        format!("{isa}, {size}, {kernel} /{stride}, {images} images, {threads} threads");
                    let Bands { rows, count } = both.bands(&output, images, threads);
                    let height = output.shape.height;
                    assert!(rows > 0 && rows * count >= height && rows * (count - 1) < height, "{place}");
                    assert!((count - 1) * (kernel - stride) * ROWS_TO_SHARED <= size, "{place}");
                }
            }
        }
    }

    #[test]
    fn a_strip_that_leaves_the_cache_is_not_worth_it() {
        let (both, _) = joined(Isa::Avx512, 112, 3, 2);
        let suits =
            |width: usize, pool| ConvMaxPool::suits(&both.conv, Shape { width, ..both.map }, 16, pool);
        assert!(suits(400, both.pool));
        assert!(!suits(4000, both.pool));
        assert!(!suits(usize::MAX, both.pool));
        let skips = Pool2d { kernel: [2, 2], stride: [3, 3], ..both.pool };
        assert!(!suits(112, skips), "rows that no window meets would be computed");
    }
}
