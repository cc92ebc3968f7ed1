//! The images of a run: what callers hand over, and what backends read of it.
//!
//! Callers have floats as the network reads them, or bytes as a camera or a decoder gives them ([`Images`]). [`Pixels`] is
//! what is left for a backend that reads floats, once count, sizes and strides are known to be right.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{ChannelOrder, Input};
use crate::tensor::Shape;

/// The images of a run, as [`Session::run`](crate::Session::run) takes them: floats by reference, or [`ImagesU8`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Images<'a> {
    /// [N, C, H, W], normalised as [`Input`](crate::model::Input) says.
    F32(&'a [f32]),
    /// [N, H, W, C] of bytes, which the run normalises.
    U8(ImagesU8<'a>),
    /// As `F32`, in an array that need not be contiguous: [N, H, W, C] with its axes permuted, a part of a larger one.
    #[cfg(feature = "ndarray")]
    Array(ndarray::ArrayView4<'a, f32>),
    /// So many images that stand in [`Session::input_mut`](crate::Session::input_mut) already.
    Staged(usize),
}

impl<'a> From<&'a [f32]> for Images<'a> {
    fn from(images: &'a [f32]) -> Self {
        Images::F32(images)
    }
}

impl<'a> From<&'a Vec<f32>> for Images<'a> {
    fn from(images: &'a Vec<f32>) -> Self {
        Images::F32(images)
    }
}

impl<'a, const LEN: usize> From<&'a [f32; LEN]> for Images<'a> {
    fn from(images: &'a [f32; LEN]) -> Self {
        Images::F32(images)
    }
}

#[cfg(feature = "ndarray")]
impl<'a> From<ndarray::ArrayView4<'a, f32>> for Images<'a> {
    fn from(images: ndarray::ArrayView4<'a, f32>) -> Self {
        Images::Array(images)
    }
}

#[cfg(feature = "ndarray")]
impl<'a, S: ndarray::Data<Elem = f32>> From<&'a ndarray::ArrayBase<S, ndarray::Ix4>> for Images<'a> {
    fn from(images: &'a ndarray::ArrayBase<S, ndarray::Ix4>) -> Self {
        Images::Array(images.view())
    }
}

impl<'a> From<ImagesU8<'a>> for Images<'a> {
    fn from(images: ImagesU8<'a>) -> Self {
        Images::U8(images)
    }
}

/// 8-bit images as a camera or a decoder gives them, [N, H, W, C], of the size and with the channels that the network
/// reads.
///
/// ```
/// use awsnet::ImagesU8;
///
/// // One image of 112x112, cut out of a frame of 640x480 at (x, y) without a copy.
/// let (frame, x, y) = (vec![0; 640 * 480 * 3], 200, 100);
/// let face = ImagesU8::new(&frame[(y * 640 + x) * 3..], 112, 112, 3).row_stride(640 * 3).count(1);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ImagesU8<'a> {
    pixels: &'a [u8],
    shape: Shape,
    count: Option<usize>,
    row_stride: Option<usize>,
    image_stride: Option<usize>,
}

impl<'a> ImagesU8<'a> {
    /// Images of this size, from the first pixel of the first to the last of the last: as many as there are bytes for,
    /// and nothing between rows and images.
    pub fn new(pixels: &'a [u8], width: usize, height: usize, channels: usize) -> Self {
        let shape = Shape::new(channels, height, width);
        ImagesU8 { pixels, shape, count: None, row_stride: None, image_stride: None }
    }

    /// The number of images, N; bytes behind the last are not read.
    pub fn count(mut self, images: usize) -> Self {
        self.count = Some(images);
        self
    }

    /// Bytes from one row to the next, at least W * C.
    pub fn row_stride(mut self, bytes: usize) -> Self {
        self.row_stride = Some(bytes);
        self
    }

    /// Bytes from one image to the next, at least H rows; of no meaning for one image.
    pub fn image_stride(mut self, bytes: usize) -> Self {
        self.image_stride = Some(bytes);
        self
    }

