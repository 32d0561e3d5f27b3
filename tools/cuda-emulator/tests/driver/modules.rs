//! Modules, functions, arguments, launches.

use std::ffi::c_void;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult::*};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use crate::support::*;

emulated! {
    /// The safe face of cudarc, from many threads at once.
    fn a_safe_program_runs_in_every_thread[] {
        let context = CudaContext::new(0).unwrap();
        let module = context.load_module(Ptx::from_src(KERNELS)).unwrap();
        let add = Arc::new(module.load_function("add").unwrap());
        let threads: Vec<_> = (0..4u32)
            .map(|number| {
                let (context, add) = (context.clone(), add.clone());
                std::thread::spawn(move || {
                    let stream = context.new_stream().unwrap();
                    let count = 1000 + number;
                    let a: Vec<u32> = (0..count).collect();
                    let b: Vec<u32> = (0..count).map(|i| i * number).collect();
                    let (a, b) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
                    let mut c = stream.alloc_zeros::<u32>(count as usize).unwrap();
                    let config = LaunchConfig::for_num_elems(count);
                    unsafe { stream.launch_builder(&add).arg(&a).arg(&b).arg(&mut c).arg(&count).launch(config) }.unwrap();
                    let c = stream.clone_dtoh(&c).unwrap();
                    assert!(c.iter().zip(0..).all(|(&c, i)| c == i + i * number));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    } errors(text) {
        assert!(!text.contains("cuda-emulator"), "{text}");
    }
}

emulated! {
    fn variables_have_their_values_and_can_be_reached[] {
        start();
        let module = load(KERNELS).unwrap();
        let (mut address, mut bytes, out) = (0, 0, upload(&[0]));
        let variables = function(module, "variables");
        let run = || {
            let mut out = out;
            ok(launch(variables, 1, 1, 0, null_mut(), &mut [(&raw mut out).cast()]));
            download(out, 1)[0]
        };
        unsafe {
            assert_eq!(run(), 42 + 30);
            ok(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"answer".as_ptr()));
            assert_eq!((download(address, 1)[0], bytes), (43, 4));
            ok(sys::cuMemsetD32_v2(address, 100, 1));
            ok(sys::cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"table".as_ptr()));
            assert_eq!((download(address, 3), bytes), (vec![10, 20, 30], 12));
            ok(sys::cuMemsetD32_v2(address, 1, 3));
            assert_eq!(run(), 100 + 1);
            ok(sys::cuModuleUnload(module));
            assert_eq!(sys::cuMemsetD32_v2(address, 1, 3), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(out));
        }
    }
}

emulated! {
    fn functions_tell_their_parameters_and_limits[] {
        start();
        let module = load(&KERNELS.replace(".version 8.0", ".version 8.3")).unwrap();
        let (dynamic, narrow) = (function(module, "dynamic"), function(module, "narrow"));
        assert_eq!(function(module, "dynamic"), dynamic);
        use sys::CUfunction_attribute::*;
        for (which, attribute, expected) in [
            (narrow, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 64),
            (dynamic, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
            (dynamic, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 0),
            (dynamic, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 48 << 10),
            (dynamic, CU_FUNC_ATTRIBUTE_PTX_VERSION, 80),
            (dynamic, CU_FUNC_ATTRIBUTE_BINARY_VERSION, 86),
        ] {
            let mut value = -1;
            ok(unsafe { sys::cuFuncGetAttribute(&mut value, attribute, which) });
            assert_eq!(value, expected, "{attribute:?}");
        }
        // Not declared by cudarc for this version of the driver.
        let mut address = null_mut();
        ok(unsafe { sys::cuGetProcAddress_v2(c"cuFuncGetParamInfo".as_ptr(), &mut address, 12040, 0, null_mut()) });
        // SAFETY: this is the function's type.
        let info: unsafe extern "C" fn(sys::CUfunction, usize, *mut usize, *mut usize) -> i32 = unsafe { std::mem::transmute(address) };
        let mut found = Vec::new();
        for index in 0.. {
            let (mut offset, mut size) = (0, 0);
            if unsafe { info(dynamic, index, &mut offset, &mut size) } != 0 {
                break;
            }
            found.push((offset, size));
        }
        assert_eq!(found, [(0, 4), (8, 8)]);
    }
}

emulated! {
    fn arguments_may_come_in_one_buffer[] {
        start();
        let (dynamic, out) = (kernel("dynamic"), upload(&[0]));
        let mut buffer = [0u8; 16];
        buffer[..4].copy_from_slice(&3u32.to_le_bytes());
        buffer[8..].copy_from_slice(&out.to_le_bytes());
        let mut run = |mut size: usize| {
            let (pointer, size) = (buffer.as_mut_ptr().cast(), (&raw mut size).cast());
            let mut extra: [*mut c_void; 5] = [without_provenance_mut(1), pointer, without_provenance_mut(2), size, null_mut()];
            unsafe { sys::cuLaunchKernel(dynamic, 1, 1, 1, 1, 1, 1, 12, null_mut(), null_mut(), extra.as_mut_ptr()) }
        };
        ok(run(16));
        assert_eq!(download(out, 1), [3]);
        assert_eq!(run(15), CUDA_ERROR_INVALID_VALUE);
        ok(unsafe { sys::cuMemFree_v2(out) });
    }
}

emulated! {
    fn a_cooperative_launch_must_fit_at_once[] {
        start();
        let narrow = kernel("narrow");
        let cooperative = |blocks| unsafe {
            sys::cuLaunchCooperativeKernel(narrow, blocks, 1, 1, 64, 1, 1, 0, null_mut(), null_mut())
        };
        ok(cooperative(28 * 16));
        assert_eq!(cooperative(28 * 16 + 1), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        let mut config: sys::CUlaunchConfig = unsafe { std::mem::zeroed() };
        (config.gridDimX, config.gridDimY, config.gridDimZ) = (2, 1, 1);
        (config.blockDimX, config.blockDimY, config.blockDimZ) = (64, 1, 1);
        ok(unsafe { sys::cuLaunchKernelEx(&config, narrow, null_mut(), null_mut()) });
        config.blockDimX = 65;
        assert_eq!(unsafe { sys::cuLaunchKernelEx(&config, narrow, null_mut(), null_mut()) }, CUDA_ERROR_INVALID_VALUE);
    }
}

emulated! {
    /// What a driver's linker refuses: the name is said when the module is loaded, not when it is called.
    fn an_undefined_function_is_refused_at_load[] {
        start();
        let declared = format!("{KERNELS}\n.extern .func elsewhere ();\n");
        assert!(load(&declared).is_ok(), "nobody calls it");
        let called = format!("{declared}.visible .entry caller()\n{{\n\tcall elsewhere, ();\n\tret;\n}}\n");
        assert_eq!(load(&called), Err(CUDA_ERROR_INVALID_PTX));
    }
    errors(text) { assert!(text.contains("`elsewhere` is called but the module does not define it"), "{text}"); }
}

/// `allocate`: takes bytes from the kernels' heap and says where they are.
const HEAP: &str = "
.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b64 result) malloc (.param .b64 bytes);
.visible .entry allocate(.param .u64 bytes, .param .u64 out)
{
    .reg .b64 %d<4>;
    .param .b64 argument;
    .param .b64 address;
    ld.param.u64 %d1, [bytes];
    ld.param.u64 %d2, [out];
    st.param.b64 [argument], %d1;
    call (address), malloc, (argument);
    ld.param.b64 %d3, [address];
    st.global.u64 [%d2], %d3;
    ret;
}
";

emulated! {
    /// What one launch allocates lives on, within the limit, until the context goes.
    fn the_heap_of_kernels_has_a_limit[] {
        start();
        let (limit, allocate) = (sys::CUlimit_enum::CU_LIMIT_MALLOC_HEAP_SIZE, function(load(HEAP).unwrap(), "allocate"));
        ok(unsafe { sys::cuCtxSetLimit(limit, 1000) });
        let mut out = upload(&[9, 9]);
        let mut take = |mut bytes: u64| {
            ok(launch(allocate, 1, 1, 0, null_mut(), &mut [(&raw mut bytes).cast(), (&raw mut out).cast()]));
            let words = download(out, 2);
            u64::from(words[1]) << 32 | u64::from(words[0])
        };
        let (first, second) = (take(600), take(600));
        assert!(first != 0 && second == 0);
        assert_ne!(take(400), 0);
        assert_eq!(unsafe { sys::cuCtxSetLimit(limit, 2000) }, CUDA_ERROR_INVALID_VALUE);
        ok(unsafe { sys::cuMemFree_v2(out) });
        ok(unsafe { sys::cuDevicePrimaryCtxReset_v2(0) });
        start();
        ok(unsafe { sys::cuCtxSetLimit(limit, 2000) });
    }
    errors(text) { assert!(text.is_empty(), "{text}"); }
}

emulated! {
    fn newer_drivers_take_newer_ptx["CUDA_EMULATOR_DRIVER_VERSION" = "13020"] {
        start();
        assert!(load(&KERNELS.replace("8.0", "9.2")).is_ok());
        assert_eq!(load(&KERNELS.replace("8.0", "9.3")), Err(CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
    }
}

emulated! {
    fn a_library_gives_kernels_and_variables[] {
        start();
        let text = std::ffi::CString::new(KERNELS).unwrap();
        let (mut library, mut kernel, mut same, mut address, mut bytes) = (null_mut(), null_mut(), null_mut(), 0, 0);
        let word = upload(&[0]);
        unsafe {
            let image = text.as_ptr().cast();
            ok(sys::cuLibraryLoadData(&mut library, image, null_mut(), null_mut(), 0, null_mut(), null_mut(), 0));
            ok(sys::cuLibraryGetKernel(&mut kernel, library, c"set".as_ptr()));
            ok(sys::cuKernelGetFunction(&mut same, kernel));
            ok(set(same, null_mut(), word, 11));
            assert_eq!(download(word, 1), [11]);
            ok(sys::cuLibraryGetGlobal(&mut address, &mut bytes, library, c"answer".as_ptr()));
            assert_eq!((download(address, 1)[0], bytes), (42, 4));
            assert_eq!(sys::cuLibraryGetKernel(&mut kernel, library, c"absent".as_ptr()), CUDA_ERROR_NOT_FOUND);
            ok(sys::cuLibraryUnload(library));
            ok(sys::cuMemFree_v2(word));
        }
    }
}

emulated! {
    fn what_the_device_lacks_is_said_to_be_missing[] {
        start();
        let mut memory = null_mut();
        unsafe {
            assert_eq!(sys::cuImportExternalMemory(&mut memory, std::ptr::null()), CUDA_ERROR_NOT_SUPPORTED);
        }
    }
}

emulated! {
    fn linked_ptx_is_loaded[] {
        start();
        let text = std::ffi::CString::new(KERNELS).unwrap();
        let (mut link, mut image, mut bytes, mut module) = (null_mut(), null_mut(), 0, null_mut());
        let ptx = sys::CUjitInputType::CU_JIT_INPUT_PTX;
        let data = text.as_ptr().cast_mut().cast::<c_void>();
        let length = text.as_bytes_with_nul().len();
        let add = |link, length| unsafe {
            sys::cuLinkAddData_v2(link, ptx, data, length, c"kernels".as_ptr(), 0, null_mut(), null_mut())
        };
        unsafe {
            ok(sys::cuLinkCreate_v2(0, null_mut(), null_mut(), &mut link));
            assert_eq!(sys::cuLinkComplete(link, &mut image, &mut bytes), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(add(link, length / 2), CUDA_ERROR_INVALID_PTX);
            ok(add(link, length));
            ok(sys::cuLinkComplete(link, &mut image, &mut bytes));
            assert_eq!(bytes, length);
            ok(sys::cuModuleLoadData(&mut module, image));
            ok(sys::cuLinkDestroy(link));
            ok(launch(function(module, "narrow"), 1, 1, 0, null_mut(), &mut []));
            assert_eq!(sys::cuLinkDestroy(link), CUDA_ERROR_INVALID_HANDLE);
        }
    }
}
