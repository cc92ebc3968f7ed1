//! Inference with AWS-Net.
mod cpu;
pub mod cuda;
mod device;
mod engine;
mod error;
#[cfg(feature = "image")]
pub mod image;
mod memory;
pub mod model;
pub mod op;
pub mod plan;
mod predictions;
pub mod reference;
pub mod tensor;
pub mod verify;

pub use device::{Device, Resolved};
pub use engine::{Engine, EngineOptions, Session};
pub use error::{Error, ErrorKind, Result};
pub use model::Model;
pub use plan::{Isa, Plan, PlanOptions, Precision, Target};
pub use predictions::{Prediction, Predictions, Scores};
pub use tensor::{Branch, DType, Shape, Tensor};
