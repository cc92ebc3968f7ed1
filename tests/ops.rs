//! Every operator at the sizes of usual networks, against the reference: the cases that `benches/ops.rs` times.

#[path = "ops/cases.rs"]
mod cases;
mod common;

use std::collections::BTreeSet;

use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::model::{AwsKind, Gate};
use awsnet::{Device, Isa, Model, Plan, PlanOptions, Target};

fn kernels(model: Model, isa: Isa) -> BTreeSet<String> {
    let options = PlanOptions::new().target(Target::Cpu(isa));
    let plan = Plan::build(model, &options).expect("a plan");
    plan.nodes().iter().map(|node| node.kernel().to_owned()).collect()
}

#[test]
fn every_operator_stays_within_its_error_bound() {
    for case in cases::all() {
        for isa in Isa::ALL.iter().copied().filter(|isa| isa.is_available()) {
            let worst = case.worst_error(Target::Cpu(isa));
            assert!(worst > 0.0 && worst <= 1.0, "{} {} on {isa}: {worst}", case.op, case.what);
        }
    }
}

#[test]
fn a_case_is_its_network_with_the_layers_it_is_about() {
    let mut ids = BTreeSet::new();
    for case in cases::all() {
        assert!(ids.insert((case.op, case.what.clone())), "{} {} twice", case.op, case.what);
        let (with, without) = (case.model(true), case.model(false));
        assert_eq!(
            with.layers().len(),
            without.layers().len() + case.operator().count(),
            "{} {}",
            case.op,
            case.what
        );
        let flop = |model: Model| {
            Plan::build(model, &PlanOptions::new().device(Device::Cpu)).expect("a plan").flop()
        };
        assert!(flop(with) >= flop(without), "{} {}", case.op, case.what);
    }
}

#[test]
fn the_cases_run_every_kernel_that_the_architectures_run() {
    for &isa in Isa::ALL {
        let of_cases: BTreeSet<String> =
            cases::all().iter().flat_map(|case| kernels(case.model(true), isa)).collect();
        let units = [None, Some(AwsKind::Layer), Some(AwsKind::Dense), Some(AwsKind::Gate(Gate::Softmax))];
        for architecture in [Architecture::ResNet18, Architecture::MobileNet, Architecture::Tiny] {
            for aws in units {
                let options = InitOptions::new().architecture(architecture).aws(aws).size(64);
                let model = Model::from_bytes(&init(&options).expect("a file")).expect("a model");
                let missing: Vec<_> = kernels(model, isa).difference(&of_cases).cloned().collect();
                assert!(missing.is_empty(), "{architecture} with {aws:?} on {isa} runs {missing:?}");
            }
        }
    }
}
