//! The one block of bytes that holds all packed weights: each is reserved its place when a plan is decided on, and filled
//! when the plan is packed, by jobs that own the weights they read.

use std::sync::Arc;

use super::Constant;
use super::pack::{self, Oihw};
use super::variants::{Element, pitch, stem_k};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::model::{AwsUnit, Model, Weights};
use crate::parallel;

/// Constants begin at multiples of this many bytes.
const ALIGNMENT: usize = 256;

/// What a constant is packed from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// The weights of a layer's operator in a branch, and of a projection (its layer and channels) behind them.
    Operator {
        layer: usize,
        branch: usize,
        packing: Packing,
        shape: Oihw,
        projection: Option<(usize, usize)>,
    },
    /// The biases of a layer and of a projection beside it.
    Bias {
        layer: usize,
        branch: usize,
        projection: Option<usize>,
    },
    /// The AWS-Unit of a layer, or a part of it.
    MixLayer(usize),
    MixChannel(usize),
    Dense {
        layer: usize,
        to: usize,
    },
    SqueezeWeight(usize),
    SqueezeBias(usize),
    ExciteWeight(usize),
    ExciteBias(usize),
    /// The slopes of a layer's PReLU.
    Slopes {
        layer: usize,
        branch: usize,
        channels: usize,
    },
    HeadWeight {
        head: usize,
        channels: usize,
        positions: usize,
    },
    HeadBias(usize),
}

/// How a convolution's weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Stem,
    ImplicitGemm,
    Direct,
}

impl Packing {
    /// How many values there are, those of a projection of so many channels included.
    pub fn len(self, shape: Oihw, projection_channels: usize) -> usize {
        let taps = shape.kernel[0] * shape.kernel[1];
        match self {
            Packing::Stem => shape.out * stem_k(shape.kernel),
            Packing::ImplicitGemm => shape.out * (taps * pitch(shape.input) + pitch(projection_channels)),
            Packing::Direct => (taps * shape.input + projection_channels) * pitch(shape.out),
        }
    }
}

/// A constant that has a place.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    content: Content,
    element: Element,
    at: Constant,
    /// Values.
    len: usize,
}

/// Every constant of a plan.
#[derive(Debug, Default)]
pub(super) struct Constants {
    reserved: Vec<Reserved>,
    bytes: usize,
}

impl Constants {
    /// A place for `len` values.
    pub fn reserve(&mut self, content: Content, element: Element, len: usize) -> Result<Constant> {
        let end = || {
            let at = self.bytes.checked_next_multiple_of(ALIGNMENT)?;
            Some((at, at.checked_add(len.checked_mul(element.bytes())?)?))
        };
        let (at, end) = end().ok_or_else(|| {
            let expected = "weights that fit the address space together";
            Error::new(ErrorKind::Plan, "packed weights", expected, format!("{len} more"))
        })?;
        self.reserved.push(Reserved { content, element, at, len });
        self.bytes = end;
        Ok(at)
    }

    /// Bytes from the first constant's first to the last one's last.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills the block from the model that the plan was decided on, which is taken apart on the way.
    ///
    /// Errors: weights that the element type cannot hold; not enough memory.
    pub fn pack(self, model: Model) -> Result<Vec<u8>> {
        let mut block = Vec::new();
        block.try_reserve_exact(self.bytes).map_err(|_| {
            let expected = format!("{} bytes of memory", self.bytes);
            Error::new(ErrorKind::Memory, "packed weights", expected, "not enough")
        })?;
        block.resize(self.bytes, 0);
        let source = Source::new(model);
        let jobs =
            self.reserved.iter().map(|&reserved| source.job(reserved)).collect::<Result<Vec<Job>>>()?;
        drop(source);
        let weight = self.reserved.iter().map(|reserved| reserved.len).sum();
        parallel::run(jobs, weight, Job::pack, |index, bytes: Vec<u8>| {
            block[self.reserved[index].at..][..bytes.len()].copy_from_slice(&bytes);
        })?;
        Ok(block)
    }
}

/// The weights of a model, shared by the jobs that read them.
struct Source {
    model: Model,
    units: Vec<Option<Arc<AwsUnit>>>,
}

impl Source {
    fn new(mut model: Model) -> Source {
        let units = model.layers.iter_mut().map(|layer| layer.aws.take().map(Arc::new)).collect();
        Source { model, units }
    }

    fn weights(&self, layer: usize, branch: usize) -> Result<(String, Weights)> {
        let layer = &self.model.layers[layer];
        let weights = layer.weights(branch).cloned().ok_or_else(|| missing(&layer.name))?;
        Ok((layer.name.clone(), weights))
    }

    fn job(&self, reserved: Reserved) -> Result<Job> {
        let mut name = String::new();
        let operands = match reserved.content {
            Content::Operator { layer, branch, projection, .. } => {
                let weights;
                (name, weights) = self.weights(layer, branch)?;
                let beside = projection.map(|(layer, _)| self.weights(layer, branch)).transpose()?;
                Operands::Weights(weights, beside)
            }
            Content::Bias { layer, branch, projection } => {
                let weights;
                (name, weights) = self.weights(layer, branch)?;
                let beside = projection.map(|layer| self.weights(layer, branch)).transpose()?;
                Operands::Weights(weights, beside)
            }
            Content::MixLayer(layer)
            | Content::MixChannel(layer)
            | Content::Dense { layer, .. }
            | Content::SqueezeWeight(layer)
            | Content::SqueezeBias(layer)
            | Content::ExciteWeight(layer)
            | Content::ExciteBias(layer) => {
                name.clone_from(&self.model.layers[layer].name);
                Operands::Unit(self.units[layer].clone().ok_or_else(|| missing(&name))?)
            }
            Content::Slopes { layer, branch, .. } => {
                let layer = &self.model.layers[layer];
                name.clone_from(&layer.name);
                let slopes = layer.slopes(branch).ok_or_else(|| missing(&name))?;
                Operands::Slopes(slopes.to_vec())
            }
            Content::HeadWeight { head, .. } | Content::HeadBias(head) => {
                let weights = self.model.heads[head].weights.clone();
                Operands::Weights(weights.ok_or_else(|| missing("head"))?, None)
            }
        };
        Ok(Job { reserved, name, operands })
    }
}

