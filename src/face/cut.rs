//! A face as the network was trained to see it.

use super::{Face, Points};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::image::resize::{Square, resize_square};
use crate::image::{Frame, Picture};
use crate::model::{FaceCrop, FacePoint, Input};

/// How faces are cut out for a model whose file does not say: the square of 1.2 times the longer side of the bounds, which
/// holds a face from the hairline to the chin.
pub const DEFAULT_CROP: FaceCrop = FaceCrop::Box { scale: 1.2, shift: [0.0, -0.05] };

/// Bounds beyond it are no face's.
const MOST: f32 = (1 << 24) as f32;

/// Cuts a face out of a frame as the network's input wants it ([`Input::face`], else [`DEFAULT_CROP`]): an RGB picture of the
/// input's height and width.
///
/// What lies outside of the frame is black. Where the picture shrinks it is antialiased: a pixel is the mean of the frame's
/// pixels around its place, weighted by max(0, 1 - |dx| / s) * max(0, 1 - |dy| / s), s the frame's pixels a pixel, at least 1.
/// For [`FaceCrop::Box`] that is what Pillow's `resize(size, Image.BILINEAR, box)` gives of the frame on a black plane, but
/// for a rounding: Pillow has its box in f32, so that a value may differ by 1. [`FaceCrop::Points`] is the similarity transform (turn, scale and shift, no mirroring) that carries the points which
/// the face has to where the input wants them, with the least sum of squared distances (S. Umeyama, "Least-squares
/// estimation of transformation parameters between two point patterns", 1991).
///
/// # Errors
///
/// [`ErrorKind::Input`] where the face's bounds are not finite or have no area, the square does not meet the frame, or points are
/// asked for of which the face has fewer than two apart. [`ErrorKind::Memory`].
pub fn cut(frame: &Frame, face: &Face, input: &Input) -> Result<Picture> {
    let _environment = FloatEnvironment::enter();
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX); // the format holds a side to 32 bits
    let (width, height) = (side(input.shape.width), side(input.shape.height));
    match input.face.as_ref().unwrap_or(&DEFAULT_CROP) {
        FaceCrop::Box { scale, shift } => {
            let square = square(face, *scale, *shift)?;
            if square.x >= frame.width() as f64
                || square.y >= frame.height() as f64
                || square.x + square.side <= 0.0
                || square.y + square.side <= 0.0
            {
                let expected = format!("one that meets the frame, {}x{}", frame.width(), frame.height());
                return Err(wrong(expected, format!("{:?}", face.bounds)));
            }
            resize_square(frame, square, width, height)
        }
        FaceCrop::Points(wanted) => {
            let Some(points) = &face.points else {
                return Err(wrong("points, which the model's `face` asks for", "bounds alone"));
            };
            let pairs: Vec<_> =
                wanted.iter().filter_map(|&(point, to)| Some((at(points, point)?, to))).collect();
            let Some(transform) = Similarity::of(&pairs) else {
                let expected =
                    format!("two points apart of the {} that the model's `face` names", wanted.len());
                return Err(wrong(expected, format!("{points:?}")));
            };
            transform.picture(frame, width, height)
        }
    }
}

/// The points that a model cuts faces out by and [`Points`] has not, the corners of the mouth: [`cut`] does without them. For
/// whoever wants to know before there is a face.
///
/// # Errors
///
/// [`ErrorKind::Input`] where fewer than two points in two places are left: no face can be cut out.
pub fn unknown_points(crop: &FaceCrop) -> Result<Vec<FacePoint>> {
    let FaceCrop::Points(wanted) = crop else { return Ok(Vec::new()) };
    let known = Points::default();
    let (known, unknown): (Vec<_>, Vec<_>) =
        wanted.iter().partition(|(point, _)| at(&known, *point).is_some());
    if !known.iter().any(|(_, to)| *to != known[0].1) {
        let expected = "a model's `face` of two points apart that the detector knows: eyes and nose";
        let names: Vec<&str> = wanted.iter().map(|(point, _)| point.name()).collect();
        return Err(wrong(expected, names.join(", ")));
    }
    Ok(unknown.into_iter().map(|(point, _)| point).collect())
}

/// Pixels of a frame for a pixel of the input, at most.
const MOST_SCALE: f64 = 1024.0;

fn wrong(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::Input, "face", expected.into(), found.into())
}

/// The square around the bounds that [`FaceCrop::Box`] asks for.
fn square(face: &Face, scale: f32, shift: [f32; 2]) -> Result<Square> {
    let bounds = face.bounds;
    let sane = [bounds.x, bounds.y, bounds.width, bounds.height].iter().all(|v| v.abs() <= MOST);
    if !sane || bounds.width <= 0.0 || bounds.height <= 0.0 {
        let expected = format!("bounds of some area, within {MOST} pixels");
        return Err(wrong(expected, format!("{bounds:?}")));
    }
    let longer = f64::from(bounds.width.max(bounds.height));
    let side = longer * f64::from(scale);
    let from = |at: f32, size: f32, shift: f32| {
        f64::from(at) + f64::from(size) / 2.0 + f64::from(shift) * longer - side / 2.0
    };
    Ok(Square { x: from(bounds.x, bounds.width, shift[0]), y: from(bounds.y, bounds.height, shift[1]), side })
}

/// Where a point is; the detector knows the middle of a mouth, not its corners.
fn at(points: &Points, point: FacePoint) -> Option<[f32; 2]> {
    match point {
        FacePoint::LeftEye => Some(points.left_eye),
        FacePoint::RightEye => Some(points.right_eye),
        FacePoint::Nose => Some(points.nose),
        FacePoint::MouthLeft | FacePoint::MouthRight => None,
    }
}

