//! Allocation of device memory and of page-locked host memory, and what is known of a pointer.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abi::{DevicePointer, Handle, Out, put, put_if_wanted};
use super::capture::forbid_while_capturing;
use super::exports;
use super::mirror;
use super::state::{Context, Current, Device, Driver, current, driver, exclusive, lock};
use super::status::{Outcome, Status};
use crate::memory::MemoryError;

/// Who frees an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Program,
    /// The graph whose capture made it; the program may free it, which changes nothing.
    Graph,
    /// The page-locked memory whose copy it is.
    HostMemory,
}

/// A program's allocation of device memory.
#[derive(Clone)]
pub struct Allocation {
    pub bytes: u64,
    /// Number of the allocation in the process, from 1.
    pub serial: u64,
    /// The call that made it.
    pub origin: &'static str,
    pub context: Handle,
    pub pool: Option<Handle>,
    pub owner: Owner,
}

/// Page-locked host memory: allocated here, or the program's own and registered.
pub struct HostRange {
    pub bytes: usize,
    pub flags: c_uint,
    pub registered: bool,
    pub origin: &'static str,
}

/// Alignment of page-locked memory: a page.
const HOST_ALIGNMENT: usize = 4096;
const MEMORY_TYPE_HOST: c_uint = 1;
const MEMORY_TYPE_DEVICE: c_uint = 2;
/// Row pitch of `cuMemAllocPitch` is a multiple of this.
const PITCH: usize = 512;

/// Says on standard error why an access from the host was refused; the code is the one a card gives.
pub fn refused(error: &MemoryError) -> Status {
    eprintln!("cuda-emulator: {error}");
    Status::INVALID_VALUE
}

/// Allocates on the current device.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for no bytes, `CUDA_ERROR_OUT_OF_MEMORY`.
pub fn allocate(
    current: &Current,
    bytes: usize,
    origin: &'static str,
    pool: Option<Handle>,
    owner: Owner,
) -> Outcome<u64> {
    if bytes == 0 {
        return Err(Status::INVALID_VALUE);
    }
    let device = current.device();
    let address = device.memory.allocate(bytes as u64).ok_or(Status::OUT_OF_MEMORY)?;
    let serial = current.driver.allocations_made.fetch_add(1, Ordering::Relaxed) + 1;
    let allocation =
        Allocation { bytes: bytes as u64, serial, origin, context: current.context.handle, pool, owner };
    lock(&device.allocations).insert(address, allocation);
    Ok(address)
}

/// Frees what [`allocate`] gave; null is freed already, and what has an owner the owner frees.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for an address that is not the start of a live allocation.
pub fn free(device: &Device, address: u64) -> Outcome {
    if address == 0 {
        return Ok(());
    }
    let _at_rest = exclusive();
    let mut book = lock(&device.allocations);
    match book.get(&address) {
        Some(allocation) if allocation.owner == Owner::Graph => return Ok(()),
        Some(allocation) if allocation.owner == Owner::HostMemory => return Err(Status::INVALID_VALUE),
        Some(_) => {
            book.remove(&address);
            mirror::forget_device(driver()?, device, address);
        }
        None if device.memory.allocation(address).is_some() => {
            return Err(refused(&MemoryError::NotAllocated(address)));
        }
        None => {}
    }
    device.memory.free(address).map_err(|error| refused(&error))
}

/// Frees what a graph or page-locked memory owned.
pub fn free_owned(device: &Device, address: u64) {
    let _at_rest = exclusive();
    // Absent when the context went first and took the memory with it.
    if lock(&device.allocations).remove(&address).is_some() {
        let _ = device.memory.free(address);
    }
}

/// Frees what a dying context still holds.
pub fn free_all_of(driver: &Driver, context: &Context) {
    let _at_rest = exclusive();
    lock(&context.device.allocations).retain(|&address, allocation| {
        let keep = allocation.context != context.handle;
        if !keep {
            mirror::forget_device(driver, &context.device, address);
            // An address in the book is live in the device's memory, so this cannot fail.
            let _ = context.device.memory.free(address);
        }
        keep
    });
}

/// The device that an address of the unified address space belongs to, or none for host memory.
pub fn device_of(current: &Current, address: u64) -> Option<Arc<Device>> {
    let device = current.device();
    device.memory.reserves(address).then(|| device.clone())
}

