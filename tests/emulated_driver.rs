//! The emulated driver under cudarc, as the CUDA backend will use it: contexts, modules, streams, capture and replay,
//! asynchronous errors, and failing on request.
//!
//! Tests that leave a device spoiled, or that need the environment, run in a process of their own: this binary again,
//! with the name of the scenario.
#![cfg(feature = "cuda")]

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use awsnet::cuda::abi::{Activation, Epilogue, IdentityParams, Mix};
use awsnet::cuda::image;
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, result, sys};
use cudarc::nvrtc::Ptx;

/// The folder of the library, built once a process.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output =
            Command::new(root.join("tools/emulated-driver")).output().expect("tools/emulated-driver");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
    })
}

/// Runs a scenario in a process of its own, with the emulated driver found as a program's driver is found; returns what
/// it wrote.
fn scenario(name: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "scenarios", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", built())
        .env("AWSNET_SCENARIO", name)
        .envs(environment.iter().copied())
        .output()
        .expect("this program");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("scenario done"), "{environment:?}: {text}");
    text
}

const CHANNELS: usize = 8;

/// A device with the identity kernel: y = mix * x over one position of f32.
struct Setup {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    function: CudaFunction,
    input: CudaSlice<f32>,
    output: CudaSlice<f32>,
    mix: CudaSlice<f32>,
}

fn setup() -> Result<Setup, DriverError> {
    let context = CudaContext::new(0)?;
    // SAFETY: every buffer here is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let module = context.load_module(Ptx::from_binary(image::image().to_vec()))?;
    let function = module.load_function("identity_f32")?;
    let stream = context.new_stream()?;
    let input = stream.clone_htod(&[1f32, 2., 3., 4., 5., 6., 7., 8.])?;
    let output = stream.alloc_zeros::<f32>(2 * CHANNELS)?;
    let mix = stream.clone_htod(&[1f32, 1., 0., 3.])?; // y[0] = 2 x, y[1] = 3 x
    Ok(Setup { context, stream, function, input, output, mix })
}

impl Setup {
    fn params(&self) -> IdentityParams {
        let address = |slice: &CudaSlice<f32>| slice.device_ptr(&self.stream).0;
        let output = address(&self.output);
        IdentityParams {
            epilogue: Epilogue {
                bias: [0; 2],
                residual: [0; 2],
                mix: address(&self.mix),
                output: [output, output + (CHANNELS * size_of::<f32>()) as u64],
                channels: CHANNELS as i32,
                activation: Activation::None,
                mix_kind: Mix::Layer,
                negative_slope: 0.0,
            },
            input: [address(&self.input); 2],
            positions: 1,
        }
    }

    fn launch(&self, mut params: IdentityParams) -> Result<(), DriverError> {
        let mut arguments = [(&raw mut params).cast::<c_void>()];
        let (function, stream) = (self.function.cu_function(), self.stream.cu_stream());
        // SAFETY: the kernel's parameter is an IdentityParams, copied by the call.
        unsafe { result::launch_kernel(function, (1, 1, 1), (128, 1, 1), 0, stream, &mut arguments) }
    }

    fn read(&self) -> Result<Vec<f32>, DriverError> {
        self.stream.clone_dtoh(&self.output)
    }
}

const RESULT: [f32; 2 * CHANNELS] = [2., 4., 6., 8., 10., 12., 14., 16., 3., 6., 9., 12., 15., 18., 21., 24.];

