//! NVIDIA GPUs: what this machine has of them.
//!
//! This version has no CUDA kernels; it finds the driver and its devices, so that whoever asks for one is told what
//! is there and what is missing.

mod probe;

pub use probe::{DeviceInfo, Driver, probe};

/// The GPU architectures that kernels are embedded for.
pub fn embedded_architectures() -> &'static [&'static str] {
    &[]
}
