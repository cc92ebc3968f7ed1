//! One caller's part of a plan on a device: memory, stream and graphs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::CUstream;

use super::abi;
use super::bound::Bound;
use super::driver::{Context, DeviceMemory, PinnedMemory};
use super::engine::CudaEngine;
use super::interop::{DeviceImages, DevicePredictions, PixelFormat};
use super::node::{Addresses, decode, image_params, prepare};
use super::stream::{Event, Graph, KernelCall, Stream, context_of, is_capturing};
use crate::cuda::plan::CudaPlan;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::node::ValueId;
use crate::predictions::PredictionBuffers;
use crate::tensor::Shape;

/// Where a part of the session's memory begins: a multiple of this many bytes.
const ALIGNMENT: usize = 256;

/// Graphs of [`CudaSession::enqueue`] that are kept, one for each combination of the caller's pointers.
const MOST_DEVICE_GRAPHS: usize = 16;

/// What a graph was captured for.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    /// From the session's own pinned memory and back.
    Host { u8: bool, images: usize },
    /// Between a caller's addresses.
    Device(DeviceImages, DevicePredictions),
}

/// For the times of nodes: graphs of the first kernel, of the first two, and so on to all.
#[derive(Debug)]
struct Prefixes {
    u8: bool,
    images: usize,
    graphs: Vec<Graph>,
}

/// One caller's part. Fields are dropped in order: graphs and stream before the memory they use.
#[derive(Debug)]
pub(crate) struct CudaSession {
    host_graphs: Vec<(Key, Graph)>,
    device_graphs: Vec<(Key, Graph)>,
    prefix_graphs: Option<Prefixes>,
    stream: Stream,
    staging: PinnedMemory,
    results: PinnedMemory,
    memory: Arc<DeviceMemory>,
    layout: Layout,
    /// How the last run's images came, for `read`.
    last_was_f32: bool,
    /// What is written over to empty the L2 cache, and its bytes; none until it is asked for.
    eviction: Option<(DeviceMemory, usize)>,
    engine: Arc<CudaEngine>,
}

/// Where each part of a session's device memory begins.
#[derive(Clone, Copy, Debug)]
struct Layout {
    workspace: usize,
    tickets: usize,
    images: usize,
    results: usize,
    bytes: usize,
}

impl Layout {
    fn new(plan: &CudaPlan) -> Option<Layout> {
        let image_bytes = plan.input.shape.len().checked_mul(plan.batch * size_of::<f32>())?;
        let mut end = 0usize;
        let mut part = |bytes: usize| {
            let begin = end;
            end = end.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
            Some(begin)
        };
        part(plan.arena_bytes)?;
        let workspace = part(plan.workspace_bytes)?;
        let tickets = part(plan.tickets * size_of::<u32>())?;
        let images = part(image_bytes)?;
        let results = part(results_bytes(plan, plan.batch))?;
        Some(Layout { workspace, tickets, images, results, bytes: end })
    }
}

/// Bytes of logits and probabilities of all heads.
fn results_bytes(plan: &CudaPlan, images: usize) -> usize {
    let numbers = plan.heads.iter().map(|head| head.len.saturating_add(head.probabilities()));
    numbers.fold(0, usize::saturating_add).saturating_mul(images * size_of::<f32>())
}

/// Where logits and probabilities of each head begin among the results of so many images, in f32 values: the logits of
/// all heads, and behind them the probabilities of those that have any.
fn results_offsets(plan: &CudaPlan, images: usize) -> Vec<[Option<usize>; 2]> {
    let mut end = 0;
    let mut part = |numbers: usize| {
        let begin = end;
        end += numbers * images;
        (numbers > 0).then_some(begin)
    };
    let logits: Vec<Option<usize>> = plan.heads.iter().map(|head| part(head.len)).collect();
    logits.into_iter().zip(&plan.heads).map(|(logits, head)| [logits, part(head.probabilities())]).collect()
}

