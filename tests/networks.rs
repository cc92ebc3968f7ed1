//! Properties of every network, on several hundred random ones: agreement with the reference within the error
//! bound, bit equality where it is promised, and memory that no run leaves a trace in.
//!
//! A failure prints its seed and the version of its model file; `network(seed, numbers)` and `network_of_version_2(seed)` make
//! the network again.

mod common;
#[path = "common/isas.rs"]
mod isas;
#[path = "networks/random.rs"]
mod random;

use std::collections::BTreeMap;

use awsnet::__tests::reference::{self, Map};
use awsnet::model::{AwsUnit, Source};
use awsnet::{
    Conv2dAlgorithm, Device, Engine, EngineOptions, ErrorKind, Model, Plan, PlanOptions, Session, Target,
    WinogradTile, verify,
};
use common::{Network, Numbers, Rng};
use isas::isas;
use random::{network, network_of_version_2};
use serde_json::{Value, json};

/// The algorithm of a random network: all of them in turn, and given, since what `Auto` takes depends on the batch.
fn algorithm(seed: u64) -> Conv2dAlgorithm {
    Conv2dAlgorithm::ALL[seed as usize % Conv2dAlgorithm::ALL.len()]
}

fn session(model: &Model, target: Target, batch: usize, threads: usize, keep_values: bool) -> Session {
    session_of(model, PlanOptions::new().target(target).batch(batch).keep_values(keep_values), threads)
}

fn session_of(model: &Model, options: PlanOptions, threads: usize) -> Session {
    let plan = Plan::build(model.clone(), &options).expect("a plan");
    Engine::new(plan, &EngineOptions::new().threads(threads))
        .expect("an engine")
        .session()
        .expect("a session")
}

/// So many networks of each version, with their seeds, and how messages name them.
fn networks(count: u64) -> impl Iterator<Item = (u64, String, Model)> {
    let of = |version, seed, file: common::ModelFile| {
        (seed, format!("seed {seed} of version {version}"), file.model())
    };
    let first = (0..count).map(move |seed| of(1, seed, network(seed, Numbers::Real)));
    first.chain((0..count).map(move |seed| of(2, seed, network_of_version_2(seed))))
}

/// Images that differ, with numbers of about 1.
fn images(model: &Model, seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(!seed);
    (0..count * model.input().shape.len()).map(|_| rng.between(-2.0, 2.0)).collect()
}

/// The bits of every image's logits and probabilities.
fn bits(session: &mut Session, images: &[f32]) -> Vec<Vec<u32>> {
    let predictions = session.run(images).expect("a run");
    let of = |prediction: awsnet::Prediction| {
        let scores = prediction.heads().flat_map(|head| head.logits.iter().chain(head.probabilities));
        scores.map(|v| v.to_bits()).collect()
    };
    predictions.iter().map(of).collect()
}

/// The least that the worst error / bound of a kernel comes to over all networks, on whichever instruction set.
///
/// About a fifth of what it comes to: a bound that is much too wide would let faults pass.
const LEAST: [(&str, f64); 14] = [
    ("conv2d_direct", 0.06),
    ("conv2d_max_pool", 0.03),
    ("conv2d_winograd", 0.01),
    ("conv2d_pointwise", 0.06),
    ("linear", 0.05),
    ("conv2d_depthwise", 0.05),
    ("max_pool2d", 0.05),
    ("avg_pool2d", 0.04),
    ("adaptive_avg_pool2d", 0.03),
    ("global_avg_pool2d", 0.03),
    ("concat", 0.0),
    ("upsample2d", 0.03),
    ("identity", 0.06),
    ("aws_gate", 0.015),
];

