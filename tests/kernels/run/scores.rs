//! The operators with results of their own: the gated AWS-Unit, which takes three launches, the heads, and the caller's
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
        heads: &[(usize, usize, Score)],
        pooled: bool,
        labels_per_block: usize,
    ) -> f64 {
        let stream = self.stream;
        let features = if pooled { channels } else { channels * positions };
        let x = self.inputs(batch * positions, channels);
        // Every second head has no bias.
        let operands: Vec<(Vec<f32>, Option<Vec<f32>>)> = heads
            .iter()
            .enumerate()
            .map(|(index, &(_, labels, _))| {
                let weights = self.data.parameters(&mut self.rng, labels * features);
                let bias = (index % 2 == 0).then(|| self.data.parameters(&mut self.rng, labels));
                (weights, bias)
            })
            .collect();
        let weights: Vec<Guarded> = operands
            .iter()
            .map(|(w, _)| parameters(stream, &pack::head(channels, features / channels, w)))
            .collect();
        let bias: Vec<Option<Guarded>> =
            operands.iter().map(|(_, bias)| bias.as_ref().map(|bias| parameters(stream, bias))).collect();
        // A head without a score copies its logits, or has nowhere for them.
        let copies = |index: usize| heads[index].2 != Score::None || index.is_multiple_of(2);
        let results: Vec<[Guarded; 2]> = heads
            .iter()
            .map(|&(_, labels, _)| [(); 2].map(|_| Guarded::poisoned(stream, batch * labels * 4)))
            .collect();
        let mut params = abi::HeadParams {
            head: [abi::Head::ABSENT; abi::HEADS],
            positions_per_image: positions as i64,
            batch: batch as i32,
            channels: channels as i32,
            heads: heads.len() as i32,
            pooled: i32::from(pooled),
            labels_per_block: labels_per_block as i32,
            reserved: 0,
        };
        for (index, &(branch, labels, score)) in heads.iter().enumerate() {
            let [logits, probabilities] = addresses(&results[index]);
            params.head[index] = abi::Head {
                input: x.addresses()[branch],
                weight: weights[index].address(),
                bias: bias[index].as_ref().map_or(0, Guarded::address),
                logits,
                probabilities: if copies(index) { probabilities } else { 0 },
                labels: labels as i32,
                score,
            };
        }
        let launch = launch::head(self.element, &params);
        let outputs: Vec<&Guarded> = results.iter().flatten().collect();
        let found = self.under_all_schedules(&outputs, || stream.launch(&launch, &params));
        let mut worst = 0f64;
        for (index, &(branch, labels, score)) in heads.iter().enumerate() {
            let [found_logits, found_probabilities] =
                [0, 1].map(|which| decode(Element::F32, &found[2 * index + which]));
            let (w, bias) = &operands[index];
            for n in 0..batch {
                let image = &x.values[branch][n * positions * channels..][..positions * channels];
                let logit = reference::head_logits(image, channels, w, bias.as_deref(), labels, pooled);
                let probability = reference::head_probabilities(&logit, score);
                let slice = n * labels..(n + 1) * labels;
                let part = &found_logits[slice.clone()];
                worst = worst.max(compare(Element::F32, self.data, &logit, part));
                let part = &found_probabilities[slice];
                match (score, copies(index)) {
                    (Score::None, true) => assert_eq!(*part, found_logits[n * labels..][..labels]),
                    (_, false) => assert!(part.iter().all(|v| v.is_nan()), "scores that nobody asked for"),
                    _ => worst = worst.max(compare(Element::F32, self.data, &probability, part)),
                }
            }
        }
        worst
    }

    /// Numbers of a map, or logits that are there.
    pub fn head_score(
        &mut self,
        batch: usize,
        positions: usize,
        channels: usize,
        score: Score,
        in_place: bool,
    ) -> f64 {
        let (stream, labels) = (self.stream, channels * positions);
        let x = self.inputs(batch * positions, channels);
        let results = [(); 2].map(|_| Guarded::poisoned(stream, batch * labels * 4));
        // In the order (channel, position).
        let numbers: Vec<f32> = x.values[0]
            .chunks_exact(labels)
            .flat_map(|image| (0..labels).map(|l| image[l % positions * channels + l / positions]))
            .collect();
        let there = Guarded::of_predecessor(stream, &pack::encode(Element::F32, &numbers));
        let [logits, probabilities] = addresses(&results);
        let [input, logits] = if in_place { [there.address(); 2] } else { [x.device[0].address(), logits] };
        let head =
            abi::Head { input, logits, probabilities, labels: labels as i32, score, ..abi::Head::ABSENT };
        let params = abi::HeadScoreParams {
            head,
            positions_per_image: if in_place { 1 } else { positions as i64 },
            batch: batch as i32,
            channels: if in_place { labels } else { channels } as i32,
            pitch: if in_place { labels } else { abi::pitch(channels) } as i32,
            reserved: 0,
        };
        let launch = launch::head_score(self.element, &params);
        let outputs = [&results[0], &results[1]];
        let found = self.under_all_schedules(&outputs, || stream.launch(&launch, &params));
        let logits = if in_place { there.read(stream) } else { found[0].clone() };
        assert_eq!(decode(Element::F32, &logits), numbers, "logits");
        let probabilities = decode(Element::F32, &found[1]);
        if score == Score::None {
            assert_eq!(probabilities, numbers, "numbers without a score");
            return 0.0;
        }
        let shares =
            numbers.chunks_exact(labels).zip(probabilities.chunks_exact(labels)).map(|(logits, found)| {
                let exact = logits.iter().map(|&v| f64::from(v)).collect();
                let logits = Expected { value: exact, bound: vec![0.0; labels] };
                compare(Element::F32, self.data, &reference::head_probabilities(&logits, score), found)
            });
        shares.fold(0.0, f64::max)
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
