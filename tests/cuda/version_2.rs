//! What version 2 of the model file adds: one branch, scale, activations, batch norm anywhere, concatenation, upsampling,
//! heads of any number and kind, the order of an image's channels.

use serde_json::{Value, json};

use super::sessions::Caller;
use super::*;
use awsnet::cuda::{DeviceImages, DevicePredictions, PixelFormat, Stream};
use awsnet::{ErrorKind, ImagesU8};
use common::Network;
use random::network_of_version_2;

/// A plan's kernels, in order.
fn kernels(model: &Model, precision: Precision) -> Vec<String> {
    let options = PlanOptions::new().target(gpu()).precision(precision);
    let plan = Plan::build(model.clone(), &options).expect("a plan");
    plan.nodes().iter().map(|node| node.kernel().to_owned()).collect()
}

fn count(kernels: &[String], kernel: &str) -> usize {
    kernels.iter().filter(|name| *name == kernel).count()
}

/// Panics unless every node of a model is within its bound in every precision.
fn check(model: &Model, what: &str) {
    let images = images(model, 3, 2);
    for precision in PRECISIONS {
        let options = PlanOptions::new().target(gpu()).precision(precision);
        for node in verify::layers(model.clone(), &options, 1, &images).expect("a run") {
            assert!(node.holds(), "{what} in {precision}: {node:?}");
        }
    }
}

/// A head of the branch `b`, over the last layer.
fn heads_of(network: Network, kinds: &[(&str, &str, usize)]) -> Model {
    let input = network.layers().last().expect("a layer").clone();
    let names: Vec<String> = (0..kinds.len()).map(|index| format!("head{index}")).collect();
    let heads: Vec<(&str, Value, usize)> = kinds
        .iter()
        .zip(&names)
        .map(|(&(branch, kind, rows), name)| {
            let labels: Vec<String> = (0..rows).map(|row| format!("L{row}")).collect();
            let tensor = format!("{name}.fc");
            let entry =
                json!({"branch": branch, "kind": kind, "input": input, "tensor": tensor, "labels": labels});
            (name.as_str(), entry, rows)
        })
        .collect();
    network.heads_of(&heads).model()
}

/// A convolution, and where its input is not the layer before it, that.
fn conv(network: &mut Network, name: &str, input: Option<&str>, channels: usize, kernel: usize) {
    let mut entry = json!({"name": name, "op": "conv2d", "kernel": kernel, "padding": kernel / 2});
    if let Some(input) = input {
        entry["input"] = json!(input);
    }
    network.layer(entry, channels);
}

#[test]
fn every_node_of_random_networks_of_version_2_stays_within_its_error_bound() {
    let kernels = every_node_holds(0..200, |seed| network_of_version_2(seed).model());
    for kernel in ["concat", "head", "head_score", "upsample2d"] {
        assert!(kernels.contains_key(kernel), "no seed has {kernel}");
    }
}

#[test]
fn every_run_of_a_network_of_version_2_gives_the_same_bits_wherever_its_maps_lie() {
    let _device = shared();
    for seed in 0..60 {
        let model = network_of_version_2(seed).model();
        let precision = PRECISIONS[seed as usize % 3];
        let [a, b] = [0, 1].map(|image| images(&model, seed + image, 1));
        let mut session = session(&model, precision, 2);
        schedule(seed);
        let first = bits(&mut session, &[&a[..], &b].concat());
        schedule(seed + 1);
        let turned = bits(&mut session, &[&b[..], &a].concat());
        assert_eq!([&turned[1], &turned[0]], [&first[0], &first[1]], "seed {seed} in {precision}");
        // Values of a plan that keeps them share no memory.
        let options = PlanOptions::new().target(gpu()).precision(precision).batch(2).keep_values(true);
        let plan = Plan::build(model, &options).expect("a plan");
        let engine = Engine::new(plan, &EngineOptions::new()).expect("an engine");
        let kept = bits(&mut engine.session().expect("a session"), &[&a[..], &b].concat());
        assert_eq!(kept, first, "seed {seed} in {precision}");
    }
}

