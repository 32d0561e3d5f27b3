//! What nvcc's start-up code registers: fat binaries, and which host symbol stands for which kernel or
//! variable of them. A binary is loaded into a context when something of it is first used there.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{checked, ready};
use crate::driver::status::{Outcome, Status};
use crate::driver::{abi::Handle, module, state};

/// `cudaErrorInvalidSymbol` and `cudaErrorInvalidDeviceFunction`.
const INVALID_SYMBOL: Status = Status(13);
const INVALID_DEVICE_FUNCTION: Status = Status(98);

/// A name in a fat binary.
#[derive(Clone)]
struct Symbol {
    /// Address of the binary's wrapper.
    image: usize,
    name: CString,
}

#[derive(Default)]
struct Registry {
    /// By the address of the host's stub or variable.
    functions: HashMap<usize, Symbol>,
    variables: HashMap<usize, Symbol>,
    /// Modules by context and binary, functions by context and stub.
    modules: HashMap<(Handle, usize), Handle>,
    loaded: HashMap<(Handle, usize), Handle>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Registry>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(act: impl FnOnce(&mut Registry) -> T) -> T {
    act(lock().get_or_insert_default())
}

/// Forgets what was loaded: its context has been reset.
pub(super) fn forget_loaded() {
    with(|registry| {
        registry.modules.clear();
        registry.loaded.clear();
    });
}

fn module_of(registry: &mut Registry, image: usize) -> Outcome<Handle> {
    let key = (state::current_handle(), image);
    if let Some(&module) = registry.modules.get(&key) {
        return Ok(module);
    }
    let mut module = MaybeUninit::uninit();
    // SAFETY: the image is one that start-up code registered, which stays until it is unregistered.
    checked(unsafe { module::cuModuleLoadFatBinary(Some(&mut module), image as *const c_void) })?;
    // SAFETY: a call that succeeds has written its result.
    let module = unsafe { module.assume_init() };
    registry.modules.insert(key, module);
    Ok(module)
}

/// The driver's function for a host stub, in the current context.
pub(super) fn function(stub: *const c_void) -> Outcome<Handle> {
    ready()?;
    with(|registry| {
        let key = (state::current_handle(), stub as usize);
        if let Some(&function) = registry.loaded.get(&key) {
            return Ok(function);
        }
        let symbol = registry.functions.get(&key.1).cloned().ok_or(INVALID_DEVICE_FUNCTION)?;
        let module = module_of(registry, symbol.image)?;
        let mut function = MaybeUninit::uninit();
        // SAFETY: the name is a C string of this function.
        checked(unsafe { module::cuModuleGetFunction(Some(&mut function), module, symbol.name.as_ptr()) })
            .map_err(|status| if status == Status::NOT_FOUND { INVALID_DEVICE_FUNCTION } else { status })?;
        // SAFETY: a call that succeeds has written its result.
        let function = unsafe { function.assume_init() };
        registry.loaded.insert(key, function);
        Ok(function)
    })
}

/// Device address and size in bytes of the variable that a host symbol stands for.
pub(super) fn variable(host: *const c_void) -> Outcome<(u64, usize)> {
    ready()?;
    with(|registry| {
        let symbol = registry.variables.get(&(host as usize)).cloned().ok_or(INVALID_SYMBOL)?;
        let module = module_of(registry, symbol.image)?;
        let (mut address, mut bytes) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let name = symbol.name.as_ptr();
        // SAFETY: the results are variables, and the name a C string, of this function.
        checked(unsafe { module::cuModuleGetGlobal_v2(Some(&mut address), Some(&mut bytes), module, name) })
            .map_err(|status| if status == Status::NOT_FOUND { INVALID_SYMBOL } else { status })?;
        // SAFETY: a call that succeeds has written both.
        Ok(unsafe { (address.assume_init(), bytes.assume_init()) })
    })
}

/// # Safety
/// `handle` is one that [`__cudaRegisterFatBinary`] gave, `name` a C string.
unsafe fn symbol(handle: *mut *mut c_void, name: *const c_char) -> Symbol {
    // SAFETY: the caller's promise.
    unsafe { Symbol { image: *handle as usize, name: CStr::from_ptr(name).to_owned() } }
}

// The functions below are called by code that nvcc generates, with the arguments it generates
// (crt/host_runtime.h): live pointers, and names that are C strings.

#[allow(non_snake_case, clippy::missing_safety_doc)] // The name is that of the C interface.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaRegisterFatBinary(wrapper: *mut c_void) -> *mut *mut c_void {
    Box::into_raw(Box::new(wrapper))
}

#[allow(non_snake_case, clippy::missing_safety_doc)] // As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaRegisterFatBinaryEnd(_handle: *mut *mut c_void) {}

#[allow(non_snake_case, clippy::missing_safety_doc)] // As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaUnregisterFatBinary(handle: *mut *mut c_void) {
    // SAFETY: the handle came from `Box::into_raw`, and the generated code gives it back once.
    let image = *unsafe { Box::from_raw(handle) } as usize;
    with(|registry| {
        registry.functions.retain(|_, symbol| symbol.image != image);
        registry.variables.retain(|_, symbol| symbol.image != image);
        registry.loaded.clear();
        registry.modules.retain(|key, _| key.1 != image);
    });
}

#[allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaRegisterFunction(
    handle: *mut *mut c_void,
    stub: *const c_void,
    _device: *mut c_char,
    name: *const c_char,
    _limit: c_int,
    _tid: *mut c_void,
    _bid: *mut c_void,
    _block: *mut c_void,
    _grid: *mut c_void,
    _warp: *mut c_int,
) {
    // SAFETY: see above.
    let symbol = unsafe { symbol(handle, name) };
    with(|registry| registry.functions.insert(stub as usize, symbol));
}

#[allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaRegisterVar(
    handle: *mut *mut c_void,
    host: *const c_void,
    _device: *mut c_char,
    name: *const c_char,
    _external: c_int,
    _bytes: usize,
    _constant: c_int,
    _global: c_int,
) {
    // SAFETY: see above.
    let symbol = unsafe { symbol(handle, name) };
    with(|registry| registry.variables.insert(host as usize, symbol));
}

#[allow(non_snake_case, clippy::missing_safety_doc)] // As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaInitModule(_handle: *mut *mut c_void) -> c_char {
    1
}
