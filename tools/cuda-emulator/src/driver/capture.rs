//! Stream capture: from the first stream, along events, into other streams, and back
//! (CUDA programming guide, "Creating a Graph Using Stream Capture").

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use super::abi::{Handle, Out, put, put_if_wanted};
use super::event::{Event, Moment};
use super::graph::Graph;
use super::operation::Operation;
use super::state::{Current, Driver, driver, lock};
use super::status::{Outcome, Status};
use super::stream::Stream;

const GLOBAL: c_int = 0;
const RELAXED: c_int = 2;
const STATUS_NONE: c_int = 0;
const STATUS_ACTIVE: c_int = 1;
const STATUS_INVALIDATED: c_int = 2;

/// A capture in progress.
pub struct Capture {
    id: u64,
    graph: Arc<Graph>,
    mode: c_int,
    thread: ThreadId,
    context: Handle,
    /// Stream it began in.
    origin: Handle,
    open: AtomicBool,
    valid: AtomicBool,
    joined: Mutex<Vec<Arc<Stream>>>,
}

/// A stream's part in a capture.
pub struct Membership {
    capture: Arc<Capture>,
    /// Nodes that the stream's next node depends on.
    tail: Vec<Handle>,
    /// What `cuStreamGetCaptureInfo` last pointed the program to.
    shown: Vec<Handle>,
}

impl Capture {
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn invalidate(&self) {
        self.valid.store(false, Ordering::Relaxed);
    }

    fn check(&self) -> Outcome {
        if self.valid.load(Ordering::Relaxed) { Ok(()) } else { Err(Status::STREAM_CAPTURE_INVALIDATED) }
    }

    /// Spoils the capture: what comes of a call it cannot hold.
    fn spoil(&self, status: Status) -> Status {
        self.invalidate();
        status
    }
}

thread_local! {
    static MODE: Cell<c_int> = const { Cell::new(GLOBAL) };
}

/// Swaps the thread's attitude to calls that a capture may not see.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a number that is no mode.
pub fn exchange_mode(mode: c_int) -> Outcome<c_int> {
    if !(GLOBAL..=RELAXED).contains(&mode) {
        return Err(Status::INVALID_VALUE);
    }
    Ok(MODE.replace(mode))
}

/// Starts a capture in a stream.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED` for the legacy stream, `CUDA_ERROR_ILLEGAL_STATE` for a
/// stream that is capturing.
pub fn begin(current: &Current, stream: &Arc<Stream>, mode: c_int) -> Outcome {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if !(GLOBAL..=RELAXED).contains(&mode) {
        return Err(Status::INVALID_VALUE);
    }
    if stream.is_legacy() {
        return Err(Status::STREAM_CAPTURE_UNSUPPORTED);
    }
    let mut membership = lock(&stream.capture);
    if membership.is_some() {
        return Err(Status::ILLEGAL_STATE);
    }
    let capture = Arc::new(Capture {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        graph: Graph::create(current.driver),
        mode,
        thread: std::thread::current().id(),
        context: stream.context,
        origin: stream.handle,
        open: true.into(),
        valid: true.into(),
        joined: Mutex::new(vec![stream.clone()]),
    });
    lock(&current.driver.captures).push(capture.clone());
    *membership = Some(Membership { capture, tail: Vec::new(), shown: Vec::new() });
    Ok(())
}

/// Ends the capture that began in a stream and returns its graph's handle.
///
/// # Errors
/// `ILLEGAL_STATE` without a capture, `UNMATCHED` in another stream, `WRONG_THREAD`, `INVALIDATED`, and
/// `UNJOINED` where another stream's work does not lead back to this one.
pub fn end(driver: &Driver, stream: &Stream) -> Outcome<Handle> {
    let (capture, tail) = {
        let membership = lock(&stream.capture);
        let membership = membership.as_ref().ok_or(Status::ILLEGAL_STATE)?;
        (membership.capture.clone(), membership.tail.clone())
    };
    if capture.origin != stream.handle || capture.context != stream.context {
        return Err(capture.spoil(Status::STREAM_CAPTURE_UNMATCHED));
    }
    if capture.mode != RELAXED && capture.thread != std::thread::current().id() {
        return Err(Status::STREAM_CAPTURE_WRONG_THREAD);
    }
    let reached: HashSet<_> = capture.graph.ancestors(&tail);
    let unjoined = close(driver, &capture).iter().any(|node| !reached.contains(node));
    let outcome = capture.check().and(if unjoined { Err(Status::STREAM_CAPTURE_UNJOINED) } else { Ok(()) });
    match outcome {
        Ok(()) => Ok(capture.graph.handle),
        Err(status) => {
            Graph::destroy(driver, capture.graph.handle)?;
            Err(status)
        }
    }
}

