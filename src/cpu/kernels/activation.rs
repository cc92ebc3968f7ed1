//! Activations of each lane. A NaN stays one.

use crate::cpu::simd::{self, Simd};
use crate::op::Activation;

/// An activation of each lane; `slope` is a PReLU's, and counts for nothing else.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(activation: Activation, slope: S::V, v: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        match activation {
            Activation::None => v,
            Activation::Relu => S::max(zero, v),
            Activation::Relu6 => relu6::<S>(v),
            Activation::LeakyRelu { negative_slope } => leaky_relu::<S>(S::splat(negative_slope), v),
            Activation::Prelu => leaky_relu::<S>(slope, v),
            // One of the two terms is zero.
            Activation::Elu => S::add(S::max(zero, v), simd::exp_minus_1::<S>(S::min(zero, v))),
            Activation::Sigmoid => simd::sigmoid::<S>(v),
            Activation::HardSigmoid => hard_sigmoid::<S>(v),
            // Below -100 the quotient is nothing, however large the numerator.
            Activation::Silu => {
                let least = S::max(S::splat(-100.0), v);
                S::div(least, S::add(one, simd::exp::<S>(S::sub(zero, v))))
            }
            Activation::HardSwish => S::mul(v, hard_sigmoid::<S>(v)),
            Activation::Tanh => tanh::<S>(v),
            Activation::Gelu => gelu::<S>(v),
            Activation::GeluTanh => gelu_tanh::<S>(v),
        }
    }
}

#[inline(always)]
unsafe fn relu6<S: Simd>(v: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::min(S::splat(6.0), S::max(S::splat(0.0), v)) }
}

/// max(0, v) + slope * min(0, v): one of the two is zero.
#[inline(always)]
unsafe fn leaky_relu<S: Simd>(slope: S::V, v: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        S::mul_add(slope, S::min(zero, v), S::max(zero, v))
    }
}

/// relu6(v + 3) / 6
#[inline(always)]
unsafe fn hard_sigmoid<S: Simd>(v: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::mul(relu6::<S>(S::add(v, S::splat(3.0))), S::splat(1.0 / 6.0)) }
}

/// (e - 1) / (e + 1) with e = exp(2v)
#[inline(always)]
unsafe fn tanh<S: Simd>(v: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let less = simd::exp_minus_1::<S>(S::add(v, v));
        S::div(less, S::add(less, S::splat(2.0)))
    }
}

/// v * Phi(v) = max(0, v) - |v| * erfc(|v| / sqrt(2)) / 2, whatever v's sign.
///
/// erfc(z) = t * exp(-z^2 + p(t)) with t = 1 / (1 + z/2), to 1.2e-7 of itself for every z >= 0 (the coefficients of p are those
/// of Press et al., Numerical Recipes, "Error Function").
#[inline(always)]
unsafe fn gelu<S: Simd>(v: S::V) -> S::V {
    const P: [f32; 9] = [
        -0.822_152_26,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        let magnitude = S::max(S::sub(zero, v), v);
        let z = S::mul(magnitude, S::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = S::div(S::splat(1.0), S::mul_add(z, S::splat(0.5), S::splat(1.0)));
        let mut p = S::splat(0.170_872_77);
        for coefficient in P {
            p = S::mul_add(p, t, S::splat(coefficient));
        }
        let exponent = S::sub(p, S::mul(z, z));
        let erfc = S::mul(t, simd::exp::<S>(exponent));
        S::sub(S::max(zero, v), S::mul(S::mul(magnitude, S::splat(0.5)), erfc))
    }
}

/// v * sigmoid(2u) with u = sqrt(2/pi) * (v + 0.044715 v^3), which is v * (1 + tanh(u)) / 2.
#[inline(always)]
unsafe fn gelu_tanh<S: Simd>(v: S::V) -> S::V {
    const TWICE: f32 = 1.595_769_1; // 2 * sqrt(2/pi)
    // SAFETY: the caller's promise.
    unsafe {
        let cubic = S::mul_add(S::mul(v, v), S::splat(0.044_715), S::splat(1.0));
        // Beyond what exp takes the sigmoid is 0, and v had better be no more than a number.
        let least = S::max(S::splat(-100.0), v);
        S::mul(least, simd::sigmoid::<S>(S::mul(S::mul(v, S::splat(TWICE)), cubic)))
    }
}
