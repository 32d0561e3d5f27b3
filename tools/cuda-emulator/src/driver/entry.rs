//! Entry points by name (`cuGetProcAddress`): how the CUDA runtime and newer programs find the driver.

use std::ffi::{CStr, c_char, c_int, c_void};

use super::abi::{Out, put, put_if_wanted};
use super::exports;
use super::state::driver;
use super::status::{Outcome, Status};

/// `CUdriverProcAddressQueryResult`.
const FOUND: c_int = 0;
const NOT_FOUND: c_int = 1;
const TOO_OLD: c_int = 2;

/// Names whose unversioned symbol has an older form, the version that brought the newer one, and that.
const SINCE: &[(&str, c_int, &str)] = &[
    ("cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"),
    ("cuGraphAddKernelNode", 12000, "cuGraphAddKernelNode_v2"),
    ("cuGraphKernelNodeGetParams", 12000, "cuGraphKernelNodeGetParams_v2"),
    ("cuGraphKernelNodeSetParams", 12000, "cuGraphKernelNodeSetParams_v2"),
    ("cuGraphExecKernelNodeSetParams", 12000, "cuGraphExecKernelNodeSetParams_v2"),
    ("cuGraphExecUpdate", 12000, "cuGraphExecUpdate_v2"),
    ("cuStreamGetCaptureInfo", 12000, "cuStreamGetCaptureInfo_v2"),
    ("cuDeviceGetUuid", 11040, "cuDeviceGetUuid_v2"),
    ("cuCtxCreate", 13000, "cuCtxCreate_v4"),
    ("cuGetProcAddress", 12000, "cuGetProcAddress_v2"),
];

/// Names the table that the runtime library asks for before it does anything else.
const RUNTIME_TABLE: [u8; 16] =
    [0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9];

fn tables() -> [&'static [(&'static str, *const ())]; 17] {
    [
        super::device::ENTRIES,
        super::context::ENTRIES,
        super::module::ENTRIES,
        super::library::ENTRIES,
        super::link::ENTRIES,
        super::absent::ENTRIES,
        super::occupancy::ENTRIES,
        super::launch::ENTRIES,
        super::memory::ENTRIES,
        super::mirror::ENTRIES,
        super::pool::ENTRIES,
        super::copy::ENTRIES,
        super::stream::ENTRIES,
        super::event::ENTRIES,
        super::graph::ENTRIES,
        super::graph_nodes::ENTRIES,
        ENTRIES,
    ]
}

fn symbol(name: &str) -> Option<*const ()> {
    tables().into_iter().flatten().find(|entry| entry.0 == name).map(|entry| entry.1)
}

/// The newest form of a function that a program built for `version` expects under the plain name.
fn lookup(name: &str, version: c_int) -> Option<*const ()> {
    if let Some(newer) = SINCE.iter().find(|entry| entry.0 == name && version >= entry.1) {
        return symbol(newer.2);
    }
    symbol(name).or_else(|| symbol(&format!("{name}_v2")))
}

fn find(name: *const c_char, out: Out<*const ()>, version: c_int, status: Out<c_int>) -> Outcome {
    let out = out.ok_or(Status::INVALID_VALUE)?.write(std::ptr::null());
    if name.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller hands in a C string.
    let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Status::INVALID_VALUE)?;
    if driver().is_ok_and(|driver| version > driver.configuration.driver_version) {
        put_if_wanted(status, TOO_OLD);
        return Err(Status::INVALID_VALUE);
    }
    match lookup(name, version) {
        Some(address) => {
            *out = address;
            put_if_wanted(status, FOUND);
            Ok(())
        }
        None => {
            put_if_wanted(status, NOT_FOUND);
            Err(Status::NOT_FOUND)
        }
    }
}

exports! {
    fn cuGetProcAddress(name: *const c_char, out: Out<*const ()>, version: c_int, _flags: u64) {
        find(name, out, version, None)
    }

    fn cuGetProcAddress_v2(
        name: *const c_char,
        out: Out<*const ()>,
        version: c_int,
        _flags: u64,
        status: Out<c_int>,
    ) {
        find(name, out, version, status)
    }

    /// Private tables between NVIDIA's libraries and its driver: there are none here.
    fn cuGetExportTable(table: Out<*const c_void>, id: *const [u8; 16]) {
        put(table, std::ptr::null())?;
        // SAFETY: the caller hands in a UUID, or null.
        if unsafe { id.as_ref() } == Some(&RUNTIME_TABLE) {
            static ONCE: std::sync::Once = std::sync::Once::new();
            ONCE.call_once(|| {
                eprintln!(
                    "cuda-emulator: NVIDIA's CUDA runtime library needs NVIDIA's driver; link with `nvcc -cudart shared` \
                     and let the loader find the emulator as libcudart.so.12 or libcudart.so.13 too"
                );
            });
        }
        Err(Status::NOT_FOUND)
    }
}
