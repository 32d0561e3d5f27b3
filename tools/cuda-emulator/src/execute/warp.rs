//! A warp: frames with their registers, groups of lanes that are at different places, and the copies that
//! its lanes have under way.

use std::collections::VecDeque;

use super::local::LocalMemory;
use crate::error::FaultKind;
use crate::ir::registers::{LANES, Registers};
use crate::ir::{FunctionCode, Row, Special};

/// A finding of a lane, before the block adds where it happened.
pub(super) struct LaneFault {
    pub(super) kind: FaultKind,
    pub(super) message: String,
    pub(super) lane: u32,
}

impl LaneFault {
    #[cold]
    pub(super) fn new(kind: FaultKind, message: String, lane: u32) -> Box<Self> {
        Box::new(Self { kind, message, lane })
    }
}

pub(super) type LaneResult<T> = Result<T, Box<LaneFault>>;

/// The lanes of a mask.
#[inline(always)]
pub(super) fn lanes(mask: u32) -> impl Iterator<Item = u32> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let lane = rest.trailing_zeros();
            rest &= rest - 1;
            lane
        })
    })
}

/// Lanes at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) pc: u32,
    pub(super) mask: u32,
}

/// A function that the warp is in.
pub(super) struct Frame {
    /// Index of the function in the program.
    pub(super) function: usize,
    pub(super) registers: Registers,
    /// The lanes that run now: those with the least place, so that the others catch up with them where
    /// the paths meet.
    pub(super) current: Group,
    /// Lanes further on.
    pub(super) pending: Vec<Group>,
    /// Least place in `pending`.
    pub(super) next: u32,
    /// Lanes that wait for others at an instruction that they must execute together.
    pub(super) parked: Vec<Group>,
    /// Lanes that have returned from this frame or left the kernel in it.
    pub(super) returned: u32,
    /// First address of its local memory.
    pub(super) local: u32,
}

impl Frame {
    /// Puts the lanes of the current group at `pc`, then goes on with the group that is least advanced.
    #[inline(always)]
    pub(super) fn go(&mut self, pc: u32) {
        self.current.pc = pc;
        if pc >= self.next {
            self.meet();
        }
    }

    fn meet(&mut self) {
        while self.current.mask == 0 || self.current.pc >= self.next {
            let Some(at) = self.pending.iter().position(|group| group.pc == self.next) else { break };
            let other = self.pending.swap_remove(at);
            if self.current.mask == 0 {
                self.current = other;
            } else if other.pc == self.current.pc {
                self.current.mask |= other.mask;
            } else {
                self.pending.push(std::mem::replace(&mut self.current, other));
            }
            self.next = self.pending.iter().map(|group| group.pc).min().unwrap_or(u32::MAX);
        }
    }

    /// Sends the lanes in `taken` to `target` and the rest of the current group to the next instruction.
    #[inline(always)]
    pub(super) fn branch(&mut self, taken: u32, target: u32) {
        let rest = self.current.mask & !taken;
        let through = self.current.pc + 1;
        if taken == 0 {
            return self.go(through);
        }
        if rest != 0 {
            self.add_pending(Group { pc: through, mask: rest });
            self.current.mask = taken;
        }
        self.go(target);
    }

    pub(super) fn add_pending(&mut self, group: Group) {
        self.next = self.next.min(group.pc);
        self.pending.push(group);
    }

    /// Takes lanes out of the current group and goes on with the others after this instruction.
    pub(super) fn leave(&mut self, mask: u32) {
        self.returned |= mask;
        self.current.mask &= !mask;
        let through = self.current.pc + 1;
        self.go_or_pick(through);
    }

    /// As `go`, when the current group may have become empty.
    pub(super) fn go_or_pick(&mut self, pc: u32) {
        self.current.pc = pc;
        if self.current.mask == 0 || pc >= self.next {
            self.meet();
        }
    }

    /// Parks the current group until others reach the same place; whether there are others to run.
    pub(super) fn park(&mut self) -> bool {
        self.parked.push(self.current);
        self.current.mask = 0;
        self.meet();
        self.current.mask != 0
    }

    /// Joins the groups that are parked where the current one is.
    pub(super) fn join_parked(&mut self) {
        let pc = self.current.pc;
        let current = &mut self.current;
        self.parked.retain(|group| {
            if group.pc == pc {
                current.mask |= group.mask;
            }
            group.pc != pc
        });
    }
}

