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

use super::{Picture, rgb_bytes, zeroed};
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

/// The region, resized. Neither `width` nor `height` is 0.
pub(super) fn resize(picture: &Picture, region: Region, width: u32, height: u32) -> Result<Picture> {
    let mut sums: Vec<i32> = zeroed(rgb_bytes(width, height), "resized picture")?;
    sums.fill(HALF);
    let columns = windows(region.width, width);
    let lines = windows(region.height, height);
    let mut row = vec![0; 3 * width as usize];
    let mut open = 0; // the first output row that waits for this input row or a later one
    for (y, input) in region.rows(picture).enumerate() {
        while lines[open].end() <= y {
            open += 1;
        }
        resize_row(input, &columns, &mut row);
        let waiting = lines.iter().zip(sums.chunks_exact_mut(row.len())).skip(open);
        for (line, sums) in waiting.take_while(|(line, _)| line.start <= y) {
            let weight = line.weights[y - line.start];
            for (sum, &value) in sums.iter_mut().zip(&row) {
                *sum += weight * i32::from(value);
            }
        }
    }
    Picture::from_rgb(width, height, sums.into_iter().map(rounded).collect())
}

fn resize_row(input: &[u8], columns: &[Window], output: &mut [u8]) {
    for (to, column) in output.chunks_exact_mut(3).zip(columns) {
        let mut sums = [HALF; 3];
        let from = input[3 * column.start..3 * column.end()].chunks_exact(3);
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
    weights: Vec<i32>, // at least one
}

impl Window {
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

/// The windows of all outputs along an axis. Starts and ends never fall; the last ends with the input.
fn windows(inputs: u32, outputs: u32) -> Vec<Window> {
    let scale = f64::from(inputs) / f64::from(outputs);
    let reach = scale.max(1.0); // beyond this distance from the centre, weights are 0
    let window = |output: u32| {
        let centre = (f64::from(output) + 0.5) * scale;
        let start = (centre - reach + 0.5) as usize; // `as` makes 0 of a negative
        let end = ((centre + reach + 0.5) as usize).min(inputs as usize);
        let weight = |input: usize| {
            let distance = (input as f64 - centre + 0.5) * (1.0 / reach);
            (1.0 - distance.abs()).max(0.0)
        };
        let total: f64 = (start..end).map(weight).sum();
        let fixed = |input| (weight(input) / total * f64::from(1 << FRACTION_BITS) + 0.5) as i32;
        Window { start, weights: (start..end).map(fixed).collect() }
    };
    (0..outputs).map(window).collect()
}
