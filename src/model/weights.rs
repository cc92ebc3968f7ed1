//! Tensors meet the manifest: every name a layer needs is looked up, its shape compared, its batch norm folded.
//!
//! [`claim`] knows names and shapes and gives handles; [`assemble`] knows handles only.

use std::io::{Read, Seek};
use std::ops::Range;
use std::sync::Arc;

use super::container::{Claimed, TensorFile, Tensors, shown_dims, tensor_place};
use super::manifest::{AwsKind, BatchNormEntry, Gate, HeadEntry, HeadKind, LayerEntry, Manifest, Source};
use super::{Head, Layer, Model};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::op::Op;
use crate::tensor::{DType, Shape, Tensor};

/// One branch's weight and bias of a convolution, linear layer or head, batch norm folded in; of a batch norm alone the factor
/// and term of each channel.
///
/// The weight stays in the type the file stores; where a batch norm follows, its rows are to be multiplied by
/// `scale`: w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta.
#[derive(Clone, Debug)]
pub struct Weights {
    weight: Arc<Tensor>,
    scale: Option<Arc<[f32]>>,
    bias: Arc<[f32]>,
    has_bias: bool,
}

impl Weights {
    /// Bytes of the weight that nobody else holds: they are given back when this is dropped.
    pub(crate) fn own_bytes(&self) -> u64 {
        if Arc::strong_count(&self.weight) == 1 { self.weight.bytes() } else { 0 }
    }

    /// The weight as stored: conv2d [out, in/groups, kh, kw], linear [out, in]; ones of a batch norm alone, `[C]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The factor of every output channel that comes from a batch norm.
    pub fn scale(&self) -> Option<&[f32]> {
        self.scale.as_deref()
    }

    /// The bias of every output channel; zeros where the file has none.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// The weight in f32 with the scale multiplied in, rounded once.
    pub fn folded(&self) -> Vec<f32> {
        self.folded_rows(0..self.weight.dims()[0])
    }

    /// [`folded`](Self::folded) for some output channels.
    pub(crate) fn folded_rows(&self, channels: Range<usize>) -> Vec<f32> {
        let row_len = (self.weight.len() / self.weight.dims()[0]).max(1);
        let mut weight = self.weight.range_to_f32(channels.start * row_len..channels.end * row_len);
        if let Some(scale) = &self.scale {
            for (row, scale) in weight.chunks_exact_mut(row_len).zip(&scale[channels]) {
                row.iter_mut().for_each(|w| *w *= scale);
            }
        }
        weight
    }

    /// The folded weight rounded to `dtype`, as a backend stores it; the bias stays.
    pub(super) fn rounded(&self, dtype: DType) -> Self {
        let folded = Tensor::with_dims(self.weight.dims(), self.folded());
        Weights { weight: Arc::new(folded.to_dtype(dtype)), scale: None, ..self.clone() }
    }

    pub(super) fn parameters(&self) -> u64 {
        (self.weight.len() + if self.has_bias { self.bias.len() } else { 0 }) as u64
    }
}

/// The weights of an AWS-Unit, `A[to][from]` of the formula, in f32.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AwsUnit {
    /// `[2, 2]`
    Layer(Arc<[f32]>),
    /// `[2, 2, C]`
    Channel(Arc<[f32]>),
    /// `[2, 2, C, C]`: to, from, output channel, input channel.
    Dense(Arc<[f32]>),
    /// A computed for every image: `g = relu(W0 [mean(u_emotion); mean(u_au)] + b0)`, `L = W1 g + b1`, `A = gate(L)`.
    Gate {
        /// What turns L into A.
        gate: Gate,
        /// W0, `[r, 2C]`
        squeeze_weight: Arc<[f32]>,
        /// b0, `[r]`
        squeeze_bias: Arc<[f32]>,
        /// W1, `[2, 2, C, r]`
        excite_weight: Arc<[f32]>,
        /// b1, `[2, 2, C]`
        excite_bias: Arc<[f32]>,
    },
}

