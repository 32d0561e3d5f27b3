//! Half precision and bfloat16 arithmetic, single and packed (PTX ISA, "Half Precision Floating Point
//! Instructions"). Every result is the exact one rounded once.

use half::{bf16, f16};

use super::Operation;
use super::decode::{Decoded, Decoder, Suffixes};
use super::float::extreme;
use super::registers::{LANES, Lane};
use super::rounding::{fma_to_odd, to_bf16};
use crate::ptx::{Instruction, Type};

/// A format of 16 bits.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Format {
    F16,
    Bf16,
}

impl Format {
    pub(super) fn to_f64(self, bits: u16) -> f64 {
        match self {
            Self::F16 => f16::from_bits(bits).to_f64(),
            Self::Bf16 => bf16::from_bits(bits).to_f64(),
        }
    }

    /// Rounded to the nearest even; NaN in its canonical form.
    pub(super) fn round(self, value: f64) -> u16 {
        match self {
            _ if value.is_nan() => 0x7fff,
            Self::F16 => f16::from_f64(value).to_bits(),
            Self::Bf16 => to_bf16(value),
        }
    }
}

/// A half as a single, exactly. Without branches, so that loops over lanes run in vector registers.
#[inline(always)]
pub(super) fn half_to_single(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // Scaling by 2^112 moves the exponent's bias from 15 to 127, subnormals included.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let value = if magnitude >= 0x7c00 << 13 { special } else { finite };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

/// A single rounded to the nearest half, ties to even; NaN in its canonical form.
#[inline(always)]
pub(super) fn single_to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Adding 0.5 leaves the bits of a subnormal half, rounded, at the end of the sum's fraction.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0x0fff + (magnitude >> 13 & 1)) >> 13;
    let half = if magnitude < 113 << 23 { small } else { normal.min(0x7c00) };
    let half = half | bits >> 16 & 0x8000;
    (if magnitude > 0x7f80_0000 { 0x7fff } else { half }) as u16
}

/// A single rounded to the nearest bfloat16, ties to even; NaN in its canonical form.
#[inline(always)]
pub(super) fn single_to_bfloat(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fff } else { rounded }) as u16
}

type Function = Box<dyn Fn([f64; 3]) -> f64 + Send + Sync>;

fn function(name: &str, nan: bool) -> Option<Function> {
    Some(match name {
        "add" => Box::new(|[a, b, _]| fma_to_odd(a, 1.0, b)),
        "sub" => Box::new(|[a, b, _]| fma_to_odd(a, 1.0, -b)),
        "mul" => Box::new(|[a, b, _]| a * b),
        "fma" => Box::new(|[a, b, c]| fma_to_odd(a, b, c)),
        "min" => Box::new(move |[a, b, _]| extreme!(a, b, true, nan)),
        "max" => Box::new(move |[a, b, _]| extreme!(a, b, false, nan)),
        "ex2" => Box::new(|[a, ..]| a.exp2()),
        "tanh" => Box::new(|[a, ..]| a.tanh()),
        _ => return None,
    })
}

/// Decodes an instruction on 16-bit floats; `None` when it is not one.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let name = i.opcode[0].as_str();
    let mut s = Suffixes::new(i);
    let (format, packed, ty) = match s.ty() {
        Some(ty @ Type::F16) => (Format::F16, false, ty),
        Some(ty @ Type::F16x2) => (Format::F16, true, ty),
        Some(ty @ Type::Bf16) => (Format::Bf16, false, ty),
        Some(ty @ Type::Bf16x2) => (Format::Bf16, true, ty),
        _ => return Ok(None),
    };
    s.one_of(&["rn", "approx"]);
    let (flush, saturate, relu, nan) = (s.take("ftz"), s.take("sat"), s.take("relu"), s.take("NaN"));
    cx.finish(&s, i)?;
    let d = cx.destination(i, 0, ty)?;
    if matches!(name, "neg" | "abs") {
        let a = cx.source(i, 1, ty)?;
        let signs = if packed { 0x8000_8000 } else { 0x8000 };
        let negate = name == "neg";
        return Ok(Some(Operation::Lanes(Box::new(move |r, m| {
            let value = u32::read(r, a).map(|v| if negate { v ^ signs } else { v & !signs });
            u32::write(r, d, value, m);
        }))));
    }
    let Some(function) = function(name, nan) else { return Ok(None) };
    let count = match name {
        "fma" => 3,
        "ex2" | "tanh" => 1,
        _ => 2,
    };
    let mut rows = [0; 3];
    for (index, row) in rows.iter_mut().enumerate().take(count) {
        *row = cx.source(i, index + 1, ty)?;
    }
    let one = move |bits: [u16; 3]| -> u16 {
        let flushed = |v: f64| if flush && v.abs() < 2f64.powi(-14) { 0f64.copysign(v) } else { v };
        let value = function(bits.map(|v| flushed(format.to_f64(v))));
        let value = if relu && !value.is_nan() { value.max(0.0) } else { value };
        let value = if saturate { if value > 0.0 { value.min(1.0) } else { 0.0 } } else { value };
        format.round(flushed(value))
    };
    Ok(Some(Operation::Lanes(Box::new(move |r, m| {
        let inputs = rows.map(|row| u32::read(r, row));
        let value: [u32; LANES] = std::array::from_fn(|n| {
            let low = one(inputs.map(|row| row[n] as u16));
            let high = if packed { one(inputs.map(|row| (row[n] >> 16) as u16)) } else { 0 };
            u32::from(high) << 16 | u32::from(low)
        });
        u32::write(r, d, value, m);
    }))))
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{half_to_single, single_to_bfloat, single_to_half};

    #[test]
    fn halves_convert_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let wanted = f16::from_bits(bits);
            if wanted.is_nan() {
                assert!(half_to_single(bits).is_nan());
                continue;
            }
            let single = wanted.to_f32();
            assert_eq!(half_to_single(bits).to_bits(), single.to_bits());
            // Every half, its neighbours in single precision, and the ties between two halves.
            let tie = f32::from_bits(single.to_bits() + 0x1000);
            for value in [single, single.next_up(), single.next_down(), tie, tie.next_up(), tie.next_down()] {
                if !value.is_nan() {
                    assert_eq!(single_to_half(value), f16::from_f32(value).to_bits(), "{value:e}");
                    assert_eq!(single_to_bfloat(value), bf16::from_f32(value).to_bits(), "{value:e}");
                }
            }
        }
    }
}
