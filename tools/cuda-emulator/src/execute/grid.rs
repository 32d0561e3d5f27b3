//! A launch: the blocks of a grid over the host's threads.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::block::Block;
use super::warp::Place;
use super::{Launch, LoadedModule, Settings};
use crate::error::{Fault, FaultKind};
use crate::ir::Program;
use crate::memory::DeviceMemory;
use crate::observe::Counters;

/// Shared memory that a block may have on a card of compute capability 8.6, in bytes.
const MOST_SHARED: u32 = 99 << 10;

/// Runs a kernel to its end; what it prints goes to standard output, block by block.
///
/// # Errors
/// The first [`Fault`] in block order.
pub fn launch(
    module: &LoadedModule,
    launch: &Launch<'_>,
    memory: &DeviceMemory,
    settings: &Settings,
) -> Result<Counters, Fault> {
    let mut printed = Vec::new();
    let result = launch_into(module, launch, memory, settings, &mut printed);
    // A closed standard output is no fault of the kernel.
    let _ = std::io::stdout().write_all(&printed);
    result
}

/// As [`launch`], but appends what the kernel prints to `printed`.
///
/// # Errors
/// The first [`Fault`] in block order.
pub fn launch_into(
    module: &LoadedModule,
    launch: &Launch<'_>,
    memory: &DeviceMemory,
    settings: &Settings,
    printed: &mut Vec<u8>,
) -> Result<Counters, Fault> {
    let name = &launch.kernel.name;
    let refuse = |message: String| {
        let mut fault = Fault::new(FaultKind::InvalidLaunch, message);
        fault.kernel.clone_from(name);
        fault
    };
    let Some(program) = module.program(name) else {
        return Err(refuse(format!("the module has no kernel `{name}`")));
    };
    let place = check(launch, program).map_err(refuse)?;
    let grid = launch.grid.iter().map(|&n| u64::from(n)).product();
    let blocks = settings.blocks.map_or(grid, |most| most.clamp(1, grid));
    let shared = Shared {
        sample: Sample { blocks, of: grid },
        next: AtomicU64::new(0),
        end: AtomicU64::new(blocks),
        outcome: Mutex::new(Outcome::default()),
    };
    let work = || {
        let mut block =
            Block::new(program, memory, settings, launch.parameters, name, &module.module().files, place);
        shared.work(&mut block, launch.grid);
    };
    let threads = (settings.threads as u64).clamp(1, blocks.max(1));
    if threads == 1 {
        work();
    } else {
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    }
    memory.settle_heap();
    let mut outcome = shared.outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcome.printed.sort_by_key(|&(index, _)| index);
    let last = outcome.fault.as_ref().map_or(u64::MAX, |&(index, _)| index);
    for (_, text) in outcome.printed.iter().filter(|&&(index, _)| index <= last) {
        printed.extend_from_slice(text);
    }
    match outcome.fault {
        Some((_, fault)) => Err(fault),
        None => Ok(outcome.counters.scaled(grid, blocks)),
    }
}

/// The blocks of a grid that run.
#[derive(Clone, Copy)]
struct Sample {
    blocks: u64,
    of: u64,
}

impl Sample {
    /// One block of each of as many equal stretches as blocks run, its place in the stretch by multiples of the golden
    /// ratio: no period of the grid, such as the lines of an image, is met at one phase only.
    fn block(self, number: u64) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        if self.blocks == self.of {
            return number;
        }
        let place = u128::from(GOLDEN.wrapping_mul(number + 1));
        // In 64 bits behind the point; below `of`, because `number` is below `blocks`.
        let stretches = ((u128::from(number) << 64) | place) / u128::from(self.blocks);
        ((stretches * u128::from(self.of)) >> 64) as u64
    }
}

/// What the workers of a launch share.
struct Shared {
    sample: Sample,
    /// Number of the next block of the sample.
    next: AtomicU64,
    /// Blocks from this number on need not run.
    end: AtomicU64,
    outcome: Mutex<Outcome>,
}

