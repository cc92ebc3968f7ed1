//! Every entry of the tables of compiled kernels by itself, against its formula in f64, on every instruction set that this
//! machine has: tiles with all of a map's edges in them, and products of Winograd's algorithm.

use super::compiled::{ConvTile, Products, Tables, Taps, TileKernel};
use super::dispatch::kernels;
use super::epilogue::{TileMix, TileSink};
use crate::cpu::plan::tile::{BLOCKS, COLUMNS, ROWS, Tile, exists};
use crate::graph::target::Isa;
use crate::model::init::Random;
use crate::op::{Activation, Conv2d, Padding};
use crate::tensor::DType;

/// The kernels of each instruction set that this machine has; says which it lacks.
fn available() -> Vec<&'static Tables> {
    let (here, not_here): (Vec<Isa>, Vec<Isa>) = Isa::ALL.iter().copied().partition(|isa| isa.is_available());
    for isa in not_here {
        eprintln!("NOT TESTED: this machine cannot run the kernels for {isa}");
    }
    let tables = |isa| &kernels(isa).expect("kernels of an instruction set of this machine").tables;
    here.into_iter().map(tables).collect()
}

/// So many numbers in -1..1.
fn take(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.between(-1.0, 1.0)).collect()
}

/// What stands behind a tile's sums.
#[derive(Clone, Copy, Debug)]
struct Behind {
    scale: bool,
    residual: bool,
    activation: Activation,
    /// Its formula, of a slope and x.
    formula: fn(f64, f64) -> f64,
    mix: bool,
}

const LEAKY: Activation = Activation::LeakyRelu { negative_slope: 0.25 };

const fn behind(
    [scale, residual, mix]: [bool; 3],
    activation: Activation,
    formula: fn(f64, f64) -> f64,
) -> Behind {
    Behind { scale, residual, activation, formula, mix }
}

const BEHIND: [Behind; 5] = [
    behind([false, false, false], Activation::None, |_, x| x),
    behind([false, true, false], Activation::Relu, |_, x| x.max(0.0)),
    behind([false, false, true], LEAKY, |_, x| x.max(0.0) + 0.25 * x.min(0.0)),
    behind([true, true, true], Activation::Silu, |_, x| x / (1.0 + (-x).exp())),
    behind([true, false, false], Activation::Prelu, |slope, x| x.max(0.0) + slope * x.min(0.0)),
];

