//! Images of code: text, a cubin, or a fat binary that holds either.
//!
//! The layout of fat binaries is that of CUDA's `fatbinary` tool: a header, then entries, each with a
//! header of its own; PTX may be compressed as an LZ4 block or as a zstd frame.

use std::io::Read;

/// What an image is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Elf,
    Fat,
}

const ELF: u32 = u32::from_le_bytes(*b"\x7fELF");
const FAT: u32 = 0xba55_ed50;
/// A structure that points to a fat binary.
const WRAPPER: u32 = 0x4662_43b1;
const KIND_PTX: u16 = 1;
const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
/// An entry's decompressed length beyond this is a broken header.
const LONGEST: usize = 1 << 30;

/// Tells the kinds apart by the first bytes.
///
/// # Safety
/// `image` points to a string that ends in a NUL, or to at least 4 bytes.
pub unsafe fn magic(image: *const u8) -> Kind {
    let mut bytes = [0; 4];
    for (index, byte) in bytes.iter_mut().enumerate() {
        // SAFETY: no byte before this one was the string's NUL.
        *byte = unsafe { *image.add(index) };
        if *byte == 0 {
            break;
        }
    }
    match u32::from_le_bytes(bytes) {
        ELF => Kind::Elf,
        FAT | WRAPPER => Kind::Fat,
        _ => Kind::Text,
    }
}

/// The PTX of the highest architecture that a fat binary holds.
///
/// # Safety
/// `image` points to a whole fat binary or to the structure that points to one.
pub unsafe fn ptx(image: *const u8) -> Result<String, String> {
    // SAFETY: both structures are longer than 16 bytes.
    let first = unsafe { image.cast::<u32>().read_unaligned() };
    let start = if first == WRAPPER {
        // SAFETY: the wrapper holds two words of 4 bytes and then the address of the binary.
        unsafe { image.add(8).cast::<*const u8>().read_unaligned() }
    } else {
        image
    };
    if start.is_null() {
        return Err("the fat binary is missing".into());
    }
    // SAFETY: the header of 16 bytes ends in the length of what follows it.
    let bytes = unsafe {
        let header = std::slice::from_raw_parts(start, 16);
        let length = 16 + u64_at(header, 8).unwrap_or(0) as usize;
        std::slice::from_raw_parts(start, length)
    };
    ptx_of(bytes)
}

fn ptx_of(bytes: &[u8]) -> Result<String, String> {
    let broken = || "the fat binary ends in the middle of an entry".to_string();
    let mut at = usize::from(u16_at(bytes, 6).ok_or_else(broken)?);
    let mut best: Option<(u32, Vec<u8>)> = None;
    while at < bytes.len() {
        let entry = bytes.get(at..).ok_or_else(broken)?;
        let (kind, header) =
            (u16_at(entry, 0).ok_or_else(broken)?, u32_at(entry, 4).ok_or_else(broken)? as usize);
        let size = u64_at(entry, 8).ok_or_else(broken)? as usize;
        let end =
            header.checked_add(size).filter(|&end| header >= 64 && end <= entry.len()).ok_or_else(broken)?;
        let architecture = u32_at(entry, 28).ok_or_else(broken)?;
        if kind == KIND_PTX && best.as_ref().is_none_or(|best| best.0 < architecture) {
            best = Some((architecture, payload(entry, &entry[header..end])?));
        }
        at += end;
    }
    let (_, text) =
        best.ok_or("the fat binary holds no PTX: compile with -gencode arch=compute_86,code=compute_86")?;
    let text = text.split(|&byte| byte == 0).next().unwrap_or(&[]);
    String::from_utf8(text.to_vec()).map_err(|_| "the PTX of the fat binary is no text".into())
}

fn payload(entry: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
    let flags = u64_at(entry, 40).unwrap_or(0);
    if flags & (FLAG_LZ4 | FLAG_ZSTD) == 0 {
        return Ok(data.to_vec());
    }
    let (packed, length) = (u32_at(entry, 16).unwrap_or(0) as usize, u64_at(entry, 56).unwrap_or(0) as usize);
    let data = data.get(..packed).filter(|_| length <= LONGEST);
    let unpack = if flags & FLAG_ZSTD != 0 { unpack_zstd } else { unpack_lz4 };
    data.and_then(|data| unpack(data, length)).ok_or_else(|| "the PTX of the fat binary is broken".into())
}

