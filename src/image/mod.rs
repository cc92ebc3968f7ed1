//! From an image file to the pixels a network reads.
//!
//! ```text
//! file --open--> Picture --prepare--> Picture of the input's size --normalise--> [C, H, W] of f32
//!      decode,           face box,                                (value/255 - mean) / std
//!      turn upright      crop or bars, resize
//! ```
//!
//! A network sees what it was trained on only if both sides prepare images alike, so every step gives the
//! pixels that Pillow gives: decoding as `ImageOps.exif_transpose(image).convert("RGB")`, resizing as
//! `resize(size, Image.BILINEAR)`, luma as `convert("L")`. They agree to the bit, with three exceptions. JPEG
//! leaves rounding and the interpolation of colour to the decoder. 16-bit grey, which Pillow saturates, is
//! reduced to 8 bits like every other kind. And Pillow resizes very tall pictures, from version 13 on others
//! too, in y before x, which rounds some values otherwise.
//!
//! JPEG, PNG, WebP and BMP are read; a file's kind is told by its content. Callers with a decoder of their
//! own start from [`Picture::from_rgb`].
//!
//! ```
//! use awsnet::image::{self, FaceBox, Fit, Limits};
//! use awsnet::model::ChannelOrder;
//!
//! # fn main() -> awsnet::Result<()> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/rgb.png");
//! let picture = image::open(path, &Limits::default())?;
//! let face = FaceBox { x: 4, y: 2, width: 16, height: 12 };
//! let face = image::prepare(&picture, Some(face), Fit::Crop, 8, 8)?;
//! let mut input = vec![0.0; 3 * 8 * 8];
//! let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
//! image::normalise(&face, &mean, &std, ChannelOrder::Rgb, &mut input)?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "image")]
mod decode;
mod fit;
mod frame;
mod normalise;
pub(crate) mod resize;

#[cfg(feature = "image")]
pub use decode::{Limits, decode, open};
pub use fit::{FaceBox, Fit, prepare};
pub use frame::{Frame, PixelFormat, Plane};
pub use normalise::normalise;

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::pixels::ImagesU8;

/// An upright RGB picture, 8 bits a channel, at least 1x1.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>, // [height][width][3]
}

impl Picture {
    /// A picture from RGB pixels, row by row from the top, three bytes a pixel and nothing between the rows.
    ///
    /// ```
    /// let red = awsnet::image::Picture::from_rgb(2, 1, vec![255, 0, 0, 255, 0, 0])?;
    /// assert_eq!((red.width(), red.height()), (2, 1));
    /// assert!(awsnet::image::Picture::from_rgb(2, 2, vec![0; 6]).is_err());
    /// # Ok::<(), awsnet::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where a side is 0 or `pixels` does not hold exactly `width * height * 3` bytes.
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "picture",
                "at least 1x1 pixel",
                format!("{width}x{height}"),
            ));
        }
        if rgb_bytes(width, height) != Some(pixels.len()) {
            return Err(Error::new(
                ErrorKind::Input,
                "picture",
                format!("{width} * {height} * 3 bytes"),
                format!("{} bytes", pixels.len()),
            ));
        }
        Ok(Picture { width, height, pixels })
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row by row from the top, three bytes (R, G, B) a pixel.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The luma of each pixel, row by row from the top: what a network of one channel reads (see [`normalise`]).
    pub fn luma(&self) -> impl Iterator<Item = u8> + '_ {
        self.pixels.chunks_exact(3).map(normalise::luma)
    }

    /// The pixels, as in [`pixels`](Self::pixels), given away.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

/// The picture as the only image of a run.
impl<'a> From<&'a Picture> for ImagesU8<'a> {
    fn from(picture: &'a Picture) -> Self {
        ImagesU8::new(&picture.pixels, picture.width as usize, picture.height as usize, 3)
    }
}

/// The size only: a picture has millions of pixels.
impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

/// The bytes of an RGB picture; none where they cannot be counted.
pub(crate) fn rgb_bytes(width: u32, height: u32) -> Option<usize> {
    usize::try_from(u64::from(width) * u64::from(height)).ok()?.checked_mul(3)
}

/// `len` values of `T::default()`, or an error where there is no memory for them.
pub(crate) fn zeroed<T: Clone + Default>(len: Option<usize>, what: &str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    match len {
        Some(len) if values.try_reserve_exact(len).is_ok() => {
            values.resize(len, T::default());
            Ok(values)
        }
        _ => {
            let found = len.map_or("a size that overflows".to_owned(), |len| {
                format!("{} bytes to allocate", len as u128 * size_of::<T>() as u128)
            });
            Err(Error::new(ErrorKind::Memory, what, "a size that fits in memory", found))
        }
    }
}
