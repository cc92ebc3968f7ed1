//! The driver's library, found without needing it: every failure is a value, nothing is linked.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::OnceLock;

use libloading::Library;

use super::probe::{DeviceInfo, Driver};
use crate::error::{Error, ErrorKind, Result};

type Status = c_int;

const SUCCESS: Status = 0;
const STUB_LIBRARY: Status = 34;
const NO_DEVICE: Status = 100;
const SYSTEM_DRIVER_MISMATCH: Status = 803;
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;
const MULTIPROCESSORS: c_int = 16;
const SHARED_BYTES_OPTIN: c_int = 97;
const NAME_BYTES: usize = 256;

fn missing(expected: &str, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::Device, "cuda", expected, found)
}

/// As [`probe`](super::probe()).
pub(super) fn ask() -> Result<Driver> {
    // SAFETY: the names and signatures are those of cuda.h.
    unsafe { ask_library(library()?) }
}

/// The driver's library, opened once. It is never closed: the driver's threads would lose their code.
fn library() -> Result<&'static Library> {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    if let Some(library) = LIBRARY.get() {
        return Ok(library);
    }
    let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    // SAFETY: the driver's library is made to be loaded; its initialisers run no code of ours.
    let library = unsafe { Library::new(name) }
        .map_err(|_| missing("an NVIDIA driver", format!("no {name} (is the driver installed?)")))?;
    Ok(LIBRARY.get_or_init(|| library))
}

/// A function of the driver's under the first of these names that it has: for what newer interfaces call otherwise, so
/// that the oldest bindings serve every driver.
///
/// # Safety
///
/// `F` is the function's type, a function pointer.
pub(super) unsafe fn function<F: Copy>(names: &[&CStr]) -> Option<F> {
    let driver = library().ok()?;
    // SAFETY: the caller's promise.
    names.iter().find_map(|name| unsafe { driver.get::<F>(name.to_bytes_with_nul()).ok().map(|f| *f) })
}

/// Calls a driver function by name and turns its status into an error.
macro_rules! call {
    ($library:expr, $name:literal, ($($type:ty),*), ($($argument:expr),*)) => {{
        let name = concat!($name, "\0");
        match $library.get::<unsafe extern "system" fn($($type),*) -> Status>(name.as_bytes()) {
            Err(_) => Err(missing("a newer NVIDIA driver", concat!("one without ", $name))),
            Ok(function) => match function($($argument),*) {
                SUCCESS => Ok(()),
                STUB_LIBRARY => Err(missing("an NVIDIA driver", "the stub library of the CUDA toolkit in its place")),
                NO_DEVICE => Err(missing("an NVIDIA GPU", "a driver that sees none (is CUDA_VISIBLE_DEVICES set?)")),
                SYSTEM_DRIVER_MISMATCH => Err(missing(
                    "a driver library that fits the kernel module",
                    "another version (restart after an update of the driver)",
                )),
                status => Err(missing("an NVIDIA driver that works", format!("error {status} from {}", $name))),
            },
        }
    }};
}

/// # Safety
///
/// The library is an NVIDIA driver, or offers what it offers under the same names.
unsafe fn ask_library(library: &Library) -> Result<Driver> {
    // SAFETY: by the caller the names have the signatures of cuda.h; every pointer is to a live value of the type and
    // length that the call writes, and the last byte of `name` ends it.
    unsafe {
        call!(library, "cuInit", (c_uint), (0))?;
        let mut version: c_int = 0;
        call!(library, "cuDriverGetVersion", (*mut c_int), (&mut version))?;
        let mut count: c_int = 0;
        call!(library, "cuDeviceGetCount", (*mut c_int), (&mut count))?;
        let mut devices = Vec::new();
        for ordinal in 0..count.max(0) {
            let mut device: c_int = 0;
            call!(library, "cuDeviceGet", (*mut c_int, c_int), (&mut device, ordinal))?;
            let mut name = [0 as c_char; NAME_BYTES];
            let length = NAME_BYTES as c_int;
            call!(
                library,
                "cuDeviceGetName",
                (*mut c_char, c_int, c_int),
                (name.as_mut_ptr(), length, device)
            )?;
            name[NAME_BYTES - 1] = 0;
            let mut attributes: [c_int; 4] = [0; 4];
            let asked = [CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS, SHARED_BYTES_OPTIN];
            for (value, attribute) in attributes.iter_mut().zip(asked) {
                call!(
                    library,
                    "cuDeviceGetAttribute",
                    (*mut c_int, c_int, c_int),
                    (value, attribute, device)
                )?;
            }
            let [major, minor, multiprocessors, shared_bytes] = attributes.map(c_int::unsigned_abs);
            let mut memory_bytes: usize = 0;
            call!(library, "cuDeviceTotalMem_v2", (*mut usize, c_int), (&mut memory_bytes, device))?;
            devices.push(DeviceInfo {
                ordinal: ordinal as usize,
                name: CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(),
                capability: (major, minor),
                memory_bytes: memory_bytes as u64,
                multiprocessors: multiprocessors as usize,
                shared_bytes: shared_bytes as usize,
            });
        }
        for name in REQUIRED {
            if library.get::<unsafe extern "system" fn()>(name.to_bytes_with_nul()).is_err() {
                let found = format!("one without {}", name.to_string_lossy());
                return Err(missing("a newer NVIDIA driver", found));
            }
        }
        if devices.is_empty() {
            return Err(missing("an NVIDIA GPU", "a driver that sees none (is CUDA_VISIBLE_DEVICES set?)"));
        }
        let version = version.unsigned_abs();
        Ok(Driver { version: (version / 1000, version % 1000 / 10), devices })
    }
}

/// Every driver function that this backend calls, probed before cudarc would panic over a missing one.
const REQUIRED: &[&CStr] = &[
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
    c"cuFuncGetAttribute",
    c"cuDeviceGetAttribute",
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
    c"cuLaunchKernelEx",
    c"cuEventCreate",
    c"cuEventRecord",
    c"cuEventDestroy_v2",
];
