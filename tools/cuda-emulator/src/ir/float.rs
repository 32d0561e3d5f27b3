//! Single and double precision arithmetic (PTX ISA, "Floating Point Instructions"). The approximate
//! functions are computed more exactly than a card does.

use super::Operation;
use super::decode::{Decoded, Decoder, Suffixes};
use super::integer::{lanes1, lanes2, lanes3};
use super::registers::{Registers, binary, ternary, unary, vectorised};
use super::rounding::{Rounding, directed, fma_to_odd, sum_error, to_odd, to_single};
use crate::observe::Class;
use crate::ptx::{Instruction, Type};

/// A subnormal single as the zero of its sign.
#[inline(always)]
pub(super) fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0f32.copysign(value) } else { value }
}

/// What the suffixes of a float instruction ask for.
#[derive(Clone, Copy)]
struct Form {
    rounding: Rounding,
    flush: bool,
    saturate: bool,
    nan: bool,
}

impl Form {
    #[inline(always)]
    fn input(self, value: f32) -> f32 {
        if self.flush { flush(value) } else { value }
    }

    /// The result as a card leaves it: flushed, saturated, NaN in its canonical form.
    #[inline(always)]
    fn output(self, value: f32) -> f32 {
        let value = if self.flush { flush(value) } else { value };
        let value = if self.saturate { if value > 0.0 { value.min(1.0) } else { 0.0 } } else { value };
        if value.is_nan() { f32::from_bits(0x7fff_ffff) } else { value }
    }

    fn plain(self) -> bool {
        !self.flush && !self.saturate && self.rounding == Rounding::Nearest
    }
}

const NAMES: [&str; 19] = [
    "add", "sub", "mul", "fma", "mad", "div", "rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh",
    "neg", "abs", "min", "max", "copysign",
];

/// Decodes an instruction on singles or doubles; `None` when it is not one.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Option<(Class, Operation)>> {
    let name = i.opcode[0].as_str();
    let mut s = Suffixes::new(i);
    let Some(ty) = s.ty().filter(|ty| NAMES.contains(&name) && matches!(ty, Type::F32 | Type::F64)) else {
        return Ok(None);
    };
    let rounding = match s.one_of(&["rn", "rz", "rm", "rp"]) {
        Some("rz") => Rounding::Zero,
        Some("rm") => Rounding::Down,
        Some("rp") => Rounding::Up,
        _ => Rounding::Nearest,
    };
    s.one_of(&["approx", "full"]);
    let form = Form { rounding, flush: s.take("ftz"), saturate: s.take("sat"), nan: s.take("NaN") };
    cx.finish(&s, i)?;
    let count = match name {
        "fma" | "mad" => 3,
        "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => 2,
        _ => 1,
    };
    let mut rows = [cx.destination(i, 0, ty)?, 0, 0, 0];
    for (index, row) in rows.iter_mut().enumerate().take(count + 1).skip(1) {
        *row = cx.source(i, index, ty)?;
    }
    let single = ty == Type::F32;
    let operation = match (count, single) {
        (1, true) => single1(name, form, [rows[0], rows[1]]),
        (2, true) => single2(name, form, [rows[0], rows[1], rows[2]]),
        (_, true) => Some(single3(form, rows)),
        (1, false) => double1(name, form, [rows[0], rows[1]]),
        (2, false) => double2(name, form, [rows[0], rows[1], rows[2]]),
        (_, false) => Some(double3(form, rows)),
    };
    let special = matches!(name, "div" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh");
    let class = match (special, single) {
        (true, true) => Class::Special,
        (false, true) => Class::Float,
        (_, false) => Class::Double,
    };
    Ok(operation.map(|operation| (class, operation)))
}

macro_rules! single {
    ($form:expr, $rows:expr, |$a:ident| $body:expr) => {{
        let form: Form = $form;
        lanes1!($rows, |a: f32| {
            let $a = form.input(a);
            form.output($body)
        })
    }};
    ($form:expr, $rows:expr, |$a:ident, $b:ident| $body:expr) => {{
        let form: Form = $form;
        lanes2!($rows, |a: f32, b: f32| {
            let ($a, $b) = (form.input(a), form.input(b));
            form.output($body)
        })
    }};
}

