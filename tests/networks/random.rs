//! Random networks: every op, AWS-Unit, activation and kind of reader, sizes that are small and odd.

use serde_json::{Value, json};

use crate::common::{Chw, ModelFile, Network, Numbers, Rng, output_shape};

/// The largest feature map and the longest linear row: the reference has to keep up.
const MOST_ELEMENTS: usize = 4_000;
const MOST_FEATURES: usize = 1_200;

/// The network of a seed.
pub fn network(seed: u64, numbers: Numbers) -> ModelFile {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let image = [rng.pick(&[1, 3]), 1 + rng.below(13), 1 + rng.below(13)];
    let mut network = Network::new(seed, numbers, image);
    let layers = match numbers {
        Numbers::Real => 1 + rng.below(8),
        Numbers::Integer => 1 + rng.below(3),
    };
    for index in 0..layers {
        add_layer(&mut network, &mut rng, index, numbers);
    }
    let emotion = (head_input(&network, &mut rng), 1 + rng.below(20));
    let au = (head_input(&network, &mut rng), 1 + rng.below(20));
    network.heads((&emotion.0, emotion.1), (&au.0, au.1))
}

/// The last source whose map is small enough to be flattened, or now and then another one.
fn head_input(network: &Network, rng: &mut Rng) -> String {
    let mut sources = network.layers();
    sources.insert(0, "image".into());
    sources.retain(|source| network.shapes[source].iter().product::<usize>() <= MOST_FEATURES);
    if rng.percent(25) { rng.pick(&sources) } else { sources.last().expect("the image at least").clone() }
}

fn add_layer(network: &mut Network, rng: &mut Rng, index: usize, numbers: Numbers) {
    let mut sources = network.layers();
    sources.push("image".into());
    let name = format!("l{index}");
    let mut entry = json!({"name": name});
    if rng.percent(25) {
        entry["input"] = json!(rng.pick(&sources));
    }
    let input = network.shapes[&network.input_of(&entry)];
    let (op, out_channels) = operator(rng, input, numbers);
    entry.as_object_mut().expect("an object").extend(op.as_object().expect("an object").clone());
    let output = output_shape(&entry, input, out_channels).expect("an operator that fits");

    let same: Vec<String> =
        network.layers().into_iter().filter(|layer| network.shapes[layer] == output).collect();
    if !same.is_empty() && rng.percent(45) {
        entry["residual"] = json!(rng.pick(&same));
    }
    let activation = match numbers {
        Numbers::Real => rng.pick(&["", "none", "relu", "relu", "leaky_relu", "silu"]),
        Numbers::Integer => rng.pick(&["", "relu"]),
    };
    if !activation.is_empty() {
        entry["activation"] = json!(activation);
    }
    if activation == "leaky_relu" && rng.percent(50) {
        entry["negative_slope"] = json!(rng.pick(&[0.2, -0.5, 1.5]));
    }
    let aws = match numbers {
        Numbers::Real => rng.pick(&["", "none", "layer", "channel", "dense", "gate"]),
        Numbers::Integer => rng.pick(&["", "layer", "channel", "dense"]),
    };
    if !aws.is_empty() {
        entry["aws"] = json!(aws);
    }
    if aws == "gate" && rng.percent(50) {
        entry["gate"] = json!(rng.pick(&["softmax", "sigmoid"]));
    }
    network.layer(entry, out_channels);
}

/// An operator that fits its input, and its number of output channels.
fn operator(rng: &mut Rng, input: Chw, numbers: Numbers) -> (Value, usize) {
    let [channels, height, width] = input;
    loop {
        let out = rng.pick(&[1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 20, 33]);
        let (entry, out_channels) = match rng.below(12) {
            0..=3 => convolution(rng, out, 1, 4, true),
            4 => (json!({"op": "conv2d", "kernel": 1}), out),
            5 => (json!({"op": "conv2d", "kernel": 3, "padding": 1}), channels),
            6 => {
                // Depthwise, with a multiplier now and then.
                let multiplier = if rng.percent(70) { 1 } else { 2 };
                convolution(rng, channels * multiplier, channels, 4, true)
            }
            7 => {
                let divisors: Vec<usize> = (1..=channels).filter(|g| channels % g == 0).collect();
                let groups = rng.pick(&divisors);
                let out_group = 1 + rng.below(1 + 12 / groups);
                convolution(rng, groups * out_group, groups, 3, true)
            }
            8 => (json!({"op": "linear"}), out),
            9 => (pool(rng, numbers), channels),
            10 if rng.percent(60) => (json!({"op": "global_avg_pool2d"}), channels),
            _ => (json!({"op": "identity"}), channels),
        };
        let exact = numbers == Numbers::Real
            || entry["op"] != "global_avg_pool2d"
            || (height * width).is_power_of_two();
        let fits = output_shape(&entry, input, out_channels)
            .is_some_and(|shape| shape.iter().product::<usize>() <= MOST_ELEMENTS);
        let flattens = entry["op"] == "linear";
        if fits && exact && (!flattens || channels * height * width <= MOST_FEATURES) {
            return (entry, out_channels);
        }
    }
}

fn convolution(rng: &mut Rng, out: usize, groups: usize, most: usize, normed: bool) -> (Value, usize) {
    let kernel = [1 + rng.below(most), 1 + rng.below(most)];
    let stride = if rng.percent(60) { [1, 1] } else { [1 + rng.below(3), 1 + rng.below(3)] };
    let dilation = if rng.percent(75) { [1, 1] } else { [1 + rng.below(3), 1 + rng.below(3)] };
    let padding: [usize; 4] = [0; 4].map(|_| rng.below(4));
    let mut entry = json!({"op": "conv2d", "kernel": kernel, "stride": stride, "dilation": dilation,
                           "padding": padding, "groups": groups});
    if normed && rng.percent(40) {
        entry["batch_norm"] = json!(format!("norm{}", rng.next()));
        entry["batch_norm_eps"] = json!(0.0);
    }
    (entry, out)
}

fn pool(rng: &mut Rng, numbers: Numbers) -> Value {
    let op = rng.pick(&["max_pool2d", "avg_pool2d"]);
    let kernel = match numbers {
        Numbers::Integer if op == "avg_pool2d" => rng.pick(&[[1, 2], [2, 1], [2, 2], [4, 1]]),
        _ => [1 + rng.below(4), 1 + rng.below(4)],
    };
    let padding = [0, 1, 2, 3].map(|side: usize| rng.below(kernel[side % 2]));
    let mut entry = json!({"op": op, "kernel": kernel, "padding": padding});
    if rng.percent(60) {
        entry["stride"] = json!([1 + rng.below(3), 1 + rng.below(3)]);
    }
    entry
}
