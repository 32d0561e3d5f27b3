//! Stream-ordered allocation and memory pools. A pool is a label on allocations: what it frees goes
//! back to the device at once, and is fresh and uninitialised when it comes again.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use super::abi::{DevicePointer, Handle, In, MemoryLocation, Out, PoolProperties, put};
use super::capture;
use super::exports;
use super::memory::{Owner, allocate, free};
use super::operation::Operation;
use super::state::{Current, Device, current, device, driver, lock, new_handle};
use super::status::{Outcome, Status};
use super::stream::{Stream, resolve, submit};

/// A memory pool of one device.
pub struct Pool {
    pub device: usize,
    default: bool,
    /// Attributes that a program sets, by `CUmemPool_attribute`.
    attributes: Mutex<HashMap<c_int, u64>>,
    high: Mutex<u64>,
}

impl Pool {
    fn of(device: usize, default: bool) -> Self {
        Self { device, default, attributes: Mutex::new([(1, 1), (2, 1), (3, 1)].into()), high: Mutex::new(0) }
    }
}

const LOCATION_DEVICE: c_int = 1;

fn default_pool(device: &Device) -> Outcome<Handle> {
    let driver = driver()?;
    Ok(*device.default_pool.get_or_init(|| {
        let handle = new_handle();
        driver.pools.insert(handle, Pool::of(device.ordinal, true));
        handle
    }))
}

fn current_pool(device: &Device) -> Outcome<Handle> {
    let chosen = *lock(&device.pool);
    chosen.map_or_else(|| default_pool(device), Ok)
}

fn used(device: &Device, pool: Handle) -> u64 {
    lock(&device.allocations).values().filter(|found| found.pool == Some(pool)).map(|found| found.bytes).sum()
}

fn allocate_async(
    current: &Current,
    stream: &Stream,
    bytes: usize,
    pool: Handle,
    origin: &'static str,
) -> Outcome<u64> {
    let object = current.driver.pools.get(pool)?;
    if object.device != current.device().ordinal {
        return Err(Status::INVALID_VALUE);
    }
    let graph = capture::graph_of(stream)?;
    let owner = if graph.is_some() { Owner::Graph } else { Owner::Program };
    let address = allocate(current, bytes, origin, Some(pool), owner)?;
    if let Some(graph) = graph {
        graph.own(current.device().clone(), address);
    }
    let mut high = lock(&object.high);
    *high = (*high).max(used(current.device(), pool));
    submit(stream, Operation::Allocate)?;
    Ok(address)
}

fn free_async(pointer: DevicePointer, stream: Handle) -> Outcome {
    let current = current()?;
    let stream = resolve(&current, stream)?;
    if capture::graph_of(&stream)?.is_some() {
        return submit(&stream, Operation::Free);
    }
    free(current.device(), pointer)
}

fn attribute(pool: Handle, number: c_int) -> Outcome<u64> {
    let driver = driver()?;
    let object = driver.pools.get(pool)?;
    let used = used(&driver.devices[object.device], pool);
    match number {
        1..=4 => Ok(lock(&object.attributes).get(&number).copied().unwrap_or(0)),
        5 | 7 => Ok(used),
        6 | 8 => Ok((*lock(&object.high)).max(used)),
        _ => Err(Status::INVALID_VALUE),
    }
}

/// Bytes of a pool attribute's value: `int` for the first three, `cuuint64_t` for the rest.
fn attribute_bytes(number: c_int) -> usize {
    if number <= 3 { 4 } else { 8 }
}

fn set_attribute(pool: Handle, number: c_int, value: u64) -> Outcome {
    let object = driver()?.pools.get(pool)?;
    match number {
        1..=4 => drop(lock(&object.attributes).insert(number, value)),
        6 | 8 if value == 0 => *lock(&object.high) = 0,
        _ => return Err(Status::INVALID_VALUE),
    }
    Ok(())
}

