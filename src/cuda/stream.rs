//! Streams, and what runs in them: kernels, copies, graphs, and events that time them.

use std::ffi::{c_uint, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult};

use super::abi::PARAMS_WORDS;
use super::driver::{Context, Function};
use super::library;
use crate::error::{Error, ErrorKind, Result};

/// A queue of work.
#[derive(Debug)]
pub(super) struct Stream {
    context: Arc<Context>,
    stream: sys::CUstream,
}

// SAFETY: a stream's handle is only passed to the driver, which takes it from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// A kernel, how it is launched, and its parameter struct.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelCall {
    pub function: Function,
    pub grid: [c_uint; 3],
    pub threads: c_uint,
    pub shared_bytes: c_uint,
    pub params: [u64; PARAMS_WORDS],
    /// May start before its predecessor in the stream, a kernel that waits as it does, has ended: programmatic dependent
    /// launch (kernels/device/predecessor.h).
    pub dependent: bool,
}

impl Stream {
    /// A stream that does not wait for the legacy default stream; the context is current.
    pub fn new(context: &Arc<Context>) -> Result<Stream> {
        let mut stream = null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
        // SAFETY: `stream` is a live value.
        context.check("cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        Ok(Stream { context: Arc::clone(context), stream })
    }

    pub fn handle(&self) -> sys::CUstream {
        self.stream
    }

    /// Waits until all work is done; the context is current.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream is alive.
        self.context.check_run("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Whether all work is done; the context is current.
    pub fn is_done(&self) -> Result<bool> {
        // SAFETY: the stream is alive.
        let status = unsafe { sys::cuStreamQuery(self.stream) };
        if status == CUresult::CUDA_ERROR_NOT_READY {
            return Ok(false);
        }
        self.context.check_run("cuStreamQuery", status).map(|()| true)
    }

    /// Copies to the device, in order with the stream.
    ///
    /// # Safety
    ///
    /// The device's memory is there; `from` stays unchanged until the copy is done.
    pub unsafe fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        // SAFETY: the stream is alive; both sides by the caller.
        let status = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.stream) };
        self.context.check("cuMemcpyHtoDAsync", status)
    }

    /// Copies `bytes` from the device, in order with the stream.
    ///
    /// # Safety
    ///
    /// The memory on both sides is there until the copy is done, and nobody uses the host's before.
    pub unsafe fn download(&self, to: *mut u8, from: u64, bytes: usize) -> Result<()> {
        // SAFETY: the stream is alive; both sides by the caller.
        let status = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, self.stream) };
        self.context.check("cuMemcpyDtoHAsync", status)
    }

    /// Writes zeros, in order with the stream.
    ///
    /// # Safety
    ///
    /// The device's memory is there until they are written.
    pub unsafe fn zero(&self, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: the stream is alive; the memory is there by the caller.
        let status = unsafe { sys::cuMemsetD8Async(to, 0, bytes, self.stream) };
        self.context.check("cuMemsetD8Async", status)
    }

    /// Captures what `calls` queues into a graph ready to be launched; the context is current.
    pub fn capture(&self, calls: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive; the graph is destroyed once.
        unsafe {
            self.context.check("cuStreamBeginCapture", sys::cuStreamBeginCapture_v2(self.stream, mode))?;
            let queued = calls();
            let mut graph = null_mut();
            // Ended whatever has happened, or the stream would stay of no use.
            let ended =
                self.context.check("cuStreamEndCapture", sys::cuStreamEndCapture(self.stream, &mut graph));
            let mut exec = null_mut();
            let instantiated = queued.and(ended).and_then(|()| {
                let status = sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0);
                self.context.check("cuGraphInstantiate", status)
            });
            if !graph.is_null() {
                let _ = sys::cuGraphDestroy(graph);
            }
            instantiated?;
            let graph = Graph { context: Arc::clone(&self.context), exec };
            self.context.check("cuGraphUpload", sys::cuGraphUpload(exec, self.stream))?;
            Ok(graph)
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once; work still queued is finished first.
        self.context.release(|| unsafe {
            let _ = sys::cuStreamSynchronize(self.stream);
            let _ = sys::cuStreamDestroy_v2(self.stream);
        });
    }
}

/// A CUDA graph ready to be launched.
#[derive(Debug)]
pub(super) struct Graph {
    context: Arc<Context>,
    exec: sys::CUgraphExec,
}