fn missing(layer: &str) -> Error {
    let place = format!("layer {}", quoted(layer));
    Error::new(ErrorKind::Internal, place, "the weights that were decided on", "none")
}

/// A constant to be packed, with what it is packed from.
struct Job {
    reserved: Reserved,
    /// The layer's.
    name: String,
    operands: Operands,
}

enum Operands {
    /// Of an operator or a head, and of the projection beside it, with its name.
    Weights(Weights, Option<(String, Weights)>),
    Unit(Arc<AwsUnit>),
    /// Of a PReLU, one or one a channel.
    Slopes(Vec<f32>),
}

impl Job {
    /// The bytes of the constant.
    fn pack(self) -> Result<Vec<u8>> {
        let values = self.values()?;
        let Reserved { element, len, .. } = self.reserved;
        if values.len() != len {
            let place = format!("layer {}", quoted(&self.name));
            let found = values.len().to_string();
            return Err(Error::new(ErrorKind::Internal, place, format!("{len} packed values"), found));
        }
        check_range(element, &self.name, &values)?;
        Ok(pack::encode(element, &values))
    }

    fn values(&self) -> Result<Vec<f32>> {
        Ok(match (self.reserved.content, &self.operands) {
            (Content::Operator { packing, shape, projection, .. }, Operands::Weights(weights, beside)) => {
                let folded = weights.folded();
                let (channels, projection) = match (projection, beside) {
                    (Some((_, channels)), Some((name, weights))) => {
                        let folded = weights.folded();
                        check_range(self.reserved.element, name, &folded)?;
                        (channels, folded)
                    }
                    _ => (0, Vec::new()),
                };
                match packing {
                    Packing::Stem => pack::stem(shape, &folded),
                    Packing::ImplicitGemm => {
                        pack::implicit_gemm_projected(shape, &folded, channels, &projection)
                    }
                    Packing::Direct => pack::direct_projected(shape, &folded, channels, &projection),
                }
            }
            (Content::Bias { .. }, Operands::Weights(weights, beside)) => {
                let mut bias = weights.bias().to_vec();
                if let Some((_, beside)) = beside {
                    bias.iter_mut().zip(beside.bias()).for_each(|(b, more)| *b += more);
                }
                pack::per_channel(&bias)
            }
            (Content::HeadWeight { channels, positions, .. }, Operands::Weights(weights, _)) => {
                pack::head(channels, positions, &weights.folded())
            }
            (Content::HeadBias(_), Operands::Weights(weights, _)) => weights.bias().to_vec(),
            (content, Operands::Unit(unit)) => match (content, &**unit) {
                (Content::MixLayer(_), AwsUnit::Layer(a)) => a.to_vec(),
                (Content::MixChannel(_), AwsUnit::Channel(a)) => pack::mix_channel(a.len() / 4, a),
                // [to][from][out][in]: the square root is the channels.
                (Content::Dense { to, .. }, AwsUnit::Dense(a)) => {
                    pack::aws_unit_dense(self.reserved.element, (a.len() / 4).isqrt(), to, a)
                }
                (Content::SqueezeWeight(_), AwsUnit::Gate { squeeze_weight, excite_bias, .. }) => {
                    pack::squeeze(excite_bias.len() / 4, squeeze_weight)
                }
                (Content::SqueezeBias(_), AwsUnit::Gate { squeeze_bias, .. }) => squeeze_bias.to_vec(),
                (Content::ExciteWeight(_), AwsUnit::Gate { excite_weight, .. }) => excite_weight.to_vec(),
                (Content::ExciteBias(_), AwsUnit::Gate { excite_bias, .. }) => excite_bias.to_vec(),
                (content, _) => return Err(self.mismatch(content)),
            },
            (Content::Slopes { channels, .. }, Operands::Slopes(slopes)) => match slopes[..] {
                [slope] => pack::per_channel(&vec![slope; channels]),
                _ => pack::per_channel(slopes),
            },
            (content, Operands::Weights(..) | Operands::Slopes(_)) => return Err(self.mismatch(content)),
        })
    }

    /// Packing follows decisions; it never comes to this.
    fn mismatch(&self, content: Content) -> Error {
        let place = format!("layer {}", quoted(&self.name));
        Error::new(ErrorKind::Internal, place, "the weights that were decided on", format!("{content:?}"))
    }
}

/// No weight of a layer may overflow an element type.
fn check_range(element: Element, name: &str, values: &[f32]) -> Result<()> {
    let overflow = |v: f32| match element {
        Element::F16 => half::f16::from_f32(v).is_infinite(),
        Element::Bf16 => half::bf16::from_f32(v).is_infinite(),
        Element::F32 => false,
    };
    let Some(value) = values.iter().find(|&&v| overflow(v)) else { return Ok(()) };
    let expected = match element {
        Element::F16 => {
            "weights that f16 holds, below 65520, batch norm folded in (bf16 holds them: --precision bf16)"
        }
        Element::Bf16 | Element::F32 => "weights that bf16 holds, batch norm folded in (--precision f32)",
    };
    let place = format!("layer {}", quoted(name));
    Err(Error::new(ErrorKind::Plan, place, expected, value.to_string()))
}