#[test]
fn every_node_stays_within_its_error_bound_and_comes_near_it() {
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for (seed, place, model) in networks(250) {
        let images = images(&model, seed, 2);
        for isa in isas() {
            let options = PlanOptions::new().target(Target::Cpu(isa)).conv2d(algorithm(seed));
            for node in verify::layers(model.clone(), &options, 2, &images).expect("a run") {
                assert!(node.worst <= 1.0, "{place} on {isa}: {node:?}");
                let worst = worst.entry(node.kernel).or_default();
                *worst = worst.max(node.worst);
            }
        }
    }
    println!("the worst error / bound of each kernel: {worst:#?}");
    for (kernel, least) in LEAST {
        assert!(worst.get(kernel).is_some_and(|&worst| worst >= least), "{kernel}: {:?}", worst.get(kernel));
    }
    assert_eq!(worst.len(), LEAST.len(), "a kernel that this test does not know: {worst:?}");
}

#[test]
fn logits_and_decisions_agree_with_the_reference_end_to_end() {
    /// Norm of the difference as a share of the norm of the logits, or of 1 where they are smaller.
    const TOLERANCE: f64 = 2e-5;
    let mut worst: f64 = 0.0;
    for (seed, place, model) in networks(250) {
        let images = images(&model, seed, 2);
        let image_len = model.input().shape.len();
        let expected: Vec<_> =
            images.chunks(image_len).map(|image| reference::evaluate(&model, image).logits).collect();
        for isa in isas() {
            let (target, conv2d) = (Target::Cpu(isa), algorithm(seed));
            let options = PlanOptions::new().target(target).batch(2).conv2d(conv2d);
            let mut session = session_of(&model, options, 2);
            for (found, expected) in session.run(&images).expect("a run").iter().zip(&expected) {
                for (head, expected) in found.heads().zip(expected) {
                    let pairs = head.logits.iter().zip(expected);
                    let error = pairs.map(|(&found, e)| (f64::from(found) - e).powi(2)).sum::<f64>().sqrt();
                    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt().max(1.0);
                    assert!(
                        error <= TOLERANCE * norm,
                        "{place} on {isa}: {error} of {norm} in {}",
                        head.name
                    );
                    worst = worst.max(error / norm);
                }
                // A decision may differ only where the reference is undecided.
                let undecided = |distance: f64| distance.abs() < 1e-3;
                for (head, logits) in found.heads().zip(expected) {
                    if let Some(winner) = head.winner() {
                        let (top, best) =
                            (logits[winner.index], logits.iter().copied().fold(f64::MIN, f64::max));
                        assert!(top == best || undecided(top - best), "{place} on {isa}");
                    }
                    let active: Vec<usize> = head.active().map(|unit| unit.index).collect();
                    for (index, (logit, &threshold)) in logits.iter().zip(head.thresholds).enumerate() {
                        let probability = 1.0 / (1.0 + (-logit).exp());
                        let agrees = active.contains(&index) == (probability >= f64::from(threshold));
                        assert!(
                            agrees || undecided(probability - f64::from(threshold)),
                            "{place} on {isa}: {}",
                            head.labels[index]
                        );
                    }
                }
            }
        }
    }
    println!("the worst relative error of the logits: {worst:e}");
}

#[test]
fn integer_networks_agree_bit_for_bit() {
    let mut compared = [0; 3];
    for seed in 0..400 {
        let model = network(seed, Numbers::Integer).model();
        let mut rng = Rng::new(!seed);
        let image: Vec<f32> = (0..model.input().shape.len()).map(|_| rng.integer(3)).collect();
        // F(2x2, 3x3) is exact as well: two bits for its weights, which are quarters of integers, and four for what it
        // sums before it takes the differences. F(4x4, 3x3) divides by 3.
        let largest = largest_sum(&model, &image);
        let exact = |algorithm: &Conv2dAlgorithm| match algorithm {
            Conv2dAlgorithm::Direct => largest < f64::from(1 << 24),
            Conv2dAlgorithm::Winograd(WinogradTile::F2) => largest < f64::from(1 << 18),
            _ => false,
        };
        let expected = reference::evaluate(&model, &image).logits;
        for (index, conv2d) in
            Conv2dAlgorithm::ALL.iter().copied().enumerate().filter(|(_, algorithm)| exact(algorithm))
        {
            compared[index] += 1;
            for isa in isas() {
                let options = PlanOptions::new().target(Target::Cpu(isa)).conv2d(conv2d);
                let mut session = session_of(&model, options, 1);
                let predictions = session.run(&image).expect("a run");
                for (head, expected) in predictions.heads().zip(&expected) {
                    let found: Vec<f64> = head.logits.iter().map(|&v| f64::from(v)).collect();
                    assert_eq!(&found, expected, "seed {seed} on {isa}: {}, {conv2d:?}", head.name);
                }
            }
        }
    }
    assert!(compared[0] >= 300 && compared[1] >= 200, "only {compared:?} networks have small sums");
}