/// A point in the frame, and its place in the input.
type Pair = ([f32; 2], [f32; 2]);

/// z = a * w + b over complex numbers: from a pixel of the input to a place in the frame.
#[derive(Clone, Copy, Debug)]
struct Similarity {
    a: [f64; 2],
    b: [f64; 2],
}

impl Similarity {
    /// The one that carries the input's places to the frame's as the inverse of the least-squares transform from the frame's
    /// to the input's; none where the points are one.
    fn of(pairs: &[Pair]) -> Option<Self> {
        let count = pairs.len() as f64;
        let wide = |[x, y]: [f32; 2]| [f64::from(x), f64::from(y)];
        let mean = |of: fn(&Pair) -> [f32; 2]| {
            [0, 1].map(|axis| pairs.iter().map(|pair| wide(of(pair))[axis]).sum::<f64>() / count)
        };
        let (from_mean, to_mean) = (mean(|pair| pair.0), mean(|pair| pair.1));
        // forward = sum of conj(from) * to / sum of |from|^2, both from their means
        let (mut product, mut square) = ([0.0; 2], 0.0);
        for (from, to) in pairs {
            let [u, v] = [0, 1].map(|axis| wide(*from)[axis] - from_mean[axis]);
            let [x, y] = [0, 1].map(|axis| wide(*to)[axis] - to_mean[axis]);
            product[0] += u * x + v * y;
            product[1] += u * y - v * x;
            square += u * u + v * v;
        }
        let norm = product[0] * product[0] + product[1] * product[1];
        // 1 / forward = square * conj(product) / |product|^2
        let a = [square * product[0] / norm, -square * product[1] / norm];
        let b = [
            from_mean[0] - (a[0] * to_mean[0] - a[1] * to_mean[1]),
            from_mean[1] - (a[0] * to_mean[1] + a[1] * to_mean[0]),
        ];
        // No points, one point, or points that are the same, give no number; a face has few pixels for one of the input.
        let sane = a.iter().all(|v| v.abs() <= MOST_SCALE)
            && b.iter().all(|v| v.abs() <= f64::from(MOST))
            && pairs.len() > 1;
        sane.then_some(Similarity { a, b })
    }

    /// The frame seen through it.
    fn picture(&self, frame: &Frame, width: u32, height: u32) -> Result<Picture> {
        let scale = self.a[0].hypot(self.a[1]);
        let reach = scale.max(1.0);
        // All rows that are read, once: a face is small in its frame, and what is far from it is not looked at.
        let corner = |x: u32, y: u32| self.place(f64::from(x), f64::from(y));
        let corners = [corner(0, 0), corner(width, 0), corner(0, height), corner(width, height)];
        let range = |axis: usize, len: usize| {
            let least = corners.iter().map(|c| c[axis]).fold(f64::INFINITY, f64::min) - reach;
            let most = corners.iter().map(|c| c[axis]).fold(f64::NEG_INFINITY, f64::max) + reach;
            let clamp = |v: f64| v.clamp(0.0, len as f64) as usize;
            clamp(least.floor())..clamp(most.ceil())
        };
        let (columns, rows) = (range(0, frame.width()), range(1, frame.height()));
        if columns.is_empty() || rows.is_empty() {
            let expected = format!("points that lie in the frame, {}x{}", frame.width(), frame.height());
            return Err(wrong(expected, "points outside"));
        }
        let row_len = 3 * columns.len();
        let mut pixels: Vec<u8> = crate::image::zeroed(row_len.checked_mul(rows.len()), "face")?;
        for (row, y) in pixels.chunks_exact_mut(row_len).zip(rows.clone()) {
            frame.write_row(y, columns.clone(), row);
        }
        let mut out: Vec<u8> = crate::image::zeroed(crate::image::rgb_bytes(width, height), "face")?;
        let at = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        for (to, (x, y)) in out.chunks_exact_mut(3).zip(at) {
            let [x, y] = self.place(f64::from(x) + 0.5, f64::from(y) + 0.5);
            let mut sums = [0.0; 3];
            let taps = |centre: f64| {
                let (first, end) =
                    ((centre - reach - 0.5).ceil() as i64, (centre + reach - 0.5).floor() as i64 + 1);
                (first..end).map(move |i| (i, 1.0 - (i as f64 + 0.5 - centre).abs() / reach))
            };
            // What lies outside counts, as black.
            let weights = |centre: f64| taps(centre).map(|(_, weight)| weight).sum::<f64>();
            let total = weights(x) * weights(y);
            let within = |taps: &(i64, f64), range: &std::ops::Range<usize>| {
                usize::try_from(taps.0).is_ok_and(|at| range.contains(&at))
            };
            for (row, weight_y) in taps(y).filter(|tap| within(tap, &rows)) {
                for (column, weight_x) in taps(x).filter(|tap| within(tap, &columns)) {
                    let weight = weight_y * weight_x;
                    let (Ok(row), Ok(column)) = (usize::try_from(row), usize::try_from(column)) else {
                        continue;
                    };
                    if rows.contains(&row) && columns.contains(&column) {
                        let from = (row - rows.start) * row_len + 3 * (column - columns.start);
                        for (sum, &value) in sums.iter_mut().zip(&pixels[from..from + 3]) {
                            *sum += weight * f64::from(value);
                        }
                    }
                }
            }
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = (sum / total + 0.5) as u8;
            }
        }
        Picture::from_rgb(width, height, out)
    }

    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        [self.a[0] * x - self.a[1] * y + self.b[0], self.a[0] * y + self.a[1] * x + self.b[1]]
    }
}
