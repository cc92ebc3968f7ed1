//! From an image file to the faces in it, each as the network reads it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use awsnet::face::{self, DetectorSession, Face};
use awsnet::image::{self, FaceBox, Fit, Frame, Limits, Picture};
use awsnet::model::Input;

use super::boxes::Boxes;
use crate::failure::shown;
use crate::files::{self, Found};
use crate::output;

/// What a picture is taken for.
pub enum Faces {
    /// A face, whole or in the box, the same of every picture.
    Whole(Option<FaceBox>, Fit),
    /// Where a file says that they are.
    Listed(Boxes),
    /// As many as the detector finds.
    Detected,
}

/// A face of a picture, and what the network reads of it.
pub struct Taken {
    /// None where the picture is taken whole.
    pub face: Option<Face>,
    /// [C, H, W], normalised.
    pub pixels: Vec<f32>,
}

/// The faces of a picture, which may be none.
pub struct Takings {
    pub faces: Vec<Taken>,
    /// Where it is to be drawn on.
    pub picture: Option<Picture>,
}

/// What a thread needs to take faces out of pictures.
pub struct Taker<'a> {
    pub faces: &'a Faces,
    pub input: &'a Input,
    pub detector: Option<DetectorSession>,
    /// Whether pictures are wanted behind their faces.
    pub draws: bool,
}

impl Taker<'_> {
    pub fn file(&mut self, file: &Found) -> Result<Takings, String> {
        if let Some(error) = &file.error {
            return Err(error.clone());
        }
        match files::piped(&file.path) {
            Some(bytes) => bytes.and_then(|bytes| self.bytes(file, &bytes)),
            None => self.opened(file, || image::open(&file.path, &Limits::default())),
        }
    }

    /// The faces of a picture that is in memory.
    pub fn bytes(&mut self, file: &Found, bytes: &[u8]) -> Result<Takings, String> {
        self.opened(file, || image::decode(bytes, &Limits::default()))
    }

    fn opened(
        &mut self,
        file: &Found,
        open: impl FnOnce() -> awsnet::Result<Picture>,
    ) -> Result<Takings, String> {
        let of_file = |e: awsnet::Error| match e.file() {
            Some(_) => e.to_string(),
            None => format!("{}: {e}", shown(&file.path)),
        };
        let opened = catch_unwind(AssertUnwindSafe(open));
        let picture = opened.map_err(|_| {
            let expected = "expected an image that can be decoded, found one that breaks the decoder";
            format!("{}: {expected}", shown(&file.path))
        })?;
        let picture = picture.map_err(of_file)?;
        if let Faces::Listed(boxes) = self.faces {
            let faces = boxes.of(&file.path, &picture)?;
            let faces = self.cut_all(&Frame::from(&picture), &faces).map_err(of_file)?;
            return Ok(Takings { faces, picture: self.draws.then_some(picture) });
        }
        let faces = self.picture(&file.path, &picture).map_err(of_file)?;
        Ok(Takings { faces, picture: self.draws.then_some(picture) })
    }

    fn picture(&mut self, path: &Path, picture: &Picture) -> awsnet::Result<Vec<Taken>> {
        match self.faces {
            Faces::Whole(face, fit) => {
                if face.is_none() {
                    warn_of_photograph(path, picture, self.input);
                }
                // The format holds a side to 32 bits.
                let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
                let (width, height) = (side(self.input.shape.width), side(self.input.shape.height));
                let fitted = image::prepare(picture, *face, *fit, width, height)?;
                Ok(vec![Taken { face: None, pixels: self.normalised(&fitted)? }])
            }
            Faces::Listed(_) | Faces::Detected => {
                let faces = self.detect(&Frame::from(picture))?;
                self.cut_all(&Frame::from(picture), &faces)
            }
        }
    }

    /// The faces that the detector finds in a frame, from left to right.
    pub fn frame(&mut self, frame: &Frame) -> awsnet::Result<Takings> {
        let faces = self.detect(frame)?;
        let picture = self.draws.then(|| frame.to_picture()).transpose()?;
        Ok(Takings { faces: self.cut_all(frame, &faces)?, picture })
    }

    fn cut_all(&self, frame: &Frame, faces: &[Face]) -> awsnet::Result<Vec<Taken>> {
        faces.iter().map(|face| self.cut(frame, face)).collect()
    }

    fn detect(&mut self, frame: &Frame) -> awsnet::Result<Vec<Face>> {
        let mut faces = match &mut self.detector {
            Some(detector) => detector.detect(frame)?,
            None => Vec::new(),
        };
        faces.sort_by(|a, b| a.bounds.x.total_cmp(&b.bounds.x));
        Ok(faces)
    }

    fn cut(&self, frame: &Frame, face: &Face) -> awsnet::Result<Taken> {
        let picture = face::cut(frame, face, self.input)?;
        Ok(Taken { face: Some(*face), pixels: self.normalised(&picture)? })
    }

    fn normalised(&self, picture: &Picture) -> awsnet::Result<Vec<f32>> {
        let input = self.input;
        let mut pixels = vec![0.0; input.shape.len()];
        image::normalise(picture, &input.mean, &input.std, input.order, &mut pixels)?;
        Ok(pixels)
    }
}

/// Says once a run that a picture does not look like a face alone: the networks know nothing else, and call a mountain
/// happy.
fn warn_of_photograph(path: &Path, picture: &Picture, input: &Input) {
    /// Of the longer side to the shorter, that of a usual photograph.
    const WIDE: f64 = 1.3;
    /// No photograph has a shorter side.
    const SMALL: f64 = 256.0;
    /// Of the picture's side to the network's.
    const LARGE: f64 = 16.0;
    static SAID: AtomicBool = AtomicBool::new(false);
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let wide = width.max(height) / width.min(height);
    let network = input.shape.width as f64 / input.shape.height as f64;
    let shorter = width.min(height);
    let (wide, large) =
        (wide >= WIDE * network.max(1.0 / network), shorter >= LARGE * input.shape.width as f64);
    if shorter >= SMALL && (wide || large) && !SAID.swap(true, Ordering::Relaxed) {
        output::remark(&format!(
            "{} is {width}x{height}, taken for a face as it is; --detect looks for the faces in a picture",
            shown(path)
        ));
    }
}
