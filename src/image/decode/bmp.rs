//! BMP files.
//!
//! ```text
//!  0  "BM", length, 0, where the pixels stand
//! 14  the header: its length; width, height, 1, bits a pixel (16 bits each in the oldest header, of 12 bytes);
//!     compression, length of the pixels, resolution, colours of the palette, ...
//! 54  masks of red, green and blue, in or behind the header, where the compression is BITFIELDS
//!     the palette, behind the header: blue, green, red, and in all but the oldest files 0
//!     the pixels
//! ```
//!
//! Rows go from the bottom up, from the top down where the height is negative, and are filled up to whole 4 bytes.
//! A pixel of up to 8 bits is an index into the palette, the first of a byte in its highest bits. One of 16, 24 or
//! 32 bits is a little-endian number, of which the masks cut out red, green and blue.

use std::borrow::Cow;

use super::{Fault, Limits, Raw, refused, require_size, unreadable};
use crate::error::{Error, Result};
use crate::image::{rgb_bytes, zeroed};

const FILE_HEADER_BYTES: usize = 14;
const OLDEST_HEADER_BYTES: usize = 12;

const RGB: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Raw> {
    let header = Header::read(bytes)?;
    let (width, height) = (header.width, header.height);
    require_size(width, height, limits)?;
    let colours = Colours::read(bytes, &header)?;
    let pixels = bytes.get(header.pixels_at..).ok_or_else(truncated)?;
    let (rows, row_bytes, bits) = match header.compression {
        RLE8 | RLE4 => (Cow::Owned(indices(pixels, &header)?), width as usize, 8),
        _ => {
            let row_bytes = (u64::from(width) * header.bits as u64).div_ceil(32) * 4;
            let all = usize::try_from(row_bytes.saturating_mul(height.into())).unwrap_or(usize::MAX);
            let rows = pixels.get(..all).ok_or_else(truncated)?;
            (Cow::Borrowed(rows), row_bytes as usize, header.bits)
        }
    };
    let mut samples = zeroed(rgb_bytes(width, height), "image")?;
    for (y, to) in samples.chunks_exact_mut(3 * width as usize).enumerate() {
        let from = if header.top_down { y } else { height as usize - 1 - y };
        colours.convert(&rows[from * row_bytes..][..row_bytes], bits, to);
    }
    Ok(Raw { width, height, channels: 3, samples, exif: None })
}

struct Header {
    bytes: usize,
    pixels_at: usize,
    width: u32,
    height: u32,
    top_down: bool,
    bits: usize,
    compression: u32,
    palette_len: u32, // 0 for as many as there are indices
}

impl Header {
    fn read(file: &[u8]) -> Result<Self> {
        let u16_at = |at| field(file, at).map(u16::from_le_bytes);
        let u32_at = |at| field(file, at).map(u32::from_le_bytes);
        let pixels_at = u32_at(10)? as usize;
        let bytes = u32_at(14)? as usize;
        let header = match bytes {
            OLDEST_HEADER_BYTES => Header {
                bytes,
                pixels_at,
                width: u16_at(18)?.into(),
                height: u16_at(20)?.into(),
                top_down: false,
                bits: u16_at(24)?.into(),
                compression: RGB,
                palette_len: 0,
            },
            40 | 52 | 56 | 108 | 124 => {
                let height = u32_at(22)?.cast_signed();
                Header {
                    bytes,
                    pixels_at,
                    width: u32_at(18)?,
                    height: height.unsigned_abs(),
                    top_down: height < 0,
                    bits: u16_at(28)?.into(),
                    compression: u32_at(30)?,
                    palette_len: u32_at(46)?,
                }
            }
            _ => return Err(unreadable("BMP", Fault::NotRead, format!("a header of {bytes} bytes"))),
        };
        if pixels_at < FILE_HEADER_BYTES + bytes {
            return Err(unreadable("BMP", Fault::Corrupt, "the pixels begin inside the header"));
        }
        Ok(header)
    }
}

/// What the bits of a pixel mean.
enum Colours {
    Palette(Vec<[u8; 3]>), // [256]
    Masks([Channel; 3]),
}

impl Colours {
    fn read(file: &[u8], header: &Header) -> Result<Self> {
        match (header.compression, header.bits) {
            (RGB, 1 | 2 | 4 | 8) | (RLE8, 8) | (RLE4, 4) => Ok(Colours::palette(file, header)),
            (RGB, 16) => Colours::masks([0x7c00, 0x03e0, 0x001f], 16),
            (RGB, bits @ (24 | 32)) => Colours::masks([0xff_0000, 0xff00, 0xff], bits),
            (BITFIELDS, bits @ (16 | 32)) => {
                let mask_at = |at| field(file, at).map(u32::from_le_bytes);
                Colours::masks([mask_at(54)?, mask_at(58)?, mask_at(62)?], bits)
            }
            (compression, bits) => {
                let kind = format!("compression {compression} with {bits} bits a pixel");
                Err(unreadable("BMP", Fault::NotRead, kind))
            }
        }
    }

