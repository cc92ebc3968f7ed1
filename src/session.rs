//! One caller's runs of a plan: images in, predictions out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::cpu::CpuSession;
use crate::cuda;
#[cfg(feature = "cuda")]
use crate::cuda::CudaSession;
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::graph::node::{ValueId, Work};
use crate::limits::Limits;
use crate::model::Model;
use crate::pixels::{self, Images, Normalised, Pixels, Rows, check_count, check_stride_sizes};
use crate::plan::Plan;
use crate::predictions::{PredictionBuffers, Predictions};
use crate::reference;
use crate::tensor::Shape;

/// What a run is to keep to, and what it is to tell: nothing, unless a setter says otherwise.
#[derive(Debug, Default)]
#[must_use]
pub struct RunOptions<'a> {
    limits: Limits<'a>,
    times: Option<&'a mut [Duration]>,
}

impl<'a> RunOptions<'a> {
    /// Neither a deadline, nor a flag, nor times.
    pub fn new() -> Self {
        RunOptions::default()
    }

    /// When the run gives up with [`ErrorKind::Deadline`].
    ///
    /// A CPU looks at the clock before every task of every node, a fraction of a millisecond each, and before it returns:
    /// results that are there are in time. The session works on. The reference looks between images. Work on a GPU cannot
    /// be taken back: a missed deadline poisons the engine, and what the device may still use is never freed.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.limits.deadline = Some(deadline);
        self
    }

    /// A flag by which another thread ends the run with [`ErrorKind::Cancelled`]. The caller clears it for the next.
    ///
    /// Looked at where the clock is for a deadline; the session works on. On a GPU it is looked at before the work is
    /// queued, and not again.
    ///
    /// ```
    /// # fn run(session: &mut awsnet::Session, image: &[f32]) -> awsnet::Result<()> {
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// use awsnet::{ErrorKind, RunOptions};
    ///
    /// let cancel = AtomicBool::new(false);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| cancel.store(true, Ordering::Relaxed));
    ///     match session.run_with(image, RunOptions::new().cancel(&cancel)) {
    ///         Err(error) if error.kind() == ErrorKind::Cancelled => Ok(()),
    ///         other => other.map(|_| ()),
    ///     }
    /// })
    /// # }
    /// ```
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.limits.cancel = Some(cancel);
        self
    }

    /// Where the run adds the time that each node takes, a value a node of the plan; not of the reference.
    ///
    /// For finding out where time goes: on a CPU the nodes' times together exceed that of a run by a little. On a GPU, where
    /// a kernel begins while the one before it ends, a node's time is how much longer the network takes with it than
    /// without it and all that follow, and the first one's holds the launch of the graph: the device computes the network
    /// again up to each node, behind the run. The first such run captures graphs.
    pub fn times(mut self, times: &'a mut [Duration]) -> Self {
        self.times = Some(times);
        self
    }
}

/// One caller's mutable part: feature maps, threads, results. Send it to the thread that uses it; it needs no lock.
pub struct Session {
    plan: Arc<Plan>,
    running: Running,
    predictions: PredictionBuffers,
    /// Images whose predictions are there: those of the last run.
    predicted: usize,
    /// What bytes are normalised to, where the device does not do that.
    normalised: Box<[Normalised]>,
    /// The images that `input_mut` gives, where the device has no memory of its own for them; none until it is called.
    staging: Vec<f32>,
    /// Whether what `input_mut` gave has not been written over since.
    staged: bool,
    broken: bool,
}

/// What runs. Each holds its own part of the plan.
pub(crate) enum Running {
    Reference(Arc<Model>),
    Cpu(Box<CpuSession>),
    #[cfg(feature = "cuda")]
    Cuda(Box<CudaSession>),
}

