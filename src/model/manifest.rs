//! The manifest: the JSON text that says which layer pairs there are, checked as far as that is possible without
//! the tensors.

use std::collections::{HashMap, HashSet};

use super::json::{Json, Object, as_f32, as_string};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::op::{Activation, Conv2d, Op, Padding, Pool2d};
use crate::tensor::{Branch, Shape};

/// The image a network reads: pixels are value/255, then (v - mean) / std, laid out [C, H, W].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Input {
    /// 3 channels (RGB) or 1 (luma), height and width in pixels.
    pub shape: Shape,
    /// Subtracted, one a channel.
    pub mean: Vec<f32>,
    /// Divided by, one a channel; greater than 0.
    pub std: Vec<f32>,
}

/// What a layer or a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The image, which both branches share.
    Image,
    /// The pair of maps that the layer of this index gives.
    Layer(usize),
}

/// How the AWS-Unit behind a layer pair mixes the two branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AwsKind {
    /// One scalar for the whole map.
    Layer,
    /// One scalar a channel.
    Channel,
    /// A 1x1 convolution over both maps.
    Dense,
    /// One scalar a channel, computed anew for every image from both maps.
    Gate(Gate),
}

/// What turns a gate's logits into weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gate {
    /// A softmax over the two source branches.
    Softmax,
    /// A sigmoid of each.
    Sigmoid,
}

impl AwsKind {
    /// The kind's name in the manifest.
    pub fn name(&self) -> &'static str {
        match self {
            AwsKind::Layer => "layer",
            AwsKind::Channel => "channel",
            AwsKind::Dense => "dense",
            AwsKind::Gate(_) => "gate",
        }
    }
}

/// A layer pair as the manifest states it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerEntry {
    pub name: String,
    pub op: Op,
    pub input: Source,
    pub batch_norm: Option<BatchNormEntry>,
    pub residual: Option<usize>,
    pub activation: Activation,
    pub aws: Option<AwsKind>,
}

/// A batch norm behind an operator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BatchNormEntry {
    pub prefix: String,
    pub eps: f32,
}

/// A head as the manifest states it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeadEntry {
    pub input: Source,
    pub tensor: String,
    pub labels: Vec<String>,
    pub thresholds: Vec<f32>,
}

/// The whole manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub name: Option<String>,
    pub input: Input,
    pub layers: Vec<LayerEntry>,
    pub heads: [HeadEntry; 2],
}

const VERSION: u64 = 1;

impl Manifest {
    /// Parses and checks the manifest's JSON text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut object = Object::new("manifest", Json::parse("manifest", text.as_bytes())?)?;
        let version = object.require("version", "1")?;
        if version != Json::Number(VERSION.into()) {
            return Err(object.error(
                "version",
                format!("{VERSION}, the version this library reads"),
                version.to_string(),
            ));
        }
        let name = object.take_string("name")?;
        let input = parse_input(object.require("input", "an object")?)?;

        let mut layers: Vec<LayerEntry> = Vec::new();
        let mut names = HashMap::new();
        let Json::Array(entries) = object.require("layers", "an array of layers")? else {
            return Err(object.error("layers", "an array of layers", "something else"));
        };
        for (index, entry) in entries.into_iter().enumerate() {
            let layer = parse_layer(index, entry, &names)?;
            if names.insert(layer.name.clone(), index).is_some() {
                return Err(Error::new(
                    ErrorKind::Model,
                    format!("layer {index}: `name`"),
                    "a name of its own",
                    format!("{}, used before", quoted(&layer.name)),
                ));
            }
            layers.push(layer);
        }

        let mut heads = Object::new("manifest: `heads`", object.require("heads", "an object")?)?;
        let emotion = parse_head(Branch::Emotion, heads.require("emotion", "an object")?, &names)?;
        let au = parse_head(Branch::Au, heads.require("au", "an object")?, &names)?;
        heads.finish()?;
        object.finish()?;
        Ok(Manifest { name, input, layers, heads: [emotion, au] })
    }
}

