//! What `awsnet doctor` and `--device auto` say of a machine, in words a person can act on.

use std::process::Output;

use serde_json::{Value, json};

use crate::device::{counters, program};

fn awsnet(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let output = program(crate::machine::program(env!("CARGO_BIN_EXE_awsnet")))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("awsnet");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn doctor_says_which_device_works_and_what_to_do_where_none_does() {
    if counters().is_none() {
        return; // it takes the settings of the emulated driver
    }
    for (environment, auto, reasons) in [
        ([("AWSNET_EMULATOR_DEVICES", "2")], "cuda:0", &[][..]),
        ([("CUDA_VISIBLE_DEVICES", "")], "cpu", &["an NVIDIA GPU", "CUDA_VISIBLE_DEVICES"]),
        (
            [("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "7.5")],
            "cpu",
            &["compute capability 8.0 or newer", "compute capability 7.5"],
        ),
    ] {
        let doctor = awsnet(&["doctor", "--json"], &environment);
        let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
        assert_eq!(doctor["auto"], auto, "{doctor}");
        let text = String::from_utf8(awsnet(&["doctor"], &environment).stdout).expect("text");
        for reason in reasons {
            assert!(doctor["reason"].as_str().is_some_and(|told| told.contains(reason)), "{doctor}");
            assert!(text.contains(reason), "{text}");
        }
        let devices = doctor["devices"].as_array().expect("devices");
        assert!(devices.iter().all(|device| device["error"].is_null() == (auto != "cpu")), "{doctor}");
        if auto != "cpu" {
            assert_eq!((devices.len(), &doctor["reason"]), (2, &json!(null)), "{doctor}");
        }
    }
}

#[test]
fn auto_takes_the_gpu_where_it_works_and_else_says_once_why_not() {
    if counters().is_none() {
        return; // it takes the settings of the emulated driver
    }
    let model =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/linear.model.safetensors");
    let bench = ["bench", model.to_str().expect("a path"), "--batch", "1,2,3", "--runs", "1"];
    let told = |environment: &[(&str, &str)]| -> Vec<String> {
        let text = String::from_utf8(awsnet(&bench, environment).stderr).expect("text");
        text.lines().filter(|line| line.starts_with("awsnet: ")).map(str::to_owned).collect()
    };
    assert_eq!(told(&[]), [""; 0], "on the GPU there is nothing to say");
    let on_cpu = told(&[("CUDA_VISIBLE_DEVICES", "")]);
    assert_eq!(on_cpu.len(), 1, "{on_cpu:?}");
    assert!(on_cpu[0].contains("running on cpu") && on_cpu[0].contains("CUDA_VISIBLE_DEVICES"), "{on_cpu:?}");
}
