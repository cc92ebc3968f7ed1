//! The table of kernel variants: types, tiles, stages, threads, shared memory.
//!
//! `kernels/variants.h` is the same table for the kernels; a test compares the two line by line.

/// Channels that a thread loads and stores at once; the pitch of a map is its channels rounded up to it.
pub const VECTOR: usize = 8;

/// The inputs of one launch of `concat`, and the heads of one of `head`.
pub const CONCAT_INPUTS: usize = 16;
pub const HEADS: usize = 4;

/// The distance between two positions of a map, in elements.
pub const fn pitch(channels: usize) -> usize {
    channels.div_ceil(VECTOR) * VECTOR
}

/// The storage type of maps and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    pub const ALL: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];
    /// The types that the tensor cores multiply.
    pub const TENSOR: [Element; 2] = [Element::F16, Element::Bf16];

    /// As kernel names spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }
}

/// A tile of the dual GEMM: `tile_m` positions by `tile_n` channels of both branches, `tile_k` of the reduction a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmVariant {
    pub name: &'static str,
    pub element: Element,
    pub tile_m: usize,
    pub tile_n: usize,
    pub tile_k: usize,
    pub stages: usize,
    pub warps: usize,
    pub shared_bytes: usize,
}

impl GemmVariant {
    pub const fn threads(&self) -> usize {
        32 * self.warps
    }

    /// Shared memory of a launch for so many branches; `shared_bytes` is that of both.
    pub const fn shared_bytes_for(&self, branches: usize) -> usize {
        self.shared_bytes / 2 * branches
    }
}

#[allow(clippy::too_many_arguments)] // a row of the table
const fn gemm(
    name: &'static str,
    element: Element,
    tile_m: usize,
    tile_n: usize,
    tile_k: usize,
    stages: usize,
    warps: usize,
    shared_bytes: usize,
) -> GemmVariant {
    GemmVariant { name, element, tile_m, tile_n, tile_k, stages, warps, shared_bytes }
}

/// A direct convolution: a thread computes `positions` neighbouring positions of one vector of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectVariant {
    pub name: &'static str,
    pub element: Element,
    pub positions: usize,
    pub threads: usize,
}

const fn direct(name: &'static str, element: Element, positions: usize, threads: usize) -> DirectVariant {
    DirectVariant { name, element, positions, threads }
}

use Element::{Bf16, F16, F32};

#[rustfmt::skip]
pub const CONV2D_IMPLICIT_GEMM: &[GemmVariant] = &[
    gemm("f16_128x64", F16, 128, 64, 32, 4, 8, 98304),
    gemm("f16_64x64", F16, 64, 64, 64, 3, 4, 98304),
    gemm("f16_64x32", F16, 64, 32, 64, 4, 8, 98304),
    gemm("f16_32x32", F16, 32, 32, 64, 4, 8, 65536),
    gemm("f16_16x64", F16, 16, 64, 64, 4, 4, 81920),
    gemm("bf16_128x64", Bf16, 128, 64, 32, 4, 8, 98304),
    gemm("bf16_64x64", Bf16, 64, 64, 64, 3, 4, 98304),
    gemm("bf16_64x32", Bf16, 64, 32, 64, 4, 8, 98304),
    gemm("bf16_32x32", Bf16, 32, 32, 64, 4, 8, 65536),
    gemm("bf16_16x64", Bf16, 16, 64, 64, 4, 4, 81920),
];

#[rustfmt::skip]
pub const AWS_UNIT_DENSE: &[GemmVariant] = &[
    gemm("f16_64x64", F16, 64, 64, 64, 3, 4, 73728),
    gemm("f16_16x64", F16, 16, 64, 64, 4, 4, 73728),
    gemm("bf16_64x64", Bf16, 64, 64, 64, 3, 4, 73728),
    gemm("bf16_16x64", Bf16, 16, 64, 64, 4, 4, 73728),
];

pub const CONV2D_DIRECT: &[DirectVariant] = &[
    direct("f32_x4", F32, 4, 128),
    direct("f32_x1", F32, 1, 128),
    direct("f16_x4", F16, 4, 128),
    direct("f16_x1", F16, 1, 128),
    direct("bf16_x4", Bf16, 4, 128),
    direct("bf16_x1", Bf16, 1, 128),
];

