//! Conversions, moves and address spaces (PTX ISA, "Data Movement and Conversion Instructions").

use super::decode::{Decoded, Decoder, Place, Suffixes};
use super::half::{Format, half_to_single, single_to_bfloat, single_to_half};
use super::integer::{lanes1, lanes2};
use super::registers::{LANES, Lane, Registers, binary, unary, vectorised};
use super::rounding::{Rounding, directed, to_integral, to_odd, to_single};
use super::{Operation, Row};
use crate::execute::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES};
use crate::ptx::{Instruction, Operand, Type};

/// Decodes `cvt`, `cvta`, `isspacep` and `mov`.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    match i.opcode[0].as_str() {
        "cvt" => convert(cx, i),
        "mov" => move_value(cx, i),
        "cvta" => change_space(cx, i),
        _ => is_in_space(cx, i),
    }
}

#[derive(Clone, Copy)]
struct Form {
    rounding: Rounding,
    integral: bool,
    flush: bool,
    saturate: bool,
    relu: bool,
}

fn convert(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let mut s = Suffixes::new(i);
    let mode = s.one_of(&["rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna"]).unwrap_or("");
    let rounding = match mode.as_bytes() {
        [_, b'z', ..] => Rounding::Zero,
        [_, b'm', ..] => Rounding::Down,
        [_, b'p', ..] => Rounding::Up,
        _ => Rounding::Nearest,
    };
    let form = Form {
        rounding,
        integral: mode.ends_with('i'),
        flush: s.take("ftz"),
        saturate: s.take("sat"),
        relu: s.take("relu"),
    };
    let (to, from) = (cx.ty(&mut s, i)?, cx.ty(&mut s, i)?);
    if matches!(to, Type::Tf32) || mode == "rna" {
        s.take("satfinite");
        cx.finish(&s, i)?;
        let rows = [cx.destination(i, 0, Type::F32)?, cx.source(i, 1, Type::F32)?];
        return Ok((to == Type::Tf32).then(|| to_tf32(rows, mode == "rna", form.relu)));
    }
    cx.finish(&s, i)?;
    if matches!(to, Type::F16x2 | Type::Bf16x2) {
        return pack_halves(cx, i, to, form);
    }
    // A register may be wider than the type it is read or written as.
    let d = cx.destination_row(cx.operand(i, 0)?, to)?;
    let a = cx.source_row(cx.operand(i, 1)?, from)?;
    Ok(match (d, a) {
        (Row::Word(d), Row::Word(a)) => {
            fast(to, from, form, [d, a]).or_else(|| Some(general(to, from, form, Row::Word(d), Row::Word(a))))
        }
        (Row::Long(d), Row::Word(a)) if to.size() == 8 && !form.saturate => {
            widen(to, from, [d, a]).or_else(|| Some(general(to, from, form, Row::Long(d), Row::Word(a))))
        }
        (Row::Word(d), Row::Long(a)) if to.size() == 4 && !form.saturate => {
            narrow(to, from, [d, a]).or_else(|| Some(general(to, from, form, Row::Word(d), Row::Long(a))))
        }
        _ => Some(general(to, from, form, d, a)),
    })
}

vectorised! {
fn to_tf32(rows: [u32; 2], away: bool, relu: bool) -> Operation {
    // `.rna` rounds ties away from zero, `.rn` to even; the low 13 bits become zero.
    lanes1!(rows, |a: u32| {
        let a = if relu && (a as i32) < 0 { 0 } else { a };
        let half = if away { 0x1000 } else { 0x0fff + (a >> 13 & 1) };
        if a & 0x7f80_0000 == 0x7f80_0000 { a } else { a.wrapping_add(half) & 0xffff_e000 }
    })
}
}

