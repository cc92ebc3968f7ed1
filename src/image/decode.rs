//! From a file's bytes to an upright RGB [`Picture`].
//!
//! ```text
//! bytes --jpeg | png | webp | bmp--> Raw --rgb--> 3 channels --Orientation--> Picture
//! ```
//!
//! The decoders of JPEG, PNG and WebP are crates, that of BMP is our own. What stands here is what they leave to
//! their caller: the kind of a file, bounds on what is read and allocated, and the way to upright 8-bit RGB.

mod bmp;
mod jpeg;
mod orientation;
mod png;
mod webp;

use std::fmt::Display;
use std::path::Path;

use super::{Picture, zeroed};
use crate::error::{Error, ErrorKind, Result, escaped};
use crate::file::read_regular;
use crate::float_environment::FloatEnvironment;
use orientation::Orientation;

/// What [`open`] and [`decode`] refuse to take on, before they allocate for it: more than 64 MiB of file or 100 million
/// pixels, unless a setter says otherwise.
///
/// A decoder needs up to 20 bytes of memory a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    max_bytes: u64,
    max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new()
    }
}

impl Limits {
    /// 64 MiB of file and 100 million pixels.
    pub fn new() -> Self {
        Limits { max_bytes: 64 << 20, max_pixels: 100_000_000 }
    }

    /// The longest file.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The largest width x height.
    pub fn max_pixels(mut self, pixels: u64) -> Self {
        self.max_pixels = pixels;
        self
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
    let _environment = FloatEnvironment::enter();
    if bytes.len() as u64 > limits.max_bytes {
        return Err(too_long(bytes.len() as u64, limits));
    }
    let raw = match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes, limits),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png::decode(bytes, limits),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp::decode(bytes, limits),
        [b'B', b'M', ..] => bmp::decode(bytes, limits),
        _ => Err(refused("a JPEG, PNG, WebP or BMP image", other_kind(bytes))),
    }?;
    let orientation = Orientation::of_exif(raw.exif.as_deref().unwrap_or_default());
    let (width, height) = (raw.width, raw.height);
    orientation.turn_upright(width, height, raw.into_rgb()?)
}

/// An image as a decoder leaves it.
struct Raw {
    width: u32,
    height: u32,
    /// Grey; grey and alpha; R, G, B; or R, G, B, alpha.
    channels: usize,
    samples: Vec<u8>, // [height][width][channels]
    exif: Option<Vec<u8>>,
}

impl Raw {
    fn into_rgb(self) -> Result<Vec<u8>> {
        if self.channels == 3 {
            return Ok(self.samples);
        }
        let [r, g, b] = if self.channels < 3 { [0; 3] } else { [0, 1, 2] };
        let mut rgb = zeroed((self.samples.len() / self.channels).checked_mul(3), "image")?;
        for (to, from) in rgb.chunks_exact_mut(3).zip(self.samples.chunks_exact(self.channels)) {
            to.copy_from_slice(&[from[r], from[g], from[b]]);
        }
        Ok(rgb)
    }
}

/// What bytes are that are none of the four kinds.
fn other_kind(bytes: &[u8]) -> String {
    #[rustfmt::skip]
    const KINDS: [(usize, &[u8], &str); 27] = [ // where these bytes stand, and what they tell
        (0, b"GIF8", "GIF"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"\0\0\x01\0", "ICO"),
        (4, b"ftypavif", "AVIF"), (4, b"ftypavis", "AVIF"), (4, b"ftyphei", "HEIC"), (4, b"ftyphev", "HEIC"),
        (4, b"ftypmif1", "HEIF"), (4, b"ftypmsf1", "HEIF"), (0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"),
        (4, b"jP  ", "JPEG 2000"), (0, b"8BPS", "Photoshop"), (0, b"DDS ", "DDS"), (0, b"#?RADIANCE", "Radiance"),
        (0, b"v/1\x01", "OpenEXR"), (0, b"qoif", "QOI"), (0, b"farbfeld", "farbfeld"), (0, b"P1", "PBM"),
        (0, b"P2", "PGM"), (0, b"P3", "PPM"), (0, b"P4", "PBM"), (0, b"P5", "PGM"), (0, b"P6", "PPM"),
        (0, b"P7", "PAM"), (0, b"%PDF", "PDF"),
    ];
    if bytes.is_empty() {
        return "an empty file".to_owned();
    }
    let is = |at: usize, signature| bytes.get(at..).is_some_and(|bytes| bytes.starts_with(signature));
    match KINDS.iter().find(|&&(at, signature, _)| is(at, signature)) {
        Some(&(_, _, name)) => name.to_owned(),
        None => format!("bytes that begin with {:02x?}", &bytes[..bytes.len().min(8)]),
    }
}

/// Refuses an image without pixels, or with more than `limits` allow.
fn require_size(width: u32, height: u32, limits: &Limits) -> Result<()> {
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
    Ok(())
}

/// Why a decoder gives up.
enum Fault {
    NotRead,
    NeedsMemory,
    Truncated,
    Corrupt,
}

fn unreadable(format: &str, fault: Fault, reason: impl Display) -> Error {
    let what = match fault {
        Fault::NotRead => "one of a kind that is not read",
        Fault::NeedsMemory => "one that needs too much memory",
        Fault::Truncated => "a truncated one",
        Fault::Corrupt => "a corrupt one",
    };
    refused(format!("a whole {format} image"), format!("{what} ({})", escaped(reason.to_string().trim())))
}

fn too_long(bytes: u64, limits: &Limits) -> Error {
    refused(format!("an image file of at most {} bytes", limits.max_bytes), format!("{bytes} bytes"))
}

fn refused(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::Image, "", expected, found)
}
