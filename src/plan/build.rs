//! From the steps of a model to nodes: a kernel, its tile, its packed weights and its place in memory for each.
//!
//! Every choice is a pure function of shapes and target. The model is taken apart on the way: a layer's weights
//! are freed as soon as they are packed, so that building a plan needs little more memory than the weights.

use super::Conv2dAlgorithm;
use super::arena::{self, Lifetime};
use super::conv::{self, ConvSpec, ONE_BY_ONE, whole_map};
use super::fuse::{Fused, Step, fuse};
use super::node::{
    ConvKernel, ConvMaxPool, ConvWeights, CpuNode, DepthwiseKernel, Epilogue, Kernel, Node, StoredWeights,
    Work, fused_words,
};
use super::pack;
use super::target::Isa;
use super::value::{Value, ValueId};
use super::winograd::{self, WinogradTile};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::model::{AwsUnit, Model, Source, Weights};
use crate::op::{Activation, Conv2d, Op, Padding, Pool2d};
use crate::tensor::{Branch, Shape};

/// What [`build`] makes for the CPU backend.
pub(super) struct Built {
    /// What the nodes say of themselves, one for each of `kernels`.
    pub nodes: Vec<Node>,
    pub kernels: Vec<CpuNode>,
    pub values: Vec<Value>,
    pub image: ValueId,
    pub head_logits: [ValueId; 2],
    pub pass: usize,
    pub arena_len: usize,
    pub scratch_len: usize,
}

struct Builder<'a> {
    isa: Isa,
    batch: usize,
    algorithm: Conv2dAlgorithm,
    /// The zeros that readers need around each source.
    image_halo: Padding,
    layer_halos: Vec<Padding>,
    fused: &'a Fused,
    values: Vec<Value>,
    nodes: Vec<Node>,
    kernels: Vec<CpuNode>,
    image: ValueId,
    image_blocks: Option<ValueId>,
    /// The value each layer's readers read.
    of_layer: Vec<Option<ValueId>>,
}

/// Builds the nodes of `model` for a CPU; with `keep_values`, no two values share memory.
pub(super) fn build(
    mut model: Model,
    isa: Isa,
    batch: usize,
    algorithm: Conv2dAlgorithm,
    keep_values: bool,
) -> Result<Built> {
    let fused = fuse(&model);
    let mut builder = Builder::new(&model, &fused, isa, batch, algorithm)?;
    for step in &fused.steps {
        builder.step(&mut model, step)?;
    }
    let mut head_logits = [0; 2];
    for branch in Branch::BOTH {
        head_logits[branch as usize] = builder.head(&model, branch)?;
    }
    let Builder { nodes, kernels, mut values, image, .. } = builder;

    let place = |images: usize| {
        let lifetimes = lifetimes(&kernels, &values, images, image, head_logits, keep_values)?;
        arena::place(&lifetimes).ok_or_else(|| {
            let expected = "feature maps that fit the address space together";
            Error::new(ErrorKind::Plan, "arena", expected, format!("more, for {images} images"))
        })
    };
    let pass = match keep_values {
        true => batch,
        false => {
            let (_, image_len) = place(1)?;
            let most = (PASS_LEN / image_len).clamp(1, batch);
            batch.div_ceil(batch.div_ceil(most)) // passes of about the same size
        }
    };
    let (offsets, arena_len) = place(pass)?;
    for (value, offset) in values.iter_mut().zip(offsets) {
        value.offset = offset;
    }
    let scratch_len = kernels.iter().map(CpuNode::scratch_len).max().unwrap_or(0);
    Ok(Built { nodes, kernels, values, image, head_logits, pass, arena_len, scratch_len })
}

/// Elements of the arena that a pass may take if it has more than one image: 64 MB, about a last-level cache. Fewer
/// images would read the weights from memory more often, more would do the same with the maps.
const PASS_LEN: usize = (64 << 20) / size_of::<f32>();

/// The widest row of a map: a plan lists the tiles of a row.
const MOST_WIDTH: usize = 1 << 24;

