//! Whose face it is, from frame to frame: the one that the face overlaps most.

use awsnet::face::{Bounds, Face};

/// Boxes that overlap by less are not one face (intersection over union).
const LEAST_OVERLAP: f32 = 0.3;
/// Frames for which a face that is not found is remembered.
pub const MEMORY: u64 = 15;

/// The faces of a video so far.
#[derive(Default)]
pub struct Tracker {
    known: Vec<Known>,
    next_id: u64,
    frames: u64,
}

struct Known {
    id: u64,
    bounds: Bounds,
    seen: u64,
}

impl Tracker {
    /// A number for each face of the next frame; one that was there before keeps its number.
    pub fn ids(&mut self, faces: &[Face]) -> Vec<u64> {
        self.frames += 1;
        let now = self.frames;
        self.known.retain(|known| known.seen + MEMORY >= now);
        // The pairs that overlap most come first.
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (face, found) in faces.iter().enumerate() {
            for (known, before) in self.known.iter().enumerate() {
                let overlap = found.bounds.overlap(&before.bounds);
                if overlap >= LEAST_OVERLAP {
                    pairs.push((overlap, face, known));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut ids = vec![None; faces.len()];
        for (_, face, known) in pairs {
            if ids[face].is_none() && self.known[known].seen < now {
                ids[face] = Some(self.known[known].id);
                self.known[known].seen = now;
                self.known[known].bounds = faces[face].bounds;
            }
        }
        let mut new = |bounds: Bounds| {
            self.next_id += 1;
            self.known.push(Known { id: self.next_id - 1, bounds, seen: now });
            self.next_id - 1
        };
        ids.into_iter().zip(faces).map(|(id, face)| id.unwrap_or_else(|| new(face.bounds))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_keeps_its_number_while_it_moves_and_through_a_gap() {
        let at = |x: f32| Face::new(Bounds { x, y: 0.0, width: 10.0, height: 10.0 });
        let mut tracker = Tracker::default();
        let frames: [(&[f32], &[u64]); 6] = [
            (&[0.0, 100.0], &[0, 1]),
            (&[97.0, 3.0], &[1, 0]),          // both move, in another order
            (&[94.0], &[1]),                  // one is not found
            (&[5.0, 50.0, 92.0], &[0, 2, 1]), // and is there again, with another
            (&[], &[]),
            (&[53.0, 7.0], &[2, 0]),
        ];
        for (faces, ids) in frames {
            let faces: Vec<Face> = faces.iter().map(|&x| at(x)).collect();
            assert_eq!(tracker.ids(&faces), ids);
        }
        for _ in 0..=MEMORY {
            tracker.ids(&[]);
        }
        assert_eq!(tracker.ids(&[at(7.0)]), [3], "nobody is remembered for ever");
    }
}