/// Runs a tile as a 3x3 convolution with padding 1 whose output is the tile, so that it has all edges of the map.
fn check_tile(isa: Isa, kernel: &TileKernel, input_lanes: usize, stride: [usize; 2], behind: Behind) {
    let place = format!("{isa} {} input lanes {input_lanes} stride {stride:?} {behind:?}", kernel.name);
    let Tile { rows, columns, blocks } = kernel.tile;
    let (lanes, input_blocks, taps) = (isa.lanes(), 2, 9);
    let padding = Padding::uniform(1);
    let conv = Conv2d { kernel: [3, 3], stride, padding, dilation: [1, 1], groups: 1 };
    let size = [(rows - 1) * stride[0] + 1, (columns - 1) * stride[1] + 1];
    let mut numbers = Random::new(kernel.name.bytes().map(u64::from).sum::<u64>() * 31 + input_lanes as u64);

    // [block][row and halo][column and halo][lane], zeros around.
    let (input_row, input_block) = ((size[1] + 2) * input_lanes, (size[0] + 2) * (size[1] + 2) * input_lanes);
    let mut input = vec![0.0; input_blocks * input_block];
    for block in input.chunks_exact_mut(input_block) {
        for row in block.chunks_exact_mut(input_row).skip(1).take(size[0]) {
            row[input_lanes..][..size[1] * input_lanes].fill_with(|| numbers.between(-1.0, 1.0));
        }
    }
    // [input block][tap][input lane][output channel]
    let channels = blocks * lanes;
    let mut weights = take(&mut numbers, input_blocks * taps * input_lanes * channels);
    let bits: Vec<u16> = match kernel.weights {
        DType::F32 => Vec::new(),
        DType::F16 => weights.iter().map(|&w| half::f16::from_f32(w).to_bits()).collect(),
        DType::BF16 => weights.iter().map(|&w| half::bf16::from_f32(w).to_bits()).collect(),
    };
    for (weight, &bits) in weights.iter_mut().zip(&bits) {
        *weight = match kernel.weights {
            DType::F32 => *weight,
            DType::F16 => half::f16::from_bits(bits).to_f32(),
            DType::BF16 => half::bf16::from_bits(bits).to_f32(),
        };
    }
    let (bias, scale) = (take(&mut numbers, channels), take(&mut numbers, channels));
    let narrow = kernel.weights != DType::F32;
    // [block][row][column][lane]
    let len = rows * columns * channels;
    let (residual, u_emotion, mix) =
        (take(&mut numbers, len), take(&mut numbers, len), take(&mut numbers, 4 * channels));
    let (factors, slopes) = (take(&mut numbers, len), take(&mut numbers, channels));
    let (mut output, mut emotion) = (vec![f32::NAN; len], u_emotion.clone());
    let (row, block) = (columns * lanes, rows * columns * lanes);

    let ends = |axis: usize, outputs: usize| {
        let inside = |at| conv.taps_inside(axis, at, size[axis]);
        Taps::new(inside(0), inside(outputs - 1))
    };
    let tile = ConvTile {
        input: input.as_ptr(),
        input_row: stride[0] * input_row,
        pixel_step: stride[1] * input_lanes,
        input_block,
        input_blocks,
        input_lanes,
        last_lanes: input_lanes,
        kernel: conv.kernel,
        taps: [ends(0, rows), ends(1, columns)],
        tap_steps: [input_row, input_lanes],
        weights: if narrow { bits.as_ptr().cast() } else { weights.as_ptr().cast() },
        bias: bias.as_ptr(),
        scale: if narrow { scale.as_ptr() } else { std::ptr::null() },
        sink: TileSink {
            output: output.as_mut_ptr(),
            output_row: row,
            output_block: block,
            scale: if behind.scale { factors.as_ptr() } else { std::ptr::null() },
            scale_steps: [row, lanes, block],
            residual: if behind.residual { residual.as_ptr() } else { std::ptr::null() },
            residual_row: row,
            residual_block: block,
            activation: behind.activation,
            slopes: if behind.activation == Activation::Prelu { slopes.as_ptr() } else { std::ptr::null() },
            mix: behind.mix.then_some(TileMix {
                weights: mix.as_ptr(),
                pair: channels,
                emotion: emotion.as_mut_ptr(),
            }),
        },
    };
    let reads = tile.reads(rows, columns).expect("products with more than zeros");
    assert!(reads.end <= input.len(), "{place}: reads {reads:?} of {}", input.len());
    // SAFETY: the processor has the instruction set; all pointers are to what the tile reads and writes.
    unsafe { (kernel.run)(&tile) };

    for at in 0..len {
        let (o, y, x) = (at / block * lanes + at % lanes, at % block / row, at % row / lanes);
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for i in 0..input_blocks * input_lanes {
            for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                let from = i / input_lanes * input_block
                    + (y * stride[0] + ky) * input_row
                    + (x * stride[1] + kx) * input_lanes
                    + i % input_lanes;
                let weight =
                    ((i / input_lanes * taps + ky * 3 + kx) * input_lanes + i % input_lanes) * channels;
                let product = f64::from(input[from]) * f64::from(weights[weight + o]);
                (sum, magnitude) = (sum + product, magnitude + product.abs());
            }
        }
        let factor = if narrow { f64::from(scale[o]) } else { 1.0 };
        let residual = if behind.residual { f64::from(residual[at]) } else { 0.0 };
        let multiplied = if behind.scale { f64::from(factors[at]) } else { 1.0 };
        let z = (sum * factor + f64::from(bias[o])) * multiplied + residual;
        let u = (behind.formula)(f64::from(slopes[o]), z);
        let terms = (input_blocks * input_lanes * taps + 4) as f64;
        let bound = 4.0 * terms * (magnitude + 4.0) / (1 << 24) as f64;
        let a = |pair: usize| f64::from(mix[pair * channels + o]);
        let (expected, expected_emotion) = match behind.mix {
            true => {
                let e = f64::from(u_emotion[at]);
                (a(2) * e + a(3) * u, a(0) * e + a(1) * u)
            }
            false => (u, f64::from(u_emotion[at])),
        };
        for (found, expected) in [(output[at], expected), (emotion[at], expected_emotion)] {
            let error = (f64::from(found) - expected).abs();
            assert!(error <= bound, "{place}: output {o}, {y}, {x}: {found} for {expected}");
        }
    }
}

