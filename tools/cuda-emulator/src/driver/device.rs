//! Initialisation, versions, devices and their attributes: those of an RTX 3060 12 GB (`sm_86`).

use std::ffi::{CStr, c_char, c_int, c_uint};

use super::abi::{Out, Uuid, put};
use super::configuration::Configuration;
use super::exports;
use super::state::{device, driver, initialise};
use super::status::{Outcome, Status, describe};

pub const MULTIPROCESSORS: c_int = 28;
pub const WARP_SIZE: u32 = 32;
pub const MAX_THREADS_PER_BLOCK: u32 = 1024;
pub const MAX_THREADS_PER_MULTIPROCESSOR: u32 = 1536;
pub const MAX_BLOCKS_PER_MULTIPROCESSOR: u32 = 16;
pub const REGISTERS_PER_MULTIPROCESSOR: u32 = 65536;
pub const MAX_GRID: [u32; 3] = [0x7fff_ffff, 65535, 65535];
pub const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
/// Shared memory in bytes: of a multiprocessor, of a block by default, of a block that opts in, and
/// what the system keeps of each block.
pub const SHARED_PER_MULTIPROCESSOR: u32 = 102_400;
pub const SHARED_PER_BLOCK: u32 = 49_152;
pub const SHARED_PER_BLOCK_OPTIN: u32 = 101_376;
pub const SHARED_RESERVED_PER_BLOCK: u32 = 1024;
pub const COMPUTE_CAPABILITY: (c_int, c_int) = (8, 6);

const NAME: &[u8] = b"Emulated RTX 3060 (software)";
/// Highest attribute number of CUDA 12.4; unknown numbers below it read as 0.
const LAST_ATTRIBUTE: c_int = 135;

/// `CUdevice_attribute` and its value, for those that are not 0.
const ATTRIBUTES: &[(c_int, c_int)] = &[
    (1, MAX_THREADS_PER_BLOCK as c_int),
    (2, MAX_BLOCK[0] as c_int),
    (3, MAX_BLOCK[1] as c_int),
    (4, MAX_BLOCK[2] as c_int),
    (5, MAX_GRID[0] as c_int),
    (6, MAX_GRID[1] as c_int),
    (7, MAX_GRID[2] as c_int),
    (8, SHARED_PER_BLOCK as c_int),
    (9, 65536), // constant memory
    (10, WARP_SIZE as c_int),
    (11, 0x7fff_ffff), // pitch
    (12, REGISTERS_PER_MULTIPROCESSOR as c_int),
    (13, 1_777_000), // clock, kHz
    (14, 512),       // texture alignment
    (15, 1),         // copies overlap with kernels
    (16, MULTIPROCESSORS),
    (19, 1),         // page-locked memory has device addresses
    (31, 1),         // concurrent kernels
    (33, 1),         // PCI bus
    (36, 7_501_000), // memory clock, kHz
    (37, 192),       // memory bus, bits
    (38, 2_359_296), // L2 cache
    (39, MAX_THREADS_PER_MULTIPROCESSOR as c_int),
    (40, 2),  // copy engines
    (41, 1),  // unified addressing
    (51, 32), // texture pitch alignment
    (75, COMPUTE_CAPABILITY.0),
    (76, COMPUTE_CAPABILITY.1),
    (78, 1), // stream priorities
    (79, 1), // global L1
    (80, 1), // local L1
    (81, SHARED_PER_MULTIPROCESSOR as c_int),
    (82, REGISTERS_PER_MULTIPROCESSOR as c_int),
    (83, 1),  // managed memory
    (87, 32), // single to double precision throughput
    (89, 1),  // managed memory while kernels run
    (90, 1),  // compute preemption
    (95, 1),  // cooperative launch
    (97, SHARED_PER_BLOCK_OPTIN as c_int),
    (99, 1), // host register
    (106, MAX_BLOCKS_PER_MULTIPROCESSOR as c_int),
    (108, 1_769_472),   // persisting L2
    (109, 134_213_632), // access policy window
    (111, SHARED_RESERVED_PER_BLOCK as c_int),
    (115, 1), // memory pools
];

/// Value of an attribute of every emulated device.
///
/// # Errors
/// `CUDA_ERROR_INVALID_VALUE` for a number that is no attribute.
pub fn attribute(number: c_int) -> Outcome<c_int> {
    if !(1..=LAST_ATTRIBUTE).contains(&number) {
        return Err(Status::INVALID_VALUE);
    }
    Ok(ATTRIBUTES.iter().find(|entry| entry.0 == number).map_or(0, |entry| entry.1))
}

/// The lowest and the highest stream priority.
pub const PRIORITIES: (c_int, c_int) = (0, -5);

fn uuid(ordinal: c_int) -> Outcome<Uuid> {
    let index = device(ordinal)?.ordinal as u8;
    let mut bytes = *b"cuda-emulator-00";
    bytes[15] += index;
    Ok(Uuid(bytes))
}

