//! Runs one case: operands on the device, the launches under several schedules, the results against the reference.

use std::hash::{DefaultHasher, Hash, Hasher};

use awsnet::cuda::abi::{self, Gate, Pixel, Pool, Score};
use awsnet::cuda::launch::{self, Launch, Splitting};
use awsnet::cuda::pack::{self, Oihw};
use awsnet::cuda::variants::{Element, GemmVariant};

use crate::cases::Case;
use crate::data::{Data, DeviceMap, Guarded, Rng, decode, parameters};
use crate::driver::Stream;
use crate::fused::{Fused, FusedOperands};
use crate::reference::{self, Expected, Projection, Sums, Window, compare};

/// When asynchronous copies arrive, as the emulator counts it.
const AS_LATE_AS_ALLOWED: i32 = 1;
const EITHER: i32 = 2;

fn schedules(case: &Case) -> Vec<(u64, i32)> {
    let mut hasher = DefaultHasher::new();
    case.to_string().hash(&mut hasher);
    let seed = hasher.finish() | 1;
    let more =
        std::env::var("AWSNET_TEST_SEEDS").map_or(0, |n| n.parse().expect("AWSNET_TEST_SEEDS is a number"));
    if std::env::var_os("AWSNET_TEST_SMALL").is_some() {
        return vec![(seed, AS_LATE_AS_ALLOWED)];
    }
    let mut all = vec![(0, AS_LATE_AS_ALLOWED), (seed, AS_LATE_AS_ALLOWED), (seed + 2, EITHER)];
    all.extend((0..more).map(|i| (seed.wrapping_add(4 + 2 * i), AS_LATE_AS_ALLOWED)));
    all
}

/// Runs a case; panics if a result is wrong. Returns the largest error as a share of its bound.
pub fn run(stream: &Stream, case: &Case) -> f64 {
    let mut hasher = DefaultHasher::new();
    case.to_string().hash(&mut hasher);
    let rng = &mut Rng::new(hasher.finish());
    let runner = Runner { stream, case };
    match *case {
        Case::ImplicitGemm { variant, window, splits, fused, data } => {
            runner.implicit_gemm(rng, &variant, &window, splits, fused, data)
        }
        Case::Direct { variant, window, fused, data } => {
            let launch = |p: &abi::Conv2dParams| launch::conv2d_direct(&variant, p);
            runner.conv2d(
                rng,
                variant.element,
                &window,
                fused,
                data,
                pack::direct_projected,
                launch,
                [0, 0],
                1,
            )
        }
        Case::Depthwise { element, window, fused, data } => {
            let launch = |p: &abi::Conv2dParams| launch::conv2d_depthwise(element, p);
            runner.conv2d(rng, element, &window, fused, data, pack::direct_projected, launch, [0, 0], 1)
        }
        Case::Stem { element, window, pixel, fused, data } => {
            runner.stem(rng, element, &window, pixel, fused, data)
        }
        Case::Pool { element, window, kind, fused, data } => {
            runner.pool(rng, element, &window, kind, fused, data)
        }
        Case::Identity { element, positions, channels, in_place, fused, data } => {
            runner.identity(rng, element, positions, channels, in_place, fused, data)
        }
        Case::Dense { variant, positions, channels, splits, data } => {
            runner.dense(rng, variant.as_ref(), positions, channels, splits, data)
        }
        Case::Gated { element, batch, positions, channels, squeezed, gate } => {
            runner.gated(rng, element, batch, positions, channels, squeezed, gate)
        }
        Case::Head { element, batch, positions, channels, labels, pooled } => {
            runner.head(rng, element, batch, positions, channels, labels, pooled)
        }
        Case::Image { element, batch, size, channels, pixel } => {
            runner.image(rng, element, batch, size, channels, pixel)
        }
    }
}

struct Runner<'a> {
    stream: &'a Stream,
    case: &'a Case,
}

/// Workspace and tickets of a launch with split-K.
struct SplitMemory {
    workspace: Guarded,
    tickets: Guarded,
}

impl SplitMemory {
    fn new(stream: &Stream, need: Splitting) -> SplitMemory {
        SplitMemory {
            workspace: Guarded::new(stream, &vec![0xff; need.workspace_bytes]), // NaN until somebody writes it
            tickets: Guarded::new(stream, &vec![0; need.tickets * 4]),
        }
    }

