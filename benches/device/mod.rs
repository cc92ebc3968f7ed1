//! Timing a network on a device: wall time on a CPU, the device's own events on a GPU.

#![allow(dead_code, reason = "each benchmark uses a part")]
#![allow(unsafe_code, reason = "instructions and driver calls that are timed")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use awsnet::__tests::Random;
use awsnet::cuda::{DeviceImages, DevicePredictions, PixelFormat, Stream};
use awsnet::{Device, Engine, EngineOptions, Model, Plan, PlanOptions, Session, Target, cuda};
use cudarc::driver::{result, sys};

/// The name of the emulated driver's device: this machine's CPU, whose time says nothing of a GPU.
const EMULATOR: &str = "awsnet emulator";

/// The CPU, and the first GPU where there is a real one that works; says why there is none.
pub fn targets() -> Vec<(&'static str, Target)> {
    let mut targets = vec![("cpu", Device::Cpu.resolve().expect("a CPU").target)];
    let emulated = |driver: &cuda::Driver| driver.devices[0].name == EMULATOR;
    match (cuda::probe(), Device::Cuda { ordinal: 0 }.resolve()) {
        (Ok(driver), Ok(_)) if emulated(&driver) => {
            eprintln!("no GPU is timed: the driver is the emulated one, and its time is not a GPU's");
        }
        (Ok(_), Ok(gpu)) => targets.push(("cuda", gpu.target)),
        (_, Err(error)) | (Err(error), _) => eprintln!("no GPU is timed: {}", error.found()),
    }
    targets
}

/// The numbers of threads that are worth timing: one, and one a processor.
pub fn threads(target: Target) -> Vec<usize> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if matches!(target, Target::Cuda(_)) || processors == 1 { vec![1] } else { vec![1, processors] }
}

/// Random pixels, the same every time.
pub fn images(model: &Model, count: usize) -> Vec<f32> {
    let mut random = Random::new(1);
    (0..count * model.input().shape.len()).map(|_| random.between(-1.0, 1.0)).collect()
}

/// A network with its images, ready to be run again and again.
pub struct Timed {
    pub session: Session,
    images: Vec<f32>,
    gpu: Option<Gpu>,
}

impl Timed {
    pub fn new(model: &Model, target: Target, batch: usize, threads: usize) -> Self {
        let options = PlanOptions::new().target(target).batch(batch);
        let plan = Plan::build(model.clone(), &options).expect("a plan");
        let options = EngineOptions::new().threads(threads);
        let session = Engine::new(plan, &options).expect("an engine").session().expect("a session");
        let images = images(model, batch);
        let gpu = matches!(target, Target::Cuda(_)).then(|| Gpu::new(&images, batch));
        Timed { session, images, gpu }
    }

    /// The time of so many runs behind one that does not count: on a CPU from images to predictions, on a GPU from
    /// the first of its kernels to the last, images and predictions staying in its memory.
    pub fn time(&mut self, runs: u64) -> Duration {
        if let Some(gpu) = &self.gpu {
            return gpu.time(&mut self.session, runs);
        }
        let mut run = || {
            black_box(self.session.run(black_box(&self.images)).expect("a run").len());
        };
        run();
        let started = Instant::now();
        (0..runs).for_each(|_| run());
        started.elapsed()
    }
}

/// What queued runs on a GPU need: a stream, two events around them, images in device memory.
struct Gpu {
    stream: sys::CUstream,
    events: [sys::CUevent; 2],
    images: DeviceImages,
}

impl Gpu {
    fn new(images: &[f32], count: usize) -> Self {
        // SAFETY: the driver is there, a session runs on it; all is freed when the process ends.
        unsafe {
            let device = result::device::get(0).expect("a device");
            let context = result::primary_ctx::retain(device).expect("its context");
            result::ctx::set_current(context).expect("a context");
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking).expect("a stream");
            let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).expect("an event");
            let pixels = result::malloc_sync(size_of_val(images)).expect("memory");
            result::memcpy_htod_sync(pixels, images).expect("a copy");
            let images = DeviceImages::new(pixels, PixelFormat::F32, count);
            Gpu { stream, events: [event(), event()], images }
        }
    }

    fn time(&self, session: &mut Session, runs: u64) -> Duration {
        let [start, end] = self.events;
        // SAFETY: the stream, the events and the images' memory are `new`'s, and live as long as the process.
        unsafe {
            let mut run = || {
                let stream = Stream(self.stream.cast());
                session.enqueue(stream, self.images, &DevicePredictions::new()).expect("a queued run");
            };
            run();
            result::event::record(start, self.stream).expect("an event");
            (0..runs).for_each(|_| run());
            result::event::record(end, self.stream).expect("an event");
            result::stream::synchronize(self.stream).expect("the work");
            let milliseconds = result::event::elapsed(start, end).expect("a time");
            Duration::from_secs_f64(f64::from(milliseconds) / 1e3)
        }
    }
}
