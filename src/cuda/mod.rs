//! NVIDIA GPUs: what this machine has of them, and the backend that runs plans on them.
//!
//! [`probe`] finds the driver and its devices. With the feature `cuda`, `build.rs` compiles `kernels/` where it finds
//! nvcc and `image` embeds the result. From there to a running network:
//!
//! ```text
//! CudaPlan --node::prepare--> launch, parameters --stream::Stream::capture--> graph --Session::run--> results
//! ```
//!
//! `kernels/abi.h` is the border in C, `abi` holds the same bytes; `launch` goes from parameters to a grid; `node` from
//! a node of the plan to parameters; `driver` and `stream` own what the driver gives; `engine` has kernels and weights,
//! `session` memory, stream and graphs; `bound` is a run with nothing left to decide; `tune` measures tiles.

// An operator or an instruction set that nobody handles is an error of the compiler.
#![warn(clippy::wildcard_enum_match_arm)]

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
#[cfg(feature = "cuda")]
#[allow(missing_docs, reason = "tests alone see it from outside")]
pub(crate) mod launch;
#[cfg(feature = "cuda")]
mod node;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the backend reads it"))]
pub(crate) mod plan;
mod probe;
#[cfg(feature = "cuda")]
mod session;
#[cfg(feature = "cuda")]
mod stream;
#[cfg(feature = "cuda")]
pub(crate) mod tune;

#[cfg(feature = "cuda")]
pub use bound::Bound;
#[cfg(feature = "cuda")]
pub(crate) use engine::CudaEngine;
#[cfg(feature = "cuda")]
pub(crate) use plan::variants;
#[cfg(feature = "cuda")]
pub(crate) use session::CudaSession;
#[cfg(feature = "cuda")]
pub(crate) use tune::measure;

pub use probe::{DeviceInfo, Driver, probe, usable};

use crate::tensor::Branch;

/// The GPU architectures that kernels are embedded for, as in `sm_90`; none where the build found no nvcc.
pub fn embedded_architectures() -> Vec<&'static str> {
    #[cfg(feature = "cuda")]
    return image::architectures().collect();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// How a caller's pixels lie in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// [N, C, H, W] of f32, already normalised.
    F32,
    /// [N, H, W, C] of bytes, normalised on the device as [`Input`](crate::model::Input) says.
    U8 {
        /// Bytes from one row to the next, at least W * C.
        row_stride: usize,
        /// Bytes from one image to the next, at least H rows.
        image_stride: usize,
    },
}

/// Images in device memory, for [`Session::enqueue`](crate::Session::enqueue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceImages {
    pub(crate) pixels: u64,
    pub(crate) format: PixelFormat,
    pub(crate) count: usize,
}

impl DeviceImages {
    /// So many images from the address of the first pixel on, which is a multiple of 4 where the format is f32.
    pub fn new(pixels: u64, format: PixelFormat, count: usize) -> Self {
        DeviceImages { pixels, format, count }
    }
}

/// Where [`Session::enqueue`](crate::Session::enqueue) writes its results: addresses in device memory of f32
/// [N, labels], multiples of 4; 0, as at first, for what is not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct DevicePredictions {
    /// Of emotion and au.
    pub(crate) logits: [u64; 2],
    pub(crate) probabilities: [u64; 2],
}

impl DevicePredictions {
    /// Nothing is wanted.
    pub fn new() -> Self {
        DevicePredictions::default()
    }

    /// Where the logits of a branch go.
    pub fn logits(mut self, branch: Branch, address: u64) -> Self {
        self.logits[branch as usize] = address;
        self
    }

    /// Where the probabilities of a branch go. Emotion: a softmax. AU: a sigmoid each.
    pub fn probabilities(mut self, branch: Branch, address: u64) -> Self {
        self.probabilities[branch as usize] = address;
        self
    }
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

/// A stream of the caller's, a `CUstream` of the driver's API or a `cudaStream_t` of the runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub *mut std::ffi::c_void);
