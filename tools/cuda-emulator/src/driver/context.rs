//! Contexts: primary contexts, created contexts, the stack of each thread, limits.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abi::{Handle, Out, put, put_if_wanted};
use super::capture::{self, forbid_while_capturing};
use super::device::PRIORITIES;
use super::exports;
use super::report;
use super::state::{
    Context, Current, current, current_even_failed, current_handle, device, driver, lock, pop_context,
    push_context, set_context,
};
use super::status::{Outcome, Status};

/// `CU_CTX_*` flags that a context takes.
const CONTEXT_FLAGS: c_uint = 0xff;
/// `CUlimit` and its value in a fresh context.
const LIMITS: &[(c_int, usize)] =
    &[(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 128), (6, 0)];

/// `CU_LIMIT_MALLOC_HEAP_SIZE`.
const LIMIT_HEAP: c_int = 2;

fn retain_primary(ordinal: c_int) -> Outcome<Handle> {
    let driver = driver()?;
    let device = device(ordinal)?;
    let mut primary = lock(&device.primary);
    let handle = match primary.handle {
        Some(handle) => handle,
        None => {
            let context = Context::new(device.clone(), true, primary.flags);
            let handle = context.handle;
            driver.contexts.insert(handle, context);
            primary.handle = Some(handle);
            handle
        }
    };
    primary.references += 1;
    driver.contexts.get(handle)?.alive.store(true, Ordering::Relaxed);
    Ok(handle)
}

/// Ends a context's life: reports what it still holds, frees it, and forgets its handles.
fn tear_down(context: &Context) -> Outcome {
    let driver = driver()?;
    context.alive.store(false, Ordering::Relaxed);
    capture::abandon_all(driver, context.handle);
    report::leaks_of(driver, context);
    super::memory::free_all_of(driver, context);
    let handle = context.handle;
    driver.functions.retain(|function| function.context != handle);
    driver.modules.retain(|image| image.context != handle);
    driver.streams.retain(|stream| stream.context != handle);
    driver.events.retain(|event| event.context != handle);
    context.device.memory.reset_heap();
    context.heal();
    Ok(())
}

fn release_primary(ordinal: c_int) -> Outcome {
    let device = device(ordinal)?;
    let mut primary = lock(&device.primary);
    let handle = primary.handle.filter(|_| primary.references > 0).ok_or(Status::INVALID_CONTEXT)?;
    primary.references -= 1;
    if primary.references == 0 {
        tear_down(&*driver()?.contexts.get(handle)?)?;
    }
    Ok(())
}

fn reset_primary(ordinal: c_int) -> Outcome {
    let device = device(ordinal)?;
    let mut primary = lock(&device.primary);
    primary.references = 0;
    match primary.handle {
        Some(handle) => tear_down(&*driver()?.contexts.get(handle)?),
        None => Ok(()),
    }
}

fn set_primary_flags(ordinal: c_int, flags: c_uint) -> Outcome {
    if flags & !CONTEXT_FLAGS != 0 {
        return Err(Status::INVALID_VALUE);
    }
    let mut primary = lock(&device(ordinal)?.primary);
    primary.flags = flags;
    if let Some(handle) = primary.handle {
        driver()?.contexts.get(handle)?.flags.store(flags, Ordering::Relaxed);
    }
    Ok(())
}

fn create(out: Out<Handle>, flags: c_uint, ordinal: c_int) -> Outcome {
    let device = device(ordinal)?.clone();
    if flags & !CONTEXT_FLAGS != 0 {
        return Err(Status::INVALID_VALUE);
    }
    let context = Context::new(device, false, flags);
    let handle = context.handle;
    put(out, handle)?;
    driver()?.contexts.insert(handle, context);
    push_context(handle);
    Ok(())
}

fn destroy(handle: Handle) -> Outcome {
    let driver = driver()?;
    let context = find(handle)?;
    if context.primary {
        return Err(Status::INVALID_CONTEXT);
    }
    tear_down(&context)?;
    driver.contexts.remove(handle)?;
    if current_handle() == handle {
        pop_context()?;
    }
    Ok(())
}

/// The context of a handle.
///
/// # Errors
/// `CUDA_ERROR_INVALID_CONTEXT` for a handle that is none.
pub fn find(handle: Handle) -> Outcome<Arc<Context>> {
    driver()?.contexts.get(handle).map_err(|_| Status::INVALID_CONTEXT)
}

/// The context a handle names, or the current one for 0.
fn named_or_current(handle: Handle) -> Outcome<Arc<Context>> {
    if handle == 0 { Ok(current_even_failed()?.context) } else { find(handle) }
}

fn limit(current: &Current, number: c_int) -> Outcome<usize> {
    let default = LIMITS.iter().find(|entry| entry.0 == number).ok_or(Status::UNSUPPORTED_LIMIT)?.1;
    Ok(lock(&current.context.limits).get(&number).copied().unwrap_or(default))
}

