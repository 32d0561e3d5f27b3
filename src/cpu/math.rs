//! Branch-free functions that the compiler vectorises inside [`super::simd::dispatch`].

/// e^x to 2 ulp: range reduction by ln 2 in two parts, then the polynomial of Cephes `expf`
/// (Moshier). Arguments are clamped to [-87, 88], where the result is a normal number; NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // The integer moves into the exponent field; wrapping drops the bits of ROUND.
    f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// sigmoid(x) and sigmoid(-x), each to a few ulp where it is small.
#[inline(always)]
pub fn sigmoids(x: f32) -> (f32, f32) {
    let small = exp(-x.abs());
    let large = 1.0 / (1.0 + small);
    let small = small * large;
    if x < 0.0 { (small, large) } else { (large, small) }
}

/// ln(1 + e^x) and ln(1 + e^-x), each to a few ulp where it is small: the larger of 0 and the exponent, plus
/// ln(1 + t) = 2 artanh(t / (2 + t)) with t = e^-|x| by its series, whose argument is at most 1/3.
#[inline(always)]
pub fn softplus(x: f32) -> (f32, f32) {
    let t = exp(-x.abs());
    let s = t / (2.0 + t);
    let q = s * s;
    let p = 1.0 / 13.0;
    let p = p * q + 1.0 / 11.0;
    let p = p * q + 1.0 / 9.0;
    let p = p * q + 1.0 / 7.0;
    let p = p * q + 1.0 / 5.0;
    let p = p * q + 1.0 / 3.0;
    let p = p * q + 1.0;
    let rest = 2.0 * s * p;
    let (up, down) = if x < 0.0 { (0.0, -x) } else { (x, 0.0) };
    (up + rest, down + rest)
}

/// x sigmoid(x): the SiLU (Hendrycks and Gimpel, 2016; Elfwing et al., 2018).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// d silu / dx = s (1 + x (1 - s)) with s = sigmoid(x).
#[inline(always)]
pub fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_f64() {
        for i in -86_999..88_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error}");
        }
    }

    #[test]
    fn small_probabilities_and_their_logarithms_are_those_of_f64() {
        for i in -80_000..80_000 {
            let x = i as f32 * 1e-3;
            let wide = f64::from(x);
            let pairs = [
                (sigmoids(x), [1.0 / (1.0 + (-wide).exp()), 1.0 / (1.0 + wide.exp())]),
                (softplus(x), [wide.exp().ln_1p(), (-wide).exp().ln_1p()]),
            ];
            for ((up, down), exact) in pairs {
                for (ours, exact) in [up, down].into_iter().zip(exact) {
                    let error = (f64::from(ours) - exact).abs() / exact;
                    // Those of e^-|x| and a handful of roundings.
                    assert!(error < 4.0 * f64::from(f32::EPSILON), "{x}: {ours} is off by {error}");
                }
            }
        }
    }

    #[test]
    fn extremes_stay_sane() {
        assert!(exp(f32::NAN).is_nan());
        assert!(softplus(f32::NAN).0.is_nan() && sigmoids(f32::NAN).1.is_nan());
        assert_eq!(softplus(1e30), (1e30, softplus(1e30).1));
        assert_eq!(softplus(-1e30).1, 1e30);
        assert!(silu(f32::NAN).is_nan());
        assert_eq!(sigmoid(200.0), 1.0);
        assert!(sigmoid(-1e30) < 1e-37);
        assert_eq!(silu_slope(1e3), 1.0);
        assert!(silu_slope(-1e3).abs() < 1e-34);
        assert_eq!(silu(0.0), 0.0);
    }
}
