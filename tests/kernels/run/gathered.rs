//! The operators that write maps without an epilogue: concatenation, and squeeze-and-excitation up to its factors.

use awsnet::__tests::abi::{self, Activation};
use awsnet::__tests::launch;
use awsnet::__tests::pack::{self, Oihw};

use super::Runner;
use crate::data::{DeviceMap, Guarded, parameters};
use crate::reference::{self, Matrix, compare};

impl Runner<'_> {
    /// Launches as a plan has them: each goes on where the one before ended, and keeps what of a vector is there.
    pub fn concat(&mut self, positions: usize, channels: &[usize], branches: usize, part: bool) -> f64 {
        let (stream, element) = (self.stream, self.element);
        let all: usize = channels.iter().sum();
        let inputs: Vec<_> = channels.iter().map(|&channels| self.inputs(positions, channels)).collect();
        let output = || match part {
            true => DeviceMap::part_output(stream, element, positions, all),
            false => DeviceMap::output(stream, element, positions, all),
        };
        let outputs: Vec<DeviceMap> = (0..branches).map(|_| output()).collect();
        let address = |t: usize, maps: &[DeviceMap]| maps.get(t).map_or(0, DeviceMap::address);
        let of_output = [0, 1].map(|t| address(t, &outputs));
        let mut launches = Vec::new();
        let (mut next, mut begin) = (0, 0);
        while next < channels.len() {
            let mut params = abi::ConcatParams {
                input: [[0; 2]; abi::CONCAT_INPUTS],
                output: of_output,
                positions: positions as i64,
                pitch: [0; abi::CONCAT_INPUTS],
                begin: [0; abi::CONCAT_INPUTS + 1],
                inputs: 0,
                first_channel: (begin / 8 * 8) as i32,
                output_pitch: outputs[0].row() as i32,
                branches: branches as i32,
                reserved: 0,
            };
            let mut count = 0;
            let mut add = |input: [u64; 2], pitch: usize, first: usize| {
                (params.input[count], params.pitch[count], params.begin[count]) =
                    (input, pitch as i32, first as i32);
                count += 1;
                count
            };
            let mut taken = 0;
            if begin % 8 != 0 {
                taken = add(of_output, outputs[0].row(), 0);
            }
            while next < channels.len() && taken < abi::CONCAT_INPUTS {
                let maps = &inputs[next].device[..branches];
                taken = add([0, 1].map(|t| address(t, maps)), abi::pitch(channels[next]), begin);
                begin += channels[next];
                next += 1;
            }
            params.inputs = count as i32;
            params.begin[count] = begin as i32;
            launches.push(params);
        }
        let memory: Vec<&Guarded> = outputs.iter().map(|map| &map.memory).collect();
        let found = self.under_all_schedules(&memory, || {
            launches.iter().for_each(|params| stream.launch(&launch::concat(element, params), params));
        });
        for (t, (map, found)) in outputs.iter().zip(&found).enumerate() {
            let of_branch: Vec<(usize, &[f32])> =
                channels.iter().zip(&inputs).map(|(&c, inputs)| (c, &inputs.values[t][..])).collect();
            assert_eq!(map.decode(found), reference::concat(positions, &of_branch), "branch {t}");
        }
        0.0
    }

    pub fn squeeze_excite(
        &mut self,
        batch: usize,
        positions: usize,
        [channels, squeezed, excited]: [usize; 3],
        parts: usize,
        activations: [Activation; 2],
        branches: usize,
    ) -> f64 {
        let (stream, element) = (self.stream, self.element);
        const NEGATIVE_SLOPE: f32 = 0.25;
        let x = self.inputs(batch * positions, channels);
        let mut matrix = |out: usize, input: usize, activation: Activation| Matrix {
            weights: self.data.values(&mut self.rng, element, out * input),
            bias: self.data.parameters(&mut self.rng, out),
            activation,
            negative_slope: NEGATIVE_SLOPE,
        };
        let matrices: [[Matrix; 2]; 2] = [(); 2]
            .map(|_| [matrix(squeezed, channels, activations[0]), matrix(excited, squeezed, activations[1])]);
        let [squeeze, excite] = [0, 1].map(|layer| {
            let shape = match layer {
                0 => Oihw { out: squeezed, input: channels, kernel: [1, 1] },
                _ => Oihw { out: excited, input: squeezed, kernel: [1, 1] },
            };
            let pack = [pack::implicit_gemm, pack::direct][layer];
            self.weights([0, 1].map(|t| pack(shape, &matrices[t][layer].weights)))
        });
        let [squeeze_bias, excite_bias] = [0, 1].map(|layer| {
            [0, 1].map(|t: usize| parameters(stream, &pack::per_channel(&matrices[t][layer].bias)))
        });
        let outputs: Vec<DeviceMap> =
            (0..branches).map(|_| DeviceMap::output(stream, element, batch, excited)).collect();
        let workspace = batch * branches * parts * abi::pitch(channels) * 4;
        let workspace = Guarded::new(stream, &vec![0xff; workspace]); // NaN until somebody writes it
        let tickets = Guarded::new(stream, &vec![0; batch * branches * 4]);
        let present = |pair: [u64; 2]| if branches == 1 { [pair[0], 0] } else { pair };
        let params = abi::SqueezeExciteParams {
            input: present(x.addresses()),
            squeeze_weight: present(super::addresses(&squeeze)),
            squeeze_bias: present(super::addresses(&squeeze_bias)),
            excite_weight: present(super::addresses(&excite)),
            excite_bias: present(super::addresses(&excite_bias)),
            output: [0, 1].map(|t| outputs.get(t).map_or(0, DeviceMap::address)),
            workspace: workspace.address(),
            tickets: tickets.address(),
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
            squeezed: squeezed as i32,
            excited: excited as i32,
            branches: branches as i32,
            parts: parts as i32,
            squeeze_activation: activations[0],
            excite_activation: activations[1],
            squeeze_negative_slope: NEGATIVE_SLOPE,
            excite_negative_slope: NEGATIVE_SLOPE,
        };
        let memory: Vec<&Guarded> = outputs.iter().map(|map| &map.memory).collect();
        let launch = launch::squeeze_excite(element, &params);
        let found = self.under_all_schedules(&memory, || stream.launch(&launch, &params));
        workspace.read(stream);
        assert!(tickets.read(stream).iter().all(|&b| b == 0), "a ticket was left behind");
        let share = |t: usize| {
            let [first, second] = &matrices[t];
            let expected = reference::squeeze_excite(&x.values[t], batch, channels, [first, second]);
            compare(element, self.data, &expected, &outputs[t].decode(&found[t]))
        };
        (0..branches).map(share).fold(0.0, f64::max)
    }
}
