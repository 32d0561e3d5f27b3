//! Memory of the device and of the host, copies and fills. With one address space the direction of a copy
//! follows from its addresses; the argument that names it is checked for its range alone.

use std::ffi::{c_int, c_uint, c_void};

use super::register::variable;
use super::{checked, forwarded, ready, runtime};
use crate::driver::abi::{DevicePointer, Handle, Memcpy2D, Out, put};
use crate::driver::status::{Outcome, Status};
use crate::driver::{copy, memory, mirror, pool};

/// `cudaErrorInvalidMemcpyDirection`.
const INVALID_DIRECTION: Status = Status(21);
/// `CU_MEMORYTYPE_UNIFIED`.
const UNIFIED: c_uint = 4;
/// `CU_MEM_ATTACH_GLOBAL`.
const ATTACH_GLOBAL: c_uint = 1;

fn direction(kind: c_int) -> Outcome {
    ready()?;
    if (0..=4).contains(&kind) { Ok(()) } else { Err(INVALID_DIRECTION) }
}

/// Copies on a stream, or with the host waiting where there is none.
fn transfer(target: u64, source: u64, bytes: usize, stream: Option<Handle>) -> Outcome {
    if bytes == 0 {
        return Ok(());
    }
    // SAFETY: the caller's addresses, which the driver tells apart and checks where they are the device's.
    checked(unsafe {
        match stream {
            Some(stream) => copy::cuMemcpyAsync(target, source, bytes, stream),
            None => copy::cuMemcpy(target, source, bytes),
        }
    })
}

/// Address of `bytes` bytes at `offset` of a variable.
fn part(symbol: *const c_void, bytes: usize, offset: usize) -> Outcome<u64> {
    let (address, length) = variable(symbol)?;
    match offset.checked_add(bytes) {
        Some(end) if end <= length => Ok(address + offset as u64),
        _ => Err(Status::INVALID_VALUE),
    }
}

fn box_of(target: (u64, usize), source: (u64, usize), width: usize, height: usize) -> Memcpy2D {
    Memcpy2D {
        source_x: 0,
        source_y: 0,
        source_kind: UNIFIED,
        source_host: 0,
        source_device: source.0,
        source_array: 0,
        source_pitch: source.1,
        target_x: 0,
        target_y: 0,
        target_kind: UNIFIED,
        target_host: 0,
        target_device: target.0,
        target_array: 0,
        target_pitch: target.1,
        width,
        height,
    }
}

