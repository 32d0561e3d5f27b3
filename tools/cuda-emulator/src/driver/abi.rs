//! Types that cross the C boundary, laid out as cuda.h (12.x) lays them out.
//!
//! Handles are opaque to a program; here they are numbers looked up in tables, so a stale or made-up
//! handle is an error code and never a crash.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::MaybeUninit;

use super::status::{Outcome, Status};

/// An opaque handle (`CUcontext`, `CUmodule`, `CUstream`, ...): the size and passing of a pointer.
pub type Handle = usize;
/// `CUdeviceptr`.
pub type DevicePointer = u64;
/// A place for one result; null is `None`. The caller answers for a pointer that is not null: it
/// points to writable, aligned memory of the type, as cuda.h demands.
pub type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;
/// One structure handed in by pointer, under the same contract.
pub type In<'a, T> = Option<&'a T>;
/// `CUhostFn`.
pub type HostFunction = unsafe extern "C" fn(*mut c_void);

/// Writes a result that must not be null.
pub fn put<T>(out: Out<'_, T>, value: T) -> Outcome {
    out.ok_or(Status::INVALID_VALUE)?.write(value);
    Ok(())
}

/// Writes a result the caller may leave out.
pub fn put_if_wanted<T>(out: Out<'_, T>, value: T) {
    if let Some(out) = out {
        out.write(value);
    }
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
pub struct Memcpy2D {
    pub source_x: usize,
    pub source_y: usize,
    pub source_kind: c_uint,
    pub source_host: u64,
    pub source_device: DevicePointer,
    pub source_array: Handle,
    pub source_pitch: usize,
    pub target_x: usize,
    pub target_y: usize,
    pub target_kind: c_uint,
    pub target_host: u64,
    pub target_device: DevicePointer,
    pub target_array: Handle,
    pub target_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
pub struct Memcpy3D {
    pub source_x: usize,
    pub source_y: usize,
    pub source_z: usize,
    pub source_level: usize,
    pub source_kind: c_uint,
    pub source_host: u64,
    pub source_device: DevicePointer,
    pub source_array: Handle,
    pub reserved0: usize,
    pub source_pitch: usize,
    pub source_height: usize,
    pub target_x: usize,
    pub target_y: usize,
    pub target_z: usize,
    pub target_level: usize,
    pub target_kind: c_uint,
    pub target_host: u64,
    pub target_device: DevicePointer,
    pub target_array: Handle,
    pub reserved1: usize,
    pub target_pitch: usize,
    pub target_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUlaunchAttribute`: the value is a union of 64 bytes.
#[repr(C)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub padding: [c_char; 4],
    pub value: [u64; 8],
}

/// `CUlaunchConfig`.
#[repr(C)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub stream: Handle,
    pub attributes: *const LaunchAttribute,
    pub attribute_count: c_uint,
}

/// `CUDA_KERNEL_NODE_PARAMS_v1`; version 2 is version 1 with a kernel and a context behind it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelNodeParams {
    pub function: Handle,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub parameters: *mut *mut c_void,
    pub extra: *mut *mut c_void,
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
pub struct KernelNodeParamsV2 {
    pub base: KernelNodeParams,
    pub kernel: Handle,
    pub context: Handle,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
pub struct MemsetNodeParams {
    pub target: DevicePointer,
    pub pitch: usize,
    pub value: c_uint,
    pub element_size: c_uint,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
pub struct HostNodeParams {
    pub function: Option<HostFunction>,
    pub data: *mut c_void,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
pub struct GraphUpdateInfo {
    pub result: c_int,
    pub error_node: Handle,
    pub error_from_node: Handle,
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
pub struct GraphInstantiateParams {
    pub flags: u64,
    pub upload_stream: Handle,
    pub error_node: Handle,
    pub result: c_int,
}

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryLocation {
    pub kind: c_int,
    pub id: c_int,
}

/// `CUmemPoolProps`.
#[repr(C)]
pub struct PoolProperties {
    pub allocation_kind: c_int,
    pub handle_kinds: c_int,
    pub location: MemoryLocation,
    pub security: usize,
    pub reserved: [u8; 64],
}

/// `CUuuid`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Uuid(pub [u8; 16]);
