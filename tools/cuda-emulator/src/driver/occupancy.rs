//! Occupancy of an `sm_86` multiprocessor (CUDA occupancy calculator, compute capability 8.6).

use std::ffi::{c_int, c_uint};

use super::abi::{Handle, Out, put};
use super::device::{
    MAX_BLOCKS_PER_MULTIPROCESSOR, MAX_THREADS_PER_BLOCK, MAX_THREADS_PER_MULTIPROCESSOR, MULTIPROCESSORS,
    REGISTERS_PER_MULTIPROCESSOR, SHARED_PER_BLOCK_OPTIN, SHARED_PER_MULTIPROCESSOR,
    SHARED_RESERVED_PER_BLOCK, WARP_SIZE,
};
use super::exports;
use super::module::Function;
use super::state::driver;
use super::status::{Outcome, Status};

/// Registers are given to warps in units of this, shared memory to blocks in units of that.
const REGISTER_UNIT: u32 = 256;
const SHARED_UNIT: u32 = 128;
/// A multiprocessor has four schedulers; a block's warps spread over them evenly.
const SCHEDULERS: u32 = 4;

/// Registers that a block takes from a multiprocessor.
pub fn registers_of_block(registers: u32, threads: u32) -> u32 {
    let warps = threads.div_ceil(WARP_SIZE).next_multiple_of(SCHEDULERS);
    warps * registers_of_warp(registers)
}

fn registers_of_warp(registers: u32) -> u32 {
    (registers.max(1) * WARP_SIZE).next_multiple_of(REGISTER_UNIT)
}

/// Blocks of a kernel that a multiprocessor holds at once; 0 when not even one fits.
pub fn blocks(registers: u32, shared_bytes: u64, threads: u32) -> u32 {
    if threads == 0 || threads > MAX_THREADS_PER_BLOCK || shared_bytes > SHARED_PER_BLOCK_OPTIN.into() {
        return 0;
    }
    let warps = threads.div_ceil(WARP_SIZE);
    let by_threads = MAX_THREADS_PER_MULTIPROCESSOR / WARP_SIZE / warps;
    let warps_of_scheduler = REGISTERS_PER_MULTIPROCESSOR / SCHEDULERS / registers_of_warp(registers);
    let by_registers = warps_of_scheduler * SCHEDULERS / warps;
    let shared = (shared_bytes as u32 + SHARED_RESERVED_PER_BLOCK).next_multiple_of(SHARED_UNIT);
    let by_shared = SHARED_PER_MULTIPROCESSOR / shared;
    by_threads.min(by_registers).min(by_shared).min(MAX_BLOCKS_PER_MULTIPROCESSOR)
}

/// [`blocks`] of a function with dynamic shared memory.
pub fn blocks_per_multiprocessor(function: &Function, threads: u32, dynamic: usize) -> u32 {
    let kernel = function.kernel();
    if threads > kernel.max_threads {
        return 0;
    }
    blocks(kernel.registers, u64::from(kernel.shared_static) + dynamic as u64, threads)
}

fn active_blocks(out: Out<c_int>, function: Handle, threads: c_int, dynamic: usize) -> Outcome {
    let function = driver()?.functions.get(function)?;
    let threads = u32::try_from(threads).ok().filter(|&n| n > 0).ok_or(Status::INVALID_VALUE)?;
    put(out, blocks_per_multiprocessor(&function, threads, dynamic) as c_int)
}

/// `CUoccupancyB2DSize`: dynamic shared memory for a block size.
type BlockToShared = unsafe extern "C" fn(c_int) -> usize;

/// The block size that keeps most threads resident (the larger one among equals), and the least grid
/// that fills the device with it.
fn best_block(
    grid: Out<c_int>,
    block: Out<c_int>,
    function: Handle,
    shared: Option<BlockToShared>,
    dynamic: usize,
    limit: c_int,
) -> Outcome {
    let function = driver()?.functions.get(function)?;
    let most = function.kernel().max_threads;
    let most = if limit > 0 { most.min(limit as u32) } else { most };
    let mut best = (0, 0, 0);
    for threads in
        (1..=most / WARP_SIZE).rev().map(|warps| warps * WARP_SIZE).chain((most < WARP_SIZE).then_some(most))
    {
        // SAFETY: the program handed in a function from block sizes to bytes.
        let bytes = shared.map_or(dynamic, |of| unsafe { of(threads as c_int) });
        let resident = blocks_per_multiprocessor(&function, threads, bytes);
        if resident * threads > best.0 {
            best = (resident * threads, threads, resident);
        }
    }
    put(grid, best.2 as c_int * MULTIPROCESSORS)?;
    put(block, best.1 as c_int)
}

/// Dynamic shared memory a block may take with so many blocks on a multiprocessor.
fn available_shared(out: Out<usize>, function: Handle, resident: c_int) -> Outcome {
    let function = driver()?.functions.get(function)?;
    let resident = u32::try_from(resident).ok().filter(|&n| n > 0).ok_or(Status::INVALID_VALUE)?;
    let share = SHARED_PER_MULTIPROCESSOR / resident / SHARED_UNIT * SHARED_UNIT;
    let block = share.saturating_sub(SHARED_RESERVED_PER_BLOCK).min(SHARED_PER_BLOCK_OPTIN);
    put(out, block.saturating_sub(function.kernel().shared_static) as usize)
}

exports! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        out: Out<c_int>,
        function: Handle,
        threads: c_int,
        dynamic: usize,
    ) {
        active_blocks(out, function, threads, dynamic)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<c_int>,
        function: Handle,
        threads: c_int,
        dynamic: usize,
        _flags: c_uint,
    ) {
        active_blocks(out, function, threads, dynamic)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<c_int>,
        block: Out<c_int>,
        function: Handle,
        shared: Option<BlockToShared>,
        dynamic: usize,
        limit: c_int,
    ) {
        best_block(grid, block, function, shared, dynamic, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<c_int>,
        block: Out<c_int>,
        function: Handle,
        shared: Option<BlockToShared>,
        dynamic: usize,
        limit: c_int,
        _flags: c_uint,
    ) {
        best_block(grid, block, function, shared, dynamic, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        out: Out<usize>,
        function: Handle,
        resident: c_int,
        _threads: c_int,
    ) {
        available_shared(out, function, resident)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of NVIDIA's occupancy calculator for compute capability 8.6.
    #[test]
    fn blocks_follow_the_occupancy_calculator() {
        assert_eq!(blocks(32, 0, 256), 6); // 1536 threads
        assert_eq!(blocks(32, 0, 32), 16); // 16 blocks
        assert_eq!(blocks(255, 0, 256), 1); // registers: 8 warps of 8192
        assert_eq!(blocks(64, 0, 256), 4); // registers: 32 warps
        assert_eq!(blocks(32, 48 << 10, 128), 2); // shared: 2 of 49 KiB in 100
        assert_eq!(blocks(32, 99 << 10, 128), 1);
        assert_eq!(blocks(32, 100 << 10, 128), 0);
        assert_eq!(blocks(32, 0, 1024), 1);
        assert_eq!(blocks(40, 0, 1024), 1);
    }

    #[test]
    fn registers_come_in_units_of_a_warp() {
        assert_eq!(registers_of_block(33, 128), 4 * 1280);
        assert_eq!(registers_of_block(255, 1024), 32 * 8192);
    }
}