/// Takes every stream out of a capture; returns the nodes they had come to.
fn close(driver: &Driver, capture: &Arc<Capture>) -> Vec<Handle> {
    capture.open.store(false, Ordering::Relaxed);
    lock(&driver.captures).retain(|other| !Arc::ptr_eq(other, capture));
    let joined = std::mem::take(&mut *lock(&capture.joined));
    joined
        .iter()
        .filter_map(|stream| lock(&stream.capture).take())
        .flat_map(|membership| membership.tail)
        .collect()
}

/// Forgets the capture of a stream that is being destroyed.
pub fn abandon(driver: &Driver, stream: &Stream) {
    let capture = lock(&stream.capture).as_ref().map(|membership| membership.capture.clone());
    if let Some(capture) = capture {
        if capture.origin == stream.handle {
            close(driver, &capture);
            // The graph is in the table until now, so this cannot fail.
            let _ = Graph::destroy(driver, capture.graph.handle);
        } else {
            capture.invalidate();
        }
    }
}

/// Forgets the captures of a context that is going.
pub fn abandon_all(driver: &Driver, context: Handle) {
    let mut captures = lock(&driver.captures).clone();
    captures.retain(|capture| capture.context == context);
    for capture in captures {
        close(driver, &capture);
        // The graph is in the table until now, so this cannot fail.
        let _ = Graph::destroy(driver, capture.graph.handle);
    }
}

/// Adds work to the stream's capture; false when there is none.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED`.
pub fn record(stream: &Stream, operation: &Operation) -> Outcome<bool> {
    let mut membership = lock(&stream.capture);
    let Some(membership) = membership.as_mut() else { return Ok(false) };
    membership.capture.check()?;
    let node = membership.capture.graph.add(driver()?, operation.clone(), membership.tail.clone());
    membership.tail = vec![node];
    Ok(true)
}

/// The graph that the stream's capture builds.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED`.
pub fn graph_of(stream: &Stream) -> Outcome<Option<Arc<Graph>>> {
    match lock(&stream.capture).as_ref() {
        None => Ok(None),
        Some(membership) => {
            membership.capture.check()?;
            Ok(Some(membership.capture.graph.clone()))
        }
    }
}

/// Makes an event a point of the stream's capture; false when there is none.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED`.
pub fn record_event(stream: &Stream, event: &Event) -> Outcome<bool> {
    let membership = lock(&stream.capture);
    let Some(membership) = membership.as_ref() else { return Ok(false) };
    membership.capture.check()?;
    *lock(&event.moment) = Moment::Captured(membership.capture.clone(), membership.tail.clone());
    Ok(true)
}

/// Makes a stream depend on an event, which draws it into the event's capture.
///
/// # Errors
/// `MERGE` of two captures, `ISOLATION` for an event from outside the stream's capture, `IMPLICIT` for the
/// legacy stream.
pub fn wait_event(stream: &Arc<Stream>, event: &Event) -> Outcome {
    let mut membership = lock(&stream.capture);
    let moment = lock(&event.moment);
    match (membership.as_mut(), &*moment) {
        (None, Moment::Captured(capture, tail)) if capture.is_open() => {
            capture.check()?;
            if stream.is_legacy() {
                return Err(capture.spoil(Status::STREAM_CAPTURE_IMPLICIT));
            }
            lock(&capture.joined).push(stream.clone());
            *membership =
                Some(Membership { capture: capture.clone(), tail: tail.clone(), shown: Vec::new() });
            Ok(())
        }
        (Some(member), Moment::Captured(capture, tail)) if capture.is_open() => {
            if !Arc::ptr_eq(&member.capture, capture) {
                capture.invalidate();
                return Err(member.capture.spoil(Status::STREAM_CAPTURE_MERGE));
            }
            capture.check()?;
            for node in tail {
                if !member.tail.contains(node) {
                    member.tail.push(*node);
                }
            }
            Ok(())
        }
        (Some(member), Moment::At(_) | Moment::Captured(..)) => {
            Err(member.capture.spoil(Status::STREAM_CAPTURE_ISOLATION))
        }
        (Some(member), Moment::Never) => member.capture.check(),
        (None, _) => Ok(()),
    }
}

