//! What is asked of a device: the operands of every kernel of `wrappers.cu`, and what its results may be.
//!
//! The PTX manual says exactly what most wrappers give; the rest is right within the error that the hardware's sums and
//! `expf` may have. Definitions are in f64 and in the crate `half`; nothing comes from the emulator.

use half::{bf16, f16};

/// What one result may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Right {
    /// Exactly these bits.
    Bits(u32),
    /// An f32 that is not a number, whatever its payload.
    Nan,
    /// An f32 this near to a value; either zero is 0.
    Within { value: f64, bound: f64 },
}

/// A launch, and what it should give.
pub struct Experiment {
    /// The kernel is `calibrate_<name>`.
    pub name: &'static str,
    pub grid: usize,
    pub threads: usize,
    pub shared_bytes: usize,
    pub input: Vec<u8>,
    /// Bytes of a result: 1, 2 or 4.
    pub width: usize,
    pub right: Vec<Right>,
}

/// Random bits, the same on every machine (splitmix64).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// In [-1, 1) times a power of two from 2^-`spread` to 1.
    fn number(&mut self, spread: u64) -> f32 {
        let uniform = (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        uniform * 2f32.powi(-(self.below(spread + 1) as i32))
    }
}

fn words(bytes: &[u8]) -> Vec<Right> {
    bytes.chunks_exact(4).map(|b| Right::Bits(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
}

fn single(bits: u32) -> Right {
    if f32::from_bits(bits).is_nan() { Right::Nan } else { Right::Bits(bits) }
}

pub fn all() -> Vec<Experiment> {
    let mut bits = Bits(1);
    let [f32_to_f16, f32_to_bf16] = from_f32();
    let [max_nan_f32, max_nan_f16x2, max_nan_bf16x2] = max_nan(&mut bits);
    vec![
        f16_to_f32(),
        f32_to_f16,
        f32_to_bf16,
        max_nan_f32,
        max_nan_f16x2,
        max_nan_bf16x2,
        arithmetic(&mut bits),
        shuffle_xor(&mut bits),
        global_memory(&mut bits),
        draw_ticket(),
        draw_ticket_order(&mut bits),
        cp_async_16(&mut bits),
        cp_async_wait(&mut bits),
        ldmatrix("ldmatrix_x4_64", 4, &mut bits),
        ldmatrix("ldmatrix_x4_128", 8, &mut bits),
        mma("mma_m16n8k16_f16", Half::F16, &mut bits),
        mma("mma_m16n8k16_bf16", Half::Bf16, &mut bits),
    ]
}

/// An experiment whose threads have an operand each.
fn each(name: &'static str, input: Vec<u8>, width: usize, count: usize, right: Vec<Right>) -> Experiment {
    const THREADS: usize = 256;
    assert_eq!(count % THREADS, 0);
    Experiment { name, grid: count / THREADS, threads: THREADS, shared_bytes: 0, input, width, right }
}

/// Every f16 there is.
fn f16_to_f32() -> Experiment {
    let all = || 0..=u16::MAX;
    let input = all().flat_map(u16::to_le_bytes).collect();
    let right = all().map(|bits| single(f16::from_bits(bits).to_f32().to_bits())).collect();
    each("f16_to_f32", input, 4, 1 << 16, right)
}

/// Every sign and exponent, with mantissas on, beside and between the ties of both 16-bit types.
fn from_f32() -> [Experiment; 2] {
    let mut mantissas = vec![0, 1, 0x3f_ffff, 0x40_0000, 0x7f_ffff];
    for kept in [7, 10] {
        let tie = 1 << (22 - kept);
        for odd in [0, 1] {
            let at = (odd << (23 - kept)) + tie;
            mantissas.extend([at - 1, at, at + 1, 0x7f_ffff - (tie << 1) + at]);
        }
        mantissas.extend([0x7f_ffff - tie, 0x7f_ffff - tie + 1]);
    }
    mantissas.extend([0x12_3456, 0x6d_cba9, 0x2a_aaaa, 0x55_5555, 0x00_2000, 0x00_1000, 0x01_0000]);
    let mut numbers: Vec<u32> =
        (0..512).flat_map(|top| mantissas.iter().map(move |m| top << 23 | m & 0x7f_ffff)).collect();
    numbers.resize(numbers.len().next_multiple_of(256), 0);
    let input: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let numbers = || numbers.iter().map(|&bits| f32::from_bits(bits));
    // The manual: a NaN becomes the one NaN of the type, 0x7fff.
    let bits = |is_nan: bool, bits: u16| Right::Bits(u32::from(if is_nan { 0x7fff } else { bits }));
    let to_f16 = numbers().map(|x| bits(x.is_nan(), f16::from_f32(x).to_bits())).collect();
    let to_bf16 = numbers().map(|x| bits(x.is_nan(), bf16::from_f32(x).to_bits())).collect();
    [
        each("f32_to_f16", input.clone(), 2, input.len() / 4, to_f16),
        each("f32_to_bf16", input.clone(), 2, input.len() / 4, to_bf16),
    ]
}

/// The larger of two numbers, +0 larger than -0, and a NaN where either is one: zeros, infinities, NaNs, subnormals and
/// random bits, each with each. Of the 16-bit types the second half of a register is the first of another pair.
fn max_nan(bits: &mut Bits) -> [Experiment; 3] {
    let larger = |a: f32, b: f32| {
        if a.is_nan() || b.is_nan() { f32::NAN } else { if a.total_cmp(&b).is_gt() { a } else { b } }
    };
    let mut singles =
        vec![0.0f32, -0.0, 1.5, -1.5, 1e-45, -1e-45, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
    singles.extend((0..6).map(|_| bits.number(20)));
    let mut halves: Vec<u16> =
        [0.0, -0.0, 1.5, -1.5, 6e-8, -6e-8].map(|v| f16::from_f32(v).to_bits()).to_vec();
    halves.extend([0x7c00, 0xfc00, 0x7e00, 0xfe01]);
    halves.extend((0..6).map(|_| bits.next() as u16));
    let pairs = |count: usize| (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)));
    let count = singles.len();
    let input = pairs(count).flat_map(|(a, b)| [singles[a], singles[b]]).flat_map(f32::to_le_bytes).collect();
    let right = pairs(count).map(|(a, b)| single(larger(singles[a], singles[b]).to_bits())).collect();
    let single = each("max_nan_f32", input, 4, count * count, right);
    let of_halves = |name, to_f32: fn(u16) -> f32| {
        let other = |(a, b): (usize, usize)| [(a * 7 + 3) % count, (b * 5 + 1) % count];
        let operands = |pair: (usize, usize)| [[pair.0, other(pair)[0]], [pair.1, other(pair)[1]]];
        let input = pairs(count).flat_map(operands).flatten().flat_map(|i| halves[i].to_le_bytes()).collect();
        // The manual: a NaN becomes the one NaN of the type, 0x7fff.
        let half = |a: usize, b: usize| match larger(to_f32(halves[a]), to_f32(halves[b])) {
            v if v.is_nan() => 0x7fff,
            v => u32::from(if v.to_bits() == to_f32(halves[a]).to_bits() { halves[a] } else { halves[b] }),
        };
        let right = pairs(count).map(|pair| {
            let [low, high] = [[pair.0, pair.1], other(pair)].map(|[a, b]| half(a, b));
            Right::Bits(high << 16 | low)
        });
        each(name, input, 4, count * count, right.collect())
    };
    [
        single,
        of_halves("max_nan_f16x2", |bits| f16::from_bits(bits).to_f32()),
        of_halves("max_nan_bf16x2", |bits| bf16::from_bits(bits).to_f32()),
    ]
}

/// Division and fused multiply-add round once. CUDA promises 1 ulp of `expf`; the C library that the emulator uses, less.
fn arithmetic(bits: &mut Bits) -> Experiment {
    let edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        88.72,
        89.0,
        -87.0,
        -104.0,
        f32::MIN_POSITIVE,
        -1e-40,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1.0 / 3.0,
        1e-45,
    ];
    let mut pairs: Vec<[f32; 2]> = edges.iter().flat_map(|&x| edges.map(|y| [x, y])).collect();
    while pairs.len() < 1024 {
        pairs.push([16.0 * bits.number(12), 4.0 * bits.number(12)]);
    }
    let right = pairs.iter().flat_map(|&[x, y]| {
        let exp = f64::from(x).exp();
        let ulp = f64::from(f32::from_bits((exp as f32).to_bits() + 1)) - f64::from(exp as f32);
        let exp = match exp {
            e if e.is_nan() => Right::Nan,
            e if e > f64::from(f32::MAX) => Right::Bits(f32::INFINITY.to_bits()),
            value => Right::Within { value, bound: 2.0 * ulp },
        };
        [single((x / y).to_bits()), single(x.mul_add(y, 1.0).to_bits()), exp]
    });
    let input = pairs.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    each("arithmetic", input, 4, pairs.len(), right.collect())
}

