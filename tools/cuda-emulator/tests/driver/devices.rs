//! Initialisation, devices, contexts, occupancy, entry points by name.

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult::*};

use crate::support::*;

emulated! {
    fn an_rtx_3060_is_described[] {
        start();
        let figures = [
            (Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 28),
            (Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
            (Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 1536),
            (Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 100 << 10),
            (Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10),
            (Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 99 << 10),
            (Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536),
            (Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1_777_000),
            (Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 7_501_000),
            (Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 192),
            (Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 9 << 18),
            (Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 8),
            (Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 6),
            (Attribute::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1),
        ];
        for (attribute, expected) in figures {
            let mut value = -1;
            ok(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, 0) });
            assert_eq!(value, expected, "{attribute:?}");
        }
        let mut name = [0i8; 64];
        let (mut version, mut bytes) = (0, 0);
        unsafe {
            ok(sys::cuDeviceGetName(name.as_mut_ptr(), 64, 0));
            ok(sys::cuDriverGetVersion(&mut version));
            ok(sys::cuDeviceTotalMem_v2(&mut bytes, 0));
        }
        let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) };
        assert_eq!(name.to_str(), Ok("Emulated RTX 3060 (software)"));
        assert_eq!((version, bytes), (12040, 12 << 30));
    }
}

emulated! {
    fn settings_change_version_memory_and_devices[
        "CUDA_EMULATOR_MEMORY" = "2G",
        "CUDA_EMULATOR_DRIVER_VERSION" = "11040",
        "CUDA_EMULATOR_DEVICES" = "2"
    ] {
        start();
        let (mut version, mut bytes, mut count, mut free, mut total) = (0, 0, 0, 0, 0);
        unsafe {
            ok(sys::cuDriverGetVersion(&mut version));
            ok(sys::cuDeviceTotalMem_v2(&mut bytes, 1));
            ok(sys::cuDeviceGetCount(&mut count));
            let held = allocate(1 << 30);
            ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
            assert_eq!((version, bytes, count, free, total), (11040, 2 << 30, 2, 1 << 30, 2 << 30));
            let mut pointer = 0;
            assert_eq!(sys::cuMemAlloc_v2(&mut pointer, (1 << 30) + 1), CUDA_ERROR_OUT_OF_MEMORY);
            ok(sys::cuMemFree_v2(held));
            ok(sys::cuMemAlloc_v2(&mut pointer, 2 << 30));
            ok(sys::cuMemFree_v2(pointer));
        }
    }
}

emulated! {
    fn a_machine_without_a_device_says_so["CUDA_EMULATOR_DEVICES" = "0"] {
        let mut count = 0;
        unsafe {
            assert_eq!(sys::cuInit(0), CUDA_ERROR_NO_DEVICE);
            assert_eq!(sys::cuDeviceGetCount(&mut count), CUDA_ERROR_NOT_INITIALIZED);
        }
        assert!(cudarc::driver::CudaContext::new(0).is_err());
    }
}

emulated! {
    fn a_stub_library_says_so["CUDA_EMULATOR_DEVICES" = "stub"] {
        assert_eq!(unsafe { sys::cuInit(0) }, CUDA_ERROR_STUB_LIBRARY);
        assert!(cudarc::driver::CudaContext::new(0).is_err());
    }
}

emulated! {
    fn a_setting_that_cannot_be_read_is_named["CUDA_EMULATOR_MEMORY" = "much"] {
        start();
        let mut bytes = 0;
        ok(unsafe { sys::cuDeviceTotalMem_v2(&mut bytes, 0) });
        assert_eq!(bytes, 12 << 30);
    } errors(text) {
        assert!(text.contains("CUDA_EMULATOR_MEMORY=much: expected bytes"), "{text}");
    }
}

emulated! {
    fn contexts_stack_by_thread[] {
        unsafe {
            ok(sys::cuInit(0));
            let (mut first, mut second, mut seen) = (null_mut(), null_mut(), null_mut());
            ok(sys::cuCtxCreate_v2(&mut first, 0, 0));
            ok(sys::cuCtxCreate_v2(&mut second, 0, 0));
            ok(sys::cuCtxGetCurrent(&mut seen));
            assert_eq!(seen, second);
            ok(sys::cuCtxPopCurrent_v2(&mut seen));
            ok(sys::cuCtxGetCurrent(&mut seen));
            assert_eq!(seen, first);
            ok(sys::cuCtxPushCurrent_v2(second));
            let other = std::thread::spawn(|| {
                let mut seen = 1 as sys::CUcontext;
                ok(sys::cuCtxGetCurrent(&mut seen));
                seen.is_null() && sys::cuCtxSynchronize() == CUDA_ERROR_INVALID_CONTEXT
            });
            assert!(other.join().unwrap());
            ok(sys::cuCtxDestroy_v2(second));
            ok(sys::cuCtxGetCurrent(&mut seen));
            assert_eq!(seen, first);
            ok(sys::cuCtxDestroy_v2(first));
            assert_eq!(sys::cuCtxDestroy_v2(first), CUDA_ERROR_INVALID_CONTEXT);
        }
    }
}

