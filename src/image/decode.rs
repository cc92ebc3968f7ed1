//! From a file's bytes to an upright RGB [`Picture`].
//!
//! The decoders are those of the `image` crate. What stands here is what they leave to their caller: bounds
//! on what is read and allocated, telling a truncated file from a whole one, and the way to 8-bit RGB.

use std::io::{self, Cursor};
use std::path::Path;

use image::codecs::{bmp::BmpDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, RgbImage};

use super::{Picture, zeroed};
use crate::error::{Error, ErrorKind, Result, escaped};
use crate::file::read_regular;

/// What [`open`] and [`decode`] refuse to take on, before they allocate for it.
///
/// A decoder needs up to 20 bytes of memory a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest file.
    pub max_bytes: u64,
    /// The largest width x height.
    pub max_pixels: u64,
}

/// 64 MiB of file and 100 million pixels.
impl Default for Limits {
    fn default() -> Self {
        Limits { max_bytes: 64 << 20, max_pixels: 100_000_000 }
    }
}

/// Reads an image file and decodes it as [`decode`] does.
///
/// # Errors
///
/// [`ErrorKind::File`] where the path names no file that can be read: it is missing, or a directory, a pipe, a
/// device. Otherwise as [`decode`], with the file's name.
pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Picture> {
    let path = path.as_ref();
    let bytes = read_regular(path, limits.max_bytes, |bytes| too_long(bytes, limits))?;
    decode(&bytes, limits).map_err(|error| error.in_file(path))
}

/// Decodes the bytes of a JPEG, PNG, WebP or BMP file.
///
/// The picture is turned upright by the file's EXIF orientation. Grey becomes R = G = B; of 16 bits the upper
/// 8 remain; alpha is dropped, not blended with a background; CMYK is read as Adobe stores it, inverted; colour
/// profiles are ignored. Of an animation the first frame counts. In PNG, an EXIF chunk behind the pixels is
/// not seen.
///
/// # Errors
///
/// [`ErrorKind::Image`] where the bytes are no image, a truncated or a corrupt one, or exceed `limits`.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture> {
    if bytes.len() as u64 > limits.max_bytes {
        return Err(too_long(bytes.len() as u64, limits));
    }
    let max_alloc = limits.max_pixels.saturating_mul(8).saturating_add(limits.max_bytes);
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(max_alloc);
    let stream = Cursor::new(bytes);
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => {
            require_jpeg_end(bytes)?;
            pixels("JPEG", JpegDecoder::new(stream), bounds, limits)
        }
        Ok(ImageFormat::Png) => {
            pixels("PNG", PngDecoder::with_limits(stream, bounds.clone()), bounds, limits)
        }
        Ok(ImageFormat::WebP) => {
            require_webp_chunks(bytes)?;
            pixels("WebP", WebPDecoder::new(stream), bounds, limits)
        }
        Ok(ImageFormat::Bmp) => pixels("BMP", BmpDecoder::new(stream), bounds, limits),
        other => {
            let found = match other {
                _ if bytes.is_empty() => "an empty file".to_owned(),
                Ok(format) => format!("{format:?}"),
                Err(_) => format!("bytes that begin with {:02x?}", &bytes[..bytes.len().min(8)]),
            };
            Err(refused("a JPEG, PNG, WebP or BMP image", found))
        }
    }
}

/// Runs a decoder over an image whose size it has read, and brings the result to upright RGB.
fn pixels<D: ImageDecoder>(
    format: &str,
    decoder: Result<D, ImageError>,
    mut bounds: image::Limits,
    limits: &Limits,
) -> Result<Picture> {
    let failed = |error: ImageError| unreadable(format, &error);
    let mut decoder = decoder.map_err(failed)?;

    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(refused("an image of at least 1x1 pixel", format!("{width}x{height}")));
    }
    if pixels > limits.max_pixels {
        return Err(refused(
            format!("an image of at most {} pixels", limits.max_pixels),
            format!("{width}x{height}, {pixels} pixels"),
        ));
    }
    (bounds.max_image_width, bounds.max_image_height) = (Some(width), Some(height));
    decoder.set_limits(bounds).map_err(failed)?;

    let orientation = decoder.exif_metadata().map_err(failed)?.map_or(Orientation::NoTransforms, |exif| {
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif); // a prefix of JPEG's, at times in WebP
        Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms)
    });
    let colour = decoder.color_type();
    let mut raw = zeroed(usize::try_from(decoder.total_bytes()).ok(), "image")?;
    decoder.read_image(&mut raw).map_err(failed)?;

    let rgb = into_rgb(raw, colour)?;
    let rgb = RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel");
    let mut upright = DynamicImage::ImageRgb8(rgb);
    upright.apply_orientation(orientation);
    Picture::from_rgb(upright.width(), upright.height(), upright.into_bytes())
}

