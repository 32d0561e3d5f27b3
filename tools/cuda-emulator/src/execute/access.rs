//! Loads and stores of the lanes of a warp, in every state space, with their checks.

use super::block::Block;
use super::shared::Touch;
use super::warp::{Frame, LaneFault, LaneResult, Warp, lanes};
use super::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES};
use crate::error::FaultKind;
use crate::ir::registers::{LANES, Registers};
use crate::ir::{Access, AddressBase, Row};
use crate::memory::Allocation;
use crate::ptx::Space;

pub(super) type Addresses = [u64; LANES];

/// The address of each lane.
#[inline(always)]
pub(super) fn addresses(frame: &Frame, access: &Access) -> Addresses {
    let offset = access.offset as u64;
    match access.base {
        AddressBase::Long(row) => frame.registers.longs[row as usize].map(|base| base.wrapping_add(offset)),
        AddressBase::Word(row) => {
            frame.registers.words[row as usize].map(|base| u64::from(base.wrapping_add(offset as u32)))
        }
        AddressBase::Absolute => [offset; LANES],
        AddressBase::Frame => [u64::from(frame.local) + offset; LANES],
    }
}

/// Value of a lane of a row.
#[inline(always)]
pub(super) fn get(registers: &Registers, row: Row, lane: u32) -> u64 {
    match row {
        Row::Word(row) => registers.words[row as usize][lane as usize].into(),
        Row::Long(row) => registers.longs[row as usize][lane as usize],
    }
}

/// Sets a lane of a row to a loaded element.
#[inline(always)]
pub(super) fn set(registers: &mut Registers, row: Row, lane: u32, value: u64, size: u32, signed: bool) {
    let value = if signed {
        let shift = 64 - 8 * size;
        ((value << shift) as i64 >> shift) as u64
    } else {
        value
    };
    match row {
        Row::Word(row) => registers.words[row as usize][lane as usize] = value as u32,
        Row::Long(row) => registers.longs[row as usize][lane as usize] = value,
    }
}

/// Splits generic addresses by the space they are in, and makes them addresses of that space.
pub(super) fn split(at: &mut Addresses, mask: u32) -> [(Space, u32); 3] {
    let inside = |window: u64, address: u64| address.wrapping_sub(window) < WINDOW_BYTES;
    let (mut shared, mut local) = (0, 0);
    for lane in lanes(mask) {
        let address = &mut at[lane as usize];
        if inside(SHARED_WINDOW, *address) {
            shared |= 1 << lane;
            *address -= SHARED_WINDOW;
        } else if inside(LOCAL_WINDOW, *address) {
            local |= 1 << lane;
            *address -= LOCAL_WINDOW;
        }
    }
    [(Space::Global, mask & !shared & !local), (Space::Shared, shared), (Space::Local, local)]
}