// The most frequent conversions between registers of 32 bits.
vectorised! {
fn fast(to: Type, from: Type, form: Form, rows: [u32; 2]) -> Option<Operation> {
    if form.saturate || form.flush || form.relu {
        return None;
    }
    let mode = form.rounding;
    Some(match (to, from) {
        (Type::F32, Type::S32) if mode == Rounding::Nearest => lanes1!(rows, |a: i32| a as f32),
        (Type::F32, Type::U32) if mode == Rounding::Nearest => lanes1!(rows, |a: u32| a as f32),
        (Type::F32, Type::F16) => lanes1!(rows, half_to_single),
        (Type::F32, Type::Bf16) => lanes1!(rows, |a: u16| f32::from_bits(u32::from(a) << 16)),
        (Type::F16, Type::F32) if mode == Rounding::Nearest => lanes1!(rows, single_to_half),
        (Type::Bf16, Type::F32) if mode == Rounding::Nearest => lanes1!(rows, single_to_bfloat),
        (Type::S32, Type::F32) if mode == Rounding::Zero => lanes1!(rows, |a: f32| a as i32),
        (Type::U32, Type::F32) if mode == Rounding::Zero => lanes1!(rows, |a: f32| a as u32),
        (Type::U32 | Type::S32, Type::U16) => lanes1!(rows, |a: u16| u32::from(a)),
        (Type::U32 | Type::S32, Type::U8) => lanes1!(rows, |a: u8| u32::from(a)),
        (Type::U16 | Type::S16, Type::U32 | Type::S32) => lanes1!(rows, |a: u32| a as u16),
        _ => return None,
    })
}
}

vectorised! {
fn widen(to: Type, from: Type, rows: [u32; 2]) -> Option<Operation> {
    Some(match (to, from) {
        (Type::U64 | Type::S64, Type::U32) => lanes1!(rows, |a: u32| u64::from(a)),
        (Type::U64 | Type::S64, Type::S32) => lanes1!(rows, |a: i32| i64::from(a)),
        (Type::F64, Type::F32) => lanes1!(rows, |a: f32| f64::from(a)),
        (Type::F64, Type::S32) => lanes1!(rows, |a: i32| f64::from(a)),
        (Type::F64, Type::U32) => lanes1!(rows, |a: u32| f64::from(a)),
        _ => return None,
    })
}
}

vectorised! {
fn narrow(to: Type, from: Type, rows: [u32; 2]) -> Option<Operation> {
    Some(match (to, from) {
        (Type::U32 | Type::S32, Type::U64 | Type::S64) => lanes1!(rows, |a: u64| a as u32),
        _ => return None,
    })
}
}

/// A number between its source and its destination: integers keep all their bits.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

fn number(bits: u64, from: Type, flush: bool) -> Option<Number> {
    Some(match from {
        Type::U8 | Type::B8 => Number::Integer((bits as u8).into()),
        Type::S8 => Number::Integer((bits as i8).into()),
        Type::U16 | Type::B16 => Number::Integer((bits as u16).into()),
        Type::S16 => Number::Integer((bits as i16).into()),
        Type::U32 | Type::B32 => Number::Integer((bits as u32).into()),
        Type::S32 => Number::Integer((bits as i32).into()),
        Type::U64 | Type::B64 => Number::Integer(bits.into()),
        Type::S64 => Number::Integer((bits as i64).into()),
        Type::F16 => Number::Float(Format::F16.to_f64(bits as u16)),
        Type::Bf16 => Number::Float(Format::Bf16.to_f64(bits as u16)),
        Type::F32 => {
            let value = f32::from_bits(bits as u32);
            Number::Float(if flush { super::float::flush(value) } else { value }.into())
        }
        Type::F64 => Number::Float(f64::from_bits(bits)),
        _ => return None,
    })
}

fn to_integer(value: Number, to: Type, form: Form) -> u64 {
    let bits = to.size() * 8;
    let (least, most) = if to.is_signed() {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        (0, (1i128 << bits) - 1)
    };
    match value {
        // Between integers the low bits stay unless `.sat` clamps; a signed one is sign-extended.
        Number::Integer(value) if !form.saturate => {
            let shift = 128 - bits;
            (if to.is_signed() { value << shift >> shift } else { value & most }) as u64
        }
        Number::Integer(value) => value.clamp(least, most) as u64,
        Number::Float(value) => (to_integral(value, form.rounding) as i128).clamp(least, most) as u64,
    }
}

fn to_float(value: Number, to: Type, form: Form) -> u64 {
    // The nearest double and the sign of what it leaves out.
    let (mut value, error) = match value {
        Number::Float(value) => (value, 0.0),
        Number::Integer(value) => {
            let nearest = value as f64;
            (nearest, (value - nearest as i128) as f64)
        }
    };
    if form.integral {
        value = to_integral(value, form.rounding);
    }
    if form.saturate {
        value = if value > 0.0 { value.min(1.0) } else { 0.0 };
    }
    if form.relu && value < 0.0 {
        value = 0.0;
    }
    match to {
        Type::F64 => directed(value, error, form.rounding).to_bits(),
        Type::F32 => {
            let single = to_single(to_odd(value, error), form.rounding);
            let single = if form.flush { super::float::flush(single) } else { single };
            (if single.is_nan() { 0x7fff_ffff } else { single.to_bits() }).into()
        }
        _ => to_half(
            to_odd(value, error),
            if to == Type::F16 { Format::F16 } else { Format::Bf16 },
            form.rounding,
        )
        .into(),
    }
}

