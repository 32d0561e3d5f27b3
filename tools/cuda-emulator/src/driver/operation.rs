//! What a stream does: one piece of work, run at once or kept as a node of a graph.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::abi::HostFunction;
use super::copy::{Copy, Fill};
use super::event::Event;
use super::mirror;
use super::module::Function;
use super::state::{Context, Driver, lock};
use super::status::{Outcome, Status};
use crate::error::FaultKind;
use crate::execute;

/// A launch with its arguments.
#[derive(Clone)]
pub struct KernelLaunch {
    pub function: Arc<Function>,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub parameters: Arc<[u8]>,
    /// The blocks may wait for each other.
    pub cooperative: bool,
}

/// A host function with its argument.
#[derive(Clone, Copy)]
pub struct HostCall {
    pub function: HostFunction,
    pub data: usize,
}

/// One piece of work of a stream.
#[derive(Clone)]
pub enum Operation {
    Kernel(KernelLaunch),
    Copy(Copy),
    Fill(Fill),
    Host(HostCall),
    Record(Arc<Event>),
    /// A wait for an event: work runs in submission order, so the event has happened.
    Wait,
    /// An allocation or a release, done when it was submitted.
    Allocate,
    Free,
    Empty,
    /// The nodes of another graph, in order.
    Child(Vec<Operation>),
}

impl Operation {
    /// `CUgraphNodeType`.
    pub fn node_type(&self) -> c_int {
        match self {
            Self::Kernel(_) => 0,
            Self::Copy(_) => 1,
            Self::Fill(_) => 2,
            Self::Host(_) => 3,
            Self::Child(_) => 4,
            Self::Empty => 5,
            Self::Wait => 6,
            Self::Record(_) => 7,
            Self::Allocate => 10,
            Self::Free => 11,
        }
    }

    /// Runs to its end. A failure makes the context unusable, as the failure of asynchronous work does.
    pub fn run(&self, driver: &Driver, context: &Context) {
        let outcome = match self {
            Self::Kernel(launch) => launch.run(driver),
            Self::Copy(copy) => {
                alone(driver, copy.changes_device(), || copy.run().map_err(|_| Status::ILLEGAL_ADDRESS))
            }
            Self::Fill(fill) => alone(driver, true, || fill.run().map_err(|_| Status::ILLEGAL_ADDRESS)),
            Self::Host(call) => {
                // SAFETY: the program handed in a function to be called with this argument.
                unsafe { (call.function)(call.data as *mut _) };
                Ok(())
            }
            Self::Record(event) => {
                event.happened();
                Ok(())
            }
            Self::Child(operations) => {
                run_all(operations, driver, context);
                Ok(())
            }
            Self::Wait | Self::Allocate | Self::Free | Self::Empty => Ok(()),
        };
        if let Err(status) = outcome {
            context.fail(status);
        }
    }
}

/// Does work on device memory with no other work beside it, around it the exchange of shared memory.
fn alone<T>(driver: &Driver, changes_device: bool, work: impl FnOnce() -> T) -> T {
    let _one_at_a_time = lock(&driver.execution);
    mirror::to_device(driver);
    let outcome = work();
    if changes_device {
        mirror::to_host(driver);
    }
    outcome
}

/// Runs operations one after another until one fails.
pub fn run_all<'a>(operations: impl IntoIterator<Item = &'a Operation>, driver: &Driver, context: &Context) {
    for operation in operations {
        if context.healthy().is_err() {
            return;
        }
        operation.run(driver, context);
    }
}

impl KernelLaunch {
    fn run(&self, driver: &Driver) -> Outcome {
        let number = driver.launches.fetch_add(1, Ordering::Relaxed) + 1;
        let kernel = self.function.kernel();
        if driver.configuration.fail_after == Some(number) {
            eprintln!(
                "cuda-emulator: launch {number} ({}) fails as CUDA_EMULATOR_FAIL_AFTER asks",
                kernel.name
            );
            return Err(Status::LAUNCH_FAILED);
        }
        let launch = execute::Launch {
            kernel,
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared_bytes,
            parameters: &self.parameters,
        };
        let image = &self.function.image;
        let memory = &image.device.memory;
        let counted = alone(driver, true, || {
            let run = if self.cooperative { execute::launch_cooperative } else { execute::launch };
            run(image.loaded(), &launch, memory, &driver.settings)
        });
        match counted {
            Ok(counters) => {
                driver.reporter.count(&driver.configuration, self, &counters);
                Ok(())
            }
            Err(fault) => {
                eprintln!("cuda-emulator: {fault}");
                driver.reporter.find(fault.kind.name(), fault.to_string());
                Err(status_of(fault.kind))
            }
        }
    }
}

/// The code a card returns for a fault, or would return if it noticed.
pub fn status_of(kind: FaultKind) -> Status {
    match kind {
        FaultKind::OutOfBounds | FaultKind::FreedMemory => Status::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Status::MISALIGNED_ADDRESS,
        FaultKind::UnknownInstruction => Status::ILLEGAL_INSTRUCTION,
        FaultKind::Assert => Status::ASSERT,
        FaultKind::InvalidLaunch => Status::INVALID_VALUE,
        FaultKind::OutOfMemory => Status::OUT_OF_MEMORY,
        FaultKind::StackOverflow => Status::HARDWARE_STACK_ERROR,
        FaultKind::Timeout => Status::LAUNCH_TIMEOUT,
        FaultKind::UnresolvedSymbol => Status::INVALID_PTX,
        FaultKind::Uninitialised
        | FaultKind::SharedRace
        | FaultKind::DivergentBarrier
        | FaultKind::MissingWait
        | FaultKind::Trap => Status::LAUNCH_FAILED,
    }
}
