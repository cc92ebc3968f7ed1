//! PNG files, by the `png` crate.
//!
//! Of the chunks beside the pixels only EXIF's is taken: texts and colour profiles, whose contents may be a
//! thousand times their length, are skipped unread.

use std::io::{Cursor, ErrorKind};

use ::png::{Decoder, DecodingError, Transformations};

use super::{Fault, Limits, Raw, require_size, unreadable};
use crate::error::{Error, Result};
use crate::image::zeroed;

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Raw> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes and bits become channels of 8 bits; of 16 bits the upper 8 remain.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);

    let (width, height) = decoder.read_header_info().map_err(failed)?.size();
    require_size(width, height, limits)?;
    // A row of at most 8 bytes a pixel, and chunks, which are read into a buffer that doubles and kept.
    let row = usize::try_from(width).unwrap_or(usize::MAX).saturating_mul(8);
    decoder.set_limits(::png::Limits { bytes: row.saturating_add(bytes.len().saturating_mul(4)) });

    let mut reader = decoder.read_info().map_err(failed)?;
    let exif = reader.info().exif_metadata.as_deref().map(<[u8]>::to_vec);
    let channels = reader.output_color_type().0.samples();
    let mut samples = zeroed(reader.output_buffer_size(), "image")?;
    reader.next_frame(&mut samples).map_err(failed)?;
    Ok(Raw { width, height, channels, samples, exif })
}

fn failed(error: DecodingError) -> Error {
    let fault = match &error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => Fault::Truncated,
        DecodingError::LimitsExceeded => Fault::NeedsMemory,
        _ => Fault::Corrupt,
    };
    unreadable("PNG", fault, error)
}
