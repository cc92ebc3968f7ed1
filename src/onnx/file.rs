//! Branches as a model file: names, the manifest, the tensors.

use std::collections::HashSet;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::array::fault;
use super::layers::{Layer, Source as From};
use super::pointwise::Activation;
use super::{ImportOptions, Source};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::model::init::write_model;
use crate::model::{ChannelOrder, HeadKind};
use crate::tensor::Tensor;

/// How a model's image is normalised, as its manifest says it: one number a channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Normalisation {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// A head as a person wants it.
#[derive(Clone, Debug)]
pub(super) struct HeadChoice {
    pub kind: HeadKind,
    pub labels: Option<Vec<String>>,
    pub thresholds: Option<Vec<f32>>,
}

/// An object of JSON whose keys stay in their order.
struct Object(Vec<(String, Value)>);

impl Object {
    fn set(&mut self, key: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|e| Error::new(ErrorKind::Internal, "manifest", "JSON", e.to_string()))?;
        self.0.push((key.to_owned(), value));
        Ok(())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The whole manifest; what is left out is as version 1 has it.
#[derive(Serialize)]
struct ManifestJson<'a> {
    version: u32,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    branches: Option<&'a [String]>,
    input: Object,
    layers: Vec<Object>,
    #[serde(serialize_with = "in_order")]
    heads: Vec<(&'a str, Object)>,
}

fn in_order<S: Serializer>(heads: &[(&str, Object)], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(heads.iter().map(|(name, head)| (name, head)))
}

/// Names that are all different.
struct Names(HashSet<String>);

impl Names {
    /// `wanted`, or that with the first number behind it that makes it a name of its own.
    fn unique(&mut self, wanted: &str) -> String {
        let wanted = if wanted.is_empty() { "layer" } else { wanted };
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }
}

/// The bytes of the model file.
pub(super) fn write(
    sources: &[Source],
    normalisation: &Normalisation,
    options: &ImportOptions,
    title: &str,
) -> Result<Vec<u8>> {
    let (first, image) = (&sources[0].branch, sources[0].image);
    let branch_names = &options.names[..sources.len()];
    let mut names = Names(HashSet::from(["image".to_owned(), String::new()]));
    let layer_names: Vec<String> = first.layers.iter().map(|layer| names.unique(&layer.name)).collect();
    let name_of = |source: From| match source {
        From::Image => "image",
        From::Layer(layer) => layer_names[layer].as_str(),
    };
    let mut tensors = Vec::new();
    let mut entries = Vec::new();
    let mut version_2 =
        sources.len() == 1 || branch_names != ["emotion", "au"] || options.order == ChannelOrder::Bgr;
    for (index, layer) in first.layers.iter().enumerate() {
        version_2 |= layer.needs_version_2();
        let pair: Vec<&Layer> = sources.iter().map(|source| &source.branch.layers[index]).collect();
        let mut entry = Object(Vec::new());
        entry.set("name", &layer_names[index])?;
        entry.set("op", &layer.operator["op"])?;
        let before = if index == 0 { From::Image } else { From::Layer(index - 1) };
        if layer.operator["op"] == "concat" {
            entry.set("inputs", layer.inputs.iter().map(|&source| name_of(source)).collect::<Vec<_>>())?;
        } else if layer.inputs[0] != before {
            entry.set("input", name_of(layer.inputs[0]))?;
        }
        for (key, value) in layer.operator.iter().filter(|(key, _)| *key != "op") {
            entry.set(key, value)?;
        }
        if layer.batch_norm.is_some() {
            let prefix = names.unique(&format!("{}.bn", layer_names[index]));
            for (layer, branch) in pair.iter().zip(branch_names) {
                add_batch_norm(&mut tensors, &format!("{branch}.{prefix}"), layer)?;
            }
            entry.set("batch_norm", prefix)?;
            entry.set("batch_norm_eps", 0.0)?;
        }
        if let Some(scale) = layer.scale {
            entry.set("scale", &layer_names[scale])?;
        }
        if let Some(residual) = layer.residual {
            entry.set("residual", &layer_names[residual])?;
        }
        match (layer.activation, &layer.prelu) {
            (Some(activation), _) => {
                entry.set("activation", activation.name())?;
                if let Activation::LeakyRelu(slope) = activation
                    && slope != 0.01
                {
                    entry.set("negative_slope", slope)?;
                }
            }
            (None, Some(_)) => {
                let prefix = names.unique(&format!("{}.prelu", layer_names[index]));
                for (layer, branch) in pair.iter().zip(branch_names) {
                    let slope = layer.prelu.clone().unwrap_or_default();
                    tensors.push((
                        format!("{branch}.{prefix}.weight"),
                        Tensor::from_f32(&[slope.len()], slope)?,
                    ));
                }
                entry.set("activation", "prelu")?;
                entry.set("prelu", prefix)?;
            }
            (None, None) => {}
        }
        for (layer, branch) in pair.iter().zip(branch_names) {
            if let Some(weights) = &layer.weights {
                let name = format!("{branch}.{}", layer_names[index]);
                tensors.push((
                    format!("{name}.weight"),
                    Tensor::from_f32(&weights.dims, weights.weight.clone())?,
                ));
                if let Some(bias) = &weights.bias {
                    tensors.push((format!("{name}.bias"), Tensor::from_f32(&[bias.len()], bias.clone())?));
                }
            }
        }
        entries.push(entry);
    }

    let kinds_of_1 = [HeadKind::Classes, HeadKind::Units];
    version_2 |= sources.iter().zip(kinds_of_1).any(|(source, kind)| source.head.kind != kind);
    version_2 |= sources.iter().any(|source| source.branch.head.weights.is_none());
    let mut head_entries = Vec::new();
    for (source, name) in sources.iter().zip(branch_names) {
        let (own, head) = (&source.branch.head, &source.head);
        let mut entry = Object(Vec::new());
        entry.set("input", name_of(own.input))?;
        entry.set("labels", labels(head, own.rows, name)?)?;
        if version_2 {
            entry.set("kind", head.kind.name())?;
        }
        match &own.weights {
            None => entry.set("tensor", Value::Null)?,
            Some(weights) => {
                // Each branch's tensors are its own: only layers' names are to be kept clear of.
                let prefix = names.unique(if own.name.is_empty() { "head" } else { &own.name });
                let dims = [weights.dims[0], weights.dims[1]];
                let tensor = Tensor::from_f32(&dims, weights.weight.clone())?;
                tensors.push((format!("{name}.{prefix}.weight"), tensor));
                if let Some(bias) = &weights.bias {
                    tensors.push((
                        format!("{name}.{prefix}.bias"),
                        Tensor::from_f32(&[bias.len()], bias.clone())?,
                    ));
                }
                entry.set("tensor", prefix)?;
            }
        }
        if let Some(thresholds) = thresholds(head, own.rows, name)? {
            entry.set("thresholds", thresholds)?;
        }
        head_entries.push((name.as_str(), entry));
    }

    let mut input = Object(Vec::new());
    for (key, value) in ["channels", "height", "width"].iter().zip(image) {
        input.set(key, value)?;
    }
    input.set("mean", &normalisation.mean)?;
    input.set("std", &normalisation.std)?;
    if options.order == ChannelOrder::Bgr {
        input.set("order", options.order.name())?;
    }
    let manifest = ManifestJson {
        version: if version_2 { 2 } else { 1 },
        name: title,
        branches: (branch_names != ["emotion", "au"]).then_some(branch_names),
        input,
        layers: entries,
        heads: head_entries,
    };
    let manifest = serde_json::to_string(&manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, "manifest", "JSON", e.to_string()))?;
    write_model(&manifest, &tensors)
}

