//! From a network's operations to a model file's layers, which hold several each: an operator, then a batch norm, a scale, a
//! residual and an activation, in this order.
//!
//! An operation joins the layer of what it reads where nobody else reads that, and the order allows; else it begins a layer of
//! its own. A batch norm behind weights goes into them. So two graphs of one network give the same layers, whichever exporter
//! folded what.

use serde_json::{Map as Keys, Value, json};

use super::array::fault;
use super::evaluate::Window;
pub(super) use super::network::Weights;
use super::network::{Id, Kind, Network, Operation};
use super::pointwise::Activation;
use crate::error::Result;

/// What a layer reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    Image,
    Layer(usize),
}

/// How far a layer has come: what may still join it comes later in this order.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Stage {
    Operator,
    Scale,
    Residual,
    Activation,
}

/// A layer of one branch.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub name: String,
    /// The keys of its operator in the manifest.
    pub operator: Keys<String, Value>,
    /// One source, or those of a concatenation.
    pub inputs: Vec<Source>,
    pub weights: Option<Weights>,
    /// A factor and a term a channel, where the operator has no weights.
    pub batch_norm: Option<[Vec<f64>; 2]>,
    pub scale: Option<usize>,
    pub residual: Option<usize>,
    pub activation: Option<Activation>,
    pub prelu: Option<Vec<f32>>,
    /// [C, H, W]
    pub shape: [usize; 3],
    /// The node that it begins with.
    pub place: String,
    /// Whether its operator is one of version 2.
    operator_of_2: bool,
    stage: Stage,
    /// The operation whose map it gives so far.
    gives: Id,
}

/// The scores of a branch.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub input: Source,
    pub name: String,
    /// Weights [labels, features]; without them the input's numbers are the scores.
    pub weights: Option<Weights>,
    pub rows: usize,
}

/// One network as layers.
pub(super) struct Branch {
    pub layers: Vec<Layer>,
    /// The factor and the term a channel by which the graph itself normalises its image.
    pub normalisation: Option<[Vec<f64>; 2]>,
    pub head: Head,
}

impl Layer {
    /// Whether version 1 of the format cannot say it.
    pub fn needs_version_2(&self) -> bool {
        use Activation::{LeakyRelu, Relu, Silu};
        let old = matches!(self.activation, None | Some(Relu | Silu | LeakyRelu(_)));
        self.operator_of_2
            || self.batch_norm.is_some()
            || self.scale.is_some()
            || self.prelu.is_some()
            || !old
    }

    /// What both branches of a layer pair have in common.
    pub fn is_like(&self, other: &Layer) -> bool {
        self.operator == other.operator
            && self.inputs == other.inputs
            && self.scale == other.scale
            && self.residual == other.residual
            && self.activation == other.activation
            && self.prelu.is_some() == other.prelu.is_some()
            && self.batch_norm.is_some() == other.batch_norm.is_some()
            && self.shape == other.shape
    }

    /// The layer in a few words, for errors.
    pub fn summary(&self) -> String {
        let [channels, height, width] = self.shape;
        let mut text = self.operator.get("op").and_then(Value::as_str).unwrap_or("").to_owned();
        for (key, value) in self.operator.iter().filter(|(key, _)| *key != "op") {
            text = format!("{text} {key} {value}");
        }
        let activation = match (self.activation, &self.prelu) {
            (Some(activation), _) => activation.name(),
            (None, Some(_)) => "prelu",
            (None, None) => "no activation",
        };
        let extras = [(self.scale.is_some(), "a scale"), (self.residual.is_some(), "a residual")];
        let extras = extras.iter().filter(|(has, _)| *has).map(|(_, what)| format!(", {what}"));
        format!("{text} to {channels}x{height}x{width}{}, {activation}", extras.collect::<String>())
    }
}

/// The layers of `network`, whose scores are the map of `output`.
pub(super) fn layers(network: Network, output: Id) -> Result<Branch> {
    let read = network.is_read(output);
    let readers = network.readers(output, &read);
    let mut joiner =
        Joiner { layers: Vec::new(), at: vec![Source::Image; network.operations.len()], readers };
    let mut normalisation = None;
    for (id, operation) in network.operations.into_iter().enumerate().filter(|(id, _)| read[*id]) {
        if let Kind::Affine { factor, term } = &operation.kind
            && operation.inputs == [0]
            && joiner.readers[0] == 1
            && factor.iter().all(|&factor| factor > 0.0)
        {
            normalisation = Some([factor.clone(), term.clone()]);
            continue; // its map is the image, normalised
        }
        joiner.join(id, operation)?;
    }
    let head = joiner.head(output)?;
    Ok(Branch { layers: joiner.layers, normalisation, head })
}

struct Joiner {
    layers: Vec<Layer>,
    /// What gives each operation's map.
    at: Vec<Source>,
    /// How often each operation is read.
    readers: Vec<usize>,
}

