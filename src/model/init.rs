//! Model files with random weights, for benchmarks and tests, and the writer of model files.
//!
//! ```
//! use awsnet::Model;
//! use awsnet::model::init::{Architecture, InitOptions, init};
//!
//! let options = InitOptions::new().architecture(Architecture::Tiny).size(48);
//! let model = Model::from_bytes(&init(&options)?)?;
//! assert_eq!(model.name(), Some("tiny"));
//! # Ok::<(), awsnet::Error>(())
//! ```
//!
//! The numbers keep maps in range through any depth, as those of a trained network are:
//!
//! ```text
//! weight         normal, variance 2 / fan_in before a relu (He), 1 / fan_in elsewhere
//! batch norm     running mean near 0, running variance and factor near 1; the factor is near 0.3 where a residual
//!                is added, so that a hundred blocks do not add up to much
//! AWS-Unit       0.9 of the branch itself and 0.1 of the other, varied by layer and channel
//! ```

mod layers;
pub(crate) mod random;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use safetensors::tensor::{Dtype, View};
use serde::Serialize;

pub(crate) use random::Random;

use super::{AwsKind, Gate};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::float_environment::FloatEnvironment;
use crate::op::{Activation, Op};
use crate::tensor::{DType, Tensor};
use layers::Layer;

const BRANCHES: [&str; 2] = ["emotion", "au"];
const EMOTIONS: [&str; 7] = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"];
const ACTION_UNITS: [&str; 12] =
    ["AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU14", "AU15", "AU17", "AU23", "AU24"];

/// The networks that [`init`] knows, each twice: once a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// ResNet-18, with the tensor names of torchvision. AWS-Units behind the stem and every residual block.
    ResNet18,
    /// ResNet-50 with the stride in the 3x3 convolution, as torchvision has it. AWS-Units as in ResNet-18.
    ResNet50,
    /// VGG-11 without batch norm, with torchvision's names; the classifier reads the last map as it is, so its first
    /// layer grows with the image. AWS-Units behind every convolution.
    Vgg11,
    /// MobileNetV2 with torchvision's names and relu in place of relu6. AWS-Units behind the stem and every block.
    MobileNet,
    /// MobileNetV3-Small with torchvision's names: hardswish, and squeeze-and-excitation in most blocks. AWS-Units behind the
    /// stem and every block.
    MobileNetV3Small,
    /// EfficientNet-B0 with torchvision's names: silu, and squeeze-and-excitation in every block. AWS-Units as in MobileNetV3.
    EfficientNetB0,
    /// DenseNet-121 with torchvision's names: concatenations, and a batch norm before each convolution. AWS-Units behind the
    /// stem and between its blocks.
    DenseNet121,
    /// A stem and two residual blocks of 8 and 16 channels, for tests.
    Tiny,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: &[Architecture] = &[
        Architecture::ResNet18,
        Architecture::ResNet50,
        Architecture::Vgg11,
        Architecture::MobileNet,
        Architecture::MobileNetV3Small,
        Architecture::EfficientNetB0,
        Architecture::DenseNet121,
        Architecture::Tiny,
    ];

    /// The name that [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::ResNet18 => "resnet18",
            Architecture::ResNet50 => "resnet50",
            Architecture::Vgg11 => "vgg11",
            Architecture::MobileNet => "mobilenet",
            Architecture::MobileNetV3Small => "mobilenet_v3_small",
            Architecture::EfficientNetB0 => "efficientnet_b0",
            Architecture::DenseNet121 => "densenet121",
            Architecture::Tiny => "tiny",
        }
    }

    /// The smallest and the largest side of the image, in pixels.
    fn sizes(self) -> (usize, usize) {
        match self {
            Architecture::Vgg11 => (32, 256),        // five halvings; 2.6 GB of weights
            Architecture::DenseNet121 => (29, 2048), // five halvings, three of them without padding
            _ => (1, 2048),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads the names that [`name`](Architecture::name) gives: `resnet18`, `mobilenet`, `efficientnet_b0`.
impl FromStr for Architecture {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Architecture::ALL.iter().copied().find(|a| a.name() == name).ok_or_else(|| {
            let names = Architecture::ALL.iter().map(|a| a.name()).collect::<Vec<_>>().join(", ");
            Error::new(ErrorKind::Input, "architecture", format!("one of {names}"), quoted(name))
        })
    }
}

/// Which network [`init`] makes: ResNet-18 on 112x112 pixels with an AWS weight a channel, seed 0, in F32, unless a
/// setter says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct InitOptions {
    architecture: Architecture,
    size: usize,
    branches: usize,
    aws: Option<AwsKind>,
    seed: u64,
    dtype: DType,
}

