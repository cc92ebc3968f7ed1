//! The epilogue of a case: which of bias, residual, activation and mix it has, and their operands on the device.

use awsnet::__tests::abi::{Activation, Epilogue, Mix};
use awsnet::__tests::pack;
use awsnet::__tests::variants::Element;

use crate::data::{Data, DeviceMap, Guarded, Rng, parameters};
use crate::driver::Stream;
use crate::reference::EpilogueValues;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fused {
    pub bias: bool,
    pub residual: bool,
    pub activation: Activation,
    pub mix: Mix,
}

impl Fused {
    pub const PLAIN: Fused =
        Fused { bias: false, residual: false, activation: Activation::None, mix: Mix::None };

    /// Every combination.
    pub fn all() -> Vec<Fused> {
        use Activation::*;
        let mut all = Vec::new();
        for mix in [Mix::None, Mix::Layer, Mix::Channel] {
            for activation in [None, Relu, LeakyRelu, Silu] {
                for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
                    all.push(Fused { bias, residual, activation, mix });
                }
            }
        }
        all
    }

    /// Whether integers stay integers (or halves of them) all the way.
    pub fn exact(&self) -> bool {
        self.activation != Activation::Silu
    }
}

/// Operands and outputs of both branches.
pub struct FusedOperands {
    pub values: EpilogueValues,
    pub outputs: [DeviceMap; 2],
    bias: Option<[Guarded; 2]>,
    residual: Option<[DeviceMap; 2]>,
    mix: Option<Guarded>,
    channels: usize,
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
        positions: usize,
        channels: usize,
    ) -> FusedOperands {
        let mut pair = |there: bool, element: Element, count: usize| {
            there.then(|| [(); 2].map(|_| data.values(rng, element, count)))
        };
        let bias = pair(fused.bias, Element::F32, channels);
        let residual = pair(fused.residual, element, positions * channels);
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
            outputs: [(); 2].map(|_| DeviceMap::output(stream, element, positions, channels)),
            bias: bias.as_ref().map(|b| [0, 1].map(|t| parameters(stream, &pack::per_channel(&b[t])))),
            residual: residual
                .as_ref()
                .map(|r| [0, 1].map(|t| DeviceMap::input(stream, element, positions, channels, &r[t]))),
            mix: packed_mix.map(|m| parameters(stream, &m)),
            channels,
            values: EpilogueValues {
                bias,
                residual,
                activation: fused.activation,
                negative_slope: NEGATIVE_SLOPE,
                mix_kind: fused.mix,
                mix,
            },
        }
    }

    pub fn epilogue(&self) -> Epilogue {
        Epilogue {
            bias: self.bias.as_ref().map_or([0; 2], |b| [b[0].address(), b[1].address()]),
            residual: self.residual.as_ref().map_or([0; 2], |r| [r[0].address(), r[1].address()]),
            mix: self.mix.as_ref().map_or(0, Guarded::address),
            output: [self.outputs[0].address(), self.outputs[1].address()],
            channels: self.channels as i32,
            activation: self.values.activation,
            mix_kind: self.values.mix_kind,
            negative_slope: self.values.negative_slope,
        }
    }
}
