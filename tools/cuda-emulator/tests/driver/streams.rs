//! Streams, events and host functions.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult::*};

use crate::support::*;

fn event(flags: u32) -> sys::CUevent {
    let mut event = null_mut();
    ok(unsafe { sys::cuEventCreate(&mut event, flags) });
    event
}

emulated! {
    fn events_measure_time_in_order[] {
        start();
        let (stream, first, second, untimed) = (stream(), event(0), event(0), event(2));
        let mut milliseconds = -1.0;
        unsafe {
            assert_eq!(sys::cuEventElapsedTime(&mut milliseconds, first, second), CUDA_ERROR_INVALID_HANDLE);
            ok(sys::cuEventQuery(first));
            ok(sys::cuEventRecord(first, stream));
            ok(sys::cuEventRecord(second, stream));
            ok(sys::cuEventRecord(untimed, stream));
            ok(sys::cuEventSynchronize(second));
            ok(sys::cuEventElapsedTime(&mut milliseconds, first, second));
            assert!(milliseconds >= 0.0);
            ok(sys::cuEventElapsedTime(&mut milliseconds, second, first));
            assert!(milliseconds <= 0.0);
            assert_eq!(sys::cuEventElapsedTime(&mut milliseconds, first, untimed), CUDA_ERROR_INVALID_HANDLE);
            ok(sys::cuStreamWaitEvent(null_mut(), second, 0));
            ok(sys::cuStreamQuery(stream));
            let mut bad = null_mut();
            assert_eq!(sys::cuEventCreate(&mut bad, 4), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuEventDestroy_v2(first));
            assert_eq!(sys::cuEventRecord(first, stream), CUDA_ERROR_INVALID_HANDLE);
        }
    }
}

unsafe extern "C" fn read_word(data: *mut c_void) {
    // SAFETY: the test passes two words, of which the copy before has written the first.
    let words = unsafe { &mut *data.cast::<[u32; 2]>() };
    words[1] = 10 * words[0];
}

emulated! {
    fn host_functions_run_between_the_work_around_them[] {
        start();
        let (stream, word) = (stream(), upload(&[4]));
        let mut words = [0u32; 2];
        let at = words.as_mut_ptr();
        unsafe {
            ok(sys::cuMemcpyDtoHAsync_v2(at.cast(), word, 4, stream));
            ok(sys::cuLaunchHostFunc(stream, Some(read_word), at.cast()));
            ok(sys::cuMemcpyHtoDAsync_v2(word, at.add(1).cast(), 4, stream));
            ok(sys::cuStreamSynchronize(stream));
            assert_eq!(download(word, 1), [40]);
            assert_eq!(sys::cuLaunchHostFunc(stream, None, null_mut()), CUDA_ERROR_INVALID_VALUE);
            ok(sys::cuMemFree_v2(word));
            ok(sys::cuStreamDestroy_v2(stream));
            assert_eq!(sys::cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
        }
    }
}

emulated! {
    fn a_stream_of_another_context_does_not_launch[] {
        start();
        let (stream, mut other) = (stream(), null_mut());
        unsafe {
            ok(sys::cuCtxCreate_v2(&mut other, 0, 0));
            let narrow = kernel("narrow");
            assert_eq!(launch(narrow, 1, 1, 0, stream, &mut []), CUDA_ERROR_INVALID_HANDLE);
            ok(launch(narrow, 1, 1, 0, null_mut(), &mut []));
            ok(sys::cuCtxDestroy_v2(other));
        }
    }
}
