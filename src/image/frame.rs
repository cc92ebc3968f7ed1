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
    /// As `Nv12`, but Cb and Cr have a plane each.
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

    /// How many planes there are.
    fn planes(self) -> usize {
        match self {
            PixelFormat::Nv12 => 2,
            PixelFormat::I420 => 3,
            _ => 1,
        }
    }

    /// Bytes of a row of a plane, and its rows.
    fn plane_size(self, plane: usize, width: usize, height: usize) -> [usize; 2] {
        match (plane, self) {
            (0, _) => [width * self.bytes(), height],
            (_, PixelFormat::Nv12) => [2 * width.div_ceil(2), height.div_ceil(2)],
            _ => [width.div_ceil(2), height.div_ceil(2)],
        }
    }
}

/// Bytes of a plane of a [`Frame`], row by row from the top.
#[derive(Clone, Copy, Default)]
pub struct Plane<'a> {
    /// From the first byte of the first row to the last of the last, or more.
    pub bytes: &'a [u8],
    /// Bytes from a row to the next.
    pub row_stride: usize,
}

impl Plane<'_> {
    /// Errors unless rows of so many bytes lie apart and within the bytes.
    fn check(&self, place: &str, [row, rows]: [usize; 2]) -> Result<()> {
        if self.row_stride < row {
            let expected = format!("a row stride of at least {row} bytes");
            return Err(Error::new(ErrorKind::Input, place, expected, self.row_stride.to_string()));
        }
        let len = self.row_stride.checked_mul(rows - 1).and_then(|len| len.checked_add(row));
        if len.is_none_or(|len| len > self.bytes.len()) {
            let len = len.map_or("more than the address space".to_owned(), |len| format!("at least {len}"));
            let expected = format!("{len} bytes for {rows} rows of {row}, {} apart", self.row_stride);
            return Err(Error::new(ErrorKind::Input, place, expected, format!("{} bytes", self.bytes.len())));
        }
        Ok(())
    }

    /// The bytes from the beginning of a row on.
    fn row(&self, y: usize) -> &[u8] {
        &self.bytes[y * self.row_stride..]
    }
}

