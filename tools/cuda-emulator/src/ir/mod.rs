//! Decoded instructions: what the executor runs. A kernel is decoded together with the functions it can
//! reach into one [`Program`]; registers are rows of a file, constants and special registers are rows that
//! a frame is born with, labels are indices into the code.

mod access;
mod bits;
mod compare;
mod control;
mod convert;
mod decode;
mod float;
mod half;
mod integer;
pub mod matrix;
mod matrix_exact;
pub mod mbarrier;
mod program;
pub mod registers;
pub mod rounding;

pub use decode::Symbols;
pub(crate) use program::append;
pub use program::program;
use registers::Registers;

use crate::observe::Class;
use crate::ptx::Space;

/// A lane-wise instruction on registers: its operands are captured, the argument is the mask of lanes.
pub type LaneOperation = Box<dyn Fn(&mut Registers, u32) + Send + Sync>;

/// Value of a special register that does not change while a frame lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of PTX.
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    WarpCount,
    MaskEq,
    MaskLt,
    MaskLe,
    MaskGt,
    MaskGe,
    SharedTotal,
    SharedDynamic,
    /// The two halves of the address of a cooperative launch's workspace, the lower one first.
    Workspace(usize),
    Zero,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressBase {
    /// A row of the 32-bit file, zero-extended.
    Word(u32),
    /// A row of the 64-bit file.
    Long(u32),
    /// Nothing: the offset is the address.
    Absolute,
    /// The local memory of the current frame.
    Frame,
}

/// A row of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Of the 32-bit file.
    Word(u32),
    /// Of the 64-bit file.
    Long(u32),
}

/// A load or store of one to four elements.
#[derive(Clone, Debug)]
pub struct Access {
    /// State space of the address.
    pub space: Space,
    /// Register part of the address.
    pub base: AddressBase,
    /// Constant part of the address.
    pub offset: i64,
    /// Bytes of an element.
    pub size: u32,
    /// Whether a loaded element is sign-extended into its register.
    pub signed: bool,
    /// A register for each element.
    pub rows: Vec<Row>,
}

/// What an atomic operation does to the old value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of PTX.
pub enum AtomicKind {
    Add,
    Min { signed: bool },
    Max { signed: bool },
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
    AddF32,
    AddF64,
    AddF16,
    AddF16x2,
    AddBf16,
    AddBf16x2,
}

/// Which lane a shuffle reads (PTX ISA, `shfl.sync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of PTX.
pub enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What a vote returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of PTX.
pub enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// What `redux.sync` computes over the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of PTX.
pub enum Reduction {
    Add,
    Min { signed: bool },
    Max { signed: bool },
    And,
    Or,
    Xor,
}

/// Who a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A function of the program, by index.
    Function(usize),
    /// The function whose address is in a row of the 64-bit file.
    Indirect(u32),
    /// `vprintf`.
    Print,
    /// `__assertfail`.
    AssertFail,
    /// `malloc`.
    Allocate,
    /// `free`.
    Free,
}

