//! Integer arithmetic, logic and shifts (PTX ISA, "Integer Arithmetic Instructions", "Logic and Shift
//! Instructions", "Extended-Precision Integer Arithmetic Instructions").

use super::decode::{Decoded, Decoder, Suffixes};
use super::registers::{Registers, binary, ternary, unary, vectorised};
use super::{Operation, bits};
use crate::ptx::{Instruction, Type};

macro_rules! lanes1 {
    ($rows:expr, $f:expr) => {{
        let rows = $rows;
        Operation::Lanes(Box::new(move |r: &mut Registers, m| unary(r, m, rows, $f)))
    }};
}
macro_rules! lanes2 {
    ($rows:expr, $f:expr) => {{
        let rows = $rows;
        Operation::Lanes(Box::new(move |r: &mut Registers, m| binary(r, m, rows, $f)))
    }};
}
macro_rules! lanes3 {
    ($rows:expr, $f:expr) => {{
        let rows = $rows;
        Operation::Lanes(Box::new(move |r: &mut Registers, m| ternary(r, m, rows, $f)))
    }};
}
pub(super) use {lanes1, lanes2, lanes3};

/// Runs the body with `$t` and its unsigned and doubled companions for an integer type.
macro_rules! for_type {
    ($ty:expr, |$t:ident, $wide:ident| $body:expr) => {
        match $ty {
            Type::U16 | Type::B16 => for_type!(@ u16, u32, $t, $wide, $body),
            Type::S16 => for_type!(@ i16, i32, $t, $wide, $body),
            Type::U32 | Type::B32 => for_type!(@ u32, u64, $t, $wide, $body),
            Type::S32 => for_type!(@ i32, i64, $t, $wide, $body),
            Type::U64 | Type::B64 => for_type!(@ u64, u128, $t, $wide, $body),
            Type::S64 => for_type!(@ i64, i128, $t, $wide, $body),
            _ => None,
        }
    };
    (@ $type:ty, $double:ty, $t:ident, $wide:ident, $body:expr) => {{
        #[allow(dead_code)] // Not every body needs both.
        type $t = $type;
        #[allow(dead_code)] // As above.
        type $wide = $double;
        $body
    }};
}

/// Decodes an integer instruction; `None` when the opcode is not one of them.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let mut s = Suffixes::new(i);
    let name = i.opcode[0].as_str();
    if matches!(name, "addc" | "subc" | "madc") || i.opcode.iter().any(|part| part == "cc") {
        return carried(cx, i, &mut s);
    }
    let form = s.one_of(&["lo", "hi", "wide", "sat", "l", "r"]).unwrap_or("");
    match name {
        "vabsdiff4" => return bits::byte_differences(cx, i, s),
        "fns" => return bits::nth_set(cx, i, s),
        "bmsk" => return bits::bit_mask(cx, i, s),
        "prmt" | "shf" | "lop3" | "dp4a" | "dp2a" => return bits::combine(cx, i, form, s),
        "bfe" | "bfi" | "bfind" | "popc" | "clz" | "brev" => return bits::fields(cx, i, s),
        _ => {}
    }
    let ty = cx.ty(&mut s, i)?;
    cx.finish(&s, i)?;
    if ty == Type::Pred {
        return predicates(cx, i);
    }
    match name {
        "neg" | "abs" | "not" | "cnot" => {
            let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?];
            Ok(one(name, ty, rows))
        }
        "shl" | "shr" => {
            let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?, cx.source(i, 2, Type::U32)?];
            Ok(shift(name, ty, rows))
        }
        "mul" | "mul24" if form == "wide" => {
            let rows = [cx.destination(i, 0, doubled(ty))?, cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
            Ok(wide_product(ty, rows))
        }
        "mad" if form == "wide" => {
            let [d, c] = [cx.destination(i, 0, doubled(ty))?, cx.source(i, 3, doubled(ty))?];
            Ok(wide_sum(ty, [d, cx.source(i, 1, ty)?, cx.source(i, 2, ty)?, c]))
        }
        "mad" | "mad24" | "sad" => {
            let [a, b] = [cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
            Ok(three(name, form, ty, [cx.destination(i, 0, ty)?, a, b, cx.source(i, 3, ty)?]))
        }
        _ => {
            let rows = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
            Ok(two(name, form, ty, rows))
        }
    }
}

