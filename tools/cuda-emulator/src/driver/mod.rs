//! The driver API: what a program linked against libcuda.so.1 calls.
//!
//! Every entry point is declared through `exports!`, which catches panics, turns the outcome into
//! a `CUresult` and lists the symbol for `cuGetProcAddress`. Work is executed when it is submitted,
//! in submission order, on the calling thread; what a program can observe of streams, events,
//! captures and sticky errors is that of a card.

pub(crate) mod abi;
mod absent;
mod capture;
mod configuration;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod device;
mod entry;
pub(crate) mod event;
mod fatbin;
pub(crate) mod graph;
mod graph_nodes;
pub(crate) mod launch;
mod library;
mod link;
pub(crate) mod memory;
pub(crate) mod mirror;
pub(crate) mod module;
pub(crate) mod occupancy;
mod operation;
pub(crate) mod pool;
mod report;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod stream;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use status::{Outcome, Status};

/// Runs the body of an entry point; a panic must not cross into C.
pub(crate) fn boundary(name: &str, body: impl FnOnce() -> Outcome) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status.0,
        Err(_) => {
            eprintln!("cuda-emulator: internal error in {name}: the call returns CUDA_ERROR_UNKNOWN");
            Status::UNKNOWN.0
        }
    }
}

/// Declares exported functions of the driver API. A body is an expression of type `Outcome`.
///
/// The functions are `unsafe extern "C"`: the caller upholds what cuda.h demands of each pointer
/// (null, or valid for the call). `Out` and `In` parameters are pointers the body need not trust to
/// be non-null.
macro_rules! exports {
    ($( $(#[$note:meta])* fn $name:ident($($argument:ident : $kind:ty),* $(,)?) $body:block )*) => {
        $(
            $(#[$note])*
            // The names are those of the C interface.
            #[allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $kind),*) -> std::ffi::c_int {
                $crate::driver::boundary(stringify!($name), || $body)
            }
        )*
        /// The symbols of this file.
        pub const ENTRIES: &[(&str, *const ())] = &[$((stringify!($name), $name as *const ())),*];
    };
}
use exports;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code() {
        assert_eq!(boundary("a test", || Ok(())), 0);
        assert_eq!(boundary("a test", || Err(Status::INVALID_VALUE)), 1);
        assert_eq!(boundary("a test", || panic!("an invariant does not hold")), 999);
    }
}