/// A double in a 16-bit format in the given mode.
fn to_half(value: f64, format: Format, rounding: Rounding) -> u16 {
    let nearest = format.round(value);
    let back = format.to_f64(nearest);
    // Bits of one sign count up in magnitude.
    let toward_zero = |bits: u16| bits.wrapping_sub(1);
    let negative = value.is_sign_negative();
    match rounding {
        Rounding::Zero if back.abs() > value.abs() => toward_zero(nearest),
        Rounding::Down if back > value && !negative => toward_zero(nearest),
        Rounding::Down if back > value => nearest + 1,
        Rounding::Up if back < value && negative => toward_zero(nearest),
        Rounding::Up if back < value => nearest + 1,
        _ => nearest,
    }
}

fn general(to: Type, from: Type, form: Form, d: Row, a: Row) -> Operation {
    let float = matches!(to, Type::F16 | Type::Bf16 | Type::F32 | Type::F64);
    Operation::Lanes(Box::new(move |r, m| {
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            let bits = match a {
                Row::Word(a) => r.words[a as usize][lane].into(),
                Row::Long(a) => r.longs[a as usize][lane],
            };
            let Some(value) = number(bits, from, form.flush) else { continue };
            let bits = if float { to_float(value, to, form) } else { to_integer(value, to, form) };
            match d {
                Row::Word(d) => r.words[d as usize][lane] = bits as u32,
                Row::Long(d) => r.longs[d as usize][lane] = bits,
            }
        }
    }))
}

/// `cvt.rn.f16x2.f32 d, a, b`: `a` in the upper half, `b` in the lower.
fn pack_halves(cx: &mut Decoder<'_>, i: &Instruction, to: Type, form: Form) -> Decoded<Option<Operation>> {
    let rows = [cx.destination(i, 0, to)?, cx.source(i, 1, Type::F32)?, cx.source(i, 2, Type::F32)?];
    if form.rounding == Rounding::Nearest && !form.relu {
        return Ok(Some(pack_nearest(to == Type::F16x2, rows)));
    }
    let format = if to == Type::F16x2 { Format::F16 } else { Format::Bf16 };
    Ok(Some(lanes2!(rows, |a: f32, b: f32| {
        let one = |v: f32| {
            let v = if form.relu && v < 0.0 { 0.0 } else { v };
            u32::from(to_half(v.into(), format, form.rounding))
        };
        one(a) << 16 | one(b)
    })))
}

vectorised! {
fn pack_nearest(half: bool, rows: [u32; 3]) -> Operation {
    let pair = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
    if half {
        lanes2!(rows, |a: f32, b: f32| pair(single_to_half(a), single_to_half(b)))
    } else {
        lanes2!(rows, |a: f32, b: f32| pair(single_to_bfloat(a), single_to_bfloat(b)))
    }
}
}

fn move_value(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let mut s = Suffixes::new(i);
    let ty = cx.ty(&mut s, i)?;
    cx.finish(&s, i)?;
    let (target, source) = (cx.operand(i, 0)?, cx.operand(i, 1)?);
    if ty == Type::Pred {
        let ((d, _), (a, inverted)) = (cx.predicate(target)?, cx.predicate(source)?);
        let flip = if inverted { u32::MAX } else { 0 };
        return Ok(Some(Operation::Lanes(Box::new(move |r, m| {
            let value = r.predicates[a as usize] ^ flip;
            let old = &mut r.predicates[d as usize];
            *old = (*old & !m) | (value & m);
        }))));
    }
    match (target, source) {
        (Operand::Vector(parts), _) => return unpack(cx, i, parts, ty).map(Some),
        (_, Operand::Vector(parts)) => return pack(cx, i, parts, ty).map(Some),
        (_, &Operand::Variable(index, offset)) => {
            if let Place::Frame(at) = cx.place(index) {
                let d = cx.destination_row(target, ty)?;
                let offset = (i64::from(at) + offset) as u32;
                return Ok(Some(Operation::FrameAddress { d, offset }));
            }
        }
        (_, Operand::Special(name)) => {
            let d = cx.destination_row(target, ty)?;
            match name.as_str() {
                "%clock" | "%clock_hi" | "%clock64" => return Ok(Some(Operation::Clock { d })),
                "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi" => {
                    return Ok(Some(Operation::GlobalTimer { d }));
                }
                _ => {}
            }
        }
        _ => {}
    }
    let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?];
    Ok(Some(if ty.size() == 8 { lanes1!(rows, |a: u64| a) } else { lanes1!(rows, |a: u32| a) }))
}

