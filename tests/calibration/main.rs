//! The instructions behind the kernels, one by one: the emulator and, where one has been asked, real GPUs.
//!
//! `wrappers.cu` runs every wrapper of kernels/device/ptx.h on the operands of `experiments`, which also says what is
//! right. The emulated driver is judged by it on every run, and so is the device of the driver that
//! `AWSNET_TEST_DRIVER` names, with `wrappers.cu` compiled by nvcc in the file `AWSNET_CALIBRATION_MODULE`.
//! `AWSNET_CALIBRATION_WRITE=FILE` keeps the bits; the files of real GPUs are in `golden`, which says whether there are
//! any yet.

#![allow(unsafe_code, reason = "kernels and their parameters")]

#[allow(dead_code, reason = "the kernel tests use the rest")]
#[path = "../kernels/driver.rs"]
mod driver;
mod experiments;
#[path = "../common/machine.rs"]
mod machine;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use awsnet::__tests::abi::{DevicePointer, Params};
use awsnet::__tests::launch::Launch;
use driver::Stream;
use experiments::{Experiment, Right};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

fn under_test() -> (&'static Path, Cow<'static, [u8]>) {
    static EMULATED: OnceLock<PathBuf> = OnceLock::new();
    let driver = match std::env::var_os("AWSNET_TEST_DRIVER") {
        Some(_) => machine::driver(),
        None => EMULATED.get_or_init(|| machine::emulated_driver(&["--add", "tests/calibration"])),
    };
    match std::env::var_os("AWSNET_CALIBRATION_MODULE") {
        Some(path) => (driver, Cow::Owned(std::fs::read(path).expect("AWSNET_CALIBRATION_MODULE"))),
        // The emulated driver holds the kernels itself.
        None => (driver, Cow::Borrowed(b".version 7.0\n.target sm_80\n.address_size 64\n\0")),
    }
}

/// `calibration_params`.
#[repr(C)]
#[derive(Clone, Copy)]
struct CalibrationParams {
    input: DevicePointer,
    output: DevicePointer,
}
// SAFETY: two addresses, as the kernels of wrappers.cu take them.
unsafe impl Params for CalibrationParams {}

/// The bytes of an experiment's results on the device under test.
fn run(stream: &Stream, experiment: &Experiment) -> Vec<u8> {
    let input = stream.upload(if experiment.input.is_empty() { &[0] } else { &experiment.input });
    let output = stream.upload(&vec![0; experiment.right.len() * experiment.width]);
    let launch = Launch {
        kernel: format!("calibrate_{}", experiment.name),
        grid: [experiment.grid, 1, 1],
        threads: experiment.threads,
        shared_bytes: experiment.shared_bytes,
    };
    stream.launch(&launch, &CalibrationParams { input: input.address, output: output.address });
    stream.download(&output)
}

/// The largest error as a share of its bound, or what is wrong.
fn judge(experiment: &Experiment, found: &[u8]) -> Result<f64, String> {
    let (mut worst, mut wrong) = (0f64, Vec::new());
    assert_eq!(found.len(), experiment.right.len() * experiment.width, "{}", experiment.name);
    for (index, (right, bytes)) in experiment.right.iter().zip(found.chunks(experiment.width)).enumerate() {
        let bits = bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u32::from(byte));
        let value = f32::from_bits(bits);
        let holds = match *right {
            Right::Bits(expected) => bits == expected,
            Right::Nan => value.is_nan(),
            Right::Within { value: expected, bound } => {
                let error = (f64::from(value) - expected).abs();
                if bound > 0.0 {
                    worst = worst.max(error / bound);
                }
                error <= bound
            }
        };
        if !holds {
            wrong.push(format!("result {index} is {bits:#x} ({value:e}), right is {right:x?}"));
        }
    }
    match &wrong[..] {
        [] => Ok(worst),
        [first, ..] => {
            Err(format!("{}: {} of {}: {first}", experiment.name, wrong.len(), experiment.right.len()))
        }
    }
}