/// The largest sum of magnitudes that any layer of an integer network meets, in units of its smallest fraction: means
/// over a power of two divide, and an f32 holds 24 bits.
fn largest_sum(model: &Model, image: &[f32]) -> f64 {
    let evaluation = reference::evaluate(model, image);
    let image = vec![Map::from_f32(model.input().shape, image); 2];
    let of = |source: Source| match source {
        Source::Image => &image,
        Source::Layer(index) => &evaluation.layers[index],
        other => panic!("{other:?} in an integer network"),
    };
    let top = |map: &Map| map.data.iter().fold(0.0f64, |top, v| top.max(v.abs()));
    let (mut largest, mut units) = (0.0f64, 1.0);
    for layer in model.layers() {
        units *= match layer.op() {
            awsnet::op::Op::AvgPool2d(pool) => (pool.kernel[0] * pool.kernel[1]) as f64,
            awsnet::op::Op::GlobalAvgPool2d => layer.input_shape().pixels() as f64,
            _ => 1.0,
        };
        // |u| is at most the sum behind it; an average's sum is larger than the average itself.
        let of_branch = |b: usize| {
            let input = &of(layer.input())[b];
            let s = reference::operator_magnitude(layer.op(), &[input], layer.weights(b));
            let input = top(input);
            largest = largest.max(input * units);
            match layer.residual() {
                Some(residual) => s.zip(&evaluation.layers[residual][b], |s, r| s + r.abs()),
                None => s,
            }
        };
        let u: Vec<Map> = (0..2).map(of_branch).collect();
        let magnitudes = |a: &[f32]| a.iter().map(|a| a.abs()).collect();
        let y = match layer.aws() {
            Some(AwsUnit::Layer(a)) => reference::aws_unit(&AwsUnit::Layer(magnitudes(a)), &u),
            Some(AwsUnit::Channel(a)) => reference::aws_unit(&AwsUnit::Channel(magnitudes(a)), &u),
            Some(AwsUnit::Dense(a)) => reference::aws_unit(&AwsUnit::Dense(magnitudes(a)), &u),
            Some(other) => panic!("{:?} in an integer network", other.kind()),
            None => u.clone(),
        };
        largest = u.iter().chain(&y).map(top).fold(largest, |largest, sum| largest.max(sum * units));
    }
    for head in model.heads() {
        let input = &of(head.input())[head.branch()];
        let sum = reference::operator_magnitude(&awsnet::op::Op::Linear, &[input], head.weights());
        largest = largest.max(top(&sum) * units);
    }
    largest
}

