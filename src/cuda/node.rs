//! From a node of the plan to a launch: which address stands in which field of its parameter struct.

use super::abi::{self, DevicePointer, PARAMS_WORDS, Params};
use super::interop::{DeviceImages, PixelFormat};
use super::launch::{self, Launch};
use super::plan::variants::{Element, LABELS_PER_BLOCK, squeeze_excite_parts};
use crate::cuda::plan::{Algorithm, CudaNode, CudaPlan, HeadNumbers, IMAGE, Mix, Operation};
use crate::graph::node::ValueId;
use crate::model::HeadKind;
use crate::op::{Activation, Conv2d, Pool2d};
use crate::pixels::byte_of;
use crate::tensor::Shape;

/// Where everything lies on the device.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub constants: DevicePointer,
    pub arena: DevicePointer,
    pub workspace: DevicePointer,
    pub tickets: DevicePointer,
    pub image: abi::Image,
    /// [images][labels] of each head, f32: logits and probabilities.
    pub results: Vec<[DevicePointer; 2]>,
}

impl Addresses {
    /// For a launch whose addresses do not matter yet.
    pub fn nowhere(plan: &CudaPlan) -> Addresses {
        let images = DeviceImages { pixels: 0, format: PixelFormat::F32, count: 1 };
        Addresses {
            constants: 0,
            arena: 0,
            workspace: 0,
            tickets: 0,
            image: image_params(plan, &images),
            results: vec![[0; 2]; plan.heads.len()],
        }
    }
}

/// How a kernel reads a caller's images.
pub(super) fn image_params(plan: &CudaPlan, images: &DeviceImages) -> abi::Image {
    let shape = plan.input.shape;
    let (c, h, w) = (shape.channels as i64, shape.height as i64, shape.width as i64);
    let (mut scale, mut shift) = ([1.0; 4], [0.0; 4]);
    let mut first_byte = 0;
    let (pixel, [image_stride, row_stride, column_stride, channel_stride]) = match images.format {
        PixelFormat::F32 => (abi::Pixel::F32, [c * h * w, w, 1, h * w]),
        PixelFormat::U8 { row_stride, image_stride } => {
            for (i, (mean, std)) in plan.input.mean.iter().zip(&plan.input.std).enumerate() {
                scale[i] = (1.0 / (255.0 * f64::from(*std))) as f32;
                shift[i] = (-f64::from(*mean) / f64::from(*std)) as f32;
            }
            // The network's channels may run against those of the bytes.
            first_byte = byte_of(&plan.input, 0) as u64;
            let step = if first_byte == 0 { 1 } else { -1 };
            (abi::Pixel::U8, [image_stride as i64, row_stride as i64, c, step])
        }
    };
    abi::Image {
        pixels: images.pixels + first_byte,
        image_stride,
        row_stride,
        column_stride,
        channel_stride,
        pixel,
        channels: c as i32,
        height: h as i32,
        width: w as i32,
        scale,
        shift,
    }
}

/// A parameter struct as bytes.
fn words<P: Params>(params: &P) -> [u64; PARAMS_WORDS] {
    const { assert!(size_of::<P>() <= size_of::<[u64; PARAMS_WORDS]>()) };
    let mut words = [0; PARAMS_WORDS];
    // SAFETY: both are plain bytes, and the words are at least as long.
    unsafe { (&raw mut words).cast::<P>().write_unaligned(*params) };
    words
}

struct Preparation<'a> {
    plan: &'a CudaPlan,
    node: &'a CudaNode,
    addresses: &'a Addresses,
}