/// Elements of a value for so many images.
fn checked_len(value: &Value, images: usize) -> Result<usize> {
    if value.shape.width > MOST_WIDTH {
        let place = format!("value {}", quoted(&value.name));
        let expected = format!("rows of at most {MOST_WIDTH} pixels");
        return Err(Error::new(ErrorKind::Plan, place, expected, value.shape.to_string()));
    }
    value.checked_len(images).ok_or_else(|| {
        let place = format!("value {}", quoted(&value.name));
        let expected = format!("a feature map of {images} images that fits the address space");
        Error::new(ErrorKind::Plan, place, expected, format!("{} with its halo", value.shape))
    })
}

/// When each value is needed, counted in nodes, for so many images; the image is there before the first.
fn lifetimes(
    nodes: &[CpuNode],
    values: &[Value],
    images: usize,
    image: ValueId,
    head_logits: [ValueId; 2],
    keep_values: bool,
) -> Result<Vec<Lifetime>> {
    let mut lifetimes = Vec::with_capacity(values.len());
    for value in values {
        lifetimes.push(Lifetime { len: checked_len(value, images)?, first: 0, last: 0 });
    }
    for (step, node) in nodes.iter().enumerate() {
        lifetimes[node.output].first = step;
        lifetimes[node.output].last = step;
        let logits = match node.kernel {
            Kernel::AwsGate { logits, .. } => Some(logits),
            _ => None,
        };
        for read in [Some(node.input), node.epilogue.residual, logits].into_iter().flatten() {
            lifetimes[read].last = step;
        }
    }
    lifetimes[image].first = 0;
    let end = nodes.len();
    for (value, lifetime) in lifetimes.iter_mut().enumerate() {
        if keep_values {
            (lifetime.first, lifetime.last) = (0, end);
        } else if head_logits.contains(&value) {
            lifetime.last = end;
        }
    }
    Ok(lifetimes)
}

impl<'a> Builder<'a> {
    fn new(
        model: &Model,
        fused: &'a Fused,
        isa: Isa,
        batch: usize,
        algorithm: Conv2dAlgorithm,
    ) -> Result<Self> {
        let mut image_halo = Padding::default();
        let mut layer_halos = vec![Padding::default(); model.layers.len()];
        for step in &fused.steps {
            let layer = &model.layers[step.layers[0]];
            if let Op::Conv2d(conv) = layer.op {
                let (input, output) = (layer.input_shape, layer.output_shape);
                match step.input {
                    Source::Image => image_halo = image_halo.max(conv.padding),
                    Source::Layer(source) => {
                        let read = winograd::choose(algorithm, isa, batch, &conv, input, output)
                            .map_or(conv.padding, |tile| tile.halo(conv.padding, input, output));
                        layer_halos[source] = layer_halos[source].max(read);
                    }
                }
            }
        }
        let image = Value {
            name: "image".into(),
            branches: 1,
            shape: model.input.shape,
            lanes: 1,
            halo: image_halo,
            offset: 0,
        };
        checked_len(&image, batch)?;
        Ok(Builder {
            isa,
            batch,
            algorithm,
            image_halo,
            layer_halos,
            fused,
            values: vec![image],
            nodes: Vec::new(),
            kernels: Vec::new(),
            image: 0,
            image_blocks: None,
            of_layer: vec![None; model.layers.len()],
        })
    }

    /// A new value, whose size is known to fit the address space: strides and offsets within it cannot overflow.
    fn value(&mut self, name: &str, branches: usize, shape: Shape, halo: Padding) -> Result<ValueId> {
        let name = name.to_owned();
        let value = Value { name, branches, shape, lanes: self.isa.lanes(), halo, offset: 0 };
        checked_len(&value, self.batch)?;
        self.values.push(value);
        Ok(self.values.len() - 1)
    }

    /// The value that a layer's readers read; fusion has put the layer before them.
    fn value_of(&self, layer: usize) -> Result<ValueId> {
        self.of_layer[layer].ok_or_else(|| {
            let expected = "steps in the order of what they read";
            Error::new(
                ErrorKind::Internal,
                "plan",
                expected,
                format!("layer {layer} read before it is computed"),
            )
        })
    }

    /// The value of a source in blocks of channels.
    fn blocked(&mut self, source: Source) -> Result<ValueId> {
        if let Source::Layer(layer) = source {
            return self.value_of(layer);
        }
        if let Some(blocks) = self.image_blocks {
            return Ok(blocks);
        }
        let shape = self.values[self.image].shape;
        let output = self.value("image", 1, shape, self.image_halo)?;
        self.push(
            "image",
            Work::ImageLayout,
            Kernel::ImageToBlocks,
            self.image,
            output,
            Epilogue::default(),
            0,
        );
        self.image_blocks = Some(output);
        Ok(output)
    }

