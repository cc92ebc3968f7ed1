//! What the backend takes from the driver, each in a type that gives it back when dropped: context, kernels, memory.
//! Streams, and what runs in them, are in [`stream`](super::stream).
//!
//! Every call goes through a [`Context`]: it makes the device's primary context current for as long as the calls last,
//! turns statuses into errors, and remembers an error that the driver will not recover from. Without a driver cudarc
//! panics, so that [`Context::retain`] probes first; with one, nothing here panics.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys::{self, CUresult};

use super::image;
use super::launch::Launch;
use super::probe::probe;
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

    /// The status of a driver call that only starts something: a fault that it returns is that of earlier work.
    pub fn check(&self, call: &str, status: CUresult) -> Result<()> {
        self.check_work(call, ", and all work queued before it", status)
    }

    /// The status of a driver call that waited for a run, whose fault it returns.
    pub fn check_run(&self, call: &str, status: CUresult) -> Result<()> {
        self.check_work(&format!("the run ({call})"), "", status)
    }

    fn check_work(&self, what: &str, earlier: &str, status: CUresult) -> Result<()> {
        if status == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let found = format!("{status:?} ({})", status as u32);
        if is_sticky(status) {
            self.poisoned.store(true, Ordering::Relaxed);
            let expected = format!(
                "{what}{earlier} to succeed (this engine is of no use any more: start a new process)"
            );
            return Err(Error::new(ErrorKind::Poisoned, self.place(), expected, found));
        }
        let (kind, expected) = match status as u32 {
            2 => (ErrorKind::Memory, format!("enough device memory for {what} (a smaller batch needs less)")),
            _ => (ErrorKind::Device, format!("{what} to succeed")),
        };
        Err(Error::new(kind, self.place(), expected, found))
    }

    /// Errors from the first fault on.
    pub fn check_poisoned(&self) -> Result<()> {
        match self.poisoned.load(Ordering::Relaxed) {
            true => Err(self.poisoned_error()),
            false => Ok(()),
        }
    }

    /// Bytes of the device's L2 cache.
    pub fn l2_bytes(&self) -> Result<usize> {
        let mut bytes = 0;
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
        // SAFETY: `bytes` is a live value.
        let status = unsafe { sys::cuDeviceGetAttribute(&mut bytes, attribute, self.device) };
        self.check("cuDeviceGetAttribute", status)?;
        Ok(bytes.unsigned_abs() as usize)
    }

    /// Runs `calls` with this context current, and leaves the thread's own as it was.
    pub fn scope<T>(&self, calls: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_poisoned()?;
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
    pub fn release(&self, free: impl FnOnce()) {
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
pub(super) struct Function {
    pub handle: sys::CUfunction,
    /// Compiled for sm_90 or newer: it waits for its predecessor by itself, and may be launched before that has ended.
    pub waits: bool,
}

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

    /// Looks up a kernel, which loads it, and allows it its shared memory; the context is current.
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
        // Of the code, not of the device: PTX for sm_80 that the driver translated for a newer device does not wait.
        let mut version = 0;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION;
        // SAFETY: as above; `version` is a live value.
        let status = unsafe { sys::cuFuncGetAttribute(&mut version, attribute, function) };
        self.context.check("cuFuncGetAttribute", status)?;
        Ok(Function { handle: function, waits: version >= 90 })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.context.release(|| {
            // SAFETY: loaded by `load`; sessions, which launch its kernels, hold it.
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
        self.context.release(|| {
            // SAFETY: allocated by `new`, freed once.
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
        self.context.release(|| {
            // SAFETY: allocated by `new`, freed once.
            let _ = unsafe { sys::cuMemFreeHost(self.address) };
        });
    }
}
