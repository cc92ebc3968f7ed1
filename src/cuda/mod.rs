//! NVIDIA GPUs: what this machine has of them, and the backend that runs plans on them.
//!
//! [`probe`] finds the driver and its devices, [`usable`] says which of them this build can run on. With the feature
//! `cuda`, `build.rs` compiles `kernels/` where it finds nvcc and `image` embeds the result. From there to a running
//! network:
//!
//! ```text
//! CudaPlan --node::prepare--> launch, parameters --stream::Stream::capture--> graph --Session::run--> results
//! ```
//!
//! `kernels/abi.h` is the border in C, `abi` holds the same bytes; `launch` goes from parameters to a grid; `node` from
//! a node of the plan to parameters; `driver` and `stream` own what the driver gives; `engine` has kernels and weights,
//! `session` memory, stream and graphs; `bound` is a run with nothing left to decide; `measure` measures tiles; `interop` is
//! what a caller has on the device.

// An operator or an instruction set that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]
#![allow(unsafe_code, reason = "calls of the CUDA driver, and memory that it reads and writes")]

#[cfg(feature = "cuda")]
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod abi;
#[cfg(feature = "cuda")]
mod bound;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "cuda")]
mod engine;
#[cfg(feature = "cuda")]
pub(crate) mod image;
mod interop;
#[cfg(feature = "cuda")]
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod launch;
#[cfg(feature = "cuda")]
mod library;
#[cfg(feature = "cuda")]
mod measure;
#[cfg(feature = "cuda")]
mod node;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the backend reads it"))]
pub(crate) mod plan;
mod probe;
#[cfg(feature = "cuda")]
mod session;
#[cfg(feature = "cuda")]
mod stream;
mod usable;

#[cfg(feature = "cuda")]
pub use bound::Bound;
#[cfg(feature = "cuda")]
pub(crate) use engine::CudaEngine;
#[cfg(feature = "cuda")]
pub(crate) use measure::{Timing, measure};
#[cfg(feature = "cuda")]
pub(crate) use plan::variants;
#[cfg(feature = "cuda")]
pub(crate) use session::CudaSession;

pub use interop::{DeviceImages, DevicePredictions, PixelFormat, Stream};
pub use probe::{DeviceInfo, Driver, probe};
pub use usable::usable;

/// The GPU architectures that kernels are embedded for, as in `sm_90`; none where the build found no nvcc.
pub fn embedded_architectures() -> Vec<&'static str> {
    #[cfg(feature = "cuda")]
    return image::architectures().collect();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// A run that cannot be: this build has no CUDA backend.
#[cfg(not(feature = "cuda"))]
#[derive(Debug)]
pub enum Bound {}

#[cfg(not(feature = "cuda"))]
impl Bound {
    /// Never called.
    ///
    /// # Safety
    ///
    /// None is needed.
    pub unsafe fn launch(&mut self) -> crate::error::Result<()> {
        match *self {}
    }
}