/// Bytes that a call copies between two frames' local memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Offset in the caller's local memory.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// A decoded instruction's effect.
#[allow(missing_docs)] // Field names are those of the PTX ISA's syntax lines.
pub enum Operation {
    /// Registers only, lane by lane (or, for matrix products, over the whole warp).
    Lanes(LaneOperation),
    /// As `Lanes`, but all 32 lanes must take part.
    Warp(LaneOperation),
    Load(Access),
    Store(Access),
    /// `ld.param` of a kernel: the same bytes for every lane.
    LoadParameter(Access),
    Atomic {
        kind: AtomicKind,
        access: Access,
        b: Row,
        c: Option<Row>,
        returns: bool,
    },
    /// `cp.async`: rows of the shared and the global address, bytes copied and, where given, the row that
    /// says how many of them come from memory (the rest is zero).
    CopyAsync {
        shared: Access,
        global: Access,
        size: u32,
        source: Option<Row>,
        ignore: Option<(u32, bool)>,
    },
    CommitGroup,
    /// Waits until at most this many of the lane's groups are under way; `None` also for what is in no group.
    WaitGroup(Option<u32>),
    LoadMatrix {
        shared: Access,
        count: u32,
        transposed: bool,
    },
    /// `wmma.load` and `wmma.store`.
    LoadFragment {
        access: Access,
        stride: Option<Row>,
        layout: matrix::FragmentLayout,
    },
    StoreFragment {
        access: Access,
        stride: Option<Row>,
        layout: matrix::FragmentLayout,
    },
    /// Address of a variable in the frame's local memory.
    FrameAddress {
        d: Row,
        offset: u32,
    },
    Shuffle {
        mode: ShuffleMode,
        d: u32,
        p: Option<u32>,
        a: u32,
        b: u32,
        c: u32,
        members: u32,
    },
    Vote {
        mode: VoteMode,
        d: u32,
        p: u32,
        negated: bool,
        members: u32,
    },
    Match {
        all: bool,
        d: u32,
        p: Option<u32>,
        a: Row,
        members: u32,
    },
    Reduce {
        kind: Reduction,
        d: u32,
        a: u32,
        members: u32,
    },
    ActiveMask {
        d: u32,
    },
    SyncWarp {
        members: u32,
    },
    Barrier {
        aligned: bool,
        id: u32,
        count: Option<u32>,
        wait: bool,
    },
    /// `barrier.red`: reduces a predicate over the block.
    BarrierReduce {
        mode: VoteMode,
        d: u32,
        count_ones: bool,
        id: u32,
        threads: Option<u32>,
        p: u32,
        negated: bool,
    },
    /// An instruction on a barrier object in shared memory.
    BarrierObject {
        memory: Access,
        action: mbarrier::BarrierAction,
    },
    Clock {
        d: Row,
    },
    GlobalTimer {
        d: Row,
    },
    Branch {
        target: u32,
    },
    BranchIndexed {
        index: u32,
        targets: Vec<u32>,
    },
    Call {
        callee: Callee,
        arguments: Vec<Argument>,
        results: Vec<Argument>,
    },
    Return,
    Exit,
    Trap,
    Nothing,
}

/// An instruction with its guard and its place in the texts.
pub struct Instruction {
    /// What it does.
    pub operation: Operation,
    /// Predicate row and whether its sense is inverted.
    pub guard: Option<(u32, bool)>,
    /// Class it is counted in.
    pub class: Class,
    /// Floating-point operations of a warp, for tensor-core instructions.
    pub tensor_operations: u32,
    /// Line in the PTX text.
    pub line: u32,
    /// File number and line of the source.
    pub source: Option<(u32, u32)>,
}

/// A function of a program.
#[derive(Clone, Debug, Default)]
pub struct FunctionCode {
    /// Name in the PTX.
    pub name: String,
    /// Index of its first instruction.
    pub start: u32,
    /// Rows of the three files that its frame needs.
    pub words: u32,
    /// Rows of the 64-bit file.
    pub longs: u32,
    /// Predicate rows.
    pub predicates: u32,
    /// Rows of the 32-bit file that hold a constant in every lane.
    pub word_constants: Vec<(u32, u32)>,
    /// Rows of the 64-bit file that hold a constant in every lane.
    pub long_constants: Vec<(u32, u64)>,
    /// Rows that hold special registers.
    pub specials: Vec<(Row, Special)>,
    /// Local memory of a thread in this frame, parameters included, in bytes.
    pub local_bytes: u32,
    /// Where parameters lie in the frame's local memory.
    pub parameters: Vec<Argument>,
    /// Where return values lie in the frame's local memory.
    pub returns: Vec<Argument>,
    /// Address that a pointer to this function holds.
    pub address: u64,
}

/// A kernel with everything it can reach.
pub struct Program {
    /// The code of all functions, one after the other.
    pub code: Vec<Instruction>,
    /// The kernel first, then the functions it reaches.
    pub functions: Vec<FunctionCode>,
    /// Statically declared shared memory in bytes.
    pub shared_static: u32,
}
