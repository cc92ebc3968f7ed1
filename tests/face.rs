//! What `awsnet::face` finds and cuts out, against LiteRT and Pillow. tools/face-detector/golden.py makes the numbers.
#![cfg(all(feature = "face", feature = "image"))]

use std::fs;
use std::path::{Path, PathBuf};

use awsnet::face::{Bounds, DEFAULT_CROP, Detector, DetectorOptions, Face, Points, cut, unknown_points};
use awsnet::image::{self, Frame, Limits, Picture, PixelFormat, Plane};
use awsnet::model::{FaceCrop, FacePoint, Input};
use awsnet::{ErrorKind, Model};
use safetensors::SafeTensors;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn group() -> Picture {
    image::open(root("examples/group.png"), &Limits::default()).unwrap()
}

fn golden() -> Vec<u8> {
    fs::read(root("tests/face/golden.safetensors")).unwrap()
}

fn floats(golden: &SafeTensors, name: &str) -> Vec<f32> {
    let tensor = golden.tensor(name).unwrap();
    tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn detect(frame: &Frame, options: DetectorOptions) -> Vec<Face> {
    Detector::new(&options).unwrap().session().unwrap().detect(frame).unwrap()
}

/// Score, box and points, as the golden rows have them.
fn row(face: &Face) -> [f32; 17] {
    let Bounds { x, y, width, height } = face.bounds;
    let Points { left_eye, right_eye, nose, mouth, left_ear, right_ear } = face.points.unwrap();
    let points = [left_eye, right_eye, nose, mouth, left_ear, right_ear].concat();
    let row = [&[face.score, x, y, width, height], &*points].concat();
    row.try_into().unwrap()
}

// ---------------------------------------------------------------- finding

#[test]
fn faces_are_those_that_the_original_network_finds() {
    let golden = golden();
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let (group, whole) = (group(), DetectorOptions::new().min_score(0.5));
    let rows: Vec<&[u8]> = group.pixels().chunks(3 * 480).map(|row| &row[..3 * 120]).collect();
    let tall = Picture::from_rgb(120, 300, rows.concat()).unwrap();
    let ground = Picture::from_rgb(300, 200, [96, 104, 112].repeat(300 * 200)).unwrap();
    for (name, picture, count) in [("group", &group, 9), ("tall", &tall, 2), ("ground", &ground, 0)] {
        let expected = floats(&golden, &format!("{name}.faces"));
        let found = detect(&picture.into(), whole.clone());
        assert_eq!((found.len(), expected.len()), (count, 17 * count), "{name}: {found:?}");
        for (face, expected) in found.iter().zip(expected.chunks_exact(17)) {
            for (i, (found, expected)) in row(face).iter().zip(expected).enumerate() {
                // A score, or pixels; the picture that the network sees is rounded to 8 bits by both.
                let tolerance = if i == 0 { 1e-3 } else { 0.05 };
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{name}, number {i}: {face:?}, not {expected}"
                );
            }
        }
    }
}

/// Every format's bytes of the same picture, with something between the rows.
fn in_format(format: PixelFormat, picture: &Picture, gap: usize) -> (Vec<u8>, usize) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixel = |x: usize, y: usize| {
        let at = 3 * (y * width + x);
        [0, 1, 2].map(|c| picture.pixels()[at + c])
    };
    let of_pixel = |[r, g, b]: [u8; 3]| match format {
        PixelFormat::Rgb => vec![r, g, b],
        PixelFormat::Bgr => vec![b, g, r],
        PixelFormat::Rgba => vec![r, g, b, 77],
        PixelFormat::Bgra => vec![b, g, r, 77],
        _ => vec![g],
    };
    let mut bytes = Vec::new();
    for y in 0..height {
        bytes.extend((0..width).flat_map(|x| of_pixel(pixel(x, y))));
        bytes.extend(vec![99; gap]);
    }
    let stride = bytes.len() / height;
    (bytes, stride)
}

