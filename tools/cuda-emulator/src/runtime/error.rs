//! Errors: the last one of a thread, names and texts.

use std::ffi::{CStr, c_char, c_int};

use super::LAST;
use crate::driver::status::describe;

/// Codes that only the runtime gives, and the driver's where the runtime has a name of its own for them.
const NAMES: &[(c_int, &CStr, Option<&CStr>)] = &[
    (0, c"cudaSuccess", None),
    (1, c"cudaErrorInvalidValue", None),
    (2, c"cudaErrorMemoryAllocation", None),
    (3, c"cudaErrorInitializationError", None),
    (9, c"cudaErrorInvalidConfiguration", Some(c"invalid configuration argument")),
    (13, c"cudaErrorInvalidSymbol", Some(c"invalid device symbol")),
    (34, c"cudaErrorStubLibrary", None),
    (98, c"cudaErrorInvalidDeviceFunction", Some(c"invalid device function")),
    (100, c"cudaErrorNoDevice", None),
    (101, c"cudaErrorInvalidDevice", None),
    (200, c"cudaErrorInvalidKernelImage", None),
    (201, c"cudaErrorDeviceUninitialized", None),
    (209, c"cudaErrorNoKernelImageForDevice", None),
    (218, c"cudaErrorInvalidPtx", None),
    (222, c"cudaErrorUnsupportedPtxVersion", None),
    (400, c"cudaErrorInvalidResourceHandle", None),
    (401, c"cudaErrorIllegalState", None),
    (500, c"cudaErrorSymbolNotFound", None),
    (600, c"cudaErrorNotReady", None),
    (700, c"cudaErrorIllegalAddress", None),
    (701, c"cudaErrorLaunchOutOfResources", None),
    (702, c"cudaErrorLaunchTimeout", None),
    (709, c"cudaErrorContextIsDestroyed", None),
    (710, c"cudaErrorAssert", None),
    (712, c"cudaErrorHostMemoryAlreadyRegistered", None),
    (713, c"cudaErrorHostMemoryNotRegistered", None),
    (714, c"cudaErrorHardwareStackError", None),
    (715, c"cudaErrorIllegalInstruction", None),
    (716, c"cudaErrorMisalignedAddress", None),
    (719, c"cudaErrorLaunchFailure", None),
    (720, c"cudaErrorCooperativeLaunchTooLarge", None),
    (800, c"cudaErrorNotPermitted", None),
    (801, c"cudaErrorNotSupported", None),
    (900, c"cudaErrorStreamCaptureUnsupported", None),
    (901, c"cudaErrorStreamCaptureInvalidated", None),
    (999, c"cudaErrorUnknown", None),
];

const UNRECOGNISED: &CStr = c"unrecognized error code";

fn name(code: c_int) -> &'static CStr {
    NAMES.iter().find(|entry| entry.0 == code).map_or(UNRECOGNISED, |entry| entry.1)
}

fn text(code: c_int) -> &'static CStr {
    let own = NAMES.iter().find(|entry| entry.0 == code).and_then(|entry| entry.2);
    own.or(describe(code).map(|(_, text)| text)).unwrap_or(UNRECOGNISED)
}

// The names are those of the C interface; none of the functions has a pointer from its caller.
#[allow(non_snake_case)]
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetLastError() -> c_int {
    LAST.replace(0)
}

#[allow(non_snake_case)] // As above.
#[unsafe(no_mangle)]
pub extern "C" fn cudaPeekAtLastError() -> c_int {
    LAST.get()
}

#[allow(non_snake_case)] // As above.
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorName(code: c_int) -> *const c_char {
    name(code).as_ptr()
}

#[allow(non_snake_case)] // As above.
#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorString(code: c_int) -> *const c_char {
    text(code).as_ptr()
}