pub const VECTOR_THREADS: usize = 128;
pub const GATE_MEANS_THREADS: usize = 128;
pub const GATE_MEANS_VECTORS: usize = 8;
pub const GATE_COEFFICIENTS_THREADS: usize = 256;
pub const HEAD_THREADS: usize = 256;
pub const SQUEEZE_EXCITE_THREADS: usize = 256;
pub const SQUEEZE_EXCITE_VECTORS: usize = 8;
pub const SQUEEZE_EXCITE_GROUPS: usize = 4;
pub const STEM_PATCH_H: usize = 4;
pub const STEM_PATCH_W: usize = 16;
pub const STEM_CHANNELS: usize = 64;
pub const STEM_THREADS: usize = 256;
/// The most blocks of a launch for each 64 channels: with more patches, a block computes several and loads its weights once.
pub const STEM_BLOCKS: usize = 768;

/// The image channels that a pixel has for the stem, and the taps that it multiplies at once.
pub const STEM_PIXEL: usize = 4;
const STEM_TAPS: usize = 4;

/// The taps of a kernel row in the stem's packed weights, and the length of a row of them.
pub const fn stem_row_taps(kernel_w: usize) -> usize {
    kernel_w.next_multiple_of(STEM_TAPS)
}
pub const fn stem_k(kernel: [usize; 2]) -> usize {
    kernel[0] * stem_row_taps(kernel[1]) * STEM_PIXEL
}

/// Shared memory of `conv2d_stem`; kernels/conv2d_stem.cu lists its parts.
pub fn stem_shared_bytes(
    branches: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> usize {
    const ELEMENT_BYTES: usize = 2; // f16 or bf16
    let weights = branches * STEM_CHANNELS * (stem_k(kernel) + VECTOR) * ELEMENT_BYTES;
    let extent = |i: usize, patch: usize, taps: usize| (patch - 1) * stride[i] + (taps - 1) * dilation[i] + 1;
    let rows = extent(0, STEM_PATCH_H, kernel[0]);
    let columns = extent(1, STEM_PATCH_W, stem_row_taps(kernel[1]));
    let slots = columns.div_ceil(dilation[1]).next_multiple_of(2);
    let copies = if dilation[1] == 1 && stride[1].is_multiple_of(2) { 1 } else { 2 };
    let copy = (rows * dilation[1] * slots * STEM_PIXEL * ELEMENT_BYTES + 63) / 128 * 128 + 64;
    weights + copies * copy
}

/// Shared memory of `aws_unit_gate_coefficients`: a float a squeezed number, and whole vectors, since nvcc reads
/// neighbours of a number that a loop may need as well.
pub const fn gate_coefficients_shared_bytes(squeezed: usize) -> usize {
    (squeezed * size_of::<f32>()).next_multiple_of(16)
}

/// The most labels of a head that one block computes.
pub const LABELS_PER_BLOCK: usize = 4096;

/// Shared memory of `head`: the pooled features, then the logits of a block.
pub fn head_shared_bytes(channels: usize, pooled: bool, labels: usize) -> usize {
    (if pooled { pitch(channels) } else { 0 } + labels) * size_of::<f32>()
}

/// Shared memory of `head_score`: a float a warp.
pub const HEAD_SCORE_SHARED_BYTES: usize = HEAD_THREADS / 32 * size_of::<f32>();

/// Blocks that share the positions of an image's channels in `squeeze_excite`: one for about so many positions a thread.
pub fn squeeze_excite_parts(positions: usize) -> usize {
    const POSITIONS_OF_A_THREAD: usize = 16;
    const MOST: usize = 32;
    let rows = SQUEEZE_EXCITE_THREADS / SQUEEZE_EXCITE_VECTORS;
    positions.div_ceil(rows * POSITIONS_OF_A_THREAD).min(MOST)
}

/// Shared memory of `squeeze_excite`; kernels/squeeze_excite.cu lists its parts.
pub fn squeeze_excite_shared_bytes(channels: usize, squeezed: usize, excited: usize) -> usize {
    const SCRATCH_BYTES: usize = 16;
    let rows = SQUEEZE_EXCITE_THREADS * VECTOR;
    let layers = pitch(channels) + pitch(squeezed) + SQUEEZE_EXCITE_GROUPS * pitch(excited);
    SCRATCH_BYTES + rows.max(layers) * size_of::<f32>()
}

/// What a launch with split-K needs beside its operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splitting {
    /// Bytes of the workspace.
    pub workspace_bytes: usize,
    /// Tickets, 4 bytes each, zero before the first launch.
    pub tickets: usize,
}

