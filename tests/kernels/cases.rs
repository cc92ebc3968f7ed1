//! The table of cases.
//!
//! Shapes come in two kinds: geometries, which try what a convolution can be, and edges, one below, at and one above
//! every size that a tile has. Every variant meets all of both. The epilogues rotate through the table, and one shape
//! meets them all.

use std::fmt;

use awsnet::__tests::abi::{Activation, Gate, Mix, Pixel, Pool, Score};
use awsnet::__tests::variants::{self, DirectVariant, Element, GemmVariant};

use crate::data::Data;
use crate::fused::Fused;
use crate::reference::{Projection, Window};

#[derive(Clone, Debug)]
pub enum Case {
    ImplicitGemm {
        variant: GemmVariant,
        window: Window,
        splits: usize,
        fused: Fused,
        data: Data,
    },
    Direct {
        variant: DirectVariant,
        window: Window,
        fused: Fused,
        data: Data,
    },
    Depthwise {
        element: Element,
        window: Window,
        fused: Fused,
        data: Data,
    },
    Stem {
        element: Element,
        window: Window,
        pixel: Pixel,
        fused: Fused,
        data: Data,
    },
    Pool {
        element: Element,
        window: Window,
        kind: Pool,
        /// Whether an average counts the padding.
        include_pad: bool,
        fused: Fused,
        data: Data,
    },
    Adaptive {
        element: Element,
        batch: usize,
        input: [usize; 2],
        channels: usize,
        output: [usize; 2],
        fused: Fused,
        data: Data,
    },
    Upsample {
        element: Element,
        batch: usize,
        input: [usize; 2],
        channels: usize,
        factor: [usize; 2],
        fused: Fused,
        data: Data,
    },
    Concat {
        element: Element,
        positions: usize,
        /// Of each input.
        channels: &'static [usize],
        branches: usize,
        /// Whether the output is a part of a larger map.
        part: bool,
    },
    SqueezeExcite {
        element: Element,
        batch: usize,
        positions: usize,
        /// In, squeezed, excited.
        channels: [usize; 3],
        parts: usize,
        activations: [Activation; 2],
        branches: usize,
    },
    Identity {
        element: Element,
        positions: usize,
        channels: usize,
        in_place: bool,
        fused: Fused,
        data: Data,
    },
    Dense {
        variant: Option<GemmVariant>,
        positions: usize,
        channels: usize,
        splits: usize,
        data: Data,
    },
    Gated {
        element: Element,
        batch: usize,
        positions: usize,
        channels: usize,
        squeezed: usize,
        gate: Gate,
    },
    Head {
        element: Element,
        batch: usize,
        positions: usize,
        channels: usize,
        /// Each with the branch that it reads and its labels.
        heads: &'static [(usize, usize, Score)],
        pooled: bool,
        labels_per_block: usize,
    },
    HeadScore {
        element: Element,
        batch: usize,
        positions: usize,
        channels: usize,
        score: Score,
        /// Whether the numbers are logits that are there.
        in_place: bool,
    },
    Image {
        element: Element,
        batch: usize,
        size: [usize; 2],
        channels: usize,
        pixel: Pixel,
    },
}

