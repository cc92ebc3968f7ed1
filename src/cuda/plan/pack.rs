//! From the layouts of a model file to those that the kernels read (`kernels/abi.h`).
//!
//! Values stay f32 here; [`encode`] turns them into the kernels' element type.

use super::variants::{Element, STEM_PIXEL, pitch, stem_k, stem_row_taps};

/// Values as the bytes of an element type, to nearest even.
pub fn encode(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Element::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        Element::Bf16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
    }
}

/// The shape of a convolution's weights, `[out][in / groups][kernel_h][kernel_w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oihw {
    pub out: usize,
    pub input: usize,
    pub kernel: [usize; 2],
}

impl Oihw {
    pub fn len(&self) -> usize {
        self.out * self.input * self.taps()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Every weight as (out, in, tap, value).
    fn each<'a>(&self, weights: &'a [f32]) -> impl Iterator<Item = (usize, usize, usize, f32)> + 'a {
        let (input, taps) = (self.input, self.taps());
        assert_eq!(weights.len(), self.len());
        weights.iter().enumerate().map(move |(i, &w)| (i / taps / input, i / taps % input, i % taps, w))
    }
}

/// `[out][tap][pitch of in]`, zeros in the pad lanes: `conv2d_implicit_gemm`.
pub fn implicit_gemm(shape: Oihw, weights: &[f32]) -> Vec<f32> {
    implicit_gemm_projected(shape, weights, 0, &[])
}

/// As [`implicit_gemm`], the weights of a projection, `[out][projection_channels]`, behind the taps of each row.
pub fn implicit_gemm_projected(
    shape: Oihw,
    weights: &[f32],
    projection_channels: usize,
    projection: &[f32],
) -> Vec<f32> {
    let in_pitch = pitch(shape.input);
    let taps = shape.taps() * in_pitch;
    let row = taps + pitch(projection_channels);
    let mut packed = vec![0.0; shape.out * row];
    for (o, i, tap, w) in shape.each(weights) {
        packed[o * row + tap * in_pitch + i] = w;
    }
    for (o, c, _, w) in projection_shape(shape, projection_channels).each(projection) {
        packed[o * row + taps + c] = w;
    }
    packed
}

/// `[tap][in / groups][pitch of out]`: `conv2d_direct`, and with one input channel a group `conv2d_depthwise`.
pub fn direct(shape: Oihw, weights: &[f32]) -> Vec<f32> {
    direct_projected(shape, weights, 0, &[])
}

/// As [`direct`], the weights of a projection, `[out][projection_channels]`, behind it as `[channel][pitch of out]`.
pub fn direct_projected(
    shape: Oihw,
    weights: &[f32],
    projection_channels: usize,
    projection: &[f32],
) -> Vec<f32> {
    let out_pitch = pitch(shape.out);
    let rows = shape.taps() * shape.input;
    let mut packed = vec![0.0; (rows + projection_channels) * out_pitch];
    for (o, i, tap, w) in shape.each(weights) {
        packed[(tap * shape.input + i) * out_pitch + o] = w;
    }
    for (o, c, _, w) in projection_shape(shape, projection_channels).each(projection) {
        packed[(rows + c) * out_pitch + o] = w;
    }
    packed
}

/// The shape of the projection beside a convolution.
fn projection_shape(shape: Oihw, channels: usize) -> Oihw {
    Oihw { out: shape.out, input: channels, kernel: [1, 1] }
}

/// `[out][kernel_h][stem_row_taps][STEM_PIXEL]`, zeros for taps and image channels that there are not: `conv2d_stem`.
pub fn stem(shape: Oihw, weights: &[f32]) -> Vec<f32> {
    let k = stem_k(shape.kernel);
    let mut packed = vec![0.0; shape.out * k];
    for (o, i, tap, w) in shape.each(weights) {
        let [row, column] = [tap / shape.kernel[1], tap % shape.kernel[1]];
        packed[o * k + (row * stem_row_taps(shape.kernel[1]) + column) * STEM_PIXEL + i] = w;
    }
    packed
}

/// One value a channel, zeros in the pad lanes: bias, and each row of a mix.
pub fn per_channel(values: &[f32]) -> Vec<f32> {
    let mut packed = values.to_vec();
    packed.resize(pitch(values.len()), 0.0);
    packed
}

/// `[2][2][channels]` with each row padded: the channel mix.
pub fn mix_channel(channels: usize, values: &[f32]) -> Vec<f32> {
    assert_eq!(values.len(), 4 * channels);
    values.chunks_exact(channels).flat_map(per_channel).collect()
}

/// The dense unit's `[2 (to)][2 (from)][out][in]`, for one target: f16 and bf16 `[out][from][pitch of in]`, f32
/// `[from][in][pitch of out]`.
pub fn aws_unit_dense(element: Element, channels: usize, to: usize, weights: &[f32]) -> Vec<f32> {
    assert_eq!(weights.len(), 4 * channels * channels);
    let row = pitch(channels);
    let mut packed = vec![0.0; 2 * channels * row];
    for from in 0..2 {
        for o in 0..channels {
            for i in 0..channels {
                let w = weights[((to * 2 + from) * channels + o) * channels + i];
                let at = match element {
                    Element::F32 => (from * channels + i) * row + o,
                    Element::F16 | Element::Bf16 => (o * 2 + from) * row + i,
                };
                packed[at] = w;
            }
        }
    }
    packed
}

/// The gate's squeeze weights, `[squeezed][2 * channels]`, with each branch's row padded.
pub fn squeeze(channels: usize, weights: &[f32]) -> Vec<f32> {
    weights.chunks_exact(channels).flat_map(per_channel).collect()
}

/// A head's `[labels][features]`, features in (C, H, W) order over `positions`, as `[labels][positions][pitch]`.
pub fn head(channels: usize, positions: usize, weights: &[f32]) -> Vec<f32> {
    let row = pitch(channels);
    let features = channels * positions;
    let labels = weights.len() / features;
    let mut packed = vec![0.0; labels * positions * row];
    for (i, &w) in weights.iter().enumerate() {
        let (label, c, position) = (i / features, i % features / positions, i % positions);
        packed[(label * positions + position) * row + c] = w;
    }
    packed
}
