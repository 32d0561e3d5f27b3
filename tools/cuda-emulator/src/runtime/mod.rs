//! The CUDA runtime API (what `cudaMalloc` and `<<< >>>` compile to) on top of the driver API of this
//! library, which so takes the place of `libcudart.so.12` and `libcudart.so.13` too.
//!
//! NVIDIA's own runtime library does not run on this driver: it asks `cuGetExportTable` for private tables,
//! one of which proves that the driver is NVIDIA's. What is here is written from the public headers
//! (`cuda_runtime_api.h`, `driver_types.h`, and `crt/host_runtime.h` for what nvcc generates).

mod device;
mod error;
mod launch;
mod memory;
mod register;
mod stream;

use std::cell::Cell;
use std::ffi::c_int;

use crate::driver::status::{Outcome, Status};
use crate::driver::{boundary, context, device as driver_device, state};

thread_local! {
    /// The device that `cudaSetDevice` chose for this thread.
    static DEVICE: Cell<c_int> = const { Cell::new(0) };
    /// The last failure, until `cudaGetLastError` asks.
    static LAST: Cell<c_int> = const { Cell::new(0) };
}

/// Runs the body of a runtime function and keeps its failure for `cudaGetLastError`.
fn finish(name: &str, body: impl FnOnce() -> Outcome) -> c_int {
    let code = boundary(name, body);
    if code != 0 && code != Status::NOT_READY.0 {
        LAST.set(code);
    }
    code
}

/// The outcome of a driver call. The runtime's codes are the driver's numbers.
fn checked(code: c_int) -> Outcome {
    if code == 0 { Ok(()) } else { Err(Status(code)) }
}

/// Initialises the driver on first use and makes a context current: that of the program, or the primary one
/// of the thread's device.
fn ready() -> Outcome {
    // SAFETY: the call has no pointers.
    checked(unsafe { driver_device::cuInit(0) })?;
    if state::current_handle() == 0 { enter(DEVICE.get()) } else { Ok(()) }
}

/// Makes the primary context of a device current.
fn enter(ordinal: c_int) -> Outcome {
    let mut context = std::mem::MaybeUninit::uninit();
    // SAFETY: the pointer leads to a variable of this function.
    checked(unsafe { context::cuDevicePrimaryCtxRetain(Some(&mut context), ordinal) })?;
    // SAFETY: a call that succeeds has written its result.
    let context = unsafe { context.assume_init() };
    DEVICE.set(ordinal);
    // SAFETY: the call has no pointers.
    checked(unsafe { context::cuCtxSetCurrent(context) })
}

/// Declares exported functions of the runtime API. A body is an expression of type `Outcome`.
///
/// The functions are `unsafe extern "C"`: the caller upholds what cuda_runtime_api.h demands of each
/// pointer (null, or valid for the call).
macro_rules! runtime {
    ($( $(#[$note:meta])* fn $name:ident($($argument:ident : $kind:ty),* $(,)?) $body:block )*) => {
        $(
            $(#[$note])*
            // The names are those of the C interface.
            #[allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $kind),*) -> std::ffi::c_int {
                $crate::runtime::finish(stringify!($name), || $body)
            }
        )*
    };
}
use runtime;

/// As `runtime!`, for functions that are one call of the driver once a context is current.
macro_rules! forwarded {
    ($( fn $name:ident($($argument:ident : $kind:ty),* $(,)?) = $call:expr; )*) => {
        $crate::runtime::runtime! {
            $(
                fn $name($($argument: $kind),*) {
                    $crate::runtime::ready()?;
                    // SAFETY: the pointers are the caller's, under the same contract.
                    $crate::runtime::checked(unsafe { $call })
                }
            )*
        }
    };
}
use forwarded;
