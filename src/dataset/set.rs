//! A set for reading.

use super::journal::{Entry, Journal, Place, shard_path};
use super::manifest::{Manifest, hex};
use super::record::RecordView;
use super::{REBUILD, SetSettings};
use crate::cpu::mapped::MappedFile;
use crate::error::{Error, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A set, mapped into memory. Its meshes are ordered by name, however it was built.
pub struct Set {
    path: PathBuf,
    pub settings: SetSettings,
    /// What is in it, by name.
    pub entries: Vec<Entry>,
    /// What is not, by name.
    pub skipped: Vec<Entry>,
    journal: Journal,
    shards: Vec<MappedFile>,
    /// Which records were compared with their checksum.
    sound: Vec<AtomicBool>,
    /// What a build that was stopped has left, if any.
    unfinished: Option<String>,
}

/// A mesh of a set, wherever the set goes.
#[derive(Clone)]
pub struct SetMesh {
    pub set: Arc<Set>,
    pub index: usize,
}

impl Set {
    /// Opens a set that is whole.
    ///
    /// # Errors
    /// What is broken, and a set whose build has not come to its end.
    pub fn open(path: &Path) -> Result<Self> {
        let set = Self::open_unfinished(path)?;
        match &set.unfinished {
            Some(problem) => Err(Error::new(path.display(), problem, "run the command that builds it again")),
            None => Ok(set),
        }
    }

    /// Opens a set also where a build of it was stopped or goes on.
    ///
    /// # Errors
    /// What is broken.
    pub fn open_unfinished(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        let journal = Journal::read(path, &manifest)?;
        let (mut shards, mut unfinished) = (Vec::new(), None);
        for (shard, &len) in journal.shard_lengths().iter().enumerate() {
            let file = shard_path(path, shard as u32);
            let found = std::fs::metadata(&file).map_err(|error| Error::io(&file, &error))?.len();
            if found < len {
                let problem = format!("it has {found} bytes, the journal has {len} in it");
                return Err(Error::new(file.display(), problem, REBUILD));
            }
            if found > len {
                unfinished = Some(format!("shard {shard} has {} bytes of no mesh", found - len));
            }
            shards.push(MappedFile::open(&file, len as usize)?);
        }
        if shard_path(path, shards.len() as u32).exists() {
            unfinished = Some("a shard has no mesh in the journal".to_string());
        }
        if !manifest.finished || journal.lines() != manifest.lines || journal.torn > 0 {
            unfinished = Some("the set is not finished: a build goes on or was stopped".to_string());
        }
        let latest: BTreeMap<&str, &Entry> =
            journal.entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let (entries, skipped): (Vec<Entry>, Vec<Entry>) =
            latest.into_values().cloned().partition(|entry| entry.place.is_some());
        let sound = entries.iter().map(|_| AtomicBool::new(false)).collect();
        let (path, settings) = (path.to_path_buf(), manifest.settings);
        Ok(Self { path, settings, entries, skipped, journal, shards, sound, unfinished })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the set is no finished one.
    pub fn unfinished(&self) -> Option<&str> {
        self.unfinished.as_deref()
    }

    /// Bytes of all shards, and of these those that no mesh of the set needs any more.
    pub fn bytes(&self) -> (u64, u64) {
        let all: u64 = self.journal.shard_lengths().iter().sum();
        let used: u64 = self.entries.iter().filter_map(|entry| entry.place.as_ref()).map(|p| p.len).sum();
        (all, all - used)
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The index of a mesh by its name.
    ///
    /// # Errors
    /// None of that name; one that was skipped says why.
    pub fn find(&self, name: &str) -> Result<usize> {
        if let Ok(index) = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)) {
            return Ok(index);
        }
        let place = format!("{}: {name}", self.path.display());
        let skipped = self.skipped.iter().find(|entry| entry.name == name);
        if let Some(reason) = skipped.and_then(|entry| entry.skipped.as_ref()) {
            let problem = format!("the mesh was skipped: {reason}");
            return Err(Error::new(place, problem, "mend its file and build the set again"));
        }
        Err(Error::new(place, "the set has no mesh of this name", "`hexcuda dataset info --json` lists all"))
    }

    /// A mesh in place. Its checksum is looked at the first time.
    ///
    /// # Errors
    /// Bytes that are not those that were written.
    pub fn record(&self, index: usize) -> Result<RecordView<'_>> {
        let entry = &self.entries[index];
        let (Some(place), sound) = (&entry.place, &self.sound[index]) else {
            return Err(self.broken(entry, "it has no place"));
        };
        let bytes = self.slice(place);
        if sound.load(Ordering::Relaxed) {
            return RecordView::new(bytes, &self.settings, &entry.name);
        }
        if !is_sound(place, bytes) {
            return Err(self.broken(entry, "its bytes are not those that were written (checksum)"));
        }
        let view = RecordView::new(bytes, &self.settings, &entry.name)
            .map_err(|error| error.within(self.path.display()))?;
        if !view.is_sound() {
            return Err(self.broken(entry, "a triangle refers beyond the vertices"));
        }
        sound.store(true, Ordering::Relaxed);
        Ok(view)
    }

    /// Asks the system to read a mesh ahead of its use.
    pub fn prefetch(&self, index: usize) {
        if let Some(place) = &self.entries[index].place {
            let start = place.offset as usize;
            self.shards[place.shard as usize].prefetch(start..start + place.len as usize);
        }
    }

    /// Gives back the memory of all that was read so far.
    pub fn release(&self) {
        self.shards.iter().for_each(MappedFile::release);
    }

    /// Compares every line of the journal with its bytes, also those of meshes that were replaced; the names of meshes
    /// that are not as they were written.
    pub fn corrupted(&self) -> Vec<String> {
        let wrong = |entry: &&Entry| {
            entry.place.as_ref().is_some_and(|place| {
                let bytes = self.slice(place);
                let view = RecordView::new(bytes, &self.settings, &entry.name);
                !is_sound(place, bytes) || !view.is_ok_and(|view| view.is_sound())
            })
        };
        let placed: Vec<&Entry> = self.journal.entries.iter().collect();
        let mut names: Vec<String> = placed
            .chunks(256)
            .flat_map(|entries| {
                // What was read is not kept: sets are larger than memory.
                self.release();
                entries.par_iter().copied().filter(wrong).map(|e| e.name.clone()).collect::<Vec<_>>()
            })
            .collect();
        self.release();
        names.sort();
        names.dedup();
        names
    }

    fn slice(&self, place: &Place) -> &[u8] {
        // Inside the shard, whose map is as long as the journal says.
        &self.shards[place.shard as usize].bytes()[place.offset as usize..][..place.len as usize]
    }

    fn broken(&self, entry: &Entry, problem: &str) -> Error {
        let place = entry.place.as_ref().map_or(String::new(), |place| {
            format!(" (shards/{:05}.bin, byte {})", place.shard, place.offset)
        });
        Error::new(format!("{}: {}{place}", self.path.display(), entry.name), problem, REBUILD)
    }

    /// Tells sets of different content apart: SHA-256 of names and checksums of these meshes, in order.
    pub fn fingerprint(&self, meshes: impl IntoIterator<Item = usize>) -> String {
        let mut hash = Sha256::new();
        for entry in meshes.into_iter().map(|index| &self.entries[index]) {
            let sum = entry.place.as_ref().map_or("", |place| &place.sha256);
            hash.update(format!("{}\0{sum}\n", entry.name));
        }
        hex(&hash.finalize())
    }
}

impl SetMesh {
    pub fn name(&self) -> &str {
        &self.set.entries[self.index].name
    }

    /// # Errors
    /// As of [`Set::record`].
    pub fn record(&self) -> Result<RecordView<'_>> {
        self.set.record(self.index)
    }
}

fn is_sound(place: &Place, bytes: &[u8]) -> bool {
    hex(&Sha256::digest(bytes)) == place.sha256
}
