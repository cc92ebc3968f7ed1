//! The manifest: the JSON text that says which layers there are, checked as far as that is possible without the tensors.
//!
//! Two things are said in one layer and become two here, so that nobody behind has to know of them: a pooling or another
//! operator without weights with a batch norm behind it, and a concatenation with anything behind it. The operator's own part
//! is then called by the layer's name and the operator's.

use std::collections::{HashMap, HashSet};

use super::input::{Beside, Input, parse_input};
use super::json::{Json, Object, as_f32, as_string};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::op::{Activation, Conv2d, Op, Padding, Pool2d};

/// What a layer or a head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The image, which all branches share.
    Image,
    /// The maps that the layer of this index gives, one a branch.
    Layer(usize),
}

/// What a head's logits stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum HeadKind {
    /// One of several classes: a softmax.
    Classes,
    /// Units that are active or not, whatever the others are: a sigmoid each.
    Units,
    /// Numbers as they are: valence, intensities, a detector's raw scores.
    Values,
}

impl HeadKind {
    /// The kind's name in the manifest.
    pub fn name(&self) -> &'static str {
        match self {
            HeadKind::Classes => "classes",
            HeadKind::Units => "units",
            HeadKind::Values => "values",
        }
    }
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

/// A layer as the manifest states it, or one of the two that it becomes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerEntry {
    pub name: String,
    pub op: Op,
    /// One, or those of a concatenation.
    pub inputs: Vec<Source>,
    pub batch_norm: Option<BatchNormEntry>,
    pub stages: Stages,
}

impl LayerEntry {
    /// The name that the manifest has for it; that of the first of two has the operator's behind it.
    pub fn stated_name(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// What is behind a layer's operator.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stages {
    pub scale: Option<usize>,
    pub residual: Option<usize>,
    pub activation: Activation,
    /// The prefix of a PReLU's slopes.
    pub prelu: Option<String>,
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
    pub name: String,
    pub branch: usize,
    pub kind: HeadKind,
    pub input: Source,
    /// None where the head's numbers are those of its input.
    pub tensor: Option<String>,
    /// None where a row has no name.
    pub labels: Option<Vec<String>>,
    /// None where the file leaves them out.
    pub thresholds: Option<Vec<f32>>,
}

/// The whole manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub version: Version,
    pub name: Option<String>,
    pub about: Vec<(String, String)>,
    pub branches: Vec<String>,
    pub input: Input,
    pub layers: Vec<LayerEntry>,
    pub heads: Vec<HeadEntry>,
}

/// A version of the model file, and with it the keys that may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    One,
    Two,
}

impl Manifest {
    /// Parses and checks the manifest's JSON text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut object = Object::new("manifest", Json::parse("manifest", text.as_bytes())?)?;
        let version = match object.require("version", "1 or 2")? {
            Json::Number(number) if number.as_u64() == Some(1) => Version::One,
            Json::Number(number) if number.as_u64() == Some(2) => Version::Two,
            other => {
                let expected = "1 or 2, the versions this library reads";
                return Err(object.error("version", expected, other.to_string()));
            }
        };
        let name = object.take_string("name")?;
        let mut beside = Beside::default();
        let branches = match version {
            Version::One => vec!["emotion".to_owned(), "au".to_owned()],
            Version::Two => {
                beside = Beside { face: object.take("face"), about: object.take("about") };
                take_branches(&mut object)?
            }
        };
        let (input, about) = parse_input(version, object.require("input", "an object")?, beside)?;

        let mut parser =
            LayerParser { version, branches: branches.len(), layers: Vec::new(), names: HashMap::new() };
        let Json::Array(entries) = object.require("layers", "an array of layers")? else {
            return Err(object.error("layers", "an array of layers", "something else"));
        };
        for (index, entry) in entries.into_iter().enumerate() {
            parser.add(index, entry)?;
        }
        let LayerParser { layers, names, .. } = parser;

        let heads = object.require("heads", "an object")?;
        let heads = match version {
            Version::One => parse_two_heads(heads, &names)?,
            Version::Two => parse_heads(heads, &branches, &names)?,
        };
        object.finish()?;
        Ok(Manifest { version, name, about, branches, input, layers, heads })
    }
}

