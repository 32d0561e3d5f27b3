//! A block: its warps take turns on one host thread and meet at barriers.

use std::sync::Arc;

use super::Settings;
use super::shared::SharedMemory;
use super::warp::{Frame, LaneFault, Place, Status, Warp};
use crate::error::{Fault, FaultKind};
use crate::ir::registers::LANES;
use crate::ir::{Program, VoteMode};
use crate::memory::{Allocation, DeviceMemory};
use crate::observe::Counters;

/// Named barriers of a block.
const BARRIERS: usize = 16;
/// Instructions of a warp before the others of its block get their turn.
const TURN: u64 = 1 << 16;

/// A barrier that some warps have reached.
#[derive(Clone, Default)]
pub(super) struct Barrier {
    /// Warps that arrived, waiting or not.
    arrived: u32,
    /// Warps that wait.
    waiting: u32,
    /// Threads expected, a multiple of the warp size.
    expected: u32,
    /// Code index of the first arrival.
    pc: u32,
    /// Lanes whose predicate was true, and lanes altogether (`barrier.red`).
    ones: u32,
    lanes: u32,
}

/// What a waiting warp does with the result of `barrier.red`.
#[derive(Clone, Copy)]
pub(super) struct Vote {
    pub(super) mode: VoteMode,
    pub(super) d: u32,
    pub(super) mask: u32,
}

/// A block with what it shares with the rest of the launch.
pub(super) struct Block<'a> {
    pub(super) program: &'a Program,
    pub(super) memory: &'a DeviceMemory,
    pub(super) settings: &'a Settings,
    pub(super) parameters: &'a [u8],
    pub(super) kernel: &'a str,
    pub(super) files: &'a std::collections::HashMap<u32, String>,
    pub(super) allocations: Arc<Vec<Allocation>>,
    /// The allocation that was used last.
    pub(super) recent: Allocation,
    pub(super) place: Place,
    pub(super) shared: SharedMemory,
    pub(super) counters: Counters,
    /// Lanes that executed each instruction.
    pub(super) lane_counts: Vec<u64>,
    /// Warps that executed each instruction.
    pub(super) warp_counts: Vec<u64>,
    pub(super) printed: Vec<u8>,
    pub(super) barriers: Vec<Barrier>,
    pub(super) votes: Vec<Option<Vote>>,
    /// Barriers that completed and whose waiting warps may go on.
    released: Vec<(u32, Barrier)>,
    /// Instructions issued so far: the clock.
    pub(super) clock: u64,
    /// Instructions that a warp may run before the others get their turn.
    pub(super) patience: u64,
}

impl Warp {
    #[inline(always)]
    pub(super) fn top(&self) -> &Frame {
        self.frames.last().expect("a warp that runs has a frame")
    }

    #[inline(always)]
    pub(super) fn top_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a warp that runs has a frame")
    }
}

impl<'a> Block<'a> {
    #[allow(clippy::too_many_arguments)] // Everything that the blocks of a launch share.
    pub(super) fn new(
        program: &'a Program,
        memory: &'a DeviceMemory,
        settings: &'a Settings,
        parameters: &'a [u8],
        kernel: &'a str,
        files: &'a std::collections::HashMap<u32, String>,
        place: Place,
    ) -> Self {
        let threads: u32 = place.block.iter().product();
        let warps = threads.div_ceil(LANES as u32) as usize;
        Self {
            program,
            memory,
            settings,
            parameters,
            kernel,
            files,
            allocations: memory.snapshot(),
            recent: Allocation { base: 0, length: 0 },
            place,
            shared: SharedMemory::new(place.shared_total, warps, settings.uninitialised, settings.races),
            counters: Counters::default(),
            lane_counts: vec![0; program.code.len()],
            warp_counts: vec![0; program.code.len()],
            printed: Vec::new(),
            barriers: vec![Barrier::default(); BARRIERS],
            votes: vec![None; warps],
            released: Vec::new(),
            clock: 0,
            patience: TURN,
        }
    }

    /// Runs the block with this index in the grid.
    pub(super) fn run(&mut self, index: [u32; 3]) -> Result<(), Fault> {
        let mut warps = self.start(index)?;
        while self.turn(&mut warps)? {}
        self.finish(&warps)
    }

    /// The warps of the block with this index, at the start of the kernel.
    pub(super) fn start(&mut self, index: [u32; 3]) -> Result<Vec<Warp>, Fault> {
        self.place.index = index;
        self.shared.reset();
        self.barriers.fill(Barrier::default());
        let threads: u32 = self.place.block.iter().product();
        let count = threads.div_ceil(LANES as u32);
        let mut warps = Vec::with_capacity(count as usize);
        for number in 0..count {
            let lanes = (threads - number * LANES as u32).min(LANES as u32);
            let existing = if lanes == LANES as u32 { u32::MAX } else { (1 << lanes) - 1 };
            let mut warp = Warp::new(number, existing);
            warp.enter(&self.program.functions[0], 0, existing, &self.place)
                .map_err(|fault| self.located(*fault, number, 0))?;
            warps.push(warp);
        }
        Ok(warps)
    }

