//! Weights in the order in which the kernels read them, in aligned memory.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytemuck::Pod;

use super::conv::ConvSpec;
use super::node::{BlockGroup, ConvWeights, StoredWeights};
use super::value::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::AlignedBuffer;
use crate::model::Weights;

/// Packs both branches' weights by `pack`, and their biases; au's on a thread of its own where they are many and the
/// system has one.
///
/// The thread owns what it reads: `std::thread::scope` would leave its caller a handle of the thread it is on, which
/// a C program's main thread never frees.
pub(crate) fn both<W: Send + 'static>(
    place: &str,
    lanes: usize,
    weights: [Weights; 2],
    pack: impl Fn(&str, &Weights) -> Result<W> + Send + Sync + 'static,
) -> Result<Vec<ConvWeights<W>>> {
    /// Packing them takes less time than a thread to start.
    const FEW: usize = 1 << 15;
    let place: Arc<str> = place.into();
    let pack = Arc::new(move |branch: &Weights| {
        let padded = branch.bias().len().next_multiple_of(lanes);
        Ok(ConvWeights { weights: pack(&place, branch)?, bias: per_channel(&place, branch.bias(), padded)? })
    });
    let [emotion, au] = weights;
    let other = match au.weight().len() {
        0..=FEW => None,
        _ => {
            let (pack, au) = (Arc::clone(&pack), au.clone());
            thread::Builder::new().spawn(move || pack(&au)).ok()
        }
    };
    let emotion = pack(&emotion);
    let au = match other.map(JoinHandle::join) {
        None => pack(&au),
        Some(Ok(packed)) => packed,
        Some(Err(_)) => Err(Error::new(ErrorKind::Internal, "plan", "the weights to be packed", "a panic")),
    };
    Ok(vec![emotion?, au?])
}

/// One value a channel, zeros up to `padded`.
pub(crate) fn per_channel(place: &str, values: &[f32], padded: usize) -> Result<AlignedBuffer> {
    let mut buffer = AlignedBuffer::zeros(padded, place)?;
    buffer.as_mut_slice()[..values.len()].copy_from_slice(values);
    Ok(buffer)
}

/// The weights of an AWS-Unit as [to][from][padded channel]; `weight(to, from, channel)`.
pub(crate) fn mix(
    place: &str,
    channels: usize,
    padded: usize,
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Result<AlignedBuffer> {
    let mut buffer = AlignedBuffer::zeros(4 * padded, place)?;
    for (pair, row) in buffer.as_mut_slice().chunks_exact_mut(padded).take(4).enumerate() {
        for (channel, value) in row[..channels].iter_mut().enumerate() {
            *value = weight(pair / 2, pair % 2, channel);
        }
    }
    Ok(buffer)
}

/// A branch's weights of a convolution, in the order of its groups; F16 and BF16 stay what they are where `narrow`.
pub(crate) fn branch(
    place: &str,
    spec: &ConvSpec,
    groups: &[BlockGroup],
    input_lanes: usize,
    output: &Value,
    narrow: bool,
    weights: &Weights,
) -> Result<StoredWeights> {
    let (kernel @ [kh, kw], lanes, out_channels) = (spec.conv.kernel, output.lanes, output.shape.channels);
    let (in_group, out_group) = (spec.input_channels / spec.conv.groups, out_channels / spec.conv.groups);
    // Where a weight lies in the model's tensor, if it connects the two channels.
    let index = |o: usize, i: usize, ky: usize, kx: usize| {
        let first_input = o / out_group * in_group;
        let connected = o < out_channels && (first_input..first_input + in_group).contains(&i);
        connected.then(|| ((o * in_group + i - first_input) * kh + ky) * kw + kx)
    };
    let tensor = weights.weight();
    if let Some(bits) = tensor.bits().filter(|_| narrow) {
        let at = |o, i, ky, kx| index(o, i, ky, kx).map_or(0, |index| bits[index]);
        let ones = vec![1.0; out_channels];
        let scale = weights.scale().unwrap_or(&ones);
        return Ok(StoredWeights::Narrow {
            dtype: tensor.dtype(),
            bits: conv(place, groups, kernel, input_lanes, lanes, |_| at)?,
            scale: per_channel(place, scale, out_channels.next_multiple_of(lanes))?,
        });
    }
    let folded = conv(place, groups, kernel, input_lanes, lanes, |group| {
        let rows = group.channels(output);
        let first = rows.start * in_group * kh * kw;
        let w = weights.folded_rows(rows);
        move |o, i, ky, kx| index(o, i, ky, kx).map_or(0.0, |index| w[index - first])
    })?;
    Ok(StoredWeights::F32(folded))
}

/// Convolution weights: for each group of output blocks [input block][kh][kw][channel in block][output channel].
///
/// `input_lanes` channels make an input block and `lanes` an output block. `weights(group)(output channel, input
/// channel, ky, kx)`, both channels counted with the padding of their blocks, gives 0 where the two are not connected
/// or one is padding.
pub(crate) fn conv<T: Pod, W: Fn(usize, usize, usize, usize) -> T>(
    place: &str,
    groups: &[BlockGroup],
    kernel: [usize; 2],
    input_lanes: usize,
    lanes: usize,
    weights: impl Fn(&BlockGroup) -> W,
) -> Result<AlignedBuffer<T>> {
    let taps = kernel[0] * kernel[1];
    let mut buffer =
        AlignedBuffer::zeros(groups.iter().map(|g| g.weights_len(taps, input_lanes, lanes)).sum(), place)?;
    let out = buffer.as_mut_slice();
    for group in groups {
        let weight = weights(group);
        let len = group.weights_len(taps, input_lanes, lanes);
        let mut rows = out[group.weights..][..len].chunks_exact_mut(group.blocks * lanes);
        for block in group.input_blocks.clone() {
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let inputs = block * input_lanes..(block + 1) * input_lanes;
                    for (input, row) in inputs.zip(rows.by_ref()) {
                        for (lane, value) in row.iter_mut().enumerate() {
                            *value = weight(group.first_block * lanes + lane, input, ky, kx);
                        }
                    }
                }
            }
        }
    }
    Ok(buffer)
}

/// Depthwise weights as [block][kh][kw][lane]; `weights` are [channel][kh][kw].
pub(crate) fn depthwise(place: &str, weights: &[f32], taps: usize, lanes: usize) -> Result<AlignedBuffer> {
    let channels = weights.len() / taps;
    let mut buffer = AlignedBuffer::zeros(channels.div_ceil(lanes) * taps * lanes, place)?;
    let out = buffer.as_mut_slice();
    for (channel, row) in weights.chunks_exact(taps).enumerate() {
        for (tap, &value) in row.iter().enumerate() {
            out[(channel / lanes * taps + tap) * lanes + channel % lanes] = value;
        }
    }
    Ok(buffer)
}
