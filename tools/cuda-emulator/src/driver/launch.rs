//! Launches: arguments gathered, limits checked, work submitted.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abi::{Handle, In, LaunchConfig};
use super::device::{MAX_BLOCK, MAX_GRID, MULTIPROCESSORS, REGISTERS_PER_MULTIPROCESSOR};
use super::exports;
use super::module::Function;
use super::occupancy::{self, registers_of_block};
use super::operation::{KernelLaunch, Operation};
use super::state::current;
use super::status::{Outcome, Status};
use super::stream::{resolve, submit};

/// `CU_LAUNCH_PARAM_END`, `_BUFFER_POINTER` and `_BUFFER_SIZE`: the tags of `extra`.
const EXTRA_END: usize = 0;
const EXTRA_POINTER: usize = 1;
const EXTRA_SIZE: usize = 2;
/// `CUlaunchAttributeID`.
const ATTRIBUTE_COOPERATIVE: c_uint = 2;
const ATTRIBUTE_CLUSTER: c_uint = 4;

/// Checks a launch against the kernel and the device, and copies its arguments.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for an empty or oversized grid or block, too much shared memory or missing
/// arguments; `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES` for more registers than there are.
pub fn prepare(
    function: Arc<Function>,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Outcome<KernelLaunch> {
    let kernel = function.kernel();
    let fits = |size: [u32; 3], most: [u32; 3]| (0..3).all(|axis| (1..=most[axis]).contains(&size[axis]));
    let threads = block.iter().map(|&n| u64::from(n)).product::<u64>();
    if !fits(grid, MAX_GRID) || !fits(block, MAX_BLOCK) || threads > u64::from(kernel.max_threads) {
        return Err(Status::INVALID_VALUE);
    }
    if shared_bytes > function.max_dynamic_shared.load(Ordering::Relaxed) {
        return Err(Status::INVALID_VALUE);
    }
    if registers_of_block(kernel.registers, threads as u32) > REGISTERS_PER_MULTIPROCESSOR {
        return Err(Status::LAUNCH_OUT_OF_RESOURCES);
    }
    let parameters = match (parameters.is_null(), extra.is_null()) {
        (false, false) => return Err(Status::INVALID_VALUE),
        (true, false) => from_extra(&function, extra)?,
        _ => from_pointers(&function, parameters)?,
    };
    Ok(KernelLaunch { function, grid, block, shared_bytes, parameters, cooperative: false })
}

/// Arguments as an array of pointers, one for each parameter.
fn from_pointers(function: &Function, pointers: *mut *mut c_void) -> Outcome<Arc<[u8]>> {
    let kernel = function.kernel();
    let mut buffer = vec![0; kernel.parameter_bytes as usize];
    if pointers.is_null() {
        return if kernel.parameters.is_empty() { Ok(buffer.into()) } else { Err(Status::INVALID_VALUE) };
    }
    for (index, parameter) in kernel.parameters.iter().enumerate() {
        // SAFETY: the caller hands in as many pointers as the kernel has parameters.
        let source = unsafe { *pointers.add(index) };
        if source.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let at = parameter.offset as usize;
        let target = &mut buffer[at..at + parameter.size as usize];
        // SAFETY: the caller says that each pointer leads to a value of its parameter's size.
        unsafe { std::ptr::copy_nonoverlapping(source.cast(), target.as_mut_ptr(), target.len()) };
    }
    Ok(buffer.into())
}

/// Arguments as one packed buffer, described by tags and values.
fn from_extra(function: &Function, extra: *mut *mut c_void) -> Outcome<Arc<[u8]>> {
    let (mut start, mut size) = (std::ptr::null::<u8>(), None);
    let mut at = 0;
    loop {
        // SAFETY: the caller hands in tags each followed by a value, the last tag being END.
        let tag = unsafe { *extra.add(at) } as usize;
        if tag == EXTRA_END {
            break;
        }
        // SAFETY: as above; this tag is not the last word.
        let value = unsafe { *extra.add(at + 1) };
        match tag {
            EXTRA_POINTER => start = value.cast_const().cast(),
            EXTRA_SIZE if !value.is_null() => {
                // SAFETY: the value of this tag points to a `size_t`.
                size = Some(unsafe { *value.cast::<usize>() });
            }
            _ => return Err(Status::INVALID_VALUE),
        }
        at += 2;
    }
    let bytes = function.kernel().parameter_bytes as usize;
    let size = size.filter(|&size| !start.is_null() && size >= bytes).ok_or(Status::INVALID_VALUE)?;
    // SAFETY: the caller says that the buffer holds `size` bytes, of which the kernel takes the first.
    Ok(unsafe { std::slice::from_raw_parts(start, size) }[..bytes].into())
}

/// A cooperative launch needs all its blocks on the device at once.
fn fits_at_once(launch: &KernelLaunch) -> Outcome {
    let threads = launch.block.iter().product();
    let resident =
        occupancy::blocks_per_multiprocessor(&launch.function, threads, launch.shared_bytes as usize);
    let blocks = launch.grid.iter().map(|&n| u64::from(n)).product::<u64>();
    if blocks > u64::from(resident) * MULTIPROCESSORS as u64 {
        return Err(Status::COOPERATIVE_LAUNCH_TOO_LARGE);
    }
    Ok(())
}

struct Arguments {
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
}

fn launch(
    function: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    arguments: Arguments,
    cooperative: bool,
) -> Outcome {
    let current = current()?;
    let function = current.driver.functions.get(function)?;
    let stream = resolve(&current, stream)?;
    if function.context != stream.context {
        return Err(Status::INVALID_HANDLE);
    }
    let mut launch = prepare(function, grid, block, shared_bytes, arguments.parameters, arguments.extra)?;
    launch.cooperative = cooperative;
    if cooperative {
        fits_at_once(&launch)?;
    }
    submit(&stream, Operation::Kernel(launch))
}

fn launch_configured(config: In<LaunchConfig>, function: Handle, arguments: Arguments) -> Outcome {
    let config = config.ok_or(Status::INVALID_VALUE)?;
    let mut cooperative = false;
    for index in 0..config.attribute_count as usize {
        if config.attributes.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller hands in `attribute_count` attributes.
        let attribute = unsafe { &*config.attributes.add(index) };
        match attribute.id {
            ATTRIBUTE_COOPERATIVE => cooperative = attribute.value[0] as u32 != 0,
            // A cluster of one block is what every device has; larger ones come with sm_90.
            ATTRIBUTE_CLUSTER if attribute.value[0] != 1 | 1 << 32 || attribute.value[1] as u32 != 1 => {
                return Err(Status::INVALID_VALUE);
            }
            _ => {}
        }
    }
    launch(function, config.grid, config.block, config.shared_bytes, config.stream, arguments, cooperative)
}

exports! {
    fn cuLaunchKernel(
        function: Handle,
        gx: c_uint,
        gy: c_uint,
        gz: c_uint,
        bx: c_uint,
        by: c_uint,
        bz: c_uint,
        shared: c_uint,
        stream: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        launch(function, [gx, gy, gz], [bx, by, bz], shared, stream, Arguments { parameters, extra }, false)
    }

    fn cuLaunchKernelEx(
        config: In<LaunchConfig>,
        function: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        launch_configured(config, function, Arguments { parameters, extra })
    }

    fn cuLaunchCooperativeKernel(
        function: Handle,
        gx: c_uint,
        gy: c_uint,
        gz: c_uint,
        bx: c_uint,
        by: c_uint,
        bz: c_uint,
        shared: c_uint,
        stream: Handle,
        parameters: *mut *mut c_void,
    ) {
        let arguments = Arguments { parameters, extra: std::ptr::null_mut() };
        launch(function, [gx, gy, gz], [bx, by, bz], shared, stream, arguments, true)
    }
}