    /// Gives each warp that can run a turn; whether there was one.
    pub(super) fn turn(&mut self, warps: &mut [Warp]) -> Result<bool, Fault> {
        let mut progress = false;
        for number in 0..warps.len() {
            if warps[number].status == Status::Resting {
                warps[number].status = Status::Ready;
            }
            if warps[number].status == Status::Ready {
                progress = true;
                self.run_warp(&mut warps[number])?;
                self.release(warps);
            }
        }
        Ok(progress)
    }

    /// Ends a block in which no warp can run any more.
    pub(super) fn finish(&mut self, warps: &[Warp]) -> Result<(), Fault> {
        self.counters.blocks += 1;
        match warps.iter().find(|warp| warp.status != Status::Done) {
            Some(stuck) => Err(self.stuck(stuck)),
            None => Ok(()),
        }
    }

    /// The fault of a barrier that can never complete.
    fn stuck(&self, warp: &Warp) -> Fault {
        let Status::AtBarrier(id) = warp.status else {
            return Fault::new(FaultKind::Timeout, "a warp neither runs nor waits");
        };
        let barrier = &self.barriers[id as usize];
        let message = format!(
            "{} of {} threads reached barrier {id}; the others have left the kernel or wait elsewhere",
            barrier.arrived.count_ones() * LANES as u32,
            barrier.expected
        );
        let pc = warp.top().current.pc.saturating_sub(1);
        let lane = warp.live.trailing_zeros() & 31;
        self.located(LaneFault { kind: FaultKind::DivergentBarrier, message, lane }, warp.index, pc)
    }

    /// Adds to a finding where it happened.
    pub(super) fn located(&self, fault: LaneFault, warp: u32, pc: u32) -> Fault {
        let instruction = self.program.code.get(pc as usize);
        let source = instruction.and_then(|i| i.source);
        Fault {
            kind: fault.kind,
            message: fault.message,
            kernel: self.kernel.to_string(),
            block: self.place.index,
            thread: self.place.thread(warp * LANES as u32 + fault.lane),
            ptx_line: instruction.map_or(0, |i| i.line),
            source: source.and_then(|(file, line)| Some((self.files.get(&file)?.clone(), line))),
        }
    }

    /// A warp reaches a barrier; whether it has to wait.
    pub(super) fn arrive(
        &mut self,
        warp: u32,
        pc: u32,
        id: u32,
        count: Option<u32>,
        wait: bool,
        votes: (u32, u32),
    ) -> Result<(), Box<LaneFault>> {
        let broken = |kind, message: String| Err(LaneFault::new(kind, message, 0));
        let Some(barrier) = self.barriers.get_mut(id as usize) else {
            return broken(
                FaultKind::DivergentBarrier,
                format!("barrier {id} does not exist: a block has 16"),
            );
        };
        let threads: u32 = self.place.block.iter().product();
        let expected = count.unwrap_or(threads).next_multiple_of(LANES as u32);
        if barrier.arrived == 0 {
            *barrier = Barrier { expected, pc, ..Barrier::default() };
        } else if barrier.expected != expected {
            let message =
                format!("barrier {id} with {expected} threads, where others expect {}", barrier.expected);
            return broken(FaultKind::DivergentBarrier, message);
        } else if count.is_none() && barrier.pc != pc {
            let other = self.program.code[barrier.pc as usize].line;
            let message = format!("other warps of the block wait at the barrier of PTX line {other}");
            return broken(FaultKind::DivergentBarrier, message);
        }
        barrier.arrived |= 1 << warp;
        if wait {
            barrier.waiting |= 1 << warp;
        }
        barrier.ones += votes.0;
        barrier.lanes += votes.1;
        if barrier.arrived.count_ones() * LANES as u32 >= expected {
            let done = std::mem::take(barrier);
            self.shared.barrier(done.arrived, done.waiting);
            self.counters.barriers += 1;
            self.released.push((id, done));
        }
        Ok(())
    }

    fn release(&mut self, warps: &mut [Warp]) {
        for (id, barrier) in std::mem::take(&mut self.released) {
            for warp in warps.iter_mut().filter(|warp| warp.status == Status::AtBarrier(id)) {
                if barrier.waiting >> warp.index & 1 == 0 {
                    continue;
                }
                warp.status = Status::Ready;
                let Some(vote) = self.votes[warp.index as usize].take() else { continue };
                let registers = &mut warp.top_mut().registers;
                let holds = match vote.mode {
                    VoteMode::Ballot => {
                        for lane in super::warp::lanes(vote.mask) {
                            registers.words[vote.d as usize][lane as usize] = barrier.ones;
                        }
                        continue;
                    }
                    VoteMode::All => barrier.ones == barrier.lanes,
                    VoteMode::Any | VoteMode::Uniform => barrier.ones > 0,
                };
                let old = &mut registers.predicates[vote.d as usize];
                *old = if holds { *old | vote.mask } else { *old & !vote.mask };
            }
        }
    }
}
