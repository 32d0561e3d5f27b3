//! A block's shared memory with its shadow: which bytes have been written, which copies are under way, and
//! who touched each word since when. Two accesses of different threads, one of them a write, are a race
//! unless a chain of barriers orders them (as vector clocks do, with the warp as the unit).

use std::collections::HashMap;

use super::warp::{LaneFault, LaneResult};
use crate::error::FaultKind;

const NOBODY: u16 = u16::MAX;
/// Several readers: the warps are in the record's mask.
const MANY: u16 = u16::MAX - 1;
/// Added to a writer's number when it wrote atomically.
const ATOMIC: u16 = 1 << 15;

/// The shadow of four bytes. Masks have a bit per byte.
#[derive(Clone, Copy)]
struct Word {
    written: u8,
    pending: bool,
    write_mask: u8,
    read_mask: u8,
    writer: u16,
    reader: u16,
    write_time: u32,
    read_time: u32,
    reader_warps: u32,
}

const FRESH: Word = Word {
    written: 0,
    pending: false,
    write_mask: 0,
    read_mask: 0,
    writer: NOBODY,
    reader: NOBODY,
    write_time: 0,
    read_time: 0,
    reader_warps: 0,
};

/// What an access does, for the race detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Read,
    Write,
    Atomic,
}

/// Shared memory of one block.
pub(super) struct SharedMemory {
    words: Vec<u32>,
    shadow: Vec<Word>,
    bytes: u32,
    warps: usize,
    /// `known[w * warps + u]`: accesses of warp `u` up to this time are ordered before what warp `w` does.
    known: Vec<u32>,
    /// Everybody knows of all accesses up to this time.
    floor: u32,
    time: u32,
    check_written: bool,
    check_races: bool,
    /// The barrier objects by address.
    objects: HashMap<u64, Object>,
}

/// What a barrier object orders, as times for each warp: the arrivals of the phase under way, and those of
/// the phases that have ended.
#[derive(Default)]
struct Object {
    arriving: Vec<u32>,
    ended: Vec<u32>,
}

impl SharedMemory {
    pub(super) fn new(bytes: u32, warps: usize, check_written: bool, check_races: bool) -> Self {
        let count = bytes.div_ceil(4) as usize;
        Self {
            words: vec![0; count],
            shadow: vec![FRESH; count],
            bytes,
            warps,
            known: vec![0; warps * warps],
            floor: 0,
            time: 1,
            check_written,
            check_races,
            objects: HashMap::new(),
        }
    }

    /// Makes it the memory of a new block.
    pub(super) fn reset(&mut self) {
        self.shadow.fill(FRESH);
        self.known.fill(0);
        self.floor = 0;
        self.time = 1;
        self.objects.clear();
    }

    /// Writes a barrier object at a checked address.
    pub(super) fn set_object(&mut self, address: u64, value: u64) {
        self.store(address, 8, value);
        let first = (address / 4) as usize;
        self.shadow[first..first + 2].fill(Word { written: 0x0f, ..FRESH });
        let warps = self.warps;
        let fresh = || Object { arriving: vec![0; warps], ended: vec![0; warps] };
        self.objects.entry(address).or_insert_with(fresh);
    }

    /// Whether a barrier object was ever initialised there.
    pub(super) fn is_object(&self, address: u64) -> bool {
        self.objects.contains_key(&address)
    }

    /// A warp arrives at a barrier object, whose phase may end with that.
    pub(super) fn arrive_at(&mut self, address: u64, warp: usize, ends: bool) {
        let Some(object) = self.objects.get_mut(&address) else { return };
        for (u, time) in object.arriving.iter_mut().enumerate() {
            *time = self.known[warp * self.warps + u].max(self.floor).max(*time);
        }
        object.arriving[warp] = self.time;
        self.time += 1;
        if ends {
            object.ended = std::mem::replace(&mut object.arriving, vec![0; self.warps]);
        }
    }

    /// A warp has seen the phase of a barrier object end.
    pub(super) fn pass(&mut self, address: u64, warp: usize) {
        let Some(object) = self.objects.get(&address) else { return };
        for (u, &time) in object.ended.iter().enumerate() {
            let known = &mut self.known[warp * self.warps + u];
            *known = (*known).max(time);
        }
    }