impl Block<'_> {
    /// Executes a load.
    pub(super) fn load(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> LaneResult<()> {
        let mut at = addresses(warp.top(), access);
        if access.space != Space::Generic {
            return self.load_from(access.space, warp, access, &at, mask);
        }
        for (space, part) in split(&mut at, mask) {
            if part != 0 {
                self.load_from(space, warp, access, &at, part)?;
            }
        }
        Ok(())
    }

    fn load_from(
        &mut self,
        space: Space,
        warp: &mut Warp,
        access: &Access,
        at: &Addresses,
        mask: u32,
    ) -> LaneResult<()> {
        let bytes = access.size * access.rows.len() as u32;
        match space {
            Space::Shared => {
                self.touch_shared(warp.index, at, mask, bytes, Touch::Read)?;
                let shared = &self.shared;
                fill(warp, access, mask, |address| shared.load(address, access.size), at);
            }
            Space::Local => {
                for lane in lanes(mask) {
                    warp.local.check(at[lane as usize], bytes, lane)?;
                    for (n, &row) in access.rows.iter().enumerate() {
                        let address = at[lane as usize] + n as u64 * u64::from(access.size);
                        let value =
                            warp.local.load(address, access.size, lane, self.settings.uninitialised)?;
                        set(&mut warp.top_mut().registers, row, lane, value, access.size, access.signed);
                    }
                }
            }
            _ => {
                self.check_global(at, mask, bytes)?;
                self.check_written(at, mask, bytes)?;
                self.count_sectors(at, mask, bytes, false);
                let memory = self.memory;
                fill(warp, access, mask, |address| memory.load(address, access.size), at);
            }
        }
        Ok(())
    }

    /// Executes a store.
    pub(super) fn store(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> LaneResult<()> {
        let mut at = addresses(warp.top(), access);
        if access.space != Space::Generic {
            return self.store_to(access.space, warp, access, &at, mask);
        }
        for (space, part) in split(&mut at, mask) {
            if part != 0 {
                self.store_to(space, warp, access, &at, part)?;
            }
        }
        Ok(())
    }

    fn store_to(
        &mut self,
        space: Space,
        warp: &mut Warp,
        access: &Access,
        at: &Addresses,
        mask: u32,
    ) -> LaneResult<()> {
        let bytes = access.size * access.rows.len() as u32;
        match space {
            Space::Shared => {
                self.count_banks(at, mask, bytes);
                for lane in lanes(mask) {
                    self.shared.check(at[lane as usize], bytes, lane)?;
                }
            }
            Space::Local => {
                for lane in lanes(mask) {
                    warp.local.check(at[lane as usize], bytes, lane)?;
                }
            }
            _ => {
                self.check_global(at, mask, bytes)?;
                self.count_sectors(at, mask, bytes, true);
            }
        }
        let first = warp.index * LANES as u32;
        for (n, &row) in access.rows.iter().enumerate() {
            let offset = n as u64 * u64::from(access.size);
            for lane in lanes(mask) {
                let value = get(&warp.top().registers, row, lane);
                let address = at[lane as usize] + offset;
                match space {
                    Space::Shared => self.store_shared(address, access.size, value, first + lane)?,
                    Space::Local => warp.local.store(address, access.size, lane, value),
                    _ => self.memory.store(address, access.size, value),
                }
            }
        }
        if !matches!(space, Space::Shared | Space::Local) {
            for lane in lanes(mask) {
                self.memory.mark_written(at[lane as usize], bytes);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn store_shared(&mut self, address: u64, size: u32, value: u64, thread: u32) -> LaneResult<()> {
        let kept = if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
        let same = self.shared.load(address, size) == value & kept;
        self.shared.touch(address, size, Touch::Write, thread, same)?;
        self.shared.store(address, size, value);
        Ok(())
    }

    /// Checks and records the accesses of the lanes to shared memory.
    pub(super) fn touch_shared(
        &mut self,
        warp: u32,
        at: &Addresses,
        mask: u32,
        bytes: u32,
        touch: Touch,
    ) -> LaneResult<()> {
        self.count_banks(at, mask, bytes);
        for lane in lanes(mask) {
            let address = at[lane as usize];
            self.shared.check(address, bytes, lane)?;
            self.shared.touch(address, bytes, touch, warp * LANES as u32 + lane, false)?;
        }
        Ok(())
    }

    /// Refuses accesses outside the live allocations, or misaligned.
    #[inline(always)]
    pub(super) fn check_global(&mut self, at: &Addresses, mask: u32, bytes: u32) -> LaneResult<()> {
        let Allocation { base, length } = self.recent;
        let last = length.wrapping_sub(bytes.into());
        let mut bad = if length < u64::from(bytes) { mask } else { 0 };
        for (lane, &address) in at.iter().enumerate() {
            let outside = address.wrapping_sub(base) > last || address & u64::from(bytes - 1) != 0;
            bad |= u32::from(outside) << lane;
        }
        bad &= mask;
        for lane in lanes(bad) {
            self.check_global_lane(at[lane as usize], bytes, lane)?;
        }
        Ok(())
    }

    #[cold]
    fn check_global_lane(&mut self, address: u64, bytes: u32, lane: u32) -> LaneResult<()> {
        if address & u64::from(bytes - 1) != 0 {
            let message = format!("{bytes} bytes at global address {address:#x}, not a multiple of {bytes}");
            return Err(LaneFault::new(FaultKind::Misaligned, message, lane));
        }
        if self.find_allocation(address, bytes).is_err() {
            // Another block may have called `malloc`.
            self.renew_allocations();
            self.find_allocation(address, bytes)
                .map_err(|before| self.outside(address, bytes, lane, before))?;
        }
        Ok(())
    }

    /// Makes the allocation that holds these bytes the recent one; else the one that starts before them.
    fn find_allocation(&mut self, address: u64, bytes: u32) -> Result<(), Option<Allocation>> {
        let place = self.allocations.partition_point(|allocation| allocation.base <= address);
        let found = place.checked_sub(1).map(|before| self.allocations[before]);
        match found {
            Some(allocation)
                if address - allocation.base < allocation.length
                    && allocation.length - (address - allocation.base) >= bytes.into() =>
            {
                self.recent = allocation;
                Ok(())
            }
            before => Err(before),
        }
    }

    /// Takes notice of what kernels have allocated and freed.
    pub(super) fn renew_allocations(&mut self) {
        self.allocations = self.memory.snapshot();
        self.recent = Allocation { base: 0, length: 0 };
    }

    #[cold]
    fn outside(&self, address: u64, bytes: u32, lane: u32, before: Option<Allocation>) -> Box<LaneFault> {
        if self.memory.was_freed(address) {
            let message =
                format!("{bytes} bytes at global address {address:#x}, in an allocation that was freed");
            return LaneFault::new(FaultKind::FreedMemory, message, lane);
        }
        let near = match before {
            Some(Allocation { base, length }) if address - base < length + 4096 => format!(
                "{} bytes from the start of the allocation of {length} bytes at {base:#x}",
                address - base
            ),
            _ => {
                let after = self.allocations.iter().find(|allocation| allocation.base > address);
                match after {
                    Some(next) if next.base - address < 4096 => format!(
                        "{} bytes before the allocation of {} bytes at {:#x}",
                        next.base - address,
                        next.length,
                        next.base
                    ),
                    _ => "in no allocation".to_string(),
                }
            }
        };
        LaneFault::new(
            FaultKind::OutOfBounds,
            format!("{bytes} bytes at global address {address:#x}, {near}"),
            lane,
        )
    }

    /// Refuses reads of global bytes that nothing has written.
    #[inline(always)]
    pub(super) fn check_written(&self, at: &Addresses, mask: u32, bytes: u32) -> LaneResult<()> {
        if !self.settings.uninitialised {
            return Ok(());
        }
        for lane in lanes(mask) {
            let address = at[lane as usize];
            if !self.memory.is_written(address, bytes) {
                let message = format!(
                    "{bytes} bytes at global address {address:#x}, not all of which have been written"
                );
                return Err(LaneFault::new(FaultKind::Uninitialised, message, lane));
            }
        }
        Ok(())
    }

    /// `ld.param` in a kernel: mostly the same bytes for all lanes.
    pub(super) fn load_parameter(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> LaneResult<()> {
        let at = addresses(warp.top(), access);
        let bytes = access.size * access.rows.len() as u32;
        for lane in lanes(mask) {
            let address = at[lane as usize];
            if address.checked_add(bytes.into()).is_none_or(|end| end > self.parameters.len() as u64) {
                let message = format!(
                    "{bytes} bytes at parameter offset {address:#x}, outside the {} bytes of parameters",
                    self.parameters.len()
                );
                return Err(LaneFault::new(FaultKind::OutOfBounds, message, lane));
            }
        }
        let parameters = self.parameters;
        let read = |address: u64| {
            let mut value = [0; 8];
            let start = address as usize;
            value[..access.size as usize].copy_from_slice(&parameters[start..start + access.size as usize]);
            u64::from_le_bytes(value)
        };
        fill(warp, access, mask, read, &at);
        Ok(())
    }
}

/// Sets the rows of a load from `read(address)` of each element.
#[inline(always)]
fn fill(warp: &mut Warp, access: &Access, mask: u32, read: impl Fn(u64) -> u64, at: &Addresses) {
    let registers = &mut warp.top_mut().registers;
    for (n, &row) in access.rows.iter().enumerate() {
        let offset = n as u64 * u64::from(access.size);
        match row {
            Row::Word(index) if access.size == 4 => {
                let row = &mut registers.words[index as usize];
                if mask == u32::MAX {
                    for lane in 0..LANES {
                        row[lane] = read(at[lane] + offset) as u32;
                    }
                } else {
                    for lane in lanes(mask) {
                        row[lane as usize] = read(at[lane as usize] + offset) as u32;
                    }
                }
            }
            _ => {
                for lane in lanes(mask) {
                    let value = read(at[lane as usize] + offset);
                    set(registers, row, lane, value, access.size, access.signed);
                }
            }
        }
    }
}