impl CudaSession {
    /// Memory, stream and, with `capture`, the graphs of every size of the plan.
    pub(crate) fn new(engine: &Arc<CudaEngine>, capture: bool) -> Result<CudaSession> {
        let (plan, context) = (&engine.plan, &engine.context);
        let layout = Layout::new(plan).ok_or_else(|| {
            Error::new(ErrorKind::Memory, "session", "memory that fits the address space", "more")
        })?;
        context.scope(|| {
            let stream = Stream::new(context)?;
            let memory = Arc::new(DeviceMemory::new(context, layout.bytes, "a session")?);
            let image_bytes = plan.input.shape.len() * plan.batch * size_of::<f32>();
            let staging = PinnedMemory::new(context, image_bytes, "images")?;
            let results = PinnedMemory::new(context, results_bytes(plan, plan.batch), "results")?;
            let mut session = CudaSession {
                host_graphs: Vec::new(),
                device_graphs: Vec::new(),
                prefix_graphs: None,
                stream,
                staging,
                results,
                memory,
                layout,
                last_was_f32: true,
                eviction: None,
                engine: Arc::clone(engine),
            };
            if plan.tickets > 0 {
                // SAFETY: within the session's memory, which outlives the wait.
                unsafe { session.stream.zero(session.at(layout.tickets), plan.tickets * size_of::<u32>())? };
                session.stream.synchronize()?;
            }
            if capture {
                for &images in &plan.sizes {
                    for u8 in [false, true] {
                        let key = Key::Host { u8, images };
                        let graph = session.capture(&key)?;
                        session.host_graphs.push((key, graph));
                    }
                }
            }
            Ok(session)
        })
    }

    fn at(&self, offset: usize) -> u64 {
        self.memory.address() + offset as u64
    }

    /// Addresses of a run over `images`, with results where `predictions` says, or, where it says 0, in own memory.
    fn addresses(&self, images: &DeviceImages, predictions: &DevicePredictions) -> Addresses {
        let plan = &self.engine.plan;
        let own = |offset: Option<usize>| {
            offset.map_or(0, |offset| self.at(self.layout.results) + (offset * size_of::<f32>()) as u64)
        };
        let or_own = |(head, offsets): (usize, [Option<usize>; 2])| {
            let given = predictions.heads().iter().find(|(named, _)| *named == head);
            let given = given.map_or([0; 2], |(_, addresses)| *addresses);
            [0, 1].map(|part| if given[part] == 0 { own(offsets[part]) } else { given[part] })
        };
        Addresses {
            constants: self.engine.constants.address(),
            arena: self.memory.address(),
            workspace: self.at(self.layout.workspace),
            tickets: self.at(self.layout.tickets),
            image: image_params(plan, images),
            results: results_offsets(plan, images.count).into_iter().enumerate().map(or_own).collect(),
        }
    }

    /// Queues the first `nodes` kernels for `images`, all for `usize::MAX`; the context is current.
    ///
    /// # Safety
    ///
    /// The stream is one of the context; the addresses are there until the kernels are done.
    unsafe fn queue_kernels(
        &self,
        images: usize,
        addresses: &Addresses,
        stream: CUstream,
        nodes: usize,
    ) -> Result<()> {
        let plan = &self.engine.plan;
        for (index, node) in plan.nodes.iter().take(nodes).enumerate() {
            let (launch, params) = prepare(plan, node, images, addresses);
            let function = self.engine.function(&launch)?;
            let call = KernelCall {
                // The first kernel's predecessor is no kernel of ours: it starts when that has ended.
                dependent: index > 0 && function.waits,
                function,
                grid: launch.grid.map(|blocks| blocks as u32),
                threads: launch.threads as u32,
                shared_bytes: launch.shared_bytes as u32,
                params,
            };
            // SAFETY: the engine holds the module, `prepare` makes a kernel's parameters; the rest is the caller's promise.
            unsafe { call.launch(&self.engine.context, stream)? };
        }
        Ok(())
    }

    /// How tight bytes of the host's pixels lie on the device.
    fn own_images(&self, u8: bool, count: usize) -> DeviceImages {
        let shape = self.engine.plan.input.shape;
        let row_stride = shape.width * shape.channels;
        let format = match u8 {
            true => PixelFormat::U8 { row_stride, image_stride: row_stride * shape.height },
            false => PixelFormat::F32,
        };
        DeviceImages { pixels: self.at(self.layout.images), format, count }
    }

