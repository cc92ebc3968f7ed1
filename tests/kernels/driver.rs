//! A device for the kernel tests: the driver and the module that the program's `under_test` names.
//!
//! Loaded once a process; every test thread works on a stream of its own. Driver calls are looked up by name in the
//! library itself, so that no other driver of the machine can slip in.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use awsnet::__tests::abi::{DevicePointer, Params};
use awsnet::__tests::launch::Launch;
use libloading::Library;

type Status = c_int;
type Handle = *mut c_void;

/// Declares the driver calls in use and looks them up.
macro_rules! calls {
    ($($name:ident($($arg:ty),*);)*) => {
        #[allow(non_snake_case)]
        struct Calls { $($name: unsafe extern "C" fn($($arg),*) -> Status,)* }
        impl Calls {
            fn load(library: &Library) -> Calls {
                // SAFETY: the signatures below are those of the driver's documentation.
                unsafe { Calls { $($name: *library.get(concat!(stringify!($name), "\0").as_bytes()).expect(stringify!($name)),)* } }
            }
        }
    };
}
calls! {
    cuInit(c_uint);
    cuDeviceGet(*mut c_int, c_int);
    cuDevicePrimaryCtxRetain(*mut Handle, c_int);
    cuCtxSetCurrent(Handle);
    cuModuleLoadData(*mut Handle, *const c_void);
    cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    cuFuncSetAttribute(Handle, c_int, c_int);
    cuStreamCreate(*mut Handle, c_uint);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuMemAlloc_v2(*mut DevicePointer, usize);
    cuMemFree_v2(DevicePointer);
    cuMemcpyHtoDAsync_v2(DevicePointer, *const c_void, usize, Handle);
    cuMemcpyDtoHAsync_v2(*mut c_void, DevicePointer, usize, Handle);
    cuLaunchKernel(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
    cuGetErrorString(Status, *mut *const c_char);
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub calls: u64,
    pub refused: u64,
    pub launches: u64,
    pub bytes_loaded: u64,
    pub bytes_stored: u64,
    pub device_memory_calls: u64,
    pub pinned_memory_calls: u64,
    pub graph_launches: u64,
    pub dependent_launches: u64,
}

/// The emulator's own interface (emulator/include/awsnet_emulator.h); a real driver has none.
struct Emulation {
    schedule: unsafe extern "C" fn(u64, c_int),
    counters: unsafe extern "C" fn(*mut Counters),
    written: unsafe extern "C" fn(DevicePointer),
    kernel: unsafe extern "C" fn(c_uint, *mut *const c_char, *mut usize, *mut c_uint) -> c_int,
}

struct Driver {
    calls: Calls,
    emulation: Option<Emulation>,
    context: Handle,
    module: Handle,
}
// SAFETY: contexts and modules of the driver may be used from any thread.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    fn load() -> Driver {
        let (path, image) = crate::under_test();
        // SAFETY: a CUDA driver; its initialisers have no conditions of their own.
        let library = unsafe { Library::new(path) }.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let calls = Calls::load(&library);
        // SAFETY: where the emulator's names exist, they have the signatures of its header.
        let emulation = unsafe {
            library.get(b"awsnet_emulator_schedule\0").ok().map(|schedule| Emulation {
                schedule: *schedule,
                counters: *library.get(b"awsnet_emulator_counters\0").expect("the emulator's interface"),
                written: *library.get(b"awsnet_emulator_written\0").expect("the emulator's interface"),
                kernel: *library.get(b"awsnet_emulator_kernel\0").expect("the emulator's interface"),
            })
        };
        std::mem::forget(library); // its functions are in use until the process ends
        let mut driver =
            Driver { calls, emulation, context: std::ptr::null_mut(), module: std::ptr::null_mut() };
        let (mut device, mut context, mut module) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: every pointer names a live value of the type the call writes; the image outlives the call.
        unsafe {
            driver.check((driver.calls.cuInit)(0));
            driver.check((driver.calls.cuDeviceGet)(&mut device, 0));
            driver.check((driver.calls.cuDevicePrimaryCtxRetain)(&mut context, device));
            driver.check((driver.calls.cuCtxSetCurrent)(context));
            driver.check((driver.calls.cuModuleLoadData)(&mut module, image.as_ptr().cast()));
        }
        (driver.context, driver.module) = (context, module);
        driver
    }

    fn get() -> &'static Driver {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        DRIVER.get_or_init(Driver::load)
    }

    #[track_caller]
    fn check(&self, status: Status) {
        if status != 0 {
            panic!("{}", self.message(status));
        }
    }

    fn message(&self, status: Status) -> String {
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the driver sets `text` to a string that lives for ever, or to null.
        unsafe {
            (self.calls.cuGetErrorString)(status, &mut text);
            match text.is_null() {
                true => format!("driver error {status}"),
                false => format!("driver error {status}: {}", CStr::from_ptr(text).to_string_lossy()),
            }
        }
    }
}

/// The kernels of the emulated driver, as (name, bytes of parameters, threads of a block); none of a real one.
pub fn emulated_kernels() -> Vec<(String, usize, usize)> {
    let Some(emulation) = &Driver::get().emulation else { return Vec::new() };
    let mut kernels = Vec::new();
    loop {
        let (mut name, mut bytes, mut threads) = (std::ptr::null(), 0, 0);
        // SAFETY: the pointers name live values; the name lives for ever.
        unsafe {
            if (emulation.kernel)(kernels.len() as c_uint, &mut name, &mut bytes, &mut threads) == 0 {
                return kernels;
            }
            kernels.push((
                CStr::from_ptr(name).to_str().expect("a name").to_owned(),
                bytes,
                threads as usize,
            ));
        }
    }
}

