//! The device's global memory: allocations with guard zones in one reserved range of addresses, and a
//! shadow that knows which bytes have been written.

mod heap;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

/// Alignment of every allocation, and the least guard zone between two, in bytes.
const ALIGNMENT: u64 = 512;
/// Granularity of the host's mappings, in bytes.
const PAGE: u64 = 4096;
/// Device address of the first byte of the reserved range; null and small integers stay invalid.
const BASE: u64 = 0x7_0000_0000;
/// Preferred size of the reserved range of addresses: far more than the capacity, so that an address is
/// not handed out again soon after it was freed.
const RESERVATION: u64 = 1 << 40;
/// How many freed allocations are remembered to tell "freed" from "never allocated".
const REMEMBERED: usize = 4096;

/// Why a host-side access to device memory was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The address is not the start of a live allocation.
    NotAllocated(u64),
    /// The address had been freed.
    Freed(u64),
    /// The range leaves its allocation: address, length, base and length of the allocation.
    OutOfBounds(u64, u64, u64, u64),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllocated(address) => write!(f, "address {address:#x} is in no allocation"),
            Self::Freed(address) => write!(f, "address {address:#x} is in an allocation that was freed"),
            Self::OutOfBounds(address, count, base, length) => {
                write!(f, "{count} bytes at {address:#x} leave the allocation of {length} bytes at {base:#x}")
            }
        }
    }
}

impl std::error::Error for MemoryError {}

/// A live allocation: base address and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Device address of the first byte.
    pub base: u64,
    /// Length in bytes.
    pub length: u64,
}

struct Book {
    /// Live allocations by base address.
    live: BTreeMap<u64, u64>,
    /// Ranges freed most recently, oldest first.
    freed: std::collections::VecDeque<Allocation>,
    /// Offset of the next fresh byte of the reservation.
    next: u64,
    in_use: u64,
    heap: heap::Heap,
    /// The live allocations in address order, rebuilt on demand for launches.
    snapshot: Option<Arc<Vec<Allocation>>>,
}

/// The global memory of one device. All methods take `&self`: the host's threads and the workers of
/// kernels share it.
pub struct DeviceMemory {
    /// `reserved` bytes of address space; pages of live allocations are readable and writable.
    bytes: *mut u8,
    /// One byte for each word of four bytes; bit `i` says that byte `i` of the word has been written.
    written: *mut u8,
    reserved: u64,
    capacity: u64,
    book: RwLock<Book>,
}

// SAFETY: the two mappings live as long as the value; bytes are reached only through `host`, after a check
// against the book of allocations, with relaxed atomic accesses or under the rule of the driver API that a
// program orders its own copies. Races of the emulated program on its data yield stale bytes, as on a card.
unsafe impl Send for DeviceMemory {}
// SAFETY: as above.
unsafe impl Sync for DeviceMemory {}

fn reserve(bytes: u64, protection: i32) -> Option<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes as usize,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    (start != libc::MAP_FAILED).then_some(start.cast())
}

impl DeviceMemory {
    /// A device with `capacity` bytes of global memory. Host memory is used only as pages are touched.
    ///
    /// # Panics
    /// When the host refuses even a range of addresses as large as the capacity.
    pub fn new(capacity: u64) -> Self {
        Self::try_new(capacity).expect("the host has address space for the device")
    }

    /// As [`Self::new`]; `None` when the host refuses even a range of addresses as large as the capacity.
    pub fn try_new(capacity: u64) -> Option<Self> {
        let mut reserved = RESERVATION.max(capacity.saturating_mul(2).next_multiple_of(PAGE));
        let (bytes, written) = loop {
            let bytes = reserve(reserved, libc::PROT_NONE);
            let written = reserve(reserved / 4, libc::PROT_NONE);
            match (bytes, written) {
                (Some(bytes), Some(written)) => break (bytes, written),
                (bytes, written) => {
                    // SAFETY: each range was mapped just above with this length and is used by nobody.
                    unsafe {
                        bytes.map(|p| libc::munmap(p.cast(), reserved as usize));
                        written.map(|p| libc::munmap(p.cast(), (reserved / 4) as usize));
                    }
                }
            }
            reserved = (reserved / 2).next_multiple_of(4 * PAGE);
            if reserved < capacity {
                return None;
            }
        };
        let book = Book {
            live: BTreeMap::new(),
            freed: std::collections::VecDeque::new(),
            next: 0,
            in_use: 0,
            heap: heap::Heap::default(),
            snapshot: None,
        };
        Some(Self { bytes, written, reserved, capacity, book: RwLock::new(book) })
    }

