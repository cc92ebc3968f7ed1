//! What the features `ndarray`, `serde` and `log` add.

use std::sync::Mutex;
use std::thread::{self, ThreadId};

use awsnet::model::HeadKind;
use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::{
    Device, Engine, EngineOptions, ErrorKind, Model, Plan, PlanOptions, Predictions, Session, Shape,
};
use ndarray::{Array4, s};
use serde_json::json;

const BATCH: usize = 3;
const SIDE: usize = 16;

fn session(device: Device) -> Session {
    let options = InitOptions::new().architecture(Architecture::Tiny).size(SIDE);
    let model = Model::from_bytes(&init(&options).expect("a model file")).expect("a valid model");
    let plan = Plan::build(model, &PlanOptions::new().device(device).batch(BATCH)).expect("a plan");
    let engine = Engine::new(plan, &EngineOptions::new().threads(1)).expect("an engine");
    engine.session().expect("a session")
}

/// Images [N, C, H, W] of values that tell where they stand.
fn array(shape: [usize; 4]) -> Array4<f32> {
    Array4::from_shape_fn(shape, |(n, c, y, x)| {
        ((n * 31 + c * 7919 + y * 101 + x * 13) % 97) as f32 / 50.0 - 1.0
    })
}

fn bits(predictions: Predictions<'_>) -> Vec<u32> {
    predictions.head("emotion").expect("a head").logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn an_array_gives_what_its_elements_in_order_give() {
    let images = array([BATCH, 3, SIDE, SIDE]);
    let floats: Vec<f32> = images.iter().copied().collect();
    let len = floats.len() / BATCH;
    for device in [Device::Cpu, Device::Reference] {
        let mut session = session(device);
        let expected = bits(session.run(&floats).expect("floats"));
        assert_eq!(bits(session.run(&images).expect("an array")), expected, "{device}");
        assert_eq!(bits(session.run(images.view()).expect("a view")), expected, "{device}");

        // The same images as a decoder gives them, [N, H, W, C], with the axes permuted.
        let decoded = images.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
        let permuted = decoded.view().permuted_axes([0, 3, 1, 2]);
        assert!(permuted.as_slice().is_none());
        assert_eq!(bits(session.run(permuted).expect("a permuted array")), expected, "{device}");

        // Every second image, and a window of a larger frame.
        let expected = bits(session.run(&[&floats[..len], &floats[2 * len..]].concat()).expect("floats"));
        assert_eq!(bits(session.run(images.slice(s![..;2, .., .., ..])).expect("a part")), expected);
        let mut frame = array([2, 3, SIDE + 5, SIDE + 9]);
        let window = s![.., .., 2..2 + SIDE, 4..4 + SIDE];
        frame.slice_mut(window).assign(&images.slice(s![..;2, .., .., ..]));
        assert_eq!(bits(session.run(frame.slice(window)).expect("a window")), expected);
    }
}

#[test]
fn arrays_of_another_shape_are_refused() {
    let mut session = session(Device::Cpu);
    for (shape, found) in [
        ([1, 3, SIDE, SIDE + 1], "3x16x17"),
        ([1, SIDE, SIDE, 3], "16x16x3"),
        ([0, 3, SIDE, SIDE], "0"),
        ([BATCH + 1, 3, SIDE, SIDE], "4"),
    ] {
        let error = session.run(&array(shape)).expect_err("a wrong shape");
        assert_eq!((error.kind(), error.place(), error.found()), (ErrorKind::Input, "images", found));
    }
}

#[test]
fn scores_are_arrays_of_a_row_an_image() {
    let mut session = session(Device::Cpu);
    let predictions = session.run(&array([BATCH, 3, SIDE, SIDE])).expect("a run");
    for head in predictions.heads() {
        let (logits, probabilities) = (head.logits_array(), head.probabilities_array());
        for (index, prediction) in predictions.iter().enumerate() {
            let of_image = prediction.head(head.name).expect("the same head");
            assert_eq!(logits.row(index).to_slice(), Some(of_image.logits));
            assert_eq!(probabilities.row(index).to_slice(), Some(of_image.probabilities));
        }
        assert_eq!(logits.dim(), (BATCH, head.labels.len()));
    }
}

#[test]
fn predictions_serialize_as_the_command_line_writes_them() {
    let mut session = session(Device::Cpu);
    let predictions = session.run(&array([1, 3, SIDE, SIDE])).expect("a run");
    let prediction = predictions.get(0).expect("an image");
    let scores = |head| -> serde_json::Map<_, _> {
        let scores = prediction.head(head).expect("a head").scores();
        scores.map(|score| (score.label.to_owned(), json!(score.probability))).collect()
    };
    let active: Vec<&str> = prediction.active().map(|au| au.label).collect();
    let expected = json!({
        "emotion": {"label": prediction.emotion().expect("an emotion").label, "scores": scores("emotion")},
        "au": {"active": active, "scores": scores("au")},
    });
    assert_eq!(serde_json::to_value(prediction).expect("a value"), expected);
    assert_eq!(serde_json::to_value(prediction.into_owned()).expect("a value"), expected);
}

#[test]
fn words_serialize_in_lower_case() {
    let value = json!([HeadKind::Classes, ErrorKind::Poisoned, Shape::new(3, 16, 8)]);
    assert_eq!(value, json!(["classes", "poisoned", {"channels": 3, "height": 16, "width": 8}]));
}

/// Keeps what it is told, and by which thread.
struct Log(Mutex<Vec<(ThreadId, String)>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().expect("a log").push((thread::current().id(), line));
    }

    fn flush(&self) {}
}

#[test]
fn a_plan_is_told_to_the_log_and_a_run_is_not() {
    log::set_logger(&LOG).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let told = || -> Vec<String> {
        let lines = LOG.0.lock().expect("a log");
        lines.iter().filter(|(id, _)| *id == thread::current().id()).map(|(_, line)| line.clone()).collect()
    };
    let mut session = session(Device::Reference);
    let before = told();
    assert_eq!(before.len(), 1, "{before:?}");
    let plan = "INFO awsnet::plan: a plan for reference, f32, at batch 3: 0 nodes, ";
    assert!(before[0].starts_with(plan), "{before:?}");
    session.run(&array([1, 3, SIDE, SIDE])).expect("a run");
    assert_eq!(told(), before);
}
