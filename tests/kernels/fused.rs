//! The epilogue of a case: which of bias, scale, residual, activation and mix it has, and their operands on the device.

use awsnet::__tests::abi::{Activation, Epilogue, Mix};
use awsnet::__tests::pack;
use awsnet::__tests::variants::Element;

use crate::data::{Data, DeviceMap, Guarded, Rng, parameters};
use crate::driver::Stream;
use crate::reference::EpilogueValues;

/// What z is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    None,
    /// A map of the output's shape.
    Map,
    /// A map of one position an image.
    Spread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fused {
    pub bias: bool,
    pub scale: Scale,
    pub residual: bool,
    pub activation: Activation,
    pub mix: Mix,
    /// 1 or 2.
    pub branches: usize,
    /// Whether the output is a part of a larger map.
    pub part: bool,
}

impl Fused {
    pub const PLAIN: Fused = Fused {
        bias: false,
        scale: Scale::None,
        residual: false,
        activation: Activation::None,
        mix: Mix::None,
        branches: 2,
        part: false,
    };

    /// As `PLAIN`, of one branch.
    pub const ALONE: Fused = Fused { branches: 1, ..Fused::PLAIN };

    pub const ACTIVATIONS: [Activation; 13] = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu,
        Activation::Silu,
        Activation::Relu6,
        Activation::Prelu,
        Activation::Elu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardSwish,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
    ];

    /// Every combination of bias, residual and mix with the first four activations; every activation with every scale;
    /// and of one branch, what has no mix of them.
    pub fn all() -> Vec<Fused> {
        let mut all = Vec::new();
        for mix in [Mix::None, Mix::Layer, Mix::Channel] {
            for activation in &Fused::ACTIVATIONS[..4] {
                for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
                    all.push(Fused { bias, residual, activation: *activation, mix, ..Fused::PLAIN });
                }
            }
        }
        for (i, &activation) in Fused::ACTIVATIONS.iter().enumerate() {
            for scale in [Scale::None, Scale::Map, Scale::Spread] {
                let (bias, residual) = (i % 2 == 0, i % 3 != 0);
                let mix = [Mix::None, Mix::Channel][i % 2];
                let part = i % 4 == 3;
                all.push(Fused { bias, scale, residual, activation, mix, part, ..Fused::PLAIN });
            }
        }
        let alone =
            all.iter().filter(|fused| fused.mix == Mix::None).map(|fused| Fused { branches: 1, ..*fused });
        let alone: Vec<Fused> = alone.collect();
        all.into_iter().chain(alone).collect()
    }

    /// Whether integers stay integers (or quarters of them) all the way.
    pub fn exact(&self) -> bool {
        match self.activation {
            Activation::None
            | Activation::Relu
            | Activation::LeakyRelu
            | Activation::Relu6
            | Activation::Prelu => true,
            Activation::Silu
            | Activation::Elu
            | Activation::Sigmoid
            | Activation::HardSigmoid
            | Activation::HardSwish
            | Activation::Tanh
            | Activation::Gelu
            | Activation::GeluTanh => false,
        }
    }

    /// The addresses of the branches there are.
    pub fn present(&self, pair: [u64; 2]) -> [u64; 2] {
        if self.branches == 1 { [pair[0], 0] } else { pair }
    }
}

/// Operands and outputs of both branches.
pub struct FusedOperands {
    pub values: EpilogueValues,
    pub outputs: [DeviceMap; 2],
    fused: Fused,
    bias: Option<[Guarded; 2]>,
    scale: Option<[DeviceMap; 2]>,
    residual: Option<[DeviceMap; 2]>,
    slopes: Option<[Guarded; 2]>,
    mix: Option<Guarded>,
    channels: usize,
    /// Of an image of a spread scale, else 0.
    scale_positions: usize,
}

/// Exact in every type, so that integers stay exact behind it.
const NEGATIVE_SLOPE: f32 = 0.25;

impl FusedOperands {
    pub fn new(
        stream: &Stream,
        fused: Fused,
        element: Element,
        data: Data,
        rng: &mut Rng,
        [positions, positions_per_image]: [usize; 2],
        channels: usize,
    ) -> FusedOperands {
        let scale_positions = if fused.scale == Scale::Spread { positions_per_image } else { 0 };
        let scale_rows = if scale_positions > 0 { positions.div_ceil(scale_positions) } else { positions };
        let mut pair = |there: bool, element: Element, count: usize| {
            there.then(|| [(); 2].map(|_| data.values(rng, element, count)))
        };
        let bias = pair(fused.bias, Element::F32, channels);
        let scale = pair(fused.scale != Scale::None, element, scale_rows * channels);
        let residual = pair(fused.residual, element, positions * channels);
        let slopes = pair(fused.activation == Activation::Prelu, Element::F32, channels);
        let mix = match fused.mix {
            Mix::None => Vec::new(),
            Mix::Layer => data.parameters(rng, 4),
            Mix::Channel => data.parameters(rng, 4 * channels),
        };
        let packed_mix = match fused.mix {
            Mix::None => None,
            Mix::Layer => Some(mix.clone()),
            Mix::Channel => Some(pack::mix_channel(channels, &mix)),
        };
        FusedOperands {
            outputs: [(); 2].map(|_| match fused.part {
                true => DeviceMap::part_output(stream, element, positions, channels),
                false => DeviceMap::output(stream, element, positions, channels),
            }),
            fused,
            bias: bias.as_ref().map(|b| [0, 1].map(|t| parameters(stream, &pack::per_channel(&b[t])))),
            scale: scale
                .as_ref()
                .map(|s| [0, 1].map(|t| DeviceMap::input(stream, element, scale_rows, channels, &s[t]))),
            residual: residual
                .as_ref()
                .map(|r| [0, 1].map(|t| DeviceMap::input(stream, element, positions, channels, &r[t]))),
            slopes: slopes.as_ref().map(|s| [0, 1].map(|t| parameters(stream, &pack::per_channel(&s[t])))),
            mix: packed_mix.map(|m| parameters(stream, &m)),
            channels,
            scale_positions,
            values: EpilogueValues {
                bias,
                scale,
                scale_positions,
                residual,
                slopes,
                activation: fused.activation,
                negative_slope: NEGATIVE_SLOPE,
                mix_kind: fused.mix,
                mix,
            },
        }
    }

    /// The outputs of the branches there are.
    pub fn written(&self) -> &[DeviceMap] {
        &self.outputs[..self.fused.branches]
    }

    pub fn epilogue(&self) -> Epilogue {
        let arrays = |pair: &Option<[Guarded; 2]>| {
            let addresses = pair.as_ref().map_or([0; 2], |pair| [pair[0].address(), pair[1].address()]);
            self.fused.present(addresses)
        };
        let maps = |pair: &[DeviceMap; 2]| self.fused.present([pair[0].address(), pair[1].address()]);
        Epilogue {
            bias: arrays(&self.bias),
            scale: self.scale.as_ref().map_or([0; 2], maps),
            residual: self.residual.as_ref().map_or([0; 2], maps),
            slopes: arrays(&self.slopes),
            mix: self.mix.as_ref().map_or(0, Guarded::address),
            output: maps(&self.outputs),
            channels: self.channels as i32,
            activation: self.values.activation,
            mix_kind: self.values.mix_kind,
            negative_slope: self.values.negative_slope,
            scale_positions: self.scale_positions as i32,
            output_pitch: self.outputs[0].row() as i32,
            branches: self.fused.branches as i32,
            reserved: 0,
        }
    }
}
