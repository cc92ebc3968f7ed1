//! Threads: pools that engines share, and what a caller says of the library's threads and of its own.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Failure, awsnet_error, awsnet_status};
use super::guard::{Handle, Poison, destroy, guard, guard_silently};
use super::pointers::{Versioned, check, read_struct, slice};
use crate::{Affinity, Executor, Help, Pool, PoolOptions};

/// Which processors the library's threads may use, one of AWSNET_AFFINITY_*. The caller's own thread stays where it is.
pub type awsnet_affinity = i32;

/// What the process may use, whatever the thread is pinned to that makes the session or the pool.
pub const AWSNET_AFFINITY_PROCESS: i32 = 0;
/// What the thread that makes the session or the pool may use.
pub const AWSNET_AFFINITY_INHERIT: i32 = 1;
/// A processor for each thread, from the array processors: the first thread is pinned to the first, and so on, from the
/// beginning again where there are fewer. Linux only.
pub const AWSNET_AFFINITY_PINNED: i32 = 2;

/// For spin_us: a thread that waits sleeps at once.
pub const AWSNET_SPIN_NONE: i32 = -1;
/// For spin_us: a thread that waits never sleeps.
pub const AWSNET_SPIN_ALWAYS: i32 = -2;

/// What each of the library's threads calls first, with its number from 0 on, on several threads at once. It must return.
pub type awsnet_thread_start_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, number: u32)>;

/// A place for a thread of the caller's in a run. Not to be kept: awsnet_help_run is called with it once.
pub struct awsnet_help(Help);

/// Threads of the caller's own: has awsnet_help_run called with this help on one of them, soon or late, and returns at once.
/// It is called within runs, on any of their threads, and must return (no longjmp, no exception). A run never waits for a
/// help that has not begun.
pub type awsnet_executor_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, help: *mut awsnet_help)>;

/// How a pool is made. All zero but struct_size takes every default: awsnet_pool_options options =
/// AWSNET_POOL_OPTIONS_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_pool_options {
    /// sizeof(awsnet_pool_options)
    pub struct_size: u32,
    /// Threads that help those that run sessions; 0 is one for each processor that the process may use, but one.
    pub threads: u32,
    /// Microseconds that a thread that waits keeps its processor before it sleeps; 0 is the default, 200. Or
    /// AWSNET_SPIN_NONE or AWSNET_SPIN_ALWAYS.
    pub spin_us: i32,
    /// Where the threads run.
    pub affinity: awsnet_affinity,
    /// For AWSNET_AFFINITY_PINNED, the numbers of processors; else NULL.
    pub processors: *const u32,
    /// How many there are.
    pub processor_count: usize,
    /// What each thread calls first; NULL for nothing.
    pub thread_start: awsnet_thread_start_callback,
    /// For thread_start.
    pub thread_start_user_data: *mut c_void,
}

// SAFETY: `repr(C)`, integers, pointers and functions that NULL is none of, the size first.
unsafe impl Versioned for awsnet_pool_options {
    const FIRST_SIZE: usize = 16 + 4 * size_of::<usize>();
}

/// Threads that the sessions of several engines share. Any number of threads may use one at once.
pub struct awsnet_pool {
    poison: Poison,
    pub(super) pool: Pool,
}

impl Handle for awsnet_pool {
    const NAME: &'static str = "pool";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// Makes a pool, for awsnet_engine_options. options: NULL takes every default.
///
/// AWSNET_STATUS_MEMORY: a thread cannot be had.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_pool_create(
    options: *const awsnet_pool_options,
    pool: *mut *mut awsnet_pool,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = || {
        let options = match options.is_null() {
            true => PoolOptions::new(),
            // SAFETY: by the caller's word.
            false => unsafe { to_pool_options(read_struct(options, "options")?) }?,
        };
        check(pool, "pool")?;
        let created = Box::new(awsnet_pool { poison: Poison::default(), pool: Pool::new(&options)? });
        // SAFETY: checked above; writable by the caller's word.
        unsafe { pool.write(Box::into_raw(created)) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard(error, body) }
}

/// Frees a pool; NULL is none. Its threads end with the last engine and session that use it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_pool_destroy(pool: *mut awsnet_pool) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { destroy(pool) }
}

