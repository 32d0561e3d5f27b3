//! Directed rounding and rounding to odd, by error-free transformations (Boldo and Melquiond, "Emulation of
//! a FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).

/// A rounding mode of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even (`.rn`, `.rni`).
    Nearest,
    /// Towards zero (`.rz`, `.rzi`).
    Zero,
    /// Towards minus infinity (`.rm`, `.rmi`).
    Down,
    /// Towards plus infinity (`.rp`, `.rpi`).
    Up,
}

/// `value` rounded to odd given the sign of the exact result minus `value`: an inexact result gets an odd
/// last bit, so that rounding it once more to a shorter format is right in every mode.
#[inline(always)]
pub fn to_odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || !value.is_finite() || error.is_nan() || value.to_bits() & 1 == 1 {
        return value;
    }
    if error > 0.0 { value.next_up() } else { value.next_down() }
}

/// The rounding error of `sum = a + b` (Knuth's TwoSum).
#[inline(always)]
pub fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let b_part = sum - a;
    (a - (sum - b_part)) + (b - b_part)
}

/// `a b + c` rounded to odd in double precision, exact products assumed (inputs of at most 24 bits).
#[inline(always)]
pub fn fma_to_odd(a: f64, b: f64, c: f64) -> f64 {
    let product = a * b;
    let sum = product + c;
    to_odd(sum, sum_error(product, c, sum))
}

/// A double as a single in the given mode.
#[inline(always)]
pub fn to_single(value: f64, rounding: Rounding) -> f32 {
    let nearest = value as f32;
    if rounding == Rounding::Nearest || value.is_nan() || value.is_infinite() {
        return nearest;
    }
    let back = f64::from(nearest);
    let down = match rounding {
        Rounding::Zero => value > 0.0,
        Rounding::Down => true,
        Rounding::Up | Rounding::Nearest => false,
    };
    match (back > value, back < value) {
        (true, _) if down => nearest.next_down(),
        (_, true) if !down => nearest.next_up(),
        _ => nearest,
    }
}

/// `value`, the nearest double to a result, moved to its neighbour where `error` (of the sign of the exact
/// result minus `value`) and the mode ask for it.
#[inline(always)]
pub fn directed(value: f64, error: f64, rounding: Rounding) -> f64 {
    if error == 0.0 || error.is_nan() || value.is_nan() {
        return value;
    }
    match rounding {
        Rounding::Nearest => value,
        Rounding::Down if error < 0.0 => value.next_down(),
        Rounding::Up if error > 0.0 => value.next_up(),
        Rounding::Zero if value > 0.0 && error < 0.0 => value.next_down(),
        Rounding::Zero if value < 0.0 && error > 0.0 => value.next_up(),
        _ => value,
    }
}

/// A double rounded to an integral value in the given mode.
#[inline(always)]
pub fn to_integral(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// A double as `f16` or `bfloat16` bits rounded to the nearest; `mantissa` and `bias` describe the format.
pub fn to_bf16(value: f64) -> u16 {
    // Rounding to odd first keeps the second rounding right.
    let single = value as f32;
    let back = f64::from(single);
    let odd = if back == value || single.to_bits() & 1 == 1 || value.is_nan() || single.is_infinite() {
        single
    } else if back < value {
        single.next_up()
    } else {
        single.next_down()
    };
    half::bf16::from_f32(odd).to_bits()
}
