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
    objects: unsafe extern "C" fn(*mut [u64; 64]),
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
                objects: *library.get(b"awsnet_emulator_objects\0").expect("its interface"),
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

    /// What this thread has asked for so far.
    pub fn counters(&self) -> Counters {
        let mut counters = [0; 64]; // longer than the struct, which may grow
        // SAFETY: the struct is a row of 64-bit counters.
        unsafe { (self.counters)(&mut counters) };
        let [
            calls,
            _,
            launches,
            _,
            _,
            device_memory_calls,
            pinned_memory_calls,
            graph_launches,
            dependent_launches,
            ..,
        ] = counters;
        let memory_calls = device_memory_calls + pinned_memory_calls;
        Counters { calls, launches, memory_calls, graph_launches, dependent_launches }
    }

    /// What is alive in the process: contexts, modules, streams, events, graphs, executable graphs, device and pinned
    /// allocations and their bytes.
    pub fn objects(&self) -> [u64; 10] {
        let mut objects = [0; 64];
        // SAFETY: the struct is a row of 64-bit numbers.
        unsafe { (self.objects)(&mut objects) };
        std::array::from_fn(|index| objects[index])
    }
}

/// A thread's use of the driver since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    pub calls: u64,
    /// Kernels that ran.
    pub launches: u64,
    /// Calls that allocate or free memory of the device or pinned memory.
    pub memory_calls: u64,
    pub graph_launches: u64,
    /// Kernels that ran and could start before their predecessor had ended.
    pub dependent_launches: u64,
}

impl std::ops::Sub for Counters {
    type Output = Counters;

    fn sub(self, before: Counters) -> Counters {
        Counters {
            calls: self.calls - before.calls,
            launches: self.launches - before.launches,
            memory_calls: self.memory_calls - before.memory_calls,
            graph_launches: self.graph_launches - before.graph_launches,
            dependent_launches: self.dependent_launches - before.dependent_launches,
        }
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
