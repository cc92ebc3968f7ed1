//! 8 lanes as an array, in whatever registers the compiler finds for them.

use super::Simd;
use crate::graph::target::Isa;

#[derive(Clone, Copy)]
pub(in crate::cpu) struct Portable;

#[inline(always)]
fn each(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = 8;
    const ISA: Isa = Isa::Portable;
    type V = [f32; 8];

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: the caller's pointer is valid for a whole vector.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> [f32; 8] {
        // The exponent's bias is 15 there and 127 here; what is subnormal there becomes so here, and then normal.
        const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
        // SAFETY: the caller's pointer is valid for a whole vector.
        let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        bits.map(|bits| {
            let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
            f32::from_bits((f32::from_bits(rest) * REBIAS).to_bits() | sign)
        })
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> [f32; 8] {
        // SAFETY: the caller's pointer is valid for a whole vector.
        let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        bits.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; 8]) {
        // SAFETY: the caller's pointer is valid for a whole vector.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn scale_by_power_of_two(v: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        each(v, n, |v, n| v * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
}
