//! Winograd's minimal filtering: a 3x3 convolution of stride 1 with fewer multiplications.
//!
//! F(m x m, 3x3) computes an output tile of m x m pixels from an input tile of n x n, n = m + 2. Sums over input
//! channels c; `*` multiplies element by element:
//!
//! ```text
//! Y = At [ sum over c of (G g_c Gt) * (Bt d_c B) ] A
//! ```
//!
//! These are n*n multiplications a channel instead of 9*m*m: 16 for 36 with m = 2, 36 for 144 with m = 4. The price
//! is the transforms of input and output, n*n weights for 9, and rounding errors that grow with m; see
//! [`verify`](crate::verify). The matrices are those of Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016, which follow from interpolation at the points 0, 1, -1, infinity, and for m = 4 also 2 and -2, with the factors
//! of G's rows moved to At.

use std::fmt;

use crate::op::{Conv2d, Padding};
use crate::tensor::Shape;

/// The output tile of F(m x m, 3x3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WinogradTile {
    /// F(2x2, 3x3): all factors are powers of two, so that sums of few bits stay exact.
    F2,
    /// F(4x4, 3x3).
    F4,
}

/// Rows and columns of the largest input tile.
pub(crate) const MOST_INPUT: usize = 6;

impl fmt::Display for WinogradTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F({0}x{0})", self.output())
    }
}

impl WinogradTile {
    /// Rows and columns of an output tile, m.
    pub const fn output(self) -> usize {
        match self {
            WinogradTile::F2 => 2,
            WinogradTile::F4 => 4,
        }
    }

    /// Rows and columns of an input tile, n.
    pub const fn input(self) -> usize {
        self.output() + 2
    }

    /// Bt, n rows of n.
    pub(crate) fn input_matrix(self) -> &'static [&'static [f64]] {
        match self {
            WinogradTile::F2 => &[
                &[1.0, 0.0, -1.0, 0.0],
                &[0.0, 1.0, 1.0, 0.0],
                &[0.0, -1.0, 1.0, 0.0],
                &[0.0, 1.0, 0.0, -1.0],
            ],
            WinogradTile::F4 => &[
                &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
                &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
                &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
                &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
                &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
                &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
            ],
        }
    }

    /// G, n rows of 3. Its rows are scaled so that they hold whole numbers, which At makes good.
    pub(crate) fn weight_matrix(self) -> &'static [&'static [f64]] {
        match self {
            WinogradTile::F2 => &[&[1.0, 0.0, 0.0], &[1.0, 1.0, 1.0], &[1.0, -1.0, 1.0], &[0.0, 0.0, 1.0]],
            WinogradTile::F4 => &[
                &[1.0, 0.0, 0.0],
                &[1.0, 1.0, 1.0],
                &[1.0, -1.0, 1.0],
                &[1.0, 2.0, 4.0],
                &[1.0, -2.0, 4.0],
                &[0.0, 0.0, 1.0],
            ],
        }
    }

    /// At, m rows of n.
    pub(crate) fn output_matrix(self) -> &'static [&'static [f64]] {
        const SIXTH: f64 = 1.0 / 6.0;
        match self {
            WinogradTile::F2 => &[&[1.0, 0.5, 0.5, 0.0], &[0.0, 0.5, -0.5, -1.0]],
            WinogradTile::F4 => &[
                &[0.25, -SIXTH, -SIXTH, SIXTH / 4.0, SIXTH / 4.0, 0.0],
                &[0.0, -SIXTH, SIXTH, SIXTH / 2.0, -SIXTH / 2.0, 0.0],
                &[0.0, -SIXTH, -SIXTH, SIXTH, SIXTH, 0.0],
                &[0.0, -SIXTH, SIXTH, 2.0 * SIXTH, -2.0 * SIXTH, 1.0],
            ],
        }
    }

    /// Rows and columns of tiles that cover a map.
    pub(crate) fn tiles(self, output: Shape) -> [usize; 2] {
        [output.height, output.width].map(|size| size.div_ceil(self.output()))
    }

    /// The zeros around a map that so many rows and columns of tiles read: `padding`, and what the last ones reach over.
    pub(crate) fn halo(self, padding: Padding, input: Shape, tiles: [usize; 2]) -> Padding {
        let [rows, columns] = tiles.map(|tiles| tiles * self.output() + 2);
        Padding {
            bottom: rows.saturating_sub(padding.top + input.height),
            right: columns.saturating_sub(padding.left + input.width),
            ..padding
        }
    }
}

/// Whether Winograd's algorithm computes such a convolution.
pub(crate) fn is_possible(conv: &Conv2d) -> bool {
    conv.kernel == [3, 3] && conv.stride == [1, 1] && conv.dilation == [1, 1] && conv.groups == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over rows and columns of the three matrices for one product of an input and a weight in one output:
    /// 1 where the convolution multiplies the two, else 0. In one dimension; two are its square.
    #[test]
    fn the_matrices_compute_a_convolution() {
        for tile in [WinogradTile::F2, WinogradTile::F4] {
            let (bt, g, at) = (tile.input_matrix(), tile.weight_matrix(), tile.output_matrix());
            for (y, row) in at.iter().enumerate() {
                let inputs_and_taps = (0..tile.input()).flat_map(|x| (0..3).map(move |tap| (x, tap)));
                for (x, tap) in inputs_and_taps {
                    let products = row.iter().zip(bt).zip(g).map(|((a, bt), g)| a * bt[x] * g[tap]);
                    let sum: f64 = products.sum();
                    let expected = if x == y + tap { 1.0 } else { 0.0 };
                    assert!((sum - expected).abs() < 1e-12, "{tile}: {y}, {x}, {tap}: {sum}");
                }
            }
        }
    }
}