#[test]
fn every_tile_computes_a_convolution() {
    for tables in available() {
        let (isa, lanes) = (tables.isa, tables.isa.lanes());
        let mut checked = 0;
        for kernel in tables.tiles() {
            // Blocks of channels, and the planes of an image; a stride that is the kernel's step, or some.
            for input_lanes in [lanes, 1] {
                let columns: &[usize] = match kernel.step {
                    None => &[1, 2, 3],
                    Some(step) if step == input_lanes => &[1],
                    Some(step) if step == 2 * input_lanes => &[2],
                    Some(_) => &[],
                };
                for (index, &column) in columns.iter().enumerate() {
                    for (row, behind) in (1..).zip(BEHIND) {
                        check_tile(isa, kernel, input_lanes, [1 + (row + index) % 2, column], behind);
                        checked += 1;
                    }
                }
            }
        }
        eprintln!("{isa}: {checked} cases of {} tiles", tables.tiles().count());
    }
}

#[test]
fn the_table_has_every_tile_that_exists_for_any_step_and_type() {
    for tables in Isa::ALL.iter().copied().filter_map(kernels).map(|kernels| &kernels.tables) {
        for (rows, columns, blocks) in ROWS
            .into_iter()
            .flat_map(|r| COLUMNS.into_iter().flat_map(move |c| BLOCKS.into_iter().map(move |b| (r, c, b))))
        {
            let tile = Tile { rows, columns, blocks };
            for weights in [DType::F32, DType::F16, DType::BF16] {
                let entries: Vec<Option<usize>> = tables
                    .tiles()
                    .filter(|kernel| kernel.tile == tile && kernel.weights == weights)
                    .map(|kernel| kernel.step)
                    .collect();
                let any = entries.iter().filter(|step| step.is_none()).count();
                let expected = usize::from(exists(tables.isa, tile));
                assert_eq!(any, expected, "{} {tile} {weights}: {entries:?}", tables.isa);
            }
        }
    }
}

#[test]
fn every_product_is_a_matrix_product() {
    for tables in available() {
        let lanes = tables.isa.lanes();
        for kernel in tables.products() {
            let (columns, width) = (kernel.columns, kernel.blocks * lanes);
            let (elements, input_blocks) = (3, 2);
            let channels = input_blocks * lanes;
            let mut numbers = Random::new((columns * 10 + kernel.blocks) as u64);
            let input = take(&mut numbers, elements * channels * columns); // [element][block][tile][lane]
            let weights = take(&mut numbers, elements * channels * width);
            let mut sums = vec![f32::NAN; elements * columns * width];
            let products = Products {
                elements,
                input: input.as_ptr(),
                input_element: channels * columns,
                input_block: columns * lanes,
                input_blocks,
                weights: weights.as_ptr(),
                ahead: weights.as_ptr(),
                ahead_lines: 1,
                sums: sums.as_mut_ptr(),
                sums_element: columns * width,
            };
            // SAFETY: the processor has the instruction set; all pointers are to what the kernel reads and writes.
            unsafe { (kernel.run)(&products) };
            for (at, &found) in sums.iter().enumerate() {
                let (element, column, o) = (at / (columns * width), at / width % columns, at % width);
                let product = |i: usize| {
                    let from = element * channels * columns + i / lanes * columns * lanes;
                    let x = input[from + column * lanes + i % lanes];
                    f64::from(x) * f64::from(weights[(element * channels + i) * width + o])
                };
                let expected: f64 = (0..channels).map(product).sum();
                let magnitude: f64 = (0..channels).map(|i| product(i).abs()).sum();
                let bound = 1.5 * (channels + 3) as f64 * magnitude / (1 << 24) as f64;
                let error = (f64::from(found) - expected).abs();
                assert!(error <= bound, "{} {}: {at}: {found} for {expected}", tables.isa, kernel.name);
            }
        }
    }
}
