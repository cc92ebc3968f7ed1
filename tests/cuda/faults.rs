//! Faults of drivers and devices: each ends in an error value, leaves nothing behind, and harms nobody else.
//!
//! What spoils a device, or needs another environment, runs in a process of its own: this binary again, with the name of
//! a scenario.

use std::process::Command;
use std::time::{Duration, Instant};

use awsnet::model::init::Architecture;
use awsnet::{
    Device, Engine, EngineOptions, Error, ErrorKind, Images, Model, Plan, PlanOptions, Precision, RunOptions,
    Session, Target,
};

use crate::device::{alone, emulator, gpu, program};
use crate::machine::scratch;
use crate::{images, random_model};

/// Statuses of the driver's API.
const OUT_OF_MEMORY: i32 = 2;
const NOT_SUPPORTED: i32 = 801;
const ILLEGAL_ADDRESS: i32 = 700;
const INVALID_PTX: i32 = 218;
const INVALID_VALUE: i32 = 1;

fn model() -> Model {
    random_model(Architecture::Tiny, 32, "gate")
}

/// From a plan to results, all graphs captured.
fn whole(model: &Model, batch: usize) -> Result<Vec<f32>, Error> {
    let target = Device::Cuda { ordinal: 0 }.resolve()?.target;
    let plan = Plan::build(model.clone(), &PlanOptions::new().target(target).batch(batch))?;
    let mut session = Engine::new(plan, &EngineOptions::default())?.session()?;
    let images = images(model, 1, batch);
    let predictions = session.run(&images)?;
    Ok(predictions.head("au").expect("a head").logits.to_vec())
}

#[test]
fn every_driver_call_can_fail_and_nothing_is_left_behind() {
    let _device = alone();
    let model = model();
    let expected = whole(&model, 1).expect("no fault");
    for status in [OUT_OF_MEMORY, NOT_SUPPORTED] {
        let mut errors = 0;
        for call in 1.. {
            assert!(call < 5000, "a run makes fewer calls");
            let (before, calls) = (emulator().objects(), emulator().counters().calls);
            emulator().fail(call, status);
            let result = whole(&model, 1);
            emulator().fail(0, 0);
            let made = emulator().counters().calls - calls;
            match result {
                Err(error) => {
                    let kind = error.kind();
                    assert!([ErrorKind::Device, ErrorKind::Memory].contains(&kind), "call {call}: {error}");
                    assert_eq!(emulator().objects(), before, "call {call}: {error}");
                    errors += 1;
                }
                // Only what gives something back may fail unnoticed; the emulator then keeps it.
                Ok(found) => assert_eq!(found, expected, "call {call}"),
            }
            if made < call {
                break;
            }
        }
        assert!(errors > 60, "{errors} calls end in an error");
    }
}

#[test]
fn too_little_device_memory_is_an_error_behind_which_a_smaller_batch_works() {
    scenario("little memory", &[("AWSNET_EMULATOR_MEMORY_BYTES", "8000000")]);
}

#[test]
fn a_fault_poisons_its_engine_and_no_other() {
    scenario("poisoned", &[("AWSNET_EMULATOR_DEVICES", "2")]);
}

#[test]
fn a_late_fault_shows_in_the_run_that_it_befell() {
    let plan = Plan::build(model(), &PlanOptions::new().target(target_without_device()));
    let second_run = (plan.expect("a plan").launches() + 2).to_string();
    for scenario_name in ["late fault of a run", "late fault of queued work"] {
        scenario(scenario_name, &[("AWSNET_EMULATOR_FAULT_LAUNCH", &second_run)]);
    }
}

#[test]
fn refused_kernels_and_shared_memory_are_errors_with_what_to_do() {
    let _device = alone();
    let model = random_model(Architecture::Tiny, 32, "dense");
    for (status, expected, found) in [
        (INVALID_PTX, "AWSNET_CUDA_ARCHS=90", "compute capability 9.0 with a driver for CUDA 13.0"),
        (INVALID_VALUE, "bytes of shared memory for ", "INVALID_VALUE"),
    ] {
        let refused = (1..200).any(|call| {
            emulator().fail(call, status);
            let result = whole(&model, 1);
            emulator().fail(0, 0);
            result.is_err_and(|error| error.expected().contains(expected) && error.found().contains(found))
        });
        assert!(refused, "no call ends in an error with {expected}");
    }
}

#[test]
fn a_kernel_that_never_ends_misses_the_deadline() {
    scenario("hanging", &[("AWSNET_EMULATOR_HANG_LAUNCH", "5")]);
}

