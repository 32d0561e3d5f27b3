//! The runtime API, called as the code that nvcc generates calls it: a fat binary is registered, and host
//! symbols for what is in it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};

use crate::support::KERNELS;

/// `dim3`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extent(c_uint, c_uint, c_uint);

type Handle = *mut *mut c_void;

/// A function of the library under test; its type is that of the public headers.
macro_rules! runtime {
    ($name:ident: $ty:ty) => {{
        let (library, name) = (c"libcudart.so", CString::new(stringify!($name)).unwrap());
        // SAFETY: the name of the function says its type (cuda_runtime_api.h, crt/host_runtime.h).
        unsafe {
            let library = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
            assert!(!library.is_null(), "the library has the runtime's name too");
            let found = libc::dlsym(library, name.as_ptr());
            assert!(!found.is_null(), "{} is missing", stringify!($name));
            std::mem::transmute::<*mut c_void, $ty>(found)
        }
    }};
}

/// A fat binary with one PTX text, as it is, and the structure that points to it. Both live for ever.
fn fat_binary(ptx: &str) -> *mut c_void {
    let text = [ptx.as_bytes(), &[0]].concat();
    let mut bytes = Vec::new();
    for word in [0xba55_ed50u32, 0x0010_0001] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend((64 + text.len() as u64).to_le_bytes());
    for word in [0x0101_0001, 64, text.len() as u32, 0, 0, 0, 0, 80] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.resize(16 + 64, 0);
    bytes.extend(text);
    let binary = Box::leak(bytes.into_boxed_slice());
    let wrapper: [usize; 3] = [0x1_4662_43b1, binary.as_ptr() as usize, 0];
    Box::leak(Box::new(wrapper)).as_mut_ptr().cast()
}

/// Registers `set` and `answer` of a module of this test's under two host addresses.
fn register(stub: *const c_void, variable: *const c_void) -> Handle {
    let binary = runtime!(__cudaRegisterFatBinary: unsafe extern "C" fn(*mut c_void) -> Handle);
    let end = runtime!(__cudaRegisterFatBinaryEnd: unsafe extern "C" fn(Handle));
    let function = runtime!(__cudaRegisterFunction: unsafe extern "C" fn(
        Handle, *const c_void, *const c_char, *const c_char, c_int,
        *const c_void, *const c_void, *const c_void, *const c_void, *const c_int));
    let global = runtime!(__cudaRegisterVar: unsafe extern "C" fn(
        Handle, *const c_void, *const c_char, *const c_char, c_int, usize, c_int, c_int));
    let text = format!("{KERNELS}\n.visible .global .align 4 .u32 answer[2] = {{41, 42}};\n");
    unsafe {
        let handle = binary(fat_binary(&text));
        let (set, answer) = (c"set".as_ptr(), c"answer".as_ptr());
        function(handle, stub, set, set, -1, null(), null(), null(), null(), null());
        global(handle, variable, answer, answer, 0, 8, 0, 0);
        end(handle);
        handle
    }
}

