//! What a launch costs, by the emulated driver's counters: fusing adds no launch, and no traffic but its operands'.

use awsnet::__tests::abi::{self, Activation, Mix};
use awsnet::__tests::launch;
use awsnet::__tests::variants::CONV2D_IMPLICIT_GEMM;

use crate::data::{Data, DeviceMap, Guarded, Rng};
use crate::driver::{Counters, Stream};
use crate::fused::{Fused, FusedOperands, Scale};

/// What one 3x3 convolution pair with an epilogue does: 6x6 positions, 24 -> 16 channels. None on a real device.
fn cost(fused: Fused) -> Option<Counters> {
    const SIZE: usize = 6;
    const IN: usize = 24;
    const OUT: usize = 16;
    let stream = Stream::new();
    let variant = &CONV2D_IMPLICIT_GEMM[0];
    let rng = &mut Rng::new(1);
    let maps = [(); 2].map(|_| {
        let values = Data::Integer.values(rng, variant.element, SIZE * SIZE * IN);
        DeviceMap::input(&stream, variant.element, SIZE * SIZE, IN, &values)
    });
    let weights = [(); 2].map(|_| Guarded::new(&stream, &vec![0; OUT * 9 * IN * 2]));
    let operands =
        FusedOperands::new(&stream, fused, variant.element, Data::Integer, rng, [SIZE * SIZE; 2], OUT);
    let params = abi::Conv2dParams {
        epilogue: operands.epilogue(),
        input: fused.present([maps[0].address(), maps[1].address()]),
        weight: fused.present([weights[0].address(), weights[1].address()]),
        workspace: 0,
        tickets: 0,
        batch: 1,
        in_h: SIZE as i32,
        in_w: SIZE as i32,
        in_channels: IN as i32,
        out_h: SIZE as i32,
        out_w: SIZE as i32,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 1,
        stride_w: 1,
        pad_top: 1,
        pad_left: 1,
        dilation_h: 1,
        dilation_w: 1,
        groups: 1,
        splits: 1,
        projection: [0; 2],
        projection_h: 0,
        projection_w: 0,
        projection_channels: 0,
        projection_stride_h: 0,
        projection_stride_w: 0,
        reserved: 0,
    };
    let before = stream.counters()?;
    stream.launch(&launch::conv2d_implicit_gemm(variant, &params), &params);
    operands.outputs[0].values(&stream); // waits for the launch
    let after = stream.counters()?;
    Some(Counters {
        launches: after.launches - before.launches,
        bytes_loaded: after.bytes_loaded - before.bytes_loaded,
        bytes_stored: after.bytes_stored - before.bytes_stored,
        ..after
    })
}

#[test]
fn fusing_adds_no_launch_and_no_traffic_but_its_operands() {
    let (Some(plain), Some(activated), Some(layer), Some(everything)) = (
        cost(Fused::PLAIN),
        cost(Fused { activation: Activation::Silu, ..Fused::PLAIN }),
        cost(Fused { mix: Mix::Layer, ..Fused::PLAIN }),
        cost(Fused {
            bias: true,
            residual: true,
            activation: Activation::Relu,
            mix: Mix::Channel,
            ..Fused::PLAIN
        }),
    ) else {
        return; // a real device counts nothing
    };
    const POSITIONS: u64 = 36;
    const VECTORS: u64 = 2; // of 16 channels
    const THREADS: u64 = POSITIONS * VECTORS; // if each finishes one vector of both branches
    for cost in [plain, activated, layer, everything] {
        assert_eq!(cost.launches, 1);
        assert_eq!(cost.bytes_stored, 2 * THREADS * 16, "each output vector once");
    }
    assert_eq!(activated.bytes_loaded, plain.bytes_loaded);
    // A thread with several vectors has them of the same channels, whose bias and coefficients it reads once.
    let adds = |cost: &Counters, least: u64, most: u64| {
        let added = cost.bytes_loaded - plain.bytes_loaded;
        assert!((THREADS / 2 * least..=THREADS * most).contains(&added), "{added} bytes more");
    };
    adds(&layer, 16, 16); // the 2x2 coefficients
    let (residual, of_channels) = (2 * 16, 2 * 32 + 4 * 32); // of a vector of both branches: bias, coefficients
    adds(&everything, 2 * residual + of_channels, residual + of_channels);
}

#[test]
fn one_branch_loads_and_stores_half_of_what_two_do() {
    let (Some(pair), Some(alone)) = (cost(Fused::PLAIN), cost(Fused::ALONE)) else {
        return; // a real device counts nothing
    };
    assert_eq!(alone.launches, 1);
    assert_eq!(2 * alone.bytes_loaded, pair.bytes_loaded);
    assert_eq!(2 * alone.bytes_stored, pair.bytes_stored);
}

#[test]
fn a_scale_adds_its_operands_and_no_launch() {
    let (Some(plain), Some(map), Some(spread)) = (
        cost(Fused::PLAIN),
        cost(Fused { scale: Scale::Map, ..Fused::PLAIN }),
        cost(Fused { scale: Scale::Spread, ..Fused::PLAIN }),
    ) else {
        return; // a real device counts nothing
    };
    const THREADS: u64 = 36 * 2; // each reads one vector of a scale a branch
    for cost in [map, spread] {
        assert_eq!(cost.launches, 1);
        assert_eq!(cost.bytes_loaded, plain.bytes_loaded + THREADS * 2 * 16);
        assert_eq!(cost.bytes_stored, plain.bytes_stored);
    }
}
