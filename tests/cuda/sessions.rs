//! What a session promises: how it is fed, what a run costs, what it leaves alone.

use std::time::{Duration, Instant};

use awsnet::cuda::{DeviceImages, DevicePredictions, PixelFormat, Stream};
use awsnet::model::init::Architecture;
use awsnet::{Engine, EngineOptions, ErrorKind, Images, ImagesU8, Plan, PlanOptions, Precision, RunOptions};
use cudarc::driver::{result, sys};

use crate::device::{Counters, counters, emulator, gpu, shared};
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
    // Every kernel but the first may start before its predecessor has ended.
    let dependent_launches = launches - 1;
    let expected = Counters { calls: 5, launches, memory_calls: 0, graph_launches: 1, dependent_launches };
    assert_eq!(after - before, expected);
}

#[test]
fn a_number_between_the_captured_sizes_is_padded() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "layer");
    let options = PlanOptions::new().target(gpu()).batch(5);
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
    let of = |pixels| {
        ImagesU8::new(pixels, w, h, c).count(count).row_stride(row_stride).image_stride(image_stride)
    };
    let images = of(&pixels);
    for precision in crate::PRECISIONS {
        let mut session = session(&model, precision, count);
        let expected: Vec<f32> =
            session.run(&floats).expect("a run").head("au").expect("a head").logits.to_vec();
        let found = session.run(images).expect("a run").head("au").expect("a head").logits.to_vec();
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
        (images.count(0), "images"),
        (images.count(3), "images"),
        (images.row_stride(w * c - 1), "row stride"),
        (images.image_stride((h - 1) * row_stride), "image stride"),
        (of(&pixels[..image_stride + 9]), "images"),
        (images.row_stride(usize::MAX), "image stride"),
    ] {
        let error = session.run(images).expect_err("a wrong batch");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
    }
    session.run(images).expect("a session that still works");
}

/// A context, a stream and memory of the caller's own, made with the driver's API.
pub struct Caller {
    pub stream: sys::CUstream,
    pub pixels: u64,
    pub results: u64,
}

impl Caller {
    pub fn new(pixels: &[f32], results: usize) -> Caller {
        // SAFETY: the driver is loaded; freed by `drop`.
        unsafe {
            result::init().expect("a driver");
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

    /// The emotion's logits for `count` images, in and out of its own memory.
    pub fn run(&self, count: usize) -> (Stream, DeviceImages, DevicePredictions) {
        let images = DeviceImages::new(self.pixels, PixelFormat::F32, count);
        let predictions = DevicePredictions::new().logits(0, self.results);
        (Stream(self.stream.cast()), images, predictions)
    }

    pub fn read(&self, len: usize) -> Vec<f32> {
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
    let expected = own.run(&images).expect("a run").head("emotion").expect("a head").logits.to_vec();

    let caller = Caller::new(&images, expected.len());
    let (stream, from, to) = caller.run(2);
    let mut session = session(&model, Precision::F16, 2);
    // SAFETY: stream and memory are the caller's, alive; each run is waited for before the next is read.
    unsafe {
        session.enqueue(stream, from, &to).expect("a run that captures");
        assert_eq!(caller.read(expected.len()), expected);

        let zeros = vec![0.0; expected.len()];
        result::memcpy_htod_sync(caller.results, &zeros).expect("a copy");
        let before = counters();
        session.enqueue(stream, from, &to).expect("a run");
        if let (Some(before), Some(after)) = (before, counters()) {
            // cuCtxGetCurrent, cuStreamGetCtx, cuStreamIsCapturing, cuGraphLaunch: the caller's context is current.
            let made = after - before;
            assert_eq!((made.calls, made.memory_calls, made.graph_launches), (4, 0, 1));
        }
        assert_eq!(caller.read(expected.len()), expected);

        result::memcpy_htod_sync(caller.results, &zeros).expect("a copy");
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        result::stream::begin_capture(caller.stream, mode).expect("a capture");
        session.enqueue(stream, from, &to).expect("launches into the capture");
        let graph = result::stream::end_capture(caller.stream).expect("a graph");
        let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)).expect("a graph");
        assert_eq!(caller.read(expected.len()), zeros, "captured, not run");
        result::graph::launch(exec, caller.stream).expect("a launch");
        assert_eq!(caller.read(expected.len()), expected);
        result::graph::exec_destroy(exec).expect("a graph");
        result::graph::destroy(graph).expect("a graph");

        let images = |pixels, count| DeviceImages::new(pixels, PixelFormat::F32, count);
        for (images, predictions, place) in [
            (images(caller.pixels, 3), to.clone(), "images"),
            (images(caller.pixels, 0), to.clone(), "images"),
            (images(0, 2), to.clone(), "images"),
            (images(caller.pixels + 2, 2), to.clone(), "device address"),
            (from, to.clone().logits(0, caller.results + 1), "device address"),
        ] {
            let error = session.enqueue(stream, images, &predictions).expect_err("a wrong call");
            assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
        }
    }
}

#[test]
fn a_bound_run_is_one_graph_launch_and_no_other_call() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "dense");
    let buffers = [3, 4].map(|seed| images(&model, seed, 1));
    let mut session = session(&model, Precision::F16, 1);
    let expected = buffers
        .each_ref()
        .map(|images| session.run(images).expect("a run").head("emotion").expect("a head").logits.to_vec());
    let callers = buffers.each_ref().map(|images| Caller::new(images, expected[0].len()));
    let stream = callers[0].run(1).0;
    // SAFETY: stream and memory are the callers', alive; all runs are in the one stream.
    unsafe {
        let mut bound = callers.each_ref().map(|caller| {
            let (_, images, predictions) = caller.run(1);
            session.bind(stream, images, &predictions).expect("a bound run")
        });
        let launches = session.plan().launches() as u64;
        drop(session); // what is bound holds what it needs
        for _ in 0..2 {
            let before = counters();
            for bound in &mut bound {
                bound.launch().expect("a launch");
            }
            let launched = counters();
            result::stream::synchronize(callers[0].stream).expect("the work");
            if let (Some(before), Some(launched), Some(after)) = (before, launched, counters()) {
                let nothing_ran_yet = Counters { calls: 2, graph_launches: 2, ..Counters::default() };
                assert_eq!(launched - before, nothing_ran_yet);
                let made = after - before;
                assert_eq!((made.launches, made.dependent_launches), (2 * launches, 2 * (launches - 1)));
            }
            for (caller, expected) in callers.iter().zip(&expected) {
                assert_eq!(&caller.read(expected.len()), expected);
            }
        }
        // Another thread has no context. A driver takes the stream's, or says that there is none, and nothing is harmed.
        let [mut first, _second] = bound;
        let (mut first, launched) = std::thread::spawn(move || {
            let launched = first.launch();
            (first, launched)
        })
        .join()
        .expect("no panic");
        if let Err(error) = launched {
            assert_eq!(error.kind(), ErrorKind::Device, "{error}");
            assert!(error.found().contains("INVALID_CONTEXT"), "{error}");
        }
        first.launch().expect("a launch");
        assert_eq!(callers[0].read(expected[0].len()), expected[0]);
    }
}

