//! Every operator at the sizes of usual networks, against the reference: the cases that `benches/ops.rs` times.

#[path = "ops/cases.rs"]
mod cases;
mod common;
#[path = "common/isas.rs"]
mod isas;

use std::collections::{BTreeMap, BTreeSet};

use awsnet::__tests::reference;
use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::model::{AwsKind, Gate};
use awsnet::{Conv2dAlgorithm, Engine, EngineOptions, Isa, Model, Plan, PlanOptions, Target, verify};
use common::{Network, Numbers, Rng};
use isas::isas;
use serde_json::json;

fn kernels(model: Model, isa: Isa) -> BTreeSet<String> {
    let options = PlanOptions::new().target(Target::Cpu(isa));
    let plan = Plan::build(model, &options).expect("a plan");
    plan.nodes().iter().map(|node| node.kernel().to_owned()).collect()
}

/// The least that the worst error / bound of a kernel comes to over all cases, on whichever instruction set.
///
/// About a fifth of what it comes to: a bound that is much too wide would let faults pass. A maximum is exact.
const LEAST: [(&str, f64); 14] = [
    ("conv2d_direct", 0.04),
    ("conv2d_max_pool", 0.0025),
    ("conv2d_winograd", 0.0006),
    ("conv2d_pointwise", 0.04),
    ("linear", 0.03),
    ("conv2d_depthwise", 0.04),
    ("max_pool2d", 0.0),
    ("avg_pool2d", 0.03),
    ("adaptive_avg_pool2d", 0.01),
    ("global_avg_pool2d", 0.001),
    ("concat", 0.0),
    ("upsample2d", 0.0),
    ("identity", 0.03),
    ("aws_gate", 0.000025),
];

#[test]
fn every_operator_stays_within_its_error_bound_and_comes_near_it() {
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for case in cases::all() {
        for isa in isas() {
            let place = format!("{} {} on {isa}", case.op, case.what);
            let nodes = case.agreements(Target::Cpu(isa));
            assert!(nodes.iter().any(|node| node.worst > 0.0), "{place}: nothing was compared");
            for node in nodes {
                assert!(node.holds(), "{place}: {node:?}");
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

/// A linear layer reads its map as a convolution of the map's size does, so that one over 3x3 looks like what Winograd's
/// algorithm computes. It must read that map and nothing behind it, which is another image's and no number.
#[test]
fn linear_layers_over_small_maps_agree_under_every_algorithm() {
    for side in 1..=7 {
        let mut network = Network::new(side as u64, Numbers::Real, [3, side, side]);
        network.layer(json!({"name": "source", "op": "conv2d", "kernel": 1}), 5);
        network.layer(json!({"name": "operator", "op": "linear"}), 9);
        let model = network.heads(("source", 4), ("operator", 3)).model();
        let mut rng = Rng::new(side as u64);
        let image: Vec<f32> = (0..model.input().shape.len()).map(|_| rng.between(-2.0, 2.0)).collect();
        let expected = reference::evaluate(&model, &image).logits;
        let images = [image.clone(), vec![f32::NAN; image.len()]].concat();
        for isa in isas() {
            for conv2d in Conv2dAlgorithm::ALL.iter().copied().chain([Conv2dAlgorithm::Auto]) {
                let place = format!("{side}x{side} on {isa}, {conv2d}");
                let options = PlanOptions::new().target(Target::Cpu(isa)).conv2d(conv2d);
                for node in verify::layers(model.clone(), &options, 2, &image).expect("a run") {
                    assert!(node.holds(), "{place}: {node:?}");
                }
                for batch in [1, 2] {
                    let plan = Plan::build(model.clone(), &options.clone().batch(batch));
                    let engine = Engine::new(plan.expect("a plan"), &EngineOptions::new());
                    let mut session = engine.expect("an engine").session().expect("a session");
                    let predictions = session.run(&images[..batch * image.len()]).expect("a run");
                    for (head, expected) in predictions.get(0).expect("an image").heads().zip(&expected) {
                        for (&found, &expected) in head.logits.iter().zip(expected) {
                            let error = (f64::from(found) - expected).abs();
                            assert!(
                                error <= 1e-5 * expected.abs().max(1.0),
                                "{place}, batch {batch}: {found}, not {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_case_is_its_network_with_the_layers_it_is_about() {
    let mut ids = BTreeSet::new();
    for case in cases::all() {
        assert!(ids.insert((case.op, case.what.clone())), "{} {} twice", case.op, case.what);
        let names = |with_operator: bool| -> Vec<String> {
            case.model(with_operator).layers().iter().map(|layer| layer.name().to_owned()).collect()
        };
        let operator: Vec<&str> = case.operator().filter_map(|layer| layer["name"].as_str()).collect();
        let (about, rest): (Vec<String>, Vec<String>) =
            names(true).into_iter().partition(|name| operator.contains(&name.as_str()));
        assert_eq!(about, operator, "{} {}", case.op, case.what);
        assert_eq!(rest, names(false), "{} {}", case.op, case.what);
    }
}

#[test]
fn the_cases_run_every_kernel_that_the_architectures_run() {
    for &isa in Isa::ALL {
        let of_cases: BTreeSet<String> =
            cases::all().iter().flat_map(|case| kernels(case.model(true), isa)).collect();
        let units = [None, Some(AwsKind::Layer), Some(AwsKind::Dense), Some(AwsKind::Gate(Gate::Softmax))];
        for &architecture in
            Architecture::ALL.iter().filter(|&&architecture| architecture != Architecture::Vgg11)
        {
            for aws in units {
                let options = InitOptions::new().architecture(architecture).aws(aws).size(64);
                let model = Model::from_bytes(&init(&options).expect("a file")).expect("a model");
                let missing: Vec<_> = kernels(model, isa).difference(&of_cases).cloned().collect();
                assert!(missing.is_empty(), "{architecture} with {aws:?} on {isa} runs {missing:?}");
            }
        }
    }
}