fn allocate_host(bytes: usize, flags: c_uint, origin: &'static str) -> Outcome<*mut c_void> {
    let current = current()?;
    forbid_while_capturing(&current)?;
    if bytes == 0 {
        return Err(Status::INVALID_VALUE);
    }
    let layout = Layout::from_size_align(bytes, HOST_ALIGNMENT).map_err(|_| Status::OUT_OF_MEMORY)?;
    // SAFETY: the layout has a size above 0.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(Status::OUT_OF_MEMORY);
    }
    lock(&current.driver.host).insert(start as u64, HostRange { bytes, flags, registered: false, origin });
    Ok(start.cast())
}

fn free_host(start: u64) -> Outcome {
    let current = current()?;
    forbid_while_capturing(&current)?;
    if start == 0 {
        return Ok(());
    }
    let mut ranges = lock(&current.driver.host);
    let bytes = ranges.get(&start).filter(|range| !range.registered).ok_or(Status::INVALID_VALUE)?.bytes;
    ranges.remove(&start);
    drop(ranges);
    mirror::forget_host(current.driver, start);
    let layout = Layout::from_size_align(bytes, HOST_ALIGNMENT).map_err(|_| Status::INVALID_VALUE)?;
    // SAFETY: `allocate_host` made it with this layout, and it has just left the table of live ranges.
    unsafe { dealloc(start as *mut u8, layout) };
    Ok(())
}

fn register_host(start: u64, bytes: usize, flags: c_uint) -> Outcome {
    let current = current()?;
    if start == 0 || bytes == 0 || start.checked_add(bytes as u64).is_none() {
        return Err(Status::INVALID_VALUE);
    }
    let mut ranges = lock(&current.driver.host);
    let before = ranges.range(..start + bytes as u64).next_back();
    if before.is_some_and(|(&base, range)| base + range.bytes as u64 > start) {
        return Err(Status::HOST_MEMORY_ALREADY_REGISTERED);
    }
    ranges.insert(start, HostRange { bytes, flags, registered: true, origin: "cuMemHostRegister" });
    Ok(())
}

fn unregister_host(start: u64) -> Outcome {
    let driver = current()?.driver;
    let mut ranges = lock(&driver.host);
    if !ranges.get(&start).is_some_and(|range| range.registered) {
        return Err(Status::HOST_MEMORY_NOT_REGISTERED);
    }
    ranges.remove(&start);
    drop(ranges);
    mirror::forget_host(driver, start);
    Ok(())
}

/// The page-locked range that holds an address: its start, length and flags.
pub fn host_range(address: u64) -> Outcome<Option<(u64, usize, c_uint)>> {
    let ranges = lock(&driver()?.host);
    let range = ranges.range(..=address).next_back();
    Ok(range
        .filter(|(base, range)| address - *base < range.bytes as u64)
        .map(|(&base, range)| (base, range.bytes, range.flags)))
}

/// One `CUpointer_attribute` as up to eight little-endian bytes, and how many of them there are.
fn pointer_attribute(current: &Current, number: c_int, address: u64) -> Outcome<(u64, usize)> {
    let device = device_of(current, address).and_then(|device| device.memory.allocation(address));
    let host = host_range(address)?;
    let (base, length, kind) = match (device, host) {
        (Some((base, length)), _) => (base, length, MEMORY_TYPE_DEVICE),
        (None, Some((base, length, _))) => (base, length as u64, MEMORY_TYPE_HOST),
        (None, None) => return Err(Status::INVALID_VALUE),
    };
    let on_device = kind == MEMORY_TYPE_DEVICE;
    match number {
        1 => Ok((current.context.handle as u64, 8)),
        2 => Ok((kind.into(), 4)),
        3 if on_device => Ok((address, 8)),
        4 if !on_device => Ok((address, 8)),
        3 | 4 => Err(Status::INVALID_VALUE),
        6 | 10 => Ok((0, 4)),
        8 => Ok((mirror::is_managed(current.driver, current.device(), address).into(), 4)),
        7 => Ok((lock(&current.device().allocations).get(&base).map_or(base, |found| found.serial), 8)),
        9 => Ok((current.device().ordinal as u64, 4)),
        11 => Ok((base, 8)),
        12 => Ok((length, 8)),
        13 => Ok((u64::from(on_device), 4)),
        14 | 15 => Ok((0, 8)),
        16 => Ok((3, 4)), // read and write
        17 => Ok((
            lock(&current.device().allocations).get(&base).and_then(|found| found.pool).unwrap_or(0) as u64,
            8,
        )),
        _ => Err(Status::INVALID_VALUE),
    }
}

fn write_attribute(target: *mut c_void, (value, size): (u64, usize)) -> Outcome {
    if target.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller hands in memory of the size cuda.h gives for this attribute, `size` bytes.
    unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), target.cast(), size) };
    Ok(())
}

