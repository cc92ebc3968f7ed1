//! The detector: a model made ready, and one caller's looks at pictures.

use super::Face;
use super::anchors::{GRIDS, NUMBERS, decode};
use super::squares::{LEAST_FACE, squares};
use super::suppression::suppress;
use crate::device::Device;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::image::Frame;
use crate::image::resize::{Square, resize_square};
use crate::model::{HeadKind, Model};
use crate::pixels::ImagesU8;
use crate::plan::{Plan, PlanOptions};
use crate::session::Session;

/// BlazeFace; tools/face-detector makes the file.
static BUILT_IN: &[u8] = include_bytes!("../../models/face-detector.safetensors");

/// Squares that run together, at most.
const MOST_BATCH: usize = 8;

/// In a closer look, faces have at most this part of the square's side: larger ones are seen whole in the look before, and
/// what is large there is most often a pattern. What is far smaller than [`LEAST_FACE`] is left to the look behind.
const MOST_CLOSE: f64 = 0.3;
/// The least score of a closer look, of which there are many for a picture.
const CLOSE_SCORE: f32 = 0.8;

/// How a [`Detector`] is made.
#[derive(Clone, Debug)]
#[must_use]
pub struct DetectorOptions {
    min_score: f32,
    min_face: f32,
    device: Device,
    engine: EngineOptions,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        DetectorOptions { min_score: 0.6, min_face: 0.0, device: Device::Cpu, engine: EngineOptions::new() }
    }
}

impl DetectorOptions {
    /// The built-in detector on the CPU.
    pub fn new() -> Self {
        DetectorOptions::default()
    }

    /// Faces that the detector is less sure of are left out; from 0 to 1, 0.6 by default. In closer
    /// looks, of which there are many for a picture, it is at least 0.8.
    pub fn min_score(mut self, score: f32) -> Self {
        self.min_score = score;
        self
    }

    /// How small a face may be, in pixels of its bounds' width. By default a tenth of the picture's longer side, which is
    /// what one look at the whole picture finds; smaller faces need closer looks, at four times as many squares each time
    /// that it is halved, and those that are clearly smaller are left out. No picture has more than 256 looks: the closest are
    /// left out where it would.
    pub fn min_face(mut self, pixels: f32) -> Self {
        self.min_face = pixels;
        self
    }

    /// Where the detector runs: by default the CPU, where a picture is ready faster than it is on its way to a GPU and
    /// back.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Its threads.
    pub fn engine(mut self, options: EngineOptions) -> Self {
        self.engine = options;
        self
    }
}

/// A face detector made ready to run. Threads share it.
#[derive(Debug)]
pub struct Detector {
    engine: Engine,
    min_score: f32,
    min_face: f32,
    /// Of the square that the network reads.
    side: usize,
}

impl Detector {
    /// The built-in detector.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Input`] where an option is no number or out of range; what making an [`Engine`] may end in.
    pub fn new(options: &DetectorOptions) -> Result<Self> {
        Detector::with_model(Model::from_bytes(BUILT_IN)?, options)
    }

    /// Another detector of BlazeFace's kind: a model that reads RGB squares of a multiple of 32 pixels and has the heads
    /// `scores16`, `boxes16`, `scores8` and `boxes8` of plain numbers, [2, n, n], [32, n, n], [6, n/2, n/2] and [96, n/2, n/2]
    /// with a cell every 16 and 32 pixels: a score, then a box and six points an anchor.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ErrorKind::Model`] where the model is no such detector.
    pub fn with_model(model: Model, options: &DetectorOptions) -> Result<Self> {
        let option = |place, value: f32, expected: &str, fits: bool| match fits {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Input, place, expected, value.to_string())),
        };
        option(
            "min_score",
            options.min_score,
            "a number from 0 to 1",
            (0.0..=1.0).contains(&options.min_score),
        )?;
        let sane = options.min_face >= 0.0 && options.min_face.is_finite();
        option("min_face", options.min_face, "a number of pixels, 0 or more", sane)?;
        let side = check(&model)?;
        let plan = Plan::build(model, &PlanOptions::new().device(options.device).batch(MOST_BATCH))?;
        let engine = Engine::new(plan, &options.engine)?;
        Ok(Detector { engine, min_score: options.min_score, min_face: options.min_face, side })
    }

    /// What a thread needs to look for faces.
    ///
    /// # Errors
    ///
    /// As [`Engine::session`].
    pub fn session(&self) -> Result<DetectorSession> {
        Ok(DetectorSession {
            session: self.engine.session()?,
            min_score: self.min_score,
            min_face: self.min_face,
            side: self.side,
            pixels: Vec::new(),
        })
    }
}