    /// The palette, as far as it goes before the pixels; indices beyond it are black.
    fn palette(file: &[u8], header: &Header) -> Self {
        let colour_bytes = if header.bytes == OLDEST_HEADER_BYTES { 3 } else { 4 };
        let len = match header.palette_len as usize {
            0 => 1 << header.bits,
            len => len,
        };
        let mut palette = vec![[0; 3]; 256];
        let before_pixels = &file[..header.pixels_at.min(file.len())];
        let colours = before_pixels.get(FILE_HEADER_BYTES + header.bytes..).unwrap_or_default();
        for (to, from) in palette.iter_mut().zip(colours.chunks_exact(colour_bytes).take(len)) {
            *to = [from[2], from[1], from[0]];
        }
        Colours::Palette(palette)
    }

    fn masks(masks: [u32; 3], bits: usize) -> Result<Self> {
        match masks.map(|mask| Channel::of_mask(mask, bits)) {
            [Some(r), Some(g), Some(b)] => Ok(Colours::Masks([r, g, b])),
            _ => Err(unreadable("BMP", Fault::Corrupt, format!("the masks are {masks:#x?} for {bits} bits"))),
        }
    }

    fn convert(&self, row: &[u8], bits: usize, rgb: &mut [u8]) {
        match self {
            Colours::Palette(palette) => {
                for (x, to) in rgb.chunks_exact_mut(3).enumerate() {
                    *to.first_chunk_mut().expect("3 bytes") = palette[usize::from(index(row, x, bits))];
                }
            }
            Colours::Masks(channels) => {
                for (from, to) in row.chunks_exact(bits / 8).zip(rgb.chunks_exact_mut(3)) {
                    let mut pixel = [0; 4];
                    pixel[..from.len()].copy_from_slice(from);
                    let pixel = u32::from_le_bytes(pixel);
                    to.copy_from_slice(&channels.map(|channel| channel.of_pixel(pixel)));
                }
            }
        }
    }
}

/// Adjacent bits of a pixel.
#[derive(Clone, Copy)]
struct Channel {
    shift: u32,
    max: u32,
}

impl Channel {
    fn of_mask(mask: u32, bits: usize) -> Option<Self> {
        let shift = mask.trailing_zeros();
        let max = mask.checked_shr(shift)?; // none where no bit is set
        let adjacent = max & max.wrapping_add(1) == 0;
        (adjacent && u64::from(mask) >> bits == 0).then_some(Channel { shift, max })
    }

    /// The value, stretched to 8 bits and rounded down, as Pillow does.
    fn of_pixel(self, pixel: u32) -> u8 {
        let value = (pixel >> self.shift) & self.max;
        if self.max == 255 { value as u8 } else { (u64::from(value) * 255 / u64::from(self.max)) as u8 }
    }
}

/// Index `i` of those of `bits` bits each.
fn index(indices: &[u8], i: usize, bits: usize) -> u8 {
    let bit = i * bits;
    (indices[bit / 8] << (bit % 8)) >> (8 - bits)
}

/// The indices, a byte each, of pixels that are compressed run by run.
///
/// A run is two bytes, (n, indices): n pixels that take turns between the indices of that byte, which are two where
/// they have 4 bits. The others have n = 0: (0, 0) ends the row, (0, 1) the image, (0, 2) skips as many columns and
/// rows as the next two bytes say, and (0, n) heads n indices, filled up to whole 2 bytes. What is skipped has index
/// 0, and what goes beyond its row is left out, as in Pillow.
fn indices(mut runs: &[u8], header: &Header) -> Result<Vec<u8>> {
    let bits = header.bits;
    let (width, height) = (header.width as usize, header.height as usize);
    let mut indices = zeroed(width.checked_mul(height), "image")?;
    let (mut x, mut y) = (0, 0);
    while y < height {
        let &[n, value, ref rest @ ..] = runs else {
            let complete = x == width && y == height - 1;
            return if complete { Ok(indices) } else { Err(truncated()) };
        };
        runs = rest;
        let (n, from) = match (n, value) {
            (0, 0) => {
                (x, y) = (0, y + 1);
                continue;
            }
            (0, 1) => break,
            (0, 2) => {
                let &[columns, rows, ref rest @ ..] = runs else { return Err(truncated()) };
                runs = rest;
                (x, y) = (x + usize::from(columns), y + usize::from(rows));
                if x > width || y >= height {
                    return Err(unreadable("BMP", Fault::Corrupt, "a run leaves the image"));
                }
                continue;
            }
            (0, n) => {
                let bytes = (usize::from(n) * bits).div_ceil(8);
                let from = runs.get(..bytes).ok_or_else(truncated)?;
                runs = runs.get(bytes.next_multiple_of(2)..).unwrap_or_default();
                (usize::from(n), from)
            }
            (n, _) => (usize::from(n), &[value][..]),
        };
        let row = &mut indices[y * width..][..width];
        for (i, to) in row[x..].iter_mut().take(n).enumerate() {
            *to = index(from, i % (from.len() * 8 / bits), bits);
        }
        x = (x + n).min(width);
    }
    Ok(indices)
}

fn field<const BYTES: usize>(file: &[u8], at: usize) -> Result<[u8; BYTES]> {
    file.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(truncated)
}

fn truncated() -> Error {
    refused("a whole BMP image", "a truncated one")
}