/// All 32 masks over lanes that hold numbers, infinities, NaNs and subnormals.
fn shuffle_xor(bits: &mut Bits) -> Experiment {
    let lanes: Vec<u32> = (0..32)
        .map(|lane| match lane % 8 {
            0 => 0x7f80_0000,
            1 => 0xffc1_2345,
            2 => 1 + lane,
            3 => 0x8000_0000,
            _ => bits.next() as u32,
        })
        .collect();
    Experiment {
        name: "shuffle_xor",
        grid: 32,
        threads: 32,
        shared_bytes: 0,
        input: lanes.iter().flat_map(|v| v.to_le_bytes()).collect(),
        width: 4,
        right: (0..32 * 32).map(|i| Right::Bits(lanes[(i % 32) ^ (i / 32)])).collect(),
    }
}

fn global_memory(bits: &mut Bits) -> Experiment {
    let input = bits.bytes(32 * 16);
    let right = words(&input.repeat(5));
    Experiment { name: "global_memory", grid: 1, threads: 32, shared_bytes: 0, input, width: 4, right }
}

fn draw_ticket() -> Experiment {
    const BLOCKS: usize = 16;
    let (threads, input) = (64, Vec::new());
    let mut right = vec![Right::Bits((BLOCKS * threads) as u32)];
    right.resize(1 + BLOCKS * threads, Right::Bits(1));
    Experiment { name: "draw_ticket", grid: BLOCKS, threads, shared_bytes: 0, input, width: 4, right }
}

