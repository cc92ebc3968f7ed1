//! Tensors meet the manifest: every name a layer needs is looked up, its shape compared, its batch norm folded.

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::ops::Range;
use std::sync::Arc;

use super::file::{TensorFile, shown_dims, tensor_place};
use super::manifest::{AwsKind, BatchNormEntry, Gate, LayerEntry, Manifest, Source};
use super::{Head, Layer, Model};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::tensor::{Branch, DType, Shape, Tensor};

/// One branch's weight and bias of a convolution, linear layer or head, batch norm folded in.
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
    /// The weight as stored: conv2d [out, in/groups, kh, kw], linear [out, in].
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

/// The shapes a layer reads and gives.
pub(super) struct LayerShapes {
    input: Shape,
    output: Shape,
}

fn source_shape(source: Source, image: Shape, shapes: &[LayerShapes]) -> Shape {
    match source {
        Source::Image => image,
        Source::Layer(index) => shapes[index].output,
    }
}

/// The dimensions of each tensor of an AWS-Unit; `r` is the length of a gate's hidden layer.
fn aws_tensors(kind: AwsKind, layer: &str, c: usize, r: usize) -> Vec<(String, Vec<usize>)> {
    let name = |suffix: &str| format!("aws.{layer}.{suffix}");
    match kind {
        AwsKind::Layer => vec![(name("weight"), vec![2, 2])],
        AwsKind::Channel => vec![(name("weight"), vec![2, 2, c])],
        AwsKind::Dense => vec![(name("weight"), vec![2, 2, c, c])],
        AwsKind::Gate(_) => vec![
            (name("squeeze.weight"), vec![r, 2 * c]),
            (name("squeeze.bias"), vec![r]),
            (name("excite.weight"), vec![2, 2, c, r]),
            (name("excite.bias"), vec![2, 2, c]),
        ],
    }
}

const BATCH_NORM_TENSORS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Finds the tensors of every layer and head, infers and compares all shapes.
pub(super) fn claim<R: Read + Seek>(
    file: &mut TensorFile<R>,
    manifest: &Manifest,
) -> Result<Vec<LayerShapes>> {
    let mut shapes: Vec<LayerShapes> = Vec::with_capacity(manifest.layers.len());
    for layer in &manifest.layers {
        let input = source_shape(layer.input, manifest.input.shape, &shapes);
        let output = claim_layer(file, layer, input)?;
        let place = || format!("layer {}", quoted(&layer.name));
        if let Some(residual) = layer.residual {
            let found = shapes[residual].output;
            if found != output {
                let residual = quoted(&manifest.layers[residual].name);
                return Err(Error::new(
                    ErrorKind::Model,
                    format!("{}: `residual`", place()),
                    format!("a layer that gives {output}, as this one does before the addition"),
                    format!("{residual}, which gives {found}"),
                ));
            }
        }
        if let Some(kind) = layer.aws {
            let r = match kind {
                AwsKind::Gate(_) => {
                    let name = format!("aws.{}.squeeze.weight", layer.name);
                    let shape = format!("[r, {}]", 2 * output.channels);
                    let dims = file.dims(&name, &shape)?;
                    match dims.first() {
                        Some(&r) if r > 0 => r,
                        _ => {
                            let found = shown_dims(dims);
                            return Err(Error::new(
                                ErrorKind::Model,
                                tensor_place(&name),
                                format!("shape {shape}, r at least 1"),
                                found,
                            ));
                        }
                    }
                }
                _ => 0,
            };
            for (name, dims) in aws_tensors(kind, &layer.name, output.channels, r) {
                file.claim(&name, &dims)?;
            }
        }
        shapes.push(LayerShapes { input, output });
    }
    for (branch, head) in Branch::BOTH.into_iter().zip(&manifest.heads) {
        let features = source_shape(head.input, manifest.input.shape, &shapes).len();
        let prefix = format!("{}.{}", branch.name(), head.tensor);
        file.claim(&format!("{prefix}.weight"), &[head.labels.len(), features])?;
        claim_optional(file, &format!("{prefix}.bias"), &[head.labels.len()])?;
    }
    Ok(shapes)
}

fn claim_optional<R: Read + Seek>(file: &mut TensorFile<R>, name: &str, dims: &[usize]) -> Result<()> {
    if file.has(name) { file.claim(name, dims) } else { Ok(()) }
}

