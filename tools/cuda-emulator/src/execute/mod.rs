//! Executing a kernel: loading a module into a device, and launching.

mod access;
mod atomic;
mod block;
mod cooperative;
mod exchange;
mod grid;
mod local;
mod mbarrier;
mod print;
mod run;
mod shared;
mod traffic;
mod warp;

use std::collections::HashMap;
use std::sync::Arc;

pub use cooperative::launch_cooperative;
pub use grid::{launch, launch_into};

use crate::error::{Fault, FaultKind};
use crate::ir::{Program, Symbols, append, program};
use crate::memory::DeviceMemory;
use crate::ptx::{Function, Initial, Module, Space, Variable};

/// Generic addresses from here on are shared memory.
pub(crate) const SHARED_WINDOW: u64 = 0x1_0000_0000;
/// Generic addresses from here on are local memory.
pub(crate) const LOCAL_WINDOW: u64 = 0x2_0000_0000;
/// Size of each of the two windows.
pub(crate) const WINDOW_BYTES: u64 = 0x1_0000_0000;

/// A kernel's parameter: its place in the parameter buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Offset in the buffer, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// What a driver needs to know of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Name in the PTX.
    pub name: String,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Size of the parameter buffer in bytes.
    pub parameter_bytes: u32,
    /// Statically declared shared memory in bytes.
    pub shared_static: u32,
    /// Local memory of a thread in bytes, without the calls' frames.
    pub local_bytes: u32,
    /// Most threads a block may have.
    pub max_threads: u32,
    /// Registers of a thread: an estimate (the PTX has virtual registers only).
    pub registers: u32,
}

/// A module whose variables live in a device's memory.
pub struct LoadedModule {
    module: Arc<Module>,
    /// Address and size of each variable by name.
    globals: HashMap<String, (u64, u64)>,
    kernels: Vec<Kernel>,
    /// The decoded code of each kernel, in the same order.
    programs: Vec<Program>,
}

/// A kernel with its grid and arguments.
pub struct Launch<'a> {
    /// Which kernel.
    pub kernel: &'a Kernel,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// The parameter buffer, [`Kernel::parameter_bytes`] long.
    pub parameters: &'a [u8],
}

/// What to observe, and with how many host threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host threads for the blocks of a launch.
    pub threads: usize,
    /// Report reads of bytes that nothing has written.
    pub uninitialised: bool,
    /// Report races on shared memory.
    pub races: bool,
    /// Count sectors and bank conflicts (instructions are always counted).
    pub count: bool,
    /// Run only so many blocks of a launch, evenly spread over it, and count each for as many as it stands for.
    /// What the launch computes means nothing then.
    pub blocks: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, uninitialised: true, races: true, count: true, blocks: None }
    }
}

impl LoadedModule {
    /// Decodes every instruction and places the module's variables in the device's memory.
    ///
    /// # Errors
    /// A [`Fault`] that names the line of an instruction the emulator does not know, an unresolved symbol,
    /// or memory that does not suffice.
    pub fn load(module: &Module, memory: &DeviceMemory) -> Result<Self, Fault> {
        let functions: HashMap<String, u64> = (1u64..)
            .zip(module.functions.iter().filter(|function| function.defined))
            .map(|(number, function)| (function.name.clone(), FUNCTIONS + 16 * number))
            .collect();
        let mut symbols = Symbols { globals: HashMap::new(), functions };
        let placed = place_variables(module, memory, &mut symbols);
        let decoded = placed.and_then(|()| {
            let entries = module.functions.iter().filter(|function| function.entry && function.defined);
            entries.map(|function| Ok((program(module, function, &symbols)?, function))).collect()
        });
        let decoded: Vec<(Program, &Function)> = match decoded {
            Ok(decoded) => decoded,
            Err(fault) => {
                for (address, _) in symbols.globals.into_values() {
                    // Allocated just now and unknown to anybody else.
                    let _ = memory.free(address);
                }
                return Err(fault);
            }
        };
        let (mut kernels, mut programs) = (Vec::new(), Vec::new());
        for (program, function) in decoded {
            kernels.push(describe(function, &program));
            programs.push(program);
        }
        Ok(Self { module: Arc::new(module.clone()), globals: symbols.globals, kernels, programs })
    }

    fn program(&self, name: &str) -> Option<&Program> {
        self.kernels.iter().position(|kernel| kernel.name == name).map(|index| &self.programs[index])
    }

    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// All kernels in the order of the PTX.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// Address and size in bytes of a variable of the module.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }

    /// The syntax tree it was loaded from.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Gives the variables' memory back to the device.
    pub fn unload(self, memory: &DeviceMemory) {
        for (address, _) in self.globals.into_values() {
            // Each address was allocated by `load` and nobody else frees it; a second free is harmless.
            let _ = memory.free(address);
        }
    }
}

/// Addresses of functions: no memory is there.
const FUNCTIONS: u64 = 0x3_0000_0000;
/// Threads of the largest block.
const MOST_THREADS: u32 = 1024;
/// The architecture's limits on registers: of a thread, of a multiprocessor.
const MOST_REGISTERS: u32 = 255;
const REGISTERS: u32 = 65536;

/// Registers of a thread, no more than a block of the largest size can have: a compiler sees to it that such
/// a block fits, and virtual registers are many more than are alive at once.
fn registers(virtual_registers: u32, max_threads: u32) -> u32 {
    let share = REGISTERS / max_threads.next_multiple_of(128).max(128) / 8 * 8;
    virtual_registers.min(share).min(MOST_REGISTERS)
}

/// Allocates the module's global and constant variables and writes their initial values.
fn place_variables(module: &Module, memory: &DeviceMemory, symbols: &mut Symbols) -> Result<(), Fault> {
    let in_memory =
        |variable: &&Variable| matches!(variable.space, Space::Global | Space::Const) && !variable.external;
    for variable in module.variables.iter().filter(in_memory) {
        let address = memory.allocate(variable.size).ok_or_else(|| {
            let message = format!("the variable `{}` of {} bytes does not fit", variable.name, variable.size);
            Fault::new(FaultKind::OutOfMemory, message)
        })?;
        symbols.globals.insert(variable.name.clone(), (address, variable.size));
    }
    for variable in module.variables.iter().filter(in_memory) {
        let bytes = initial_bytes(variable, symbols)?;
        let (address, _) = symbols.globals[&variable.name];
        memory
            .write(address, &bytes)
            .map_err(|error| Fault::new(FaultKind::OutOfMemory, format!("`{}`: {error}", variable.name)))?;
    }
    Ok(())
}

fn initial_bytes(variable: &Variable, symbols: &Symbols) -> Result<Vec<u8>, Fault> {
    let size = variable.ty.size().min(8) as usize;
    let mut bytes = vec![0; variable.size as usize];
    for (target, value) in bytes.chunks_mut(size).zip(&variable.initial) {
        let bits = match value {
            Initial::Bits(bits) => *bits,
            Initial::Symbol(name, offset) => {
                let known = symbols.globals.get(name).map(|&(address, _)| address);
                let address = known.or(symbols.functions.get(name).copied()).ok_or_else(|| {
                    let message = format!("`{name}`, in the value of `{}`, is not defined", variable.name);
                    let fault = Fault::new(FaultKind::UnresolvedSymbol, message);
                    Fault { ptx_line: variable.line, ..fault }
                })?;
                address.wrapping_add(*offset as u64)
            }
        };
        let count = target.len();
        target.copy_from_slice(&bits.to_le_bytes()[..count]);
    }
    Ok(bytes)
}

fn describe(function: &Function, program: &Program) -> Kernel {
    let mut parameters = Vec::new();
    let mut end = 0u32;
    for &index in &function.parameters {
        let variable = &function.variables[index];
        let offset = append(&mut end, variable);
        parameters.push(Parameter { offset, size: variable.size as u32, align: variable.align });
    }
    let code = &program.functions[0];
    Kernel {
        name: function.name.clone(),
        parameters,
        parameter_bytes: end,
        shared_static: program.shared_static,
        local_bytes: code.local_bytes,
        max_threads: function.max_threads.unwrap_or(MOST_THREADS),
        registers: registers(
            code.words.saturating_add(code.longs.saturating_mul(2)),
            function.max_threads.unwrap_or(MOST_THREADS),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_the_largest_size_has_its_registers() {
        for threads in [1, 32, 96, 128, 256, 384, 512, 640, 768, 1000, 1024] {
            let each = registers(10_000, threads);
            // Allocation is by warps in units of 256, over four schedulers.
            let warps = threads.div_ceil(32).next_multiple_of(4);
            assert!(warps * (each * 32).next_multiple_of(256) <= REGISTERS, "{threads} threads: {each}");
        }
        assert_eq!(registers(40, 256), 40);
        assert_eq!(registers(10_000, 128), 255);
    }
}