/// Three bytes a pixel from one to four channels of 8 bits or, in native byte order, 16.
fn into_rgb(raw: Vec<u8>, colour: ColorType) -> Result<Vec<u8>> {
    if colour == ColorType::Rgb8 {
        return Ok(raw);
    }
    let pixel_bytes = usize::from(colour.bytes_per_pixel());
    let sample_bytes = pixel_bytes / usize::from(colour.channel_count());
    let upper = if cfg!(target_endian = "little") { sample_bytes - 1 } else { 0 };
    let [r, g, b] = if colour.has_color() { [0, 1, 2] } else { [0; 3] }.map(|c| c * sample_bytes + upper);
    let mut rgb = zeroed((raw.len() / pixel_bytes).checked_mul(3), "image")?;
    for (to, from) in rgb.chunks_exact_mut(3).zip(raw.chunks_exact(pixel_bytes)) {
        to.copy_from_slice(&[from[r], from[g], from[b]]);
    }
    Ok(rgb)
}

/// Refuses a JPEG file that breaks off. The decoder would paint the missing part grey.
///
/// A JPEG file is a sequence of markers, 0xFF and a code. Most head a segment, whose length follows; between
/// the others stand the compressed pixels, where 0xFF 0x00 is a plain 0xFF.
fn require_jpeg_end(bytes: &[u8]) -> Result<()> {
    const STUFFED: u8 = 0x00;
    const TEMPORARY: u8 = 0x01;
    const RESTART_0: u8 = 0xd0;
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;

    let mut rest = bytes;
    while let Some(marker) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[marker + 1..];
        match *rest {
            [END_OF_IMAGE, ..] => return Ok(()),
            [STUFFED | TEMPORARY | RESTART_0..=START_OF_IMAGE | 0xff, ..] => {}
            [_, upper, lower, ..] => {
                let segment = usize::from(u16::from_be_bytes([upper, lower]));
                rest = rest.get(1 + segment..).unwrap_or(&[]);
            }
            _ => break,
        }
    }
    Err(refused("a whole JPEG image", "a truncated one, without an end marker"))
}

/// Refuses a WebP file with a chunk that is longer than the file. The decoder would allocate for it.
///
/// A WebP file is `RIFF`, a length, `WEBP`, and chunks: a name of 4 bytes, a length, that many bytes and one of
/// padding where the length is odd.
fn require_webp_chunks(bytes: &[u8]) -> Result<()> {
    let truncated = || refused("a whole WebP image", "a truncated one");
    let length_at = |at: usize| -> Option<usize> {
        let field = bytes.get(at + 4..at + 8)?.try_into().expect("4 bytes");
        usize::try_from(u32::from_le_bytes(field)).ok()
    };
    let end = length_at(0).and_then(|length| length.checked_add(8)).ok_or_else(truncated)?;
    if end > bytes.len() {
        return Err(truncated());
    }
    let mut at = 12;
    while at < end {
        let length = length_at(at).ok_or_else(truncated)?;
        if length > bytes.len() - (at + 8) {
            return Err(truncated());
        }
        at += 8 + length + length % 2;
    }
    Ok(())
}

fn unreadable(format: &str, error: &ImageError) -> Error {
    let what = match error {
        ImageError::Unsupported(_) => "one of a kind that is not read",
        ImageError::Limits(_) => "one that needs too much memory",
        ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => "a truncated one",
        _ => "a corrupt one",
    };
    refused(format!("a whole {format} image"), format!("{what} ({})", escaped(error.to_string().trim())))
}

fn too_long(bytes: u64, limits: &Limits) -> Error {
    refused(format!("an image file of at most {} bytes", limits.max_bytes), format!("{bytes} bytes"))
}

fn refused(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::Image, "", expected, found)
}