fn parse_input(value: Json) -> Result<Input> {
    let mut object = Object::new("manifest: `input`", value)?;
    let channels = object.take_integer("channels", 1, None)?;
    if channels != 1 && channels != 3 {
        return Err(object.error("channels", "1 (luma) or 3 (RGB)", channels.to_string()));
    }
    let shape =
        Shape::new(channels, object.take_integer("height", 1, None)?, object.take_integer("width", 1, None)?);
    if shape.checked_len().is_none() {
        return Err(object.error("height", "an image that fits the address space", shape.to_string()));
    }
    let mut per_channel = |key: &'static str| -> Result<Vec<f32>> {
        let expected = format!("an array of {channels} finite numbers, one a channel");
        let values = object
            .take_array(key, "a finite number", as_f32)?
            .ok_or_else(|| object.error(key, &expected, "nothing: the key is missing"))?;
        match values.len() == channels {
            true => Ok(values),
            false => Err(object.error(key, expected, format!("{} numbers", values.len()))),
        }
    };
    let (mean, std) = (per_channel("mean")?, per_channel("std")?);
    if let Some(bad) = std.iter().find(|&&v| v <= 0.0) {
        return Err(object.error("std", "numbers greater than 0", bad.to_string()));
    }
    object.finish()?;
    Ok(Input { shape, mean, std })
}

/// The index of the earlier layer that `key` names.
fn earlier(object: &Object, key: &str, name: &str, names: &HashMap<String, usize>) -> Result<usize> {
    names.get(name).copied().ok_or_else(|| object.error(key, "the name of an earlier layer", quoted(name)))
}

fn parse_layer(index: usize, value: Json, names: &HashMap<String, usize>) -> Result<LayerEntry> {
    let mut object = Object::new(format!("layer {index}"), value)?;
    let expected_name = "a name of letters, digits, `_` and `.`, other than `image`";
    let name = object
        .take_string("name")?
        .ok_or_else(|| object.error("name", expected_name, "nothing: the key is missing"))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty() || name == "image" || !name.chars().all(allowed) {
        return Err(object.error("name", expected_name, quoted(&name)));
    }
    object.set_place(format!("layer {}", quoted(&name)));

    let input = match object.take_string("input")? {
        Some(image) if image == "image" => Source::Image,
        Some(layer) => Source::Layer(earlier(&object, "input", &layer, names)?),
        None if index == 0 => Source::Image,
        None => Source::Layer(index - 1),
    };
    let op = parse_op(&mut object)?;
    let batch_norm = match op.has_weight() {
        false => None,
        true => {
            let prefix = object.take_string("batch_norm")?;
            let eps = object.take_f32("batch_norm_eps")?;
            match (prefix, eps) {
                (None, Some(_)) => {
                    return Err(object.error("batch_norm_eps", "a `batch_norm` that it belongs to", "none"));
                }
                (_, Some(eps)) if eps < 0.0 => {
                    return Err(object.error("batch_norm_eps", "a number of at least 0", eps.to_string()));
                }
                (prefix, eps) => prefix.map(|prefix| BatchNormEntry { prefix, eps: eps.unwrap_or(1e-5) }),
            }
        }
    };
    let residual = match object.take_string("residual")? {
        Some(layer) => Some(earlier(&object, "residual", &layer, names)?),
        None => None,
    };
    let activation = parse_activation(&mut object)?;
    let aws = parse_aws(&mut object)?;
    object.finish()?;
    Ok(LayerEntry { name, op, input, batch_norm, residual, activation, aws })
}

fn parse_op(object: &mut Object) -> Result<Op> {
    const OPS: &str = "conv2d, linear, max_pool2d, avg_pool2d, global_avg_pool2d or identity";
    let op =
        object.take_string("op")?.ok_or_else(|| object.error("op", OPS, "nothing: the key is missing"))?;
    Ok(match op.as_str() {
        "conv2d" => Op::Conv2d(Conv2d {
            kernel: require_pair(object, "kernel")?,
            stride: take_pair(object, "stride")?.unwrap_or([1, 1]),
            padding: take_padding(object)?,
            dilation: take_pair(object, "dilation")?.unwrap_or([1, 1]),
            groups: object.take_integer("groups", 1, Some(1))?,
        }),
        "linear" => Op::Linear,
        "max_pool2d" | "avg_pool2d" => {
            let kernel = require_pair(object, "kernel")?;
            let stride = take_pair(object, "stride")?.unwrap_or(kernel);
            let padding = take_padding(object)?;
            let Padding { top, left, bottom, right } = padding;
            if top.max(bottom) >= kernel[0] || left.max(right) >= kernel[1] {
                return Err(object.error(
                    "padding",
                    format!("less than the kernel, {}x{}", kernel[0], kernel[1]),
                    format!("[{top}, {left}, {bottom}, {right}]"),
                ));
            }
            let pool = Pool2d { kernel, stride, padding };
            if op == "max_pool2d" { Op::MaxPool2d(pool) } else { Op::AvgPool2d(pool) }
        }
        "global_avg_pool2d" => Op::GlobalAvgPool2d,
        "identity" => Op::Identity,
        other => return Err(object.error("op", OPS, quoted(other))),
    })
}