vectorised! {
fn single1(name: &str, form: Form, rows: [u32; 2]) -> Option<Operation> {
    let mode = form.rounding;
    // Doubles carry enough bits that rounding the function's value a second time hardly ever differs.
    Some(match name {
        "neg" => lanes1!(rows, |a: f32| -form.input(a)),
        "abs" => lanes1!(rows, |a: f32| form.input(a).abs()),
        "rcp" if mode == Rounding::Nearest => single!(form, rows, |a| 1.0 / a),
        "rcp" => single!(form, rows, |a| quotient(1.0, a, mode)),
        "sqrt" if mode == Rounding::Nearest => single!(form, rows, |a| a.sqrt()),
        "sqrt" => single!(form, rows, |a| {
            let (a, root) = (f64::from(a), f64::from(a).sqrt());
            to_single(to_odd(root, (-root).mul_add(root, a)), mode)
        }),
        "rsqrt" => single!(form, rows, |a| (1.0 / f64::from(a).sqrt()) as f32),
        "sin" => single!(form, rows, |a| f64::from(a).sin() as f32),
        "cos" => single!(form, rows, |a| f64::from(a).cos() as f32),
        "lg2" => single!(form, rows, |a| f64::from(a).log2() as f32),
        "ex2" => single!(form, rows, |a| a.exp2()),
        "tanh" => single!(form, rows, |a| f64::from(a).tanh() as f32),
        _ => return None,
    })
}
}

/// `a / b` in a directed mode: the quotient in double precision, rounded to odd.
#[inline(always)]
fn quotient(a: f32, b: f32, mode: Rounding) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    let value = a / b;
    let remainder = (-value).mul_add(b, a);
    to_single(to_odd(value, if b < 0.0 { -remainder } else { remainder }), mode)
}

/// The smaller (`least`) or larger of two numbers; -0 is less than +0, and NaN loses unless `nan`.
macro_rules! extreme {
    ($a:expr, $b:expr, $least:expr, $nan:expr) => {{
        let (a, b) = ($a, $b);
        let low = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
        let high = if a > b || (a == b && a.is_sign_positive()) { a } else { b };
        let value = if $least { low } else { high };
        let value = if a.is_nan() {
            b
        } else if b.is_nan() {
            a
        } else {
            value
        };
        if $nan && (a.is_nan() || b.is_nan()) { a + b } else { value }
    }};
}
pub(super) use extreme;

vectorised! {
fn single2(name: &str, form: Form, rows: [u32; 3]) -> Option<Operation> {
    let mode = form.rounding;
    Some(match name {
        // The most frequent forms without the branches of the general ones.
        "add" if form.plain() => lanes2!(rows, |a: f32, b: f32| canonical(a + b)),
        "sub" if form.plain() => lanes2!(rows, |a: f32, b: f32| canonical(a - b)),
        "mul" if form.plain() => lanes2!(rows, |a: f32, b: f32| canonical(a * b)),
        "add" if mode == Rounding::Nearest => single!(form, rows, |a, b| a + b),
        "sub" if mode == Rounding::Nearest => single!(form, rows, |a, b| a - b),
        "mul" if mode == Rounding::Nearest => single!(form, rows, |a, b| a * b),
        "div" if mode == Rounding::Nearest => single!(form, rows, |a, b| a / b),
        "add" => single!(form, rows, |a, b| to_single(fma_to_odd(a.into(), 1.0, b.into()), mode)),
        "sub" => single!(form, rows, |a, b| to_single(fma_to_odd(a.into(), 1.0, f64::from(-b)), mode)),
        "mul" => single!(form, rows, |a, b| to_single(f64::from(a) * f64::from(b), mode)),
        "div" => single!(form, rows, |a, b| quotient(a, b, mode)),
        "min" => single!(form, rows, |a, b| extreme!(a, b, true, form.nan)),
        "max" => single!(form, rows, |a, b| extreme!(a, b, false, form.nan)),
        "copysign" => lanes2!(rows, |a: f32, b: f32| b.copysign(a)),
        _ => return None,
    })
}
}

#[inline(always)]
fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(0x7fff_ffff) } else { value }
}

