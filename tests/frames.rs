//! Frames of video: their planes as FFmpeg lays them out, their colours as OpenCV and FFmpeg see them.
//! tools/frames/golden.py makes the numbers.
#![cfg(any(feature = "image", feature = "face"))]

use awsnet::image::{Frame, PixelFormat, Plane};
use safetensors::SafeTensors;
use serde_json::Value;

/// A frame of the golden file.
struct Case<'a> {
    name: String,
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: Vec<Plane<'a>>,
    golden: &'a SafeTensors<'a>,
}

impl<'a> Case<'a> {
    fn new(value: &Value, golden: &'a SafeTensors<'a>) -> Self {
        let number = |value: &Value| value.as_u64().expect("a number") as usize;
        let name = value["name"].as_str().expect("a name").to_owned();
        let strides = value["line_sizes"].as_array().expect("line sizes").iter().map(number);
        let plane = |(index, row_stride): (usize, usize)| Plane {
            bytes: golden.tensor(&format!("{name}.plane{index}")).expect("a plane").data(),
            row_stride,
        };
        let planes = strides.enumerate().map(plane).collect();
        let format = if name.starts_with("nv12") { PixelFormat::Nv12 } else { PixelFormat::I420 };
        let (width, height) = (number(&value["width"]), number(&value["height"]));
        Case { name, format, width, height, planes, golden }
    }

    /// What the golden file has of it under this name.
    fn bytes(&self, what: &str) -> Option<&'a [u8]> {
        self.golden.tensor(&format!("{}.{what}", self.name)).ok().map(|tensor| tensor.data())
    }

    fn dense(&self) -> &'a [u8] {
        self.bytes("dense").expect("the bytes of rawvideo")
    }

    /// The RGB pixels of the frame as planes.
    fn pixels(&self) -> Vec<u8> {
        let frame = Frame::from_planes(self.format, &self.planes, self.width, self.height);
        frame.expect("a frame").to_picture().expect("memory").into_pixels()
    }
}

fn each(check: impl Fn(&Case)) {
    let golden = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/frames/golden.safetensors"))
        .expect("the golden file");
    let (_, metadata) = SafeTensors::read_metadata(&golden).expect("a header");
    let cases = &metadata.metadata().as_ref().expect("cases")["cases"];
    let cases: Vec<Value> = serde_json::from_str(cases).expect("cases");
    let golden = SafeTensors::deserialize(&golden).expect("tensors");
    assert!(cases.len() > 20);
    cases.iter().for_each(|case| check(&Case::new(case, &golden)));
}

#[test]
fn nothing_between_rows_is_as_ffmpegs_rawvideo_has_it_of_odd_sizes_too() {
    each(|case| {
        let Case { name, format, width, height, .. } = case;
        let dense = case.dense();
        let frame = Frame::new(*format, dense, *width, *height).expect("a frame");
        assert!(frame.to_picture().expect("memory").pixels() == case.pixels(), "{name}");
        assert!(Frame::new(*format, &dense[1..], *width, *height).is_err(), "{name}: a byte less");
    });
}

#[test]
fn a_row_stride_is_that_of_all_planes_of_nv12_and_half_of_it_that_of_i420s_chroma() {
    each(|case| {
        let Case { name, format, width, height, planes, .. } = case;
        let stride = 64;
        let mut bytes = Vec::new();
        for (index, plane) in planes.iter().enumerate() {
            let rows = if index == 0 { *height } else { height.div_ceil(2) };
            let stride = if index == 0 || *format == PixelFormat::Nv12 { stride } else { stride / 2 };
            for row in 0..rows {
                let at = row * plane.row_stride;
                let len = plane.row_stride.min(stride).min(plane.bytes.len() - at);
                bytes.extend_from_slice(&plane.bytes[at..at + len]);
                bytes.resize(bytes.len() + stride - len, 3);
            }
        }
        let frame = Frame::with_row_stride(*format, &bytes, *width, *height, stride).expect("a frame");
        assert!(frame.to_picture().expect("memory").pixels() == case.pixels(), "{name}");
    });
}

#[test]
fn colours_are_those_that_opencv_and_ffmpeg_see() {
    let seen = std::cell::Cell::new([0; 2]);
    each(|case| {
        // OpenCV rounds as the formula does, swscale looks its products up.
        for (index, (by, tolerance)) in [("opencv", 1), ("ffmpeg", 3)].into_iter().enumerate() {
            let Some(expected) = case.bytes(by) else { continue };
            let pixels = case.pixels();
            assert_eq!(pixels.len(), expected.len());
            let off = pixels.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off <= Some(tolerance), "{}, {by}: off by {off:?}", case.name);
            let mut counts = seen.get();
            counts[index] += 1;
            seen.set(counts);
        }
    });
    assert_eq!(seen.get(), [2, 14], "frames by OpenCV and by FFmpeg");
}
