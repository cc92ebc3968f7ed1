//! One face of many boxes: MediaPipe's weighted non-maximum suppression.
//!
//! The box with the highest score takes all that overlap it by more than [`MOST_OVERLAP`] (intersection over union); the
//! face is their mean, weighted by score, and has the highest score. Then the next of those that are left. What is left may
//! still overlap the mean, which no box was held against; where it does by more, it is no other face.

use super::{Bounds, Face, Points};

/// Boxes that overlap by more are one face.
const MOST_OVERLAP: f32 = 0.3;

/// The faces, the surest first.
pub(super) fn suppress(mut boxes: Vec<Face>) -> Vec<Face> {
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score)); // stable: of equal ones the first stays first
    let mut faces: Vec<Face> = Vec::new();
    while let Some(&surest) = boxes.first() {
        let (same, others): (Vec<Face>, Vec<Face>) =
            boxes.into_iter().partition(|face| face.bounds.overlap(&surest.bounds) > MOST_OVERLAP);
        let mean = mean(surest, &same);
        if faces.iter().all(|face| face.bounds.overlap(&mean.bounds) <= MOST_OVERLAP) {
            faces.push(mean);
        }
        // Bounds of no area overlap nothing, not even themselves.
        boxes = if same.is_empty() { others[1..].to_vec() } else { others };
    }
    faces
}

/// The mean of boxes and points, weighted by score.
fn mean(surest: Face, same: &[Face]) -> Face {
    let total: f64 = same.iter().map(|face| f64::from(face.score)).sum();
    if total == 0.0 {
        return surest;
    }
    let of = |value: &dyn Fn(&Face) -> f32| {
        (same.iter().map(|face| f64::from(face.score) * f64::from(value(face))).sum::<f64>() / total) as f32
    };
    let point = |point: fn(&Points) -> [f32; 2]| {
        [0, 1].map(|axis| of(&|face| face.points.as_ref().map_or(0.0, |points| point(points)[axis])))
    };
    Face {
        bounds: Bounds {
            x: of(&|face| face.bounds.x),
            y: of(&|face| face.bounds.y),
            width: of(&|face| face.bounds.width),
            height: of(&|face| face.bounds.height),
        },
        score: surest.score,
        points: surest.points.map(|_| Points {
            left_eye: point(|points| points.left_eye),
            right_eye: point(|points| points.right_eye),
            nose: point(|points| points.nose),
            mouth: point(|points| points.mouth),
            left_ear: point(|points| points.left_ear),
            right_ear: point(|points| points.right_ear),
        }),
    }
}