/// The size only: a plane has millions of bytes.
impl std::fmt::Debug for Plane<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plane({} bytes, {} a row)", self.bytes.len(), self.row_stride)
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
    /// Those of the format; others are empty.
    planes: [Plane<'a>; 3],
    width: usize,
    height: usize,
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

    /// A frame with so many bytes from a row to the next. The chroma of NV12 and I420 begins behind `height` rows of luma. A
    /// row of NV12's takes as many bytes as one of luma, of I420's half as many, rounded up; where that is too little for its
    /// pixels, which happens to NV12 of odd width with nothing between its rows, it takes what they need. Bytes
    /// behind the last row are not read. [`from_planes`](Self::from_planes) has planes that lie elsewhere.
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
        check_sides(width, height)?;
        let row = format.plane_size(0, width, height)[0];
        if row_stride < row {
            let expected = format!("a row stride of at least {row} bytes");
            return Err(Error::new(ErrorKind::Input, "frame", expected, row_stride.to_string()));
        }
        let mut planes = [Plane::default(); 3];
        let (mut begin, mut end) = (Some(0_usize), Some(0));
        for (index, plane) in planes.iter_mut().enumerate().take(format.planes()) {
            let [row, rows] = format.plane_size(index, width, height);
            let row_stride = match (index, format) {
                (0, _) => row_stride,
                (_, PixelFormat::I420) => row_stride.div_ceil(2),
                _ => row_stride.max(row),
            };
            plane.bytes = begin.and_then(|begin| pixels.get(begin..)).unwrap_or_default();
            plane.row_stride = row_stride;
            let bytes = |rows: usize| row_stride.checked_mul(rows);
            end = begin.and_then(|begin| bytes(rows - 1)?.checked_add(row)?.checked_add(begin));
            begin = begin.and_then(|begin| bytes(rows)?.checked_add(begin));
        }
        match end {
            Some(len) if len <= pixels.len() => Ok(Frame { format, planes, width, height }),
            len => {
                let len =
                    len.map_or("more than the address space".to_owned(), |len| format!("at least {len}"));
                let expected = format!("{len} bytes for {width}x{height} pixels of {format:?}");
                Err(Error::new(ErrorKind::Input, "frame", expected, format!("{} bytes", pixels.len())))
            }
        }
    }

    /// A frame whose planes lie anywhere, each with a row stride of its own, as decoders give it (`data` and `linesize` of
    /// FFmpeg's `AVFrame`): one of pixels; or luma and chroma of NV12; or Y, Cb and Cr of I420. A plane of chroma has half
    /// the rows and columns, rounded up.
    ///
    /// ```
    /// use awsnet::image::{Frame, PixelFormat, Plane};
    ///
    /// // 1920x1080 in memory of 1088 rows, as many decoders have it.
    /// let (luma, chroma) = (vec![0; 2048 * 1088], vec![128; 2048 * 544]);
    /// let planes = [Plane { bytes: &luma, row_stride: 2048 }, Plane { bytes: &chroma, row_stride: 2048 }];
    /// let frame = Frame::from_planes(PixelFormat::Nv12, &planes, 1920, 1080)?;
    /// # assert_eq!(frame.to_picture()?.pixels()[..3], [0; 3]);
    /// # Ok::<(), awsnet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Input`] where there is another number of planes than the format's, a side is 0 or more than 2^24, a row does
    /// not fit its stride, or a plane has fewer bytes than its rows take.
    pub fn from_planes(
        format: PixelFormat,
        planes: &[Plane<'a>],
        width: usize,
        height: usize,
    ) -> Result<Self> {
        check_sides(width, height)?;
        if planes.len() != format.planes() {
            let expected = format!("as many planes as {format:?} has, {}", format.planes());
            return Err(Error::new(ErrorKind::Input, "frame", expected, planes.len().to_string()));
        }
        let mut all = [Plane::default(); 3];
        for (index, (to, plane)) in all.iter_mut().zip(planes).enumerate() {
            plane.check(&format!("frame: plane {index}"), format.plane_size(index, width, height))?;
            *to = *plane;
        }
        Ok(Frame { format, planes: all, width, height })
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
        let first = columns.start * self.format.bytes();
        let row = &self.planes[0].row(y)[first..first + columns.len() * self.format.bytes()];
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
            PixelFormat::Nv12 => {
                let chroma = self.planes[1].row(y / 2);
                for ((to, &luma), x) in out.zip(row).zip(columns) {
                    let at = x & !1;
                    to.copy_from_slice(&rgb_of(luma, [chroma[at], chroma[at + 1]]));
                }
            }
            PixelFormat::I420 => {
                let [cb, cr] = [1, 2].map(|plane: usize| self.planes[plane].row(y / 2));
                for ((to, &luma), x) in out.zip(row).zip(columns) {
                    to.copy_from_slice(&rgb_of(luma, [cb[x / 2], cr[x / 2]]));
                }
            }
        }
    }
}

/// Sides beyond it are no picture's, and all of them are exact as f32.
const MOST_SIDE: usize = 1 << 24;

fn check_sides(width: usize, height: usize) -> Result<()> {
    if !(1..=MOST_SIDE).contains(&width) || !(1..=MOST_SIDE).contains(&height) {
        let expected = format!("sides from 1 to {MOST_SIDE}");
        return Err(Error::new(ErrorKind::Input, "frame", expected, format!("{width}x{height}")));
    }
    Ok(())
}

impl<'a> From<&'a Picture> for Frame<'a> {
    fn from(picture: &'a Picture) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let pixels = Plane { bytes: &picture.pixels, row_stride: 3 * width };
        let planes = [pixels, Plane::default(), Plane::default()];
        Frame { format: PixelFormat::Rgb, planes, width, height }
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