/// An integer or [h, w], each at least 1.
fn take_pair(object: &mut Object, key: &'static str) -> Result<Option<[usize; 2]>> {
    let integers = object.take_integers(key, 1, &[2])?;
    Ok(integers.map(|v| [v[0], *v.last().unwrap_or(&v[0])]))
}

fn require_pair(object: &mut Object, key: &'static str) -> Result<[usize; 2]> {
    take_pair(object, key)?
        .ok_or_else(|| object.error(key, "an integer or [h, w], at least 1", "nothing: the key is missing"))
}

/// An integer, [h, w] or [top, left, bottom, right]; 0 by default.
fn take_padding(object: &mut Object) -> Result<Padding> {
    let integers = object.take_integers("padding", 0, &[2, 4])?.unwrap_or_else(|| vec![0]);
    Ok(match integers[..] {
        [top, left, bottom, right] => Padding { top, left, bottom, right },
        [h, w] => Padding { top: h, left: w, bottom: h, right: w },
        _ => Padding::uniform(integers[0]),
    })
}

fn parse_activation(object: &mut Object) -> Result<Activation> {
    let name = object.take_string("activation")?;
    let activation = match name.as_deref() {
        None | Some("none") => Activation::None,
        Some("relu") => Activation::Relu,
        Some("leaky_relu") => {
            Activation::LeakyRelu { negative_slope: object.take_f32("negative_slope")?.unwrap_or(0.01) }
        }
        Some("silu") => Activation::Silu,
        Some(other) => {
            return Err(object.error("activation", "none, relu, leaky_relu or silu", quoted(other)));
        }
    };
    Ok(activation)
}

fn parse_aws(object: &mut Object) -> Result<Option<AwsKind>> {
    let kind = object.take_string("aws")?;
    let kind = match kind.as_deref() {
        None | Some("none") => None,
        Some("layer") => Some(AwsKind::Layer),
        Some("channel") => Some(AwsKind::Channel),
        Some("dense") => Some(AwsKind::Dense),
        Some("gate") => {
            let gate = object.take_string("gate")?;
            Some(AwsKind::Gate(match gate.as_deref() {
                None | Some("softmax") => Gate::Softmax,
                Some("sigmoid") => Gate::Sigmoid,
                Some(other) => return Err(object.error("gate", "softmax or sigmoid", quoted(other))),
            }))
        }
        Some(other) => return Err(object.error("aws", "none, layer, channel, dense or gate", quoted(other))),
    };
    Ok(kind)
}

fn parse_head(branch: Branch, value: Json, names: &HashMap<String, usize>) -> Result<HeadEntry> {
    let mut object = Object::new(format!("head {}", quoted(branch.name())), value)?;
    let input = object
        .take_string("input")?
        .ok_or_else(|| object.error("input", "the name of a layer", "nothing: the key is missing"))?;
    let input = match input.as_str() {
        "image" => Source::Image,
        layer => Source::Layer(earlier(&object, "input", layer, names)?),
    };
    let tensor = object.take_string("tensor")?.unwrap_or_else(|| "fc".to_owned());
    let labels = object
        .take_array("labels", "a string", as_string)?
        .ok_or_else(|| object.error("labels", "an array of strings", "nothing: the key is missing"))?;
    if labels.is_empty() {
        return Err(object.error("labels", "at least one label", "none"));
    }
    let mut distinct = HashSet::new();
    for label in &labels {
        if label.is_empty() || !distinct.insert(label) {
            return Err(object.error("labels", "labels that are distinct and not empty", quoted(label)));
        }
    }
    let thresholds = match branch {
        Branch::Emotion => Vec::new(),
        Branch::Au => {
            let in_range = |v: &Json| as_f32(v).filter(|v| (0.0..=1.0).contains(v));
            object
                .take_array("thresholds", "a number from 0 to 1", in_range)?
                .unwrap_or_else(|| vec![0.5; labels.len()])
        }
    };
    if branch == Branch::Au && thresholds.len() != labels.len() {
        let expected = format!("{} numbers, one a label", labels.len());
        return Err(object.error("thresholds", expected, thresholds.len().to_string()));
    }
    object.finish()?;
    Ok(HeadEntry { input, tensor, labels, thresholds })
}