impl Case {
    pub fn op(&self) -> &'static str {
        match self {
            Case::ImplicitGemm { .. } => "conv2d_implicit_gemm",
            Case::Direct { .. } => "conv2d_direct",
            Case::Depthwise { .. } => "conv2d_depthwise",
            Case::Stem { .. } => "conv2d_stem",
            Case::Pool { .. } | Case::Adaptive { .. } => "pool2d",
            Case::Upsample { .. } => "upsample2d",
            Case::Concat { .. } => "concat",
            Case::SqueezeExcite { .. } => "squeeze_excite",
            Case::Identity { .. } => "identity",
            Case::Dense { .. } => "aws_unit_dense",
            Case::Gated { .. } => "aws_unit_gate",
            Case::Head { .. } => "head",
            Case::HeadScore { .. } => "head_score",
            Case::Image { .. } => "image_to_nhwc",
        }
    }

    /// The kernels it launches.
    pub fn kernels(&self) -> Vec<String> {
        let op = self.op();
        let alone = if self.fused().is_some_and(|fused| fused.branches == 1) { "_alone" } else { "" };
        match self {
            Case::ImplicitGemm { variant, .. } => vec![format!("{op}_{}{alone}", variant.name)],
            Case::Direct { variant, .. } => vec![format!("{op}_{}{alone}", variant.name)],
            Case::Dense { variant, .. } => vec![format!("{op}_{}", variant.map_or("f32", |v| v.name))],
            Case::Gated { element, .. } => vec![
                format!("{op}_means_{}", element.name()),
                format!("{op}_coefficients"),
                format!("{op}_mix_{}", element.name()),
            ],
            _ => vec![format!("{op}_{}{alone}", self.element().name())],
        }
    }

    /// The epilogue, where the operator has one.
    pub fn fused(&self) -> Option<&Fused> {
        match self {
            Case::ImplicitGemm { fused, .. }
            | Case::Direct { fused, .. }
            | Case::Depthwise { fused, .. }
            | Case::Stem { fused, .. }
            | Case::Pool { fused, .. }
            | Case::Adaptive { fused, .. }
            | Case::Upsample { fused, .. }
            | Case::Identity { fused, .. } => Some(fused),
            Case::Dense { .. }
            | Case::Concat { .. }
            | Case::SqueezeExcite { .. }
            | Case::Gated { .. }
            | Case::Head { .. }
            | Case::HeadScore { .. }
            | Case::Image { .. } => None,
        }
    }

    /// The type of its maps.
    pub fn element(&self) -> Element {
        match self {
            Case::ImplicitGemm { variant, .. } => variant.element,
            Case::Direct { variant, .. } => variant.element,
            Case::Dense { variant, .. } => variant.map_or(Element::F32, |v| v.element),
            Case::Depthwise { element, .. }
            | Case::Stem { element, .. }
            | Case::Pool { element, .. }
            | Case::Identity { element, .. }
            | Case::Adaptive { element, .. }
            | Case::Upsample { element, .. }
            | Case::Concat { element, .. }
            | Case::SqueezeExcite { element, .. }
            | Case::Gated { element, .. }
            | Case::Head { element, .. }
            | Case::HeadScore { element, .. }
            | Case::Image { element, .. } => *element,
        }
    }

    pub fn data(&self) -> Data {
        match self {
            Case::ImplicitGemm { data, .. }
            | Case::Direct { data, .. }
            | Case::Depthwise { data, .. }
            | Case::Stem { data, .. }
            | Case::Pool { data, .. }
            | Case::Adaptive { data, .. }
            | Case::Upsample { data, .. }
            | Case::Identity { data, .. }
            | Case::Dense { data, .. } => *data,
            Case::Concat { .. }
            | Case::SqueezeExcite { .. }
            | Case::Gated { .. }
            | Case::Head { .. }
            | Case::HeadScore { .. }
            | Case::Image { .. } => Data::Random,
        }
    }

    /// The variant of a kernel that multiplies tile by tile.
    pub fn gemm_variant(&self) -> Option<&GemmVariant> {
        match self {
            Case::ImplicitGemm { variant, .. } => Some(variant),
            Case::Dense { variant, .. } => variant.as_ref(),
            _ => None,
        }
    }

    /// Whether blocks share a tile's reduction.
    pub fn is_split(&self) -> bool {
        matches!(
            self,
            Case::ImplicitGemm { splits: 2.., .. }
                | Case::Dense { splits: 2.., .. }
                | Case::SqueezeExcite { parts: 2.., .. }
        )
    }

    /// Whether a launch has few enough threads for the race detector, which keeps all of them apart.
    pub fn is_small(&self) -> bool {
        const MAX_THREADS: usize = 2048;
        let vectors = |positions: usize, channels: usize| positions * channels.div_ceil(8);
        let tiles = |v: &GemmVariant, positions: usize, channels: usize, splits: usize| {
            positions.div_ceil(v.tile_m) * channels.div_ceil(v.tile_n) * splits * v.threads()
        };
        let threads = match self {
            Case::ImplicitGemm { variant, window, splits, .. } => {
                tiles(variant, window.positions(), window.channels, *splits)
            }
            Case::Dense { variant: Some(variant), positions, channels, splits, .. } => {
                tiles(variant, *positions, *channels, *splits)
            }
            Case::Dense { positions, channels, .. } | Case::Identity { positions, channels, .. } => {
                vectors(*positions, *channels)
            }
            Case::Direct { window, .. } | Case::Depthwise { window, .. } | Case::Pool { window, .. } => {
                vectors(window.positions(), window.channels)
            }
            Case::Stem { window, .. } => window.positions().div_ceil(64) * 2 * variants::STEM_THREADS,
            Case::Gated { batch, positions, channels, .. } => vectors(batch * positions, *channels),
            Case::Adaptive { batch, channels, output, .. } => {
                vectors(batch * output[0] * output[1], *channels)
            }
            Case::Upsample { batch, input, channels, factor, .. } => {
                vectors(batch * input[0] * factor[0] * input[1] * factor[1], *channels)
            }
            Case::Concat { positions, channels, .. } => vectors(2 * positions, channels.iter().sum()),
            Case::SqueezeExcite { batch, channels, parts, branches, .. } => {
                batch * branches * parts * channels[0].div_ceil(64) * variants::SQUEEZE_EXCITE_THREADS
            }
            Case::Head { batch, heads, .. } => batch * heads.len() * variants::HEAD_THREADS,
            Case::HeadScore { batch, .. } => batch * variants::HEAD_THREADS,
            Case::Image { batch, size, .. } => batch * size[0] * size[1],
        };
        threads <= MAX_THREADS
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn window(
    batch: usize,
    input: [usize; 2],
    in_channels: usize,
    channels: usize,
    kernel: [usize; 2],
) -> Window {
    let [stride, dilation] = [[1, 1]; 2];
    let (padding, groups, projection, ceil) = ([0; 4], 1, None, false);
    Window {
        batch,
        input,
        in_channels,
        channels,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        projection,
        ceil,
    }
}

/// Convolutions with a projection: of stride 1 and 2, with whole and partial vectors on both sides, of maps larger than
/// what the stride reaches, narrower than a k tile of 64 and wider, over several images.
fn projections() -> Vec<Window> {
    let same = [1, 1, 1, 1];
    let project = |input, channels, stride| Some(Projection { input, channels, stride });
    vec![
        Window {
            padding: same,
            projection: project([4, 5], 24, [1, 1]),
            ..window(1, [4, 5], 16, 24, [3, 3])
        },
        Window { padding: same, projection: project([7, 5], 8, [2, 2]), ..window(2, [4, 3], 16, 16, [3, 3]) },
        Window { padding: same, projection: project([8, 6], 5, [2, 2]), ..window(2, [4, 3], 9, 10, [3, 3]) },
        Window { projection: project([3, 9], 70, [1, 2]), ..window(1, [3, 5], 20, 40, [1, 1]) },
        Window {
            stride: [2, 2],
            padding: same,
            projection: project([9, 10], 129, [3, 3]),
            ..window(1, [5, 7], 3, 7, [3, 3])
        },
    ]
}

/// What a convolution can be, with one group.
fn geometries() -> Vec<Window> {
    let same = [1, 1, 1, 1];
    vec![
        Window { padding: same, ..window(1, [7, 7], 16, 24, [3, 3]) },
        Window { padding: same, stride: [2, 2], ..window(2, [9, 8], 24, 16, [3, 3]) },
        Window { padding: [3, 3, 3, 3], stride: [2, 2], ..window(1, [15, 13], 3, 8, [7, 7]) },
        Window { padding: [0, 2, 1, 0], ..window(1, [6, 5], 10, 12, [3, 2]) }, // asymmetric
        Window { padding: [2, 2, 2, 2], dilation: [2, 2], ..window(1, [8, 9], 8, 9, [3, 3]) },
        Window { padding: [0, 3, 0, 3], dilation: [1, 3], stride: [3, 1], ..window(1, [8, 9], 5, 7, [2, 3]) },
        Window { padding: [4, 4, 4, 4], ..window(1, [2, 2], 8, 8, [5, 5]) }, // more padding than map
        Window { stride: [2, 2], ..window(3, [5, 5], 40, 33, [1, 1]) },
        window(2, [4, 3], 20, 10, [4, 3]), // a linear layer over the whole map
        window(5, [1, 1], 1, 1, [1, 1]),
        Window { padding: [0, 1, 0, 1], ..window(1, [1, 11], 7, 17, [1, 3]) },
    ]
}

/// Sizes around the edges of a tile, as 1x1 convolutions: positions, channels and reduction below, at and above.
fn edges(v: &GemmVariant) -> Vec<Window> {
    let around = |size: usize, step: usize| [size - 1, size, size + 1][step];
    [[0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 1, 2], [2, 0, 1], [1, 2, 0]]
        .map(|[m, n, k]| {
            window(1, [1, around(v.tile_m, m)], around(v.tile_k, k), around(v.tile_n, n), [1, 1])
        })
        .to_vec()
}

/// Both kinds of data for what stays exact, else random data.
fn kinds(fused: Fused) -> Vec<Data> {
    if fused.exact() { vec![Data::Integer, Data::Random] } else { vec![Data::Random] }
}

/// An epilogue of a rotation, and one of a branch alone.
fn both(mut next: impl FnMut() -> Fused) -> [Fused; 2] {
    [next(), Fused { branches: 1, mix: Mix::None, ..next() }]
}

pub fn all() -> Vec<Case> {
    let every = Fused::all();
    let mut rotation = every.iter().cycle().step_by(7).copied(); // 7 and the 124 epilogues have no common factor
    let mut fused = || rotation.next().expect("an endless rotation");
    let mut cases = Vec::new();
    for variant in variants::CONV2D_IMPLICIT_GEMM {
        let mut add = |window, splits, fused| {
            cases.extend(kinds(fused).into_iter().map(|data| Case::ImplicitGemm {
                variant: *variant,
                window,
                splits,
                fused,
                data,
            }));
        };
        for window in geometries().into_iter().chain(edges(variant)) {
            add(window, 1, fused());
        }
        // A reduction of several k tiles, so that the ring turns over, and split in parts of equal and unequal length,
        // as many as there are k tiles, and more.
        let long = Window { padding: [1, 1, 1, 1], ..window(1, [3, 4], 72, 16, [3, 3]) };
        for splits in [1, 2, 3, 11, 32] {
            add(long, splits, fused());
        }
        // Several tiles in every direction, each with a ticket of its own.
        add(window(2, [1, variant.tile_m], 2 * variant.tile_k, variant.tile_n + 8, [1, 1]), 2, fused());
        for fused in &every {
            add(Window { padding: [1, 1, 1, 1], ..window(2, [3, 5], 9, 10, [3, 3]) }, 1, *fused);
        }
        for window in edges(variant).into_iter().chain(projections()) {
            add(window, 1, Fused::ALONE);
        }
        for splits in [2, 3, 32] {
            add(long, splits, Fused { bias: true, ..Fused::ALONE });
        }
        for (i, window) in projections().into_iter().enumerate() {
            for residual in [false, true] {
                add(window, 1, Fused { residual, ..fused() });
            }
            add(window, [2, 3, 5, 7, 64][i], fused());
        }
        // What lies beyond the last tap, in a k tile that the taps do not fill, is not read from the map.
        for in_channels in [1, 8, 24] {
            let window = window(1, [9, 9], in_channels, 8, [3, 3]);
            let (fused, data) = (Fused::PLAIN, Data::Hole);
            cases.push(Case::ImplicitGemm { variant: *variant, window, splits: 1, fused, data });
        }
        for window in projections() {
            let (fused, data) = (Fused::PLAIN, Data::Hole);
            cases.push(Case::ImplicitGemm { variant: *variant, window, splits: 1, fused, data });
        }
    }
    for variant in variants::CONV2D_DIRECT {
        let grouped = [
            Window { groups: 2, padding: [1, 1, 1, 1], ..window(1, [5, 6], 16, 32, [3, 3]) }, // a vector in one group
            Window { groups: 3, padding: [1, 1, 1, 1], ..window(1, [5, 6], 9, 12, [3, 3]) }, // a vector over groups
            Window { groups: 2, ..window(1, [2, 3], 8, 12, [1, 1]) }, // pad lanes behind the last group
            Window { groups: 10, dilation: [2, 1], ..window(2, [5, 4], 10, 20, [3, 3]) }, // two outputs a channel
        ];
        let last = window(1, [1, 4 * variant.positions + 1], 12, 9, [1, 1]); // a thread with one position left
        let grouped_projection =
            Window { groups: 3, projection: projections()[3].projection, ..window(1, [3, 5], 9, 12, [1, 1]) };
        let projections = projections().into_iter().chain([grouped_projection]);
        for window in geometries().into_iter().chain(grouped).chain([last]).chain(projections.clone()) {
            for fused in both(&mut fused) {
                cases.extend(kinds(fused).into_iter().map(|data| Case::Direct {
                    variant: *variant,
                    window,
                    fused,
                    data,
                }));
            }
        }
        for window in projections {
            let (fused, data) = (Fused::PLAIN, Data::Hole);
            cases.push(Case::Direct { variant: *variant, window, fused, data });
        }
    }
    for element in Element::ALL {
        let same = [1, 1, 1, 1];
        let depthwise = |batch, input, channels, kernel| Window {
            groups: channels,
            ..window(batch, input, channels, channels, kernel)
        };
        for window in [
            Window { padding: same, ..depthwise(1, [7, 6], 16, [3, 3]) },
            Window { padding: same, stride: [2, 2], ..depthwise(2, [9, 8], 11, [3, 3]) },
            Window { padding: [0, 2, 1, 0], ..depthwise(1, [6, 5], 1, [3, 2]) },
            Window { padding: [2, 4, 2, 4], dilation: [1, 2], ..depthwise(1, [6, 9], 25, [5, 5]) },
            depthwise(3, [4, 4], 40, [4, 4]),
            depthwise(2, [3, 5], 21, [1, 1]), // a batch norm
            depthwise(1, [4, 1], 1, [1, 1]),
        ] {
            for fused in both(&mut fused) {
                cases.extend(kinds(fused).into_iter().map(|data| Case::Depthwise {
                    element,
                    window,
                    fused,
                    data,
                }));
            }
        }
        for (i, (positions, channels)) in
            [(1, 1), (5, 8), (31, 12), (128, 8), (129, 8), (9, 200)].into_iter().enumerate()
        {
            for fused in both(&mut fused) {
                cases.extend(kinds(fused).into_iter().map(|data| Case::Identity {
                    element,
                    positions,
                    channels,
                    in_place: i % 2 == 1,
                    fused,
                    data,
                }));
            }
        }
        for fused in &every {
            let (positions, channels) = (3, 10);
            cases.extend(kinds(*fused).into_iter().map(|data| Case::Identity {
                element,
                positions,
                channels,
                in_place: false,
                fused: *fused,
                data,
            }));
        }
        let pool = |batch, input, channels, kernel, stride| Window {
            stride,
            ..window(batch, input, channels, channels, kernel)
        };
        for window in [
            Window { padding: same, ..pool(1, [7, 8], 16, [3, 3], [2, 2]) },
            pool(2, [4, 6], 11, [2, 2], [2, 2]),
            Window { padding: [0, 1, 1, 2], ..pool(1, [5, 5], 3, [2, 4], [1, 3]) },
            pool(2, [4, 4], 40, [4, 4], [1, 1]), // the global average
            pool(1, [1, 1], 1, [1, 1], [1, 1]),
            Window { ceil: true, padding: same, ..pool(2, [6, 7], 9, [3, 3], [2, 2]) },
            Window { ceil: true, padding: [1, 0, 2, 2], ..pool(1, [8, 5], 24, [4, 2], [3, 3]) },
            Window { ceil: true, ..pool(1, [5, 2], 8, [2, 2], [2, 2]) },
        ] {
            let counting = [(Pool::Max, true), (Pool::Average, true), (Pool::Average, false)];
            for (kind, include_pad) in counting {
                for fused in both(&mut fused) {
                    // An average of integers over a window that is no power of two is no integer.
                    let powers = window.kernel.iter().all(|k| k.is_power_of_two())
                        && window.padding == [0; 4]
                        && !window.ceil;
                    for data in kinds(fused) {
                        if data == Data::Random || kind == Pool::Max || powers {
                            cases.push(Case::Pool { element, window, kind, include_pad, fused, data });
                        }
                    }
                }
            }
        }
        for (kind, kernel) in [(Pool::Max, [3, 3]), (Pool::Average, [2, 2])] {
            let window = Window { padding: same, ..pool(1, [6, 6], 9, kernel, [1, 1]) };
            let (include_pad, fused, data) = (true, Fused::PLAIN, Data::Hole);
            cases.push(Case::Pool { element, window, kind, include_pad, fused, data });
        }
        for (batch, input, channels, output) in [
            (1, [7, 7], 16, [3, 2]),
            (2, [5, 9], 11, [5, 9]),
            (1, [2, 3], 8, [4, 7]), // more windows than rows
            (3, [6, 1], 40, [1, 1]),
        ] {
            for fused in both(&mut fused) {
                let data = Data::Random;
                cases.push(Case::Adaptive { element, batch, input, channels, output, fused, data });
            }
        }
        for (batch, input, channels, factor) in [
            (1, [3, 4], 16, [2, 2]),
            (2, [2, 5], 11, [3, 1]),
            (1, [1, 1], 1, [1, 7]),
            (3, [4, 4], 40, [1, 1]),
        ] {
            for fused in both(&mut fused) {
                cases.extend(kinds(fused).into_iter().chain([Data::Hole]).map(|data| Case::Upsample {
                    element,
                    batch,
                    input,
                    channels,
                    factor,
                    fused: if data == Data::Hole { Fused::PLAIN } else { fused },
                    data,
                }));
            }
        }
        // Whole vectors, vectors of several inputs, inputs within one vector; more inputs than a launch takes, behind a
        // whole vector and within one.
        const MANY: [usize; 40] = [8; 40];
        const ODD: [usize; 37] = [5; 37];
        for (i, (positions, channels)) in [
            (1, &[8usize, 16][..]),
            (9, &[3, 5, 1, 30]),
            (129, &[12, 4, 8]),
            (5, &[1, 1]),
            (6, &MANY),
            (7, &ODD),
            (3, &[64, 64, 40]),
        ]
        .into_iter()
        .enumerate()
        {
            for branches in [1, 2] {
                cases.push(Case::Concat { element, positions, channels, branches, part: i % 2 == 1 });
            }
        }
        for (i, (batch, positions, channels, parts)) in [
            (1, 1, [1, 1, 1], 1),
            (2, 49, [70, 9, 70], 2),
            (1, 333, [8, 33, 12], 5),
            (3, 64, [129, 16, 200], 1),
            (1, 5, [530, 24, 530], 3), // a share without positions
        ]
        .into_iter()
        .enumerate()
        {
            for branches in [1, 2] {
                let activations = [
                    [Activation::Relu, Activation::Sigmoid],
                    [Activation::Silu, Activation::HardSigmoid],
                    [Activation::LeakyRelu, Activation::Tanh],
                ][(i + branches) % 3];
                cases.push(Case::SqueezeExcite {
                    element,
                    batch,
                    positions,
                    channels,
                    parts,
                    activations,
                    branches,
                });
            }
        }
        // Every activation where it has ends and corners.
        for activation in Fused::ACTIVATIONS {
            let (positions, channels, in_place, data) = (3, 24, false, Data::Ends);
            let fused = Fused { activation, mix: Mix::None, ..Fused::ALONE };
            let fused = match activation {
                Activation::Prelu => Fused { activation: Activation::LeakyRelu, ..fused },
                _ => fused,
            };
            cases.push(Case::Identity { element, positions, channels, in_place, fused, data });
        }
        for (batch, positions, channels, squeezed) in
            [(1, 1, 1, 1), (2, 49, 70, 9), (3, 16, 8, 4), (1, 33, 129, 16)]
        {
            for gate in [Gate::Softmax, Gate::Sigmoid] {
                cases.push(Case::Gated { element, batch, positions, channels, squeezed, gate });
            }
        }
        use Score::{None as Values, Sigmoid, Softmax};
        for (batch, positions, channels, heads, pooled, labels_per_block) in [
            (1, 1, 1, &[(0, 1, Softmax), (1, 1, Sigmoid)][..], true, 64),
            (2, 16, 100, &[(0, 7, Softmax), (1, 12, Sigmoid)], true, 64),
            (3, 1, 40, &[(0, 7, Softmax), (1, 12, Sigmoid)], false, 64),
            (1, 6, 33, &[(0, 40, Softmax), (1, 3, Sigmoid)], false, 64),
            (1, 49, 300, &[(0, 8, Softmax), (1, 33, Sigmoid)], true, 64),
            (2, 4, 20, &[(1, 2, Values), (0, 9, Sigmoid), (1, 5, Softmax), (0, 1, Values)], true, 64),
            (2, 3, 9, &[(0, 6, Values)], false, 64),
            (2, 3, 17, &[(0, 70, Values), (1, 30, Softmax), (1, 33, Values)], false, 32), // parts of a head
        ] {
            cases.push(Case::Head { element, batch, positions, channels, heads, pooled, labels_per_block });
        }
        for (batch, positions, channels) in [(1, 1, 1), (2, 9, 5), (1, 64, 40), (3, 1, 300), (1, 30, 100)] {
            for score in [Softmax, Sigmoid, Values] {
                for in_place in [false, true] {
                    if !in_place || element == Element::F32 {
                        cases.push(Case::HeadScore { element, batch, positions, channels, score, in_place });
                    }
                }
            }
        }
        for (batch, size, channels) in [(1, [1, 1], 1), (2, [9, 15], 3), (1, [16, 8], 1), (1, [5, 43], 4)] {
            for pixel in [Pixel::U8, Pixel::F32] {
                cases.push(Case::Image { element, batch, size, channels, pixel });
            }
        }
    }
    for element in Element::TENSOR {
        for window in [
            Window { padding: [3, 3, 3, 3], stride: [2, 2], ..window(1, [23, 21], 3, 64, [7, 7]) },
            Window { padding: [1, 1, 1, 1], ..window(2, [8, 9], 1, 10, [3, 3]) },
            Window { padding: [1, 0, 2, 1], stride: [1, 2], ..window(1, [9, 15], 3, 65, [3, 2]) },
            Window { padding: [2, 2, 2, 2], dilation: [2, 2], ..window(1, [17, 7], 4, 24, [3, 3]) },
            Window { padding: [4, 3, 4, 3], stride: [1, 2], ..window(1, [9, 40], 3, 9, [9, 7]) }, // nothing behind its window
            window(3, [1, 1], 2, 3, [1, 1]),
        ] {
            for pixel in [Pixel::U8, Pixel::F32] {
                for fused in both(&mut fused) {
                    cases.extend(kinds(fused).into_iter().map(|data| Case::Stem {
                        element,
                        window,
                        pixel,
                        fused,
                        data,
                    }));
                }
            }
        }
    }
    for variant in variants::AWS_UNIT_DENSE {
        for window in edges(variant) {
            for data in [Data::Integer, Data::Random] {
                let (positions, channels) = (window.input[1], window.channels);
                cases.push(Case::Dense { variant: Some(*variant), positions, channels, splits: 1, data });
            }
        }
        for (positions, channels, splits) in [(5, 3, 1), (1, 100, 1), (20, 130, 2), (33, 72, 3)] {
            for data in [Data::Integer, Data::Random] {
                cases.push(Case::Dense { variant: Some(*variant), positions, channels, splits, data });
            }
        }
    }
    for (positions, channels) in [(1, 1), (5, 9), (17, 64)] {
        for data in [Data::Integer, Data::Random] {
            cases.push(Case::Dense { variant: None, positions, channels, splits: 1, data });
        }
    }
    cases
}
