//! A network as its model file states it: layers with their weights, validated once and for all.
//!
//! One [`Layer`] is the same operator in every branch, one or two, with weights of its own: with two a layer pair. For branch t
//! with input x_t
//!
//! ```text
//! z_t = operator_t(x_t)                            bias and batch norm included
//! u_t = activation(z_t * scale_t + residual_t)     scale and residual only where the layer names them
//! y_t = sum over s of A[t][s] * u_s                the AWS-Unit, only where the layer names one
//! ```
//!
//! and y is what every later reader of the layer sees. Behind [`Model::load`] nobody checks a tensor's shape again.

mod container;
mod foreign;
pub mod init;
mod input;
pub(crate) mod json;
mod manifest;
mod weights;

use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

pub use input::{ChannelOrder, FaceCrop, FacePoint, Input};
pub use manifest::{AwsKind, Gate, HeadKind, Source};
pub use weights::{AwsUnit, Weights};

use crate::error::Result;
use crate::file::open_regular;
use crate::float_environment::FloatEnvironment;
use crate::op::{Activation, Op};
use crate::tensor::{DType, Shape};
use container::TensorFile;
use manifest::Manifest;

/// The same operator in every branch: a layer pair where there are two.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) name: String,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Source>,
    pub(crate) scale: Option<usize>,
    pub(crate) residual: Option<usize>,
    pub(crate) activation: Activation,
    /// Of a PReLU in each branch: one, or one a channel.
    pub(crate) slopes: Option<Vec<Arc<[f32]>>>,
    pub(crate) aws: Option<AwsUnit>,
    /// Of each branch.
    pub(crate) weights: Option<Vec<Weights>>,
    pub(crate) input_shape: Shape,
    pub(crate) output_shape: Shape,
}

impl Layer {
    /// The layer's name, unique in its model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator that every branch runs.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// What the layer reads; of a concatenation the first.
    pub fn input(&self) -> Source {
        self.inputs[0]
    }

    /// All that the layer reads: one, or the maps of a concatenation in their order.
    pub fn inputs(&self) -> &[Source] {
        &self.inputs
    }

    /// The index of the earlier layer that z is multiplied by: of z's shape, or a factor a channel.
    pub fn scale(&self) -> Option<usize> {
        self.scale
    }

    /// The index of the earlier layer that is added before the activation.
    pub fn residual(&self) -> Option<usize> {
        self.residual
    }

    /// The function applied to z * scale + residual.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// A branch's slopes of a PReLU: one, or one a channel.
    pub fn slopes(&self, branch: usize) -> Option<&[f32]> {
        self.slopes.as_ref()?.get(branch).map(AsRef::as_ref)
    }

    /// The largest magnitude of all slopes of a PReLU.
    pub(crate) fn steepest(&self) -> f32 {
        self.slopes
            .iter()
            .flatten()
            .flat_map(|slopes| slopes.iter())
            .fold(0.0, |most, slope| slope.abs().max(most))
    }

    /// The AWS-Unit that mixes the two branches, where there is one.
    pub fn aws(&self) -> Option<&AwsUnit> {
        self.aws.as_ref()
    }

    /// A branch's weight and bias, where the operator has them.
    pub fn weights(&self, branch: usize) -> Option<&Weights> {
        self.weights.as_ref()?.get(branch)
    }

    /// The shape of the map that each branch reads; of a concatenation the first.
    pub fn input_shape(&self) -> Shape {
        self.input_shape
    }

    /// The shape of the map that each branch gives.
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// Multiplications and additions for one image in so many branches, the AWS-Unit included.
    fn flop(&self, branches: usize) -> u64 {
        let operator = self.op.flop(self.input_shape, self.output_shape);
        let aws = self.aws.as_ref().map_or(0, |aws| aws.flop(self.output_shape));
        operator.saturating_mul(branches as u64).saturating_add(aws)
    }