/// Works on a run until there is nothing to do for as long as the engine's threads spin, and frees the help; NULL is none.
/// Too late it returns at once. It may be called after the session is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_help_run(help: *mut awsnet_help) -> awsnet_status {
    guard_silently(|| {
        if !help.is_null() {
            check(help, "help")?;
            // SAFETY: made by `Box::into_raw` for an executor, which gives it back once, by its word.
            let help = unsafe { Box::from_raw(help) };
            help.0.run();
        }
        Ok(())
    })
}

/// # Safety
///
/// The array has as many elements as the struct says; the function can be called on any thread.
unsafe fn to_pool_options(options: awsnet_pool_options) -> Result<PoolOptions, Failure> {
    // SAFETY: passed on.
    let affinity = unsafe { to_affinity(options.affinity, options.processors, options.processor_count) }?;
    let mut pool = PoolOptions::new().threads(options.threads as usize).affinity(affinity);
    if let Some(spin) = to_spin(options.spin_us)? {
        pool = pool.spin(spin);
    }
    Ok(match to_start(options.thread_start, options.thread_start_user_data) {
        Some(start) => pool.thread_start(start),
        None => pool,
    })
}

/// # Safety
///
/// The array has so many elements.
pub(super) unsafe fn to_affinity(
    affinity: awsnet_affinity,
    processors: *const u32,
    count: usize,
) -> Result<Affinity, Failure> {
    let place = "options.processors";
    let affinity = match affinity {
        AWSNET_AFFINITY_PROCESS => Affinity::Process,
        AWSNET_AFFINITY_INHERIT => Affinity::Inherit,
        AWSNET_AFFINITY_PINNED => {
            // SAFETY: passed on.
            let processors = unsafe { slice(processors, count, place) }?;
            return Ok(Affinity::Pinned(processors.iter().map(|&number| number as usize).collect()));
        }
        unknown => {
            let expected = "one of AWSNET_AFFINITY_*";
            return Err(Failure::argument("options.affinity", expected, &unknown.to_string()));
        }
    };
    if !processors.is_null() || count != 0 {
        return Err(Failure::argument(place, "none unless for AWSNET_AFFINITY_PINNED", "some"));
    }
    Ok(affinity)
}

/// None is the default.
pub(super) fn to_spin(spin_us: i32) -> Result<Option<Duration>, Failure> {
    match spin_us {
        0 => Ok(None),
        AWSNET_SPIN_NONE => Ok(Some(Duration::ZERO)),
        AWSNET_SPIN_ALWAYS => Ok(Some(Duration::MAX)),
        _ => {
            let us = u64::try_from(spin_us).map_err(|_| {
                let expected = "microseconds, or one of AWSNET_SPIN_*";
                Failure::argument("options.spin_us", expected, &spin_us.to_string())
            })?;
            Ok(Some(Duration::from_micros(us)))
        }
    }
}

/// Something of a caller's, for its own functions.
struct UserData(*mut c_void);

// SAFETY: it is the function's alone, which the caller promises can be called from any thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    fn get(&self) -> *mut c_void {
        self.0
    }
}

pub(super) fn to_start(
    start: awsnet_thread_start_callback,
    user_data: *mut c_void,
) -> Option<impl Fn(usize) + Send + Sync + 'static> {
    let (start, user_data) = (start?, UserData(user_data));
    // SAFETY: the caller's function, with what it asked for.
    Some(move |number| unsafe { start(user_data.get(), number as u32) })
}

/// A caller's executor.
struct CallbackExecutor {
    spawn: unsafe extern "C" fn(user_data: *mut c_void, help: *mut awsnet_help),
    user_data: UserData,
}

impl Executor for CallbackExecutor {
    fn spawn(&self, help: Help) {
        let help = Box::into_raw(Box::new(awsnet_help(help)));
        // SAFETY: the caller's function, with what it asked for.
        unsafe { (self.spawn)(self.user_data.get(), help) }
    }
}

pub(super) fn to_executor(
    executor: awsnet_executor_callback,
    user_data: *mut c_void,
) -> Option<Arc<dyn Executor>> {
    let (spawn, user_data) = (executor?, UserData(user_data));
    Some(Arc::new(CallbackExecutor { spawn, user_data }))
}
