//! The emulated driver under cudarc, as the CUDA backend will use it: contexts, modules, streams, capture and replay,
//! copies and events, asynchronous errors, and what tests ask of it: failing, hanging, counting.
//!
//! Tests that leave a device spoiled, or that need the environment, run in a process of their own: this binary again,
//! with the name of the scenario.

#![cfg(feature = "cuda")]
#![allow(unsafe_code, reason = "calls of the CUDA driver")]

#[path = "common/machine.rs"]
mod machine;

use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use awsnet::__tests::abi::{Activation, Epilogue, IdentityParams, Mix};
use awsnet::__tests::image;
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, result, sys};
use cudarc::nvrtc::Ptx;
use libloading::Library;

/// The folder of the library, built once a process.
fn built() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| machine::emulated_driver(&[])).parent().expect("a folder")
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
                scale: [0; 2],
                slopes: [0; 2],
                scale_positions: 0,
                output_pitch: CHANNELS as i32,
                branches: 2,
                reserved: 0,
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

/// `struct awsnet_emulator_counters`, of the calling thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    calls: u64,
    refused: u64,
    launches: u64,
    bytes_loaded: u64,
    bytes_stored: u64,
    device_memory_calls: u64,
    pinned_memory_calls: u64,
    graph_launches: u64,
    dependent_launches: u64,
}

/// `struct awsnet_emulator_objects`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Objects {
    contexts: u64,
    modules: u64,
    streams: u64,
    events: u64,
    graphs: u64,
    executable_graphs: u64,
    device_allocations: u64,
    pinned_allocations: u64,
    device_bytes: u64,
    pinned_bytes: u64,
}

/// A struct that a function of the emulator's own interface fills in.
fn ask<T: Default>(function: &str) -> T {
    let mut value = T::default();
    // SAFETY: the process runs on the emulated driver, whose functions of these names have these signatures.
    unsafe {
        let library = Library::new("libcuda.so.1").expect("the emulated driver");
        let ask: libloading::Symbol<unsafe extern "C" fn(*mut T)> =
            library.get(function.as_bytes()).expect("the emulator's interface");
        ask(&mut value);
    }
    value
}
fn counters() -> Counters {
    ask("awsnet_emulator_counters")
}
fn objects() -> Objects {
    ask("awsnet_emulator_objects")
}

const NOT_READY: Result<(), u32> = Err(600);

/// A call of the driver: its error as a number.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        #[allow(unused_unsafe)]
        // SAFETY: the arguments are those the driver's documentation asks for; what they name outlives the work.
        match unsafe { sys::$name($($argument),*) } as u32 {
            0 => Ok::<(), u32>(()),
            code => Err(code),
        }
    }};
}

/// Pinned memory of `RESULT`'s length.
fn pinned(values: &[f32]) -> *mut f32 {
    let mut pointer = std::ptr::null_mut();
    call!(cuMemHostAlloc(&mut pointer, RESULT.len() * 4, 0)).expect("pinned memory");
    let pointer = pointer.cast::<f32>();
    for (i, value) in values.iter().enumerate() {
        // SAFETY: the memory holds as many values.
        unsafe { pointer.add(i).write(*value) };
    }
    pointer
}

/// What pinned memory holds now.
fn held(pointer: *const f32) -> Vec<f32> {
    // SAFETY: the memory holds as many values, and nobody runs work while this thread reads.
    unsafe { std::slice::from_raw_parts(pointer, RESULT.len()) }.to_vec()
}

/// Captures what `issue` does on the stream; returns the graph and how many nodes it has.
fn capture(stream: sys::CUstream, issue: impl FnOnce()) -> (sys::CUgraph, usize) {
    let (mut graph, mut nodes) = (std::ptr::null_mut(), 0);
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    call!(cuStreamBeginCapture_v2(stream, mode)).expect("a capture");
    call!(cuStreamIsCapturing(stream, &mut status)).expect("a status");
    assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    issue();
    call!(cuStreamEndCapture(stream, &mut graph)).expect("a graph");
    call!(cuStreamIsCapturing(stream, &mut status)).expect("a status");
    assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    call!(cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes)).expect("a count");
    (graph, nodes)
}