/// The side of the square that a detector reads. Errors: a model that is none.
fn check(model: &Model) -> Result<usize> {
    let wrong =
        |expected: String, found: String| Error::new(ErrorKind::Model, "face detector", expected, found);
    let shape = model.input().shape;
    let side = shape.width;
    if shape.channels != 3 || shape.height != side || !side.is_multiple_of(32) {
        return Err(wrong("an input of 3 x n x n, n a multiple of 32".to_owned(), shape.to_string()));
    }
    for grid in &GRIDS {
        for (name, numbers) in grid.heads.into_iter().zip([1, NUMBERS]) {
            let len = grid.anchors * numbers * (side / grid.stride).pow(2);
            let expected = || format!("a head `{name}` of {len} plain numbers");
            match model.head(name) {
                None => {
                    let names: Vec<&str> = model.heads().iter().map(|head| head.name()).collect();
                    return Err(wrong(expected(), format!("the heads {}", names.join(", "))));
                }
                Some(head) if head.kind() != HeadKind::Values || head.len() != len => {
                    return Err(wrong(expected(), format!("{} of kind {:?}", head.len(), head.kind())));
                }
                Some(_) => {}
            }
        }
    }
    Ok(side)
}

/// One thread's looks at pictures.
#[derive(Debug)]
pub struct DetectorSession {
    session: Session,
    min_score: f32,
    min_face: f32,
    side: usize,
    /// Of the squares that run together, [N, H, W, C].
    pixels: Vec<u8>,
}

impl DetectorSession {
    /// The faces in a frame, the surest first.
    ///
    /// Faces that are turned by more than about 30 degrees in the picture's plane, or look away, may be missed.
    ///
    /// # Errors
    ///
    /// What a run may end in.
    pub fn detect(&mut self, frame: &Frame) -> Result<Vec<Face>> {
        let _environment = FloatEnvironment::enter();
        let by_default = 0.1 * frame.width().max(frame.height()) as f64;
        let min_face = if self.min_face > 0.0 { f64::from(self.min_face) } else { by_default };
        let mut faces = Vec::new();
        let squares = squares(frame.width(), frame.height(), min_face);
        let sides = [squares[squares.len() - 1].side, squares[0].side];
        for squares in squares.chunks(MOST_BATCH) {
            self.look(frame, squares, sides, &mut faces)?;
        }
        let mut faces = suppress(faces);
        faces.retain(|face| f64::from(face.bounds.width) >= 0.75 * f64::from(self.min_face));
        Ok(faces)
    }

    /// Runs the squares as one batch, and adds every box that is sure enough; the sides are those of the closest
    /// look and of the first.
    fn look(
        &mut self,
        frame: &Frame,
        squares: &[Square],
        [closest, whole]: [f64; 2],
        faces: &mut Vec<Face>,
    ) -> Result<()> {
        let side = self.side;
        self.pixels.clear();
        for &square in squares {
            let picture = resize_square(frame, square, side as u32, side as u32)?;
            self.pixels.extend_from_slice(picture.pixels());
        }
        let mut seen = Vec::new();
        let predictions = self.session.run(ImagesU8::new(&self.pixels, side, side, 3))?;
        for (index, &square) in squares.iter().enumerate() {
            let close = square.side < whole;
            let min_score = if close { self.min_score.max(CLOSE_SCORE) } else { self.min_score };
            for grid in &GRIDS {
                let numbers = grid.heads.map(|name| {
                    let scores = predictions.head(name).map_or(&[][..], |scores| scores.logits);
                    let len = scores.len() / squares.len();
                    &scores[index * len..(index + 1) * len]
                });
                decode(grid, numbers, side, square, min_score, &mut seen);
            }
            let most = if close { MOST_CLOSE * square.side } else { f64::INFINITY };
            let least = if square.side > closest { LEAST_FACE / 2.0 * square.side } else { 0.0 };
            faces
                .extend(seen.drain(..).filter(|face| (least..=most).contains(&f64::from(face.bounds.width))));
        }
        Ok(())
    }
}
