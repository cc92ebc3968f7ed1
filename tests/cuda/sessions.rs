//! What a session promises: how it is fed, what a run costs, what it leaves alone.

use std::time::{Duration, Instant};

use awsnet::cuda::{DeviceImages, DevicePredictions, PixelFormat, Stream};
use awsnet::model::init::Architecture;
use awsnet::{Branch, Engine, EngineOptions, ErrorKind, ImagesU8, Plan, PlanOptions, Precision};
use cudarc::driver::{result, sys};

use crate::device::{Counters, counters, gpu, shared};
use crate::{engine, images, random_model, session};

#[test]
fn a_run_of_a_captured_network_is_one_graph_launch_and_a_wait() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "channel");
    let mut session = session(&model, Precision::F16, 1);
    let images = images(&model, 1, 1);
    session.run(&images).expect("a run that captures");
    let before = counters();
    session.run(&images).expect("a run");
    let (Some(before), Some(after)) = (before, counters()) else {
        return; // a real driver does not count
    };
    // cuCtxGetCurrent, cuCtxPushCurrent, cuGraphLaunch, cuStreamSynchronize, cuCtxPopCurrent.
    let launches = session.plan().launches() as u64;
    let expected = Counters { calls: 5, launches, memory_calls: 0, graph_launches: 1 };
    assert_eq!(after - before, expected);
}

#[test]
fn a_number_between_the_captured_sizes_is_padded() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "layer");
    let options = PlanOptions { target: gpu(), batch: 5, ..PlanOptions::default() };
    let plan = Plan::build(model.clone(), &options).expect("a plan");
    let mut at_start =
        Engine::new(plan, &EngineOptions::default()).expect("an engine").session().expect("a session");
    let mut on_first_use = session(&model, Precision::F16, 5);
    for count in 1..=5 {
        let images = images(&model, count as u64, count);
        let first = crate::bits(&mut at_start, &images);
        assert_eq!(first.len(), count);
        assert_eq!(crate::bits(&mut on_first_use, &images), first, "{count} images");
    }
}

#[test]
fn bytes_give_what_the_floats_they_stand_for_give() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "channel");
    let input = model.input().clone();
    let (c, h, w) = (input.shape.channels, input.shape.height, input.shape.width);
    let (count, row_stride) = (2, w * c + 5);
    let image_stride = h * row_stride + 7;
    let pixels: Vec<u8> = (0..count * image_stride).map(|i| (i * 7919 % 251) as u8).collect();
    let mut floats = vec![0.0; count * input.shape.len()];
    for (index, value) in floats.iter_mut().enumerate() {
        let (n, ch, y, x) = (index / (c * h * w), index / (h * w) % c, index / w % h, index % w);
        let byte = pixels[n * image_stride + y * row_stride + x * c + ch];
        *value = (f32::from(byte) / 255.0 - input.mean[ch]) / input.std[ch];
    }
    let images = ImagesU8 { pixels: &pixels, count, row_stride, image_stride };
    for precision in crate::PRECISIONS {
        let mut session = session(&model, precision, count);
        let expected: Vec<f32> = session.run(&floats).expect("a run").scores(Branch::Au).logits.to_vec();
        let found = session.run_u8(images).expect("a run").scores(Branch::Au).logits.to_vec();
        let tolerance = if precision == Precision::BF16 { 5e-2 } else { 1e-2 };
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() <= tolerance * expected.abs().max(1.0),
                "{precision}: {found}, {expected}"
            );
        }
    }
    let mut session = session(&model, Precision::F16, count);
    for (images, place) in [
        (ImagesU8 { count: 0, ..images }, "images"),
        (ImagesU8 { count: 3, ..images }, "images"),
        (ImagesU8 { row_stride: w * c - 1, ..images }, "row stride"),
        (ImagesU8 { image_stride: (h - 1) * row_stride, ..images }, "image stride"),
        (ImagesU8 { pixels: &pixels[..image_stride + 9], ..images }, "images"),
        (ImagesU8 { row_stride: usize::MAX, ..images }, "image stride"),
    ] {
        let error = session.run_u8(images).expect_err("a wrong batch");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
    }
    session.run_u8(images).expect("a session that still works");
}

/// A context, a stream and memory of the caller's own, made with the driver's API.
struct Caller {
    stream: sys::CUstream,
    pixels: u64,
    results: u64,
}

