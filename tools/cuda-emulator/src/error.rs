//! Faults: what stops a kernel (or the loading of a module), and where.

use std::fmt;

/// What kind of rule the program broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An address outside every allocation of its memory space.
    OutOfBounds,
    /// An address inside an allocation that has been freed.
    FreedMemory,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// A read of bytes that nothing has written.
    Uninitialised,
    /// Two threads touch a word of shared memory, one of them writing, with no barrier in between.
    SharedRace,
    /// A barrier (or a warp-wide instruction) that not every thread it names can reach.
    DivergentBarrier,
    /// A word is used while an asynchronous copy into it has not been waited for.
    MissingWait,
    /// The module has an instruction, a type or a form that the emulator does not know.
    UnknownInstruction,
    /// A symbol that the module does not define.
    UnresolvedSymbol,
    /// A device-side `assert` failed.
    Assert,
    /// The program executed `trap` or `brkpt`.
    Trap,
    /// The launch asks for what the device or the kernel does not have.
    InvalidLaunch,
    /// The device's memory does not hold the module's variables.
    OutOfMemory,
    /// The call stack or the local memory of a thread overflowed.
    StackOverflow,
    /// A warp ran past the limit of instructions (an endless loop, or a wait for a block that never comes).
    Timeout,
}

impl FaultKind {
    /// The name that messages and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfBounds => "out of bounds",
            Self::FreedMemory => "freed memory",
            Self::Misaligned => "misaligned address",
            Self::Uninitialised => "uninitialised read",
            Self::SharedRace => "shared-memory race",
            Self::DivergentBarrier => "divergent barrier",
            Self::MissingWait => "missing wait for an asynchronous copy",
            Self::UnknownInstruction => "unknown instruction",
            Self::UnresolvedSymbol => "unresolved symbol",
            Self::Assert => "assertion failed",
            Self::Trap => "trap",
            Self::InvalidLaunch => "invalid launch",
            Self::OutOfMemory => "out of memory",
            Self::StackOverflow => "stack overflow",
            Self::Timeout => "no progress",
        }
    }
}

/// A finding that stops the launch or the loading of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule that was broken.
    pub kind: FaultKind,
    /// What was found, with the address, the size and the neighbourhood, in one line.
    pub message: String,
    /// The kernel (or, at load time, the function); empty where there is none.
    pub kernel: String,
    /// `blockIdx` of the thread.
    pub block: [u32; 3],
    /// `threadIdx` of the first thread concerned.
    pub thread: [u32; 3],
    /// The line in the PTX text, from 1; 0 where no instruction is concerned.
    pub ptx_line: u32,
    /// File and line of the source where the PTX carries `.loc`.
    pub source: Option<(String, u32)>,
}

impl Fault {
    /// A fault with no thread yet: the executor adds kernel, block, thread and line.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            kernel: String::new(),
            block: [0; 3],
            thread: [0; 3],
            ptx_line: 0,
            source: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)?;
        if !self.kernel.is_empty() {
            let ([a, b, c], [x, y, z]) = (self.block, self.thread);
            write!(f, "; in {}, block ({a},{b},{c}), thread ({x},{y},{z})", self.kernel)?;
        }
        if self.ptx_line != 0 {
            write!(f, ", PTX line {}", self.ptx_line)?;
        }
        if let Some((file, line)) = &self.source {
            write!(f, ", {file}:{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
