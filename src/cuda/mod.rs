//! The CUDA half: the driver ([`driver`]), device memory ([`memory`]), checked launches ([`queue`]) of the kernels in
//! `kernels/*.cu` ([`kernels`], generated from their signatures).

pub mod driver;
pub mod emulator;
pub mod memory;
pub mod nvrtc;
pub mod queue;
mod staging;

pub use driver::{Card, Context, DriverState, driver_state};
pub use memory::{Array, Read, Write};
pub use queue::{Launch, Precision, Queue, THREADS, int};

/// A typed launch for every entry point of `kernels/*.cu`.
pub mod kernels {
    use crate::cuda::memory::{Read, Write};
    use crate::cuda::queue::{Argument, Entry, File, Launch, Queue};
    use crate::error::Result;

    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}