impl Preparation<'_> {
    /// The maps of a value, one a branch.
    fn maps(&self, value: ValueId) -> [DevicePointer; 2] {
        let value = &self.plan.values[value];
        let map = |t: usize| self.addresses.arena + value.branch_offset(t, self.plan.batch) as u64;
        self.of_branches(map)
    }

    /// Something of each branch that there is.
    fn of_branches(&self, of: impl Fn(usize) -> DevicePointer) -> [DevicePointer; 2] {
        [0, 1].map(|t| if t < self.plan.branches { of(t) } else { 0 })
    }

    fn constants(&self, constants: [usize; 2]) -> [DevicePointer; 2] {
        self.of_branches(|t| self.constant(constants[t]))
    }

    fn array(&self, value: ValueId) -> DevicePointer {
        self.maps(value)[0]
    }

    fn constant(&self, constant: usize) -> DevicePointer {
        self.addresses.constants + constant as u64
    }

    /// Where the numbers of a head go, without its linear layer.
    fn head(&self, head: usize, input: DevicePointer) -> abi::Head {
        let HeadNumbers { len, kind, .. } = self.plan.heads[head];
        let [logits, probabilities] = self.addresses.results[head];
        let score = match kind {
            HeadKind::Classes => abi::Score::Softmax,
            HeadKind::Units => abi::Score::Sigmoid,
            HeadKind::Values => abi::Score::None,
        };
        abi::Head { input, weight: 0, bias: 0, logits, probabilities, labels: len as i32, score }
    }

    fn epilogue(&self, channels: usize) -> abi::Epilogue {
        let e = &self.node.epilogue;
        let (mix_kind, mix) = match e.mix {
            Mix::None => (abi::Mix::None, 0),
            Mix::Layer(at) => (abi::Mix::Layer, self.constant(at)),
            Mix::Channel(at) => (abi::Mix::Channel, self.constant(at)),
        };
        let (activation, negative_slope) = activation(e.activation);
        let output = self.node.output.map(|value| &self.plan.values[value]);
        let spread = e.scale.zip(output).is_some_and(|(scale, output)| {
            let scale = self.plan.values[scale].shape;
            scale.pixels() == 1 && output.shape.pixels() > 1
        });
        let or_none = |constant: Option<usize>| constant.map_or(0, |at| self.constant(at));
        abi::Epilogue {
            bias: self.of_branches(|t| or_none(e.bias[t])),
            residual: e.residual.map_or([0; 2], |value| self.maps(value)),
            mix,
            output: self.node.output.map_or([0; 2], |value| self.maps(value)),
            channels: channels as i32,
            activation,
            mix_kind,
            negative_slope,
            scale: e.scale.map_or([0; 2], |value| self.maps(value)),
            slopes: self.of_branches(|t| or_none(e.slopes[t])),
            scale_positions: if spread { output.map_or(0, |output| output.shape.pixels() as i32) } else { 0 },
            output_pitch: output.map_or(0, |output| output.pitch as i32),
            branches: self.plan.branches as i32,
            reserved: 0,
        }
    }
}

/// An activation and its slope, where that is one number.
fn activation(activation: Activation) -> (abi::Activation, f32) {
    match activation {
        Activation::None => (abi::Activation::None, 0.0),
        Activation::Relu => (abi::Activation::Relu, 0.0),
        Activation::Relu6 => (abi::Activation::Relu6, 0.0),
        Activation::LeakyRelu { negative_slope } => (abi::Activation::LeakyRelu, negative_slope),
        Activation::Prelu => (abi::Activation::Prelu, 0.0),
        Activation::Elu => (abi::Activation::Elu, 0.0),
        Activation::Sigmoid => (abi::Activation::Sigmoid, 0.0),
        Activation::HardSigmoid => (abi::Activation::HardSigmoid, 0.0),
        Activation::Silu => (abi::Activation::Silu, 0.0),
        Activation::HardSwish => (abi::Activation::HardSwish, 0.0),
        Activation::Tanh => (abi::Activation::Tanh, 0.0),
        Activation::Gelu => (abi::Activation::Gelu, 0.0),
        Activation::GeluTanh => (abi::Activation::GeluTanh, 0.0),
    }
}