fn instantiate(graph: sys::CUgraph) -> sys::CUgraphExec {
    let mut exec = std::ptr::null_mut();
    call!(cuGraphInstantiateWithFlags(&mut exec, graph, 0)).expect("an executable graph");
    exec
}

/// How often a stream is not ready until it is.
fn polls(stream: sys::CUstream) -> usize {
    (0..100).take_while(|_| call!(cuStreamQuery(stream)) == NOT_READY).count()
}

fn captured_transfers() {
    let setup = setup().expect("a device");
    let stream = setup.stream.cu_stream();
    let address = |slice: &CudaSlice<f32>| slice.device_ptr(&setup.stream).0;
    let (input, output) = (address(&setup.input), address(&setup.output));
    let bytes = CHANNELS * 4;
    let (from, to) = (pinned(&[0.0; 16]), pinned(&[0.0; 16]));
    setup.stream.synchronize().expect("a device");
    let (graph, nodes) = capture(stream, || {
        call!(cuMemcpyHtoDAsync_v2(input, from.cast(), bytes, stream)).expect("a copy");
        setup.launch(setup.params()).expect("a launch");
        call!(cuMemsetD32Async(output, 1f32.to_bits(), 1, stream)).expect("a fill");
        call!(cuMemsetD8Async(output + 4, 0, 4, stream)).expect("a fill");
        call!(cuMemcpyDtoDAsync_v2(output + bytes as u64, output, 8, stream)).expect("a copy");
        call!(cuMemcpyDtoHAsync_v2(to.cast(), output, 2 * bytes, stream)).expect("a copy");
    });
    assert_eq!(nodes, 6);
    let exec = instantiate(graph);
    call!(cuGraphDestroy(graph)).expect("no use any more");
    call!(cuGraphUpload(exec, stream)).expect("an upload");
    // SAFETY: nothing runs now; the graph reads the memory when it does.
    (0..CHANNELS).for_each(|i| unsafe { from.add(i).write(i as f32 + 1.0) });
    assert_eq!(polls(stream), 0, "instantiating runs nothing");
    call!(cuGraphLaunch(exec, stream)).expect("a launch");
    assert_eq!(polls(stream), nodes, "each question runs one node");
    let mut expected = RESULT;
    (expected[0], expected[1], expected[8], expected[9]) = (1.0, 0.0, 1.0, 0.0);
    assert_eq!(held(to), expected);

    // Once more, with the executable graph destroyed while its work is queued.
    // SAFETY: nothing runs now.
    (0..2 * CHANNELS).for_each(|i| unsafe { to.add(i).write(0.0) });
    call!(cuGraphLaunch(exec, stream)).expect("a launch");
    call!(cuGraphExecDestroy(exec)).expect("no use any more");
    assert_eq!(call!(cuGraphLaunch(exec, stream)), Err(400));
    assert_eq!(held(to), [0.0; 16], "queued work runs late");
    call!(cuStreamSynchronize(stream)).expect("no error");
    assert_eq!(held(to), expected);

    // A graph that outlives the memory of its copies.
    let mut address = 0;
    call!(cuMemAlloc_v2(&mut address, 16)).expect("memory");
    let (graph, _) = capture(stream, || {
        call!(cuMemcpyDtoDAsync_v2(output, address, 16, stream)).expect("a copy");
    });
    call!(cuMemFree_v2(address)).expect("no use any more");
    call!(cuGraphLaunch(instantiate(graph), stream)).expect("a launch");
    assert_eq!(call!(cuStreamSynchronize(stream)), Err(700));
}

/// A launch through `cuLaunchKernelEx` with one attribute.
fn launch_with(setup: &Setup, id: sys::CUlaunchAttributeID, value: c_int) -> Result<(), u32> {
    let mut params = setup.params();
    let mut arguments = [(&raw mut params).cast::<c_void>()];
    // SAFETY: plain data; zero is a value of every field.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = id;
    attribute.value.programmaticStreamSerializationAllowed = value;
    let config = sys::CUlaunchConfig {
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 128,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: setup.stream.cu_stream(),
        attrs: &mut attribute,
        numAttrs: 1,
    };
    let function = setup.function.cu_function();
    call!(cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), std::ptr::null_mut()))
}

