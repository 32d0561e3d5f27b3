//! Small results that the host reads some steps later, so that it never waits for the step that it has just queued.

use super::events::Event;
use super::memory::Read;
use super::queue::Queue;
use crate::error::Result;
use cudarc::driver::result;
use std::sync::Arc;

/// Letters under way at a time.
const PLACES: usize = 4;

/// Letters of one length in the order in which they were posted.
pub struct Mailbox {
    queue: Arc<Queue>,
    /// Pinned memory.
    start: *mut u8,
    /// Bytes of a letter.
    bytes: usize,
    arrived: Vec<Event>,
    posted: usize,
    taken: usize,
}

// SAFETY: the pinned memory belongs to the mailbox alone.
unsafe impl Send for Mailbox {}

impl Mailbox {
    /// For letters of `bytes` bytes.
    pub fn new(queue: &Arc<Queue>, bytes: usize) -> Result<Self> {
        let context = queue.context();
        let arrived = (0..PLACES).map(|_| Event::new(context, false)).collect::<Result<_>>()?;
        // SAFETY: the context is bound by the creation of the events; `drop` frees the memory.
        let start = unsafe { result::malloc_host(PLACES * bytes, 0) }
            .map_err(|error| context.failed("pinned memory of the host", error))?;
        Ok(Self { queue: queue.clone(), start: start.cast(), bytes, arrived, posted: 0, taken: 0 })
    }

    /// Letters that were posted and not taken.
    pub fn len(&self) -> usize {
        self.posted - self.taken
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queues a letter of `parts`, one behind the other.
    ///
    /// # Panics
    /// Where four letters are under way, or the parts are not as long as a letter.
    pub fn post(&mut self, parts: &[Read<u8>]) -> Result<()> {
        assert!(self.len() < PLACES, "the caller takes letters before it posts that many");
        assert_eq!(parts.iter().map(|part| part.len).sum::<usize>(), self.bytes, "parts fill the letter");
        let place = self.posted % PLACES;
        let mut at = place * self.bytes;
        for part in parts {
            // SAFETY: the part lies inside the place, which nobody reads until its event is reached.
            unsafe { self.queue.download_later(*part, self.start.add(at)) }?;
            at += part.len;
        }
        // SAFETY: the stream is of the events' context.
        unsafe { self.arrived[place].record(self.queue.stream()) }?;
        self.posted += 1;
        Ok(())
    }

    /// Waits for the oldest letter that was not taken.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>> {
        if self.is_empty() {
            return Ok(None);
        }
        let place = self.taken % PLACES;
        self.arrived[place].wait()?;
        self.taken += 1;
        // SAFETY: the card has written the place, and writes it again only after it was posted anew.
        let letter = unsafe { std::slice::from_raw_parts(self.start.add(place * self.bytes), self.bytes) };
        Ok(Some(letter.to_vec()))
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.queue.context().bind().is_err() {
            return;
        }
        for event in &self.arrived {
            let _ = event.wait();
        }
        // SAFETY: allocated in `new`, freed once, and nothing is on its way into it.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}
