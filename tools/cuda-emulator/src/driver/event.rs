//! Events: moments of a stream, and edges of a capture.

use std::ffi::c_uint;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::abi::{Handle, Out, put};
use super::capture::{self, Capture};
use super::exports;
use super::operation::Operation;
use super::state::{current, lock, new_handle};
use super::status::{Outcome, Status};
use super::stream::{resolve, submit};

const DISABLE_TIMING: c_uint = 2;
const INTERPROCESS: c_uint = 4;
const ALL_FLAGS: c_uint = 7;
/// `CU_EVENT_RECORD_EXTERNAL` and `CU_EVENT_WAIT_EXTERNAL`.
const EXTERNAL: c_uint = 1;

/// What an event was last recorded as.
pub enum Moment {
    Never,
    At(Instant),
    /// In a capture, after these nodes.
    Captured(Arc<Capture>, Vec<Handle>),
}

/// An event of a context.
pub struct Event {
    pub context: Handle,
    flags: c_uint,
    pub moment: Mutex<Moment>,
}

impl Event {
    /// Records the present moment.
    pub fn happened(&self) {
        *lock(&self.moment) = Moment::At(Instant::now());
    }

    fn is_captured(&self) -> bool {
        matches!(&*lock(&self.moment), Moment::Captured(capture, _) if capture.is_open())
    }
}

fn create(out: Out<Handle>, flags: c_uint) -> Outcome {
    let current = current()?;
    let out = out.ok_or(Status::INVALID_VALUE)?;
    let interprocess_with_timing = flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0;
    if flags & !ALL_FLAGS != 0 || interprocess_with_timing {
        return Err(Status::INVALID_VALUE);
    }
    let handle = new_handle();
    let event = Event { context: current.context.handle, flags, moment: Mutex::new(Moment::Never) };
    current.driver.events.insert(handle, event);
    out.write(handle);
    Ok(())
}

fn record(event: Handle, stream: Handle, flags: c_uint) -> Outcome {
    let current = current()?;
    let event = current.driver.events.get(event)?;
    let stream = resolve(&current, stream)?;
    if event.context != stream.context {
        return Err(Status::INVALID_HANDLE);
    }
    if flags & EXTERNAL == 0 && capture::record_event(&stream, &event)? {
        return Ok(());
    }
    submit(&stream, Operation::Record(event))
}

fn wait(stream: Handle, event: Handle, flags: c_uint) -> Outcome {
    let current = current()?;
    let stream = resolve(&current, stream)?;
    let event = current.driver.events.get(event)?;
    if flags & EXTERNAL != 0 {
        return submit(&stream, Operation::Wait);
    }
    capture::wait_event(&stream, &event)
}

/// An event that was recorded has happened; one of a capture never does.
fn finish(event: Handle) -> Outcome {
    let event = current()?.driver.events.get(event)?;
    if event.is_captured() { Err(Status::CAPTURED_EVENT) } else { Ok(()) }
}

fn elapsed(start: Handle, end: Handle) -> Outcome<f32> {
    let current = current()?;
    let time = |handle| {
        let event = current.driver.events.get(handle)?;
        if event.flags & DISABLE_TIMING != 0 {
            return Err(Status::INVALID_HANDLE);
        }
        match &*lock(&event.moment) {
            Moment::Never => Err(Status::INVALID_HANDLE),
            Moment::At(time) => Ok(*time),
            Moment::Captured(..) => Err(Status::CAPTURED_EVENT),
        }
    };
    let (start, end) = (time(start)?, time(end)?);
    // Events may be passed in either order: the time is then negative.
    let seconds = match end.checked_duration_since(start) {
        Some(after) => after.as_secs_f64(),
        None => -(start - end).as_secs_f64(),
    };
    Ok((seconds * 1e3) as f32)
}

exports! {
    fn cuEventCreate(out: Out<Handle>, flags: c_uint) {
        create(out, flags)
    }

    fn cuEventDestroy_v2(event: Handle) {
        current()?.driver.events.remove(event).map(|_| ())
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream, 0)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: c_uint) {
        record(event, stream, flags)
    }

    fn cuEventSynchronize(event: Handle) {
        finish(event)
    }

    fn cuEventQuery(event: Handle) {
        finish(event)
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        put(milliseconds, elapsed(start, end)?)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        put(milliseconds, elapsed(start, end)?)
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: c_uint) {
        wait(stream, event, flags)
    }
}
