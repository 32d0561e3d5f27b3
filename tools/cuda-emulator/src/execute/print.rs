//! `printf` and `assert` of device code.

use std::ffi::CString;

use super::access::split;
use super::block::Block;
use super::warp::{LaneFault, LaneResult, Warp};
use crate::error::FaultKind;
use crate::ir::registers::LANES;
use crate::ptx::Space;

/// Longest string that is read from device memory.
const LONGEST: usize = 1 << 16;

impl Block<'_> {
    fn byte(&mut self, warp: &Warp, address: u64, lane: u32) -> LaneResult<u8> {
        self.value(warp, address, 1, lane).map(|value| value as u8)
    }

    /// `size` bytes at a generic address of one lane.
    fn value(&mut self, warp: &Warp, address: u64, size: u32, lane: u32) -> LaneResult<u64> {
        let mut at = [0; LANES];
        at[lane as usize] = address;
        let parts = split(&mut at, 1 << lane);
        let address = at[lane as usize];
        match parts.into_iter().find(|&(_, mask)| mask != 0).map_or(Space::Global, |(space, _)| space) {
            Space::Shared => {
                self.shared.check(address, size, lane)?;
                Ok(self.shared.load(address, size))
            }
            Space::Local => {
                warp.local.check(address, size, lane)?;
                warp.local.load(address, size, lane, self.settings.uninitialised)
            }
            _ => {
                self.check_global(&at, 1 << lane, size)?;
                Ok(self.memory.load(address, size))
            }
        }
    }

    pub(super) fn text(&mut self, warp: &Warp, address: u64, lane: u32) -> LaneResult<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < LONGEST {
            match self.byte(warp, address + text.len() as u64, lane)? {
                0 => break,
                byte => text.push(byte),
            }
        }
        Ok(text)
    }

    /// `vprintf(format, arguments)` of one lane.
    pub(super) fn print(&mut self, warp: &Warp, format: u64, arguments: u64, lane: u32) -> LaneResult<()> {
        let format = self.text(warp, format, lane)?;
        let mut next = arguments;
        let mut at = 0;
        while at < format.len() {
            if format[at] != b'%' {
                self.printed.push(format[at]);
                at += 1;
                continue;
            }
            let length =
                1 + format[at + 1..].iter().take_while(|b| b"-+ #0123456789.*lhzjtL".contains(b)).count();
            let Some(&conversion) = format.get(at + length) else { break };
            let flags = &format[at + 1..at + length];
            at += length + 1;
            if conversion == b'%' {
                self.printed.push(b'%');
                continue;
            }
            let mut take = |block: &mut Self, size: u32| {
                let address = next.next_multiple_of(size.into());
                next = address + u64::from(size);
                block.value(warp, address, size, lane)
            };
            let mut piece = String::from("%");
            for &flag in flags.iter().filter(|flag| !b"lhzjtL".contains(flag)) {
                if flag == b'*' {
                    piece.push_str(&(take(self, 4)? as i32).to_string());
                } else {
                    piece.push(flag as char);
                }
            }
            let wide = flags.iter().any(|flag| b"lzjt".contains(flag));
            match conversion {
                b'd' | b'i' => {
                    let value = if wide { take(self, 8)? as i64 } else { i64::from(take(self, 4)? as i32) };
                    self.put(&piece, "lld", value);
                }
                b'u' | b'x' | b'X' | b'o' => {
                    let value = take(self, if wide { 8 } else { 4 })?;
                    self.put(&piece, &format!("ll{}", conversion as char), value);
                }
                b'c' => {
                    let value = take(self, 4)? as i32;
                    self.put(&piece, "c", value);
                }
                b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
                    let value = f64::from_bits(take(self, 8)?);
                    self.put(&piece, &(conversion as char).to_string(), value);
                }
                b'p' => {
                    let value = take(self, 8)?;
                    self.put(&piece, "#llx", value);
                }
                b's' => {
                    let address = take(self, 8)?;
                    let text = self.text(warp, address, lane)?;
                    // `text` ends before its first zero byte, so that it is a C string.
                    let text = CString::new(text).unwrap_or_default();
                    self.put(&piece, "s", text.as_ptr());
                }
                other => {
                    let message = format!("printf with the conversion `%{}`", other as char);
                    return Err(LaneFault::new(FaultKind::UnknownInstruction, message, lane));
                }
            }
        }
        Ok(())
    }

    /// Formats one value as C does.
    fn put<T: Copy>(&mut self, flags: &str, conversion: &str, value: T) {
        let Ok(format) = CString::new(format!("{flags}{conversion}")) else { return };
        let mut buffer = vec![0u8; 512];
        loop {
            // SAFETY: the format has exactly one conversion, and the callers pair it with a value of the
            // type that C passes for it; at most `buffer.len()` bytes are written.
            let length =
                unsafe { libc::snprintf(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), value) };
            let length = length.max(0) as usize;
            if length < buffer.len() {
                self.printed.extend_from_slice(&buffer[..length]);
                return;
            }
            buffer.resize(length + 1, 0);
        }
    }

    /// `__assertfail(message, file, line, function, size)` of one lane.
    pub(super) fn assertion(&mut self, warp: &Warp, values: [u64; 4], lane: u32) -> Box<LaneFault> {
        let mut text = |address: u64| match self.text(warp, address, lane) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(_) => "?".to_string(),
        };
        let [message, file, line, function] = values;
        let what = format!("`{}` at {}:{} in {}", text(message), text(file), line as u32, text(function));
        LaneFault::new(FaultKind::Assert, what, lane)
    }
}
