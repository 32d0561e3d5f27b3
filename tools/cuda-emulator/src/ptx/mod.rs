//! PTX text to a syntax tree. Registers, labels and the variables of functions are resolved to indices
//! here; what an instruction means is decided in [`crate::ir`].

mod body;
mod lexer;
mod parser;

use std::collections::HashMap;
use std::fmt;

/// Why a text is not a PTX module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line in the text, from 1.
    pub line: u32,
    /// What was expected and found.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

/// A state space of PTX (PTX ISA, "State Spaces").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Memory of the device.
    Global,
    /// Read-only memory of the module.
    Const,
    /// Memory of a block.
    Shared,
    /// Memory of a thread.
    Local,
    /// Parameters of a kernel or of a function.
    Param,
    /// An address that may be of any of the spaces.
    Generic,
}

/// A fundamental type of PTX, with its width in bits where it is a bit-size type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are PTX's own.
pub enum Type {
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    Pred,
}

impl Type {
    /// The type that a suffix without its dot names.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "b128" => Self::B128,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Size in bytes; a predicate has none.
    pub fn size(self) -> u32 {
        match self {
            Self::Pred => 0,
            Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 2,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
            Self::B128 => 16,
            _ => 4,
        }
    }

    /// Whether values are two's complement numbers.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }
}

/// One value of an initialiser.
#[derive(Clone, Debug, PartialEq)]
pub enum Initial {
    /// A number, as bits of the variable's element type.
    Bits(u64),
    /// The address of a variable or function, plus a number of bytes.
    Symbol(String, i64),
}

/// A variable or parameter in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Name in the text.
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// Type of an element.
    pub ty: Type,
    /// Alignment in bytes.
    pub align: u32,
    /// Size in bytes; 0 for an unsized array (dynamic shared memory).
    pub size: u64,
    /// Values of the first elements; the rest is zero.
    pub initial: Vec<Initial>,
    /// Declared here, defined in another module.
    pub external: bool,
    /// Line of the declaration.
    pub line: u32,
}

/// What a memory operand's address starts from.
#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    /// A register of the function, by index.
    Register(usize),
    /// A variable of the function (or one of its parameters), by index in [`Function::variables`].
    Variable(usize),
    /// A variable of the module, by name.
    Symbol(String),
    /// An absolute address.
    Absolute,
}

/// An operand of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, by index in [`Function::registers`].
    Register(usize),
    /// A predicate register read with the opposite sense (`!%p1`).
    Negated(usize),
    /// A special register such as `%tid.x`.
    Special(String),
    /// An integer, as 64 bits.
    Integer(u64),
    /// A single-precision constant, as bits.
    Single(u32),
    /// A double-precision constant, as bits.
    Double(u64),
    /// `{a, b, ...}` or, in calls, `(a, b, ...)`.
    Vector(Vec<Operand>),
    /// `a|b`: two destinations.
    Pair(Box<Operand>, Box<Operand>),
    /// `[base + offset]`.
    Address(Base, i64),
    /// A variable of the function, by index, and a number of bytes.
    Variable(usize, i64),
    /// A variable or function of the module, by name, and a number of bytes.
    Symbol(String, i64),
    /// An instruction of this function, by index.
    Label(usize),
    /// `_`: no destination.
    Sink,
}

/// An instruction as it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// Predicate register and whether its sense is inverted.
    pub guard: Option<(usize, bool)>,
    /// The opcode's parts between the dots: `["ld", "global", "v4", "f32"]`.
    pub opcode: Vec<String>,
    /// The operands in order.
    pub operands: Vec<Operand>,
    /// Line in the PTX text.
    pub line: u32,
    /// File number and line of the nearest `.loc` before it.
    pub source: Option<(u32, u32)>,
}

/// A kernel or a device function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Name in the text.
    pub name: String,
    /// Whether it is a kernel.
    pub entry: bool,
    /// Indices in `variables` of what it returns.
    pub returns: Vec<usize>,
    /// Indices in `variables` of its parameters.
    pub parameters: Vec<usize>,
    /// Types of the registers.
    pub registers: Vec<Type>,
    /// Parameters and variables declared inside, in order.
    pub variables: Vec<Variable>,
    /// Instructions; empty for a declaration.
    pub body: Vec<Instruction>,
    /// Targets of `brx.idx` and `call` tables by name: labels as instruction indices.
    pub branch_targets: HashMap<String, Vec<usize>>,
    /// Whether it has a body (a declaration has none).
    pub defined: bool,
    /// Threads a block may have, from `.maxntid` or `.reqntid`.
    pub max_threads: Option<u32>,
    /// Line of its first word.
    pub line: u32,
}

/// A PTX module.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// PTX ISA version, major and minor.
    pub version: (u32, u32),
    /// Target architecture, such as `sm_80`.
    pub target: String,
    /// Source files by number, from `.file`.
    pub files: HashMap<u32, String>,
    /// Variables of the module.
    pub variables: Vec<Variable>,
    /// Kernels and functions, each once (a definition replaces its declaration).
    pub functions: Vec<Function>,
}

impl Module {
    /// Parses a module.
    ///
    /// # Errors
    /// [`ParseError`] with the line and what was expected there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
    }
}