impl AwsUnit {
    /// Which of the four kinds it is.
    pub fn kind(&self) -> AwsKind {
        match self {
            AwsUnit::Layer(_) => AwsKind::Layer,
            AwsUnit::Channel(_) => AwsKind::Channel,
            AwsUnit::Dense(_) => AwsKind::Dense,
            AwsUnit::Gate { gate, .. } => AwsKind::Gate(*gate),
        }
    }

    /// The unit as a backend stores it whose maps have `dtype`: matrices are rounded, coefficients are not.
    pub(super) fn rounded(&self, dtype: DType) -> Self {
        match self {
            AwsUnit::Dense(a) => {
                let rounded = Tensor::with_dims(&[a.len()], a.to_vec()).to_dtype(dtype);
                AwsUnit::Dense(rounded.to_f32().as_ref().into())
            }
            other => other.clone(),
        }
    }

    pub(super) fn parameters(&self) -> u64 {
        let len = match self {
            AwsUnit::Layer(a) | AwsUnit::Channel(a) | AwsUnit::Dense(a) => a.len(),
            AwsUnit::Gate { squeeze_weight, squeeze_bias, excite_weight, excite_bias, .. } => {
                squeeze_weight.len() + squeeze_bias.len() + excite_weight.len() + excite_bias.len()
            }
        };
        len as u64
    }

    /// Multiplications and additions for one image with maps of `shape`.
    pub(super) fn flop(&self, shape: Shape) -> u64 {
        let (map, channels) = (shape.len() as u64, shape.channels as u64);
        let mix = 2 * 2 * 2 * map; // two outputs of two products
        match self {
            AwsUnit::Layer(_) | AwsUnit::Channel(_) => mix,
            AwsUnit::Dense(_) => mix.saturating_mul(channels),
            AwsUnit::Gate { squeeze_weight, excite_weight, .. } => {
                mix + 2 * map + 2 * (squeeze_weight.len() + excite_weight.len()) as u64
            }
        }
    }
}

/// What a file holds for a model: shapes, and the handles of all tensors.
pub(super) struct Claims {
    layers: Vec<LayerClaims>,
    heads: Vec<HeadClaims>,
}

struct LayerClaims {
    input: Shape,
    output: Shape,
    /// Of each branch.
    weights: Option<Vec<WeightClaims>>,
    /// The slopes of a PReLU in each branch.
    slopes: Option<Vec<Claimed>>,
    aws: Option<AwsClaims>,
}

struct HeadClaims {
    input: Shape,
    /// How many numbers it gives.
    len: usize,
    weights: Option<WeightClaims>,
}

/// Those of one branch.
struct WeightClaims {
    /// None of a batch norm alone.
    weight: Option<Claimed>,
    bias: Option<Claimed>,
    norm: Option<NormClaims>,
}

struct NormClaims {
    /// What the names of its tensors begin with.
    prefix: String,
    eps: f32,
    gamma: Claimed,
    beta: Claimed,
    mean: Claimed,
    variance: Claimed,
}

/// Those of an [`AwsUnit`].
enum AwsClaims {
    Layer(Claimed),
    Channel(Claimed),
    Dense(Claimed),
    Gate {
        gate: Gate,
        squeeze_weight: Claimed,
        squeeze_bias: Claimed,
        excite_weight: Claimed,
        excite_bias: Claimed,
    },
}

fn source_shape(source: Source, image: Shape, layers: &[LayerClaims]) -> Shape {
    match source {
        Source::Image => image,
        Source::Layer(index) => layers[index].output,
    }
}

