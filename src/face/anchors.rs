//! What the detector's numbers mean: MediaPipe's anchors, and boxes relative to them.
//!
//! A map of n x n cells has A anchors a cell, all at the cell's centre. The network gives for each anchor a score, whose
//! sigmoid is the probability of a face, and 16 numbers in pixels of its input: x and y of the box's centre from the
//! anchor, its width and height, then x and y of six points from the anchor. Heads hold them as [A, n, n] and [A * 16, n, n].

use super::{Bounds, Face, Points};
use crate::image::resize::Square;

/// Numbers an anchor: box and six points.
pub(super) const NUMBERS: usize = 16;

/// One of the detector's two maps.
pub(super) struct Grid {
    /// The heads of its scores and of its boxes.
    pub heads: [&'static str; 2],
    /// Pixels of the input a cell, in x and y.
    pub stride: usize,
    /// Anchors a cell.
    pub anchors: usize,
}

pub(super) const GRIDS: [Grid; 2] = [
    Grid { heads: ["scores16", "boxes16"], stride: 16, anchors: 2 },
    Grid { heads: ["scores8", "boxes8"], stride: 32, anchors: 6 },
];

/// Beyond it a logit changes nothing, as in MediaPipe.
const MOST_LOGIT: f32 = 100.0;

/// Adds the faces whose score is at least `min_score`, in pixels of the picture that `square` was taken from.
pub(super) fn decode(
    grid: &Grid,
    [scores, boxes]: [&[f32]; 2],
    side: usize,
    square: Square,
    min_score: f32,
    faces: &mut Vec<Face>,
) {
    let cells = side / grid.stride;
    let scale = square.side / side as f64;
    for (index, &logit) in scores.iter().enumerate() {
        let score = 1.0 / (1.0 + (-logit.clamp(-MOST_LOGIT, MOST_LOGIT)).exp());
        if score.is_nan() || score < min_score {
            continue;
        }
        let (anchor, cell) = (index / (cells * cells), index % (cells * cells));
        let (row, column) = (cell / cells, cell % cells);
        let number = |i: usize| f64::from(boxes[(anchor * NUMBERS + i) * cells * cells + cell]);
        let centre = |cell: usize| (cell as f64 + 0.5) * grid.stride as f64;
        let point = |i: usize| {
            let (x, y) = (centre(column) + number(i), centre(row) + number(i + 1));
            [(square.x + x * scale) as f32, (square.y + y * scale) as f32]
        };
        let [x, y] = point(0);
        let [width, height] = [number(2), number(3)].map(|size| (size * scale) as f32);
        if !(width > 0.0 && height > 0.0) {
            continue;
        }
        let [left_eye, right_eye, nose, mouth, left_ear, right_ear] = [4, 6, 8, 10, 12, 14].map(point);
        faces.push(Face {
            bounds: Bounds { x: x - width / 2.0, y: y - height / 2.0, width, height },
            score,
            points: Some(Points { left_eye, right_eye, nose, mouth, left_ear, right_ear }),
        });
    }
}
