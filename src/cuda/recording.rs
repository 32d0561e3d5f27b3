//! Launches recorded once and replayed as one: a CUDA graph. A step of some hundred launches then costs the host one
//! call.

use super::driver::{self, Context};
use super::queue::Queue;
use crate::error::Result;
use cudarc::driver::{result, sys};
use std::sync::Arc;

/// What we call of the library for graphs; an old driver, or one that is not NVIDIA's, may lack them.
const SYMBOLS: [&str; 6] = [
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
];

/// Recorded launches. Their memory must stay where it was.
pub struct Recording {
    context: Arc<Context>,
    graph: sys::CUgraphExec,
}

// SAFETY: a graph may be launched from any thread in whose context it is; `replay` binds the context first.
unsafe impl Send for Recording {}

impl Queue {
    /// Records what `work` queues instead of running it; `None` where the driver cannot. `work` must have run once
    /// before: what it loads then cannot be loaded while it is recorded.
    pub fn record(&self, work: impl FnOnce() -> Result<()>) -> Result<Option<Recording>> {
        if !driver::has(&SYMBOLS) {
            return Ok(None);
        }
        let context = self.context();
        let failed = |error| context.failed("recording a step", error);
        context.bind().map_err(failed)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as `self`.
        match unsafe { result::stream::begin_capture(self.stream(), mode) } {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_SUPPORTED => return Ok(None),
            begun => begun.map_err(failed)?,
        }
        let worked = work();
        // SAFETY: as above. The recording is ended whatever became of the work, else the stream stays unusable.
        let graph = unsafe { result::stream::end_capture(self.stream()) };
        worked?;
        let graph = graph.map_err(failed)?;
        // SAFETY: the graph was made above and is destroyed once; what is instantiated does not need it.
        let instance = unsafe {
            let instance = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            result::graph::destroy(graph).and(instance)
        };
        Ok(Some(Recording { context: context.clone(), graph: instance.map_err(failed)? }))
    }

    /// Queues all of a recording.
    pub fn replay(&self, recording: &Recording) -> Result<()> {
        let context = self.context();
        // SAFETY: the graph lives as long as the recording, the stream as long as `self`.
        context
            .bind()
            .and_then(|()| unsafe { result::graph::launch(recording.graph, self.stream()) })
            .map_err(|error| context.failed("a recorded step", error))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: instantiated in `record`, destroyed once; the driver keeps it while it still runs.
            let _ = unsafe { result::graph::exec_destroy(self.graph) };
        }
    }
}