fn part_rows(cx: &mut Decoder<'_>, parts: &[Operand], ty: Type, target: bool) -> Decoded<(Vec<u32>, u32)> {
    let bits = ty.size() * 8 / parts.len().max(1) as u32;
    let part = match bits {
        8 => Type::B8,
        16 => Type::B16,
        32 => Type::B32,
        _ => return cx.unknown(format!("a vector of {} parts of {bits} bits", parts.len())),
    };
    let mut rows = Vec::new();
    for operand in parts {
        let row = if target { cx.destination_row(operand, part)? } else { cx.source_row(operand, part)? };
        match row {
            Row::Word(row) => rows.push(row),
            Row::Long(_) => return cx.unknown("a vector with a register of 64 bits"),
        }
    }
    Ok((rows, bits))
}

/// `mov.b64 {lo, hi}, a`.
fn unpack(cx: &mut Decoder<'_>, i: &Instruction, parts: &[Operand], ty: Type) -> Decoded<Operation> {
    let (rows, bits) = part_rows(cx, parts, ty, true)?;
    let a = cx.source(i, 1, ty)?;
    let long = ty.size() == 8;
    Ok(Operation::Lanes(Box::new(move |r: &mut Registers, m| {
        let whole: [u64; LANES] = if long { u64::read(r, a) } else { u32::read(r, a).map(u64::from) };
        for (n, &row) in rows.iter().enumerate() {
            let shift = n as u32 * bits;
            u32::write(r, row, whole.map(|v| ((v >> shift) & ((1 << bits) - 1)) as u32), m);
        }
    })))
}

/// `mov.b64 d, {lo, hi}`.
fn pack(cx: &mut Decoder<'_>, i: &Instruction, parts: &[Operand], ty: Type) -> Decoded<Operation> {
    let (rows, bits) = part_rows(cx, parts, ty, false)?;
    let d = cx.destination(i, 0, ty)?;
    let long = ty.size() == 8;
    Ok(Operation::Lanes(Box::new(move |r: &mut Registers, m| {
        let mut whole = [0u64; LANES];
        for (n, &row) in rows.iter().enumerate() {
            let part = u32::read(r, row);
            for (sum, bits_here) in whole.iter_mut().zip(part) {
                *sum |= (u64::from(bits_here) & ((1 << bits) - 1)) << (n as u32 * bits);
            }
        }
        if long { u64::write(r, d, whole, m) } else { u32::write(r, d, whole.map(|v| v as u32), m) }
    })))
}

fn change_space(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let mut s = Suffixes::new(i);
    let to = s.take("to");
    let Some(space) = s.one_of(&["global", "const", "shared", "shared::cta", "local", "param"]) else {
        return Ok(None);
    };
    let ty = cx.ty(&mut s, i)?;
    cx.finish(&s, i)?;
    let window = match space {
        "shared" | "shared::cta" => SHARED_WINDOW,
        "local" => LOCAL_WINDOW,
        "param" => return Ok(None),
        _ => 0,
    };
    if ty.size() != 8 {
        return Ok(None);
    }
    let step = if to { window.wrapping_neg() } else { window };
    let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?];
    Ok(Some(lanes1!(rows, |a: u64| a.wrapping_add(step))))
}

fn is_in_space(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let mut s = Suffixes::new(i);
    let Some(space) = s.one_of(&["global", "const", "shared", "shared::cta", "local", "param"]) else {
        return Ok(None);
    };
    cx.finish(&s, i)?;
    let ((p, _), a) = (cx.predicate(cx.operand(i, 0)?)?, cx.source(i, 1, Type::U64)?);
    let inside = |window: u64, at: u64| at >= window && at < window + WINDOW_BYTES;
    Ok(Some(Operation::Lanes(Box::new(move |r, m| {
        let mut value = 0;
        for (lane, at) in u64::read(r, a).into_iter().enumerate() {
            let (shared, local) = (inside(SHARED_WINDOW, at), inside(LOCAL_WINDOW, at));
            let holds = match space {
                "shared" | "shared::cta" => shared,
                "local" => local,
                "global" => !shared && !local,
                _ => false,
            };
            value |= u32::from(holds) << lane;
        }
        let old = &mut r.predicates[p as usize];
        *old = (*old & !m) | (value & m);
    }))))
}
