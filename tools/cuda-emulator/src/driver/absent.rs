//! Calls for what this device does not have. Programs look their symbols up and ask; the answer is
//! `CUDA_ERROR_NOT_SUPPORTED`.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use super::abi::{DevicePointer, Handle};
use super::exports;
use super::state::current;
use super::status::{Outcome, Status};

/// After the errors that come first everywhere.
fn absent() -> Outcome {
    current()?;
    Err(Status::NOT_SUPPORTED)
}

exports! {
    /// Memory of other programming interfaces.
    fn cuImportExternalMemory(_out: *mut Handle, _description: *const c_void) {
        absent()
    }

    fn cuExternalMemoryGetMappedBuffer(
        _pointer: *mut DevicePointer,
        _memory: Handle,
        _description: *const c_void,
    ) {
        absent()
    }

    fn cuDestroyExternalMemory(_memory: Handle) {
        absent()
    }

    /// Clusters of blocks, which come with `sm_90`.
    fn cuOccupancyMaxActiveClusters(_clusters: *mut c_int, _function: Handle, _config: *const c_void) {
        absent()
    }

    fn cuOccupancyMaxPotentialClusterSize(_size: *mut c_int, _function: Handle, _config: *const c_void) {
        absent()
    }

    /// Memory shared between processes.
    fn cuIpcGetMemHandle(_handle: *mut c_void, _pointer: DevicePointer) {
        absent()
    }

    /// Virtual memory management.
    fn cuMemAddressReserve(
        _pointer: *mut DevicePointer,
        _bytes: usize,
        _alignment: usize,
        _address: DevicePointer,
        _flags: c_ulonglong,
    ) {
        absent()
    }

    fn cuMemCreate(
        _handle: *mut c_ulonglong,
        _bytes: usize,
        _properties: *const c_void,
        _flags: c_ulonglong,
    ) {
        absent()
    }

    /// Arrays, textures and surfaces.
    fn cuArrayCreate_v2(_array: *mut Handle, _description: *const c_void) {
        absent()
    }

    fn cuArray3DCreate_v2(_array: *mut Handle, _description: *const c_void) {
        absent()
    }

    fn cuArray3DGetDescriptor_v2(_description: *mut c_void, _array: Handle) {
        absent()
    }

    fn cuArrayDestroy(_array: Handle) {
        absent()
    }

    fn cuMemcpyAtoH_v2(_target: u64, _array: Handle, _offset: usize, _bytes: usize) {
        absent()
    }

    fn cuMemcpyHtoA_v2(_array: Handle, _offset: usize, _source: u64, _bytes: usize) {
        absent()
    }

    fn cuTexObjectCreate(
        _texture: *mut c_ulonglong,
        _resource: *const c_void,
        _description: *const c_void,
        _view: *const c_void,
    ) {
        absent()
    }

    fn cuTexObjectDestroy(_texture: c_ulonglong) {
        absent()
    }

    fn cuTexObjectGetResourceDesc(_description: *mut c_void, _texture: c_ulonglong) {
        absent()
    }

    fn cuTexObjectGetResourceViewDesc(_description: *mut c_void, _texture: c_ulonglong) {
        absent()
    }

    fn cuSurfObjectCreate(_surface: *mut c_ulonglong, _resource: *const c_void) {
        absent()
    }

    fn cuSurfObjectDestroy(_surface: c_ulonglong) {
        absent()
    }

    fn cuSurfObjectGetResourceDesc(_description: *mut c_void, _surface: c_ulonglong) {
        absent()
    }

    /// Drawings of graphs.
    fn cuGraphDebugDotPrint(_graph: Handle, _path: *const c_char, _flags: c_uint) {
        absent()
    }
}
