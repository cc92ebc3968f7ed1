//! The choices for a CPU: which kernel computes a step, with which tile, between which values.
//!
//! Every choice is a pure function of shapes, target and options, and is made here and nowhere else; no weight is
//! touched. It goes in three passes over the steps: what computes each ([`Computation`]), which decides the zeros that
//! its input needs around it; the halo of each value, from all of its readers; then the nodes, cut.

use super::conv2d_depthwise::DepthwiseKernel;
use super::conv2d_direct::{self, ConvKernel, stored_type};
use super::conv2d_max_pool::ConvMaxPool;
use super::conv2d_winograd;
use super::groups::ConvSpec;
use super::node::{CpuNode, Kernel, NodeWeights};
use super::value::Value;
use crate::error::Result;
use crate::graph::node::{Node, ValueId, Work, fused_words};
use crate::graph::target::{Conv2dAlgorithm, Isa};
use crate::graph::winograd::{WinogradTile, is_possible};
use crate::graph::{Graph, LayerValues, ONE_BY_ONE, Step, is_depthwise, whole_map};
use crate::model::{AwsUnit, Gate, Layer, Model, Source};
use crate::op::{Activation, Conv2d, Op, Padding, Pool2d};
use crate::tensor::{Branch, DType, Shape};

/// Nodes and values, before they have a place and weights.
pub(super) struct Decisions {
    pub nodes: Vec<CpuNode>,
    /// What each node says of itself, and where its weights come from.
    pub told: Vec<Node>,
    pub origins: Vec<Origin>,
    pub values: Vec<Value>,
    pub image: ValueId,
    pub head_logits: [ValueId; 2],
}

/// What of the model a node's weights are packed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Origin {
    /// Of the operator.
    pub operator: WeightsOf,
    /// The layer whose AWS-Unit the epilogue applies.
    pub mix: Option<usize>,
}

/// The weights of an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum WeightsOf {
    /// It has none.
    #[default]
    Nothing,
    /// Both branches' of a layer.
    Layer(usize),
    /// The matrices of a layer's dense AWS-Unit.
    Dense(usize),
    /// The hidden layer of a layer's gate, and its last one.
    Squeeze(usize),
    Excite(usize),
    Head(Branch),
}

/// What computes a step's operator.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Computation {
    Direct(Conv2d),
    Winograd(Conv2d, WinogradTile),
    Depthwise(Conv2d),
    MaxPool2d(Pool2d),
    AvgPool2d(Pool2d),
    GlobalAvgPool2d,
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
            Computation::MaxPool2d(_) | Computation::AvgPool2d(_) | Computation::GlobalAvgPool2d => {
                Padding::default()
            }
            Computation::Identity => Padding::default(),
        }
    }
}

/// The zeros that readers need around each source.
struct Halos {
    image: Padding,
    layers: Vec<Padding>,
}