fn captured(setup: &Setup) -> Result<cudarc::driver::CudaGraph, DriverError> {
    setup.stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    let launched = setup.launch(setup.params());
    let graph = setup
        .stream
        .end_capture(sys::CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    launched?;
    graph.map(|graph| graph.expect("something was captured"))
}

fn everything() -> Result<Vec<f32>, DriverError> {
    let setup = setup()?;
    setup.launch(setup.params())?;
    let graph = captured(&setup)?;
    graph.upload()?;
    graph.launch()?;
    graph.launch()?;
    setup.stream.synchronize()?;
    setup.read()
}

/// Not a test of its own: what `scenario` starts.
#[test]
#[ignore = "started by the other tests, with a scenario's name"]
fn scenarios() {
    let code = |e: DriverError| e.0 as u32;
    match std::env::var("AWSNET_SCENARIO").as_deref() {
        Ok("works") => assert_eq!(everything().expect("no error"), RESULT),
        Ok("fails once") => {
            // The call that was chosen fails with the code that was chosen, and nothing panics or hangs; beyond the
            // last call everything succeeds.
            match everything() {
                Err(e) => assert_eq!(code(e), 2),
                Ok(found) => assert_eq!(found, RESULT), // beyond the last call, or one that frees something
            }
        }
        Ok("late") => {
            let setup = setup().expect("a device");
            let graph = captured(&setup).expect("a graph");
            assert_eq!(setup.read().expect("a copy"), [0.0; 2 * CHANNELS], "capturing runs nothing");
            graph.launch().expect("a launch");
            assert_eq!(setup.read().expect("a copy"), RESULT);
        }
        Ok("sticky") => {
            let setup = setup().expect("a device");
            let mut params = setup.params();
            params.input[1] += 1 << 40; // no allocation is there
            setup.launch(params).expect("an asynchronous fault does not show at the launch");
            assert_eq!(setup.stream.synchronize().map_err(code), Err(700));
            assert_eq!(setup.launch(setup.params()).map_err(code), Err(700), "every later call fails");
            assert_eq!(setup.stream.alloc_zeros::<f32>(1).map(drop).map_err(code), Err(700));
        }
        Ok("capture forbids waiting") => {
            let setup = setup().expect("a device");
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            setup.stream.begin_capture(mode).expect("a capture");
            assert_eq!(setup.stream.synchronize().map_err(code), Err(900));
            let flags = sys::CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
            assert_eq!(setup.stream.end_capture(flags).map(drop).map_err(code), Err(901));
        }
        Ok("shared memory") => {
            let setup = setup().expect("a device");
            let optin = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
            let limit = setup.context.attribute(optin).expect("an attribute");
            assert_eq!(limit, 99 * 1024, "of compute capability 8.9");
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            assert_eq!(setup.function.set_attribute(attribute, limit + 1).map_err(code), Err(1));
            setup.function.set_attribute(attribute, limit).expect("the limit itself");
        }
        Ok("no device") => assert_eq!(CudaContext::new(0).map(drop).map_err(code), Err(100)),
        Ok("too old") => {
            let context = CudaContext::new(0).expect("a device");
            let loaded =
                context.load_module(Ptx::from_binary(image::image().to_vec())).map(drop).map_err(code);
            match image::architectures().count() {
                0 => assert_eq!(loaded, Ok(()), "a placeholder loads everywhere"),
                _ => assert_eq!(loaded, Err(209)),
            }
        }
        Ok("bad image") => {
            let context = CudaContext::new(0).expect("a device");
            let loaded = context.load_module(Ptx::from_binary(b"no image at all\0".to_vec()));
            assert_eq!(loaded.map(drop).map_err(code), Err(200));
        }
        Ok("refused") => {
            // SAFETY: the call is refused before it reads anything.
            let status = unsafe { sys::cuMemAllocManaged(std::ptr::null_mut(), 1, 1) };
            assert_eq!(status as u32, 801);
        }
        other => panic!("no scenario {other:?}"),
    }
    println!("scenario done");
}

#[test]
fn a_program_of_cudarc_runs_captures_and_replays() {
    scenario("works", &[]);
}

#[test]
fn a_captured_launch_runs_when_the_graph_does() {
    scenario("late", &[]);
}

#[test]
fn every_call_can_fail() {
    for call in 1..1000 {
        let text = scenario("fails once", &[("AWSNET_EMULATOR_FAIL", &format!("{call}:2"))]);
        if !text.contains("fails as asked") {
            assert!(call > 20, "the program makes more calls than {call}");
            return; // beyond the last call
        }
    }
    panic!("no run comes through");
}

#[test]
fn a_fault_shows_at_the_next_wait_and_stays() {
    scenario("sticky", &[]);
}

#[test]
fn waiting_spoils_a_capture() {
    scenario("capture forbids waiting", &[]);
}

#[test]
fn shared_memory_beyond_the_architecture_is_refused() {
    scenario("shared memory", &[("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "8.9")]);
}

#[test]
fn devices_and_images_are_refused_as_a_driver_does() {
    scenario("no device", &[("CUDA_VISIBLE_DEVICES", "")]);
    scenario("too old", &[("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "7.5")]);
    scenario("bad image", &[]);
}

#[test]
fn calls_that_are_not_emulated_are_refused_by_name() {
    scenario("refused", &[]);
}