#[test]
fn threads_batches_positions_and_repetition_leave_the_bits_alone() {
    for (seed, place, model) in networks(120) {
        let all = images(&model, seed, 3);
        let len = model.input().shape.len();
        let [a, b, c] = [0, 1, 2].map(|i| &all[i * len..][..len]);
        let session = |model: &Model, target, batch, threads, keep_values| {
            let conv2d = algorithm(seed);
            session_of(
                model,
                PlanOptions::new().target(target).batch(batch).keep_values(keep_values).conv2d(conv2d),
                threads,
            )
        };
        for isa in isas() {
            let target = Target::Cpu(isa);
            let place = format!("{place} on {isa}");
            let mut one = session(&model, target, 3, 1, false);
            let expected = bits(&mut one, &all);
            assert_eq!(bits(&mut one, &all), expected, "{place}: a second run");
            for threads in [2, 3, 5] {
                let found = bits(&mut session(&model, target, 3, threads, false), &all);
                assert_eq!(found, expected, "{place}: {threads} threads");
            }
            let found = bits(&mut session(&model, target, 3, 2, true), &all);
            assert_eq!(found, expected, "{place}: all values kept");
            let mut alone = session(&model, target, 1, 1, false);
            for (index, image) in [a, b, c].into_iter().enumerate() {
                assert_eq!(bits(&mut alone, image), expected[index..=index], "{place}: image {index} alone");
                assert_eq!(
                    bits(&mut one, image),
                    expected[index..=index],
                    "{place}: image {index}, room for 3"
                );
            }
            let found = bits(&mut one, &[c, a, b].concat());
            let rotated = [&expected[2], &expected[0], &expected[1]];
            assert!(found.iter().eq(rotated), "{place}: other positions");
            assert_eq!(bits(&mut one, &[b, c].concat()), expected[1..], "{place}: two of three");
        }
    }
}

#[test]
fn a_run_leaves_no_trace_in_the_next_one() {
    for (seed, place, model) in networks(120) {
        let session = |model: &Model, target, batch, threads, keep_values| {
            let conv2d = algorithm(seed);
            session_of(
                model,
                PlanOptions::new().target(target).batch(batch).keep_values(keep_values).conv2d(conv2d),
                threads,
            )
        };
        for isa in isas() {
            for (batch, threads) in [(1, 1), (2, 2), (3, 1)] {
                let target = Target::Cpu(isa);
                let place = format!("{place} on {isa}, batch {batch}");
                let (good, other) = (images(&model, seed, batch), images(&model, seed + 1_000, batch));
                let expected = bits(&mut session(&model, target, batch, threads, false), &good);
                let mut session = session(&model, target, batch, threads, false);
                assert_eq!(bits(&mut session, &good), expected, "{place}: fresh");
                for poison in [f32::NAN, f32::INFINITY, 3e38] {
                    bits(&mut session, &vec![poison; good.len()]);
                    assert_eq!(bits(&mut session, &good), expected, "{place}: behind {poison}");
                }
                bits(&mut session, &other);
                assert_eq!(bits(&mut session, &good), expected, "{place}: behind other images");
                // One bad image among good ones spoils itself only.
                let mut mixed = good.clone();
                mixed[..model.input().shape.len()].fill(f32::NAN);
                assert_eq!(bits(&mut session, &mixed)[1..], expected[1..], "{place}: beside NaN");
            }
        }
    }
}

#[test]
fn a_session_refuses_wrong_lengths_and_works_on() {
    let model = network(7, Numbers::Real).model();
    let len = model.input().shape.len();
    for target in isas().map(Target::Cpu).chain([Target::Reference]) {
        let good = images(&model, 7, 2);
        let mut session = session(&model, target, 2, 2, false);
        let expected = bits(&mut session, &good);
        for wrong in [0, 1, len - 1, len + 1, 2 * len - 1, 2 * len + 1, 3 * len, 100 * len] {
            if wrong == len {
                continue; // an image of one value
            }
            let error = session.run(&vec![0.0; wrong]).expect_err("a wrong length");
            assert_eq!(error.kind(), ErrorKind::Input, "{error}");
            assert_eq!(error.place(), "images");
            assert!(error.expected().contains("from 1 to 2 images"), "{error}");
            assert!(error.found().contains(&wrong.to_string()), "{error}");
            assert_eq!(bits(&mut session, &good), expected, "{target}: behind {wrong} values");
        }
    }
    for batch in [0, (1 << 20) + 1, usize::MAX] {
        let options = PlanOptions::new().device(Device::Cpu).batch(batch);
        let error = Plan::build(model.clone(), &options).expect_err("a batch out of range");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Plan, "batch"), "{error}");
    }
}

