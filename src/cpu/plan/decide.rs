//! The choices for a CPU: which kernel computes a step, with which tile, between which values.
//!
//! Every choice is a pure function of shapes, target and options, and is made here and nowhere else; no weight is
//! touched. It goes in three passes over the steps: what computes each ([`Computation`]), which decides the zeros that
//! its input needs around it; the halo of each value, from all of its readers; then the nodes, cut.

use super::HeadOutput;
use super::concat::{self, ConcatKernel, Home, Part};
use super::conv2d_depthwise::DepthwiseKernel;
use super::conv2d_direct::{self, ConvKernel, stored_type};
use super::conv2d_max_pool::ConvMaxPool;
use super::conv2d_winograd;
use super::groups::ConvSpec;
use super::node::{CpuNode, Kernel, NodeWeights};
use super::value::{Value, Within};
use crate::error::Result;
use crate::graph::node::{Node, ValueId, Work, fused_words};
use crate::graph::target::{Conv2dAlgorithm, Isa};
use crate::graph::winograd::{WinogradTile, is_possible};
use crate::graph::{Graph, LayerValues, ONE_BY_ONE, Step, is_depthwise, whole_map};
use crate::model::{AwsUnit, Gate, Layer, Model, Source};
use crate::op::{Activation, Conv2d, Op, Padding, Pool2d};
use crate::tensor::{DType, Shape};

/// Nodes and values, before they have a place and weights.
pub(super) struct Decisions {
    pub nodes: Vec<CpuNode>,
    /// What each node says of itself, and where its weights come from.
    pub told: Vec<Node>,
    pub origins: Vec<Origin>,
    pub values: Vec<Value>,
    pub image: ValueId,
    pub heads: Vec<HeadOutput>,
}

/// What of the model a node's weights are packed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Origin {
    /// Of the operator.
    pub operator: WeightsOf,
    /// The layer whose AWS-Unit the epilogue applies.
    pub mix: Option<usize>,
    /// The layer whose PReLU it applies.
    pub slopes: Option<usize>,
}

/// The weights of an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum WeightsOf {
    /// It has none.
    #[default]
    Nothing,
    /// All branches' of a layer.
    Layer(usize),
    /// The matrices of a layer's dense AWS-Unit.
    Dense(usize),
    /// The hidden layer of a layer's gate, and its last one.
    Squeeze(usize),
    Excite(usize),
    /// Of a head, by its index.
    Head(usize),
}

/// What computes a step's operator.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Computation {
    Direct(Conv2d),
    Winograd(Conv2d, WinogradTile),
    Depthwise(Conv2d),
    MaxPool2d(Pool2d),
    AvgPool2d(Pool2d),
    AdaptiveAvgPool2d([usize; 2]),
    GlobalAvgPool2d,
    Concat,
    Upsample2d([usize; 2]),
    Identity,
}

impl Computation {
    fn of(layer: &Layer, source: Source, isa: Isa, batch: usize, algorithm: Conv2dAlgorithm) -> Computation {
        let (input, output) = (layer.input_shape, layer.output_shape);
        match layer.op {
            Op::Conv2d(conv) if is_depthwise(&conv, input, output) => Computation::Depthwise(conv),
            Op::Conv2d(conv) => match source {
                // Winograd's algorithm reads blocks of channels.
                Source::Image => Computation::Direct(conv),
                Source::Layer(_) => {
                    match conv2d_winograd::choose(algorithm, isa, batch, &conv, input, output) {
                        Some(tile) => Computation::Winograd(conv, tile),
                        None => Computation::Direct(conv),
                    }
                }
            },
            Op::Linear => Computation::Direct(whole_map(input)),
            Op::MaxPool2d(pool) => Computation::MaxPool2d(pool),
            Op::AvgPool2d(pool) => Computation::AvgPool2d(pool),
            Op::AdaptiveAvgPool2d(output) => Computation::AdaptiveAvgPool2d(output),
            // A kernel of one element for each channel.
            Op::BatchNorm => Computation::Depthwise(Conv2d { groups: input.channels, ..ONE_BY_ONE }),
            Op::Concat => Computation::Concat,
            Op::Upsample2d(factor) => Computation::Upsample2d(factor),
            Op::GlobalAvgPool2d => Computation::GlobalAvgPool2d,
            Op::Identity => Computation::Identity,
        }
    }