/// Refuses to wait for a stream that is capturing.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED`; the capture is spoilt.
pub fn forbid_in(stream: &Stream) -> Outcome {
    match lock(&stream.capture).as_ref() {
        None => Ok(()),
        Some(membership) => Err(membership.capture.spoil(Status::STREAM_CAPTURE_UNSUPPORTED)),
    }
}

/// Refuses work in the legacy stream while a stream that synchronises with it is capturing.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_IMPLICIT`; the capture is spoilt.
pub fn forbid_implicit_dependency(driver: &Driver, stream: &Stream) -> Outcome {
    if !stream.is_legacy() {
        return Ok(());
    }
    for capture in lock(&driver.captures).iter().filter(|capture| capture.context == stream.context) {
        if lock(&capture.joined).iter().any(|joined| joined.is_blocking()) {
            return Err(capture.spoil(Status::STREAM_CAPTURE_IMPLICIT));
        }
    }
    Ok(())
}

/// Refuses a call that could reorder work around a capture, under the rules of
/// `cuThreadExchangeStreamCaptureMode`.
///
/// # Errors
/// `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED`; the capture is spoilt.
pub fn forbid_while_capturing(current: &Current) -> Outcome {
    let mode = MODE.get();
    let here = std::thread::current().id();
    for capture in lock(&current.driver.captures).iter() {
        let own = capture.thread == here && capture.mode != RELAXED;
        let foreign = mode == GLOBAL && capture.mode == GLOBAL;
        if mode != RELAXED && (own || foreign) {
            return Err(capture.spoil(Status::STREAM_CAPTURE_UNSUPPORTED));
        }
    }
    Ok(())
}

/// `CUstreamCaptureStatus` of a stream and the capture's number.
pub fn status(stream: &Stream) -> (c_int, u64) {
    match lock(&stream.capture).as_ref() {
        None => (STATUS_NONE, 0),
        Some(member) if member.capture.check().is_ok() => (STATUS_ACTIVE, member.capture.id),
        Some(member) => (STATUS_INVALIDATED, member.capture.id),
    }
}

/// Everything `cuStreamGetCaptureInfo` tells; the list stays valid until the next call for the stream.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` without a place for the status.
pub fn info(
    stream: &Stream,
    code: Out<'_, c_int>,
    id: Out<'_, u64>,
    graph: Out<'_, Handle>,
    dependencies: Out<'_, *const Handle>,
    count: Out<'_, usize>,
) -> Outcome {
    let (status, number) = status(stream);
    put(code, status)?;
    if status != STATUS_ACTIVE {
        return Ok(());
    }
    put_if_wanted(id, number);
    if let Some(member) = lock(&stream.capture).as_mut() {
        member.shown.clone_from(&member.tail);
        put_if_wanted(graph, member.capture.graph.handle);
        put_if_wanted(dependencies, member.shown.as_ptr());
        put_if_wanted(count, member.shown.len());
    }
    Ok(())
}

/// Adds to (flags 0) or replaces (flags 1) what the stream's next node depends on.
///
/// # Errors
/// `CUDA_ERROR_ILLEGAL_STATE` without a capture, `CUDA_ERROR_INVALID_VALUE` for a node of another graph.
pub fn update_dependencies(stream: &Stream, nodes: &[Handle], flags: c_uint) -> Outcome {
    let mut membership = lock(&stream.capture);
    let member = membership.as_mut().ok_or(Status::ILLEGAL_STATE)?;
    member.capture.check()?;
    if flags > 1 || !member.capture.graph.holds(nodes) {
        return Err(Status::INVALID_VALUE);
    }
    if flags == 1 {
        member.tail.clear();
    }
    member.tail.extend(nodes);
    Ok(())
}
