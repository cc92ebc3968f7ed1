//! Weights in the order in which the kernels read them, in aligned memory.
//!
//! Every branch of every node is a job of its own. A job owns the weights that it reads and frees them when it is done,
//! so that packing a model needs little more memory than its weights.

use std::sync::Arc;

use bytemuck::Pod;

use super::conv2d_direct::ConvKernel;
use super::conv2d_winograd;
use super::decide::{Decisions, WeightsOf};
use super::groups::BlockGroup;
use super::node::{BranchWeights, CpuNode, Kernel, StoredWeights};
use super::value::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::AlignedBuffer;
use crate::model::{AwsUnit, Model, Weights};
use crate::parallel;
use crate::tensor::DType;

/// What one job packs.
struct Job {
    node: usize,
    part: Part,
}

enum Part {
    /// The weights of an operator, or of a head, for one of the branches that the node computes.
    Branch(usize, Weights),
    /// A branch of a matrix of a dense unit or a gate.
    Matrix(usize, Arc<AwsUnit>),
    /// The unit behind an operator.
    Mix(Arc<AwsUnit>),
    /// The slopes of the PReLU behind it, of each branch.
    Slopes(Vec<Arc<[f32]>>),
}

enum Packed {
    Branch(usize, BranchWeights),
    Mix(AlignedBuffer),
    Slopes(AlignedBuffer),
}

/// Packs the weights of all nodes; the model is taken apart on the way.
pub(super) fn pack(mut model: Model, decided: Decisions) -> Result<Decisions> {
    let jobs = jobs(&mut model, &decided)?;
    drop(model);
    let weight = decided.told.iter().map(|node| node.weight_bytes as usize / size_of::<f32>()).sum();
    let decided = Arc::new(decided);
    // Of each node, in the order in which they come.
    let mut branches: Vec<Vec<(usize, BranchWeights)>> = Vec::new();
    branches.resize_with(decided.nodes.len(), Vec::new);
    let mut mixes: Vec<Option<AlignedBuffer>> = Vec::new();
    mixes.resize_with(decided.nodes.len(), || None);
    let mut slopes: Vec<Option<AlignedBuffer>> = Vec::new();
    slopes.resize_with(decided.nodes.len(), || None);
    let nodes: Vec<usize> = jobs.iter().map(|job| job.node).collect();
    let work = {
        let decided = Arc::clone(&decided);
        move |job: Job| pack_part(&decided, job)
    };
    parallel::run(jobs, weight, work, |job, result| match result {
        Packed::Branch(index, weights) => branches[nodes[job]].push((index, weights)),
        Packed::Mix(weights) => mixes[nodes[job]] = Some(weights),
        Packed::Slopes(weights) => slopes[nodes[job]] = Some(weights),
    })?;
    let mut decided = Arc::into_inner(decided)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "plan", "an end of packing", "a job under way"))?;
    for (((node, mut branches), mix), slopes) in decided.nodes.iter_mut().zip(branches).zip(mixes).zip(slopes)
    {
        branches.sort_by_key(|(index, _)| *index);
        node.weights.branches = branches.into_iter().map(|(_, weights)| weights).collect();
        (node.weights.mix, node.weights.slopes) = (mix, slopes);
        debug_assert_eq!(node.weights.bytes(), node.weight_bytes(&decided.values), "{}", node.kernel.name());
    }
    Ok(decided)
}

