//! Modules and their functions and variables.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::abi::{DevicePointer, Handle, Out, put, put_if_wanted};
use super::capture::forbid_while_capturing;
use super::device::{COMPUTE_CAPABILITY, SHARED_PER_BLOCK, SHARED_PER_BLOCK_OPTIN};
use super::exports;
use super::fatbin;
use super::operation::status_of;
use super::state::{Current, Device, current, driver, exclusive, lock, new_handle};
use super::status::{Outcome, Status};
use crate::execute::{Kernel, LoadedModule};
use crate::ptx::Module;

/// A loaded module; its variables go when the last launch or function that needs it has gone.
pub struct Image {
    pub context: Handle,
    pub device: Arc<Device>,
    loaded: Option<LoadedModule>,
    /// Handles given out, by kernel.
    functions: Mutex<HashMap<usize, Handle>>,
}

impl Image {
    pub fn loaded(&self) -> &LoadedModule {
        self.loaded.as_ref().expect("only the destructor takes it")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(loaded) = self.loaded.take() {
            let _at_rest = exclusive();
            loaded.unload(&self.device.memory);
        }
    }
}

/// A kernel of a module.
pub struct Function {
    pub handle: Handle,
    pub context: Handle,
    pub image: Arc<Image>,
    index: usize,
    /// Dynamic shared memory in bytes that a launch may ask for.
    pub max_dynamic_shared: AtomicU32,
    carveout: AtomicU32,
}

impl Function {
    pub fn kernel(&self) -> &Kernel {
        &self.image.loaded().kernels()[self.index]
    }
}

/// A refusal with the line that a log or standard error shows.
struct Refusal {
    status: Status,
    line: String,
}

impl Refusal {
    fn new(status: Status, line: impl Into<String>) -> Self {
        Self { status, line: line.into() }
    }
}

