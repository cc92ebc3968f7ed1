//! The operators that end in the epilogue: one launch, a map of each branch.

use awsnet::__tests::abi::{self, Pixel, Pool};
use awsnet::__tests::launch::{self, Launch, Splitting};
use awsnet::__tests::pack::{self, Oihw};
use awsnet::__tests::variants::{DirectVariant, GemmVariant};

use super::{Runner, SplitMemory, TestImage, addresses};
use crate::data::round;
use crate::fused::Fused;
use crate::reference::{self, Projection, Window, compare};

/// How the weights of a convolution and of its projection are packed.
type Pack = fn(Oihw, &[f32], usize, &[f32]) -> Vec<f32>;

impl Runner<'_> {
    pub fn implicit_gemm(
        &mut self,
        variant: &GemmVariant,
        window: &Window,
        splits: usize,
        fused: Fused,
    ) -> f64 {
        let need = launch::splitting(variant, fused.branches, window.positions(), window.channels, splits);
        let memory = SplitMemory::new(self.stream, need, splits);
        let launch = |p: &abi::Conv2dParams| launch::conv2d_implicit_gemm(variant, p);
        let share = self.conv2d(window, fused, pack::implicit_gemm_projected, launch, &memory);
        memory.check(self.stream);
        share
    }

    pub fn direct(&mut self, variant: &DirectVariant, window: &Window, fused: Fused) -> f64 {
        self.whole_conv2d(window, fused, |p| launch::conv2d_direct(variant, p))
    }

    pub fn depthwise(&mut self, window: &Window, fused: Fused) -> f64 {
        let element = self.element;
        self.whole_conv2d(window, fused, |p| launch::conv2d_depthwise(element, p))
    }

    /// A convolution whose threads keep their reductions to themselves.
    fn whole_conv2d(
        &mut self,
        window: &Window,
        fused: Fused,
        launch: impl Fn(&abi::Conv2dParams) -> Launch,
    ) -> f64 {
        let none = SplitMemory::new(self.stream, Splitting { workspace_bytes: 0, tickets: 0 }, 1);
        self.conv2d(window, fused, pack::direct_projected, launch, &none)
    }

    fn conv2d(
        &mut self,
        window: &Window,
        fused: Fused,
        pack: Pack,
        launch: impl Fn(&abi::Conv2dParams) -> Launch,
        split: &SplitMemory,
    ) -> f64 {
        let [out_h, out_w] = window.output();
        let shape =
            Oihw { out: window.channels, input: window.in_channels / window.groups, kernel: window.kernel };
        let x = self.inputs(window.in_positions(), window.in_channels);
        let w = self.pair(shape.len());
        // With no projection its map, its weights and its fields are nothing and 0.
        let none = Projection { input: [0, 0], channels: 0, stride: [0, 0] };
        let projection = window.projection.unwrap_or(none);
        let projected = window.projection.map(|p| {
            let positions = window.batch * p.input[0] * p.input[1];
            self.inputs(positions, p.channels)
        });
        let projected_w = self.pair(window.channels * projection.channels);
        let packed = [0, 1].map(|t| pack(shape, &w[t], projection.channels, &projected_w[t]));
        let weights = self.weights(packed);
        let operands = self.operands(fused, window.positions(), window.batch, window.channels);
        let [workspace, tickets] = split.addresses();
        let params = abi::Conv2dParams {
            epilogue: operands.epilogue(),
            input: fused.present(x.addresses()),
            weight: fused.present(addresses(&weights)),
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
            splits: split.splits as i32,
            projection: projected.as_ref().map_or([0; 2], |inputs| fused.present(inputs.addresses())),
            projection_h: projection.input[0] as i32,
            projection_w: projection.input[1] as i32,
            projection_channels: projection.channels as i32,
            projection_stride_h: projection.stride[0] as i32,
            projection_stride_w: projection.stride[1] as i32,
            reserved: 0,
        };
        let launch = launch(&params);
        let sums = [0, 1].map(|t| {
            let mut sums = reference::conv2d(window, &x.values[t], &w[t]);
            if let Some(projected) = &projected {
                let from = &projected.values[t];
                reference::add_projection(&mut sums, window, &projection, from, &projected_w[t]);
            }
            sums
        });
        self.finish(&operands, sums, &launch, &params, self.stored_by_splits(&launch))
    }

    pub fn stem(&mut self, window: &Window, pixel: Pixel, fused: Fused) -> f64 {
        let [out_h, out_w] = window.output();
        let shape = Oihw { out: window.channels, input: window.in_channels, kernel: window.kernel };
        let image = self.test_image(window.batch, window.input, window.in_channels, pixel);
        let x: Vec<f32> = image.normalised.iter().map(|&v| round(self.element, v)).collect();
        let w = self.pair(shape.len());
        let weights = self.weights([0, 1].map(|t| pack::stem(shape, &w[t])));
        let operands = self.operands(fused, window.positions(), window.batch, window.channels);
        let params = abi::Conv2dStemParams {
            epilogue: operands.epilogue(),
            image: image.params,
            weight: fused.present(addresses(&weights)),
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
        let sums = [0, 1].map(|t| reference::conv2d(window, &x, &w[t]));
        let launch = launch::conv2d_stem(self.element, &params);
        // A block of a large launch computes several patches, some one more than others.
        let fewer = Launch { grid: [launch.grid[0].div_ceil(2), launch.grid[1], 1], ..launch.clone() };
        let error = self.finish(&operands, sums.clone(), &launch, &params, 0);
        if fewer.grid == launch.grid {
            return error;
        }
        error.max(self.finish(&operands, sums, &fewer, &params, 0))
    }

    pub fn pool(&mut self, window: &Window, kind: Pool, include_pad: bool, fused: Fused) -> f64 {
        let [out_h, out_w] = window.output();
        let x = self.inputs(window.in_positions(), window.channels);
        let operands = self.operands(fused, window.positions(), window.batch, window.channels);
        let counted = if include_pad { window.padding } else { [0; 4] };
        let params = abi::Pool2dParams {
            epilogue: operands.epilogue(),
            input: fused.present(x.addresses()),
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
            counted_top: counted[0] as i32,
            counted_left: counted[1] as i32,
            counted_bottom: counted[2] as i32,
            counted_right: counted[3] as i32,
        };
        let sums = [0, 1].map(|t| reference::pool2d(window, kind, include_pad, &x.values[t]));
        self.finish(&operands, sums, &launch::pool2d(self.element, &params), &params, 0)
    }

    pub fn adaptive(
        &mut self,
        batch: usize,
        input: [usize; 2],
        channels: usize,
        output: [usize; 2],
        fused: Fused,
    ) -> f64 {
        let x = self.inputs(batch * input[0] * input[1], channels);
        let operands = self.operands(fused, batch * output[0] * output[1], batch, channels);
        let params = abi::Pool2dParams {
            epilogue: operands.epilogue(),
            input: fused.present(x.addresses()),
            batch: batch as i32,
            in_h: input[0] as i32,
            in_w: input[1] as i32,
            out_h: output[0] as i32,
            out_w: output[1] as i32,
            kernel_h: 0,
            kernel_w: 0,
            stride_h: 0,
            stride_w: 0,
            pad_top: 0,
            pad_left: 0,
            kind: Pool::AdaptiveAverage,
            counted_top: 0,
            counted_left: 0,
            counted_bottom: 0,
            counted_right: 0,
        };
        let sums = [0, 1].map(|t| reference::adaptive_average(batch, input, channels, output, &x.values[t]));
        self.finish(&operands, sums, &launch::pool2d(self.element, &params), &params, 0)
    }

    pub fn upsample(
        &mut self,
        batch: usize,
        input: [usize; 2],
        channels: usize,
        factor: [usize; 2],
        fused: Fused,
    ) -> f64 {
        let x = self.inputs(batch * input[0] * input[1], channels);
        let positions = batch * input[0] * factor[0] * input[1] * factor[1];
        let operands = self.operands(fused, positions, batch, channels);
        let params = abi::Upsample2dParams {
            epilogue: operands.epilogue(),
            input: fused.present(x.addresses()),
            batch: batch as i32,
            in_h: input[0] as i32,
            in_w: input[1] as i32,
            factor_h: factor[0] as i32,
            factor_w: factor[1] as i32,
            reserved: 0,
        };
        let sums = [0, 1].map(|t| reference::upsample2d(batch, input, channels, factor, &x.values[t]));
        self.finish(&operands, sums, &launch::upsample2d(self.element, &params), &params, 0)
    }

    pub fn identity(&mut self, positions: usize, channels: usize, in_place: bool, fused: Fused) -> f64 {
        let x = self.inputs(positions, channels);
        let operands = self.operands(fused, positions, 2.min(positions), channels);
        let params = abi::IdentityParams {
            epilogue: operands.epilogue(),
            input: fused.present(x.addresses()),
            positions: positions as i64,
        };
        let launch = launch::identity(self.element, &params);
        let sums = || [0, 1].map(|t| reference::identity(&x.values[t]));
        let share = self.finish(&operands, sums(), &launch, &params, 0);
        if in_place {
            // Once more over its own inputs, each branch's output where its input stands.
            let mut params = params;
            params.epilogue.output = params.input;
            params.epilogue.output_pitch = abi::pitch(channels) as i32;
            self.stream.launch(&launch, &params);
            let expected = reference::finish(sums(), channels, &operands.values);
            for (map, expected) in x.device.iter().zip(&expected).take(fused.branches) {
                compare(self.element, self.data, expected, &map.values(self.stream));
            }
        }
        share
    }

    pub fn dense(
        &mut self,
        variant: Option<&GemmVariant>,
        positions: usize,
        channels: usize,
        splits: usize,
    ) -> f64 {
        let x = self.inputs(positions, channels);
        let w = self.data.values(&mut self.rng, self.element, 4 * channels * channels);
        let packed = [0, 1].map(|to| pack::aws_unit_dense(self.element, channels, to, &w));
        let weights = self.weights(packed);
        let operands = self.operands(Fused::PLAIN, positions, 1, channels);
        let need = variant.map_or(Splitting { workspace_bytes: 0, tickets: 0 }, |v| {
            launch::splitting(v, 2, positions, channels, splits)
        });
        let memory = SplitMemory::new(self.stream, need, splits);
        let [workspace, tickets] = memory.addresses();
        let params = abi::AwsUnitDenseParams {
            epilogue: operands.epilogue(),
            input: x.addresses(),
            weight: addresses(&weights),
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
        let inputs = [&x.values[0][..], &x.values[1]];
        let sums = [0, 1].map(|to| reference::aws_unit_dense(channels, to, inputs, &w));
        let share = self.finish(&operands, sums, &launch, &params, self.stored_by_splits(&launch));
        memory.check(self.stream);
        share
    }

    /// Bytes that a launch with split-K stores beside its outputs: the partial sums, and a ticket set back for each
    /// tile.
    fn stored_by_splits(&self, launch: &Launch) -> usize {
        let Some(variant) = self.case.gemm_variant() else { return 0 };
        let branches = self.case.fused().map_or(2, |fused| fused.branches);
        let tiles = launch.grid[0] * launch.grid[1];
        match launch.grid[2] {
            1 => 0,
            splits => splits * tiles * branches * variant.tile_m * variant.tile_n * 4 + tiles * 4,
        }
    }

    pub fn test_image(&mut self, batch: usize, size: [usize; 2], channels: usize, pixel: Pixel) -> TestImage {
        TestImage::new(self.stream, &mut self.rng, self.data, batch, size, channels, pixel)
    }
}
