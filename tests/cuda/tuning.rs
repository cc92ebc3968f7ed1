//! `awsnet tune` and the files it writes, and the times of nodes, by the emulator's clock, which counts work: what is measured is no GPU's speed,
//! but the same on every machine.

use std::path::{Path, PathBuf};
use std::process::Output;

use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::tune;
use serde_json::Value;

use crate::device::{counters, program};

struct Files {
    model: PathBuf,
    tuning: PathBuf,
}

fn files(name: &str) -> Files {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let (model, tuning) = (folder.join("model.safetensors"), folder.join("tuning.json"));
    let options = InitOptions::new().architecture(Architecture::Tiny).size(32);
    std::fs::write(&model, init(&options).expect("a model file")).expect("a file");
    Files { model, tuning }
}

fn awsnet(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    program(crate::machine::program(env!("CARGO_BIN_EXE_awsnet")))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("awsnet")
}

/// What a call that works writes.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What a call that fails says.
fn failed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(output.stdout.is_empty());
    error
}

const CLOCK: (&str, &str) = ("AWSNET_EMULATOR_CLOCK", "work");
const QUICK: [&str; 4] = ["--candidates", "3", "--runs", "1"];

#[test]
fn a_tuning_is_measured_written_and_taken_by_plans() {
    if counters().is_none() {
        return; // it takes the settings of the emulated driver
    }
    let Files { model, tuning } = files("tuned");
    let (model, tuning) = (model.to_str().expect("a path"), tuning.to_str().expect("a path"));
    let call =
        [&["tune", model, "--device", "cuda:0", "--batch", "2", "-o", tuning, "--json"][..], &QUICK].concat();
    let lines = done(&awsnet(&call, &[CLOCK]));
    let outcomes: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for outcome in &outcomes {
        assert!(outcome["after_us"].as_f64() <= outcome["before_us"].as_f64(), "{outcome}");
    }
    let improved = outcomes.iter().filter(|outcome| outcome["before"] != outcome["after"]).count();
    assert!(improved > 0, "the clock counts bytes, which the plan does not: some tile is better by it");
    let first = std::fs::read(tuning).expect("the file");
    assert_eq!(tune::load(tuning).expect("a tuning").len(), outcomes.len());

    done(&awsnet(&call, &[CLOCK]));
    assert_eq!(std::fs::read(tuning).expect("the file"), first, "measured again, the entries are the same");

    let plan = ["plan", model, "--device", "cuda:0", "--batch", "2"];
    let tuned = done(&awsnet(&[&plan[..], &["--json"]].concat(), &[("AWSNET_TUNE", tuning)]));
    let tuned: Value = serde_json::from_str(&tuned).expect("JSON");
    let of_largest: Vec<&Value> = outcomes.iter().filter(|outcome| outcome["images"] == 2).collect();
    for node in tuned["nodes"].as_array().expect("nodes").iter().filter(|node| node["tuned"] == true) {
        let same = |outcome: &&Value| outcome["kernel"] == node["kernel"] && outcome["after"] == node["tile"];
        assert!(of_largest.iter().any(same), "{node}");
    }
    assert!(done(&awsnet(&plan, &[("AWSNET_TUNE", tuning)])).contains(" tiles by a tuning"));
    assert!(!done(&awsnet(&plan, &[])).contains('*'), "without the variable the plan chooses");

    let verify = ["verify", model, "--device", "cuda:0", "--batch", "2"];
    done(&awsnet(&verify, &[("AWSNET_TUNE", tuning)]));
}

#[test]
fn a_tuning_that_cannot_be_measured_or_read_is_one_line_of_error() {
    if counters().is_none() {
        return; // it takes the settings of the emulated driver
    }
    let Files { model, tuning } = files("untuned");
    let (model, tuning) = (model.to_str().expect("a path"), tuning.to_str().expect("a path"));
    let on_gpu = [&["tune", model, "--device", "cuda:0", "-o", tuning][..], &QUICK].concat();
    let untimed = awsnet(&on_gpu, &[]);
    assert_eq!(untimed.status.code(), Some(1));
    let text = String::from_utf8_lossy(&untimed.stderr);
    assert!(text.contains("cuEventElapsedTime") && text.contains("says nothing of a GPU"), "{text}");
    assert!(!Path::new(tuning).exists(), "nothing is half written");

    let plan = ["plan", model, "--device", "cuda:0"];
    let missing = failed(&awsnet(&plan, &[("AWSNET_TUNE", tuning)]));
    assert!(
        missing.contains(tuning) && missing.contains("AWSNET_TUNE: expected a readable file"),
        "{missing}"
    );
    std::fs::write(tuning, r#"{"awsnet_tuning": 1, "entries": [{"gpu": "sm_90"}]}"#).expect("a file");
    let invalid = failed(&awsnet(&plan, &[("AWSNET_TUNE", tuning)]));
    assert!(
        invalid.contains(tuning) && invalid.contains("entry 0: `multiprocessors`: expected"),
        "{invalid}"
    );
    let extended = failed(&awsnet(&on_gpu, &[CLOCK]));
    assert!(extended.contains("entry 0"), "a file that is not understood is not replaced: {extended}");
}

/// A launch is a microsecond of that clock, and its bytes come on top.
#[test]
fn a_nodes_time_is_what_the_network_takes_longer_with_it() {
    if counters().is_none() {
        return;
    }
    let Files { model, .. } = files("node-times");
    let model = model.to_str().expect("a path");
    for batch in ["1", "3"] {
        let call =
            ["bench", model, "--device", "cuda:0", "--batch", batch, "--runs", "5", "--nodes", "--json"];
        let line: Value = serde_json::from_str(&done(&awsnet(&call, &[CLOCK]))).expect("JSON");
        let nodes = line["nodes"].as_array().expect("nodes");
        let plan = ["plan", model, "--device", "cuda:0", "--batch", batch, "--json"];
        let plan: Value = serde_json::from_str(&done(&awsnet(&plan, &[]))).expect("JSON");
        assert_eq!(nodes.len(), plan["nodes"].as_array().expect("nodes").len());
        for node in nodes {
            let us = node["median_us"].as_f64().expect("a number");
            assert!((1.0..100.0).contains(&us), "{node}");
        }
    }
    // Without a clock nobody is told a time.
    let call = ["bench", model, "--device", "cuda:0", "--runs", "1", "--nodes"];
    assert!(failed(&awsnet(&call, &[])).contains("cuEventElapsedTime"));
}
