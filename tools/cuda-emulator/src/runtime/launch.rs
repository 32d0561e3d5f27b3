//! Launches and what is known of kernels.

use std::cell::RefCell;
use std::ffi::{c_int, c_uint, c_void};

use super::register::function;
use super::{checked, runtime};
use crate::driver::abi::{Handle, In, LaunchConfig, Out, put};
use crate::driver::module::{cuFuncSetCacheConfig, function_attribute, set_function_attribute};
use crate::driver::status::{Outcome, Status};
use crate::driver::{launch, occupancy};

/// `cudaErrorInvalidConfiguration`.
const INVALID_CONFIGURATION: Status = Status(9);

/// `dim3`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extent {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

/// `<<<grid, block, shared, stream>>>`.
#[derive(Clone, Copy)]
struct Configuration {
    grid: Extent,
    block: Extent,
    shared: usize,
    stream: Handle,
}

/// `cudaFuncAttributes`, as far as it is filled; the rest is zero.
#[repr(C)]
pub struct FunctionAttributes {
    shared_bytes: usize,
    constant_bytes: usize,
    local_bytes: usize,
    max_threads: c_int,
    registers: c_int,
    ptx_version: c_int,
    binary_version: c_int,
    cache_mode: c_int,
    max_dynamic_shared: c_int,
    carveout: c_int,
    rest: [c_int; 23],
}

thread_local! {
    /// What `<<< >>>` put down for the stub that it calls next.
    static PUSHED: RefCell<Vec<Configuration>> = const { RefCell::new(Vec::new()) };
}

fn start(
    stub: *const c_void,
    configuration: Configuration,
    arguments: *mut *mut c_void,
    cooperative: bool,
) -> Outcome {
    let function = function(stub)?;
    let Configuration { grid: g, block: b, shared, stream } = configuration;
    let threads = u64::from(b.x) * u64::from(b.y) * u64::from(b.z);
    let empty = [g.x, g.y, g.z].contains(&0) || threads == 0;
    if empty || threads > function_attribute(function, 0)? as u64 {
        return Err(INVALID_CONFIGURATION);
    }
    let shared = c_uint::try_from(shared).map_err(|_| Status::INVALID_VALUE)?;
    // SAFETY: the stub hands in a pointer for each parameter.
    checked(unsafe {
        if cooperative {
            launch::cuLaunchCooperativeKernel(
                function, g.x, g.y, g.z, b.x, b.y, b.z, shared, stream, arguments,
            )
        } else {
            let none = std::ptr::null_mut();
            launch::cuLaunchKernel(function, g.x, g.y, g.z, b.x, b.y, b.z, shared, stream, arguments, none)
        }
    })
}

#[allow(non_snake_case, clippy::missing_safety_doc)] // The name is that of the C interface.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __cudaPushCallConfiguration(
    grid: Extent,
    block: Extent,
    shared: usize,
    stream: Handle,
) -> c_uint {
    PUSHED.with_borrow_mut(|pushed| pushed.push(Configuration { grid, block, shared, stream }));
    0
}

runtime! {
    fn __cudaPopCallConfiguration(
        grid: Out<Extent>,
        block: Out<Extent>,
        shared: Out<usize>,
        stream: Out<Handle>,
    ) {
        let pushed = PUSHED.with_borrow_mut(Vec::pop).ok_or(INVALID_CONFIGURATION)?;
        put(grid, pushed.grid)?;
        put(block, pushed.block)?;
        put(shared, pushed.shared)?;
        put(stream, pushed.stream)
    }

    /// Kernels are known by their stubs.
    fn __cudaGetKernel(kernel: Out<*const c_void>, stub: *const c_void) {
        put(kernel, stub)
    }

    fn __cudaLaunchKernel(
        kernel: *const c_void,
        grid: Extent,
        block: Extent,
        arguments: *mut *mut c_void,
        shared: usize,
        stream: Handle,
    ) {
        start(kernel, Configuration { grid, block, shared, stream }, arguments, false)
    }

    fn cudaLaunchKernel(
        stub: *const c_void,
        grid: Extent,
        block: Extent,
        arguments: *mut *mut c_void,
        shared: usize,
        stream: Handle,
    ) {
        start(stub, Configuration { grid, block, shared, stream }, arguments, false)
    }

    fn cudaLaunchCooperativeKernel(
        stub: *const c_void,
        grid: Extent,
        block: Extent,
        arguments: *mut *mut c_void,
        shared: usize,
        stream: Handle,
    ) {
        start(stub, Configuration { grid, block, shared, stream }, arguments, true)
    }

    /// `cudaLaunchConfig_t`: as the driver's, but for the width of the shared memory's size.
    fn cudaLaunchKernelExC(config: In<RuntimeConfig>, stub: *const c_void, arguments: *mut *mut c_void) {
        let config = config.ok_or(Status::INVALID_VALUE)?;
        let function = function(stub)?;
        let driver = LaunchConfig {
            grid: [config.grid.x, config.grid.y, config.grid.z],
            block: [config.block.x, config.block.y, config.block.z],
            shared_bytes: c_uint::try_from(config.shared).map_err(|_| Status::INVALID_VALUE)?,
            stream: config.stream,
            attributes: config.attributes.cast(),
            attribute_count: config.attribute_count,
        };
        // SAFETY: the caller hands in attributes laid out as the driver's, and a pointer for each parameter.
        checked(unsafe { launch::cuLaunchKernelEx(Some(&driver), function, arguments, std::ptr::null_mut()) })
    }

    fn cudaFuncSetAttribute(stub: *const c_void, number: c_int, value: c_int) {
        set_function_attribute(function(stub)?, number, value)
    }

    fn cudaFuncSetCacheConfig(stub: *const c_void, choice: c_int) {
        let function = function(stub)?;
        // SAFETY: the call has no pointers.
        checked(unsafe { cuFuncSetCacheConfig(function, choice) })
    }

    fn cudaFuncGetAttributes(out: Out<FunctionAttributes>, stub: *const c_void) {
        let function = function(stub)?;
        let value = |number| function_attribute(function, number);
        put(out, FunctionAttributes {
            max_threads: value(0)?,
            shared_bytes: value(1)? as usize,
            constant_bytes: value(2)? as usize,
            local_bytes: value(3)? as usize,
            registers: value(4)?,
            ptx_version: value(5)?,
            binary_version: value(6)?,
            cache_mode: value(7)?,
            max_dynamic_shared: value(8)?,
            carveout: value(9)?,
            rest: [0; 23],
        })
    }

    fn cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        out: Out<c_int>,
        stub: *const c_void,
        threads: c_int,
        shared: usize,
    ) {
        let function = function(stub)?;
        // SAFETY: the result's place is the caller's.
        checked(unsafe {
            occupancy::cuOccupancyMaxActiveBlocksPerMultiprocessor(out, function, threads, shared)
        })
    }

    fn cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<c_int>,
        stub: *const c_void,
        threads: c_int,
        shared: usize,
        _flags: c_uint,
    ) {
        let function = function(stub)?;
        // SAFETY: as above.
        checked(unsafe {
            occupancy::cuOccupancyMaxActiveBlocksPerMultiprocessor(out, function, threads, shared)
        })
    }
}

/// `cudaLaunchConfig_t`.
#[repr(C)]
pub struct RuntimeConfig {
    grid: Extent,
    block: Extent,
    shared: usize,
    stream: Handle,
    attributes: *const c_void,
    attribute_count: c_uint,
}
