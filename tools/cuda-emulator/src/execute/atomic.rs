//! Atomic operations and asynchronous copies.

use super::access::{addresses, get, set, split};
use super::block::Block;
use super::shared::Touch;
use super::warp::{Copy, CopyGroup, LaneFault, LaneResult, Warp, lanes};
use crate::error::FaultKind;
use crate::ir::registers::LANES;
use crate::ir::{Access, AtomicKind, Row};
use crate::ptx::Space;

/// The new value of an atomic operation on `size` bytes (PTX ISA, `atom`).
fn changed(kind: AtomicKind, size: u32, old: u64, b: u64, c: u64) -> u64 {
    let shift = 64 - 8 * size;
    let signed = |v: u64| (v << shift) as i64 >> shift;
    let b_low = b << shift >> shift;
    let halves = |f: &dyn Fn(u16, u16) -> u16| {
        let one = |n: u32| u64::from(f((old >> (16 * n)) as u16, (b >> (16 * n)) as u16)) << (16 * n);
        if size == 4 { one(0) | one(1) } else { one(0) }
    };
    match kind {
        AtomicKind::Add => old.wrapping_add(b),
        AtomicKind::Min { signed: true } => signed(old).min(signed(b)) as u64,
        AtomicKind::Max { signed: true } => signed(old).max(signed(b)) as u64,
        AtomicKind::Min { signed: false } => old.min(b_low),
        AtomicKind::Max { signed: false } => old.max(b_low),
        AtomicKind::And => old & b,
        AtomicKind::Or => old | b,
        AtomicKind::Xor => old ^ b,
        AtomicKind::Exchange => b,
        AtomicKind::CompareAndSwap => {
            if old == b_low {
                c
            } else {
                old
            }
        }
        AtomicKind::Increment => {
            if old >= b_low {
                0
            } else {
                old + 1
            }
        }
        AtomicKind::Decrement => {
            if old == 0 || old > b_low {
                b_low
            } else {
                old - 1
            }
        }
        AtomicKind::AddF32 => u64::from((f32::from_bits(old as u32) + f32::from_bits(b as u32)).to_bits()),
        AtomicKind::AddF64 => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        AtomicKind::AddF16 | AtomicKind::AddF16x2 => {
            halves(&|x, y| (half::f16::from_bits(x) + half::f16::from_bits(y)).to_bits())
        }
        AtomicKind::AddBf16 | AtomicKind::AddBf16x2 => {
            halves(&|x, y| (half::bf16::from_bits(x) + half::bf16::from_bits(y)).to_bits())
        }
    }
}

