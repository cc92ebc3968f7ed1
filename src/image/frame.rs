//! A picture in somebody else's memory.

use std::ops::Range;

use super::{Picture, rgb_bytes, zeroed};
use crate::error::{Error, ErrorKind, Result};

/// How the pixels of a [`Frame`] lie in memory, a byte a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as OpenCV has them.
    Bgr,
    /// Red, green, blue, and a fourth value that is not read.
    Rgba,
    /// Blue, green, red, and a fourth value that is not read.
    Bgra,
    /// One value for all three.
    Grey,
    /// A plane of luma, then one of chroma with half the rows and columns, rounded up: Cb and Cr in turn. ITU-R BT.601,
    /// luma from 16 to 235, as cameras and decoders of video give it.
    Nv12,
    /// As `Nv12`, but Cb and Cr have a plane each, of half the row stride, rounded up.
    I420,
}

impl PixelFormat {
    /// Bytes of a pixel in the first plane.
    fn bytes(self) -> usize {
        match self {
            PixelFormat::Rgb | PixelFormat::Bgr => 3,
            PixelFormat::Rgba | PixelFormat::Bgra => 4,
            PixelFormat::Grey | PixelFormat::Nv12 | PixelFormat::I420 => 1,
        }
    }
}

/// A picture in its owner's memory, row by row from the top, of which nothing is copied. At least 1x1.
///
/// ```
/// use awsnet::image::{Frame, PixelFormat};
///
/// let camera = vec![0; 480 * 2048]; // rows of 2048 bytes, of which 640 * 3 are pixels
/// let frame = Frame::with_row_stride(PixelFormat::Bgr, &camera, 640, 480, 2048)?;
/// assert_eq!((frame.width(), frame.height()), (640, 480));
/// # Ok::<(), awsnet::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    format: PixelFormat,
    pixels: &'a [u8],
    width: usize,
    height: usize,
    row_stride: usize,
}

impl<'a> Frame<'a> {
    /// A frame with nothing between its rows and planes.
    ///
    /// # Errors
    ///
    /// As [`with_row_stride`](Self::with_row_stride).
    pub fn new(format: PixelFormat, pixels: &'a [u8], width: usize, height: usize) -> Result<Self> {
        Frame::with_row_stride(format, pixels, width, height, width.saturating_mul(format.bytes()))
    }

    /// A frame with so many bytes from a row to the next. The chroma of NV12 has the same row stride and begins behind
    /// `height` rows of luma. Bytes behind the last row are not read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Input`] where a side is 0 or more than 2^24, a row does not fit its stride, or there are fewer bytes
    /// than rows and planes take.
    pub fn with_row_stride(
        format: PixelFormat,
        pixels: &'a [u8],
        width: usize,
        height: usize,
        row_stride: usize,
    ) -> Result<Self> {
        let wrong =
            |expected: String, found: String| Err(Error::new(ErrorKind::Input, "frame", expected, found));
        if !(1..=MOST_SIDE).contains(&width) || !(1..=MOST_SIDE).contains(&height) {
            return wrong(format!("sides from 1 to {MOST_SIDE}"), format!("{width}x{height}"));
        }
        let row = width * format.bytes();
        // A row of chroma may be a byte longer than one of luma.
        let least = if format == PixelFormat::Nv12 { 2 * width.div_ceil(2) } else { row };
        if row_stride < row || (row_stride < least && height > 1) {
            return wrong(format!("a row stride of at least {least} bytes"), row_stride.to_string());
        }
        let frame = Frame { format, pixels, width, height, row_stride };
        match frame.len() {
            Some(len) if len <= pixels.len() => Ok(frame),
            len => {
                let len =
                    len.map_or("more than the address space".to_owned(), |len| format!("at least {len}"));
                let expected = format!("{len} bytes for {width}x{height} pixels of {format:?}");
                wrong(expected, format!("{} bytes", pixels.len()))
            }
        }
    }