    /// The zeros that it reads around its input.
    fn reach(&self, input: Shape, output: Shape) -> Padding {
        match self {
            Computation::Direct(conv) | Computation::Depthwise(conv) => conv.reach(input, output),
            Computation::Winograd(conv, tile) => tile.halo(conv.padding, input, tile.tiles(output)),
            // Windows are clipped to the map.
            Computation::MaxPool2d(_)
            | Computation::AvgPool2d(_)
            | Computation::AdaptiveAvgPool2d(_)
            | Computation::GlobalAvgPool2d => Padding::default(),
            Computation::Concat | Computation::Upsample2d(_) | Computation::Identity => Padding::default(),
        }
    }
}

/// The zeros that readers need around each source.
struct Halos {
    image: Padding,
    layers: Vec<Padding>,
}

impl Halos {
    fn new(model: &Model, graph: &Graph, computations: &[Computation], homes: &[Option<Home>]) -> Halos {
        let mut halos =
            Halos { image: Padding::default(), layers: vec![Padding::default(); model.layers.len()] };
        for (step, computation) in graph.steps.iter().zip(computations) {
            let layer = &model.layers[step.first()];
            let reach = computation.reach(layer.input_shape, layer.output_shape);
            let halo = match step.input() {
                Source::Image => &mut halos.image,
                Source::Layer(source) => &mut halos.layers[source],
            };
            *halo = halo.max(reach);
        }
        // Maps that lie in one another have one halo.
        let parts = || homes.iter().enumerate().filter_map(|(layer, home)| Some((layer, (*home)?.concat)));
        parts()
            .for_each(|(layer, concat)| halos.layers[concat] = halos.layers[concat].max(halos.layers[layer]));
        parts().for_each(|(layer, concat)| halos.layers[layer] = halos.layers[concat]);
        halos
    }
}

/// Decides on the nodes of a model for a CPU.
pub(super) fn decide(
    model: &Model,
    graph: &Graph,
    isa: Isa,
    batch: usize,
    algorithm: Conv2dAlgorithm,
) -> Result<Decisions> {
    let computation =
        |step: &Step| Computation::of(&model.layers[step.first()], step.input(), isa, batch, algorithm);
    let computations: Vec<Computation> = graph.steps.iter().map(computation).collect();
    let homes = concat::homes(model, graph, isa.lanes());
    let halos = Halos::new(model, graph, &computations, &homes);
    let image = Value {
        name: "image".into(),
        branches: 1,
        shape: model.input.shape,
        lanes: 1,
        halo: halos.image,
        within: None,
        offset: 0,
    };
    image.checked_len(batch)?;
    let mut decider = Decider {
        model,
        graph,
        isa,
        batch,
        halos,
        homes,
        wide_values: vec![None; model.layers.len()],
        decided: Decisions {
            nodes: Vec::new(),
            told: Vec::new(),
            origins: Vec::new(),
            values: vec![image],
            image: 0,
            heads: Vec::new(),
        },
        image_blocks: None,
        layer_values: LayerValues::new(model),
    };
    decider.steps(&computations)?;
    for head in 0..model.heads.len() {
        decider.head(head)?;
    }
    Ok(decider.decided)
}

/// A step's AWS-Unit, one or none of the two.
#[derive(Clone, Copy, Default)]
struct Unit<'a> {
    /// The layer of a unit that an epilogue applies.
    fused: Option<usize>,
    /// The layer of a unit that is computed by nodes of its own.
    apart: Option<(usize, &'a AwsUnit)>,
}

/// A node to be, as far as it does not follow from its values.
struct Emit<'a> {
    name: &'a str,
    work: Work,
    origin: Origin,
    scale: Option<ValueId>,
    residual: Option<ValueId>,
    activation: Activation,
    flop: u64,
}

