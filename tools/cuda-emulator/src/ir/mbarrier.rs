//! `mbarrier` instructions of `sm_80` (PTX ISA, "Parallel Synchronization and Communication Instructions:
//! mbarrier"). Those of `sm_90` (transaction counts, `try_wait`) are unknown.

use super::access::access;
use super::decode::{Decoded, Decoder, Suffixes};
use super::{Access, LaneOperation, Operation, Row};
use crate::ptx::{Instruction, Operand, Space, Type};

/// What happens to the barrier object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierAction {
    /// Set to expect as many arrivals as the row says.
    Init(Row),
    Invalidate,
    /// So many arrivals, one by default; `leave`: the next phases expect as many fewer. `state` gets the
    /// barrier as it was.
    Arrive {
        count: Option<Row>,
        leave: bool,
        state: Option<Row>,
    },
    /// Whether the phase of a state has ended.
    TestState {
        p: u32,
        state: Row,
    },
    /// Whether the phase of that parity has ended.
    TestParity {
        p: u32,
        parity: Row,
    },
    /// `cp.async.mbarrier.arrive`: the lane's copies arrive, and with `noinc` the lane does.
    ArriveCopies {
        arrives: bool,
    },
}

/// Bits of the opaque state that hold the arrivals still expected in this phase.
pub const PENDING_BITS: u32 = 20;

/// Decodes `mbarrier.*`, and `cp.async.mbarrier.arrive` whose suffixes up to `mbarrier` are taken.
pub(super) fn decode(
    cx: &mut Decoder<'_>,
    i: &Instruction,
    s: &mut Suffixes<'_>,
) -> Decoded<Option<Operation>> {
    let copies = i.opcode[0] == "cp";
    let Some(name) = s.one_of(&["init", "inval", "arrive", "arrive_drop", "test_wait", "pending_count"])
    else {
        return Ok(None);
    };
    let parity = s.take("parity");
    let keeps = s.take("noinc");
    s.take("noComplete");
    let space = if s.one_of(&["shared", "shared::cta"]).is_some() { Space::Shared } else { Space::Generic };
    s.ignore(&["acquire", "release", "cta", "b64"]);
    cx.finish(s, i)?;
    if name == "pending_count" {
        return pending_count(cx, i).map(Some);
    }
    let target = matches!(name, "arrive" | "arrive_drop" | "test_wait") && !copies;
    let memory = access(cx, cx.operand(i, usize::from(target))?, space, Type::B64)?;
    let action = match name {
        "init" => BarrierAction::Init(cx.source_row(cx.operand(i, 1)?, Type::U32)?),
        "inval" => BarrierAction::Invalidate,
        "test_wait" => {
            let (p, _) = cx.predicate(cx.operand(i, 0)?)?;
            let operand = cx.operand(i, 2)?;
            if parity {
                BarrierAction::TestParity { p, parity: cx.source_row(operand, Type::U32)? }
            } else {
                BarrierAction::TestState { p, state: cx.source_row(operand, Type::B64)? }
            }
        }
        _ if copies => BarrierAction::ArriveCopies { arrives: keeps },
        _ => {
            let state = match cx.operand(i, 0)? {
                Operand::Sink => None,
                operand => Some(cx.destination_row(operand, Type::B64)?),
            };
            let count = match i.operands.get(2) {
                Some(operand) => Some(cx.source_row(operand, Type::U32)?),
                None => None,
            };
            BarrierAction::Arrive { count, leave: name == "arrive_drop", state }
        }
    };
    Ok(Some(Operation::BarrierObject { memory: Access { rows: Vec::new(), ..memory }, action }))
}

fn pending_count(cx: &mut Decoder<'_>, i: &Instruction) -> Decoded<Operation> {
    let d = cx.destination(i, 0, Type::B32)? as usize;
    let Row::Long(state) = cx.source_row(cx.operand(i, 1)?, Type::B64)? else {
        return cx.unknown_opcode(i);
    };
    let operation: LaneOperation = Box::new(move |r, mask| {
        let counts = r.longs[state as usize].map(|state| state as u32 & ((1 << PENDING_BITS) - 1));
        for (lane, count) in counts.into_iter().enumerate().filter(|&(lane, _)| mask >> lane & 1 == 1) {
            r.words[d][lane] = count;
        }
    });
    Ok(Operation::Lanes(operation))
}