/// The images of a run, whose number and sizes are right.
enum Checked<'a> {
    Floats(&'a [f32]),
    #[cfg(feature = "ndarray")]
    Array(ndarray::ArrayView4<'a, f32>),
    Bytes(Rows<'a>),
    Staged,
}

impl Session {
    pub(crate) fn new(plan: Arc<Plan>, running: Running) -> Result<Self> {
        let predictions = PredictionBuffers::new(plan.heads(), plan.batch())?;
        let normalised = pixels::normalised(plan.input()).into();
        let (staging, staged, broken) = (Vec::new(), false, false);
        Ok(Session { plan, running, predictions, predicted: 0, normalised, staging, staged, broken })
    }

    /// Runs the network on one image or several, no more than the plan's batch: floats [N, C, H, W], normalised as
    /// [`Input`](crate::model::Input) says, or bytes, [`ImagesU8`](crate::ImagesU8), which the run normalises:
    /// (value / 255 - mean) / std. A GPU does that itself, as one multiplication and one addition.
    ///
    /// Blocks until the predictions are there; they are borrowed until the next run. Nothing is allocated, except
    /// by the reference, and by a GPU's session that captures a graph on first use. NaN and infinity pass through as in
    /// any floating-point sum, and a maximum of a window may drop a NaN; they make predictions useless and harm nothing
    /// else. Errors: a length that is no whole number of images, or too many; bytes of images of another size, or strides
    /// that overlap rows or images, or lead out of the bytes; a device that fails.
    pub fn run<'a>(&mut self, images: impl Into<Images<'a>>) -> Result<Predictions<'_>> {
        self.run_checked(images.into(), RunOptions::new())
    }

    /// As [`run`](Self::run), with a deadline, a flag that cancels, or the times of nodes.
    ///
    /// Errors: as [`run`](Self::run); [`ErrorKind::Deadline`]; [`ErrorKind::Cancelled`]; another number of times than nodes, times on the
    /// reference.
    ///
    /// ```
    /// # fn run(session: &mut awsnet::Session, image: &[f32]) -> awsnet::Result<()> {
    /// use std::time::{Duration, Instant};
    ///
    /// use awsnet::RunOptions;
    ///
    /// let deadline = Instant::now() + Duration::from_millis(5);
    /// let predictions = session.run_with(image, RunOptions::new().deadline(deadline))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_with<'a>(
        &mut self,
        images: impl Into<Images<'a>>,
        options: RunOptions<'_>,
    ) -> Result<Predictions<'_>> {
        self.run_checked(images.into(), options)
    }

    /// What the last run gave; `None` before the first, and behind one that failed or was queued on a stream.
    pub fn predictions(&self) -> Option<Predictions<'_>> {
        (self.predicted > 0).then(|| self.predictions.first(self.predicted))
    }

    /// Where the images of the next run may be written, [batch, C, H, W], to be run as [`Images::Staged`]. A caller that
    /// computes its images needs no buffer of its own then; on a GPU this is the memory that the device copies from, which
    /// saves a copy.
    ///
    /// What is written stays until a run of other images. The first call on a backend without a device allocates. Errors:
    /// not enough memory; an engine that a missed deadline or a fault has poisoned, whose device may still be reading.
    ///
    /// ```
    /// # fn run(session: &mut awsnet::Session) -> awsnet::Result<()> {
    /// use awsnet::Images;
    ///
    /// let len = session.plan().input().shape.len();
    /// session.input_mut()?[..len].fill(0.5);
    /// let predictions = session.run(Images::Staged(1))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn input_mut(&mut self) -> Result<&mut [f32]> {
        #[cfg(feature = "cuda")]
        if let Running::Cuda(session) = &mut self.running {
            let staging = bytemuck::cast_slice_mut(session.staging()?);
            self.staged = true;
            return Ok(staging);
        }
        if self.staging.is_empty() {
            let len = self.plan.batch().saturating_mul(self.plan.input().shape.len());
            self.staging.try_reserve_exact(len).map_err(|_| {
                let expected = format!("{} bytes of memory", len.saturating_mul(size_of::<f32>()));
                Error::new(ErrorKind::Memory, "images", expected, "not enough")
            })?;
            self.staging.resize(len, 0.0);
        }
        self.staged = true;
        Ok(&mut self.staging)
    }

    fn run_checked(&mut self, images: Images<'_>, options: RunOptions<'_>) -> Result<Predictions<'_>> {
        let _environment = FloatEnvironment::enter();
        let (images, count) = self.check(images)?;
        let RunOptions { limits, times } = options;
        if let Some(times) = &times {
            self.check_times(times)?;
        }
        self.staged &= matches!(images, Checked::Staged);
        self.predicted = 0;
        match &mut self.running {
            #[cfg(feature = "cuda")]
            Running::Cuda(session) => {
                let is_u8 = stage(&images, count, self.plan.input().shape, session.staging()?);
                Limits { deadline: None, ..limits }.check()?;
                session.run(is_u8, count, limits.deadline, &mut self.predictions)?;
                if let Some(times) = times {
                    session.node_times(is_u8, count, times)?;
                }
            }
            Running::Cpu(session) => {
                if self.broken {
                    let expected = "a session that works";
                    let found = "one whose last run broke off";
                    return Err(Error::new(ErrorKind::Internal, "session", expected, found));
                }
                let images = images.pixels(&self.staging, &self.normalised);
                let result = session.run(images, count, &mut self.predictions, limits, times);
                self.broken = matches!(&result, Err(error) if error.kind() == ErrorKind::Internal);
                result?;
            }
            Running::Reference(model) => {
                let images = images.pixels(&self.staging, &self.normalised);
                for index in 0..count {
                    limits.check()?;
                    let evaluation = reference::evaluate(model, &images.image(model.input().shape, index));
                    for (head, logits) in evaluation.logits.iter().enumerate() {
                        let out = self.predictions.logits_mut(head, index);
                        out.iter_mut().zip(logits).for_each(|(out, &logit)| *out = logit as f32);
                    }
                }
                self.predictions.score(count);
                limits.check()?;
            }
        }
        self.predicted = count;
        Ok(self.predictions.first(count))
    }

    /// The number of images; errors unless they can be run.
    fn check<'a>(&self, images: Images<'a>) -> Result<(Checked<'a>, usize)> {
        let (shape, batch) = (self.plan.input().shape, self.plan.batch());
        match images {
            Images::F32(floats) => {
                let (len, count) = (shape.len(), floats.len() / shape.len());
                if count == 0 || count > batch || !floats.len().is_multiple_of(len) {
                    let expected = format!("from 1 to {batch} images of {len} values ({shape})");
                    let found = format!("{} values", floats.len());
                    return Err(Error::new(ErrorKind::Input, "images", expected, found));
                }
                Ok((Checked::Floats(floats), count))
            }
            #[cfg(feature = "ndarray")]
            Images::Array(array) => {
                let (count, channels, height, width) = array.dim();
                if Shape::new(channels, height, width) != shape {
                    let expected = format!("images of {shape}, which the network reads");
                    let found = format!("{channels}x{height}x{width}");
                    return Err(Error::new(ErrorKind::Input, "images", expected, found));
                }
                check_count(count, batch)?;
                Ok((array.to_slice().map_or(Checked::Array(array), Checked::Floats), count))
            }
            Images::U8(images) => {
                let rows = images.rows(shape, batch)?;
                Ok((Checked::Bytes(rows), rows.count))
            }
            Images::Staged(count) => {
                check_count(count, batch)?;
                if !self.staged {
                    let expected = "images that `input_mut` was filled with";
                    let found = "none since the last run of others";
                    return Err(Error::new(ErrorKind::Input, "images", expected, found));
                }
                Ok((Checked::Staged, count))
            }
        }
    }

    fn check_times(&self, times: &[Duration]) -> Result<()> {
        let nodes = self.plan.nodes().len();
        if times.len() != nodes {
            let found = times.len().to_string();
            return Err(Error::new(ErrorKind::Input, "times", format!("{nodes}, one a node"), found));
        }
        if matches!(self.running, Running::Reference(_)) {
            let found = self.plan.target().to_string();
            return Err(Error::new(ErrorKind::Input, "times of nodes", "a session on a CPU or a GPU", found));
        }
        Ok(())
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
        predictions: &cuda::DevicePredictions,
    ) -> Result<()> {
        self.check_device_run(&images, predictions)?;
        self.predicted = 0;
        #[cfg(feature = "cuda")]
        if let Running::Cuda(session) = &mut self.running {
            // SAFETY: the caller's promise.
            return unsafe { session.enqueue(stream.0.cast(), images, predictions) };
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
        predictions: &cuda::DevicePredictions,
    ) -> Result<cuda::Bound> {
        self.check_device_run(&images, predictions)?;
        #[cfg(feature = "cuda")]
        if let Running::Cuda(session) = &mut self.running {
            // SAFETY: the caller's promise.
            return unsafe { session.bind(stream.0.cast(), images, predictions) };
        }
        let _ = stream;
        Err(self.not_on_a_gpu())
    }

    /// On a GPU, writes over its L2 cache and waits, so that the next run starts cold; elsewhere does nothing.
    ///
    /// The first call allocates twice the cache's bytes. Errors: not enough memory, a device that fails.
    pub fn evict_device_cache(&mut self) -> Result<()> {
        match &mut self.running {
            #[cfg(feature = "cuda")]
            Running::Cuda(session) => session.evict_cache(),
            Running::Cpu(_) | Running::Reference(_) => Ok(()),
        }
    }

    /// What a run between device addresses must keep, as far as numbers show.
    fn check_device_run(
        &self,
        images: &cuda::DeviceImages,
        predictions: &cuda::DevicePredictions,
    ) -> Result<()> {
        check_count(images.count, self.plan.batch())?;
        let shape = self.plan.input().shape;
        if let cuda::PixelFormat::U8 { row_stride, image_stride } = images.format {
            check_stride_sizes(row_stride, image_stride, images.count, shape)?;
        }
        let heads = self.plan.heads().len();
        if let Some((head, _)) = predictions.heads().iter().find(|(head, _)| *head >= heads) {
            let expected = format!("a head below {heads}");
            return Err(Error::new(ErrorKind::Input, "predictions", expected, head.to_string()));
        }
        let floats = predictions.heads().iter().flat_map(|(_, addresses)| addresses);
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

    /// What a node of the plan gave for one image and branch in the last run, [C, H, W].
    ///
    /// `None` unless the plan was built with `keep_values`, for an index out of range, and for heads. A node that computes
    /// one map for both branches, or for one of them, gives it for either. Errors: a device that fails.
    pub fn value(&self, node: usize, image: usize, branch: usize) -> Result<Option<Vec<f32>>> {
        let kept = self.plan.keeps_values() && image < self.plan.batch() && branch < self.plan.branches();
        match self.plan.nodes().get(node) {
            Some(node) if kept && !matches!(node.work(), Work::Heads { .. } | Work::GatePart(_)) => {
                Ok(self.read(node.output, image, branch)?.map(|(_, map)| map))
            }
            _ => Ok(None),
        }
    }

    /// The logits of a head for an image of the last run.
    pub(crate) fn logits(&self, image: usize, head: usize) -> &[f32] {
        self.predictions.logits(head, image)
    }

    /// The shape and elements of a value of the plan, if it is still there; none on the reference, which has no values.
    pub(crate) fn read(
        &self,
        value: ValueId,
        image: usize,
        branch: usize,
    ) -> Result<Option<(Shape, Vec<f32>)>> {
        match &self.running {
            Running::Cpu(session) => Ok(Some(session.map(value, image, branch))),
            #[cfg(feature = "cuda")]
            Running::Cuda(session) => session.map(value, image, branch).map(Some),
            Running::Reference(_) => Ok(None),
        }
    }

    /// The plan that the session runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl<'a> Checked<'a> {
    /// What a backend without a device reads.
    fn pixels<'b>(self, staging: &'b [f32], tables: &'b [Normalised]) -> Pixels<'b>
    where
        'a: 'b,
    {
        match self {
            Checked::Floats(floats) => Pixels::Floats(floats),
            #[cfg(feature = "ndarray")]
            Checked::Array(array) => Pixels::Array(array.reborrow()),
            Checked::Bytes(rows) => Pixels::Bytes(rows, tables),
            Checked::Staged => Pixels::Floats(staging),
        }
    }
}

/// Copies images to where a device takes them from, and says whether they are bytes.
#[cfg(feature = "cuda")]
fn stage(images: &Checked<'_>, count: usize, shape: Shape, staging: &mut [u8]) -> bool {
    match images {
        Checked::Floats(floats) => {
            let bytes: &[u8] = bytemuck::cast_slice(floats);
            staging[..bytes.len()].copy_from_slice(bytes);
        }
        #[cfg(feature = "ndarray")]
        Checked::Array(array) => {
            let floats: &mut [f32] = bytemuck::cast_slice_mut(staging);
            floats.iter_mut().zip(array).for_each(|(to, &value)| *to = value);
        }
        Checked::Bytes(images) => {
            let rows = staging.chunks_exact_mut(shape.width * shape.channels);
            for (row, to) in rows.take(count * shape.height).enumerate() {
                to.copy_from_slice(images.row(row / shape.height, row % shape.height, shape));
            }
        }
        Checked::Staged => {}
    }
    matches!(images, Checked::Bytes(_))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("target", &self.plan.target()).finish_non_exhaustive()
    }
}