#[test]
fn every_format_of_a_frame_is_the_same_picture() {
    let group = group();
    let (width, height) = (group.width() as usize, group.height() as usize);
    let faces = detect(&(&group).into(), DetectorOptions::new());
    for format in [PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Rgba, PixelFormat::Bgra] {
        for gap in [0, 5] {
            let (bytes, stride) = in_format(format, &group, gap);
            let frame =
                Frame::with_row_stride(format, &bytes[..bytes.len() - gap], width, height, stride).unwrap();
            assert_eq!(detect(&frame, DetectorOptions::new()), faces, "{format:?}, gap {gap}");
        }
    }
    // Grey, and video whose colour is grey: luma from 16 to 235 there.
    let grey: Vec<u8> = (0..group.pixels().len() / 3).flat_map(|i| [group.pixels()[3 * i + 1]; 3]).collect();
    let grey = Picture::from_rgb(group.width(), group.height(), grey).unwrap();
    let (bytes, _) = in_format(PixelFormat::Grey, &group, 0);
    let frame = Frame::new(PixelFormat::Grey, &bytes, width, height).unwrap();
    let faces = detect(&(&grey).into(), DetectorOptions::new());
    assert_eq!(detect(&frame, DetectorOptions::new()), faces);
    let video: Vec<u8> = bytes.iter().map(|&v| (16.0 + f32::from(v) * 219.0 / 255.0).round() as u8).collect();
    for format in [PixelFormat::Nv12, PixelFormat::I420] {
        let bytes = [&*video, &vec![128; width * height / 2]].concat();
        let found = detect(&Frame::new(format, &bytes, width, height).unwrap(), DetectorOptions::new());
        assert_eq!(found.len(), faces.len(), "{format:?}");
        for (found, face) in found.iter().zip(&faces) {
            assert!(found.bounds.overlap(&face.bounds) > 0.97, "{format:?}: {found:?}, not {face:?}");
        }
    }
}

#[test]
fn small_faces_of_a_large_picture_are_found_by_a_closer_look() {
    // The group in a corner of a picture of four times its width. The smallest face, of 35 pixels, is not sure enough for a
    // closer look.
    let (group, width, height) = (group(), 1920, 1200);
    let mut pixels = [96, 104, 112].repeat(width * height);
    for (to, from) in pixels.chunks_mut(3 * width).skip(700).zip(group.pixels().chunks(3 * 480)) {
        to[3 * 1100..3 * (1100 + 480)].copy_from_slice(from);
    }
    let frame = Frame::new(PixelFormat::Rgb, &pixels, width, height).unwrap();
    let far = detect(&frame, DetectorOptions::new());
    let close = detect(&frame, DetectorOptions::new().min_face(24.0));
    assert!(far.len() < 8, "{} faces were found without it", far.len());
    assert_eq!(close.len(), 8, "{close:?}");
    let large = detect(&frame, DetectorOptions::new().min_face(70.0));
    assert!(!large.is_empty() && large.iter().all(|face| face.bounds.width >= 52.5), "{large:?}");
}

#[test]
fn a_strange_picture_has_no_face_and_no_fault() {
    let noise: Vec<u8> = (0u32..3 * 5000 * 7).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (width, height) in [(1, 1), (5000, 7), (7, 5000), (3, 2)] {
        for min_face in [0.0, 1.0, 24.0] {
            let frame = Frame::new(PixelFormat::Rgb, &noise, width, height).unwrap();
            let found = detect(&frame, DetectorOptions::new().min_face(min_face).min_score(0.9));
            assert_eq!(found, [], "{width}x{height}, {min_face}");
        }
    }
}

#[test]
fn a_wrong_option_or_model_is_an_error() {
    let options = DetectorOptions::new;
    for (options, place, found) in [
        (options().min_score(1.5), "min_score", "1.5"),
        (options().min_score(f32::NAN), "min_score", "NaN"),
        (options().min_face(-1.0), "min_face", "-1"),
        (options().min_face(f32::INFINITY), "min_face", "inf"),
    ] {
        let error = Detector::new(&options).unwrap_err();
        assert_eq!((error.kind(), error.place(), error.found()), (ErrorKind::Input, place, found));
    }
    let model = Model::load(root("models/demo.safetensors")).unwrap();
    let error = Detector::with_model(model, &options()).unwrap_err();
    assert_eq!((error.kind(), error.place()), (ErrorKind::Model, "face detector"), "{error}");
}

