//! Test data: random numbers, operands in device memory between guards, and outputs that start as poison.

use awsnet::__tests::abi::{self, DevicePointer};
use awsnet::__tests::pack;
use awsnet::__tests::variants::Element;

use crate::driver::{Buffer, Stream};

/// xorshift64*: enough for test data, and the same on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// In [-1, 1).
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What a case's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Small integers: every sum is exact, so results are compared bit for bit.
    Integer,
    /// Small integers and, in one position of each map, NaN: it shows in what depends on it and nowhere else.
    Hole,
    /// Heavy-tailed numbers: results are compared against the error bound.
    Random,
    /// Where functions have ends and corners: infinities, the largest numbers and the smallest, zeros, small integers.
    Ends,
}

impl Data {
    /// Whether every sum is exact.
    pub fn is_exact(self) -> bool {
        match self {
            Data::Integer | Data::Hole => true,
            Data::Random | Data::Ends => false,
        }
    }

    /// Values of a map or weight, representable in the element type.
    pub fn values(self, rng: &mut Rng, element: Element, count: usize) -> Vec<f32> {
        const ENDS: [f32; 24] = [
            f32::INFINITY,
            f32::NEG_INFINITY,
            65504.0,
            -65504.0,
            200.0,
            -200.0,
            90.0,
            -90.0,
            20.5,
            -20.5,
            10.0,
            -10.0,
            6.0,
            -6.0,
            3.0,
            -3.0,
            1.0,
            -1.0,
            1e-3,
            -1e-3,
            6e-8,
            -6e-8,
            0.0,
            -0.0,
        ];
        (0..count)
            .map(|i| match self {
                Data::Ends => round(element, ENDS[i % ENDS.len()]),
                Data::Integer | Data::Hole => [-1.0, 0.0, 1.0, 2.0][rng.below(4) as usize],
                // A uniform number times a power of two from 2^-4 to 2^1, the large ones rare.
                Data::Random => round(element, rng.uniform() * 2f32.powi(1 - rng.below(36).isqrt() as i32)),
            })
            .collect()
    }

    /// Values that stay f32 on the device: bias, mix.
    pub fn parameters(self, rng: &mut Rng, count: usize) -> Vec<f32> {
        self.values(rng, Element::F32, count)
    }
}

/// To the nearest value of an element type.
pub fn round(element: Element, value: f32) -> f32 {
    match element {
        Element::F32 => value,
        Element::F16 => half::f16::from_f32(value).to_f32(),
        Element::Bf16 => half::bf16::from_f32(value).to_f32(),
    }
}

pub fn decode(element: Element, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match element {
        Element::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        Element::F16 => halves().map(|b| half::f16::from_bits(b).to_f32()).collect(),
        Element::Bf16 => halves().map(|b| half::bf16::from_bits(b).to_f32()).collect(),
    }
}

/// Bytes of NaN (in every type) before and behind each operand: what a kernel reads or writes beside it shows. On the
/// emulated driver an operand ends with its allocation instead, and whoever touches what is behind it faults.
const GUARD_BYTES: usize = 512;
const GUARD: u8 = 0xff;

/// An operand in device memory between two guards.
pub struct Guarded {
    buffer: Buffer,
    bytes: usize,
}

impl Guarded {
    pub fn new(stream: &Stream, bytes: &[u8]) -> Guarded {
        let mut all = vec![GUARD; GUARD_BYTES];
        all.extend(bytes);
        all.resize(all.len() + if stream.is_emulated() { 0 } else { GUARD_BYTES }, GUARD);
        Guarded { buffer: stream.upload(&all), bytes: bytes.len() }
    }

    /// An operand that the kernel before may have written.
    pub fn of_predecessor(stream: &Stream, bytes: &[u8]) -> Guarded {
        let operand = Guarded::new(stream, bytes);
        stream.mark_written(&operand.buffer);
        operand
    }

    pub fn address(&self) -> DevicePointer {
        self.buffer.address + GUARD_BYTES as u64
    }

