//! Local memory of a warp: one stack per lane, the same word of all lanes side by side.

use super::warp::{LaneFault, LaneResult};
use crate::error::FaultKind;
use crate::ir::registers::LANES;

/// First valid local address: null stays invalid.
const START: u32 = 256;
/// Most bytes of local memory of a thread (the limit of a card of compute capability 8.6).
const LIMIT: u32 = 512 << 10;

/// The stacks of local memory of a warp's lanes.
#[derive(Default)]
pub(super) struct LocalMemory {
    words: Vec<[u32; LANES]>,
    /// A bit per byte that has been written.
    written: Vec<[u8; LANES]>,
}

impl LocalMemory {
    /// Makes room for a frame; its first address.
    pub(super) fn push(&mut self, bytes: u32) -> LaneResult<u32> {
        let start = START + 4 * self.words.len() as u32;
        let count = bytes.min(LIMIT).next_multiple_of(16) / 4;
        if bytes > LIMIT || start + 4 * count > LIMIT {
            let message = format!("the frames of this call need more than {LIMIT} bytes of local memory");
            return Err(LaneFault::new(FaultKind::StackOverflow, message, 0));
        }
        self.words.resize(self.words.len() + count as usize, [0; LANES]);
        self.written.resize(self.words.len(), [0; LANES]);
        Ok(start)
    }

    /// Takes a frame away.
    pub(super) fn pop(&mut self, start: u32) {
        let count = ((start - START) / 4) as usize;
        self.words.truncate(count);
        self.written.truncate(count);
    }

    pub(super) fn check(&self, address: u64, bytes: u32, lane: u32) -> LaneResult<()> {
        let end = u64::from(START) + 4 * self.words.len() as u64;
        if address & u64::from(bytes - 1) != 0 {
            let message = format!("{bytes} bytes at local address {address:#x}, not a multiple of {bytes}");
            return Err(LaneFault::new(FaultKind::Misaligned, message, lane));
        }
        if address < START.into() || address.checked_add(bytes.into()).is_none_or(|last| last > end) {
            let message =
                format!("{bytes} bytes at local address {address:#x}, outside the frames of the thread");
            return Err(LaneFault::new(FaultKind::OutOfBounds, message, lane));
        }
        Ok(())
    }

    fn index(address: u64) -> usize {
        ((address - u64::from(START)) / 4) as usize
    }

    /// The `size` bytes (at most 8) of a lane at a checked address.
    pub(super) fn load(&self, address: u64, size: u32, lane: u32, check_written: bool) -> LaneResult<u64> {
        let (index, lane) = (Self::index(address), lane as usize);
        let bits = if size >= 4 { 0x0f } else { ((1u8 << size) - 1) << (address % 4) };
        let words = index..=index + usize::from(size == 8);
        if check_written && !words.clone().all(|n| self.written[n][lane] & bits == bits) {
            let message =
                format!("{size} bytes at local address {address:#x}, not all of which have been written");
            return Err(LaneFault::new(FaultKind::Uninitialised, message, lane as u32));
        }
        let low = u64::from(self.words[index][lane]);
        Ok(match size {
            8 => u64::from(self.words[index + 1][lane]) << 32 | low,
            4 => low,
            _ => low >> (8 * (address % 4)) & ((1 << (8 * size)) - 1),
        })
    }

    pub(super) fn store(&mut self, address: u64, size: u32, lane: u32, value: u64) {
        let (index, lane) = (Self::index(address), lane as usize);
        if size >= 4 {
            self.words[index][lane] = value as u32;
            self.written[index][lane] = 0x0f;
            if size == 8 {
                self.words[index + 1][lane] = (value >> 32) as u32;
                self.written[index + 1][lane] = 0x0f;
            }
            return;
        }
        let shift = 8 * (address % 4);
        let mask = ((1u32 << (8 * size)) - 1) << shift;
        let word = &mut self.words[index][lane];
        *word = (*word & !mask) | ((value as u32) << shift & mask);
        self.written[index][lane] |= ((1u8 << size) - 1) << (address % 4);
    }

    /// Copies bytes between two places of the lanes in `mask` (arguments and results of calls), with their shadow.
    pub(super) fn copy(&mut self, target: u32, source: u32, bytes: u32, mask: u32) {
        for n in 0..bytes {
            let (to, from) = (target + n - START, source + n - START);
            for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
                let byte = self.words[from as usize / 4][lane] >> (8 * (from % 4)) & 255;
                let written = self.written[from as usize / 4][lane] >> (from % 4) & 1;
                let word = &mut self.words[to as usize / 4][lane];
                *word = (*word & !(255 << (8 * (to % 4)))) | byte << (8 * (to % 4));
                let shadow = &mut self.written[to as usize / 4][lane];
                *shadow = (*shadow & !(1 << (to % 4))) | written << (to % 4);
            }
        }
    }
}
