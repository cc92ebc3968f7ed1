//! Runs one case: operands on the device, the launches under several schedules, the results against the reference.
//!
//! `fused` holds the operators whose one launch ends in the epilogue, `gathered` those that write maps without one,
//! `scores` those with results of their own.

mod fused;
mod gathered;
mod scores;

use std::hash::{DefaultHasher, Hash, Hasher};

use awsnet::__tests::abi::{self, DevicePointer, Params, Pixel};
use awsnet::__tests::launch::{Launch, Splitting};
use awsnet::__tests::pack;
use awsnet::__tests::variants::Element;

use crate::cases::Case;
use crate::data::{Data, DeviceMap, Guarded, Rng};
use crate::driver::Stream;
use crate::fused::{Fused, FusedOperands};
use crate::reference::{self, Sums, compare};

/// When asynchronous copies arrive, as the emulator counts it.
const AS_LATE_AS_ALLOWED: i32 = 1;
const EITHER: i32 = 2;

fn schedules(case: &Case) -> Vec<(u64, i32)> {
    let seed = seed(case) | 1;
    let more =
        std::env::var("AWSNET_TEST_SEEDS").map_or(0, |n| n.parse().expect("AWSNET_TEST_SEEDS is a number"));
    if std::env::var_os("AWSNET_TEST_SMALL").is_some() {
        return vec![(seed, AS_LATE_AS_ALLOWED)];
    }
    let mut all = vec![(0, AS_LATE_AS_ALLOWED), (seed, AS_LATE_AS_ALLOWED), (seed + 2, EITHER)];
    all.extend((0..more).map(|i| (seed.wrapping_add(4 + 2 * i), AS_LATE_AS_ALLOWED)));
    all
}

/// A number of the case's own, the same on every machine.
fn seed(case: &Case) -> u64 {
    let mut hasher = DefaultHasher::new();
    case.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Runs a case; panics if a result is wrong. Returns the largest error as a share of its bound.
pub fn run(stream: &Stream, case: &Case) -> f64 {
    let rng = Rng::new(seed(case));
    let mut runner = Runner { stream, case, rng, element: case.element(), data: case.data() };
    match case {
        Case::ImplicitGemm { variant, window, splits, fused, .. } => {
            runner.implicit_gemm(variant, window, *splits, *fused)
        }
        Case::Direct { variant, window, fused, .. } => runner.direct(variant, window, *fused),
        Case::Depthwise { window, fused, .. } => runner.depthwise(window, *fused),
        Case::Stem { window, pixel, fused, .. } => runner.stem(window, *pixel, *fused),
        Case::Pool { window, kind, include_pad, fused, .. } => {
            runner.pool(window, *kind, *include_pad, *fused)
        }
        Case::Adaptive { batch, input, channels, output, fused, .. } => {
            runner.adaptive(*batch, *input, *channels, *output, *fused)
        }
        Case::Upsample { batch, input, channels, factor, fused, .. } => {
            runner.upsample(*batch, *input, *channels, *factor, *fused)
        }
        Case::Concat { positions, channels, branches, part, .. } => {
            runner.concat(*positions, channels, *branches, *part)
        }
        Case::SqueezeExcite { batch, positions, channels, parts, activations, branches, .. } => {
            runner.squeeze_excite(*batch, *positions, *channels, *parts, *activations, *branches)
        }
        Case::Identity { positions, channels, in_place, fused, .. } => {
            runner.identity(*positions, *channels, *in_place, *fused)
        }
        Case::Dense { variant, positions, channels, splits, .. } => {
            runner.dense(variant.as_ref(), *positions, *channels, *splits)
        }
        Case::Gated { batch, positions, channels, squeezed, gate, .. } => {
            runner.gated(*batch, *positions, *channels, *squeezed, *gate)
        }
        Case::Head { batch, positions, channels, heads, pooled, labels_per_block, .. } => {
            runner.head(*batch, *positions, *channels, heads, *pooled, *labels_per_block)
        }
        Case::HeadScore { batch, positions, channels, score, in_place, .. } => {
            runner.head_score(*batch, *positions, *channels, *score, *in_place)
        }
        Case::Image { batch, size, channels, pixel, .. } => runner.image(*batch, *size, *channels, *pixel),
    }
}

/// A case being run. Its operands are drawn from `rng`, in the order of the calls.
struct Runner<'a> {
    stream: &'a Stream,
    case: &'a Case,
    rng: Rng,
    element: Element,
    data: Data,
}

/// The input maps of both branches.
struct Inputs {
    values: [Vec<f32>; 2],
    device: [DeviceMap; 2],
}

impl Inputs {
    fn addresses(&self) -> [DevicePointer; 2] {
        [self.device[0].address(), self.device[1].address()]
    }
}

fn addresses(pair: &[Guarded; 2]) -> [DevicePointer; 2] {
    [pair[0].address(), pair[1].address()]
}

