//! Every fault a model file can have is an error that names the layer or tensor, what was expected and what was
//! found; nothing in a file makes the library panic, hang or allocate without measure.
//!
//! A valid file with every feature is taken apart, broken in one place and put together again.

#[path = "../common/mod.rs"]
mod common;

mod container;
mod corners;
mod faults;
mod file_system;
#[path = "../common/isas.rs"]
mod isas;
mod manifest;
mod mutated;
mod sizes;
mod tensors;

use std::path::Path;
use std::time::{Duration, Instant};

use awsnet::__tests::reference;
use awsnet::{Device, Engine, EngineOptions, Error, ErrorKind, Model, Plan, PlanOptions, Target};
use common::{ModelFile, Network, Numbers, Rng, StoredTensor, container};
use isas::isas;
use serde_json::{Value, json};

/// The longest message: it is one line in a terminal or a log.
const MOST_CHARS: usize = 600;

/// A small network with every feature.
fn valid() -> ModelFile {
    let mut network = Network::new(2, Numbers::Real, [3, 6, 5]);
    let layers = [
        json!({"name": "stem", "op": "conv2d", "kernel": 3, "stride": [2, 1], "padding": [1, 1, 0, 1],
               "batch_norm": "bn", "batch_norm_eps": 0.001, "activation": "relu", "aws": "channel"}),
        json!({"name": "pool", "op": "max_pool2d", "kernel": 2, "stride": 1, "padding": [1, 1, 0, 0]}),
        json!({"name": "mix", "op": "conv2d", "kernel": 1, "residual": "stem", "aws": "dense"}),
        json!({"name": "grouped", "op": "conv2d", "kernel": [3, 1], "dilation": [2, 1], "padding": [2, 0], "groups": 2,
               "activation": "leaky_relu", "negative_slope": 0.1, "aws": "gate", "gate": "sigmoid"}),
        json!({"name": "add", "op": "identity", "input": "grouped", "residual": "mix", "activation": "silu",
               "aws": "layer"}),
        json!({"name": "smaller", "op": "avg_pool2d", "kernel": [3, 2]}),
        json!({"name": "hidden", "op": "linear", "batch_norm": "hidden_bn", "activation": "none"}),
        json!({"name": "mean", "op": "global_avg_pool2d", "input": "add", "aws": "gate"}),
    ];
    for layer in layers {
        let out_channels = if layer["op"] == "linear" { 5 } else { 4 };
        network.layer(layer, out_channels);
    }
    let mut file = network.heads(("hidden", 3), ("mean", 2));
    file.manifest["name"] = json!("every feature");
    file.manifest["heads"]["emotion"]["tensor"] = json!("fc");
    for tensor in &mut file.tensors {
        tensor.convert("F32");
    }
    file.tensor("emotion.mix.weight").convert("F16");
    file.tensor("au.mix.weight").convert("F16");
    file.tensor("au.grouped.weight").convert("BF16");
    file.tensor("aws.mean.squeeze.weight").convert("BF16");
    file
}

/// The valid file with something changed.
fn broken(change: impl FnOnce(&mut ModelFile)) -> Vec<u8> {
    let mut file = valid();
    change(&mut file);
    file.bytes()
}

/// The valid file with the value at a JSON pointer of its manifest replaced, or a new key set.
fn manifest_with(pointer: &str, value: Value) -> Vec<u8> {
    broken(|file| set(&mut file.manifest, pointer, value))
}

/// The same for the header.
fn header_with(pointer: &str, value: Value) -> Vec<u8> {
    let file = valid();
    let mut header = file.header();
    set(&mut header, pointer, value);
    container(header.to_string().as_bytes(), &file.data())
}

fn set(json: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match json.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Array(elements) => elements[key.parse::<usize>().expect("an index")] = value,
        Value::Object(members) => drop(members.insert(key.into(), value)),
        other => panic!("{pointer} in {other}"),
    }
}

fn remove(json: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match json.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Array(elements) => drop(elements.remove(key.parse::<usize>().expect("an index"))),
        Value::Object(members) => drop(members.remove(key).unwrap_or_else(|| panic!("no {pointer}"))),
        other => panic!("{pointer} in {other}"),
    }
}