/// One stream, and what it is asked to do, in order.
pub struct Stream {
    driver: &'static Driver,
    stream: Handle,
}

/// Device memory, freed when dropped.
pub struct Buffer {
    driver: &'static Driver,
    pub address: DevicePointer,
    bytes: usize,
}

impl Stream {
    pub fn new() -> Stream {
        let driver = Driver::get();
        let mut stream = std::ptr::null_mut();
        const NON_BLOCKING: c_uint = 1;
        // SAFETY: the context was retained by `load` and is never released.
        unsafe {
            driver.check((driver.calls.cuCtxSetCurrent)(driver.context));
            driver.check((driver.calls.cuStreamCreate)(&mut stream, NON_BLOCKING));
        }
        Stream { driver, stream }
    }

    /// The seed of the schedule and the delivery of asynchronous copies, from here on; a real device has its own.
    pub fn schedule(&self, seed: u64, delivery: c_int) {
        if let Some(emulation) = &self.driver.emulation {
            // SAFETY: no pointers.
            unsafe { (emulation.schedule)(seed, delivery) }
        }
    }

    /// What kernels did so far on this thread; None of a real device.
    pub fn counters(&self) -> Option<Counters> {
        let emulation = self.driver.emulation.as_ref()?;
        let mut counters = Counters::default();
        // SAFETY: `counters` has the layout of the header.
        unsafe { (emulation.counters)(&mut counters) };
        Some(counters)
    }

    pub fn is_emulated(&self) -> bool {
        self.driver.emulation.is_some()
    }

    pub fn upload(&self, bytes: &[u8]) -> Buffer {
        let mut address = 0;
        // SAFETY: the copy reads `bytes`, which is pageable memory: it is done with when the call returns.
        unsafe {
            self.driver.check((self.driver.calls.cuMemAlloc_v2)(&mut address, bytes.len()));
            let from = bytes.as_ptr().cast();
            self.driver.check((self.driver.calls.cuMemcpyHtoDAsync_v2)(
                address,
                from,
                bytes.len(),
                self.stream,
            ));
        }
        Buffer { driver: self.driver, address, bytes: bytes.len() }
    }

    /// Makes a buffer one that a kernel may have written, as the maps of a network are: whoever reads it before it has
    /// waited for its predecessor faults.
    pub fn mark_written(&self, buffer: &Buffer) {
        if let Some(emulation) = &self.driver.emulation {
            // SAFETY: no pointers of the host's.
            unsafe { (emulation.written)(buffer.address) }
        }
    }

    /// Overwrites a buffer from its beginning.
    pub fn write(&self, buffer: &Buffer, bytes: &[u8]) {
        assert!(bytes.len() <= buffer.bytes);
        let from = bytes.as_ptr().cast();
        // SAFETY: as in `upload`.
        unsafe {
            self.driver.check((self.driver.calls.cuMemcpyHtoDAsync_v2)(
                buffer.address,
                from,
                bytes.len(),
                self.stream,
            ));
        }
    }

    pub fn download(&self, buffer: &Buffer) -> Vec<u8> {
        let mut bytes = vec![0; buffer.bytes];
        // SAFETY: the copy writes `bytes`, which lives until the stream is synchronised.
        unsafe {
            let to = bytes.as_mut_ptr().cast();
            self.driver.check((self.driver.calls.cuMemcpyDtoHAsync_v2)(
                to,
                buffer.address,
                bytes.len(),
                self.stream,
            ));
            self.driver.check((self.driver.calls.cuStreamSynchronize)(self.stream));
        }
        bytes
    }

    pub fn launch<P: Params>(&self, launch: &Launch, params: &P) {
        static LAUNCH: Mutex<()> = Mutex::new(());
        let calls = &self.driver.calls;
        let name = CString::new(launch.kernel.as_str()).expect("a kernel's name");
        let mut function = std::ptr::null_mut();
        let mut params = *params;
        let mut arguments = [(&raw mut params).cast::<c_void>()];
        const MAX_DYNAMIC_SHARED_BYTES: c_int = 8;
        let [x, y, z] = launch.grid.map(|blocks| c_uint::try_from(blocks).expect("a grid"));
        // SAFETY: the kernel's parameter is a `P`, copied by the call; the addresses in it are the caller's care.
        unsafe {
            self.driver.check((calls.cuModuleGetFunction)(&mut function, self.driver.module, name.as_ptr()));
            // What one thread sets holds for the launches of all.
            let _one_at_a_time = LAUNCH.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = launch.shared_bytes as c_int;
            self.driver.check((calls.cuFuncSetAttribute)(function, MAX_DYNAMIC_SHARED_BYTES, shared));
            self.driver.check((calls.cuLaunchKernel)(
                function,
                x,
                y,
                z,
                launch.threads as c_uint,
                1,
                1,
                launch.shared_bytes as c_uint,
                self.stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            ));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream was created by `new`; work still queued is finished by the call.
        unsafe { (self.driver.calls.cuStreamDestroy_v2)(self.stream) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the address was allocated by `upload`.
        unsafe { (self.driver.calls.cuMemFree_v2)(self.address) };
    }
}