/// The jobs of all nodes, with the weights that they read.
fn jobs(model: &mut Model, decided: &Decisions) -> Result<Vec<Job>> {
    let missing = |what: &str| Error::new(ErrorKind::Internal, "plan", what.to_owned(), "none");
    // A unit is packed as one node's epilogue or as the matrices of a few.
    let units: Vec<Option<Arc<AwsUnit>>> =
        model.layers.iter_mut().map(|layer| layer.aws.take().map(Arc::new)).collect();
    let unit = |layer: usize| units[layer].clone().ok_or_else(|| missing("the AWS-Unit of a layer"));
    let mut jobs = Vec::new();
    for (node, origin) in decided.origins.iter().enumerate() {
        let mut add = |part| jobs.push(Job { node, part });
        match origin.operator {
            WeightsOf::Nothing => {}
            WeightsOf::Layer(layer) => {
                let weights = model.layers[layer].weights.take();
                let weights = weights.ok_or_else(|| missing("the weights of a layer"))?;
                weights
                    .into_iter()
                    .enumerate()
                    .for_each(|(branch, weights)| add(Part::Branch(branch, weights)));
            }
            WeightsOf::Dense(layer) => {
                for to in 0..2 {
                    add(Part::Matrix(to, unit(layer)?));
                }
            }
            WeightsOf::Squeeze(layer) | WeightsOf::Excite(layer) => add(Part::Matrix(0, unit(layer)?)),
            WeightsOf::Head(head) => {
                let weights = model.heads[head].weights.clone();
                add(Part::Branch(0, weights.ok_or_else(|| missing("the weights of a head"))?));
            }
        }
        if let Some(layer) = origin.mix {
            add(Part::Mix(unit(layer)?));
        }
        if let Some(layer) = origin.slopes {
            let slopes = model.layers[layer].slopes.clone();
            add(Part::Slopes(slopes.ok_or_else(|| missing("the slopes of a layer"))?));
        }
    }
    Ok(jobs)
}

fn pack_part(decided: &Decisions, job: Job) -> Result<Packed> {
    let (node, told) = (&decided.nodes[job.node], &decided.told[job.node]);
    let (output, name) = (&decided.values[node.output], told.name.as_str());
    match job.part {
        Part::Branch(index, weights) => {
            let bias = per_channel(name, weights.bias(), output.padded_channels())?;
            let weights = operator(node, index, output, name, &weights)?;
            Ok(Packed::Branch(index, BranchWeights { weights, bias }))
        }
        Part::Matrix(branch, unit) => {
            let Kernel::Conv2d(kernel) = &node.kernel else { return Err(unexpected(node)) };
            let operator = decided.origins[job.node].operator;
            let weights = matrix(kernel, branch, output, name, operator, &unit)?;
            Ok(Packed::Branch(branch, weights))
        }
        Part::Mix(unit) => Ok(Packed::Mix(mix(name, output, &unit)?)),
        Part::Slopes(slopes) => {
            let (channels, padded) = (output.shape.channels, output.padded_channels());
            let mut buffer = AlignedBuffer::zeros(slopes.len() * padded, name)?;
            for (row, slopes) in buffer.as_mut_slice().chunks_exact_mut(padded).zip(&slopes) {
                let of_channel = |channel| slopes[if slopes.len() == 1 { 0 } else { channel }];
                row[..channels]
                    .iter_mut()
                    .enumerate()
                    .for_each(|(channel, slope)| *slope = of_channel(channel));
            }
            Ok(Packed::Slopes(buffer))
        }
    }
}

/// Packing follows decisions; it never comes to this.
fn unexpected(node: &CpuNode) -> Error {
    let found = format!("weights of {}", node.kernel.name());
    Error::new(ErrorKind::Internal, "plan", "weights that the kernel has a layout for", found)
}

/// The weights of an operator in a branch, as its kernel reads them.
fn operator(
    node: &CpuNode,
    branch: usize,
    output: &Value,
    name: &str,
    weights: &Weights,
) -> Result<StoredWeights> {
    match &node.kernel {
        Kernel::Conv2d(conv) => direct(name, conv, branch, output, weights),
        Kernel::ConvMaxPool(both) => direct(name, &both.conv, branch, output, weights),
        Kernel::Winograd(winograd) => {
            Ok(StoredWeights::F32(conv2d_winograd::pack(name, winograd, output, weights)?))
        }
        Kernel::Depthwise(depthwise) => Ok(StoredWeights::F32(depthwise.pack(name, &weights.folded())?)),
        Kernel::MaxPool2d(_)
        | Kernel::AvgPool2d(_)
        | Kernel::AdaptiveAvgPool2d(_)
        | Kernel::GlobalAvgPool2d
        | Kernel::Concat(_)
        | Kernel::Upsample2d(_)
        | Kernel::Identity
        | Kernel::AwsGate { .. }
        | Kernel::ImageToBlocks => Err(unexpected(node)),
    }
}

