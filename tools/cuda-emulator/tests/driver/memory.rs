//! Allocations, copies, fills, page-locked memory, pointers, pools.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult::*};

use crate::support::*;

emulated! {
    fn copies_that_leave_an_allocation_are_refused[] {
        start();
        let words = upload(&[1, 2, 3]);
        let mut host = [0u32; 8];
        let at = host.as_mut_ptr().cast::<c_void>();
        unsafe {
            assert_eq!(sys::cuMemcpyDtoH_v2(at, words + 8, 8), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemcpyHtoD_v2(words - 4, at, 4), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemcpyHtoD_v2(words, at, usize::MAX), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemcpyHtoD_v2(words, null_mut(), 4), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemsetD32_v2(words, 0, 4), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemsetD32_v2(words + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(download(words, 3), [1, 2, 3]);
            ok(sys::cuMemcpyDtoH_v2(null_mut(), words, 0));
            ok(sys::cuMemFree_v2(words));
            assert_eq!(sys::cuMemFree_v2(words), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemcpyDtoH_v2(at, words, 4), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(0));
            let mut pointer = 0;
            assert_eq!(sys::cuMemAlloc_v2(&mut pointer, 0), CUDA_ERROR_INVALID_VALUE);
        }
    } errors(text) {
        assert!(text.contains("leave the allocation of 12 bytes"), "{text}");
        assert!(text.contains("was freed"), "{text}");
    }
}

emulated! {
    fn every_copy_moves_its_bytes[] {
        start();
        let (a, b) = (upload(&[1, 2, 3, 4]), upload(&[0; 4]));
        let mut host = [0u32; 4];
        let at = host.as_mut_ptr().cast::<c_void>();
        unsafe {
            ok(sys::cuMemcpyDtoD_v2(b + 4, a, 8));
            assert_eq!(download(b, 4), [0, 1, 2, 0]);
            ok(sys::cuMemcpyDtoDAsync_v2(b, a + 8, 8, null_mut()));
            assert_eq!(download(b, 4), [3, 4, 2, 0]);
            // Unified addresses: the driver tells device from host by the address.
            ok(sys::cuMemcpy(at as u64, a, 16));
            assert_eq!(host, [1, 2, 3, 4]);
            at.cast::<u32>().write(9);
            ok(sys::cuMemcpyAsync(b, at as u64, 4, null_mut()));
            assert_eq!(download(b, 1), [9]);
            let mut context = null_mut();
            ok(sys::cuCtxGetCurrent(&mut context));
            ok(sys::cuMemcpyPeer(b + 12, context, a, context, 4));
            assert_eq!(download(b, 4), [9, 4, 2, 1]);
            ok(sys::cuMemFree_v2(a));
            ok(sys::cuMemFree_v2(b));
        }
    }
}

emulated! {
    fn boxes_are_copied_row_by_row[] {
        start();
        let words: Vec<u32> = (0..48).collect();
        let (source, mut out) = (upload(&words), [0u32; 6]);
        // Rows of 8 words; 3 words from (2, 1) in 2 rows.
        let mut it = box_2d();
        it.srcDevice = source;
        it.srcPitch = 32;
        (it.srcXInBytes, it.srcY) = (8, 1);
        it.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
        it.dstHost = out.as_mut_ptr().cast();
        it.dstPitch = 12;
        (it.WidthInBytes, it.Height) = (12, 2);
        unsafe {
            ok(sys::cuMemcpy2D_v2(&it));
            assert_eq!(out, [10, 11, 12, 18, 19, 20]);
            it.dstPitch = 8;
            assert_eq!(sys::cuMemcpy2D_v2(&it), CUDA_ERROR_INVALID_VALUE);
            (it.dstPitch, it.Height) = (12, 6);
            assert_eq!(sys::cuMemcpy2D_v2(&it), CUDA_ERROR_INVALID_VALUE);
            // Two planes of 3 rows of 8 words: one word of each plane.
            let mut it = box_3d();
            it.srcMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_UNIFIED;
            it.srcDevice = source;
            (it.srcPitch, it.srcHeight) = (32, 3);
            (it.srcXInBytes, it.srcY) = (4, 2);
            it.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
            it.dstHost = out.as_mut_ptr().cast();
            (it.dstPitch, it.dstHeight) = (4, 1);
            (it.WidthInBytes, it.Height, it.Depth) = (4, 1, 2);
            ok(sys::cuMemcpy3D_v2(&it));
            assert_eq!(out[..2], [17, 41]);
            ok(sys::cuMemFree_v2(source));
        }
    }
}

emulated! {
    fn fills_have_elements_of_one_two_and_four_bytes[] {
        start();
        let words = upload(&[0; 6]);
        unsafe {
            ok(sys::cuMemsetD8_v2(words, 0xab, 3));
            ok(sys::cuMemsetD16_v2(words + 4, 0x1234, 1));
            ok(sys::cuMemsetD32Async(words + 8, 0xdead_beef, 1, null_mut()));
            ok(sys::cuMemsetD2D32_v2(words + 12, 8, 7, 1, 2));
            assert_eq!(download(words, 6), [0xababab, 0x1234, 0xdead_beef, 7, 0, 7]);
            assert_eq!(sys::cuMemsetD2D32_v2(words, 4, 7, 2, 2), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn pointers_know_their_range_and_kind[] {
        start();
        let words = allocate(1000);
        let (mut base, mut bytes, mut kind, mut host) = (0, 0, 0u32, null_mut());
        use sys::CUpointer_attribute::*;
        unsafe {
            ok(sys::cuMemGetAddressRange_v2(&mut base, &mut bytes, words + 999));
            assert_eq!((base, bytes), (words, 1000));
            assert_eq!(sys::cuMemGetAddressRange_v2(&mut base, &mut bytes, words + 1000), CUDA_ERROR_NOT_FOUND);
            ok(sys::cuPointerGetAttribute((&raw mut kind).cast(), CU_POINTER_ATTRIBUTE_MEMORY_TYPE, words + 4));
            assert_eq!(kind, 2);
            ok(sys::cuMemAllocHost_v2(&mut host, 100));
            ok(sys::cuPointerGetAttribute((&raw mut kind).cast(), CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host as u64 + 99));
            assert_eq!(kind, 1);
            let stack = [0u32; 1];
            let unknown = sys::cuPointerGetAttribute((&raw mut kind).cast(), CU_POINTER_ATTRIBUTE_MEMORY_TYPE, stack.as_ptr() as u64);
            assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFreeHost(host));
            assert_eq!(sys::cuMemFreeHost(host), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn host_memory_is_registered_once[] {
        start();
        let mut words = vec![0u32; 1024];
        let (at, mut flags) = (words.as_mut_ptr().cast::<c_void>(), 0);
        unsafe {
            ok(sys::cuMemHostRegister_v2(at, 4096, 0));
            assert_eq!(sys::cuMemHostRegister_v2(at.add(100), 8, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
            ok(sys::cuMemHostGetFlags(&mut flags, at));
            ok(sys::cuMemHostUnregister(at));
            assert_eq!(sys::cuMemHostUnregister(at), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        }
    }
}

emulated! {
    fn pools_count_what_they_gave[] {
        start();
        let (mut pool, mut pointer, mut used) = (null_mut(), 0, 0u64);
        use sys::CUmemPool_attribute::*;
        let stream = stream();
        unsafe {
            ok(sys::cuDeviceGetDefaultMemPool(&mut pool, 0));
            ok(sys::cuMemAllocAsync(&mut pointer, 300, stream));
            ok(sys::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, (&raw mut used).cast()));
            assert_eq!(used, 300);
            ok(sys::cuMemFreeAsync(pointer, stream));
            ok(sys::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, (&raw mut used).cast()));
            assert_eq!(used, 0);
            ok(sys::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, (&raw mut used).cast()));
            assert_eq!(used, 300);
            let mut threshold = u64::MAX;
            ok(sys::cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast()));
            ok(sys::cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut used).cast()));
            assert_eq!(used, threshold);
            assert_eq!(sys::cuMemPoolDestroy(pool), CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuMemFreeAsync(pointer, stream), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuStreamDestroy_v2(stream));
        }
    }
}

emulated! {
    fn what_is_left_at_exit_is_reported[] {
        start();
        allocate(1);
        let second = allocate(4096);
        let third = allocate(8);
        ok(unsafe { sys::cuMemFree_v2(third) });
        let mut host = null_mut();
        ok(unsafe { sys::cuMemAllocHost_v2(&mut host, 77) });
        assert_ne!(second, 0);
    } errors(text) {
        assert!(text.contains("leak: 1 bytes") && text.contains("allocation 1 (cuMemAlloc)"), "{text}");
        assert!(text.contains("leak: 4096 bytes") && text.contains("leak: 77 bytes of host memory"), "{text}");
        assert_eq!(text.matches("leak:").count(), 3, "{text}");
    }
}
