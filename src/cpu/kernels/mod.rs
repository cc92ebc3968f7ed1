//! The kernels of the CPU backend, an operator a file, generic over an instruction set's vectors.
//!
//! [`dispatch`] compiles them for each instruction set and leads from a node to its kernel; [`compiled`] is what there is
//! of tiles; [`epilogue`] is what is fused behind operators, [`activation`] a part of it.

mod activation;
mod aws_gate;
pub(super) mod block_task;
pub(super) mod compiled;
mod concat;
mod conv2d_depthwise;
mod conv2d_direct;
mod conv2d_max_pool;
mod conv2d_winograd;
pub(super) mod dispatch;
mod epilogue;
mod identity;
mod image_to_blocks;
mod pool2d;
mod upsample2d;

#[cfg(test)]
mod tests;