    fn addresses(&self) -> [u64; 2] {
        [self.workspace.address(), self.tickets.address()]
    }

    /// Panics unless the tickets are ready for the next launch, and workspace and tickets kept their bounds.
    fn check(&self, stream: &Stream) {
        self.workspace.read(stream);
        assert!(self.tickets.read(stream).iter().all(|&b| b == 0), "a ticket was left behind");
    }
}

impl Runner<'_> {
    /// Runs `launch` under every schedule, `outputs` poisoned before each; panics unless the bits are always the same.
    fn under_all_schedules(&self, outputs: &[&DeviceMap], launch: impl Fn()) -> Vec<Vec<f32>> {
        let mut first: Option<Vec<Vec<f32>>> = None;
        for (seed, delivery) in schedules(self.case) {
            for output in outputs {
                output.poison(self.stream);
            }
            self.stream.schedule(seed, delivery);
            launch();
            let values: Vec<Vec<f32>> = outputs.iter().map(|o| o.values(self.stream)).collect();
            let bits = |all: &[Vec<f32>]| all.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
            match &first {
                None => first = Some(values),
                Some(first) => assert!(bits(first) == bits(&values), "other bits with seed {seed}"),
            }
        }
        first.expect("at least one schedule")
    }

    /// Runs a fused operator and compares both outputs; one launch, and every output vector stored once.
    #[allow(clippy::too_many_arguments)] // operands, results and what they cost
    fn finish(
        &self,
        element: Element,
        data: Data,
        operands: &FusedOperands,
        sums: [Sums; 2],
        channels: usize,
        launch: impl Fn(),
        stored_beside: usize,
    ) -> f64 {
        let outputs = [&operands.outputs[0], &operands.outputs[1]];
        let found = self.under_all_schedules(&outputs, || {
            let before = self.stream.counters();
            launch();
            outputs[0].memory.read(self.stream); // waits for the launch
            if let (Some(before), Some(after)) = (before, self.stream.counters()) {
                let positions = sums[0].value.len() / channels;
                let maps = 2 * positions * abi::pitch(channels) * element.bytes();
                assert_eq!(after.launches - before.launches, 1, "launches");
                assert_eq!(
                    after.bytes_stored - before.bytes_stored,
                    (maps + stored_beside) as u64,
                    "bytes stored"
                );
            }
        });
        let expected = reference::finish(sums, channels, &operands.values);
        (0..2).map(|t| compare(element, data, &expected[t], &found[t])).fold(0.0, f64::max)
    }

    fn pair(&self, rng: &mut Rng, data: Data, element: Element, count: usize) -> [Vec<f32>; 2] {
        [(); 2].map(|_| data.values(rng, element, count))
    }

    fn maps(
        &self,
        element: Element,
        positions: usize,
        channels: usize,
        values: &[Vec<f32>; 2],
    ) -> [DeviceMap; 2] {
        [0, 1].map(|t| DeviceMap::input(self.stream, element, positions, channels, &values[t]))
    }

    fn weights(&self, element: Element, packed: [Vec<f32>; 2]) -> [Guarded; 2] {
        packed.map(|w| Guarded::new(self.stream, &pack::encode(element, &w)))
    }

    fn implicit_gemm(
        &self,
        rng: &mut Rng,
        variant: &GemmVariant,
        window: &Window,
        splits: usize,
        fused: Fused,
        data: Data,
    ) -> f64 {
        let need = launch::splitting(variant, window.positions(), window.channels, splits);
        let memory = SplitMemory::new(self.stream, need);
        let launch = |p: &abi::Conv2dParams| launch::conv2d_implicit_gemm(variant, p);
        let split = if splits > 1 { memory.addresses() } else { [0, 0] };
        let pack = pack::implicit_gemm_projected;
        let share = self.conv2d(rng, variant.element, window, fused, data, pack, launch, split, splits);
        memory.check(self.stream);
        share
    }

    #[allow(clippy::too_many_arguments)] // the operands of a convolution
    fn conv2d(
        &self,
        rng: &mut Rng,
        element: Element,
        window: &Window,
        fused: Fused,
        data: Data,
        pack: fn(Oihw, &[f32], usize, &[f32]) -> Vec<f32>,
        launch: impl Fn(&abi::Conv2dParams) -> Launch,
        [workspace, tickets]: [u64; 2],
        splits: usize,
    ) -> f64 {
        let [out_h, out_w] = window.output();
        let shape =
            Oihw { out: window.channels, input: window.in_channels / window.groups, kernel: window.kernel };
        let mut x = self.pair(rng, data, element, window.in_positions() * window.in_channels);
        if data == Data::Hole {
            let hole = window.in_positions() / 2 * window.in_channels;
            x.iter_mut().for_each(|x| x[hole..][..window.in_channels].fill(f32::NAN));
        }
        let w = self.pair(rng, data, element, shape.len());
        let inputs = self.maps(element, window.in_positions(), window.in_channels, &x);
        // With no projection its map, its weights and its fields are nothing and 0.
        let projection =
            window.projection.unwrap_or(Projection { input: [0, 0], channels: 0, stride: [0, 0] });
        let projected_positions = window.batch * projection.input[0] * projection.input[1];
        let mut projected_x = self.pair(rng, data, element, projected_positions * projection.channels);
        if data == Data::Hole {
            let hole = projected_positions / 2 * projection.channels;
            projected_x.iter_mut().for_each(|x| x[hole..][..projection.channels].fill(f32::NAN));
        }
        let projected_w = self.pair(rng, data, element, window.channels * projection.channels);
        let projected_maps =
            window.projection.map(|p| self.maps(element, projected_positions, p.channels, &projected_x));
        let packed = [0, 1].map(|t| pack(shape, &w[t], projection.channels, &projected_w[t]));
        let weights = self.weights(element, packed);
        let operands =
            FusedOperands::new(self.stream, fused, element, data, rng, window.positions(), window.channels);
        let params = abi::Conv2dParams {
            epilogue: operands.epilogue(),
            input: [inputs[0].address(), inputs[1].address()],
            weight: [weights[0].address(), weights[1].address()],
            workspace,
            tickets,
            batch: window.batch as i32,
            in_h: window.input[0] as i32,
            in_w: window.input[1] as i32,
            in_channels: window.in_channels as i32,
            out_h: out_h as i32,
            out_w: out_w as i32,
            kernel_h: window.kernel[0] as i32,
            kernel_w: window.kernel[1] as i32,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_top: window.padding[0] as i32,
            pad_left: window.padding[1] as i32,
            dilation_h: window.dilation[0] as i32,
            dilation_w: window.dilation[1] as i32,
            groups: window.groups as i32,
            splits: splits as i32,
            projection: projected_maps.as_ref().map_or([0; 2], |maps| [maps[0].address(), maps[1].address()]),
            projection_h: projection.input[0] as i32,
            projection_w: projection.input[1] as i32,
            projection_channels: projection.channels as i32,
            projection_stride_h: projection.stride[0] as i32,
            projection_stride_w: projection.stride[1] as i32,
            reserved: 0,
        };
        let launch = launch(&params);
        let beside = split_bytes(&launch, self.case);
        let sums = [0, 1].map(|t| {
            let mut sums = reference::conv2d(window, &x[t], &w[t]);
            if let Some(projection) = &window.projection {
                reference::add_projection(&mut sums, window, projection, &projected_x[t], &projected_w[t]);
            }
            sums
        });
        self.finish(
            element,
            data,
            &operands,
            sums,
            window.channels,
            || self.stream.launch(&launch, &params),
            beside,
        )
    }

    fn stem(
        &self,
        rng: &mut Rng,
        element: Element,
        window: &Window,
        pixel: Pixel,
        fused: Fused,
        data: Data,
    ) -> f64 {
        let [out_h, out_w] = window.output();
        let shape = Oihw { out: window.channels, input: window.in_channels, kernel: window.kernel };
        let image =
            TestImage::new(self.stream, rng, data, window.batch, window.input, window.in_channels, pixel);
        let x: Vec<f32> = image.normalised.iter().map(|&v| crate::data::round(element, v)).collect();
        let w = self.pair(rng, data, element, shape.len());
        let weights = self.weights(element, [0, 1].map(|t| pack::stem(shape, &w[t])));
        let operands =
            FusedOperands::new(self.stream, fused, element, data, rng, window.positions(), window.channels);
        let params = abi::Conv2dStemParams {
            epilogue: operands.epilogue(),
            image: image.params,
            weight: [weights[0].address(), weights[1].address()],
            batch: window.batch as i32,
            out_h: out_h as i32,
            out_w: out_w as i32,
            kernel_h: window.kernel[0] as i32,
            kernel_w: window.kernel[1] as i32,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_top: window.padding[0] as i32,
            pad_left: window.padding[1] as i32,
            dilation_h: window.dilation[0] as i32,
            dilation_w: window.dilation[1] as i32,
            reserved: 0,
        };
        let launch = launch::conv2d_stem(element, &params);
        let sums = [0, 1].map(|t| reference::conv2d(window, &x, &w[t]));
        self.finish(
            element,
            data,
            &operands,
            sums,
            window.channels,
            || self.stream.launch(&launch, &params),
            0,
        )
    }

    fn pool(
        &self,
        rng: &mut Rng,
        element: Element,
        window: &Window,
        kind: Pool,
        fused: Fused,
        data: Data,
    ) -> f64 {
        let [out_h, out_w] = window.output();
        let mut x = self.pair(rng, data, element, window.in_positions() * window.channels);
        if data == Data::Hole {
            let hole = window.in_positions() / 2 * window.channels;
            x.iter_mut().for_each(|x| x[hole..][..window.channels].fill(f32::NAN));
        }
        let inputs = self.maps(element, window.in_positions(), window.channels, &x);
        let operands =
            FusedOperands::new(self.stream, fused, element, data, rng, window.positions(), window.channels);
        let params = abi::Pool2dParams {
            epilogue: operands.epilogue(),
            input: [inputs[0].address(), inputs[1].address()],
            batch: window.batch as i32,
            in_h: window.input[0] as i32,
            in_w: window.input[1] as i32,
            out_h: out_h as i32,
            out_w: out_w as i32,
            kernel_h: window.kernel[0] as i32,
            kernel_w: window.kernel[1] as i32,
            stride_h: window.stride[0] as i32,
            stride_w: window.stride[1] as i32,
            pad_top: window.padding[0] as i32,
            pad_left: window.padding[1] as i32,
            kind,
        };
        let launch = launch::pool2d(element, &params);
        let sums = [0, 1].map(|t| reference::pool2d(window, kind, &x[t]));
        self.finish(
            element,
            data,
            &operands,
            sums,
            window.channels,
            || self.stream.launch(&launch, &params),
            0,
        )
    }

    #[allow(clippy::too_many_arguments)] // a row of the table
    fn identity(
        &self,
        rng: &mut Rng,
        element: Element,
        positions: usize,
        channels: usize,
        in_place: bool,
        fused: Fused,
        data: Data,
    ) -> f64 {
        let x = self.pair(rng, data, element, positions * channels);
        let operands = FusedOperands::new(self.stream, fused, element, data, rng, positions, channels);
        let inputs = self.maps(element, positions, channels, &x);
        let params = abi::IdentityParams {
            epilogue: operands.epilogue(),
            input: [inputs[0].address(), inputs[1].address()],
            positions: positions as i64,
        };
        let launch = launch::identity(element, &params);
        let sums = || [0, 1].map(|t| reference::identity(&x[t]));
        if in_place {
            // Once more over its own inputs, each branch's output where its input stood.
            let in_place = self.maps(element, positions, channels, &x);
            let mut params = params;
            params.input = [in_place[0].address(), in_place[1].address()];
            params.epilogue.output = params.input;
            self.stream.launch(&launch, &params);
            let expected = reference::finish(sums(), channels, &operands.values);
            for t in 0..2 {
                compare(element, data, &expected[t], &in_place[t].values(self.stream));
            }
        }
        self.finish(element, data, &operands, sums(), channels, || self.stream.launch(&launch, &params), 0)
    }

    fn dense(
        &self,
        rng: &mut Rng,
        variant: Option<&GemmVariant>,
        positions: usize,
        channels: usize,
        splits: usize,
        data: Data,
    ) -> f64 {
        let element = variant.map_or(Element::F32, |v| v.element);
        let x = self.pair(rng, data, element, positions * channels);
        let w = data.values(rng, element, 4 * channels * channels);
        let inputs = self.maps(element, positions, channels, &x);
        let weights = self.weights(element, [0, 1].map(|to| pack::aws_unit_dense(element, channels, to, &w)));
        let operands = FusedOperands::new(self.stream, Fused::PLAIN, element, data, rng, positions, channels);
        let need = variant.map_or(Splitting { workspace_bytes: 0, tickets: 0 }, |v| {
            launch::splitting(v, positions, channels, splits)
        });
        let memory = SplitMemory::new(self.stream, need);
        let [workspace, tickets] = if splits > 1 { memory.addresses() } else { [0, 0] };
        let params = abi::AwsUnitDenseParams {
            epilogue: operands.epilogue(),
            input: [inputs[0].address(), inputs[1].address()],
            weight: [weights[0].address(), weights[1].address()],
            workspace,
            tickets,
            positions: positions as i64,
            splits: splits as i32,
            reserved: 0,
        };
        let launch = match variant {
            Some(variant) => launch::aws_unit_dense(variant, &params),
            None => launch::aws_unit_dense_f32(&params),
        };
        let beside = split_bytes(&launch, self.case);
        let sums = [0, 1].map(|to| reference::aws_unit_dense(channels, to, [&x[0], &x[1]], &w));
        let share = self.finish(
            element,
            data,
            &operands,
            sums,
            channels,
            || self.stream.launch(&launch, &params),
            beside,
        );
        memory.check(self.stream);
        share
    }

    #[allow(clippy::too_many_arguments)] // a row of the table
    fn gated(
        &self,
        rng: &mut Rng,
        element: Element,
        batch: usize,
        positions: usize,
        channels: usize,
        squeezed: usize,
        gate: Gate,
    ) -> f64 {
        let (stream, pitch, data) = (self.stream, abi::pitch(channels), Data::Random);
        let x = self.pair(rng, data, element, batch * positions * channels);
        let squeeze_weight = data.parameters(rng, squeezed * 2 * channels);
        let squeeze_bias = data.parameters(rng, squeezed);
        let excite_weight = data.parameters(rng, 4 * channels * squeezed);
        let excite_bias = data.parameters(rng, 4 * channels);
        let inputs = self.maps(element, batch * positions, channels, &x);
        let outputs = [(); 2].map(|_| DeviceMap::output(stream, element, batch * positions, channels));
        let poison = |count: usize| Guarded::new(stream, &vec![0xff; count * 4]);
        let (means, coefficients) = (poison(batch * 2 * pitch), poison(batch * 4 * pitch));
        let on_device = [
            pack::squeeze(channels, &squeeze_weight),
            squeeze_bias.clone(),
            excite_weight.clone(),
            excite_bias.clone(),
        ]
        .map(|values| parameters(stream, &values));
        let input = [inputs[0].address(), inputs[1].address()];
        let means_params = abi::AwsUnitGateMeansParams {
            input,
            means: means.address(),
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
        };
        let coefficients_params = abi::AwsUnitGateCoefficientsParams {
            means: means.address(),
            squeeze_weight: on_device[0].address(),
            squeeze_bias: on_device[1].address(),
            excite_weight: on_device[2].address(),
            excite_bias: on_device[3].address(),
            coefficients: coefficients.address(),
            batch: batch as i32,
            channels: channels as i32,
            squeezed: squeezed as i32,
            gate,
        };
        let mix_params = abi::AwsUnitGateMixParams {
            input,
            output: [outputs[0].address(), outputs[1].address()],
            coefficients: coefficients.address(),
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
        };
        let found = self.under_all_schedules(&[&outputs[0], &outputs[1]], || {
            stream.launch(&launch::aws_unit_gate_means(element, &means_params), &means_params);
            stream.launch(&launch::aws_unit_gate_coefficients(&coefficients_params), &coefficients_params);
            stream.launch(&launch::aws_unit_gate_mix(element, &mix_params), &mix_params);
        });
        for array in [&means, &coefficients] {
            let values = decode(Element::F32, &array.read(stream));
            let mut pads = values.chunks_exact(pitch).flat_map(|row| &row[channels..]);
            assert!(pads.all(|v| v.to_bits() == 0), "a pad lane holds a value");
        }

        // Errors of the logits pass through the gate with a factor of at most 1/2 (softmax over two) or 1/4 (sigmoid),
        // and its own arithmetic adds a few roundings.
        let unit = 2f64.powi(-24);
        let mut expected = [(); 2].map(|_| Expected { value: Vec::new(), bound: Vec::new() });
        for n in 0..batch {
            let (mut mean, mut mean_bound) = (Vec::new(), Vec::new());
            for x in &x {
                for c in 0..channels {
                    let of = |p: usize| f64::from(x[(n * positions + p) * channels + c]);
                    let share = positions as f64;
                    mean.push((0..positions).map(of).sum::<f64>() / share);
                    let magnitude = (0..positions).map(|p| of(p).abs()).sum::<f64>() / share;
                    mean_bound.push((1.5 * share + 4.0) * unit * magnitude);
                }
            }
            let layer = |weights: &[f32], bias: f32, input: &[f64], bounds: &[f64]| -> (f64, f64) {
                let (mut value, mut bound, mut magnitude) = (f64::from(bias), 0.0, f64::from(bias).abs());
                for (&w, (x, b)) in weights.iter().zip(input.iter().zip(bounds)) {
                    value += f64::from(w) * x;
                    magnitude += (f64::from(w) * x).abs();
                    bound += f64::from(w).abs() * b;
                }
                (value, bound + (1.5 * weights.len() as f64 + 4.0) * unit * magnitude)
            };
            let (g, g_bound): (Vec<f64>, Vec<f64>) = (0..squeezed)
                .map(|j| {
                    let row = &squeeze_weight[j * 2 * channels..][..2 * channels];
                    let (value, bound) = layer(row, squeeze_bias[j], &mean, &mean_bound);
                    (value.max(0.0), bound)
                })
                .unzip();
            for position in 0..positions {
                for c in 0..channels {
                    let u = [0, 1].map(|s| f64::from(x[s][(n * positions + position) * channels + c]));
                    for (t, expected) in expected.iter_mut().enumerate() {
                        let logit = [0, 1].map(|s| {
                            let row = (t * 2 + s) * channels + c;
                            layer(
                                &excite_weight[row * squeezed..][..squeezed],
                                excite_bias[row],
                                &g,
                                &g_bound,
                            )
                        });
                        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
                        let (a, bound) = match gate {
                            Gate::Softmax => {
                                let a = sigmoid(logit[0].0 - logit[1].0);
                                let bound = (logit[0].1 + logit[1].1) / 4.0;
                                ([a, 1.0 - a], [bound, bound])
                            }
                            Gate::Sigmoid => (
                                [sigmoid(logit[0].0), sigmoid(logit[1].0)],
                                [logit[0].1 / 4.0, logit[1].1 / 4.0],
                            ),
                        };
                        // exp, addition, division, product and sum: 8 roundings cover them.
                        let bound = |s: usize| (bound[s] + 8.0 * unit * a[s]) * u[s].abs();
                        expected.value.push(a[0] * u[0] + a[1] * u[1]);
                        expected.bound.push(bound(0) + bound(1));
                    }
                }
            }
        }
        (0..2).map(|t| compare(element, data, &expected[t], &found[t])).fold(0.0, f64::max)
    }

    #[allow(clippy::too_many_arguments)] // a row of the table
    fn head(
        &self,
        rng: &mut Rng,
        element: Element,
        batch: usize,
        positions: usize,
        channels: usize,
        labels: [usize; 2],
        pooled: bool,
    ) -> f64 {
        let (stream, data) = (self.stream, Data::Random);
        let features = if pooled { channels } else { channels * positions };
        let x = self.pair(rng, data, element, batch * positions * channels);
        let w = [0, 1].map(|t| data.parameters(rng, labels[t] * features));
        let bias = data.parameters(rng, labels[0]); // the second branch has none
        let inputs = self.maps(element, batch * positions, channels, &x);
        let weights = [0, 1].map(|t| parameters(stream, &pack::head(channels, features / channels, &w[t])));
        let bias_on_device = parameters(stream, &bias);
        let scores = [Score::Softmax, Score::Sigmoid];
        let output = |t: usize| Guarded::new(stream, &vec![0xff; batch * labels[t] * 4]);
        let (logits, probabilities) = ([output(0), output(1)], [output(0), output(1)]);
        let params = abi::HeadParams {
            input: [inputs[0].address(), inputs[1].address()],
            weight: [weights[0].address(), weights[1].address()],
            bias: [bias_on_device.address(), 0],
            logits: [logits[0].address(), logits[1].address()],
            probabilities: [probabilities[0].address(), probabilities[1].address()],
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
            labels: labels.map(|l| l as i32),
            score: scores,
            pooled: i32::from(pooled),
            reserved: 0,
        };
        let launch = launch::head(element, &params);
        let mut first = None;
        for (seed, delivery) in schedules(self.case) {
            for t in 0..2 {
                logits[t].write(stream, &vec![0xff; batch * labels[t] * 4]);
                probabilities[t].write(stream, &vec![0xff; batch * labels[t] * 4]);
            }
            stream.schedule(seed, delivery);
            stream.launch(&launch, &params);
            let found = [0, 1].map(|t| [logits[t].read(stream), probabilities[t].read(stream)]);
            let first = first.get_or_insert_with(|| found.clone());
            assert!(*first == found, "other bits with seed {seed}");
        }
        let found = first.expect("at least one schedule");
        let mut worst = 0f64;
        for t in 0..2 {
            let found = [0, 1].map(|i| decode(Element::F32, &found[t][i]));
            for n in 0..batch {
                let of = |p: usize, c: usize| f64::from(x[t][(n * positions + p) * channels + c]);
                let mut logit = Expected { value: Vec::new(), bound: Vec::new() };
                for l in 0..labels[t] {
                    let (mut value, mut magnitude) = (0.0, 0.0);
                    for c in 0..channels {
                        for p in 0..positions {
                            let (weight, share) = match pooled {
                                true => (w[t][l * channels + c], 1.0 / positions as f64),
                                false => (w[t][l * features + c * positions + p], 1.0),
                            };
                            value += f64::from(weight) * of(p, c) * share;
                            magnitude += (f64::from(weight) * of(p, c) * share).abs();
                        }
                    }
                    if t == 0 {
                        value += f64::from(bias[l]);
                        magnitude += f64::from(bias[l]).abs();
                    }
                    let length = (positions * channels) as f64;
                    logit.value.push(value);
                    logit.bound.push((1.5 * length + 4.0) * 2f64.powi(-24) * magnitude);
                }
                let slice = n * labels[t]..(n + 1) * labels[t];
                worst = worst.max(compare(Element::F32, data, &logit, &found[0][slice.clone()]));
                // A probability moves by at most a quarter (sigmoid) or half (softmax) of what its logits move by; exp,
                // sum and division add a rounding for each label and a few more.
                let largest = logit.bound.iter().copied().fold(0.0, f64::max);
                let total: f64 = logit.value.iter().map(|v| v.exp()).sum();
                let value: Vec<f64> = match scores[t] {
                    Score::Softmax => logit.value.iter().map(|v| v.exp() / total).collect(),
                    Score::Sigmoid => logit.value.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
                };
                let spread = logit.value.iter().map(|v| v.abs()).fold(0.0, f64::max);
                let roundings = (8.0 + labels[t] as f64 + 2.0 * spread) * 2f64.powi(-24);
                let bound = value.iter().map(|p| largest + roundings * p).collect();
                let probability = Expected { value, bound };
                worst = worst.max(compare(Element::F32, data, &probability, &found[1][slice]));
            }
        }
        worst
    }

    fn image(
        &self,
        rng: &mut Rng,
        element: Element,
        batch: usize,
        size: [usize; 2],
        channels: usize,
        pixel: Pixel,
    ) -> f64 {
        let data = Data::Random;
        let image = TestImage::new(self.stream, rng, data, batch, size, channels, pixel);
        let output = DeviceMap::output(self.stream, element, batch * size[0] * size[1], channels);
        let params = abi::ImageToNhwcParams {
            image: image.params,
            output: output.address(),
            batch: batch as i32,
            reserved: 0,
        };
        let launch = launch::image_to_nhwc(element, &params);
        let found = self.under_all_schedules(&[&output], || self.stream.launch(&launch, &params));
        let expected = Expected {
            value: image.normalised.iter().map(|&v| f64::from(v)).collect(),
            bound: image.magnitude.iter().map(|m| 2.0 * 2f64.powi(-24) * m).collect(),
        };
        compare(element, data, &expected, &found[0])
    }
}

