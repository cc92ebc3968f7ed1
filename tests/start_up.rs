//! Memory on the way to a first result: the weights as they are packed, the arena, and little more.
#![cfg(target_os = "linux")]

use std::process::Command;

use awsnet::model::init::{InitOptions, init};
use awsnet::{DType, Device, Engine, EngineOptions, Model, Plan, PlanOptions};

/// What may be added to packed weights and arena: code, stacks, the layer that is being packed.
const MORE_BYTES: u64 = 30 << 20;

/// Names the model file to the process whose memory is looked at.
const MODEL: &str = "AWSNET_TEST_MODEL";

/// The most memory this process has had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

#[test]
#[ignore = "a part of the test below, in a process of its own"]
fn way_to_a_first_result() {
    let Some(path) = std::env::var_os(MODEL) else { return };
    let model = Model::load(path).expect("a model");
    let plan = Plan::build(model, &PlanOptions::new().device(Device::Cpu)).expect("a plan");
    let (weights, arena) = (plan.weight_bytes(), plan.arena_bytes());
    let options = EngineOptions::new().threads(2);
    let engine = Engine::new(plan, &options).expect("an engine");
    let mut session = engine.session().expect("a session");
    session.run(&vec![0.5; engine.plan().input().shape.len()]).expect("a run");
    println!("\nbytes: {weights} {arena} {}", peak_bytes());
}

#[test]
fn the_peak_is_weights_and_arena_and_little_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resnet18.safetensors");
    for dtype in [DType::F16, DType::F32] {
        let bytes = init(&InitOptions::new().dtype(dtype)).expect("a model file");
        std::fs::write(&path, bytes).expect("a file");
        let mut way = Command::new(std::env::current_exe().expect("this program"));
        way.args(["--exact", "way_to_a_first_result", "--ignored", "--nocapture"]).env(MODEL, &path);
        let output = String::from_utf8(way.output().expect("a process").stdout).expect("text");
        let line = output.lines().find_map(|line| line.strip_prefix("bytes: ")).expect("the figures");
        let figures: Vec<u64> = line.split(' ').map(|figure| figure.parse().expect("a number")).collect();
        let [weights, arena, peak] = figures[..] else { panic!("{line}") };
        println!("{dtype:?}: weights {weights}, arena {arena}, peak {peak} bytes");
        assert!(peak <= weights + arena + MORE_BYTES, "{dtype:?}: {line}");
        assert!(peak >= weights, "{dtype:?}: less than what is in use: {line}");
    }
}
