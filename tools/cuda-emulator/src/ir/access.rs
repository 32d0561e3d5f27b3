//! Loads, stores, atomics and asynchronous copies (PTX ISA, "Data Movement and Conversion Instructions").

use super::control::number;
use super::decode::{Decoded, Decoder, Suffixes};
use super::{Access, AtomicKind, Operation, Row};
use crate::observe::Class;
use crate::ptx::{Instruction, Operand, Space, Type};

/// Hints about caches and the scopes of the memory model: they do not change what one card computes.
const HINTS: [&str; 26] = [
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "weak",
    "cta",
    "gpu",
    "sys",
    "cluster",
    "evict_last",
    "evict_first",
    "no_allocate",
    "noftz",
    "mmio",
    "sc",
    "unified",
    "evict_normal",
];

/// Decodes an instruction on memory with the class it is counted in.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<(Class, Option<Operation>)> {
    let mut s = Suffixes::new(i);
    Ok(match i.opcode[0].as_str() {
        "ld" | "ldu" => load_or_store(cx, i, &mut s, true)?,
        "st" => load_or_store(cx, i, &mut s, false)?,
        "atom" | "red" => (Class::Atomic, atomic(cx, i, &mut s)?),
        "cp" => asynchronous(cx, i, &mut s)?,
        _ => (Class::Global, Some(Operation::Nothing)),
    })
}

fn space(s: &mut Suffixes<'_>) -> Space {
    match s.one_of(&[
        "global",
        "shared",
        "shared::cta",
        "local",
        "const",
        "param",
        "param::entry",
        "param::func",
    ]) {
        Some("global") => Space::Global,
        Some("shared" | "shared::cta") => Space::Shared,
        Some("local") => Space::Local,
        Some("const") => Space::Const,
        Some(_) => Space::Param,
        None => Space::Generic,
    }
}

/// The operand's address in the named space; a variable in a frame makes a parameter a local access.
pub(super) fn access(cx: &mut Decoder<'_>, operand: &Operand, space: Space, ty: Type) -> Decoded<Access> {
    let (base, offset, found) = cx.address(operand)?;
    let space = match (space, found) {
        (Space::Param, Some(Space::Local)) | (Space::Generic, Some(Space::Local)) => Space::Local,
        (Space::Generic, Some(Space::Shared)) => Space::Shared,
        (space, _) => space,
    };
    Ok(Access { space, base, offset, size: ty.size(), signed: ty.is_signed(), rows: Vec::new() })
}

fn load_or_store(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    s: &mut Suffixes<'_>,
    load: bool,
) -> Decoded<(Class, Option<Operation>)> {
    let space = space(s);
    s.ignore(&HINTS);
    let lanes = match s.one_of(&["v2", "v4"]) {
        Some("v2") => 2,
        Some(_) => 4,
        None => 1,
    };
    let ty = cx.ty(s, i)?;
    cx.finish(s, i)?;
    if ty == Type::B128 || ty.size() * lanes > 16 {
        return Ok((Class::Global, None));
    }
    let (memory, value) = if load { (1, 0) } else { (0, 1) };
    let mut access = access(cx, cx.operand(i, memory)?, space, ty)?;
    let value = cx.operand(i, value)?;
    let values = match value {
        Operand::Vector(list) if list.len() == lanes as usize => list.as_slice(),
        Operand::Vector(_) => return Ok((Class::Global, None)),
        _ => std::slice::from_ref(value),
    };
    for operand in values {
        let row = if load { cx.destination_row(operand, ty)? } else { cx.source_row(operand, ty)? };
        access.rows.push(row);
    }
    let class = match access.space {
        Space::Shared => Class::Shared,
        Space::Local | Space::Param => Class::Local,
        _ => Class::Global,
    };
    let operation = match (access.space, load) {
        (Space::Param, true) if cx.function.entry => Operation::LoadParameter(access),
        (Space::Param | Space::Const, false) => return Ok((class, None)),
        (_, true) => Operation::Load(access),
        (_, false) => Operation::Store(access),
    };
    Ok((class, Some(operation)))
}

