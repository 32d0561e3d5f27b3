//! Tokens to a module: directives, variables and functions (PTX ISA, "Directives").

use std::collections::HashMap;

use super::body::Body;
use super::lexer::{Located, Token, tokens};
use super::{Function, Initial, Module, ParseError, Space, Type, Variable};

/// Largest variable, in bytes.
const MOST_BYTES: u64 = 1 << 30;
/// Largest alignment of a variable, in bytes: that of an allocation.
const MOST_ALIGNMENT: u32 = 512;

/// A cursor over the tokens.
pub(super) struct Parser<'a> {
    tokens: Vec<Located<'a>>,
    at: usize,
}

/// Parses a whole module.
pub(super) fn parse(text: &str) -> Result<Module, ParseError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut module = Module {
        version: (0, 0),
        target: String::new(),
        files: HashMap::new(),
        variables: Vec::new(),
        functions: Vec::new(),
    };
    while parser.at < parser.tokens.len() {
        parser.item(&mut module)?;
    }
    if module.version == (0, 0) {
        return Err(ParseError { line: 1, message: "expected `.version`, this is not PTX".into() });
    }
    Ok(module)
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|&(token, _)| token)
    }

    pub(super) fn peek_second(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at + 1).map(|&(token, _)| token)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |&(_, line)| line)
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        let token = self.peek().ok_or_else(|| self.error("the text ends too early"))?;
        self.at += 1;
        Ok(token)
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError { line: self.line(), message: message.into() }
    }

    /// The error for the token before the cursor.
    pub(super) fn unexpected(&self, expected: &str) -> ParseError {
        let (found, line) = match self.tokens.get(self.at.wrapping_sub(1)) {
            Some((Token::Word(word), line)) => (format!("`{word}`"), *line),
            Some((Token::Mark(mark), line)) => (format!("`{mark}`"), *line),
            Some((_, line)) => ("a constant".to_string(), *line),
            None => ("nothing".to_string(), 1),
        };
        ParseError { line, message: format!("expected {expected}, found {found}") }
    }

    pub(super) fn take(&mut self, mark: char) -> bool {
        let taken = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(taken);
        taken
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let taken = self.peek() == Some(Token::Word(word));
        self.at += usize::from(taken);
        taken
    }

    pub(super) fn expect(&mut self, mark: char) -> Result<(), ParseError> {
        match self.next()? {
            Token::Mark(found) if found == mark => Ok(()),
            _ => Err(self.unexpected(&format!("`{mark}`"))),
        }
    }

    pub(super) fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            _ => Err(self.unexpected("a name")),
        }
    }

    pub(super) fn integer(&mut self) -> Result<u64, ParseError> {
        let negative = self.take('-');
        match self.next()? {
            Token::Integer(value) if negative => Ok(value.wrapping_neg()),
            Token::Integer(value) => Ok(value),
            _ => Err(self.unexpected("an integer")),
        }
    }

    /// Skips to the end of a directive that says nothing to an executor.
    pub(super) fn skip_line(&mut self) {
        let line = self.tokens[self.at - 1].1;
        while self.tokens.get(self.at).is_some_and(|&(_, at)| at == line) {
            self.at += 1;
        }
    }

    fn item(&mut self, module: &mut Module) -> Result<(), ParseError> {
        let mut external = false;
        loop {
            let line = self.line();
            let word = match self.next()? {
                Token::Word(word) => word,
                Token::Mark(';') => return Ok(()),
                _ => return Err(self.unexpected("a directive")),
            };
            match word {
                ".extern" => external = true,
                ".visible" | ".weak" | ".common" => {}
                ".version" => {
                    let text = self.version()?;
                    module.version = text;
                    return Ok(());
                }
                ".target" => {
                    module.target = self.word()?.to_string();
                    self.skip_line();
                    return Ok(());
                }
                ".address_size" => {
                    return match self.integer()? {
                        64 => Ok(()),
                        other => Err(self.error(format!("addresses of {other} bits; only 64 are supported"))),
                    };
                }
                ".file" => return self.file(module),
                ".section" => return self.section(),
                ".pragma" | ".loc" => {
                    self.skip_line();
                    return Ok(());
                }
                ".alias" => return Err(self.error("`.alias` is not supported")),
                ".entry" | ".func" => return self.function(module, word == ".entry", line),
                ".global" | ".const" | ".shared" => {
                    let space = match word {
                        ".global" => Space::Global,
                        ".const" => Space::Const,
                        _ => Space::Shared,
                    };
                    for mut variable in self.variables(space)? {
                        variable.external = external;
                        module.variables.push(variable);
                    }
                    return Ok(());
                }
                _ => return Err(self.unexpected("a directive such as `.entry`")),
            }
        }
    }

    fn version(&mut self) -> Result<(u32, u32), ParseError> {
        let line = self.line();
        // `8.4` reads as a decimal constant.
        match self.next()? {
            Token::Double(bits) => {
                let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
                Ok((tenths / 10, tenths % 10))
            }
            _ => Err(ParseError { line, message: "expected a version such as `8.0`".into() }),
        }
    }

    /// `.file number "path"[, time, size]`.
    fn file(&mut self, module: &mut Module) -> Result<(), ParseError> {
        let number = self.integer()? as u32;
        let Token::Text(path) = self.next()? else { return Err(self.unexpected("a file name")) };
        module.files.insert(number, path.to_string());
        self.skip_line();
        Ok(())
    }

    fn section(&mut self) -> Result<(), ParseError> {
        while self.next()? != Token::Mark('{') {}
        while self.next()? != Token::Mark('}') {}
        Ok(())
    }

    /// The declarators after a state space: `.align 4 .b8 name[16] = {...}, other;`.
    pub(super) fn variables(&mut self, space: Space) -> Result<Vec<Variable>, ParseError> {
        let mut list = Vec::new();
        let (align, ty, lanes) = self.variable_type()?;
        loop {
            let mut variable = self.declarator(space, align, ty, lanes)?;
            if self.take('=') {
                self.initial(&mut variable)?;
            }
            list.push(variable);
            if !self.take(',') {
                self.expect(';')?;
                return Ok(list);
            }
        }
    }

    /// Alignment (0: the type's own), element type and vector lanes.
    fn variable_type(&mut self) -> Result<(u32, Type, u32), ParseError> {
        let (mut align, mut lanes) = (0, 1);
        loop {
            match self.word()? {
                ".align" => {
                    align = self.integer()? as u32;
                    if !align.is_power_of_two() {
                        return Err(self.error(format!("an alignment of {align}, not a power of two")));
                    }
                }
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                // Hints about pointers: `.param .u64 .ptr .global .align 4 name`.
                ".ptr" | ".global" | ".shared" | ".const" | ".local" | ".attribute" => {}
                word => {
                    let ty = word.strip_prefix('.').and_then(Type::from_name);
                    let ty = ty.ok_or_else(|| self.unexpected("a type"))?;
                    return Ok((align, ty, lanes));
                }
            }
        }
    }

    fn declarator(&mut self, space: Space, align: u32, ty: Type, lanes: u32) -> Result<Variable, ParseError> {
        let line = self.line();
        // A parameter's pointer hints stand after its type.
        while matches!(self.peek(), Some(Token::Word(word)) if word.starts_with('.')) {
            if self.word()? == ".align" {
                self.integer()?;
            }
        }
        let name = self.word()?.to_string();
        let element = u64::from(ty.size() * lanes);
        let mut size = element;
        while self.take('[') {
            let count = if self.peek() == Some(Token::Mark(']')) { 0 } else { self.integer()? };
            size = size.checked_mul(count).ok_or_else(|| self.error(format!("`{name}` is too large")))?;
            self.expect(']')?;
        }
        let align = if align == 0 { element.max(1) as u32 } else { align };
        if size > MOST_BYTES || align > MOST_ALIGNMENT {
            return Err(self.error(format!("`{name}` has {size} bytes aligned to {align}: too large")));
        }
        Ok(Variable { name, space, ty, align, size, initial: Vec::new(), external: false, line })
    }

    fn initial(&mut self, variable: &mut Variable) -> Result<(), ParseError> {
        let mut depth = 0;
        loop {
            if self.take('{') {
                depth += 1;
                continue;
            }
            if self.take('}') {
                depth -= 1;
            } else {
                let value = self.initial_value(variable.ty)?;
                variable.initial.push(value);
            }
            if depth == 0 {
                return Ok(());
            }
            self.take(',');
        }
    }

    fn initial_value(&mut self, ty: Type) -> Result<Initial, ParseError> {
        let negative = self.take('-');
        let sign = |value: f64| if negative { -value } else { value };
        Ok(match self.next()? {
            Token::Integer(value) => Initial::Bits(if negative { value.wrapping_neg() } else { value }),
            Token::Single(bits) => Initial::Bits(u64::from(bits ^ (u32::from(negative) << 31))),
            Token::Double(bits) => {
                let value = sign(f64::from_bits(bits));
                Initial::Bits(if ty == Type::F32 {
                    u64::from((value as f32).to_bits())
                } else {
                    value.to_bits()
                })
            }
            Token::Word("generic") => {
                self.expect('(')?;
                let name = self.word()?.to_string();
                let symbol = self.symbol_offset(name)?;
                self.expect(')')?;
                match symbol {
                    Initial::Symbol(name, offset) => match self.symbol_offset(name)? {
                        Initial::Symbol(name, more) => Initial::Symbol(name, offset + more),
                        bits => bits,
                    },
                    bits => bits,
                }
            }
            Token::Word(name) if !name.starts_with('.') => self.symbol_offset(name.to_string())?,
            _ => return Err(self.unexpected("an initial value")),
        })
    }

    fn symbol_offset(&mut self, name: String) -> Result<Initial, ParseError> {
        let offset = if self.take('+') { self.integer()? as i64 } else { 0 };
        Ok(Initial::Symbol(name, offset))
    }

    fn function(&mut self, module: &mut Module, entry: bool, line: u32) -> Result<(), ParseError> {
        let mut body = Body::new(entry, line);
        if !entry {
            self.take_word(".noreturn");
            if self.peek() == Some(Token::Mark('(')) {
                let list = self.parameters()?;
                body.function.returns = body.declare_all(list);
            }
        }
        body.function.name = self.word()?.to_string();
        if self.peek() == Some(Token::Mark('(')) {
            let list = self.parameters()?;
            body.function.parameters = body.declare_all(list);
        }
        self.function_attributes(&mut body.function)?;
        let function = if self.take('{') {
            body.function.defined = true;
            body.parse(self)?
        } else {
            self.take(';');
            body.function
        };
        match module.functions.iter_mut().find(|old| old.name == function.name) {
            Some(old) if !old.defined => *old = function,
            Some(_) if !function.defined => {}
            Some(_) => {
                return Err(ParseError { line, message: format!("`{}` is defined twice", function.name) });
            }
            None => module.functions.push(function),
        }
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<Variable>, ParseError> {
        self.expect('(')?;
        let mut list = Vec::new();
        while !self.take(')') {
            match self.word()? {
                ".param" => {}
                ".reg" => return Err(self.error("parameters in registers are not supported")),
                _ => return Err(self.unexpected("`.param`")),
            }
            let (align, ty, lanes) = self.variable_type()?;
            list.push(self.declarator(Space::Param, align, ty, lanes)?);
            self.take(',');
        }
        Ok(list)
    }

    fn function_attributes(&mut self, function: &mut Function) -> Result<(), ParseError> {
        while let Some(Token::Word(word)) = self.peek() {
            self.at += 1;
            let mut numbers = Vec::new();
            while let Some(Token::Integer(value)) = self.peek() {
                numbers.push(value);
                self.at += 1;
                self.take(',');
            }
            match word {
                ".maxntid" | ".reqntid" => {
                    let threads = numbers.iter().fold(1u64, |product, &n| product.saturating_mul(n));
                    function.max_threads = Some(threads.min(1024) as u32);
                }
                ".minnctapersm" | ".maxnctapersm" | ".maxnreg" | ".noreturn" => {}
                ".pragma" => while self.next()? != Token::Mark(';') {},
                _ => return Err(self.unexpected("a function's body")),
            }
        }
        Ok(())
    }
}
