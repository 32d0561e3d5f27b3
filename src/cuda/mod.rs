//! The CUDA half: the driver ([`driver`]), device memory ([`memory`]), checked launches ([`queue`]) of the kernels in
//! `kernels/*.cu` ([`kernels`], generated from their signatures), a step recorded once ([`Recording`]), and what keeps
//! the host from waiting for it ([`Inbox`], [`Mailbox`]).

pub mod driver;
pub mod emulator;
mod events;
mod inbox;
mod mailbox;
pub mod memory;
#[cfg(feature = "nccl")]
pub mod nccl;
pub mod nvrtc;
pub mod queue;
mod recording;
mod staging;

pub use driver::{Card, Context, DriverState, driver_state};
pub use events::Event;
pub use inbox::Inbox;
pub use mailbox::Mailbox;
pub use memory::{Array, Read, Write};
pub use queue::{Launch, Precision, Queue, THREADS, int};
pub use recording::Recording;

/// A typed launch for every entry point of `kernels/*.cu`.
pub mod kernels {
    use crate::cuda::memory::{Read, Write};
    use crate::cuda::queue::{Argument, Entry, File, Launch, Queue};
    use crate::error::Result;

    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}