fn launch_attributes() {
    use sys::CUlaunchAttributeID as Id;
    let setup = setup().expect("a device");
    let serialization = Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    launch_with(&setup, serialization, 1).expect("an attribute that is emulated");
    assert_eq!(setup.read().expect("a copy"), RESULT);
    let output = setup.output.device_ptr(&setup.stream).0;
    call!(cuMemsetD8Async(output, 0, RESULT.len() * 4, setup.stream.cu_stream())).expect("a fill");
    let (graph, nodes) = capture(setup.stream.cu_stream(), || {
        launch_with(&setup, serialization, 1).expect("a launch");
        launch_with(&setup, serialization, 1).expect("a launch");
    });
    assert_eq!(nodes, 2);
    call!(cuGraphLaunch(instantiate(graph), setup.stream.cu_stream())).expect("a launch");
    assert_eq!(setup.read().expect("a copy"), RESULT);
    assert_eq!(launch_with(&setup, Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, 1), Err(801));
}

/// A launch that never ends: `graph` replays it.
fn hanging(graph: bool) {
    let setup = setup().expect("a device");
    let stream = setup.stream.cu_stream();
    let other = setup.context.new_stream().expect("a stream");
    let event = setup.context.new_event(None).expect("an event");
    if graph {
        let (graph, _) = capture(stream, || setup.launch(setup.params()).expect("a launch"));
        call!(cuGraphLaunch(instantiate(graph), stream)).expect("a launch");
    } else {
        setup.launch(setup.params()).expect("a launch");
    }
    event.record(&setup.stream).expect("an event");
    other.wait(&event).expect("an event");
    for _ in 0..50 {
        assert_eq!(call!(cuStreamQuery(stream)), NOT_READY);
        assert_eq!(call!(cuStreamQuery(other.cu_stream())), NOT_READY, "it waits for the launch");
        assert_eq!(call!(cuEventQuery(event.cu_event())), NOT_READY);
    }
    let free = setup.context.new_stream().expect("a stream");
    free.clone_htod(&[1f32]).map(std::mem::forget).expect("a stream of its own goes on");
    free.synchronize().expect("no error");
    drop(other); // a stream's end does not wait for its work
    // Unloading the module or freeing memory would wait for ever: the process ends with them alive.
    std::mem::forget(setup);
}

/// PTX that declares the kernel of [`setup`] with other parameters or threads, behind what nvcc writes before it.
fn ptx(parameters: &str, threads: &str) -> String {
    let head = ".version 9.0\n.target sm_80\n.address_size 64\n// .entry identity_f32(\n/* .entry b */";
    format!("{head}\n.visible .entry identity_f32({parameters})\n{threads}\n{{\n\tret;\n}}\n\0")
}

