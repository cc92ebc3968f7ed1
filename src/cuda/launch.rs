//! From parameters to a launch: which kernel, how many blocks of how many threads, how much shared memory.
//!
//! Pure functions of the parameter struct and the variant; kernels/README.md says what each block computes. A launch
//! the hardware cannot take (a grid beyond its limits, more shared memory than the device grants) is for the caller to
//! find: the figures here are exact.

use super::abi::{self, Epilogue, VECTOR};
use super::plan::variants::{self, DirectVariant, Element, GemmVariant};
pub use super::plan::variants::{Splitting, splitting};

/// A kernel and the shape it is launched with. Blocks are one-dimensional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub kernel: String,
    pub grid: [usize; 3],
    pub threads: usize,
    pub shared_bytes: usize,
}

/// The name of a variant's kernel that computes the branches of an epilogue.
fn kernel(op: &str, variant: &str, epilogue: &Epilogue) -> String {
    format!("{op}_{variant}{}", if epilogue.branches == 1 { "_alone" } else { "" })
}

/// Blocks whose threads each handle one vector of one position of all branches, and finish it.
fn finished_per_vector(op: &str, element: Element, positions: usize, epilogue: &Epilogue) -> Launch {
    let kernel = kernel(op, element.name(), epilogue);
    Launch { kernel, ..per_vector(op, element, positions, epilogue.channels as usize) }
}

/// Blocks whose threads each handle one vector of one position.
fn per_vector(op: &str, element: Element, positions: usize, channels: usize) -> Launch {
    Launch {
        kernel: format!("{op}_{}", element.name()),
        grid: [(positions * channels.div_ceil(VECTOR)).div_ceil(variants::VECTOR_THREADS), 1, 1],
        threads: variants::VECTOR_THREADS,
        shared_bytes: 0,
    }
}

fn dual_gemm(op: &str, variant: &GemmVariant, positions: usize, epilogue: &Epilogue, splits: i32) -> Launch {
    let channels = epilogue.channels as usize;
    Launch {
        kernel: kernel(op, variant.name, epilogue),
        grid: [positions.div_ceil(variant.tile_m), channels.div_ceil(variant.tile_n), splits.max(1) as usize],
        threads: variant.threads(),
        shared_bytes: variant.shared_bytes_for(epilogue.branches as usize),
    }
}

fn conv2d_positions(p: &abi::Conv2dParams) -> usize {
    p.batch as usize * p.out_h as usize * p.out_w as usize
}

pub fn conv2d_implicit_gemm(variant: &GemmVariant, p: &abi::Conv2dParams) -> Launch {
    dual_gemm("conv2d_implicit_gemm", variant, conv2d_positions(p), &p.epilogue, p.splits)
}

pub fn conv2d_direct(variant: &DirectVariant, p: &abi::Conv2dParams) -> Launch {
    let vectors = (p.epilogue.channels as usize).div_ceil(VECTOR);
    Launch {
        kernel: kernel("conv2d_direct", variant.name, &p.epilogue),
        grid: [(conv2d_positions(p).div_ceil(variant.positions) * vectors).div_ceil(variant.threads), 1, 1],
        threads: variant.threads,
        shared_bytes: 0,
    }
}

pub fn conv2d_depthwise(element: Element, p: &abi::Conv2dParams) -> Launch {
    finished_per_vector("conv2d_depthwise", element, conv2d_positions(p), &p.epilogue)
}

pub fn conv2d_stem_shared_bytes(p: &abi::Conv2dStemParams) -> usize {
    let pair = |h: i32, w: i32| [h as usize, w as usize];
    let (kernel, stride) = (pair(p.kernel_h, p.kernel_w), pair(p.stride_h, p.stride_w));
    let branches = p.epilogue.branches as usize;
    variants::stem_shared_bytes(branches, kernel, stride, pair(p.dilation_h, p.dilation_w))
}

pub fn conv2d_stem(element: Element, p: &abi::Conv2dStemParams) -> Launch {
    let along = |out: i32, patch: usize| (out as usize).div_ceil(patch);
    let patches =
        p.batch as usize * along(p.out_h, variants::STEM_PATCH_H) * along(p.out_w, variants::STEM_PATCH_W);
    Launch {
        kernel: kernel("conv2d_stem", element.name(), &p.epilogue),
        grid: [
            patches.min(variants::STEM_BLOCKS),
            (p.epilogue.channels as usize).div_ceil(variants::STEM_CHANNELS),
            1,
        ],
        threads: variants::STEM_THREADS,
        shared_bytes: conv2d_stem_shared_bytes(p),
    }
}