/// Finds the tensors of every layer and head, infers and compares all shapes.
pub(super) fn claim<R: Read + Seek>(file: &mut TensorFile<R>, manifest: &Manifest) -> Result<Claims> {
    let (image, branches) = (manifest.input.shape, &manifest.branches);
    let mut layers: Vec<LayerClaims> = Vec::with_capacity(manifest.layers.len());
    for layer in &manifest.layers {
        let inputs: Vec<Shape> =
            layer.inputs.iter().map(|&source| source_shape(source, image, &layers)).collect();
        if layer.op == Op::Concat {
            check_sizes(manifest, layer, &inputs)?;
        }
        let (output, weights) = claim_operator(file, branches, layer, &inputs)?;
        let meets = |key: &str, other: usize, spreads: bool| {
            let found = layers[other].output;
            if found == output || (spreads && found == Shape::new(output.channels, 1, 1)) {
                return Ok(());
            }
            let also = if spreads { format!(" or {}x1x1", output.channels) } else { String::new() };
            let other = quoted(&manifest.layers[other].name);
            let when = if spreads { "multiplication" } else { "addition" };
            Err(Error::new(
                ErrorKind::Model,
                format!("layer {}: `{key}`", quoted(&layer.name)),
                format!("a layer that gives {output}, as this one does before the {when}{also}"),
                format!("{other}, which gives {found}"),
            ))
        };
        if let Some(scale) = layer.stages.scale {
            meets("scale", scale, true)?;
        }
        if let Some(residual) = layer.stages.residual {
            meets("residual", residual, false)?;
        }
        let slopes = match &layer.stages.prelu {
            Some(prefix) => {
                let slopes =
                    |branch: &String| claim_slopes(file, &format!("{branch}.{prefix}.weight"), output);
                Some(branches.iter().map(slopes).collect::<Result<_>>()?)
            }
            None => None,
        };
        let aws = match layer.stages.aws {
            Some(kind) => Some(claim_aws_unit(file, kind, &layer.name, output.channels)?),
            None => None,
        };
        layers.push(LayerClaims { input: inputs[0], output, weights, slopes, aws });
    }
    let head = |head: &HeadEntry| {
        let input = source_shape(head.input, image, &layers);
        claim_head(file, head, &branches[head.branch], input)
    };
    let heads = manifest.heads.iter().map(head).collect::<Result<_>>()?;
    Ok(Claims { layers, heads })
}

/// Refuses a concatenation of maps of several sizes, by the name of the first that differs.
fn check_sizes(manifest: &Manifest, layer: &LayerEntry, inputs: &[Shape]) -> Result<()> {
    let size = |shape: &Shape| (shape.height, shape.width);
    for (source, shape) in layer.inputs.iter().zip(inputs) {
        if let Source::Layer(index) = *source
            && size(shape) != size(&inputs[0])
        {
            let place = format!("layer {}: `inputs`", quoted(layer.stated_name()));
            let (height, width) = size(&inputs[0]);
            let expected = format!("maps of {height}x{width} pixels, as the first of them has");
            let found = format!("{}, which gives {shape}", quoted(manifest.layers[index].stated_name()));
            return Err(Error::new(ErrorKind::Model, place, expected, found));
        }
    }
    Ok(())
}

/// Claims the weights of all branches of a layer, where its operator has them; gives the output's shape too.
fn claim_operator<R: Read + Seek>(
    file: &mut TensorFile<R>,
    branches: &[String],
    layer: &LayerEntry,
    inputs: &[Shape],
) -> Result<(Shape, Option<Vec<WeightClaims>>)> {
    let (place, input) = (format!("layer {}", quoted(layer.stated_name())), inputs[0]);
    let norm = |file: &mut TensorFile<R>, branch: &String, channels| match &layer.batch_norm {
        Some(norm) => Ok(Some(claim_norm(file, norm, branch, channels)?)),
        None => Ok(None),
    };
    if layer.op == Op::BatchNorm {
        let alone =
            |branch| Ok(WeightClaims { weight: None, bias: None, norm: norm(file, branch, input.channels)? });
        let claims = branches.iter().map(alone).collect::<Result<_>>()?;
        return Ok((layer.op.output_shape(&place, inputs, 0)?, Some(claims)));
    }
    if !layer.op.has_weight() {
        return Ok((layer.op.output_shape(&place, inputs, 0)?, None));
    }
    // The first branch's weight says how many channels the layer has; the other must agree.
    let pattern = layer.op.weight_dims(input, 0).unwrap_or_default();
    let out_channels = rows(file, &format!("{}.{}.weight", branches[0], layer.name), &pattern[1..])?;
    let output = layer.op.output_shape(&place, inputs, out_channels)?;
    let weight_dims = layer.op.weight_dims(input, out_channels).unwrap_or_default();
    let of_branch = |branch: &String| -> Result<WeightClaims> {
        let mut claims = claim_weights(file, &format!("{branch}.{}", layer.name), &weight_dims)?;
        claims.norm = norm(file, branch, out_channels)?;
        Ok(claims)
    };
    let claims = branches.iter().map(of_branch).collect::<Result<_>>()?;
    Ok((output, Some(claims)))
}

