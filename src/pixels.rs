//! The pixels of a run: floats as the network reads them, or bytes as a camera or a decoder gives them.

use crate::error::{Error, ErrorKind, Result};
use crate::model::Input;
use crate::tensor::Shape;

/// 8-bit images as a camera or a decoder gives them, [N, H, W, C], C as the model's input has it.
#[derive(Clone, Copy, Debug)]
pub struct ImagesU8<'a> {
    /// The bytes, from the first pixel of the first image to the last of the last.
    pub pixels: &'a [u8],
    /// The number of images, N.
    pub count: usize,
    /// Bytes from one row to the next, at least W * C.
    pub row_stride: usize,
    /// Bytes from one image to the next, at least H rows; of no meaning for one image.
    pub image_stride: usize,
}

impl<'a> ImagesU8<'a> {
    /// Images without gaps between rows and images, `width` * `channels` bytes a row, `height` rows.
    pub fn dense(pixels: &'a [u8], width: usize, height: usize, channels: usize) -> Self {
        let row_stride = width.saturating_mul(channels);
        let image_stride = row_stride.saturating_mul(height);
        ImagesU8 { pixels, count: pixels.len() / image_stride.max(1), row_stride, image_stride }
    }

    /// A row of an image, [W, C], of images that [`check_strides`] has passed.
    pub(crate) fn row(&self, image: usize, y: usize, shape: Shape) -> &'a [u8] {
        &self.pixels[image * self.image_stride + y * self.row_stride..][..shape.width * shape.channels]
    }
}

/// What each byte of a channel is normalised to.
pub(crate) type Normalised = [f32; 256];

/// The table of a channel: (value / 255 - mean) / std, 256 divisions in place of two a pixel.
pub(crate) fn table(mean: f32, std: f32) -> Normalised {
    std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std)
}

/// The table of each channel.
pub(crate) fn normalised(input: &Input) -> Vec<Normalised> {
    input.mean.iter().zip(&input.std).map(|(&mean, &std)| table(mean, std)).collect()
}

/// The images of a run on a backend that reads floats.
#[derive(Clone, Copy)]
pub(crate) enum Pixels<'a> {
    /// [N, C, H, W], normalised.
    Floats(&'a [f32]),
    /// Bytes, and the table of each channel.
    Bytes(ImagesU8<'a>, &'a [Normalised]),
}

impl Pixels<'_> {
    /// Writes a row of a channel of an image, normalised.
    pub fn write_row(&self, shape: Shape, image: usize, channel: usize, y: usize, to: &mut [f32]) {
        match self {
            Pixels::Floats(floats) => {
                let row = (image * shape.channels + channel) * shape.height + y;
                to.copy_from_slice(&floats[row * shape.width..][..shape.width]);
            }
            Pixels::Bytes(bytes, tables) => {
                let table = &tables[channel];
                let pixels = bytes.row(image, y, shape).chunks_exact(shape.channels);
                to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = table[usize::from(pixel[channel])]);
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

/// Errors unless rows and images lie apart, and within the pixels.
pub(crate) fn check_strides(images: &ImagesU8, shape: Shape) -> Result<()> {
    check_stride_sizes(images.row_stride, images.image_stride, images.count, shape)?;
    let end = || {
        let last_image = (images.count - 1).checked_mul(images.image_stride)?;
        let last_row = (shape.height - 1).checked_mul(images.row_stride)?;
        last_image.checked_add(last_row)?.checked_add(shape.width * shape.channels)
    };
    match end() {
        Some(end) if end <= images.pixels.len() => Ok(()),
        end => {
            let len = end.map_or("more than the address space".to_owned(), |end| format!("at least {end}"));
            let expected = format!("{len} bytes for {} images of {shape} at these strides", images.count);
            Err(Error::new(ErrorKind::Input, "images", expected, format!("{} bytes", images.pixels.len())))
        }
    }
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

    #[test]
    fn bytes_with_strides_are_the_floats_they_normalise_to() {
        let shape = Shape::new(3, 2, 3);
        let input = Input { shape, mean: vec![0.5, 0.25, 0.0], std: vec![0.2, 1.0, 3.0] };
        let [row_stride, image_stride] = [shape.width * shape.channels + 2, 40];
        let pixels: Vec<u8> = (0..70).map(|value| value * 3).collect();
        let bytes = ImagesU8 { pixels: &pixels, count: 2, row_stride, image_stride };
        check_strides(&bytes, shape).expect("images within the pixels");
        let mut floats = Vec::new();
        for (image, channel, y) in
            (0..2).flat_map(|n| (0..3).flat_map(move |c| (0..2).map(move |y| (n, c, y))))
        {
            for x in 0..shape.width {
                let byte = pixels[image * image_stride + y * row_stride + x * shape.channels + channel];
                floats.push((f32::from(byte) / 255.0 - input.mean[channel]) / input.std[channel]);
            }
        }
        let tables = normalised(&input);
        for image in 0..2 {
            let expected = Pixels::Floats(&floats).image(shape, image);
            assert_eq!(expected, floats[image * shape.len()..][..shape.len()]);
            assert_eq!(Pixels::Bytes(bytes, &tables).image(shape, image), expected);
        }
        assert!(check_strides(&ImagesU8 { count: 3, ..bytes }, shape).is_err());
    }
}
