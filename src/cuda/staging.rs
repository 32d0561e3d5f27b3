//! Pinned memory through which uploads go, so that the host does not wait for the card to take them.

use super::driver::Context;
use crate::error::Result;
use cudarc::driver::{result, sys};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Bytes of a piece: long enough to reach the bus' bandwidth (its latency is some microseconds).
const PIECE: usize = 1 << 20;

/// Pieces on their way at a time.
const PIECES: usize = 8;

/// A ring of pinned pieces.
pub struct Staging {
    context: Arc<Context>,
    start: *mut u8,
    ring: Mutex<Ring>,
}

struct Ring {
    /// One a piece: when the card has taken it. `None` before its first use.
    taken: [Option<sys::CUevent>; PIECES],
    next: usize,
}

// SAFETY: the pinned memory is touched only under the lock of the ring.
unsafe impl Send for Staging {}
// SAFETY: as above.
unsafe impl Sync for Staging {}

impl Staging {
    pub fn new(context: &Arc<Context>) -> Result<Self> {
        // SAFETY: the caller has bound the context; `drop` frees the memory.
        let start = unsafe { result::malloc_host(PIECE * PIECES, 0) }
            .map_err(|error| context.failed("pinned memory of the host", error))?;
        let ring = Mutex::new(Ring { taken: [None; PIECES], next: 0 });
        Ok(Self { context: context.clone(), start: start.cast(), ring })
    }

    /// Queues a copy of `bytes` bytes to `address` on `stream`. `fill` writes a range of them into a piece, and is
    /// done before this returns.
    ///
    /// # Safety
    /// The context is bound, the stream is one of its own, and `address` has room for the bytes.
    pub unsafe fn upload(
        &self,
        bytes: usize,
        address: u64,
        stream: sys::CUstream,
        fill: impl Fn(Range<usize>, &mut [u8]),
    ) -> Result<()> {
        let mut ring = self.ring.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for start in (0..bytes).step_by(PIECE) {
            let range = start..bytes.min(start + PIECE);
            let write = |piece: &mut [u8]| fill(range.clone(), piece);
            // SAFETY: as for the whole.
            unsafe { ring.send(self.start, range.len(), address + start as u64, stream, write) }
                .map_err(|error| self.context.failed("a copy to the card", error))?;
        }
        Ok(())
    }
}

impl Ring {
    /// # Safety
    /// As [`Staging::upload`]; `start` is the pinned memory, and `bytes` fit into a piece.
    unsafe fn send(
        &mut self,
        start: *mut u8,
        bytes: usize,
        address: u64,
        stream: sys::CUstream,
        write: impl Fn(&mut [u8]),
    ) -> std::result::Result<(), result::DriverError> {
        let place = self.next;
        self.next = (place + 1) % PIECES;
        // SAFETY: the piece lies inside the pinned memory, the lock is held, and the card has taken what was there
        // once its event is reached.
        unsafe {
            let event = match self.taken[place] {
                Some(event) => event,
                None => *self.taken[place]
                    .insert(result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?),
            };
            result::event::synchronize(event)?;
            let piece = std::slice::from_raw_parts_mut(start.add(place * PIECE), bytes);
            write(piece);
            result::memcpy_htod_async(address, piece, stream)?;
            result::event::record(event, stream)
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        let ring = self.ring.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for event in ring.taken.iter_mut().filter_map(Option::take) {
            // SAFETY: created in `send`, destroyed once; nothing is on its way any more once it is reached.
            let _ = unsafe { result::event::synchronize(event).and_then(|()| result::event::destroy(event)) };
        }
        // SAFETY: allocated in `new`, freed once.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}
