//! Warp-wide instructions: shuffles, votes, matches, reductions, matrix loads and stores.

use super::access::{addresses, get, set, split};
use super::block::Block;
use super::shared::Touch;
use super::warp::{LaneResult, Warp, lanes};
use crate::ir::matrix::FragmentLayout;
use crate::ir::registers::{LANES, Registers};
use crate::ir::{Access, Reduction, Row, ShuffleMode, VoteMode};
use crate::ptx::Space;

/// `shfl.sync` (PTX ISA): `c` holds the clamp in its low five bits and the segment mask above.
#[allow(clippy::too_many_arguments)] // The instruction has these operands.
pub(super) fn shuffle(
    r: &mut Registers,
    mask: u32,
    mode: ShuffleMode,
    d: u32,
    p: Option<u32>,
    a: u32,
    b: u32,
    c: u32,
) {
    let value = r.words[a as usize];
    let (by, control) = (r.words[b as usize], r.words[c as usize]);
    let mut valid_lanes = 0;
    for lane in lanes(mask) {
        let n = lane as usize;
        let offset = by[n] & 31;
        let (clamp, segment) = (control[n] & 31, control[n] >> 8 & 31);
        let most = (lane & segment) | (clamp & !segment);
        let least = lane & segment;
        let (source, valid) = match mode {
            ShuffleMode::Up => (lane.wrapping_sub(offset), lane as i32 - offset as i32 >= most as i32),
            ShuffleMode::Down => (lane + offset, lane + offset <= most),
            ShuffleMode::Butterfly => (lane ^ offset, lane ^ offset <= most),
            ShuffleMode::Index => {
                let source = least | (offset & !segment);
                (source, source <= most)
            }
        };
        let from = if valid { source } else { lane };
        // A lane that does not take part has no defined value: the lane keeps its own.
        let from = if mask >> (from & 31) & 1 == 1 { from } else { lane };
        r.words[d as usize][n] = value[from as usize & 31];
        valid_lanes |= u32::from(valid) << lane;
    }
    if let Some(p) = p {
        let old = &mut r.predicates[p as usize];
        *old = (*old & !mask) | (valid_lanes & mask);
    }
}

/// `vote.sync`.
pub(super) fn vote(r: &mut Registers, mask: u32, mode: VoteMode, d: u32, bits: u32, members: u32) {
    for lane in lanes(mask) {
        let group = r.words[members as usize][lane as usize] & mask;
        let holds = match mode {
            VoteMode::All => bits & group == group,
            VoteMode::Any => bits & group != 0,
            VoteMode::Uniform => bits & group == 0 || bits & group == group,
            VoteMode::Ballot => {
                r.words[d as usize][lane as usize] = bits & group;
                continue;
            }
        };
        let old = &mut r.predicates[d as usize];
        *old = (*old & !(1 << lane)) | u32::from(holds) << lane;
    }
}

/// `match.any.sync` and `match.all.sync`.
pub(super) fn matching(
    r: &mut Registers,
    mask: u32,
    all: bool,
    d: u32,
    p: Option<u32>,
    a: Row,
    members: u32,
) {
    let values: [u64; LANES] = std::array::from_fn(|lane| get(r, a, lane as u32));
    for lane in lanes(mask) {
        let group = r.words[members as usize][lane as usize] & mask;
        let equal = lanes(group)
            .filter(|&other| values[other as usize] == values[lane as usize])
            .fold(0, |bits, other| bits | 1 << other);
        let whole = equal == group;
        r.words[d as usize][lane as usize] = if !all || whole { equal } else { 0 };
        if let Some(p) = p {
            let old = &mut r.predicates[p as usize];
            *old = (*old & !(1 << lane)) | u32::from(whole) << lane;
        }
    }
}

/// `redux.sync`.
pub(super) fn reduce(r: &mut Registers, mask: u32, kind: Reduction, d: u32, a: u32, members: u32) {
    let values = r.words[a as usize];
    for lane in lanes(mask) {
        let group = r.words[members as usize][lane as usize] & mask;
        let pick = |f: fn(u32, u32) -> u32| {
            lanes(group).map(|other| values[other as usize]).reduce(f).unwrap_or_default()
        };
        r.words[d as usize][lane as usize] = match kind {
            Reduction::Add => pick(u32::wrapping_add),
            Reduction::And => pick(|x, y| x & y),
            Reduction::Or => pick(|x, y| x | y),
            Reduction::Xor => pick(|x, y| x ^ y),
            Reduction::Min { signed: false } => pick(u32::min),
            Reduction::Max { signed: false } => pick(u32::max),
            Reduction::Min { signed: true } => pick(|x, y| (x as i32).min(y as i32) as u32),
            Reduction::Max { signed: true } => pick(|x, y| (x as i32).max(y as i32) as u32),
        };
    }
}