/// Claims the tensors of both branches of a layer; gives the output's shape.
fn claim_layer<R: Read + Seek>(file: &mut TensorFile<R>, layer: &LayerEntry, input: Shape) -> Result<Shape> {
    let place = format!("layer {}", quoted(&layer.name));
    if !layer.op.has_weight() {
        return layer.op.output_shape(&place, input, 0);
    }
    // The emotion branch's weight says how many channels the layer has; the au branch must agree.
    let first = format!("{}.{}.weight", Branch::Emotion.name(), layer.name);
    let pattern = layer.op.weight_dims(input, 0).unwrap_or_default();
    let shape =
        format!("[out, {}]", pattern[1..].iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
    let out_channels = match file.dims(&first, &shape)?.first() {
        Some(&channels) if channels > 0 => channels,
        found => {
            let found = found.map_or("a scalar".into(), |_| "out = 0".to_string());
            return Err(Error::new(ErrorKind::Model, tensor_place(&first), format!("shape {shape}"), found));
        }
    };
    let output = layer.op.output_shape(&place, input, out_channels)?;
    let weight_dims = layer.op.weight_dims(input, out_channels).unwrap_or_default();
    for branch in Branch::BOTH {
        let prefix = format!("{}.{}", branch.name(), layer.name);
        file.claim(&format!("{prefix}.weight"), &weight_dims)?;
        claim_optional(file, &format!("{prefix}.bias"), &[out_channels])?;
        if let Some(norm) = &layer.batch_norm {
            let prefix = format!("{}.{}", branch.name(), norm.prefix);
            for suffix in BATCH_NORM_TENSORS {
                file.claim(&format!("{prefix}.{suffix}"), &[out_channels])?;
            }
            file.ignore(&format!("{prefix}.num_batches_tracked"));
        }
    }
    Ok(output)
}

/// Builds the model from tensors that [`claim`] has found and `read_all` has read.
pub(super) fn assemble(
    manifest: Manifest,
    shapes: &[LayerShapes],
    tensors: HashMap<String, Tensor>,
) -> Result<Model> {
    let tensors: HashMap<String, Arc<Tensor>> =
        tensors.into_iter().map(|(name, tensor)| (name, Arc::new(tensor))).collect();
    let image = manifest.input.shape;
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for (entry, shape) in manifest.layers.into_iter().zip(shapes) {
        let weights = match entry.op.has_weight() {
            true => {
                let [emotion, au] =
                    Branch::BOTH.map(|b| branch_weights(&tensors, b, &entry.name, entry.batch_norm.as_ref()));
                Some([emotion?, au?])
            }
            false => None,
        };
        let aws = entry.aws.map(|kind| aws_unit(&tensors, kind, &entry.name));
        layers.push(Layer {
            name: entry.name,
            op: entry.op,
            input: entry.input,
            residual: entry.residual,
            activation: entry.activation,
            aws,
            weights,
            input_shape: shape.input,
            output_shape: shape.output,
        });
    }
    let [emotion, au] = manifest.heads;
    let head = |branch, entry: super::manifest::HeadEntry| -> Result<Head> {
        Ok(Head {
            input: entry.input,
            input_shape: source_shape(entry.input, image, shapes),
            weights: branch_weights(&tensors, branch, &entry.tensor, None)?,
            labels: entry.labels,
            thresholds: entry.thresholds,
        })
    };
    let heads = [head(Branch::Emotion, emotion)?, head(Branch::Au, au)?];
    Ok(Model { name: manifest.name, input: manifest.input, layers, heads })
}

/// A tensor that was claimed, as f32.
fn f32_of(tensors: &HashMap<String, Arc<Tensor>>, name: &str) -> Arc<[f32]> {
    tensors[name].to_f32().as_ref().into()
}

fn aws_unit(tensors: &HashMap<String, Arc<Tensor>>, kind: AwsKind, layer: &str) -> AwsUnit {
    let of = |suffix: &str| f32_of(tensors, &format!("aws.{layer}.{suffix}"));
    match kind {
        AwsKind::Layer => AwsUnit::Layer(of("weight")),
        AwsKind::Channel => AwsUnit::Channel(of("weight")),
        AwsKind::Dense => AwsUnit::Dense(of("weight")),
        AwsKind::Gate(gate) => AwsUnit::Gate {
            gate,
            squeeze_weight: of("squeeze.weight"),
            squeeze_bias: of("squeeze.bias"),
            excite_weight: of("excite.weight"),
            excite_bias: of("excite.bias"),
        },
    }
}

fn branch_weights(
    tensors: &HashMap<String, Arc<Tensor>>,
    branch: Branch,
    prefix: &str,
    norm: Option<&BatchNormEntry>,
) -> Result<Weights> {
    let prefix = format!("{}.{prefix}", branch.name());
    let weight = Arc::clone(&tensors[&format!("{prefix}.weight")]);
    let out_channels = weight.dims()[0];
    let bias = tensors.get(&format!("{prefix}.bias")).map(|tensor| tensor.to_f32().into_owned());
    let has_bias = bias.is_some() || norm.is_some();
    let mut bias = bias.unwrap_or_else(|| vec![0.0; out_channels]);
    let scale = match norm {
        Some(norm) => Some(fold(tensors, branch, norm, &weight, &mut bias)?),
        None => None,
    };
    Ok(Weights { weight, scale: scale.map(Into::into), bias: bias.into(), has_bias })
}

/// The scale of every output channel that a batch norm amounts to; its shift goes into `bias`.
fn fold(
    tensors: &HashMap<String, Arc<Tensor>>,
    branch: Branch,
    norm: &BatchNormEntry,
    weight: &Tensor,
    bias: &mut [f32],
) -> Result<Vec<f32>> {
    let prefix = format!("{}.{}", branch.name(), norm.prefix);
    let [gamma, beta, mean, variance] =
        BATCH_NORM_TENSORS.map(|suffix| tensors[&format!("{prefix}.{suffix}")].to_f32());
    let row_len = weight.len() / bias.len();
    let weight = weight.to_f32();
    let mut scale = Vec::with_capacity(bias.len());
    for (channel, bias) in bias.iter_mut().enumerate() {
        let spread = f64::from(variance[channel]) + f64::from(norm.eps);
        if spread <= 0.0 {
            let place = tensor_place(&format!("{prefix}.running_var"));
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
                format!("batch norm {}", quoted(&prefix)),
                "a batch norm that can be folded into weight and bias in f32",
                format!("an overflow in output channel {channel}"),
            ));
        }
    }
    Ok(scale)
}