impl<'a> Emit<'a> {
    /// An operator that nothing is behind.
    fn plain(name: &'a str, work: Work, operator: WeightsOf, flop: u64) -> Self {
        let origin = Origin { operator, mix: None, slopes: None };
        Emit { name, work, origin, scale: None, residual: None, activation: Activation::None, flop }
    }
}

struct Decider<'a> {
    model: &'a Model,
    graph: &'a Graph,
    isa: Isa,
    batch: usize,
    halos: Halos,
    /// Where layers' maps lie in those of concatenations.
    homes: Vec<Option<Home>>,
    /// The value of each concatenation that others lie in, once it is there.
    wide_values: Vec<Option<ValueId>>,
    decided: Decisions,
    image_blocks: Option<ValueId>,
    layer_values: LayerValues,
}

impl<'a> Decider<'a> {
    /// The nodes of all steps.
    fn steps(&mut self, computations: &[Computation]) -> Result<()> {
        let mut steps = self.graph.steps.iter().zip(computations.iter().copied()).peekable();
        while let Some((step, computation)) = steps.next() {
            let pooling =
                steps.peek().and_then(|&(next, after)| self.joinable(step, computation, next, after));
            if self.step(step, computation, pooling)? {
                steps.next();
            }
        }
        Ok(())
    }

    /// The max pooling `next` as far as it may join the node of `step`: nobody else reads the map between the two, and
    /// `step` is a convolution that is direct whatever the algorithm, so that every plan of a model has the same nodes.
    fn joinable(
        &self,
        step: &Step,
        computation: Computation,
        next: &'a Step,
        after: Computation,
    ) -> Option<(&'a Step, Pool2d)> {
        let (Computation::Direct(conv), Computation::MaxPool2d(pool)) = (computation, after) else {
            return None;
        };
        let always_direct = step.input() == Source::Image || !is_possible(&conv);
        let only_reader = next.input() == Source::Layer(step.last()) && self.graph.readers(step.last()) == 1;
        let ends_there = step.scale.is_none() && step.residual.is_none() && self.unit(step).apart.is_none();
        let nothing_behind = next.scale.is_none()
            && next.residual.is_none()
            && next.activation == Activation::None
            && self.unit(next).fused.is_none();
        (always_direct && only_reader && ends_there && nothing_behind).then_some((next, pool))
    }

