//! A picture, or the face in it, brought to the size of a network's input.

use std::fmt;
use std::str::FromStr;

use super::resize::{Region, resize};
use super::{Picture, rgb_bytes, zeroed};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::float_environment::FloatEnvironment;

/// What becomes of a picture whose aspect ratio is not the target's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// Width and height are scaled each by its own factor: everything is seen, distorted.
    Stretch,
    /// The whole picture is scaled by one factor and centred between black bars.
    Letterbox,
    /// The largest centred part that has the target's aspect ratio is scaled by one factor.
    #[default]
    Crop,
}

impl Fit {
    /// Every way to fit, in the order of their names on the command line.
    pub const ALL: &[Fit] = &[Fit::Stretch, Fit::Letterbox, Fit::Crop];

    /// The name that [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Fit::Stretch => "stretch",
            Fit::Letterbox => "letterbox",
            Fit::Crop => "crop",
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads `stretch`, `letterbox` or `crop`.
impl FromStr for Fit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Fit::ALL.iter().copied().find(|fit| fit.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Fit::ALL.iter().map(|fit| fit.name()).collect();
            Error::new(ErrorKind::Input, "fit", names.join(", "), quoted(name))
        })
    }
}

/// Where a face is, in pixels of the upright picture, from its upper left corner.
///
/// ```
/// use awsnet::image::FaceBox;
///
/// let face: FaceBox = "40,20,128,128".parse()?;
/// assert_eq!(face, FaceBox { x: 40, y: 20, width: 128, height: 128 });
/// assert_eq!(face.to_string(), "40,20,128,128");
/// # Ok::<(), awsnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaceBox {
    /// The leftmost column.
    pub x: u32,
    /// The topmost row.
    pub y: u32,
    /// How many columns.
    pub width: u32,
    /// How many rows.
    pub height: u32,
}

impl fmt::Display for FaceBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

/// Reads `x,y,width,height`.
impl FromStr for FaceBox {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) => Ok(FaceBox { x, y, width, height }),
            _ => Err(Error::new(ErrorKind::Input, "box", "four numbers, `x,y,width,height`", quoted(text))),
        }
    }
}

/// Takes out the face, where a box is given, and makes a picture of `width` x `height` of it.
///
/// It is resized with bilinear interpolation and antialiasing; one that has the size already keeps its pixels.
/// Cropped sides and the sides between bars are rounded to whole pixels and at least 1; where what is left
/// over is odd, the right or lower part is the larger one.
///
/// ```
/// use awsnet::image::{Fit, Picture, prepare};
///
/// let white = Picture::from_rgb(4, 2, vec![255; 4 * 2 * 3])?;
/// let fitted = prepare(&white, None, Fit::Letterbox, 2, 3)?;
/// assert_eq!(fitted.pixels()[..6], [0; 6]); // a bar, the picture, a bar
/// assert_eq!(fitted.pixels()[6..12], [255; 6]);
/// assert_eq!(fitted.pixels()[12..], [0; 6]);
/// # Ok::<(), awsnet::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Image`] where the box is empty or leaves the picture, [`ErrorKind::Input`] where `width` or
/// `height` is 0, [`ErrorKind::Memory`] where the result does not fit in memory.
pub fn prepare(
    picture: &Picture,
    face: Option<FaceBox>,
    fit: Fit,
    width: u32,
    height: u32,
) -> Result<Picture> {
    let _environment = FloatEnvironment::enter();
    if width == 0 || height == 0 {
        let found = format!("{width}x{height}");
        return Err(Error::new(ErrorKind::Input, "target size", "at least 1x1 pixel", found));
    }
    let whole = Region { x: 0, y: 0, width: picture.width, height: picture.height };
    let region = face.map_or(Ok(whole), |face| face_region(picture, face))?;
    match fit {
        Fit::Stretch => scaled(picture, region, width, height),
        Fit::Crop => {
            // The part of the region is to the region as the region's shape is to the target's.
            let (part_width, part_height) = if is_wider(region.width, region.height, width, height) {
                (proportional(region.height, width, height, region.width), region.height)
            } else {
                (region.width, proportional(region.width, height, width, region.height))
            };
            let part = Region {
                x: region.x + (region.width - part_width) / 2,
                y: region.y + (region.height - part_height) / 2,
                width: part_width,
                height: part_height,
            };
            scaled(picture, part, width, height)
        }
        Fit::Letterbox => {
            let (inner_width, inner_height) = if is_wider(region.width, region.height, width, height) {
                (width, proportional(width, region.height, region.width, height))
            } else {
                (proportional(height, region.width, region.height, width), height)
            };
            let inner = scaled(picture, region, inner_width, inner_height)?;
            between_bars(inner, width, height)
        }
    }
}

fn face_region(picture: &Picture, face: FaceBox) -> Result<Region> {
    let FaceBox { x, y, width, height } = face;
    let place = format!("box {face}");
    if width == 0 || height == 0 {
        let found = format!("{width}x{height}");
        return Err(Error::new(ErrorKind::Image, place, "at least 1x1 pixel", found));
    }
    let (right, lower) = (u64::from(x) + u64::from(width), u64::from(y) + u64::from(height));
    if right > picture.width.into() || lower > picture.height.into() {
        return Err(Error::new(
            ErrorKind::Image,
            place,
            format!("a box inside the picture, {}x{}", picture.width, picture.height),
            format!("one that reaches {right},{lower}"),
        ));
    }
    Ok(Region { x, y, width, height })
}

/// Whether the first shape is wider for its height than the second.
fn is_wider(width: u32, height: u32, than_width: u32, than_height: u32) -> bool {
    u64::from(width) * u64::from(than_height) > u64::from(than_width) * u64::from(height)
}

/// `side * numerator / denominator`, rounded, from 1 to `at_most`.
fn proportional(side: u32, numerator: u32, denominator: u32, at_most: u32) -> u32 {
    let denominator = u64::from(denominator);
    let rounded = (u64::from(side) * u64::from(numerator) + denominator / 2) / denominator;
    rounded.clamp(1, at_most.into()) as u32
}

/// The region at the given size, its pixels untouched where it has that size.
fn scaled(picture: &Picture, region: Region, width: u32, height: u32) -> Result<Picture> {
    if (region.width, region.height) != (width, height) {
        return resize(picture, region, width, height);
    }
    let mut pixels = Vec::with_capacity(rgb_bytes(width, height).unwrap_or(0));
    region.rows(picture).for_each(|row| pixels.extend_from_slice(row));
    Picture::from_rgb(width, height, pixels)
}

/// The picture in the middle of a black one that is nowhere smaller.
fn between_bars(inner: Picture, width: u32, height: u32) -> Result<Picture> {
    if (inner.width, inner.height) == (width, height) {
        return Ok(inner);
    }
    let mut pixels = zeroed(rgb_bytes(width, height), "fitted picture")?;
    let left = 3 * ((width - inner.width) / 2) as usize;
    let top = ((height - inner.height) / 2) as usize;
    let (row_bytes, inner_bytes) = (3 * width as usize, 3 * inner.width as usize);
    let rows = pixels.chunks_exact_mut(row_bytes).skip(top);
    for (to, from) in rows.zip(inner.pixels.chunks_exact(inner_bytes)) {
        to[left..left + inner_bytes].copy_from_slice(from);
    }
    Picture::from_rgb(width, height, pixels)
}
