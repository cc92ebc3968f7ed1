//! The EXIF orientation: how the camera was held, and the turn that makes its picture upright.
//!
//! EXIF data is a TIFF file without pixels: `II` or `MM` for the order of bytes, 42, and where the first directory
//! stands. A directory is a number of entries, and entries of 12 bytes: tag, type, count of values, and the values,
//! or where they stand if 4 bytes do not hold them.

use super::{Picture, zeroed};
use crate::error::Result;

/// Where the pixel of an upright picture stands in the file's: x and y exchanged, then mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation {
    exchanged: bool,
    mirrored_x: bool,
    mirrored_y: bool,
}

impl Orientation {
    /// The orientation that EXIF data tells, upright where it tells none.
    pub(super) fn of_exif(exif: &[u8]) -> Self {
        let value = value(exif).unwrap_or(1);
        Orientation {
            exchanged: matches!(value, 5..=8),
            mirrored_x: matches!(value, 2 | 3 | 7 | 8),
            mirrored_y: matches!(value, 3 | 4 | 6 | 7),
        }
    }

    pub(super) fn turn_upright(self, width: u32, height: u32, rgb: Vec<u8>) -> Result<Picture> {
        let Orientation { exchanged, mirrored_x, mirrored_y } = self;
        if !exchanged && !mirrored_x && !mirrored_y {
            return Picture::from_rgb(width, height, rgb);
        }
        let mut upright = zeroed(Some(rgb.len()), "image")?;
        let (to_width, to_height) = if exchanged { (height, width) } else { (width, height) };
        let mut pixels = upright.chunks_exact_mut(3);
        for to_y in 0..to_height as usize {
            for (to_x, to) in (0..to_width as usize).zip(&mut pixels) {
                let (x, y) = if exchanged { (to_y, to_x) } else { (to_x, to_y) };
                let x = if mirrored_x { width as usize - 1 - x } else { x };
                let y = if mirrored_y { height as usize - 1 - y } else { y };
                let from = 3 * (y * width as usize + x);
                to.copy_from_slice(&rgb[from..from + 3]);
            }
        }
        Picture::from_rgb(to_width, to_height, upright)
    }
}

/// The first value of the orientation's entry, of 16 or 32 bits.
fn value(exif: &[u8]) -> Option<u32> {
    const ORIENTATION: u16 = 0x0112;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;

    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif); // JPEG's, at times in WebP
    let little_endian = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };

    let directory = u32_at(4)? as usize;
    let entries = usize::from(u16_at(directory)?); // inside the data, so that no sum below overflows
    let entry =
        (0..entries).map(|entry| directory + 2 + 12 * entry).find(|&at| u16_at(at) == Some(ORIENTATION))?;
    let (kind, count, values) = (u16_at(entry + 2)?, u32_at(entry + 4)?, entry + 8);
    match (kind, count) {
        (SHORT, 1..=2) => u16_at(values).map(u32::from),
        (SHORT, 3..) => u16_at(u32_at(values)? as usize).map(u32::from),
        (LONG, 1) => u32_at(values),
        (LONG, 2..) => u32_at(u32_at(values)? as usize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPRIGHT: u32 = 1;

    /// EXIF data of one entry, followed by `behind`, which stands at byte 22.
    fn exif(little_endian: bool, tag: u16, kind: u16, count: u32, values: [u8; 4], behind: &[u8]) -> Vec<u8> {
        let short = |value: u16| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
        let long = |value: u32| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
        let order: &[u8] = if little_endian { b"II" } else { b"MM" };
        let header = [order, &short(42), &long(8), &short(1)].concat();
        [&header, &short(tag)[..], &short(kind), &long(count), &values, behind].concat()
    }

    fn told(exif: &[u8]) -> u32 {
        value(exif).unwrap_or(UPRIGHT)
    }

    #[test]
    fn the_first_value_counts_whatever_its_type_count_and_order_of_bytes() {
        for (little_endian, kind, count, values, behind) in [
            (true, 3, 1, [6, 0, 0, 0], &[][..]),
            (false, 3, 1, [0, 6, 0, 0], &[]),
            (true, 4, 1, [6, 0, 0, 0], &[]),
            (false, 4, 1, [0, 0, 0, 6], &[]),
            (true, 3, 2, [6, 0, 3, 0], &[]),
            (false, 3, 3, [0, 0, 0, 22], &[0, 6, 0, 3, 0, 3]),
            (true, 4, 2, [22, 0, 0, 0], &[6, 0, 0, 0, 3, 0, 0, 0]),
        ] {
            let exif = exif(little_endian, 0x0112, kind, count, values, behind);
            assert_eq!(told(&exif), 6, "{exif:02x?}");
            assert_eq!(told(&[b"Exif\0\0", &exif[..]].concat()), 6);
        }
    }

    #[test]
    fn what_tells_no_orientation_is_upright() {
        for (tag, kind, count, values) in [
            (0x0113, 3, 1, [6, 0, 0, 0]),  // another tag
            (0x0112, 1, 1, [6, 0, 0, 0]),  // bytes
            (0x0112, 3, 0, [6, 0, 0, 0]),  // no value
            (0x0112, 3, 3, [22, 0, 0, 0]), // values behind the data
            (0x0112, 4, 2, [0xff; 4]),
        ] {
            let exif = exif(true, tag, kind, count, values, &[]);
            assert_eq!(told(&exif), UPRIGHT, "{exif:02x?}");
        }
        for value in [0, 1, 9, 255] {
            let exif = exif(true, 0x0112, 3, 1, [value, 0, 0, 0], &[]);
            assert_eq!(Orientation::of_exif(&exif), Orientation::of_exif(&[]));
        }
        for bytes in [&b""[..], b"II", b"II*\0", b"II*\0\xff\xff\xff\xff", b"IM*\0\x08\0\0\0\x01\0"] {
            assert_eq!(told(bytes), UPRIGHT, "{bytes:02x?}");
        }
    }

    #[test]
    fn data_cut_anywhere_is_upright_or_whole() {
        let exif = exif(true, 0x0112, 3, 1, [6, 0, 0, 0], &[]);
        for len in 0..exif.len() {
            assert!([UPRIGHT, 6].contains(&told(&exif[..len])), "{len}");
        }
    }
}