/// What `splits` parts of each tile's reduction need: nothing for one.
pub fn splitting(
    variant: &GemmVariant,
    branches: usize,
    positions: usize,
    channels: usize,
    splits: usize,
) -> Splitting {
    if splits <= 1 {
        return Splitting { workspace_bytes: 0, tickets: 0 };
    }
    let tiles = positions.div_ceil(variant.tile_m) * channels.div_ceil(variant.tile_n);
    Splitting {
        workspace_bytes: splits * tiles * branches * variant.tile_m * variant.tile_n * size_of::<f32>(),
        tickets: tiles,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../../kernels/variants.h");

    /// The rows `X(...)` of one table of the header, blanks removed.
    fn rows(table: &str) -> Vec<String> {
        let start = HEADER.find(&format!("#define AWSNET_{table}(X)")).expect("the table");
        HEADER[start..]
            .lines()
            .skip(1)
            .map(|line| line.replace([' ', '\\'], ""))
            .take_while(|line| line.starts_with("X("))
            .collect()
    }

    fn gemm_row(v: &GemmVariant) -> String {
        let GemmVariant { name, element, tile_m, tile_n, tile_k, stages, warps, shared_bytes } = v;
        let element = element.name();
        format!("X({name},{element},{tile_m},{tile_n},{tile_k},{stages},{warps},{shared_bytes})")
    }

    #[test]
    fn the_header_holds_the_same_table() {
        let conv: Vec<String> = CONV2D_IMPLICIT_GEMM.iter().map(gemm_row).collect();
        assert_eq!(rows("CONV2D_IMPLICIT_GEMM_VARIANTS"), conv);
        let dense: Vec<String> = AWS_UNIT_DENSE.iter().map(gemm_row).collect();
        assert_eq!(rows("AWS_UNIT_DENSE_VARIANTS"), dense);
        let direct: Vec<String> = CONV2D_DIRECT
            .iter()
            .map(|v| format!("X({},{},{},{})", v.name, v.element.name(), v.positions, v.threads))
            .collect();
        assert_eq!(rows("CONV2D_DIRECT_VARIANTS"), direct);
        let elements = |all: &[Element]| all.iter().map(|e| format!(" X({})", e.name())).collect::<String>();
        assert!(HEADER.contains(&format!("#define AWSNET_ELEMENTS(X){}\n", elements(&Element::ALL))));
        assert!(
            HEADER
                .contains(&format!("#define AWSNET_CONV2D_STEM_ELEMENTS(X){}\n", elements(&Element::TENSOR)))
        );
    }

    #[test]
    fn the_header_holds_the_same_constants() {
        let found: Vec<String> = HEADER
            .lines()
            .filter_map(|line| line.strip_prefix("#define AWSNET_"))
            .filter(|line| !line.contains('('))
            .map(str::to_owned)
            .collect();
        let expected = [
            ("VECTOR_THREADS", VECTOR_THREADS),
            ("GATE_MEANS_THREADS", GATE_MEANS_THREADS),
            ("GATE_MEANS_VECTORS", GATE_MEANS_VECTORS),
            ("GATE_COEFFICIENTS_THREADS", GATE_COEFFICIENTS_THREADS),
            ("HEAD_THREADS", HEAD_THREADS),
            ("SQUEEZE_EXCITE_THREADS", SQUEEZE_EXCITE_THREADS),
            ("SQUEEZE_EXCITE_VECTORS", SQUEEZE_EXCITE_VECTORS),
            ("SQUEEZE_EXCITE_GROUPS", SQUEEZE_EXCITE_GROUPS),
            ("STEM_PATCH_H", STEM_PATCH_H),
            ("STEM_PATCH_W", STEM_PATCH_W),
            ("STEM_CHANNELS", STEM_CHANNELS),
            ("STEM_THREADS", STEM_THREADS),
        ]
        .map(|(name, value)| format!("{name} {value}"));
        assert_eq!(found, expected);
    }
}
