//! Room on the card that the copy stream fills for the next step while the compute stream runs the last one.

use super::events::Event;
use super::memory::{Array, Write};
use super::queue::Queue;
use crate::error::Result;
use std::sync::Arc;

/// One is filled while the other is read.
const PLACES: usize = 2;

/// Two places of the same length, in turn.
pub struct Inbox {
    queue: Arc<Queue>,
    bytes: Array<u8>,
    len: usize,
    turn: usize,
    filled: Vec<Event>,
    emptied: Vec<Event>,
}

impl Inbox {
    /// Bytes on the card of an inbox for `len` bytes a step.
    pub fn size(len: usize) -> usize {
        PLACES * len
    }

    /// For `len` bytes a step.
    pub fn new(queue: &Arc<Queue>, len: usize) -> Result<Self> {
        let events = || (0..PLACES).map(|_| Event::new(queue.context(), false)).collect::<Result<_>>();
        let bytes = queue.array(Self::size(len), "the inputs of two steps")?;
        Ok(Self { queue: queue.clone(), bytes, len, turn: 0, filled: events()?, emptied: events()? })
    }

    /// Turns to the next place; uploads into it run once the step that read it last is done with it.
    pub fn open(&mut self) -> Result<Write<u8>> {
        self.turn = (self.turn + 1) % PLACES;
        // SAFETY: the stream is of the events' context.
        unsafe { self.emptied[self.turn].hold(self.queue.copies()) }?;
        Ok(self.bytes.write().part(self.turn * self.len..(self.turn + 1) * self.len))
    }

    /// What is queued from now on runs after the uploads that were made so far, into the place or elsewhere.
    pub fn filled(&self) -> Result<()> {
        let event = &self.filled[self.turn];
        // SAFETY: both streams are of the event's context.
        unsafe { event.record(self.queue.copies()).and_then(|()| event.hold(self.queue.stream())) }
    }

    /// All that was queued so far was the last to read the place.
    pub fn emptied(&self) -> Result<()> {
        // SAFETY: the stream is of the event's context.
        unsafe { self.emptied[self.turn].record(self.queue.stream()) }
    }
}
