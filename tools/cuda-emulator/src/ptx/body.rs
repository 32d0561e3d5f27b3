//! The body of a function: scopes, registers, labels and instructions (PTX ISA, "Instructions").

use std::collections::HashMap;

use super::lexer::Token;
use super::parser::Parser;
use super::{Base, Function, Instruction, Operand, ParseError, Space, Type, Variable};

/// Most virtual registers of a function: every warp holds them all.
const MOST_REGISTERS: u64 = 1 << 18;

/// What a name means inside a function.
#[derive(Clone, Copy)]
enum Name {
    Register(usize),
    Variable(usize),
}

#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    names: HashMap<String, Name>,
    labels: HashMap<String, usize>,
    /// `%r<10>`: prefix, count and first index.
    families: Vec<(String, u64, usize)>,
}

/// A function in the making.
pub(super) struct Body {
    pub(super) function: Function,
    scopes: Vec<Scope>,
    scope: usize,
    /// Scope of each instruction, for labels that are defined after their use.
    scope_of: Vec<usize>,
    /// Tables of labels waiting for the end of the function: name, scope, labels.
    tables: Vec<(String, usize, Vec<String>)>,
    source: Option<(u32, u32)>,
}

impl Body {
    pub(super) fn new(entry: bool, line: u32) -> Self {
        let function = Function {
            name: String::new(),
            entry,
            returns: Vec::new(),
            parameters: Vec::new(),
            registers: Vec::new(),
            variables: Vec::new(),
            body: Vec::new(),
            branch_targets: HashMap::new(),
            defined: false,
            max_threads: None,
            line,
        };
        let scopes = vec![Scope::default()];
        Self { function, scopes, scope: 0, scope_of: Vec::new(), tables: Vec::new(), source: None }
    }

    /// Adds variables to the current scope; their indices.
    pub(super) fn declare_all(&mut self, list: Vec<Variable>) -> Vec<usize> {
        list.into_iter()
            .map(|variable| {
                let index = self.function.variables.len();
                self.scopes[self.scope].names.insert(variable.name.clone(), Name::Variable(index));
                self.function.variables.push(variable);
                index
            })
            .collect()
    }

    /// Parses up to the brace that closes the function.
    pub(super) fn parse(mut self, parser: &mut Parser<'_>) -> Result<Function, ParseError> {
        let mut depth = 1;
        while depth > 0 {
            match parser.peek() {
                Some(Token::Mark('{')) => {
                    parser.next()?;
                    depth += 1;
                    let inner = Scope { parent: Some(self.scope), ..Scope::default() };
                    self.scopes.push(inner);
                    self.scope = self.scopes.len() - 1;
                }
                Some(Token::Mark('}')) => {
                    parser.next()?;
                    depth -= 1;
                    self.scope = self.scopes[self.scope].parent.unwrap_or(0);
                }
                Some(Token::Mark(';')) => {
                    parser.next()?;
                }
                Some(Token::Word(word)) if word.starts_with('.') => self.directive(parser)?,
                Some(Token::Word(word)) if parser.peek_second() == Some(Token::Mark(':')) => {
                    self.label(parser, word)?;
                }
                _ => self.instruction(parser)?,
            }
        }
        self.resolve()?;
        Ok(self.function)
    }

    fn label(&mut self, parser: &mut Parser<'_>, word: &str) -> Result<(), ParseError> {
        parser.next()?;
        parser.expect(':')?;
        if parser.take_word(".branchtargets") {
            let mut labels = vec![parser.word()?.to_string()];
            while parser.take(',') {
                labels.push(parser.word()?.to_string());
            }
            parser.expect(';')?;
            self.tables.push((word.to_string(), self.scope, labels));
            return Ok(());
        }
        if parser.take_word(".callprototype") || parser.take_word(".calltargets") {
            // What a call may look like: the executor checks the callee itself.
            while parser.next()? != Token::Mark(';') {}
            return Ok(());
        }
        let at = self.function.body.len();
        if self.scopes[self.scope].labels.insert(word.to_string(), at).is_some() {
            return Err(parser.error(format!("label `{word}` is defined twice")));
        }
        Ok(())
    }

