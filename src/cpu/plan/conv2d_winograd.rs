//! Winograd's minimal filtering on the CPU: where it is worth its transforms, how its work is cut, its packed weights.
//! [`graph::winograd`](crate::graph::winograd) has the formula.

use super::groups::{BlockGroup, ConvSpec, block_groups};
use super::tile::{Tile, exists};
use super::value::Value;
use crate::error::Result;
use crate::graph::arena::ALIGNMENT;
use crate::graph::target::{Conv2dAlgorithm, Isa};
use crate::graph::winograd::{WinogradTile, is_possible};
use crate::memory::AlignedBuffer;
use crate::model::Weights;
use crate::op::{Conv2d, Padding};
use crate::tensor::Shape;

/// A convolution by Winograd's minimal filtering.
#[derive(Debug)]
pub(crate) struct WinogradKernel {
    pub tile: WinogradTile,
    /// Rows and columns of tiles in a map.
    pub tiles: [usize; 2],
    /// The most tiles that one task computes, of those of all images one behind the other.
    pub most_tiles: usize,
    /// Of the convolution.
    pub padding: Padding,
    /// Channels in a block.
    pub lanes: usize,
    /// Input channels, padded to whole blocks.
    pub channels: usize,
    pub groups: Vec<BlockGroup>,
}

/// What transforms cost: vector instructions of a processor that starts two of any kind a cycle, which is also what
/// multiply-adds cost. Stores beyond the first cache count for some.
struct Costs {
    /// Of an input tile.
    input: usize,
    /// Of an output tile, and of what is fused behind it.
    output: usize,
}

impl Costs {
    const fn of(tile: WinogradTile) -> Costs {
        match tile {
            WinogradTile::F2 => Costs { input: 120, output: 80 },
            WinogradTile::F4 => Costs { input: 400, output: 280 },
        }
    }
}

/// The vector multiply-adds that take a core as long as so many bytes of weights take to come from memory.
const fn multiply_adds(bytes: usize) -> usize {
    bytes * 2 / 5
}

/// Which tile computes a convolution, `None` for the direct convolution.
///
/// `Auto` compares costs, in vector multiply-adds: what is computed, or the time that the weights take to come from
/// memory if that is longer, for each of them. Many images read the weights once.
pub(crate) fn choose(
    algorithm: Conv2dAlgorithm,
    isa: Isa,
    batch: usize,
    conv: &Conv2d,
    input: Shape,
    output: Shape,
) -> Option<WinogradTile> {
    if !is_possible(conv) {
        return None;
    }
    match algorithm {
        Conv2dAlgorithm::Direct => None,
        Conv2dAlgorithm::Winograd(tile) => Some(tile),
        Conv2dAlgorithm::Auto => {
            let blocks = [input, output].map(|shape| shape.channels.div_ceil(isa.lanes()));
            let channels = blocks.map(|blocks| blocks * isa.lanes());
            // Of products for a pair of channels in an image, weights for such a pair, and transforms of an image.
            let cost = |products: usize, weights: usize, transforms: usize| {
                let products = products.saturating_mul(batch).saturating_mul(channels[0] * blocks[1]);
                let bytes = weights * channels[0] * channels[1] * size_of::<f32>();
                products.max(multiply_adds(bytes)).saturating_add(transforms.saturating_mul(batch))
            };
            let tile_cost = |tile: WinogradTile| {
                let (costs, elements) = (Costs::of(tile), tile.input() * tile.input());
                let tiles: usize = tile.tiles(output).iter().product();
                let transforms = blocks[0] * costs.input + blocks[1] * costs.output;
                cost(tiles.saturating_mul(elements), elements, tiles.saturating_mul(transforms))
            };
            // Along an axis, the outputs that each tap has an input for: the direct convolution leaves out the zeros.
            let along = |before: usize, input: usize, output: usize| {
                let end = |tap: usize| (before + input).saturating_sub(tap).min(output);
                let outputs = |tap| end(tap).saturating_sub(before.saturating_sub(tap));
                (0..3).map(outputs).fold(0, usize::saturating_add)
            };
            let rows = along(conv.padding.top, input.height, output.height);
            let columns = along(conv.padding.left, input.width, output.width);
            let direct = (cost(rows.saturating_mul(columns), 9, 0), None);
            let tiles = [WinogradTile::F2, WinogradTile::F4].map(|tile| (tile_cost(tile), Some(tile)));
            // The first of equals, so that the smaller error decides.
            [direct].into_iter().chain(tiles).min_by_key(|(cost, _)| *cost).and_then(|(_, tile)| tile)
        }
    }
}

/// Elements of transformed input that a task keeps, about: half of a second cache.
const TASK_INPUT_LEN: usize = (1 << 20) / size_of::<f32>();

