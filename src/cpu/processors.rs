//! Which processors threads may use, and how many there are.
//!
//! A thread inherits the affinity of the thread that makes it. One that is pinned, as latency engineers pin theirs, would
//! have all threads of its sessions on its own processor. So the library's threads take what the *process* may use. No
//! system keeps that anywhere: it is what the process had when it began, before anybody was pinned, and what its main
//! thread and the caller have now.

use super::threads::Affinity;
use crate::error::{Error, ErrorKind, Result};

/// Has this thread use those processors from now on; `number` is the thread's among those that share them.
///
/// Errors: processors that cannot be had. Where only the process's are meant, none: what is inherited does.
pub(super) fn apply(affinity: &Affinity, number: usize) -> Result<()> {
    match affinity {
        Affinity::Inherit => Ok(()),
        Affinity::Process => {
            system::use_the_process_s();
            Ok(())
        }
        Affinity::Pinned(processors) => match processors.get(number % processors.len().max(1)) {
            Some(&processor) => pin(processor),
            None => Err(Error::new(ErrorKind::Input, "affinity", "processors to pin to", "none")),
        },
    }
}

fn pin(processor: usize) -> Result<()> {
    system::pin(processor).map_err(|found| {
        let expected = format!("to pin a thread to processor {processor}");
        Error::new(ErrorKind::Input, "affinity", expected, found)
    })
}

/// How many processors threads of this affinity have to themselves at once, the caller's included, as far as a container's
/// quota goes.
///
/// Errors: processors that cannot be had.
pub(super) fn available(affinity: &Affinity) -> Result<usize> {
    let here = || std::thread::available_parallelism().map_or(1, usize::from);
    // The standard library tells of the thread that asks: one of those that are to run is asked.
    let (affinity, most) = match affinity {
        Affinity::Inherit => return Ok(here()),
        Affinity::Process => (Affinity::Process, usize::MAX),
        // The caller has a processor of its own.
        Affinity::Pinned(processors) => (affinity.clone(), processors.len() + 1),
    };
    let asked = std::thread::Builder::new().spawn(move || {
        if let Affinity::Pinned(processors) = &affinity {
            for number in 0..processors.len().max(1) {
                apply(&affinity, number)?;
            }
        }
        apply(&Affinity::Process, 0)?;
        Ok(here())
    });
    // Without a thread there are none to run on either.
    let available = asked.map_or(Ok(1), |thread| thread.join().unwrap_or(Ok(1)))?;
    Ok(available.min(most))
}

#[cfg(target_os = "linux")]
mod system {
    use std::sync::OnceLock;

    /// Processors by number.
    #[derive(Clone, Copy, PartialEq)]
    struct Mask([u64; 128]);

    const BYTES: usize = size_of::<Mask>();

    /// That of the process when it began, and which process that is.
    static AT_THE_START: OnceLock<(u32, Mask)> = OnceLock::new();

    extern "C" fn look() {
        if let Some(mask) = Mask::of(0) {
            let _ = AT_THE_START.set((std::process::id(), mask));
        }
    }

    /// Called by the system's loader before `main`, or where the library is loaded at run time, then.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;

    impl Mask {
        /// That of a thread, 0 being this one; none where the system does not tell.
        fn of(thread: libc::pid_t) -> Option<Mask> {
            let mut mask = Mask([0; 128]);
            // SAFETY: the kernel writes at most as many bytes.
            let failed = unsafe { libc::sched_getaffinity(thread, BYTES, mask.0.as_mut_ptr().cast()) } != 0;
            (!failed).then_some(mask)
        }

        fn use_for_this_thread(&self) -> Result<(), String> {
            // SAFETY: the kernel reads as many bytes.
            let failed = unsafe { libc::sched_setaffinity(0, BYTES, self.0.as_ptr().cast()) } != 0;
            if failed { Err(std::io::Error::last_os_error().to_string()) } else { Ok(()) }
        }

        fn with(mut self, other: &Mask) -> Mask {
            self.0.iter_mut().zip(&other.0).for_each(|(mine, other)| *mine |= other);
            self
        }
    }

    pub fn use_the_process_s() {
        let Some(mine) = Mask::of(0) else { return };
        let process = std::process::id();
        // One that is forked begins with what it has then, which may be less than its parent's.
        let at_the_start = AT_THE_START.get().filter(|(of, _)| *of == process).map(|(_, mask)| *mask);
        let main = libc::pid_t::try_from(process).ok().and_then(Mask::of);
        let all = [at_the_start, main].iter().flatten().fold(mine, Mask::with);
        if all != mine {
            // Refused where processors were taken from the process since; then this thread has what its maker has.
            let _ = all.use_for_this_thread();
        }
    }

    pub fn pin(processor: usize) -> Result<(), String> {
        let mut mask = Mask([0; 128]);
        let word =
            mask.0.get_mut(processor / 64).ok_or_else(|| format!("a number above {}", 64 * 128 - 1))?;
        *word |= 1 << (processor % 64);
        mask.use_for_this_thread()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn use_the_process_s() {}

    pub fn pin(_: usize) -> Result<(), String> {
        Err("a system where the library cannot".to_owned())
    }
}
