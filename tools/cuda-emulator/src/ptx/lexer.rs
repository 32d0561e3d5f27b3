//! PTX text to tokens (PTX ISA, "Syntax").

use super::ParseError;

/// A token of PTX.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// An identifier, opcode with its suffixes, or directive with its leading dot.
    Word(&'a str),
    /// An integer constant.
    Integer(u64),
    /// `0f` constant: bits of a single.
    Single(u32),
    /// `0d` or decimal floating-point constant: bits of a double.
    Double(u64),
    /// A string, without its quotes.
    Text(&'a str),
    /// Any other single character.
    Mark(char),
}

/// A token with its line.
pub(super) type Located<'a> = (Token<'a>, u32);

/// Splits a text into tokens; comments and white space vanish.
pub(super) fn tokens(text: &str) -> Result<Vec<Located<'_>>, ParseError> {
    let bytes = text.as_bytes();
    let mut list = Vec::with_capacity(text.len() / 4);
    let (mut at, mut line) = (0, 1u32);
    while at < bytes.len() {
        let byte = bytes[at];
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            0 => break,
            _ if byte.is_ascii_whitespace() => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let length = text[at..].find("*/").ok_or_else(|| error(line, "a comment without its end"))?;
                line += text[at..at + length].matches('\n').count() as u32;
                at += length + 2;
            }
            b'"' => {
                let start = at + 1;
                let length = bytes[start..]
                    .iter()
                    .position(|&b| b == b'"')
                    .ok_or_else(|| error(line, "a string without its end"))?;
                let inner = text.get(start..start + length).ok_or_else(|| error(line, "a broken string"))?;
                list.push((Token::Text(inner), line));
                line += inner.matches('\n').count() as u32;
                at = start + length + 1;
            }
            b'0'..=b'9' => {
                let end = number_end(bytes, at);
                list.push((number(&text[at..end], line)?, line));
                at = end;
            }
            _ if is_word(byte) || byte == b'.' => {
                let end = word_end(bytes, at);
                list.push((Token::Word(&text[at..end]), line));
                at = end;
            }
            _ if byte.is_ascii() => {
                list.push((Token::Mark(byte as char), line));
                at += 1;
            }
            _ => return Err(error(line, "a character outside ASCII")),
        }
    }
    Ok(list)
}

fn error(line: u32, message: impl Into<String>) -> ParseError {
    ParseError { line, message: message.into() }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

/// End of a word: dots belong to an opcode, and so do double colons (`shared::cta`), a single one (a label's)
/// not. Directives may touch each other (`.reg.b32`): there a dot starts the next word.
fn word_end(bytes: &[u8], mut at: usize) -> usize {
    let directive = bytes[at] == b'.';
    at += 1;
    while at < bytes.len() {
        if is_word(bytes[at]) || (bytes[at] == b'.' && !directive) {
            at += 1;
        } else if bytes[at..].starts_with(b"::") {
            at += 2;
        } else {
            break;
        }
    }
    at
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() {
        let byte = bytes[at];
        let exponent_sign = matches!(byte, b'+' | b'-')
            && matches!(bytes[at - 1], b'e' | b'E')
            && !matches!(bytes.get(start + 1), Some(b'x' | b'X' | b'f' | b'F' | b'd' | b'D'));
        if byte.is_ascii_alphanumeric() || byte == b'.' || (at > start && exponent_sign) {
            at += 1;
        } else {
            break;
        }
    }
    at
}

fn number(text: &str, line: u32) -> Result<Token<'_>, ParseError> {
    let bad = || error(line, format!("`{text}` is not a number"));
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f") {
        return u32::from_str_radix(hex, 16).map(Token::Single).map_err(|_| bad());
    }
    if let Some(hex) = lower.strip_prefix("0d") {
        return u64::from_str_radix(hex, 16).map(Token::Double).map_err(|_| bad());
    }
    let digits = lower.trim_end_matches('u');
    let (digits, radix) = if let Some(hex) = digits.strip_prefix("0x") {
        (hex, 16)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        (binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        (&digits[1..], 8)
    } else {
        (digits, 10)
    };
    if let Ok(value) = u64::from_str_radix(digits, radix) {
        return Ok(Token::Integer(value));
    }
    digits.parse::<f64>().map(|value| Token::Double(value.to_bits())).map_err(|_| bad())
}
