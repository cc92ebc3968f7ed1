//! The emulated driver, found by the library under test as a program finds its driver.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use awsnet::{Device, Target};
use libloading::Library;

/// The folder of the library, built once a process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/emulated-driver");
        let output = Command::new(tool).output().expect("tools/emulated-driver");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
    })
}

/// The emulator's own interface (emulator/include/awsnet_emulator.h).
pub struct Emulator {
    schedule: unsafe extern "C" fn(u64, c_int),
    fail: unsafe extern "C" fn(u64, c_int),
    counters: unsafe extern "C" fn(*mut [u64; 64]),
    bytes_in_use: unsafe extern "C" fn() -> u64,
}

/// The driver, loaded before anything else could find another under its name.
pub fn emulator() -> &'static Emulator {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    EMULATOR.get_or_init(|| {
        // SAFETY: the library's initialisers have no conditions; the signatures are those of its header.
        unsafe {
            let library = Library::new(folder().join("libcuda.so.1")).expect("the emulated driver");
            let emulator = Emulator {
                schedule: *library.get(b"awsnet_emulator_schedule\0").expect("its interface"),
                fail: *library.get(b"awsnet_emulator_fail\0").expect("its interface"),
                counters: *library.get(b"awsnet_emulator_counters\0").expect("its interface"),
                bytes_in_use: *library.get(b"awsnet_emulator_bytes_in_use\0").expect("its interface"),
            };
            std::mem::forget(library); // in use until the process ends
            emulator
        }
    })
}

impl Emulator {
    /// The seed of this thread's schedule; copies arrive as late as they may.
    pub fn schedule(&self, seed: u64) {
        // SAFETY: no pointers.
        unsafe { (self.schedule)(seed, 1) }
    }

    /// Lets this thread's `call`-th driver call from now return `status`; 0 takes it back.
    pub fn fail(&self, call: u64, status: c_int) {
        // SAFETY: no pointers.
        unsafe { (self.fail)(call, status) }
    }

    /// This thread's driver calls, and the kernels that ran for it.
    pub fn calls_and_launches(&self) -> (u64, u64) {
        let mut counters = [0; 64]; // longer than the struct, which may grow
        // SAFETY: the struct is a row of 64-bit counters that begins with calls, refused, launches.
        unsafe { (self.counters)(&mut counters) };
        (counters[0], counters[2])
    }

    /// Device and pinned memory of the process.
    pub fn bytes_in_use(&self) -> u64 {
        // SAFETY: no arguments.
        unsafe { (self.bytes_in_use)() }
    }
}

static MEMORY: RwLock<()> = RwLock::new(());

/// Held by whoever uses the device.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    emulator();
    MEMORY.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Held by whoever counts the device's memory: nobody else uses it.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    emulator();
    MEMORY.write().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn gpu() -> Target {
    emulator();
    Device::Cuda { ordinal: 0 }.resolve().expect("the emulated device").target
}
