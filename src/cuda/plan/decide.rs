//! The choices for a GPU: which kernel launches compute a step, with which tile, between which values.
//!
//! Every choice is a pure function of shapes, GPU and options, and is made here and nowhere else. No weight is touched:
//! what will be packed is [reserved](Reserved), so that its place is known.

mod heads;
mod patterns;
mod units;

use super::constants::{Constants, Content, Packing};
use super::pack::Oihw;
use super::select::{DirectChoice, GemmChoice, Problem, Tile, TiledOp};
use super::variants::{self, Element, VECTOR, pitch};
use super::{
    Algorithm, Constant, Copies, CudaEpilogue, CudaNode, CudaOptions, CudaValue, Excitation, IMAGE, Mix,
    Operation, Projection, Tuning, direct_reduction, gemm_reduction,
};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::graph::node::{Node, ValueId, Work, fused_words};
use crate::graph::target::{Gpu, Precision};
use crate::graph::{Graph, LayerValues, ONE_BY_ONE, Step, is_depthwise, whole_map};
use crate::model::{AwsUnit, Model, Source};
use crate::op::{Activation, Conv2d, Op, Pool2d};
use crate::tensor::Shape;
use patterns::{Place, places, pooled_by_heads, projection_beside, squeezed_before};

/// The most images of a batch: what a grid's second dimension counts.
const MAX_BATCH: usize = 65_535;

/// Vectors of a map in one launch, and its positions: counted in 32 bits.
const MOST_VECTORS: usize = i32::MAX as usize;

/// Launches and values, before they have a place and weights.
pub(super) struct Decisions {
    pub element: Element,
    /// The batch sizes that tiles are chosen for.
    pub sizes: Vec<usize>,
    pub nodes: Vec<CudaNode>,
    /// What each node says of itself.
    pub told: Vec<Node>,
    pub values: Vec<CudaValue>,
    pub constants: Constants,
}

/// The batch sizes to choose for: powers of two below the batch, and the batch.
fn sizes(batch: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |&size: &usize| size.checked_mul(2));
    powers.take_while(|&size| size < batch).chain([batch]).collect()
}

/// Decides on the launches of a model.
///
/// Errors: more images than a grid counts, a GPU that is too old, a map or window beyond 32 bits, a tuning's tile that the
/// GPU has no room for.
pub(super) fn decide(model: &Model, graph: &Graph, options: &CudaOptions<'_>) -> Result<Decisions> {
    let CudaOptions { gpu, precision, batch, tuning, .. } = *options;
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
    let (shape, pitch) = (model.input.shape, pitch(model.input.shape.channels));
    let image = CudaValue {
        name: "image".into(),
        branches: 1,
        shape,
        image_bytes: 0,
        pitch,
        within: None,
        offset: 0,
    };
    let decided = Decisions {
        element,
        sizes: sizes(batch),
        nodes: Vec::new(),
        told: Vec::new(),
        values: vec![image],
        constants: Constants::default(),
    };
    let pooled = pooled_by_heads(model, graph);
    let projected: Vec<Option<&Step>> =
        graph.steps.iter().map(|step| projection_beside(model, graph, step)).collect();
    let squeezed: Vec<Option<[&Step; 2]>> =
        graph.steps.iter().map(|step| squeezed_before(model, graph, &gpu, step)).collect();
    // Steps that another one's launch computes.
    let mut elsewhere: Vec<usize> = projected.iter().flatten().map(|step| step.last()).collect();
    elsewhere.extend(squeezed.iter().flatten().flatten().map(|step| step.last()));
    elsewhere.extend(pooled);
    let mut decider = Decider {
        model,
        graph,
        gpu,
        tuning,
        element,
        batch,
        branches: model.branches().len(),
        decided,
        image_map: None,
        layer_values: LayerValues::new(model),
        places: places(model, graph, &elsewhere, &squeezed),
        concatenated: vec![None; model.layers.len()],
    };
    for ((step, projection), squeezed) in graph.steps.iter().zip(&projected).zip(&squeezed) {
        if elsewhere.contains(&step.last()) {
            continue;
        }
        match (squeezed, model.layers[step.first()].op) {
            (Some(before), _) => decider.squeeze_excite(*before, step)?,
            (None, Op::Concat) => decider.concat(step)?,
            (None, _) => decider.step(step, *projection)?,
        }
    }
    decider.heads(pooled)?;
    Ok(decider.decided)
}