#[test]
fn one_branch_has_half_of_the_bytes_and_of_the_work_of_two() {
    let network = |branches: &[&str]| {
        let mut network = Network::version_2(5, [3, 20, 20], branches);
        conv(&mut network, "stem", None, 16, 3);
        conv(&mut network, "body", None, 24, 3);
        let pool = json!({"name": "pool", "op": "max_pool2d", "kernel": 2, "stride": 2, "activation": "elu"});
        network.layer(pool, 0);
        heads_of(network, &[(branches[0], "classes", 7)])
    };
    for precision in PRECISIONS {
        let plan = |branches: &[&str]| {
            let options = PlanOptions::new().target(gpu()).precision(precision);
            Plan::build(network(branches), &options).expect("a plan")
        };
        let (alone, pair) = (plan(&["a"]), plan(&["a", "b"]));
        assert_eq!(alone.launches(), pair.launches());
        let nodes = alone.nodes().iter().zip(pair.nodes());
        for (alone, pair) in nodes.filter(|(node, _)| matches!(node.work(), awsnet::Work::Layers(_))) {
            assert_eq!(2 * alone.flop(), pair.flop(), "{}", alone.name());
            assert!(alone.bytes() < pair.bytes(), "{}: {}", alone.name(), alone.bytes());
        }
    }
}

#[test]
fn a_squeeze_and_excitation_is_two_launches() {
    let _device = shared();
    let network = |excited: bool, scaled: Value| {
        let mut network = Network::version_2(9, [3, 9, 9], &["a", "b"]);
        conv(&mut network, "x", None, 24, 3);
        if excited {
            network.layer(json!({"name": "mean", "op": "global_avg_pool2d"}), 0);
            let mut squeeze = json!({"name": "squeeze", "op": "conv2d", "kernel": 1, "activation": "silu"});
            squeeze["batch_norm"] = json!("norm");
            network.layer(squeeze, 6);
            network.layer(json!({"name": "excite", "op": "conv2d", "kernel": 1}), 24);
            network.layer(json!({"name": "factors", "op": "identity", "activation": "hardsigmoid"}), 0);
            network.layer(scaled, 0);
        }
        conv(&mut network, "y", None, 16, 1);
        heads_of(network, &[("a", "classes", 4), ("b", "units", 5)])
    };
    let scaled =
        json!({"name": "scaled", "op": "identity", "input": "x", "scale": "factors", "activation": "relu"});
    let model = network(true, scaled.clone());
    check(&model, "squeeze and excitation");
    for precision in PRECISIONS {
        let (with, without) =
            (kernels(&model, precision), kernels(&network(false, scaled.clone()), precision));
        assert_eq!(with.len(), without.len() + 2, "{with:?}");
        assert_eq!((count(&with, "squeeze_excite"), count(&with, "identity")), (1, 1), "{with:?}");
    }
    // Where somebody else reads the hidden layer, there are more.
    let mut network = Network::version_2(9, [3, 9, 9], &["a"]);
    conv(&mut network, "x", None, 8, 3);
    network.layer(json!({"name": "mean", "op": "global_avg_pool2d"}), 0);
    network.layer(json!({"name": "squeeze", "op": "conv2d", "kernel": 1, "activation": "relu"}), 8);
    network.layer(json!({"name": "excite", "op": "conv2d", "kernel": 1, "activation": "sigmoid"}), 8);
    network.layer(json!({"name": "y", "op": "identity", "scale": "squeeze", "residual": "mean"}), 0);
    let model = heads_of(network, &[("a", "values", 2)]);
    check(&model, "a hidden layer with two readers");
    assert_eq!(count(&kernels(&model, Precision::F16), "squeeze_excite"), 0);
}

#[test]
fn architectures_with_squeeze_and_excitation_have_the_launches_that_they_need() {
    // Convolutions, two launches a squeeze-and-excitation, and the heads with the last pooling. MobileNet's hidden layer is
    // a convolution more, and keeps the pooling apart.
    let cases = [(Architecture::EfficientNetB0, 49, 16, 1), (Architecture::MobileNetV3Small, 35, 9, 2)];
    for (architecture, convolutions, excitations, last) in cases {
        let model = random_model(architecture, 64, "none");
        let kernels = kernels(&model, Precision::F16);
        let convs = kernels.iter().filter(|kernel| kernel.starts_with("conv2d")).count();
        println!("{architecture:?}: {} launches", kernels.len());
        assert_eq!(convs, convolutions, "{kernels:?}");
        assert_eq!(count(&kernels, "squeeze_excite"), excitations, "{kernels:?}");
        assert_eq!(kernels.len(), convolutions + 2 * excitations + last, "{kernels:?}");
    }
}

