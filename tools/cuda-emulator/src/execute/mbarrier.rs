//! Barrier objects in shared memory (`mbarrier`). Their 64 bits are opaque to a program; here they hold,
//! from the lowest, the arrivals still expected, the arrivals of a phase, the phase's parity and a mark
//! that says the object has been initialised.

use super::access::{addresses, get, set, split};
use super::block::Block;
use super::warp::{LaneFault, LaneResult, Status, Warp, lanes};
use crate::error::FaultKind;
use crate::ir::mbarrier::{BarrierAction, PENDING_BITS};
use crate::ir::{Access, Row};

/// The ISA's greatest count: 2^20 - 1.
const MOST: u64 = (1 << PENDING_BITS) - 1;
const PARITY: u64 = 1 << (2 * PENDING_BITS);
const INITIALISED: u64 = 1 << 63;

impl Block<'_> {
    /// Executes an instruction on barrier objects, lane by lane.
    pub(super) fn barrier_object(
        &mut self,
        warp: &mut Warp,
        memory: &Access,
        action: BarrierAction,
        mask: u32,
    ) -> LaneResult<()> {
        let mut at = addresses(warp.top(), memory);
        split(&mut at, mask);
        if let BarrierAction::ArriveCopies { .. } = action {
            self.wait_group(warp, None, mask);
        }
        for lane in lanes(mask) {
            let address = at[lane as usize];
            self.shared.check(address, 8, lane)?;
            self.act(warp, address, action, lane)?;
        }
        Ok(())
    }

    fn act(&mut self, warp: &mut Warp, address: u64, action: BarrierAction, lane: u32) -> LaneResult<()> {
        let value = |row: Row| get(&warp.top().registers, row, lane);
        let old = self.shared.load(address, 8);
        if let BarrierAction::Init(count) = action {
            let count = value(count);
            if !(1..=MOST).contains(&count) {
                let message = format!("an mbarrier for {count} arrivals, 1 to {MOST} are possible");
                return Err(LaneFault::new(FaultKind::DivergentBarrier, message, lane));
            }
            self.shared.set_object(address, INITIALISED | count << PENDING_BITS | count);
            return Ok(());
        }
        if !self.shared.is_object(address) || old & INITIALISED == 0 {
            let message = format!("no mbarrier has been initialised at shared address {address:#x}");
            return Err(LaneFault::new(FaultKind::Uninitialised, message, lane));
        }
        let ended = |parity: bool| (old & PARITY != 0) != parity;
        match action {
            BarrierAction::Init(_) => {}
            BarrierAction::Invalidate => self.shared.set_object(address, 0),
            BarrierAction::ArriveCopies { arrives: false } => {}
            BarrierAction::ArriveCopies { arrives: true } => self.arrivals(warp, address, 1, false, lane)?,
            BarrierAction::Arrive { count, leave, state } => {
                self.arrivals(warp, address, count.map_or(1, value), leave, lane)?;
                if let Some(row) = state {
                    set(&mut warp.top_mut().registers, row, lane, old, 8, false);
                }
            }
            BarrierAction::TestState { p, state } => {
                let parity = value(state) & PARITY != 0;
                self.tested(warp, address, p, ended(parity), lane);
            }
            BarrierAction::TestParity { p, parity } => {
                let parity = value(parity) & 1 != 0;
                self.tested(warp, address, p, ended(parity), lane);
            }
        }
        Ok(())
    }

    fn arrivals(&mut self, warp: &Warp, address: u64, count: u64, leave: bool, lane: u32) -> LaneResult<()> {
        let old = self.shared.load(address, 8);
        let (pending, expected) = (old & MOST, old >> PENDING_BITS & MOST);
        if count == 0 || count > pending {
            let message =
                format!("{count} arrivals at an mbarrier that expects {pending} more in this phase");
            return Err(LaneFault::new(FaultKind::DivergentBarrier, message, lane));
        }
        let expected = if leave { expected - count } else { expected };
        let ends = pending == count;
        let parity = (old & PARITY) ^ if ends { PARITY } else { 0 };
        let pending = if ends { expected } else { pending - count };
        self.shared.set_object(address, INITIALISED | parity | expected << PENDING_BITS | pending);
        self.shared.arrive_at(address, warp.index as usize, ends);
        Ok(())
    }

    /// Hands the result of a test over; who has to wait lets the other warps of the block run.
    fn tested(&mut self, warp: &mut Warp, address: u64, p: u32, ended: bool, lane: u32) {
        let old = &mut warp.top_mut().registers.predicates[p as usize];
        *old = (*old & !(1 << lane)) | u32::from(ended) << lane;
        if ended {
            self.shared.pass(address, warp.index as usize);
        } else {
            warp.status = Status::Resting;
        }
    }
}