/// Sizes of a window are counted in 32 bits, and so are the positions that it reaches, borders included.
fn check_window(name: &str, op: &Op, input: Shape) -> Result<()> {
    const MOST: usize = 1 << 30;
    let (kernel, stride, padding, dilation) = match op {
        Op::Conv2d(conv) => (conv.kernel, conv.stride, conv.padding, conv.dilation),
        Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => (pool.kernel, pool.stride, pool.padding, [1, 1]),
        Op::GlobalAvgPool2d
        | Op::AdaptiveAvgPool2d(_)
        | Op::BatchNorm
        | Op::Concat
        | Op::Upsample2d(_)
        | Op::Linear
        | Op::Identity => return Ok(()),
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

/// A projection in the convolution beside it.
struct Beside {
    layer: usize,
    projection: Projection,
    channels: usize,
}

struct Decider<'a> {
    model: &'a Model,
    graph: &'a Graph,
    gpu: Gpu,
    tuning: &'a Tuning,
    element: Element,
    batch: usize,
    branches: usize,
    decided: Decisions,
    image_map: Option<ValueId>,
    layer_values: LayerValues,
    places: Vec<Option<Place>>,
    /// The values of concatenations, by layer, from their first part on.
    concatenated: Vec<Option<ValueId>>,
}

/// A launch to be, as far as it does not follow from its values.
struct Emit<'a> {
    name: &'a str,
    work: Work,
    epilogue: CudaEpilogue,
    flop: u64,
    /// Bytes of the constants before those of this launch.
    constants_before: usize,
    /// All that the operator reads, where this launch reads a part of it.
    inputs: Option<Vec<ValueId>>,
}

impl<'a> Decider<'a> {
    /// A place for `len` values of the plan's element type.
    fn weights(&mut self, content: Content, len: usize) -> Result<Constant> {
        self.decided.constants.reserve(content, self.element, len)
    }

    /// A place for `len` values that every plan keeps in f32.
    fn f32s(&mut self, content: Content, len: usize) -> Result<Constant> {
        self.decided.constants.reserve(content, Element::F32, len)
    }

    /// The packed weights of a layer's operator in each branch, with a projection (its layer and channels) beside it, and the
    /// biases.
    fn weights_and_bias(
        &mut self,
        layer: usize,
        packing: Packing,
        shape: Oihw,
        projection: Option<(usize, usize)>,
    ) -> Result<[[Constant; 2]; 2]> {
        let len = packing.len(shape, projection.map_or(0, |(_, channels)| channels));
        let (mut weights, mut biases) = ([0; 2], [0; 2]);
        let branches = weights.iter_mut().zip(&mut biases).take(self.branches).enumerate();
        for (branch, (weight, bias)) in branches {
            let content = Content::Operator { layer, branch, packing, shape, projection };
            *weight = self.weights(content, len)?;
            let content = Content::Bias { layer, branch, projection: projection.map(|(layer, _)| layer) };
            *bias = self.f32s(content, pitch(shape.out))?;
        }
        Ok([weights, biases])
    }