#[test]
fn a_wrong_frame_is_an_error() {
    let pixels = [0; 100];
    for (format, width, height, stride, found) in [
        (PixelFormat::Rgb, 0, 1, 3, "0x1"),
        (PixelFormat::Rgb, 1, 0, 3, "1x0"),
        (PixelFormat::Rgb, 10, 4, 30, "100 bytes"),
        (PixelFormat::Rgba, 10, 2, 39, "39"),
        (PixelFormat::Grey, 10, 10, 11, "100 bytes"),
        (PixelFormat::Nv12, 10, 7, 10, "100 bytes"),
        (PixelFormat::Nv12, 9, 7, 9, "100 bytes"), // 63 of luma and 4 rows of 10
        (PixelFormat::Nv12, 9, 4, 8, "8"),
        (PixelFormat::I420, 10, 7, 10, "100 bytes"),
        (PixelFormat::Grey, 1, usize::MAX, 1, "1x18446744073709551615"),
        (PixelFormat::Grey, 1 << 24, 1 << 24, usize::MAX, "100 bytes"),
    ] {
        let error = Frame::with_row_stride(format, &pixels, width, height, stride).unwrap_err();
        assert_eq!(
            (error.kind(), error.place(), error.found()),
            (ErrorKind::Input, "frame", found),
            "{error}"
        );
    }
    for (format, width, height) in [
        (PixelFormat::Nv12, 10, 6),
        (PixelFormat::Nv12, 9, 6), // 54 of luma and 3 rows of 10
        (PixelFormat::I420, 10, 6),
        (PixelFormat::I420, 9, 6),
        (PixelFormat::Grey, 10, 10),
        (PixelFormat::Rgba, 5, 5),
    ] {
        Frame::new(format, &pixels, width, height).unwrap();
    }
}

#[test]
fn planes_that_do_not_fit_are_an_error() {
    let bytes = [0; 100];
    let plane = |len: usize, row_stride| Plane { bytes: &bytes[..len], row_stride };
    for (format, planes, place, found) in [
        (PixelFormat::Nv12, &[plane(63, 9)][..], "frame", "1"),
        (PixelFormat::Rgb, &[plane(100, 27); 3], "frame", "3"),
        (PixelFormat::Grey, &[plane(62, 9)], "frame: plane 0", "62 bytes"),
        (PixelFormat::Grey, &[plane(63, 8)], "frame: plane 0", "8"),
        (PixelFormat::Grey, &[plane(63, usize::MAX)], "frame: plane 0", "63 bytes"),
        (PixelFormat::Nv12, &[plane(63, 9), plane(39, 10)], "frame: plane 1", "39 bytes"),
        (PixelFormat::Nv12, &[plane(63, 9), plane(40, 9)], "frame: plane 1", "9"),
        (PixelFormat::I420, &[plane(63, 9), plane(20, 5), plane(19, 5)], "frame: plane 2", "19 bytes"),
    ] {
        let error = Frame::from_planes(format, planes, 9, 7).unwrap_err();
        assert_eq!((error.kind(), error.place(), error.found()), (ErrorKind::Input, place, found), "{error}");
    }
    Frame::from_planes(PixelFormat::Nv12, &[plane(63, 9), plane(40, 10)], 9, 7).unwrap();
    Frame::from_planes(PixelFormat::I420, &[plane(63, 9), plane(20, 5), plane(20, 5)], 9, 7).unwrap();
}

// ---------------------------------------------------------------- cutting

/// An input of a side, with the crop.
fn input(side: usize, crop: Option<FaceCrop>) -> Input {
    let mut input = Model::load(root("models/demo.safetensors")).unwrap().input().clone();
    (input.shape.height, input.shape.width, input.face) = (side, side, crop);
    input
}