runtime! {
    fn cudaMalloc(out: Out<DevicePointer>, bytes: usize) {
        ready()?;
        if bytes == 0 {
            return put(out, 0);
        }
        // SAFETY: the result's place is the caller's.
        checked(unsafe { memory::cuMemAlloc_v2(out, bytes) })
    }

    fn cudaFree(pointer: DevicePointer) {
        ready()?;
        // SAFETY: the call has no pointers of the host.
        if pointer == 0 { Ok(()) } else { checked(unsafe { memory::cuMemFree_v2(pointer) }) }
    }

    fn cudaMallocPitch(out: Out<DevicePointer>, pitch: Out<usize>, width: usize, height: usize) {
        ready()?;
        // SAFETY: the results' places are the caller's.
        checked(unsafe { memory::cuMemAllocPitch_v2(out, pitch, width, height, 4) })
    }

    fn cudaMallocManaged(out: Out<DevicePointer>, bytes: usize, flags: c_uint) {
        ready()?;
        let flags = if flags == 0 { ATTACH_GLOBAL } else { flags };
        // SAFETY: the result's place is the caller's.
        checked(unsafe { mirror::cuMemAllocManaged(out, bytes, flags) })
    }

    fn cudaFreeHost(pointer: u64) {
        ready()?;
        // SAFETY: the caller gives memory back that it no longer uses.
        if pointer == 0 { Ok(()) } else { checked(unsafe { memory::cuMemFreeHost(pointer) }) }
    }

    fn cudaMemcpy(target: u64, source: u64, bytes: usize, kind: c_int) {
        direction(kind)?;
        transfer(target, source, bytes, None)
    }

    fn cudaMemcpyAsync(target: u64, source: u64, bytes: usize, kind: c_int, stream: Handle) {
        direction(kind)?;
        transfer(target, source, bytes, Some(stream))
    }

    fn cudaMemcpy2D(
        target: u64,
        target_pitch: usize,
        source: u64,
        source_pitch: usize,
        width: usize,
        height: usize,
        kind: c_int,
    ) {
        direction(kind)?;
        let it = box_of((target, target_pitch), (source, source_pitch), width, height);
        // SAFETY: the structure is of this function, the addresses are the caller's.
        checked(unsafe { copy::cuMemcpy2DUnaligned_v2(Some(&it)) })
    }

    fn cudaMemcpy2DAsync(
        target: u64,
        target_pitch: usize,
        source: u64,
        source_pitch: usize,
        width: usize,
        height: usize,
        kind: c_int,
        stream: Handle,
    ) {
        direction(kind)?;
        let it = box_of((target, target_pitch), (source, source_pitch), width, height);
        // SAFETY: as above.
        checked(unsafe { copy::cuMemcpy2DAsync_v2(Some(&it), stream) })
    }

    fn cudaMemcpyToSymbol(symbol: *const c_void, source: u64, bytes: usize, offset: usize, kind: c_int) {
        direction(kind)?;
        transfer(part(symbol, bytes, offset)?, source, bytes, None)
    }

    fn cudaMemcpyToSymbolAsync(
        symbol: *const c_void,
        source: u64,
        bytes: usize,
        offset: usize,
        kind: c_int,
        stream: Handle,
    ) {
        direction(kind)?;
        transfer(part(symbol, bytes, offset)?, source, bytes, Some(stream))
    }

    fn cudaMemcpyFromSymbol(target: u64, symbol: *const c_void, bytes: usize, offset: usize, kind: c_int) {
        direction(kind)?;
        transfer(target, part(symbol, bytes, offset)?, bytes, None)
    }

    fn cudaMemcpyFromSymbolAsync(
        target: u64,
        symbol: *const c_void,
        bytes: usize,
        offset: usize,
        kind: c_int,
        stream: Handle,
    ) {
        direction(kind)?;
        transfer(target, part(symbol, bytes, offset)?, bytes, Some(stream))
    }

    fn cudaGetSymbolAddress(out: Out<DevicePointer>, symbol: *const c_void) {
        put(out, variable(symbol)?.0)
    }

    fn cudaGetSymbolSize(out: Out<usize>, symbol: *const c_void) {
        put(out, variable(symbol)?.1)
    }
}

forwarded! {
    fn cudaMemGetInfo(free: Out<usize>, total: Out<usize>) = memory::cuMemGetInfo_v2(free, total);
    fn cudaMallocHost(out: Out<*mut c_void>, bytes: usize) = memory::cuMemAllocHost_v2(out, bytes);
    fn cudaHostAlloc(out: Out<*mut c_void>, bytes: usize, flags: c_uint) =
        memory::cuMemHostAlloc(out, bytes, flags);
    fn cudaHostRegister(pointer: u64, bytes: usize, flags: c_uint) =
        memory::cuMemHostRegister_v2(pointer, bytes, flags);
    fn cudaHostUnregister(pointer: u64) = memory::cuMemHostUnregister(pointer);
    fn cudaHostGetDevicePointer(out: Out<DevicePointer>, pointer: u64, flags: c_uint) =
        mirror::cuMemHostGetDevicePointer_v2(out, pointer, flags);
    fn cudaMallocAsync(out: Out<DevicePointer>, bytes: usize, stream: Handle) =
        pool::cuMemAllocAsync(out, bytes, stream);
    fn cudaFreeAsync(pointer: DevicePointer, stream: Handle) = pool::cuMemFreeAsync(pointer, stream);
    fn cudaMemset(pointer: DevicePointer, value: c_int, bytes: usize) =
        copy::cuMemsetD8_v2(pointer, value as u8, bytes);
    fn cudaMemsetAsync(pointer: DevicePointer, value: c_int, bytes: usize, stream: Handle) =
        copy::cuMemsetD8Async(pointer, value as u8, bytes, stream);
    fn cudaMemset2D(pointer: DevicePointer, pitch: usize, value: c_int, width: usize, height: usize) =
        copy::cuMemsetD2D8_v2(pointer, pitch, value as u8, width, height);
}
