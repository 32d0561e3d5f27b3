//! Counting what accesses cost: sectors of global memory and wavefronts of shared memory.

use super::access::Addresses;
use super::block::Block;
use super::warp::lanes;
use crate::ir::registers::LANES;

/// Bytes of a sector: the unit of traffic between the caches and memory.
const SECTOR: u64 = 32;
/// Banks of shared memory, each four bytes wide.
const BANKS: usize = 32;

impl Block<'_> {
    /// Counts the sectors that one warp-wide access touches, and the least number that holds its bytes.
    #[inline(always)]
    pub(super) fn count_sectors(&mut self, at: &Addresses, mask: u32, bytes: u32, store: bool) {
        if !self.settings.count || mask == 0 {
            return;
        }
        let (sectors, distinct) = sectors(at, mask);
        let ideal = (distinct * u64::from(bytes)).div_ceil(SECTOR);
        let counters = &mut self.counters;
        if store {
            counters.store_sectors += sectors;
            counters.store_sectors_ideal += ideal;
        } else {
            counters.load_sectors += sectors;
            counters.load_sectors_ideal += ideal;
        }
    }

    /// Counts the wavefronts of a warp-wide access to shared memory: in each quarter (16 bytes), half
    /// (8 bytes) or whole warp, the most different words that fall into one bank.
    #[inline(always)]
    pub(super) fn count_banks(&mut self, at: &Addresses, mask: u32, bytes: u32) {
        if !self.settings.count || mask == 0 {
            return;
        }
        let phase = match bytes {
            16 => 8,
            8 => 16,
            _ => 32,
        };
        let words = u64::from(bytes.div_ceil(4));
        for start in (0..LANES).step_by(phase) {
            let part = mask & (((1u64 << phase) - 1) << start) as u32;
            if part != 0 {
                let wavefronts = wavefronts(at, part, words);
                self.counters.shared_wavefronts += wavefronts;
                self.counters.shared_conflicts += wavefronts - 1;
            }
        }
    }
}

/// Different sectors, and different addresses, of the lanes in `mask`. An access never spans two sectors:
/// it is aligned and at most 16 bytes long.
#[inline(always)]
fn sectors(at: &Addresses, mask: u32) -> (u64, u64) {
    let mut ascending = true;
    let mut last = None;
    let (mut count, mut distinct, mut sector) = (0, 0, u64::MAX);
    for lane in lanes(mask) {
        let address = at[lane as usize];
        match last {
            Some(before) if address < before => ascending = false,
            Some(before) if address == before => continue,
            _ => {}
        }
        last = Some(address);
        distinct += 1;
        count += u64::from(address / SECTOR != sector);
        sector = address / SECTOR;
    }
    if ascending {
        return (count, distinct);
    }
    let mut sorted: Vec<u64> = lanes(mask).map(|lane| at[lane as usize]).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let distinct = sorted.len() as u64;
    let mut list: Vec<u64> = sorted.iter().map(|address| address / SECTOR).collect();
    list.dedup();
    (list.len() as u64, distinct)
}

/// The most different words in one bank.
#[inline(always)]
fn wavefronts(at: &Addresses, mask: u32, words: u64) -> u64 {
    // The word last seen in each bank, and how many different ones it has had. A word that comes back
    // after another one would count twice, so a clash is settled by looking at all of them.
    let mut seen = [u64::MAX; BANKS];
    let mut clash = false;
    for lane in lanes(mask) {
        let first = at[lane as usize] / 4;
        for word in first..first + words {
            let bank = word as usize % BANKS;
            clash |= seen[bank] != word && seen[bank] != u64::MAX;
            seen[bank] = word;
        }
    }
    if !clash {
        return 1;
    }
    let mut list: Vec<u64> = lanes(mask)
        .flat_map(|lane| {
            let first = at[lane as usize] / 4;
            first..first + words
        })
        .collect();
    list.sort_unstable();
    list.dedup();
    let mut counts = [0u64; BANKS];
    for word in list {
        counts[word as usize % BANKS] += 1;
    }
    counts.into_iter().max().unwrap_or(1)
}