/// Expands a zstd frame (RFC 8878).
fn unpack_zstd(data: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length);
    let frame = ruzstd::decoding::StreamingDecoder::new(data).ok()?;
    // One byte more than is expected shows a longer frame without expanding it.
    frame.take(length as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() == length).then_some(out)
}

/// Expands an LZ4 block (LZ4 block format description).
fn unpack_lz4(mut data: &[u8], length: usize) -> Option<Vec<u8>> {
    fn take_length(data: &mut &[u8], nibble: u8) -> Option<usize> {
        let mut length = usize::from(nibble);
        if nibble == 15 {
            loop {
                let (&more, rest) = data.split_first()?;
                *data = rest;
                length += usize::from(more);
                if more != 255 {
                    break;
                }
            }
        }
        Some(length)
    }
    let mut out = Vec::with_capacity(length);
    while let Some((&token, rest)) = data.split_first() {
        data = rest;
        let literals = take_length(&mut data, token >> 4)?;
        out.extend(data.get(..literals)?);
        data = &data[literals..];
        if data.is_empty() {
            break;
        }
        let back = usize::from(u16_at(data, 0)?);
        data = &data[2..];
        let repeat = take_length(&mut data, token & 15)? + 4;
        let start = out.len().checked_sub(back).filter(|_| back > 0)?;
        if out.len() + repeat > length {
            return None;
        }
        for index in 0..repeat {
            out.push(out[start + index]);
        }
    }
    (out.len() == length).then_some(out)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fat binary with a cubin, PTX for sm_70 as it is and PTX for sm_80 as given.
    fn fat(flags: u64, packed: &[u8], length: u64) -> Vec<u8> {
        let mut entries = Vec::new();
        for (kind, architecture, flags, data, length) in
            [(2u16, 86u32, 0, &b"\x7fELF"[..], 4u64), (1, 70, 0, b"old", 3), (1, 80, flags, packed, length)]
        {
            let mut entry = Vec::new();
            entry.extend(kind.to_le_bytes());
            entry.extend(0x101u16.to_le_bytes());
            entry.extend(64u32.to_le_bytes());
            entry.extend((data.len() as u64).to_le_bytes());
            entry.extend((data.len() as u32).to_le_bytes());
            entry.extend([0; 8]);
            entry.extend(architecture.to_le_bytes());
            entry.extend([0; 8]);
            entry.extend(flags.to_le_bytes());
            entry.extend([0; 8]);
            entry.extend(length.to_le_bytes());
            entry.extend(data);
            entries.extend(entry);
        }
        let mut image = Vec::new();
        image.extend(FAT.to_le_bytes());
        image.extend(1u16.to_le_bytes());
        image.extend(16u16.to_le_bytes());
        image.extend((entries.len() as u64).to_le_bytes());
        image.extend(entries);
        image
    }

    #[test]
    fn the_newest_ptx_is_taken_and_unpacked() {
        assert_eq!(ptx_of(&fat(0, b"plain\0", 6)).as_deref(), Ok("plain"));
        // Two literals, then six bytes from two back, then the last literal.
        let packed = [0x22, b'a', b'b', 2, 0, 0x10, b'c'];
        assert_eq!(ptx_of(&fat(FLAG_LZ4, &packed, 9)).as_deref(), Ok("ababababc"));
        // A frame of 3 bytes with one raw block, and one with a block of three times the same byte.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, b'p', b't', b'x'];
        assert_eq!(ptx_of(&fat(FLAG_ZSTD, &frame, 3)).as_deref(), Ok("ptx"));
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x1b, 0, 0, b'a'];
        assert_eq!(ptx_of(&fat(FLAG_ZSTD, &frame, 3)).as_deref(), Ok("aaa"));
        assert!(ptx_of(&fat(FLAG_ZSTD, &frame, 2)).is_err());
    }

    #[test]
    fn broken_binaries_are_refused() {
        let whole = fat(FLAG_LZ4, &[0x22, b'a', b'b', 2, 0, 0x10, b'c'], 9);
        for length in 17..whole.len() {
            let _ = ptx_of(&whole[..length]);
        }
        assert!(ptx_of(&fat(FLAG_LZ4, &[0x22, b'a', b'b', 3, 0], 8)).is_err());
        assert!(ptx_of(&fat(FLAG_LZ4, &[0x0f, 255], 8)).is_err());
        assert!(ptx_of(&fat(FLAG_ZSTD, b"x", 1)).is_err());
    }
}
