//! From 8-bit pixels to the floats of a network's input.

use super::Picture;
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::model::ChannelOrder;
use crate::pixels;

/// Writes `(value / 255 - mean) / std` for every pixel to `out`, laid out [C, H, W].
///
/// C is the length of `mean` and `std`. With 3 the channels are red, green and blue, or as `order` has them; with 1 there is one, the
/// luma L = (19595 R + 38470 G + 7471 B + 32768) / 65536, rounded down (ITU-R BT.601, as Pillow's
/// `convert("L")`). Every step is rounded to `f32`, so the floats are those of PyTorch's `ToTensor` and
/// `Normalize`.
///
/// ```
/// use awsnet::image::{Picture, normalise};
/// use awsnet::model::ChannelOrder;
///
/// let picture = Picture::from_rgb(2, 1, vec![255, 0, 51, 0, 255, 102])?;
/// let mut planes = [0.0; 6];
/// normalise(&picture, &[0.0; 3], &[1.0; 3], ChannelOrder::Rgb, &mut planes)?;
/// assert_eq!(planes, [1.0, 0.0, 0.0, 1.0, 0.2, 0.4]); // R R, G G, B B
///
/// let mut luma = [0.0; 2];
/// normalise(&picture, &[0.5], &[0.5], ChannelOrder::Rgb, &mut luma)?;
/// # Ok::<(), awsnet::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Input`] where `mean` has neither 1 nor 3 values, `std` has another number of them or one that
/// is not above 0, a value is not finite, or `out` is not C x H x W long. `out` is then left as it was.
pub fn normalise(
    picture: &Picture,
    mean: &[f32],
    std: &[f32],
    order: ChannelOrder,
    out: &mut [f32],
) -> Result<()> {
    let _environment = FloatEnvironment::enter();
    let wrong = |place, expected, found| Err(Error::new(ErrorKind::Input, place, expected, found));
    let channels = mean.len();
    if channels != 1 && channels != 3 {
        return wrong("mean", "1 or 3 values".to_owned(), channels.to_string());
    }
    if std.len() != channels {
        return wrong("std", format!("{channels} values, as in mean"), std.len().to_string());
    }
    if let Some(value) = mean.iter().find(|value| !value.is_finite()) {
        return wrong("mean", "finite values".to_owned(), value.to_string());
    }
    if let Some(value) = std.iter().find(|&&value| !(value.is_finite() && value > 0.0)) {
        return wrong("std", "finite values above 0".to_owned(), value.to_string());
    }
    let plane_len = picture.pixels.len() / 3;
    if Some(out.len()) != plane_len.checked_mul(channels) {
        return wrong(
            "normalised picture",
            format!("room for {channels}x{}x{} values", picture.height, picture.width),
            out.len().to_string(),
        );
    }

    for (c, plane) in out.chunks_exact_mut(plane_len).enumerate() {
        let normalised = pixels::table(mean[c], std[c]);
        let byte = match order {
            ChannelOrder::Rgb => c,
            ChannelOrder::Bgr => 2 - c,
        };
        let pixels = picture.pixels.chunks_exact(3);
        for (to, pixel) in plane.iter_mut().zip(pixels) {
            let value = if channels == 1 { luma(pixel) } else { pixel[byte] };
            *to = normalised[usize::from(value)];
        }
    }
    Ok(())
}

/// The luma of an RGB pixel; the weights sum to 1 << 16.
pub(super) fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}
