//! What `models/demo.safetensors` says of the faces in `examples/faces`, and that it is what they were drawn with.
//! The faces are found and cut out first, as `awsnet predict --detect` does.
#![cfg(all(feature = "face", feature = "image"))]

use std::fs;
use std::path::{Path, PathBuf};

use awsnet::face::{Detector, DetectorOptions, cut};
use awsnet::image::{self, Limits};
use awsnet::{Device, Engine, EngineOptions, ImagesU8, Model, Plan, PlanOptions};
use serde_json::Value;

/// The emotion, and the AUs from their thresholds on, of `examples/faces/images/{index:06}.png`.
#[rustfmt::skip]
const DECISIONS: &[(&str, &[&str])] = &[
    ("fear", &["AU1", "AU2", "AU4", "AU5", "AU10", "AU20", "AU25", "AU26"]),
    ("sadness", &["AU2"]),
    ("surprise", &["AU1", "AU2", "AU5", "AU25", "AU26"]),
    ("happiness", &["AU6", "AU12", "AU25"]),
    ("surprise", &["AU1"]),
    ("disgust", &["AU9", "AU15", "AU16", "AU25"]),
    ("sadness", &["AU1", "AU4", "AU15"]),
    ("neutral", &["AU4", "AU23"]),
    ("disgust", &["AU6", "AU9", "AU15", "AU16", "AU25"]),
    ("happiness", &["AU6", "AU12"]),
    ("sadness", &["AU1", "AU15", "AU17"]),
    ("surprise", &["AU1", "AU2", "AU5", "AU25", "AU26"]),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The emotion and the active AUs of every face, from the file to the decision as `awsnet predict` goes.
fn decisions() -> Vec<(String, Vec<String>)> {
    let model = Model::load(path("models/demo.safetensors")).unwrap();
    let plan = Plan::build(model, &PlanOptions::new().device(Device::Cpu)).unwrap();
    let engine = Engine::new(plan, &EngineOptions::new().threads(1)).unwrap();
    let mut session = engine.session().unwrap();
    let mut detector = Detector::new(&DetectorOptions::new()).unwrap().session().unwrap();
    let input = engine.plan().input();
    let mut of_face = |index| {
        let file = path(&format!("examples/faces/images/{index:06}.png"));
        let picture = image::open(file, &Limits::default()).unwrap();
        let faces = detector.detect(&(&picture).into()).unwrap();
        assert_eq!(faces.len(), 1, "picture {index}");
        let cut = cut(&(&picture).into(), &faces[0], input).unwrap();
        let prediction = session.run(ImagesU8::from(&cut)).unwrap().get(0).unwrap();
        let active = prediction.active().map(|au| au.label.to_owned()).collect();
        (prediction.emotion().expect("an emotion").label.to_owned(), active)
    };
    (0..DECISIONS.len()).map(&mut of_face).collect()
}

#[test]
fn the_demo_model_decides_as_recorded() {
    let found = decisions();
    assert_eq!(found.len(), DECISIONS.len());
    for (index, ((emotion, active), expected)) in found.iter().zip(DECISIONS).enumerate() {
        assert_eq!(
            (emotion.as_str(), active.as_slice()),
            (expected.0, owned(expected.1).as_slice()),
            "face {index}"
        );
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

/// The labels know what the faces were drawn with. Of 192 AUs at most one in ten is wrong. The emotions are those of a
/// network that has learnt from photographs, and never from drawn faces: of twelve at most a quarter is not what was drawn.
#[test]
fn the_demo_model_is_right_about_the_faces() {
    let labels = fs::read_to_string(path("examples/faces/labels.jsonl")).unwrap();
    let labels: Vec<Value> = labels.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = decisions();
    assert_eq!(labels.len(), found.len());
    let (mut aus, mut wrong, mut other) = (0, Vec::new(), 0);
    for (index, (label, (emotion, active))) in labels.iter().zip(&found).enumerate() {
        assert_eq!(label["image"], format!("images/{index:06}.png"));
        other += usize::from(label["emotion"] != emotion.as_str());
        for (au, intensity) in label["au"].as_object().unwrap() {
            aus += 1;
            if (intensity.as_f64().unwrap() > 0.0) != active.contains(au) {
                wrong.push((index, au));
            }
        }
    }
    assert_eq!(aus, 12 * 16);
    assert!(wrong.len() * 10 <= aus, "{wrong:?}");
    assert!(other * 4 <= labels.len(), "{other} other emotions");
}
