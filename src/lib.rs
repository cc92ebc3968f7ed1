//! Inference with AWS-Net: two parallel CNN branches, one for emotions and one for facial action units (AUs), that
//! share what they learn.
//!
//! Behind each layer pair an AWS-Unit mixes the two branches with learnt weights, which say where and how much each
//! task borrows from the other. A [model file](Model::load) holds such a network; this crate runs it.
//!
//! # The walk
//!
//! ```text
//! file --Model::load--> Model --Plan::build--> Plan --Engine::new--> Engine --Session::run--> Predictions
//! ```
//!
//! Each arrow is one function, and the only place for its kind of error: the file, the shapes, the device, the
//! input. An [`Engine`] is immutable and shared between threads; a [`Session`] is one caller's memory and needs no
//! lock.
//!
//! ```
//! use awsnet::model::init::{Architecture, InitOptions, init};
//! use awsnet::{Engine, EngineOptions, Model, Plan, PlanOptions};
//!
//! # fn main() -> awsnet::Result<()> {
//! // A network with random weights; `Model::load("file.safetensors")` reads a trained one.
//! let bytes = init(&InitOptions::new().architecture(Architecture::Tiny))?;
//! let model = Model::from_bytes(&bytes)?;
//!
//! let plan = Plan::build(model, &PlanOptions::new().batch(4))?; // on a GPU where one works, else on the CPU
//! println!("{plan}"); // every choice that was made
//! let engine = Engine::new(plan, &EngineOptions::new().threads(2))?;
//!
//! let mut session = engine.session()?;
//! let images = vec![0.0; 3 * engine.plan().input().shape.len()]; // three images, [N, C, H, W], normalised
//! for prediction in session.run(&images)? {
//!     let active: Vec<&str> = prediction.active().map(|au| au.label).collect();
//!     println!("{} {active:?}", prediction.emotion().map_or("", |emotion| emotion.label));
//!     for head in prediction.heads() {
//!         assert_eq!(head.probabilities.len(), head.labels.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where what is
//!
//! [`model`] is the file format, [`op`] the operators, [`Plan`] every decision made before running, [`verify`] a
//! backend against the oracle, [`mod@bench`] the plan's choices for a CPU against measurements, [`tune`] a GPU's tiles,
//! measured. The backends are private: a [`Device`] selects one, the oracle in naive loops among them. [`cuda`] is what a
//! caller with a GPU of its own needs; `image` (a feature of this name) decodes and fits image files; `face` (likewise) finds
//! faces in pictures and cuts them out.
//!
//! # Features
//!
//! On by default: `cuda`, the CUDA backend. Off by default: `image` and `face`, as above; `ndarray`, images from arrays and scores as
//! arrays; `serde`, `Serialize` for predictions, shapes, branches and kinds of errors; `log`, plans and captured graphs in
//! the application's log; `capi`, the C interface; `onnx`, model files from ONNX files; `cli`, the command line, which brings
//! `face`, `image` and `onnx`.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod __tests;
pub mod bench;
#[cfg(feature = "capi")]
mod capi;
mod cpu;
pub mod cuda;
mod device;
mod engine;
mod error;
#[cfg(feature = "face")]
pub mod face;
#[doc(hidden)]
pub mod file;
mod float_environment;
mod graph;
#[cfg(any(feature = "image", feature = "face"))]
pub mod image;
mod limits;
mod log;
mod memory;
pub mod model;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod op;
mod parallel;
mod pixels;
mod plan;
mod predictions;
mod reference;
mod session;
mod tensor;
pub mod tune;
pub mod verify;

pub use cpu::{Affinity, Executor, Help, Pool, PoolOptions};
pub use device::{Device, Resolved};
pub use engine::{Engine, EngineOptions, Graphs};
pub use error::{Error, ErrorKind, Result};
pub use model::Model;
pub use pixels::{Images, ImagesU8};
pub use plan::{
    Conv2dAlgorithm, Gpu, Isa, Node, Plan, PlanOptions, Precision, Target, Tuning, WinogradTile, Work,
};
pub use predictions::{
    HeadPrediction, OwnedPrediction, Prediction, Predictions, PredictionsIter, Score, Scores,
};
pub use session::{RunOptions, Session};
pub use tensor::{DType, Shape, Tensor};
