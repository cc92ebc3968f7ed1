//! NVIDIA GPUs: what this machine has of them, the border to the kernels, and everything about a launch that is
//! decided without a device.
//!
//! [`probe`] finds the driver and its devices. With the feature `cuda`, `build.rs` compiles `kernels/` where it finds
//! nvcc, [`image`] embeds the result, and the hidden modules hold the border: `kernels/abi.h` is the border in C,
//! `abi` holds the same bytes; `variants` is the table of kernel variants; `launch` goes from parameters to a launch
//! (kernel, grid, shared memory); `pack` from a model's weights to the layouts that the kernels read. None of them
//! touches a driver. What runs whole networks with them is still to come.

#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod abi;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod image;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod launch;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod pack;
mod probe;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub mod variants;

pub use probe::{DeviceInfo, Driver, probe};

/// The GPU architectures that kernels are embedded for, as in `sm_90`; none where the build found no nvcc.
pub fn embedded_architectures() -> Vec<&'static str> {
    #[cfg(feature = "cuda")]
    return image::architectures().collect();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}
