//! TensorBoard's event file: the columns of `metrics.csv` as scalars.
//!
//! A file is a sequence of TFRecords: the length of the data (u64), a masked CRC-32C of these eight bytes (u32), the data,
//! a masked CRC-32C of them (u32), all little-endian (tensorflow/core/lib/io/record_writer.h; the mask is that of
//! tensorflow/core/lib/hash/crc32c.h). The data of each is a protocol buffer `Event` (tensorflow/core/util/event.proto):
//! `wall_time` = 1 (double), `step` = 2 (int64), `file_version` = 3 (string, in the first one), `summary` = 5, whose
//! `value` = 1 (tensorflow/core/framework/summary.proto) has `tag` = 1 (string) and `simple_value` = 2 (float).

use super::LogRow;
use super::log::values;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One name for all of a run, so that a resumed run goes on in its file; TensorBoard takes every name with `tfevents` in it.
pub const EVENT_FILE: &str = "events.out.tfevents.hexcuda";

const VERSION: &[u8] = b"brain.Event:2";

/// The file of a run that trains.
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// Seconds since 1970 at the first step.
    start: f64,
}

impl EventFile {
    /// Writes the file anew with `rows`, those that a resumed run has already, to be gone on with.
    pub(super) fn open(folder: &Path, rows: &[LogRow]) -> Result<Self> {
        let path = folder.join(EVENT_FILE);
        let failed = |error: std::io::Error| Error::io(&path, &error);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        // Steps keep their times where the file is there.
        let kept = if rows.is_empty() { None } else { first_time(&path) };
        let start = kept.unwrap_or(now - rows.last().map_or(0.0, |row| row.seconds));
        write_atomic(&path, |file| {
            file.write_all(&record(&[&double(1, start)[..], &bytes(3, VERSION)].concat()))?;
            rows.iter().try_for_each(|row| file.write_all(&record(&event(start, row))))
        })?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        Ok(Self { path, file: BufWriter::new(file), start })
    }

    pub(super) fn push(&mut self, row: &LogRow) -> Result<()> {
        let written = self.file.write_all(&record(&event(self.start, row)));
        written.map_err(|error| Error::io(&self.path, &error))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, &error))
    }
}

/// The time of the first event.
fn first_time(path: &Path) -> Option<f64> {
    // Length, checksum, the key of field 1 with wire type 1, the number.
    let mut head = [0; 21];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    let time = f64::from_le_bytes(head[13..].try_into().ok()?);
    (head[12] == 0x09 && time.is_finite()).then_some(time)
}

/// The columns of a row; 0 stands for what a run does not have.
fn event(start: f64, row: &LogRow) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, value) in values(row).filter(|&(_, value)| value != 0.0) {
        let scalar = [bytes(1, name.as_bytes()), [&[0x15][..], &(value as f32).to_le_bytes()].concat()];
        summary.extend(bytes(1, &scalar.concat()));
    }
    let step = [&[0x10][..], &varint(row.step)].concat();
    [double(1, start + row.seconds), step, bytes(5, &summary)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field of wire type 1.
fn double(field: u8, value: f64) -> Vec<u8> {
    [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A field of wire type 2: bytes, text or a message.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let check = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &check(&length), data, &check(data)].concat()
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: an event has some 200 bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    };
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_are_as_protocol_buffers_have_them() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(bytes(2, b"testing"), *b"\x12\x07testing");
    }
}