impl Block<'_> {
    /// `ldmatrix`: lane `8 m + i` gives the address of row `i` of matrix `m`; each lane receives two
    /// neighbouring elements of row `lane / 4` (or, transposed, of column `lane / 4`).
    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        shared: &Access,
        count: u32,
        transposed: bool,
    ) -> LaneResult<()> {
        let mut at = addresses(warp.top(), shared);
        let mask = if count == 4 { u32::MAX } else { (1 << (8 * count)) - 1 };
        split(&mut at, mask);
        self.touch_shared(warp.index, &at, mask, 16, Touch::Read)?;
        for (matrix, &row) in shared.rows.iter().enumerate() {
            for lane in 0..LANES as u32 {
                let element = |line: u32, place: u32| {
                    let address = at[matrix * 8 + line as usize] + u64::from(2 * place);
                    self.shared.load(address, 2)
                };
                let (outer, inner) = (lane / 4, 2 * (lane % 4));
                let (low, high) = if transposed {
                    (element(inner, outer), element(inner + 1, outer))
                } else {
                    (element(outer, inner), element(outer, inner + 1))
                };
                set(&mut warp.top_mut().registers, row, lane, high << 16 | low, 4, false);
            }
        }
        Ok(())
    }

    /// `wmma.load` and `wmma.store`: one access per element.
    pub(super) fn fragment(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        stride: Option<Row>,
        layout: &FragmentLayout,
        load: bool,
    ) -> LaneResult<()> {
        let base = addresses(warp.top(), access);
        let line = if layout.column_major { layout.elements / layout.columns } else { layout.columns };
        let parts = layout.packed * layout.registers.len() as u32;
        for n in 0..parts {
            let mut at = base;
            for lane in 0..LANES as u32 {
                let (outer, inner) = layout.place(lane, n);
                let step = stride.map_or(u64::from(line), |row| get(&warp.top().registers, row, lane));
                at[lane as usize] += (u64::from(outer) * step + u64::from(inner)) * u64::from(access.size);
            }
            let parts = match access.space {
                Space::Generic => split(&mut at, u32::MAX),
                space => [(space, u32::MAX), (space, 0), (space, 0)],
            };
            let (row, shift) =
                (layout.registers[(n / layout.packed) as usize], 8 * access.size * (n % layout.packed));
            for (space, mask) in parts.into_iter().filter(|&(_, mask)| mask != 0) {
                for lane in lanes(mask) {
                    self.element(warp, space, &at, lane, access.size, (row, shift), load)?;
                }
                if space != Space::Shared {
                    self.count_sectors(&at, mask, access.size, !load);
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // One element of a fragment: where it is and where it goes.
    fn element(
        &mut self,
        warp: &mut Warp,
        space: Space,
        at: &[u64; LANES],
        lane: u32,
        size: u32,
        (row, shift): (Row, u32),
        load: bool,
    ) -> LaneResult<()> {
        let (address, one) = (at[lane as usize], 1 << lane);
        let thread = warp.index * LANES as u32 + lane;
        let old = get(&warp.top().registers, row, lane);
        let kept = u64::MAX >> (64 - 8 * size);
        if space == Space::Shared {
            self.shared.check(address, size, lane)?;
        } else {
            self.check_global(at, one, size)?;
        }
        if load {
            let value = if space == Space::Shared {
                self.shared.touch(address, size, Touch::Read, thread, false)?;
                self.shared.load(address, size)
            } else {
                self.check_written(at, one, size)?;
                self.memory.load(address, size)
            };
            let value = (old & !(kept << shift)) | value << shift;
            set(&mut warp.top_mut().registers, row, lane, value, size, false);
            return Ok(());
        }
        let value = old >> shift & kept;
        if space == Space::Shared {
            let same = self.shared.load(address, size) == value;
            self.shared.touch(address, size, Touch::Write, thread, same)?;
            self.shared.store(address, size, value);
        } else {
            self.memory.store(address, size, value);
            self.memory.mark_written(address, size);
        }
        Ok(())
    }
}