impl Caller {
    fn new(pixels: &[f32], results: usize) -> Caller {
        // SAFETY: the driver is loaded; freed by `drop`.
        unsafe {
            let device = result::device::get(0).expect("a device");
            let context = result::primary_ctx::retain(device).expect("its context");
            result::ctx::set_current(context).expect("a context");
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking).expect("a stream");
            let memory = result::malloc_sync(size_of_val(pixels)).expect("memory");
            result::memcpy_htod_sync(memory, pixels).expect("a copy");
            let results = result::malloc_sync(results * size_of::<f32>()).expect("memory");
            Caller { stream, pixels: memory, results }
        }
    }

    fn read(&self, len: usize) -> Vec<f32> {
        let mut values = vec![0.0; len];
        // SAFETY: as long as the memory that `new` allocated.
        unsafe {
            result::stream::synchronize(self.stream).expect("the work");
            result::memcpy_dtoh_sync(&mut values, self.results).expect("a copy");
        }
        values
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            let _ = result::free_sync(self.pixels);
            let _ = result::free_sync(self.results);
            let _ = result::ctx::set_current(std::ptr::null_mut());
            let _ = result::device::get(0).and_then(|device| result::primary_ctx::release(device));
        }
    }
}

#[test]
fn work_is_queued_on_a_callers_stream_and_into_its_capture() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "channel");
    let images = images(&model, 3, 2);
    let mut own = session(&model, Precision::F16, 2);
    let expected = own.run(&images).expect("a run").scores(Branch::Emotion).logits.to_vec();

    let caller = Caller::new(&images, expected.len());
    let stream = Stream(caller.stream.cast());
    let from = DeviceImages { pixels: caller.pixels, format: PixelFormat::F32, count: 2 };
    let to = DevicePredictions { logits: [caller.results, 0], probabilities: [0; 2] };
    let mut session = session(&model, Precision::F16, 2);
    // SAFETY: stream and memory are the caller's, alive; each run is waited for before the next is read.
    unsafe {
        session.enqueue(stream, from, to).expect("a run that captures");
        assert_eq!(caller.read(expected.len()), expected);

        let zeros = vec![0.0; expected.len()];
        result::memcpy_htod_sync(caller.results, &zeros).expect("a copy");
        let before = counters();
        session.enqueue(stream, from, to).expect("a run");
        if let (Some(before), Some(after)) = (before, counters()) {
            // cuCtxGetCurrent, cuStreamGetCtx, cuStreamIsCapturing, cuGraphLaunch: the caller's context is current.
            let made = after - before;
            assert_eq!((made.calls, made.memory_calls, made.graph_launches), (4, 0, 1));
        }
        assert_eq!(caller.read(expected.len()), expected);

        result::memcpy_htod_sync(caller.results, &zeros).expect("a copy");
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        result::stream::begin_capture(caller.stream, mode).expect("a capture");
        session.enqueue(stream, from, to).expect("launches into the capture");
        let graph = result::stream::end_capture(caller.stream).expect("a graph");
        let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)).expect("a graph");
        assert_eq!(caller.read(expected.len()), zeros, "captured, not run");
        result::graph::launch(exec, caller.stream).expect("a launch");
        assert_eq!(caller.read(expected.len()), expected);
        result::graph::exec_destroy(exec).expect("a graph");
        result::graph::destroy(graph).expect("a graph");

        for (images, predictions, place) in [
            (DeviceImages { count: 3, ..from }, to, "images"),
            (DeviceImages { count: 0, ..from }, to, "images"),
            (DeviceImages { pixels: 0, ..from }, to, "images"),
            (DeviceImages { pixels: from.pixels + 2, ..from }, to, "device address"),
            (from, DevicePredictions { logits: [caller.results + 1, 0], ..to }, "device address"),
        ] {
            let error = session.enqueue(stream, images, predictions).expect_err("a wrong call");
            assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
        }
    }
}

#[test]
fn the_callers_current_context_stays_as_it_was() {
    let _device = shared();
    gpu(); // starts the driver
    let current = || result::ctx::get_current().expect("the driver");
    let model = random_model(Architecture::Tiny, 32, "none");
    let images = images(&model, 3, 1);
    assert!(current().is_none(), "a fresh thread");
    let mut session = session(&model, Precision::F32, 1);
    session.run(&images).expect("a run");
    assert!(current().is_none());
    drop(session);
    assert!(current().is_none());
}

#[test]
fn sessions_of_one_engine_run_on_threads_of_their_own() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "gate");
    let engine = engine(&model, Precision::F16, 2);
    let images = images(&model, 9, 2);
    let expected = crate::bits(&mut engine.session().expect("a session"), &images);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = engine.session().expect("a session");
                for _ in 0..3 {
                    assert_eq!(crate::bits(&mut session, &images), expected);
                }
            });
        }
    });
}

#[test]
fn a_deadline_that_is_kept_changes_nothing() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "none");
    let images = images(&model, 3, 1);
    let mut session = session(&model, Precision::F32, 1);
    let expected = crate::bits(&mut session, &images);
    let deadline = Instant::now() + Duration::from_secs(600);
    let found = session.run_by(&images, deadline).expect("a run in time");
    let logits = found.iter().next().expect("an image").logits(Branch::Emotion).to_vec();
    assert_eq!(logits.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected[0][..logits.len()]);
}
