//! Branches, calls, barriers and warp-wide instructions (PTX ISA, "Control Flow Instructions", "Parallel
//! Synchronization and Communication Instructions").

use super::decode::{Decoded, Decoder, Suffixes};
use super::{Callee, Operation, Reduction, Row, ShuffleMode, VoteMode};
use crate::error::{Fault, FaultKind};
use crate::observe::Class;
use crate::ptx::{Instruction, Operand, Type};

/// Whether an opcode belongs here.
pub(super) fn knows(name: &str) -> bool {
    matches!(
        name,
        "bra"
            | "brx"
            | "call"
            | "ret"
            | "exit"
            | "trap"
            | "brkpt"
            | "bar"
            | "barrier"
            | "membar"
            | "fence"
            | "shfl"
            | "vote"
            | "match"
            | "activemask"
            | "redux"
            | "nanosleep"
            | "pmevent"
            | "mbarrier"
    )
}

/// Decodes one of the opcodes that [`knows`] accepts.
pub(super) fn decode(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<(Class, Option<Operation>)> {
    let mut s = Suffixes::new(i);
    let name = i.opcode[0].as_str();
    let (class, operation) = match name {
        "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" => {
            s.ignore(&["uni"]);
            (Class::Control, control(cx, i, &mut s)?)
        }
        "membar" | "fence" => {
            // One host thread runs a block and the atomics are sequentially consistent: fences hold already.
            s.ignore(&["cta", "gl", "sys", "gpu", "sc", "acq_rel", "acquire", "release", "cluster"]);
            if s.first() == Some("proxy") {
                return Ok((Class::Synchronisation, None));
            }
            (Class::Synchronisation, Some(Operation::Nothing))
        }
        "nanosleep" | "pmevent" => {
            s.ignore(&["u32", "mask"]);
            (Class::Control, Some(Operation::Nothing))
        }
        "mbarrier" => (Class::Synchronisation, super::mbarrier::decode(cx, i, &mut s)?),
        "bar" | "barrier" => (Class::Synchronisation, barrier(cx, i, &mut s)?),
        _ => (Class::Synchronisation, warp_wide(cx, i, &mut s)?),
    };
    cx.finish(&s, i)?;
    Ok((class, operation))
}

fn label(cx: &Decoder<'_>, operand: &Operand) -> Decoded<u32> {
    match operand {
        Operand::Label(at) => Ok(cx.code.start + *at as u32),
        _ => cx.unknown("a branch to something that is not a label of the function"),
    }
}

fn control(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    let most = match i.opcode[0].as_str() {
        "bra" => 1,
        "brx" => 2,
        "call" => 4,
        _ => 0,
    };
    if i.operands.len() > most {
        return cx.unknown(format!("`{}` with {} operands", i.opcode.join("."), i.operands.len()));
    }
    Ok(Some(match i.opcode[0].as_str() {
        "bra" => Operation::Branch { target: label(cx, cx.operand(i, 0)?)? },
        "brx" => {
            s.take("idx");
            let index = cx.source(i, 0, Type::U32)?;
            let Operand::Symbol(table, _) = cx.operand(i, 1)? else { return Ok(None) };
            let Some(targets) = cx.function.branch_targets.get(table) else { return Ok(None) };
            let start = cx.code.start;
            Operation::BranchIndexed { index, targets: targets.iter().map(|&at| start + at as u32).collect() }
        }
        "call" => return call(cx, i).map(Some),
        "ret" => Operation::Return,
        "exit" => Operation::Exit,
        _ => Operation::Trap,
    }))
}

fn call(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Operation> {
    let mut operands = i.operands.iter();
    let list = |cx: &Decoder<'_>, operand: &Operand| match operand {
        Operand::Vector(list) => list.iter().map(|operand| cx.argument(operand)).collect(),
        _ => cx.unknown("a call without its list of arguments"),
    };
    let results = match i.operands.first() {
        Some(operand @ Operand::Vector(_)) => {
            operands.next();
            list(cx, operand)?
        }
        _ => Vec::new(),
    };
    let callee = match operands.next() {
        Some(Operand::Symbol(name, 0)) => match (cx.indices.get(name.as_str()), name.as_str()) {
            (Some(&index), _) => Callee::Function(index),
            (None, "vprintf") => Callee::Print,
            (None, "__assertfail") => Callee::AssertFail,
            (None, "malloc") => Callee::Allocate,
            (None, "free") => Callee::Free,
            (None, name) => {
                let message = format!("`{name}` is called but the module does not define it");
                return Err(Fault::new(FaultKind::UnresolvedSymbol, message));
            }
        },
        Some(operand @ Operand::Register(_)) => match cx.source_row(operand, Type::U64)? {
            Row::Long(row) => Callee::Indirect(row),
            Row::Word(_) => return cx.unknown("a call through a register of 32 bits"),
        },
        _ => return cx.unknown("a call without a callee"),
    };
    let arguments = match operands.next() {
        Some(operand @ Operand::Vector(_)) => list(cx, operand)?,
        _ => Vec::new(),
    };
    Ok(Operation::Call { callee, arguments, results })
}

fn immediate(cx: &Decoder<'_>, operand: &Operand) -> Decoded<u32> {
    match operand {
        Operand::Integer(value) => Ok(*value as u32),
        _ => cx.unknown("a number is expected"),
    }
}

fn barrier(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    s.take("cta");
    let aligned = s.take("aligned") || i.opcode[0] == "bar";
    if s.take("warp") {
        s.take("sync");
        return Ok(Some(Operation::SyncWarp { members: cx.source(i, 0, Type::U32)? }));
    }
    if s.take("red") {
        let mode = match s.one_of(&["popc", "and", "or"]) {
            Some("and") => VoteMode::All,
            Some("or") => VoteMode::Any,
            _ => VoteMode::Ballot,
        };
        let count_ones = mode == VoteMode::Ballot;
        s.ignore(&["u32", "pred"]);
        let last = i.operands.len().saturating_sub(1);
        let (p, negated) = cx.predicate(cx.operand(i, last)?)?;
        let threads = if i.operands.len() == 4 { Some(cx.source(i, 2, Type::U32)?) } else { None };
        let d =
            if count_ones { cx.destination(i, 0, Type::U32)? } else { cx.predicate(cx.operand(i, 0)?)?.0 };
        let id = cx.source(i, 1, Type::U32)?;
        return Ok(Some(Operation::BarrierReduce { mode, d, count_ones, id, threads, p, negated }));
    }
    let wait = match s.one_of(&["sync", "arrive"]) {
        Some("sync") => true,
        Some(_) => false,
        None => return Ok(None),
    };
    let id = cx.source(i, 0, Type::U32)?;
    let count = if i.operands.len() > 1 { Some(cx.source(i, 1, Type::U32)?) } else { None };
    Ok(Some(Operation::Barrier { aligned, id, count, wait }))
}

fn warp_wide(cx: &mut Decoder<'_>, i: &Instruction, s: &mut Suffixes<'_>) -> Decoded<Option<Operation>> {
    match i.opcode[0].as_str() {
        "shfl" => {
            s.take("sync");
            let mode = match s.one_of(&["up", "down", "bfly", "idx"]) {
                Some("up") => ShuffleMode::Up,
                Some("down") => ShuffleMode::Down,
                Some("bfly") => ShuffleMode::Butterfly,
                Some(_) => ShuffleMode::Index,
                None => return Ok(None),
            };
            s.take("b32");
            let (target, p) = match cx.operand(i, 0)? {
                Operand::Pair(d, p) => (&**d, Some(cx.predicate(p)?.0)),
                d => (d, None),
            };
            let Row::Word(d) = cx.destination_row(target, Type::B32)? else { return Ok(None) };
            let [a, b, c] =
                [cx.source(i, 1, Type::B32)?, cx.source(i, 2, Type::U32)?, cx.source(i, 3, Type::U32)?];
            Ok(Some(Operation::Shuffle { mode, d, p, a, b, c, members: cx.source(i, 4, Type::U32)? }))
        }
        "vote" => {
            s.take("sync");
            let mode = match s.one_of(&["all", "any", "uni", "ballot"]) {
                Some("all") => VoteMode::All,
                Some("any") => VoteMode::Any,
                Some("uni") => VoteMode::Uniform,
                Some(_) => VoteMode::Ballot,
                None => return Ok(None),
            };
            s.ignore(&["pred", "b32"]);
            let (p, negated) = cx.predicate(cx.operand(i, 1)?)?;
            let d = match mode {
                VoteMode::Ballot => cx.destination(i, 0, Type::B32)?,
                _ => cx.predicate(cx.operand(i, 0)?)?.0,
            };
            Ok(Some(Operation::Vote { mode, d, p, negated, members: cx.source(i, 2, Type::U32)? }))
        }
        "match" => {
            let all = s.one_of(&["any", "all"]) == Some("all");
            s.take("sync");
            let ty = cx.ty(s, i)?;
            let (target, p) = match cx.operand(i, 0)? {
                Operand::Pair(d, p) => (&**d, Some(cx.predicate(p)?.0)),
                d => (d, None),
            };
            let Row::Word(d) = cx.destination_row(target, Type::B32)? else { return Ok(None) };
            let a = cx.source_row(cx.operand(i, 1)?, ty)?;
            Ok(Some(Operation::Match { all, d, p, a, members: cx.source(i, 2, Type::U32)? }))
        }
        "redux" => {
            s.take("sync");
            let name = s.one_of(&["add", "min", "max", "and", "or", "xor"]);
            let ty = cx.ty(s, i)?;
            let signed = ty.is_signed();
            let kind = match name {
                Some("add") => Reduction::Add,
                Some("min") => Reduction::Min { signed },
                Some("max") => Reduction::Max { signed },
                Some("and") => Reduction::And,
                Some("or") => Reduction::Or,
                Some(_) => Reduction::Xor,
                None => return Ok(None),
            };
            let [d, a] = [cx.destination(i, 0, ty)?, cx.source(i, 1, ty)?];
            Ok(Some(Operation::Reduce { kind, d, a, members: cx.source(i, 2, Type::U32)? }))
        }
        _ => {
            s.take("b32");
            Ok(Some(Operation::ActiveMask { d: cx.destination(i, 0, Type::B32)? }))
        }
    }
}

/// A number operand of an instruction that allows nothing else.
pub(super) fn number(cx: &Decoder<'_>, i: &Instruction, index: usize) -> Decoded<u32> {
    immediate(cx, cx.operand(i, index)?)
}