#[test]
fn what_cannot_be_bound_is_refused() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "none");
    let images = images(&model, 3, 1);
    let caller = Caller::new(&images, 8);
    let (stream, from, to) = caller.run(1);
    let mut session = session(&model, Precision::F16, 1);
    // SAFETY: stream and memory are the caller's, alive; nothing is launched.
    unsafe {
        for (images, predictions, place) in [
            (DeviceImages::new(caller.pixels, PixelFormat::F32, 2), to.clone(), "images"),
            (DeviceImages::new(0, PixelFormat::F32, 1), to.clone(), "images"),
            (from, to.clone().logits(0, caller.results + 1), "device address"),
        ] {
            let error = session.bind(stream, images, &predictions).expect_err("a wrong call");
            assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
        }
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        result::stream::begin_capture(caller.stream, mode).expect("a capture");
        let error = session.bind(stream, from, &to).expect_err("a stream that is captured");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, "stream"), "{error}");
        let graph = result::stream::end_capture(caller.stream).expect("the capture is unharmed");
        result::graph::destroy(graph).expect("a graph");

        // Each driver call of a binding fails in turn.
        let engine = engine(&model, Precision::F16, 1);
        for call in 1.. {
            if counters().is_none() {
                break; // a real driver does not fail on demand
            }
            let mut session = engine.session().expect("a session");
            let before = emulator().counters().calls;
            emulator().fail(call, 801);
            let bound = session.bind(stream, from, &to);
            let made = emulator().counters().calls - before;
            emulator().fail(0, 0);
            match bound {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Device, "call {call}: {error}"),
                Ok(_) if made < call => break,
                Ok(_) => {} // giving the captured graph back may fail unnoticed
            }
            assert!(call < 100, "a binding makes fewer calls");
        }
        session.bind(stream, from, &to).expect("a bound run").launch().expect("a launch");
        result::stream::synchronize(caller.stream).expect("the work");
    }
}

#[test]
fn the_devices_cache_is_evicted_by_a_buffer_that_stays() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "none");
    let images = images(&model, 3, 1);
    let mut session = session(&model, Precision::F16, 1);
    let expected = crate::bits(&mut session, &images);
    for memory_calls in [1, 0] {
        let before = counters();
        session.evict_device_cache().expect("a fill");
        if let (Some(before), Some(after)) = (before, counters()) {
            assert_eq!((after - before).memory_calls, memory_calls);
        }
        assert_eq!(crate::bits(&mut session, &images), expected);
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
fn staged_images_give_what_the_callers_own_give() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "layer");
    let images = images(&model, 4, 2);
    let mut session = session(&model, Precision::F16, 2);
    let expected = crate::bits(&mut session, &images);
    let error = session.run(Images::Staged(2)).expect_err("nothing staged");
    assert_eq!((error.kind(), error.place()), (ErrorKind::Input, "images"), "{error}");
    session.input_mut().expect("memory").copy_from_slice(&images);
    for _ in 0..2 {
        assert_eq!(crate::bits(&mut session, Images::Staged(2)), expected, "what is staged stays");
    }
}

#[test]
fn a_deadline_that_is_kept_changes_nothing() {
    let _device = shared();
    let model = random_model(Architecture::Tiny, 32, "none");
    let images = images(&model, 3, 1);
    let mut session = session(&model, Precision::F32, 1);
    let expected = crate::bits(&mut session, &images);
    let deadline = Instant::now() + Duration::from_secs(600);
    let found = session.run_with(&images, RunOptions::new().deadline(deadline)).expect("a run in time");
    let logits = found.iter().next().expect("an image").head("emotion").expect("a head").logits.to_vec();
    assert_eq!(logits.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected[0][..logits.len()]);
}
