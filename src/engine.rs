//! A plan made ready to run, and the sessions that run it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cpu::{self, CpuSession};
use crate::cuda;
#[cfg(feature = "cuda")]
use crate::cuda::{CudaEngine, CudaSession};
use crate::error::{Error, ErrorKind, Result};
use crate::pixels::{self, ImagesU8, Normalised, Pixels, check_stride_sizes, check_strides};
use crate::plan::{BackendPlan, Plan, Target, ValueId, Work};
use crate::predictions::{PredictionBuffers, Predictions};
use crate::reference;
use crate::tensor::{Branch, Shape};

/// How an engine runs.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Threads of each session, the caller's included; 0 takes one a processor.
    ///
    /// The results are the same bits whatever the number. A GPU needs the caller's only.
    pub threads: usize,
    /// On a GPU: when a session captures its CUDA graphs.
    pub graphs: Graphs,
}

/// When a session on a GPU captures the CUDA graphs that its runs replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Graphs {
    /// When it is made: for one image, for every power of two below the plan's batch, and for the batch. A run of a
    /// number in between computes as many images as the next of them, and takes as long.
    #[default]
    AtStart,
    /// For each number of images when it is first run, which takes longer that once; no image is computed in vain.
    OnFirstUse,
}

/// A plan with everything that callers share. Immutable; clone it or share it between threads.
#[derive(Clone, Debug)]
pub struct Engine {
    plan: Arc<Plan>,
    threads: usize,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "of a GPU's sessions"))]
    graphs: Graphs,
    #[cfg(feature = "cuda")]
    cuda: Option<Arc<CudaEngine>>,
}

impl Engine {
    /// Makes a plan ready to run.
    ///
    /// On a GPU, loads the kernels and uploads the weights. Errors: an instruction set that this processor does not
    /// have, more than 1024 threads; a GPU that is not there, does not have the memory or refuses to work.
    #[cfg_attr(not(feature = "cuda"), expect(unused_mut, reason = "a GPU's weights move to the device"))]
    pub fn new(mut plan: Plan, options: &EngineOptions) -> Result<Self> {
        if let Target::Cpu(isa) = plan.target()
            && !isa.is_available()
        {
            let expected = format!("a processor with {isa}, for which the plan was made");
            return Err(Error::new(ErrorKind::Device, "cpu", expected, "one without"));
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(cpu::MAX_THREADS),
            threads => threads,
        };
        if threads > cpu::MAX_THREADS {
            let expected = format!("from 1 to {}", cpu::MAX_THREADS);
            return Err(Error::new(ErrorKind::Input, "threads", expected, threads.to_string()));
        }
        #[cfg(feature = "cuda")]
        let cuda = match &mut plan.backend {
            BackendPlan::Cuda(plan) => Some(Arc::new(CudaEngine::new(plan)?)),
            _ => None,
        };
        #[cfg(not(feature = "cuda"))]
        if let BackendPlan::Cuda(_) = &plan.backend {
            let expected = "awsnet with the feature `cuda`";
            return Err(Error::new(ErrorKind::Device, "cuda", expected, "a build without it"));
        }
        Ok(Engine {
            plan: Arc::new(plan),
            threads,
            graphs: options.graphs,
            #[cfg(feature = "cuda")]
            cuda,
        })
    }

    /// The plan that the engine runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads of each session, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A session: one caller's memory and threads.
    ///
    /// Errors: not enough memory for the arena, no thread to be had, a device that refuses to work.
    pub fn session(&self) -> Result<Session> {
        let plan = &*self.plan;
        let backend = match &plan.backend {
            BackendPlan::Reference(_) => BackendSession::Reference,
            BackendPlan::Cpu(cpu_plan) => {
                let bytes = plan.arena_bytes();
                if let Some(available) =
                    crate::memory::available_bytes().filter(|&available| available < bytes)
                {
                    let expected =
                        format!("{bytes} bytes of memory for feature maps at batch {}", plan.batch());
                    return Err(Error::new(
                        ErrorKind::Memory,
                        "arena",
                        expected,
                        format!("{available} available"),
                    ));
                }
                BackendSession::Cpu(Box::new(CpuSession::new(cpu_plan, self.threads)?))
            }
            #[cfg(feature = "cuda")]
            BackendPlan::Cuda(cuda_plan) => {
                let engine = self.cuda.as_ref().ok_or_else(|| broken("an engine with its device", "none"))?;
                let capture = self.graphs == Graphs::AtStart;
                BackendSession::Cuda(Box::new(CudaSession::new(cuda_plan, engine, capture)?))
            }
            #[cfg(not(feature = "cuda"))]
            BackendPlan::Cuda(_) => return Err(broken("a backend of this build", "cuda")),
        };
        let heads = Branch::BOTH.map(|branch| plan.head(branch));
        let predictions = PredictionBuffers::new(heads, plan.batch())?;
        Ok(Session {
            plan: Arc::clone(&self.plan),
            backend,
            predictions,
            normalised: pixels::normalised(plan.input()).into(),
            broken: false,
        })
    }
}

