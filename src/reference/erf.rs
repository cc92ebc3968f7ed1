//! The normal distribution's cumulative function, which GELU is made of: Phi(x) = (1 + erf(x / sqrt(2))) / 2.

use std::f64::consts::PI;

/// Phi(x), to about 14 digits of itself on either side.
///
/// Near 0 by the series Phi(x) = 1/2 + pdf(x) * (x + x^3/3 + x^5/(3*5) + ...) (Marsaglia 2004, "Evaluating the Normal
/// Distribution"), whose terms are all of one sign; beyond by the tail's continued fraction, 1 - Phi(x) = pdf(x) / (x + 1 / (x +
/// 2 / (x + 3 / ...))) (Abramowitz and Stegun 26.2.14).
pub(super) fn normal_cdf(x: f64) -> f64 {
    let pdf = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
    if x.abs() < 3.0 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > sum.abs() * 1e-18 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 + pdf * sum;
    }
    if x.is_nan() {
        return x;
    }
    let fraction = (1..=200).rev().fold(x.abs(), |inner, n| x.abs() + f64::from(n) / inner);
    let tail = pdf / fraction;
    if x > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::normal_cdf;

    #[test]
    fn it_is_what_tables_say() {
        // Python: statistics.NormalDist().cdf(x), scipy.special.ndtr(x) for the tails.
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.0, 0.158_655_253_931_457_05),
            (2.5, 0.993_790_334_674_223_8),
            (-2.5, 0.006_209_665_325_776_132),
            (3.5, 0.999_767_370_920_964_4),
            (-3.5, 2.326_290_790_355_25e-4),
            (-6.0, 9.865_876_450_376_946e-10),
            (-10.0, 7.619_853_024_160_527e-24),
            (-40.0, 0.0),
        ] {
            let found = normal_cdf(x);
            assert!((found - expected).abs() <= 1e-12 * expected, "Phi({x}) = {found}, not {expected}");
        }
    }
}