/// A batch norm that is a factor and a term: mean 0, variance 1 and no epsilon.
fn add_batch_norm(tensors: &mut Vec<(String, Tensor)>, prefix: &str, layer: &Layer) -> Result<()> {
    let Some([factor, term]) = &layer.batch_norm else {
        return Err(fault("a batch norm", "none").at(layer.place.clone()));
    };
    let channels = factor.len();
    let to_f32 = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
    for (name, values) in [
        ("weight", to_f32(factor)),
        ("bias", to_f32(term)),
        ("running_mean", vec![0.0; channels]),
        ("running_var", vec![1.0; channels]),
    ] {
        tensors.push((format!("{prefix}.{name}"), Tensor::from_f32(&[channels], values)?));
    }
    Ok(())
}

/// The labels of a head's rows: those given, or numbered ones; values may have none.
fn labels(head: &HeadChoice, rows: usize, branch: &str) -> Result<Value> {
    match (&head.labels, head.kind) {
        (Some(labels), _) if labels.len() == rows => Ok(json!(labels)),
        (Some(labels), _) => Err(Error::new(
            ErrorKind::Input,
            format!("labels of {}", quoted(branch)),
            format!("{rows}, one a score"),
            labels.len().to_string(),
        )),
        (None, HeadKind::Classes) => Ok((0..rows).map(|row| format!("class{row}")).collect()),
        (None, HeadKind::Units) => Ok((0..rows).map(|row| format!("unit{row}")).collect()),
        (None, HeadKind::Values) => Ok(Value::Null),
    }
}

fn thresholds(head: &HeadChoice, rows: usize, branch: &str) -> Result<Option<Vec<f32>>> {
    let place = || format!("thresholds of {}", quoted(branch));
    let wrong = |expected: String, found: String| Err(Error::new(ErrorKind::Input, place(), expected, found));
    match (&head.thresholds, head.kind) {
        (None, _) => Ok(None),
        (Some(_), kind) if kind != HeadKind::Units => {
            wrong("a head of units".to_owned(), format!("one of {}", kind.name()))
        }
        (Some(thresholds), _) if thresholds.len() == 1 => Ok(Some(vec![thresholds[0]; rows])),
        (Some(thresholds), _) if thresholds.len() == rows => Ok(Some(thresholds.clone())),
        (Some(thresholds), _) => {
            wrong(format!("{rows}, one a score, or one for all"), thresholds.len().to_string())
        }
    }
}