fn allocate_pitched(
    pointer: Out<DevicePointer>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: c_uint,
) -> Outcome {
    let current = current()?;
    forbid_while_capturing(&current)?;
    if !matches!(element, 4 | 8 | 16) {
        return Err(Status::INVALID_VALUE);
    }
    let row = width.checked_next_multiple_of(PITCH).ok_or(Status::OUT_OF_MEMORY)?;
    let bytes = row.checked_mul(height).ok_or(Status::OUT_OF_MEMORY)?;
    let (pointer, pitch) = (pointer.ok_or(Status::INVALID_VALUE)?, pitch.ok_or(Status::INVALID_VALUE)?);
    pointer.write(allocate(&current, bytes, "cuMemAllocPitch", None, Owner::Program)?);
    pitch.write(row);
    Ok(())
}

fn address_range(base: Out<DevicePointer>, bytes: Out<usize>, address: DevicePointer) -> Outcome {
    let found = current()?.device().memory.allocation(address).ok_or(Status::NOT_FOUND)?;
    put_if_wanted(base, found.0);
    put_if_wanted(bytes, found.1 as usize);
    Ok(())
}

exports! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let current = current()?;
        let memory = &current.device().memory;
        put_if_wanted(free, memory.capacity().saturating_sub(memory.in_use()) as usize);
        put_if_wanted(total, memory.capacity() as usize);
        Ok(())
    }

    fn cuMemAlloc_v2(pointer: Out<DevicePointer>, bytes: usize) {
        let current = current()?;
        forbid_while_capturing(&current)?;
        let pointer = pointer.ok_or(Status::INVALID_VALUE)?;
        pointer.write(allocate(&current, bytes, "cuMemAlloc", None, Owner::Program)?);
        Ok(())
    }

    fn cuMemAllocPitch_v2(
        pointer: Out<DevicePointer>,
        pitch: Out<usize>,
        width: usize,
        height: usize,
        element: c_uint,
    ) {
        allocate_pitched(pointer, pitch, width, height, element)
    }

    fn cuMemFree_v2(pointer: DevicePointer) {
        let current = current()?;
        forbid_while_capturing(&current)?;
        free(current.device(), pointer)
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePointer>, bytes: Out<usize>, pointer: DevicePointer) {
        address_range(base, bytes, pointer)
    }

    fn cuMemAllocHost_v2(out: Out<*mut c_void>, bytes: usize) {
        let out = out.ok_or(Status::INVALID_VALUE)?;
        out.write(allocate_host(bytes, 0, "cuMemAllocHost")?);
        Ok(())
    }

    fn cuMemHostAlloc(out: Out<*mut c_void>, bytes: usize, flags: c_uint) {
        let out = out.ok_or(Status::INVALID_VALUE)?;
        if flags & !7 != 0 {
            return Err(Status::INVALID_VALUE);
        }
        out.write(allocate_host(bytes, flags, "cuMemHostAlloc")?);
        Ok(())
    }

    fn cuMemFreeHost(pointer: u64) {
        free_host(pointer)
    }

    fn cuMemHostRegister_v2(pointer: u64, bytes: usize, flags: c_uint) {
        register_host(pointer, bytes, flags)
    }

    fn cuMemHostUnregister(pointer: u64) {
        unregister_host(pointer)
    }

    fn cuMemHostGetFlags(flags: Out<c_uint>, pointer: u64) {
        current()?;
        put(flags, host_range(pointer)?.ok_or(Status::INVALID_VALUE)?.2)
    }

    fn cuPointerGetAttribute(data: *mut c_void, number: c_int, pointer: DevicePointer) {
        write_attribute(data, pointer_attribute(&current()?, number, pointer)?)
    }

    /// An attribute a pointer does not have is written as 0, and the call succeeds.
    fn cuPointerGetAttributes(
        count: c_uint,
        numbers: *const c_int,
        data: *mut *mut c_void,
        pointer: DevicePointer,
    ) {
        let current = current()?;
        if numbers.is_null() || data.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: the caller hands in two arrays of `count` elements.
            let (number, target) = unsafe { (*numbers.add(index), *data.add(index)) };
            let size = if matches!(number, 2 | 6 | 8 | 9 | 10 | 13 | 16) { 4 } else { 8 };
            write_attribute(target, pointer_attribute(&current, number, pointer).unwrap_or((0, size)))?;
        }
        Ok(())
    }

    fn cuPointerSetAttribute(_value: *const c_void, number: c_int, pointer: DevicePointer) {
        // CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: every operation is synchronous here.
        if number != 6 {
            return Err(Status::INVALID_VALUE);
        }
        address_range(None, None, pointer).map_err(|_| Status::INVALID_VALUE)
    }
}