#[test]
fn a_concatenation_is_written_in_place_where_only_it_reads_its_parts() {
    let _device = shared();
    // The channels of each part, whether somebody else reads it too, and the copying launches.
    let cases: [(&[(usize, bool)], usize); 7] = [
        (&[(8, false), (16, false)], 0),
        (&[(8, false), (5, false)], 0), // the last may end within a vector
        (&[(5, false), (8, false)], 1),
        (&[(8, true), (16, false)], 1),
        (&[(8, true), (16, false), (8, true), (3, false)], 1), // rather one run of copies than two
        (&[(3, true); 40], 3),
        (&[(8, true); 33], 3),
    ];
    for (parts, copies) in cases {
        for branches in [&["a"][..], &["a", "b"]] {
            let mut network = Network::version_2(7, [3, 6, 5], branches);
            conv(&mut network, "x", None, 8, 3);
            let names: Vec<String> = (0..parts.len()).map(|index| format!("part{index}")).collect();
            for (name, (channels, _)) in names.iter().zip(parts) {
                conv(&mut network, name, Some("x"), *channels, 1);
            }
            network.layer(json!({"name": "all", "op": "concat", "inputs": names, "activation": "gelu"}), 0);
            // The first of those that somebody else reads; the others are concatenated twice.
            let again: Vec<&String> =
                names.iter().zip(parts).filter(|(_, (_, shared))| *shared).map(|(name, _)| name).collect();
            if again.len() > 1 {
                network.layer(json!({"name": "again", "op": "concat", "inputs": again}), 0);
                network.layer(json!({"name": "both", "op": "concat", "inputs": ["all", "again"]}), 0);
            } else if let [name] = again[..] {
                network.layer(json!({"name": "both", "op": "concat", "inputs": ["all", name]}), 0);
            }
            conv(&mut network, "y", None, 8, 1);
            let model = heads_of(network, &[("a", "units", 3)]);
            check(&model, &format!("{parts:?}"));
            let options = PlanOptions::new().target(gpu()).precision(Precision::F16);
            let plan = Plan::build(model, &options).expect("a plan");
            let copied = plan
                .nodes()
                .iter()
                .filter(|node| node.kernel() == "concat" && node.name().starts_with("all"));
            assert_eq!(copied.count(), copies, "{parts:?}: {plan}");
        }
    }
}

