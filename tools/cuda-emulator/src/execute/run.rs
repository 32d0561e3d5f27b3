//! The loop over the instructions of a warp.

use super::access::get;
use super::block::{Block, Vote};
use super::exchange::{matching, reduce, shuffle, vote};
use super::warp::{Group, LaneFault, LaneResult, Status, Warp, lanes};
use crate::error::{Fault, FaultKind};
use crate::ir::{Argument, Callee, Operation, Row};
use crate::memory::MemoryError;

/// Instructions after which a warp is taken to loop for ever.
const LIMIT: u64 = 1 << 30;

/// Whether the lanes that an instruction needs are together.
enum Meeting {
    Together,
    /// The current group waits; another one runs.
    Parked,
}

impl Block<'_> {
    /// Runs a warp until it waits, ends, or has had its turn.
    pub(super) fn run_warp(&mut self, warp: &mut Warp) -> Result<(), Fault> {
        let end = warp.executed + self.patience;
        while warp.status == Status::Ready && warp.executed < end {
            let frame = warp.top();
            let pc = frame.current.pc;
            if frame.current.mask == 0 {
                let pc = frame.parked.first().map_or(pc, |group| group.pc);
                self.finish_frame(warp).map_err(|fault| self.located(*fault, warp.index, pc))?;
                continue;
            }
            if let Err(fault) = self.step(warp, pc) {
                return Err(self.located(self.beside_parked(warp, *fault), warp.index, pc));
            }
        }
        if warp.executed > LIMIT {
            let message = format!("a warp has run {LIMIT} instructions without end");
            let fault = LaneFault { kind: FaultKind::Timeout, message, lane: 0 };
            let pc = warp.frames.last().map_or(0, |frame| frame.current.pc);
            return Err(self.located(fault, warp.index, pc));
        }
        Ok(())
    }

    /// Adds to a finding that other lanes of the warp already wait somewhere: often that is its cause.
    #[cold]
    fn beside_parked(&self, warp: &Warp, mut fault: LaneFault) -> LaneFault {
        if let Some(group) = warp.frames.last().and_then(|frame| frame.parked.first()) {
            let line = self.program.code[group.pc as usize].line;
            fault.message.push_str(&format!(
                " (lanes {:#010x} of the warp wait at PTX line {line} for the others)",
                group.mask
            ));
        }
        fault
    }

    /// Leaves a frame whose lanes have all returned.
    fn finish_frame(&mut self, warp: &mut Warp) -> LaneResult<()> {
        let frame = warp.top();
        if let Some(group) = frame.parked.first() {
            let line = self.program.code[group.pc as usize].line;
            let message = format!(
                "lanes {:#010x} of the warp wait at PTX line {line} for lanes that are elsewhere or have returned",
                group.mask
            );
            return Err(LaneFault::new(FaultKind::DivergentBarrier, message, group.mask.trailing_zeros()));
        }
        let (local, returned, function) = (frame.local, frame.returned, frame.function);
        if warp.frames.len() == 1 {
            warp.frames.clear();
            warp.status = Status::Done;
            // What was never waited for still arrives before the block ends.
            return Ok(());
        }
        let caller = &warp.frames[warp.frames.len() - 2];
        let pc = caller.current.pc;
        let Operation::Call { results, .. } = &self.program.code[pc as usize].operation else {
            return Err(LaneFault::new(FaultKind::Trap, "a return to no call".to_string(), 0));
        };
        let base = caller.local;
        for (to, from) in results.iter().zip(&self.program.functions[function].returns) {
            let bytes = to.size.min(from.size);
            warp.local.copy(base + to.offset, local + from.offset, bytes, returned & warp.live);
        }
        warp.frames.pop();
        warp.local.pop(local);
        let live = warp.live;
        let frame = warp.top_mut();
        frame.returned |= frame.current.mask & !live;
        frame.current.mask &= live;
        frame.go_or_pick(pc + 1);
        Ok(())
    }

    /// Brings the lanes in `needed` together at the current instruction.
    fn meet(&self, warp: &mut Warp, needed: u32) -> LaneResult<Meeting> {
        let needed = needed & warp.existing;
        let gone = needed & !warp.live;
        if gone != 0 {
            let message =
                format!("lanes {gone:#010x}, which have left the kernel, are named in this instruction");
            let lane = warp.top().current.mask.trailing_zeros();
            return Err(LaneFault::new(FaultKind::DivergentBarrier, message, lane));
        }
        let frame = warp.top_mut();
        frame.join_parked();
        if frame.current.mask & needed == needed {
            return Ok(Meeting::Together);
        }
        let (mask, lane) = (frame.current.mask, frame.current.mask.trailing_zeros());
        if frame.park() {
            return Ok(Meeting::Parked);
        }
        let message = format!(
            "lanes {:#010x} of the warp are here, lanes {:#010x} are elsewhere and cannot come",
            mask,
            needed & !mask
        );
        Err(LaneFault::new(FaultKind::DivergentBarrier, message, lane))
    }

    /// The lanes that the lanes in `mask` name in a row of member masks.
    fn members(warp: &Warp, row: u32, mask: u32) -> u32 {
        let row = &warp.top().registers.words[row as usize];
        lanes(mask).fold(0, |bits, lane| bits | row[lane as usize])
    }

    /// Executes one instruction of the current group.
    #[inline(always)]
    fn step(&mut self, warp: &mut Warp, pc: u32) -> LaneResult<()> {
        let instruction = &self.program.code[pc as usize];
        let frame = warp.frames.last_mut().expect("a warp that runs has a frame");
        let mut mask = frame.current.mask;
        if let Some((row, inverted)) = instruction.guard {
            let bits = frame.registers.predicates[row as usize];
            mask &= if inverted { !bits } else { bits };
        }
        warp.executed += 1;
        self.clock += 1;
        self.lane_counts[pc as usize] += u64::from(mask.count_ones());
        self.warp_counts[pc as usize] += 1;
        if let Operation::Lanes(operation) = &instruction.operation {
            if mask != 0 {
                operation(&mut frame.registers, mask);
            }
            frame.go(pc + 1);
            return Ok(());
        }
        if let Operation::Branch { target } = instruction.operation {
            frame.branch(mask, target);
            return Ok(());
        }
        if mask == 0 {
            frame.go(pc + 1);
            return Ok(());
        }
        match &instruction.operation {
            Operation::Load(access) => self.load(warp, access, mask)?,
            Operation::Store(access) => self.store(warp, access, mask)?,
            Operation::LoadParameter(access) => self.load_parameter(warp, access, mask)?,
            Operation::Atomic { kind, access, b, c, .. } => self.atomic(warp, *kind, access, *b, *c, mask)?,
            Operation::CopyAsync { shared, global, size, source, ignore } => {
                let ignored = ignore.map_or(0, |(row, inverted)| {
                    frame.registers.predicates[row as usize] ^ if inverted { u32::MAX } else { 0 }
                });
                self.copy_async(warp, [shared, global], *size, *source, ignored, mask)?;
            }
            Operation::BarrierObject { memory, action } => {
                self.barrier_object(warp, memory, *action, mask)?;
            }
            Operation::CommitGroup => Self::commit_group(warp, mask),
            Operation::WaitGroup(left) => self.wait_group(warp, *left, mask),
            Operation::FrameAddress { d, offset } => {
                let address = u64::from(frame.local + offset);
                for lane in lanes(mask) {
                    super::access::set(&mut frame.registers, *d, lane, address, 8, false);
                }
            }
            Operation::Clock { d } | Operation::GlobalTimer { d } => {
                // The clock counts issued instructions, so that runs repeat bit by bit.
                for lane in lanes(mask) {
                    super::access::set(&mut frame.registers, *d, lane, self.clock, 8, false);
                }
            }
            Operation::ActiveMask { d } => {
                for lane in lanes(mask) {
                    frame.registers.words[*d as usize][lane as usize] = mask;
                }
            }
            Operation::Nothing | Operation::Lanes(_) => {}
            _ => return self.step_together(warp, pc, mask),
        }
        warp.top_mut().go(pc + 1);
        Ok(())
    }

    /// Instructions of several lanes, and those that change where lanes are.
    fn step_together(&mut self, warp: &mut Warp, pc: u32, mask: u32) -> LaneResult<()> {
        let instruction = &self.program.code[pc as usize];
        let needed = match &instruction.operation {
            Operation::Shuffle { members, .. }
            | Operation::Vote { members, .. }
            | Operation::Match { members, .. }
            | Operation::Reduce { members, .. }
            | Operation::SyncWarp { members } => Self::members(warp, *members, mask),
            Operation::Warp(_)
            | Operation::LoadMatrix { .. }
            | Operation::LoadFragment { .. }
            | Operation::StoreFragment { .. } => u32::MAX,
            Operation::Barrier { aligned, .. } => {
                if *aligned {
                    u32::MAX
                } else {
                    warp.live
                }
            }
            Operation::BarrierReduce { .. } => u32::MAX,
            _ => 0,
        };
        if needed != 0 && matches!(self.meet(warp, needed)?, Meeting::Parked) {
            return Ok(());
        }
        let frame = warp.top_mut();
        let mask = match instruction.guard {
            Some((row, inverted)) => {
                frame.current.mask
                    & (frame.registers.predicates[row as usize] ^ if inverted { u32::MAX } else { 0 })
            }
            None => frame.current.mask,
        };
        let r = &mut frame.registers;
        match &instruction.operation {
            Operation::Warp(operation) => operation(r, mask),
            Operation::Shuffle { mode, d, p, a, b, c, .. } => shuffle(r, mask, *mode, *d, *p, *a, *b, *c),
            Operation::Vote { mode, d, p, negated, members } => {
                let bits = r.predicates[*p as usize] ^ if *negated { u32::MAX } else { 0 };
                vote(r, mask, *mode, *d, bits, *members);
            }
            Operation::Match { all, d, p, a, members } => matching(r, mask, *all, *d, *p, *a, *members),
            Operation::Reduce { kind, d, a, members } => reduce(r, mask, *kind, *d, *a, *members),
            Operation::SyncWarp { .. } => self.shared.barrier(1 << warp.index, 1 << warp.index),
            Operation::LoadMatrix { shared, count, transposed } => {
                self.load_matrix(warp, shared, *count, *transposed)?;
            }
            Operation::LoadFragment { access, stride, layout } => {
                self.fragment(warp, access, *stride, layout, true)?;
            }
            Operation::StoreFragment { access, stride, layout } => {
                self.fragment(warp, access, *stride, layout, false)?;
            }
            Operation::Barrier { .. } | Operation::BarrierReduce { .. } => {
                return self.barrier(warp, pc, mask);
            }
            Operation::BranchIndexed { index, targets } => {
                let lane = mask.trailing_zeros();
                let chosen = r.words[*index as usize][lane as usize];
                let same = lanes(mask).filter(|&n| r.words[*index as usize][n as usize] == chosen);
                let taken = same.fold(0, |bits, n| bits | 1 << n);
                let Some(&target) = targets.get(chosen as usize) else {
                    let message = format!("branch {chosen} of a table with {} targets", targets.len());
                    return Err(LaneFault::new(FaultKind::OutOfBounds, message, lane));
                };
                // The lanes with another index come back to this instruction.
                let rest = frame.current.mask & !taken;
                if rest != 0 {
                    frame.add_pending(Group { pc: if rest & mask != 0 { pc } else { pc + 1 }, mask: rest });
                    frame.current.mask = taken;
                }
                frame.go(target);
                return Ok(());
            }
            Operation::Call { callee, arguments, .. } => return self.call(warp, pc, mask, callee, arguments),
            Operation::Return => {
                if warp.frames.len() == 1 {
                    warp.live &= !mask;
                }
                warp.top_mut().leave(mask);
                return Ok(());
            }
            Operation::Exit => {
                warp.live &= !mask;
                warp.top_mut().leave(mask);
                return Ok(());
            }
            Operation::Trap => {
                let message = "the program executed `trap`".to_string();
                return Err(LaneFault::new(FaultKind::Trap, message, mask.trailing_zeros()));
            }
            _ => {}
        }
        warp.top_mut().go(pc + 1);
        Ok(())
    }

    fn barrier(&mut self, warp: &mut Warp, pc: u32, mask: u32) -> LaneResult<()> {
        let registers = &warp.top().registers;
        let lane = mask.trailing_zeros();
        let value = |row: u32| registers.words[row as usize][lane as usize];
        let (id, count, wait, votes) = match &self.program.code[pc as usize].operation {
            Operation::Barrier { id, count, wait, .. } => (value(*id), count.map(value), *wait, (0, 0)),
            Operation::BarrierReduce { mode, d, id, threads, p, negated, .. } => {
                let bits = registers.predicates[*p as usize] ^ if *negated { u32::MAX } else { 0 };
                self.votes[warp.index as usize] = Some(Vote { mode: *mode, d: *d, mask });
                (value(*id), threads.map(value), true, ((bits & mask).count_ones(), mask.count_ones()))
            }
            _ => return Ok(()),
        };
        warp.top_mut().go(pc + 1);
        if wait {
            warp.status = Status::AtBarrier(id);
        }
        self.arrive(warp.index, pc, id, count, wait, votes).map_err(|mut fault| {
            fault.lane = lane;
            fault
        })
    }

    fn call(
        &mut self,
        warp: &mut Warp,
        pc: u32,
        mask: u32,
        callee: &Callee,
        arguments: &[Argument],
    ) -> LaneResult<()> {
        let frame = warp.top();
        let base = frame.local;
        let lane = mask.trailing_zeros();
        let function = match callee {
            Callee::Function(index) => *index,
            Callee::Print => {
                for lane in lanes(mask) {
                    let [format, list] = [
                        argument_value(warp, base, arguments.first(), lane)?,
                        argument_value(warp, base, arguments.get(1), lane)?,
                    ];
                    self.print(warp, format, list, lane)?;
                    if let Operation::Call { results, .. } = &self.program.code[pc as usize].operation
                        && let Some(result) = results.first()
                    {
                        warp.local.store((base + result.offset).into(), 4, lane, 1);
                    }
                }
                warp.top_mut().go(pc + 1);
                return Ok(());
            }
            Callee::AssertFail => {
                let mut values = [0; 4];
                for (value, argument) in values.iter_mut().zip(arguments) {
                    *value = argument_value(warp, base, Some(argument), lane)?;
                }
                return Err(self.assertion(warp, values, lane));
            }
            Callee::Allocate | Callee::Free => {
                self.heap_call(warp, pc, mask, *callee == Callee::Allocate, arguments)?;
                warp.top_mut().go(pc + 1);
                return Ok(());
            }
            Callee::Indirect(row) => {
                let address = get(&frame.registers, Row::Long(*row), lane);
                let same = lanes(mask).filter(|&n| get(&frame.registers, Row::Long(*row), n) == address);
                let taken = same.fold(0, |bits, n| bits | 1 << n);
                let Some(index) =
                    self.program.functions.iter().position(|f| f.address == address && address != 0)
                else {
                    let message = format!("a call to {address:#x}, where no function is");
                    return Err(LaneFault::new(FaultKind::OutOfBounds, message, lane));
                };
                return self.enter(warp, index, taken, arguments, pc, mask);
            }
        };
        self.enter(warp, function, mask, arguments, pc, mask)
    }

    /// `malloc` and `free`, lane by lane.
    fn heap_call(
        &mut self,
        warp: &mut Warp,
        pc: u32,
        mask: u32,
        allocates: bool,
        arguments: &[Argument],
    ) -> LaneResult<()> {
        let base = warp.top().local;
        for lane in lanes(mask) {
            let value = argument_value(warp, base, arguments.first(), lane)?;
            if allocates {
                let address = self.memory.heap_allocate(value).unwrap_or(0);
                if let Operation::Call { results, .. } = &self.program.code[pc as usize].operation
                    && let Some(result) = results.first()
                {
                    warp.local.store((base + result.offset).into(), 8, lane, address);
                }
            } else if value != 0
                && let Err(error) = self.memory.heap_free(value)
            {
                let kind = match error {
                    MemoryError::Freed(_) => FaultKind::FreedMemory,
                    _ => FaultKind::OutOfBounds,
                };
                let message = format!("`free` of {value:#x}, where no block of the kernels' heap starts");
                return Err(LaneFault::new(kind, message, lane));
            }
        }
        self.renew_allocations();
        Ok(())
    }

    /// Enters a function with the lanes in `taken`; those of `mask` that call another one come back here.
    fn enter(
        &mut self,
        warp: &mut Warp,
        function: usize,
        taken: u32,
        arguments: &[Argument],
        pc: u32,
        mask: u32,
    ) -> LaneResult<()> {
        let frame = warp.top_mut();
        let base = frame.local;
        let later = mask & !taken;
        let skipped = frame.current.mask & !mask;
        for (pc, mask) in [(pc, later), (pc + 1, skipped)] {
            if mask != 0 {
                frame.add_pending(Group { pc, mask });
            }
        }
        frame.current.mask = taken;
        let code = &self.program.functions[function];
        warp.enter(code, function, taken, &self.place)?;
        let local = warp.top().local;
        for (from, to) in arguments.iter().zip(&code.parameters) {
            warp.local.copy(local + to.offset, base + from.offset, from.size.min(to.size), taken);
        }
        Ok(())
    }
}

/// What a lane passes to a function of the run-time library; nothing reads as zero.
fn argument_value(warp: &Warp, base: u32, argument: Option<&Argument>, lane: u32) -> LaneResult<u64> {
    let Some(&Argument { offset, size }) = argument else { return Ok(0) };
    let (address, size) = (u64::from(base + offset), size.clamp(1, 8).next_power_of_two());
    warp.local.check(address, size, lane)?;
    warp.local.load(address, size, lane, true)
}