#[test]
fn devices_are_refused_with_what_to_do() {
    scenario("no device", &[("CUDA_VISIBLE_DEVICES", "")]);
    scenario("bad ordinal", &[]);
    scenario("too old", &[("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "7.5")]);
    scenario("newer", &[("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "13.0")]);
    scenario("less shared memory", &[("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "8.6")]);
}

/// A library of the driver's name with one function less, or a stub, written in C.
fn driver_in_c(name: &str, source: &str) -> std::path::PathBuf {
    let folder = scratch(name);
    std::fs::write(folder.join("driver.c"), source).expect("a file");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .args([folder.join("libcuda.so.1"), folder.join("driver.c")])
        .status();
    assert!(compiled.expect("a C compiler").success());
    folder
}

#[test]
fn a_driver_that_is_absent_a_stub_or_too_old_is_an_error_value() {
    let stub = driver_in_c("stub", "int cuInit(unsigned f) { return 34; }\n");
    let old = driver_in_c(
        "old",
        "int cuInit(unsigned f) { return 0; }\nint cuDriverGetVersion(int *v) { *v = 9000; return 0; }\n\
         int cuDeviceGetCount(int *n) { *n = 0; return 0; }\n",
    );
    let empty = scratch("no driver");
    for (folder, name) in [(stub, "stub"), (old, "missing symbol"), (empty, "no driver")] {
        scenario(name, &[("LD_LIBRARY_PATH", folder.to_str().expect("a path"))]);
    }
}

#[test]
fn weights_that_f16_cannot_hold_are_an_error_that_names_layer_and_remedy() {
    let mut network = crate::common::Network::new(3, crate::common::Numbers::Real, [3, 8, 8]);
    network.layer(serde_json::json!({"name": "big", "op": "conv2d", "input": "image", "kernel": 1}), 8);
    let mut file = network.heads(("big", 2), ("big", 2));
    let tensor =
        file.tensors.iter_mut().find(|tensor| tensor.name == "emotion.big.weight").expect("the weight");
    tensor.data[..4].copy_from_slice(&69_632f32.to_le_bytes());
    let model = file.model();
    let plan = |precision| {
        let options = PlanOptions::new().target(target_without_device()).precision(precision);
        Plan::build(model.clone(), &options)
    };
    let error = plan(Precision::F16).expect_err("no f16");
    assert_eq!((error.kind(), error.place()), (ErrorKind::Plan, "layer `big`"), "{error}");
    assert!(error.expected().contains("bf16") && error.found().contains("69632"), "{error}");
    plan(Precision::BF16).expect("bf16 holds it");
    plan(Precision::F32).expect("f32 holds it");
}

fn target_without_device() -> Target {
    Device::CudaArchitecture { capability: 90 }.resolve().expect("a known architecture").target
}

#[test]
fn an_engine_needs_a_device_that_is_there() {
    let plan = Plan::build(model(), &PlanOptions::new().target(target_without_device()));
    let error = Engine::new(plan.expect("a plan"), &EngineOptions::default()).expect_err("no device");
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
}

fn scenario(name: &str, environment: &[(&str, &str)]) {
    let output = program(std::env::current_exe().expect("this program"))
        .args(["--exact", "faults::scenarios", "--ignored", "--nocapture"])
        .env("AWSNET_SCENARIO", name)
        .envs(environment.iter().copied())
        .output()
        .expect("this program");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("scenario done"), "{name}: {text}");
}

fn device_error(device: Device) -> Error {
    let error = device.resolve().expect_err("no such device");
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    let auto = Device::Auto.resolve().expect("the CPU at least");
    if device == (Device::Cuda { ordinal: 0 }) {
        assert!(matches!(auto.target, Target::Cpu(_)));
        assert!(auto.note.expect("a reason").contains(error.found()), "{error}");
    }
    error
}

/// Waits for a caller's stream.
fn synchronize(caller: &crate::sessions::Caller) -> Result<(), i32> {
    // SAFETY: the stream is alive.
    unsafe { cudarc::driver::result::stream::synchronize(caller.stream) }.map_err(|error| error.0 as i32)
}

fn on(ordinal: usize, model: &Model) -> Session {
    let target = Device::Cuda { ordinal }.resolve().expect("a device").target;
    let plan = Plan::build(model.clone(), &PlanOptions::new().target(target)).expect("a plan");
    Engine::new(plan, &EngineOptions::default()).expect("an engine").session().expect("a session")
}

/// Not a test of its own: what `scenario` starts.
#[test]
#[ignore = "started by the other tests, with a scenario's name"]
fn scenarios() {
    let first = Device::Cuda { ordinal: 0 };
    let model = model();
    let images = images(&model, 1, 1);
    match std::env::var("AWSNET_SCENARIO").as_deref() {
        Ok("little memory") => {
            let error = whole(&model, 512).expect_err("too little memory");
            assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
            assert!(error.expected().contains("smaller batch"), "{error}");
            whole(&model, 1).expect("a smaller batch");
        }
        Ok("poisoned") => {
            let (mut faulty, mut other) = (on(0, &model), on(1, &model));
            let before = other.run(&images).expect("a run").head("au").expect("a head").logits.to_vec();
            faulty.run(&images).expect("a run");
            emulator().fail(4, ILLEGAL_ADDRESS); // the wait for the run
            let error = faulty.run(&images).expect_err("a fault");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            assert!(error.expected().contains("the run"), "{error}");
            let calls = emulator().counters().calls;
            let error = faulty.run(&images).expect_err("a poisoned engine");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            assert_eq!(emulator().counters().calls, calls, "at once");
            assert_eq!(
                other.run(&images).expect("another device").head("au").expect("a head").logits,
                before
            );
        }
        Ok("hanging") => {
            let mut session = on(0, &model);
            session.input_mut().expect("memory to write images to").copy_from_slice(&images);
            let started = Instant::now();
            let deadline = started + Duration::from_millis(200);
            let error = session
                .run_with(Images::Staged(1), RunOptions::new().deadline(deadline))
                .map(drop)
                .expect_err("a run that never ends");
            assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
            assert!(started.elapsed() < Duration::from_secs(20));
            let error = session.run(&images).map(drop).expect_err("a poisoned engine");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            // The device may still be reading the images: nobody writes over them.
            let error = session.input_mut().expect_err("memory that is in use");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            drop(session); // does not wait
        }
        Ok("no device") => assert!(device_error(first).found().contains("CUDA_VISIBLE_DEVICES")),
        Ok("bad ordinal") => {
            let error = device_error(Device::Cuda { ordinal: 7 });
            assert!(error.expected().contains("below 1") && error.found() == "7", "{error}");
        }
        Ok("too old") => {
            let error = device_error(first);
            assert!(error.expected().contains("8.0") && error.found().contains("7.5"), "{error}");
        }
        Ok("newer") => {
            // PTX, or kernels of the driver's own, serve a device that nobody has seen yet.
            on(0, &model).run(&images).expect("a run");
        }
        Ok("less shared memory") => {
            let Target::Cuda(gpu) = gpu() else { panic!("a GPU") };
            assert_eq!(gpu.shared_bytes, 99 * 1024);
            on(0, &model).run(&images).expect("a run");
            // Kernels for sm_86 do not wait for one another: the driver must let them run one by one.
            let counters = emulator().counters();
            assert!(counters.launches > 0 && counters.dependent_launches == 0, "{counters:?}");
        }
        Ok("late fault of a run") => {
            let mut session = on(0, &model);
            let mut other = on(0, &model);
            session.run(&images).expect("the run before the fault");
            let error = session.run(&images).map(drop).expect_err("the fault");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            assert!(error.expected().starts_with("the run (cuStreamSynchronize) to succeed"), "{error}");
            assert!(error.found().contains("ILLEGAL_ADDRESS"), "{error}");
            let calls = emulator().counters().calls;
            let again = session.run(&images).map(drop).expect_err("a poisoned engine");
            assert_eq!(emulator().counters().calls, calls, "at once");
            // Another engine on the device learns of it by its own next call, which does not take the fault for its run's.
            let elsewhere = other.run(&images).map(drop).expect_err("a poisoned device");
            for error in [again, elsewhere] {
                assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
                assert!(!error.expected().contains("the run"), "{error}");
            }
        }
        Ok("late fault of queued work") => {
            let mut session = on(0, &model);
            let caller = crate::sessions::Caller::new(&images, 64);
            let (stream, from, to) = caller.run(1);
            let wait = || synchronize(&caller);
            // SAFETY: stream and memory are the caller's, alive; all runs are in the one stream.
            unsafe {
                let mut bound = session.bind(stream, from, &to).expect("a bound run");
                session.enqueue(stream, from, &to).expect("the run before the fault");
                wait().expect("the run before the fault");
                let logits = caller.read(7);
                assert!(logits.iter().all(|logit| logit.is_finite()), "{logits:?}");
                session.enqueue(stream, from, &to).expect("the fault is still to come");
                session.enqueue(stream, from, &to).expect("nobody has waited yet");
                bound.launch().expect("nobody has waited yet");
                assert_eq!(wait(), Err(ILLEGAL_ADDRESS), "who waits hears of it");
                let errors = [bound.launch(), session.enqueue(stream, from, &to), bound.launch()];
                let errors = errors.map(|result| result.expect_err("a poisoned device"));
                assert!(errors.iter().all(|error| error.kind() == ErrorKind::Poisoned), "{errors:?}");
                assert!(errors[0].expected().contains("all work queued before it"), "{}", errors[0]);
            }
            std::mem::forget(caller); // the device takes no call any more
        }
        Ok("stub") => assert!(device_error(first).found().contains("stub")),
        Ok("missing symbol") => assert!(device_error(first).found().contains("cu")),
        Ok("no driver") => assert!(device_error(first).found().contains("libcuda.so.1")),
        other => panic!("no scenario {other:?}"),
    }
    println!("scenario done");
}
