//! Faults: the launch succeeds, every later call fails, the line names the place.

use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult, CUresult::*};

use crate::support::*;

/// Every kind of call returns the fault, until the context is reset.
fn assert_stuck(code: CUresult) {
    let (mut pointer, mut word) = (0, 0u32);
    unsafe {
        assert_eq!(sys::cuCtxSynchronize(), code);
        assert_eq!(sys::cuMemAlloc_v2(&mut pointer, 4), code);
        assert_eq!(sys::cuMemcpyDtoH_v2((&raw mut word).cast(), 0x7_0000_0000, 4), code);
        assert_eq!(sys::cuStreamSynchronize(null_mut()), code);
        assert_eq!(sys::cuMemFree_v2(0x7_0000_0000), code);
        ok(sys::cuDevicePrimaryCtxReset_v2(0));
        let context = start();
        assert!(!context.is_null());
        ok(sys::cuCtxSynchronize());
        let word = upload(&[5]);
        assert_eq!(download(word, 1), [5]);
        ok(sys::cuMemFree_v2(word));
    }
}

emulated! {
    fn a_store_out_of_bounds_is_sticky[] {
        start();
        let word = upload(&[1, 2]);
        ok(set(kernel("set"), null_mut(), word + 8, 7));
        assert_stuck(CUDA_ERROR_ILLEGAL_ADDRESS);
    } errors(text) {
        assert!(text.contains("out of bounds"), "{text}");
        assert!(text.contains("in set, block (0,0,0), thread (0,0,0), PTX line"), "{text}");
    }
}

emulated! {
    fn a_store_to_freed_memory_is_told_apart[] {
        start();
        let word = upload(&[1]);
        ok(unsafe { sys::cuMemFree_v2(word) });
        ok(set(kernel("set"), null_mut(), word, 7));
        assert_stuck(CUDA_ERROR_ILLEGAL_ADDRESS);
    } errors(text) {
        assert!(text.contains("freed memory"), "{text}");
    }
}

emulated! {
    fn a_misaligned_store_has_its_code[] {
        start();
        ok(set(kernel("set"), null_mut(), upload(&[1, 2]) + 2, 7));
        assert_stuck(CUDA_ERROR_MISALIGNED_ADDRESS);
    }
}

emulated! {
    fn a_trap_is_a_launch_failure[] {
        start();
        ok(launch(kernel("trap_now"), 1, 1, 0, null_mut(), &mut []));
        assert_stuck(CUDA_ERROR_LAUNCH_FAILED);
    }
}

emulated! {
    fn reading_what_nothing_wrote_is_a_fault[] {
        start();
        let (mut a, mut b, mut n) = (allocate(4), upload(&[0]), 1u32);
        let (a, b, n) = ((&raw mut a).cast(), (&raw mut b).cast(), (&raw mut n).cast());
        ok(launch(kernel("add"), 1, 1, 0, null_mut(), &mut [a, b, b, n]));
        assert_stuck(CUDA_ERROR_LAUNCH_FAILED);
    } errors(text) {
        assert!(text.contains("uninitialised read"), "{text}");
    }
}

emulated! {
    fn checks_can_be_chosen["CUDA_EMULATOR_CHECKS" = "races,leaks"] {
        start();
        let (mut a, mut b, mut n) = (allocate(4), upload(&[0]), 1u32);
        let pointers = [a, b];
        let (a, b, n) = ((&raw mut a).cast(), (&raw mut b).cast(), (&raw mut n).cast());
        ok(launch(kernel("add"), 1, 1, 0, null_mut(), &mut [a, b, b, n]));
        ok(unsafe { sys::cuCtxSynchronize() });
        pointers.iter().for_each(|&pointer| ok(unsafe { sys::cuMemFree_v2(pointer) }));
    } errors(text) {
        assert!(!text.contains("cuda-emulator"), "{text}");
    }
}

emulated! {
    fn a_launch_can_be_made_to_fail["CUDA_EMULATOR_FAIL_AFTER" = "2"] {
        start();
        let (word, set_word) = (upload(&[0]), kernel("set"));
        ok(set(set_word, null_mut(), word, 1));
        ok(unsafe { sys::cuCtxSynchronize() });
        assert_eq!(download(word, 1), [1]);
        ok(set(set_word, null_mut(), word, 2));
        assert_stuck(CUDA_ERROR_LAUNCH_FAILED);
    } errors(text) {
        assert!(text.contains("launch 2 (set) fails"), "{text}");
        assert!(!text.contains("leak"), "{text}");
    }
}

emulated! {
    fn a_fault_in_a_replayed_graph_stops_it[] {
        start();
        let (stream, set_word, words) = (stream(), kernel("set"), upload(&[0, 0]));
        let (mut graph, mut executable) = (null_mut(), null_mut());
        unsafe {
            ok(sys::cuStreamBeginCapture_v2(stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED));
            ok(set(set_word, stream, words, 1));
            ok(set(set_word, stream, words + 8, 1));
            ok(set(set_word, stream, words + 4, 1));
            ok(sys::cuStreamEndCapture(stream, &mut graph));
            ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            ok(sys::cuCtxSynchronize());
            ok(sys::cuGraphLaunch(executable, stream));
        }
        assert_stuck(CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}

emulated! {
    /// The PTX of the example carries the lines of its source.
    fn a_fault_names_the_line_of_the_source[] {
        start();
        let ptx = include_str!("../../examples/saxpy/saxpy.ptx");
        let saxpy = function(load(ptx).unwrap(), "saxpy");
        let (mut n, mut a, mut x, mut y) = (65u32, 1.0f32, upload(&[0; 65]), upload(&[0; 64]));
        let arguments = &mut [(&raw mut n).cast(), (&raw mut a).cast(), (&raw mut x).cast(), (&raw mut y).cast()];
        ok(launch(saxpy, 3, 32, 0, null_mut(), arguments));
        assert_stuck(CUDA_ERROR_ILLEGAL_ADDRESS);
    } errors(text) {
        assert!(text.contains("in saxpy, block (2,0,0), thread (0,0,0), PTX line") && text.contains(", saxpy.cu:4"), "{text}");
    }
}
