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

/// The network of version 2 of a seed: one branch or two, any number of heads, and everything that layers may have.
pub fn network_of_version_2(seed: u64) -> ModelFile {
    let mut rng = Rng::new(seed ^ 0x5eed_2000);
    let image = [rng.pick(&[1, 3]), 1 + rng.below(13), 1 + rng.below(13)];
    let branches = rng.pick(&[&["face"][..], &["emotion", "au"], &["a", "b_2"]]);
    let mut network = Network::version_2(seed, image, branches);
    for index in 0..1 + rng.below(10) {
        add_layer_of_version_2(&mut network, &mut rng, index, branches.len());
    }
    let count = 1 + rng.below(4);
    let names: Vec<String> = (0..count).map(|head| format!("head{head}")).collect();
    let heads: Vec<(&str, Value, usize)> = names
        .iter()
        .map(|name| {
            let (entry, rows) = head_of_version_2(&network, &mut rng, name, branches);
            (name.as_str(), entry, rows)
        })
        .collect();
    network.heads_of(&heads)
}

/// A head of any kind, and its rows.
fn head_of_version_2(network: &Network, rng: &mut Rng, name: &str, branches: &[&str]) -> (Value, usize) {
    let input = head_input(network, rng);
    let features: usize = network.shapes[&input].iter().product();
    let kind = rng.pick(&["classes", "units", "values"]);
    let raw = rng.percent(20);
    let rows = if raw { features } else { 1 + rng.below(20) };
    let mut entry = json!({"branch": rng.pick(branches), "kind": kind, "input": input, "tensor": null});
    if !raw {
        entry["tensor"] = json!(format!("{name}.fc"));
    }
    if kind != "values" || rng.percent(50) {
        entry["labels"] = (0..rows).map(|row| format!("L{row}")).collect::<Vec<_>>().into();
    }
    if kind == "units" && rng.percent(50) {
        entry["thresholds"] = (0..rows).map(|row| 0.3 + 0.1 * (row % 5) as f64).collect::<Vec<_>>().into();
    }
    (entry, rows)
}

/// A layer with any of the operators, stages and activations.
fn add_layer_of_version_2(network: &mut Network, rng: &mut Rng, index: usize, branches: usize) {
    let mut sources = network.layers();
    let name = format!("l-{index}");
    let mut entry = json!({"name": name});
    let concatenates = !sources.is_empty() && rng.percent(15);
    let (mut out_channels, mut output) = (0, [0; 3]);
    if concatenates {
        // Maps of one size, in any order, some of them twice.
        let first = rng.pick(&sources);
        let size = |layer: &String| network.shapes[layer][1..].to_vec();
        let fits: Vec<String> = sources.iter().filter(|layer| size(layer) == size(&first)).cloned().collect();
        let inputs: Vec<String> = (0..2 + rng.below(3)).map(|_| rng.pick(&fits)).collect();
        let channels: usize = inputs.iter().map(|layer| network.shapes[layer][0]).sum();
        let [_, height, width] = network.shapes[&first];
        if channels * height * width <= MOST_ELEMENTS {
            entry["op"] = json!("concat");
            entry["inputs"] = json!(inputs);
            output = [channels, height, width];
        }
    }
    if entry["op"].is_null() {
        sources.push("image".into());
        if rng.percent(25) {
            entry["input"] = json!(rng.pick(&sources));
        }
        let input = network.shapes[&network.input_of(&entry)];
        let op;
        (op, out_channels) = operator_of_version_2(rng, input);
        entry.as_object_mut().expect("an object").extend(op.as_object().expect("an object").clone());
        output = output_shape(&entry, input, out_channels).expect("an operator that fits");
    }
    if entry["batch_norm"].is_null() && rng.percent(20) {
        entry["batch_norm"] = json!(format!("norm{index}"));
    }
    let layers_of = |shapes: &[Chw]| -> Vec<String> {
        network.layers().into_iter().filter(|layer| shapes.contains(&network.shapes[layer])).collect()
    };
    let same = layers_of(&[output]);
    if !same.is_empty() && rng.percent(30) {
        entry["residual"] = json!(rng.pick(&same));
    }
    let scales = layers_of(&[output, [output[0], 1, 1]]);
    if !scales.is_empty() && rng.percent(40) {
        entry["scale"] = json!(rng.pick(&scales));
    }
    let activation = rng.pick(&[
        "none",
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "elu",
        "sigmoid",
        "hardsigmoid",
        "silu",
        "hardswish",
        "tanh",
        "gelu",
        "gelu_tanh",
    ]);
    entry["activation"] = json!(activation);
    if activation == "prelu" {
        entry["prelu"] = json!(format!("slopes.{index}"));
    }
    if branches == 2 {
        entry["aws"] = json!(rng.pick(&["none", "none", "layer", "channel", "dense", "gate"]));
    }
    network.layer(entry, out_channels);
}

/// An operator of either version that fits its input, and its number of output channels.
fn operator_of_version_2(rng: &mut Rng, input: Chw) -> (Value, usize) {
    let [channels, height, width] = input;
    loop {
        let (mut entry, out_channels) = match rng.below(10) {
            0 => (
                json!({"op": "adaptive_avg_pool2d", "output": [1 + rng.below(7), 1 + rng.below(7)]}),
                channels,
            ),
            1 => (json!({"op": "upsample2d", "factor": [1 + rng.below(3), 1 + rng.below(3)]}), channels),
            2 | 3 => (pool(rng, Numbers::Real), channels),
            4 => (json!({"op": "global_avg_pool2d"}), channels),
            _ => operator(rng, input, Numbers::Real),
        };
        if entry["op"] == "max_pool2d" || entry["op"] == "avg_pool2d" {
            entry["ceil_mode"] = json!(rng.percent(50));
        }
        if entry["op"] == "avg_pool2d" {
            entry["count_include_pad"] = json!(rng.percent(50));
        }
        let fits = output_shape(&entry, input, out_channels)
            .is_some_and(|shape| shape.iter().product::<usize>() <= MOST_ELEMENTS);
        if fits && (entry["op"] != "linear" || channels * height * width <= MOST_FEATURES) {
            return (entry, out_channels);
        }
    }
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