fn take_branches(object: &mut Object) -> Result<Vec<String>> {
    const EXPECTED: &str =
        "one or two distinct names of letters, digits and `_`, other than `aws` and `image`";
    let names = object
        .take_array("branches", "a string", as_string)?
        .unwrap_or_else(|| vec!["emotion".to_owned(), "au".to_owned()]);
    let fits = |name: &String| is_word(name) && name != "aws" && name != "image";
    match &names[..] {
        [one] if fits(one) => {}
        [one, other] if fits(one) && fits(other) && one != other => {}
        _ => return Err(object.error("branches", EXPECTED, shown_strings(&names))),
    }
    Ok(names)
}

/// Whether a name is made of letters, digits and `_`.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn shown_strings(strings: &[String]) -> String {
    let quoted: Vec<String> = strings.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// The index of the earlier layer that `key` names.
fn earlier(object: &Object, key: &str, name: &str, names: &HashMap<String, usize>) -> Result<usize> {
    names.get(name).copied().ok_or_else(|| object.error(key, "the name of an earlier layer", quoted(name)))
}

/// Reads the layers one by one.
struct LayerParser {
    version: Version,
    branches: usize,
    layers: Vec<LayerEntry>,
    /// The layer that gives what a name of the manifest stands for.
    names: HashMap<String, usize>,
}

impl LayerParser {
    fn add(&mut self, index: usize, value: Json) -> Result<()> {
        let LayerEntry { name, op, inputs, batch_norm, stages } = self.parse(index, value)?;
        let place = format!("layer {index}: `name`");
        let plain = |op: Op, inputs: Vec<Source>| LayerEntry {
            name: format!("{name} {}", op.name()),
            op,
            inputs,
            batch_norm: None,
            stages: Stages::default(),
        };
        // What the manifest says in one layer and the graph in two.
        let behind = match (op, &batch_norm) {
            (Op::Identity, Some(_)) => Some((Op::BatchNorm, None)),
            (Op::Conv2d(_) | Op::Linear, _) => None,
            (first, Some(_)) => Some((Op::BatchNorm, Some(first))),
            (Op::Concat, None) if stages != Stages::default() => Some((Op::Identity, Some(Op::Concat))),
            (_, None) => None,
        };
        let (op, inputs) = match behind {
            None => (op, inputs),
            Some((op, None)) => (op, inputs),
            Some((op, Some(first))) => {
                self.layers.push(plain(first, inputs));
                (op, vec![Source::Layer(self.layers.len() - 1)])
            }
        };
        if self.names.insert(name.clone(), self.layers.len()).is_some() {
            let found = format!("{}, used before", quoted(&name));
            return Err(Error::new(ErrorKind::Model, place, "a name of its own", found));
        }
        self.layers.push(LayerEntry { name, op, inputs, batch_norm, stages });
        Ok(())
    }

