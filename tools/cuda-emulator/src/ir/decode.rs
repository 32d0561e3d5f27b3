//! From the syntax tree to decoded instructions: operands become rows of the register files.

use std::collections::HashMap;

use super::{
    AddressBase, Argument, FunctionCode, Instruction, Row, Special, access, compare, control, convert, float,
    half, integer, matrix,
};
use crate::error::{Fault, FaultKind};
use crate::observe::Class;
use crate::ptx::{self, Base, Function, Operand, Space, Type};

/// Addresses that a module's loading has settled.
pub struct Symbols {
    /// Variables in global and constant memory: address and size.
    pub globals: HashMap<String, (u64, u64)>,
    /// Device functions by name: what a pointer to them holds.
    pub functions: HashMap<String, u64>,
}

/// Where a variable of a function lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the frame's local memory.
    Frame(u32),
    /// In the block's shared memory.
    Shared(u32),
    /// In the kernel's parameter buffer.
    Parameter(u32),
}

/// A register of the PTX: a row of one of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Row(Row),
    Predicate(u32),
}

/// Decodes the instructions of one function.
pub(super) struct Decoder<'a> {
    pub(super) symbols: &'a Symbols,
    pub(super) function: &'a Function,
    /// Functions of the program by name.
    pub(super) indices: &'a HashMap<&'a str, usize>,
    /// Offsets of shared variables by name.
    pub(super) shared: &'a HashMap<String, u32>,
    pub(super) code: FunctionCode,
    /// Where each register lies.
    pub(super) slots: Vec<Slot>,
    /// Where each variable lies.
    pub(super) places: Vec<Place>,
    pub(super) word_constants: HashMap<u32, u32>,
    pub(super) long_constants: HashMap<u64, u32>,
}

/// The parts of an opcode after its first, taken one by one; what is left over is an error.
pub(super) struct Suffixes<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Suffixes<'a> {
    pub(super) fn new(instruction: &'a ptx::Instruction) -> Self {
        Self { rest: instruction.opcode[1..].iter().map(String::as_str).collect() }
    }

    /// Removes a suffix; whether it was there.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let found = self.rest.iter().position(|&suffix| suffix == name);
        found.map(|at| self.rest.remove(at)).is_some()
    }

    /// Removes the first suffix of a list that is there.
    pub(super) fn one_of(&mut self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.take(name))
    }

    /// Removes suffixes that do not change what an executor does (cache hints, scopes).
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
        self.rest.retain(|suffix| !suffix.starts_with("L2::") && !suffix.starts_with("L1::"));
    }

    /// Removes and returns the first type.
    pub(super) fn ty(&mut self) -> Option<Type> {
        let at = self.rest.iter().position(|suffix| Type::from_name(suffix).is_some())?;
        Type::from_name(self.rest.remove(at))
    }

    pub(super) fn first(&self) -> Option<&'a str> {
        self.rest.first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

pub(super) type Decoded<T> = Result<T, Fault>;

impl<'a> Decoder<'a> {
    pub(super) fn unknown<T>(&self, what: impl Into<String>) -> Decoded<T> {
        Err(Fault::new(FaultKind::UnknownInstruction, what))
    }

    /// The error for an opcode whose form is not known.
    pub(super) fn unknown_opcode<T>(&self, instruction: &ptx::Instruction) -> Decoded<T> {
        self.unknown(format!("`{}` is not known to the emulator", instruction.opcode.join(".")))
    }

    /// The type of an instruction, or the error that it has none.
    pub(super) fn ty(&self, suffixes: &mut Suffixes<'_>, i: &ptx::Instruction) -> Decoded<Type> {
        suffixes.ty().map_or_else(|| self.unknown_opcode(i), Ok)
    }

    /// Refuses suffixes that nobody took.
    pub(super) fn finish(&self, suffixes: &Suffixes<'_>, i: &ptx::Instruction) -> Decoded<()> {
        if suffixes.is_empty() { Ok(()) } else { self.unknown_opcode(i) }
    }

