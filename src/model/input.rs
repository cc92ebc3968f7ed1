//! The image that a network reads, and how a face is taken out of a picture for it.

use super::json::{Json, Object, as_f32, as_string};
use super::manifest::Version;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::tensor::Shape;

/// The image a network reads: pixels are value/255, then (v - mean) / std, laid out [C, H, W].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Input {
    /// 3 channels (colours) or 1 (luma), height and width in pixels.
    pub shape: Shape,
    /// Subtracted, one a channel in the network's order.
    pub mean: Vec<f32>,
    /// Divided by, one a channel in the network's order; greater than 0.
    pub std: Vec<f32>,
    /// The order of the network's channels, where there are 3.
    pub order: ChannelOrder,
    /// How a face is taken out of a picture; where there is none, the image is a whole picture.
    pub face: Option<FaceCrop>,
}

/// The order of the channels that a network was trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl ChannelOrder {
    /// The order's name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            ChannelOrder::Rgb => "rgb",
            ChannelOrder::Bgr => "bgr",
        }
    }
}

/// How a face is taken out of a picture for the network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FaceCrop {
    /// The square around the detector's box.
    Box {
        /// Its side, in longer sides of the box.
        scale: f32,
        /// How far it is moved to the right and down, in longer sides of the box.
        shift: [f32; 2],
    },
    /// The similarity transform that carries points of the face to these pixels of the input [x, y], with the least squares;
    /// two points or more.
    Points(Vec<(FacePoint, [f32; 2])>),
}

/// A point of a face; left is the picture's left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FacePoint {
    /// The eye on the picture's left.
    LeftEye,
    /// The eye on the picture's right.
    RightEye,
    /// The tip of the nose.
    Nose,
    /// The corner of the mouth on the picture's left.
    MouthLeft,
    /// The corner of the mouth on the picture's right.
    MouthRight,
}

impl FacePoint {
    /// Every point.
    pub const ALL: [FacePoint; 5] = [
        FacePoint::LeftEye,
        FacePoint::RightEye,
        FacePoint::Nose,
        FacePoint::MouthLeft,
        FacePoint::MouthRight,
    ];

    /// The point's name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            FacePoint::LeftEye => "left_eye",
            FacePoint::RightEye => "right_eye",
            FacePoint::Nose => "nose",
            FacePoint::MouthLeft => "mouth_left",
            FacePoint::MouthRight => "mouth_right",
        }
    }
}

/// What may stand in the manifest's `input` or beside it.
#[derive(Default)]
pub(super) struct Beside {
    pub face: Option<Json>,
    pub about: Option<Json>,
}

/// Text by free keys.
pub(super) type About = Vec<(String, String)>;

/// Reads the manifest's `input`, and what it or the manifest says about the network.
pub(super) fn parse_input(version: Version, value: Json, beside: Beside) -> Result<(Input, About)> {
    let mut object = Object::new("manifest: `input`", value)?;
    let channels = object.take_integer("channels", 1, None)?;
    if channels != 1 && channels != 3 {
        return Err(object.error("channels", "1 (luma) or 3 (RGB)", channels.to_string()));
    }
    let shape =
        Shape::new(channels, object.take_integer("height", 1, None)?, object.take_integer("width", 1, None)?);
    if shape.checked_len().is_none() {
        return Err(object.error("height", "an image that fits the address space", shape.to_string()));
    }
    let mut per_channel = |key: &'static str| -> Result<Vec<f32>> {
        let expected = format!("an array of {channels} finite numbers, one a channel");
        let values = object
            .take_array(key, "a finite number", as_f32)?
            .ok_or_else(|| object.error(key, &expected, "nothing: the key is missing"))?;
        match values.len() == channels {
            true => Ok(values),
            false => Err(object.error(key, expected, format!("{} numbers", values.len()))),
        }
    };
    let (mean, std) = (per_channel("mean")?, per_channel("std")?);
    if let Some(bad) = std.iter().find(|&&v| v <= 0.0) {
        return Err(object.error("std", "numbers greater than 0", bad.to_string()));
    }
    for (mean, std) in mean.iter().zip(&std) {
        let normalised = [1.0 / std, -mean / std, (1.0 - mean) / std];
        if !normalised.iter().all(|v| v.is_finite()) {
            let expected = "a number by which (v - mean) / std is finite for v from 0 to 1";
            return Err(object.error("std", expected, format!("{std:e}, with a mean of {mean:e}")));
        }
    }
    let (mut order, mut face, mut about) = (ChannelOrder::Rgb, None, About::new());
    if version >= Version::Two {
        order = take_order(&mut object, channels)?;
        face = take_once(&mut object, "face", beside.face)?.map(parse_face).transpose()?;
        about = take_once(&mut object, "about", beside.about)?.map_or(Ok(About::new()), parse_about)?;
    }
    object.finish()?;
    Ok((Input { shape, mean, std, order, face }, about))
}