    fn parse(&self, index: usize, value: Json) -> Result<LayerEntry> {
        let mut object = Object::new(format!("layer {index}"), value)?;
        let (others, expected_name) = match self.version {
            Version::One => ("_.", "a name of letters, digits, `_` and `.`, other than `image`"),
            Version::Two => ("_.-", "a name of letters, digits, `_`, `.` and `-`, other than `image`"),
        };
        let name = object
            .take_string("name")?
            .ok_or_else(|| object.error("name", expected_name, "nothing: the key is missing"))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        if name.is_empty() || name == "image" || !name.chars().all(allowed) {
            return Err(object.error("name", expected_name, quoted(&name)));
        }
        object.set_place(format!("layer {}", quoted(&name)));

        let op = parse_op(self.version, &mut object)?;
        let inputs = self.parse_inputs(&mut object, &op)?;
        let with_norm = op.has_weight() || self.version >= Version::Two;
        let batch_norm = if with_norm { parse_batch_norm(&mut object)? } else { None };
        let mut layer = |key: &'static str| match object.take_string(key)? {
            Some(layer) => Ok(Some(earlier(&object, key, &layer, &self.names)?)),
            None => Ok(None),
        };
        let scale = if self.version >= Version::Two { layer("scale")? } else { None };
        let residual = layer("residual")?;
        let (activation, prelu) = parse_activation(self.version, &mut object)?;
        let aws = parse_aws(&mut object)?;
        if let Some(kind) = aws
            && self.branches == 1
        {
            return Err(object.error("aws", "none, as there is one branch alone", quoted(kind.name())));
        }
        object.finish()?;
        Ok(LayerEntry {
            name,
            op,
            inputs,
            batch_norm,
            stages: Stages { scale, residual, activation, prelu, aws },
        })
    }

    fn parse_inputs(&self, object: &mut Object, op: &Op) -> Result<Vec<Source>> {
        if *op == Op::Concat {
            const EXPECTED: &str = "an array of the names of two or more earlier layers";
            let names = object
                .take_array("inputs", "a string", as_string)?
                .ok_or_else(|| object.error("inputs", EXPECTED, "nothing: the key is missing"))?;
            if names.len() < 2 {
                return Err(object.error("inputs", EXPECTED, shown_strings(&names)));
            }
            let source = |name: &String| Ok(Source::Layer(earlier(object, "inputs", name, &self.names)?));
            return names.iter().map(source).collect();
        }
        Ok(vec![match object.take_string("input")? {
            Some(image) if image == "image" => Source::Image,
            Some(layer) => Source::Layer(earlier(object, "input", &layer, &self.names)?),
            None => self.layers.len().checked_sub(1).map_or(Source::Image, Source::Layer),
        }])
    }
}

fn parse_batch_norm(object: &mut Object) -> Result<Option<BatchNormEntry>> {
    let prefix = object.take_string("batch_norm")?;
    let eps = object.take_f32("batch_norm_eps")?;
    match (prefix, eps) {
        (None, Some(_)) => Err(object.error("batch_norm_eps", "a `batch_norm` that it belongs to", "none")),
        (_, Some(eps)) if eps < 0.0 => {
            Err(object.error("batch_norm_eps", "a number of at least 0", eps.to_string()))
        }
        (prefix, eps) => Ok(prefix.map(|prefix| BatchNormEntry { prefix, eps: eps.unwrap_or(1e-5) })),
    }
}

fn parse_op(version: Version, object: &mut Object) -> Result<Op> {
    let ops = match version {
        Version::One => "conv2d, linear, max_pool2d, avg_pool2d, global_avg_pool2d or identity",
        Version::Two => {
            "conv2d, linear, max_pool2d, avg_pool2d, adaptive_avg_pool2d, global_avg_pool2d, concat, upsample2d or \
             identity"
        }
    };
    let op =
        object.take_string("op")?.ok_or_else(|| object.error("op", ops, "nothing: the key is missing"))?;
    Ok(match op.as_str() {
        "conv2d" => Op::Conv2d(Conv2d {
            kernel: require_pair(object, "kernel")?,
            stride: take_pair(object, "stride")?.unwrap_or([1, 1]),
            padding: take_padding(object)?,
            dilation: take_pair(object, "dilation")?.unwrap_or([1, 1]),
            groups: object.take_integer("groups", 1, Some(1))?,
        }),
        "linear" => Op::Linear,
        "max_pool2d" => Op::MaxPool2d(parse_pool(version, object, false)?),
        "avg_pool2d" => Op::AvgPool2d(parse_pool(version, object, true)?),
        "global_avg_pool2d" => Op::GlobalAvgPool2d,
        "adaptive_avg_pool2d" if version >= Version::Two => {
            Op::AdaptiveAvgPool2d(require_pair(object, "output")?)
        }
        "concat" if version >= Version::Two => Op::Concat,
        "upsample2d" if version >= Version::Two => Op::Upsample2d(require_pair(object, "factor")?),
        "identity" => Op::Identity,
        other => return Err(object.error("op", ops, found_op(other))),
    })
}

