//! Bit fields, permutations and sums over bytes (PTX ISA, `bfe` to `fns`, `prmt`, `shf`, `lop3`, `dp4a`,
//! `vabsdiff4`).

use super::Operation;
use super::decode::{Decoded, Decoder, Suffixes};
use super::integer::{lanes1, lanes2, lanes3};
use super::registers::{Lane, Registers, binary, ternary, unary, vectorised};
use crate::ptx::{Instruction, Operand, Type};

/// `prmt` in one of its modes (PTX ISA, `prmt`).
fn permute(mode: &str, a: u32, b: u32, selector: u32) -> u32 {
    let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
    let s = selector as usize & 3;
    let picks: [usize; 4] = match mode {
        "f4e" => [s, s + 1, s + 2, s + 3],
        "b4e" => [s, (s + 7) % 8, (s + 6) % 8, (s + 5) % 8],
        "rc8" => [s; 4],
        "ecl" => [0, 1.max(s), 2.max(s), 3],
        "ecr" => [0, 1.min(s), 2.min(s), s],
        "rc16" => [2 * (s & 1), 2 * (s & 1) + 1, 2 * (s & 1), 2 * (s & 1) + 1],
        _ => {
            return u32::from_le_bytes(std::array::from_fn(|n| {
                let nibble = selector >> (4 * n) & 15;
                let byte = bytes[(nibble & 7) as usize];
                if nibble & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 }
            }));
        }
    };
    // `ecl` and `ecr` clamp the index of every byte from the left or from the right.
    let picks = match mode {
        "ecl" => std::array::from_fn(|n| n.max(s)),
        "ecr" => std::array::from_fn(|n: usize| n.min(s)),
        _ => picks,
    };
    u32::from_le_bytes(picks.map(|n| bytes[n]))
}

#[inline(always)]
fn funnel(low: u32, high: u32, count: u32, left: bool, clamp: bool) -> u32 {
    let count = if clamp { count.min(32) } else { count & 31 };
    let both = u64::from(high) << 32 | u64::from(low);
    if left { ((both << count) >> 32) as u32 } else { (both >> count) as u32 }
}