/// A fat binary with one entry for sm_80: its kind (1: PTX), its payload, and its size once unpacked.
fn fatbin(kind: u16, payload: &[u8], unpacked: u64) -> Vec<u8> {
    let mut entry = vec![0; 64];
    entry[..2].copy_from_slice(&kind.to_le_bytes());
    entry[4..8].copy_from_slice(&64u32.to_le_bytes());
    entry[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    entry[28..32].copy_from_slice(&80u32.to_le_bytes());
    entry[56..].copy_from_slice(&unpacked.to_le_bytes());
    entry.extend(payload);
    let mut image = vec![0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0];
    image.extend((entry.len() as u64).to_le_bytes());
    image.extend(entry);
    image
}

/// What a module's image declares must be what the library holds.
fn entry_points() {
    let context = CudaContext::new(0).expect("a device");
    let bytes = size_of::<IdentityParams>();
    let right = format!(".param .align 8 .b8 identity_f32_param_0[{bytes}]");
    let cut = |by: usize| {
        let mut image = fatbin(1, ptx(&right, "").as_bytes(), 0);
        let length = u64::from_le_bytes(image[8..16].try_into().expect("8 bytes")) - by as u64;
        image[8..16].copy_from_slice(&length.to_le_bytes());
        image
    };
    // The image, and the error of loading it or of getting the kernel.
    let cases: [(&str, Vec<u8>, Result<(), u32>); 14] = [
        ("text", ptx(&right, ".maxntid 128, 1, 1").into(), Ok(())),
        ("text, one extent", ptx(&right, ".maxntid 128").into(), Ok(())),
        ("text, no bound", ptx(&right, ".minnctapersm 7").into(), Ok(())),
        (
            "text, parameters one by one",
            {
                let words = format!(".param .u32 a,\n.param .u64 b, .param .align 16 .b8 c[{}]", bytes - 16);
                ptx(&words, "").into()
            },
            Ok(()),
        ),
        ("text without entry points", b".version 7.0\n.target sm_80\n\0".to_vec(), Ok(())),
        ("more parameters", ptx(&right.replace("[", "[1"), "").into(), Err(200)),
        ("other threads", ptx(&right, ".maxntid 64, 2, 2").into(), Err(200)),
        ("an unknown type", ptx(".param .b128 a", "").into(), Err(200)),
        ("no size", ptx(".param .b8 a[]", "").into(), Err(200)),
        ("another kernel", ptx(&right, "").replace("identity_f32(", "identity(").into(), Err(500)),
        ("fat binary", fatbin(1, ptx(&right, ".maxntid 128, 1, 1").as_bytes(), 0), Ok(())),
        ("fat binary, other threads", fatbin(1, ptx(&right, ".maxntid 64").as_bytes(), 0), Err(200)),
        ("fat binary, compressed", fatbin(1, b"\xf0 anything", 512), Ok(())),
        ("fat binary, cut", cut(8), Err(200)),
    ];
    for (name, image, expected) in cases {
        eprintln!("image: {name}");
        let loaded = context.load_module(Ptx::from_binary(image));
        let found = loaded.and_then(|module| module.load_function("identity_f32").map(drop));
        assert_eq!(found.map_err(|e| e.0 as u32), expected, "{name}");
    }
}

fn events() {
    let setup = setup().expect("a device");
    let other = setup.context.new_stream().expect("a stream");
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let [start, end] = [(); 2].map(|_| setup.context.new_event(timed).expect("an event"));
    let never = setup.context.new_event(None).expect("an event");
    let query = |event: &cudarc::driver::CudaEvent| call!(cuEventQuery(event.cu_event()));
    let elapsed = |a: &cudarc::driver::CudaEvent, b: &cudarc::driver::CudaEvent| {
        let mut milliseconds = f32::NAN;
        call!(cuEventElapsedTime_v2(&mut milliseconds, a.cu_event(), b.cu_event())).map(|()| milliseconds)
    };
    setup.stream.synchronize().expect("no error");
    assert_eq!(query(&start), Ok(()), "never recorded");
    start.record(&setup.stream).expect("an event");
    setup.launch(setup.params()).expect("a launch");
    end.record(&setup.stream).expect("an event");
    assert_eq!(elapsed(&start, &end), Err(600));
    other.wait(&end).expect("an event");
    let read = other.clone_dtoh(&setup.output).expect("a copy"); // its stream runs the other one's work first
    assert_eq!(read, RESULT);
    assert_eq!(query(&end), Ok(()));
    end.synchronize().expect("no error");
    // A launch; its two branches each read and write a vector of f32, and each thread reads the mix.
    let bytes = (2 * 2 * CHANNELS * 4 + 16) as f32;
    assert_eq!(elapsed(&start, &end), Ok((1000.0 + (bytes / 64.0).floor()) / 1e6));
    never.record(&setup.stream).expect("an event");
    never.synchronize().expect("no error");
    assert_eq!(elapsed(&start, &never), Err(400), "an event without timing");
    let mut context = std::ptr::null_mut();
    call!(cuStreamGetCtx(other.cu_stream(), &mut context)).expect("a context");
    assert_eq!(context, setup.context.cu_ctx());
}

fn contexts() {
    let (mut context, mut found, mut device) = (std::ptr::null_mut(), std::ptr::null_mut(), 7);
    call!(cuInit(0)).expect("a driver");
    assert_eq!(call!(cuCtxSynchronize()), Err(201), "no context is current");
    assert_eq!(call!(cuCtxPopCurrent_v2(&mut found)), Err(201));
    call!(cuDevicePrimaryCtxRetain(&mut context, 0)).expect("a context");
    call!(cuDevicePrimaryCtxRetain(&mut found, 0)).expect("a context");
    assert_eq!(found, context, "a device has one primary context");
    assert_eq!(objects(), Objects { contexts: 2, ..Objects::default() });
    call!(cuCtxPushCurrent_v2(context)).expect("a context");
    call!(cuCtxGetCurrent(&mut found)).expect("a context");
    call!(cuCtxGetDevice(&mut device)).expect("a device");
    assert_eq!((found, device), (context, 0));
    call!(cuCtxSynchronize()).expect("no error");
    call!(cuDevicePrimaryCtxRelease_v2(0)).expect("retained twice");
    call!(cuCtxSynchronize()).expect("no error");
    call!(cuDevicePrimaryCtxRelease_v2(0)).expect("retained once");
    assert_eq!(call!(cuCtxSynchronize()), Err(709), "nobody retains it");
    assert_eq!(call!(cuDevicePrimaryCtxRelease_v2(0)), Err(201));
    call!(cuCtxPopCurrent_v2(&mut found)).expect("a context");
    assert_eq!(found, context);
    call!(cuCtxGetCurrent(&mut found)).expect("none");
    assert!(found.is_null());
    assert_eq!(objects(), Objects::default());
}

fn memory() {
    use sys::CUpointer_attribute::*;
    let setup = setup().expect("a device");
    let get = |attribute, address: u64| {
        let mut value: c_int = -1;
        call!(cuPointerGetAttribute((&raw mut value).cast(), attribute, address)).map(|()| value)
    };
    let (mut before, mut after, mut total) = (0, 0, 0);
    call!(cuMemGetInfo_v2(&mut before, &mut total)).expect("figures");
    let mut device = 0;
    call!(cuMemAlloc_v2(&mut device, 1000)).expect("memory");
    let host = pinned(&[]);
    call!(cuMemGetInfo_v2(&mut after, &mut total)).expect("figures");
    assert_eq!(after, before - 1000, "pinned memory is not the device's");
    assert!(before < total);
    assert_eq!(get(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device + 999), Ok(2));
    assert_eq!(get(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host as u64), Ok(1));
    assert_eq!(get(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, device), Ok(0));
    let on_stack = 0;
    assert_eq!(get(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, &raw const on_stack as u64), Err(1));
    assert_eq!(call!(cuMemFree_v2(host as u64)), Err(1), "pinned memory has a call of its own");
    call!(cuMemFreeHost(host.cast())).expect("allocated once");
    assert_eq!(call!(cuMemFreeHost(host.cast())), Err(1));
    call!(cuMemFree_v2(device)).expect("allocated once");
    assert_eq!(call!(cuMemFree_v2(device)), Err(1));
    assert_eq!(get(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, device), Err(1), "freed");

    use sys::CUfunction_attribute::*;
    let function = setup.function.cu_function();
    let (mut threads, mut blocks) = (0, 0);
    call!(cuFuncGetAttribute(&mut threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function))
        .expect("a figure");
    assert_eq!(threads, 128);
    let mut occupancy = |threads, shared_bytes| {
        call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, function, threads, shared_bytes))
            .map(|()| blocks)
    };
    assert_eq!(occupancy(128, 0), Ok(16), "2048 threads");
    assert_eq!(occupancy(32, 0), Ok(32));
    assert_eq!(occupancy(128, 47 << 10), Ok(4), "228 KiB of shared memory, 1 KiB of it for each block");
    assert_eq!(occupancy(256, 0), Ok(0), "beyond the kernel's bounds");
}