#[derive(Default)]
struct Outcome {
    counters: Counters,
    printed: Vec<(u64, Vec<u8>)>,
    fault: Option<(u64, Fault)>,
}

impl Shared {
    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work(&self, block: &mut Block<'_>, grid: [u32; 3]) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end.load(Ordering::Relaxed) {
                break;
            }
            let [x, y, _] = grid.map(u64::from);
            let place = self.sample.block(number);
            let index = [place % x, place / x % y, place / (x * y)].map(|n| n as u32);
            let result = block.run(index);
            if !block.printed.is_empty() {
                self.outcome().printed.push((number, std::mem::take(&mut block.printed)));
            }
            if let Err(fault) = result {
                self.end.fetch_min(number, Ordering::Relaxed);
                let mut outcome = self.outcome();
                if outcome.fault.as_ref().is_none_or(|&(first, _)| number < first) {
                    outcome.fault = Some((number, fault));
                }
                break;
            }
        }
        let counters = totals(block);
        self.outcome().counters.add(&counters);
    }
}

/// A worker's counters with the instructions by class.
pub(super) fn totals(block: &Block<'_>) -> Counters {
    let mut counters = block.counters.clone();
    for ((instruction, &lanes), &warps) in
        block.program.code.iter().zip(&block.lane_counts).zip(&block.warp_counts)
    {
        counters.lane_instructions[instruction.class as usize] += lanes;
        counters.warp_instructions += warps;
        counters.tensor_operations += warps * u64::from(instruction.tensor_operations);
    }
    counters
}

/// Whether the device can run such a launch.
pub(super) fn check(launch: &Launch<'_>, program: &Program) -> Result<Place, String> {
    let kernel = launch.kernel;
    let threads = launch.block.iter().map(|&n| u64::from(n)).product::<u64>();
    if launch.grid.contains(&0) || launch.block.contains(&0) {
        return Err(format!("an empty grid {:?} or block {:?}", launch.grid, launch.block));
    }
    if threads > u64::from(kernel.max_threads) || launch.block[2] > 64 {
        return Err(format!("{threads} threads in a block, the kernel allows {}", kernel.max_threads));
    }
    if launch.grid[1] > 65535 || launch.grid[2] > 65535 || launch.grid[0] > i32::MAX as u32 {
        return Err(format!("a grid of {:?} blocks exceeds the device's limits", launch.grid));
    }
    let shared_total = program.shared_static.saturating_add(launch.shared_bytes);
    if shared_total > MOST_SHARED {
        return Err(format!("{shared_total} bytes of shared memory, a block has at most {MOST_SHARED}"));
    }
    if launch.parameters.len() != kernel.parameter_bytes as usize {
        return Err(format!(
            "{} bytes of parameters, the kernel takes {}",
            launch.parameters.len(),
            kernel.parameter_bytes
        ));
    }
    Ok(Place {
        grid: launch.grid,
        block: launch.block,
        index: [0; 3],
        shared_total,
        shared_dynamic: launch.shared_bytes,
        workspace: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_a_block_of_each_stretch() {
        for (blocks, of) in [(1, 1), (1, 7), (4, 4), (8, 768), (5, 17), (3, 1 << 40)] {
            let sample = Sample { blocks, of };
            for number in 0..blocks {
                let stretch = number * of / blocks..=((number + 1) * of).div_ceil(blocks) - 1;
                let block = sample.block(number);
                assert!(stretch.contains(&block), "{block} of {of} is number {number} of {blocks}");
            }
        }
    }

    #[test]
    fn a_sample_meets_the_phases_of_a_period() {
        let sample = Sample { blocks: 8, of: 768 };
        let phases: std::collections::HashSet<u64> =
            (0..8).map(|number| sample.block(number) % 96 / 24).collect();
        assert_eq!(phases.len(), 4);
    }
}