pub(super) fn combine(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    form: &str,
    mut s: Suffixes<'_>,
) -> Decoded<Option<Operation>> {
    let name = i.opcode[0].as_str();
    let mode = s.one_of(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16", "clamp", "wrap"]).unwrap_or("");
    let ty = cx.ty(&mut s, i)?;
    let b_ty = s.ty().unwrap_or(ty);
    cx.finish(&s, i)?;
    if ty.size() != 4 {
        return Ok(None);
    }
    let [a, b] = [cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
    let rows = [cx.destination(i, 0, ty)?, a, b, cx.source(i, 3, ty)?];
    Ok(match name {
        "prmt" => {
            let mode = mode.to_string();
            Some(lanes3!(rows, |a: u32, b: u32, c: u32| permute(&mode, a, b, c)))
        }
        "shf" => Some(funnel_operation(rows, form == "l", mode == "clamp")),
        "lop3" => {
            let Operand::Integer(table) = *cx.operand(i, 4)? else { return Ok(None) };
            Some(logic_operation(rows, table as u8))
        }
        _ => dot_product(name, form, ty.is_signed(), b_ty.is_signed(), rows),
    })
}

vectorised! {
fn funnel_operation(rows: [u32; 4], left: bool, clamp: bool) -> Operation {
    match (left, clamp) {
        (true, true) => lanes3!(rows, |a: u32, b: u32, c: u32| funnel(a, b, c, true, true)),
        (true, false) => lanes3!(rows, |a: u32, b: u32, c: u32| funnel(a, b, c, true, false)),
        (false, true) => lanes3!(rows, |a: u32, b: u32, c: u32| funnel(a, b, c, false, true)),
        (false, false) => lanes3!(rows, |a: u32, b: u32, c: u32| funnel(a, b, c, false, false)),
    }
}
}

vectorised! {
fn logic_operation(rows: [u32; 4], table: u8) -> Operation {
    // One mask per entry of the truth table: a sum of minterms.
    let terms: [u32; 8] = std::array::from_fn(|n| if table >> n & 1 == 1 { u32::MAX } else { 0 });
    lanes3!(rows, |a: u32, b: u32, c: u32| {
        let mut value = 0;
        for (n, term) in terms.iter().enumerate() {
            let pick = |v: u32, bit: usize| if n >> bit & 1 == 1 { v } else { !v };
            value |= term & pick(a, 2) & pick(b, 1) & pick(c, 0);
        }
        value
    })
}
}

/// `dp4a` and `dp2a`: sums of products of bytes (and half words).
fn dot_product(name: &str, form: &str, a_signed: bool, b_signed: bool, rows: [u32; 4]) -> Option<Operation> {
    let byte = move |v: u32, n: u32, signed: bool| -> i64 {
        let byte = (v >> (8 * n)) as u8;
        if signed { i64::from(byte as i8) } else { i64::from(byte) }
    };
    if name == "dp4a" {
        return Some(lanes3!(rows, |a: u32, b: u32, c: u32| {
            let sum: i64 = (0..4).map(|n| byte(a, n, a_signed) * byte(b, n, b_signed)).sum();
            c.wrapping_add(sum as u32)
        }));
    }
    let first = if form == "hi" { 2 } else { 0 };
    Some(lanes3!(rows, |a: u32, b: u32, c: u32| {
        let half = |n: u32| {
            let half = (a >> (16 * n)) as u16;
            if a_signed { i64::from(half as i16) } else { i64::from(half) }
        };
        let sum: i64 = (0..2).map(|n| half(n) * byte(b, first + n, b_signed)).sum();
        c.wrapping_add(sum as u32)
    }))
}

/// `vabsdiff4`: absolute differences of four bytes, or with `.add` their sum plus `c`.
pub(super) fn byte_differences(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    mut s: Suffixes<'_>,
) -> Decoded<Option<Operation>> {
    let sum = s.take("add");
    let types = [cx.ty(&mut s, i)?, cx.ty(&mut s, i)?, cx.ty(&mut s, i)?];
    cx.finish(&s, i)?;
    let signed = types[1].is_signed();
    if types[2] != types[1] || types.iter().any(|ty| ty.size() != 4) {
        return Ok(None);
    }
    let [a, b] = [cx.source(i, 1, types[1])?, cx.source(i, 2, types[2])?];
    let rows = [cx.destination(i, 0, types[0])?, a, b, cx.source(i, 3, types[0])?];
    Ok(Some(lanes3!(rows, |a: u32, b: u32, c: u32| {
        let byte = |v: u32, n: u32| {
            let byte = (v >> (8 * n)) as u8;
            if signed { i32::from(byte as i8) } else { i32::from(byte) }
        };
        let difference = |n: u32| byte(a, n).abs_diff(byte(b, n));
        if sum {
            (0..4).fold(c, |sum, n| sum.wrapping_add(difference(n)))
        } else {
            (0..4).fold(0, |bits, n| bits | (difference(n) & 255) << (8 * n))
        }
    })))
}

/// The bit field of `a` at `at` with `length` bits, of a type with `width` bits.
#[inline(always)]
fn extract(a: u64, at: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (at, length) = (at & 255, length & 255);
    let last = (at + length).saturating_sub(1).min(width - 1);
    let sign = signed && length > 0 && a >> last & 1 == 1;
    let field = if at >= width { 0 } else { a >> at };
    let kept = length.min(width.saturating_sub(at));
    let mask = if kept >= 64 { u64::MAX } else { (1u64 << kept) - 1 };
    if sign { (field & mask) | !mask } else { field & mask }
}

/// `length` ones from bit `at` on; counts of 32 and more wrap around or count as 32.
#[inline(always)]
fn mask(at: u32, length: u32, wraps: bool) -> u32 {
    let [at, length] = [at, length].map(|n| if wraps { n & 31 } else { n.min(32) });
    (((1u64 << length) - 1) << at) as u32
}

#[inline(always)]
fn insert(a: u64, b: u64, at: u32, length: u32, width: u32) -> u64 {
    let (at, length) = (at & 255, length & 255);
    if at >= width {
        return b;
    }
    let kept = length.min(width - at);
    let mask = if kept >= 64 { u64::MAX } else { ((1u64 << kept) - 1) << at };
    (b & !mask) | ((a << at) & mask)
}

vectorised! {
/// `bmsk`.
pub(super) fn bit_mask(cx: &mut Decoder<'_>, i: &Instruction, suffixes: Suffixes<'_>) -> Decoded<Option<Operation>> {
    let mut s = suffixes;
    let wraps = s.one_of(&["wrap", "clamp"]) == Some("wrap");
    let ty = cx.ty(&mut s, i)?;
    cx.finish(&s, i)?;
    if ty != Type::B32 {
        return Ok(None);
    }
    let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, Type::U32)?, cx.source(i, 2, Type::U32)?];
    Ok(Some(lanes2!(rows, |at: u32, length: u32| mask(at, length, wraps))))
}
}