fn counting() {
    let before = counters();
    assert_eq!(everything().expect("no error"), RESULT);
    let after = counters();
    assert_eq!(after.launches - before.launches, 3);
    assert_eq!(after.graph_launches - before.graph_launches, 2);
    assert_eq!(after.device_memory_calls - before.device_memory_calls, 6, "three buffers, each freed");
    assert!(after.calls - before.calls > 20);
    assert_eq!(after.bytes_stored - before.bytes_stored, 3 * 2 * CHANNELS as u64 * 4);
    assert_eq!(objects(), Objects::default(), "nothing is left");
    let setup = setup().expect("a device");
    std::mem::forget(setup.context.new_event(None).expect("an event"));
    std::mem::forget(captured(&setup).expect("a graph"));
    pinned(&[]);
    let left = Objects {
        contexts: 1,
        modules: 1,
        streams: 1,
        events: 1,
        graphs: 1,
        executable_graphs: 1,
        device_allocations: 3,
        pinned_allocations: 1,
        device_bytes: (CHANNELS as u64 + 2 * CHANNELS as u64 + 4) * 4,
        pinned_bytes: 64,
    };
    assert_eq!(objects(), left);
    assert_eq!(counters().pinned_memory_calls, 1);
    let of_another_thread = std::thread::spawn(|| counters().calls).join().expect("no panic");
    assert_eq!(of_another_thread, 0);
    drop(setup);
    call!(cuCtxSynchronize()).expect("no error"); // memory freed behind other work goes when that is done
    // cudarc's graph holds its stream, and that the context.
    let left = Objects { modules: 0, device_allocations: 0, device_bytes: 0, ..left };
    assert_eq!(objects(), left);
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
            // Loading may wait too.
            setup.stream.begin_capture(mode).expect("a capture");
            let loaded = setup.context.load_module(Ptx::from_binary(image::image().to_vec()));
            assert_eq!(loaded.map(drop).map_err(code), Err(900));
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
        Ok("entry points") => entry_points(),
        Ok("refused") => {
            // SAFETY: the call is refused before it reads anything.
            let status = unsafe { sys::cuMemAllocManaged(std::ptr::null_mut(), 1, 1) };
            assert_eq!(status as u32, 801);
        }
        Ok("captured transfers") => captured_transfers(),
        Ok("old device") => {
            let setup = setup().expect("a device");
            let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
            assert_eq!(launch_with(&setup, id, 1), Err(801));
        }
        Ok("launch attributes") => launch_attributes(),
        Ok("a launch hangs") => hanging(false),
        Ok("a node hangs") => hanging(true),
        Ok("events") => events(),
        Ok("untimed events") => {
            let setup = setup().expect("a device");
            let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
            let event = setup.stream.record_event(timed).expect("an event");
            event.synchronize().expect("no error");
            assert_eq!(event.elapsed_ms(&event).map_err(code), Err(801), "a machine's time is not a GPU's");
        }
        Ok("contexts") => contexts(),
        Ok("memory") => memory(),
        Ok("counting") => counting(),
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
fn an_image_declares_the_kernels_that_run() {
    let text = scenario("entry points", &[]);
    for said in [
        "takes 1144 bytes of parameters and at most 0 threads in the image's PTX, 144 and 128 in this library",
        "takes 144 bytes of parameters and at most 256 threads in the image's PTX",
        "line 6 of the PTX: expected the type of a parameter, found \".b128\"",
        "line 6 of the PTX: expected the size of a parameter, found \"]\"",
        "the image's PTX has no entry point identity_f32",
        "the PTX of the image is compressed",
        "an entry of the fat binary is longer than what is left of it",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn calls_that_are_not_emulated_are_refused_by_name() {
    scenario("refused", &[]);
}

#[test]
fn copies_and_fills_are_nodes_of_a_graph() {
    scenario("captured transfers", &[]);
}

#[test]
fn a_launch_attribute_is_emulated_or_refused_by_name() {
    let text = scenario("launch attributes", &[]);
    assert!(text.contains("launch attribute COOPERATIVE is not emulated"), "{text}");
    scenario("old device", &[("AWSNET_EMULATOR_COMPUTE_CAPABILITY", "8.6")]);
}

#[test]
fn a_launch_that_hangs_is_never_ready_and_lets_the_process_end() {
    scenario("a launch hangs", &[("AWSNET_EMULATOR_HANG_LAUNCH", "1")]);
    scenario("a node hangs", &[("AWSNET_EMULATOR_HANG_LAUNCH", "1")]);
}

#[test]
fn events_order_streams_and_take_the_time() {
    scenario("events", &[("AWSNET_EMULATOR_CLOCK", "work")]);
    let text = scenario("untimed events", &[]);
    assert!(text.contains("says nothing of a GPU"), "{text}");
}

#[test]
fn a_primary_context_lives_while_somebody_retains_it() {
    scenario("contexts", &[]);
}

#[test]
fn memory_and_functions_answer_questions() {
    scenario("memory", &[]);
}

#[test]
fn calls_and_live_objects_are_counted() {
    let text = scenario("counting", &[("AWSNET_EMULATOR_REPORT", "1")]);
    let left = "left: 1 contexts, 0 modules, 1 streams, 1 events, 1 graphs, 1 executable graphs, 0 device allocations, \
                1 pinned allocations";
    assert!(text.contains(left), "{text}");
}