fn doubled(ty: Type) -> Type {
    match ty {
        Type::U16 | Type::B16 => Type::U32,
        Type::S16 => Type::S32,
        Type::S32 => Type::S64,
        _ => Type::U64,
    }
}

/// Logic on predicates: masks of lanes.
fn predicates(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<Operation>> {
    let (d, _) = cx.predicate(cx.operand(i, 0)?)?;
    let (a, a_not) = cx.predicate(cx.operand(i, 1)?)?;
    if i.opcode[0] == "not" {
        return Ok(Some(predicate_operation(d, (a, a_not), (a, a_not), |x, _| !x)));
    }
    let b = cx.predicate(cx.operand(i, 2)?)?;
    let f: fn(u32, u32) -> u32 = match i.opcode[0].as_str() {
        "and" => |x, y| x & y,
        "or" => |x, y| x | y,
        "xor" => |x, y| x ^ y,
        _ => return Ok(None),
    };
    Ok(Some(predicate_operation(d, (a, a_not), b, f)))
}

fn predicate_operation(d: u32, a: (u32, bool), b: (u32, bool), f: fn(u32, u32) -> u32) -> Operation {
    let sense = |(row, inverted): (u32, bool)| (row as usize, if inverted { u32::MAX } else { 0 });
    let ((a, a_flip), (b, b_flip)) = (sense(a), sense(b));
    Operation::Lanes(Box::new(move |r, m| {
        let value = f(r.predicates[a] ^ a_flip, r.predicates[b] ^ b_flip);
        let old = &mut r.predicates[d as usize];
        *old = (*old & !m) | (value & m);
    }))
}

vectorised! {
fn one(name: &str, ty: Type, rows: [u32; 2]) -> Option<Operation> {
    for_type!(ty, |T, W| Some(match name {
        "neg" => lanes1!(rows, |a: T| (0 as T).wrapping_sub(a)),
        "abs" => lanes1!(rows, |a: T| if a > 0 { a } else { (0 as T).wrapping_sub(a) }),
        "not" => lanes1!(rows, |a: T| !a),
        "cnot" => lanes1!(rows, |a: T| T::from(a == 0)),
        _ => return None,
    }))
}
}

vectorised! {
fn shift(name: &str, ty: Type, rows: [u32; 3]) -> Option<Operation> {
    for_type!(ty, |T, W| Some(if name == "shl" {
        lanes2!(rows, |a: T, n: u32| if n < T::BITS { a << n } else { 0 })
    } else {
        // A signed value keeps its sign, an unsigned one becomes zero.
        lanes2!(rows, |a: T, n: u32| {
            let shifted = a >> n.min(T::BITS - 1);
            if n < T::BITS || T::MIN != 0 { shifted } else { 0 }
        })
    }))
}
}

vectorised! {
fn two(name: &str, form: &str, ty: Type, rows: [u32; 3]) -> Option<Operation> {
    for_type!(ty, |T, W| Some(match (name, form) {
        ("add", "") => lanes2!(rows, |a: T, b: T| a.wrapping_add(b)),
        ("sub", "") => lanes2!(rows, |a: T, b: T| a.wrapping_sub(b)),
        ("add", "sat") => lanes2!(rows, |a: T, b: T| a.saturating_add(b)),
        ("sub", "sat") => lanes2!(rows, |a: T, b: T| a.saturating_sub(b)),
        ("mul", "lo") => lanes2!(rows, |a: T, b: T| a.wrapping_mul(b)),
        ("mul", "hi") => lanes2!(rows, |a: T, b: T| ((a as W).wrapping_mul(b as W) >> T::BITS) as T),
        ("mul24", "lo") => lanes2!(rows, |a: T, b: T| {
            let low = |v: T| (v << 8) >> 8;
            low(a).wrapping_mul(low(b))
        }),
        // Division by zero gives all ones and the dividend as the remainder, as the card does.
        ("div", "") => lanes2!(rows, |a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) }),
        ("rem", "") => lanes2!(rows, |a: T, b: T| if b == 0 { a } else { a.wrapping_rem(b) }),
        ("min", "") => lanes2!(rows, |a: T, b: T| a.min(b)),
        ("max", "") => lanes2!(rows, |a: T, b: T| a.max(b)),
        ("and", "") => lanes2!(rows, |a: T, b: T| a & b),
        ("or", "") => lanes2!(rows, |a: T, b: T| a | b),
        ("xor", "") => lanes2!(rows, |a: T, b: T| a ^ b),
        _ => return None,
    }))
}
}