    /// Numbers learnt in all branches and the AWS-Unit, batch norm folded into the bias.
    pub fn parameters(&self) -> u64 {
        let operator = self.weights.iter().flatten().map(Weights::parameters).sum::<u64>();
        let slopes = self.slopes.iter().flatten().map(|slopes| slopes.len() as u64).sum::<u64>();
        operator + slopes + self.aws.as_ref().map_or(0, AwsUnit::parameters)
    }
}

/// What turns a branch's last map into scores: a linear layer, or nothing.
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) name: String,
    pub(crate) branch: usize,
    pub(crate) kind: HeadKind,
    pub(crate) input: Source,
    pub(crate) input_shape: Shape,
    pub(crate) weights: Option<Weights>,
    pub(crate) len: usize,
    pub(crate) labels: Vec<String>,
    pub(crate) thresholds: Vec<f32>,
}

#[allow(clippy::len_without_is_empty, reason = "a head gives at least one number")]
impl Head {
    /// The head's name, unique in its model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index of the branch whose maps it reads.
    pub fn branch(&self) -> usize {
        self.branch
    }

    /// What its logits stand for.
    pub fn kind(&self) -> HeadKind {
        self.kind
    }

    /// What the head reads.
    pub fn input(&self) -> Source {
        self.input
    }

    /// The shape of the map it reads, flattened in (C, H, W) order.
    pub fn input_shape(&self) -> Shape {
        self.input_shape
    }

    /// The weight, `[numbers, features]`, and the bias, `[numbers]`; none where the head's numbers are its input's.
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// How many numbers it gives.
    pub fn len(&self) -> usize {
        self.len
    }

    /// What each number scores; none where they have no names.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The probability from which on a unit is active; empty for heads of other kinds.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }

    /// Multiplications and additions for one image.
    pub(crate) fn flop(&self) -> u64 {
        self.weights.as_ref().map_or(0, |weights| 2 * weights.weight().len() as u64)
    }
}

/// A network: what a valid model file says.
///
/// Cloning is cheap, the weights are shared.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) name: Option<String>,
    pub(crate) about: Vec<(String, String)>,
    pub(crate) branches: Vec<String>,
    pub(crate) input: Input,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: Vec<Head>,
}

impl Model {
    /// Reads and validates a model file, version 1 or 2.
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

    /// What the file says about the network, text by free keys: its licence, its source.
    pub fn about(&self) -> &[(String, String)] {
        &self.about
    }

    /// The names of its branches, one or two.
    pub fn branches(&self) -> &[String] {
        &self.branches
    }

    /// The image it reads.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// The layers, in order: a layer reads only earlier ones. What the manifest says in one layer may be two here: a pooling,
    /// and the batch norm behind it.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The heads, in the file's order.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The head of a name.
    pub fn head(&self, name: &str) -> Option<&Head> {
        self.heads.iter().find(|head| head.name == name)
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
            layer.weights =
                layer.weights.take().map(|all| all.iter().map(|weights| weights.rounded(dtype)).collect());
            layer.aws = layer.aws.take().map(|unit| unit.rounded(dtype));
        }
        model
    }

    /// Bytes of weights of its layers that no clone holds, too.
    pub(crate) fn own_bytes(&self) -> u64 {
        let weights = self.layers.iter().filter_map(|layer| layer.weights.as_ref()).flatten();
        weights.map(Weights::own_bytes).sum()
    }

    /// Multiplications and additions for one image, all branches and heads included.
    pub fn flop(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| self.layer_flop(layer));
        layers.chain(self.heads.iter().map(Head::flop)).fold(0, u64::saturating_add)
    }

    /// Multiplications and additions of one of its layers for one image in all branches, the AWS-Unit included.
    pub fn layer_flop(&self, layer: &Layer) -> u64 {
        layer.flop(self.branches.len())
    }

    /// Numbers learnt, batch norm folded into the biases.
    pub fn parameters(&self) -> u64 {
        let heads = self.heads.iter().filter_map(|head| head.weights.as_ref()).map(Weights::parameters);
        self.layers.iter().map(Layer::parameters).chain(heads).sum()
    }
}