#[test]
fn any_number_of_heads_of_any_kind_agree_with_the_reference() {
    let _device = shared();
    let mut network = Network::version_2(11, [3, 4, 3], &["a", "b"]);
    conv(&mut network, "x", None, 6, 3);
    let input = "x";
    let labels = |rows: usize| (0..rows).map(|row| format!("L{row}")).collect::<Vec<String>>();
    let head = |branch: &str, kind: &str, rows: Option<usize>| {
        let mut entry = json!({"branch": branch, "kind": kind, "input": input, "tensor": null});
        if let Some(rows) = rows {
            entry["tensor"] = json!(format!("fc{rows}{kind}"));
        }
        let rows = rows.unwrap_or(6 * 4 * 3);
        if kind != "values" {
            entry["labels"] = labels(rows).into();
        }
        (entry, rows)
    };
    let heads = [
        head("a", "classes", Some(7)),
        head("b", "units", Some(12)),
        head("a", "values", Some(2)),
        head("b", "values", None),
        head("a", "units", None),
        head("b", "classes", None),
        head("a", "classes", Some(5000)), // more rows than a block computes
        head("b", "units", Some(4097)),
        head("b", "values", Some(4098)),
    ];
    let names: Vec<String> = (0..heads.len()).map(|index| format!("head{index}")).collect();
    let heads: Vec<(&str, Value, usize)> =
        names.iter().zip(heads).map(|(name, (entry, rows))| (name.as_str(), entry, rows)).collect();
    let model = network.heads_of(&heads).model();
    check(&model, "heads");
    let images = images(&model, 4, 3);
    for precision in PRECISIONS {
        let mut session = session(&model, precision, 4);
        let predictions = session.run(&images).expect("a run");
        for prediction in predictions {
            for head in prediction.heads() {
                let sum: f32 = head.probabilities.iter().sum();
                let sigmoid = |l: f32| 1.0 / (1.0 + (-l).exp());
                let near = |p: f32, expected: f32| (p - expected).abs() <= 1e-5 * expected.max(1e-3);
                let right = match head.kind {
                    awsnet::model::HeadKind::Classes => (sum - 1.0).abs() < 1e-4,
                    awsnet::model::HeadKind::Units => {
                        head.logits.iter().zip(head.probabilities).all(|(&l, &p)| near(p, sigmoid(l)))
                    }
                    _ => head.logits == head.probabilities,
                };
                assert!(right, "{} in {precision}", head.name);
            }
        }
        // The same between device addresses, head by head.
        let expected: Vec<Vec<f32>> = {
            let predictions = session.run(&images[..2 * model.input().shape.len()]).expect("a run");
            predictions.heads().map(|head| [head.logits, head.probabilities].concat()).collect()
        };
        for (index, expected) in expected.iter().enumerate() {
            let caller = Caller::new(&images[..2 * model.input().shape.len()], expected.len());
            let from = DeviceImages::new(caller.pixels, PixelFormat::F32, 2);
            let half = (expected.len() / 2 * 4) as u64;
            let to = DevicePredictions::new()
                .logits(index, caller.results)
                .probabilities(index, caller.results + half);
            // SAFETY: stream and memory are the caller's, alive until the work is done, which `read` waits for.
            unsafe { session.enqueue(Stream(caller.stream.cast()), from, &to).expect("a run") };
            assert_eq!(caller.read(expected.len()), *expected, "head {index} in {precision}");
        }
    }
    let caller = Caller::new(&images[..model.input().shape.len()], 16);
    let from = DeviceImages::new(caller.pixels, PixelFormat::F32, 1);
    for head in [9, usize::MAX] {
        let to = DevicePredictions::new().logits(head, caller.results);
        let mut session = session(&model, Precision::F16, 1);
        // SAFETY: nothing is queued.
        let error =
            unsafe { session.enqueue(Stream(caller.stream.cast()), from, &to) }.expect_err("a wrong call");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, "predictions"), "{error}");
    }
}

#[test]
fn bytes_are_read_in_the_order_that_the_network_was_trained_on() {
    let _device = shared();
    for (order, channels) in [("rgb", 1), ("rgb", 3), ("bgr", 3)] {
        let mut network = Network::version_2(13, [channels, 6, 5], &["a"]);
        conv(&mut network, "x", None, 8, 3);
        let mut file = {
            let entry = json!({"branch": "a", "kind": "values", "input": "x", "tensor": "fc"});
            network.heads_of(&[("head", entry, 4)])
        };
        file.manifest["input"]["order"] = json!(order);
        file.manifest["input"]["mean"] = json!((0..channels).map(|c| 0.1 * c as f32).collect::<Vec<f32>>());
        let model = file.model();
        let bytes: Vec<u8> = (0..2 * channels * 30).map(|i| (i * 97 % 253) as u8).collect();
        let pixels = ImagesU8::new(&bytes, 5, 6, channels).count(2);
        let cpu = PlanOptions::new().target(Device::Cpu.resolve().expect("a CPU").target).batch(2);
        let plan = Plan::build(model.clone(), &cpu).expect("a plan");
        let mut cpu =
            Engine::new(plan, &EngineOptions::new()).expect("an engine").session().expect("a session");
        let expected = cpu.run(pixels).expect("a run").head("head").expect("a head").logits.to_vec();
        // The stem in f16, the image's layout in f32.
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::F16, 1e-2)] {
            let mut session = session(&model, precision, 2);
            let found = session.run(pixels).expect("a run").head("head").expect("a head").logits.to_vec();
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() <= tolerance * (1.0 + e.abs()), "{order} {channels}: {f} of {e}");
            }
        }
    }
}
