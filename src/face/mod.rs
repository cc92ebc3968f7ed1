//! Faces in pictures: where they are, and each as a network wants to see it.
//!
//! ```text
//! Frame --DetectorSession::detect--> Face, Face, ... --cut--> Picture of the input's size --> Session::run
//!         BlazeFace, on awsnet         box, points,   as the model's `face` says
//!                                      score
//! ```
//!
//! The detector is MediaPipe's BlazeFace for back-facing cameras (V. Bazarevsky and others, "BlazeFace: Sub-millisecond
//! Neural Face Detection on Mobile GPUs", 2019), a model file like any other, which the library carries
//! (models/face-detector.safetensors, Apache-2.0) and runs on its own kernels.
//!
//! ```no_run
//! use awsnet::face::{Detector, DetectorOptions, cut};
//! use awsnet::image::{Frame, PixelFormat};
//! use awsnet::{Engine, EngineOptions, Model, Plan, PlanOptions};
//!
//! # fn main() -> awsnet::Result<()> {
//! # let camera = vec![0; 640 * 480 * 3];
//! let plan = Plan::build(Model::load("models/demo.safetensors")?, &PlanOptions::new())?;
//! let input = plan.input().clone();
//! let mut session = Engine::new(plan, &EngineOptions::new())?.session()?;
//! let mut detector = Detector::new(&DetectorOptions::new().min_score(0.6))?.session()?;
//!
//! let frame = Frame::new(PixelFormat::Bgr, &camera, 640, 480)?;
//! for face in detector.detect(&frame)? {
//!     let picture = cut(&frame, &face, &input)?; // RGB, of the network's size
//!     let predictions = session.run(awsnet::ImagesU8::from(&picture))?;
//!     println!("{:?}: {:?}", face.bounds, predictions.get(0).and_then(|face| face.emotion()));
//! }
//! # Ok(())
//! # }
//! ```

mod anchors;
mod cut;
mod detector;
mod squares;
mod suppression;

pub use cut::{DEFAULT_CROP, cut, unknown_points};
pub use detector::{Detector, DetectorOptions, DetectorSession};

/// A rectangle in pixels of a picture, from its upper left corner. It may cross the borders.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The left side.
    pub x: f32,
    /// The upper side.
    pub y: f32,
    /// From the left side to the right.
    pub width: f32,
    /// From the upper side to the lower.
    pub height: f32,
}

impl Bounds {
    /// The area of what both cover, divided by that of what either covers; 0 where they do not meet.
    pub fn overlap(&self, other: &Bounds) -> f32 {
        let common = |a: f32, a_size: f32, b: f32, b_size: f32| (a + a_size).min(b + b_size) - a.max(b);
        let width = common(self.x, self.width, other.x, other.width).max(0.0);
        let height = common(self.y, self.height, other.y, other.height).max(0.0);
        let common = width * height;
        let either = self.width * self.height + other.width * other.height - common;
        if either > 0.0 { common / either } else { 0.0 }
    }
}

/// The points of a face that the detector knows, each [x, y] in pixels of the picture. Left is the picture's left where the
/// face stands upright.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Points {
    /// The eye on the left.
    pub left_eye: [f32; 2],
    /// The eye on the right.
    pub right_eye: [f32; 2],
    /// The tip of the nose.
    pub nose: [f32; 2],
    /// The middle of the mouth.
    pub mouth: [f32; 2],
    /// In front of the ear on the left.
    pub left_ear: [f32; 2],
    /// In front of the ear on the right.
    pub right_ear: [f32; 2],
}

/// A face in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Face {
    /// About from the brows to the chin, and from ear to ear.
    pub bounds: Bounds,
    /// From 0 to 1, how sure the detector is.
    pub score: f32,
    /// Where its points are; none where only the bounds are known.
    pub points: Option<Points>,
}

impl Face {
    /// A face that something else has found.
    pub fn new(bounds: Bounds) -> Self {
        Face { bounds, score: 1.0, points: None }
    }
}