/// Bytes on their way into shared memory.
pub(super) struct Copy {
    pub(super) lane: u32,
    pub(super) address: u64,
    pub(super) size: u32,
    pub(super) data: [u8; 16],
}

/// Copies that a `commit_group` closed together.
pub(super) struct CopyGroup {
    pub(super) mask: u32,
    pub(super) copies: Vec<Copy>,
}

/// What a warp waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ready,
    /// At a barrier, by number.
    AtBarrier(u32),
    /// At nothing: it found a barrier object's phase not ended, and lets the others run.
    Resting,
    Done,
}

/// A warp of a block.
pub(super) struct Warp {
    pub(super) index: u32,
    pub(super) frames: Vec<Frame>,
    pub(super) local: LocalMemory,
    /// Lanes that have a thread.
    pub(super) existing: u32,
    /// Lanes that have not left the kernel.
    pub(super) live: u32,
    pub(super) status: Status,
    pub(super) open_copies: Vec<Copy>,
    pub(super) copy_groups: VecDeque<CopyGroup>,
    /// Instructions since the launch, for the limit on loops without end.
    pub(super) executed: u64,
}

impl Warp {
    pub(super) fn new(index: u32, existing: u32) -> Self {
        Self {
            index,
            frames: Vec::new(),
            local: LocalMemory::default(),
            existing,
            live: existing,
            status: Status::Ready,
            open_copies: Vec::new(),
            copy_groups: VecDeque::new(),
            executed: 0,
        }
    }

    /// Enters a function with these lanes.
    pub(super) fn enter(
        &mut self,
        code: &FunctionCode,
        function: usize,
        mask: u32,
        place: &Place,
    ) -> LaneResult<()> {
        let local = self.local.push(code.local_bytes)?;
        let mut registers = Registers {
            words: vec![[0; LANES]; code.words as usize],
            longs: vec![[0; LANES]; code.longs as usize],
            predicates: vec![0; code.predicates as usize],
            carry: 0,
        };
        for &(row, value) in &code.word_constants {
            registers.words[row as usize] = [value; LANES];
        }
        for &(row, value) in &code.long_constants {
            registers.longs[row as usize] = [value; LANES];
        }
        for &(row, special) in &code.specials {
            let value: [u32; LANES] =
                std::array::from_fn(|lane| place.special(special, self.index, lane as u32));
            match row {
                Row::Word(row) => registers.words[row as usize] = value,
                Row::Long(row) => registers.longs[row as usize] = value.map(u64::from),
            }
        }
        self.frames.push(Frame {
            function,
            registers,
            current: Group { pc: code.start, mask },
            pending: Vec::new(),
            next: u32::MAX,
            parked: Vec::new(),
            returned: 0,
            local,
        });
        Ok(())
    }
}

/// Where a block stands in its grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) index: [u32; 3],
    pub(super) shared_total: u32,
    pub(super) shared_dynamic: u32,
    /// Where the blocks of a cooperative launch meet; 0 in other launches.
    pub(super) workspace: u64,
}

impl Place {
    /// `threadIdx` of a thread by its number in the block.
    pub(super) fn thread(&self, number: u32) -> [u32; 3] {
        let [x, y, _] = self.block;
        [number % x, number / x % y, number / (x * y)]
    }

    fn special(&self, special: Special, warp: u32, lane: u32) -> u32 {
        let below = (1u32 << lane) - 1;
        match special {
            Special::Tid(axis) => self.thread(warp * LANES as u32 + lane)[axis],
            Special::Ntid(axis) => self.block[axis],
            Special::Ctaid(axis) => self.index[axis],
            Special::Nctaid(axis) => self.grid[axis],
            Special::LaneId => lane,
            Special::WarpId => warp,
            Special::WarpCount => self.block.iter().product::<u32>().div_ceil(LANES as u32),
            Special::MaskEq => 1 << lane,
            Special::MaskLt => below,
            Special::MaskLe => below | 1 << lane,
            Special::MaskGt => !(below | 1 << lane),
            Special::MaskGe => !below,
            Special::SharedTotal => self.shared_total,
            Special::SharedDynamic => self.shared_dynamic,
            Special::Workspace(half) => (self.workspace >> (32 * half)) as u32,
            Special::Zero => 0,
        }
    }
}