exports! {
    fn cuMemAllocAsync(pointer: Out<DevicePointer>, bytes: usize, stream: Handle) {
        let pointer = pointer.ok_or(Status::INVALID_VALUE)?;
        let current = current()?;
        let stream = resolve(&current, stream)?;
        let pool = current_pool(current.device())?;
        pointer.write(allocate_async(&current, &stream, bytes, pool, "cuMemAllocAsync")?);
        Ok(())
    }

    fn cuMemAllocFromPoolAsync(pointer: Out<DevicePointer>, bytes: usize, pool: Handle, stream: Handle) {
        let pointer = pointer.ok_or(Status::INVALID_VALUE)?;
        let current = current()?;
        let stream = resolve(&current, stream)?;
        pointer.write(allocate_async(&current, &stream, bytes, pool, "cuMemAllocFromPoolAsync")?);
        Ok(())
    }

    fn cuMemFreeAsync(pointer: DevicePointer, stream: Handle) {
        free_async(pointer, stream)
    }

    fn cuDeviceGetDefaultMemPool(out: Out<Handle>, ordinal: c_int) {
        put(out, default_pool(device(ordinal)?)?)
    }

    fn cuDeviceGetMemPool(out: Out<Handle>, ordinal: c_int) {
        put(out, current_pool(device(ordinal)?)?)
    }

    fn cuDeviceSetMemPool(ordinal: c_int, pool: Handle) {
        let device = device(ordinal)?;
        if driver()?.pools.get(pool)?.device != device.ordinal {
            return Err(Status::INVALID_VALUE);
        }
        *lock(&device.pool) = Some(pool);
        Ok(())
    }

    fn cuMemPoolCreate(out: Out<Handle>, properties: In<PoolProperties>) {
        let (out, properties) = (out.ok_or(Status::INVALID_VALUE)?, properties.ok_or(Status::INVALID_VALUE)?);
        if properties.location.kind != LOCATION_DEVICE {
            return Err(Status::NOT_SUPPORTED);
        }
        let owner = device(properties.location.id)?.ordinal;
        let handle = new_handle();
        driver()?.pools.insert(handle, Pool::of(owner, false));
        out.write(handle);
        Ok(())
    }

    fn cuMemPoolDestroy(pool: Handle) {
        let driver = driver()?;
        if driver.pools.get(pool)?.default {
            return Err(Status::INVALID_VALUE);
        }
        let object = driver.pools.remove(pool)?;
        let mut chosen = lock(&driver.devices[object.device].pool);
        *chosen = chosen.filter(|&handle| handle != pool);
        Ok(())
    }

    fn cuMemPoolTrimTo(pool: Handle, _bytes: usize) {
        driver()?.pools.get(pool).map(|_| ())
    }

    fn cuMemPoolGetAttribute(pool: Handle, number: c_int, value: *mut c_void) {
        let found = attribute(pool, number)?;
        if value.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let bytes = found.to_le_bytes();
        // SAFETY: the caller hands in memory of the attribute's size.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast(), attribute_bytes(number)) };
        Ok(())
    }

    fn cuMemPoolSetAttribute(pool: Handle, number: c_int, value: *const c_void) {
        if value.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let mut bytes = [0; 8];
        // SAFETY: the caller hands in a value of the attribute's size.
        unsafe { std::ptr::copy_nonoverlapping(value.cast(), bytes.as_mut_ptr(), attribute_bytes(number)) };
        set_attribute(pool, number, u64::from_le_bytes(bytes))
    }

    fn cuMemPoolSetAccess(pool: Handle, _access: *const c_void, _count: usize) {
        driver()?.pools.get(pool).map(|_| ())
    }

    fn cuMemPoolGetAccess(flags: Out<c_int>, pool: Handle, location: In<MemoryLocation>) {
        let owner = driver()?.pools.get(pool)?.device;
        let location = location.ok_or(Status::INVALID_VALUE)?;
        put(flags, if location.id as usize == owner { 3 } else { 0 })
    }
}
