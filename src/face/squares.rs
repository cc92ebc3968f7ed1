//! Where the detector looks: the whole picture at once, then closer.
//!
//! The network sees a square, and of that a face down to [`LEAST_FACE`] of the side. The first square is the smallest
//! around the picture. Where a face of `min_face` pixels would be smaller in it, squares of half the side follow, then of a
//! quarter, down to one in which it is large enough; they overlap by the side of the largest face that the squares before
//! could miss, so that no face is cut by all of them.

use crate::image::resize::Square;

/// Of the side of a square, the smallest face that is found in it.
pub(super) const LEAST_FACE: f64 = 0.1;

/// Squares that are looked at for one picture, at most: the closest look is not taken where it would need more.
const MOST_SQUARES: usize = 256;

/// The squares for a picture, the largest first.
pub(super) fn squares(width: usize, height: usize, min_face: f64) -> Vec<Square> {
    let (width, height) = (width as f64, height as f64);
    let whole = width.max(height);
    let mut squares = vec![Square { x: (width - whole) / 2.0, y: (height - whole) / 2.0, side: whole }];
    let mut side = whole;
    while side * LEAST_FACE > min_face {
        let missed = side * LEAST_FACE;
        side /= 2.0;
        let (columns, rows) = (cuts(width, side, missed), cuts(height, side, missed));
        if squares.len() + columns.len() * rows.len() > MOST_SQUARES {
            break;
        }
        for &y in &rows {
            squares.extend(columns.iter().map(|&x| Square { x, y, side }));
        }
    }
    squares
}

/// Where intervals of a side begin that cover a length and overlap by so much; one centred interval where it is enough.
fn cuts(length: f64, side: f64, overlap: f64) -> Vec<f64> {
    if length <= side {
        return vec![(length - side) / 2.0];
    }
    let steps = ((length - side) / (side - overlap)).ceil();
    (0..=steps as usize).map(|i| (length - side) * i as f64 / steps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_face_lies_whole_in_a_square_in_which_it_is_large_enough() {
        for (width, height) in [(1, 1), (640, 480), (1920, 1080), (300, 5000), (4000, 3000)] {
            for min_face in [16.0, 40.0, 100.0] {
                let squares = squares(width, height, min_face);
                // Where there would be too many squares, the smallest faces are not looked for.
                let mut face = min_face.max(LEAST_FACE * squares[squares.len() - 1].side);
                while face < 0.9 * width.min(height) as f64 {
                    for step in 0..400 {
                        let part = |parts: usize| (step % parts) as f64 / (parts - 1) as f64;
                        let (x, y) = (
                            (width as f64 - face) * part(20),
                            (height as f64 - face) * (step / 20) as f64 / 19.0,
                        );
                        let whole = |s: &&Square| {
                            let inside =
                                |at: f64, from: f64| at >= from - 1e-6 && at + face <= from + s.side + 1e-6;
                            inside(x, s.x) && inside(y, s.y) && face >= LEAST_FACE * s.side - 1e-6
                        };
                        assert!(
                            squares.iter().any(|s| whole(&s)),
                            "{width}x{height}: a face of {face} at {x}, {y}"
                        );
                    }
                    face *= 1.3;
                }
            }
        }
        assert_eq!(squares(640, 480, 64.0).len(), 1);
        assert_eq!(squares(1920, 1080, 24.0).last().map(|square| square.side), Some(240.0));
        assert!(squares(1 << 20, 1 << 20, 1.0).len() <= MOST_SQUARES);
    }
}