    fn directive(&mut self, parser: &mut Parser<'_>) -> Result<(), ParseError> {
        let space = match parser.word()? {
            ".reg" => return self.registers(parser),
            ".loc" => {
                let (file, line) = (parser.integer()? as u32, parser.integer()? as u32);
                // Line 0 is code without a line of its own: it keeps the one before.
                if line != 0 {
                    self.source = Some((file, line));
                }
                parser.skip_line();
                return Ok(());
            }
            ".pragma" => {
                while parser.next()? != Token::Mark(';') {}
                return Ok(());
            }
            ".shared" => Space::Shared,
            ".local" => Space::Local,
            ".param" => Space::Param,
            ".global" => Space::Global,
            ".const" => Space::Const,
            _ => return Err(parser.unexpected("an instruction or a declaration")),
        };
        let list = parser.variables(space)?;
        if let Some(variable) = list.iter().find(|_| matches!(space, Space::Global | Space::Const)) {
            return Err(parser.error(format!("`{}` is a static variable inside a function", variable.name)));
        }
        self.declare_all(list);
        Ok(())
    }

    fn registers(&mut self, parser: &mut Parser<'_>) -> Result<(), ParseError> {
        let word = parser.word()?;
        let ty = word.strip_prefix('.').and_then(Type::from_name);
        let ty = ty.ok_or_else(|| parser.unexpected("a register's type"))?;
        loop {
            let name = parser.word()?.to_string();
            let first = self.function.registers.len();
            let mut count = 1;
            if parser.take('<') {
                count = parser.integer()?;
                parser.expect('>')?;
                if count > MOST_REGISTERS - (first as u64).min(MOST_REGISTERS) {
                    return Err(parser.error(format!("more than {MOST_REGISTERS} registers in a function")));
                }
                self.scopes[self.scope].families.push((name, count, first));
            } else {
                self.scopes[self.scope].names.insert(name, Name::Register(first));
            }
            self.function.registers.extend((0..count).map(|_| ty));
            if !parser.take(',') {
                return parser.expect(';');
            }
        }
    }

    fn find(&self, name: &str) -> Option<Name> {
        let mut scope = Some(self.scope);
        while let Some(index) = scope {
            let here = &self.scopes[index];
            if let Some(&found) = here.names.get(name) {
                return Some(found);
            }
            for (prefix, count, first) in &here.families {
                let digits = name.strip_prefix(prefix.as_str()).unwrap_or("");
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                if let (true, Ok(number)) = (plain, digits.parse::<u64>())
                    && number < *count
                {
                    return Some(Name::Register(first + number as usize));
                }
            }
            scope = here.parent;
        }
        None
    }

    fn instruction(&mut self, parser: &mut Parser<'_>) -> Result<(), ParseError> {
        let line = parser.line();
        let mut guard = None;
        if parser.take('@') {
            let inverted = parser.take('!');
            match self.find(parser.word()?) {
                Some(Name::Register(index)) => guard = Some((index, inverted)),
                _ => return Err(parser.unexpected("a predicate register")),
            }
        }
        let opcode: Vec<String> = parser.word()?.split('.').map(str::to_string).collect();
        let mut operands = Vec::new();
        while !parser.take(';') {
            operands.push(self.operand(parser)?);
            if !parser.take(',') {
                parser.expect(';')?;
                break;
            }
        }
        self.scope_of.push(self.scope);
        self.function.body.push(Instruction { guard, opcode, operands, line, source: self.source });
        Ok(())
    }

