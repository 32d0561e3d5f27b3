//! One block of memory from which disjoint pieces are borrowed at the same time.

use memmap2::{MmapMut, MmapOptions};
use std::alloc::{Layout, handle_alloc_error};
use std::ops::Range;

/// 16 floats: a cache line and an AVX-512 register.
const LINE: usize = 16;

/// Bytes of a large page on x86-64, and on AArch64 with small pages of 4 KiB.
const LARGE_PAGE: usize = 2 << 20;

/// Floats, aligned to 64 bytes, allocated once; in large pages where the system has them, since a step walks through
/// far more small ones than a processor keeps the places of.
pub struct Arena {
    memory: MmapMut,
    /// Bytes before the first value.
    start: usize,
    len: usize,
}

/// `len` rounded up to whole cache lines, so that pieces do not share one.
pub fn padded(len: usize) -> usize {
    len.next_multiple_of(LINE)
}

impl Arena {
    /// Ends the program, as every allocation does, where the system refuses.
    pub fn zeros(len: usize) -> Self {
        let bytes = size_of::<f32>() * len;
        let large = bytes >= LARGE_PAGE;
        let room = bytes + if large { LARGE_PAGE } else { 0 };
        let memory = MmapOptions::new().len(room.max(1)).map_anon().unwrap_or_else(|_| {
            handle_alloc_error(Layout::array::<f32>(len).unwrap_or(Layout::new::<f32>()));
        });
        let start = if large { memory.as_ptr().align_offset(LARGE_PAGE) } else { 0 };
        #[cfg(target_os = "linux")]
        if large {
            // A system without large pages goes on with small ones.
            let _ = memory.advise_range(memmap2::Advice::HugePage, start, bytes);
        }
        Self { memory, start, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.memory[self.bytes()])
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        let bytes = self.bytes();
        bytemuck::cast_slice_mut(&mut self.memory[bytes])
    }

    fn bytes(&self) -> Range<usize> {
        self.start..self.start + size_of::<f32>() * self.len
    }

    /// Borrows pieces to read and pieces to write at once. Empty ranges are allowed anywhere.
    ///
    /// # Panics
    /// When a piece to write meets any other piece or a range leaves the arena: the memory plan is
    /// wrong then.
    pub fn borrow(
        &mut self,
        reads: &[Range<usize>],
        writes: &[Range<usize>],
    ) -> (Vec<&[f32]>, Vec<&mut [f32]>) {
        for (i, write) in writes.iter().enumerate() {
            let others = reads.iter().chain(&writes[i + 1..]);
            for other in others {
                let apart = write.end <= other.start || other.end <= write.start;
                let empty = write.is_empty() || other.is_empty();
                assert!(apart || empty, "the plan lets {write:?} meet {other:?}");
            }
        }
        let len = self.len;
        let inside = |range: &Range<usize>| assert!(range.start <= range.end && range.end <= len);
        reads.iter().chain(writes).for_each(inside);
        let base = self.as_mut_slice().as_mut_ptr();
        // SAFETY: every range lies inside the one allocation behind `base`, which `&mut self`
        // keeps alive and unaliased for the life of the results; the check above proves that no
        // range to write overlaps another.
        let read = |r: &Range<usize>| unsafe { std::slice::from_raw_parts(base.add(r.start), r.len()) };
        // SAFETY: as above.
        let write = |r: &Range<usize>| unsafe { std::slice::from_raw_parts_mut(base.add(r.start), r.len()) };
        (reads.iter().map(read).collect(), writes.iter().map(write).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_independent() {
        let mut arena = Arena::zeros(64);
        arena.as_mut_slice()[0] = 3.0;
        let (reads, mut writes) = arena.borrow(&[0..1, 5..5], &[16..32, 32..48]);
        writes[0][0] = reads[0][0];
        writes[1][15] = 2.0;
        assert_eq!((arena.as_slice()[16], arena.as_slice()[47]), (3.0, 2.0));
    }

    #[test]
    #[should_panic(expected = "meet")]
    fn overlap_is_refused() {
        Arena::zeros(64).borrow(&[0..20, 1..2], &[16..32, 40..41]);
    }
}