vectorised! {
fn single3(form: Form, rows: [u32; 4]) -> Operation {
    let mode = form.rounding;
    if form.plain() {
        return lanes3!(rows, |a: f32, b: f32, c: f32| canonical(a.mul_add(b, c)));
    }
    if mode == Rounding::Nearest {
        return lanes3!(rows, |a: f32, b: f32, c: f32| {
            form.output(form.input(a).mul_add(form.input(b), form.input(c)))
        });
    }
    lanes3!(rows, |a: f32, b: f32, c: f32| {
        let (a, b, c) = (form.input(a), form.input(b), form.input(c));
        form.output(to_single(fma_to_odd(a.into(), b.into(), c.into()), mode))
    })
}
}

vectorised! {
fn double1(name: &str, form: Form, rows: [u32; 2]) -> Option<Operation> {
    let mode = form.rounding;
    Some(match name {
        "neg" => lanes1!(rows, |a: f64| -a),
        "abs" => lanes1!(rows, |a: f64| a.abs()),
        "rcp" => lanes1!(rows, |a: f64| double_quotient(1.0, a, mode)),
        "sqrt" => lanes1!(rows, |a: f64| {
            let root = a.sqrt();
            directed(root, (-root).mul_add(root, a), mode)
        }),
        "rsqrt" => lanes1!(rows, |a: f64| 1.0 / a.sqrt()),
        _ => return None,
    })
}
}

#[inline(always)]
fn double_quotient(a: f64, b: f64, mode: Rounding) -> f64 {
    let value = a / b;
    let remainder = (-value).mul_add(b, a);
    directed(value, if b < 0.0 { -remainder } else { remainder }, mode)
}

#[inline(always)]
fn double_sum(a: f64, b: f64, mode: Rounding) -> f64 {
    let sum = a + b;
    if mode == Rounding::Down && sum == 0.0 && (a != 0.0 || b != 0.0) {
        return -0.0;
    }
    directed(sum, sum_error(a, b, sum), mode)
}

vectorised! {
fn double2(name: &str, form: Form, rows: [u32; 3]) -> Option<Operation> {
    let mode = form.rounding;
    let nearest = mode == Rounding::Nearest;
    Some(match name {
        "add" if nearest => lanes2!(rows, |a: f64, b: f64| a + b),
        "sub" if nearest => lanes2!(rows, |a: f64, b: f64| a - b),
        "mul" if nearest => lanes2!(rows, |a: f64, b: f64| a * b),
        "add" => lanes2!(rows, |a: f64, b: f64| double_sum(a, b, mode)),
        "sub" => lanes2!(rows, |a: f64, b: f64| double_sum(a, -b, mode)),
        "mul" => lanes2!(rows, |a: f64, b: f64| {
            let product = a * b;
            directed(product, a.mul_add(b, -product), mode)
        }),
        "div" => lanes2!(rows, |a: f64, b: f64| double_quotient(a, b, mode)),
        "min" => lanes2!(rows, |a: f64, b: f64| extreme!(a, b, true, form.nan)),
        "max" => lanes2!(rows, |a: f64, b: f64| extreme!(a, b, false, form.nan)),
        "copysign" => lanes2!(rows, |a: f64, b: f64| b.copysign(a)),
        _ => return None,
    })
}
}

/// The sign of `a b + c - value`, where `value` is that sum rounded: the product and the sums as exact pairs.
#[inline(always)]
fn fma_error(a: f64, b: f64, c: f64, value: f64) -> f64 {
    let product = a * b;
    let low = a.mul_add(b, -product);
    let sum = product + c;
    let sum_low = sum_error(product, c, sum);
    (sum - value) + (sum_low + low)
}

vectorised! {
fn double3(form: Form, rows: [u32; 4]) -> Operation {
    let mode = form.rounding;
    if mode == Rounding::Nearest {
        return lanes3!(rows, |a: f64, b: f64, c: f64| a.mul_add(b, c));
    }
    lanes3!(rows, |a: f64, b: f64, c: f64| {
        let value = a.mul_add(b, c);
        directed(value, fma_error(a, b, c, value), mode)
    })
}
}