    fn capture(&self, key: &Key) -> Result<Graph> {
        let plan = &self.engine.plan;
        crate::log::log!(debug, "captures a graph for {key:?}");
        match key {
            Key::Host { u8, images } => {
                let own = self.own_images(*u8, *images);
                let addresses = self.addresses(&own, &DevicePredictions::default());
                let pixel_bytes = if *u8 { 1 } else { size_of::<f32>() };
                let image_bytes = images * plan.input.shape.len() * pixel_bytes;
                let result_bytes = results_bytes(plan, *images);
                // SAFETY: the session owns all the memory, and waits for its graphs before it reads, writes or frees
                // any of it.
                self.stream.capture(|| unsafe {
                    self.stream.upload(own.pixels, &self.staging.bytes()[..image_bytes])?;
                    self.queue_kernels(*images, &addresses, self.stream.handle(), usize::MAX)?;
                    let to = self.results.bytes().as_ptr().cast_mut();
                    self.stream.download(to, self.at(self.layout.results), result_bytes)
                })
            }
            Key::Device(images, predictions) => {
                let addresses = self.addresses(images, predictions);
                // SAFETY: the session's own memory as above; the caller's by the contract of `enqueue`.
                self.stream.capture(|| unsafe {
                    self.queue_kernels(images.count, &addresses, self.stream.handle(), usize::MAX)
                })
            }
        }
    }

    /// Where the images of the next run go: [batch, C, H, W] of f32 as bytes, or [batch, H, W, C] of u8.
    ///
    /// Errors on a poisoned engine, whose device may still be reading them.
    pub(crate) fn staging(&mut self) -> Result<&mut [u8]> {
        self.engine.context.check_poisoned()?;
        Ok(self.staging.bytes_mut())
    }

