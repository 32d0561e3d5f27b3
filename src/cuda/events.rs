//! Marks in streams: what orders two of them, what the host waits for, and what times are taken between.

use super::driver::Context;
use crate::error::Result;
use cudarc::driver::{result, sys};
use std::sync::Arc;

/// A mark in a stream. Before it is first recorded nobody waits for it.
pub struct Event {
    context: Arc<Context>,
    event: sys::CUevent,
}

// SAFETY: an event may be used from any thread in whose context it is; every method binds the context first.
unsafe impl Send for Event {}
// SAFETY: as above; the driver serialises calls on one event.
unsafe impl Sync for Event {}

impl Event {
    /// `timed` events cost the card a little, and give times.
    pub(super) fn new(context: &Arc<Context>, timed: bool) -> Result<Self> {
        let flags = if timed {
            sys::CUevent_flags::CU_EVENT_DEFAULT
        } else {
            sys::CUevent_flags::CU_EVENT_DISABLE_TIMING
        };
        let event = context
            .bind()
            .and_then(|()| result::event::create(flags))
            .map_err(|error| context.failed("an event", error))?;
        Ok(Self { context: context.clone(), event })
    }

    /// Moves the mark to the end of what `stream` was given so far.
    ///
    /// # Safety
    /// The stream is one of the event's context.
    pub(super) unsafe fn record(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the event lives as long as `self`; the stream is the caller's promise.
        self.done(self.context.bind().and_then(|()| unsafe { result::event::record(self.event, stream) }))
    }

    /// What `stream` is given from now on runs after the mark.
    ///
    /// # Safety
    /// As [`Event::record`].
    pub(super) unsafe fn hold(&self, stream: sys::CUstream) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: as above.
        let held = self
            .context
            .bind()
            .and_then(|()| unsafe { result::stream::wait_event(stream, self.event, flags) });
        self.done(held)
    }

    /// The host waits until the card has come to the mark.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event lives as long as `self`.
        self.done(self.context.bind().and_then(|()| unsafe { result::event::synchronize(self.event) }))
    }

    /// Milliseconds of the card's clock from this mark to `later`, which the host waits for.
    pub fn milliseconds_to(&self, later: &Self) -> Result<f64> {
        later.wait()?;
        // SAFETY: both were recorded on the queue's one compute stream and live.
        let elapsed = unsafe { result::event::elapsed(self.event, later.event) };
        elapsed.map(f64::from).map_err(|error| self.context.failed("the time between two events", error))
    }

    fn done(&self, call: std::result::Result<(), result::DriverError>) -> Result<()> {
        call.map_err(|error| self.context.failed("an event", error))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created in `new`, destroyed once; the driver keeps what streams still wait for.
            let _ = unsafe { result::event::destroy(self.event) };
        }
    }
}
