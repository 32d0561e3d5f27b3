//! Memory that host and device share.

use std::ptr::null_mut;

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUresult::*};

use crate::support::*;

emulated! {
    fn managed_memory_has_one_address_for_both_sides[] {
        start();
        let (mut shared, mut managed) = (0, 0u32);
        let set_word = kernel("set");
        unsafe {
            ok(sys::cuMemAllocManaged(&mut shared, 16, 1));
            let words = shared as *mut u32;
            words.write(5);
            // The kernel writes one word and leaves the rest as the host left it.
            ok(set(set_word, null_mut(), shared + 4, 6));
            ok(sys::cuCtxSynchronize());
            assert_eq!((words.read(), words.add(1).read()), (5, 6));
            words.write(7);
            assert_eq!(download(shared, 2), [7, 6]);
            ok(sys::cuMemsetD32_v2(shared + 8, 9, 2));
            assert_eq!(words.add(3).read(), 9);
            // As the host's end of a copy it is the host's.
            let other = upload(&[1, 2]);
            ok(sys::cuMemcpyDtoH_v2(words.cast(), other, 8));
            assert_eq!((words.read(), words.add(1).read(), words.add(2).read()), (1, 2, 9));
            ok(sys::cuMemcpyHtoD_v2(other, words.add(1).cast(), 8));
            assert_eq!(download(other, 2), [2, 9]);
            use sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED;
            ok(sys::cuPointerGetAttribute((&raw mut managed).cast(), CU_POINTER_ATTRIBUTE_IS_MANAGED, shared + 4));
            assert_eq!(managed, 1);
            ok(sys::cuPointerGetAttribute((&raw mut managed).cast(), CU_POINTER_ATTRIBUTE_IS_MANAGED, other));
            assert_eq!(managed, 0);
            assert_eq!(sys::cuMemAllocManaged(&mut shared, 16, 9), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(other));
            ok(sys::cuMemFree_v2(shared));
            assert_eq!(sys::cuMemFree_v2(shared), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(set(set_word, null_mut(), shared, 1), CUDA_SUCCESS);
            assert_eq!(sys::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
        }
    } errors(text) {
        assert!(text.contains("freed memory"), "{text}");
    }
}

emulated! {
    fn kernels_reach_page_locked_memory_by_its_device_address[] {
        start();
        let (set_word, mut host, mut device, mut free, mut total) = (kernel("set"), null_mut(), 0, 0, 0);
        let mut own = [1u32, 2, 3];
        unsafe {
            ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
            let before = free;
            ok(sys::cuMemHostAlloc(&mut host, 12, 2));
            let words = host.cast::<u32>();
            words.write(4);
            ok(sys::cuMemHostGetDevicePointer_v2(&mut device, words.add(1).cast(), 0));
            ok(set(set_word, null_mut(), device, 8));
            assert_eq!((words.read(), words.add(1).read()), (4, 8));
            assert_eq!(sys::cuMemFree_v2(device - 4), CUDA_ERROR_INVALID_VALUE);
            ok(set(set_word, null_mut(), device, 9));
            assert_eq!(words.add(1).read(), 9);
            ok(sys::cuMemFreeHost(host));
            ok(sys::cuMemHostRegister_v2(own.as_mut_ptr().cast(), 12, 0));
            ok(sys::cuMemHostGetDevicePointer_v2(&mut device, own.as_mut_ptr().cast(), 0));
            ok(set(set_word, null_mut(), device + 8, 10));
            ok(sys::cuMemHostUnregister(own.as_mut_ptr().cast()));
            assert_eq!(std::hint::black_box(&own)[..], [1, 2, 10]);
            ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
            assert_eq!(free, before);
            let stack = 0u32;
            let unknown = sys::cuMemHostGetDevicePointer_v2(&mut device, (&raw const stack).cast_mut().cast(), 0);
            assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
        }
    } errors(text) {
        assert!(!text.contains("leak"), "{text}");
    }
}

emulated! {
    /// The safe face of cudarc.
    fn unified_slices_are_read_and_written_by_the_host[] {
        let context = CudaContext::new(0).unwrap();
        let stream = context.default_stream();
        let mut words = unsafe { context.alloc_unified::<u32>(100, true) }.unwrap();
        words.as_mut_slice().unwrap().fill(3);
        let copy = stream.clone_dtoh(&words).unwrap();
        assert_eq!(copy, [3; 100]);
        stream.memset_zeros(&mut words).unwrap();
        assert_eq!(words.as_slice().unwrap(), [0; 100]);
    } errors(text) {
        assert!(!text.contains("cuda-emulator"), "{text}");
    }
}
