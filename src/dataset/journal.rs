//! `journal.jsonl`: a line a mesh, appended when its bytes are on the disk. Each line begins with a checksum of itself and
//! of the one before, so that none can change, vanish or trade places unseen.

use super::REBUILD;
use super::manifest::{Manifest, hex};
use super::record::ALIGNMENT;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Characters of a checksum.
const DIGITS: usize = 64;

/// What the set knows of a mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Without ending, unique in the set.
    pub name: String,
    pub origin: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Why there is nothing of it in the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Where a mesh came from; it is taken again when this changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// A file, or the command that makes the mesh.
    pub source: String,
    pub bytes: u64,
    /// Of a file, in nanoseconds since 1970.
    pub modified: u64,
    /// Of the file; empty where it could not be read.
    pub sha256: String,
}

/// Where its bytes lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub shard: u32,
    pub offset: u64,
    pub len: u64,
    pub sha256: String,
}

/// All lines of a journal.
#[derive(Default)]
pub struct Journal {
    pub entries: Vec<Entry>,
    /// The checksum of each line.
    heads: Vec<String>,
    /// Bytes of whole lines; what lies behind was being written when a build was stopped.
    pub len: u64,
    /// Bytes behind them.
    pub torn: u64,
}

impl Journal {
    pub fn path(set: &Path) -> PathBuf {
        set.join("journal.jsonl")
    }

    /// Reads all lines; `manifest` says how many there must be at least.
    ///
    /// # Errors
    /// A line that is not what was written, or one that is missing.
    pub fn read(set: &Path, manifest: &Manifest) -> Result<Self> {
        let path = Self::path(set);
        let wrong = |problem: String| Err(Error::new(path.display(), problem, REBUILD));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // Made after the manifest.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && manifest.lines == 0 => Vec::new(),
            Err(error) => return Err(Error::io(&path, &error)),
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut journal = Self { len: whole as u64, torn: (bytes.len() - whole) as u64, ..Self::default() };
        for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
            let number = journal.heads.len() + 1;
            let line = &line[..line.len() - 1];
            let Some((sum, json)) = line.split_at_checked(DIGITS) else {
                return wrong(format!("line {number} is cut short"));
            };
            let head = checksum(journal.head(), json);
            if head.as_bytes() != sum {
                return wrong(format!("line {number} is not what was written (checksum)"));
            }
            match serde_json::from_slice::<Entry>(json) {
                Ok(entry) if entry.is_sound() => journal.entries.push(entry),
                Ok(entry) => return wrong(format!("line {number} gives {} no place", entry.name)),
                Err(error) => return wrong(format!("line {number} is no entry ({error})")),
            }
            journal.heads.push(head);
        }
        let (found, lines) = (journal.heads.len(), manifest.lines);
        if found < lines {
            return wrong(format!("{found} lines, the manifest has {lines}"));
        }
        if lines.checked_sub(1).map_or("", |last| &journal.heads[last]) != manifest.head {
            return wrong(format!("its first {lines} lines are not those of the manifest"));
        }
        Ok(journal)
    }

    /// The checksum of the last line.
    pub fn head(&self) -> &str {
        self.heads.last().map_or("", String::as_str)
    }

    pub fn lines(&self) -> usize {
        self.heads.len()
    }

    /// Adds a line and gives its bytes.
    ///
    /// # Errors
    /// None that a set can have.
    pub fn push(&mut self, entry: Entry) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(&entry)
            .map_err(|error| Error::new("journal.jsonl", error, "this is a defect: please report it"))?;
        let head = checksum(self.head(), &json);
        let line = [head.as_bytes(), &json, b"\n"].concat();
        self.len += line.len() as u64;
        self.heads.push(head);
        self.entries.push(entry);
        Ok(line)
    }

    /// Bytes of each shard that lines speak of.
    pub fn shard_lengths(&self) -> Vec<u64> {
        let mut lengths: Vec<u64> = Vec::new();
        for place in self.entries.iter().filter_map(|entry| entry.place.as_ref()) {
            let shard = place.shard as usize;
            if shard >= lengths.len() {
                lengths.resize(shard + 1, 0);
            }
            lengths[shard] = lengths[shard].max(place.offset + place.len);
        }
        lengths
    }
}

impl Entry {
    /// Whether a reader can follow it without harm.
    fn is_sound(&self) -> bool {
        let Some(place) = &self.place else { return self.skipped.is_some() };
        let aligned = |bytes: u64| bytes.is_multiple_of(ALIGNMENT as u64);
        let bounded = place.offset.checked_add(place.len).is_some_and(|end| end < 1 << 48);
        bounded && place.shard < 1 << 20 && aligned(place.offset) && aligned(place.len)
    }
}

fn checksum(before: &str, json: &[u8]) -> String {
    hex(&Sha256::new().chain_update(before).chain_update(json).finalize())
}

/// Where a shard lies.
pub fn shard_path(set: &Path, shard: u32) -> PathBuf {
    set.join("shards").join(format!("{shard:05}.bin"))
}