    fn operand(&mut self, parser: &mut Parser<'_>) -> Result<Operand, ParseError> {
        let first = self.simple_operand(parser)?;
        if parser.take('|') {
            let second = self.simple_operand(parser)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn list(&mut self, parser: &mut Parser<'_>, close: char) -> Result<Operand, ParseError> {
        let mut list = Vec::new();
        while !parser.take(close) {
            if matches!(parser.peek(), Some(Token::Mark('{' | '('))) {
                return Err(parser.error("a list inside a list"));
            }
            list.push(self.operand(parser)?);
            parser.take(',');
        }
        Ok(Operand::Vector(list))
    }

    fn simple_operand(&mut self, parser: &mut Parser<'_>) -> Result<Operand, ParseError> {
        Ok(match parser.next()? {
            Token::Integer(value) => Operand::Integer(value),
            Token::Single(bits) => Operand::Single(bits),
            Token::Double(bits) => Operand::Double(bits),
            Token::Mark('-') => match parser.next()? {
                Token::Integer(value) => Operand::Integer(value.wrapping_neg()),
                Token::Single(bits) => Operand::Single(bits ^ (1 << 31)),
                Token::Double(bits) => Operand::Double(bits ^ (1 << 63)),
                _ => return Err(parser.unexpected("a number after `-`")),
            },
            Token::Mark('!') => match self.find(parser.word()?) {
                Some(Name::Register(index)) => Operand::Negated(index),
                _ => return Err(parser.unexpected("a predicate register")),
            },
            Token::Mark('{') => self.list(parser, '}')?,
            Token::Mark('(') => self.list(parser, ')')?,
            Token::Mark('[') => self.address(parser)?,
            Token::Word("_") => Operand::Sink,
            Token::Word(word) => self.named(parser, word)?,
            _ => return Err(parser.unexpected("an operand")),
        })
    }

    fn named(&mut self, parser: &mut Parser<'_>, word: &str) -> Result<Operand, ParseError> {
        if let Some(Name::Register(index)) = self.find(word) {
            return Ok(Operand::Register(index));
        }
        if word == "WARP_SZ" {
            return Ok(Operand::Integer(32));
        }
        if word.starts_with('%') {
            return Ok(Operand::Special(word.to_string()));
        }
        let offset = self.offset(parser)?;
        Ok(match self.find(word) {
            Some(Name::Variable(index)) => Operand::Variable(index, offset),
            _ => Operand::Symbol(word.to_string(), offset),
        })
    }

    fn offset(&mut self, parser: &mut Parser<'_>) -> Result<i64, ParseError> {
        if parser.take('+') {
            return Ok(parser.integer()? as i64);
        }
        if parser.peek() == Some(Token::Mark('-')) {
            return Ok(parser.integer()? as i64);
        }
        Ok(0)
    }

    fn address(&mut self, parser: &mut Parser<'_>) -> Result<Operand, ParseError> {
        let base = match parser.peek() {
            Some(Token::Integer(_) | Token::Mark('-')) => {
                let offset = parser.integer()? as i64;
                parser.expect(']')?;
                return Ok(Operand::Address(Base::Absolute, offset));
            }
            _ => parser.word()?,
        };
        let base = match self.find(base) {
            Some(Name::Register(index)) => Base::Register(index),
            Some(Name::Variable(index)) => Base::Variable(index),
            None => Base::Symbol(base.to_string()),
        };
        let offset = self.offset(parser)?;
        parser.expect(']')?;
        Ok(Operand::Address(base, offset))
    }

    fn find_label(&self, mut scope: usize, name: &str) -> Option<usize> {
        loop {
            if let Some(&at) = self.scopes[scope].labels.get(name) {
                return Some(at);
            }
            scope = self.scopes[scope].parent?;
        }
    }

    /// Turns names that are labels of this function into instruction indices.
    fn resolve(&mut self) -> Result<(), ParseError> {
        let mut body = std::mem::take(&mut self.function.body);
        for (instruction, &scope) in body.iter_mut().zip(&self.scope_of) {
            for operand in &mut instruction.operands {
                if let Operand::Symbol(name, 0) = operand
                    && let Some(at) = self.find_label(scope, name)
                {
                    *operand = Operand::Label(at);
                }
            }
        }
        self.function.body = body;
        for (name, scope, labels) in std::mem::take(&mut self.tables) {
            let targets: Option<Vec<usize>> =
                labels.iter().map(|label| self.find_label(scope, label)).collect();
            let targets = targets.ok_or_else(|| ParseError {
                line: self.function.line,
                message: format!("`{name}` names a label that `{}` does not have", self.function.name),
            })?;
            self.function.branch_targets.insert(name, targets);
        }
        Ok(())
    }
}
