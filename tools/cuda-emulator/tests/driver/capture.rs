//! Stream capture and its rules.

use std::ptr::null_mut;

use cudarc::driver::sys::{
    self, CUgraph, CUresult, CUresult::*, CUstream, CUstreamCaptureMode, CUstreamCaptureMode::*,
};

use crate::support::*;

fn begin(stream: CUstream, mode: CUstreamCaptureMode) {
    ok(unsafe { sys::cuStreamBeginCapture_v2(stream, mode) });
}

fn end(stream: CUstream) -> Result<CUgraph, CUresult> {
    let mut graph = 1 as CUgraph;
    match unsafe { sys::cuStreamEndCapture(stream, &mut graph) } {
        CUDA_SUCCESS => Ok(graph),
        error => {
            assert!(graph.is_null());
            Err(error)
        }
    }
}

fn replay(graph: CUgraph, stream: CUstream, times: usize) {
    let mut executable = null_mut();
    unsafe {
        ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        for _ in 0..times {
            ok(sys::cuGraphLaunch(executable, stream));
        }
        ok(sys::cuGraphExecDestroy(executable));
    }
}

fn event() -> sys::CUevent {
    let mut event = null_mut();
    ok(unsafe { sys::cuEventCreate(&mut event, 2) });
    event
}

emulated! {
    fn captured_work_runs_at_each_launch_and_not_before[] {
        start();
        let (stream, module) = (stream(), load(KERNELS).unwrap());
        let (variables, out) = (function(module, "variables"), upload(&[0, 0]));
        let mut host = [0u32; 1];
        begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
        let mut place = out;
        unsafe {
            ok(sys::cuMemsetD32Async(out + 4, 6, 1, stream));
            ok(launch(variables, 1, 1, 0, stream, &mut [(&raw mut place).cast()]));
            ok(sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), out, 4, stream));
        }
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        ok(unsafe { sys::cuStreamIsCapturing(stream, &mut status) });
        assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
        let graph = end(stream).unwrap();
        assert_eq!(download(out, 2), [0, 0]);
        replay(graph, stream, 3);
        // The variable was 42, 43 and 44 at the three launches; 30 is added to it.
        assert_eq!(download(out, 2), [74, 6]);
        assert_eq!(host, [74]);
        unsafe {
            let mut count = 0;
            ok(sys::cuGraphGetNodes(graph, null_mut(), &mut count));
            assert_eq!(count, 3);
            ok(sys::cuGraphDestroy(graph));
            ok(sys::cuMemFree_v2(out));
        }
    }
}

