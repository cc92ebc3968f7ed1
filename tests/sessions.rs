//! What a session takes, what it gives back, and what it refuses; on every backend that needs no GPU.

#[path = "common/isas.rs"]
mod isas;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::{
    Device, Engine, EngineOptions, Error, ErrorKind, Images, ImagesU8, Isa, Model, Plan, PlanOptions,
    Predictions, RunOptions, Session, Target,
};
use isas::isas;

const BATCH: usize = 3;

fn model() -> Model {
    let options = InitOptions::new().architecture(Architecture::Tiny).size(16);
    Model::from_bytes(&init(&options).expect("a model file")).expect("a valid model")
}

fn session(target: Target) -> Session {
    let options = PlanOptions::new().target(target).batch(BATCH).keep_values(true);
    let plan = Plan::build(model(), &options).expect("a plan");
    let engine = Engine::new(plan, &EngineOptions::new().threads(2)).expect("an engine");
    engine.session().expect("a session")
}

fn targets() -> Vec<Target> {
    isas().map(Target::Cpu).chain([Target::Reference]).collect()
}

fn bits(predictions: Predictions<'_>) -> Vec<u32> {
    let scores = predictions.heads().flat_map(|head| head.logits.iter().chain(head.probabilities));
    scores.map(|value| value.to_bits()).collect()
}