impl Default for InitOptions {
    fn default() -> Self {
        InitOptions::new()
    }
}

impl InitOptions {
    /// ResNet-18 on 112x112 pixels with an AWS weight a channel, seed 0, in F32.
    pub fn new() -> Self {
        InitOptions {
            architecture: Architecture::ResNet18,
            size: 112,
            branches: 2,
            aws: Some(AwsKind::Channel),
            seed: 0,
            dtype: DType::F32,
        }
    }

    /// Its layers.
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.architecture = architecture;
        self
    }

    /// Height and width of the image in pixels.
    pub fn size(mut self, pixels: usize) -> Self {
        self.size = pixels;
        self
    }

    /// How many branches it has, 2 or 1. One alone, `emotion`, has no AWS-Units.
    pub fn branches(mut self, branches: usize) -> Self {
        self.branches = branches;
        self
    }

    /// The kind of its AWS-Units; with `None` it has none.
    pub fn aws(mut self, kind: impl Into<Option<AwsKind>>) -> Self {
        self.aws = kind.into();
        self
    }

    /// The same seed gives the same numbers on every machine and in every version.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The type that all tensors are stored in.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }
}

/// The bytes of a model file with random weights.
///
/// A tensor's numbers depend on the seed and its name alone: networks that differ in their AWS-Units have the same
/// weights in both branches. The file is of the version that the network needs. Errors: a size that the architecture does not
/// take; another number of branches than 1 or 2.
pub fn init(options: &InitOptions) -> Result<Vec<u8>> {
    let _environment = FloatEnvironment::enter();
    let InitOptions { architecture, size, branches, .. } = *options;
    if branches != 1 && branches != 2 {
        return Err(Error::new(ErrorKind::Input, "branches", "1 or 2", branches.to_string()));
    }
    let aws = options.aws.filter(|_| branches == 2);
    let options = &options.aws(aws);
    let (smallest, largest) = architecture.sizes();
    if !(smallest..=largest).contains(&size) {
        let expected = format!("from {smallest} to {largest} pixels for {architecture}");
        return Err(Error::new(ErrorKind::Input, "size", expected, size.to_string()));
    }
    let network = layers::network(architecture, size);
    let mut tensors = Tensors { options, stored: Vec::new() };
    for layer in &network.layers {
        tensors.add_layer(layer)?;
    }
    tensors.add_heads(&network)?;

    let version = if branches == 1 || network.layers.iter().any(Layer::is_of_version_2) { 2 } else { 1 };
    let head = |kind, labels, thresholds| {
        let kind = (version == 2).then_some(kind);
        HeadJson { kind, input: network.last(), tensor: network.head, labels, thresholds }
    };
    let manifest = ManifestJson {
        version,
        name: architecture.name(),
        branches: (branches == 1).then_some(&BRANCHES[..1]),
        input: InputJson {
            channels: 3,
            height: size,
            width: size,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        layers: network.layers.iter().map(|layer| LayerJson::new(layer, aws)).collect(),
        heads: HeadsJson {
            emotion: head("classes", &EMOTIONS, None),
            au: (branches == 2).then(|| head("units", &ACTION_UNITS, Some([0.5; ACTION_UNITS.len()]))),
        },
    };
    let manifest = serde_json::to_string(&manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, "manifest", "JSON", e.to_string()))?;
    write_model(&manifest, &tensors.stored)
}

/// The bytes of a model file with this manifest, a JSON text, and these tensors.
///
/// Nothing is checked that [`Model::from_bytes`](super::Model::from_bytes) checks. Errors: a header too large for
/// the container.
pub fn write_model(manifest: &str, tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let metadata = HashMap::from([("awsnet".to_owned(), manifest.to_owned())]);
    let stored = tensors.iter().map(|(name, tensor)| (name, Stored(tensor)));
    safetensors::serialize(stored, Some(metadata)).map_err(|e| {
        Error::new(ErrorKind::Model, "", "tensors that a safetensors file can hold", e.to_string())
    })
}

