//! NVIDIA GPUs: what this machine has of them, and the backend that runs plans on them.
//!
//! [`probe`] finds the driver and its devices. With the feature `cuda`, `build.rs` compiles `kernels/` where it finds
//! nvcc and [`image`] embeds the result. From there to a running network:
//!
//! ```text
//! plan::cuda --node::prepare--> launch, parameters --stream::Stream::capture--> graph --Session::run--> results
//! ```
//!
//! `kernels/abi.h` is the border in C, `abi` holds the same bytes; `launch` goes from parameters to a grid; `node` from
//! a node of the plan to parameters; `driver` and `stream` own what the driver gives; `engine` has kernels and weights,
//! `session` memory, stream and graphs; `bound` is a run with nothing left to decide; `tune` measures tiles.

#![allow(unsafe_code, reason = "calls of the CUDA driver, and memory that it reads and writes")]

#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod abi;
#[cfg(feature = "cuda")]
mod bound;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "cuda")]
mod engine;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod image;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod launch;
#[cfg(feature = "cuda")]
mod node;
mod probe;
#[cfg(feature = "cuda")]
mod session;
#[cfg(feature = "cuda")]
mod stream;
#[cfg(feature = "cuda")]
mod tune;

#[doc(hidden)]
pub use crate::plan::cuda::{pack, variants};
#[cfg(feature = "cuda")]
pub use bound::Bound;
#[cfg(feature = "cuda")]
pub(crate) use engine::CudaEngine;
#[cfg(feature = "cuda")]
pub(crate) use session::CudaSession;
#[cfg(feature = "cuda")]
pub use tune::Measurement;
#[cfg(feature = "cuda")]
pub(crate) use tune::measure;

pub use probe::{DeviceInfo, Driver, probe, usable};

/// The GPU architectures that kernels are embedded for, as in `sm_90`; none where the build found no nvcc.
pub fn embedded_architectures() -> Vec<&'static str> {
    #[cfg(feature = "cuda")]
    return image::architectures().collect();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// How a caller's pixels lie in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The address of the first pixel; of f32 a multiple of 4.
    pub pixels: u64,
    /// How they lie.
    pub format: PixelFormat,
    /// The number of images, N.
    pub count: usize,
}

/// Where [`Session::enqueue`](crate::Session::enqueue) writes its results: addresses in device memory of f32
/// [N, labels], multiples of 4, for emotion and au; 0 for what is not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DevicePredictions {
    /// Before softmax or sigmoid.
    pub logits: [u64; 2],
    /// Emotion: a softmax. AU: a sigmoid each.
    pub probabilities: [u64; 2],
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
