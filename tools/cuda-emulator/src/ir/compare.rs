//! Comparison and selection (PTX ISA, "Comparison and Selection Instructions").

use super::Operation;
use super::decode::{Decoded, Decoder, Suffixes};
use super::registers::{Lane, Registers, compare, vectorised};
use crate::ptx::{Instruction, Operand, Type};

const ORDERS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
    "num", "nan",
];

/// A comparison on two rows: a mask with one bit per lane.
type Test = Box<dyn Fn(&Registers) -> u32 + Send + Sync>;

/// Decodes `setp`, `set`, `selp`, `slct` and `testp`.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let mut s = Suffixes::new(i);
    match i.opcode[0].as_str() {
        "selp" => select(cx, i, &mut s),
        "slct" => select_by_sign(cx, i, &mut s),
        "testp" => test_property(cx, i, &mut s),
        _ => set(cx, i, &mut s),
    }
}

fn set(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    let Some(order) = s.one_of(&ORDERS) else { return Ok(None) };
    let join = s.one_of(&["and", "or", "xor"]).unwrap_or("");
    let flush = s.take("ftz");
    let to_value = i.opcode[0] == "set";
    let d_ty = if to_value { Some(cx.ty(s, i)?) } else { None };
    let ty = cx.ty(s, i)?;
    cx.finish(s, i)?;
    let rows = [cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
    if matches!(ty, Type::F16x2 | Type::Bf16x2) {
        return if join.is_empty() { packed(cx, i, order, ty, d_ty, rows) } else { Ok(None) };
    }
    let Some(test) = test(order, ty, flush, rows) else { return Ok(None) };
    let third = if join.is_empty() { (0, false) } else { cx.predicate(cx.operand(i, 3)?)? };
    let combine = move |value: u32, r: &Registers| {
        let other = r.predicates[third.0 as usize] ^ if third.1 { u32::MAX } else { 0 };
        match join {
            "and" => value & other,
            "or" => value | other,
            "xor" => value ^ other,
            _ => value,
        }
    };
    if let Some(d_ty) = d_ty {
        // `set` writes 1.0 for a float destination and all ones for an integer one.
        let d = cx.destination(i, 0, d_ty)?;
        let one = match d_ty {
            Type::F32 => 1f32.to_bits(),
            Type::F16 => 0x3c00,
            Type::Bf16 => 0x3f80,
            _ => u32::MAX,
        };
        return Ok(Some(Operation::Lanes(Box::new(move |r, m| {
            let bits = combine(test(r), r);
            u32::write(r, d, std::array::from_fn(|n| if bits >> n & 1 == 1 { one } else { 0 }), m);
        }))));
    }
    let (p, q) = match cx.operand(i, 0)? {
        Operand::Pair(p, q) => (cx.predicate(p)?.0, Some(cx.predicate(q)?.0)),
        p => (cx.predicate(p)?.0, None),
    };
    Ok(Some(Operation::Lanes(Box::new(move |r, m| {
        let bits = test(r);
        let (value, other) = (combine(bits, r), combine(!bits, r));
        let old = &mut r.predicates[p as usize];
        *old = (*old & !m) | (value & m);
        if let Some(q) = q {
            let old = &mut r.predicates[q as usize];
            *old = (*old & !m) | (other & m);
        }
    }))))
}

/// Comparisons of two halves at once: `set` into two halves, `setp` into two predicates.
fn packed(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    order: &'static str,
    ty: Type,
    d_ty: Option<Type>,
    rows: [u32; 2],
) -> Decoded<Option<Operation>> {
    // The halves are taken apart into rows of their own, which the tests of single halves then read.
    let scratch = [cx.scratch(), cx.scratch(), cx.scratch(), cx.scratch()];
    let half = if ty == Type::F16x2 { Type::F16 } else { Type::Bf16 };
    let (low, high) = (
        test(order, half, false, [scratch[0], scratch[1]]),
        test(order, half, false, [scratch[2], scratch[3]]),
    );
    let (Some(low), Some(high)) = (low, high) else { return Ok(None) };
    let both = move |r: &mut Registers| {
        for (n, row) in rows.into_iter().enumerate() {
            let value = u32::read(r, row);
            u32::write(r, scratch[n], value, u32::MAX);
            u32::write(r, scratch[n + 2], value.map(|v| v >> 16), u32::MAX);
        }
        (low(r), high(r))
    };
    if let Some(d_ty) = d_ty {
        let d = cx.destination(i, 0, d_ty)?;
        let one = match d_ty {
            Type::F16x2 => 0x3c00,
            Type::Bf16x2 => 0x3f80,
            _ => 0xffff,
        };
        return Ok(Some(Operation::Lanes(Box::new(move |r, m| {
            let (low, high) = both(r);
            let value = |n: usize| ((high >> n & 1) * (one << 16)) | ((low >> n & 1) * one);
            u32::write(r, d, std::array::from_fn(value), m);
        }))));
    }
    let Operand::Pair(p, q) = cx.operand(i, 0)? else { return Ok(None) };
    let (p, q) = (cx.predicate(p)?.0, cx.predicate(q)?.0);
    Ok(Some(Operation::Lanes(Box::new(move |r, m| {
        let (low, high) = both(r);
        for (row, value) in [(p, low), (q, high)] {
            let old = &mut r.predicates[row as usize];
            *old = (*old & !m) | (value & m);
        }
    }))))
}

macro_rules! orders {
    ($order:expr, $rows:expr, |$value:ident: $t:ty| $read:expr) => {{
        let rows = $rows;
        macro_rules! test {
            ($f:expr) => {
                Box::new(move |r: &Registers| {
                    compare::<$t, $t>(r, rows, |a, b| {
                        let read = |$value: $t| $read;
                        let f: fn(&_, &_) -> bool = $f;
                        f(&read(a), &read(b))
                    })
                })
            };
        }
        let test: Test = match $order {
            "eq" => test!(|a, b| a == b),
            "ne" => test!(|a, b| a != b && a == a && b == b),
            "lt" | "lo" => test!(|a, b| a < b),
            "le" | "ls" => test!(|a, b| a <= b),
            "gt" | "hi" => test!(|a, b| a > b),
            "ge" | "hs" => test!(|a, b| a >= b),
            "equ" => test!(|a, b| a == b || a != a || b != b),
            "neu" => test!(|a, b| a != b),
            "ltu" => test!(|a, b| !(a >= b)),
            "leu" => test!(|a, b| !(a > b)),
            "gtu" => test!(|a, b| !(a <= b)),
            "geu" => test!(|a, b| !(a < b)),
            "num" => test!(|a, b| a == a && b == b),
            _ => test!(|a, b| a != a || b != b),
        };
        Some(test)
    }};
}

vectorised! {
#[allow(clippy::eq_op, clippy::neg_cmp_op_on_partial_ord)] // Comparisons with NaN mean exactly this.
fn test(order: &'static str, ty: Type, flush: bool, rows: [u32; 2]) -> Option<Test> {
    match ty {
        Type::B16 | Type::U16 => orders!(order, rows, |v: u16| v),
        Type::S16 => orders!(order, rows, |v: i16| v),
        Type::B32 | Type::U32 => orders!(order, rows, |v: u32| v),
        Type::S32 if matches!(order, "lo" | "ls" | "hi" | "hs") => orders!(order, rows, |v: u32| v),
        Type::S32 => orders!(order, rows, |v: i32| v),
        Type::B64 | Type::U64 => orders!(order, rows, |v: u64| v),
        Type::S64 => orders!(order, rows, |v: i64| v),
        Type::F32 if flush => orders!(order, rows, |v: f32| super::float::flush(v)),
        Type::F32 => orders!(order, rows, |v: f32| v),
        Type::F64 => orders!(order, rows, |v: f64| v),
        Type::F16 => orders!(order, rows, |v: u16| super::half::half_to_single(v)),
        Type::Bf16 => orders!(order, rows, |v: u16| f32::from_bits(u32::from(v) << 16)),
        _ => None,
    }
}
}

vectorised! {
fn selection(ty: Type, d: u32, a: u32, b: u32, choose: Test) -> Operation {
    if ty.size() == 8 {
        return Operation::Lanes(Box::new(move |r, m| {
            let bits = choose(r);
            let (a, b) = (u64::read(r, a), u64::read(r, b));
            u64::write(r, d, std::array::from_fn(|n| if bits >> n & 1 == 1 { a[n] } else { b[n] }), m);
        }));
    }
    Operation::Lanes(Box::new(move |r, m| {
        let bits = choose(r);
        let (a, b) = (u32::read(r, a), u32::read(r, b));
        u32::write(r, d, std::array::from_fn(|n| if bits >> n & 1 == 1 { a[n] } else { b[n] }), m);
    }))
}
}

fn select(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    let ty = cx.ty(s, i)?;
    cx.finish(s, i)?;
    let (d, a, b) = (cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?, cx.source(i, 2, ty)?);
    let (p, inverted) = cx.predicate(cx.operand(i, 3)?)?;
    let flip = if inverted { u32::MAX } else { 0 };
    Ok(Some(selection(ty, d, a, b, Box::new(move |r| r.predicates[p as usize] ^ flip))))
}

fn select_by_sign(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    s.take("ftz");
    let (ty, c_ty) = (cx.ty(s, i)?, cx.ty(s, i)?);
    cx.finish(s, i)?;
    let (d, a, b) = (cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?, cx.source(i, 2, ty)?);
    let c = cx.source(i, 3, c_ty)?;
    let single = c_ty == Type::F32;
    let choose: Test = Box::new(move |r| {
        compare::<u32, u32>(r, [c, c], |v, _| if single { f32::from_bits(v) >= 0.0 } else { v as i32 >= 0 })
    });
    Ok(Some(selection(ty, d, a, b, choose)))
}

fn test_property(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    let property = s.one_of(&["finite", "infinite", "number", "notanumber", "normal", "subnormal"]);
    let Some(property) = property else { return Ok(None) };
    let ty = cx.ty(s, i)?;
    cx.finish(s, i)?;
    let (p, a) = (cx.predicate(cx.operand(i, 0)?)?.0, cx.source(i, 1, ty)?);
    fn holds(property: &str, category: std::num::FpCategory) -> bool {
        use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
        match property {
            "finite" => !matches!(category, Infinite | Nan),
            "infinite" => category == Infinite,
            "number" => category != Nan,
            "notanumber" => category == Nan,
            // Zero counts as normal here (PTX ISA, `testp`).
            "normal" => matches!(category, Normal | Zero),
            _ => category == Subnormal,
        }
    }
    let double = ty == Type::F64;
    Ok(Some(Operation::Lanes(Box::new(move |r, m| {
        let value = if double {
            compare::<f64, f64>(r, [a, a], |v, _| holds(property, v.classify()))
        } else {
            compare::<f32, f32>(r, [a, a], |v, _| holds(property, v.classify()))
        };
        let old = &mut r.predicates[p as usize];
        *old = (*old & !m) | (value & m);
    }))))
}