/// Tiles that a task computes where there are as many, even if their input does not fit: with fewer, the weights, which
/// every task reads, would come from memory too often.
const TASK_TILES: usize = 84;

/// Blocks of output channels that are computed together.
pub(crate) const GROUP_BLOCKS: usize = 2;

/// The most tiles whose sums stay in registers together, for groups of so many blocks.
pub(crate) const fn product_columns(isa: Isa, blocks: usize) -> usize {
    let mut columns = 14;
    while !exists(isa, Tile { rows: 1, columns, blocks }) {
        columns -= 1;
    }
    columns
}

/// Tasks and groups of a convolution of at most `batch` images.
pub(super) fn cut(
    tile: WinogradTile,
    batch: usize,
    spec: &ConvSpec,
    input: &Value,
    output: &Value,
) -> WinogradKernel {
    let (tiles, elements) = (tile.tiles(output.shape), tile.input() * tile.input());
    let (input_len, all_tiles) = (elements * input.blocks() * input.lanes, tiles[0] * tiles[1] * batch);
    WinogradKernel {
        tile,
        tiles,
        most_tiles: (TASK_INPUT_LEN / input_len).max(TASK_TILES).min(all_tiles),
        padding: spec.conv.padding,
        lanes: input.lanes,
        channels: input.blocks() * input.lanes,
        groups: block_groups(spec, input, output, GROUP_BLOCKS, elements),
    }
}

/// Where a thread keeps what it has transformed, and the sums before they are transformed back; in elements.
///
/// ```text
/// input  [row and column of the transform][input block][tile of the task][channel in block]
/// sums   [row and column of the transform][tile of the task][output channel of the group]
/// ```
///
/// A cache line more behind every element of the transform: powers of two would all meet in a few sets of the cache.
pub(crate) struct Scratch {
    pub input_block: usize,
    pub input_element: usize,
    pub sums: usize,
    pub sums_element: usize,
    pub len: usize,
}

/// How the work of a run is cut into tasks: each computes so many tiles in so many groups.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cut {
    pub tiles: usize,
    pub groups: usize,
    /// Tasks along tiles and along groups.
    pub parts: [usize; 2],
}

impl WinogradKernel {
    /// Elements of the packed weights of a branch.
    pub fn weights_len(&self) -> usize {
        self.groups.iter().map(|group| group.weights_len(self.elements(), self.lanes, self.lanes)).sum()
    }

    /// Elements of the packed bias of a branch.
    pub fn bias_len(&self) -> usize {
        self.groups.iter().map(|group| group.blocks * self.lanes).sum()
    }

    /// The zeros around the input that its tiles reach over.
    pub fn reach(&self, input: Shape) -> Padding {
        self.tile.halo(self.padding, input, self.tiles)
    }

    /// Tiles of so many images.
    pub fn tiles_of(&self, images: usize) -> usize {
        images * self.tiles[0] * self.tiles[1]
    }

    /// Elements of the transform.
    pub fn elements(&self) -> usize {
        self.tile.input() * self.tile.input()
    }

    /// Cuts tiles and groups so that the threads are done soonest. Tasks of other tiles read the same weights again,
    /// tasks of other groups transform the same input.
    pub fn cut(&self, images: usize, threads: usize) -> Cut {
        let (all, costs) = (self.tiles_of(images), Costs::of(self.tile));
        let least_parts = all.div_ceil(self.most_tiles);
        let cost = |[tile_parts, group_parts]: [usize; 2]| {
            let (tiles, groups) = (all.div_ceil(tile_parts), self.groups.len().div_ceil(group_parts));
            let input = tiles * (self.channels / self.lanes) * costs.input;
            let weights = multiply_adds(self.lanes * size_of::<f32>());
            let products = self.elements() * self.channels * tiles.max(weights);
            let output = GROUP_BLOCKS * groups * (products + tiles * costs.output);
            (tile_parts * group_parts).div_ceil(threads) * (input + output)
        };
        let options = (1..=self.groups.len().min(threads)).flat_map(|group_parts| {
            let even = least_parts.next_multiple_of(threads.div_ceil(group_parts)).min(all);
            [[least_parts, group_parts], [even, group_parts]]
        });
        let [tile_parts, group_parts] = options.min_by_key(|&parts| cost(parts)).unwrap_or([least_parts, 1]);
        let (tiles, groups) = (all.div_ceil(tile_parts), self.groups.len().div_ceil(group_parts));
        Cut { tiles, groups, parts: [all.div_ceil(tiles), self.groups.len().div_ceil(groups)] }
    }

    /// The layout of a thread's memory.
    pub fn scratch(&self) -> Scratch {
        let elements = self.elements();
        let input_block = self.most_tiles * self.lanes;
        let input_element = self.most_tiles * self.channels + ALIGNMENT;
        let sums_element = self.most_tiles * GROUP_BLOCKS * self.lanes + ALIGNMENT;
        let sums = elements * input_element;
        Scratch { input_block, input_element, sums, sums_element, len: sums + elements * sums_element }
    }
}

