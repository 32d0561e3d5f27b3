//! Streams, events, captures and graphs: the driver's own, under the runtime's names.

use std::ffi::{c_int, c_uint, c_void};

use super::forwarded;
use crate::driver::abi::{Handle, HostFunction, Out};
use crate::driver::{event, graph, stream};

forwarded! {
    fn cudaStreamCreate(out: Out<Handle>) = stream::cuStreamCreate(out, 0);
    fn cudaStreamCreateWithFlags(out: Out<Handle>, flags: c_uint) = stream::cuStreamCreate(out, flags);
    fn cudaStreamCreateWithPriority(out: Out<Handle>, flags: c_uint, priority: c_int) =
        stream::cuStreamCreateWithPriority(out, flags, priority);
    fn cudaStreamDestroy(handle: Handle) = stream::cuStreamDestroy_v2(handle);
    fn cudaStreamSynchronize(handle: Handle) = stream::cuStreamSynchronize(handle);
    fn cudaStreamQuery(handle: Handle) = stream::cuStreamQuery(handle);
    fn cudaStreamWaitEvent(handle: Handle, waited: Handle, flags: c_uint) =
        event::cuStreamWaitEvent(handle, waited, flags);
    fn cudaLaunchHostFunc(handle: Handle, function: Option<HostFunction>, data: *mut c_void) =
        stream::cuLaunchHostFunc(handle, function, data);
    fn cudaStreamBeginCapture(handle: Handle, mode: c_int) = stream::cuStreamBeginCapture_v2(handle, mode);
    fn cudaStreamEndCapture(handle: Handle, out: Out<Handle>) = stream::cuStreamEndCapture(handle, out);
    fn cudaStreamIsCapturing(handle: Handle, status: Out<c_int>) =
        stream::cuStreamIsCapturing(handle, status);
    fn cudaEventCreate(out: Out<Handle>) = event::cuEventCreate(out, 0);
    fn cudaEventCreateWithFlags(out: Out<Handle>, flags: c_uint) = event::cuEventCreate(out, flags);
    fn cudaEventDestroy(handle: Handle) = event::cuEventDestroy_v2(handle);
    fn cudaEventRecord(handle: Handle, on: Handle) = event::cuEventRecord(handle, on);
    fn cudaEventSynchronize(handle: Handle) = event::cuEventSynchronize(handle);
    fn cudaEventQuery(handle: Handle) = event::cuEventQuery(handle);
    fn cudaEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) =
        event::cuEventElapsedTime(milliseconds, start, end);
    fn cudaGraphInstantiate(out: Out<Handle>, of: Handle, flags: u64) =
        graph::cuGraphInstantiateWithFlags(out, of, flags);
    fn cudaGraphInstantiateWithFlags(out: Out<Handle>, of: Handle, flags: u64) =
        graph::cuGraphInstantiateWithFlags(out, of, flags);
    fn cudaGraphLaunch(executable: Handle, on: Handle) = graph::cuGraphLaunch(executable, on);
    fn cudaGraphExecDestroy(executable: Handle) = graph::cuGraphExecDestroy(executable);
    fn cudaGraphDestroy(handle: Handle) = graph::cuGraphDestroy(handle);
}
