//! WebP files, by the `image-webp` crate.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::{Fault, Limits, Raw, refused, require_size, unreadable};
use crate::error::{Error, Result};
use crate::image::zeroed;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Raw> {
    require_chunks(bytes)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    require_size(width, height, limits)?;

    decoder.set_memory_limit(bytes.len()); // a chunk is in the file
    let exif = decoder.exif_metadata().map_err(failed)?;
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut samples = zeroed(decoder.output_buffer_size(), "image")?;
    decoder.read_image(&mut samples).map_err(failed)?;
    Ok(Raw { width, height, channels, samples, exif })
}

/// Refuses a WebP file with a chunk that is longer than the file. The decoder would allocate for it.
///
/// A WebP file is `RIFF`, a length, `WEBP`, and chunks: a name of 4 bytes, a length, that many bytes and one of
/// padding where the length is odd.
fn require_chunks(bytes: &[u8]) -> Result<()> {
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

fn failed(error: DecodingError) -> Error {
    let fault = match &error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => Fault::Truncated,
        DecodingError::MemoryLimitExceeded | DecodingError::ImageTooLarge => Fault::NeedsMemory,
        DecodingError::UnsupportedFeature(_) => Fault::NotRead,
        _ => Fault::Corrupt,
    };
    unreadable("WebP", fault, error)
}