/// An operator that is not read, with a word on those that people ask for.
fn found_op(name: &str) -> String {
    const LATER: [&str; 7] =
        ["layer_norm", "attention", "multi_head_attention", "conv_transpose2d", "gru", "lstm", "rnn"];
    match LATER.contains(&name) {
        true => format!("{}, which no version of the model file has", quoted(name)),
        false => quoted(name),
    }
}

fn parse_pool(version: Version, object: &mut Object, is_average: bool) -> Result<Pool2d> {
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
    let mut pool = Pool2d { kernel, stride, padding, ceil_mode: false, count_include_pad: true };
    if version >= Version::Two {
        pool.ceil_mode = object.take_bool("ceil_mode")?.unwrap_or(false);
        if is_average {
            pool.count_include_pad = object.take_bool("count_include_pad")?.unwrap_or(true);
        }
    }
    Ok(pool)
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

/// The activation, and the prefix of its slopes where it has any.
fn parse_activation(version: Version, object: &mut Object) -> Result<(Activation, Option<String>)> {
    let names = match version {
        Version::One => "none, relu, leaky_relu or silu",
        Version::Two => {
            "none, relu, relu6, leaky_relu, prelu, elu, sigmoid, hardsigmoid, silu, hardswish, tanh, gelu or gelu_tanh"
        }
    };
    let name = object.take_string("activation")?;
    let activation = match name.as_deref() {
        None | Some("none") => Activation::None,
        Some("relu") => Activation::Relu,
        Some("leaky_relu") => {
            Activation::LeakyRelu { negative_slope: object.take_f32("negative_slope")?.unwrap_or(0.01) }
        }
        Some("silu") => Activation::Silu,
        Some(name) => match (version, name) {
            (Version::Two, "relu6") => Activation::Relu6,
            (Version::Two, "prelu") => Activation::Prelu,
            (Version::Two, "elu") => Activation::Elu,
            (Version::Two, "sigmoid") => Activation::Sigmoid,
            (Version::Two, "hardsigmoid") => Activation::HardSigmoid,
            (Version::Two, "hardswish") => Activation::HardSwish,
            (Version::Two, "tanh") => Activation::Tanh,
            (Version::Two, "gelu") => Activation::Gelu,
            (Version::Two, "gelu_tanh") => Activation::GeluTanh,
            _ => return Err(object.error("activation", names, quoted(name))),
        },
    };
    let prelu = match activation {
        Activation::Prelu => Some(object.take_string("prelu")?.ok_or_else(|| {
            object.error("prelu", "the prefix of the slopes' tensor", "nothing: the key is missing")
        })?),
        _ => None,
    };
    Ok((activation, prelu))
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

/// The heads of version 1: `emotion` and `au`, each of the branch of its name.
fn parse_two_heads(value: Json, names: &HashMap<String, usize>) -> Result<Vec<HeadEntry>> {
    let mut heads = Object::new("manifest: `heads`", value)?;
    let mut parsed = Vec::new();
    for (branch, (name, kind)) in
        [("emotion", HeadKind::Classes), ("au", HeadKind::Units)].into_iter().enumerate()
    {
        let mut object = Object::new(format!("head {}", quoted(name)), heads.require(name, "an object")?)?;
        let input = parse_head_input(&mut object, names)?;
        let tensor = Some(object.take_string("tensor")?.unwrap_or_else(|| "fc".to_owned()));
        let labels = Some(require_labels(&mut object)?);
        let thresholds = take_thresholds(&mut object, kind, labels.as_deref())?;
        object.finish()?;
        parsed.push(HeadEntry { name: name.to_owned(), branch, kind, input, tensor, labels, thresholds });
    }
    heads.finish()?;
    Ok(parsed)
}

/// The heads of version 2, in their order.
fn parse_heads(value: Json, branches: &[String], names: &HashMap<String, usize>) -> Result<Vec<HeadEntry>> {
    const PLACE: &str = "manifest: `heads`";
    let Json::Object(members) = value else {
        return Err(Error::new(ErrorKind::Model, PLACE, "a JSON object", value.to_string()));
    };
    if members.is_empty() {
        return Err(Error::new(ErrorKind::Model, PLACE, "at least one head", "none"));
    }
    let head = |(name, value): (String, Json)| {
        // The keys that results have beside those of the heads.
        if !is_word(&name) || ["image", "error", "schema"].contains(&name.as_str()) {
            let expected = "names of letters, digits and `_`, other than `image`, `error` and `schema`";
            return Err(Error::new(ErrorKind::Model, PLACE, expected, quoted(&name)));
        }
        let mut object = Object::new(format!("head {}", quoted(&name)), value)?;
        let of_name = object.take_string("branch")?;
        let branch_name = of_name.as_deref().unwrap_or(&name);
        let branch = branches.iter().position(|branch| branch == branch_name).ok_or_else(|| {
            let expected = format!("a branch of {}", shown_strings(branches));
            let found = match &of_name {
                Some(named) => quoted(named),
                None => format!("nothing, which stands for the head's own name, {}", quoted(&name)),
            };
            object.error("branch", expected, found)
        })?;
        let kind = match object.take_string("kind")?.as_deref() {
            Some("classes") => HeadKind::Classes,
            Some("units") => HeadKind::Units,
            Some("values") => HeadKind::Values,
            other => {
                let found = other.map_or("nothing: the key is missing".to_owned(), quoted);
                return Err(object.error("kind", "classes, units or values", found));
            }
        };
        let input = parse_head_input(&mut object, names)?;
        let tensor = match object.take("tensor") {
            None => Some("fc".to_owned()),
            Some(Json::Null) => None,
            Some(Json::String(prefix)) => Some(prefix),
            Some(other) => return Err(object.error("tensor", "a string or null", other.to_string())),
        };
        let labels = match kind {
            HeadKind::Classes | HeadKind::Units => Some(require_labels(&mut object)?),
            HeadKind::Values => take_labels(&mut object)?,
        };
        let thresholds = take_thresholds(&mut object, kind, labels.as_deref())?;
        object.finish()?;
        Ok(HeadEntry { name, branch, kind, input, tensor, labels, thresholds })
    };
    members.into_iter().map(head).collect()
}

fn parse_head_input(object: &mut Object, names: &HashMap<String, usize>) -> Result<Source> {
    let input = object
        .take_string("input")?
        .ok_or_else(|| object.error("input", "the name of a layer", "nothing: the key is missing"))?;
    Ok(match input.as_str() {
        "image" => Source::Image,
        layer => Source::Layer(earlier(object, "input", layer, names)?),
    })
}

fn require_labels(object: &mut Object) -> Result<Vec<String>> {
    let is_null = object.is_null("labels");
    let found = if is_null { "null" } else { "nothing: the key is missing" };
    take_labels(object)?.ok_or_else(|| object.error("labels", "an array of strings", found))
}

/// Labels, where there are any; none for `null`.
fn take_labels(object: &mut Object) -> Result<Option<Vec<String>>> {
    let labels = match object.take("labels") {
        None | Some(Json::Null) => return Ok(None),
        Some(value) => object.array("labels", &value, "a string", as_string)?,
    };
    if labels.is_empty() {
        return Err(object.error("labels", "at least one label", "none"));
    }
    let mut distinct = HashSet::new();
    for label in &labels {
        if label.is_empty() || !distinct.insert(label) {
            return Err(object.error("labels", "labels that are distinct and not empty", quoted(label)));
        }
    }
    Ok(Some(labels))
}

/// The thresholds of units, where the file has them: one a label.
fn take_thresholds(
    object: &mut Object,
    kind: HeadKind,
    labels: Option<&[String]>,
) -> Result<Option<Vec<f32>>> {
    if kind != HeadKind::Units {
        return Ok(None);
    }
    let in_range = |v: &Json| as_f32(v).filter(|v| (0.0..=1.0).contains(v));
    let thresholds = object.take_array("thresholds", "a number from 0 to 1", in_range)?;
    if let Some(thresholds) = &thresholds
        && let Some(labels) = labels
        && thresholds.len() != labels.len()
    {
        let expected = format!("{} numbers, one a label", labels.len());
        return Err(object.error("thresholds", expected, thresholds.len().to_string()));
    }
    Ok(thresholds)
}