    /// Refuses an access outside the block's shared memory or misaligned.
    #[inline(always)]
    pub(super) fn check(&self, address: u64, bytes: u32, lane: u32) -> LaneResult<()> {
        if address & u64::from(bytes - 1) != 0 {
            let message = format!("{bytes} bytes at shared address {address:#x}, not a multiple of {bytes}");
            return Err(LaneFault::new(FaultKind::Misaligned, message, lane));
        }
        if address.checked_add(bytes.into()).is_none_or(|end| end > self.bytes.into()) {
            let message = format!(
                "{bytes} bytes at shared address {address:#x}, outside the block's {} bytes of shared memory",
                self.bytes
            );
            return Err(LaneFault::new(FaultKind::OutOfBounds, message, lane));
        }
        Ok(())
    }

    /// The low `size` bytes (at most 8) at a checked address.
    #[inline(always)]
    pub(super) fn load(&self, address: u64, size: u32) -> u64 {
        let index = (address / 4) as usize;
        match size {
            4 => self.words[index].into(),
            8 => u64::from(self.words[index + 1]) << 32 | u64::from(self.words[index]),
            _ => u64::from(self.words[index] >> (8 * (address % 4))) & ((1 << (8 * size)) - 1),
        }
    }

    #[inline(always)]
    pub(super) fn store(&mut self, address: u64, size: u32, value: u64) {
        let index = (address / 4) as usize;
        match size {
            4 => self.words[index] = value as u32,
            8 => {
                self.words[index] = value as u32;
                self.words[index + 1] = (value >> 32) as u32;
            }
            _ => {
                let shift = 8 * (address % 4);
                let mask = ((1u32 << (8 * size)) - 1) << shift;
                self.words[index] = (self.words[index] & !mask) | ((value as u32) << shift & mask);
            }
        }
    }

    /// Whether warp `w` comes after everything that warp `u` did up to `time`.
    #[inline(always)]
    fn ordered(&self, w: usize, u: usize, time: u32) -> bool {
        time <= self.floor || self.known[w * self.warps + u] >= time
    }

    fn read_is_ordered(&self, w: usize, word: &Word) -> bool {
        if word.reader != MANY {
            return self.ordered(w, usize::from(word.reader) / 32, word.read_time);
        }
        (0..self.warps)
            .filter(|u| word.reader_warps >> u & 1 == 1)
            .all(|u| self.ordered(w, u, word.read_time))
    }

