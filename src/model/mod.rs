//! A network as its model file states it: layer pairs with their weights, validated once and for all.
//!
//! One [`Layer`] is a layer pair: the same operator in both branches, with weights of their own. For branch t with
//! input x_t
//!
//! ```text
//! z_t = operator_t(x_t)                 bias and batch norm included
//! u_t = activation(z_t + residual_t)    residual only where the layer names one
//! y_t = sum over s of A[t][s] * u_s     the AWS-Unit, only where the layer names one
//! ```
//!
//! and y is what every later reader of the layer sees. Behind [`Model::load`] nobody checks a tensor's shape again.

mod container;
pub mod init;
pub(crate) mod json;
mod manifest;
mod weights;

use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

pub use manifest::{AwsKind, Gate, Input, Source};
pub use weights::{AwsUnit, Weights};

use crate::error::Result;
use crate::file::open_regular;
use crate::float_environment::FloatEnvironment;
use crate::op::{Activation, Op};
use crate::tensor::{Branch, DType, Shape};
use container::TensorFile;
use manifest::Manifest;

/// A layer pair.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) name: String,
    pub(crate) op: Op,
    pub(crate) input: Source,
    pub(crate) residual: Option<usize>,
    pub(crate) activation: Activation,
    pub(crate) aws: Option<AwsUnit>,
    pub(crate) weights: Option<[Weights; 2]>,
    pub(crate) input_shape: Shape,
    pub(crate) output_shape: Shape,
}

impl Layer {
    /// The layer's name, unique in its model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator that both branches run.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// What the layer reads.
    pub fn input(&self) -> Source {
        self.input
    }

    /// The index of the earlier layer that is added before the activation.
    pub fn residual(&self) -> Option<usize> {
        self.residual
    }

    /// The function applied to z + residual.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The AWS-Unit that mixes the two branches, where there is one.
    pub fn aws(&self) -> Option<&AwsUnit> {
        self.aws.as_ref()
    }

    /// A branch's weight and bias, where the operator has them.
    pub fn weights(&self, branch: Branch) -> Option<&Weights> {
        self.weights.as_ref().map(|pair| &pair[branch as usize])
    }

    /// The shape of the map that each branch reads.
    pub fn input_shape(&self) -> Shape {
        self.input_shape
    }

    /// The shape of the map that each branch gives.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// Multiplications and additions for one image in both branches, the AWS-Unit included.
    pub fn flop(&self) -> u64 {
        let operator = self.op.flop(self.input_shape, self.output_shape);
        let aws = self.aws.as_ref().map_or(0, |aws| aws.flop(self.output_shape));
        operator.saturating_mul(2).saturating_add(aws)
    }

    /// Numbers learnt in both branches and the AWS-Unit, batch norm folded into the bias.
    pub fn parameters(&self) -> u64 {
        let operator = self.weights.iter().flatten().map(Weights::parameters).sum::<u64>();
        operator + self.aws.as_ref().map_or(0, AwsUnit::parameters)
    }
}

/// The linear layer that turns a branch's last map into scores.
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) input: Source,
    pub(crate) input_shape: Shape,
    pub(crate) weights: Weights,
    pub(crate) labels: Vec<String>,
    pub(crate) thresholds: Vec<f32>,
}

impl Head {
    /// What the head reads.
    pub fn input(&self) -> Source {
        self.input
    }

    /// The shape of the map it reads, flattened in (C, H, W) order.
    pub fn input_shape(&self) -> Shape {
        self.input_shape
    }

    /// The weight, `[labels, features]`, and the bias, `[labels]`.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What each row scores.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The probability from which on a label is active; empty for the emotion head, whose largest score decides.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }
}

/// A network: what a valid model file says.
///
/// Cloning is cheap, the weights are shared.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) name: Option<String>,
    pub(crate) input: Input,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: [Head; 2],
}

impl Model {
    /// Reads and validates a model file, version 1.
    ///
    /// The file is read, not mapped: it may change afterwards. Every fault in it is an error that names the layer
    /// or tensor, what was expected and what was found.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, len) = open_regular(path)?;
        Self::read(BufReader::new(file), len).map_err(|e| e.in_file(path))
    }

    /// Reads and validates a model file that is in memory already.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(Cursor::new(bytes), bytes.len() as u64)
    }

    fn read(reader: impl Read + Seek, len: u64) -> Result<Self> {
        let _environment = FloatEnvironment::enter();
        let mut file = TensorFile::open(reader, len)?;
        let manifest = Manifest::parse(file.manifest()?)?;
        let claims = weights::claim(&mut file, &manifest)?;
        weights::assemble(manifest, &claims, &file.read_all()?)
    }

    /// The network's name, free text.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The image it reads.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// The layer pairs, in order: a layer reads only earlier ones.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The head of a branch.
    pub fn head(&self, branch: Branch) -> &Head {
        &self.heads[branch as usize]
    }

    /// The shape of what `source` gives.
    pub fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Image => self.input.shape,
            Source::Layer(index) => self.layers[index].output_shape,
        }
    }

    /// The model with its weights rounded as a backend stores them whose maps have `dtype`; biases, coefficients of
    /// AWS-Units and heads stay.
    pub(crate) fn rounded(&self, dtype: DType) -> Self {
        let mut model = self.clone();
        for layer in &mut model.layers {
            layer.weights = layer.weights.take().map(|pair| pair.map(|weights| weights.rounded(dtype)));
            layer.aws = layer.aws.take().map(|unit| unit.rounded(dtype));
        }
        model
    }

    /// Multiplications and additions for one image, both branches and heads included.
    pub fn flop(&self) -> u64 {
        let heads = self.heads.iter().map(|head| 2 * head.weights.weight().len() as u64);
        self.layers.iter().map(Layer::flop).chain(heads).fold(0, u64::saturating_add)
    }

    /// Numbers learnt, batch norm folded into the biases.
    pub fn parameters(&self) -> u64 {
        let heads = self.heads.iter().map(|head| head.weights.parameters());
        self.layers.iter().map(Layer::parameters).chain(heads).sum()
    }
}