    fn book(&self) -> std::sync::RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn book_mut(&self) -> std::sync::RwLockWriteGuard<'_, Book> {
        self.book.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn protect(&self, offset: u64, length: u64, protection: i32) -> bool {
        // SAFETY: the range lies inside the two reservations (the callers' offsets come from the book).
        unsafe {
            let data = self.bytes.add(offset as usize).cast();
            let shadow = self.written.add((offset / 4) as usize).cast();
            if protection == libc::PROT_NONE {
                // Gives the pages back, so that they read as zero should the range be handed out again.
                libc::madvise(data, length as usize, libc::MADV_DONTNEED);
                libc::madvise(shadow, (length / 4) as usize, libc::MADV_DONTNEED);
            }
            libc::mprotect(data, length as usize, protection) == 0
                && libc::mprotect(shadow, (length / 4) as usize, protection) == 0
        }
    }

    /// Bytes of address space that an allocation of `bytes` takes with its guard zones. A multiple of four
    /// pages, so that its part of the shadow is whole pages too.
    fn span(bytes: u64) -> u64 {
        (bytes + 2 * ALIGNMENT).next_multiple_of(4 * PAGE)
    }

    /// Address of `bytes` fresh, uninitialised bytes; `None` when the device's memory is exhausted.
    pub fn allocate(&self, bytes: u64) -> Option<u64> {
        let mut book = self.book_mut();
        let charged = bytes.max(1).checked_next_multiple_of(ALIGNMENT)?;
        if book.in_use.checked_add(charged)? > self.capacity {
            return None;
        }
        let span = Self::span(bytes);
        if book.next + span > self.reserved {
            book.next = 0;
        }
        // After a wrap the live allocations in the way are skipped.
        let mut start = book.next;
        loop {
            let clash = book.live.range(..BASE + start + span).next_back().map(|(&base, &length)| {
                let first = base - BASE - ALIGNMENT;
                (first, first + Self::span(length))
            });
            match clash {
                Some((_, end)) if end > start => start = end,
                _ => break,
            }
            if start + span > self.reserved {
                return None;
            }
        }
        if !self.protect(start, span, libc::PROT_READ | libc::PROT_WRITE) {
            return None;
        }
        book.next = start + span;
        book.in_use += charged;
        let base = BASE + start + ALIGNMENT;
        book.live.insert(base, bytes);
        book.freed.retain(|old| old.base + old.length <= base || old.base >= base + span);
        book.snapshot = None;
        Some(base)
    }