    /// Records an access to a checked address and looks for findings. `same` says that a store does not
    /// change the bytes: such a store races with nothing.
    #[inline(always)]
    pub(super) fn touch(
        &mut self,
        address: u64,
        size: u32,
        touch: Touch,
        thread: u32,
        same: bool,
    ) -> LaneResult<()> {
        let first = (address / 4) as usize;
        if size < 4 {
            let bits = ((1u8 << size) - 1) << (address % 4);
            return self.touch_word(first, bits, touch, thread as u16, same);
        }
        for index in first..first + (size / 4) as usize {
            self.touch_word(index, 0x0f, touch, thread as u16, same)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn touch_word(
        &mut self,
        index: usize,
        bits: u8,
        touch: Touch,
        thread: u16,
        same: bool,
    ) -> LaneResult<()> {
        let warp = usize::from(thread) / 32;
        let word = self.shadow[index];
        if word.pending {
            return Err(self.finding(FaultKind::MissingWait, index, touch, thread));
        }
        if touch != Touch::Write && self.check_written && word.written & bits != bits {
            return Err(self.finding(FaultKind::Uninitialised, index, touch, thread));
        }
        if self.check_races {
            let by_other = word.writer != NOBODY
                && word.writer & !ATOMIC != thread
                && word.write_mask & bits != 0
                && !(touch == Touch::Atomic && word.writer & ATOMIC != 0);
            let unchanged = same && word.written & bits == bits;
            if by_other
                && !unchanged
                && !self.ordered(warp, usize::from(word.writer & !ATOMIC) / 32, word.write_time)
            {
                return Err(self.finding(FaultKind::SharedRace, index, touch, thread));
            }
            if touch != Touch::Read
                && !unchanged
                && word.reader != NOBODY
                && word.reader != thread
                && word.read_mask & bits != 0
                && !self.read_is_ordered(warp, &word)
            {
                return Err(self.finding(FaultKind::SharedRace, index, touch, thread));
            }
        }
        let (time, floor) = (self.time, self.floor);
        let word = &mut self.shadow[index];
        if touch == Touch::Read {
            if word.reader == NOBODY || word.read_time <= floor {
                (word.reader, word.reader_warps, word.read_mask) = (thread, 1 << warp, bits);
            } else {
                word.reader = if word.reader == thread { thread } else { MANY };
                word.reader_warps |= 1 << warp;
                word.read_mask |= bits;
            }
            word.read_time = time;
            return Ok(());
        }
        let again = word.writer == thread && word.write_time == time;
        word.write_mask = if again { word.write_mask | bits } else { bits };
        word.writer = if touch == Touch::Atomic { thread | ATOMIC } else { thread };
        word.write_time = time;
        word.written |= bits;
        if word.read_mask & !bits == 0 {
            word.reader = NOBODY;
        }
        Ok(())
    }

    #[cold]
    fn finding(&self, kind: FaultKind, index: usize, touch: Touch, thread: u16) -> Box<LaneFault> {
        let word = &self.shadow[index];
        let verb = match touch {
            Touch::Read => "reads",
            Touch::Write => "writes",
            Touch::Atomic => "updates",
        };
        let place = format!("{verb} the word at shared address {:#x}", 4 * index);
        let message = match kind {
            FaultKind::MissingWait => format!("{place}, into which an asynchronous copy is still under way"),
            FaultKind::Uninitialised => format!("{place}, of which not every byte has been written"),
            _ => {
                let other = |n: u16| format!("thread number {} of the block", n & !ATOMIC);
                let by_writer = word.writer != NOBODY
                    && word.writer & !ATOMIC != thread
                    && !self.ordered(
                        usize::from(thread) / 32,
                        usize::from(word.writer & !ATOMIC) / 32,
                        word.write_time,
                    );
                let (who, did) = match (by_writer, word.reader) {
                    (true, _) => (other(word.writer), "wrote"),
                    (false, MANY) => ("several threads".to_string(), "read"),
                    (false, reader) => (other(reader), "read"),
                };
                format!("{place}, which {who} {did} with no barrier in between")
            }
        };
        LaneFault::new(kind, message, u32::from(thread) % 32)
    }

    /// An asynchronous copy of `size` bytes starts: from now on others must not touch them.
    pub(super) fn begin_copy(&mut self, address: u64, size: u32, thread: u32) -> LaneResult<()> {
        self.touch(address, size, Touch::Write, thread, false)?;
        let first = (address / 4) as usize;
        for word in &mut self.shadow[first..first + (size / 4) as usize] {
            word.pending = true;
        }
        Ok(())
    }

    /// The copy has been waited for: the bytes count as written by its thread now.
    pub(super) fn end_copy(&mut self, address: u64, bytes: &[u8], thread: u32) {
        let first = (address / 4) as usize;
        for (n, chunk) in bytes.chunks_exact(4).enumerate() {
            let word = &mut self.shadow[first + n];
            word.pending = false;
            (word.writer, word.write_mask, word.write_time) = (thread as u16, 0x0f, self.time);
            self.words[first + n] = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
    }

    /// A barrier: what the warps in `arrived` did is now ordered before what those in `waited` will do.
    pub(super) fn barrier(&mut self, arrived: u32, waited: u32) {
        let everybody = if self.warps >= 32 { u32::MAX } else { (1 << self.warps) - 1 };
        if arrived & everybody == everybody && waited & everybody == everybody {
            self.known.fill(self.time);
            self.floor = self.time;
        } else {
            let mut joined = vec![0; self.warps];
            for w in (0..self.warps).filter(|w| arrived >> w & 1 == 1) {
                for (u, sum) in joined.iter_mut().enumerate() {
                    *sum = self.known[w * self.warps + u].max(*sum);
                }
                joined[w] = self.time;
            }
            for w in (0..self.warps).filter(|w| waited >> w & 1 == 1) {
                for (u, &time) in joined.iter().enumerate() {
                    let known = &mut self.known[w * self.warps + u];
                    *known = (*known).max(time);
                }
            }
            self.floor = self.known.iter().copied().min().unwrap_or(0);
        }
        self.time += 1;
    }
}