pub fn pool2d(element: Element, p: &abi::Pool2dParams) -> Launch {
    let positions = p.batch as usize * p.out_h as usize * p.out_w as usize;
    finished_per_vector("pool2d", element, positions, &p.epilogue)
}

pub fn upsample2d(element: Element, p: &abi::Upsample2dParams) -> Launch {
    let [height, width] = [(p.in_h, p.factor_h), (p.in_w, p.factor_w)].map(|(size, factor)| size * factor);
    let positions = p.batch as usize * height as usize * width as usize;
    finished_per_vector("upsample2d", element, positions, &p.epilogue)
}

pub fn concat(element: Element, p: &abi::ConcatParams) -> Launch {
    let channels = p.begin[p.inputs as usize] - p.first_channel;
    let launch = per_vector("concat", element, p.positions as usize, channels as usize);
    Launch { grid: [launch.grid[0], p.branches as usize, 1], ..launch }
}

pub fn squeeze_excite(element: Element, p: &abi::SqueezeExciteParams) -> Launch {
    let groups = (p.channels as usize).div_ceil(VECTOR).div_ceil(variants::SQUEEZE_EXCITE_VECTORS);
    let [channels, squeezed, excited] = [p.channels, p.squeezed, p.excited].map(|size| size as usize);
    Launch {
        kernel: format!("squeeze_excite_{}", element.name()),
        grid: [groups * p.parts as usize, p.batch as usize, p.branches as usize],
        threads: variants::SQUEEZE_EXCITE_THREADS,
        shared_bytes: variants::squeeze_excite_shared_bytes(channels, squeezed, excited),
    }
}

pub fn identity(element: Element, p: &abi::IdentityParams) -> Launch {
    finished_per_vector("identity", element, p.positions as usize, &p.epilogue)
}

pub fn aws_unit_dense(variant: &GemmVariant, p: &abi::AwsUnitDenseParams) -> Launch {
    // The units share A: the figure of the table is that of both.
    let launch = dual_gemm("aws_unit_dense", variant, p.positions as usize, &p.epilogue, p.splits);
    Launch { shared_bytes: variant.shared_bytes, ..launch }
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
        shared_bytes: variants::gate_coefficients_shared_bytes(p.squeezed as usize),
    }
}

pub fn aws_unit_gate_mix(element: Element, p: &abi::AwsUnitGateMixParams) -> Launch {
    let positions = p.batch as usize * p.positions_per_image as usize;
    per_vector("aws_unit_gate_mix", element, positions, p.channels as usize)
}

pub fn head(element: Element, p: &abi::HeadParams) -> Launch {
    let heads = &p.head[..p.heads as usize];
    let labels = heads.iter().map(|head| head.labels as usize).max().unwrap_or(0);
    let part = p.labels_per_block as usize;
    Launch {
        kernel: format!("head_{}", element.name()),
        grid: [p.batch as usize, heads.len(), labels.div_ceil(part)],
        threads: variants::HEAD_THREADS,
        shared_bytes: variants::head_shared_bytes(p.channels as usize, p.pooled != 0, labels.min(part)),
    }
}

/// Blocks of a softmax go over all numbers of an image each, so it gets one; otherwise a thread has a few of them.
pub fn head_score(element: Element, p: &abi::HeadScoreParams) -> Launch {
    const NUMBERS_OF_A_THREAD: usize = 4;
    let blocks = match p.head.score {
        abi::Score::Softmax => 1,
        abi::Score::Sigmoid | abi::Score::None => {
            (p.head.labels as usize).div_ceil(variants::HEAD_THREADS * NUMBERS_OF_A_THREAD)
        }
    };
    Launch {
        kernel: format!("head_score_{}", element.name()),
        grid: [blocks, p.batch as usize, 1],
        threads: variants::HEAD_THREADS,
        shared_bytes: variants::HEAD_SCORE_SHARED_BYTES,
    }
}

pub fn image_to_nhwc(element: Element, p: &abi::ImageToNhwcParams) -> Launch {
    let positions = p.batch as usize * p.image.height as usize * p.image.width as usize;
    per_vector("image_to_nhwc", element, positions, VECTOR)
}