/// A network of these layers over a 3x5x5 image, each convolution with 4 channels.
fn small(layers: &[Value], heads: [&str; 2]) -> Model {
    let mut network = Network::new(1, Numbers::Real, [3, 5, 5]);
    for layer in layers {
        network.layer(layer.clone(), 4);
    }
    network.heads((heads[0], 3), (heads[1], 2)).model()
}

fn conv(name: &str) -> Value {
    json!({"name": name, "op": "conv2d", "kernel": 3, "padding": 1})
}

/// `layer` with more keys.
fn with(mut layer: Value, more: Value) -> Value {
    layer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    layer
}

/// Windows that overlap, and reach over the map.
fn max_pool(name: &str) -> Value {
    json!({"name": name, "op": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1})
}

fn identity(name: &str, more: Value) -> Value {
    with(json!({"name": name, "op": "identity"}), more)
}

/// A small graph, and the nodes that its plan has before those of the heads.
struct Fusion {
    what: &'static str,
    layers: Vec<Value>,
    heads: [&'static str; 2],
    nodes: &'static [&'static str],
}

fn fusions() -> Vec<Fusion> {
    let fusion =
        |what, layers: &[Value], heads, nodes| Fusion { what, layers: layers.to_vec(), heads, nodes };
    vec![
        fusion("activation", &[conv("a"), identity("b", json!({"activation": "relu"}))], ["b"; 2], &["b"]),
        fusion("AWS-Unit", &[conv("a"), identity("b", json!({"aws": "channel"}))], ["b"; 2], &["b"]),
        fusion(
            "residual, activation and AWS-Unit of one identity",
            &[
                conv("r"),
                conv("a"),
                identity("b", json!({"residual": "r", "activation": "silu", "aws": "layer"})),
            ],
            ["b"; 2],
            &["r", "b"],
        ),
        fusion(
            "residual, activation and AWS-Unit of three",
            &[
                conv("r"),
                conv("a"),
                identity("b", json!({"residual": "r"})),
                identity("c", json!({"activation": "relu"})),
                identity("d", json!({"aws": "layer"})),
            ],
            ["d"; 2],
            &["r", "d"],
        ),
        fusion(
            "activation behind a pool",
            &[
                json!({"name": "a", "op": "max_pool2d", "kernel": 2}),
                identity("b", json!({"activation": "relu"})),
            ],
            ["b"; 2],
            &["image", "b"],
        ),
        fusion(
            "a dense unit joins, and is a node of its own",
            &[conv("a"), identity("b", json!({"aws": "dense"}))],
            ["b"; 2],
            &["b", "b"],
        ),
        fusion(
            "a gate is four nodes behind its operator",
            &[with(conv("a"), json!({"aws": "gate"}))],
            ["a"; 2],
            &["a", "a means", "a squeeze", "a excite", "a"],
        ),
        fusion("max pooling", &[conv("a"), max_pool("b")], ["b"; 2], &["b"]),
        fusion(
            "activation, AWS-Unit and max pooling",
            &[conv("a"), identity("b", json!({"activation": "silu", "aws": "channel"})), max_pool("c")],
            ["c"; 2],
            &["c"],
        ),
        fusion(
            "max pooling of a convolution that Winograd's algorithm cannot compute",
            &[conv("a"), with(conv("b"), json!({"stride": 2})), max_pool("c")],
            ["c"; 2],
            &["a", "c"],
        ),
        fusion(
            "max pooling, and a dense unit of its own behind it",
            &[conv("a"), with(max_pool("b"), json!({"aws": "dense"}))],
            ["b"; 2],
            &["b", "b"],
        ),
        fusion(
            "max pooling of another name",
            &[conv("a"), identity("b", json!({})), max_pool("c")],
            ["c"; 2],
            &["c"],
        ),
        fusion(
            "not: max pooling of a convolution that Winograd's algorithm may compute",
            &[conv("a"), conv("b"), max_pool("c")],
            ["c"; 2],
            &["a", "b", "c"],
        ),
        fusion("not: a head reads what is pooled", &[conv("a"), max_pool("b")], ["b", "a"], &["a", "b"]),
        fusion(
            "not: a layer reads what is pooled, by another name",
            &[conv("a"), identity("b", json!({})), max_pool("c"), with(conv("d"), json!({"input": "b"}))],
            ["c", "d"],
            &["a", "c", "d"],
        ),
        fusion(
            "not: a dense unit between convolution and max pooling",
            &[with(conv("a"), json!({"aws": "dense"})), max_pool("b")],
            ["b"; 2],
            &["a", "a", "b"],
        ),
        fusion(
            "not: a residual before max pooling",
            &[conv("r"), with(conv("a"), json!({"input": "image", "residual": "r"})), max_pool("b")],
            ["b"; 2],
            &["r", "a", "b"],
        ),
        fusion(
            "not: max pooling with an activation",
            &[conv("a"), with(max_pool("b"), json!({"activation": "relu"}))],
            ["b"; 2],
            &["a", "b"],
        ),
        fusion(
            "not: max pooling that skips rows",
            &[conv("a"), with(max_pool("b"), json!({"kernel": [1, 2], "padding": 0}))],
            ["b"; 2],
            &["a", "b"],
        ),
        fusion(
            "not: another step between convolution and max pooling",
            &[
                conv("a"),
                with(conv("b"), json!({"input": "image"})),
                with(max_pool("c"), json!({"input": "a"})),
            ],
            ["b", "c"],
            &["a", "b", "c"],
        ),
        fusion(
            "not: mean pooling",
            &[conv("a"), with(max_pool("b"), json!({"op": "avg_pool2d"}))],
            ["b"; 2],
            &["a", "b"],
        ),
        fusion("an identity with nothing", &[conv("a"), identity("b", json!({}))], ["b", "a"], &["a"]),
        fusion("an identity with nothing on the image", &[identity("b", json!({}))], ["b"; 2], &[]),
        fusion(
            "not: the image has other readers",
            &[identity("b", json!({"activation": "relu"}))],
            ["b"; 2],
            &["image", "b"],
        ),
        fusion(
            "not: a head reads what is before",
            &[conv("a"), identity("b", json!({"activation": "relu"}))],
            ["b", "a"],
            &["a", "b"],
        ),
        fusion(
            "not: a layer reads what is before",
            &[
                conv("a"),
                identity("b", json!({"activation": "relu"})),
                with(conv("c"), json!({"input": "a"})),
            ],
            ["b", "c"],
            &["a", "b", "c"],
        ),
        fusion(
            "not: a residual reads what is before",
            &[
                conv("a"),
                identity("b", json!({"activation": "relu"})),
                with(conv("c"), json!({"residual": "a"})),
            ],
            ["c"; 2],
            &["a", "b", "c"],
        ),
        fusion(
            "not: it is its own residual",
            &[conv("a"), identity("b", json!({"residual": "a"}))],
            ["b"; 2],
            &["a", "b"],
        ),
        fusion(
            "not: an activation behind an activation",
            &[with(conv("a"), json!({"activation": "relu"})), identity("b", json!({"activation": "silu"}))],
            ["b"; 2],
            &["a", "b"],
        ),
        fusion(
            "not: a residual behind an activation",
            &[
                conv("r"),
                with(conv("a"), json!({"activation": "relu"})),
                identity("b", json!({"residual": "r"})),
            ],
            ["b"; 2],
            &["r", "a", "b"],
        ),
        fusion(
            "not: an activation behind an AWS-Unit",
            &[with(conv("a"), json!({"aws": "layer"})), identity("b", json!({"activation": "relu"}))],
            ["b"; 2],
            &["a", "b"],
        ),
        fusion(
            "not: a unit behind a unit",
            &[with(conv("a"), json!({"aws": "dense"})), identity("b", json!({"aws": "channel"}))],
            ["b"; 2],
            &["a", "a", "b"],
        ),
    ]
}

