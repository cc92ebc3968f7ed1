//! Memory on the way to a first result: the weights as they are packed, the arena, and little more. The file has
//! one test, so that the process's peak is that of the way.
#![cfg(target_os = "linux")]

use awsnet::model::init::{InitOptions, init};
use awsnet::{DType, Engine, EngineOptions, Model, Plan, PlanOptions};

/// What may be added to packed weights and arena: code, stacks, the layer that is being packed.
const MORE_BYTES: u64 = 30 << 20;

/// The most memory this process has had since it began, or since [`forget_peak`].
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// Lets the peak begin anew from what is in use now.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a peak to forget");
}

#[test]
fn the_peak_is_weights_and_arena_and_little_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resnet18.safetensors");
    for dtype in [DType::F16, DType::F32] {
        let bytes = init(&InitOptions { dtype, ..InitOptions::default() }).expect("a model file");
        std::fs::write(&path, bytes).expect("a file");

        forget_peak();
        let model = Model::load(&path).expect("a model");
        let plan = Plan::build(model, &PlanOptions::default()).expect("a plan");
        let needed = plan.weight_bytes() + plan.arena_bytes();
        let options = EngineOptions { threads: 2, ..EngineOptions::default() };
        let engine = Engine::new(plan, &options).expect("an engine");
        let mut session = engine.session().expect("a session");
        session.run(&vec![0.5; engine.plan().input().shape.len()]).expect("a run");

        let (peak, most) = (peak_bytes(), needed + MORE_BYTES);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!("{dtype}: a peak of {:.1} MiB, weights and arena {:.1} MiB", mib(peak), mib(needed));
        assert!(peak <= most, "{dtype}: {:.1} MiB at most, found {:.1}", mib(most), mib(peak));
        // Less would mean that the peak is not the one of this way.
        assert!(peak >= engine.plan().weight_bytes(), "{dtype}: {:.1} MiB", mib(peak));
    }
}