/// Copies a C string into a caller's buffer of `length` bytes, cut to fit and ended by NUL.
fn copy_text(text: &[u8], buffer: *mut c_char, length: c_int) -> Outcome {
    let room = usize::try_from(length).ok().filter(|&n| n > 0).ok_or(Status::INVALID_VALUE)?;
    if buffer.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let count = text.len().min(room - 1);
    // SAFETY: the caller of the C function says that `buffer` holds `length` bytes; count < length.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), count);
        *buffer.add(count) = 0;
    }
    Ok(())
}

fn pci_bus_id(ordinal: c_int) -> Outcome<String> {
    Ok(format!("0000:{:02X}:00.0", device(ordinal)?.ordinal + 1))
}

fn device_of_pci_bus_id(text: &CStr) -> Outcome<c_int> {
    let text = text.to_str().map_err(|_| Status::INVALID_VALUE)?;
    (0..driver()?.devices.len() as c_int)
        .find(|&ordinal| pci_bus_id(ordinal).is_ok_and(|id| id.eq_ignore_ascii_case(text)))
        .ok_or(Status::INVALID_DEVICE)
}

fn put_text(
    code: c_int,
    out: Out<*const c_char>,
    pick: fn((&'static CStr, &'static CStr)) -> &'static CStr,
) -> Outcome {
    let out = out.ok_or(Status::INVALID_VALUE)?;
    let texts = describe(code);
    out.write(texts.map_or(std::ptr::null(), |texts| pick(texts).as_ptr()));
    texts.map(|_| ()).ok_or(Status::INVALID_VALUE)
}

exports! {
    fn cuInit(flags: c_uint) {
        if flags != 0 { Err(Status::INVALID_VALUE) } else { initialise() }
    }

    /// Answers before `cuInit` too, as a driver does.
    fn cuDriverGetVersion(version: Out<c_int>) {
        let known = driver().map(|driver| driver.configuration.driver_version);
        put(version, known.unwrap_or_else(|_| Configuration::from_environment().driver_version))
    }

    fn cuGetErrorName(code: c_int, text: Out<*const c_char>) {
        put_text(code, text, |texts| texts.0)
    }

    fn cuGetErrorString(code: c_int, text: Out<*const c_char>) {
        put_text(code, text, |texts| texts.1)
    }

    fn cuDeviceGetCount(count: Out<c_int>) {
        put(count, driver()?.devices.len() as c_int)
    }

    fn cuDeviceGet(out: Out<c_int>, ordinal: c_int) {
        device(ordinal)?;
        put(out, ordinal)
    }

    fn cuDeviceGetName(name: *mut c_char, length: c_int, ordinal: c_int) {
        device(ordinal)?;
        copy_text(NAME, name, length)
    }

    fn cuDeviceGetUuid(out: Out<Uuid>, ordinal: c_int) {
        put(out, uuid(ordinal)?)
    }

    fn cuDeviceGetUuid_v2(out: Out<Uuid>, ordinal: c_int) {
        put(out, uuid(ordinal)?)
    }

    fn cuDeviceGetLuid(_luid: *mut c_char, _mask: Out<c_uint>, ordinal: c_int) {
        device(ordinal)?;
        Err(Status::NOT_SUPPORTED)
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, ordinal: c_int) {
        put(bytes, device(ordinal)?.memory.capacity() as usize)
    }

    fn cuDeviceGetAttribute(value: Out<c_int>, number: c_int, ordinal: c_int) {
        let index = device(ordinal)?.ordinal;
        // The PCI bus number tells the devices apart.
        put(value, attribute(number)? + if number == 33 { index as c_int } else { 0 })
    }

    fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, ordinal: c_int) {
        device(ordinal)?;
        put(major, COMPUTE_CAPABILITY.0)?;
        put(minor, COMPUTE_CAPABILITY.1)
    }

    fn cuDeviceGetPCIBusId(text: *mut c_char, length: c_int, ordinal: c_int) {
        copy_text(pci_bus_id(ordinal)?.as_bytes(), text, length)
    }

    fn cuDeviceGetByPCIBusId(out: Out<c_int>, text: *const c_char) {
        if text.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller hands in a C string.
        put(out, device_of_pci_bus_id(unsafe { CStr::from_ptr(text) })?)
    }

    fn cuDeviceCanAccessPeer(can: Out<c_int>, ordinal: c_int, peer: c_int) {
        device(ordinal)?;
        device(peer)?;
        put(can, 0)
    }

    fn cuDeviceGetP2PAttribute(value: Out<c_int>, _number: c_int, ordinal: c_int, peer: c_int) {
        device(ordinal)?;
        device(peer)?;
        put(value, 0)
    }

    fn cuProfilerStart() {
        driver().map(|_| ())
    }

    fn cuProfilerStop() {
        driver().map(|_| ())
    }
}