vectorised! {
fn three(name: &str, form: &str, ty: Type, rows: [u32; 4]) -> Option<Operation> {
    for_type!(ty, |T, W| Some(match (name, form) {
        ("mad", "lo") => lanes3!(rows, |a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)),
        ("mad", "hi") => lanes3!(rows, |a: T, b: T, c: T| {
            (((a as W).wrapping_mul(b as W) >> T::BITS) as T).wrapping_add(c)
        }),
        ("mad24", "lo") => lanes3!(rows, |a: T, b: T, c: T| {
            let low = |v: T| (v << 8) >> 8;
            low(a).wrapping_mul(low(b)).wrapping_add(c)
        }),
        ("sad", "") => lanes3!(rows, |a: T, b: T, c: T| c.wrapping_add(a.max(b).wrapping_sub(a.min(b)))),
        _ => return None,
    }))
}
}

vectorised! {
fn wide_product(ty: Type, rows: [u32; 3]) -> Option<Operation> {
    Some(match ty {
        Type::U16 | Type::B16 => lanes2!(rows, |a: u16, b: u16| u32::from(a) * u32::from(b)),
        Type::S16 => lanes2!(rows, |a: i16, b: i16| i32::from(a) * i32::from(b)),
        Type::U32 | Type::B32 => lanes2!(rows, |a: u32, b: u32| u64::from(a) * u64::from(b)),
        Type::S32 => lanes2!(rows, |a: i32, b: i32| i64::from(a) * i64::from(b)),
        _ => return None,
    })
}
}

vectorised! {
fn wide_sum(ty: Type, rows: [u32; 4]) -> Option<Operation> {
    Some(match ty {
        Type::U16 | Type::B16 => {
            lanes3!(rows, |a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))
        }
        Type::S16 => lanes3!(rows, |a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c)),
        Type::U32 | Type::B32 => {
            lanes3!(rows, |a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
        }
        Type::S32 => lanes3!(rows, |a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c)),
        _ => return None,
    })
}
}

/// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: arithmetic through the carry flag.
fn carried(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    let writes = s.take("cc");
    let reads = i.opcode[0].ends_with('c');
    let high = s.one_of(&["lo", "hi"]) == Some("hi");
    let ty = cx.ty(s, i)?;
    cx.finish(s, i)?;
    let d = cx.destination(i, 0, ty)?;
    let [a, b] = [cx.source(i, 1, ty)?, cx.source(i, 2, ty)?];
    let kind = &i.opcode[0][..3];
    let c = if kind == "mad" { cx.source(i, 3, ty)? } else { b };
    let (minus, product) = (kind == "sub", kind == "mad");
    let long = ty.size() == 8;
    let bits = ty.size() * 8;
    let signed = ty.is_signed();
    Ok(Some(Operation::Lanes(Box::new(move |r, m| {
        let get = |r: &Registers, row: u32, lane: usize| -> u64 {
            if long { r.longs[row as usize][lane] } else { r.words[row as usize][lane].into() }
        };
        let limit = (1u128 << bits) - 1;
        for lane in (0..32).filter(|lane| m >> lane & 1 == 1) {
            let (x, y) = (get(r, a, lane), get(r, b, lane));
            let flag = u128::from(reads && r.carry >> lane & 1 == 1);
            let (sum, carry) = if minus {
                let taken = u128::from(y) + flag;
                (u128::from(x).wrapping_sub(taken) & limit, u128::from(x) < taken)
            } else {
                let (first, second) = if product {
                    let whole = if signed && !long {
                        (i128::from(x as i32) * i128::from(y as i32)) as u128
                    } else if signed {
                        (i128::from(x as i64) * i128::from(y as i64)) as u128
                    } else {
                        u128::from(x) * u128::from(y)
                    };
                    ((if high { whole >> bits } else { whole }) & limit, get(r, c, lane))
                } else {
                    (u128::from(x), y)
                };
                let sum = first + u128::from(second) + flag;
                (sum & limit, sum > limit)
            };
            if long {
                r.longs[d as usize][lane] = sum as u64;
            } else {
                r.words[d as usize][lane] = sum as u32;
            }
            if writes {
                r.carry = (r.carry & !(1 << lane)) | (u32::from(carry) << lane);
            }
        }
    }))))
}