/// The valid file with a piece of its manifest's or header's text replaced, for what a JSON tree cannot hold.
fn text_with(in_manifest: bool, from: &str, to: &str) -> Vec<u8> {
    let file = valid();
    let mut header = file.header();
    if in_manifest {
        let text = file.manifest.to_string();
        assert!(text.contains(from), "no {from} in {text}");
        header["__metadata__"]["awsnet"] = json!(text.replacen(from, to, 1));
        return container(header.to_string().as_bytes(), &file.data());
    }
    let text = header.to_string();
    assert!(text.contains(from), "no {from} in {text}");
    container(text.replacen(from, to, 1).as_bytes(), &file.data())
}

/// A file of these layers, each of one channel; for sizes that [`Network`] could not multiply.
fn one_channel(height: u64, width: u64, layers: Value, features: usize) -> ModelFile {
    let manifest = json!({
        "version": 1,
        "input": {"channels": 1, "height": height, "width": width, "mean": [0], "std": [1]},
        "layers": layers,
        "heads": {"emotion": {"input": "last", "labels": ["a"]}, "au": {"input": "last", "labels": ["b"]}},
    });
    let mut tensors = Vec::new();
    for branch in ["emotion", "au"] {
        tensors.push(StoredTensor::f32(&format!("{branch}.fc.weight"), &[1, features], &vec![0.5; features]));
        for layer in manifest["layers"].as_array().expect("an array") {
            // A kernel beyond measure has no tensor, which is a fault like another.
            let k = layer["kernel"].as_u64().unwrap_or(1) as usize;
            if layer["op"] == "conv2d" && k < 10 {
                let name = format!("{branch}.{}.weight", layer["name"].as_str().expect("a name"));
                tensors.push(StoredTensor::f32(&name, &[1, 1, k, k], &vec![0.25; k * k]));
            }
        }
    }
    ModelFile { manifest, tensors }
}

/// Checks what holds for every error's message.
fn check_message(error: &Error, what: &str) {
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "{what}: control characters in {message:?}");
    assert!(message.chars().count() <= MOST_CHARS, "{what}: {} bytes: {message:.300}...", message.len());
    assert!(!error.expected().is_empty() && !error.found().is_empty(), "{what}: {message}");
    assert!(
        message.ends_with(&format!("expected {}, found {}", error.expected(), error.found())),
        "{what}: {message}"
    );
}

/// What is wrong with the error of a faulty file, which is to hold these words in its place, and on what was expected and
/// found.
fn differs(error: &Error, what: &str, [place, expected, found]: [&str; 3]) -> Option<String> {
    check_message(error, what);
    let right = error.kind() == ErrorKind::Model
        && error.place().contains(place)
        && error.expected().contains(expected)
        && error.found().contains(found);
    let told = || format!("{what}: not at {place:?}, expected {expected:?}, found {found:?}, but {error}");
    (!right).then(told)
}

/// Loads a file that may be anything: either a model, or an error as errors should be.
fn survives(bytes: &[u8], what: &str) -> Option<Model> {
    Model::from_bytes(bytes).inspect_err(|error| check_message(error, what)).ok()
}

/// Plans and runs a model, unless its maps are too large for a test.
fn run(model: &Model, what: &str) {
    const MOST_ARENA_BYTES: u64 = 1 << 24;
    for device in [Device::Cpu, Device::Reference] {
        let plan = match Plan::build(model.clone(), &PlanOptions::new().device(device)) {
            Ok(plan) => plan,
            Err(error) => return check_message(&error, what),
        };
        let len = model.input().shape.len();
        if plan.arena_bytes() > MOST_ARENA_BYTES || len > 100_000 {
            return;
        }
        let engine = Engine::new(plan, &EngineOptions::new().threads(1)).expect("an engine");
        engine.session().expect("a session").run(&vec![0.5; len]).expect("a run");
    }
}

struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    /// What place, expected and found must contain.
    place: &'static str,
    expected: &'static str,
    found: &'static str,
}

fn case(
    what: &'static str,
    bytes: Vec<u8>,
    place: &'static str,
    expected: &'static str,
    found: &'static str,
) -> Case {
    Case { what, bytes, place, expected, found }
}

/// Checks all cases, then fails with all that are wrong.
fn check(cases: Vec<Case>) {
    assert_eq!(valid().model().layers().len(), 8);
    let mut wrong = Vec::new();
    for Case { what, bytes, place, expected, found } in cases {
        let Err(error) = Model::from_bytes(&bytes) else {
            wrong.push(format!("{what}: loads"));
            continue;
        };
        if error.place().is_empty() != place.is_empty() {
            wrong.push(format!("{what}: at {:?}, not at {place:?}", error.place()));
        }
        wrong.extend(differs(&error, what, [place, expected, found]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