fn atomic(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    let space = space(s);
    s.ignore(&HINTS);
    let Some(name) = s.one_of(&["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"]) else {
        return Ok(None);
    };
    let ty = cx.ty(s, i)?;
    cx.finish(s, i)?;
    let signed = ty.is_signed();
    let kind = match (name, ty) {
        ("add", Type::F32) => AtomicKind::AddF32,
        ("add", Type::F64) => AtomicKind::AddF64,
        ("add", Type::F16) => AtomicKind::AddF16,
        ("add", Type::F16x2) => AtomicKind::AddF16x2,
        ("add", Type::Bf16) => AtomicKind::AddBf16,
        ("add", Type::Bf16x2) => AtomicKind::AddBf16x2,
        ("exch", _) => AtomicKind::Exchange,
        ("cas", _) => AtomicKind::CompareAndSwap,
        (_, Type::F32 | Type::F64 | Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2) => return Ok(None),
        ("add", _) => AtomicKind::Add,
        ("min", _) => AtomicKind::Min { signed },
        ("max", _) => AtomicKind::Max { signed },
        ("and", _) => AtomicKind::And,
        ("or", _) => AtomicKind::Or,
        ("xor", _) => AtomicKind::Xor,
        ("inc", _) => AtomicKind::Increment,
        _ => AtomicKind::Decrement,
    };
    let returns = i.opcode[0] == "atom";
    let memory = usize::from(returns);
    let mut access = access(cx, cx.operand(i, memory)?, space, ty)?;
    if returns {
        access.rows.push(cx.destination_row(cx.operand(i, 0)?, ty)?);
    }
    let b = cx.source_row(cx.operand(i, memory + 1)?, ty)?;
    let c = match kind {
        AtomicKind::CompareAndSwap => Some(cx.source_row(cx.operand(i, memory + 2)?, ty)?),
        _ => None,
    };
    Ok(Some(Operation::Atomic { kind, access, b, c, returns }))
}

fn asynchronous(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    s: &mut Suffixes<'_>,
) -> Decoded<(Class, Option<Operation>)> {
    if !s.take("async") {
        return Ok((Class::Global, None));
    }
    if s.take("mbarrier") {
        return Ok((Class::Synchronisation, super::mbarrier::decode(cx, i, s)?));
    }
    if s.take("commit_group") {
        return Ok((Class::Synchronisation, s.is_empty().then_some(Operation::CommitGroup)));
    }
    if s.take("wait_all") {
        return Ok((Class::Synchronisation, s.is_empty().then_some(Operation::WaitGroup(None))));
    }
    if s.take("wait_group") {
        let left = number(cx, i, 0)?;
        return Ok((Class::Synchronisation, s.is_empty().then_some(Operation::WaitGroup(Some(left)))));
    }
    let sixteen_only = s.one_of(&["ca", "cg"]) == Some("cg");
    let spaces = s.one_of(&["shared", "shared::cta"]).is_some() && s.take("global");
    s.ignore(&[]);
    let size = number(cx, i, 2)?;
    let valid = matches!(size, 4 | 8 | 16) && (!sixteen_only || size == 16);
    if !spaces || !valid || !s.is_empty() {
        return Ok((Class::Global, None));
    }
    let shared = access(cx, cx.operand(i, 0)?, Space::Shared, Type::B8)?;
    let global = access(cx, cx.operand(i, 1)?, Space::Global, Type::B8)?;
    let (mut source, mut ignore): (Option<Row>, _) = (None, None);
    match i.operands.get(3) {
        None => {}
        Some(operand @ (Operand::Negated(_) | Operand::Register(_))) if cx.predicate(operand).is_ok() => {
            ignore = Some(cx.predicate(operand)?);
        }
        Some(operand) => source = Some(cx.source_row(operand, Type::U32)?),
    }
    Ok((Class::Global, Some(Operation::CopyAsync { shared, global, size, source, ignore })))
}