impl Joiner {
    fn join(&mut self, id: Id, operation: Operation) -> Result<()> {
        let input = operation.inputs.first().copied().unwrap_or(0);
        match operation.kind {
            Kind::Image => {}
            Kind::Affine { ref factor, ref term } => {
                let host = self.host(input, Stage::Operator);
                let host = host.unwrap_or_else(|| self.identity(input, &operation));
                self.fold(host, factor, term);
                self.gives(host, id, Stage::Operator);
            }
            Kind::Activation(activation) => {
                let host =
                    self.host(input, Stage::Residual).unwrap_or_else(|| self.identity(input, &operation));
                self.layers[host].activation = Some(activation);
                self.gives(host, id, Stage::Activation);
            }
            Kind::Prelu(ref slope) => {
                let host =
                    self.host(input, Stage::Residual).unwrap_or_else(|| self.identity(input, &operation));
                self.layers[host].prelu = Some(slope.clone());
                self.gives(host, id, Stage::Activation);
            }
            Kind::Scale => {
                let other = operation.inputs[1];
                let host = self.host_of_two(input, other, operation.shape, Stage::Operator, &operation);
                let (host, other) = host;
                self.layers[host].scale = Some(other);
                self.gives(host, id, Stage::Scale);
            }
            Kind::Add => {
                let other = operation.inputs[1];
                let (host, other) = self.host_of_two(input, other, operation.shape, Stage::Scale, &operation);
                self.layers[host].residual = Some(other);
                self.gives(host, id, Stage::Residual);
            }
            _ => self.begin(id, operation)?,
        }
        Ok(())
    }

    /// The layer that gives the map of `id`, where it may take what comes behind `latest`.
    fn host(&self, id: Id, latest: Stage) -> Option<usize> {
        let Source::Layer(layer) = self.at[id] else { return None };
        let fits =
            self.readers[id] == 1 && self.layers[layer].gives == id && self.layers[layer].stage <= latest;
        fits.then_some(layer)
    }

    /// The layer that takes a map of two, and the one that gives the other.
    fn host_of_two(
        &mut self,
        a: Id,
        b: Id,
        shape: [usize; 3],
        latest: Stage,
        operation: &Operation,
    ) -> (usize, usize) {
        let (layer_a, layer_b) = (self.layer(a, operation), self.layer(b, operation));
        // The later of both may read the earlier one; a number a channel is no map of the shape wanted.
        let takes = |this: &Self, host: Id, layer: usize, other: usize| {
            layer > other && this.layers[layer].shape == shape && this.host(host, latest) == Some(layer)
        };
        if takes(self, a, layer_a, layer_b) {
            (layer_a, layer_b)
        } else if takes(self, b, layer_b, layer_a) {
            (layer_b, layer_a)
        } else {
            (self.identity(a, operation), layer_b)
        }
    }

    /// The layer that gives a map; an image becomes one.
    fn layer(&mut self, id: Id, operation: &Operation) -> usize {
        match self.at[id] {
            Source::Layer(layer) => layer,
            Source::Image => {
                let layer = self.identity(id, operation);
                self.at[id] = Source::Layer(layer);
                layer
            }
        }
    }

    fn gives(&mut self, layer: usize, id: Id, stage: Stage) {
        self.at[id] = Source::Layer(layer);
        self.layers[layer].gives = id;
        self.layers[layer].stage = stage;
    }

    fn push(
        &mut self,
        operator: Value,
        operator_of_2: bool,
        inputs: Vec<Source>,
        weights: Option<Weights>,
        from: &Operation,
        shape: [usize; 3],
    ) -> usize {
        let operator = if let Value::Object(keys) = operator { keys } else { Keys::new() };
        self.layers.push(Layer {
            name: from.name.clone(),
            operator,
            inputs,
            weights,
            batch_norm: None,
            scale: None,
            residual: None,
            activation: None,
            prelu: None,
            shape,
            place: from.place.clone(),
            operator_of_2,
            stage: Stage::Operator,
            gives: Id::MAX,
        });
        self.layers.len() - 1
    }

    /// A layer that gives the map of `id` again.
    fn identity(&mut self, id: Id, operation: &Operation) -> usize {
        let shape = operation.shape;
        self.push(json!({"op": "identity"}), false, vec![self.at[id]], None, operation, shape)
    }

    /// A factor and a term behind a layer that has only its operator.
    fn fold(&mut self, layer: usize, factor: &[f64], term: &[f64]) {
        let layer = &mut self.layers[layer];
        if let Some(weights) = &mut layer.weights {
            let row = weights.weight.len() / factor.len();
            for (channel, row) in weights.weight.chunks_exact_mut(row).enumerate() {
                row.iter_mut().for_each(|value| *value = (f64::from(*value) * factor[channel]) as f32);
            }
            let bias = weights.bias.take();
            let bias = |channel: usize| bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
            let folded: Vec<f32> =
                (0..factor.len()).map(|c| (bias(c) * factor[c] + term[c]) as f32).collect();
            weights.bias = folded.iter().any(|&value| value != 0.0).then_some(folded);
            return;
        }
        layer.batch_norm = Some(match layer.batch_norm.take() {
            None => [factor.to_vec(), term.to_vec()],
            Some([old_factor, old_term]) => [
                old_factor.iter().zip(factor).map(|(a, b)| a * b).collect(),
                (0..factor.len()).map(|c| old_term[c] * factor[c] + term[c]).collect(),
            ],
        });
    }

