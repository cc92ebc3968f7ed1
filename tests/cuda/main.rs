//! The CUDA backend on the emulated driver (or on the driver `AWSNET_TEST_DRIVER` names): whole networks against the
//! reference, the interfaces of its sessions, and every fault that a driver and a device can show.

#![cfg(feature = "cuda")]
#![allow(unsafe_code, reason = "calls of the CUDA driver")]

#[path = "../common/mod.rs"]
mod common;
mod device;
mod doctor;
mod faults;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../networks/random.rs"]
mod random;
mod sessions;
mod tuning;
mod version_2;

use std::collections::BTreeMap;
use std::ops::Range;

use awsnet::__tests::reference;
use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::model::{AwsKind, Gate};
use awsnet::{
    Device, Engine, EngineOptions, Graphs, Images, Model, Plan, PlanOptions, Precision, Session, Target,
    verify,
};
use common::{Numbers, Rng};
use device::{gpu, schedule, shared};
use random::network;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::F16, Precision::BF16];

/// Images that differ, with numbers of about 1.
fn images(model: &Model, seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(!seed);
    (0..count * model.input().shape.len()).map(|_| rng.between(-2.0, 2.0)).collect()
}

fn engine(model: &Model, precision: Precision, batch: usize) -> Engine {
    let options = PlanOptions::new().target(gpu()).precision(precision).batch(batch);
    let plan = Plan::build(model.clone(), &options).expect("a plan");
    // Captured on first use: most tests need one or two of the graphs.
    Engine::new(plan, &EngineOptions::new().graphs(Graphs::OnFirstUse)).expect("an engine")
}

fn session(model: &Model, precision: Precision, batch: usize) -> Session {
    engine(model, precision, batch).session().expect("a session")
}

/// A network with random weights, as `awsnet init` writes it.
fn random_model(architecture: Architecture, size: usize, aws: &str) -> Model {
    let aws = match aws {
        "none" => None,
        "layer" => Some(AwsKind::Layer),
        "channel" => Some(AwsKind::Channel),
        "dense" => Some(AwsKind::Dense),
        "gate" => Some(AwsKind::Gate(Gate::Softmax)),
        other => panic!("no AWS-Unit {other}"),
    };
    let options = InitOptions::new().architecture(architecture).size(size).aws(aws);
    Model::from_bytes(&init(&options).expect("a model file")).expect("a model")
}

/// The bits of every image's logits and probabilities.
fn bits<'a>(session: &mut Session, images: impl Into<Images<'a>>) -> Vec<Vec<u32>> {
    let predictions = session.run(images).expect("a run");
    let of = |prediction: awsnet::Prediction| {
        let scores = prediction.heads().flat_map(|head| head.logits.iter().chain(head.probabilities));
        scores.map(|v| v.to_bits()).collect()
    };
    predictions.iter().map(of).collect()
}

/// Runs the networks of some seeds, and gives the worst error of each kernel, in parts of its bound.
fn every_node_holds(seeds: Range<u64>, model: impl Fn(u64) -> Model) -> BTreeMap<String, f64> {
    let _device = shared();
    let mut kernels = BTreeMap::<String, f64>::new();
    for seed in seeds {
        let model = model(seed);
        let images = images(&model, seed, 2);
        let precision = PRECISIONS[seed as usize % 3];
        schedule(seed);
        let options = PlanOptions::new().target(gpu()).precision(precision);
        for node in verify::layers(model, &options, 1, &images).expect("a run") {
            assert!(node.holds(), "seed {seed} in {precision}: {node:?}");
            let worst = kernels.entry(node.kernel).or_default();
            *worst = worst.max(node.worst);
        }
    }
    println!("the worst error / bound of each kernel: {kernels:#?}");
    kernels
}

#[test]
fn every_node_of_random_networks_stays_within_its_error_bound() {
    let kernels = every_node_holds(0..120, |seed| network(seed, Numbers::Real).model());
    let expected = [
        "aws_unit_dense",
        "aws_unit_gate_mix",
        "conv2d_depthwise",
        "conv2d_direct",
        "conv2d_implicit_gemm",
        "conv2d_stem",
        "head",
        "identity",
        "pool2d",
    ];
    assert!(kernels.keys().eq(expected.iter()), "{kernels:?}");
}

#[test]
fn every_golden_model_agrees_node_by_node_in_every_precision() {
    let _device = shared();
    for path in machine::golden_models() {
        let model = Model::load(&path).expect("a model");
        let images = images(&model, 7, 2);
        for precision in PRECISIONS {
            let options = PlanOptions::new().target(gpu()).precision(precision);
            for node in verify::layers(model.clone(), &options, 1, &images).expect("a run") {
                assert!(node.holds(), "{} in {precision}: {node:?}", path.display());
            }
        }
    }
}

#[test]
fn logits_and_decisions_agree_with_the_reference_end_to_end() {
    let _device = shared();
    for (index, aws) in ["none", "layer", "channel", "dense", "gate"].into_iter().enumerate() {
        let model = random_model(Architecture::Tiny, 32, aws);
        let images = images(&model, index as u64, 3);
        for precision in PRECISIONS {
            // Norm of the difference as a share of the norm of the logits: a few roundings of the feature maps.
            let tolerance = match precision {
                Precision::F32 => 1e-5,
                Precision::F16 => 1e-2,
                Precision::BF16 => 8e-2,
                other => panic!("no tolerance for {other}"),
            };
            let mut session = session(&model, precision, 3);
            let predictions = session.run(&images).expect("a run");
            for (found, image) in predictions.iter().zip(images.chunks(model.input().shape.len())) {
                let expected = reference::evaluate(&model, image).logits;
                for (head, expected) in found.heads().zip(&expected) {
                    let pairs = head.logits.iter().zip(expected);
                    let error = pairs.map(|(&found, e)| (f64::from(found) - e).powi(2)).sum::<f64>().sqrt();
                    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
                    assert!(error <= tolerance * norm, "{aws} in {precision}: {error} of {norm}");
                }
                let emotion = &expected[0];
                let best = emotion.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let top = found.emotion().expect("an emotion");
                let undecided = emotion[top.index] >= best - 2.0 * tolerance * best.abs();
                assert!(undecided, "{aws} in {precision}: {}", top.label);
            }
        }
    }
}