/// The first dimension of a weight, at least 1, whose others are known.
fn rows<R: Read + Seek>(file: &TensorFile<R>, weight: &str, others: &[usize]) -> Result<usize> {
    let shape = format!("[out, {}]", others.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
    match file.dims(weight, &shape)?.first() {
        Some(&rows) if rows > 0 => Ok(rows),
        found => {
            let found = found.map_or("a scalar".into(), |_| "out = 0".to_string());
            Err(Error::new(ErrorKind::Model, tensor_place(weight), format!("shape {shape}"), found))
        }
    }
}

/// Claims a weight, and the bias where there is one.
fn claim_weights<R: Read + Seek>(
    file: &mut TensorFile<R>,
    prefix: &str,
    dims: &[usize],
) -> Result<WeightClaims> {
    let weight = file.claim(&format!("{prefix}.weight"), dims)?;
    let bias = format!("{prefix}.bias");
    let bias = if file.has(&bias) { Some(file.claim(&bias, &dims[..1])?) } else { None };
    Ok(WeightClaims { weight: Some(weight), bias, norm: None })
}

/// Claims the slopes of a PReLU behind maps of `output`: one for each channel, or one for all.
fn claim_slopes<R: Read + Seek>(file: &mut TensorFile<R>, name: &str, output: Shape) -> Result<Claimed> {
    let found = file.dims(name, &format!("[{}] or [1]", output.channels))?.to_vec();
    let dims = if found == [1] { [1] } else { [output.channels] };
    file.claim(name, &dims)
}

fn claim_head<R: Read + Seek>(
    file: &mut TensorFile<R>,
    head: &HeadEntry,
    branch: &str,
    input: Shape,
) -> Result<HeadClaims> {
    let place = format!("head {}", quoted(&head.name));
    let error = |key: &str, expected: String, found: String| {
        Error::new(ErrorKind::Model, format!("{place}: `{key}`"), expected, found)
    };
    let Some(tensor) = &head.tensor else {
        if let Some(labels) = &head.labels
            && labels.len() != input.len()
        {
            let expected = format!("{} labels, one for each number of its input, {input}", input.len());
            return Err(error("labels", expected, labels.len().to_string()));
        }
        return Ok(HeadClaims { input, len: input.len(), weights: None });
    };
    let prefix = format!("{branch}.{tensor}");
    let len = match &head.labels {
        Some(labels) => labels.len(),
        None => rows(file, &format!("{prefix}.weight"), &[input.len()])?,
    };
    Ok(HeadClaims { input, len, weights: Some(claim_weights(file, &prefix, &[len, input.len()])?) })
}

fn claim_norm<R: Read + Seek>(
    file: &mut TensorFile<R>,
    norm: &BatchNormEntry,
    branch: &str,
    channels: usize,
) -> Result<NormClaims> {
    let prefix = format!("{branch}.{}", norm.prefix);
    let mut claim = |suffix: &str| file.claim(&format!("{prefix}.{suffix}"), &[channels]);
    let (gamma, beta) = (claim("weight")?, claim("bias")?);
    let (mean, variance) = (claim("running_mean")?, claim("running_var")?);
    file.ignore(&format!("{prefix}.num_batches_tracked"));
    Ok(NormClaims { prefix, eps: norm.eps, gamma, beta, mean, variance })
}

/// Claims the tensors of an AWS-Unit behind a layer of `c` channels.
fn claim_aws_unit<R: Read + Seek>(
    file: &mut TensorFile<R>,
    kind: AwsKind,
    layer: &str,
    c: usize,
) -> Result<AwsClaims> {
    let name = |suffix: &str| format!("aws.{layer}.{suffix}");
    Ok(match kind {
        AwsKind::Layer => AwsClaims::Layer(file.claim(&name("weight"), &[2, 2])?),
        AwsKind::Channel => AwsClaims::Channel(file.claim(&name("weight"), &[2, 2, c])?),
        AwsKind::Dense => AwsClaims::Dense(file.claim(&name("weight"), &[2, 2, c, c])?),
        AwsKind::Gate(gate) => {
            let squeeze_weight = name("squeeze.weight");
            let r = hidden_len(file, &squeeze_weight, c)?;
            AwsClaims::Gate {
                gate,
                squeeze_weight: file.claim(&squeeze_weight, &[r, 2 * c])?,
                squeeze_bias: file.claim(&name("squeeze.bias"), &[r])?,
                excite_weight: file.claim(&name("excite.weight"), &[2, 2, c, r])?,
                excite_bias: file.claim(&name("excite.bias"), &[2, 2, c])?,
            }
        }
    })
}

/// The length of a gate's hidden layer, which the weight before it tells.
fn hidden_len<R: Read + Seek>(file: &TensorFile<R>, squeeze_weight: &str, c: usize) -> Result<usize> {
    let shape = format!("[r, {}]", 2 * c);
    let dims = file.dims(squeeze_weight, &shape)?;
    match dims.first() {
        Some(&r) if r > 0 => Ok(r),
        _ => {
            let expected = format!("shape {shape}, r at least 1");
            Err(Error::new(ErrorKind::Model, tensor_place(squeeze_weight), expected, shown_dims(dims)))
        }
    }
}

/// Builds the model from tensors that [`claim`] has found and `read_all` has read.
pub(super) fn assemble(manifest: Manifest, claims: &Claims, tensors: &Tensors) -> Result<Model> {
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for (entry, claims) in manifest.layers.into_iter().zip(&claims.layers) {
        let stages = entry.stages;
        let of_branches = |claims: &Vec<WeightClaims>| claims.iter().map(|c| weights(tensors, c)).collect();
        layers.push(Layer {
            name: entry.name,
            op: entry.op,
            inputs: entry.inputs,
            scale: stages.scale,
            residual: stages.residual,
            activation: stages.activation,
            slopes: claims
                .slopes
                .as_ref()
                .map(|slopes| slopes.iter().map(|&s| of(tensors, s)).collect())
                .transpose()?,
            aws: claims.aws.as_ref().map(|aws| aws_unit(tensors, aws)).transpose()?,
            weights: claims.weights.as_ref().map(of_branches).transpose()?,
            input_shape: claims.input,
            output_shape: claims.output,
        });
    }
    let head = |(entry, claims): (HeadEntry, &HeadClaims)| -> Result<Head> {
        let thresholds = match entry.kind {
            HeadKind::Units => entry.thresholds.unwrap_or_else(|| vec![0.5; claims.len]),
            HeadKind::Classes | HeadKind::Values => Vec::new(),
        };
        Ok(Head {
            name: entry.name,
            branch: entry.branch,
            kind: entry.kind,
            input: entry.input,
            input_shape: claims.input,
            weights: claims.weights.as_ref().map(|claims| weights(tensors, claims)).transpose()?,
            len: claims.len,
            labels: entry.labels.unwrap_or_default(),
            thresholds,
        })
    };
    let heads = manifest.heads.into_iter().zip(&claims.heads).map(head).collect::<Result<_>>()?;
    let Manifest { name, about, branches, input, .. } = manifest;
    Ok(Model { name, about, branches, input, layers, heads })
}

/// The numbers of a tensor in f32.
fn of(tensors: &Tensors, claimed: Claimed) -> Result<Arc<[f32]>> {
    Ok(tensors.get(claimed)?.to_f32().as_ref().into())
}

fn aws_unit(tensors: &Tensors, claims: &AwsClaims) -> Result<AwsUnit> {
    let of = |claimed| of(tensors, claimed);
    Ok(match *claims {
        AwsClaims::Layer(weight) => AwsUnit::Layer(of(weight)?),
        AwsClaims::Channel(weight) => AwsUnit::Channel(of(weight)?),
        AwsClaims::Dense(weight) => AwsUnit::Dense(of(weight)?),
        AwsClaims::Gate { gate, squeeze_weight, squeeze_bias, excite_weight, excite_bias } => AwsUnit::Gate {
            gate,
            squeeze_weight: of(squeeze_weight)?,
            squeeze_bias: of(squeeze_bias)?,
            excite_weight: of(excite_weight)?,
            excite_bias: of(excite_bias)?,
        },
    })
}

fn weights(tensors: &Tensors, claims: &WeightClaims) -> Result<Weights> {
    let weight = match (claims.weight, &claims.norm) {
        (Some(weight), _) => Arc::clone(tensors.get(weight)?),
        (None, norm) => {
            let channels =
                norm.as_ref().map(|norm| tensors.get(norm.gamma)).transpose()?.map_or(0, |t| t.len());
            Arc::new(Tensor::with_dims(&[channels], vec![1.0; channels]))
        }
    };
    let mut bias = match claims.bias {
        Some(bias) => tensors.get(bias)?.to_f32().into_owned(),
        None => vec![0.0; weight.dims()[0]],
    };
    let scale = match &claims.norm {
        Some(norm) => Some(fold(tensors, norm, &weight, &mut bias)?),
        None => None,
    };
    let has_bias = claims.bias.is_some() || claims.norm.is_some();
    Ok(Weights { weight, scale: scale.map(Into::into), bias: bias.into(), has_bias })
}

/// The scale of every output channel that a batch norm amounts to; its shift goes into `bias`.
fn fold(tensors: &Tensors, norm: &NormClaims, weight: &Tensor, bias: &mut [f32]) -> Result<Vec<f32>> {
    let gamma = tensors.get(norm.gamma)?.to_f32();
    let beta = tensors.get(norm.beta)?.to_f32();
    let mean = tensors.get(norm.mean)?.to_f32();
    let variance = tensors.get(norm.variance)?.to_f32();
    let row_len = weight.len() / bias.len();
    let weight = weight.to_f32();
    let mut scale = Vec::with_capacity(bias.len());
    for (channel, bias) in bias.iter_mut().enumerate() {
        let spread = f64::from(variance[channel]) + f64::from(norm.eps);
        if spread <= 0.0 {
            let place = tensors.place(norm.variance)?;
            let expected = format!("variances greater than -eps = -{}", norm.eps);
            return Err(Error::new(
                ErrorKind::Model,
                place,
                expected,
                format!("{} at index {channel}", variance[channel]),
            ));
        }
        let factor = f64::from(gamma[channel]) / spread.sqrt();
        let shifted = (f64::from(*bias) - f64::from(mean[channel])) * factor + f64::from(beta[channel]);
        *bias = shifted as f32;
        scale.push(factor as f32);
        let row = &weight[channel * row_len..][..row_len];
        // A factor of at most 1 keeps finite weights finite.
        let row_overflows = factor.abs() > 1.0 && row.iter().any(|w| !(w * factor as f32).is_finite());
        if !bias.is_finite() || !scale[channel].is_finite() || row_overflows {
            return Err(Error::new(
                ErrorKind::Model,
                format!("batch norm {}", quoted(&norm.prefix)),
                "a batch norm that can be folded into weight and bias in f32",
                format!("an overflow in output channel {channel}"),
            ));
        }
    }
    Ok(scale)
}
