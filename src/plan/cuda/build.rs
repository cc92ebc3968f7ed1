//! From the steps of a model to launches on a GPU.
//!
//! As on the CPU, the model is taken apart on the way: a layer's weights are freed as soon as they are packed.

use super::pack::{self, Oihw};
use super::select::{self, DirectChoice, GemmChoice, Problem, Tile, TiledOp};
use super::variants::{self, Element, VECTOR, pitch};
use super::{
    Algorithm, Constant, CudaEpilogue, CudaNode, CudaPlan, CudaValue, IMAGE, Mix, Operation, Projection,
    Tuning, direct_reduction, gemm_reduction,
};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::model::{AwsUnit, Model, Source, Weights};
use crate::op::{Activation, Conv2d, Op, Pool2d};
use crate::plan::arena::{self, Lifetime};
use crate::plan::conv::{ONE_BY_ONE, whole_map};
use crate::plan::fuse::{Fused, Step, fuse};
use crate::plan::node::{Node, Work, fused_words};
use crate::plan::target::{Gpu, Precision};
use crate::plan::value::ValueId;
use crate::tensor::{Branch, Shape};

/// The most images of a batch: what a grid's second dimension counts.
const MAX_BATCH: usize = 65_535;

/// Vectors of a map in one launch, and its positions: counted in 32 bits.
const MOST_VECTORS: usize = i32::MAX as usize;

/// Constants begin at multiples of this many bytes.
const CONSTANT_ALIGNMENT: usize = 256;

struct Builder<'a> {
    gpu: Gpu,
    tuning: &'a Tuning,
    element: Element,
    batch: usize,
    sizes: Vec<usize>,
    fused: &'a Fused,
    constants: Vec<u8>,
    values: Vec<CudaValue>,
    nodes: Vec<CudaNode>,
    /// What the nodes say of themselves.
    told: Vec<Node>,
    image_map: Option<ValueId>,
    of_layer: Vec<Option<ValueId>>,
}

/// The batch sizes to choose for: powers of two below the batch, and the batch.
fn sizes(batch: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |&size: &usize| size.checked_mul(2));
    powers.take_while(|&size| size < batch).chain([batch]).collect()
}

/// Builds the launches of `model`; with `keep_values`, no two values share memory.
pub(crate) fn build(
    mut model: Model,
    gpu: Gpu,
    precision: Precision,
    batch: usize,
    keep_values: bool,
    tuning: &Tuning,
) -> Result<(Vec<Node>, CudaPlan)> {
    if batch > MAX_BATCH {
        let expected = format!("from 1 to {MAX_BATCH} images on a GPU");
        return Err(Error::new(ErrorKind::Plan, "batch", expected, batch.to_string()));
    }
    if gpu.capability < 80 {
        let expected = "a GPU of compute capability 8.0 or newer";
        let found = format!("{}.{}", gpu.capability / 10, gpu.capability % 10);
        return Err(Error::new(ErrorKind::Device, "cuda", expected, found));
    }
    let element = match precision {
        Precision::F32 => Element::F32,
        Precision::F16 => Element::F16,
        Precision::BF16 => Element::Bf16,
    };
    let input = model.input().clone();
    let labels = Branch::BOTH.map(|branch| model.head(branch).labels().len());
    let fused = fuse(&model);
    let image =
        CudaValue { name: "image".into(), branches: 1, shape: input.shape, image_bytes: 0, offset: 0 };
    let mut builder = Builder {
        gpu,
        tuning,
        element,
        batch,
        sizes: sizes(batch),
        fused: &fused,
        constants: Vec::new(),
        values: vec![image],
        nodes: Vec::new(),
        told: Vec::new(),
        image_map: None,
        of_layer: vec![None; model.layers.len()],
    };
    let pooled = pooled_by_heads(&model, &fused);
    let projected: Vec<Option<&Step>> =
        fused.steps.iter().map(|step| projection_beside(&model, &fused, step)).collect();
    for (step, projection) in fused.steps.iter().zip(&projected) {
        let elsewhere = projected.iter().flatten().any(|other| other.last() == step.last());
        if pooled != Some(step.last()) && !elsewhere {
            builder.step(&mut model, step, *projection)?;
        }
    }
    builder.heads(&model, pooled)?;

    let Builder { constants, mut values, nodes, told, sizes, .. } = builder;
    let arena_bytes = place(&nodes, &mut values, batch, keep_values)?;
    let mut plan = CudaPlan {
        gpu,
        element,
        batch,
        sizes,
        input,
        nodes,
        values,
        constants,
        arena_bytes,
        workspace_bytes: 0,
        tickets: 0,
        labels,
    };
    plan.make_room();
    Ok((told, plan))
}