    /// A launch with nothing behind its operator; its constants are those from here on.
    fn plain<'n>(&self, name: &'n str, work: Work, flop: u64) -> Emit<'n> {
        let constants_before = self.decided.constants.bytes();
        Emit { name, work, epilogue: CudaEpilogue::default(), flop, constants_before, inputs: None }
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
        let (image_bytes, pitch) = (len * element.bytes(), pitch(shape.channels));
        let (name, within) = (name.to_owned(), None);
        let values = &mut self.decided.values;
        values.push(CudaValue { name, branches, shape, image_bytes, pitch, within, offset: 0 });
        Ok(values.len() - 1)
    }

    /// A new map of each branch for the result of a step, or its place in that of a concatenation.
    fn result(&mut self, step: &Step, shape: Shape) -> Result<ValueId> {
        let name = &self.model.layers[step.last()].name;
        let Some((concat, channel)) = self.places[step.last()] else {
            return self.map(name, self.branches, shape);
        };
        let whole = self.concatenation(concat)?;
        let CudaValue { branches, image_bytes, pitch, .. } = self.decided.values[whole];
        let (name, within) = (name.clone(), Some((whole, channel)));
        let values = &mut self.decided.values;
        values.push(CudaValue { name, branches, shape, image_bytes, pitch, within, offset: 0 });
        Ok(values.len() - 1)
    }

    /// The value of a concatenation, which its first part makes.
    fn concatenation(&mut self, layer: usize) -> Result<ValueId> {
        if let Some(value) = self.concatenated[layer] {
            return Ok(value);
        }
        let step = self.graph.steps.iter().find(|step| step.last() == layer);
        let step =
            step.ok_or_else(|| Error::new(ErrorKind::Internal, "plan", "a concatenation", "no step"))?;
        let value = self.result(step, self.model.layers[layer].output_shape)?;
        self.concatenated[layer] = Some(value);
        Ok(value)
    }

    /// A new map of so many branches.
    fn map(&mut self, name: &str, branches: usize, shape: Shape) -> Result<ValueId> {
        let len = shape.height.saturating_mul(shape.width).saturating_mul(pitch(shape.channels));
        self.value(name, branches, shape, self.element, len)
    }

    /// The value of a source as a map.
    fn mapped(&mut self, source: Source) -> Result<ValueId> {
        if let Source::Layer(layer) = source {
            return self.layer_values.of(layer);
        }
        if let Some(map) = self.image_map {
            return Ok(map);
        }
        let output = self.map("image", 1, self.model.input.shape)?;
        self.push(self.plain("image", Work::ImageLayout, 0), Operation::ImageToNhwc, IMAGE, Some(output));
        self.image_map = Some(output);
        Ok(output)
    }

    fn push(&mut self, emit: Emit, operation: Operation, input: ValueId, output: Option<ValueId>) {
        let Emit { name, work, epilogue, flop, constants_before, inputs: all_inputs } = emit;
        let values = &self.decided.values;
        let map_bytes = |id: ValueId| {
            let value = &values[id];
            let image = (value.shape.len() * size_of::<f32>()) as u64; // where it is the caller's own
            if id == IMAGE { image } else { (value.image_bytes * value.branches) as u64 }
        };
        let projected = operation.projection().map(|projection| projection.input);
        let residual = epilogue.residual.or(projected);
        let inputs = match operation.copied() {
            [] => vec![input],
            copied => copied.iter().map(|(value, _)| *value).collect(),
        };
        let added = residual
            .map(|id| format!("{}{}", if projected.is_some() { "1x1 of " } else { "" }, values[id].name));
        let scale = epilogue.scale.map(|id| values[id].name.clone());
        let added: Vec<&str> = added.iter().map(String::as_str).collect();
        let weight_bytes = (self.decided.constants.bytes() - constants_before) as u64;
        let maps = [output, epilogue.scale, residual].into_iter().flatten().chain(inputs.iter().copied());
        let bytes = maps.map(map_bytes).fold(weight_bytes, u64::saturating_add);
        self.decided.told.push(Node {
            name: name.to_owned(),
            work,
            kernel: operation.kernel().to_owned(),
            tile: operation.tile(),
            tuned: operation.is_tuned(),
            fused: fused_words(
                scale.as_deref(),
                &added,
                epilogue.activation,
                epilogue.mix != Mix::None,
                None,
            ),
            winograd: None,
            inputs: all_inputs.unwrap_or(inputs),
            scale: epilogue.scale,
            residual,
            output: output.unwrap_or(input),
            flop,
            bytes,
            weight_bytes,
        });
        self.decided.nodes.push(CudaNode { operation, input, output, epilogue });
    }

    fn step(&mut self, step: &Step, projection: Option<&Step>) -> Result<()> {
        let model = self.model;
        let (first, last) = (&model.layers[step.first()], &model.layers[step.last()]);
        let (name, shape, input_shape) = (last.name.as_str(), last.output_shape, first.input_shape);
        let operator_flop =
            first.op.flop(input_shape, first.output_shape).saturating_mul(self.branches as u64);
        let mut emit = self.plain(name, Work::Layers(step.layers.clone()), operator_flop);
        let unit = step.aws.and_then(|layer| model.layers[layer].aws().map(|unit| (layer, unit)));
        let (mix, apart) = match unit {
            Some((layer, AwsUnit::Layer(a))) => {
                (Mix::Layer(self.f32s(Content::MixLayer(layer), a.len())?), None)
            }
            Some((layer, AwsUnit::Channel(_))) => {
                (Mix::Channel(self.f32s(Content::MixChannel(layer), 4 * pitch(shape.channels))?), None)
            }
            Some((layer, unit @ (AwsUnit::Dense(_) | AwsUnit::Gate { .. }))) => {
                (Mix::None, Some((layer, unit)))
            }
            None => (Mix::None, None),
        };
        let beside = projection.map(|projection| self.beside(projection)).transpose()?.flatten();
        if let Some(beside) = &beside {
            let flop = (2 * self.branches * beside.channels * shape.len()) as u64;
            emit.flop = emit.flop.saturating_add(flop);
            emit.work = Work::Projected { layers: step.layers.clone(), projection: beside.layer };
        } else {
            emit.epilogue.residual = step.residual.map(|source| self.mapped(source)).transpose()?;
        }
        emit.epilogue.scale = step.scale.map(|source| self.mapped(source)).transpose()?;
        if let (Activation::Prelu, Some(layer)) = (step.activation, step.activates) {
            for branch in 0..self.branches {
                let content = Content::Slopes { layer, branch, channels: shape.channels };
                emit.epilogue.slopes[branch] = Some(self.f32s(content, pitch(shape.channels))?);
            }
        }
        if mix != Mix::None {
            emit.flop = emit.flop.saturating_add(8 * shape.len() as u64);
        }
        (emit.epilogue.activation, emit.epilogue.mix) = (step.activation, mix);

        check_window(name, &first.op, input_shape)?;
        let (operation, input) = match first.op {
            Op::Conv2d(conv) => self.conv(step, conv, shape, beside, &mut emit.epilogue)?,
            Op::Linear => self.conv(step, whole_map(input_shape), shape, None, &mut emit.epilogue)?,
            Op::BatchNorm => self.batch_norm(step, shape, &mut emit.epilogue)?,
            Op::MaxPool2d(pool) => (Operation::MaxPool2d(pool), self.mapped(step.input())?),
            Op::AvgPool2d(pool) => (Operation::AvgPool2d(pool), self.mapped(step.input())?),
            Op::GlobalAvgPool2d => {
                let kernel = [input_shape.height, input_shape.width];
                let pool = Pool2d {
                    kernel,
                    stride: [1, 1],
                    padding: ONE_BY_ONE.padding,
                    ceil_mode: false,
                    count_include_pad: true,
                };
                (Operation::AvgPool2d(pool), self.mapped(step.input())?)
            }
            Op::AdaptiveAvgPool2d(_) => (Operation::AdaptiveAvgPool2d, self.mapped(step.input())?),
            Op::Upsample2d(factor) => (Operation::Upsample2d(factor), self.mapped(step.input())?),
            Op::Identity => (Operation::Identity, self.mapped(step.input())?),
            Op::Concat => {
                let place = format!("layer {}", quoted(name));
                return Err(Error::new(ErrorKind::Internal, place, "an operator with one input", "concat"));
            }
        };
        let output = match apart {
            Some((layer, unit)) => {
                let output = self.map(name, self.branches, shape)?;
                self.push(emit, operation, input, Some(output));
                self.unit(step, layer, unit, output, shape)?
            }
            None => {
                let output = self.result(step, shape)?;
                self.push(emit, operation, input, Some(output));
                output
            }
        };
        self.layer_values.set(step.last(), output);
        Ok(())
    }

    /// What of a projection its neighbour needs; what it reads is there, since layers read earlier ones only.
    fn beside(&mut self, step: &Step) -> Result<Option<Beside>> {
        let layer = &self.model.layers[step.last()];
        let Op::Conv2d(Conv2d { stride, .. }) = layer.op else { return Ok(None) };
        let projection = Projection { input: self.mapped(step.input())?, stride };
        Ok(Some(Beside { layer: step.last(), projection, channels: layer.input_shape.channels }))
    }

    /// A factor and a term a channel: a filter of one tap for each.
    fn batch_norm(
        &mut self,
        step: &Step,
        shape: Shape,
        epilogue: &mut CudaEpilogue,
    ) -> Result<(Operation, ValueId)> {
        let (layer, c) = (step.first(), shape.channels);
        let (packing, oihw) = (Packing::Direct, Oihw { out: c, input: 1, kernel: [1, 1] });
        let [weights, bias] = self.weights_and_bias(layer, packing, oihw, None)?;
        epilogue.bias = bias.map(Some);
        let conv = Conv2d { groups: c, ..ONE_BY_ONE };
        let operation =
            Operation::Conv2d { algorithm: Algorithm::Depthwise, conv, weights, projection: None };
        Ok((operation, self.mapped(step.input())?))
    }

    /// A pooling and two matrices.
    fn squeeze_excite(&mut self, [pool, squeeze]: [&Step; 2], step: &Step) -> Result<()> {
        let model = self.model;
        let [pooled, hidden, excited] =
            [pool, squeeze, step].map(|step| &model.layers[step.first()]).map(|layer| layer.output_shape);
        let layers = [pool, squeeze, step].iter().flat_map(|step| step.layers.iter().copied()).collect();
        let input_shape = model.layers[pool.first()].input_shape;
        let products = hidden.channels * (pooled.channels + excited.channels);
        let flop = (self.branches * (input_shape.len() + 2 * products)) as u64;
        let mut emit = self.plain(&model.layers[step.last()].name, Work::Layers(layers), flop);
        let squeezed = self.excitation(squeeze, Packing::ImplicitGemm, pooled.channels, hidden.channels)?;
        let excite = self.excitation(step, Packing::Direct, hidden.channels, excited.channels)?;
        emit.epilogue.activation = step.activation;
        let operation = Operation::SqueezeExcite { squeezed: hidden.channels, squeeze: squeezed, excite };
        let input = self.mapped(pool.input())?;
        let output = self.map(emit.name, self.branches, excited)?;
        self.push(emit, operation, input, Some(output));
        self.layer_values.set(step.last(), output);
        Ok(())
    }

    fn excitation(&mut self, step: &Step, packing: Packing, input: usize, out: usize) -> Result<Excitation> {
        let (layer, shape) = (step.first(), Oihw { out, input, kernel: [1, 1] });
        let [weights, bias] = self.weights_and_bias(layer, packing, shape, None)?;
        Ok(Excitation { weights, bias, activation: step.activation })
    }

    /// Copies what of a concatenation is not in place, a run of inputs.
    fn concat(&mut self, step: &Step) -> Result<()> {
        let model = self.model;
        let layer = step.last();
        let output = self.concatenation(layer)?;
        let mut first = 0;
        let (mut all, mut copies) = (Vec::new(), Vec::<(ValueId, usize)>::new());
        let mut end = 0;
        for &source in &step.inputs {
            let channels = model.shape(source).channels;
            let in_place = matches!(source, Source::Layer(part) if self.places[part] == Some((layer, first)));
            let value = self.mapped(source)?;
            all.push(value);
            if !in_place {
                copies.push((value, first));
                end = first + channels;
            }
            first += channels;
        }
        // Each launch goes on where the one before ended; where that is within a vector, it keeps what is there.
        let mut rest = &copies[..];
        while let Some(&(_, begin)) = rest.first() {
            let whole = begin.is_multiple_of(VECTOR);
            let (now, later) = rest.split_at(rest.len().min(variants::CONCAT_INPUTS - usize::from(!whole)));
            let kept = (!whole).then_some((output, 0));
            let channels = [begin / VECTOR * VECTOR, later.first().map_or(end, |(_, begin)| *begin)];
            let inputs: Vec<(ValueId, usize)> = kept.into_iter().chain(now.iter().copied()).collect();
            let mut emit = self.plain(&model.layers[layer].name, Work::Layers(step.layers.clone()), 0);
            emit.inputs = Some(all.clone());
            let input = inputs[0].0;
            self.push(emit, Operation::Concat(Copies { inputs, channels }), input, Some(output));
            rest = later;
        }
        self.layer_values.set(layer, output);
        Ok(())
    }

    /// A convolution or a linear layer: its algorithm, weights and what it reads; bias into the epilogue.
    fn conv(
        &mut self,
        step: &Step,
        conv: Conv2d,
        output: Shape,
        beside: Option<Beside>,
        epilogue: &mut CudaEpilogue,
    ) -> Result<(Operation, ValueId)> {
        let layer = step.first();
        let input = self.model.layers[layer].input_shape;
        let stem_bytes = variants::stem_shared_bytes(self.branches, conv.kernel, conv.stride, conv.dilation);
        let tensor = self.element != Element::F32;
        let stem = step.input() == Source::Image
            && tensor
            && conv.groups == 1
            && stem_bytes <= self.gpu.shared_bytes;
        let projected = beside.as_ref().map(|beside| beside.channels);
        let gemm = if tensor && conv.groups == 1 && !stem {
            self.gemm(TiledOp::ImplicitGemm, output, gemm_reduction(&conv, input, projected))?
        } else {
            None
        };
        let algorithm = match gemm {
            _ if stem => Algorithm::Stem,
            _ if is_depthwise(&conv, input, output) => Algorithm::Depthwise,
            Some(choices) => Algorithm::ImplicitGemm(choices),
            None => Algorithm::Direct(self.direct(output, direct_reduction(&conv, input, projected))?),
        };
        let packing = match &algorithm {
            Algorithm::Stem => Packing::Stem,
            Algorithm::ImplicitGemm(_) => Packing::ImplicitGemm,
            Algorithm::Direct(_) | Algorithm::Depthwise => Packing::Direct,
        };
        let shape = Oihw { out: output.channels, input: input.channels / conv.groups, kernel: conv.kernel };
        let projection = beside.as_ref().map(|beside| (beside.layer, beside.channels));
        let [weights, bias] = self.weights_and_bias(layer, packing, shape, projection)?;
        epilogue.bias = bias.map(Some);
        let projection = beside.map(|beside| beside.projection);
        let input = if stem { IMAGE } else { self.mapped(step.input())? };
        Ok((Operation::Conv2d { algorithm, conv, weights, projection }, input))
    }

    /// A tile for each size, where the GPU has room for one.
    fn tiles(&self, op: TiledOp, output: Shape, reduction: usize) -> Result<Option<Vec<Tile>>> {
        let choose = |&images: &usize| {
            let (positions, channels) = (images * output.pixels(), output.channels);
            let (element, branches) = (self.element, self.branches);
            let problem = Problem { op, element, branches, positions, channels, reduction };
            self.tuning.choose(&problem, &self.gpu).transpose()
        };
        self.decided.sizes.iter().map(choose).collect::<Option<Result<_>>>().transpose()
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
}
