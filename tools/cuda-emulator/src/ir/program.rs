//! A kernel with everything it reaches: which functions, where their shared memory lies, all their code.

use std::collections::HashMap;

use super::decode::{Decoded, Decoder, Place, Slot, Symbols};
use super::{Argument, FunctionCode, Instruction, Operation, Program, Row};
use crate::error::{Fault, FaultKind};
use crate::observe::Class;
use crate::ptx::{self, Base, Function, Module, Operand, Space, Type};

/// Sizes of the files for a function's registers, and where each register lies.
fn slots(function: &Function, code: &mut FunctionCode) -> Decoded<Vec<Slot>> {
    // Predicate row 0 is false in all lanes.
    code.predicates = 1;
    let take = |count: &mut u32| {
        *count += 1;
        *count - 1
    };
    function
        .registers
        .iter()
        .map(|ty| match ty {
            Type::Pred => Ok(Slot::Predicate(take(&mut code.predicates))),
            Type::B128 => Err(Fault::new(
                FaultKind::UnknownInstruction,
                "registers of 128 bits are not known to the emulator",
            )),
            _ if ty.size() == 8 => Ok(Slot::Row(Row::Long(take(&mut code.longs)))),
            _ => Ok(Slot::Row(Row::Word(take(&mut code.words)))),
        })
        .collect()
}

/// Places a variable behind what ends at `end`; its offset. Sizes that no device has saturate, and are
/// refused at the launch.
pub(crate) fn append(end: &mut u32, variable: &ptx::Variable) -> u32 {
    let at = end.checked_next_multiple_of(variable.align).unwrap_or(u32::MAX);
    *end = at.saturating_add(u32::try_from(variable.size).unwrap_or(u32::MAX));
    at
}

/// Places of a function's variables: a kernel's parameters in the buffer, everything else of a thread in
/// the frame's local memory.
fn places(function: &Function, shared: &HashMap<String, u32>, code: &mut FunctionCode) -> Vec<Place> {
    let mut parameters = 0u32;
    (0..function.variables.len())
        .map(|index| {
            let variable = &function.variables[index];
            match variable.space {
                Space::Shared => Place::Shared(shared[&shared_key(function, index)]),
                Space::Param if function.entry && function.parameters.contains(&index) => {
                    Place::Parameter(append(&mut parameters, variable))
                }
                _ => Place::Frame(append(&mut code.local_bytes, variable)),
            }
        })
        .collect()
}

/// Name under which a function's own shared variable is laid out.
fn shared_key(function: &Function, index: usize) -> String {
    format!("{} in {} ({index})", function.variables[index].name, function.name)
}