vectorised! {
pub(super) fn fields(cx: &mut Decoder<'_>, i: &Instruction, suffixes: Suffixes<'_>) -> Decoded<Option<Operation>> {
    let mut s = suffixes;
    let shift_amount = s.take("shiftamt");
    let ty = cx.ty(&mut s, i)?;
    cx.finish(&s, i)?;
    let name = i.opcode[0].as_str();
    let signed = ty.is_signed();
    if name == "bfi" {
        let [a, b] = [cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
        let [at, length] = [cx.source(i, 3, Type::U32)?, cx.source(i, 4, Type::U32)?];
        let d = cx.destination(i, 0, ty)?;
        return Ok(Some(if ty.size() == 8 {
            Operation::Lanes(Box::new(move |r, m| {
                let (at, length) = (u32::read(r, at), u32::read(r, length));
                let (a, b) = (u64::read(r, a), u64::read(r, b));
                let value = std::array::from_fn(|n| insert(a[n], b[n], at[n], length[n], 64));
                u64::write(r, d, value, m);
            }))
        } else {
            Operation::Lanes(Box::new(move |r, m| {
                let (at, length) = (u32::read(r, at), u32::read(r, length));
                let (a, b) = (u32::read(r, a), u32::read(r, b));
                let value =
                    std::array::from_fn(|n| insert(a[n].into(), b[n].into(), at[n], length[n], 32) as u32);
                u32::write(r, d, value, m);
            }))
        }));
    }
    if name == "bfe" {
        let [at, length] = [cx.source(i, 2, Type::U32)?, cx.source(i, 3, Type::U32)?];
        let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?, at, length];
        return Ok(Some(match ty.size() {
            8 => lanes3!(rows, |a: u64, p: u32, n: u32| extract(a, p, n, 64, signed)),
            _ => lanes3!(rows, |a: u32, p: u32, n: u32| extract(a.into(), p, n, 32, signed) as u32),
        }));
    }
    // The counts are 32 bits wide whatever the source is; `brev` keeps the width.
    let d_ty = if name == "brev" { ty } else { Type::U32 };
    let rows = [cx.destination(i, 0, d_ty)?, cx.source(i, 1, ty)?];
    let long = ty.size() == 8;
    Ok(match (name, long) {
        ("popc", false) => Some(lanes1!(rows, |a: u32| a.count_ones())),
        ("popc", true) => Some(lanes1!(rows, |a: u64| a.count_ones())),
        ("clz", false) => Some(lanes1!(rows, |a: u32| a.leading_zeros())),
        ("clz", true) => Some(lanes1!(rows, |a: u64| a.leading_zeros())),
        ("brev", false) => Some(lanes1!(rows, |a: u32| a.reverse_bits())),
        ("brev", true) => Some(lanes1!(rows, |a: u64| a.reverse_bits())),
        ("bfind", false) => Some(lanes1!(rows, |a: u32| {
            let a = if signed && (a as i32) < 0 { !a } else { a };
            highest(u64::from(a), 32, shift_amount)
        })),
        ("bfind", true) => Some(lanes1!(rows, |a: u64| {
            let a = if signed && (a as i64) < 0 { !a } else { a };
            highest(a, 64, shift_amount)
        })),
        _ => None,
    })
}
}

/// Place of the highest set bit (or the shift that brings it to the top); all ones where there is none.
fn highest(a: u64, width: u32, shift_amount: bool) -> u32 {
    match a.checked_ilog2() {
        None => u32::MAX,
        Some(bit) if shift_amount => width - 1 - bit,
        Some(bit) => bit,
    }
}

/// `fns`: the place of the n-th set bit from a place on, upwards or downwards; all ones where there is none.
pub(super) fn nth_set(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    mut s: Suffixes<'_>,
) -> Decoded<Option<Operation>> {
    let ty = cx.ty(&mut s, i)?;
    cx.finish(&s, i)?;
    let [mask, base] = [cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
    let rows = [cx.destination(i, 0, ty)?, mask, base, cx.source(i, 3, ty)?];
    Ok(Some(lanes3!(rows, |mask: u32, base: u32, n: i32| {
        let set = |place: &u32| mask >> place & 1 == 1;
        let nth = n.unsigned_abs().saturating_sub(1) as usize;
        let found = match n {
            0 => Some(base).filter(|&place| place < 32 && set(&place)),
            1.. => (base..32).filter(set).nth(nth),
            _ => (0..=base.min(31)).rev().filter(set).nth(nth),
        };
        found.unwrap_or(u32::MAX)
    })))
}