/// One value a channel, zeros up to `padded`.
fn per_channel(place: &str, values: &[f32], padded: usize) -> Result<AlignedBuffer> {
    let mut buffer = AlignedBuffer::zeros(padded, place)?;
    buffer.as_mut_slice()[..values.len()].copy_from_slice(values);
    Ok(buffer)
}

/// The weights of a unit that an epilogue applies as [to][from][padded channel].
fn mix(place: &str, output: &Value, unit: &AwsUnit) -> Result<AlignedBuffer> {
    let (channels, padded) = (output.shape.channels, output.padded_channels());
    let mut buffer = AlignedBuffer::zeros(4 * padded, place)?;
    for (pair, row) in buffer.as_mut_slice().chunks_exact_mut(padded).enumerate() {
        match unit {
            AwsUnit::Layer(a) => row[..channels].fill(a[pair]),
            AwsUnit::Channel(a) => row[..channels].copy_from_slice(&a[pair * channels..][..channels]),
            AwsUnit::Dense(_) | AwsUnit::Gate { .. } => {
                let found = "one of nodes of its own";
                return Err(Error::new(ErrorKind::Internal, place, "a unit of an epilogue", found));
            }
        }
    }
    Ok(buffer)
}

/// A branch's weights of a convolution, in the order of its groups; F16 and BF16 stay what they are where that was
/// decided.
fn direct(
    place: &str,
    kernel: &ConvKernel,
    branch: usize,
    output: &Value,
    weights: &Weights,
) -> Result<StoredWeights> {
    let ([kh, kw], out_channels) = (kernel.op.kernel, output.shape.channels);
    let (in_group, out_group) = (kernel.input_channels / kernel.op.groups, out_channels / kernel.op.groups);
    // Where a weight lies in the model's tensor, if it connects the two channels.
    let index = |o: usize, i: usize, ky: usize, kx: usize| {
        let first_input = o / out_group * in_group;
        let connected = o < out_channels && (first_input..first_input + in_group).contains(&i);
        connected.then(|| ((o * in_group + i - first_input) * kh + ky) * kw + kx)
    };
    let tensor = weights.weight();
    match (kernel.branches[branch].weights, tensor.bits()) {
        (DType::F16 | DType::BF16, Some(bits)) => {
            let at = |o, i, ky, kx| index(o, i, ky, kx).map_or(0, |index| bits[index]);
            let ones = vec![1.0; out_channels];
            let scale = weights.scale().unwrap_or(&ones);
            Ok(StoredWeights::Narrow {
                bits: by_groups(place, kernel, |_| at)?,
                scale: per_channel(place, scale, output.padded_channels())?,
            })
        }
        (DType::F16 | DType::BF16, None) => {
            let found = tensor.dtype().to_string();
            Err(Error::new(ErrorKind::Internal, place, "weights of 16 bits", found))
        }
        (DType::F32, _) => {
            let folded = by_groups(place, kernel, |group| {
                let rows = group.channels(output);
                let first = rows.start * in_group * kh * kw;
                let w = weights.folded_rows(rows);
                move |o, i, ky, kx| index(o, i, ky, kx).map_or(0.0, |index| w[index - first])
            });
            Ok(StoredWeights::F32(folded?))
        }
    }
}

