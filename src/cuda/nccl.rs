//! Means over the cards of several processes, by NCCL (version 2.10 or newer), which is loaded when it is first asked for.
//!
//! This has been compiled and not yet run: no machine with two cards was at hand.

use super::events::Event;
use super::memory::Write;
use super::queue::Queue;
use crate::error::{Error, Result};
use cudarc::driver::{result as driver, sys as driver_sys};
use cudarc::nccl::{result, sys};
use std::ffi::c_char;
use std::sync::Arc;

/// What we call of the library: cudarc panics at a function that it does not find, so we look first.
const SYMBOLS: [&str; 4] = ["ncclGetUniqueId", "ncclCommInitRank", "ncclAllReduce", "ncclCommDestroy"];

const REMEDY: &str =
    "install NCCL (libnccl.so.2), or build without the feature nccl: gradients take the way by the host then";

/// A card's part in a job of several.
pub struct Nccl {
    queue: Arc<Queue>,
    job: sys::ncclComm_t,
    /// Means, beside what the queue is given meanwhile.
    stream: driver_sys::CUstream,
    given: Event,
    done: Event,
}

/// Whether the library is there with all that is needed of it.
///
/// # Errors
/// Where it is not.
pub fn require() -> Result<()> {
    // SAFETY: only looks whether the dynamic library can be loaded.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::new("NCCL", "its library cannot be loaded", REMEDY));
    }
    // SAFETY: looking a name up calls nothing.
    let has = |name: &&str| unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_ok();
    match SYMBOLS.iter().find(|name| !has(name)) {
        Some(name) => Err(Error::new("NCCL", format!("its library has no {name}"), REMEDY)),
        None => Ok(()),
    }
}

/// What all cards of a new job need to find each other.
///
/// # Errors
/// No library, and what NCCL finds wrong.
pub fn new_job() -> Result<Vec<u8>> {
    require()?;
    let id = result::get_uniqueid().map_err(|error| failed("a new job", &error))?;
    Ok(id.internal.iter().map(|&byte| byte as u8).collect())
}

fn failed(what: &str, error: &result::NcclError) -> Error {
    Error::new("NCCL", format!("{what} fails: {:?}", error.0), "NCCL_DEBUG=WARN says more")
}

impl Nccl {
    /// Joins the job `id`; returns when all of its `size` ranks have.
    ///
    /// # Errors
    /// What NCCL or the driver finds wrong.
    pub fn join(queue: &Arc<Queue>, id: &[u8], rank: usize, size: usize) -> Result<Self> {
        let context = queue.context();
        let created =
            context.bind().and_then(|()| driver::stream::create(driver::stream::StreamKind::NonBlocking));
        let stream = created.map_err(|error| context.failed("a stream", error))?;
        let internal = std::array::from_fn(|i| id.get(i).copied().unwrap_or_default() as c_char);
        let mut job = std::ptr::null_mut();
        let id = sys::ncclUniqueId { internal };
        // SAFETY: the context of the card is bound to this thread, and `job` outlives the call.
        unsafe { result::comm_init_rank(&mut job, size as i32, id, rank as i32) }
            .map_err(|error| failed("joining the other cards", &error))?;
        let (given, done) = (Event::new(context, false)?, Event::new(context, false)?);
        Ok(Self { queue: queue.clone(), job, stream, given, done })
    }

    /// Begins to replace `piece` by its mean over all ranks, behind all that the queue was given so far and beside what it is given from
    /// now on, which must leave the piece alone up to [`Nccl::finish`].
    ///
    /// # Errors
    /// Those of NCCL and of the driver.
    pub fn begin(&self, piece: Write<f32>) -> Result<()> {
        // SAFETY: both streams are of the event's context.
        unsafe { self.given.record(self.queue.stream()).and_then(|()| self.given.hold(self.stream)) }?;
        let (kind, mean) = (sys::ncclDataType_t::ncclFloat32, sys::ncclRedOp_t::ncclAvg);
        let (from, into) = (piece.address as *const _, piece.address as *mut _);
        // SAFETY: the piece has so many values, on the card of this job; whoever owns it keeps it until the queue has passed.
        unsafe { result::all_reduce(from, into, piece.len, kind, mean, self.job, self.stream.cast()) }
            .map(drop)
            .map_err(|error| failed("a mean over the cards", &error))
    }

    /// What the queue is given from now on runs behind all means that were begun.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn finish(&self) -> Result<()> {
        // SAFETY: both streams are of the event's context.
        unsafe { self.done.record(self.stream).and_then(|()| self.done.hold(self.queue.stream())) }
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        if self.queue.context().bind().is_err() {
            return;
        }
        // SAFETY: both were made in `join` and are destroyed once, behind all that was begun.
        unsafe {
            let _ = driver::stream::synchronize(self.stream);
            let _ = result::comm_destroy(self.job);
            let _ = driver::stream::destroy(self.stream);
        }
    }
}