#[test]
fn what_fuses_and_what_does_not() {
    for Fusion { what, layers, heads, nodes } in fusions() {
        let model = small(&layers, heads);
        let images = images(&model, 3, 2);
        for isa in isas() {
            let options = PlanOptions::new().target(Target::Cpu(isa));
            let plan = Plan::build(model.clone(), &options).expect("a plan");
            let names: Vec<&str> = plan.nodes().iter().map(|node| node.name()).collect();
            assert_eq!(names, [nodes, &["emotion head", "au head"]].concat(), "{what}\n{plan}");
            for node in verify::layers(model.clone(), &options, 1, &images).expect("a run") {
                assert!(node.worst <= 1.0, "{what} on {isa}: {node:?}");
            }
        }
        logits_agree(&model, &images, what);
    }
}

/// A convolution of version 2's cases, with so many channels.
fn conv_of(name: &str, input: &str, channels: usize) -> (Value, usize) {
    (with(conv(name), json!({"input": input})), channels)
}

/// What it is about, its layers with their channels, and the nodes that its plan has before that of the head.
type FusionOfVersion2 = (&'static str, Vec<(Value, usize)>, &'static [&'static str]);

/// Small graphs of version 2; the head reads the last layer.
fn fusions_of_version_2() -> Vec<FusionOfVersion2> {
    let concat = |name: &str, inputs: &[&str]| (json!({"name": name, "op": "concat", "inputs": inputs}), 0);
    let layer = |entry: Value| (entry, 0);
    vec![
        (
            "scale, residual and activation of three identities",
            vec![
                conv_of("s", "image", 4),
                conv_of("r", "image", 4),
                conv_of("a", "image", 4),
                layer(identity("b", json!({"scale": "s"}))),
                layer(identity("c", json!({"residual": "r"}))),
                layer(identity("d", json!({"activation": "hardswish"}))),
            ],
            &["s", "r", "d"],
        ),
        (
            "not: a scale behind a residual",
            vec![
                conv_of("s", "image", 4),
                conv_of("a", "image", 4),
                layer(identity("b", json!({"residual": "s"}))),
                layer(identity("c", json!({"scale": "s"}))),
            ],
            &["s", "b", "c"],
        ),
        (
            "not: squeeze-and-excitation, whose factors come from the map that they scale",
            vec![
                conv_of("a", "image", 4),
                layer(json!({"name": "mean", "op": "global_avg_pool2d"})),
                (json!({"name": "fc1", "op": "conv2d", "kernel": 1, "activation": "silu"}), 2),
                (json!({"name": "fc2", "op": "conv2d", "kernel": 1, "activation": "sigmoid"}), 4),
                layer(identity("b", json!({"input": "a", "scale": "fc2"}))),
            ],
            &["a", "mean", "fc1", "fc2", "b"],
        ),
        (
            "a batch norm alone is a node, and what is behind it joins",
            vec![
                conv_of("a", "image", 4),
                layer(identity("b", json!({"batch_norm": "b.norm"}))),
                layer(identity("c", json!({"activation": "prelu", "prelu": "c.slopes"}))),
            ],
            &["a", "c"],
        ),
        (
            "a pooling and the batch norm behind it are two",
            vec![conv_of("a", "image", 4), layer(with(max_pool("b"), json!({"batch_norm": "b.norm"})))],
            &["b max_pool2d", "b"],
        ),
        (
            "a concatenation of whole blocks of channels moves nothing",
            vec![
                conv_of("a", "image", 16),
                conv_of("b", "image", 32),
                conv_of("c", "b", 5),
                concat("d", &["a", "b", "c"]),
                conv_of("e", "d", 4),
            ],
            &["a", "b", "c", "e"],
        ),
        (
            "concatenations that grow, as in a DenseNet, move nothing",
            vec![
                conv_of("a", "image", 16),
                conv_of("b", "a", 16),
                concat("ab", &["a", "b"]),
                conv_of("c", "ab", 16),
                concat("abc", &["a", "b", "c"]),
                layer(identity("norm", json!({"batch_norm": "norm", "activation": "relu"}))),
                conv_of("d", "norm", 16),
                concat("abcd", &["a", "b", "c", "d"]),
                conv_of("e", "abcd", 4),
            ],
            &["a", "b", "c", "norm", "d", "e"],
        ),
        (
            "a concatenation inside another moves nothing",
            vec![
                conv_of("a", "image", 16),
                conv_of("b", "image", 16),
                concat("ab", &["a", "b"]),
                conv_of("c", "ab", 16),
                concat("cab", &["c", "ab"]),
                conv_of("d", "cab", 4),
            ],
            &["a", "b", "c", "d"],
        ),
        (
            "not: channels that are no whole blocks are copied",
            vec![
                conv_of("a", "image", 4),
                conv_of("b", "image", 16),
                concat("c", &["a", "b"]),
                conv_of("d", "c", 4),
            ],
            &["a", "b", "c", "d"],
        ),
        (
            "not: a map in two places, and the image, are copied",
            vec![conv_of("a", "image", 16), concat("b", &["a", "a"]), conv_of("c", "b", 4)],
            &["a", "b", "c"],
        ),
        (
            "a concatenation with something behind it is two",
            vec![
                conv_of("a", "image", 16),
                conv_of("b", "image", 16),
                layer(json!({"name": "c", "op": "concat", "inputs": ["a", "b"], "activation": "tanh"})),
            ],
            &["a", "b", "c"],
        ),
    ]
}

#[test]
fn what_fuses_in_version_2_and_what_moves_nothing() {
    for branches in [&["one"][..], &["emotion", "au"]] {
        for (what, layers, nodes) in fusions_of_version_2() {
            let mut network = Network::version_2(1, [3, 5, 5], branches);
            for (layer, channels) in &layers {
                network.layer(layer.clone(), *channels);
            }
            let last = network.layers().last().cloned().expect("a layer");
            let head = json!({"branch": branches[0], "kind": "values", "input": last, "tensor": "fc"});
            let model = network.heads_of(&[("score", head, 3)]).model();
            let images = images(&model, 3, 2);
            for isa in isas() {
                let options = PlanOptions::new().target(Target::Cpu(isa)).conv2d(Conv2dAlgorithm::Direct);
                let plan = Plan::build(model.clone(), &options).expect("a plan");
                let names: Vec<&str> = plan.nodes().iter().map(|node| node.name()).collect();
                assert_eq!(names, [nodes, &["score head"]].concat(), "{what} on {isa}\n{plan}");
                for node in verify::layers(model.clone(), &options, 1, &images).expect("a run") {
                    assert!(node.worst <= 1.0, "{what} on {isa}: {node:?}");
                }
            }
            logits_agree(&model, &images, what);
        }
    }
}

#[test]
fn an_identity_adds_a_residual_that_is_computed_behind_its_input() {
    // As in a ResNet whose shortcut is listed behind the convolutions that it bypasses.
    let layers = [
        with(conv("a"), json!({"input": "image"})),
        with(conv("shortcut"), json!({"input": "image"})),
        identity("sum", json!({"input": "a", "residual": "shortcut", "activation": "relu"})),
    ];
    let model = small(&layers, ["sum"; 2]);
    logits_agree(&model, &images(&model, 3, 2), "residual behind its input");
}

/// The logits of every instruction set against the reference.
fn logits_agree(model: &Model, images: &[f32], what: &str) {
    let count = images.len() / model.input().shape.len();
    for isa in isas() {
        let mut session = session(model, Target::Cpu(isa), count, 1, false);
        let predictions = session.run(images).expect("a run");
        for (found, image) in predictions.iter().zip(images.chunks(model.input().shape.len())) {
            let expected = reference::evaluate(model, image).logits;
            for (head, expected) in found.heads().zip(&expected) {
                for (&found, expected) in head.logits.iter().zip(expected) {
                    let error = (f64::from(found) - expected).abs();
                    assert!(
                        error <= 1e-5 * expected.abs().max(1.0),
                        "{what} on {isa}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