    pub(super) fn operand<'i>(&self, i: &'i ptx::Instruction, index: usize) -> Decoded<&'i Operand> {
        let missing = || {
            let name = i.opcode.join(".");
            Fault::new(FaultKind::UnknownInstruction, format!("`{name}` lacks operand {}", index + 1))
        };
        i.operands.get(index).ok_or_else(missing)
    }

    /// The row of a word constant.
    pub(super) fn word_constant(&mut self, value: u32) -> u32 {
        let code = &mut self.code;
        *self.word_constants.entry(value).or_insert_with(|| {
            code.words += 1;
            code.word_constants.push((code.words - 1, value));
            code.words - 1
        })
    }

    /// The row of a 64-bit constant.
    pub(super) fn long_constant(&mut self, value: u64) -> u32 {
        let code = &mut self.code;
        *self.long_constants.entry(value).or_insert_with(|| {
            code.longs += 1;
            code.long_constants.push((code.longs - 1, value));
            code.longs - 1
        })
    }

    /// A row of the 32-bit file that no register of the program uses.
    pub(super) fn scratch(&mut self) -> u32 {
        self.code.words += 1;
        self.code.words - 1
    }

    fn special(&mut self, name: &str, long: bool) -> Decoded<Row> {
        let axis = |suffix: &str| ["x", "y", "z"].iter().position(|&a| a == suffix);
        let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
        let special = match (stem, axis(suffix)) {
            ("%tid", Some(a)) => Special::Tid(a),
            ("%ntid", Some(a)) => Special::Ntid(a),
            ("%ctaid", Some(a)) => Special::Ctaid(a),
            ("%nctaid", Some(a)) => Special::Nctaid(a),
            ("%laneid", _) => Special::LaneId,
            ("%warpid", _) => Special::WarpId,
            ("%nwarpid", _) => Special::WarpCount,
            ("%lanemask_eq", _) => Special::MaskEq,
            ("%lanemask_lt", _) => Special::MaskLt,
            ("%lanemask_le", _) => Special::MaskLe,
            ("%lanemask_gt", _) => Special::MaskGt,
            ("%lanemask_ge", _) => Special::MaskGe,
            ("%total_smem_size", _) => Special::SharedTotal,
            ("%dynamic_smem_size", _) => Special::SharedDynamic,
            ("%envreg1", _) => Special::Workspace(1),
            ("%envreg2", _) => Special::Workspace(0),
            ("%smid" | "%gridid", _) => Special::Zero,
            ("%nsmid", _) => return Ok(Row::Word(self.word_constant(28))),
            _ => return self.unknown(format!("special register `{name}` is not known to the emulator")),
        };
        if let Some(&(row, _)) = self
            .code
            .specials
            .iter()
            .find(|&&(row, known)| known == special && matches!(row, Row::Long(_)) == long)
        {
            return Ok(row);
        }
        let row = if long {
            self.code.longs += 1;
            Row::Long(self.code.longs - 1)
        } else {
            self.code.words += 1;
            Row::Word(self.code.words - 1)
        };
        self.code.specials.push((row, special));
        Ok(row)
    }

    /// Number that an operand without a register stands for, as bits of `ty`.
    fn immediate(&self, operand: &Operand, ty: Type) -> Decoded<Option<u64>> {
        Ok(Some(match *operand {
            Operand::Integer(value) => match ty {
                Type::F32 => u64::from((value as i64 as f32).to_bits()),
                Type::F64 => (value as i64 as f64).to_bits(),
                _ => value,
            },
            Operand::Single(bits) if ty == Type::F64 => f64::from(f32::from_bits(bits)).to_bits(),
            Operand::Single(bits) => u64::from(bits),
            Operand::Double(bits) if ty.size() <= 4 => u64::from((f64::from_bits(bits) as f32).to_bits()),
            Operand::Double(bits) => bits,
            Operand::Variable(index, offset) => match self.places[index] {
                Place::Shared(at) | Place::Parameter(at) => (i64::from(at) + offset) as u64,
                Place::Frame(_) => return Ok(None),
            },
            Operand::Symbol(ref name, offset) => self.symbol(name)?.wrapping_add(offset as u64),
            _ => return Ok(None),
        }))
    }

    /// Address of a variable or function of the module.
    pub(super) fn symbol(&self, name: &str) -> Decoded<u64> {
        if let Some(&offset) = self.shared.get(name) {
            return Ok(offset.into());
        }
        if let Some(&(address, _)) = self.symbols.globals.get(name) {
            return Ok(address);
        }
        if let Some(&address) = self.symbols.functions.get(name) {
            return Ok(address);
        }
        Err(Fault::new(FaultKind::UnresolvedSymbol, format!("`{name}` is not defined in the module")))
    }

    /// The row of a source operand, whatever its width; constants take the width of `ty`.
    pub(super) fn source_row(&mut self, operand: &Operand, ty: Type) -> Decoded<Row> {
        let long = ty.size() == 8;
        match operand {
            Operand::Register(index) => match self.slots[*index] {
                Slot::Row(row) => Ok(row),
                Slot::Predicate(_) => self.unknown("a predicate where a value is expected"),
            },
            Operand::Special(name) => self.special(name, long),
            _ => match self.immediate(operand, ty)? {
                Some(value) if long => Ok(Row::Long(self.long_constant(value))),
                Some(value) => Ok(Row::Word(self.word_constant(value as u32))),
                None => self.unknown("an operand of a kind that this instruction does not take"),
            },
        }
    }

    /// The row of source operand `index` in the file that `ty` lies in.
    pub(super) fn source(&mut self, i: &ptx::Instruction, index: usize, ty: Type) -> Decoded<u32> {
        let row = self.source_row(self.operand(i, index)?, ty)?;
        self.of_width(row, ty, i)
    }

    fn of_width(&self, row: Row, ty: Type, i: &ptx::Instruction) -> Decoded<u32> {
        match (row, ty.size() == 8) {
            (Row::Word(row), false) | (Row::Long(row), true) => Ok(row),
            _ => self.unknown(format!("`{}` has a register of another width", i.opcode.join("."))),
        }
    }

    /// The row of a destination, whatever its width.
    pub(super) fn destination_row(&mut self, operand: &Operand, ty: Type) -> Decoded<Row> {
        match operand {
            Operand::Register(index) => match self.slots[*index] {
                Slot::Row(row) => Ok(row),
                Slot::Predicate(_) => self.unknown("a predicate where a value is expected"),
            },
            Operand::Sink if ty.size() == 8 => {
                self.code.longs += 1;
                Ok(Row::Long(self.code.longs - 1))
            }
            Operand::Sink => {
                self.code.words += 1;
                Ok(Row::Word(self.code.words - 1))
            }
            _ => self.unknown("a destination that is not a register"),
        }
    }

    /// The row of destination operand `index` in the file that `ty` lies in.
    pub(super) fn destination(&mut self, i: &ptx::Instruction, index: usize, ty: Type) -> Decoded<u32> {
        let row = self.destination_row(self.operand(i, index)?, ty)?;
        self.of_width(row, ty, i)
    }

    /// The row of a predicate and whether it is read inverted; `_` gets a row of its own.
    pub(super) fn predicate(&mut self, operand: &Operand) -> Decoded<(u32, bool)> {
        match *operand {
            Operand::Register(index) | Operand::Negated(index) => match self.slots[index] {
                Slot::Predicate(row) => Ok((row, matches!(operand, Operand::Negated(_)))),
                Slot::Row(_) => self.unknown("a value where a predicate is expected"),
            },
            Operand::Sink => {
                self.code.predicates += 1;
                Ok((self.code.predicates - 1, false))
            }
            // The reserved row 0 of every frame is false in all lanes.
            Operand::Integer(value) => Ok((0, value != 0)),
            _ => self.unknown("an operand where a predicate is expected"),
        }
    }

    /// Base and offset of a memory operand, with the space of a variable that it names.
    pub(super) fn address(&mut self, operand: &Operand) -> Decoded<(AddressBase, i64, Option<Space>)> {
        let Operand::Address(base, offset) = operand else {
            return self.unknown("a memory operand is missing");
        };
        Ok(match base {
            Base::Register(index) => match self.slots[*index] {
                Slot::Row(Row::Word(row)) => (AddressBase::Word(row), *offset, None),
                Slot::Row(Row::Long(row)) => (AddressBase::Long(row), *offset, None),
                Slot::Predicate(_) => return self.unknown("a predicate as an address"),
            },
            Base::Variable(index) => match self.places[*index] {
                Place::Frame(at) => (AddressBase::Frame, i64::from(at) + offset, Some(Space::Local)),
                Place::Shared(at) => (AddressBase::Absolute, i64::from(at) + offset, Some(Space::Shared)),
                Place::Parameter(at) => (AddressBase::Absolute, i64::from(at) + offset, Some(Space::Param)),
            },
            Base::Symbol(name) => {
                (AddressBase::Absolute, (self.symbol(name)? as i64).wrapping_add(*offset), None)
            }
            Base::Absolute => (AddressBase::Absolute, *offset, None),
        })
    }

    /// Place of a variable of the function.
    pub(super) fn place(&self, index: usize) -> Place {
        self.places[index]
    }

    /// The bytes of a parameter variable that a call passes.
    pub(super) fn argument(&self, operand: &Operand) -> Decoded<Argument> {
        if let Operand::Variable(index, 0) = *operand
            && let Place::Frame(offset) = self.places[index]
        {
            return Ok(Argument { offset, size: self.function.variables[index].size as u32 });
        }
        self.unknown("a call whose arguments are not `.param` variables")
    }

    pub(super) fn instruction(&mut self, i: &ptx::Instruction) -> Decoded<Instruction> {
        let guard = match i.guard {
            Some((register, inverted)) => {
                let (row, _) = self.predicate(&Operand::Register(register))?;
                Some((row, inverted))
            }
            None => None,
        };
        let mut tensor_operations = 0;
        let (class, operation) = match i.opcode[0].as_str() {
            "mma" | "wmma" | "ldmatrix" => {
                let (operation, operations) = matrix::decode(self, i)?;
                tensor_operations = operations;
                let class = if operations > 0 { Class::Tensor } else { Class::Shared };
                (class, Some(operation))
            }
            "setp" | "set" | "selp" | "slct" | "testp" => (Class::Integer, compare::decode(self, i)?),
            "cvt" | "cvta" | "isspacep" | "mov" => (Class::Integer, convert::decode(self, i)?),
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "prefetch" | "prefetchu" | "applypriority"
            | "discard" => access::decode(self, i)?,
            name if control::knows(name) => control::decode(self, i)?,
            _ => match float::decode(self, i)? {
                Some((class, operation)) => (class, Some(operation)),
                None => match half::decode(self, i)? {
                    Some(operation) => (Class::Float, Some(operation)),
                    None => (Class::Integer, integer::decode(self, i)?),
                },
            },
        };
        let Some(operation) = operation else { return self.unknown_opcode(i) };
        Ok(Instruction { operation, guard, class, tensor_operations, line: i.line, source: i.source })
    }
}