    /// The images as rows of bytes.
    ///
    /// Errors unless they have the shape that the network reads, are one at least and no more than the plan's batch, and
    /// lie apart and within their bytes.
    pub(crate) fn rows(&self, shape: Shape, batch: usize) -> Result<Rows<'a>> {
        if self.shape != shape {
            let expected = format!("images of {shape}, which the network reads");
            return Err(Error::new(ErrorKind::Input, "images", expected, self.shape.to_string()));
        }
        let row_len = shape.width * shape.channels;
        let row_stride = self.row_stride.unwrap_or(row_len);
        let image_stride = self.image_stride.unwrap_or(row_stride.saturating_mul(shape.height));
        check_stride_sizes(row_stride, image_stride, self.count.unwrap_or(2), shape)?;
        let bytes = self.pixels.len();
        let image_len = (shape.height - 1).checked_mul(row_stride).and_then(|rows| rows.checked_add(row_len));
        let count = match (self.count, image_len) {
            (Some(count), _) => count,
            (None, Some(len)) if bytes >= len => {
                let (others, rest) = ((bytes - len) / image_stride, (bytes - len) % image_stride);
                if rest > 0 && rest != image_stride - len {
                    let expected = format!("whole images of {image_stride} bytes each, or their count");
                    return Err(Error::new(ErrorKind::Input, "images", expected, format!("{bytes} bytes")));
                }
                1 + others
            }
            (None, _) => 1, // refused below: there is not one
        };
        check_count(count, batch)?;
        let end = || (count - 1).checked_mul(image_stride)?.checked_add(image_len?);
        match end() {
            Some(end) if end <= bytes => Ok(Rows { pixels: self.pixels, count, row_stride, image_stride }),
            end => {
                let len =
                    end.map_or("more than the address space".to_owned(), |end| format!("at least {end}"));
                let expected = format!("{len} bytes for {count} images of {shape} at these strides");
                Err(Error::new(ErrorKind::Input, "images", expected, format!("{bytes} bytes")))
            }
        }
    }
}

/// 8-bit images that [`ImagesU8::rows`] has found right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pixels: &'a [u8],
    pub count: usize,
    row_stride: usize,
    image_stride: usize,
}

impl<'a> Rows<'a> {
    /// A row of an image, [W, C].
    pub fn row(&self, image: usize, y: usize, shape: Shape) -> &'a [u8] {
        &self.pixels[image * self.image_stride + y * self.row_stride..][..shape.width * shape.channels]
    }
}

/// How a channel of the network is made of 8-bit pixels.
pub(crate) struct Normalised {
    /// What each byte is normalised to.
    pub table: [f32; 256],
    /// The byte of a pixel that is the channel's.
    pub byte: usize,
}

/// What each byte of a channel is normalised to: (value / 255 - mean) / std, 256 divisions in place of two a pixel.
pub(crate) fn table(mean: f32, std: f32) -> [f32; 256] {
    std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std)
}

/// The byte of a pixel of red, green and blue that is a channel of a network's, or the only byte of its luma.
pub(crate) fn byte_of(input: &Input, channel: usize) -> usize {
    match input.order {
        ChannelOrder::Rgb => channel,
        ChannelOrder::Bgr => input.shape.channels - 1 - channel,
    }
}

/// How each channel is made.
pub(crate) fn normalised(input: &Input) -> Vec<Normalised> {
    let of_channel =
        |(channel, (&mean, &std))| Normalised { table: table(mean, std), byte: byte_of(input, channel) };
    input.mean.iter().zip(&input.std).enumerate().map(of_channel).collect()
}

/// The images of a run on a backend that reads floats.
#[derive(Clone, Copy)]
pub(crate) enum Pixels<'a> {
    /// [N, C, H, W], normalised.
    Floats(&'a [f32]),
    /// [N, C, H, W], normalised, wherever they lie.
    #[cfg(feature = "ndarray")]
    Array(ndarray::ArrayView4<'a, f32>),
    /// Bytes, and how each channel is made of them.
    Bytes(Rows<'a>, &'a [Normalised]),
}

impl Pixels<'_> {
    /// Writes a row of a channel of an image, normalised.
    pub fn write_row(&self, shape: Shape, image: usize, channel: usize, y: usize, to: &mut [f32]) {
        match self {
            Pixels::Floats(floats) => {
                let row = (image * shape.channels + channel) * shape.height + y;
                to.copy_from_slice(&floats[row * shape.width..][..shape.width]);
            }
            #[cfg(feature = "ndarray")]
            Pixels::Array(array) => {
                let row = array.slice(ndarray::s![image, channel, y, ..]);
                to.iter_mut().zip(row).for_each(|(to, &value)| *to = value);
            }
            Pixels::Bytes(bytes, tables) => {
                let Normalised { table, byte } = &tables[channel];
                let pixels = bytes.row(image, y, shape).chunks_exact(shape.channels);
                to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = table[usize::from(pixel[*byte])]);
            }
        }
    }

    /// An image, [C, H, W], normalised.
    pub fn image(&self, shape: Shape, image: usize) -> Vec<f32> {
        let mut floats = vec![0.0; shape.len()];
        for (row, to) in floats.chunks_exact_mut(shape.width).enumerate() {
            self.write_row(shape, image, row / shape.height, row % shape.height, to);
        }
        floats
    }
}