/// A tensor as the safetensors library wants to see it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.to_le_bytes()
    }

    fn data_len(&self) -> usize {
        self.0.len() * self.0.dtype().size_bytes()
    }
}

/// The tensors of a network under construction.
struct Tensors<'a> {
    options: &'a InitOptions,
    stored: Vec<(String, Tensor)>,
}

impl Tensors<'_> {
    /// Adds a tensor whose elements `draw` gives one by one.
    fn add(&mut self, name: String, dims: &[usize], mut draw: impl FnMut(&mut Random) -> f32) -> Result<()> {
        let mut random = Random::for_name(self.options.seed, &name);
        let elements = (0..dims.iter().product()).map(|_| draw(&mut random)).collect();
        self.stored.push((name, Tensor::from_f32(dims, elements)?.to_dtype(self.options.dtype)));
        Ok(())
    }

    /// A weight whose rows multiply `fan_in` numbers.
    fn add_weight(&mut self, name: String, dims: &[usize], gain: f32) -> Result<()> {
        let fan_in: usize = dims[1..].iter().product();
        let deviation = (gain / fan_in as f32).sqrt();
        self.add(name, dims, |random| deviation * random.normal())
    }

    fn add_layer(&mut self, layer: &Layer) -> Result<()> {
        let out = layer.output_shape.channels;
        let dims = layer.op.weight_dims(layer.input_shape, out);
        // What halves the numbers before it is made up for.
        let gain = match layer.activation {
            Activation::None | Activation::Sigmoid | Activation::HardSigmoid => 1.0,
            _ => 2.0,
        };
        for branch in BRANCHES.into_iter().take(self.options.branches) {
            if let Some(dims) = &dims {
                self.add_weight(format!("{branch}.{}.weight", layer.name), dims, gain)?;
            }
            match &layer.batch_norm {
                None if dims.is_none() => {}
                None => self.add(format!("{branch}.{}.bias", layer.name), &[out], |r| 0.05 * r.normal())?,
                Some(norm) => {
                    let factor = if layer.residual.is_some() { 0.3 } else { 1.0 };
                    let name = |suffix: &str| format!("{branch}.{norm}.{suffix}");
                    self.add(name("weight"), &[out], |r| factor * r.between(0.8, 1.2))?;
                    self.add(name("bias"), &[out], |r| 0.1 * r.normal())?;
                    self.add(name("running_mean"), &[out], |r| 0.1 * r.normal())?;
                    self.add(name("running_var"), &[out], |r| r.between(0.8, 1.25))?;
                }
            }
        }
        match self.options.aws {
            Some(kind) if layer.aws => self.add_aws(kind, &layer.name, out),
            _ => Ok(()),
        }
    }

    fn add_aws(&mut self, kind: AwsKind, layer: &str, channels: usize) -> Result<()> {
        const OWN: f32 = 0.9;
        const OTHER: f32 = 0.1;
        let name = |suffix: &str| format!("aws.{layer}.{suffix}");
        // How much more or less than OTHER each branch borrows in this layer, [emotion, au].
        let mut random = Random::for_name(self.options.seed, &name("share"));
        let offset = [random.between(-0.06, 0.12), random.between(-0.06, 0.12)];
        // The four matrices A[to][from] follow one another; `quarter` elements each.
        let is_own = |matrix: usize| matrix == 0 || matrix == 3;
        let mean = |matrix: usize| {
            let offset = offset[matrix / 2];
            if is_own(matrix) { OWN - offset } else { OTHER + offset }
        };
        let mut index = 0;
        let mut position = |quarter: usize| {
            index += 1;
            ((index - 1) / quarter, (index - 1) % quarter)
        };
        match kind {
            AwsKind::Layer => self.add(name("weight"), &[2, 2], |_| mean(position(1).0)),
            AwsKind::Channel => self.add(name("weight"), &[2, 2, channels], |random| {
                mean(position(channels).0) + 0.04 * random.normal()
            }),
            AwsKind::Dense => self.add(name("weight"), &[2, 2, channels, channels], |random| {
                let (matrix, element) = position(channels * channels);
                let diagonal = if element / channels == element % channels { mean(matrix) } else { 0.0 };
                diagonal + 0.05 / channels as f32 * random.normal()
            }),
            AwsKind::Gate(gate) => {
                let hidden = (channels / 16).max(4);
                // The logits of 0.9 and 0.1.
                let logit = match gate {
                    Gate::Softmax => 1.1,
                    Gate::Sigmoid => 2.2,
                };
                self.add_weight(name("squeeze.weight"), &[hidden, 2 * channels], 2.0)?;
                self.add(name("squeeze.bias"), &[hidden], |random| 0.1 * random.normal())?;
                let deviation = 0.3 / (hidden as f32).sqrt();
                self.add(name("excite.weight"), &[2, 2, channels, hidden], |r| deviation * r.normal())?;
                self.add(name("excite.bias"), &[2, 2, channels], |random| {
                    let matrix = position(channels).0;
                    let offset = 5.0 * offset[matrix / 2];
                    let mean = if is_own(matrix) { logit - offset } else { offset - logit };
                    mean + 0.3 * random.normal()
                })
            }
        }
    }

    fn add_heads(&mut self, network: &layers::Network) -> Result<()> {
        let last = network.layers.last();
        let features = last.map_or(0, |layer| layer.output_shape.len());
        // A mean over a map is smaller than what it is taken of; logits are to reach a few units either way.
        let gain = if last.is_some_and(|layer| layer.op == Op::GlobalAvgPool2d) { 16.0 } else { 1.0 };
        let heads = BRANCHES.into_iter().zip([EMOTIONS.len(), ACTION_UNITS.len()]);
        for (branch, labels) in heads.take(self.options.branches) {
            let prefix = format!("{branch}.{}", network.head);
            self.add_weight(format!("{prefix}.weight"), &[labels, features], gain)?;
            self.add(format!("{prefix}.bias"), &[labels], |random| 0.1 * random.normal())?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct ManifestJson<'a> {
    version: u32,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    branches: Option<&'a [&'a str]>,
    input: InputJson,
    layers: Vec<LayerJson<'a>>,
    heads: HeadsJson<'a>,
}

