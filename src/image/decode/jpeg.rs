//! JPEG files, by the `zune-jpeg` crate.
//!
//! A JPEG file is a sequence of markers, 0xFF and a code. Most head a segment, whose length follows; between the
//! others stand the compressed pixels, where 0xFF 0x00 is a plain 0xFF.

use std::iter;

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Fault, Limits, Raw, refused, require_size, unreadable};
use crate::error::{Error, Result};
use crate::image::zeroed;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const EXIF: u8 = 0xe1;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Raw> {
    require_end(bytes)?;
    require_known_frame(bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX) // `limits` bound width x height
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(failed)?;
    let info = decoder.info().expect("the headers are decoded");
    let (width, height) = (info.width.into(), info.height.into());
    require_size(width, height, limits)?;

    let (colour, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(colour));
    let mut samples = zeroed(decoder.output_buffer_size(), "image")?;
    decoder.decode_into(&mut samples).map_err(failed)?;
    Ok(Raw { width, height, channels, samples, exif: exif(bytes) })
}

/// The file's markers, each with its segment, which is empty where it has none.
fn markers(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    const STUFFED: u8 = 0x00;
    const TEMPORARY: u8 = 0x01;
    const RESTART_0: u8 = 0xd0;

    let mut rest = bytes;
    iter::from_fn(move || {
        loop {
            let marker = rest.iter().position(|&byte| byte == 0xff)?;
            rest = &rest[marker + 1..];
            match *rest {
                [STUFFED | TEMPORARY | RESTART_0..=START_OF_IMAGE | 0xff, ..] => {}
                [END_OF_IMAGE, ..] => return Some((END_OF_IMAGE, &[][..])),
                [code, upper, lower, ..] => {
                    let length = usize::from(u16::from_be_bytes([upper, lower]));
                    let segment = rest.get(3..1 + length).unwrap_or(&[]);
                    rest = rest.get(1 + length..).unwrap_or(&[]);
                    return Some((code, segment));
                }
                _ => return None,
            }
        }
    })
}

/// Refuses a file that breaks off. The decoder would paint the missing part grey.
fn require_end(bytes: &[u8]) -> Result<()> {
    if markers(bytes).any(|(code, _)| code == END_OF_IMAGE) {
        return Ok(());
    }
    Err(refused("a whole JPEG image", "a truncated one, without an end marker"))
}

/// Refuses by name the ways of coding that the decoder does not know.
///
/// The code of the frame's marker tells them: 0xC0 to 0xC2 is Huffman coding, sequential or progressive. The
/// frame begins with the bits of a sample.
fn require_known_frame(bytes: &[u8]) -> Result<()> {
    for (code, segment) in markers(bytes).take_while(|&(code, _)| code != START_OF_SCAN) {
        let kind = match code {
            0xc0..=0xc2 => match segment {
                [8, ..] | [] => return Ok(()),
                [bits, ..] => format!("{bits} bits a sample"),
            },
            0xc3 => "lossless".to_owned(),
            0xc5..=0xc7 => "hierarchical".to_owned(),
            0xc9..=0xcb | 0xcd..=0xcf => "arithmetic coding".to_owned(),
            _ => continue,
        };
        return Err(unreadable("JPEG", Fault::NotRead, kind));
    }
    Ok(())
}

/// The first EXIF data of the file.
fn exif(bytes: &[u8]) -> Option<Vec<u8>> {
    markers(bytes)
        .take_while(|&(code, _)| code != START_OF_SCAN)
        .find(|&(code, segment)| code == EXIF && segment.starts_with(b"Exif\0\0"))
        .map(|(_, segment)| segment.to_vec())
}

fn failed(error: DecodeErrors) -> Error {
    let fault = match error {
        DecodeErrors::Unsupported(_) => Fault::NotRead,
        DecodeErrors::LargeDimensions(_) => Fault::NeedsMemory,
        _ => Fault::Corrupt,
    };
    unreadable("JPEG", fault, error)
}