    /// The value of a source for a kernel that can read the image as it is.
    fn planar_or_blocked(&self, source: Source) -> Result<ValueId> {
        match source {
            Source::Image => Ok(self.image),
            Source::Layer(layer) => self.value_of(layer),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call a field of the node")]
    fn push(
        &mut self,
        name: &str,
        work: Work,
        kernel: Kernel,
        input: ValueId,
        output: ValueId,
        epilogue: Epilogue,
        flop: u64,
    ) {
        let node = CpuNode { kernel, input, output, epilogue };
        let map_bytes = |id: ValueId| {
            let value: &Value = &self.values[id];
            (value.shape.len() as u64).saturating_mul((value.branches * size_of::<f32>()) as u64)
        };
        let (weight_bytes, residual) = (node.weight_bytes(), node.epilogue.residual);
        let maps = [Some(input), Some(output), residual];
        let bytes = maps.into_iter().flatten().map(map_bytes).fold(weight_bytes, u64::saturating_add);
        let added: Vec<&str> = residual.iter().map(|&id| self.values[id].name.as_str()).collect();
        let pooled = matches!(node.kernel, Kernel::ConvMaxPool(_)).then_some("max_pool2d");
        let fused = fused_words(&added, node.epilogue.activation, node.epilogue.mix.is_some(), pooled);
        self.nodes.push(Node {
            name: name.to_owned(),
            work,
            kernel: node.kernel.name().to_owned(),
            tile: node.tile(),
            tuned: false,
            fused,
            input,
            residual,
            output,
            flop,
            bytes,
            weight_bytes,
        });
        self.kernels.push(node);
    }

    fn step(&mut self, model: &mut Model, step: &Step) -> Result<()> {
        let (first, last) = (step.layers[0], step.last());
        let name = model.layers[last].name.clone();
        let shape = model.layers[last].output_shape;
        let halo = self.layer_halos[last];
        let unit = step.aws.and_then(|layer| model.layers[layer].aws.take());
        let padded = shape.channels.next_multiple_of(self.isa.lanes());
        let c = shape.channels;
        let mix = match &unit {
            Some(AwsUnit::Layer(a)) => Some(pack::mix(&name, c, padded, |to, from, _| a[to * 2 + from])?),
            Some(AwsUnit::Channel(a)) => {
                Some(pack::mix(&name, c, padded, |to, from, i| a[(to * 2 + from) * c + i])?)
            }
            _ => None,
        };
        let unit_apart = unit.filter(|_| mix.is_none());
        // A unit of its own reads the map without halo; only what it gives needs one.
        let halo_here = if unit_apart.is_some() { Padding::default() } else { halo };

        let residual = step.residual.map(|source| self.blocked(source)).transpose()?;
        let fused_mix_flop = if mix.is_some() { 8 * shape.len() as u64 } else { 0 };
        let epilogue = Epilogue { residual, activation: step.activation, mix };
        let layer = &mut model.layers[first];
        let (op, input_shape) = (layer.op, layer.input_shape);
        let weights = layer.weights.take();
        let op_flop = op.flop(input_shape, layer.output_shape).saturating_mul(2);
        let flop = op_flop.saturating_add(fused_mix_flop);
        let work = Work::Layers(step.layers.clone());

        let output = match (op, weights) {
            (Op::Conv2d(conv), Some(weights)) => {
                let depthwise = conv.groups == input_shape.channels && conv.groups == c && conv.groups > 1;
                if depthwise {
                    let input = self.blocked(step.input)?;
                    let output = self.value(&name, 2, shape, halo_here)?;
                    let kernel = self.depthwise(&name, &conv, weights)?;
                    let kernel = Kernel::Depthwise(Box::new(kernel));
                    self.push(&name, work, kernel, input, output, epilogue, flop);
                    output
                } else {
                    self.conv(&name, work, conv, step.input, shape, halo_here, epilogue, flop, weights)?
                }
            }
            (Op::Linear, Some(weights)) => {
                let conv = whole_map(input_shape);
                self.conv(&name, work, conv, step.input, shape, halo_here, epilogue, flop, weights)?
            }
            (Op::MaxPool2d(pool), _) if self.joins_last(step, &epilogue, pool)? => {
                self.join_max_pool(&name, step, pool, shape, halo_here, flop)?
            }
            (op, _) => {
                let kernel = match op {
                    Op::MaxPool2d(pool) => Kernel::MaxPool2d(pool),
                    Op::AvgPool2d(pool) => Kernel::AvgPool2d(pool),
                    Op::GlobalAvgPool2d => Kernel::GlobalAvgPool2d,
                    _ => Kernel::Identity,
                };
                let input = self.blocked(step.input)?;
                let output = self.value(&name, 2, shape, halo_here)?;
                self.push(&name, work, kernel, input, output, epilogue, flop);
                output
            }
        };
        let output = match unit_apart {
            Some(unit) => self.unit(&name, last, &unit, output, shape, halo)?,
            None => output,
        };
        self.of_layer[last] = Some(output);
        Ok(())
    }

    /// Whether a max pooling becomes part of the node before it, a convolution whose map nobody else reads, and which is
    /// direct whatever the algorithm, so that every plan of a model has the same nodes.
    fn joins_last(&self, step: &Step, epilogue: &Epilogue, pool: Pool2d) -> Result<bool> {
        let Source::Layer(source) = step.input else { return Ok(false) };
        let (Some(before), Some(told)) = (self.kernels.last(), self.nodes.last()) else { return Ok(false) };
        let Kernel::Conv2d(conv) = &before.kernel else { return Ok(false) };
        let map = &self.values[before.output];
        let always_direct = before.input == self.image || !winograd::is_possible(&conv.op);
        Ok(always_direct
            && self.value_of(source)? == before.output
            && before.output + 1 == self.values.len()
            && self.fused.is_read_once(source)
            && matches!(told.work, Work::Layers(_))
            && before.epilogue.residual.is_none()
            && epilogue.is_empty()
            && ConvMaxPool::suits(conv, map.shape, map.lanes, pool))
    }

    /// Puts a max pooling into the last node, which it [joins](Self::joins_last).
    fn join_max_pool(
        &mut self,
        name: &str,
        step: &Step,
        pool: Pool2d,
        shape: Shape,
        halo: Padding,
        flop: u64,
    ) -> Result<ValueId> {
        let last = (self.kernels.pop(), self.nodes.pop(), self.values.pop());
        let (
            Some(CpuNode { kernel: Kernel::Conv2d(conv), input, epilogue, .. }),
            Some(Node { work: Work::Layers(mut layers), flop: flop_before, .. }),
            Some(map),
        ) = last
        else {
            let expected = "a convolution before the max pooling that it joins";
            return Err(Error::new(ErrorKind::Internal, "plan", expected, "another node"));
        };
        layers.extend(&step.layers);
        let output = self.value(name, 2, shape, halo)?;
        let kernel = ConvMaxPool { conv: *conv, map: map.shape, lanes: map.lanes, pool };
        let kernel = Kernel::ConvMaxPool(Box::new(kernel));
        self.push(
            name,
            Work::Layers(layers),
            kernel,
            input,
            output,
            epilogue,
            flop_before.saturating_add(flop),
        );
        Ok(output)
    }

    /// A convolution, linear layer or the like with weights of its own for each branch.
    #[expect(clippy::too_many_arguments, reason = "what a layer pair consists of")]
    fn conv(
        &mut self,
        name: &str,
        work: Work,
        conv: Conv2d,
        source: Source,
        shape: Shape,
        halo: Padding,
        epilogue: Epilogue,
        flop: u64,
        weights: [Weights; 2],
    ) -> Result<ValueId> {
        let input = self.planar_or_blocked(source)?;
        let input_channels = self.values[input].shape.channels;
        let output = self.value(name, 2, shape, halo)?;
        let spec = ConvSpec { conv, input_channels, reads: vec![0, 1] };
        let kernel = match self.winograd_tile(&conv, source, self.values[input].shape, shape) {
            Some(tile) => {
                let (input, output) = (&self.values[input], &self.values[output]);
                let mut kernel = winograd::cut(tile, self.batch, &spec, input, output);
                let (channels, groups, owned) = (kernel.channels, kernel.groups.clone(), output.clone());
                kernel.branches = pack::both(name, output.lanes, weights, move |name, branch| {
                    winograd::pack(name, tile, channels, &groups, &owned, branch)
                })?;
                Kernel::Winograd(Box::new(kernel))
            }
            None => {
                let mut kernel = self.cut(&spec, input, output, epilogue.residual);
                let (input, output) = (&self.values[input], &self.values[output]);
                let narrow = conv::keeps_narrow(output.shape);
                let (lanes, groups, owned) = (input.lanes, kernel.groups.clone(), output.clone());
                kernel.branches = pack::both(name, output.lanes, weights, move |name, branch| {
                    pack::branch(name, &spec, &groups, lanes, &owned, narrow, branch)
                })?;
                Kernel::Conv2d(Box::new(kernel))
            }
        };
        self.push(name, work, kernel, input, output, epilogue, flop);
        Ok(output)
    }

    /// A 1x1 convolution of one or both branches that reads both branches of `input`, or a map of its own;
    /// `weight(branch, output channel, input channel)`, both padded.
    #[expect(clippy::too_many_arguments, reason = "what a matrix consists of")]
    fn matrix(
        &mut self,
        name: &str,
        work: Work,
        input: ValueId,
        shape: Shape,
        branches: usize,
        halo: Padding,
        activation: Activation,
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: &[f32],
    ) -> Result<ValueId> {
        let reads_both = self.values[input].branches == 2;
        let input_channels =
            self.values[input].blocks() * self.values[input].lanes * if reads_both { 2 } else { 1 };
        let spec = ConvSpec { conv: ONE_BY_ONE, input_channels, reads: vec![0; branches] };
        let output = self.value(name, branches, shape, halo)?;
        let mut kernel = self.cut(&spec, input, output, None);
        let (input_lanes, lanes) = (self.values[input].lanes, self.isa.lanes());
        for branch in 0..branches {
            let at = |o, i, _, _| weight(branch, o, i);
            let weights = pack::conv(name, &kernel.groups, [1, 1], input_lanes, lanes, |_| at);
            let weights = StoredWeights::F32(weights?);
            let bias = pack::per_channel(name, bias, shape.channels.next_multiple_of(lanes))?;
            kernel.branches.push(ConvWeights { weights, bias });
        }
        let flop = 2 * (branches * shape.len() * input_channels) as u64;
        let epilogue = Epilogue { activation, ..Epilogue::default() };
        self.push(name, work, Kernel::Conv2d(Box::new(kernel)), input, output, epilogue, flop);
        Ok(output)
    }

    /// A dense or gate unit behind `input`, which is u of both branches.
    fn unit(
        &mut self,
        name: &str,
        layer: usize,
        unit: &AwsUnit,
        input: ValueId,
        shape: Shape,
        halo: Padding,
    ) -> Result<ValueId> {
        let c = shape.channels;
        let padded = c.next_multiple_of(self.isa.lanes());
        // Both branches' blocks lie one behind the other, so that input channel i of branch s is s*padded + i.
        let split = |i: usize| (i / padded, i % padded);
        match unit {
            AwsUnit::Dense(a) => {
                let weight = |to: usize, o: usize, i: usize| {
                    let (from, i) = split(i);
                    if o < c && i < c { a[((to * 2 + from) * c + o) * c + i] } else { 0.0 }
                };
                self.matrix(name, Work::AwsUnit(layer), input, shape, 2, halo, Activation::None, weight, &[])
            }
            AwsUnit::Gate { gate, squeeze_weight, squeeze_bias, excite_weight, excite_bias } => {
                let part = || Work::GatePart(layer);
                let r = squeeze_bias.len();
                let means =
                    self.value(&format!("{name} means"), 2, Shape::new(c, 1, 1), Padding::default())?;
                let flop = 2 * shape.len() as u64;
                let value_name = format!("{name} means");
                self.push(
                    &value_name,
                    part(),
                    Kernel::GlobalAvgPool2d,
                    input,
                    means,
                    Epilogue::default(),
                    flop,
                );
                let squeeze = |_, o: usize, i: usize| {
                    let (from, i) = split(i);
                    if o < r && i < c { squeeze_weight[o * 2 * c + from * c + i] } else { 0.0 }
                };
                let (value_name, hidden) = (format!("{name} squeeze"), Shape::new(r, 1, 1));
                let none = Padding::default();
                let hidden = self.matrix(
                    &value_name,
                    part(),
                    means,
                    hidden,
                    1,
                    none,
                    Activation::Relu,
                    squeeze,
                    squeeze_bias,
                )?;
                // The logits' channels are [to][from][padded channel], so that a block of them meets one of the map.
                let excite = |_, o: usize, i: usize| {
                    let (pair, o) = split(o);
                    if o < c && i < r { excite_weight[(pair * c + o) * r + i] } else { 0.0 }
                };
                let mut bias = vec![0.0; 4 * padded];
                for (pair, row) in excite_bias.chunks_exact(c).enumerate() {
                    bias[pair * padded..][..c].copy_from_slice(row);
                }
                let (value_name, logits) = (format!("{name} excite"), Shape::new(4 * padded, 1, 1));
                let logits = self.matrix(
                    &value_name,
                    part(),
                    hidden,
                    logits,
                    1,
                    none,
                    Activation::None,
                    excite,
                    &bias,
                )?;
                let output = self.value(name, 2, shape, halo)?;
                let kernel = Kernel::AwsGate { gate: *gate, logits };
                let flop = 8 * shape.len() as u64;
                self.push(name, Work::AwsUnit(layer), kernel, input, output, Epilogue::default(), flop);
                Ok(output)
            }
            // Fused into the operator before them.
            AwsUnit::Layer(_) | AwsUnit::Channel(_) => Ok(input),
        }
    }

    /// The logits of a branch.
    fn head(&mut self, model: &Model, branch: Branch) -> Result<ValueId> {
        let head = model.head(branch);
        let input = self.planar_or_blocked(self.fused.resolve(head.input()))?;
        let conv = whole_map(head.input_shape);
        let shape = Shape::new(head.labels.len(), 1, 1);
        let spec = ConvSpec { conv, input_channels: head.input_shape.channels, reads: vec![branch as usize] };
        let name = format!("{} head", branch.name());
        let output = self.value(&name, 1, shape, Padding::default())?;
        let mut kernel = self.cut(&spec, input, output, None);
        let ([kh, kw], c) = (conv.kernel, head.input_shape.channels);
        let w = head.weights.folded();
        let (input_lanes, lanes) = (self.values[input].lanes, self.isa.lanes());
        let at = |o: usize, i: usize, ky: usize, kx: usize| {
            if o < shape.channels && i < c { w[((o * c + i) * kh + ky) * kw + kx] } else { 0.0 }
        };
        let weights = pack::conv(&name, &kernel.groups, conv.kernel, input_lanes, lanes, |_| at);
        let weights = StoredWeights::F32(weights?);
        let bias = pack::per_channel(&name, head.weights.bias(), shape.channels.next_multiple_of(lanes))?;
        kernel.branches.push(ConvWeights { weights, bias });
        let flop = 2 * w.len() as u64;
        let kernel = Kernel::Conv2d(Box::new(kernel));
        let work = Work::Heads { branches: vec![branch], pooled: None };
        self.push(&name, work, kernel, input, output, Epilogue::default(), flop);
        Ok(output)
    }

    /// A convolution between values of the plan, cut.
    fn cut(&self, spec: &ConvSpec, input: ValueId, output: ValueId, residual: Option<ValueId>) -> ConvKernel {
        let value = |id: ValueId| &self.values[id];
        conv::cut(self.isa, self.batch, spec, value(input), value(output), residual.map(value))
    }

    /// The tile of Winograd's algorithm for a convolution, where it computes it; it reads blocks of channels.
    fn winograd_tile(
        &self,
        conv: &Conv2d,
        source: Source,
        input: Shape,
        output: Shape,
    ) -> Option<WinogradTile> {
        match source {
            Source::Image => None,
            Source::Layer(_) => winograd::choose(self.algorithm, self.isa, self.batch, conv, input, output),
        }
    }

    fn depthwise(&self, name: &str, conv: &Conv2d, weights: [Weights; 2]) -> Result<DepthwiseKernel> {
        let lanes = self.isa.lanes();
        let taps = conv.kernel[0] * conv.kernel[1];
        let branches = pack::both(name, lanes, weights, move |name, branch| {
            pack::depthwise(name, &branch.folded(), taps, lanes)
        })?;
        Ok(DepthwiseKernel {
            kernel: conv.kernel,
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [conv.padding.top, conv.padding.left],
            branches,
        })
    }
}
