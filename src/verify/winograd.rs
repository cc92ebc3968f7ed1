//! The rounding error of Winograd's minimal filtering, from its own formula.
//!
//! For Y = At [ sum over c of u_c * v_c ] A with u_c = G g_c Gt and v_c = Bt d_c B, every element of Y is a sum of
//! products of u's, d's and entries of the matrices, and each product passes through
//!
//! ```text
//! 1      rounding of u, which is computed in f64
//! 2 * 4  in the two halves of v, each of at most two multiplications and two additions an element
//! K      of the sum over K input channels
//! 2 * 5  in the two halves of the transform back, whose constants are rounded as well
//! ```
//!
//! so that, as for any sum of products, the error is at most that number of roundings times the sum of magnitudes
//!
//! ```text
//! S = |At| [ sum over c of |u_c| * (|Bt| |d_c| |B|) ] |A|
//! ```
//!
//! which is larger than that of the direct convolution, since what cancels in exact arithmetic is rounded before.

use crate::graph::winograd::WinogradTile;
use crate::model::Weights;
use crate::op::Conv2d;
use crate::reference::Map;
use crate::tensor::Shape;

/// The roundings besides those of the sum over channels, 19, as terms of a sum, each of which counts 1.5.
pub(super) const TRANSFORM_TERMS: usize = 13;

/// S of each output element, and the magnitude of its bias.
pub(super) fn magnitude(tile: WinogradTile, conv: &Conv2d, x: &Map, weights: &Weights, output: Shape) -> Map {
    let (m, n) = (tile.output(), tile.input());
    let (input_matrix, output_matrix) = (tile.input_matrix(), tile.output_matrix());
    let (in_channels, out_channels) = (x.shape.channels, output.channels);
    let transformed: Vec<Vec<f64>> =
        weights.folded().chunks_exact(9).map(|kernel| transform_weights(tile, kernel)).collect();
    let at = |channel: usize, y: usize, x_at: usize| -> f64 {
        let (y, x_at) = (y.checked_sub(conv.padding.top), x_at.checked_sub(conv.padding.left));
        match (y.filter(|&y| y < x.shape.height), x_at.filter(|&column| column < x.shape.width)) {
            (Some(y), Some(column)) => x.channel(channel)[y * x.shape.width + column].abs(),
            _ => 0.0,
        }
    };
    let mut s = Map::zeros(output);
    for top in (0..output.height).step_by(m) {
        for left in (0..output.width).step_by(m) {
            let mut sums = vec![vec![0.0; n * n]; out_channels];
            for c in 0..in_channels {
                let d: Vec<f64> = (0..n * n).map(|i| at(c, top + i / n, left + i % n)).collect();
                let v = both_sides(input_matrix, &d);
                for (o, sums) in sums.iter_mut().enumerate() {
                    for ((sum, u), v) in sums.iter_mut().zip(&transformed[o * in_channels + c]).zip(&v) {
                        *sum += u * v;
                    }
                }
            }
            for (o, sums) in sums.iter().enumerate() {
                let (y, bias) = (both_sides(output_matrix, sums), f64::from(weights.bias()[o]).abs());
                for row in 0..m.min(output.height - top) {
                    for column in 0..m.min(output.width - left) {
                        s.channel_mut(o)[(top + row) * output.width + left + column] =
                            y[row * m + column] + bias;
                    }
                }
            }
        }
    }
    s
}

/// |G g Gt|
fn transform_weights(tile: WinogradTile, g: &[f32]) -> Vec<f64> {
    let matrix = tile.weight_matrix();
    let element = |left: &[f64], right: &[f64]| {
        let terms = (0..9).map(|tap| left[tap / 3] * f64::from(g[tap]) * right[tap % 3]);
        terms.sum::<f64>().abs()
    };
    matrix.iter().flat_map(|left| matrix.iter().map(move |right| element(left, right))).collect()
}

/// |M| x |M|t for a square x.
fn both_sides(matrix: &[&[f64]], x: &[f64]) -> Vec<f64> {
    let n = matrix[0].len();
    let element = |left: &[f64], right: &[f64]| -> f64 {
        (0..n * n).map(|i| left[i / n].abs() * x[i] * right[i % n].abs()).sum()
    };
    matrix.iter().flat_map(|left| matrix.iter().map(move |right| element(left, right))).collect()
}