/// FNV-1a over the operands of all experiments: bits of other operands are not comparable.
fn checksum(experiments: &[Experiment]) -> String {
    let bytes = experiments.iter().flat_map(|e| e.name.bytes().chain(e.input.iter().copied()));
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// What a device gave, with what it is.
fn write(file: &Path, experiments: &[Experiment], results: &[Vec<u8>], emulated: bool) {
    let driver = awsnet::cuda::probe().expect("a driver");
    let device = &driver.devices[0];
    let metadata = HashMap::from([
        ("device".to_owned(), device.name.clone()),
        ("capability".to_owned(), format!("{}.{}", device.capability.0, device.capability.1)),
        ("driver".to_owned(), format!("{}.{}", driver.version.0, driver.version.1)),
        ("emulated".to_owned(), emulated.to_string()),
        ("operands".to_owned(), checksum(experiments)),
    ]);
    let views = experiments.iter().zip(results).map(|(experiment, bytes)| {
        let dtype = if experiment.width == 2 { Dtype::U16 } else { Dtype::U32 };
        let view = TensorView::new(dtype, vec![experiment.right.len()], bytes);
        (experiment.name, view.expect("a tensor"))
    });
    safetensors::serialize_to_file(views, Some(metadata), file)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

/// Judges the file of a GPU. Returns its line of a report.
fn judge_file(bytes: &[u8], experiments: &[Experiment]) -> Result<String, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let metadata = header.metadata().clone().ok_or("no metadata")?;
    let of = |key: &str| metadata.get(key).map_or("", String::as_str);
    if of("emulated") != "false" {
        return Err("the bits of an emulator".to_owned());
    }
    if of("operands") != checksum(experiments) {
        return Err("the results of other operands: let the GPU run the calibration again".to_owned());
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut worst = 0f64;
    for experiment in experiments {
        let tensor = file.tensor(experiment.name).map_err(|e| e.to_string())?;
        worst = worst.max(judge(experiment, tensor.data())?);
    }
    Ok(format!("{}, driver {}: the largest error is {worst:.3} of its bound", of("device"), of("driver")))
}

#[test]
fn every_wrapper_gives_what_its_definition_says() {
    let stream = Stream::new();
    stream.schedule(1, 1);
    let experiments = experiments::all();
    let results: Vec<Vec<u8>> = experiments.iter().map(|experiment| run(&stream, experiment)).collect();
    if let Some(file) = std::env::var_os("AWSNET_CALIBRATION_WRITE") {
        write(Path::new(&file), &experiments, &results, stream.is_emulated());
    }
    let judged: Vec<_> = experiments.iter().zip(&results).map(|(e, result)| (e, judge(e, result))).collect();
    for (experiment, result) in &judged {
        if let Ok(worst) = result {
            println!("{}: {} results, {worst:.3} of the bound", experiment.name, experiment.right.len());
        }
    }
    let wrong: Vec<String> = judged.into_iter().filter_map(|(_, result)| result.err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_bit_is_noticed_in_every_experiment() {
    for experiment in experiments::all() {
        let mut bytes: Vec<u8> = Vec::new();
        for right in &experiment.right {
            let bits = match *right {
                Right::Bits(bits) => bits,
                Right::Nan => f32::NAN.to_bits(),
                Right::Within { value, .. } => (value as f32).to_bits(),
            };
            bytes.extend(&bits.to_le_bytes()[..experiment.width]);
        }
        judge(&experiment, &bytes).unwrap_or_else(|e| panic!("the definition itself: {e}"));
        for index in [0, experiment.right.len() / 2, experiment.right.len() - 1] {
            let sign = (index + 1) * experiment.width - 1;
            let mut bytes = bytes.clone();
            let zero = Right::Within { value: 0.0, bound: 0.0 };
            // Bit 6 of the highest byte belongs to the exponent: a NaN becomes a number, a number another.
            bytes[sign] ^= if experiment.right[index] == zero { 0x40 } else { 0x41 };
            judge(&experiment, &bytes).expect_err("a wrong bit");
        }
    }
}

/// The bits that GPUs gave, by the definitions; what the emulator gives is judged by the same above, so that both agree
/// exactly wherever the manual leaves no choice.
#[test]
fn the_bits_of_real_gpus_agree() {
    let experiments = experiments::all();
    let folder = machine::home().join("tests/calibration/golden");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let judged = judge_file(&std::fs::read(&path).expect("a file"), &experiments);
            println!("{}", judged.unwrap_or_else(|e| panic!("{}: {e}", path.display())));
            count += 1;
        }
    }
    println!("{count} GPUs have run the calibration");
    let says_none =
        std::fs::read_to_string(folder.join("README.md")).expect("README.md").contains("none yet");
    assert_eq!(says_none, count == 0, "golden/README.md says whether there are any");
}

#[test]
fn a_file_of_bits_is_read_back_and_judged() {
    let stream = Stream::new();
    let experiments = experiments::all();
    let mut results: Vec<Vec<u8>> = experiments.iter().map(|experiment| run(&stream, experiment)).collect();
    let file = machine::scratch("calibration").join("bits.safetensors");
    let judge_written = |results: &[Vec<u8>], emulated| {
        write(&file, &experiments, results, emulated);
        judge_file(&std::fs::read(&file).expect("the file"), &experiments)
    };
    assert!(judge_written(&results, false).is_ok());
    assert!(judge_written(&results, true).unwrap_err().contains("emulator"));
    results[0][0] ^= 1;
    assert!(judge_written(&results, false).unwrap_err().contains(experiments[0].name));
    let mut others = experiments::all();
    others[0].input[0] ^= 1;
    let error = judge_file(&std::fs::read(&file).expect("the file"), &others).unwrap_err();
    assert!(error.contains("other operands"), "{error}");
}

#[test]
fn every_wrapper_is_calibrated() {
    let source = |path: &str| std::fs::read_to_string(machine::home().join(path)).expect(path);
    let wrappers = source("kernels/device/ptx.h");
    let declared: BTreeSet<&str> = wrappers
        .lines()
        .filter(|line| line.starts_with("DEVICE "))
        .map(|line| line.split('(').next().expect("a declaration"))
        .map(|before| before.rsplit([' ', '*']).next().expect("a name"))
        .map(|name| name.split('<').next().expect("a name"))
        .collect();
    assert!(declared.len() > 15, "{declared:?}");
    let kernels = source("tests/calibration/wrappers.cu");
    // What cp_async_16 and ldmatrix_x4 turn their addresses with, and what await_predecessor calls, which begins every
    // kernel.
    let inner = ["shared_address", "griddepcontrol_wait", "griddepcontrol_launch_dependents"];
    let missing: Vec<_> =
        declared.iter().filter(|name| !kernels.contains(*name) && !inner.contains(name)).collect();
    assert!(missing.is_empty(), "wrappers.cu never calls {missing:?}");
    let run: BTreeSet<String> = experiments::all().iter().map(|e| format!("calibrate_{}", e.name)).collect();
    let defined = kernels.split("AWSNET_KERNEL(").skip(1).map(|rest| rest.split(',').next().expect("a name"));
    assert_eq!(defined.map(str::to_owned).collect::<BTreeSet<_>>(), run);
}
