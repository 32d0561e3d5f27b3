//! Devices and their properties.

use std::ffi::{c_int, c_uint};
use std::mem::MaybeUninit;

use super::{DEVICE, checked, enter, forwarded, ready, register, runtime};
use crate::driver::abi::{Out, put};
use crate::driver::device::{self, MAX_BLOCK, MAX_GRID, attribute};
use crate::driver::status::{Outcome, Status};
use crate::driver::{context, state};

/// `cudaDeviceProp` of CUDA 12 and 13: length in bytes, then offset, width in bytes and driver attribute of
/// its fields. Fields that are 0 here are left out; name, UUID, memory and extents have their places below.
type Layout = (usize, &'static [(usize, usize, c_int)]);
#[rustfmt::skip] // One field in a line.
const CUDA_12: Layout = (1032, &[
    (296, 8, 8),
    (304, 4, 12),
    (308, 4, 10),
    (312, 8, 11),
    (320, 4, 1),
    (348, 4, 13),
    (352, 8, 9),
    (360, 4, 75),
    (364, 4, 76),
    (368, 8, 14),
    (376, 8, 51),
    (384, 4, 15),
    (388, 4, 16),
    (392, 4, 17),
    (396, 4, 18),
    (400, 4, 19),
    (404, 4, 20),
    (576, 4, 31),
    (580, 4, 32),
    (584, 4, 33),
    (588, 4, 34),
    (592, 4, 50),
    (600, 4, 40),
    (604, 4, 41),
    (608, 4, 36),
    (612, 4, 37),
    (616, 4, 38),
    (620, 4, 108),
    (624, 4, 39),
    (628, 4, 78),
    (632, 4, 79),
    (636, 4, 80),
    (640, 8, 81),
    (648, 4, 82),
    (652, 4, 83),
    (656, 4, 84),
    (660, 4, 85),
    (672, 4, 88),
    (676, 4, 89),
    (680, 4, 90),
    (684, 4, 91),
    (688, 4, 95),
    (696, 8, 97),
    (712, 4, 106),
    (716, 4, 109),
    (720, 8, 111),
    (728, 4, 99),
    (744, 4, 115),
]);
#[rustfmt::skip] // As above.
const CUDA_13: Layout = (1008, &[
    (296, 8, 8),
    (304, 4, 12),
    (308, 4, 10),
    (312, 8, 11),
    (320, 4, 1),
    (352, 8, 9),
    (360, 4, 75),
    (364, 4, 76),
    (368, 8, 14),
    (376, 8, 51),
    (384, 4, 16),
    (388, 4, 18),
    (392, 4, 19),
    (560, 4, 31),
    (564, 4, 32),
    (568, 4, 33),
    (572, 4, 34),
    (576, 4, 50),
    (584, 4, 40),
    (588, 4, 41),
    (592, 4, 37),
    (596, 4, 38),
    (600, 4, 108),
    (604, 4, 39),
    (608, 4, 78),
    (612, 4, 79),
    (616, 4, 80),
    (624, 8, 81),
    (632, 4, 82),
    (636, 4, 83),
    (640, 4, 84),
    (644, 4, 85),
    (652, 4, 88),
    (656, 4, 89),
    (660, 4, 90),
    (664, 4, 91),
    (668, 4, 95),
    (672, 8, 97),
    (688, 4, 106),
    (692, 4, 109),
    (696, 8, 111),
    (704, 4, 99),
    (720, 4, 115),
]);
/// Offsets that both have in common.
const NAME: (usize, c_int) = (0, 256);
const UUID: usize = 256;
const TOTAL_MEMORY: usize = 288;
const EXTENT_OF_BLOCK: usize = 324;
const EXTENT_OF_GRID: usize = 336;

/// The bytes of the structure for a device.
fn properties(layout: Layout, ordinal: c_int) -> Outcome<Vec<u8>> {
    // SAFETY: the call has no pointers.
    checked(unsafe { device::cuInit(0) })?;
    let mut bytes = vec![0; layout.0];
    let (mut uuid, mut total) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the results are variables of this function, and the name has the room that is said.
    unsafe {
        checked(device::cuDeviceGetName(bytes[NAME.0..].as_mut_ptr().cast(), NAME.1, ordinal))?;
        checked(device::cuDeviceGetUuid_v2(Some(&mut uuid), ordinal))?;
        checked(device::cuDeviceTotalMem_v2(Some(&mut total), ordinal))?;
    }
    let mut place = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    // SAFETY: calls that succeed have written their results.
    let (uuid, total) = unsafe { (uuid.assume_init(), total.assume_init()) };
    place(UUID, &uuid.0);
    place(TOTAL_MEMORY, &total.to_le_bytes());
    for axis in 0..3 {
        place(EXTENT_OF_BLOCK + 4 * axis, &MAX_BLOCK[axis].to_le_bytes());
        place(EXTENT_OF_GRID + 4 * axis, &MAX_GRID[axis].to_le_bytes());
    }
    for &(offset, width, number) in layout.1 {
        let mut value = MaybeUninit::uninit();
        // SAFETY: the result is a variable of this function.
        checked(unsafe { device::cuDeviceGetAttribute(Some(&mut value), number, ordinal) })?;
        // SAFETY: a call that succeeds has written its result.
        let value = i64::from(unsafe { value.assume_init() });
        place(offset, &value.to_le_bytes()[..width]);
    }
    Ok(bytes)
}

fn put_properties(out: *mut u8, layout: Layout, ordinal: c_int) -> Outcome {
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let bytes = properties(layout, ordinal)?;
    // SAFETY: the caller hands in a structure of this layout.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out, bytes.len()) };
    Ok(())
}

runtime! {
    fn cudaGetDeviceCount(count: Out<c_int>) {
        // SAFETY: the call has no pointers.
        checked(unsafe { device::cuInit(0) })?;
        // SAFETY: the result's place is the caller's.
        checked(unsafe { device::cuDeviceGetCount(count) })
    }

    fn cudaGetDevice(out: Out<c_int>) {
        put(out, DEVICE.get())
    }

    fn cudaSetDevice(ordinal: c_int) {
        // SAFETY: the call has no pointers.
        checked(unsafe { device::cuInit(0) })?;
        state::device(ordinal)?;
        enter(ordinal)
    }

    fn cudaDeviceReset() {
        ready()?;
        register::forget_loaded();
        // SAFETY: the call has no pointers.
        checked(unsafe { context::cuDevicePrimaryCtxReset_v2(DEVICE.get()) })?;
        state::set_context(0);
        Ok(())
    }

    /// The structure of CUDA 12.
    fn cudaGetDeviceProperties_v2(out: *mut u8, ordinal: c_int) {
        put_properties(out, CUDA_12, ordinal)
    }

    /// The structure of CUDA 13.
    fn cudaGetDeviceProperties(out: *mut u8, ordinal: c_int) {
        put_properties(out, CUDA_13, ordinal)
    }

    fn cudaDeviceGetAttribute(out: Out<c_int>, number: c_int, ordinal: c_int) {
        state::device(ordinal)?;
        put(out, attribute(number)?)
    }

    fn cudaDriverGetVersion(out: Out<c_int>) {
        // SAFETY: the result's place is the caller's.
        checked(unsafe { device::cuDriverGetVersion(out) })
    }

    /// That of the driver.
    fn cudaRuntimeGetVersion(out: Out<c_int>) {
        // SAFETY: as above.
        checked(unsafe { device::cuDriverGetVersion(out) })
    }

    fn cudaSetDeviceFlags(flags: c_uint) {
        // SAFETY: the call has no pointers.
        checked(unsafe { context::cuDevicePrimaryCtxSetFlags_v2(DEVICE.get(), flags) })
    }
}

forwarded! {
    fn cudaDeviceSynchronize() = context::cuCtxSynchronize();
    fn cudaDeviceGetLimit(out: Out<usize>, number: c_int) = context::cuCtxGetLimit(out, number);
    fn cudaDeviceSetLimit(number: c_int, value: usize) = context::cuCtxSetLimit(number, value);
    fn cudaDeviceSetCacheConfig(choice: c_int) = context::cuCtxSetCacheConfig(choice);
    fn cudaDeviceGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) =
        context::cuCtxGetStreamPriorityRange(least, greatest);
}