#[test]
fn a_box_is_cut_out_as_pillow_does() {
    let golden = golden();
    let (_, metadata) = SafeTensors::read_metadata(&golden).unwrap();
    let cuts = metadata.metadata().as_ref().unwrap()["cuts"].clone();
    let cuts: serde_json::Value = serde_json::from_str(&cuts).unwrap();
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let group = group();
    for (index, of) in cuts.as_array().unwrap().iter().enumerate() {
        let [x, y, side] = [0, 1, 2].map(|i| of["square"][i].as_f64().unwrap() as f32);
        let face = Face::new(Bounds { x, y, width: side, height: side });
        let crop = FaceCrop::Box { scale: 1.0, shift: [0.0, 0.0] };
        let found =
            cut(&(&group).into(), &face, &input(of["size"].as_u64().unwrap() as usize, Some(crop))).unwrap();
        let expected = golden.tensor(&format!("cut{index}")).unwrap();
        let off = found.pixels().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max();
        // Pillow's box is of f32, ours of f64: a weight may differ in its last bits.
        assert!(off <= Some(1), "cut {index}: off by {off:?}");
    }
}

#[test]
fn the_square_is_as_the_model_says() {
    // One white pixel of a black frame, and where it is in what is cut out.
    let mut pixels = vec![0; 100 * 80];
    pixels[30 * 100 + 50] = 255;
    let frame = Frame::new(PixelFormat::Grey, &pixels, 100, 80).unwrap();
    let face = Face::new(Bounds { x: 40.0, y: 10.0, width: 10.0, height: 20.0 });
    for (crop, at) in [
        // The square of 20 around (45, 20) begins at (35, 10).
        (FaceCrop::Box { scale: 1.0, shift: [0.0, 0.0] }, None),
        (FaceCrop::Box { scale: 2.0, shift: [0.0, 0.0] }, Some((25, 30))),
        (FaceCrop::Box { scale: 2.0, shift: [0.25, -0.1] }, Some((20, 32))),
    ] {
        let FaceCrop::Box { scale, .. } = crop else { unreachable!() };
        let side = (20.0 * scale) as usize;
        let found = cut(&frame, &face, &input(side, Some(crop.clone()))).unwrap();
        let white = found.pixels().chunks(3).position(|pixel| pixel == [255; 3]);
        assert_eq!(white, at.map(|(x, y)| y * side + x), "{crop:?}");
    }
    let by_default = cut(&frame, &face, &input(24, None)).unwrap();
    let spelled_out = cut(&frame, &face, &input(24, Some(DEFAULT_CROP))).unwrap();
    assert!(by_default == spelled_out);
}

#[test]
fn points_are_carried_to_their_places() {
    // A turn by 90 degrees, twice as large: (x, y) of the frame goes to (2 * (60 - y), 2 * (x - 20)).
    let points =
        Points { left_eye: [30.0, 50.0], right_eye: [30.0, 30.0], nose: [40.0, 40.0], ..Points::default() };
    let mut face = Face::new(Bounds { x: 20.0, y: 30.0, width: 30.0, height: 30.0 });
    face.points = Some(points);
    let wanted = vec![
        (FacePoint::LeftEye, [20.0, 20.0]),
        (FacePoint::RightEye, [60.0, 20.0]),
        (FacePoint::Nose, [40.0, 40.0]),
        (FacePoint::MouthLeft, [1.0, 1.0]), // which the detector does not know
    ];
    let picture = group();
    let frame = Frame::from(&picture);
    let found = cut(&frame, &face, &input(80, Some(FaceCrop::Points(wanted.clone())))).unwrap();
    // The definition, which needs no antialiasing here: a place between four pixels.
    let at = |x: f32, y: f32, c: usize| {
        let (u, v) = (x - 0.5, y - 0.5);
        let sample = |x: f32, y: f32| f32::from(picture.pixels()[3 * (y as usize * 480 + x as usize) + c]);
        let (dx, dy) = (u - u.floor(), v - v.floor());
        let row = |y: f32| (1.0 - dx) * sample(u.floor(), y) + dx * sample(u.floor() + 1.0, y);
        (1.0 - dy) * row(v.floor()) + dy * row(v.floor() + 1.0)
    };
    for (i, &value) in found.pixels().iter().enumerate() {
        let (x, y, c) = ((i / 3 % 80) as f32 + 0.5, (i / 240) as f32 + 0.5, i % 3);
        let expected = at(20.0 + y / 2.0, 60.0 - x / 2.0, c);
        assert!((f32::from(value) - expected).abs() <= 0.51, "{x}, {y}: {value}, not {expected}");
    }
    // Without a turn it is the box, antialiased.
    let straight = vec![(FacePoint::LeftEye, [8.0, 8.0]), (FacePoint::RightEye, [24.0, 8.0])];
    let mut face = Face::new(Bounds { x: 100.0, y: 50.0, width: 128.0, height: 128.0 });
    let whole =
        cut(&frame, &face, &input(32, Some(FaceCrop::Box { scale: 1.0, shift: [0.0, 0.0] }))).unwrap();
    face.points = Some(Points { left_eye: [132.0, 82.0], right_eye: [196.0, 82.0], ..Points::default() });
    let by_points = cut(&frame, &face, &input(32, Some(FaceCrop::Points(straight)))).unwrap();
    let off = whole.pixels().iter().zip(by_points.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off <= Some(1), "off by {off:?}");
}