/// Many blocks, so that they meet on a real device.
fn draw_ticket_order(bits: &mut Bits) -> Experiment {
    const BLOCKS: usize = 64;
    let threads = 64;
    let input = bits.bytes(BLOCKS * threads * 16);
    let operands = words(&input);
    let sum = |column: usize| {
        let parts = (0..BLOCKS).map(|block| match operands[block * threads * 4 + column] {
            Right::Bits(bits) => bits,
            _ => unreachable!("operands are bits"),
        });
        Right::Bits(parts.fold(0, u32::wrapping_add))
    };
    let mut right = vec![Right::Bits(BLOCKS as u32), Right::Bits(0), Right::Bits(0), Right::Bits(0)];
    right.extend((0..threads * 4).map(sum));
    right.extend(&operands);
    Experiment { name: "draw_ticket_order", grid: BLOCKS, threads, shared_bytes: 16, input, width: 4, right }
}

/// Zeros, and 16 bytes.
fn cp_async_16(bits: &mut Bits) -> Experiment {
    let input = bits.bytes(32 * 16);
    let neighbours = input.chunks_exact(32).flat_map(|pair| [&pair[16..], &pair[..16]].concat());
    let right = words(&[vec![0; input.len()], neighbours.collect()].concat());
    Experiment { name: "cp_async_16", grid: 2, threads: 32, shared_bytes: 32 * 16, input, width: 4, right }
}