/// The weights of a branch, transformed and packed: for each group [row and column of the transform][input channel]
/// [output channel].
pub(super) fn pack(
    place: &str,
    kernel: &WinogradKernel,
    output: &Value,
    weights: &Weights,
) -> Result<AlignedBuffer> {
    const MOST_LANES: usize = 32;
    let (matrix, n, lanes) = (kernel.tile.weight_matrix(), kernel.tile.input(), output.lanes);
    let channels = kernel.channels;
    let mut buffer = AlignedBuffer::zeros(kernel.weights_len(), place)?;
    let packed = buffer.as_mut_slice();
    for group in &kernel.groups {
        let width = group.blocks * lanes;
        let element_len = channels * width;
        let rows = group.channels(output);
        let (outputs, weight) = (rows.len(), weights.folded_rows(rows));
        let in_channels = weight.len() / (outputs * 9);
        for input in 0..in_channels {
            // One kernel a lane: g, then G g, then G g Gt.
            let mut g = [[[0.0; MOST_LANES]; 3]; 3];
            for lane in 0..outputs {
                let kernel = &weight[(lane * in_channels + input) * 9..][..9];
                for (tap, &w) in kernel.iter().enumerate() {
                    g[tap / 3][tap % 3][lane] = f64::from(w);
                }
            }
            for (row, left) in matrix.iter().enumerate() {
                let half = [0, 1, 2].map(|x: usize| dot(left, [&g[0][x], &g[1][x], &g[2][x]]));
                for (column, right) in matrix.iter().enumerate() {
                    let u = dot(right, [&half[0], &half[1], &half[2]]);
                    let at = group.weights + (row * n + column) * element_len + input * width;
                    for (to, u) in packed[at..][..outputs].iter_mut().zip(u) {
                        *to = u as f32;
                    }
                }
            }
        }
    }
    Ok(buffer)
}

/// a[0]*b[0] + a[1]*b[1] + a[2]*b[2] in each lane.
fn dot<const LANES: usize>(a: &[f64], b: [&[f64; LANES]; 3]) -> [f64; LANES] {
    std::array::from_fn(|lane| a[0] * b[0][lane] + a[1] * b[1][lane] + a[2] * b[2][lane])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::plan::conv2d_direct::THREE_BY_THREE;
    use crate::tensor::DType;

    /// For a convolution of 3x3 with padding 1.
    fn chosen(batch: usize, channels: usize, size: usize) -> Option<WinogradTile> {
        let shape = Shape::new(channels, size, size);
        choose(Conv2dAlgorithm::Auto, Isa::Avx512, batch, &THREE_BY_THREE, shape, shape)
    }

    #[test]
    fn large_maps_take_large_tiles_and_small_ones_read_few_weights() {
        assert_eq!(chosen(1, 64, 56), Some(WinogradTile::F4));
        assert_eq!(chosen(1, 128, 14), Some(WinogradTile::F2));
        assert_eq!(chosen(8, 128, 14), Some(WinogradTile::F4), "many images read the weights once");
        assert_eq!(chosen(1, 256, 7), None);
        assert_eq!(chosen(1, 512, 4), None, "the direct convolution reads fewest weights");
        assert_eq!(chosen(8, 512, 4), Some(WinogradTile::F2));
        assert_eq!(chosen(1, 16, 1), None);
    }

    #[test]
    fn every_cut_covers_all_tiles_and_groups() {
        let value = |channels: usize, size: usize| Value {
            name: "map".into(),
            branches: 2,
            shape: Shape::new(channels, size, size),
            lanes: 16,
            halo: Padding::uniform(1),
            within: None,
            offset: 0,
        };
        for (channels, size) in [(3, 1), (64, 56), (80, 28), (256, 14), (512, 7), (2048, 7)] {
            for batch in [1, 3, 8] {
                let map = value(channels, size);
                let spec = ConvSpec {
                    conv: THREE_BY_THREE,
                    input_channels: channels,
                    branches: vec![(0, DType::F32), (1, DType::F32)],
                };
                let kernel = super::cut(WinogradTile::F4, batch, &spec, &map, &map);
                for (images, threads) in [(1, 1), (batch, 2), (batch, 7), (1, 64)] {
                    let Cut { tiles, groups, parts } = kernel.cut(images, threads);
                    let place = format!("{channels}x{size}, {images} images, {threads} threads");
                    assert!(tiles <= kernel.most_tiles, "{place}");
                    assert_eq!(parts[0], kernel.tiles_of(images).div_ceil(tiles), "{place}");
                    assert_eq!(parts[1], kernel.groups.len().div_ceil(groups), "{place}");
                }
            }
        }
    }
}