#[test]
fn the_same_bits_come_from_every_run_schedule_and_position_in_a_batch() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "gate");
    let [a, b, c] = [0, 1, 2].map(|seed| images(&model, seed, 1));
    for precision in PRECISIONS {
        let mut session = session(&model, precision, 4);
        schedule(0);
        let first = bits(&mut session, &[&a[..], &b, &c].concat());
        assert_ne!(first[0], first[1], "different images");
        for seed in [0, 1, 2, 77] {
            schedule(seed);
            assert_eq!(bits(&mut session, &[&a[..], &b, &c].concat()), first, "seed {seed} in {precision}");
            let turned = bits(&mut session, &[&c[..], &a, &b].concat());
            let [first_a, first_b, first_c] = [0, 1, 2].map(|i| &first[i]);
            assert_eq!(turned.iter().collect::<Vec<_>>(), [first_c, first_a, first_b], "seed {seed}");
        }
    }
}

#[test]
fn architectures_agree_with_the_cpu() {
    let _device = shared();
    let cases = [
        (Architecture::ResNet18, 64, "channel"),
        (Architecture::ResNet50, 32, "layer"),
        (Architecture::MobileNet, 32, "gate"),
    ];
    for (architecture, size, aws) in cases {
        let model = random_model(architecture, size, aws);
        let images = images(&model, 5, 1);
        let cpu = PlanOptions::new().target(Device::Cpu.resolve().expect("a CPU").target);
        let plan = Plan::build(model.clone(), &cpu).expect("a plan");
        let mut cpu =
            Engine::new(plan, &EngineOptions::default()).expect("an engine").session().expect("a session");
        let expected = cpu.run(&images).expect("a run");
        let mut session = session(&model, Precision::F16, 1);
        let found = session.run(&images).expect("a run");
        for (found, expected) in found.heads().zip(expected.heads()) {
            let (found, expected) = (found.logits, expected.logits);
            let difference = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum::<f32>().sqrt();
            let norm = expected.iter().map(|e| e * e).sum::<f32>().sqrt();
            assert!(difference <= 2e-2 * norm, "{architecture:?}: {difference} of {norm}");
        }
    }
}

#[test]
fn the_command_line_runs_every_golden_model() {
    let out = machine::scratch("cuda-run");
    let program = machine::program(env!("CARGO_BIN_EXE_awsnet"));
    let awsnet = |arguments: &[&std::ffi::OsStr]| {
        let output = device::program(&program).args(arguments).output().expect("awsnet");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for path in machine::golden_models() {
        let name = path.display();
        let model = Model::load(&path).expect("a model");
        let shape = model.input().shape;
        let images = images(&model, 11, 3);
        let dims = [3, shape.channels, shape.height, shape.width];
        let bytes: Vec<u8> = images.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dims.to_vec(), &bytes);
        let input = out.join("image.safetensors");
        safetensors::serialize_to_file([("image", view.expect("a tensor"))], None, &input).expect("a file");
        for (precision, tolerance) in [("f32", 1e-4), ("f16", 2e-2), ("bf16", 1.5e-1)] {
            let output = out.join("scores.safetensors");
            let options =
                ["--device", "cuda:0", "--batch", "2", "--precision", precision].map(std::ffi::OsStr::new);
            let files = ["--input".as_ref(), input.as_os_str(), "--output".as_ref(), output.as_os_str()];
            awsnet(&[&["run".as_ref(), path.as_os_str()][..], &files, &options].concat());
            let bytes = std::fs::read(&output).expect("the results");
            let file = safetensors::SafeTensors::deserialize(&bytes).expect("a tensor file");
            for (number, head) in model.heads().iter().enumerate() {
                let tensor = file.tensor(&format!("{}.logits", head.name())).expect("the logits");
                let read = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                let found: Vec<f32> = tensor.data().chunks_exact(4).map(read).collect();
                let labels = found.len() / 3;
                for (index, image) in images.chunks(shape.len()).enumerate() {
                    let expected = &reference::evaluate(&model, image).logits[number];
                    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt().max(1.0);
                    let pairs = found[index * labels..][..labels].iter().zip(expected);
                    let error = pairs.map(|(&f, e)| (f64::from(f) - e).powi(2)).sum::<f64>().sqrt();
                    assert!(error <= tolerance * norm, "{name} in {precision}: {error} of {norm}");
                }
            }
        }
    }
}

#[test]
fn a_plan_needs_no_gpu() {
    let model = random_model(Architecture::ResNet18, 112, "channel");
    for capability in [80, 86, 89, 90, 100, 120] {
        let target = Device::CudaArchitecture { capability }.resolve().expect("a known architecture").target;
        for precision in PRECISIONS {
            let options = PlanOptions::new().target(target).precision(precision);
            let plan = Plan::build(model.clone(), &options).expect("a plan");
            assert!(matches!(plan.target(), Target::Cuda(_)));
            // Stem, max pooling, 16 convolutions, head; in f32 the image's layout before them.
            assert_eq!(plan.launches(), if precision == Precision::F32 { 20 } else { 19 }, "{plan}");
            assert_eq!(plan.precision(), precision);
        }
    }
    assert!(Device::CudaArchitecture { capability: 75 }.resolve().is_err());
}