/// Bytes of `BATCH` images, and the floats that they stand for.
fn images(session: &Session) -> (Vec<u8>, Vec<f32>) {
    let input = session.plan().input();
    let (c, h, w) = (input.shape.channels, input.shape.height, input.shape.width);
    let bytes: Vec<u8> = (0..BATCH * input.shape.len()).map(|i| (i * 7919 % 251) as u8).collect();
    let float = |i: usize| {
        let (n, ch, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        (f32::from(bytes[(n * h * w + pixel) * c + ch]) / 255.0 - input.mean[ch]) / input.std[ch]
    };
    let floats = (0..bytes.len()).map(float).collect();
    (bytes, floats)
}

fn refused<T: std::fmt::Debug>(result: awsnet::Result<T>, place: &str) -> Error {
    let error = result.expect_err(place);
    assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
    error
}

#[test]
fn floats_bytes_and_staged_images_give_the_same_bits() {
    for target in targets() {
        let mut session = session(target);
        let (bytes, floats) = images(&session);
        let shape = session.plan().input().shape;
        for count in [1, BATCH] {
            let (bytes, floats) = (&bytes[..count * shape.len()], &floats[..count * shape.len()]);
            let expected = bits(session.run(floats).expect("floats"));
            let u8 = ImagesU8::new(bytes, shape.width, shape.height, shape.channels);
            assert_eq!(bits(session.run(u8).expect("bytes")), expected, "{target}");
            session.input_mut().expect("memory")[..floats.len()].copy_from_slice(floats);
            for _ in 0..2 {
                let staged = session.run(Images::Staged(count)).expect("what stays staged");
                assert_eq!(bits(staged), expected, "{target}");
            }
            let deadline = RunOptions::new().deadline(Instant::now() + Duration::from_secs(600));
            assert_eq!(bits(session.run_with(u8, deadline).expect("in time")), expected, "{target}");
        }
    }
}

#[test]
fn there_is_memory_for_a_whole_batch_of_staged_images() {
    for target in targets() {
        let mut session = session(target);
        let len = BATCH * session.plan().input().shape.len();
        assert_eq!(session.input_mut().expect("memory").len(), len);
    }
}

#[test]
fn what_is_not_staged_is_not_run() {
    for target in targets() {
        let mut session = session(target);
        let (_, floats) = images(&session);
        refused(session.run(Images::Staged(1)), "images");
        session.input_mut().expect("memory").fill(0.25);
        for count in [0, BATCH + 1, usize::MAX] {
            let error = refused(session.run(Images::Staged(count)), "images");
            assert!(error.expected().contains("from 1 to 3 images"), "{error}");
        }
        session.run(Images::Staged(1)).expect("a staged image");
        session.run(&floats).expect("others");
        let error = refused(session.run(Images::Staged(1)), "images");
        assert!(error.found().contains("since the last run of others"), "{error}");
    }
}

#[test]
fn bytes_of_a_frame_of_another_size_are_refused() {
    let mut session = session(Target::Cpu(Isa::detect()));
    let frame = vec![0; 640 * 480 * 3];
    let error = refused(session.run(ImagesU8::new(&frame, 640, 480, 3)), "images");
    assert_eq!(
        (error.expected(), error.found()),
        ("images of 3x16x16, which the network reads", "3x480x640")
    );
    // A face cut out of it, where it lies.
    let face = ImagesU8::new(&frame[(100 * 640 + 200) * 3..], 16, 16, 3).row_stride(640 * 3).count(1);
    assert_eq!(session.run(face).expect("a face").len(), 1);
}

#[test]
fn times_are_added_for_each_node_of_a_cpus_plan() {
    let mut cpu = session(Target::Cpu(Isa::detect()));
    let (_, floats) = images(&cpu);
    let expected = bits(cpu.run(&floats).expect("a run"));
    let before = Duration::from_secs(1);
    let mut times = vec![before; cpu.plan().nodes().len()];
    let timed = cpu.run_with(&floats, RunOptions::new().times(&mut times)).expect("a run");
    assert_eq!(bits(timed), expected);
    assert!(times.iter().all(|&time| time > before), "{times:?}");

    times.pop();
    refused(cpu.run_with(&floats, RunOptions::new().times(&mut times)), "times");
    refused(session(Target::Reference).run_with(&floats, RunOptions::new().times(&mut [])), "times of nodes");
}

#[test]
fn a_run_whose_deadline_has_passed_is_given_up_and_the_next_is_right() {
    for target in targets() {
        let mut session = session(target);
        let (bytes, floats) = images(&session);
        let shape = session.plan().input().shape;
        let u8 = ImagesU8::new(&bytes, shape.width, shape.height, shape.channels);
        let expected = bits(session.run(&floats).expect("a run"));
        session.input_mut().expect("memory").copy_from_slice(&floats);
        for images in [Images::Staged(BATCH), Images::U8(u8), Images::F32(&floats)] {
            for late in [Duration::ZERO, Duration::from_secs(1)] {
                let deadline = Instant::now() - late;
                let run = session.run_with(images, RunOptions::new().deadline(deadline));
                let error = run.expect_err("a deadline that has passed");
                assert_eq!((error.kind(), error.place()), (ErrorKind::Deadline, "run"), "{target}: {error}");
            }
            assert_eq!(bits(session.run(images).expect("a run")), expected, "{target}");
        }
    }
}

/// A network that takes a while, whose limits are reached in its midst.
#[test]
fn a_run_is_given_up_in_its_midst_and_the_next_is_right() {
    let options = InitOptions::new().architecture(Architecture::ResNet18).size(64);
    let model = Model::from_bytes(&init(&options).expect("a model file")).expect("a valid model");
    for threads in [1, 2] {
        let plan = PlanOptions::new().device(Device::Cpu).batch(4);
        let plan = Plan::build(model.clone(), &plan).expect("a plan");
        let engine = Engine::new(plan, &EngineOptions::new().threads(threads)).expect("an engine");
        let mut session = engine.session().expect("a session");
        let images = vec![0.5; 4 * session.plan().input().shape.len()];
        let expected = bits(session.run(&images).expect("a run"));
        let begun = Instant::now();
        session.run(&images).expect("a run");
        let whole = begun.elapsed();
        let cancel = AtomicBool::new(false);
        for (kind, cancelled) in [(ErrorKind::Deadline, false), (ErrorKind::Cancelled, true)] {
            // Another process may have the processors for a while: the best of some.
            let tried = (0..5).map(|_| {
                let begun = Instant::now();
                let error = std::thread::scope(|scope| {
                    let mut options = RunOptions::new();
                    if cancelled {
                        let (cancel, wait) = (&cancel, whole / 8);
                        scope.spawn(move || {
                            std::thread::sleep(wait);
                            cancel.store(true, Ordering::Relaxed);
                        });
                        options = options.cancel(cancel);
                    } else {
                        options = options.deadline(begun + whole / 8);
                    }
                    session.run_with(&images, options).map(|_| ()).expect_err("a limit in its midst")
                });
                let took = begun.elapsed();
                assert_eq!((error.kind(), error.place()), (kind, "run"), "{error}");
                assert!(cancel.swap(false, Ordering::Relaxed) == cancelled);
                assert_eq!(bits(session.run(&images).expect("a run")), expected, "{threads} threads");
                took
            });
            let took = tried.min().expect("some");
            assert!(took < whole / 2, "{kind:?}: {took:?} of {whole:?} with {threads} threads");
        }
    }
}

#[test]
fn a_flag_that_is_set_cancels_until_it_is_cleared() {
    for target in targets() {
        let mut session = session(target);
        let (_, floats) = images(&session);
        let expected = bits(session.run(&floats).expect("a run"));
        let cancel = AtomicBool::new(true);
        // Beside a deadline that has passed, the flag is what is told.
        for options in [RunOptions::new(), RunOptions::new().deadline(Instant::now())] {
            let error = session.run_with(&floats, options.cancel(&cancel)).expect_err("a flag that is set");
            assert_eq!((error.kind(), error.place()), (ErrorKind::Cancelled, "run"), "{target}: {error}");
        }
        cancel.store(false, Ordering::Relaxed);
        let run = session.run_with(&floats, RunOptions::new().cancel(&cancel)).expect("a flag that is not");
        assert_eq!(bits(run), expected, "{target}");
    }
}

#[test]
fn values_are_there_for_the_nodes_of_a_plan_that_keeps_them() {
    let mut kept = session(Target::Cpu(Isa::detect()));
    let (_, floats) = images(&kept);
    kept.run(&floats).expect("a run");
    let value = |session: &Session, node, image| session.value(node, image, 1).expect("a CPU");
    let nodes = kept.plan().nodes().len();
    let last = kept.plan().nodes().last().expect("a node").name();
    assert!(value(&kept, 0, BATCH - 1).is_some_and(|map| map.iter().any(|&v| v != 0.0)));
    assert_eq!(value(&kept, 0, BATCH), None, "no such image");
    assert_eq!(value(&kept, nodes, 0), None, "no such node");
    assert_eq!(value(&kept, nodes - 1, 0), None, "{last}");

    let plan = Plan::build(model(), &PlanOptions::new().device(Device::Cpu)).expect("a plan");
    let mut dropped = Engine::new(plan, &EngineOptions::new().threads(1))
        .and_then(|engine| engine.session())
        .expect("a session");
    dropped.run(&floats[..floats.len() / BATCH]).expect("a run");
    assert_eq!(value(&dropped, 0, 0), None);
    assert_eq!(value(&session(Target::Reference), 0, 0), None);
}

#[test]
fn a_plan_is_for_what_auto_finds_unless_it_is_told() {
    let auto = Device::Auto.resolve().expect("a device");
    let plan = Plan::build(model(), &PlanOptions::new()).expect("a plan");
    assert_eq!(plan.target(), auto.target);
    assert_eq!(plan.note(), auto.note.as_deref());
    assert_eq!(plan.note().is_some(), matches!(plan.target(), Target::Cpu(_)), "{plan}");

    let cpu = Plan::build(model(), &PlanOptions::new().device(Device::Cpu)).expect("a plan");
    assert_eq!((cpu.target(), cpu.note()), (Target::Cpu(Isa::detect()), None));
    // The last one counts.
    let options = PlanOptions::new().device(Device::Cpu).target(Target::Cpu(Isa::Portable));
    assert_eq!(Plan::build(model(), &options).expect("a plan").target(), Target::Cpu(Isa::Portable));
    let options = options.device(Device::Reference);
    assert_eq!(Plan::build(model(), &options).expect("a plan").target(), Target::Reference);
    let nowhere = PlanOptions::new().device(Device::CudaArchitecture { capability: 61 });
    assert_eq!(Plan::build(model(), &nowhere).expect_err("an old GPU").kind(), ErrorKind::Input);
}

/// Every unit and every kind of layer that an architecture has, on every backend that can be planned for here.
#[test]
fn an_outline_says_what_its_plan_says_and_no_engine_takes_it() {
    use awsnet::Gpu;
    use awsnet::model::{AwsKind, Gate};

    let gpu = Target::Cuda(Gpu::typical(90).expect("a known GPU"));
    let cpus = Isa::ALL.iter().copied().map(Target::Cpu);
    for target in cpus.chain([Target::Reference, gpu]) {
        for architecture in [
            Architecture::Tiny,
            Architecture::MobileNet,
            Architecture::MobileNetV3Small,
            Architecture::DenseNet121,
            Architecture::ResNet18,
        ] {
            let gate = AwsKind::Gate(Gate::Softmax);
            let all = [None, Some(AwsKind::Channel), Some(AwsKind::Layer), Some(AwsKind::Dense), Some(gate)];
            // The largest has what the others lack, residuals and projections, and takes the time.
            let units = if architecture == Architecture::ResNet18 { &all[..2] } else { &all };
            for &aws in units {
                let options = InitOptions::new().architecture(architecture).size(32).aws(aws);
                let model = Model::from_bytes(&init(&options).expect("a file")).expect("a model");
                let options = PlanOptions::new().target(target).batch(2);
                let outline = Plan::outline(&model, &options).expect("an outline");
                let plan = Plan::build(model, &options).expect("a plan");
                let place = format!("{architecture} with {aws:?} on {target}");
                assert_eq!(outline.to_string(), plan.to_string(), "{place}");
                assert_eq!(outline.weight_bytes(), plan.weight_bytes(), "{place}");
                assert!(outline.weight_bytes() > 0, "{place}");
                let error = Engine::new(outline, &EngineOptions::new()).expect_err("nothing to run");
                assert_eq!((error.kind(), error.place()), (ErrorKind::Plan, "plan"), "{place}: {error}");
            }
        }
    }
}