/// The global average pooling that both heads and nothing else read: the head's kernel computes it on the way.
fn pooled_by_heads(model: &Model, fused: &Fused) -> Option<usize> {
    let [emotion, au] = Branch::BOTH.map(|branch| fused.resolve(model.head(branch).input()));
    let Source::Layer(layer) = emotion else { return None };
    let step = fused.steps.iter().find(|step| step.last() == layer)?;
    let plain = step.layers.len() == 1
        && model.layers[layer].op == Op::GlobalAvgPool2d
        && step.residual.is_none()
        && step.activation == Activation::None
        && step.aws.is_none()
        && step.input != Source::Image;
    (plain && au == emotion && readers(model, fused, layer) == 2).then_some(layer)
}

/// Sizes of a window are counted in 32 bits, and so are the positions that it reaches, borders included.
fn check_window(name: &str, op: &Op, input: Shape) -> Result<()> {
    const MOST: usize = 1 << 30;
    let (kernel, stride, padding, dilation) = match op {
        Op::Conv2d(conv) => (conv.kernel, conv.stride, conv.padding, conv.dilation),
        Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => (pool.kernel, pool.stride, pool.padding, [1, 1]),
        Op::GlobalAvgPool2d | Op::Linear | Op::Identity => return Ok(()),
    };
    let reach = |size: usize, before: usize, after: usize, axis: usize| {
        let window = dilation[axis].checked_mul(kernel[axis])?;
        let all = size.checked_add(before)?.checked_add(after)?.checked_add(window)?;
        (all.max(stride[axis]) < MOST).then_some(())
    };
    let rows = reach(input.height, padding.top, padding.bottom, 0);
    let columns = reach(input.width, padding.left, padding.right, 1);
    if rows.is_none() || columns.is_none() {
        let place = format!("layer {}", quoted(name));
        let expected = format!("a window and a padded map below {MOST} pixels on a GPU");
        return Err(Error::new(ErrorKind::Plan, place, expected, format!("{op:?} over {input}")));
    }
    Ok(())
}

/// How many steps and heads read a layer.
fn readers(model: &Model, fused: &Fused, layer: usize) -> usize {
    let heads = Branch::BOTH.map(|branch| fused.resolve(model.head(branch).input()));
    let residuals = fused.steps.iter().filter_map(|step| step.residual);
    let reads = fused.steps.iter().map(|step| step.input).chain(residuals).chain(heads);
    reads.filter(|&source| source == Source::Layer(layer)).count()
}

/// The step whose result `step`, a convolution, adds and nobody else reads, where that is a 1x1 convolution: both are
/// one sum, which one launch computes.
fn projection_beside<'a>(model: &Model, fused: &'a Fused, step: &Step) -> Option<&'a Step> {
    let Some(Source::Layer(layer)) = step.residual else { return None };
    let projection = fused.steps.iter().find(|other| other.last() == layer)?;
    let plain =
        |step: &Step| step.residual.is_none() && step.activation == Activation::None && step.aws.is_none();
    let one_by_one = match model.layers[layer].op {
        Op::Conv2d(conv) => conv.kernel == [1, 1] && conv.groups == 1 && conv.padding == ONE_BY_ONE.padding,
        _ => false,
    };
    let beside = matches!(model.layers[step.layers[0]].op, Op::Conv2d(conv) if conv.groups == 1);
    let mapped = step.input != Source::Image && projection.input != Source::Image;
    let foldable = projection.layers.len() == 1 && plain(projection) && one_by_one && beside && mapped;
    (foldable && readers(model, fused, layer) == 1).then_some(projection)
}

/// A projection on its way into the convolution beside it.
struct Beside {
    layer: usize,
    name: String,
    stride: [usize; 2],
    channels: usize,
    input: ValueId,
    weights: [Weights; 2],
}

