//! A cooperative launch: all blocks are resident at once and take turns, so that they can wait for each
//! other at a barrier across the grid.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::block::Block;
use super::grid::{check, totals};
use super::warp::{Place, Warp};
use super::{Launch, LoadedModule, Settings};
use crate::error::{Fault, FaultKind};
use crate::ir::Program;
use crate::memory::DeviceMemory;
use crate::observe::Counters;

/// Instructions of a warp before the others get their turn: few, because most of a wait is spent polling.
const TURN: u64 = 1 << 10;
/// The workspace that `cooperative_groups` finds through `%envreg1` and `%envreg2`: its size, the barrier.
const WORKSPACE: [u32; 2] = [8, 0];

/// A block on its way.
struct Resident<'a> {
    number: u64,
    block: Block<'a>,
    warps: Vec<Warp>,
    done: bool,
}

/// What the workers hand back: counters, what each block printed, and the findings.
#[derive(Default)]
struct Outcome {
    counters: Counters,
    printed: Vec<(u64, Vec<u8>)>,
    faults: Vec<(u64, Fault)>,
}

/// Runs a kernel whose blocks may wait for each other; what it prints goes to standard output, block by
/// block. The caller has seen to it that a card would hold all blocks at once.
///
/// # Errors
/// The first [`Fault`] in block order of those found before the blocks stopped.
pub fn launch_cooperative(
    module: &LoadedModule,
    launch: &Launch<'_>,
    memory: &DeviceMemory,
    settings: &Settings,
) -> Result<Counters, Fault> {
    let refuse = |kind, message: String| {
        let mut fault = Fault::new(kind, message);
        fault.kernel.clone_from(&launch.kernel.name);
        fault
    };
    let Some(program) = module.program(&launch.kernel.name) else {
        let message = format!("the module has no kernel `{}`", launch.kernel.name);
        return Err(refuse(FaultKind::InvalidLaunch, message));
    };
    let place = check(launch, program).map_err(|message| refuse(FaultKind::InvalidLaunch, message))?;
    let full = || refuse(FaultKind::OutOfMemory, "no room for the workspace of the launch".into());
    let workspace = memory.allocate(8).ok_or_else(full)?;
    let place = Place { workspace, ..place };
    let result = memory
        .write(workspace, &WORKSPACE.map(u32::to_le_bytes).concat())
        .map_err(|_| full())
        .and_then(|()| run(module, program, launch, memory, settings, place));
    // Allocated above, and unknown to the program once its kernel has ended.
    let _ = memory.free(workspace);
    memory.settle_heap();
    result
}

fn run(
    module: &LoadedModule,
    program: &Program,
    launch: &Launch<'_>,
    memory: &DeviceMemory,
    settings: &Settings,
    place: Place,
) -> Result<Counters, Fault> {
    let blocks: u64 = launch.grid.iter().map(|&n| u64::from(n)).product();
    let threads = (settings.threads as u64).clamp(1, blocks);
    let stop = AtomicBool::new(false);
    let outcome = Mutex::new(Outcome::default());
    let work = |first: u64| {
        let (name, files) = (&launch.kernel.name, &module.module().files);
        let numbers = (first..blocks).step_by(threads as usize);
        let mut residents: Vec<Resident<'_>> = numbers
            .map(|number| {
                let mut block = Block::new(program, memory, settings, launch.parameters, name, files, place);
                block.patience = TURN;
                Resident { number, block, warps: Vec::new(), done: false }
            })
            .collect();
        let faults = take_turns(&mut residents, launch.grid, &stop);
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.faults.extend(faults);
        for resident in &mut residents {
            outcome.counters.add(&totals(&resident.block));
            outcome.printed.push((resident.number, std::mem::take(&mut resident.block.printed)));
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        (0..threads).for_each(|first| drop(scope.spawn(move || work(first))));
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.printed.sort_by_key(|&(number, _)| number);
    for (_, text) in &outcome.printed {
        // A closed standard output is no fault of the kernel.
        let _ = std::io::stdout().write_all(text);
    }
    outcome.faults.sort_by_key(|&(number, _)| number);
    match outcome.faults.into_iter().next() {
        Some((_, fault)) => Err(fault),
        None => Ok(outcome.counters),
    }
}

/// Runs these blocks to their end, or until one of the launch has a finding.
fn take_turns(residents: &mut [Resident<'_>], grid: [u32; 3], stop: &AtomicBool) -> Option<(u64, Fault)> {
    let [x, y, _] = grid.map(u64::from);
    let step = |resident: &mut Resident<'_>| -> Result<(), Fault> {
        let number = resident.number;
        if resident.warps.is_empty() {
            let index = [number % x, number / x % y, number / (x * y)].map(|n| n as u32);
            resident.warps = resident.block.start(index)?;
        }
        if !resident.block.turn(&mut resident.warps)? {
            resident.done = true;
            resident.block.finish(&resident.warps)?;
        }
        Ok(())
    };
    while !stop.load(Ordering::Relaxed) {
        let mut all_done = true;
        for resident in residents.iter_mut().filter(|resident| !resident.done) {
            all_done = false;
            if let Err(fault) = step(resident) {
                stop.store(true, Ordering::Relaxed);
                return Some((resident.number, fault));
            }
        }
        if all_done {
            break;
        }
    }
    None
}