/// Names of the module that a function mentions.
fn mentioned(function: &Function) -> impl Iterator<Item = &str> {
    fn names<'a>(operand: &'a Operand, found: &mut Vec<&'a str>) {
        match operand {
            Operand::Symbol(name, _) | Operand::Address(Base::Symbol(name), _) => found.push(name),
            Operand::Vector(list) => list.iter().for_each(|inner| names(inner, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for instruction in &function.body {
        instruction.operands.iter().for_each(|operand| names(operand, &mut found));
    }
    found.into_iter()
}

fn calls_indirectly(function: &Function) -> bool {
    function.body.iter().any(|i| {
        i.opcode[0] == "call" && i.operands.iter().any(|operand| matches!(operand, Operand::Register(_)))
    })
}

/// The kernel, then every function that it can reach; all of the module's when it calls through a pointer.
fn reachable<'m>(module: &'m Module, kernel: &'m Function) -> Vec<&'m Function> {
    let mut list = vec![kernel];
    let mut at = 0;
    while at < list.len() {
        let function = list[at];
        let indirect = calls_indirectly(function);
        let named: Vec<&str> = mentioned(function).collect();
        for callee in module.functions.iter().filter(|f| f.defined && !f.entry) {
            let wanted = indirect || named.contains(&callee.name.as_str());
            if wanted && !list.iter().any(|known| known.name == callee.name) {
                list.push(callee);
            }
        }
        at += 1;
    }
    list
}

/// Offsets of the shared variables of these functions, and the static size in bytes.
fn shared_layout(module: &Module, functions: &[&Function]) -> (HashMap<String, u32>, u32) {
    let mut offsets = HashMap::new();
    let mut dynamic = Vec::new();
    let mut size = 0u32;
    let mut place = |key: String, variable: &ptx::Variable| {
        if offsets.contains_key(&key) || dynamic.contains(&key) {
            return;
        }
        if variable.size == 0 {
            dynamic.push(key);
            return;
        }
        offsets.insert(key, append(&mut size, variable));
    };
    for function in functions {
        for (index, variable) in function.variables.iter().enumerate() {
            if variable.space == Space::Shared {
                place(shared_key(function, index), variable);
            }
        }
        for name in mentioned(function) {
            let found = module.variables.iter().find(|v| v.name == name && v.space == Space::Shared);
            if let Some(variable) = found {
                place(name.to_string(), variable);
            }
        }
    }
    if !dynamic.is_empty() {
        // Dynamic shared memory starts after the static part, aligned for 16-byte accesses.
        size = size.checked_next_multiple_of(16).unwrap_or(u32::MAX);
        offsets.extend(dynamic.into_iter().map(|key| (key, size)));
    }
    (offsets, size)
}

/// Decodes a kernel and everything it can reach.
///
/// # Errors
/// A [`Fault`] that names the function and the line of what the emulator does not know.
pub fn program(module: &Module, kernel: &Function, symbols: &Symbols) -> Result<Program, Fault> {
    let functions = reachable(module, kernel);
    let (shared, shared_static) = shared_layout(module, &functions);
    let indices: HashMap<&str, usize> =
        functions.iter().enumerate().map(|(index, f)| (f.name.as_str(), index)).collect();
    let mut program = Program { code: Vec::new(), functions: Vec::new(), shared_static };
    for function in functions {
        let start = program.code.len() as u32;
        let address = symbols.functions.get(&function.name).copied().unwrap_or(0);
        let mut code =
            FunctionCode { name: function.name.clone(), start, address, ..FunctionCode::default() };
        let slots = slots(function, &mut code).map_err(|fault| located(fault, function, function.line))?;
        let places = places(function, &shared, &mut code);
        let mut decoder = Decoder {
            symbols,
            function,
            indices: &indices,
            shared: &shared,
            code,
            slots,
            places,
            word_constants: HashMap::new(),
            long_constants: HashMap::new(),
        };
        for i in &function.body {
            let decoded = decoder.instruction(i);
            program.code.push(decoded.map_err(|fault| {
                let mut fault = located(fault, function, i.line);
                fault.source =
                    i.source.and_then(|(file, line)| Some((module.files.get(&file)?.clone(), line)));
                fault
            })?);
        }
        // A body may end without `ret`, and a label may stand at its very end.
        program.code.push(Instruction {
            operation: Operation::Return,
            guard: None,
            class: Class::Control,
            tensor_operations: 0,
            line: function.body.last().map_or(function.line, |i| i.line),
            source: None,
        });
        let mut code = decoder.code;
        let place = |index: &usize| match decoder.places[*index] {
            Place::Frame(offset) => Argument { offset, size: function.variables[*index].size as u32 },
            Place::Shared(_) | Place::Parameter(_) => Argument { offset: 0, size: 0 },
        };
        code.parameters = function.parameters.iter().map(place).collect();
        code.returns = function.returns.iter().map(place).collect();
        program.functions.push(code);
    }
    Ok(program)
}

fn located(mut fault: Fault, function: &Function, line: u32) -> Fault {
    fault.kernel.clone_from(&function.name);
    fault.ptx_line = line;
    fault
}
