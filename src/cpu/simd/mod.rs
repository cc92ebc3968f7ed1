//! A vector of f32, and what the kernels do with it.
//!
//! A kernel is written once, generic over [`Simd`]. A file per instruction set implements the trait and compiles
//! the kernels with the features that its intrinsics need; everything generic is `#[inline(always)]`, so that the
//! intrinsics end up inside functions that have those features. A closure has not: no vector is computed in one.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod portable;

use crate::graph::target::Isa;

/// One instruction set's vector of f32.
///
/// # Safety
///
/// Every function needs a processor with the instruction set, and pointers that are valid for a whole vector.
pub(super) trait Simd: Copy {
    /// f32 values in a vector.
    const LANES: usize;
    /// Its name.
    const ISA: Isa;
    /// The register.
    type V: Copy;

    unsafe fn splat(value: f32) -> Self::V;
    /// Asks for the line at `from`, which need not be valid, to be brought into the second cache: more lines can be
    /// on their way to it than to the first.
    unsafe fn prefetch(from: *const f32);
    unsafe fn load(from: *const f32) -> Self::V;
    /// Finite F16 values, widened.
    unsafe fn load_f16(from: *const u16) -> Self::V;
    /// BF16 values, widened.
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each pair; `b` where one of them is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each pair; `b` where one of them is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// v * 2^n, for integers n from -126 to 127.
    unsafe fn scale_by_power_of_two(v: Self::V, n: Self::V) -> Self::V;
}

/// exp(x) = 2^n * (1 + r*q), to about two units in the last place.
///
/// n = round(x / ln 2) and |r| <= ln(2)/2, where Taylor's polynomial of degree 7 stands for exp(r) = 1 + r*q: its remainder,
/// about r^8/8!, stays below 2^-27. x is held within what 2^n can express.
struct Exp<S: Simd> {
    n: S::V,
    r: S::V,
    q: S::V,
}

impl<S: Simd> Exp<S> {
    #[inline(always)]
    unsafe fn of(x: S::V) -> Self {
        const LN_2_HIGH: f32 = 0.693_359_4; // 355/512: exact, and so is its product with n
        const LN_2_LOW: f32 = -2.121_944_4e-4; // ln 2 - LN_2_HIGH
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves no bit behind the binary point
        // SAFETY: the caller's promise.
        unsafe {
            let x = S::max(S::splat(-87.0), S::min(S::splat(88.0), x));
            let scaled = S::mul(x, S::splat(std::f32::consts::LOG2_E));
            let n = S::sub(S::add(scaled, S::splat(ROUND)), S::splat(ROUND));
            let r = S::mul_add(n, S::splat(-LN_2_HIGH), x);
            let r = S::mul_add(n, S::splat(-LN_2_LOW), r);
            let mut q = S::splat(1.0 / 5040.0);
            for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
                q = S::mul_add(q, r, S::splat(coefficient));
            }
            Exp { n, r, q }
        }
    }
}

/// exp(x), to about two units in the last place.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let Exp { n, r, q } = Exp::<S>::of(x);
        S::scale_by_power_of_two(S::mul_add(q, r, S::splat(1.0)), n)
    }
}

/// exp(x) - 1, to a few units in the last place, near 0 as well: 2^n * r*q + (2^n - 1), where nothing cancels.
#[inline(always)]
pub(super) unsafe fn exp_minus_1<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let Exp { n, r, q } = Exp::<S>::of(x);
        let one = S::splat(1.0);
        let power = S::scale_by_power_of_two(one, n);
        S::mul_add(power, S::mul(r, q), S::sub(power, one))
    }
}

/// 1 / (1 + exp(-x))
#[inline(always)]
pub(super) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// The body for each column of a tile, written out: a loop of this length may stay one, and then an index that the
/// compiler does not know keeps the sums out of the registers.
macro_rules! each_column {
    ($columns:ident, $column:ident, $body:expr) => {
        each_column!(@ $columns, $column, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $columns:ident, $column:ident, $body:expr, $($index:literal)*) => {
        $(if $index < $columns {
            let $column = $index;
            $body
        })*
    };
}

pub(super) use each_column;

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// Widens all 65536 values of a type by `load`; what is not finite is left out.
    fn widens<S: Simd>(load: unsafe fn(*const u16) -> S::V, expected: impl Fn(u16) -> f32) {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for bits in all.chunks(S::LANES) {
            let mut found = vec![0.0; S::LANES];
            // SAFETY: both have room for a vector.
            unsafe { S::store(found.as_mut_ptr(), load(bits.as_ptr())) };
            for (&bits, found) in bits.iter().zip(found) {
                let expected = expected(bits);
                assert!(
                    !expected.is_finite() || found.to_bits() == expected.to_bits(),
                    "{}: {bits:#x}",
                    S::ISA
                );
            }
        }
    }

    #[test]
    fn narrow_numbers_are_widened_exactly() {
        fn check<S: Simd>() {
            if !S::ISA.is_available() {
                eprintln!("NOT TESTED: this machine has no {}", S::ISA);
                return;
            }
            widens::<S>(S::load_f16, |bits| f16::from_bits(bits).to_f32());
            widens::<S>(S::load_bf16, |bits| bf16::from_bits(bits).to_f32());
        }
        check::<portable::Portable>();
        #[cfg(target_arch = "aarch64")]
        check::<neon::Neon>();
        #[cfg(target_arch = "x86_64")]
        check::<avx2::Avx2>();
        #[cfg(target_arch = "x86_64")]
        check::<avx512::Avx512>();
    }
}