/// The architecture that PTX is for: 86 of `sm_86`.
fn target_of(module: &Module) -> Option<u32> {
    let digits: String = module.target.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Parses and loads PTX under the rules of the emulated driver and device.
fn build(current: &Current, text: &str) -> Result<LoadedModule, Refusal> {
    let most = current.driver.configuration.ptx_version();
    if !text.contains(".version") {
        return Err(Refusal::new(Status::INVALID_IMAGE, "the image is no PTX: it has no .version"));
    }
    let module = Module::parse(text).map_err(|error| Refusal::new(Status::INVALID_PTX, error.to_string()))?;
    let (major, minor) = module.version;
    if 10 * major + minor > most {
        let driver = current.driver.configuration.driver_version;
        let line = format!(
            "the PTX is of version {major}.{minor}, a driver {}.{} knows {}.{} at most; \
             CUDA_EMULATOR_DRIVER_VERSION emulates a newer one",
            driver / 1000,
            driver % 1000 / 10,
            most / 10,
            most % 10
        );
        return Err(Refusal::new(Status::UNSUPPORTED_PTX_VERSION, line));
    }
    let capability = (10 * COMPUTE_CAPABILITY.0 + COMPUTE_CAPABILITY.1) as u32;
    if target_of(&module).is_some_and(|target| target > capability) {
        let line = format!("the PTX is for {}, the device is sm_{capability}", module.target);
        return Err(Refusal::new(Status::INVALID_PTX, line));
    }
    LoadedModule::load(&module, &current.device().memory).map_err(|fault| {
        let status = match status_of(fault.kind) {
            Status::OUT_OF_MEMORY => Status::OUT_OF_MEMORY,
            _ => Status::INVALID_PTX,
        };
        Refusal::new(status, fault.to_string())
    })
}

/// The PTX in an image of any of the kinds the driver takes.
///
/// # Safety
/// `image` is not null and points to an image that ends as its kind ends: a NUL, or the length in its header.
unsafe fn text_of(image: *const c_void) -> Result<String, Refusal> {
    // SAFETY: every kind of image is at least 4 bytes long or ends in a NUL before that.
    let start = unsafe { fatbin::magic(image.cast()) };
    match start {
        fatbin::Kind::Text => {
            // SAFETY: a text ends in a NUL.
            let text = unsafe { CStr::from_ptr(image.cast()) };
            text.to_str()
                .map(str::to_owned)
                .map_err(|_| Refusal::new(Status::INVALID_IMAGE, "the image is no text"))
        }
        fatbin::Kind::Elf => {
            let line = "the image is compiled for a card (a cubin); the emulator runs PTX: compile with -ptx";
            Err(Refusal::new(Status::NO_BINARY_FOR_GPU, line))
        }
        fatbin::Kind::Fat => {
            // SAFETY: the magic number says that it is one, and the caller that it is whole.
            unsafe { fatbin::ptx(image.cast()) }.map_err(|line| Refusal::new(Status::NO_BINARY_FOR_GPU, line))
        }
    }
}

/// `CUjit_option` numbers of the logs.
const INFO_LOG: c_int = 3;
const INFO_LOG_BYTES: c_int = 4;
const ERROR_LOG: c_int = 5;
const ERROR_LOG_BYTES: c_int = 6;

/// Writes a line into the log that the options name, cut to fit, and its length back.
///
/// # Safety
/// `options` and `values` have `count` elements, and a log is as long as its length option says.
unsafe fn write_log(
    line: &str,
    (buffer_option, length_option): (c_int, c_int),
    count: usize,
    options: *const c_int,
    values: *mut *mut c_void,
) {
    // SAFETY: both arrays have `count` elements.
    let find = |wanted| (0..count).find(|&index| unsafe { *options.add(index) } == wanted);
    let (Some(buffer), Some(length)) = (find(buffer_option), find(length_option)) else { return };
    // SAFETY: indices are below `count`.
    let (buffer, room) = unsafe { (*values.add(buffer), *values.add(length) as u32 as usize) };
    if buffer.is_null() || room == 0 {
        return;
    }
    let bytes = line.len().min(room - 1);
    // SAFETY: the log has `room` bytes, and `bytes` is less.
    unsafe {
        std::ptr::copy_nonoverlapping(line.as_ptr(), buffer.cast(), bytes);
        *buffer.cast::<u8>().add(bytes) = 0;
        *values.add(length) = bytes as *mut c_void;
    }
}

pub fn load(
    out: Out<Handle>,
    image: *const c_void,
    count: c_uint,
    options: *const c_int,
    values: *mut *mut c_void,
) -> Outcome {
    let current = current()?;
    forbid_while_capturing(&current)?;
    let out = out.ok_or(Status::INVALID_VALUE)?;
    if image.is_null() || (count > 0 && (options.is_null() || values.is_null())) {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller hands in an image of one of the kinds that cuda.h names.
    let built = unsafe { text_of(image) }.and_then(|text| build(&current, &text));
    let line = built.as_ref().err().map_or("", |refusal| refusal.line.as_str());
    // SAFETY: the caller hands in `count` options with their values.
    unsafe {
        write_log(line, (ERROR_LOG, ERROR_LOG_BYTES), count as usize, options, values);
        write_log("", (INFO_LOG, INFO_LOG_BYTES), count as usize, options, values);
    }
    let loaded = built.map_err(|refusal| {
        eprintln!("cuda-emulator: module refused: {}", refusal.line);
        current.driver.reporter.find("module refused", refusal.line);
        refusal.status
    })?;
    let handle = new_handle();
    let image = Image {
        context: current.context.handle,
        device: current.device().clone(),
        loaded: Some(loaded),
        functions: Mutex::default(),
    };
    current.driver.modules.insert(handle, image);
    out.write(handle);
    Ok(())
}

pub fn load_file(out: Out<Handle>, path: *const c_char) -> Outcome {
    current()?;
    if path.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller hands in a C string.
    let path = unsafe { CStr::from_ptr(path) }.to_str().map_err(|_| Status::FILE_NOT_FOUND)?;
    let mut image = std::fs::read(path).map_err(|_| Status::FILE_NOT_FOUND)?;
    // A text ends in a NUL; the headers of the other kinds say how long they are.
    image.extend([0; 8]);
    load(out, image.as_ptr().cast(), 0, std::ptr::null(), std::ptr::null_mut())
}

pub fn unload(module: Handle) -> Outcome {
    let current = current()?;
    forbid_while_capturing(&current)?;
    let image = current.driver.modules.remove(module)?;
    current.driver.functions.retain(|function| !Arc::ptr_eq(&function.image, &image));
    Ok(())
}

fn name_of<'a>(name: *const c_char) -> Outcome<&'a str> {
    if name.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller hands in a C string that outlives the call.
    unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Status::NOT_FOUND)
}

pub fn function_of(module: Handle, name: *const c_char) -> Outcome<Handle> {
    let current = current()?;
    let image = current.driver.modules.get(module)?;
    let name = name_of(name)?;
    let index =
        image.loaded().kernels().iter().position(|kernel| kernel.name == name).ok_or(Status::NOT_FOUND)?;
    if let Some(&handle) = lock(&image.functions).get(&index) {
        return Ok(handle);
    }
    let handle = new_handle();
    lock(&image.functions).insert(index, handle);
    let shared_static = image.loaded().kernels()[index].shared_static;
    let function = Function {
        handle,
        context: image.context,
        image,
        index,
        max_dynamic_shared: SHARED_PER_BLOCK.saturating_sub(shared_static).into(),
        carveout: u32::MAX.into(),
    };
    current.driver.functions.insert(handle, function);
    Ok(handle)
}

/// `CUfunction_attribute`.
const MAX_DYNAMIC_SHARED: c_int = 8;
const CARVEOUT: c_int = 9;

pub fn function_attribute(function: Handle, number: c_int) -> Outcome<c_int> {
    let function = driver()?.functions.get(function)?;
    let kernel = function.kernel();
    Ok(match number {
        0 => kernel.max_threads as c_int,
        1 => kernel.shared_static as c_int,
        2 => 0,
        3 => kernel.local_bytes as c_int,
        4 => kernel.registers as c_int,
        // The architecture, whatever the version of the language.
        5 => target_of(function.image.loaded().module()).unwrap_or_default() as c_int,
        6 => 10 * COMPUTE_CAPABILITY.0 + COMPUTE_CAPABILITY.1,
        7 => 0,
        MAX_DYNAMIC_SHARED => function.max_dynamic_shared.load(Ordering::Relaxed) as c_int,
        CARVEOUT => function.carveout.load(Ordering::Relaxed) as c_int,
        10..=15 => 0, // clusters
        _ => return Err(Status::INVALID_VALUE),
    })
}

pub fn set_function_attribute(function: Handle, number: c_int, value: c_int) -> Outcome {
    let function = current()?.driver.functions.get(function)?;
    match number {
        MAX_DYNAMIC_SHARED => {
            let bytes = u32::try_from(value).map_err(|_| Status::INVALID_VALUE)?;
            if u64::from(bytes) + u64::from(function.kernel().shared_static) > SHARED_PER_BLOCK_OPTIN.into() {
                return Err(Status::INVALID_VALUE);
            }
            function.max_dynamic_shared.store(bytes, Ordering::Relaxed);
        }
        CARVEOUT if (-1..=100).contains(&value) => function.carveout.store(value as u32, Ordering::Relaxed),
        _ => return Err(Status::INVALID_VALUE),
    }
    Ok(())
}

fn parameter_info(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) -> Outcome {
    let function = driver()?.functions.get(function)?;
    let parameter = function.kernel().parameters.get(index).ok_or(Status::INVALID_VALUE)?;
    put(offset, parameter.offset as usize)?;
    put_if_wanted(size, parameter.size as usize);
    Ok(())
}

pub fn global(
    address: Out<DevicePointer>,
    bytes: Out<usize>,
    module: Handle,
    name: *const c_char,
) -> Outcome {
    let image = current()?.driver.modules.get(module)?;
    let found = image.loaded().global(name_of(name)?).ok_or(Status::NOT_FOUND)?;
    put_if_wanted(address, found.0);
    put_if_wanted(bytes, found.1 as usize);
    Ok(())
}

exports! {
    fn cuModuleLoad(out: Out<Handle>, path: *const c_char) {
        load_file(out, path)
    }

    fn cuModuleLoadData(out: Out<Handle>, image: *const c_void) {
        load(out, image, 0, std::ptr::null(), std::ptr::null_mut())
    }

    fn cuModuleLoadDataEx(
        out: Out<Handle>,
        image: *const c_void,
        count: c_uint,
        options: *const c_int,
        values: *mut *mut c_void,
    ) {
        load(out, image, count, options, values)
    }

    fn cuModuleLoadFatBinary(out: Out<Handle>, image: *const c_void) {
        load(out, image, 0, std::ptr::null(), std::ptr::null_mut())
    }

    fn cuModuleUnload(module: Handle) {
        unload(module)
    }

    fn cuModuleGetLoadingMode(mode: Out<c_int>) {
        driver()?;
        put(mode, 1) // eager
    }

    fn cuModuleGetFunction(out: Out<Handle>, module: Handle, name: *const c_char) {
        let out = out.ok_or(Status::INVALID_VALUE)?;
        out.write(function_of(module, name)?);
        Ok(())
    }

    fn cuModuleGetFunctionCount(count: Out<c_uint>, module: Handle) {
        put(count, current()?.driver.modules.get(module)?.loaded().kernels().len() as c_uint)
    }

    fn cuModuleGetGlobal_v2(
        address: Out<DevicePointer>,
        bytes: Out<usize>,
        module: Handle,
        name: *const c_char,
    ) {
        global(address, bytes, module, name)
    }

    fn cuFuncGetAttribute(value: Out<c_int>, number: c_int, function: Handle) {
        put(value, function_attribute(function, number)?)
    }

    fn cuFuncSetAttribute(function: Handle, number: c_int, value: c_int) {
        set_function_attribute(function, number, value)
    }

    fn cuFuncSetCacheConfig(function: Handle, _choice: c_int) {
        current()?.driver.functions.get(function).map(|_| ())
    }

    fn cuFuncSetSharedMemConfig(function: Handle, _choice: c_int) {
        current()?.driver.functions.get(function).map(|_| ())
    }

    fn cuFuncGetModule(out: Out<Handle>, function: Handle) {
        let driver = driver()?;
        let function = driver.functions.get(function)?;
        put(out, driver.modules.find(|image| std::ptr::eq(image, &*function.image))?)
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        parameter_info(function, index, offset, size)
    }

    fn cuFuncIsLoaded(state: Out<c_int>, function: Handle) {
        driver()?.functions.get(function)?;
        put(state, 1)
    }

    fn cuFuncLoad(function: Handle) {
        driver()?.functions.get(function).map(|_| ())
    }
}
