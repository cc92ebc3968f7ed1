//! Inference with AWS-Net.
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod cuda;
mod error;

pub use error::{Error, ErrorKind, Result};