/// A matrix of a dense unit or a gate, for a branch that the node computes.
fn matrix(
    kernel: &ConvKernel,
    branch: usize,
    output: &Value,
    place: &str,
    operator: WeightsOf,
    unit: &AwsUnit,
) -> Result<BranchWeights> {
    let other = || Error::new(ErrorKind::Internal, place, "the unit of a matrix", "another");
    let padded_bias = |bias: &[f32]| per_channel(place, bias, output.padded_channels());
    let by_groups = |weight: &dyn Fn(usize, usize) -> f32| {
        Ok(StoredWeights::F32(by_groups(place, kernel, |_| |o, i, _, _| weight(o, i))?))
    };
    match (operator, unit) {
        (WeightsOf::Dense(_), AwsUnit::Dense(a)) => {
            // Both branches' blocks lie one behind the other, so that input channel i of branch s is s*padded + i.
            let (c, padded) = (output.shape.channels, output.padded_channels());
            let weight = |o: usize, i: usize| {
                let (from, i) = (i / padded, i % padded);
                if o < c && i < c { a[((branch * 2 + from) * c + o) * c + i] } else { 0.0 }
            };
            Ok(BranchWeights { weights: by_groups(&weight)?, bias: padded_bias(&[])? })
        }
        (WeightsOf::Squeeze(_), AwsUnit::Gate { squeeze_weight, squeeze_bias, .. }) => {
            let r = squeeze_bias.len();
            let (c, padded) = (squeeze_weight.len() / r / 2, kernel.input_channels / 2);
            let weight = |o: usize, i: usize| {
                let (from, i) = (i / padded, i % padded);
                if o < r && i < c { squeeze_weight[o * 2 * c + from * c + i] } else { 0.0 }
            };
            Ok(BranchWeights { weights: by_groups(&weight)?, bias: padded_bias(squeeze_bias)? })
        }
        (WeightsOf::Excite(_), AwsUnit::Gate { squeeze_bias, excite_weight, excite_bias, .. }) => {
            // The output's channels are [to][from][padded channel].
            let (r, c) = (squeeze_bias.len(), excite_bias.len() / 4);
            let padded = output.shape.channels / 4;
            let weight = |o: usize, i: usize| {
                let (pair, o) = (o / padded, o % padded);
                if o < c && i < r { excite_weight[(pair * c + o) * r + i] } else { 0.0 }
            };
            let mut bias = vec![0.0; 4 * padded];
            for (pair, row) in excite_bias.chunks_exact(c).enumerate() {
                bias[pair * padded..][..c].copy_from_slice(row);
            }
            Ok(BranchWeights { weights: by_groups(&weight)?, bias: padded_bias(&bias)? })
        }
        (
            WeightsOf::Nothing
            | WeightsOf::Layer(_)
            | WeightsOf::Head(_)
            | WeightsOf::Dense(_)
            | WeightsOf::Squeeze(_)
            | WeightsOf::Excite(_),
            _,
        ) => Err(other()),
    }
}

/// Convolution weights: for each group of output blocks [input block][kh][kw][channel in block][output channel].
///
/// `weights(group)(output channel, input channel, ky, kx)`, both channels counted with the padding of their blocks, gives
/// 0 where the two are not connected or one is padding.
fn by_groups<T: Pod, W: Fn(usize, usize, usize, usize) -> T>(
    place: &str,
    kernel: &ConvKernel,
    weights: impl Fn(&BlockGroup) -> W,
) -> Result<AlignedBuffer<T>> {
    let ([kh, kw], [input_lanes, lanes]) = (kernel.op.kernel, kernel.lanes);
    let len = |group: &BlockGroup| group.weights_len(kh * kw, input_lanes, lanes);
    let mut buffer = AlignedBuffer::zeros(kernel.groups.iter().map(len).sum(), place)?;
    let out = buffer.as_mut_slice();
    for group in &kernel.groups {
        let weight = weights(group);
        let mut rows = out[group.weights..][..len(group)].chunks_exact_mut(group.blocks * lanes);
        for block in group.input_blocks.clone() {
            for ky in 0..kh {
                for kx in 0..kw {
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
