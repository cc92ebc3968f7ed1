//! What the backend takes from the driver, each in a type that gives it back when dropped.
//!
//! Every call goes through a [`Context`]: it makes the device's primary context current for as long as the calls last,
//! turns statuses into errors, and remembers an error that the driver will not recover from. Without a driver cudarc
//! panics, so that [`Context::retain`] probes first; with one, nothing here panics.

use std::ffi::{CStr, CString, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys::{self, CUresult};

use super::launch::Launch;
use super::{image, probe};
use crate::error::{Error, ErrorKind, Result};

/// The primary context of a device, which every user of the device in this process shares.
#[derive(Debug)]
pub(super) struct Context {
    ordinal: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// An error that every later call would return was seen.
    poisoned: AtomicBool,
    /// A run was abandoned: the device may still use the memory, and freeing would wait for it.
    abandoned: AtomicBool,
}

// SAFETY: a context may be used from any thread; the handle is only passed to the driver.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Statuses after which a context gives the same answer for ever (the driver API's documentation of CUresult).
fn is_sticky(status: CUresult) -> bool {
    matches!(status as u32, 214 | 220 | 700 | 702 | 710 | 714..=719)
}

impl Context {
    /// Retains the primary context of a device that [`probe`] has found.
    pub fn retain(ordinal: usize) -> Result<Arc<Context>> {
        let found = probe()?.devices.len();
        if ordinal >= found {
            let expected = format!("a device number below {found}");
            return Err(Error::new(ErrorKind::Device, "cuda", expected, ordinal.to_string()));
        }
        let mut context = Context {
            ordinal,
            device: 0,
            context: null_mut(),
            poisoned: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        };
        // SAFETY: the driver is there, by the probe; every pointer names a live value of the type the call writes.
        unsafe {
            context.check("cuInit", sys::cuInit(0))?;
            let status = sys::cuDeviceGet(&mut context.device, ordinal as i32);
            context.check("cuDeviceGet", status)?;
            let status = sys::cuDevicePrimaryCtxRetain(&mut context.context, context.device);
            let retained = context.check("cuDevicePrimaryCtxRetain", status);
            if retained.is_err() {
                context.context = null_mut();
            }
            retained?;
        }
        Ok(Arc::new(context))
    }

    fn place(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    fn poisoned_error(&self) -> Error {
        let expected =
            "a device without an earlier fault (start a new process; other devices are not affected)";
        Error::new(ErrorKind::Poisoned, self.place(), expected, "an engine that a fault has poisoned")
    }

    /// A driver call's status as a result.
    fn check(&self, call: &str, status: CUresult) -> Result<()> {
        if status == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let found = format!("{status:?} ({})", status as u32);
        if is_sticky(status) {
            self.poisoned.store(true, Ordering::Relaxed);
            let expected =
                format!("{call} to succeed (this engine is of no use any more: start a new process)");
            return Err(Error::new(ErrorKind::Poisoned, self.place(), expected, found));
        }
        let (kind, expected) = match status as u32 {
            2 => (ErrorKind::Memory, format!("enough device memory for {call} (a smaller batch needs less)")),
            _ => (ErrorKind::Device, format!("{call} to succeed")),
        };
        Err(Error::new(kind, self.place(), expected, found))
    }

    /// Runs `calls` with this context current, and leaves the thread's own as it was.
    pub fn scope<T>(&self, calls: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(self.poisoned_error());
        }
        let mut current = null_mut();
        // SAFETY: `current` is a live value; the context is retained.
        unsafe {
            self.check("cuCtxGetCurrent", sys::cuCtxGetCurrent(&mut current))?;
            if current == self.context {
                return calls();
            }
            self.check("cuCtxPushCurrent", sys::cuCtxPushCurrent_v2(self.context))?;
            let result = calls();
            let popped = self.check("cuCtxPopCurrent", sys::cuCtxPopCurrent_v2(&mut current));
            result.and_then(|value| popped.map(|()| value))
        }
    }

    /// Frees something: with the context current, whatever its state, and no error to report to.
    fn release(&self, free: impl FnOnce()) {
        if self.abandoned.load(Ordering::Relaxed) {
            return; // the device may be using it, for ever
        }
        let mut current = null_mut();
        // SAFETY: as in `scope`; in a poisoned context the calls fail and do nothing.
        unsafe {
            let is_current =
                sys::cuCtxGetCurrent(&mut current) == CUresult::CUDA_SUCCESS && current == self.context;
            let pushed = !is_current && sys::cuCtxPushCurrent_v2(self.context) == CUresult::CUDA_SUCCESS;
            free();
            if pushed {
                let _ = sys::cuCtxPopCurrent_v2(&mut current);
            }
        }
    }

    /// Marks the context as one whose work never ends: nothing of it is freed, and every later call is refused.
    pub fn abandon(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
        self.abandoned.store(true, Ordering::Relaxed);
    }

    pub fn handle(&self) -> sys::CUcontext {
        self.context
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.context.is_null() && !self.abandoned.load(Ordering::Relaxed) {
            // SAFETY: retained by `retain`, released once.
            let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
        }
    }
}

/// The embedded kernels on a device.
#[derive(Debug)]
pub(super) struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: a module's handle is only passed to the driver, which takes it from any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// A kernel of a [`Module`]; lives as long as it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(sys::CUfunction);

// SAFETY: as for `Module`.
unsafe impl Send for Function {}
// SAFETY: as for `Module`.
unsafe impl Sync for Function {}

/// Shared memory that a kernel gets unasked.
const UNASKED_SHARED_BYTES: usize = 48 << 10;

impl Module {
    /// Loads the embedded kernels; the context is current.
    pub fn load(context: &Arc<Context>, capability: u32) -> Result<Module> {
        let mut module = null_mut();
        // SAFETY: the image is a fat binary, or PTX that ends in a zero byte.
        let status = unsafe { sys::cuModuleLoadData(&mut module, image::image().as_ptr().cast()) };
        if matches!(status as u32, 200 | 209 | 218 | 222) {
            let driver =
                probe().map_or_else(|_| "?".to_owned(), |d| format!("{}.{}", d.version.0, d.version.1));
            let architectures: Vec<&str> = image::architectures().collect();
            let expected = format!(
                "a GPU and a driver for the embedded kernels, which are for {} (update the driver, or build with your own nvcc and AWSNET_CUDA_ARCHS={capability})",
                if architectures.is_empty() { "none".to_owned() } else { architectures.join(", ") },
            );
            let found = format!(
                "compute capability {}.{} with a driver for CUDA {driver}: {status:?}",
                capability / 10,
                capability % 10
            );
            return Err(Error::new(ErrorKind::Device, context.place(), expected, found));
        }
        context.check("cuModuleLoadData", status)?;
        Ok(Module { context: Arc::clone(context), module })
    }

    /// Looks up a kernel and allows it its shared memory; the context is current.
    pub fn function(&self, launch: &Launch) -> Result<Function> {
        let name = CString::new(launch.kernel.as_str()).unwrap_or_default();
        let mut function = null_mut();
        // SAFETY: the name ends in a zero byte, the module is loaded.
        let status = unsafe { sys::cuModuleGetFunction(&mut function, self.module, name.as_ptr()) };
        if status as u32 == 500 && image::architectures().next().is_none() {
            let expected =
                "a build of awsnet with CUDA kernels (build where nvcc is, or name it in AWSNET_NVCC)";
            return Err(Error::new(
                ErrorKind::Device,
                self.context.place(),
                expected,
                "one that found no nvcc",
            ));
        }
        self.context.check(&format!("cuModuleGetFunction of {}", launch.kernel), status)?;
        if launch.shared_bytes > UNASKED_SHARED_BYTES {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was found above.
            let status = unsafe { sys::cuFuncSetAttribute(function, attribute, launch.shared_bytes as i32) };
            let call = format!(
                "cuFuncSetAttribute of {} bytes of shared memory for {}",
                launch.shared_bytes, launch.kernel
            );
            self.context.check(&call, status)?;
        }
        Ok(Function(function))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`; sessions, which launch its kernels, hold it.
        self.context.release(|| {
            let _ = unsafe { sys::cuModuleUnload(self.module) };
        });
    }
}

/// Memory of the device.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    context: Arc<Context>,
    address: sys::CUdeviceptr,
}

impl DeviceMemory {
    /// Allocates `bytes`, whose contents are undefined; the context is current.
    pub fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<DeviceMemory> {
        let mut address = 0;
        // SAFETY: `address` is a live value.
        let status = unsafe { sys::cuMemAlloc_v2(&mut address, bytes.max(1)) };
        context.check(&format!("cuMemAlloc of {bytes} bytes for {what}"), status)?;
        Ok(DeviceMemory { context: Arc::clone(context), address })
    }

    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        self.context.release(|| {
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        });
    }
}

/// Memory of the host that the device copies from and to by itself.
#[derive(Debug)]
pub(super) struct PinnedMemory {
    context: Arc<Context>,
    address: *mut c_void,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for PinnedMemory {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// Allocates `bytes` of zeros; the context is current.
    pub fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<PinnedMemory> {
        let mut address = null_mut();
        // SAFETY: `address` is a live value; the memory is written before anybody reads it.
        unsafe {
            let status = sys::cuMemHostAlloc(&mut address, bytes.max(1), 0);
            context.check(&format!("cuMemHostAlloc of {bytes} bytes for {what}"), status)?;
            address.write_bytes(0, bytes.max(1));
        }
        Ok(PinnedMemory { context: Arc::clone(context), address, bytes })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and written by `new`; no copy of the device is under way, by the session's waits.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), self.bytes) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        self.context.release(|| {
            let _ = unsafe { sys::cuMemFreeHost(self.address) };
        });
    }
}

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
}

/// Words of 8 bytes that hold every parameter struct.
pub(super) const PARAMS_WORDS: usize = 32;

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
        self.context.check("the run (cuStreamSynchronize)", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Whether all work is done; the context is current.
    pub fn is_done(&self) -> Result<bool> {
        // SAFETY: the stream is alive.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => self.context.check("the run (cuStreamQuery)", status).map(|()| true),
        }
    }

    /// Copies to the device, in order with the stream.
    ///
    /// # Safety
    ///
    /// The device's memory is there; `from` stays unchanged until the copy is done.
    pub unsafe fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        let status = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.stream) };
        self.context.check("cuMemcpyHtoDAsync", status)
    }

    /// Copies `bytes` from the device, in order with the stream.
    ///
    /// # Safety
    ///
    /// The memory on both sides is there until the copy is done, and nobody uses the host's before.
    pub unsafe fn download(&self, to: *mut u8, from: u64, bytes: usize) -> Result<()> {
        let status = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, self.stream) };
        self.context.check("cuMemcpyDtoHAsync", status)
    }

    /// Writes zeros, in order with the stream.
    ///
    /// # Safety
    ///
    /// The device's memory is there until they are written.
    pub unsafe fn zero(&self, to: u64, bytes: usize) -> Result<()> {
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
        self.context.check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.exec, stream) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated by `capture`, destroyed once; one that is running is freed when it is done.
        self.context.release(|| {
            let _ = unsafe { sys::cuGraphExecDestroy(self.exec) };
        });
    }
}

impl KernelCall {
    /// Queues the kernel; the context is current.
    ///
    /// # Safety
    ///
    /// The stream is one of this context; the parameters are the kernel's, and the memory they name is there until it
    /// is done.
    pub unsafe fn launch(&self, context: &Context, stream: sys::CUstream) -> Result<()> {
        let mut params = self.params;
        let mut arguments = [params.as_mut_ptr().cast::<c_void>()];
        let [x, y, z] = self.grid;
        let status = unsafe {
            sys::cuLaunchKernel(
                self.function.0,
                x,
                y,
                z,
                self.threads,
                1,
                1,
                self.shared_bytes,
                stream,
                arguments.as_mut_ptr(),
                null_mut(),
            )
        };
        context.check("cuLaunchKernel", status)
    }
}

/// The context that a stream of a caller's belongs to; this context is current.
///
/// # Safety
///
/// The stream is alive, or one of the driver's default streams.
pub(super) unsafe fn context_of(context: &Context, stream: sys::CUstream) -> Result<sys::CUcontext> {
    let mut of = null_mut();
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
    context.check("cuStreamIsCapturing", unsafe { sys::cuStreamIsCapturing(stream, &mut status) })?;
    Ok(status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}

/// Every driver function that this backend calls, probed before cudarc would panic over a missing one.
pub(super) const REQUIRED: &[&CStr] = &[
    c"cuInit",
    c"cuDeviceGet",
    c"cuDevicePrimaryCtxRetain",
    c"cuDevicePrimaryCtxRelease_v2",
    c"cuCtxGetCurrent",
    c"cuCtxPushCurrent_v2",
    c"cuCtxPopCurrent_v2",
    c"cuModuleLoadData",
    c"cuModuleGetFunction",
    c"cuModuleUnload",
    c"cuFuncSetAttribute",
    c"cuMemAlloc_v2",
    c"cuMemFree_v2",
    c"cuMemHostAlloc",
    c"cuMemFreeHost",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuMemsetD8Async",
    c"cuStreamCreate",
    c"cuStreamDestroy_v2",
    c"cuStreamSynchronize",
    c"cuStreamQuery",
    c"cuStreamGetCtx",
    c"cuStreamIsCapturing",
    c"cuStreamBeginCapture_v2",
    c"cuStreamEndCapture",
    c"cuGraphInstantiateWithFlags",
    c"cuGraphUpload",
    c"cuGraphLaunch",
    c"cuGraphDestroy",
    c"cuGraphExecDestroy",
    c"cuLaunchKernel",
];
