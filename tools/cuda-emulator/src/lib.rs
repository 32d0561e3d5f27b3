//! A software CUDA driver: parses PTX, executes it on the CPU a warp at a time, reports what a card would
//! let pass (out-of-bounds, uninitialised, racing and misaligned accesses, divergent barriers, missing
//! waits for asynchronous copies) and counts instructions, memory sectors and bank conflicts.
//!
//! The layers, from text to driver: [`ptx`] (text to syntax tree), [`ir`] (decoded instructions),
//! [`memory`] (the device's global memory), [`execute`] (a launch), [`observe`] (counters), [`driver`]
//! (the C entry points of `libcuda.so.1`), `runtime` (those of `libcudart.so`, on top of the driver's).
//!
//! The semantics are those of the PTX ISA manual, version 8.4, for `sm_86`.

pub mod driver;
pub mod error;
pub mod execute;
pub mod ir;
pub mod memory;
pub mod observe;
pub mod ptx;
mod runtime;