/// Gives every value its place in the arena, whose bytes it returns.
fn place(nodes: &[CudaNode], values: &mut [CudaValue], batch: usize, keep_values: bool) -> Result<usize> {
    let too_large = || {
        let found = format!("more, for {batch} images");
        Error::new(ErrorKind::Plan, "arena", "feature maps that fit the address space together", found)
    };
    let mut lifetimes = Vec::with_capacity(values.len());
    for value in values.iter() {
        let bytes = value.image_bytes.checked_mul(value.branches * batch).ok_or_else(too_large)?;
        lifetimes.push(Lifetime { len: bytes.div_ceil(size_of::<f32>()), first: 0, last: 0 });
    }
    for (index, node) in nodes.iter().enumerate() {
        if let Some(output) = node.output {
            (lifetimes[output].first, lifetimes[output].last) = (index, index);
        }
        let (mut third, mut projected) = (None, None);
        match &node.operation {
            Operation::AwsUnitGateMix { coefficients } => third = Some(*coefficients),
            Operation::Conv2d { projection: Some(projection), .. } => projected = Some(projection.input),
            _ => {}
        }
        for read in [Some(node.input), node.epilogue.residual, third, projected].into_iter().flatten() {
            lifetimes[read].last = index;
        }
    }
    if keep_values {
        for lifetime in &mut lifetimes {
            (lifetime.first, lifetime.last) = (0, nodes.len());
        }
    }
    let (offsets, len) = arena::place(&lifetimes).ok_or_else(too_large)?;
    for (value, offset) in values.iter_mut().zip(offsets) {
        value.offset = offset * size_of::<f32>();
    }
    Ok(len * size_of::<f32>())
}

