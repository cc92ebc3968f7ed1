//! The CUDA side: the border to the kernels, and everything about a launch that is decided without a device.
//!
//! `kernels/abi.h` is the border in C; [`abi`] holds the same bytes. [`variants`] is the table of kernel variants,
//! [`launch`] goes from parameters to a launch (kernel, grid, shared memory), [`pack`] from a model's weights to the
//! layouts that the kernels read. None of it touches a driver.

pub mod abi;
pub mod image;
pub mod launch;
pub mod pack;
pub mod variants;