fn cp_async_wait(bits: &mut Bits) -> Experiment {
    let input = bits.bytes(3 * 32 * 16);
    let right = words(&input);
    let shared_bytes = input.len();
    Experiment { name: "cp_async_wait", grid: 1, threads: 32, shared_bytes, input, width: 4, right }
}

/// Tiles of 64 and 128 bytes a row: the rows and vectors that the kernels name (device/fragment.h), from every first row
/// and vector, and lanes that name them at random.
fn ldmatrix(name: &'static str, row_vectors: usize, bits: &mut Bits) -> Experiment {
    const ROWS: usize = 32;
    let mut named: Vec<[u8; 2]> = Vec::new();
    let mut add = |row: usize, vector: usize| named.push([(row % ROWS) as u8, (vector % row_vectors) as u8]);
    for first in 0..ROWS * row_vectors {
        let (row, vector) = (first / row_vectors, first % row_vectors);
        for lane in 0..32 {
            match first % 2 {
                0 => add(row + lane % 16, vector + lane / 16),
                _ => add(row + lane / 16 * 8 + lane % 8, vector + lane / 8 % 2),
            }
        }
    }
    for _ in 0..16 * 32 {
        add(bits.below(ROWS as u64) as usize, bits.below(row_vectors as u64) as usize);
    }
    // Every element is its own number.
    let element = |row: u8, vector: u8, i: usize| {
        ((usize::from(row) * row_vectors + usize::from(vector)) * 8 + i + 0x4000) as u16
    };
    let mut input = Vec::new();
    for i in 0..ROWS * row_vectors * 8 {
        let (row, vector) = (i / 8 / row_vectors, i / 8 % row_vectors);
        input.extend(element(row as u8, vector as u8, i % 8).to_le_bytes());
    }
    input.extend(named.as_flattened());
    let mut right = Vec::new();
    for block in named.chunks_exact(32) {
        for lane in 0..32 {
            for matrix in 0..4 {
                let [row, vector] = block[8 * matrix + lane / 4];
                let pair = [0, 1].map(|i| u32::from(element(row, vector, 2 * (lane % 4) + i)));
                right.push(Right::Bits(pair[0] | pair[1] << 16));
            }
        }
    }
    let shared_bytes = ROWS * row_vectors * 16;
    Experiment { name, grid: named.len() / 32, threads: 32, shared_bytes, input, width: 4, right }
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    F16,
    Bf16,
}

impl Half {
    fn round(self, value: f32) -> u16 {
        match self {
            Half::F16 => f16::from_f32(value).to_bits(),
            Half::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    fn value(self, bits: u16) -> f64 {
        match self {
            Half::F16 => f16::from_bits(bits).to_f64(),
            Half::Bf16 => bf16::from_bits(bits).to_f64(),
        }
    }
}

/// The operands of one multiplication, d = c + a * b.
struct Product {
    a: [[u16; 16]; 16],
    b: [[u16; 8]; 16],
    c: [[f32; 8]; 16],
    /// Whether every sum of products is exact in f32.
    exact: bool,
}

/// Where element `i` of a lane's registers stands, by the manual's figures: (row, column).
fn place_a(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + i / 2 % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8)
}
fn place_b(lane: usize, i: usize) -> (usize, usize) {
    (lane % 4 * 2 + i % 2 + i / 2 * 8, lane / 4)
}
fn place_d(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2)
}