emulated! {
    fn events_draw_other_streams_in_and_lead_back[] {
        start();
        let (first, second, fork, join) = (stream(), stream(), event(), event());
        let (words, set_word) = (upload(&[0, 0, 0]), kernel("set"));
        unsafe {
            begin(first, CU_STREAM_CAPTURE_MODE_RELAXED);
            ok(set(set_word, first, words, 1));
            ok(sys::cuEventRecord(fork, first));
            ok(sys::cuStreamWaitEvent(second, fork, 0));
            ok(set(set_word, second, words + 4, 2));
            ok(sys::cuEventRecord(join, second));
            assert_eq!(sys::cuEventQuery(join), CUDA_ERROR_CAPTURED_EVENT);
            ok(set(set_word, first, words + 8, 3));
            ok(sys::cuStreamWaitEvent(first, join, 0));
            ok(set(set_word, first, words, 4));
            let graph = end(first).unwrap();
            // Diamond: 4 edges.
            let mut edges = 0;
            ok(sys::cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
            assert_eq!(edges, 4);
            replay(graph, first, 1);
            assert_eq!(download(words, 3), [4, 2, 3]);
            ok(sys::cuGraphDestroy(graph));
            ok(sys::cuStreamQuery(second));
            ok(sys::cuEventQuery(join));
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn work_that_does_not_lead_back_spoils_the_capture[] {
        start();
        let (first, second, fork) = (stream(), stream(), event());
        let (words, set_word) = (upload(&[0]), kernel("set"));
        unsafe {
            begin(first, CU_STREAM_CAPTURE_MODE_RELAXED);
            ok(sys::cuEventRecord(fork, first));
            ok(sys::cuStreamWaitEvent(second, fork, 0));
            ok(set(set_word, second, words, 2));
            assert_eq!(end(first), Err(CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
            // Both streams are free again, and nothing has run.
            ok(set(set_word, second, words, 3));
            assert_eq!(download(words, 1), [3]);
            begin(first, CU_STREAM_CAPTURE_MODE_RELAXED);
            ok(sys::cuEventRecord(fork, first));
            ok(sys::cuStreamWaitEvent(second, fork, 0));
            assert_eq!(end(second), Err(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED));
            assert_eq!(end(first), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
            assert_eq!(end(first), Err(CUDA_ERROR_ILLEGAL_STATE));
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn waiting_for_a_capture_spoils_it[] {
        start();
        let (stream, set_word, words) = (stream(), kernel("set"), upload(&[0]));
        unsafe {
            begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
            assert_eq!(sys::cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_ILLEGAL_STATE);
            ok(set(set_word, stream, words, 1));
            assert_eq!(sys::cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
            assert_eq!(set(set_word, stream, words, 1), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
            assert_eq!(end(stream), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
            ok(sys::cuStreamSynchronize(stream));
            assert_eq!(sys::cuStreamBeginCapture_v2(null_mut(), CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn unsafe_calls_are_refused_as_the_mode_says[] {
        start();
        let (stream, mut pointer) = (stream(), 0);
        unsafe {
            begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
            assert_eq!(sys::cuMemAlloc_v2(&mut pointer, 4), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
            assert_eq!(end(stream), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
            begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
            ok(sys::cuMemAlloc_v2(&mut pointer, 4));
            ok(sys::cuMemFree_v2(pointer));
            ok(sys::cuGraphDestroy(end(stream).unwrap()));
            begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
            let mut mode = CU_STREAM_CAPTURE_MODE_RELAXED;
            ok(sys::cuThreadExchangeStreamCaptureMode(&mut mode));
            assert_eq!(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
            ok(sys::cuMemAlloc_v2(&mut pointer, 4));
            ok(sys::cuMemFree_v2(pointer));
            ok(sys::cuGraphDestroy(end(stream).unwrap()));
        }
    }
}

emulated! {
    fn the_legacy_stream_waits_for_no_capture[] {
        start();
        let (words, set_word) = (upload(&[0]), kernel("set"));
        let mut blocking = null_mut();
        unsafe {
            ok(sys::cuStreamCreate(&mut blocking, 0));
            begin(blocking, CU_STREAM_CAPTURE_MODE_RELAXED);
            assert_eq!(set(set_word, null_mut(), words, 1), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
            assert_eq!(end(blocking), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
            let free = stream();
            begin(free, CU_STREAM_CAPTURE_MODE_RELAXED);
            ok(set(set_word, null_mut(), words, 1));
            ok(sys::cuGraphDestroy(end(free).unwrap()));
            ok(sys::cuMemFree_v2(words));
        }
    }
}

emulated! {
    fn events_from_outside_are_not_waited_for[] {
        start();
        let (stream, outside) = (stream(), event());
        unsafe {
            ok(sys::cuEventRecord(outside, stream));
            begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
            assert_eq!(sys::cuStreamWaitEvent(stream, outside, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
            assert_eq!(end(stream), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
        }
    }
}

emulated! {
    fn a_capture_ends_in_its_thread[] {
        let context = start() as usize;
        let stream = stream();
        begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        let handle = stream as usize;
        let other = std::thread::spawn(move || {
            ok(unsafe { sys::cuCtxSetCurrent(context as sys::CUcontext) });
            end(handle as CUstream).err()
        });
        assert_eq!(other.join().unwrap(), Some(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD));
        ok(unsafe { sys::cuGraphDestroy(end(stream).unwrap()) });
    }
}

emulated! {
    fn memory_of_a_capture_lives_with_its_graph[] {
        start();
        let (stream, set_word) = (stream(), kernel("set"));
        let (mut pointer, mut free, mut total) = (0, 0, 0);
        unsafe {
            begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
            ok(sys::cuMemAllocAsync(&mut pointer, 4, stream));
            ok(set(set_word, stream, pointer, 9));
            ok(sys::cuMemFreeAsync(pointer, stream));
            let graph = end(stream).unwrap();
            replay(graph, stream, 2);
            ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
            let held = free;
            ok(sys::cuGraphDestroy(graph));
            ok(sys::cuMemGetInfo_v2(&mut free, &mut total));
            assert_eq!(free - held, 512);
        }
    } errors(text) {
        assert!(!text.contains("leak"), "{text}");
    }
}

emulated! {
    fn a_capture_in_progress_can_be_looked_into_and_added_to[] {
        start();
        let (stream, words, set_word) = (stream(), upload(&[0, 0]), kernel("set"));
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        let (mut id, mut graph, mut tail, mut count) = (0, null_mut(), std::ptr::null(), 9);
        unsafe {
            begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
            ok(set(set_word, stream, words, 1));
            ok(sys::cuStreamGetCaptureInfo_v2(stream, &mut status, &mut id, &mut graph, &mut tail, &mut count));
            assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
            assert_eq!(count, 1);
            // A node that the program adds itself becomes what the stream goes on from.
            let mut node = null_mut();
            ok(sys::cuGraphAddEmptyNode(&mut node, graph, tail, count));
            ok(sys::cuStreamUpdateCaptureDependencies(stream, &mut node, 1, 1));
            ok(set(set_word, stream, words + 4, 2));
            let captured = end(stream).unwrap();
            assert_eq!(captured, graph);
            let mut edges = 0;
            ok(sys::cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
            assert_eq!(edges, 2);
            replay(graph, stream, 1);
            assert_eq!(download(words, 2), [1, 2]);
            ok(sys::cuGraphDestroy(graph));
            ok(sys::cuMemFree_v2(words));
        }
    }
}
