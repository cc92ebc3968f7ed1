//! From parameters to a launch: which kernel, how many blocks of how many threads, how much shared memory.
//!
//! Pure functions of the parameter struct and the variant; kernels/README.md says what each block computes. A launch
//! the hardware cannot take (a grid beyond its limits, more shared memory than the device grants) is for the caller to
//! find: the figures here are exact.

use super::abi::{self, VECTOR};
use crate::plan::cuda::variants::{self, DirectVariant, Element, GemmVariant};

/// A kernel and the shape it is launched with. Blocks are one-dimensional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub kernel: String,
    pub grid: [usize; 3],
    pub threads: usize,
    pub shared_bytes: usize,
}

/// What a launch with split-K needs beside its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splitting {
    /// Bytes of the workspace.
    pub workspace_bytes: usize,
    /// Tickets, 4 bytes each, zero before the first launch.
    pub tickets: usize,
}

/// Blocks of `threads` threads that each handle one vector of one position.
fn per_vector(kernel: &str, element: Element, positions: usize, channels: usize) -> Launch {
    Launch {
        kernel: format!("{kernel}_{}", element.name()),
        grid: [(positions * channels.div_ceil(VECTOR)).div_ceil(variants::VECTOR_THREADS), 1, 1],
        threads: variants::VECTOR_THREADS,
        shared_bytes: 0,
    }
}

fn dual_gemm(op: &str, variant: &GemmVariant, positions: usize, channels: usize, splits: usize) -> Launch {
    Launch {
        kernel: format!("{op}_{}", variant.name),
        grid: [positions.div_ceil(variant.tile_m), channels.div_ceil(variant.tile_n), splits],
        threads: variant.threads(),
        shared_bytes: variant.shared_bytes,
    }
}

/// What `splits` parts of each tile's reduction need: nothing for one.
pub fn splitting(variant: &GemmVariant, positions: usize, channels: usize, splits: usize) -> Splitting {
    if splits <= 1 {
        return Splitting { workspace_bytes: 0, tickets: 0 };
    }
    let tiles = positions.div_ceil(variant.tile_m) * channels.div_ceil(variant.tile_n);
    Splitting {
        workspace_bytes: splits * tiles * 2 * variant.tile_m * variant.tile_n * size_of::<f32>(),
        tickets: tiles,
    }
}

fn conv2d_positions(p: &abi::Conv2dParams) -> usize {
    p.batch as usize * p.out_h as usize * p.out_w as usize
}

pub fn conv2d_implicit_gemm(variant: &GemmVariant, p: &abi::Conv2dParams) -> Launch {
    let channels = p.epilogue.channels as usize;
    dual_gemm("conv2d_implicit_gemm", variant, conv2d_positions(p), channels, p.splits.max(1) as usize)
}

pub fn conv2d_direct(variant: &DirectVariant, p: &abi::Conv2dParams) -> Launch {
    let vectors = (p.epilogue.channels as usize).div_ceil(VECTOR);
    Launch {
        kernel: format!("conv2d_direct_{}", variant.name),
        grid: [(conv2d_positions(p).div_ceil(variant.positions) * vectors).div_ceil(variant.threads), 1, 1],
        threads: variant.threads,
        shared_bytes: 0,
    }
}

pub fn conv2d_depthwise(element: Element, p: &abi::Conv2dParams) -> Launch {
    per_vector("conv2d_depthwise", element, conv2d_positions(p), p.epilogue.channels as usize)
}

pub fn conv2d_stem_shared_bytes(p: &abi::Conv2dStemParams) -> usize {
    let pair = |h: i32, w: i32| [h as usize, w as usize];
    let (kernel, stride) = (pair(p.kernel_h, p.kernel_w), pair(p.stride_h, p.stride_w));
    variants::stem_shared_bytes(kernel, stride, pair(p.dilation_h, p.dilation_w), p.image.channels as usize)
}

pub fn conv2d_stem(element: Element, p: &abi::Conv2dStemParams) -> Launch {
    let patches = |out: i32, patch: usize| (out as usize).div_ceil(patch);
    Launch {
        kernel: format!("conv2d_stem_{}", element.name()),
        grid: [
            p.batch as usize
                * patches(p.out_h, variants::STEM_PATCH_H)
                * patches(p.out_w, variants::STEM_PATCH_W),
            (p.epilogue.channels as usize).div_ceil(variants::STEM_CHANNELS),
            1,
        ],
        threads: variants::STEM_THREADS,
        shared_bytes: conv2d_stem_shared_bytes(p),
    }
}

pub fn pool2d(element: Element, p: &abi::Pool2dParams) -> Launch {
    let positions = p.batch as usize * p.out_h as usize * p.out_w as usize;
    per_vector("pool2d", element, positions, p.epilogue.channels as usize)
}

pub fn identity(element: Element, p: &abi::IdentityParams) -> Launch {
    per_vector("identity", element, p.positions as usize, p.epilogue.channels as usize)
}

pub fn aws_unit_dense(variant: &GemmVariant, p: &abi::AwsUnitDenseParams) -> Launch {
    let channels = p.epilogue.channels as usize;
    dual_gemm("aws_unit_dense", variant, p.positions as usize, channels, p.splits.max(1) as usize)
}

pub fn aws_unit_dense_f32(p: &abi::AwsUnitDenseParams) -> Launch {
    per_vector("aws_unit_dense", Element::F32, p.positions as usize, p.epilogue.channels as usize)
}

pub fn aws_unit_gate_means(element: Element, p: &abi::AwsUnitGateMeansParams) -> Launch {
    Launch {
        kernel: format!("aws_unit_gate_means_{}", element.name()),
        grid: [
            (p.channels as usize).div_ceil(VECTOR).div_ceil(variants::GATE_MEANS_VECTORS),
            p.batch as usize,
            2,
        ],
        threads: variants::GATE_MEANS_THREADS,
        shared_bytes: variants::GATE_MEANS_THREADS * VECTOR * size_of::<f32>(),
    }
}

pub fn aws_unit_gate_coefficients(p: &abi::AwsUnitGateCoefficientsParams) -> Launch {
    Launch {
        kernel: "aws_unit_gate_coefficients".to_owned(),
        grid: [p.batch as usize, 1, 1],
        threads: variants::GATE_COEFFICIENTS_THREADS,
        shared_bytes: p.squeezed as usize * size_of::<f32>(),
    }
}

pub fn aws_unit_gate_mix(element: Element, p: &abi::AwsUnitGateMixParams) -> Launch {
    let positions = p.batch as usize * p.positions_per_image as usize;
    per_vector("aws_unit_gate_mix", element, positions, p.channels as usize)
}

pub fn head(element: Element, p: &abi::HeadParams) -> Launch {
    let labels = p.labels[0].max(p.labels[1]) as usize;
    Launch {
        kernel: format!("head_{}", element.name()),
        grid: [p.batch as usize, 2, 1],
        threads: variants::HEAD_THREADS,
        shared_bytes: variants::head_shared_bytes(p.channels as usize, p.pooled != 0, labels),
    }
}

pub fn image_to_nhwc(element: Element, p: &abi::ImageToNhwcParams) -> Launch {
    let positions = p.batch as usize * p.image.height as usize * p.image.width as usize;
    per_vector("image_to_nhwc", element, positions, VECTOR)
}
