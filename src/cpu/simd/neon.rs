//! 8 lanes in two registers, aarch64 with NEON, which every aarch64 processor with an operating system has.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each function hands its caller's promise to an intrinsic"
)]

use std::arch::aarch64::*;

use super::Simd;
use crate::graph::target::Isa;

#[derive(Clone, Copy)]
pub(in crate::cpu) struct Neon;

/// Lanes 0 to 3, and 4 to 7.
type V = [float32x4_t; 2];

/// Four F16 values, as [`Simd::load_f16`] wants them: exponent and fraction go to their places in an F32, whose bias of
/// 127 stands in for that of 15, and a product makes up for it, exactly and for subnormal values too. The instruction that
/// widens them is not among Rust's stable ones.
#[inline(always)]
unsafe fn widened_f16(bits: uint16x4_t) -> float32x4_t {
    unsafe {
        let rebias = vdupq_n_f32(f32::from_bits((127 + 127 - 15) << 23));
        let bits = vmovl_u16(bits);
        let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
        let rest = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
        let magnitude = vmulq_f32(vreinterpretq_f32_u32(rest), rebias);
        vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(magnitude), sign))
    }
}

#[inline(always)]
unsafe fn widened_bf16(bits: uint16x4_t) -> float32x4_t {
    unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(bits)) }
}

impl Simd for Neon {
    const LANES: usize = 8;
    const ISA: Isa = Isa::Neon;
    type V = V;

    #[inline(always)]
    unsafe fn splat(value: f32) -> V {
        unsafe { [vdupq_n_f32(value); 2] }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        // An intrinsic for it is not stable.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{}]", in(reg) from, options(nostack, preserves_flags, readonly));
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> V {
        unsafe { [widened_f16(vld1_u16(from)), widened_f16(vld1_u16(from.add(4)))] }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> V {
        unsafe { [widened_bf16(vld1_u16(from)), widened_bf16(vld1_u16(from.add(4)))] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: V) {
        unsafe {
            vst1q_f32(to, v[0]);
            vst1q_f32(to.add(4), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        unsafe { [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        unsafe { [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul_add(a: V, b: V, c: V) -> V {
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }
    // A maximum of NEON's own is NaN where either is.
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        unsafe {
            [vbslq_f32(vcgtq_f32(a[0], b[0]), a[0], b[0]), vbslq_f32(vcgtq_f32(a[1], b[1]), a[1], b[1])]
        }
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        unsafe {
            [vbslq_f32(vcltq_f32(a[0], b[0]), a[0], b[0]), vbslq_f32(vcltq_f32(a[1], b[1]), a[1], b[1])]
        }
    }
    #[inline(always)]
    unsafe fn scale_by_power_of_two(v: V, n: V) -> V {
        // n goes into the exponent's bits, biased by 127: that is 2^n as a float.
        unsafe {
            let bias = vdupq_n_s32(127);
            let low = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n[0]), bias));
            let high = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n[1]), bias));
            [vmulq_f32(v[0], vreinterpretq_f32_s32(low)), vmulq_f32(v[1], vreinterpretq_f32_s32(high))]
        }
    }
}