    /// Frees the allocation that starts at `address`.
    ///
    /// # Errors
    /// [`MemoryError`] when no live allocation starts there.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut book = self.book_mut();
        let Some(length) = book.live.remove(&address) else {
            let was = book.freed.iter().any(|old| old.base == address);
            return Err(if was { MemoryError::Freed(address) } else { MemoryError::NotAllocated(address) });
        };
        book.in_use -= length.max(1).next_multiple_of(ALIGNMENT);
        book.freed.push_back(Allocation { base: address, length });
        if book.freed.len() > REMEMBERED {
            book.freed.pop_front();
        }
        book.snapshot = None;
        self.protect(address - BASE - ALIGNMENT, Self::span(length), libc::PROT_NONE);
        Ok(())
    }

    /// The live allocation that holds `address`.
    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        let book = self.book();
        let (&base, &length) = book.live.range(..=address).next_back()?;
        (address < base + length.max(1)).then_some((base, length))
    }

    /// Whether `address` lies in an allocation that was freed (and not handed out again).
    pub fn was_freed(&self, address: u64) -> bool {
        let book = self.book();
        book.freed.iter().any(|old| address >= old.base && address < old.base + old.length.max(1))
    }

    /// Bytes in use, counted in units of 512.
    pub fn in_use(&self) -> u64 {
        self.book().in_use
    }

    /// Bytes of the device's memory.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The live allocations in address order.
    pub fn allocations(&self) -> Vec<Allocation> {
        self.snapshot().to_vec()
    }

    /// The live allocations in address order, shared: what a launch checks its accesses against.
    pub fn snapshot(&self) -> Arc<Vec<Allocation>> {
        if let Some(list) = &self.book().snapshot {
            return list.clone();
        }
        let mut book = self.book_mut();
        let list: Vec<_> = book.live.iter().map(|(&base, &length)| Allocation { base, length }).collect();
        let list = Arc::new(list);
        book.snapshot = Some(list.clone());
        list
    }

    /// Whether `address` is one of the device's addresses, allocated or not, and so none of the host's.
    pub fn reserves(&self, address: u64) -> bool {
        (BASE..BASE + self.reserved).contains(&address)
    }

    /// Whether `count` bytes at `address` lie inside one live allocation.
    ///
    /// # Errors
    /// [`MemoryError`] when they do not.
    pub fn check(&self, address: u64, count: u64) -> Result<(), MemoryError> {
        match self.allocation(address) {
            Some((base, length)) if count <= length - (address - base) => Ok(()),
            Some((base, length)) => Err(MemoryError::OutOfBounds(address, count, base, length)),
            None if self.was_freed(address) => Err(MemoryError::Freed(address)),
            None => Err(MemoryError::NotAllocated(address)),
        }
    }

    /// Copies `data` to `address` and marks the bytes as written.
    ///
    /// # Errors
    /// [`MemoryError`] when the range is not inside one live allocation.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        if data.is_empty() {
            return Ok(());
        }
        self.check(address, data.len() as u64)?;
        // SAFETY: `check` says that the range is inside a live allocation, whose pages are writable.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.host(address), data.len()) };
        self.mark_range(address, data.len() as u64);
        Ok(())
    }

    /// Copies the bytes at `address` out, whether or not they have been written.
    ///
    /// # Errors
    /// [`MemoryError`] when the range is not inside one live allocation.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), MemoryError> {
        if data.is_empty() {
            return Ok(());
        }
        self.check(address, data.len() as u64)?;
        // SAFETY: `check` says that the range is inside a live allocation, whose pages are readable.
        unsafe { std::ptr::copy_nonoverlapping(self.host(address), data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// Writes `count` copies of `pattern` from `address` on.
    ///
    /// # Errors
    /// [`MemoryError`] when the range is not inside one live allocation.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        let bytes = count.saturating_mul(pattern.len() as u64);
        if bytes == 0 {
            return Ok(());
        }
        self.check(address, bytes)?;
        // SAFETY: `check` says that the range is inside a live allocation, whose pages are writable.
        let target = unsafe { std::slice::from_raw_parts_mut(self.host(address), bytes as usize) };
        match pattern {
            [byte] => target.fill(*byte),
            _ => target.chunks_exact_mut(pattern.len()).for_each(|chunk| chunk.copy_from_slice(pattern)),
        }
        self.mark_range(address, bytes);
        Ok(())
    }

    /// Copies `count` bytes between two places of the device; what was not written stays unwritten.
    ///
    /// # Errors
    /// [`MemoryError`] when one of the ranges is not inside one live allocation.
    pub fn copy(&self, target: u64, source: u64, count: u64) -> Result<(), MemoryError> {
        if count == 0 {
            return Ok(());
        }
        self.check(source, count)?;
        self.check(target, count)?;
        if [target, source, count].iter().all(|value| value % 4 == 0) {
            // SAFETY: the shadow of both ranges is mapped; `copy` allows them to overlap.
            unsafe {
                let shadow = |address: u64| self.written.add(((address - BASE) / 4) as usize);
                std::ptr::copy(shadow(source), shadow(target), (count / 4) as usize);
            }
        } else {
            let written: Vec<bool> = (0..count).map(|n| self.is_written(source + n, 1)).collect();
            (target..).zip(written).for_each(|(address, written)| self.set_byte_written(address, written));
        }
        // SAFETY: both ranges are inside live allocations; `copy` allows them to overlap.
        unsafe { std::ptr::copy(self.host(source), self.host(target), count as usize) };
        Ok(())
    }

    /// Host address of a device address inside the reservation.
    fn host(&self, address: u64) -> *mut u8 {
        debug_assert!(address >= BASE && address - BASE < self.reserved);
        self.bytes.wrapping_add((address - BASE) as usize)
    }

    fn shadow(&self, address: u64) -> &AtomicU8 {
        // SAFETY: callers pass addresses of live allocations, whose shadow pages are mapped; the shadow is
        // only ever accessed as atomic bytes (or as aligned groups of them in `is_written`).
        unsafe { AtomicU8::from_ptr(self.written.wrapping_add(((address - BASE) / 4) as usize)) }
    }

    fn set_byte_written(&self, address: u64, written: bool) {
        let bit = 1 << (address % 4);
        if written {
            self.shadow(address).fetch_or(bit, Relaxed);
        } else {
            self.shadow(address).fetch_and(!bit, Relaxed);
        }
    }

    fn mark_range(&self, address: u64, count: u64) {
        let (mut at, end) = (address, address + count);
        while at < end && at % 4 != 0 {
            self.set_byte_written(at, true);
            at += 1;
        }
        let words = (end - at) / 4;
        if words > 0 {
            // SAFETY: the words lie in a live allocation, whose shadow pages are mapped.
            unsafe {
                std::ptr::write_bytes(self.written.add(((at - BASE) / 4) as usize), 0x0f, words as usize)
            };
            at += 4 * words;
        }
        while at < end {
            self.set_byte_written(at, true);
            at += 1;
        }
    }

    /// Marks `size` bytes (1, 2, 4, 8 or 16, aligned) at a checked address as written.
    pub(crate) fn mark_written(&self, address: u64, size: u32) {
        let first = self.shadow(address);
        if size < 4 {
            let bits = ((1u8 << size) - 1) << (address % 4);
            if first.load(Relaxed) & bits != bits {
                first.fetch_or(bits, Relaxed);
            }
            return;
        }
        for word in 0..u64::from(size / 4) {
            self.shadow(address + 4 * word).store(0x0f, Relaxed);
        }
    }

    /// Whether `size` bytes (1, 2, 4, 8 or 16, aligned) at a checked address have all been written.
    pub(crate) fn is_written(&self, address: u64, size: u32) -> bool {
        if size < 4 {
            let bits = ((1u8 << size) - 1) << (address % 4);
            return self.shadow(address).load(Relaxed) & bits == bits;
        }
        (0..u64::from(size / 4)).all(|word| self.shadow(address + 4 * word).load(Relaxed) == 0x0f)
    }

    /// Loads `1 << log2` bytes (at most 8) from a checked, aligned address.
    pub(crate) fn load(&self, address: u64, size: u32) -> u64 {
        let at = self.host(address);
        // SAFETY: the executor has checked address and alignment against the launch's allocations, which
        // the program must not free while it runs; concurrent accesses are atomic.
        unsafe {
            match size {
                1 => u64::from(AtomicU8::from_ptr(at).load(Relaxed)),
                2 => u64::from(AtomicU16::from_ptr(at.cast()).load(Relaxed)),
                4 => u64::from(AtomicU32::from_ptr(at.cast()).load(Relaxed)),
                _ => AtomicU64::from_ptr(at.cast()).load(Relaxed),
            }
        }
    }

    /// Stores the low `size` bytes (1, 2, 4 or 8) of `value` at a checked, aligned address.
    pub(crate) fn store(&self, address: u64, size: u32, value: u64) {
        let at = self.host(address);
        // SAFETY: as in `load`.
        unsafe {
            match size {
                1 => AtomicU8::from_ptr(at).store(value as u8, Relaxed),
                2 => AtomicU16::from_ptr(at.cast()).store(value as u16, Relaxed),
                4 => AtomicU32::from_ptr(at.cast()).store(value as u32, Relaxed),
                _ => AtomicU64::from_ptr(at.cast()).store(value, Relaxed),
            }
        }
    }

    /// Atomically replaces `size` bytes (2, 4 or 8) by `change(old)` and returns the old value.
    pub(crate) fn update(&self, address: u64, size: u32, change: impl Fn(u64) -> u64) -> u64 {
        let at = self.host(address);
        // SAFETY: as in `load`. Orderings are the strongest, so that the fences of a program may be ignored.
        unsafe {
            use std::sync::atomic::Ordering::SeqCst;
            let done = match size {
                2 => AtomicU16::from_ptr(at.cast())
                    .fetch_update(SeqCst, SeqCst, |old| Some(change(old.into()) as u16))
                    .map(u64::from)
                    .map_err(u64::from),
                4 => AtomicU32::from_ptr(at.cast())
                    .fetch_update(SeqCst, SeqCst, |old| Some(change(old.into()) as u32))
                    .map(u64::from)
                    .map_err(u64::from),
                _ => AtomicU64::from_ptr(at.cast()).fetch_update(SeqCst, SeqCst, |old| Some(change(old))),
            };
            done.unwrap_or_else(|old| old)
        }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: both ranges were mapped in `new` with these lengths; nobody else holds their addresses.
        unsafe {
            libc::munmap(self.bytes.cast(), self.reserved as usize);
            libc::munmap(self.written.cast(), (self.reserved / 4) as usize);
        }
    }
}