emulated! {
    /// Memory, a launch through `<<< >>>`, a variable, and the codes of what cannot be.
    fn generated_code_runs[] {
        let (stub, variable) = ([0u8; 1], [0u32; 2]);
        let (stub, variable) = (stub.as_ptr().cast(), variable.as_ptr().cast());
        let handle = register(stub, variable);
        let malloc = runtime!(cudaMalloc: unsafe extern "C" fn(*mut u64, usize) -> c_int);
        let free = runtime!(cudaFree: unsafe extern "C" fn(u64) -> c_int);
        let copy = runtime!(cudaMemcpy: unsafe extern "C" fn(u64, u64, usize, c_int) -> c_int);
        let push = runtime!(__cudaPushCallConfiguration:
            unsafe extern "C" fn(Extent, Extent, usize, usize) -> c_uint);
        let pop = runtime!(__cudaPopCallConfiguration:
            unsafe extern "C" fn(*mut Extent, *mut Extent, *mut usize, *mut usize) -> c_int);
        let launch = runtime!(cudaLaunchKernel:
            unsafe extern "C" fn(*const c_void, Extent, Extent, *mut *mut c_void, usize, usize) -> c_int);
        let last = runtime!(cudaGetLastError: unsafe extern "C" fn() -> c_int);
        let from = runtime!(cudaMemcpyFromSymbol:
            unsafe extern "C" fn(u64, *const c_void, usize, usize, c_int) -> c_int);
        let text = runtime!(cudaGetErrorName: unsafe extern "C" fn(c_int) -> *const c_char);
        let unregister = runtime!(__cudaUnregisterFatBinary: unsafe extern "C" fn(Handle));
        let one = Extent(1, 1, 1);
        unsafe {
            let (mut pointer, mut value, mut word) = (0u64, 7u32, 0u32);
            assert_eq!(malloc(&mut pointer, 4), 0);
            assert_eq!(push(one, one, 0, 0), 0);
            let (mut grid, mut block, mut shared, mut stream) = (Extent(0, 0, 0), Extent(0, 0, 0), 1, 1);
            assert_eq!(pop(&mut grid, &mut block, &mut shared, &mut stream), 0);
            assert_eq!((grid.0, block.2, shared, stream), (1, 1, 0, 0));
            assert_ne!(pop(&mut grid, &mut block, &mut shared, &mut stream), 0, "nothing was pushed");
            let mut arguments: [*mut c_void; 2] = [(&raw mut pointer).cast(), (&raw mut value).cast()];
            assert_eq!(last(), 9, "the failure of that call is kept");
            assert_eq!(launch(stub, grid, block, arguments.as_mut_ptr(), 0, 0), 0);
            assert_eq!(copy(&raw mut word as u64, pointer, 4, 2), 0);
            assert_eq!(word, 7);
            assert_eq!(from(&raw mut word as u64, variable, 4, 4, 2), 0);
            assert_eq!(word, 42);
            assert_eq!(from(&raw mut word as u64, variable, 8, 4, 2), 1, "past the variable's end");
            assert_eq!(from(&raw mut word as u64, stub, 4, 0, 2), 13, "no variable");
            let large = Extent(1, 2000, 1);
            assert_eq!(launch(stub, grid, large, arguments.as_mut_ptr(), 0, 0), 9);
            assert_eq!(launch(variable, grid, block, null_mut(), 0, 0), 98, "no kernel");
            assert_eq!(copy(pointer, pointer, 4, 5), 21, "no direction");
            assert_eq!((last(), last()), (21, 0));
            assert_eq!(CStr::from_ptr(text(98)), c"cudaErrorInvalidDeviceFunction");
            assert_eq!(free(pointer), 0);
            unregister(handle);
            assert_eq!(launch(stub, grid, block, arguments.as_mut_ptr(), 0, 0), 98);
        }
    }
    errors(text) { assert!(text.is_empty(), "{text}"); }
}

emulated! {
    /// The structures of CUDA 12 and 13 lie differently.
    fn properties_have_both_layouts[] {
        type Get = unsafe extern "C" fn(*mut u8, c_int) -> c_int;
        let newer = runtime!(cudaGetDeviceProperties: Get);
        let older = runtime!(cudaGetDeviceProperties_v2: Get);
        // Length of the structure and offset of multiProcessorCount (driver_types.h of the two).
        for (get, length, at) in [(older, 1032, 388), (newer, 1008, 384)] {
            let mut bytes = vec![0xee; length + 1];
            assert_eq!(unsafe { get(bytes.as_mut_ptr(), 0) }, 0);
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert!(bytes.starts_with(b"Emulated RTX 3060"));
            assert_eq!((word(360), word(364), word(at), word(324)), (8, 6, 28, 1024));
            assert_eq!(bytes[length], 0xee, "the structure ends there");
            assert_eq!(unsafe { get(bytes.as_mut_ptr(), 1) }, 101);
        }
    }
}
