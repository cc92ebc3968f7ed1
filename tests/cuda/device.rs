//! The driver under test, found by the library as a program finds its driver: the emulated one, or with
//! `AWSNET_TEST_DRIVER` another. Only the emulated one counts, fails on demand and shows what is left behind; `faults` is
//! about that alone, so on a GPU this program runs with `--skip faults::`.

use std::ffi::c_int;
use std::process::Command;
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use awsnet::{Device, Target};
use libloading::Library;

use crate::machine;

/// The emulator's own interface (emulator/include/awsnet_emulator.h).
pub struct Emulator {
    schedule: unsafe extern "C" fn(u64, c_int),
    fail: unsafe extern "C" fn(u64, c_int),
    counters: unsafe extern "C" fn(*mut [u64; 64]),
    objects: unsafe extern "C" fn(*mut [u64; 64]),
}

/// Loads the driver before anything else could find another under its name; what the emulated one has beyond a driver.
fn emulation() -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
    let load = || {
        let driver = machine::driver();
        // SAFETY: the library's initialisers have no conditions; the signatures are those of its header.
        unsafe {
            let library = Library::new(driver).unwrap_or_else(|e| panic!("{}: {e}", driver.display()));
            let emulator = library.get(b"awsnet_emulator_schedule\0").ok().map(|schedule| Emulator {
                schedule: *schedule,
                fail: *library.get(b"awsnet_emulator_fail\0").expect("its interface"),
                counters: *library.get(b"awsnet_emulator_counters\0").expect("its interface"),
                objects: *library.get(b"awsnet_emulator_objects\0").expect("its interface"),
            });
            std::mem::forget(library); // in use until the process ends
            emulator
        }
    };
    EMULATOR.get_or_init(load).as_ref()
}

/// Panics on a real driver.
pub fn emulator() -> &'static Emulator {
    emulation().expect("the emulated driver, which this test needs")
}

/// The seed of this thread's schedule; copies arrive as late as they may. A real device has its own.
pub fn schedule(seed: u64) {
    if let Some(emulator) = emulation() {
        // SAFETY: no pointers.
        unsafe { (emulator.schedule)(seed, 1) }
    }
}

/// What this thread has asked for so far; a real driver does not count.
pub fn counters() -> Option<Counters> {
    emulation().map(Emulator::counters)
}

/// A program that will find the same driver.
pub fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(path);
    if let Some(folder) = machine::driver().parent().filter(|folder| !folder.as_os_str().is_empty()) {
        command.env("LD_LIBRARY_PATH", folder);
    }
    command
}

impl Emulator {
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
        let [calls, _, launches, _, _, device_memory_calls, pinned_memory_calls, graph_launches, ..] =
            counters;
        Counters { calls, launches, memory_calls: device_memory_calls + pinned_memory_calls, graph_launches }
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
}

impl std::ops::Sub for Counters {
    type Output = Counters;

    fn sub(self, before: Counters) -> Counters {
        Counters {
            calls: self.calls - before.calls,
            launches: self.launches - before.launches,
            memory_calls: self.memory_calls - before.memory_calls,
            graph_launches: self.graph_launches - before.graph_launches,
        }
    }
}

static MEMORY: RwLock<()> = RwLock::new(());

/// Held by whoever uses the device.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    emulation();
    MEMORY.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Held by whoever counts the device's memory: nobody else uses it.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    emulation();
    MEMORY.write().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn gpu() -> Target {
    emulation();
    Device::Cuda { ordinal: 0 }.resolve().expect("a device").target
}
