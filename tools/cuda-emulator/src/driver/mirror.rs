//! Memory that host and device share: managed memory, and page-locked memory that a program asks a device
//! address for.
//!
//! Kernels reach device memory only, so such memory exists twice. Work runs at once and alone: the host's
//! bytes go to the device before it and come back after it, which is what sharing means to a program
//! that waits where it must. Between two pieces of work the host's copy is the true one.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::abi::{DevicePointer, Handle, MemoryLocation, Out};
use super::capture::forbid_while_capturing;
use super::exports;
use super::memory::{Owner, allocate, free_owned, host_range};
use super::state::{Current, Device, Driver, current, lock};
use super::status::{Outcome, Status};
use super::stream::resolve;

/// One range of shared memory.
pub struct Mirror {
    device: Arc<Device>,
    address: u64,
    host: u64,
    bytes: usize,
    /// Pages mapped for the host's copy at the device's own address, of managed memory.
    _pages: Option<Pages>,
}

/// Host pages at a chosen address.
struct Pages {
    start: u64,
    length: usize,
}

const PAGE: u64 = 4096;

impl Pages {
    /// Maps the pages that hold a range, where nothing is mapped yet.
    fn around(address: u64, bytes: usize) -> Option<Self> {
        let start = address / PAGE * PAGE;
        let length = (address + bytes as u64 - start).next_multiple_of(PAGE) as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: the flags ask for fresh pages and refuse an address where something is mapped.
        let mapped =
            unsafe { libc::mmap(start as *mut _, length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        let pages = Self { start: mapped as u64, length };
        // A kernel that does not know the last flag takes the address for a wish.
        (pages.start == start).then_some(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `around` mapped exactly these pages; the range they hold has left the list of mirrors.
        unsafe { libc::munmap(self.start as *mut _, self.length) };
    }
}

/// Brings the host's bytes to the device; the caller holds the execution lock.
pub fn to_device(driver: &Driver) {
    for mirror in lock(&driver.mirrors).iter() {
        // SAFETY: the host's copy is mapped, or page-locked by the program, as long as the mirror is listed.
        let bytes = unsafe { std::slice::from_raw_parts(mirror.host as *const u8, mirror.bytes) };
        // The device's copy is live as long as the mirror is listed, so this cannot fail.
        let _ = mirror.device.memory.write(mirror.address, bytes);
    }
}

/// Brings the device's bytes back; the caller holds the execution lock.
pub fn to_host(driver: &Driver) {
    for mirror in lock(&driver.mirrors).iter() {
        // SAFETY: as in `to_device`; a program may not touch shared memory while work runs on it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(mirror.host as *mut u8, mirror.bytes) };
        // As in `to_device`.
        let _ = mirror.device.memory.read(mirror.address, bytes);
    }
}

fn allocate_managed(current: &Current, bytes: usize) -> Outcome<u64> {
    let address = allocate(current, bytes, "cuMemAllocManaged", None, Owner::Program)?;
    let Some(pages) = Pages::around(address, bytes) else {
        free_owned(current.device(), address);
        return Err(Status::OUT_OF_MEMORY);
    };
    let device = current.device().clone();
    let mirror = Mirror { device, address, host: address, bytes, _pages: Some(pages) };
    lock(&current.driver.mirrors).push(mirror);
    Ok(address)
}

/// The device address of page-locked memory; the first question makes the device's copy.
fn device_pointer(current: &Current, host: u64) -> Outcome<u64> {
    let (start, bytes, _) = host_range(host)?.ok_or(Status::INVALID_VALUE)?;
    let known = |mirror: &Mirror| mirror.host == start && Arc::ptr_eq(&mirror.device, current.device());
    if let Some(mirror) = lock(&current.driver.mirrors).iter().find(|mirror| known(mirror)) {
        return Ok(mirror.address + (host - start));
    }
    let address = allocate(current, bytes, "cuMemHostGetDevicePointer", None, Owner::HostMemory)?;
    let mirror = Mirror { device: current.device().clone(), address, host: start, bytes, _pages: None };
    lock(&current.driver.mirrors).push(mirror);
    Ok(address + (host - start))
}

/// Whether an address is managed memory's.
pub fn is_managed(driver: &Driver, device: &Device, address: u64) -> bool {
    let holds = |mirror: &Mirror| {
        mirror.device.ordinal == device.ordinal
            && mirror.host == mirror.address
            && (mirror.address..mirror.address + mirror.bytes as u64).contains(&address)
    };
    lock(&driver.mirrors).iter().any(holds)
}

/// Ends the sharing of an allocation that is being freed.
pub fn forget_device(driver: &Driver, device: &Device, address: u64) {
    lock(&driver.mirrors)
        .retain(|mirror| mirror.device.ordinal != device.ordinal || mirror.address != address);
}

/// Ends the sharing of page-locked memory that is going, and frees the device's copies.
pub fn forget_host(driver: &Driver, start: u64) {
    let (gone, kept) =
        std::mem::take(&mut *lock(&driver.mirrors)).into_iter().partition(|mirror| mirror.host == start);
    *lock(&driver.mirrors) = kept;
    let gone: Vec<Mirror> = gone;
    for mirror in gone {
        free_owned(&mirror.device, mirror.address);
    }
}

/// Advice and prefetching move nothing here; the range must be managed memory.
fn advise(address: u64, bytes: usize, stream: Option<Handle>) -> Outcome {
    let current = current()?;
    if let Some(stream) = stream {
        resolve(&current, stream)?;
    }
    let last = address.checked_add(bytes as u64).filter(|_| bytes > 0).ok_or(Status::INVALID_VALUE)? - 1;
    let managed = |address| is_managed(current.driver, current.device(), address);
    if managed(address) && managed(last) { Ok(()) } else { Err(Status::INVALID_VALUE) }
}

exports! {
    fn cuMemAllocManaged(pointer: Out<DevicePointer>, bytes: usize, flags: c_uint) {
        let current = current()?;
        forbid_while_capturing(&current)?;
        // CU_MEM_ATTACH_GLOBAL or CU_MEM_ATTACH_HOST.
        let pointer = pointer.filter(|_| matches!(flags, 1 | 2)).ok_or(Status::INVALID_VALUE)?;
        pointer.write(allocate_managed(&current, bytes)?);
        Ok(())
    }

    fn cuMemHostGetDevicePointer_v2(pointer: Out<DevicePointer>, host: u64, flags: c_uint) {
        let current = current()?;
        let pointer = pointer.filter(|_| flags == 0).ok_or(Status::INVALID_VALUE)?;
        pointer.write(device_pointer(&current, host)?);
        Ok(())
    }

    fn cuMemAdvise(pointer: DevicePointer, bytes: usize, _advice: c_int, _device: c_int) {
        advise(pointer, bytes, None)
    }

    fn cuMemAdvise_v2(pointer: DevicePointer, bytes: usize, _advice: c_int, _location: MemoryLocation) {
        advise(pointer, bytes, None)
    }

    fn cuMemPrefetchAsync(pointer: DevicePointer, bytes: usize, _device: c_int, stream: Handle) {
        advise(pointer, bytes, Some(stream))
    }

    fn cuMemPrefetchAsync_v2(
        pointer: DevicePointer,
        bytes: usize,
        _location: MemoryLocation,
        _flags: c_uint,
        stream: Handle,
    ) {
        advise(pointer, bytes, Some(stream))
    }

    fn cuStreamAttachMemAsync(stream: Handle, pointer: DevicePointer, _bytes: usize, _flags: c_uint) {
        advise(pointer, 1, Some(stream))
    }
}