fn set_limit(number: c_int, value: usize) -> Outcome {
    let current = current()?;
    limit(&current, number)?;
    if number == LIMIT_HEAP && !current.device().memory.limit_heap(value as u64) {
        return Err(Status::INVALID_VALUE);
    }
    lock(&current.context.limits).insert(number, value);
    Ok(())
}

exports! {
    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, ordinal: c_int) {
        let out = out.ok_or(Status::INVALID_VALUE)?;
        out.write(retain_primary(ordinal)?);
        Ok(())
    }

    fn cuDevicePrimaryCtxRelease(ordinal: c_int) {
        release_primary(ordinal)
    }

    fn cuDevicePrimaryCtxRelease_v2(ordinal: c_int) {
        release_primary(ordinal)
    }

    fn cuDevicePrimaryCtxReset(ordinal: c_int) {
        reset_primary(ordinal)
    }

    fn cuDevicePrimaryCtxReset_v2(ordinal: c_int) {
        reset_primary(ordinal)
    }

    fn cuDevicePrimaryCtxSetFlags(ordinal: c_int, flags: c_uint) {
        set_primary_flags(ordinal, flags)
    }

    fn cuDevicePrimaryCtxSetFlags_v2(ordinal: c_int, flags: c_uint) {
        set_primary_flags(ordinal, flags)
    }

    fn cuDevicePrimaryCtxGetState(ordinal: c_int, flags: Out<c_uint>, active: Out<c_int>) {
        let primary = lock(&device(ordinal)?.primary);
        put(flags, primary.flags)?;
        put(active, c_int::from(primary.references > 0))
    }

    fn cuCtxCreate_v2(out: Out<Handle>, flags: c_uint, ordinal: c_int) {
        create(out, flags, ordinal)
    }

    fn cuCtxCreate_v3(
        out: Out<Handle>,
        _affinity: *mut c_void,
        affinities: c_int,
        flags: c_uint,
        ordinal: c_int,
    ) {
        if affinities != 0 { Err(Status::NOT_SUPPORTED) } else { create(out, flags, ordinal) }
    }

    fn cuCtxCreate_v4(out: Out<Handle>, params: *mut c_void, flags: c_uint, ordinal: c_int) {
        if !params.is_null() { Err(Status::NOT_SUPPORTED) } else { create(out, flags, ordinal) }
    }

    fn cuCtxDestroy_v2(handle: Handle) {
        destroy(handle)
    }

    fn cuCtxPushCurrent_v2(handle: Handle) {
        find(handle)?;
        push_context(handle);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(out: Out<Handle>) {
        driver()?;
        put_if_wanted(out, pop_context()?);
        Ok(())
    }

    fn cuCtxSetCurrent(handle: Handle) {
        driver()?;
        if handle != 0 {
            find(handle)?;
        }
        set_context(handle);
        Ok(())
    }

    fn cuCtxGetCurrent(out: Out<Handle>) {
        driver()?;
        put(out, current_handle())
    }

    fn cuCtxGetDevice(out: Out<c_int>) {
        put(out, current_even_failed()?.context.device.ordinal as c_int)
    }

    fn cuCtxGetId(handle: Handle, out: Out<u64>) {
        put(out, named_or_current(handle)?.handle as u64)
    }

    fn cuCtxGetApiVersion(handle: Handle, out: Out<c_uint>) {
        named_or_current(handle)?;
        put(out, 3020)
    }

    fn cuCtxGetFlags(out: Out<c_uint>) {
        put(out, current_even_failed()?.context.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: c_uint) {
        if flags & !CONTEXT_FLAGS != 0 {
            return Err(Status::INVALID_VALUE);
        }
        current()?.context.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    /// Work is done when it is submitted: what is left is to say how it went.
    fn cuCtxSynchronize() {
        let current = current()?;
        forbid_while_capturing(&current)
    }

    fn cuCtxGetLimit(out: Out<usize>, number: c_int) {
        put(out, limit(&current()?, number)?)
    }

    fn cuCtxSetLimit(number: c_int, value: usize) {
        set_limit(number, value)
    }

    fn cuCtxGetCacheConfig(out: Out<c_int>) {
        put(out, current()?.context.cache_configuration.load(Ordering::Relaxed))
    }

    fn cuCtxSetCacheConfig(choice: c_int) {
        if !(0..=3).contains(&choice) {
            return Err(Status::INVALID_VALUE);
        }
        current()?.context.cache_configuration.store(choice, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(out: Out<c_int>) {
        current()?;
        put(out, 1)
    }

    fn cuCtxSetSharedMemConfig(_choice: c_int) {
        current().map(|_| ())
    }

    fn cuCtxResetPersistingL2Cache() {
        current().map(|_| ())
    }

    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        current()?;
        put_if_wanted(least, PRIORITIES.0);
        put_if_wanted(greatest, PRIORITIES.1);
        Ok(())
    }

    fn cuCtxEnablePeerAccess(peer: Handle, _flags: c_uint) {
        find(peer)?;
        Err(Status::PEER_ACCESS_UNSUPPORTED)
    }

    fn cuCtxDisablePeerAccess(peer: Handle) {
        find(peer)?;
        Err(Status::PEER_ACCESS_NOT_ENABLED)
    }
}