/// The value of a key of `input` that may stand beside it instead.
fn take_once(object: &mut Object, key: &'static str, beside: Option<Json>) -> Result<Option<Json>> {
    match (object.take(key), beside) {
        (Some(_), Some(_)) => Err(object.error(key, "one, in `input` or beside it", "both")),
        (inside, beside) => Ok(inside.or(beside)),
    }
}

fn parse_about(value: Json) -> Result<About> {
    const PLACE: &str = "manifest: `about`";
    let Json::Object(members) = value else {
        return Err(Error::new(ErrorKind::Model, PLACE, "an object of strings", value.to_string()));
    };
    let text = |(key, value): (String, Json)| match as_string(&value) {
        Some(text) => Ok((key, text)),
        None => {
            let place = format!("{PLACE}: {}", quoted(&key));
            Err(Error::new(ErrorKind::Model, place, "a string", value.to_string()))
        }
    };
    members.into_iter().map(text).collect()
}

fn take_order(object: &mut Object, channels: usize) -> Result<ChannelOrder> {
    match object.take_string("order")?.as_deref() {
        None | Some("rgb") => Ok(ChannelOrder::Rgb),
        Some("bgr") if channels == 3 => Ok(ChannelOrder::Bgr),
        Some("bgr") => Err(object.error("order", "no order of one channel", quoted("bgr"))),
        Some(other) => Err(object.error("order", "rgb or bgr", quoted(other))),
    }
}

fn parse_face(value: Json) -> Result<FaceCrop> {
    let mut object = Object::new("manifest: `face`", value)?;
    let crop = match (object.take("box"), object.take("points")) {
        (Some(square), None) => parse_box(square)?,
        (None, Some(points)) => parse_points(points)?,
        (None, None) => {
            return Err(object.error("box", "`box` or `points`", "neither"));
        }
        (Some(_), Some(_)) => return Err(object.error("box", "`box` or `points`", "both")),
    };
    object.finish()?;
    Ok(crop)
}

fn parse_box(value: Json) -> Result<FaceCrop> {
    let mut object = Object::new("manifest: `face`: `box`", value)?;
    let scale = object.take_f32("scale")?.ok_or_else(|| {
        object.error("scale", "a number greater than 0", "nothing: the key is missing")
    })?;
    if scale <= 0.0 {
        return Err(object.error("scale", "a number greater than 0", scale.to_string()));
    }
    let shift = match object.take_array("shift", "a finite number", as_f32)?.as_deref() {
        None => [0.0; 2],
        Some(&[x, y]) => [x, y],
        Some(other) => return Err(object.error("shift", "two numbers, [x, y]", format!("{other:?}"))),
    };
    object.finish()?;
    Ok(FaceCrop::Box { scale, shift })
}

fn parse_points(value: Json) -> Result<FaceCrop> {
    let mut object = Object::new("manifest: `face`: `points`", value)?;
    let mut points = Vec::new();
    for point in FacePoint::ALL {
        match object.take_array(point.name(), "a finite number", as_f32)?.as_deref() {
            None => {}
            Some(&[x, y]) => points.push((point, [x, y])),
            Some(other) => {
                return Err(object.error(point.name(), "two numbers, [x, y]", format!("{other:?}")));
            }
        }
    }
    let apart = points.iter().any(|(_, at)| *at != points[0].1);
    if points.len() < 2 || !apart {
        let found =
            format!("{} of them, {}", points.len(), if apart { "too few" } else { "all in one place" });
        return Err(object.error("left_eye", "at least two points, in two places", found));
    }
    object.finish()?;
    Ok(FaceCrop::Points(points))
}