fn broken(expected: &str, found: &str) -> Error {
    Error::new(ErrorKind::Internal, "session", expected, found)
}

/// One caller's mutable part: feature maps, threads, results. Send it to the thread that uses it; it needs no lock.
pub struct Session {
    plan: Arc<Plan>,
    backend: BackendSession,
    predictions: PredictionBuffers,
    /// What bytes are normalised to, where the device does not do that.
    normalised: Arc<[Normalised]>,
    broken: bool,
}

enum BackendSession {
    Reference,
    Cpu(Box<CpuSession>),
    #[cfg(feature = "cuda")]
    Cuda(Box<CudaSession>),
}

impl Session {
    /// Runs the network on `images`, [N, C, H, W], normalised as [`Input`](crate::model::Input) says, N from 1 to
    /// the plan's batch.
    ///
    /// Blocks until the predictions are there; they are borrowed until the next run. Nothing is allocated, except
    /// by the reference, and by a GPU's session that captures a graph on first use. NaN and infinity pass through as in
    /// any floating-point sum, and a maximum of a window may drop a NaN; they make predictions useless and harm nothing
    /// else. Errors: a length that is no whole number of images, or too many; a device that fails.
    pub fn run(&mut self, images: &[f32]) -> Result<Predictions<'_>> {
        self.run_floats(images, None, None)
    }

    /// As [`run`](Self::run), and gives up at `deadline` with [`ErrorKind::Deadline`].
    ///
    /// Work on a GPU cannot be taken back: a missed deadline poisons the engine, and what the device may still use is
    /// never freed. A run on the CPU always ends and is not interrupted.
    pub fn run_by(&mut self, images: &[f32], deadline: Instant) -> Result<Predictions<'_>> {
        self.run_floats(images, Some(deadline), None)
    }

    /// Runs the network on 8-bit images, which it normalises: (value / 255 - mean) / std.
    ///
    /// A GPU does that itself, as one multiplication and one addition. Errors: as [`run`](Self::run); strides that
    /// overlap rows or images, or lead out of the pixels.
    pub fn run_u8(&mut self, images: ImagesU8<'_>) -> Result<Predictions<'_>> {
        let shape = self.plan.input().shape;
        self.check_count(images.count)?;
        check_strides(&images, shape)?;
        #[cfg(feature = "cuda")]
        if let BackendSession::Cuda(session) = &mut self.backend {
            let rows = session.staging().chunks_exact_mut(shape.width * shape.channels);
            for (row, to) in rows.take(images.count * shape.height).enumerate() {
                to.copy_from_slice(images.row(row / shape.height, row % shape.height, shape));
            }
            return self.replay(true, images.count, None);
        }
        let tables = Arc::clone(&self.normalised);
        self.run_here(Pixels::Bytes(images, &tables), images.count, None)
    }

    /// As [`run`](Self::run), and adds the time that each node takes to `times`, a value a node of the plan.
    ///
    /// For finding out where time goes: the nodes' times together exceed that of a run by a little. Errors: as
    /// [`run`](Self::run); another number of `times`; a backend other than the CPU.
    pub fn run_timed(&mut self, images: &[f32], times: &mut [Duration]) -> Result<Predictions<'_>> {
        let nodes = self.plan.nodes().len();
        if times.len() != nodes {
            let found = times.len().to_string();
            return Err(Error::new(ErrorKind::Input, "times", format!("{nodes}, one a node"), found));
        }
        if !matches!(self.backend, BackendSession::Cpu(_)) {
            let found = self.plan.target().to_string();
            return Err(Error::new(ErrorKind::Input, "times of nodes", "a session on the CPU", found));
        }
        self.run_floats(images, None, Some(times))
    }

    fn run_floats(
        &mut self,
        images: &[f32],
        deadline: Option<Instant>,
        times: Option<&mut [Duration]>,
    ) -> Result<Predictions<'_>> {
        let count = self.count(images)?;
        #[cfg(feature = "cuda")]
        if let BackendSession::Cuda(session) = &mut self.backend {
            let bytes: &[u8] = bytemuck::cast_slice(images);
            session.staging()[..bytes.len()].copy_from_slice(bytes);
            return self.replay(false, count, deadline);
        }
        let _ = deadline;
        self.run_here(Pixels::Floats(images), count, times)
    }

    /// Runs the network on a backend without a device.
    fn run_here(
        &mut self,
        images: Pixels<'_>,
        count: usize,
        times: Option<&mut [Duration]>,
    ) -> Result<Predictions<'_>> {
        if self.broken {
            return Err(broken("a session that works", "one whose last run broke off"));
        }
        let heads = Branch::BOTH.map(|branch| self.plan.head(branch));
        let result = match (&mut self.backend, &self.plan.backend) {
            (BackendSession::Cpu(session), BackendPlan::Cpu(plan)) => {
                session.run(plan, images, count, &mut self.predictions, times)
            }
            (BackendSession::Reference, BackendPlan::Reference(model)) => {
                for index in 0..count {
                    let evaluation = reference::evaluate(model, &images.image(model.input().shape, index));
                    for branch in Branch::BOTH {
                        let logits = &evaluation.logits[branch as usize];
                        let out = self.predictions.logits_mut(branch, index, logits.len());
                        out.iter_mut().zip(logits).for_each(|(out, &logit)| *out = logit as f32);
                    }
                }
                Ok(())
            }
            _ => Err(broken("the backend of its plan", "another")),
        };
        self.broken = result.is_err();
        result.map(|()| self.predictions.finish(heads, count))
    }

    /// Runs what is staged on a GPU.
    #[cfg(feature = "cuda")]
    fn replay(&mut self, u8: bool, count: usize, deadline: Option<Instant>) -> Result<Predictions<'_>> {
        let (BackendSession::Cuda(session), BackendPlan::Cuda(plan)) =
            (&mut self.backend, &self.plan.backend)
        else {
            return Err(broken("the backend of its plan", "another"));
        };
        session.run(plan, u8, count, deadline, &mut self.predictions)?;
        let heads = Branch::BOTH.map(|branch| self.plan.head(branch));
        Ok(self.predictions.finished(heads, count))
    }

    /// Queues a run on a caller's CUDA stream, between addresses in device memory, and returns at once.
    ///
    /// The first call with an image format, count and addresses captures a graph for them, which allocates; the latest
    /// 16 are kept, and later calls with the same look at the stream and launch it. Where stream and addresses stay the
    /// same, [`bind`](Self::bind) does without the look. On a stream that is being captured the kernels are launched one
    /// by one, and become part of the caller's graph, which must not outlive the session.
    ///
    /// A fault of the device is asynchronous. It shows to whoever waits for the stream behind the run; until somebody
    /// has waited, further runs may be queued without an error, and do nothing. Once it has shown, the next call of any
    /// session of the engine returns [`ErrorKind::Poisoned`], which speaks of work queued earlier, not of its own.
    ///
    /// Errors: a backend other than CUDA; a stream of another device; a count, address or stride out of range.
    ///
    /// # Safety
    ///
    /// `stream` is alive, and so is the memory at all addresses, large enough, until the run is done. The runs of a
    /// session share its memory: a second one, of whatever kind, is queued behind the first in the same stream, or
    /// waits for it. The session is dropped when the stream has done its work.
    #[allow(unsafe_code, reason = "passes the caller's promises on")]
    pub unsafe fn enqueue(
        &mut self,
        stream: cuda::Stream,
        images: cuda::DeviceImages,
        predictions: cuda::DevicePredictions,
    ) -> Result<()> {
        self.check_device_run(&images, &predictions)?;
        #[cfg(feature = "cuda")]
        if let (BackendSession::Cuda(session), BackendPlan::Cuda(plan)) =
            (&mut self.backend, &self.plan.backend)
        {
            // SAFETY: the caller's promise.
            return unsafe { session.enqueue(plan, stream.0.cast(), images, predictions) };
        }
        let _ = stream;
        Err(self.not_on_a_gpu())
    }

    /// Prepares runs on a caller's CUDA stream between addresses that stay the same, so that each of them is a single
    /// driver call: [`Bound::launch`](cuda::Bound::launch).
    ///
    /// Everything that can be checked is checked here, and a graph is captured, which allocates. A session may have any
    /// number of these, one for each buffer of a ring; they share its memory. Errors: as [`enqueue`](Self::enqueue), and
    /// a stream that is being captured.
    ///
    /// # Safety
    ///
    /// `stream` is alive now. At each launch, and until the run is done, `stream` and the memory at all addresses are
    /// alive, and the memory is large enough. The runs of the session, bound or not, are queued one behind the other in
    /// one stream, or the next waits for the one before.
    #[allow(unsafe_code, reason = "passes the caller's promises on")]
    pub unsafe fn bind(
        &mut self,
        stream: cuda::Stream,
        images: cuda::DeviceImages,
        predictions: cuda::DevicePredictions,
    ) -> Result<cuda::Bound> {
        self.check_device_run(&images, &predictions)?;
        #[cfg(feature = "cuda")]
        if let (BackendSession::Cuda(session), BackendPlan::Cuda(plan)) =
            (&mut self.backend, &self.plan.backend)
        {
            // SAFETY: the caller's promise.
            return unsafe { session.bind(plan, stream.0.cast(), images, predictions) };
        }
        let _ = stream;
        Err(self.not_on_a_gpu())
    }

    /// On a GPU, writes over its L2 cache and waits, so that the next run starts cold; elsewhere does nothing.
    ///
    /// The first call allocates twice the cache's bytes. Errors: not enough memory, a device that fails.
    pub fn evict_device_cache(&mut self) -> Result<()> {
        match &mut self.backend {
            #[cfg(feature = "cuda")]
            BackendSession::Cuda(session) => session.evict_cache(),
            _ => Ok(()),
        }
    }

    /// What a run between device addresses must keep, as far as numbers show.
    fn check_device_run(
        &self,
        images: &cuda::DeviceImages,
        predictions: &cuda::DevicePredictions,
    ) -> Result<()> {
        self.check_count(images.count)?;
        let shape = self.plan.input().shape;
        if let cuda::PixelFormat::U8 { row_stride, image_stride } = images.format {
            check_stride_sizes(row_stride, image_stride, images.count, shape)?;
        }
        let floats = predictions.logits.iter().chain(&predictions.probabilities);
        let pixels = (images.format == cuda::PixelFormat::F32).then_some(&images.pixels);
        if let Some(address) = floats.chain(pixels).find(|&&address| address % 4 != 0) {
            let found = format!("{address:#x}");
            return Err(Error::new(ErrorKind::Input, "device address", "a multiple of 4", found));
        }
        if images.pixels == 0 {
            return Err(Error::new(ErrorKind::Input, "images", "an address in device memory", "0"));
        }
        Ok(())
    }

    fn not_on_a_gpu(&self) -> Error {
        Error::new(ErrorKind::Device, "session", "a session on a GPU", self.plan.target().to_string())
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let batch = self.plan.batch();
        if count == 0 || count > batch {
            let expected = format!("from 1 to {batch} images");
            return Err(Error::new(ErrorKind::Input, "images", expected, count.to_string()));
        }
        Ok(())
    }

    /// The number of images in a buffer.
    fn count(&self, images: &[f32]) -> Result<usize> {
        let shape = self.plan.input().shape;
        let (len, batch) = (shape.len(), self.plan.batch());
        let count = images.len() / len;
        if count == 0 || count > batch || !images.len().is_multiple_of(len) {
            let expected = format!("from 1 to {batch} images of {len} values ({shape})");
            return Err(Error::new(ErrorKind::Input, "images", expected, format!("{} values", images.len())));
        }
        Ok(count)
    }

    /// What a node of the plan gave for one image and branch in the last run, [C, H, W].
    ///
    /// `None` unless the plan was built with `keep_values`, for an index out of range, for heads, and where a device
    /// fails. A node that computes one map for both branches, or for one of them, gives it for either.
    pub fn value(&self, node: usize, image: usize, branch: Branch) -> Option<Vec<f32>> {
        let node = self.plan.nodes().get(node)?;
        if let Work::Heads { .. } | Work::GatePart(_) = node.work() {
            return None;
        }
        let kept = self.plan.keeps_values() && image < self.plan.batch();
        if !kept {
            return None;
        }
        self.read(node.output, image, branch).ok().map(|(_, map)| map)
    }

    /// The logits of an image of the last run.
    pub(crate) fn logits(&self, image: usize, branch: Branch) -> &[f32] {
        self.predictions.logits(branch, image, self.plan.labels(branch).len())
    }

    /// The shape and elements of a value of the plan, if it is still there.
    pub(crate) fn read(&self, value: ValueId, image: usize, branch: Branch) -> Result<(Shape, Vec<f32>)> {
        match (&self.backend, &self.plan.backend) {
            (BackendSession::Cpu(session), BackendPlan::Cpu(plan)) => {
                let value = &plan.values[value];
                Ok((value.shape, session.map(value, image, branch)))
            }
            #[cfg(feature = "cuda")]
            (BackendSession::Cuda(session), BackendPlan::Cuda(plan)) => {
                let value = &plan.values[value];
                Ok((value.shape, session.map(plan, value, image, branch)?))
            }
            _ => Err(broken("a backend with values", "the reference")),
        }
    }

    /// The plan that the session runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("target", &self.plan.target()).finish_non_exhaustive()
    }
}