    /// A layer of its own for an operator.
    fn begin(&mut self, id: Id, mut operation: Operation) -> Result<()> {
        let mut weights = None;
        let mut operator_of_2 = false;
        let kind = std::mem::replace(&mut operation.kind, Kind::Image);
        let operator = match kind {
            Kind::Conv2d { window, groups, weights: own } => {
                weights = Some(own);
                let mut keys = window_keys("conv2d", &window, [1, 1]);
                if window.dilation != [1, 1] {
                    keys["dilation"] = pair(window.dilation);
                }
                if groups != 1 {
                    keys["groups"] = json!(groups);
                }
                keys
            }
            Kind::Linear(own) => {
                weights = Some(own);
                json!({"op": "linear"})
            }
            Kind::MaxPool2d(window) => {
                operator_of_2 = window.ceil;
                window_keys("max_pool2d", &window, window.kernel)
            }
            Kind::AvgPool2d { window, count_include_pad } => {
                operator_of_2 = window.ceil || !count_include_pad;
                let mut keys = window_keys("avg_pool2d", &window, window.kernel);
                if !count_include_pad {
                    keys["count_include_pad"] = json!(false);
                }
                keys
            }
            Kind::GlobalAvgPool2d => json!({"op": "global_avg_pool2d"}),
            Kind::Upsample2d(factor) => {
                operator_of_2 = true;
                json!({"op": "upsample2d", "factor": pair(factor)})
            }
            Kind::Concat => {
                operator_of_2 = true;
                json!({"op": "concat"})
            }
            other => return Err(fault("an operator", format!("{other:?}"))),
        };
        let inputs = match operator["op"] == "concat" {
            // Layers alone can be joined.
            true => {
                let layers: Vec<usize> =
                    operation.inputs.iter().map(|&input| self.layer(input, &operation)).collect();
                layers.into_iter().map(Source::Layer).collect()
            }
            false => vec![self.at[operation.inputs[0]]],
        };
        let layer = self.push(operator, operator_of_2, inputs, weights, &operation, operation.shape);
        self.gives(layer, id, Stage::Operator);
        Ok(())
    }

    /// The head that gives the map of `output`: a last linear layer, or a convolution over all of its map, is its own.
    fn head(&mut self, output: Id) -> Result<Head> {
        let source = self.at[output];
        let Source::Layer(last) = source else { return Err(fault("scores that are computed", "the image")) };
        let rows = self.layers[last].shape.iter().product();
        let layer = &self.layers[last];
        let whole = match layer.operator.get("op").and_then(Value::as_str) {
            Some("linear") => true,
            Some("conv2d") => {
                let from = match layer.inputs[0] {
                    Source::Layer(input) => Some(self.layers[input].shape),
                    Source::Image => None,
                };
                let dims = layer.weights.as_ref().map(|weights| weights.dims[1..].to_vec());
                let plain =
                    ["padding", "groups", "dilation"].iter().all(|key| !layer.operator.contains_key(*key));
                plain && from.is_some_and(|from| dims.as_deref() == Some(&from[..]))
            }
            _ => false,
        };
        let is_head = whole && layer.stage == Stage::Operator && last + 1 == self.layers.len();
        match self.layers.pop_if(|_| is_head) {
            Some(layer) => {
                let mut weights = layer.weights;
                if let Some(weights) = &mut weights {
                    weights.dims = vec![rows, weights.weight.len() / rows];
                }
                Ok(Head { input: layer.inputs[0], name: layer.name, weights, rows })
            }
            None => Ok(Head { input: source, name: String::new(), weights: None, rows }),
        }
    }
}

/// One number for both axes where they are equal.
fn pair([h, w]: [usize; 2]) -> Value {
    if h == w { json!(h) } else { json!([h, w]) }
}

/// The keys of a window: kernel, and what is not the default of stride, padding and ceil_mode.
fn window_keys(op: &str, window: &Window, default_stride: [usize; 2]) -> Value {
    let mut keys = json!({"op": op, "kernel": pair(window.kernel)});
    if window.stride != default_stride {
        keys["stride"] = pair(window.stride);
    }
    let [[top, bottom], [left, right]] = window.pads;
    if window.pads != [[0, 0]; 2] {
        keys["padding"] = if top == bottom && left == right {
            pair([top, left])
        } else {
            json!([top, left, bottom, right])
        };
    }
    if window.ceil {
        keys["ceil_mode"] = json!(true);
    }
    keys
}