#[test]
fn points_that_the_detector_does_not_know_are_told() {
    use FacePoint::{LeftEye, MouthLeft, MouthRight, Nose, RightEye};
    let crop = |points: &[(FacePoint, [f32; 2])]| FaceCrop::Points(points.to_vec());
    let [a, b, c] = [[8.0, 8.0], [24.0, 8.0], [16.0, 20.0]];
    for (crop, unknown) in [
        (DEFAULT_CROP, &[][..]),
        (crop(&[(LeftEye, a), (RightEye, b)]), &[]),
        (crop(&[(LeftEye, a), (MouthRight, c), (Nose, b)]), &[MouthRight]),
        (crop(&[(Nose, c), (MouthLeft, a), (RightEye, b), (MouthRight, b)]), &[MouthLeft, MouthRight]),
    ] {
        assert_eq!(unknown_points(&crop).unwrap(), unknown, "{crop:?}");
    }
    for crop in [
        crop(&[(MouthLeft, a), (MouthRight, b)]),
        crop(&[(MouthLeft, a), (MouthRight, b), (Nose, c)]),
        crop(&[(LeftEye, a), (RightEye, a), (MouthRight, c)]),
    ] {
        let error = unknown_points(&crop).unwrap_err();
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, "face"), "{error}");
    }
}

#[test]
fn what_cannot_be_cut_out_is_an_error() {
    let picture = group();
    let frame = Frame::from(&picture);
    let bounds = |x, y, width, height| Face::new(Bounds { x, y, width, height });
    let mut same = bounds(0.0, 0.0, 9.0, 9.0);
    same.points = Some(Points { left_eye: [5.0, 5.0], right_eye: [5.0, 5.0], ..Points::default() });
    let mut outside = bounds(0.0, 0.0, 9.0, 9.0);
    outside.points =
        Some(Points { left_eye: [900.0, 900.0], right_eye: [920.0, 900.0], ..Points::default() });
    let eyes =
        || FaceCrop::Points(vec![(FacePoint::LeftEye, [8.0, 8.0]), (FacePoint::RightEye, [24.0, 8.0])]);
    for (face, crop, expected) in [
        (bounds(0.0, 0.0, 0.0, 9.0), None, "bounds of some area"),
        (bounds(0.0, 0.0, 9.0, -9.0), None, "bounds of some area"),
        (bounds(f32::NAN, 0.0, 9.0, 9.0), None, "bounds of some area"),
        (bounds(0.0, 0.0, f32::INFINITY, 9.0), None, "bounds of some area"),
        (
            bounds(481.0, 0.0, 9.0, 9.0),
            Some(FaceCrop::Box { scale: 1.0, shift: [0.0, 0.0] }),
            "meets the frame",
        ),
        (
            bounds(0.0, -10.0, 9.0, 9.0),
            Some(FaceCrop::Box { scale: 1.0, shift: [0.0, 0.0] }),
            "meets the frame",
        ),
        (bounds(0.0, 0.0, 9.0, 9.0), Some(eyes()), "points"),
        (same, Some(eyes()), "two points apart"),
        (outside, Some(eyes()), "in the frame"),
    ] {
        let error = cut(&frame, &face, &input(32, crop)).unwrap_err();
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, "face"), "{error}");
        assert!(error.expected().contains(expected), "{error}");
    }
}