impl Halos {
    fn new(model: &Model, graph: &Graph, computations: &[Computation]) -> Halos {
        let mut halos =
            Halos { image: Padding::default(), layers: vec![Padding::default(); model.layers.len()] };
        for (step, computation) in graph.steps.iter().zip(computations) {
            let layer = &model.layers[step.first()];
            let reach = computation.reach(layer.input_shape, layer.output_shape);
            let halo = match step.input {
                Source::Image => &mut halos.image,
                Source::Layer(source) => &mut halos.layers[source],
            };
            *halo = halo.max(reach);
        }
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
        |step: &Step| Computation::of(&model.layers[step.first()], step.input, isa, batch, algorithm);
    let computations: Vec<Computation> = graph.steps.iter().map(computation).collect();
    let halos = Halos::new(model, graph, &computations);
    let image = Value {
        name: "image".into(),
        branches: 1,
        shape: model.input.shape,
        lanes: 1,
        halo: halos.image,
        offset: 0,
    };
    image.checked_len(batch)?;
    let mut decider = Decider {
        model,
        graph,
        isa,
        batch,
        halos,
        decided: Decisions {
            nodes: Vec::new(),
            told: Vec::new(),
            origins: Vec::new(),
            values: vec![image],
            image: 0,
            head_logits: [0; 2],
        },
        image_blocks: None,
        layer_values: LayerValues::new(model),
    };
    decider.steps(&computations)?;
    for branch in Branch::BOTH {
        decider.head(branch)?;
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
    residual: Option<ValueId>,
    activation: Activation,
    flop: u64,
}

impl<'a> Emit<'a> {
    /// An operator that nothing is behind.
    fn plain(name: &'a str, work: Work, operator: WeightsOf, flop: u64) -> Self {
        let origin = Origin { operator, mix: None };
        Emit { name, work, origin, residual: None, activation: Activation::None, flop }
    }
}

struct Decider<'a> {
    model: &'a Model,
    graph: &'a Graph,
    isa: Isa,
    batch: usize,
    halos: Halos,
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
        let always_direct = step.input == Source::Image || !is_possible(&conv);
        let only_reader = next.input == Source::Layer(step.last()) && self.graph.readers(step.last()) == 1;
        let ends_there = step.residual.is_none() && self.unit(step).apart.is_none();
        let nothing_behind =
            next.residual.is_none() && next.activation == Activation::None && self.unit(next).fused.is_none();
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
        let value = Value { name, branches, shape, lanes: self.isa.lanes(), halo, offset: 0 };
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
        let Emit { name, work, origin, residual, activation, flop } = emit;
        let mixes = origin.mix.is_some();
        let node =
            CpuNode { kernel, input, output, residual, activation, mixes, weights: NodeWeights::default() };
        let values = &self.decided.values;
        let map_bytes = |id: ValueId| {
            let value: &Value = &values[id];
            (value.shape.len() as u64).saturating_mul((value.branches * size_of::<f32>()) as u64)
        };
        let weight_bytes = node.weight_bytes(values);
        let maps = [Some(input), Some(output), residual];
        let bytes = maps.into_iter().flatten().map(map_bytes).fold(weight_bytes, u64::saturating_add);
        let added: Vec<&str> = residual.iter().map(|&id| values[id].name.as_str()).collect();
        let (pooled, winograd) = match &node.kernel {
            Kernel::ConvMaxPool(_) => (Some("max_pool2d"), None),
            Kernel::Winograd(winograd) => (None, Some(winograd.tile)),
            Kernel::Conv2d(_)
            | Kernel::Depthwise(_)
            | Kernel::MaxPool2d(_)
            | Kernel::AvgPool2d(_)
            | Kernel::GlobalAvgPool2d
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
            fused: fused_words(&added, activation, mixes, pooled),
            winograd,
            input,
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
        let residual = step.residual.map(|source| self.blocked(source)).transpose()?;
        let mix = self.unit(step).fused;
        let mix_flop = if mix.is_some() { 8 * shape.len() as u64 } else { 0 };
        let operator =
            if first.op.has_weight() { WeightsOf::Layer(step.first()) } else { WeightsOf::Nothing };
        let emit = Emit {
            name,
            work: Work::Layers(step.layers.clone()),
            origin: Origin { operator, mix },
            residual,
            activation: step.activation,
            flop: operator_flop(first).saturating_add(mix_flop),
        };
        let blocks = |kernel| (kernel, None);
        let (kernel, input) = match computation {
            Computation::Direct(conv) => {
                let stored = |branch| match first.weights(branch) {
                    Some(weights) => stored_type(weights.weight().dtype(), shape),
                    None => DType::F32,
                };
                let branches = Branch::BOTH.map(|branch| (branch as usize, stored(branch))).to_vec();
                let spec = ConvSpec { conv, input_channels: first.input_shape.channels, branches };
                let input = self.planar_or_blocked(step.input)?;
                let map = self.sized(name, 2, shape, halo)?;
                let kernel = self.cut(&spec, input, &map, residual);
                if let Some((next, pool)) = pooling
                    && ConvMaxPool::suits(&kernel, shape, map.lanes, pool)
                {
                    self.conv_max_pool(step, emit, kernel, &map, input, (next, pool))?;
                    return Ok(true);
                }
                (Kernel::Conv2d(Box::new(kernel)), Some(input))
            }
            Computation::Winograd(conv, tile) => {
                let branches = vec![(0, DType::F32), (1, DType::F32)];
                let spec = ConvSpec { conv, input_channels: first.input_shape.channels, branches };
                let input = self.blocked(step.input)?;
                let map = self.sized(name, 2, shape, halo)?;
                let kernel = conv2d_winograd::cut(tile, self.batch, &spec, self.get(input), &map);
                (Kernel::Winograd(Box::new(kernel)), Some(input))
            }
            Computation::Depthwise(op) => {
                blocks(Kernel::Depthwise(Box::new(DepthwiseKernel { op, lanes: self.isa.lanes() })))
            }
            Computation::MaxPool2d(pool) => blocks(Kernel::MaxPool2d(pool)),
            Computation::AvgPool2d(pool) => blocks(Kernel::AvgPool2d(pool)),
            Computation::GlobalAvgPool2d => blocks(Kernel::GlobalAvgPool2d),
            Computation::Identity => blocks(Kernel::Identity),
        };
        let input = match input {
            Some(input) => input,
            None => self.blocked(step.input)?,
        };
        let output = self.value(name, 2, shape, halo)?;
        self.push(emit, kernel, input, output);
        self.finish(step, output)?;
        Ok(false)
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
        let flop = conv_emit.flop.saturating_add(operator_flop(first));
        let emit = Emit { name: &last.name, work, flop, ..conv_emit };
        let kernel = ConvMaxPool { conv, map: map.shape, lanes: map.lanes, pool };
        let output = self.value(&last.name, 2, last.output_shape, self.operator_halo(next))?;
        self.push(emit, Kernel::ConvMaxPool(Box::new(kernel)), input, output);
        self.finish(next, output)
    }

    /// What stands behind a step's operator in nodes of its own; then its layer has a value.
    fn finish(&mut self, step: &Step, operator: ValueId) -> Result<()> {
        let layer = step.last();
        let name = self.model.layers[layer].name.as_str();
        let output = match self.unit(step).apart {
            None => operator,
            Some((unit_layer, AwsUnit::Dense(_))) => self.dense(name, unit_layer, operator)?,
            Some((unit_layer, AwsUnit::Gate { gate, squeeze_bias, .. })) => {
                self.gate(name, unit_layer, *gate, squeeze_bias.len(), operator)?
            }
            Some((_, AwsUnit::Layer(_) | AwsUnit::Channel(_))) => operator,
        };
        self.layer_values.set(layer, output);
        Ok(())
    }

    /// A dense unit: a matrix over u of both branches, for each of them.
    fn dense(&mut self, name: &str, layer: usize, input: ValueId) -> Result<ValueId> {
        let (shape, halo) = (self.get(input).shape, self.halos.layers[layer]);
        let emit = Emit::plain(name, Work::AwsUnit(layer), WeightsOf::Dense(layer), 0);
        self.matrix(emit, input, shape, 2, halo)
    }

    /// A gate: means, a hidden layer, logits, and the mix by them.
    fn gate(
        &mut self,
        name: &str,
        layer: usize,
        gate: Gate,
        hidden: usize,
        input: ValueId,
    ) -> Result<ValueId> {
        let part = || Work::GatePart(layer);
        let (shape, halo, none) = (self.get(input).shape, self.halos.layers[layer], Padding::default());
        let c = shape.channels;

        let part_name = format!("{name} means");
        let means = self.value(&part_name, 2, Shape::new(c, 1, 1), none)?;
        let emit = Emit::plain(&part_name, part(), WeightsOf::Nothing, 2 * shape.len() as u64);
        self.push(emit, Kernel::GlobalAvgPool2d, input, means);

        let part_name = format!("{name} squeeze");
        let mut emit = Emit::plain(&part_name, part(), WeightsOf::Squeeze(layer), 0);
        emit.activation = Activation::Relu;
        let hidden = self.matrix(emit, means, Shape::new(hidden, 1, 1), 1, none)?;

        // The logits' channels are [to][from][padded channel], so that a block of them meets one of the map.
        let part_name = format!("{name} excite");
        let emit = Emit::plain(&part_name, part(), WeightsOf::Excite(layer), 0);
        let logits = Shape::new(4 * self.get(input).padded_channels(), 1, 1);
        let logits = self.matrix(emit, hidden, logits, 1, none)?;

        let output = self.value(name, 2, shape, halo)?;
        let emit = Emit::plain(name, Work::AwsUnit(layer), WeightsOf::Nothing, 8 * shape.len() as u64);
        self.push(emit, Kernel::AwsGate { gate, logits }, input, output);
        Ok(output)
    }

    /// A 1x1 convolution of one or both branches that reads both branches of `input`, or a map of its own. Both branches'
    /// blocks lie one behind the other, so that it reads the padded channels of both.
    fn matrix(
        &mut self,
        emit: Emit,
        input: ValueId,
        shape: Shape,
        branches: usize,
        halo: Padding,
    ) -> Result<ValueId> {
        let input_channels = self.get(input).branches * self.get(input).padded_channels();
        let branch = (0, DType::F32);
        let spec = ConvSpec { conv: ONE_BY_ONE, input_channels, branches: vec![branch; branches] };
        let output = self.value(emit.name, branches, shape, halo)?;
        let kernel = self.cut(&spec, input, self.get(output), None);
        let flop = 2 * (branches * shape.len() * input_channels) as u64;
        self.push(Emit { flop, ..emit }, Kernel::Conv2d(Box::new(kernel)), input, output);
        Ok(output)
    }

    /// The logits of a branch.
    fn head(&mut self, branch: Branch) -> Result<()> {
        let head = self.model.head(branch);
        let input = self.planar_or_blocked(self.graph.head(branch))?;
        let spec = ConvSpec {
            conv: whole_map(head.input_shape),
            input_channels: head.input_shape.channels,
            branches: vec![(branch as usize, DType::F32)],
        };
        let name = format!("{} head", branch.name());
        let output = self.value(&name, 1, Shape::new(head.labels.len(), 1, 1), Padding::default())?;
        let kernel = self.cut(&spec, input, self.get(output), None);
        let work = Work::Heads { branches: vec![branch], pooled: None };
        let flop = 2 * head.weights.weight().len() as u64;
        let emit = Emit::plain(&name, work, WeightsOf::Head(branch), flop);
        self.push(emit, Kernel::Conv2d(Box::new(kernel)), input, output);
        self.decided.head_logits[branch as usize] = output;
        Ok(())
    }

    /// A convolution between values, cut.
    fn cut(&self, spec: &ConvSpec, input: ValueId, output: &Value, residual: Option<ValueId>) -> ConvKernel {
        let residual = residual.map(|id| self.get(id));
        conv2d_direct::cut(self.isa, self.batch, spec, self.get(input), output, residual)
    }
}

/// Multiplications and additions of a layer's operator in both branches.
fn operator_flop(layer: &Layer) -> u64 {
    layer.op.flop(layer.input_shape, layer.output_shape).saturating_mul(2)
}
