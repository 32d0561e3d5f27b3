//! The right code for everything wrong.

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult, CUresult::*};

use crate::support::*;

emulated! {
    fn nothing_works_before_initialisation[] {
        let (mut count, mut pointer) = (0, 0);
        unsafe {
            assert_eq!(sys::cuDeviceGetCount(&mut count), CUDA_ERROR_NOT_INITIALIZED);
            assert_eq!(sys::cuMemAlloc_v2(&mut pointer, 4), CUDA_ERROR_NOT_INITIALIZED);
            assert_eq!(sys::cuInit(1), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuInit(0));
            ok(sys::cuInit(0));
            assert_eq!(sys::cuMemAlloc_v2(&mut pointer, 4), CUDA_ERROR_INVALID_CONTEXT);
            assert_eq!(sys::cuDeviceGet(&mut count, 1), CUDA_ERROR_INVALID_DEVICE);
            assert_eq!(sys::cuDeviceGet(&mut count, -1), CUDA_ERROR_INVALID_DEVICE);
            assert_eq!(sys::cuDeviceGetCount(null_mut()), CUDA_ERROR_INVALID_VALUE);
        }
    }
}

emulated! {
    fn codes_have_their_names_and_texts[] {
        let mut text = std::ptr::null();
        for (code, name, description) in [
            (CUDA_SUCCESS, c"CUDA_SUCCESS", c"no error"),
            (CUDA_ERROR_INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
            (CUDA_ERROR_ILLEGAL_ADDRESS, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered"),
            (CUDA_ERROR_LAUNCH_FAILED, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
        ] {
            unsafe {
                ok(sys::cuGetErrorName(code, &mut text));
                assert_eq!(CStr::from_ptr(text), name);
                ok(sys::cuGetErrorString(code, &mut text));
                assert_eq!(CStr::from_ptr(text), description);
            }
        }
    }
}

emulated! {
    fn handles_that_are_none_are_refused[] {
        start();
        let bogus = 0x1234_5670 as *mut c_void;
        let mut function = null_mut();
        unsafe {
            assert_eq!(sys::cuModuleUnload(bogus.cast()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuModuleGetFunction(&mut function, bogus.cast(), c"f".as_ptr()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuStreamSynchronize(bogus.cast()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuStreamDestroy_v2(bogus.cast()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuStreamDestroy_v2(null_mut()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuEventRecord(bogus.cast(), null_mut()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuGraphLaunch(bogus.cast(), null_mut()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuGraphDestroy(bogus.cast()), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuCtxSetCurrent(bogus.cast()), CUDA_ERROR_INVALID_CONTEXT);
            assert_eq!(launch(bogus.cast(), 1, 1, 0, null_mut(), &mut []), CUDA_ERROR_INVALID_HANDLE);
            let module = load(KERNELS).unwrap();
            assert_eq!(sys::cuModuleGetFunction(&mut function, module, c"absent".as_ptr()), CUDA_ERROR_NOT_FOUND);
            let (mut address, mut bytes) = (0, 0);
            assert_eq!(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"absent".as_ptr()), CUDA_ERROR_NOT_FOUND);
            let add = crate::support::function(module, "add");
            ok(sys::cuModuleUnload(module));
            assert_eq!(launch(add, 1, 1, 0, null_mut(), &mut []), CUDA_ERROR_INVALID_HANDLE);
            assert_eq!(sys::cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
        }
    }
}

emulated! {
    fn launches_beyond_the_device_are_refused[] {
        start();
        let module = load(KERNELS).unwrap();
        let (narrow, trap) = (function(module, "narrow"), function(module, "trap_now"));
        let refused = |grid: [u32; 3], block: [u32; 3], shared| {
            let [gx, gy, gz] = grid;
            let [bx, by, bz] = block;
            unsafe { sys::cuLaunchKernel(trap, gx, gy, gz, bx, by, bz, shared, null_mut(), null_mut(), null_mut()) }
        };
        for (grid, block, shared) in [
            ([0, 1, 1], [1, 1, 1], 0),
            ([1, 1, 1], [1, 0, 1], 0),
            ([1, 65536, 1], [1, 1, 1], 0),
            ([1, 1, 1], [1025, 1, 1], 0),
            ([1, 1, 1], [32, 32, 2], 0),
            ([1, 1, 1], [1, 1, 65], 0),
            ([1, 1, 1], [32, 1, 1], (48 << 10) + 1),
        ] {
            assert_eq!(refused(grid, block, shared), CUDA_ERROR_INVALID_VALUE, "{grid:?} {block:?} {shared}");
        }
        ok(launch(narrow, 1, 64, 0, null_mut(), &mut []));
        assert_eq!(launch(narrow, 1, 65, 0, null_mut(), &mut []), CUDA_ERROR_INVALID_VALUE);
        // A kernel with parameters needs arguments.
        let set = function(module, "set");
        assert_eq!(unsafe { sys::cuLaunchKernel(set, 1, 1, 1, 1, 1, 1, 0, null_mut(), null_mut(), null_mut()) }, CUDA_ERROR_INVALID_VALUE);
        assert_eq!(launch(set, 1, 1, 0, null_mut(), &mut [null_mut(), null_mut()]), CUDA_ERROR_INVALID_VALUE);
        // Nothing of this reached the device: no fault stays behind.
        ok(unsafe { sys::cuCtxSynchronize() });
    }
}

emulated! {
    fn shared_memory_beyond_48_kib_is_opted_into[] {
        start();
        let dynamic = kernel("dynamic");
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let out = upload(&[0]);
        let run = |bytes: u32| {
            let (mut count, mut out) = (bytes / 4, out);
            launch(dynamic, 1, 1, bytes, null_mut(), &mut [(&raw mut count).cast(), (&raw mut out).cast()])
        };
        ok(run(48 << 10));
        assert_eq!(run(99 << 10), CUDA_ERROR_INVALID_VALUE);
        unsafe {
            assert_eq!(sys::cuFuncSetAttribute(dynamic, attribute, (99 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuFuncSetAttribute(dynamic, attribute, 99 << 10));
            ok(run(99 << 10));
            assert_eq!(download(out, 1), [99 << 8]);
            ok(sys::cuMemFree_v2(out));
        }
    }
}

fn image(text: &[u8]) -> CUresult {
    let mut module = null_mut();
    unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast()) }
}

emulated! {
    fn images_that_are_no_ptx_are_refused[] {
        start();
        assert_eq!(image(b"hello\0"), CUDA_ERROR_INVALID_IMAGE);
        assert_eq!(image(b"\0"), CUDA_ERROR_INVALID_IMAGE);
        assert_eq!(image(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"), CUDA_ERROR_NO_BINARY_FOR_GPU);
        assert_eq!(load(&KERNELS.replace("%r5, %r6;", "%r5, ;")), Err(CUDA_ERROR_INVALID_PTX));
        assert_eq!(load(&KERNELS.replace("trap;", "frobnicate.u32;")), Err(CUDA_ERROR_INVALID_PTX));
        assert_eq!(load(&KERNELS.replace("sm_80", "sm_90")), Err(CUDA_ERROR_INVALID_PTX));
        assert_eq!(load(&KERNELS.replace("8.0", "8.5")), Err(CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
        ok(unsafe { sys::cuCtxSynchronize() });
    } errors(text) {
        assert!(text.contains("a driver 12.4 knows 8.4 at most"), "{text}");
        assert!(text.contains("frobnicate"), "{text}");
    }
}

emulated! {
    fn a_refused_module_fills_the_log[] {
        start();
        use sys::CUjit_option::*;
        let mut log = [1u8; 64];
        let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
        let text = std::ffi::CString::new(KERNELS.replace("trap;", "frobnicate;")).unwrap();
        let mut module = null_mut();
        let result = unsafe {
            sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        assert_eq!(result, CUDA_ERROR_INVALID_PTX);
        let length = log.iter().position(|&byte| byte == 0).unwrap();
        assert_eq!(values[1] as usize, length);
        assert!(std::str::from_utf8(&log[..length]).unwrap().contains("frobnicate"));
    }
}
