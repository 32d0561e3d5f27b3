//! Streams. Work runs when it is submitted, so a stream is always done; what a stream keeps is its
//! identity, its priority and the capture it belongs to.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, HostFunction, Out, put, put_if_wanted};
use super::capture::{self, Membership};
use super::context;
use super::device::PRIORITIES;
use super::exports;
use super::operation::{HostCall, Operation};
use super::state::{Current, current, driver, new_handle};
use super::status::{Outcome, Status};

const NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const LEGACY: Handle = 1;
const PER_THREAD: Handle = 2;

/// A stream of a context.
pub struct Stream {
    pub handle: Handle,
    pub context: Handle,
    pub flags: c_uint,
    priority: c_int,
    pub capture: Mutex<Option<Membership>>,
}

impl Stream {
    /// One of the two streams that every context has.
    pub fn default_of(context: Handle, legacy: bool) -> Self {
        let handle = if legacy { LEGACY } else { PER_THREAD };
        Self { handle, context, flags: 0, priority: 0, capture: Mutex::new(None) }
    }

    pub fn is_legacy(&self) -> bool {
        self.handle == LEGACY
    }

    /// Whether it synchronises with the legacy stream.
    pub fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }
}

/// The stream of a handle, the default streams of the current context included.
///
/// # Errors
/// `CUDA_ERROR_INVALID_HANDLE`.
pub fn resolve(current: &Current, handle: Handle) -> Outcome<Arc<Stream>> {
    match handle {
        0 | LEGACY => Ok(current.context.legacy.clone()),
        PER_THREAD => Ok(current.context.per_thread.clone()),
        _ => current.driver.streams.get(handle),
    }
}

/// Adds work to the capture the stream belongs to, or runs it.
///
/// # Errors
/// Those of a capture, and the sticky fault of the stream's context from before.
pub fn submit(stream: &Stream, operation: Operation) -> Outcome {
    let driver = driver()?;
    let context = context::find(stream.context)?;
    context.healthy()?;
    if capture::record(stream, &operation)? {
        return Ok(());
    }
    capture::forbid_implicit_dependency(driver, stream)?;
    operation.run(driver, &context);
    Ok(())
}

fn create(out: Out<Handle>, flags: c_uint, priority: c_int) -> Outcome {
    let current = current()?;
    let out = out.ok_or(Status::INVALID_VALUE)?;
    if flags & !NON_BLOCKING != 0 {
        return Err(Status::INVALID_VALUE);
    }
    let handle = new_handle();
    let priority = priority.clamp(PRIORITIES.1, PRIORITIES.0);
    let stream =
        Stream { handle, context: current.context.handle, flags, priority, capture: Mutex::new(None) };
    current.driver.streams.insert(handle, stream);
    out.write(handle);
    Ok(())
}

fn destroy(handle: Handle) -> Outcome {
    let current = current()?;
    if handle <= PER_THREAD {
        return Err(Status::INVALID_HANDLE);
    }
    let stream = current.driver.streams.get(handle)?;
    capture::abandon(current.driver, &stream);
    current.driver.streams.remove(handle)?;
    Ok(())
}

/// All work of a stream is done; waiting for a capture makes no sense and spoils it.
fn finish(handle: Handle) -> Outcome {
    let current = current()?;
    let stream = resolve(&current, handle)?;
    capture::forbid_in(&stream)?;
    capture::forbid_implicit_dependency(current.driver, &stream)
}

fn find(handle: Handle) -> Outcome<Arc<Stream>> {
    resolve(&current()?, handle)
}

fn launch_host_function(stream: Handle, function: Option<HostFunction>, data: *mut c_void) -> Outcome {
    let function = function.ok_or(Status::INVALID_VALUE)?;
    submit(&*find(stream)?, Operation::Host(HostCall { function, data: data as usize }))
}

/// `CUstreamCallback`.
type Callback = unsafe extern "C" fn(Handle, c_int, *mut c_void);

fn add_callback(handle: Handle, callback: Option<Callback>, data: *mut c_void, flags: c_uint) -> Outcome {
    let stream = find(handle)?;
    let callback = callback.filter(|_| flags == 0).ok_or(Status::INVALID_VALUE)?;
    capture::forbid_in(&stream)?;
    // SAFETY: the program handed in a function to be called with these arguments.
    unsafe { callback(handle, 0, data) };
    Ok(())
}

exports! {
    fn cuStreamCreate(out: Out<Handle>, flags: c_uint) {
        create(out, flags, PRIORITIES.0)
    }

    fn cuStreamCreateWithPriority(out: Out<Handle>, flags: c_uint, priority: c_int) {
        create(out, flags, priority)
    }

    fn cuStreamDestroy_v2(handle: Handle) {
        destroy(handle)
    }

    fn cuStreamSynchronize(handle: Handle) {
        finish(handle)
    }

    fn cuStreamQuery(handle: Handle) {
        finish(handle)
    }

    fn cuStreamGetPriority(handle: Handle, priority: Out<c_int>) {
        put(priority, find(handle)?.priority)
    }

    fn cuStreamGetFlags(handle: Handle, flags: Out<c_uint>) {
        put(flags, find(handle)?.flags)
    }

    fn cuStreamGetCtx(handle: Handle, out: Out<Handle>) {
        put(out, find(handle)?.context)
    }

    fn cuStreamGetId(handle: Handle, out: Out<u64>) {
        put(out, find(handle)?.handle as u64)
    }

    fn cuLaunchHostFunc(stream: Handle, function: Option<HostFunction>, data: *mut c_void) {
        launch_host_function(stream, function, data)
    }

    fn cuStreamAddCallback(stream: Handle, callback: Option<Callback>, data: *mut c_void, flags: c_uint) {
        add_callback(stream, callback, data, flags)
    }

    fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) {
        let current = current()?;
        if !current.driver.configuration.graphs {
            return Err(Status::NOT_SUPPORTED);
        }
        capture::begin(&current, &resolve(&current, stream)?, mode)
    }

    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) {
        let graph = graph.ok_or(Status::INVALID_VALUE)?.write(0);
        let current = current()?;
        *graph = capture::end(current.driver, &*resolve(&current, stream)?)?;
        Ok(())
    }

    fn cuStreamIsCapturing(stream: Handle, status: Out<c_int>) {
        put(status, capture::status(&*find(stream)?).0)
    }

    fn cuStreamGetCaptureInfo(stream: Handle, status: Out<c_int>, id: Out<u64>) {
        let (code, number) = capture::status(&*find(stream)?);
        put_if_wanted(id, number);
        put(status, code)
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: Handle,
        status: Out<c_int>,
        id: Out<u64>,
        graph: Out<Handle>,
        dependencies: Out<*const Handle>,
        count: Out<usize>,
    ) {
        capture::info(&*find(stream)?, status, id, graph, dependencies, count)
    }

    fn cuStreamUpdateCaptureDependencies(
        stream: Handle,
        dependencies: *const Handle,
        count: usize,
        flags: c_uint,
    ) {
        let stream = find(stream)?;
        capture::update_dependencies(&stream, &super::graph_nodes::handles(dependencies, count)?, flags)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Option<&mut c_int>) {
        let mode = mode.ok_or(Status::INVALID_VALUE)?;
        *mode = capture::exchange_mode(*mode)?;
        Ok(())
    }
}
