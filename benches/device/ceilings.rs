//! What this machine can do at most, to hold operators against: multiply-adds in registers, and copies between
//! arrays larger than its caches.

#![allow(unsafe_code, reason = "vector instructions")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use awsnet::Isa;

/// The most that so many threads reach together.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Floating-point operations a second in f32, a multiply-add counting 2.
    pub flop_per_s: f64,
    /// Bytes a second that a copy reads and writes, both counted.
    pub bytes_per_s: f64,
}

/// How long each of the two is measured.
const TIME: Duration = Duration::from_millis(200);

/// Larger than what a thread has of the last-level cache, on any processor of today.
const COPY_BYTES: usize = 128 << 20;

/// Independent sums that are computed at once: more than a processor starts while one multiply-add takes its time.
const SUMS: usize = 12;
const STEPS: u64 = 4096;

impl Ceilings {
    pub fn measure(threads: usize) -> Self {
        let flop_per_s = rate(threads, || {
            let vectors = multiply_adds();
            move || vectors() * 2.0
        });
        let bytes_per_s = rate(threads, || {
            let (from, mut to) = (vec![1u8; COPY_BYTES], vec![0u8; COPY_BYTES]);
            move || {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to);
                2.0 * COPY_BYTES as f64
            }
        });
        Ceilings { flop_per_s, bytes_per_s }
    }
}

/// The work a second that all threads together do, of what each call says it has done.
fn rate<W: FnMut() -> f64>(threads: usize, work: impl Fn() -> W + Sync) -> f64 {
    let ready = Barrier::new(threads);
    std::thread::scope(|scope| {
        let of_thread = || {
            let mut work = work();
            work();
            ready.wait();
            let (started, mut done) = (Instant::now(), 0.0);
            while started.elapsed() < TIME {
                done += work();
            }
            done / started.elapsed().as_secs_f64()
        };
        let others: Vec<_> = (0..threads).map(|_| scope.spawn(of_thread)).collect();
        others.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

/// A block of multiply-adds with the widest vectors there are; gives their number.
fn multiply_adds() -> fn() -> f64 {
    match Isa::detect() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instruction set.
        Isa::Avx512 => || unsafe { x86::avx512() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => || unsafe { x86::avx2() },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon,
        Isa::Portable => portable,
        other => panic!("{other}: its ceiling is to be measured here"),
    }
}

fn portable() -> f64 {
    const LANES: usize = 4;
    let (factor, addend) = (black_box([0.5f32; LANES]), black_box([1.0f32; LANES]));
    let mut sums = [[0.0f32; LANES]; SUMS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            for lane in 0..LANES {
                sum[lane] = sum[lane] * factor[lane] + addend[lane];
            }
        }
    }
    black_box(sums);
    (STEPS * (SUMS * LANES) as u64) as f64
}

#[cfg(target_arch = "aarch64")]
fn neon() -> f64 {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32};
    /// A processor may have four units, of a latency of four.
    const SUMS: usize = 16;
    // SAFETY: every aarch64 processor with an operating system has NEON.
    unsafe {
        let (factor, addend) = black_box((vdupq_n_f32(0.5), vdupq_n_f32(1.0)));
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = vfmaq_f32(addend, *sum, factor);
            }
        }
        black_box(sums);
    }
    (STEPS * (SUMS * 4) as u64) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{STEPS, SUMS};

    /// A function that adds to `SUMS` vectors of `$lanes` numbers at a time.
    macro_rules! multiply_adds {
        ($name:ident, $features:literal, $lanes:literal, $set:ident, $fmadd:ident) => {
            #[target_feature(enable = $features)]
            pub fn $name() -> f64 {
                let (factor, addend) = black_box(($set(0.5), $set(1.0)));
                let mut sums = [$set(0.0); SUMS];
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        *sum = $fmadd(*sum, factor, addend);
                    }
                }
                black_box(sums);
                (STEPS * SUMS as u64 * $lanes) as f64
            }
        };
    }

    multiply_adds!(avx512, "avx512f", 16, _mm512_set1_ps, _mm512_fmadd_ps);
    multiply_adds!(avx2, "avx2,fma", 8, _mm256_set1_ps, _mm256_fmadd_ps);
}
