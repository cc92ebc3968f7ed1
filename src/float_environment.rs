//! How this thread's floating-point instructions round: the host may have set flush-to-zero, another direction of
//! rounding or trapping exceptions, and the results of this library are the same bits all the same.
//!
//! Whatever computes with floats on a thread of the caller's holds a [`FloatEnvironment`] meanwhile: loading, planning,
//! running, fitting images. The library's own threads hold one for life, and threads inherit their maker's.

#![allow(unsafe_code, reason = "the control registers of floating-point units")]

use std::marker::PhantomData;

/// The default environment, for as long as the value lives: to nearest, subnormal numbers kept, exceptions masked. When it
/// is dropped the thread has its own back, the flags of exceptions included.
#[must_use]
pub(crate) struct FloatEnvironment {
    host: Control,
    /// Of the thread that made it.
    here: PhantomData<*const ()>,
}

impl FloatEnvironment {
    pub(crate) fn enter() -> Self {
        let host = read();
        write(DEFAULT);
        FloatEnvironment { host, here: PhantomData }
    }
}

impl Drop for FloatEnvironment {
    fn drop(&mut self) {
        write(self.host);
    }
}

#[cfg(target_arch = "x86_64")]
type Control = u32;

/// MXCSR after a reset: all exceptions masked, none has happened.
#[cfg(target_arch = "x86_64")]
const DEFAULT: Control = 0x1f80;

#[cfg(target_arch = "x86_64")]
fn read() -> Control {
    let mut control = 0;
    // SAFETY: every x86-64 processor has SSE; the instruction writes four bytes.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags)) };
    control
}

#[cfg(target_arch = "x86_64")]
fn write(control: Control) {
    // SAFETY: as above; the value is the default, or one that the register had, so that no reserved bit is set. What the
    // compiler assumes of the environment is the default; another one comes from the host, and goes back to it.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
type Control = u64;

#[cfg(target_arch = "aarch64")]
const DEFAULT: Control = 0;

#[cfg(target_arch = "aarch64")]
fn read() -> Control {
    let control;
    // SAFETY: the register can be read everywhere.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags)) };
    control
}

#[cfg(target_arch = "aarch64")]
fn write(control: Control) {
    // SAFETY: the value is the default, or one that the register had.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Control = ();

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const DEFAULT: Control = ();

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> Control {}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write((): Control) {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn the_default_is_in_force_while_it_lives_and_the_hosts_comes_back() {
        let smallest = f32::from_bits(1);
        // Flush and denormals-are-zero; rounding up; down; to zero; exceptions that trap, none of which happens here.
        for host in [0x9fc0, 0x5f80, 0x3f80, 0x7f80, 0x0000] {
            let before = read();
            write(host);
            let inside = {
                let _default = FloatEnvironment::enter();
                let third = black_box(1.0_f32) / black_box(3.0);
                (third, black_box(smallest) * black_box(2.0), black_box(f32::MAX) * black_box(2.0))
            };
            let after = read();
            write(before);
            assert_eq!(inside, (1.0 / 3.0, f32::from_bits(2), f32::INFINITY), "{host:#x}");
            assert_eq!(after, host);
        }
    }
}