emulated! {
    fn a_primary_context_counts_its_users_and_frees_what_it_held[] {
        let context = start();
        let (mut again, mut flags, mut active) = (null_mut(), 0, 0);
        unsafe {
            ok(sys::cuDevicePrimaryCtxRetain(&mut again, 0));
            assert_eq!(again, context);
            allocate(1 << 20);
            ok(sys::cuDevicePrimaryCtxRelease_v2(0));
            ok(sys::cuCtxSynchronize());
            ok(sys::cuDevicePrimaryCtxRelease_v2(0));
            assert_eq!(sys::cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
            ok(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
            assert_eq!(active, 0);
            assert_eq!(sys::cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
            ok(sys::cuDevicePrimaryCtxRetain(&mut again, 0));
            let (mut free, mut total) = (0, 0);
            ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
            assert_eq!(free, total);
        }
    } errors(text) {
        assert!(text.contains("leak: 1048576 bytes"), "{text}");
    }
}

emulated! {
    fn limits_and_priorities_are_kept[] {
        start();
        let (mut value, mut least, mut greatest) = (0, 9, 9);
        unsafe {
            ok(sys::cuCtxSetLimit(sys::CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE, 4 << 20));
            ok(sys::cuCtxGetLimit(&mut value, sys::CUlimit::CU_LIMIT_PRINTF_FIFO_SIZE));
            assert_eq!(value, 4 << 20);
            ok(sys::cuCtxGetStreamPriorityRange(&mut least, &mut greatest));
            assert_eq!((least, greatest), (0, -5));
            let mut stream = null_mut();
            ok(sys::cuStreamCreateWithPriority(&mut stream, 1, -99));
            ok(sys::cuStreamGetPriority(stream, &mut least));
            assert_eq!(least, -5);
            ok(sys::cuStreamDestroy_v2(stream));
        }
    }
}

emulated! {
    fn occupancy_is_computed_from_the_kernel[] {
        start();
        let add = kernel("add");
        let (mut blocks, mut grid, mut block) = (0, 0, 0);
        unsafe {
            ok(sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, add, 256, 0));
            assert_eq!(blocks, 6);
            ok(sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, add, 256, 40 << 10));
            assert_eq!(blocks, 2);
            ok(sys::cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, add, None, 0, 0));
            assert_eq!((grid, block), (2 * 28, 768));
        }
    }
}

emulated! {
    fn entry_points_are_found_by_name[] {
        start();
        let mut address = null_mut();
        let find = |name: &std::ffi::CStr, version, address: &mut _| unsafe {
            sys::cuGetProcAddress_v2(name.as_ptr(), address, version, 0, null_mut())
        };
        ok(find(c"cuMemAlloc", 12000, &mut address));
        // SAFETY: this is the type of cuMemAlloc_v2.
        let allocate: unsafe extern "C" fn(*mut u64, usize) -> i32 = unsafe { std::mem::transmute(address) };
        let mut pointer = 0;
        assert_eq!(unsafe { allocate(&mut pointer, 64) }, 0);
        ok(unsafe { sys::cuMemFree_v2(pointer) });
        assert_eq!(find(c"cuNoSuchThing", 12000, &mut address), CUDA_ERROR_NOT_FOUND);
        assert!(address.is_null());
        assert_eq!(find(c"cuMemAlloc", 13000, &mut address), CUDA_ERROR_INVALID_VALUE);
    }
}

emulated! {
    /// Two devices give the same addresses; each has its own bytes.
    fn devices_have_memories_of_their_own["CUDA_EMULATOR_DEVICES" = "2"] {
        let first = start();
        let mut second = null_mut();
        let on_first = upload(&[1, 2]);
        unsafe {
            ok(sys::cuCtxCreate_v2(&mut second, 0, 1));
            let on_second = upload(&[3, 4]);
            ok(sys::cuMemcpyPeer(on_second + 4, second, on_first, first, 4));
            assert_eq!(download(on_second, 2), [3, 1]);
            ok(sys::cuMemFree_v2(on_second));
            let mut can = 1;
            ok(sys::cuDeviceCanAccessPeer(&mut can, 0, 1));
            assert_eq!(can, 0);
            ok(sys::cuCtxDestroy_v2(second));
            ok(sys::cuCtxGetCurrent(&mut second));
            assert_eq!(second, first);
            assert_eq!(download(on_first, 2), [1, 2]);
            ok(sys::cuMemFree_v2(on_first));
        }
    }
}

emulated! {
    /// A program may close the library as soon as it has asked something, and open it again.
    fn closing_the_library_does_not_unload_it[] {
        let name = c"libcuda.so.1".as_ptr();
        // SAFETY: the library is the emulator, and this is the type of cuInit.
        unsafe {
            let library = libc::dlopen(name, libc::RTLD_NOW);
            let initialise = libc::dlsym(library, c"cuInit".as_ptr());
            let initialise: unsafe extern "C" fn(u32) -> i32 = std::mem::transmute(initialise);
            assert_eq!(initialise(0), 0);
            assert_eq!(libc::dlclose(library), 0);
            assert!(!libc::dlopen(name, libc::RTLD_NOW | libc::RTLD_NOLOAD).is_null());
            assert_eq!(initialise(0), 0);
        }
    }
}