/// The launch of a node for so many images, and its parameters.
pub(super) fn prepare(
    plan: &CudaPlan,
    node: &CudaNode,
    images: usize,
    addresses: &Addresses,
) -> (Launch, [u64; PARAMS_WORDS]) {
    let p = Preparation { plan, node, addresses };
    let size = plan.size_for(images);
    let batch = images as i32;
    let input = plan.values[node.input].shape;
    let output = node.output.map_or(input, |value| plan.values[value].shape);
    let (element, c) = (plan.element, input.channels);
    let positions = images * input.pixels();
    let maps = || p.maps(node.input);
    // An adaptive pooling has windows that follow from its sizes.
    let pool2d = |kind: abi::Pool, window: Option<&Pool2d>| {
        let [kernel, stride] = window.map_or([[0; 2]; 2], |pool| [pool.kernel, pool.stride]);
        let padding = window.map(|pool| pool.padding).unwrap_or_default();
        let counted =
            window.filter(|pool| pool.count_include_pad).map(|pool| pool.padding).unwrap_or_default();
        let params = abi::Pool2dParams {
            epilogue: p.epilogue(output.channels),
            input: maps(),
            batch,
            in_h: input.height as i32,
            in_w: input.width as i32,
            out_h: output.height as i32,
            out_w: output.width as i32,
            kernel_h: kernel[0] as i32,
            kernel_w: kernel[1] as i32,
            stride_h: stride[0] as i32,
            stride_w: stride[1] as i32,
            pad_top: padding.top as i32,
            pad_left: padding.left as i32,
            kind,
            counted_top: counted.top as i32,
            counted_left: counted.left as i32,
            counted_bottom: counted.bottom as i32,
            counted_right: counted.right as i32,
        };
        (launch::pool2d(element, &params), words(&params))
    };
    match &node.operation {
        Operation::Conv2d { algorithm: Algorithm::Stem, conv, weights, .. } => {
            let Conv2d { kernel, stride, padding, dilation, .. } = *conv;
            let params = abi::Conv2dStemParams {
                epilogue: p.epilogue(output.channels),
                image: addresses.image,
                weight: p.constants(*weights),
                batch,
                out_h: output.height as i32,
                out_w: output.width as i32,
                kernel_h: kernel[0] as i32,
                kernel_w: kernel[1] as i32,
                stride_h: stride[0] as i32,
                stride_w: stride[1] as i32,
                pad_top: padding.top as i32,
                pad_left: padding.left as i32,
                dilation_h: dilation[0] as i32,
                dilation_w: dilation[1] as i32,
                reserved: 0,
            };
            (launch::conv2d_stem(element, &params), words(&params))
        }
        Operation::Conv2d { algorithm, conv, weights, projection } => {
            let Conv2d { kernel, stride, padding, dilation, groups } = *conv;
            let none = Shape::new(0, 0, 0);
            let projected = projection.map_or(none, |projection| plan.values[projection.input].shape);
            let gemm = match algorithm {
                Algorithm::ImplicitGemm(choices) => Some(choices[size]),
                Algorithm::Stem | Algorithm::Direct(_) | Algorithm::Depthwise => None,
            };
            let params = abi::Conv2dParams {
                epilogue: p.epilogue(output.channels),
                input: maps(),
                weight: p.constants(*weights),
                workspace: addresses.workspace,
                tickets: addresses.tickets,
                batch,
                in_h: input.height as i32,
                in_w: input.width as i32,
                in_channels: c as i32,
                out_h: output.height as i32,
                out_w: output.width as i32,
                kernel_h: kernel[0] as i32,
                kernel_w: kernel[1] as i32,
                stride_h: stride[0] as i32,
                stride_w: stride[1] as i32,
                pad_top: padding.top as i32,
                pad_left: padding.left as i32,
                dilation_h: dilation[0] as i32,
                dilation_w: dilation[1] as i32,
                groups: groups as i32,
                splits: gemm.map_or(1, |choice| choice.splits as i32),
                projection: projection.map_or([0; 2], |projection| p.maps(projection.input)),
                projection_h: projected.height as i32,
                projection_w: projected.width as i32,
                projection_channels: projected.channels as i32,
                projection_stride_h: projection.map_or(0, |projection| projection.stride[0] as i32),
                projection_stride_w: projection.map_or(0, |projection| projection.stride[1] as i32),
                reserved: 0,
            };
            let launch = match (algorithm, gemm) {
                (_, Some(choice)) => launch::conv2d_implicit_gemm(choice.variant, &params),
                (Algorithm::Direct(choices), _) => launch::conv2d_direct(choices[size].variant, &params),
                _ => launch::conv2d_depthwise(element, &params),
            };
            (launch, words(&params))
        }
        Operation::MaxPool2d(pool) => pool2d(abi::Pool::Max, Some(pool)),
        Operation::AvgPool2d(pool) => pool2d(abi::Pool::Average, Some(pool)),
        Operation::AdaptiveAvgPool2d => pool2d(abi::Pool::AdaptiveAverage, None),
        Operation::Upsample2d(factor) => {
            let params = abi::Upsample2dParams {
                epilogue: p.epilogue(output.channels),
                input: maps(),
                batch,
                in_h: input.height as i32,
                in_w: input.width as i32,
                factor_h: factor[0] as i32,
                factor_w: factor[1] as i32,
                reserved: 0,
            };
            (launch::upsample2d(element, &params), words(&params))
        }
        Operation::Concat(copies) => {
            let mut params = abi::ConcatParams {
                input: [[0; 2]; abi::CONCAT_INPUTS],
                output: node.output.map_or([0; 2], |value| p.maps(value)),
                positions: positions as i64,
                pitch: [0; abi::CONCAT_INPUTS],
                begin: [copies.channels[1] as i32; abi::CONCAT_INPUTS + 1],
                inputs: copies.inputs.len() as i32,
                first_channel: copies.channels[0] as i32,
                output_pitch: node.output.map_or(0, |value| plan.values[value].pitch as i32),
                branches: plan.branches as i32,
                reserved: 0,
            };
            for (index, &(value, begin)) in copies.inputs.iter().enumerate() {
                params.input[index] = p.maps(value);
                params.pitch[index] = plan.values[value].pitch as i32;
                params.begin[index] = begin as i32;
            }
            (launch::concat(element, &params), words(&params))
        }
        Operation::SqueezeExcite { squeezed, squeeze, excite } => {
            let (squeeze_activation, squeeze_negative_slope) = activation(squeeze.activation);
            let (excite_activation, excite_negative_slope) = activation(excite.activation);
            let params = abi::SqueezeExciteParams {
                input: maps(),
                squeeze_weight: p.constants(squeeze.weights),
                squeeze_bias: p.constants(squeeze.bias),
                excite_weight: p.constants(excite.weights),
                excite_bias: p.constants(excite.bias),
                output: node.output.map_or([0; 2], |value| p.maps(value)),
                workspace: addresses.workspace,
                tickets: addresses.tickets,
                positions_per_image: input.pixels() as i64,
                batch,
                channels: c as i32,
                squeezed: *squeezed as i32,
                excited: output.channels as i32,
                branches: plan.branches as i32,
                parts: squeeze_excite_parts(input.pixels()) as i32,
                squeeze_activation,
                excite_activation,
                squeeze_negative_slope,
                excite_negative_slope,
            };
            (launch::squeeze_excite(element, &params), words(&params))
        }
        Operation::Identity => {
            let epilogue = p.epilogue(output.channels);
            let params = abi::IdentityParams { epilogue, input: maps(), positions: positions as i64 };
            (launch::identity(element, &params), words(&params))
        }
        Operation::AwsUnitDense { weights, choices } => {
            let choice = choices.as_ref().map(|choices| choices[size]);
            let params = abi::AwsUnitDenseParams {
                epilogue: p.epilogue(output.channels),
                input: maps(),
                weight: p.constants(*weights),
                workspace: addresses.workspace,
                tickets: addresses.tickets,
                positions: positions as i64,
                splits: choice.map_or(1, |choice| choice.splits as i32),
                reserved: 0,
            };
            let launch = match choice {
                Some(choice) => launch::aws_unit_dense(choice.variant, &params),
                None => launch::aws_unit_dense_f32(&params),
            };
            (launch, words(&params))
        }
        Operation::AwsUnitGateMeans => {
            let params = abi::AwsUnitGateMeansParams {
                input: maps(),
                means: node.output.map_or(0, |value| p.array(value)),
                positions_per_image: input.pixels() as i64,
                batch,
                channels: c as i32,
            };
            (launch::aws_unit_gate_means(element, &params), words(&params))
        }
        Operation::AwsUnitGateCoefficients {
            squeeze_weight,
            squeeze_bias,
            excite_weight,
            excite_bias,
            squeezed,
            gate,
        } => {
            let params = abi::AwsUnitGateCoefficientsParams {
                means: p.array(node.input),
                squeeze_weight: p.constant(*squeeze_weight),
                squeeze_bias: p.constant(*squeeze_bias),
                excite_weight: p.constant(*excite_weight),
                excite_bias: p.constant(*excite_bias),
                coefficients: node.output.map_or(0, |value| p.array(value)),
                batch,
                channels: c as i32,
                squeezed: *squeezed as i32,
                gate: match gate {
                    crate::model::Gate::Softmax => abi::Gate::Softmax,
                    crate::model::Gate::Sigmoid => abi::Gate::Sigmoid,
                },
            };
            (launch::aws_unit_gate_coefficients(&params), words(&params))
        }
        Operation::AwsUnitGateMix { coefficients } => {
            let params = abi::AwsUnitGateMixParams {
                input: maps(),
                output: node.output.map_or([0; 2], |value| p.maps(value)),
                coefficients: p.array(*coefficients),
                positions_per_image: input.pixels() as i64,
                batch,
                channels: c as i32,
            };
            (launch::aws_unit_gate_mix(element, &params), words(&params))
        }
        Operation::Heads { heads, pooled } => {
            let mut params = abi::HeadParams {
                head: [abi::Head::ABSENT; abi::HEADS],
                positions_per_image: input.pixels() as i64,
                batch,
                channels: c as i32,
                heads: heads.len() as i32,
                pooled: i32::from(*pooled),
                labels_per_block: LABELS_PER_BLOCK as i32,
                reserved: 0,
            };
            let maps = maps();
            for (to, head) in params.head.iter_mut().zip(heads) {
                let of_head = p.head(head.head, maps[head.branch]);
                let (weight, bias) = (p.constant(head.weight), p.constant(head.bias));
                *to = abi::Head { weight, bias, ..of_head };
                if !head.scored {
                    (to.score, to.probabilities) = (abi::Score::None, 0);
                }
            }
            (launch::head(element, &params), words(&params))
        }
        Operation::HeadScore { head, of_logits } => {
            let branch = plan.heads[*head].branch;
            let of_head = p.head(*head, maps()[branch]);
            let numbers = plan.heads[*head].len;
            // Logits are a map of one position and no pad lanes.
            let (element, from, pixels, channels, pitch) = match of_logits {
                true => (Element::F32, of_head.logits, 1, numbers, numbers),
                false => (element, of_head.input, input.pixels(), c, plan.values[node.input].pitch),
            };
            let params = abi::HeadScoreParams {
                head: abi::Head { input: from, ..of_head },
                positions_per_image: pixels as i64,
                batch,
                channels: channels as i32,
                pitch: pitch as i32,
                reserved: 0,
            };
            (launch::head_score(element, &params), words(&params))
        }
        Operation::ImageToNhwc => {
            debug_assert_eq!(node.input, IMAGE);
            let output = node.output.map_or(0, |value| p.array(value));
            let params = abi::ImageToNhwcParams { image: addresses.image, output, batch, reserved: 0 };
            (launch::image_to_nhwc(element, &params), words(&params))
        }
    }
}

/// The values of a map as f32.
pub(super) fn decode(element: Element, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match element {
        Element::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Element::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        Element::Bf16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
    }
}