impl Block<'_> {
    /// Executes `atom` or `red`: the lanes one after the other.
    pub(super) fn atomic(
        &mut self,
        warp: &mut Warp,
        kind: AtomicKind,
        access: &Access,
        b: Row,
        c: Option<Row>,
        mask: u32,
    ) -> LaneResult<()> {
        let mut at = addresses(warp.top(), access);
        let parts = match access.space {
            Space::Generic => split(&mut at, mask),
            space => [(space, mask), (space, 0), (space, 0)],
        };
        for (space, part) in parts {
            if part == 0 {
                continue;
            }
            match space {
                Space::Shared => self.touch_shared(warp.index, &at, part, access.size, Touch::Atomic)?,
                Space::Local => {
                    let message = "an atomic operation on local memory".to_string();
                    return Err(LaneFault::new(FaultKind::OutOfBounds, message, part.trailing_zeros()));
                }
                _ => {
                    self.check_global(&at, part, access.size)?;
                    self.check_written(&at, part, access.size)?;
                    self.count_sectors(&at, part, access.size, true);
                }
            }
            for lane in lanes(part) {
                let registers = &warp.top().registers;
                let b = get(registers, b, lane);
                let c = c.map_or(0, |row| get(registers, row, lane));
                let (address, size) = (at[lane as usize], access.size);
                let old = if space == Space::Shared {
                    let old = self.shared.load(address, size);
                    self.shared.store(address, size, changed(kind, size, old, b, c));
                    old
                } else {
                    self.memory.update(address, size, |old| changed(kind, size, old, b, c))
                };
                if let Some(&d) = access.rows.first() {
                    set(&mut warp.top_mut().registers, d, lane, old, size, access.signed);
                }
            }
        }
        Ok(())
    }

    /// `cp.async`: reads the source now, and hands the bytes over when they are waited for.
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        [shared, global]: [&Access; 2],
        size: u32,
        source: Option<Row>,
        ignored: u32,
        mask: u32,
    ) -> LaneResult<()> {
        let frame = warp.top();
        let (mut to, from) = (addresses(frame, shared), addresses(frame, global));
        split(&mut to, mask);
        let mut counts = [size; LANES];
        for lane in lanes(mask) {
            let asked = source.map_or(size, |row| get(&frame.registers, row, lane) as u32);
            counts[lane as usize] = if ignored >> lane & 1 == 1 { 0 } else { asked.min(size) };
        }
        self.count_banks(&to, mask, size);
        let reading =
            lanes(mask).filter(|&lane| counts[lane as usize] > 0).fold(0, |bits, lane| bits | 1 << lane);
        self.count_sectors(&from, reading, size, false);
        for lane in lanes(mask) {
            let (to, from, count) = (to[lane as usize], from[lane as usize], counts[lane as usize]);
            self.shared.check(to, size, lane)?;
            let data = self.copy_source(from, count, size, lane)?;
            self.shared.begin_copy(to, size, warp.index * LANES as u32 + lane)?;
            warp.open_copies.push(Copy { lane, address: to, size, data });
        }
        Ok(())
    }

    /// The bytes of one copy: `count` from memory, then zeros.
    fn copy_source(&mut self, from: u64, count: u32, size: u32, lane: u32) -> LaneResult<[u8; 16]> {
        let mut data = [0; 16];
        if count == 0 {
            return Ok(data);
        }
        if !from.is_multiple_of(u64::from(size)) {
            let message = format!("{size} bytes at global address {from:#x}, not a multiple of {size}");
            return Err(LaneFault::new(FaultKind::Misaligned, message, lane));
        }
        let mut at = [0; LANES];
        let (mut done, unit) = (0, if count == size { size } else { 1 });
        while done < count {
            at[lane as usize] = from + u64::from(done);
            self.check_global(&at, 1 << lane, unit)?;
            self.check_written(&at, 1 << lane, unit)?;
            done += unit;
        }
        let step = count.min(if unit == 1 { 1 } else { 4 });
        for start in (0..count).step_by(step as usize) {
            let value = self.memory.load(from + u64::from(start), step).to_le_bytes();
            data[start as usize..(start + step) as usize].copy_from_slice(&value[..step as usize]);
        }
        Ok(data)
    }

    /// `cp.async.commit_group`.
    pub(super) fn commit_group(warp: &mut Warp, mask: u32) {
        let (copies, rest) =
            std::mem::take(&mut warp.open_copies).into_iter().partition(|copy| mask >> copy.lane & 1 == 1);
        warp.open_copies = rest;
        warp.copy_groups.push_back(CopyGroup { mask, copies });
    }

    /// `cp.async.wait_group`: all but the latest `left` groups of each lane arrive; `wait_all` counts what
    /// is in no group yet, too.
    pub(super) fn wait_group(&mut self, warp: &mut Warp, left: Option<u32>, mask: u32) {
        if left.is_none() {
            Self::commit_group(warp, mask);
        }
        let left = left.unwrap_or(0);
        let first = warp.index * LANES as u32;
        let mut newer = [0u32; LANES];
        for group in warp.copy_groups.iter_mut().rev() {
            let mut arriving = 0;
            for lane in lanes(group.mask & mask) {
                let seen = &mut newer[lane as usize];
                arriving |= u32::from(*seen >= left) << lane;
                *seen += 1;
            }
            if arriving == 0 {
                continue;
            }
            group.mask &= !arriving;
            group.copies.retain(|copy| {
                let arrives = arriving >> copy.lane & 1 == 1;
                if arrives {
                    self.shared.end_copy(copy.address, &copy.data[..copy.size as usize], first + copy.lane);
                }
                !arrives
            });
        }
        warp.copy_groups.retain(|group| group.mask != 0);
    }
}
