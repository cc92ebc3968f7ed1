//! The operators with results of their own: the gated AWS-Unit, which takes three launches, the head, and the caller's
//! image.

use awsnet::__tests::abi::{self, Gate, Pixel, Score};
use awsnet::__tests::launch;
use awsnet::__tests::pack;
use awsnet::__tests::variants::Element;

use super::{Runner, addresses};
use crate::data::{DeviceMap, Guarded, decode, parameters};
use crate::reference::{self, Expected, GateWeights, compare};

impl Runner<'_> {
    pub fn gated(
        &mut self,
        batch: usize,
        positions: usize,
        channels: usize,
        squeezed: usize,
        gate: Gate,
    ) -> f64 {
        let (stream, pitch) = (self.stream, abi::pitch(channels));
        let x = self.inputs(batch * positions, channels);
        let mut random = |count: usize| self.data.parameters(&mut self.rng, count);
        let weights = GateWeights {
            squeeze: random(squeezed * 2 * channels),
            squeeze_bias: random(squeezed),
            excite: random(4 * channels * squeezed),
            excite_bias: random(4 * channels),
        };
        let output = || DeviceMap::output(stream, self.element, batch * positions, channels);
        let outputs = [output(), output()];
        let array = |count: usize| Guarded::poisoned(stream, count * 4);
        let (means, coefficients) = (array(batch * 2 * pitch), array(batch * 4 * pitch));
        let squeeze = parameters(stream, &pack::squeeze(channels, &weights.squeeze));
        let [squeeze_bias, excite, excite_bias] =
            [&weights.squeeze_bias, &weights.excite, &weights.excite_bias]
                .map(|values| parameters(stream, values));
        let means_params = abi::AwsUnitGateMeansParams {
            input: x.addresses(),
            means: means.address(),
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
        };
        let coefficients_params = abi::AwsUnitGateCoefficientsParams {
            means: means.address(),
            squeeze_weight: squeeze.address(),
            squeeze_bias: squeeze_bias.address(),
            excite_weight: excite.address(),
            excite_bias: excite_bias.address(),
            coefficients: coefficients.address(),
            batch: batch as i32,
            channels: channels as i32,
            squeezed: squeezed as i32,
            gate,
        };
        let mix_params = abi::AwsUnitGateMixParams {
            input: x.addresses(),
            output: [outputs[0].address(), outputs[1].address()],
            coefficients: coefficients.address(),
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
        };
        let found = self.under_all_schedules(&[&outputs[0].memory, &outputs[1].memory], || {
            stream.launch(&launch::aws_unit_gate_means(self.element, &means_params), &means_params);
            stream.launch(&launch::aws_unit_gate_coefficients(&coefficients_params), &coefficients_params);
            stream.launch(&launch::aws_unit_gate_mix(self.element, &mix_params), &mix_params);
        });
        for array in [&means, &coefficients] {
            let values = decode(Element::F32, &array.read(stream));
            let mut pads = values.chunks_exact(pitch).flat_map(|row| &row[channels..]);
            assert!(pads.all(|v| v.to_bits() == 0), "a pad lane holds a value");
        }
        let inputs = [&x.values[0][..], &x.values[1]];
        let expected = reference::aws_unit_gate(inputs, batch, channels, gate, &weights);
        let share = |t: usize| compare(self.element, self.data, &expected[t], &outputs[t].decode(&found[t]));
        share(0).max(share(1))
    }

    pub fn head(
        &mut self,
        batch: usize,
        positions: usize,
        channels: usize,
        labels: [usize; 2],
        pooled: bool,
    ) -> f64 {
        let stream = self.stream;
        let features = if pooled { channels } else { channels * positions };
        let x = self.inputs(batch * positions, channels);
        let w = labels.map(|labels| self.data.parameters(&mut self.rng, labels * features));
        let bias = self.data.parameters(&mut self.rng, labels[0]); // the second branch has none
        let weights = [0, 1].map(|t| parameters(stream, &pack::head(channels, features / channels, &w[t])));
        let bias_on_device = parameters(stream, &bias);
        let scores = [Score::Softmax, Score::Sigmoid];
        let [logits, probabilities] =
            [(); 2].map(|_| labels.map(|labels| Guarded::poisoned(stream, batch * labels * 4)));
        let params = abi::HeadParams {
            input: x.addresses(),
            weight: addresses(&weights),
            bias: [bias_on_device.address(), 0],
            logits: addresses(&logits),
            probabilities: addresses(&probabilities),
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
            labels: labels.map(|l| l as i32),
            score: scores,
            pooled: i32::from(pooled),
            reserved: 0,
        };
        let launch = launch::head(self.element, &params);
        let outputs = [&logits[0], &probabilities[0], &logits[1], &probabilities[1]];
        let found = self.under_all_schedules(&outputs, || stream.launch(&launch, &params));
        let mut worst = 0f64;
        for t in 0..2 {
            let [found_logits, found_probabilities] =
                [0, 1].map(|which| decode(Element::F32, &found[2 * t + which]));
            for n in 0..batch {
                let image = &x.values[t][n * positions * channels..][..positions * channels];
                let bias = (t == 0).then_some(&bias[..]);
                let logit = reference::head_logits(image, channels, &w[t], bias, labels[t], pooled);
                let probability = reference::head_probabilities(&logit, scores[t]);
                let slice = n * labels[t]..(n + 1) * labels[t];
                for (expected, found) in [(logit, &found_logits), (probability, &found_probabilities)] {
                    worst = worst.max(compare(Element::F32, self.data, &expected, &found[slice.clone()]));
                }
            }
        }
        worst
    }

    pub fn image(&mut self, batch: usize, size: [usize; 2], channels: usize, pixel: Pixel) -> f64 {
        let image = self.test_image(batch, size, channels, pixel);
        let output = DeviceMap::output(self.stream, self.element, batch * size[0] * size[1], channels);
        let params = abi::ImageToNhwcParams {
            image: image.params,
            output: output.address(),
            batch: batch as i32,
            reserved: 0,
        };
        let launch = launch::image_to_nhwc(self.element, &params);
        let found = self.under_all_schedules(&[&output.memory], || self.stream.launch(&launch, &params));
        let expected = Expected {
            value: image.normalised.iter().map(|&v| f64::from(v)).collect(),
            bound: image.magnitude.iter().map(|m| 2.0 * 2f64.powi(-24) * m).collect(),
        };
        compare(self.element, self.data, &expected, &output.decode(&found[0]))
    }
}