// SAFETY: the handle is only passed to the driver; a session, which owns it, launches it from one thread at a time.
unsafe impl Send for Graph {}
// SAFETY: nothing is done through a shared reference but by the session's exclusive owner.
unsafe impl Sync for Graph {}

impl Graph {
    /// Queues the graph; the context is current.
    ///
    /// # Safety
    ///
    /// The stream is one of this context; the memory that the graph uses is there until it is done.
    pub unsafe fn launch(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: instantiated by `capture`; stream and memory by the caller.
        self.context.check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.exec, stream) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.context.release(|| {
            // SAFETY: instantiated by `capture`, destroyed once; one that is running is freed when it is done.
            let _ = unsafe { sys::cuGraphExecDestroy(self.exec) };
        });
    }
}

impl KernelCall {
    /// Queues the kernel; the context is current.
    ///
    /// # Safety
    ///
    /// The stream is one of this context; the kernel's module is loaded, the parameters are the kernel's, and the memory
    /// they name is there until it is done.
    pub unsafe fn launch(&self, context: &Context, stream: sys::CUstream) -> Result<()> {
        let mut params = self.params;
        let mut arguments = [params.as_mut_ptr().cast::<c_void>()];
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let [x, y, z] = self.grid;
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: self.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: self.shared_bytes,
            hStream: stream,
            attrs: &mut attribute,
            numAttrs: c_uint::from(self.dependent),
        };
        let (function, arguments) = (self.function.handle, arguments.as_mut_ptr());
        // SAFETY: attributes and arguments live until the call has copied them; the rest is the caller's promise.
        let status = unsafe { sys::cuLaunchKernelEx(&config, function, arguments, null_mut()) };
        context.check("cuLaunchKernelEx", status)
    }
}

/// The context that a stream of a caller's belongs to; this context is current.
///
/// # Safety
///
/// The stream is alive, or one of the driver's default streams.
pub(super) unsafe fn context_of(context: &Context, stream: sys::CUstream) -> Result<sys::CUcontext> {
    let mut of = null_mut();
    // SAFETY: `of` is a live value; the stream is alive by the caller.
    context.check("cuStreamGetCtx", unsafe { sys::cuStreamGetCtx(stream, &mut of) })?;
    Ok(of)
}

/// Whether a stream is being captured; the context is current.
///
/// # Safety
///
/// As for [`context_of`].
pub(super) unsafe fn is_capturing(context: &Context, stream: sys::CUstream) -> Result<bool> {
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: `status` is a live value; the stream is alive by the caller.
    context.check("cuStreamIsCapturing", unsafe { sys::cuStreamIsCapturing(stream, &mut status) })?;
    Ok(status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}

/// A point in a stream, for timing.
#[derive(Debug)]
pub(super) struct Event {
    context: Arc<Context>,
    event: sys::CUevent,
    elapsed: ElapsedTime,
}

/// `cuEventElapsedTime`, whose name changed with CUDA 12.8: milliseconds between two events.
type ElapsedTime = unsafe extern "system" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;

impl Event {
    /// The context is current. Errors: a driver that does not tell the time between events.
    pub fn new(context: &Arc<Context>) -> Result<Event> {
        // SAFETY: the type is that of cuda.h, under either name.
        let elapsed = unsafe { library::function(&[c"cuEventElapsedTime_v2", c"cuEventElapsedTime"]) };
        let elapsed = elapsed.ok_or_else(|| {
            let expected = "a driver that tells the time between events";
            Error::new(ErrorKind::Device, "cuda", expected, "one without cuEventElapsedTime")
        })?;
        let mut event = null_mut();
        // SAFETY: `event` is a live value.
        context.check("cuEventCreate", unsafe { sys::cuEventCreate(&mut event, 0) })?;
        Ok(Event { context: Arc::clone(context), event, elapsed })
    }

    /// Puts it behind all work queued so far; the context is current.
    pub fn record(&self, stream: &Stream) -> Result<()> {
        // SAFETY: event and stream are alive.
        self.context.check("cuEventRecord", unsafe { sys::cuEventRecord(self.event, stream.handle()) })
    }

    /// Milliseconds from an earlier event to this one, both of them reached; the context is current.
    pub fn milliseconds_since(&self, earlier: &Event) -> Result<f32> {
        let mut milliseconds = 0.0;
        // SAFETY: both events are alive.
        let status = unsafe { (self.elapsed)(&mut milliseconds, earlier.event, self.event) };
        self.context.check("cuEventElapsedTime", status)?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.context.release(|| {
            // SAFETY: created by `new`, destroyed once.
            let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
        });
    }
}