/// Bytes that a launch with split-K stores beside its outputs: the partial sums, and a ticket set back for each tile.
fn split_bytes(launch: &Launch, case: &Case) -> usize {
    let (Case::ImplicitGemm { variant, .. } | Case::Dense { variant: Some(variant), .. }) = case else {
        return 0;
    };
    let tiles = launch.grid[0] * launch.grid[1];
    match launch.grid[2] {
        1 => 0,
        splits => splits * tiles * 2 * variant.tile_m * variant.tile_n * 4 + tiles * 4,
    }
}

/// A caller's image on the device, with gaps between rows and images that hold NaN (or 255), and its normalised values
/// as `[positions][channels]`.
struct TestImage {
    params: abi::Image,
    normalised: Vec<f32>,
    magnitude: Vec<f64>,
    _pixels: Guarded,
}

impl TestImage {
    fn new(
        stream: &Stream,
        rng: &mut Rng,
        data: Data,
        batch: usize,
        [height, width]: [usize; 2],
        channels: usize,
        pixel: Pixel,
    ) -> TestImage {
        // Bytes come interleaved, from a decoder; floats in planes, from the tensor interface.
        const GAP: usize = 3;
        let (column, channel, row) = match pixel {
            Pixel::U8 => (channels, 1, width * channels + GAP),
            Pixel::F32 => (1, height * (width + GAP), width + GAP),
        };
        let image = match pixel {
            Pixel::U8 => height * row + GAP,
            Pixel::F32 => channels * channel + GAP,
        };
        let mut pixels = vec![f32::NAN; batch * image];
        // With integers all three are exact: a pixel of a few units, a scale and shift of small integers.
        let mut normalisation = |range: u64| -> [f32; 4] {
            [(); 4].map(|_| match data {
                Data::Integer | Data::Hole => rng.below(range) as f32 - 1.0,
                Data::Random => (rng.below(1000) as f32 - 500.0) / 400.0,
            })
        };
        let (scale, shift) = (normalisation(3), normalisation(4));
        let mut normalised = Vec::new();
        let mut magnitude = Vec::new();
        for n in 0..batch {
            for h in 0..height {
                for w in 0..width {
                    for c in 0..channels {
                        let value = match (data, pixel) {
                            (Data::Integer | Data::Hole, _) => rng.below(3) as f32,
                            (Data::Random, Pixel::U8) => rng.below(256) as f32,
                            (Data::Random, Pixel::F32) => (rng.below(2000) as f32 - 1000.0) / 300.0,
                        };
                        pixels[n * image + h * row + w * column + c * channel] = value;
                        // One rounding, as a fused multiply-add does it; the test of the image itself allows for two.
                        normalised.push(value.mul_add(scale[c], shift[c]));
                        magnitude.push(f64::from((value * scale[c]).abs() + shift[c].abs()));
                    }
                }
            }
        }
        let bytes: Vec<u8> = match pixel {
            Pixel::U8 => pixels.iter().map(|&v| if v.is_nan() { 255 } else { v as u8 }).collect(),
            Pixel::F32 => pixels.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let guarded = Guarded::of_predecessor(stream, &bytes);
        let params = abi::Image {
            pixels: guarded.address(),
            image_stride: image as i64,
            row_stride: row as i64,
            column_stride: column as i64,
            channel_stride: channel as i64,
            pixel,
            channels: channels as i32,
            height: height as i32,
            width: width as i32,
            scale,
            shift,
        };
        TestImage { params, normalised, magnitude, _pixels: guarded }
    }
}
