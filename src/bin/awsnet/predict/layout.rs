//! Where the panel of each face stands in a picture: beside the face, and on no other face where there is room.

use super::canvas::Rect;

/// Places panels of the sizes `(width, height)` beside their faces, in a picture of `width` by `height`.
///
/// A face's panel stands at its right, left, below or above it: at the first of these that lies in the picture and meets
/// neither a face nor a panel that has been placed, or else at the one that meets the least of them, moved into the picture.
pub fn place(faces: &[Rect], panels: &[(i64, i64)], width: i64, height: i64) -> Vec<Rect> {
    let mut placed: Vec<Rect> = Vec::with_capacity(faces.len());
    for (face, &(wide, high)) in faces.iter().zip(panels) {
        let (right, below) = (face.x + face.width, face.y + face.height);
        let corners = [
            (right, face.y),
            (face.x - wide, face.y),
            (face.x, below),
            (face.x, face.y - high),
            (right - wide, below),
        ];
        let inside = corners.map(|(x, y)| Rect {
            x: x.min(width - wide).max(0),
            y: y.min(height - high).max(0),
            width: wide,
            height: high,
        });
        let met = |panel: &Rect| faces.iter().chain(&placed).map(|other| panel.overlap(other)).sum::<i64>();
        // The first of equals.
        let best = inside.into_iter().min_by_key(met);
        placed.extend(best);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rect(x: i64, y: i64, width: i64, height: i64) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn a_panel_stands_where_there_is_room() {
        // A picture of 200x100, panels of 40x20.
        type Case<'a> = (&'a str, &'a [Rect], &'a [(i64, i64)]);
        let cases: [Case; 6] = [
            ("at the right", &[rect(10, 10, 50, 50)], &[(60, 10)]),
            ("at the left", &[rect(150, 10, 50, 50)], &[(110, 10)]),
            ("below", &[rect(20, 10, 170, 50)], &[(20, 60)]),
            ("above", &[rect(20, 50, 170, 50)], &[(20, 30)]),
            ("not on another face", &[rect(60, 10, 50, 50), rect(112, 10, 50, 50)], &[(20, 10), (112, 60)]),
            ("moved into the picture", &[rect(10, 90, 50, 50)], &[(60, 80)]),
        ];
        for (name, faces, expected) in cases {
            let panels = place(faces, &vec![(40, 20); faces.len()], 200, 100);
            let corners: Vec<_> = panels.iter().map(|panel| (panel.x, panel.y)).collect();
            assert_eq!(corners, expected, "{name}");
        }
    }

    #[test]
    fn a_face_as_large_as_the_picture_has_its_panel_on_it() {
        let panels = place(&[rect(-5, -5, 300, 300)], &[(40, 20)], 200, 100);
        assert!(panels[0].overlap(&rect(0, 0, 200, 100)) == 40 * 20, "{panels:?}");
    }
}
