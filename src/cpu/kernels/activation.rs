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
    const TWICE: f32 = 1.595_769; // 2 * sqrt(2/pi)
    // SAFETY: the caller's promise.
    unsafe {
        let cubic = S::mul_add(S::mul(v, v), S::splat(0.044_715), S::splat(1.0));
        // Beyond what exp takes the sigmoid is 0, and v had better be no more than a number.
        let least = S::max(S::splat(-100.0), v);
        S::mul(least, simd::sigmoid::<S>(S::mul(S::mul(v, S::splat(TWICE)), cubic)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::portable::Portable;
    #[cfg(target_arch = "x86_64")]
    use crate::cpu::simd::{avx2::Avx2, avx512::Avx512};
    use crate::reference;

    const ALL: [Activation; 13] = [
        Activation::None,
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu { negative_slope: -0.3 },
        Activation::Prelu,
        Activation::Elu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::Silu,
        Activation::HardSwish,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
    ];

    /// A PReLU's.
    const SLOPE: f32 = 0.4;

    /// Small and large numbers of both signs, more of them where functions bend.
    fn numbers() -> Vec<f32> {
        let powers = (-140..=127).map(|exponent| 2f32.powi(exponent));
        let fine = (0..4000).map(|step| step as f32 * 0.005);
        powers.chain(fine).flat_map(|x| [x, -x, x * 1.37, -1.37 * x]).filter(|x| x.is_finite()).collect()
    }

    fn check<S: Simd>() {
        if !S::ISA.is_available() {
            eprintln!("NOT TESTED: this machine has no {}", S::ISA);
            return;
        }
        for activation in ALL {
            for x in numbers() {
                let mut found = vec![0.0; S::LANES];
                // SAFETY: the processor has the instruction set; there is room for a vector.
                unsafe {
                    S::store(found.as_mut_ptr(), activate::<S>(activation, S::splat(SLOPE), S::splat(x)));
                }
                let (found, x) = (f64::from(found[0]), f64::from(x));
                let exact = if activation == Activation::Prelu {
                    x.max(0.0) + f64::from(SLOPE) * x.min(0.0)
                } else {
                    reference::activate(activation, x)
                };
                // As verify has it for a value that is known, with half a unit for what is stored.
                let unit = 1.0 / f64::from(1 << 24);
                let bound = 4.0 * activation.lipschitz(SLOPE) * unit * x.abs()
                    + (activation.own_roundings() + 1.0) * unit * exact.abs()
                    + f64::from(f32::MIN_POSITIVE);
                let error = (found - exact).abs();
                let place = format!("{} of {x:e} on {}", activation.name(), S::ISA);
                assert!(
                    error <= bound,
                    "{place}: {found:e} for {exact:e}, off by {:.1} bounds",
                    error / bound
                );
            }
            let mut nan = vec![0.0; S::LANES];
            // SAFETY: as above.
            unsafe {
                S::store(nan.as_mut_ptr(), activate::<S>(activation, S::splat(SLOPE), S::splat(f32::NAN)))
            };
            assert!(nan.iter().all(|v| v.is_nan()), "{} of NaN on {}: {nan:?}", activation.name(), S::ISA);
        }
    }

    #[test]
    fn every_activation_is_its_formula_from_the_smallest_numbers_to_the_largest() {
        check::<Portable>();
        #[cfg(target_arch = "x86_64")]
        check::<Avx2>();
        #[cfg(target_arch = "x86_64")]
        check::<Avx512>();
    }
}