/// Errors unless there is an image, and no more than the plan's batch.
pub(crate) fn check_count(count: usize, batch: usize) -> Result<()> {
    if count == 0 || count > batch {
        let expected = format!("from 1 to {batch} images");
        return Err(Error::new(ErrorKind::Input, "images", expected, count.to_string()));
    }
    Ok(())
}

/// Errors unless rows and images lie apart.
pub(crate) fn check_stride_sizes(
    row_stride: usize,
    image_stride: usize,
    count: usize,
    shape: Shape,
) -> Result<()> {
    let row_len = shape.width * shape.channels;
    if row_stride < row_len {
        let expected = format!("at least {row_len} bytes");
        return Err(Error::new(ErrorKind::Input, "row stride", expected, row_stride.to_string()));
    }
    let image_len = (shape.height - 1).checked_mul(row_stride).and_then(|len| len.checked_add(row_len));
    if count > 1 && image_len.is_none_or(|len| image_stride < len) {
        let expected = format!("at least {} rows of {row_stride} bytes", shape.height);
        return Err(Error::new(ErrorKind::Input, "image stride", expected, image_stride.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three channels, two rows, three columns.
    const SHAPE: Shape = Shape { channels: 3, height: 2, width: 3 };

    #[test]
    fn bytes_with_strides_are_the_floats_they_normalise_to_in_the_networks_order() {
        for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
            check_order(order);
        }
    }

    fn check_order(order: ChannelOrder) {
        let shape = SHAPE;
        let (mean, std) = (vec![0.5, 0.25, 0.0], vec![0.2, 1.0, 3.0]);
        let input = Input { shape, mean, std, order, face: None };
        let [row_stride, image_stride] = [shape.width * shape.channels + 2, 40];
        let pixels: Vec<u8> = (0..70).map(|value| value * 3).collect();
        let images = ImagesU8::new(&pixels, 3, 2, 3).row_stride(row_stride).image_stride(image_stride);
        let rows = images.count(2).rows(shape, 2).expect("images within the pixels");
        let mut floats = Vec::new();
        for (image, channel, y) in
            (0..2).flat_map(|n| (0..3).flat_map(move |c| (0..2).map(move |y| (n, c, y))))
        {
            let byte = if order == ChannelOrder::Rgb { channel } else { 2 - channel };
            for x in 0..shape.width {
                let byte = pixels[image * image_stride + y * row_stride + x * shape.channels + byte];
                floats.push((f32::from(byte) / 255.0 - input.mean[channel]) / input.std[channel]);
            }
        }
        let tables = normalised(&input);
        for image in 0..2 {
            let expected = Pixels::Floats(&floats).image(shape, image);
            assert_eq!(expected, floats[image * shape.len()..][..shape.len()]);
            assert_eq!(Pixels::Bytes(rows, &tables).image(shape, image), expected);
        }
        assert!(images.count(3).rows(shape, 3).is_err());
    }

    /// The number of images, or what an error says.
    fn count(images: ImagesU8<'_>) -> std::result::Result<usize, String> {
        images.rows(SHAPE, 5).map(|rows| rows.count).map_err(|error| error.to_string())
    }

    #[test]
    fn images_that_give_no_count_are_as_many_as_their_bytes_hold() {
        let bytes = [0; 80];
        let of = |len: usize| ImagesU8::new(&bytes[..len], 3, 2, 3);
        assert_eq!(count(of(18)), Ok(1));
        assert_eq!(count(of(54)), Ok(3));
        // Two images of 20 bytes an image, with and without the gap behind the last.
        assert_eq!(count(of(38).image_stride(20)), Ok(2));
        assert_eq!(count(of(40).image_stride(20)), Ok(2));
        for (images, words) in [
            (of(0), "at least 18 bytes for 1 images"),
            (of(17), "at least 18 bytes for 1 images"),
            (of(20), "whole images of 18 bytes each, or their count, found 20 bytes"),
            (of(39).image_stride(20), "whole images of 20 bytes each"),
            (of(80).count(5), "at least 90 bytes for 5 images"),
            (of(80).count(6), "from 1 to 5 images, found 6"),
            (of(80).count(0), "from 1 to 5 images, found 0"),
        ] {
            let error = count(images).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn images_of_another_size_than_the_networks_are_refused() {
        let bytes = [0; 640];
        for (width, height, channels) in [(2, 3, 3), (3, 2, 1), (6, 2, 3), (0, 2, 3), (usize::MAX, 2, 3)] {
            let error = count(ImagesU8::new(&bytes, width, height, channels)).expect_err("a wrong size");
            assert!(error.contains("expected images of 3x2x3, which the network reads"), "{error}");
        }
    }
}