impl Builder<'_> {
    fn constant(&mut self, element: Element, values: &[f32]) -> Result<Constant> {
        let begin = self.constants.len().next_multiple_of(CONSTANT_ALIGNMENT);
        let bytes = pack::encode(element, values);
        let more = begin - self.constants.len() + bytes.len();
        self.constants.try_reserve(more).map_err(|_| {
            Error::new(ErrorKind::Memory, "packed weights", format!("{more} bytes of memory"), "not enough")
        })?;
        self.constants.resize(begin, 0);
        self.constants.extend_from_slice(&bytes);
        Ok(begin)
    }

    /// Weights in the plan's element type.
    fn weights(&mut self, name: &str, values: &[f32]) -> Result<Constant> {
        self.check_weights(name, values)?;
        self.constant(self.element, values)
    }

    /// No weight of a layer may overflow the plan's element type.
    fn check_weights(&self, name: &str, values: &[f32]) -> Result<()> {
        let overflow = |v: f32| match self.element {
            Element::F16 => half::f16::from_f32(v).is_infinite(),
            Element::Bf16 => half::bf16::from_f32(v).is_infinite(),
            Element::F32 => false,
        };
        if let Some(value) = values.iter().find(|&&v| overflow(v)) {
            let expected = match self.element {
                Element::F16 => {
                    "weights that f16 holds, below 65520, batch norm folded in (bf16 holds them: --precision bf16)"
                }
                _ => "weights that bf16 holds, batch norm folded in (--precision f32)",
            };
            let place = format!("layer {}", quoted(name));
            return Err(Error::new(ErrorKind::Plan, place, expected, value.to_string()));
        }
        Ok(())
    }

    /// A new value with `len` elements of `element` an image and branch.
    fn value(
        &mut self,
        name: &str,
        branches: usize,
        shape: Shape,
        element: Element,
        len: usize,
    ) -> Result<ValueId> {
        let vectors = shape.channels.div_ceil(VECTOR);
        let fits = |count: usize| {
            let positions = shape.height.checked_mul(shape.width)?.checked_mul(count)?;
            positions.checked_mul(vectors).filter(|&vectors| vectors < MOST_VECTORS)
        };
        if fits(self.batch).is_none() || len > isize::MAX as usize / 4 / self.batch {
            let place = format!("value {}", quoted(name));
            let expected = format!("a feature map of fewer than {MOST_VECTORS} vectors of {VECTOR} channels");
            let found = format!("{shape} for {} images", self.batch);
            return Err(Error::new(ErrorKind::Plan, place, expected, found));
        }
        let image_bytes = len * element.bytes();
        self.values.push(CudaValue { name: name.to_owned(), branches, shape, image_bytes, offset: 0 });
        Ok(self.values.len() - 1)
    }

    /// A new pair of maps.
    fn map(&mut self, name: &str, branches: usize, shape: Shape) -> Result<ValueId> {
        let len = shape.height.saturating_mul(shape.width).saturating_mul(pitch(shape.channels));
        self.value(name, branches, shape, self.element, len)
    }

    fn value_of(&self, layer: usize) -> Result<ValueId> {
        self.of_layer[layer].ok_or_else(|| {
            let found = format!("layer {layer} read before it is computed");
            Error::new(ErrorKind::Internal, "plan", "steps in the order of what they read", found)
        })
    }

    /// The value of a source as a map.
    fn mapped(&mut self, source: Source) -> Result<ValueId> {
        if let Source::Layer(layer) = source {
            return self.value_of(layer);
        }
        if let Some(map) = self.image_map {
            return Ok(map);
        }
        let shape = self.values[IMAGE].shape;
        let output = self.map("image", 1, shape)?;
        let plain = CudaEpilogue::default();
        self.push("image", Work::ImageLayout, Operation::ImageToNhwc, IMAGE, Some(output), plain, 0, 0);
        self.image_map = Some(output);
        Ok(output)
    }

    #[expect(clippy::too_many_arguments, reason = "one call a field of the node")]
    fn push(
        &mut self,
        name: &str,
        work: Work,
        operation: Operation,
        input: ValueId,
        output: Option<ValueId>,
        epilogue: CudaEpilogue,
        flop: u64,
        weight_bytes: u64,
    ) {
        let map_bytes = |id: ValueId| {
            let value = &self.values[id];
            let image = (value.shape.len() * size_of::<f32>()) as u64; // where it is the caller's own
            if id == IMAGE { image } else { (value.image_bytes * value.branches) as u64 }
        };
        let projected = match &operation {
            Operation::Conv2d { projection: Some(projection), .. } => Some(projection.input),
            _ => None,
        };
        let residual = epilogue.residual.or(projected);
        let added: Vec<String> = residual
            .iter()
            .map(|&id| {
                format!("{}{}", if projected.is_some() { "1x1 of " } else { "" }, self.values[id].name)
            })
            .collect();
        let added: Vec<&str> = added.iter().map(String::as_str).collect();
        let maps = [Some(input), output, residual];
        let bytes = maps.into_iter().flatten().map(map_bytes).fold(weight_bytes, u64::saturating_add);
        self.told.push(Node {
            name: name.to_owned(),
            work,
            kernel: operation.kernel().to_owned(),
            tile: operation.tile(),
            tuned: operation.is_tuned(),
            fused: fused_words(&added, epilogue.activation, epilogue.mix != Mix::None, None),
            input,
            residual,
            output: output.unwrap_or(input),
            flop,
            bytes,
            weight_bytes,
        });
        self.nodes.push(CudaNode { operation, input, output, epilogue });
    }

    fn step(&mut self, model: &mut Model, step: &Step, projection: Option<&Step>) -> Result<()> {
        let (first, last) = (step.layers[0], step.last());
        let name = model.layers[last].name.clone();
        let shape = model.layers[last].output_shape;
        let constants_before = self.constants.len();
        let unit = step.aws.and_then(|layer| model.layers[layer].aws.take());
        let mix = match &unit {
            Some(AwsUnit::Layer(a)) => Mix::Layer(self.constant(Element::F32, a)?),
            Some(AwsUnit::Channel(a)) => {
                Mix::Channel(self.constant(Element::F32, &pack::mix_channel(shape.channels, a))?)
            }
            _ => Mix::None,
        };
        let unit_apart = unit.filter(|_| mix == Mix::None);
        let beside = match projection {
            Some(projection) => self.beside(model, projection)?,
            None => None,
        };
        let residual = match beside {
            Some(_) => None,
            None => step.residual.map(|source| self.mapped(source)).transpose()?,
        };
        let mut epilogue = CudaEpilogue { bias: [None; 2], residual, activation: step.activation, mix };

        let layer = &mut model.layers[first];
        let (op, input_shape) = (layer.op, layer.input_shape);
        let weights = layer.weights.take();
        let mix_flop = if mix == Mix::None { 0 } else { 8 * shape.len() as u64 };
        let flop = op.flop(input_shape, layer.output_shape).saturating_mul(2).saturating_add(mix_flop);
        let beside_flop = beside.as_ref().map_or(0, |beside| 4 * (beside.channels * shape.len()) as u64);
        let flop = flop.saturating_add(beside_flop);
        let work = match &beside {
            Some(beside) => Work::Projected { layers: step.layers.clone(), projection: beside.layer },
            None => Work::Layers(step.layers.clone()),
        };
        check_window(&name, &op, input_shape)?;
        let (operation, input) = match (op, weights) {
            (Op::Conv2d(conv), Some(weights)) => {
                self.conv(&name, conv, step.input, input_shape, shape, weights, beside, &mut epilogue)?
            }
            (Op::Linear, Some(weights)) => {
                let conv = whole_map(input_shape);
                self.conv(&name, conv, step.input, input_shape, shape, weights, None, &mut epilogue)?
            }
            (op, _) => {
                let operation = match op {
                    Op::MaxPool2d(pool) => Operation::MaxPool2d(pool),
                    Op::AvgPool2d(pool) => Operation::AvgPool2d(pool),
                    Op::GlobalAvgPool2d => Operation::AvgPool2d(Pool2d {
                        kernel: [input_shape.height, input_shape.width],
                        stride: [1, 1],
                        padding: ONE_BY_ONE.padding,
                    }),
                    _ => Operation::Identity,
                };
                (operation, self.mapped(step.input)?)
            }
        };
        let output = self.map(&name, 2, shape)?;
        let weight_bytes = (self.constants.len() - constants_before) as u64;
        self.push(&name, work, operation, input, Some(output), epilogue, flop, weight_bytes);
        let output = match unit_apart {
            Some(unit) => self.unit(&name, last, &unit, output, shape)?,
            None => output,
        };
        self.of_layer[last] = Some(output);
        Ok(())
    }

    /// Takes a projection's weights; what it reads is there, since layers read earlier ones only.
    fn beside(&mut self, model: &mut Model, step: &Step) -> Result<Option<Beside>> {
        let input = self.mapped(step.input)?;
        let layer = &mut model.layers[step.last()];
        let (Op::Conv2d(conv), Some(weights)) = (layer.op, layer.weights.take()) else { return Ok(None) };
        Ok(Some(Beside {
            layer: step.last(),
            name: layer.name.clone(),
            stride: conv.stride,
            channels: layer.input_shape.channels,
            input,
            weights,
        }))
    }

    /// A convolution or a linear layer: its algorithm, packed weights and what it reads; bias into the epilogue.
    #[expect(clippy::too_many_arguments, reason = "what a layer pair consists of")]
    fn conv(
        &mut self,
        name: &str,
        conv: Conv2d,
        source: Source,
        input: Shape,
        output: Shape,
        weights: [Weights; 2],
        beside: Option<Beside>,
        epilogue: &mut CudaEpilogue,
    ) -> Result<(Operation, ValueId)> {
        let depthwise = conv.groups > 1 && conv.groups == input.channels && conv.groups == output.channels;
        let stem_bytes = variants::stem_shared_bytes(conv.kernel, conv.stride, conv.dilation, input.channels);
        let tensor = self.element != Element::F32;
        let stem =
            source == Source::Image && tensor && conv.groups == 1 && stem_bytes <= self.gpu.shared_bytes;
        let projected = beside.as_ref().map(|beside| beside.channels);
        let gemm = if tensor && conv.groups == 1 && !stem {
            self.gemm(TiledOp::ImplicitGemm, output, gemm_reduction(&conv, input, projected))?
        } else {
            None
        };
        let algorithm = match gemm {
            _ if stem => Algorithm::Stem,
            _ if depthwise => Algorithm::Depthwise,
            Some(choices) => Algorithm::ImplicitGemm(choices),
            None => Algorithm::Direct(self.direct(output, direct_reduction(&conv, input, projected))?),
        };
        let oihw = Oihw { out: output.channels, input: input.channels / conv.groups, kernel: conv.kernel };
        let mut packed = [0; 2];
        for (branch, weights) in weights.into_iter().enumerate() {
            let folded = weights.folded();
            let mut bias = weights.bias().to_vec();
            let values = match (&algorithm, &beside) {
                (Algorithm::Stem, _) => pack::stem(oihw, &folded),
                (Algorithm::ImplicitGemm(_), None) => pack::implicit_gemm(oihw, &folded),
                (_, None) => pack::direct(oihw, &folded),
                (algorithm, Some(beside)) => {
                    let projection = beside.weights[branch].folded();
                    self.check_weights(&beside.name, &projection)?;
                    bias.iter_mut().zip(beside.weights[branch].bias()).for_each(|(b, more)| *b += more);
                    let pack = match algorithm {
                        Algorithm::ImplicitGemm(_) => pack::implicit_gemm_projected,
                        _ => pack::direct_projected,
                    };
                    pack(oihw, &folded, beside.channels, &projection)
                }
            };
            packed[branch] = self.weights(name, &values)?;
            epilogue.bias[branch] = Some(self.constant(Element::F32, &pack::per_channel(&bias))?);
        }
        let projection = beside.map(|beside| Projection { input: beside.input, stride: beside.stride });
        let input = if stem { IMAGE } else { self.mapped(source)? };
        Ok((Operation::Conv2d { algorithm, conv, weights: packed, projection }, input))
    }

    /// A tile for each size, where the GPU has room for one.
    fn tiles(&self, op: TiledOp, output: Shape, reduction: usize) -> Result<Option<Vec<Tile>>> {
        let choose = |&images: &usize| {
            let (positions, channels) = (images * output.pixels(), output.channels);
            let problem = Problem { op, element: self.element, positions, channels, reduction };
            select::choose(&problem, &self.gpu, self.tuning).transpose()
        };
        self.sizes.iter().map(choose).collect::<Option<Result<_>>>().transpose()
    }

    fn gemm(&self, op: TiledOp, output: Shape, reduction: usize) -> Result<Option<Vec<GemmChoice>>> {
        let gemm = |tile: &Tile| match tile {
            Tile::Gemm(choice) => Some(*choice),
            Tile::Direct(_) => None,
        };
        Ok(self.tiles(op, output, reduction)?.and_then(|tiles| tiles.iter().map(gemm).collect()))
    }

    fn direct(&self, output: Shape, reduction: usize) -> Result<Vec<DirectChoice>> {
        let direct = |tile: Tile| match tile {
            Tile::Direct(choice) => Some(choice),
            Tile::Gemm(_) => None,
        };
        let tiles = self.tiles(TiledOp::Direct, output, reduction)?.unwrap_or_default();
        Ok(tiles.into_iter().filter_map(direct).collect())
    }

    /// A dense or gate unit behind `input`, which is u of both branches.
    fn unit(
        &mut self,
        name: &str,
        layer: usize,
        unit: &AwsUnit,
        input: ValueId,
        shape: Shape,
    ) -> Result<ValueId> {
        let c = shape.channels;
        let before = self.constants.len();
        let flop_a_mix = 8 * shape.len() as u64;
        match unit {
            AwsUnit::Dense(a) => {
                let choices = match self.element {
                    Element::F32 => None,
                    _ => self.gemm(TiledOp::AwsUnitDense, shape, 2 * pitch(c))?,
                };
                if choices.is_none() && self.element != Element::F32 {
                    let expected = "a GPU with shared memory for a dense AWS-Unit's tile";
                    let found = format!("{} bytes a block", self.gpu.shared_bytes);
                    return Err(Error::new(ErrorKind::Device, "cuda", expected, found));
                }
                let mut weights = [0; 2];
                for (to, constant) in weights.iter_mut().enumerate() {
                    *constant = self.weights(name, &pack::aws_unit_dense(self.element, c, to, a))?;
                }
                let output = self.map(name, 2, shape)?;
                let bytes = (self.constants.len() - before) as u64;
                let operation = Operation::AwsUnitDense { weights, choices };
                let (work, plain) = (Work::AwsUnit(layer), CudaEpilogue::default());
                let flop = flop_a_mix.saturating_mul(c as u64);
                self.push(name, work, operation, input, Some(output), plain, flop, bytes);
                Ok(output)
            }
            AwsUnit::Gate { gate, squeeze_weight, squeeze_bias, excite_weight, excite_bias } => {
                let part = || Work::GatePart(layer);
                let f32s = Element::F32;
                let one = Shape::new(c, 1, 1);
                let means_name = format!("{name} means");
                let means = self.value(&means_name, 1, one, f32s, 2 * pitch(c))?;
                let (operation, flop) = (Operation::AwsUnitGateMeans, 2 * shape.len() as u64);
                let plain = CudaEpilogue::default();
                self.push(&means_name, part(), operation, input, Some(means), plain, flop, 0);

                let operation = Operation::AwsUnitGateCoefficients {
                    squeeze_weight: self.constant(f32s, &pack::squeeze(c, squeeze_weight))?,
                    squeeze_bias: self.constant(f32s, squeeze_bias)?,
                    excite_weight: self.constant(f32s, excite_weight)?,
                    excite_bias: self.constant(f32s, excite_bias)?,
                    squeezed: squeeze_bias.len(),
                    gate: *gate,
                };
                let bytes = (self.constants.len() - before) as u64;
                let flop = 2 * (squeeze_weight.len() + excite_weight.len()) as u64;
                let coefficients_name = format!("{name} coefficients");
                let coefficients = self.value(&coefficients_name, 1, one, f32s, 4 * pitch(c))?;
                let (output, plain) = (Some(coefficients), CudaEpilogue::default());
                self.push(&coefficients_name, part(), operation, means, output, plain, flop, bytes);

                let output = self.map(name, 2, shape)?;
                let (work, operation) = (Work::AwsUnit(layer), Operation::AwsUnitGateMix { coefficients });
                let plain = CudaEpilogue::default();
                self.push(name, work, operation, input, Some(output), plain, flop_a_mix, 0);
                Ok(output)
            }
            // Fused into the operator before them.
            AwsUnit::Layer(_) | AwsUnit::Channel(_) => Ok(input),
        }
    }

    /// The heads: in one launch where they read maps of one shape.
    fn heads(&mut self, model: &Model, pooled: Option<usize>) -> Result<()> {
        let mut inputs = [IMAGE; 2];
        for branch in Branch::BOTH {
            let source = match pooled {
                Some(layer) => self.fused.resolve(model.layers[layer].input),
                None => self.fused.resolve(model.head(branch).input()),
            };
            inputs[branch as usize] = self.mapped(source)?;
        }
        let groups = match inputs[0] == inputs[1] {
            true => vec![Branch::BOTH.to_vec()],
            false => Branch::BOTH.map(|branch| vec![branch]).to_vec(),
        };
        for branches in groups {
            let input = inputs[branches[0] as usize];
            let shape = self.values[input].shape;
            let positions = if pooled.is_some() { 1 } else { shape.pixels() };
            let before = self.constants.len();
            let (mut heads, mut flop) = ([None; 2], 0);
            for &branch in &branches {
                let weights = model.head(branch).weights();
                let labels = model.head(branch).labels().len();
                let bytes = variants::head_shared_bytes(shape.channels, pooled.is_some(), labels);
                if bytes > self.gpu.shared_bytes {
                    let place = format!("{} head", branch.name());
                    let expected =
                        format!("features and labels in {} bytes of shared memory", self.gpu.shared_bytes);
                    return Err(Error::new(ErrorKind::Plan, place, expected, format!("{bytes} bytes")));
                }
                let folded = weights.folded();
                flop += 2 * folded.len() as u64;
                let weight = self.constant(Element::F32, &pack::head(shape.channels, positions, &folded))?;
                let bias = self.constant(Element::F32, weights.bias())?;
                heads[branch as usize] = Some([weight, bias]);
            }
            let names: Vec<String> =
                branches.iter().map(|branch| format!("{} head", branch.name())).collect();
            let bytes = (self.constants.len() - before) as u64;
            let operation = Operation::Heads { heads, pooled: pooled.is_some() };
            let work = Work::Heads { branches, pooled };
            let plain = CudaEpilogue::default();
            self.push(&names.join(", "), work, operation, input, None, plain, flop, bytes);
        }
        Ok(())
    }
}