/// All places of a against a b of different numbers, small integers, random numbers, sums that cancel, NaN, infinities
/// and subnormals.
fn mma(name: &'static str, half: Half, bits: &mut Bits) -> Experiment {
    let mut products = Vec::new();
    let zero = || Product { a: [[0; 16]; 16], b: [[0; 8]; 16], c: [[0.0; 8]; 16], exact: true };
    for at in 0..256 {
        let mut product = zero();
        product.a[at / 16][at % 16] = half.round(1.0);
        for k in 0..16 {
            product.b[k] = std::array::from_fn(|j| half.round((k * 8 + j) as f32 - 60.0));
        }
        products.push(product);
    }
    for kind in 0..96 {
        let mut number = |small: bool| match kind {
            0..32 => bits.below(33) as f32 - 16.0,
            32..64 => bits.number(if small { 2 } else { 6 }),
            // Subnormals of the type, and of f32 where they are multiplied.
            64..80 if half == Half::F16 => bits.number(0) * 2f32.powi(if small { -14 } else { 0 }),
            64..80 => bits.number(2) * 2f32.powi(if small { -126 } else { -4 }),
            // All of one sign: what is cut off adds up.
            _ => 1.0 + bits.number(0).abs(),
        };
        let mut product = zero();
        product.a = std::array::from_fn(|_| std::array::from_fn(|_| half.round(number(true))));
        product.b = std::array::from_fn(|_| std::array::from_fn(|_| half.round(number(false))));
        product.c = std::array::from_fn(|_| std::array::from_fn(|_| number(true)));
        product.exact = kind < 32;
        // A third of the random ones cancel: the second half of the sum takes the first half back.
        if (32..64).contains(&kind) && kind % 3 == 0 {
            for row in &mut product.a {
                let first: [u16; 8] = std::array::from_fn(|k| row[k] ^ 0x8000);
                row[8..].copy_from_slice(&first);
            }
            let first: Vec<[u16; 8]> = product.b[..8].to_vec();
            product.b[8..].copy_from_slice(&first);
        }
        products.push(product);
    }
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for other in [f32::INFINITY, 0.0, 1.0, -0.0] {
            let mut product = zero();
            product.a = [[half.round(0.5); 16]; 16];
            product.b = [[half.round(2.0); 8]; 16];
            let at = (bits.below(16) as usize, bits.below(8) as usize, bits.below(16) as usize);
            product.a[at.0][at.2] = half.round(special);
            product.b[at.2][at.1] = half.round(other);
            product.c[(at.0 + 1) % 16] = [special; 8];
            products.push(product);
        }
    }
    let mut input = Vec::new();
    let mut right = Vec::new();
    for product in &products {
        let right_of = |i: usize, j: usize| {
            let terms = (0..16).map(|k| half.value(product.a[i][k]) * half.value(product.b[k][j]));
            let c = f64::from(product.c[i][j]);
            let value = c + terms.clone().sum::<f64>();
            let magnitude = c.abs() + terms.map(f64::abs).sum::<f64>();
            match value {
                v if v.is_nan() => Right::Nan,
                v if v.is_infinite() => Right::Bits((v as f32).to_bits()),
                // 17 terms, each cut off or rounded in f32; below its normal numbers in units of the smallest.
                _ if !product.exact => Right::Within {
                    value,
                    bound: (1.5 * 16.0 + 4.0) * 2f64.powi(-24) * magnitude + 17.0 * 2f64.powi(-149),
                },
                value => Right::Within { value, bound: 0.0 },
            }
        };
        for lane in 0..32 {
            for i in 0..8 {
                let (row, k) = place_a(lane, i);
                input.extend(product.a[row][k].to_le_bytes());
            }
            for i in 0..4 {
                let (k, column) = place_b(lane, i);
                input.extend(product.b[k][column].to_le_bytes());
            }
            for i in 0..4 {
                let (row, column) = place_d(lane, i);
                input.extend(product.c[row][column].to_le_bytes());
                right.push(right_of(row, column));
            }
        }
    }
    Experiment { name, grid: products.len(), threads: 32, shared_bytes: 0, input, width: 4, right }
}