    /// The AWS-Unit of a step: in the operator's epilogue, or nodes of its own behind it.
    fn unit(&self, step: &Step) -> Unit<'a> {
        let Some(layer) = step.aws else { return Unit::default() };
        match self.model.layers[layer].aws() {
            Some(AwsUnit::Layer(_) | AwsUnit::Channel(_)) => Unit { fused: Some(layer), apart: None },
            Some(unit @ (AwsUnit::Dense(_) | AwsUnit::Gate { .. })) => {
                Unit { fused: None, apart: Some((layer, unit)) }
            }
            None => Unit::default(),
        }
    }

    /// A value that is not one of the plan yet; its size is known to fit the address space.
    fn sized(&self, name: &str, branches: usize, shape: Shape, halo: Padding) -> Result<Value> {
        let name = name.to_owned();
        let lanes = self.isa.lanes();
        let value = Value { name, branches, shape, lanes, halo, within: None, offset: 0 };
        value.checked_len(self.batch)?;
        Ok(value)
    }

    fn add(&mut self, value: Value) -> ValueId {
        self.decided.values.push(value);
        self.decided.values.len() - 1
    }

    /// A new value.
    fn value(&mut self, name: &str, branches: usize, shape: Shape, halo: Padding) -> Result<ValueId> {
        let value = self.sized(name, branches, shape, halo)?;
        Ok(self.add(value))
    }

    /// The branches of the model.
    fn branches(&self) -> usize {
        self.model.branches.len()
    }

    /// The value of a layer, which may be a part of another.
    fn value_of_layer(&mut self, layer: usize) -> Result<ValueId> {
        let (model, halo) = (self.model, self.halos.layers[layer]);
        let (name, shape) = (&model.layers[layer].name, model.layers[layer].output_shape);
        let wide = match self.homes[layer] {
            Some(home) => home.concat,
            None if model.layers[layer].op == Op::Concat => layer,
            None => return self.value(name, self.branches(), shape, halo),
        };
        let whole = match self.wide_values[wide] {
            Some(value) => value,
            None => {
                let Layer { name, output_shape, .. } = &model.layers[wide];
                let value = self.value(name, self.branches(), *output_shape, self.halos.layers[wide])?;
                self.wide_values[wide] = Some(value);
                value
            }
        };
        let Some(Home { first_block, .. }) = self.homes[layer] else { return Ok(whole) };
        let blocks = self.get(whole).blocks();
        let mut part = self.sized(name, self.branches(), shape, halo)?;
        part.within = Some(Within { value: whole, first_block, blocks });
        Ok(self.add(part))
    }

    fn get(&self, value: ValueId) -> &Value {
        &self.decided.values[value]
    }

    /// The value of a source in blocks of channels.
    fn blocked(&mut self, source: Source) -> Result<ValueId> {
        if let Source::Layer(layer) = source {
            return self.layer_values.of(layer);
        }
        if let Some(blocks) = self.image_blocks {
            return Ok(blocks);
        }
        let image = self.decided.image;
        let output = self.value("image", 1, self.model.input.shape, self.halos.image)?;
        let emit = Emit::plain("image", Work::ImageLayout, WeightsOf::Nothing, 0);
        self.push(emit, Kernel::ImageToBlocks, image, output);
        self.image_blocks = Some(output);
        Ok(output)
    }

    /// The value of a source for a kernel that can read the image as it is.
    fn planar_or_blocked(&self, source: Source) -> Result<ValueId> {
        match source {
            Source::Image => Ok(self.decided.image),
            Source::Layer(layer) => self.layer_values.of(layer),
        }
    }

    fn push(&mut self, emit: Emit, kernel: Kernel, input: ValueId, output: ValueId) {
        let Emit { name, work, origin, scale, residual, activation, flop } = emit;
        let mixes = origin.mix.is_some();
        let weights = NodeWeights::default();
        let node = CpuNode { kernel, input, output, scale, residual, activation, mixes, weights };
        let values = &self.decided.values;
        let map_bytes = |id: ValueId| {
            let value: &Value = &values[id];
            (value.shape.len() as u64).saturating_mul((value.branches * size_of::<f32>()) as u64)
        };
        let weight_bytes = node.weight_bytes(values);
        let mut inputs = vec![input];
        if let Kernel::Concat(concat) = &node.kernel {
            inputs.clone_from(&concat.inputs);
        }
        let maps = inputs.iter().copied().chain([output]).chain(scale).chain(residual);
        let bytes = maps.map(map_bytes).fold(weight_bytes, u64::saturating_add);
        let scaled = scale.map(|id| values[id].name.as_str());
        let added: Vec<&str> = residual.iter().map(|&id| values[id].name.as_str()).collect();
        let (pooled, winograd) = match &node.kernel {
            Kernel::ConvMaxPool(_) => (Some("max_pool2d"), None),
            Kernel::Winograd(winograd) => (None, Some(winograd.tile)),
            Kernel::Conv2d(_)
            | Kernel::Depthwise(_)
            | Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::AdaptiveAvgPool2d(_)
            | Kernel::GlobalAvgPool2d
            | Kernel::Concat(_)
            | Kernel::Upsample2d(_)
            | Kernel::Identity
            | Kernel::AwsGate { .. }
            | Kernel::ImageToBlocks => (None, None),
        };
        self.decided.told.push(Node {
            name: name.to_owned(),
            work,
            kernel: node.kernel.name().to_owned(),
            tile: node.kernel.tile(),
            tuned: false,
            fused: fused_words(scaled, &added, activation, mixes, pooled),
            winograd,
            inputs,
            scale,
            residual,
            output,
            flop,
            bytes,
            weight_bytes,
        });
        self.decided.origins.push(origin);
        self.decided.nodes.push(node);
    }

    /// The nodes of a step; whether the max pooling has joined them.
    fn step(
        &mut self,
        step: &Step,
        computation: Computation,
        pooling: Option<(&Step, Pool2d)>,
    ) -> Result<bool> {
        let model = self.model;
        let (first, last) = (&model.layers[step.first()], &model.layers[step.last()]);
        let (name, shape, halo) = (last.name.as_str(), last.output_shape, self.operator_halo(step));
        if computation == Computation::Concat {
            return self.concat(step).map(|()| false);
        }
        let scale = step.scale.map(|source| self.blocked(source)).transpose()?;
        let residual = step.residual.map(|source| self.blocked(source)).transpose()?;
        let mix = self.unit(step).fused;
        let mix_flop = if mix.is_some() { 8 * shape.len() as u64 } else { 0 };
        let operator =
            if first.op.has_weight() { WeightsOf::Layer(step.first()) } else { WeightsOf::Nothing };
        let emit = Emit {
            name,
            work: Work::Layers(step.layers.clone()),
            origin: Origin {
                operator,
                mix,
                slopes: step.activates.filter(|_| step.activation == Activation::Prelu),
            },
            scale,
            residual,
            activation: step.activation,
            flop: self.operator_flop(first).saturating_add(mix_flop),
        };
        let blocks = |kernel| (kernel, None);
        let (kernel, input) = match computation {
            Computation::Direct(conv) => {
                let stored = |branch| match first.weights(branch) {
                    Some(weights) => stored_type(weights.weight().dtype(), shape),
                    None => DType::F32,
                };
                let branches = (0..self.branches()).map(|branch| (branch, stored(branch))).collect();
                let spec = ConvSpec { conv, input_channels: first.input_shape.channels, branches };
                let input = self.planar_or_blocked(step.input())?;
                let map = self.sized(name, self.branches(), shape, halo)?;
                let kernel = self.cut(&spec, input, &map, [scale, residual]);
                if let Some((next, pool)) = pooling
                    && ConvMaxPool::suits(&kernel, shape, map.lanes, pool)
                {
                    self.conv_max_pool(step, emit, kernel, &map, input, (next, pool))?;
                    return Ok(true);
                }
                (Kernel::Conv2d(Box::new(kernel)), Some(input))
            }
            Computation::Winograd(conv, tile) => {
                let branches = (0..self.branches()).map(|branch| (branch, DType::F32)).collect();
                let spec = ConvSpec { conv, input_channels: first.input_shape.channels, branches };
                let input = self.blocked(step.input())?;
                let map = self.sized(name, self.branches(), shape, halo)?;
                let kernel = conv2d_winograd::cut(tile, self.batch, &spec, self.get(input), &map);
                (Kernel::Winograd(Box::new(kernel)), Some(input))
            }
            Computation::Depthwise(op) => {
                blocks(Kernel::Depthwise(Box::new(DepthwiseKernel { op, lanes: self.isa.lanes() })))
            }
            Computation::MaxPool2d(pool) => blocks(Kernel::MaxPool2d(pool)),
            Computation::AvgPool2d(pool) => blocks(Kernel::AvgPool2d(pool)),
            Computation::AdaptiveAvgPool2d(output) => blocks(Kernel::AdaptiveAvgPool2d(output)),
            Computation::GlobalAvgPool2d => blocks(Kernel::GlobalAvgPool2d),
            Computation::Upsample2d(factor) => blocks(Kernel::Upsample2d(factor)),
            Computation::Concat | Computation::Identity => blocks(Kernel::Identity),
        };
        let input = match input {
            Some(input) => input,
            None => self.blocked(step.input())?,
        };
        let output = self.operator_value(step)?;
        self.push(emit, kernel, input, output);
        self.finish(step, output)?;
        Ok(false)
    }

    /// What a step's operator gives: the value of its layer, or what a unit of its own reads.
    fn operator_value(&mut self, step: &Step) -> Result<ValueId> {
        match self.unit(step).apart {
            None => self.value_of_layer(step.last()),
            Some(_) => {
                let Layer { name, output_shape, .. } = &self.model.layers[step.last()];
                self.value(name, self.branches(), *output_shape, Padding::default())
            }
        }
    }

    /// A concatenation: a node where some of its maps are not at their place already.
    fn concat(&mut self, step: &Step) -> Result<()> {
        let (model, layer) = (self.model, step.last());
        let output = self.value_of_layer(layer)?;
        let lanes = self.isa.lanes();
        let begin = self.homes[layer].unwrap_or(Home { concat: layer, first_block: 0 });
        let (mut inputs, mut parts, mut first_channel) = (Vec::new(), Vec::new(), 0);
        for &source in &step.inputs {
            let value = self.blocked(source)?;
            let channels = model.shape(source).channels;
            let there = Home { first_block: begin.first_block + first_channel / lanes, ..begin };
            let is_there = matches!(source, Source::Layer(layer) if self.homes[layer] == Some(there))
                && first_channel.is_multiple_of(lanes);
            if !is_there {
                parts.push(Part { value, first_channel, channels });
            }
            inputs.push(value);
            first_channel += channels;
        }
        if !parts.is_empty() {
            let (input, work) = (inputs[0], Work::Layers(vec![layer]));
            let emit = Emit::plain(&model.layers[layer].name, work, WeightsOf::Nothing, 0);
            self.push(emit, Kernel::Concat(Box::new(ConcatKernel { inputs, parts })), input, output);
        }
        self.layer_values.set(layer, output);
        Ok(())
    }

    /// The halo of what a step's operator gives: a unit of its own reads the map without one.
    fn operator_halo(&self, step: &Step) -> Padding {
        match self.unit(step).apart {
            Some(_) => Padding::default(),
            None => self.halos.layers[step.last()],
        }
    }

    /// A convolution, whose map is never stored, and the max pooling `next` of it.
    fn conv_max_pool(
        &mut self,
        conv_step: &Step,
        conv_emit: Emit,
        conv: ConvKernel,
        map: &Value,
        input: ValueId,
        (next, pool): (&Step, Pool2d),
    ) -> Result<()> {
        let (first, last) = (&self.model.layers[next.first()], &self.model.layers[next.last()]);
        let work = Work::Layers([conv_step.layers.as_slice(), &next.layers].concat());
        let flop = conv_emit.flop.saturating_add(self.operator_flop(first));
        let emit = Emit { name: &last.name, work, flop, ..conv_emit };
        let kernel = ConvMaxPool { conv, map: map.shape, lanes: map.lanes, pool };
        let output = self.operator_value(next)?;
        self.push(emit, Kernel::ConvMaxPool(Box::new(kernel)), input, output);
        self.finish(next, output)
    }

    /// What stands behind a step's operator in nodes of its own; then its layer has a value.
    fn finish(&mut self, step: &Step, operator: ValueId) -> Result<()> {
        let layer = step.last();
        let name = self.model.layers[layer].name.as_str();
        let output = match self.unit(step).apart {
            None => operator,
            Some((unit_layer, AwsUnit::Dense(_))) => {
                let output = self.value_of_layer(layer)?;
                self.dense(name, unit_layer, operator, output)?;
                output
            }
            Some((unit_layer, AwsUnit::Gate { gate, squeeze_bias, .. })) => {
                let output = self.value_of_layer(layer)?;
                self.gate(name, unit_layer, *gate, squeeze_bias.len(), operator, output)?;
                output
            }
            Some((_, AwsUnit::Layer(_) | AwsUnit::Channel(_))) => operator,
        };
        self.layer_values.set(layer, output);
        Ok(())
    }

    /// A dense unit: a matrix over u of both branches, for each of them.
    fn dense(&mut self, name: &str, layer: usize, input: ValueId, output: ValueId) -> Result<()> {
        let emit = Emit::plain(name, Work::AwsUnit(layer), WeightsOf::Dense(layer), 0);
        self.matrix(emit, input, output)
    }

    /// A gate: means, a hidden layer, logits, and the mix by them.
    fn gate(
        &mut self,
        name: &str,
        layer: usize,
        gate: Gate,
        hidden: usize,
        input: ValueId,
        output: ValueId,
    ) -> Result<()> {
        let part = || Work::GatePart(layer);
        let (shape, none) = (self.get(input).shape, Padding::default());
        let c = shape.channels;

        let part_name = format!("{name} means");
        let means = self.value(&part_name, 2, Shape::new(c, 1, 1), none)?;
        let emit = Emit::plain(&part_name, part(), WeightsOf::Nothing, 2 * shape.len() as u64);
        self.push(emit, Kernel::GlobalAvgPool2d, input, means);

        let part_name = format!("{name} squeeze");
        let mut emit = Emit::plain(&part_name, part(), WeightsOf::Squeeze(layer), 0);
        emit.activation = Activation::Relu;
        let hidden = self.value(&part_name, 1, Shape::new(hidden, 1, 1), none)?;
        self.matrix(emit, means, hidden)?;

        // The logits' channels are [to][from][padded channel], so that a block of them meets one of the map.
        let part_name = format!("{name} excite");
        let emit = Emit::plain(&part_name, part(), WeightsOf::Excite(layer), 0);
        let logits = Shape::new(4 * self.get(input).padded_channels(), 1, 1);
        let logits = self.value(&part_name, 1, logits, none)?;
        self.matrix(emit, hidden, logits)?;

        let emit = Emit::plain(name, Work::AwsUnit(layer), WeightsOf::Nothing, 8 * shape.len() as u64);
        self.push(emit, Kernel::AwsGate { gate, logits }, input, output);
        Ok(())
    }

    /// A 1x1 convolution of one or both branches, as many as `output` has, that reads both branches of `input`, or a map of
    /// its own. Both branches' blocks lie one behind the other, so that it reads the padded channels of both.
    fn matrix(&mut self, emit: Emit, input: ValueId, output: ValueId) -> Result<()> {
        debug_assert_eq!(self.get(input).within, None, "{}", emit.name);
        let input_channels = self.get(input).branches * self.get(input).padded_channels();
        let (branches, shape) = (self.get(output).branches, self.get(output).shape);
        let spec = ConvSpec { conv: ONE_BY_ONE, input_channels, branches: vec![(0, DType::F32); branches] };
        let kernel = self.cut(&spec, input, self.get(output), [None; 2]);
        let flop = 2 * (branches * shape.len() * input_channels) as u64;
        self.push(Emit { flop, ..emit }, Kernel::Conv2d(Box::new(kernel)), input, output);
        Ok(())
    }

    /// The logits of a head: a linear layer, or its input as it is.
    fn head(&mut self, index: usize) -> Result<()> {
        let (model, source) = (self.model, self.graph.head(index));
        let head = &model.heads[index];
        let input = self.planar_or_blocked(source)?;
        let Some(weights) = &head.weights else {
            let branch = if self.get(input).branches == 1 { 0 } else { head.branch };
            self.decided.heads.push(HeadOutput { value: input, branch });
            return Ok(());
        };
        let spec = ConvSpec {
            conv: whole_map(head.input_shape),
            input_channels: head.input_shape.channels,
            branches: vec![(head.branch, DType::F32)],
        };
        let name = format!("{} head", head.name);
        let output = self.value(&name, 1, Shape::new(head.len, 1, 1), Padding::default())?;
        let kernel = self.cut(&spec, input, self.get(output), [None; 2]);
        let work = Work::Heads { heads: vec![index], pooled: None };
        let flop = 2 * weights.weight().len() as u64;
        let emit = Emit::plain(&name, work, WeightsOf::Head(index), flop);
        self.push(emit, Kernel::Conv2d(Box::new(kernel)), input, output);
        self.decided.heads.push(HeadOutput { value: output, branch: 0 });
        Ok(())
    }

    /// A convolution between values, cut; `others` are the maps that its epilogue reads.
    fn cut(
        &self,
        spec: &ConvSpec,
        input: ValueId,
        output: &Value,
        others: [Option<ValueId>; 2],
    ) -> ConvKernel {
        let others = others.map(|id| id.map(|id| self.get(id)));
        conv2d_direct::cut(self.isa, self.batch, spec, self.get(input), output, others)
    }

    /// Multiplications and additions of a layer's operator in all branches.
    fn operator_flop(&self, layer: &Layer) -> u64 {
        layer.op.flop(layer.input_shape, layer.output_shape).saturating_mul(self.branches() as u64)
    }
}