    /// Runs the first `count` staged images and reads their results; waits until `deadline` at most.
    ///
    /// Behind a missed deadline the engine is poisoned: work that does not end cannot be taken back.
    pub(crate) fn run(
        &mut self,
        u8: bool,
        count: usize,
        deadline: Option<Instant>,
        predictions: &mut PredictionBuffers,
    ) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let plan = &engine.plan;
        let padded = plan.sizes[plan.size_for(count)];
        let find = |session: &Self| {
            let fits =
                |images| session.host_graphs.iter().position(|(key, _)| *key == Key::Host { u8, images });
            fits(count).or_else(|| fits(padded))
        };
        let images = engine.context.scope(|| {
            let index = match find(self) {
                Some(index) => index,
                None => {
                    let key = Key::Host { u8, images: count };
                    let graph = self.capture(&key)?;
                    self.host_graphs.push((key, graph));
                    self.host_graphs.len() - 1
                }
            };
            let (key, graph) = &self.host_graphs[index];
            // SAFETY: the stream is the session's own; the wait below keeps everything in place.
            unsafe { graph.launch(self.stream.handle())? };
            match deadline {
                None => self.stream.synchronize()?,
                Some(deadline) => self.wait_until(deadline)?,
            }
            match key {
                Key::Host { images, .. } => Ok(*images),
                Key::Device(..) => Ok(count),
            }
        })?;
        self.last_was_f32 = !u8;
        let results = self.results.bytes();
        let offsets = results_offsets(plan, images);
        for (head, [logits, probabilities]) in offsets.into_iter().enumerate() {
            let numbers = plan.heads[head].len;
            for index in 0..count {
                let read = |part: Option<usize>, to: &mut [f32]| {
                    let Some(part) = part else { return };
                    let first = (part + index * numbers) * size_of::<f32>();
                    let from = results[first..][..numbers * size_of::<f32>()].chunks_exact(size_of::<f32>());
                    to.iter_mut()
                        .zip(from)
                        .for_each(|(to, b)| *to = f32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                };
                read(logits, predictions.logits_mut(head, index));
                read(probabilities, predictions.probabilities_mut(head, index).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn wait_until(&self, deadline: Instant) -> Result<()> {
        const PAUSE: Duration = Duration::from_micros(50);
        while !self.stream.is_done()? {
            let now = Instant::now();
            if now >= deadline {
                self.engine.context.abandon();
                let expected = "a run that ends by its deadline";
                let found = "one that has not ended; the engine must not be used again";
                return Err(Error::new(ErrorKind::Deadline, "run", expected, found));
            }
            // Spin while the deadline is near: a sleep takes longer than it says.
            if deadline - now > 20 * PAUSE {
                std::thread::sleep(PAUSE);
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Queues a run between a caller's device addresses on the caller's stream.
    ///
    /// # Safety
    ///
    /// As for [`Session::enqueue`](crate::Session::enqueue).
    pub(crate) unsafe fn enqueue(
        &mut self,
        stream: CUstream,
        images: DeviceImages,
        predictions: &DevicePredictions,
    ) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let context = &engine.context;
        context.scope(|| {
            // SAFETY: by the caller, the stream is alive and the addresses stay.
            unsafe {
                check_stream(context, stream)?;
                if is_capturing(context, stream)? {
                    // A graph cannot be launched into a capture; its kernels can.
                    let addresses = self.addresses(&images, predictions);
                    return self.queue_kernels(images.count, &addresses, stream, usize::MAX);
                }
                let serves = |(key, _): &(Key, Graph)| match key {
                    Key::Device(other, others) => (*other, others) == (images, predictions),
                    Key::Host { .. } => false,
                };
                let index = match self.device_graphs.iter().position(serves) {
                    Some(index) => index,
                    None => {
                        let key = Key::Device(images, predictions.clone());
                        let graph = self.capture(&key)?;
                        if self.device_graphs.len() == MOST_DEVICE_GRAPHS {
                            self.device_graphs.remove(0);
                        }
                        self.device_graphs.push((key, graph));
                        self.device_graphs.len() - 1
                    }
                };
                self.device_graphs[index].1.launch(stream)
            }
        })
    }

    /// A graph of its own for a caller's stream and addresses.
    ///
    /// # Safety
    ///
    /// As for [`Session::bind`](crate::Session::bind).
    pub(crate) unsafe fn bind(
        &mut self,
        stream: CUstream,
        images: DeviceImages,
        predictions: &DevicePredictions,
    ) -> Result<Bound> {
        let engine = Arc::clone(&self.engine);
        engine.context.scope(|| {
            // SAFETY: by the caller, the stream is alive.
            unsafe {
                check_stream(&engine.context, stream)?;
                if is_capturing(&engine.context, stream)? {
                    let expected = "a stream that is not being captured (`enqueue` adds a run to a capture)";
                    return Err(Error::new(ErrorKind::Input, "stream", expected, "one that is"));
                }
            }
            let graph = self.capture(&Key::Device(images, predictions.clone()))?;
            Ok(Bound::new(graph, stream, &self.memory, &engine))
        })
    }

    /// Writes over the device's L2 cache, and waits.
    pub(crate) fn evict_cache(&mut self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        engine.context.scope(|| {
            self.queue_eviction()?;
            self.stream.synchronize()
        })
    }

    /// Queues a fill of twice the bytes of the L2 cache; the context is current.
    fn queue_eviction(&mut self) -> Result<()> {
        let context = &self.engine.context;
        let (memory, bytes) = match &self.eviction {
            Some(eviction) => eviction,
            None => {
                let bytes = 2 * context.l2_bytes()?;
                let memory = DeviceMemory::new(context, bytes, "the eviction of the cache")?;
                self.eviction.insert((memory, bytes))
            }
        };
        // SAFETY: the session owns the memory, and waits for its stream before it frees any.
        unsafe { self.stream.zero(memory.address(), *bytes) }
    }

    /// Milliseconds on the device of each of `runs` runs over the first `images` staged images: queued back to back, or with `cold` behind an eviction of the L2 cache each.
    pub(super) fn time(&mut self, images: usize, runs: usize, cold: bool) -> Result<Vec<f32>> {
        let engine = Arc::clone(&self.engine);
        let (plan, context) = (&engine.plan, &engine.context);
        context.scope(|| {
            let own = self.own_images(false, images);
            let bytes = &self.staging.bytes()[..images * plan.input.shape.len() * size_of::<f32>()];
            // SAFETY: the session's own memory on both sides, and a wait below.
            unsafe { self.stream.upload(own.pixels, bytes)? };
            let graph = self.capture(&Key::Device(own, DevicePredictions::default()))?;
            let mut events = Vec::with_capacity(runs);
            for _ in 0..runs {
                if cold {
                    self.queue_eviction()?;
                }
                let (begin, end) = (Event::new(context)?, Event::new(context)?);
                begin.record(&self.stream)?;
                // SAFETY: the stream is the session's own, and waited for below.
                unsafe { graph.launch(self.stream.handle())? };
                end.record(&self.stream)?;
                events.push((begin, end));
            }
            self.stream.synchronize()?;
            events.iter().map(|(begin, end)| end.milliseconds_since(begin)).collect()
        })
    }

    /// How much longer the network takes with each node than without it and all that follow: times between events around
    /// graphs of the first kernels, one more each. The images are those of the last run, which were `count`.
    ///
    /// The longest graph is queued first, so that the device is busy while the host queues the others; the first node's
    /// time has a graph's launch in it.
    pub(crate) fn node_times(&mut self, u8: bool, count: usize, times: &mut [Duration]) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let (plan, context) = (&engine.plan, &engine.context);
        let images = plan.sizes[plan.size_for(count)];
        let nodes = plan.nodes.len();
        context.scope(|| {
            let fits = |prefixes: &Prefixes| (prefixes.u8, prefixes.images) == (u8, images);
            if !self.prefix_graphs.as_ref().is_some_and(fits) {
                let own = self.own_images(u8, images);
                let addresses = self.addresses(&own, &DevicePredictions::default());
                let graph = |first: usize| {
                    // SAFETY: the session owns all the memory, and waits below.
                    self.stream.capture(|| unsafe {
                        self.queue_kernels(images, &addresses, self.stream.handle(), first)
                    })
                };
                let graphs = (1..=nodes).map(graph).collect::<Result<_>>()?;
                self.prefix_graphs = Some(Prefixes { u8, images, graphs });
            }
            let Some(prefixes) = &self.prefix_graphs else { return Ok(()) };
            let mut events = Vec::with_capacity(nodes);
            for graph in prefixes.graphs.last().into_iter().chain(prefixes.graphs.iter().rev()) {
                let (begin, end) = (Event::new(context)?, Event::new(context)?);
                begin.record(&self.stream)?;
                // SAFETY: the stream is the session's own, and waited for below.
                unsafe { graph.launch(self.stream.handle())? };
                end.record(&self.stream)?;
                events.push((begin, end));
            }
            self.stream.synchronize()?;
            let mut before = 0.0;
            for ((begin, end), time) in events[1..].iter().rev().zip(times) {
                let milliseconds = end.milliseconds_since(begin)?;
                *time += Duration::from_secs_f64(f64::from((milliseconds - before).max(0.0)) / 1e3);
                before = milliseconds;
            }
            Ok(())
        })
    }

    /// The map of one image and branch of the last run as [C, H, W]; the image itself as the kernels round it.
    pub(crate) fn map(&self, value: ValueId, image: usize, branch: usize) -> Result<(Shape, Vec<f32>)> {
        let plan = &self.engine.plan;
        let value = &plan.values[value];
        let shape = value.shape;
        if value.image_bytes == 0 {
            if !self.last_was_f32 {
                return Ok((shape, Vec::new()));
            }
            let bytes = &self.staging.bytes()[image * shape.len() * size_of::<f32>()..];
            let pixels = decode(super::variants::Element::F32, &bytes[..shape.len() * size_of::<f32>()]);
            return Ok((shape, decode(plan.element, &super::plan::pack::encode(plan.element, &pixels))));
        }
        // Up to the last position's last channel; a part of a larger map begins within its first position.
        let bytes = ((shape.pixels() - 1) * value.pitch + abi::pitch(shape.channels)) * plan.element.bytes();
        let mut bytes = vec![0; bytes.min(value.image_bytes)];
        let offset = value.branch_offset(branch, plan.batch) + image * value.image_bytes;
        self.engine.context.scope(|| {
            // SAFETY: the value lies in the session's memory, whose runs are done; the bytes outlive the wait.
            unsafe { self.stream.download(bytes.as_mut_ptr(), self.at(offset), bytes.len())? };
            self.stream.synchronize()
        })?;
        let elements = decode(plan.element, &bytes);
        let at =
            |c: usize, position: usize| elements.get(position * value.pitch + c).copied().unwrap_or(f32::NAN);
        let channels = 0..shape.channels;
        let positions = channels.flat_map(|c| (0..shape.pixels()).map(move |position| (c, position)));
        Ok((shape, positions.map(|(c, p)| at(c, p)).collect()))
    }
}

/// Errors unless a caller's stream is one of the context, which is current.
///
/// # Safety
///
/// The stream is alive, or one of the driver's default streams.
unsafe fn check_stream(context: &Context, stream: CUstream) -> Result<()> {
    // SAFETY: the stream is alive by the caller.
    if unsafe { context_of(context, stream)? } == context.handle() {
        return Ok(());
    }
    let expected = "a stream of the primary context of the engine's device";
    Err(Error::new(ErrorKind::Input, "stream", expected, "one of another context"))
}