#[derive(Serialize)]
struct InputJson {
    channels: usize,
    height: usize,
    width: usize,
    mean: [f32; 3],
    std: [f32; 3],
}

/// A layer of the manifest; what has its default value is left out.
#[derive(Serialize)]
struct LayerJson<'a> {
    name: &'a str,
    op: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    inputs: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_norm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    residual: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<&'a str>,
}

impl<'a> LayerJson<'a> {
    fn new(layer: &'a Layer, aws: Option<AwsKind>) -> Self {
        let (kernel, stride, padding, groups) = match layer.op {
            Op::Conv2d(conv) => (Some(conv.kernel[0]), conv.stride[0], conv.padding.top, conv.groups),
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => {
                (Some(pool.kernel[0]), pool.stride[0], pool.padding.top, 1)
            }
            _ => (None, 1, 0, 1),
        };
        // A convolution's stride is 1 by default, a pooling's its kernel.
        let default_stride = match layer.op {
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => pool.kernel[0],
            _ => 1,
        };
        let aws = aws.filter(|_| layer.aws);
        LayerJson {
            name: &layer.name,
            op: layer.op.name(),
            input: layer.input.as_deref(),
            inputs: &layer.inputs,
            kernel,
            stride: (stride != default_stride).then_some(stride),
            padding: (padding != 0).then_some(padding),
            groups: (groups != 1).then_some(groups),
            batch_norm: layer.batch_norm.as_deref(),
            scale: layer.scale.as_deref(),
            residual: layer.residual.as_deref(),
            activation: (layer.activation != Activation::None).then(|| layer.activation.name()),
            aws: aws.map(|kind| kind.name()),
            gate: (aws == Some(AwsKind::Gate(Gate::Sigmoid))).then_some("sigmoid"),
        }
    }
}

#[derive(Serialize)]
struct HeadsJson<'a> {
    emotion: HeadJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    au: Option<HeadJson<'a>>,
}