    /// What the operand holds now. Panics if a guard was written.
    pub fn read(&self, stream: &Stream) -> Vec<u8> {
        let all = stream.download(&self.buffer);
        let (before, rest) = all.split_at(GUARD_BYTES);
        let (bytes, behind) = rest.split_at(self.bytes);
        assert!(before.iter().chain(behind).all(|&b| b == GUARD), "a guard was written");
        bytes.to_vec()
    }

    /// An array of NaN.
    pub fn poisoned(stream: &Stream, bytes: usize) -> Guarded {
        Guarded::new(stream, &vec![GUARD; bytes])
    }

    /// Fills it with NaN again.
    pub fn poison(&self, stream: &Stream) {
        stream.write(&self.buffer, &vec![GUARD; GUARD_BYTES + self.bytes]);
    }
}

/// A map in device memory, NHWC with a padded pitch.
pub struct DeviceMap {
    pub memory: Guarded,
    element: Element,
    positions: usize,
    channels: usize,
    /// Elements from one position to the next, and before the first channel of each.
    row: usize,
    first: usize,
}

/// Channels before and behind a map that is a part of a larger one.
const BESIDE: usize = 8;

impl DeviceMap {
    /// `values` is `[positions][channels]`; the pad lanes hold zeros.
    pub fn input(
        stream: &Stream,
        element: Element,
        positions: usize,
        channels: usize,
        values: &[f32],
    ) -> DeviceMap {
        assert_eq!(values.len(), positions * channels);
        let pitch = abi::pitch(channels);
        let mut bytes = Vec::with_capacity(positions * pitch * element.bytes());
        for row in values.chunks_exact(channels) {
            bytes.extend(pack::encode(element, row));
            bytes.resize(bytes.len() + (pitch - channels) * element.bytes(), 0);
        }
        let memory = Guarded::of_predecessor(stream, &bytes);
        DeviceMap { memory, element, positions, channels, row: pitch, first: 0 }
    }

    /// A map that a kernel will write: all NaN.
    pub fn output(stream: &Stream, element: Element, positions: usize, channels: usize) -> DeviceMap {
        let row = abi::pitch(channels);
        let memory = Guarded::poisoned(stream, positions * row * element.bytes());
        DeviceMap { memory, element, positions, channels, row, first: 0 }
    }

    /// A map that a kernel will write, in the middle of the channels of a larger one: all NaN.
    pub fn part_output(stream: &Stream, element: Element, positions: usize, channels: usize) -> DeviceMap {
        let row = abi::pitch(channels) + 2 * BESIDE;
        let memory = Guarded::poisoned(stream, positions * row * element.bytes());
        DeviceMap { memory, element, positions, channels, row, first: BESIDE }
    }

    /// Elements from one position to the next.
    pub fn row(&self) -> usize {
        self.row
    }

    pub fn address(&self) -> DevicePointer {
        self.memory.address() + (self.first * self.element.bytes()) as u64
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Of the whole map, pad lanes included, and nothing that is beside it.
    pub fn bytes(&self) -> usize {
        self.positions * abi::pitch(self.channels) * self.element.bytes()
    }

    /// Its values now, as [`decode`](DeviceMap::decode) gives them.
    pub fn values(&self, stream: &Stream) -> Vec<f32> {
        self.decode(&self.memory.read(stream))
    }

    /// The map's bytes as `[positions][channels]`. Panics unless the pad lanes hold zeros, and what is beside a part what it
    /// held.
    pub fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        let pitch = abi::pitch(self.channels);
        let all = decode(self.element, bytes);
        assert_eq!(all.len(), self.positions * self.row);
        let mut values = Vec::with_capacity(self.positions * self.channels);
        for row in all.chunks_exact(self.row) {
            let (before, row) = row.split_at(self.first);
            let (row, behind) = row.split_at(pitch);
            assert!(before.iter().chain(behind).all(|v| v.is_nan()), "written beside the map");
            values.extend(&row[..self.channels]);
            assert!(row[self.channels..].iter().all(|v| v.to_bits() == 0), "a pad lane holds {row:?}");
        }
        values
    }
}

/// f32 parameters in device memory, 0 for none.
pub fn parameters(stream: &Stream, values: &[f32]) -> Guarded {
    Guarded::new(stream, &pack::encode(Element::F32, values))
}