impl Runner<'_> {
    /// Numbers for both branches.
    fn pair(&mut self, count: usize) -> [Vec<f32>; 2] {
        [(); 2].map(|_| self.data.values(&mut self.rng, self.element, count))
    }

    /// Input maps; with [`Data::Hole`], all channels of a position in the middle are NaN.
    fn inputs(&mut self, positions: usize, channels: usize) -> Inputs {
        let mut values = self.pair(positions * channels);
        if self.data == Data::Hole {
            let hole = positions / 2 * channels;
            values.iter_mut().for_each(|x| x[hole..][..channels].fill(f32::NAN));
        }
        let device = [0, 1].map(|t| self.map(positions, channels, &values[t]));
        Inputs { values, device }
    }

    fn map(&self, positions: usize, channels: usize, values: &[f32]) -> DeviceMap {
        DeviceMap::input(self.stream, self.element, positions, channels, values)
    }

    /// Packed weights of both branches, on the device.
    fn weights(&self, packed: [Vec<f32>; 2]) -> [Guarded; 2] {
        packed.map(|w| Guarded::new(self.stream, &pack::encode(self.element, &w)))
    }

    /// Of `positions` in all, in so many images. Where the maps have ends and corners, these are random.
    fn operands(&mut self, fused: Fused, positions: usize, batch: usize, channels: usize) -> FusedOperands {
        let data = if self.data == Data::Ends { Data::Random } else { self.data };
        let positions = [positions, positions.div_ceil(batch)];
        FusedOperands::new(self.stream, fused, self.element, data, &mut self.rng, positions, channels)
    }

    /// Runs `launch` under every schedule, `outputs` poisoned before each; panics unless the bytes are always the same.
    fn under_all_schedules(&self, outputs: &[&Guarded], launch: impl Fn()) -> Vec<Vec<u8>> {
        let mut first: Option<Vec<Vec<u8>>> = None;
        for (seed, delivery) in schedules(self.case) {
            outputs.iter().for_each(|output| output.poison(self.stream));
            self.stream.schedule(seed, delivery);
            launch();
            let bytes: Vec<Vec<u8>> = outputs.iter().map(|output| output.read(self.stream)).collect();
            match &first {
                None => first = Some(bytes),
                Some(first) => assert!(*first == bytes, "other bits with seed {seed}"),
            }
        }
        first.expect("at least one schedule")
    }

    /// Runs a fused operator and compares the output of each branch: one launch, every output vector stored once, and
    /// `stored_beside` bytes elsewhere.
    fn finish<P: Params>(
        &self,
        operands: &FusedOperands,
        sums: [Sums; 2],
        launch: &Launch,
        params: &P,
        stored_beside: usize,
    ) -> f64 {
        let maps = operands.written();
        let outputs: Vec<&Guarded> = maps.iter().map(|map| &map.memory).collect();
        let found = self.under_all_schedules(&outputs, || {
            let before = self.stream.counters();
            self.stream.launch(launch, params);
            maps[0].memory.read(self.stream); // waits for the launch
            if let (Some(before), Some(after)) = (before, self.stream.counters()) {
                let stored = maps.len() * maps[0].bytes() + stored_beside;
                assert_eq!(after.launches - before.launches, 1, "launches");
                assert_eq!(after.bytes_stored - before.bytes_stored, stored as u64, "bytes stored");
            }
        });
        let expected = reference::finish(sums, maps[0].channels(), &operands.values);
        let share = |t: usize| compare(self.element, self.data, &expected[t], &maps[t].decode(&found[t]));
        (0..maps.len()).map(share).fold(0.0, f64::max)
    }
}

/// Workspace and tickets of a launch that may have split-K.
struct SplitMemory {
    workspace: Guarded,
    tickets: Guarded,
    splits: usize,
}

impl SplitMemory {
    fn new(stream: &Stream, need: Splitting, splits: usize) -> SplitMemory {
        SplitMemory {
            workspace: Guarded::new(stream, &vec![0xff; need.workspace_bytes]), // NaN until somebody writes it
            tickets: Guarded::new(stream, &vec![0; need.tickets * 4]),
            splits,
        }
    }

    /// Of workspace and tickets; 0 where nothing is split.
    fn addresses(&self) -> [DevicePointer; 2] {
        if self.splits > 1 { [self.workspace.address(), self.tickets.address()] } else { [0, 0] }
    }

    /// Panics unless the tickets are ready for the next launch, and workspace and tickets kept their bounds.
    fn check(&self, stream: &Stream) {
        self.workspace.read(stream);
        assert!(self.tickets.read(stream).iter().all(|&b| b == 0), "a ticket was left behind");
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
                Data::Integer | Data::Hole | Data::Ends => rng.below(range) as f32 - 1.0,
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
                            (Data::Integer | Data::Hole | Data::Ends, _) => rng.below(3) as f32,
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
