//! Bilinear resize with antialiasing: to the bit what Pillow's `resize(size, Image.BILINEAR)` computes where it
//! resizes in x before y, its order up to version 12 for all but very tall pictures.
//!
//! An output value is a weighted mean of the inputs in a window around its centre, in x and then in y. With
//! s = max(1, input size / output size), input i weighs max(0, 1 - |i + 0.5 - centre| / s): neighbours are
//! interpolated where a picture grows, and averaged over a wider window where it shrinks. Weights are
//! fixed-point numbers that sum to 1 up to rounding; the values between x and y are rounded to 8 bits.
//!
//! Input rows are read once, from the top. Each is resized in x and added to the sums of the output rows whose
//! windows hold it, so that beside the output's sums only one row is kept, however large the input is.

use std::ops::Range;

use super::{Frame, Picture, rgb_bytes, zeroed};
use crate::error::Result;

/// The fraction bits of a weight. Rounding can at most double a weight, so a sum is at most
/// 255 * 2 * 2^22 + 2^21, less than 2^31.
const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// A rectangle of a picture's pixels that is not empty and lies in the picture.
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Region {
    /// The region's rows, three bytes a pixel.
    pub fn rows<'a>(&self, picture: &'a Picture) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let stride = 3 * picture.width as usize;
        let columns = 3 * self.x as usize..3 * (self.x as usize + self.width as usize);
        picture
            .pixels
            .chunks_exact(stride)
            .skip(self.y as usize)
            .take(self.height as usize)
            .map(move |row| &row[columns.clone()])
    }
}

/// A square in pixels of a picture, which may cross its borders. The side is above 0; all three are finite and below 2^26.
#[cfg_attr(not(feature = "face"), allow(dead_code, reason = "faces are cut out by it"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Square {
    pub x: f64,
    pub y: f64,
    pub side: f64,
}

/// The region, resized as if there were nothing else. Neither `width` nor `height` is 0.
pub(super) fn resize(picture: &Picture, region: Region, width: u32, height: u32) -> Result<Picture> {
    let axis = |first: u32, inputs: u32, outputs: u32| Axis {
        first: first as usize,
        from: 0.0,
        span: inputs.into(),
        inputs: inputs as usize,
        outputs,
        beyond: Beyond::Nothing,
    };
    let (columns, lines) = (axis(region.x, region.width, width), axis(region.y, region.height, height));
    resize_along(&Frame::from(picture), &columns, &lines)
}

/// The square at the given size, as if the frame lay on a black plane: what Pillow's `resize(size, Image.BILINEAR, box)`
/// gives for the picture extended by black. Neither `width` nor `height` is 0.
#[cfg_attr(not(feature = "face"), allow(dead_code, reason = "faces are cut out by it"))]
pub(crate) fn resize_square(frame: &Frame, square: Square, width: u32, height: u32) -> Result<Picture> {
    let axis = |from: f64, inputs: usize, outputs: u32| Axis {
        first: 0,
        from,
        span: square.side,
        inputs,
        outputs,
        beyond: Beyond::Black,
    };
    resize_along(frame, &axis(square.x, frame.width(), width), &axis(square.y, frame.height(), height))
}

/// What lies beyond the inputs.
#[cfg_attr(not(feature = "face"), allow(dead_code, reason = "faces are cut out by it"))]
#[derive(Clone, Copy, PartialEq)]
enum Beyond {
    /// Windows end there.
    Nothing,
    /// Zeros, which count.
    Black,
}

/// How one axis is resized.
struct Axis {
    /// Of the frame's pixels, the first input.
    first: usize,
    /// What becomes the outputs, from the first input's left edge.
    from: f64,
    span: f64,
    inputs: usize,
    outputs: u32,
    beyond: Beyond,
}

fn resize_along(frame: &Frame, columns: &Axis, lines: &Axis) -> Result<Picture> {
    let (width, height) = (columns.outputs, lines.outputs);
    let mut sums: Vec<i32> = zeroed(rgb_bytes(width, height), "resized picture")?;
    sums.fill(HALF);
    let (column_windows, line_windows) = (windows(columns), windows(lines));
    let read = read(&column_windows);
    let mut input = vec![0; 3 * read.len()];
    let mut row = vec![0; 3 * width as usize];
    let mut open = 0; // the first output row that waits for this input row or a later one
    for y in self::read(&line_windows) {
        while line_windows[open].end() <= y {
            open += 1;
        }
        frame.write_row(lines.first + y, columns.first + read.start..columns.first + read.end, &mut input);
        resize_row(&input, read.start, &column_windows, &mut row);
        let waiting = line_windows.iter().zip(sums.chunks_exact_mut(row.len())).skip(open);
        for (line, sums) in waiting.take_while(|(line, _)| line.start <= y) {
            let weight = line.weights[y - line.start];
            for (sum, &value) in sums.iter_mut().zip(&row) {
                *sum += weight * i32::from(value);
            }
        }
    }
    Picture::from_rgb(width, height, sums.into_iter().map(rounded).collect())
}

/// `input` holds the inputs from `first` on.
fn resize_row(input: &[u8], first: usize, columns: &[Window], output: &mut [u8]) {
    for (to, column) in output.chunks_exact_mut(3).zip(columns) {
        let mut sums = [HALF; 3];
        let from = input.get(3 * column.start.saturating_sub(first)..).unwrap_or_default().chunks_exact(3);
        for (from, &weight) in from.zip(&column.weights) {
            for (sum, &value) in sums.iter_mut().zip(from) {
                *sum += weight * i32::from(value);
            }
        }
        to.copy_from_slice(&sums.map(rounded));
    }
}

/// The nearest whole value of a sum that began at [`HALF`].
fn rounded(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// The inputs that one output is made of, along one axis.
struct Window {
    start: usize,
    weights: Vec<i32>, // none where all inputs lie beyond
}

impl Window {
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

/// From the first input that a window has to the last.
fn read(windows: &[Window]) -> Range<usize> {
    let mut some = windows.iter().filter(|window| !window.weights.is_empty());
    let Some(first) = some.next() else { return 0..0 };
    first.start..some.next_back().unwrap_or(first).end()
}

/// The windows of all outputs along an axis. Starts and ends never fall.
fn windows(axis: &Axis) -> Vec<Window> {
    let scale = axis.span / f64::from(axis.outputs);
    let reach = scale.max(1.0); // beyond this distance from the centre, weights are 0
    let inputs = axis.inputs as f64;
    let window = |output: u32| {
        let centre = axis.from + (f64::from(output) + 0.5) * scale;
        let (start, end) = ((centre - reach + 0.5).floor(), (centre + reach + 0.5).floor());
        let (inner_start, inner_end) = (start.clamp(0.0, inputs), end.clamp(0.0, inputs));
        let weight = |input: f64| {
            let distance = (input - centre + 0.5) * (1.0 / reach);
            (1.0 - distance.abs()).max(0.0)
        };
        let between = |start: f64, end: f64| (0..(end - start) as usize).map(move |i| start + i as f64);
        let total: f64 = match axis.beyond {
            Beyond::Nothing => between(inner_start, inner_end).map(weight).sum(),
            Beyond::Black => between(start, end).map(weight).sum(),
        };
        let fixed = |input| (weight(input) / total * f64::from(1 << FRACTION_BITS) + 0.5) as i32;
        Window { start: inner_start as usize, weights: between(inner_start, inner_end).map(fixed).collect() }
    };
    (0..axis.outputs).map(window).collect()
}
