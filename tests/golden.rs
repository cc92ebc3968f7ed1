//! The reference and every CPU backend against what an outside implementation computed.
//!
//! tests/golden holds small networks and, for each, an image batch with every layer's output, every head's logits and, but
//! of heads of values, probabilities; tools/outside/golden.py makes them.

#[path = "common/isas.rs"]
mod isas;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use approx::abs_diff_eq;
use awsnet::__tests::reference;
use awsnet::model::HeadKind;
use awsnet::{Conv2dAlgorithm, Engine, EngineOptions, Model, Plan, PlanOptions, Target, verify};
use isas::isas;
use safetensors::SafeTensors;

/// How far from the outside implementation a value may be, as a share of the largest of its tensor.
const REFERENCE_TOLERANCE: f64 = 1e-6;
const BACKEND_TOLERANCE: f64 = 1e-5;

/// The ways to compute convolutions, and the choice between them.
fn algorithms() -> impl Iterator<Item = Conv2dAlgorithm> + Clone {
    Conv2dAlgorithm::ALL.iter().copied().chain([Conv2dAlgorithm::Auto])
}

struct Case {
    name: String,
    model: Model,
    expected: BTreeMap<String, Vec<f32>>,
    images: usize,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of golden cases")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.to_string_lossy().ends_with(".model.safetensors"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 50, "only {} golden cases", paths.len());
    let load = |path: &PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy().replace(".model.safetensors", "");
        let bytes =
            std::fs::read(folder.join(format!("{name}.expected.safetensors"))).expect("expected values");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let expected: BTreeMap<String, Vec<f32>> = file
            .iter()
            .map(|(name, tensor)| {
                let floats =
                    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                (name.to_owned(), floats.collect())
            })
            .collect();
        let images = file.tensor("image").expect("the images").shape()[0];
        Case { name, model: Model::load(path).expect("a valid model"), expected, images }
    };
    paths.iter().map(load).collect()
}

impl Case {
    fn image(&self) -> &[f32] {
        &self.expected["image"]
    }

    /// Compares one image's part of a tensor with what `how` has found.
    fn compare(
        &self,
        how: &str,
        tensor: &str,
        image: usize,
        found: impl ExactSizeIterator<Item = f64>,
        tolerance: f64,
    ) {
        let expected = self.expected.get(tensor).unwrap_or_else(|| panic!("{}: no {tensor}", self.name));
        let largest = expected.iter().fold(1e-3f64, |largest, &v| largest.max(f64::from(v).abs()));
        let len = expected.len() / self.images;
        assert_eq!(found.len(), len, "{} by {how}: {tensor}", self.name);
        for (index, (found, &expected)) in found.zip(&expected[image * len..][..len]).enumerate() {
            let close = abs_diff_eq!(found, f64::from(expected), epsilon = tolerance * largest);
            assert!(
                close,
                "{} by {how}: {tensor}[{image}][{index}]: {found}, expected {expected}",
                self.name
            );
        }
    }
}

#[test]
fn the_reference_agrees_on_every_layer() {
    for case in cases() {
        let image_len = case.model.input().shape.len();
        for (index, image) in case.image().chunks_exact(image_len).enumerate() {
            let evaluation = reference::evaluate(&case.model, image);
            for (branch, name) in case.model.branches().iter().enumerate() {
                for (layer, maps) in case.model.layers().iter().zip(&evaluation.layers) {
                    // What the manifest says in one layer and the model in two: the outside has the second.
                    if !layer.name().contains(' ') {
                        let tensor = format!("{name}/{}", layer.name());
                        let found = maps[branch].data.iter().copied();
                        case.compare("the reference", &tensor, index, found, REFERENCE_TOLERANCE);
                    }
                }
            }
            for (head, logits) in case.model.heads().iter().zip(&evaluation.logits) {
                let (tensor, found) = (format!("{}.logits", head.name()), logits.iter().copied());
                case.compare("the reference", &tensor, index, found, REFERENCE_TOLERANCE);
            }
        }
    }
}

#[test]
fn every_backend_agrees_on_logits_and_probabilities() {
    let cpus = isas().flat_map(|isa| algorithms().map(move |conv2d| (Target::Cpu(isa), conv2d)));
    let ways: Vec<_> = cpus.chain([(Target::Reference, Conv2dAlgorithm::Auto)]).collect();
    for case in cases() {
        for &(target, conv2d) in &ways {
            let options = PlanOptions::new().target(target).conv2d(conv2d).batch(case.images);
            let plan = Plan::build(case.model.clone(), &options).expect("a plan");
            let engine = Engine::new(plan, &EngineOptions::new().threads(2)).expect("an engine");
            let mut session = engine.session().expect("a session");
            let predictions = session.run(case.image()).expect("a run");
            assert_eq!(predictions.len(), case.images);
            let how = format!("{target}, {conv2d}");
            for (index, prediction) in predictions.iter().enumerate() {
                for head in prediction.heads() {
                    let scores = [("logits", head.logits), ("probabilities", head.probabilities)];
                    let is_values = head.kind == HeadKind::Values;
                    for (what, found) in scores.into_iter().take(if is_values { 1 } else { 2 }) {
                        let tensor = format!("{}.{what}", head.name);
                        let found = found.iter().map(|&v| f64::from(v));
                        case.compare(&how, &tensor, index, found, BACKEND_TOLERANCE);
                    }
                }
            }
        }
    }
}

#[test]
fn every_node_stays_within_its_error_bound() {
    for case in cases() {
        for (isa, conv2d) in isas().flat_map(|isa| algorithms().map(move |conv2d| (isa, conv2d))) {
            let options = PlanOptions::new().target(Target::Cpu(isa)).conv2d(conv2d);
            let agreements = verify::layers(case.model.clone(), &options, 2, case.image()).expect("a run");
            for node in agreements {
                assert!(node.holds(), "{} on {isa}, {conv2d}: {node:?}", case.name);
            }
        }
    }
}
