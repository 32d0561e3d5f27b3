//! The heap that kernels allocate from with `malloc` and `free`. Its blocks are allocations like any other,
//! with guard zones of their own.
//!
//! What a kernel frees is dead at once, but its pages stay until the launch has ended: blocks that run at
//! the same time may still hold the address, and a stale access must be a finding, never a crash.

use std::collections::BTreeMap;

use super::{ALIGNMENT, Allocation, BASE, DeviceMemory, MemoryError};

/// The limit of a fresh context (`CU_LIMIT_MALLOC_HEAP_SIZE`), in bytes.
const DEFAULT_LIMIT: u64 = 8 << 20;

/// What kernels have allocated.
pub(super) struct Heap {
    /// Length of each live block by address.
    live: BTreeMap<u64, u64>,
    in_use: u64,
    limit: u64,
    /// Address and length of blocks that are freed while a launch runs.
    leaving: Vec<(u64, u64)>,
    /// Address space of those, in bytes.
    leaving_bytes: u64,
}

impl Default for Heap {
    fn default() -> Self {
        Self { live: BTreeMap::new(), in_use: 0, limit: DEFAULT_LIMIT, leaving: Vec::new(), leaving_bytes: 0 }
    }
}

impl DeviceMemory {
    /// Address of `bytes` fresh bytes for a kernel; `None` when the heap's limit is reached.
    pub fn heap_allocate(&self, bytes: u64) -> Option<u64> {
        {
            let heap = &self.book().heap;
            // The addresses of what is leaving must not be handed out again before it has left.
            if heap.in_use.checked_add(bytes.max(1))? > heap.limit || heap.leaving_bytes > self.reserved / 4 {
                return None;
            }
        }
        let address = self.allocate(bytes)?;
        let heap = &mut self.book_mut().heap;
        heap.live.insert(address, bytes);
        heap.in_use += bytes.max(1);
        Some(address)
    }

    /// Frees what a kernel allocated at `address`.
    ///
    /// # Errors
    /// [`MemoryError`] when no live block of the heap starts there.
    pub fn heap_free(&self, address: u64) -> Result<(), MemoryError> {
        let mut book = self.book_mut();
        let Some(length) = book.heap.live.remove(&address) else {
            let was = book.freed.iter().any(|old| old.base == address);
            return Err(if was { MemoryError::Freed(address) } else { MemoryError::NotAllocated(address) });
        };
        book.heap.in_use -= length.max(1);
        book.heap.leaving.push((address, length));
        book.heap.leaving_bytes += Self::span(length);
        book.live.remove(&address);
        book.in_use -= length.max(1).next_multiple_of(ALIGNMENT);
        book.freed.push_back(Allocation { base: address, length });
        book.snapshot = None;
        Ok(())
    }

    /// Gives back the pages of what kernels have freed. No launch runs.
    pub fn settle_heap(&self) {
        let mut book = self.book_mut();
        book.heap.leaving_bytes = 0;
        for (address, length) in std::mem::take(&mut book.heap.leaving) {
            self.protect(address - BASE - ALIGNMENT, Self::span(length), libc::PROT_NONE);
        }
    }

    /// Sets the limit in bytes of a heap that nothing has been allocated from; whether it is one.
    pub fn limit_heap(&self, limit: u64) -> bool {
        let heap = &mut self.book_mut().heap;
        let unused = heap.live.is_empty();
        if unused {
            heap.limit = limit;
        }
        unused
    }

    /// Frees the whole heap and gives it the limit of a fresh one; no launch runs.
    pub fn reset_heap(&self) {
        let blocks: Vec<u64> = self.book().heap.live.keys().copied().collect();
        for address in blocks {
            // Listed just now, and no kernel runs that could free it.
            let _ = self.heap_free(address);
        }
        self.settle_heap();
        self.book_mut().heap.limit = DEFAULT_LIMIT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_has_its_limit_and_gives_back_what_is_freed() {
        let memory = DeviceMemory::new(1 << 30);
        assert!(memory.limit_heap(1000));
        let first = memory.heap_allocate(600).unwrap();
        assert_eq!(memory.heap_allocate(600), None);
        assert!(memory.allocation(first).is_some());
        memory.heap_free(first).unwrap();
        assert!(memory.heap_free(first).is_err() && memory.was_freed(first));
        let second = memory.heap_allocate(600).unwrap();
        assert_ne!(first, second);
        memory.settle_heap();
        assert!(!memory.limit_heap(2000));
        memory.reset_heap();
        assert_eq!(memory.in_use(), 0);
    }
}