    /// From the first byte to the last that is read.
    fn len(&self) -> Option<usize> {
        let (rows, chroma_rows) = (self.height, self.height.div_ceil(2));
        let luma = self.row_stride.checked_mul(rows)?;
        match self.format {
            PixelFormat::Nv12 => luma
                .checked_add(self.row_stride.checked_mul(chroma_rows - 1)?)?
                .checked_add(2 * self.width.div_ceil(2)),
            PixelFormat::I420 => {
                let stride = self.row_stride.div_ceil(2);
                luma.checked_add(stride.checked_mul(2 * chroma_rows - 1)?)?
                    .checked_add(self.width.div_ceil(2))
            }
            _ => self.row_stride.checked_mul(rows - 1)?.checked_add(self.width * self.format.bytes()),
        }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// A copy as RGB.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Memory`] where it does not fit in memory.
    pub fn to_picture(&self) -> Result<Picture> {
        let side = |pixels: usize| pixels as u32; // at most 2^24
        let (width, height) = (side(self.width), side(self.height));
        let mut pixels: Vec<u8> = zeroed(rgb_bytes(width, height), "picture")?;
        for (y, row) in pixels.chunks_exact_mut(3 * self.width).enumerate() {
            self.write_row(y, 0..self.width, row);
        }
        Picture::from_rgb(width, height, pixels)
    }

    /// Writes the columns of a row, three bytes (R, G, B) a pixel. Row and columns lie in the frame.
    pub(crate) fn write_row(&self, y: usize, columns: Range<usize>, out: &mut [u8]) {
        let first = y * self.row_stride + columns.start * self.format.bytes();
        let row = &self.pixels[first..first + columns.len() * self.format.bytes()];
        let out = out.chunks_exact_mut(3);
        match self.format {
            PixelFormat::Rgb => out.zip(row.chunks_exact(3)).for_each(|(to, from)| to.copy_from_slice(from)),
            PixelFormat::Rgba => {
                out.zip(row.chunks_exact(4)).for_each(|(to, from)| to.copy_from_slice(&from[..3]))
            }
            PixelFormat::Bgr => {
                out.zip(row.chunks_exact(3))
                    .for_each(|(to, from)| to.copy_from_slice(&[from[2], from[1], from[0]]));
            }
            PixelFormat::Bgra => {
                out.zip(row.chunks_exact(4))
                    .for_each(|(to, from)| to.copy_from_slice(&[from[2], from[1], from[0]]));
            }
            PixelFormat::Grey => out.zip(row).for_each(|(to, &from)| to.fill(from)),
            PixelFormat::Nv12 | PixelFormat::I420 => {
                for ((to, &luma), x) in out.zip(row).zip(columns) {
                    to.copy_from_slice(&rgb_of(luma, self.chroma(x / 2, y / 2)));
                }
            }
        }
    }

    /// Cb and Cr of a pixel of the chroma's.
    fn chroma(&self, x: usize, y: usize) -> [u8; 2] {
        let planes = &self.pixels[self.row_stride * self.height..];
        if self.format == PixelFormat::Nv12 {
            let at = y * self.row_stride + 2 * x;
            return [planes[at], planes[at + 1]];
        }
        let stride = self.row_stride.div_ceil(2);
        let at = y * stride + x;
        [planes[at], planes[at + stride * self.height.div_ceil(2)]]
    }
}

/// Sides beyond it are no picture's, and all of them are exact as f32.
const MOST_SIDE: usize = 1 << 24;

impl<'a> From<&'a Picture> for Frame<'a> {
    fn from(picture: &'a Picture) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        Frame { format: PixelFormat::Rgb, pixels: &picture.pixels, width, height, row_stride: 3 * width }
    }
}

/// Format and size only: a frame has millions of pixels.
impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:?}, {}x{})", self.format, self.width, self.height)
    }
}

/// ITU-R BT.601, from luma 16 to 235 and chroma 16 to 240: the standard's factors times 2^16, rounded.
fn rgb_of(luma: u8, [cb, cr]: [u8; 2]) -> [u8; 3] {
    let (y, cb, cr) = (76309 * (i32::from(luma) - 16), i32::from(cb) - 128, i32::from(cr) - 128);
    let byte = |value: i32| ((value + (1 << 15)) >> 16).clamp(0, 255) as u8;
    [byte(y + 104_597 * cr), byte(y - 25_675 * cb - 53_279 * cr), byte(y + 132_201 * cb)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_video_are_those_of_bt_601() {
        for (ycc, rgb) in [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([81, 90, 240], [254, 0, 0]),
            ([145, 54, 34], [0, 255, 1]),
            ([41, 240, 110], [0, 0, 255]),
        ] {
            assert_eq!(rgb_of(ycc[0], [ycc[1], ycc[2]]), rgb, "{ycc:?}");
        }
    }
}
