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
/// 0, and the pixels of a run beyond its row are left out, as in Pillow.
fn indices(mut runs: &[u8], header: &Header) -> Result<Vec<u8>> {
    let beyond = || unreadable("BMP", Fault::Corrupt, "indices beyond the image");
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
                    return Err(beyond());
                }
                continue;
            }
            (0, n) => {
                if x + usize::from(n) > width {
                    return Err(beyond());
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    const PALETTE_AT: usize = 54;

    /// A BMP with a header of 40 bytes, `behind` it, which is masks or a palette, and then the pixels.
    fn file(width: u32, height: u32, bits: u16, compression: u32, behind: &[u32], pixels: &[u8]) -> Vec<u8> {
        let pixels_at = (PALETTE_AT + 4 * behind.len()) as u32;
        let mut file = b"BM".to_vec();
        let mut append =
            |numbers: &[u32]| file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        append(&[0, 0, pixels_at, 40, width, height, 1 | u32::from(bits) << 16, compression, 0, 0, 0, 0, 0]);
        append(behind);
        file.extend(pixels);
        file
    }

    fn samples(file: &[u8]) -> Result<Vec<u8>> {
        decode(file, &Limits::default()).map(|raw| raw.samples)
    }

    fn found(file: &[u8]) -> String {
        let error = samples(file).unwrap_err().to_string();
        assert!(error.starts_with("expected a whole BMP image, found "), "{error}");
        error
    }

    /// The indices that runs give in an image of 4x2, from the top left.
    fn indices_of_4x2(bits: u16, runs: &[u8]) -> Result<Vec<u8>> {
        let compression = if bits == 8 { RLE8 } else { RLE4 };
        let greys: Vec<u32> = (0..1 << bits).map(|grey| grey * 0x01_01_01).collect();
        let samples = samples(&file(4, 2, bits, compression, &greys, runs))?;
        Ok(samples.chunks_exact(3).map(|pixel| pixel[0]).collect())
    }

    #[test]
    fn runs_give_the_indices_they_stand_for() {
        let cases: [(u16, &[u8], [u8; 8]); 10] = [
            (8, &[4, 7, 0, 0, 4, 9, 0, 1], [9, 9, 9, 9, 7, 7, 7, 7]),
            (8, &[0, 4, 1, 2, 3, 4, 0, 0, 0, 3, 5, 6, 7, 0, 1, 8, 0, 1], [5, 6, 7, 8, 1, 2, 3, 4]),
            (8, &[2, 7, 0, 0, 4, 9, 0, 1], [9, 9, 9, 9, 7, 7, 0, 0]), // a row ended early
            (8, &[2, 7, 0, 1], [0, 0, 0, 0, 7, 7, 0, 0]),             // the image ended early
            (8, &[1, 7, 0, 2, 1, 1, 2, 9, 0, 1], [0, 0, 9, 9, 7, 0, 0, 0]), // skipped
            (8, &[200, 7, 0, 0, 4, 9, 0, 1], [9, 9, 9, 9, 7, 7, 7, 7]), // beyond the row
            (8, &[4, 7, 0, 0, 4, 9], [9, 9, 9, 9, 7, 7, 7, 7]),       // no end
            (4, &[4, 0x7a, 0, 0, 3, 0x9b, 1, 0x50, 0, 1], [9, 11, 9, 5, 7, 10, 7, 10]),
            (4, &[0, 3, 0x12, 0x30, 1, 0x40, 0, 0, 0, 4, 0x56, 0x78, 0, 1], [5, 6, 7, 8, 1, 2, 3, 4]),
            (4, &[4, 0x11, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]),
        ];
        for (bits, runs, indices) in cases {
            assert_eq!(indices_of_4x2(bits, runs).unwrap(), indices, "{bits} bits: {runs:02x?}");
        }
    }

    #[test]
    fn runs_that_break_off_or_leave_the_image_are_refused() {
        for runs in [&[4, 7, 0, 0, 3, 9][..], &[4], &[], &[0, 2, 1], &[0, 4, 1, 2, 3]] {
            let error = indices_of_4x2(8, runs).unwrap_err().to_string();
            assert!(error.ends_with("found a truncated one"), "{runs:02x?}: {error}");
        }
        for runs in [&[0, 2, 5, 0][..], &[0, 2, 0, 2], &[0, 5, 1, 2, 3, 4, 5, 0], &[2, 7, 0, 3, 1, 2, 3, 0]] {
            let error = indices_of_4x2(8, runs).unwrap_err().to_string();
            assert!(
                error.ends_with("found a corrupt one (indices beyond the image)"),
                "{runs:02x?}: {error}"
            );
        }
    }

    #[test]
    fn two_bits_a_pixel_are_indices_too() {
        let file =
            file(5, 1, 2, RGB, &[0, 0x11_22_33, 0x44_55_66, 0x77_88_99], &[0b00_01_10_11, 0b01_000000, 0, 0]);
        let expected = [0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0x11, 0x22, 0x33];
        assert_eq!(samples(&file).unwrap(), expected);
    }

    #[test]
    fn an_index_beyond_the_palette_is_black() {
        let file = file(2, 1, 8, RGB, &[0xff_ff_ff], &[0, 1, 0, 0]);
        assert_eq!(samples(&file).unwrap(), [255, 255, 255, 0, 0, 0]);
    }

    #[test]
    fn values_of_any_number_of_bits_are_stretched_to_8() {
        let masks = [0x3ff << 20, 0x7f << 10, 1];
        for (r, g, b, expected) in [
            (0, 0, 0, [0, 0, 0]),
            (0x3ff, 0x7f, 1, [255, 255, 255]),
            (0x200, 0x40, 0, [127, 128, 0]), // 127.6, 128.5
        ] {
            let pixel: u32 = r << 20 | g << 10 | b;
            let file = file(1, 1, 32, BITFIELDS, &masks, &pixel.to_le_bytes());
            assert_eq!(samples(&file).unwrap(), expected);
        }
    }

    #[test]
    fn masks_without_bits_or_with_gaps_or_beyond_the_pixel_are_refused() {
        for (bits, masks) in [
            (16, [0, 0x7e0, 0x1f]),
            (16, [0xf801, 0x7e0, 0x1f]),
            (16, [0x1_f800, 0x7e0, 0x1f]),
            (32, [0xff00_00ff, 0xff00, 0xff]),
        ] {
            let text = found(&file(1, 1, bits, BITFIELDS, &masks, &[0; 4]));
            assert!(text.contains("a corrupt one (the masks are "), "{text}");
        }
    }

    #[test]
    fn kinds_that_are_not_read_are_refused_by_name() {
        for (bits, compression) in
            [(24, 4), (0, 5), (24, RLE8), (8, RLE4), (24, BITFIELDS), (3, RGB), (64, RGB)]
        {
            let text = found(&file(1, 1, bits, compression, &[0; 3], &[0; 8]));
            let kind = format!("not read (compression {compression} with {bits} bits a pixel)");
            assert!(text.contains(&kind), "{text}");
        }
        for bytes in [0, 16, 64, u32::MAX] {
            let mut file = file(1, 1, 24, RGB, &[], &[0; 4]);
            file[14..18].copy_from_slice(&bytes.to_le_bytes());
            let text = found(&file);
            assert!(text.contains(&format!("not read (a header of {bytes} bytes)")), "{text}");
        }
    }

    #[test]
    fn pixels_are_behind_the_header_and_in_the_file() {
        for (pixels_at, text) in [
            (0_u32, "a corrupt one (the pixels begin inside the header)"),
            (53, "a corrupt one (the pixels begin inside the header)"),
            (55, "a truncated one"),
            (u32::MAX, "a truncated one"),
        ] {
            let mut file = file(1, 1, 24, RGB, &[], &[0; 4]);
            file[10..14].copy_from_slice(&pixels_at.to_le_bytes());
            assert!(found(&file).ends_with(text), "{pixels_at}");
        }
        // As large as the limits allow, and then some: nothing is allocated for what is not there.
        let mut limits = Limits::default();
        for (width, height, max_pixels) in [(10_000, 10_000, 100_000_000), (1 << 31, 1 << 31, u64::MAX)] {
            limits.max_pixels = max_pixels;
            let error = decode(&file(width, height, 32, RGB, &[], &[0; 4]), &limits).map(|_| ()).unwrap_err();
            assert!(error.to_string().ends_with("found a truncated one"), "{error}");
        }
    }
}