#[derive(Serialize)]
struct HeadJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    input: &'a str,
    tensor: &'a str,
    labels: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    thresholds: Option<[f32; ACTION_UNITS.len()]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    const KINDS: [Option<AwsKind>; 6] = [
        None,
        Some(AwsKind::Layer),
        Some(AwsKind::Channel),
        Some(AwsKind::Dense),
        Some(AwsKind::Gate(Gate::Softmax)),
        Some(AwsKind::Gate(Gate::Sigmoid)),
    ];

    #[test]
    fn every_architecture_and_kind_gives_a_valid_model() {
        for (architecture, size) in [
            (Architecture::Tiny, 1),
            (Architecture::Tiny, 33),
            (Architecture::MobileNet, 37),
            (Architecture::MobileNetV3Small, 33),
            (Architecture::EfficientNetB0, 31),
            (Architecture::DenseNet121, 29),
            (Architecture::ResNet18, 32),
        ] {
            for (aws, dtype) in
                KINDS.into_iter().zip([DType::F32, DType::F16, DType::BF16].into_iter().cycle())
            {
                let options =
                    InitOptions::new().architecture(architecture).size(size).aws(aws).seed(3).dtype(dtype);
                let bytes = init(&options).expect("a model file");
                let model = Model::from_bytes(&bytes).unwrap_or_else(|e| panic!("{options:?}: {e}"));
                let kinds = model.layers().iter().filter_map(|layer| Some(layer.aws()?.kind()));
                assert!(kinds.clone().all(|kind| Some(kind) == aws));
                assert_eq!(kinds.count() > 0, aws.is_some());
            }
        }
    }

    #[test]
    fn the_parameters_are_those_of_torchvision() {
        // The weights of torchvision's convolutions and linear layers, less the last one's.
        for (architecture, size, parameters) in [
            (Architecture::ResNet18, 32, 11_166_912),
            (Architecture::ResNet50, 32, 23_454_912),
            (Architecture::MobileNetV3Small, 32, 1_501_832),
            (Architecture::EfficientNetB0, 32, 3_956_192),
            (Architecture::DenseNet121, 32, 6_870_208),
        ] {
            let bytes =
                init(&InitOptions::new().architecture(architecture).size(size).aws(None)).expect("a file");
            let model = Model::from_bytes(&bytes).expect("a valid model");
            let layers = model.layers().iter().filter(|layer| *layer.op() != Op::BatchNorm);
            let weights: usize = layers.filter_map(|layer| Some(layer.weights(1)?.weight().len())).sum();
            assert_eq!(weights, parameters, "{architecture}");
        }
    }

    #[test]
    fn a_seed_gives_one_file_and_branches_do_not_depend_on_the_units() {
        let options = InitOptions::new().architecture(Architecture::Tiny).size(32);
        let with = |options| Model::from_bytes(&init(&options).expect("a file")).expect("a model");
        assert_eq!(init(&options).expect("a file"), init(&options).expect("a file"));
        assert_ne!(init(&options).expect("a file"), init(&options.seed(1)).expect("a file"));
        let (without, dense) = (with(options.aws(None)), with(options.aws(AwsKind::Dense)));
        for (a, b) in without.layers().iter().zip(dense.layers()) {
            assert_eq!(a.weights(1).map(|w| w.folded()), b.weights(1).map(|w| w.folded()));
        }
    }

    #[test]
    fn the_numbers_stay_what_they_are() {
        let bytes = init(&InitOptions::new().architecture(Architecture::Tiny)).expect("a file");
        let model = Model::from_bytes(&bytes).expect("a model");
        let weight = model.layers()[0].weights(0).expect("a weight").weight().to_f32().into_owned();
        // Another value here breaks whoever keeps results of a seed.
        assert_eq!(
            weight[..3].iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            [0xbf1d_1ad2, 0xbdb6_2b1c, 0x3e4c_c7f5]
        );
    }

    #[test]
    fn sizes_that_leave_nothing_or_too_much_are_refused() {
        for (architecture, size) in
            [(Architecture::Vgg11, 31), (Architecture::Vgg11, 257), (Architecture::Tiny, 0)]
        {
            let error =
                init(&InitOptions::new().architecture(architecture).size(size)).expect_err("a wrong size");
            assert_eq!(error.place(), "size");
        }
    }
}
