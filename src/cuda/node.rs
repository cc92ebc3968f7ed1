//! From a node of the plan to a launch: which address stands in which field of its parameter struct.

use super::abi::{self, DevicePointer, PARAMS_WORDS, Params};
use super::interop::{DeviceImages, PixelFormat};
use super::launch::{self, Launch};
use super::plan::variants::Element;
use crate::cuda::plan::{Algorithm, CudaNode, CudaPlan, IMAGE, Mix, Operation};
use crate::graph::node::ValueId;
use crate::op::{Activation, Conv2d, Pool2d};
use crate::tensor::Shape;

/// Where everything lies on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub constants: DevicePointer,
    pub arena: DevicePointer,
    pub workspace: DevicePointer,
    pub tickets: DevicePointer,
    pub image: abi::Image,
    /// [images][labels] of each branch, f32.
    pub logits: [DevicePointer; 2],
    pub probabilities: [DevicePointer; 2],
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
            logits: [0; 2],
            probabilities: [0; 2],
        }
    }
}

/// How a kernel reads a caller's images.
pub(super) fn image_params(plan: &CudaPlan, images: &DeviceImages) -> abi::Image {
    let shape = plan.input.shape;
    let (c, h, w) = (shape.channels as i64, shape.height as i64, shape.width as i64);
    let (mut scale, mut shift) = ([1.0; 4], [0.0; 4]);
    let (pixel, [image_stride, row_stride, column_stride, channel_stride]) = match images.format {
        PixelFormat::F32 => (abi::Pixel::F32, [c * h * w, w, 1, h * w]),
        PixelFormat::U8 { row_stride, image_stride } => {
            for (i, (mean, std)) in plan.input.mean.iter().zip(&plan.input.std).enumerate() {
                scale[i] = (1.0 / (255.0 * f64::from(*std))) as f32;
                shift[i] = (-f64::from(*mean) / f64::from(*std)) as f32;
            }
            (abi::Pixel::U8, [image_stride as i64, row_stride as i64, c, 1])
        }
    };
    abi::Image {
        pixels: images.pixels,
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
    /// The maps of both branches of a value.
    fn maps(&self, value: ValueId) -> [DevicePointer; 2] {
        let value = &self.plan.values[value];
        [0, 1].map(|t| self.addresses.arena + value.branch_offset(t, self.plan.batch) as u64)
    }

    fn array(&self, value: ValueId) -> DevicePointer {
        self.maps(value)[0]
    }

    fn constant(&self, constant: usize) -> DevicePointer {
        self.addresses.constants + constant as u64
    }

    fn epilogue(&self, channels: usize) -> abi::Epilogue {
        let e = &self.node.epilogue;
        let (mix_kind, mix) = match e.mix {
            Mix::None => (abi::Mix::None, 0),
            Mix::Layer(at) => (abi::Mix::Layer, self.constant(at)),
            Mix::Channel(at) => (abi::Mix::Channel, self.constant(at)),
        };
        let (activation, negative_slope) = match e.activation {
            Activation::None => (abi::Activation::None, 0.0),
            Activation::Relu => (abi::Activation::Relu, 0.0),
            Activation::LeakyRelu { negative_slope } => (abi::Activation::LeakyRelu, negative_slope),
            Activation::Silu => (abi::Activation::Silu, 0.0),
            other => unreachable!("{}: refused by decide", other.name()),
        };
        abi::Epilogue {
            bias: e.bias.map(|bias| bias.map_or(0, |at| self.constant(at))),
            residual: e.residual.map_or([0; 2], |value| self.maps(value)),
            mix,
            output: self.node.output.map_or([0; 2], |value| self.maps(value)),
            channels: channels as i32,
            activation,
            mix_kind,
            negative_slope,
        }
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
    match &node.operation {
        Operation::Conv2d { algorithm: Algorithm::Stem, conv, weights, .. } => {
            let Conv2d { kernel, stride, padding, dilation, .. } = *conv;
            let params = abi::Conv2dStemParams {
                epilogue: p.epilogue(output.channels),
                image: addresses.image,
                weight: weights.map(|at| p.constant(at)),
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
                weight: weights.map(|at| p.constant(at)),
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
        Operation::MaxPool2d(pool) | Operation::AvgPool2d(pool) => {
            let Pool2d { kernel, stride, padding, .. } = *pool;
            let max = matches!(node.operation, Operation::MaxPool2d(_));
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
                kind: if max { abi::Pool::Max } else { abi::Pool::Average },
            };
            (launch::pool2d(element, &params), words(&params))
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
                weight: weights.map(|at| p.constant(at)),
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
            let of = |part: usize| heads.map(|head| head.map_or(0, |head| p.constant(head[part])));
            let present = |t: usize| if heads[t].is_some() { plan.labels[t] as i32 } else { 0 };
            let params = abi::HeadParams {
                input: maps(),
                weight: of(0),
                bias: of(1),
                logits: addresses.logits,
                probabilities: addresses.probabilities,
                positions_per_image: input.pixels() as i64,
                batch,
                channels: c as i32,
                labels: [present(0), present(1)],
                score: [abi::Score::Softmax, abi::Score::Sigmoid],
                pooled: i32::from(*pooled),
                reserved: 0,
            };
            (launch::head(element, &params), words(&params))
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
