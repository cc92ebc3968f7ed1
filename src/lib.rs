//! Inference with AWS-Net.
mod error;

pub use error::{Error, ErrorKind, Result};
