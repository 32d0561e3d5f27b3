//! Writing a set: meshes in parallel, their bytes to the disk, then their lines to the journal. What stops a build at any
//! moment costs the meshes in flight; the next one cuts off what has no line and goes on.

use super::journal::{Entry, Journal, Origin, Place, shard_path};
use super::manifest::{Manifest, hex};
use super::{DistancePoints, Record, SetSettings, Source};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hexplane::rasterize::rasterize_on;
use crate::mesh::Mesh;
use crate::mesh::normalise::normalise;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Meshes in flight for each thread: so many that a large one holds few up.
const IN_FLIGHT: usize = 4;

/// What to build a set with.
pub struct Build<'a> {
    pub set: &'a Path,
    /// Those of a set that is there must be the same.
    pub settings: &'a SetSettings,
    /// What rasterises and measures distances.
    pub device: &'a Device,
    /// Ends the build behind the meshes in flight.
    pub interrupt: &'a AtomicBool,
}

/// How far a build is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Of the meshes that were to be made.
    pub done: usize,
    pub of: usize,
}

/// What a build did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub added: usize,
    pub changed: usize,
    pub unchanged: usize,
    /// Name and reason of those that are not in the set, also those known before.
    pub skipped: Vec<(String, String)>,
}

impl Build<'_> {
    /// Makes what the set does not have yet of `sources` and finishes it.
    ///
    /// # Errors
    /// A set of other settings or a broken one, another build of the same set, those of the disk, an interrupt.
    pub fn run(&self, sources: &[Source], mut progress: impl FnMut(Progress)) -> Result<Report> {
        self.settings.validate()?;
        let mut writer = Writer::open(self.set, self.settings)?;
        let (pending, mut report) = self.pending(sources, &writer)?;
        let (mut done, of) = (0, pending.len());
        for chunk in pending.chunks(IN_FLIGHT * rayon::current_num_threads()) {
            if self.interrupt.load(Ordering::SeqCst) {
                let problem = format!("interrupted: {done} of {of} meshes made");
                return Err(Error::interrupted(self.set.display(), problem, "the same command goes on"));
            }
            // One at a time: they take differently long.
            let made: Vec<Made> =
                chunk.par_iter().with_max_len(1).map(|pending| self.make(pending)).collect();
            for made in &made {
                match &made.bytes {
                    Ok(_) if made.known => report.changed += 1,
                    Ok(_) => report.added += 1,
                    Err(reason) => report.skipped.push((made.name.clone(), reason.clone())),
                }
            }
            writer.append(made)?;
            done += chunk.len();
            progress(Progress { done, of });
        }
        writer.finish()?;
        report.skipped.sort();
        Ok(report)
    }

    /// What is to be made, by name, and what the set has of the rest.
    fn pending<'a>(&self, sources: &'a [Source], writer: &Writer) -> Result<(Vec<Pending<'a>>, Report)> {
        let latest: HashMap<&str, &Entry> =
            writer.journal.entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let mut by_name: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
        sources.iter().for_each(|source| by_name.entry(&source.name).or_default().push(source));
        let (mut pending, mut report) = (Vec::new(), Report::default());
        for (name, rivals) in by_name {
            let known = latest.get(name);
            // What is in the set keeps its name.
            let holder = known.and_then(|entry| rivals.iter().find(|s| s.source() == entry.origin.source));
            let source = holder.copied().unwrap_or(rivals[0]);
            for rival in rivals.iter().filter(|rival| ***rival != *source) {
                let reason = format!("its name is that of {}; rename one", source.source());
                report.skipped.push((rival.source(), reason));
            }
            match known {
                Some(entry) if source.is_unchanged(&entry.origin) => match &entry.skipped {
                    Some(reason) => report.skipped.push((name.to_string(), reason.clone())),
                    None => report.unchanged += 1,
                },
                _ => pending.push(Pending { source, known: known.is_some() }),
            }
        }
        Ok((pending, report))
    }

    fn make(&self, pending: &Pending) -> Made {
        let (origin, mesh) = pending.source.read();
        let name = pending.source.name.clone();
        let bytes = mesh
            .and_then(|mesh| self.record(&mesh))
            .map(|record| record.to_bytes(self.settings.storage))
            .map_err(|error| error.to_string());
        let sha256 = bytes.as_ref().map_or(String::new(), |bytes| hex(&Sha256::digest(bytes)));
        Made { name, origin, known: pending.known, bytes, sha256 }
    }

    fn record(&self, mesh: &Mesh) -> Result<Record> {
        let &SetSettings { size, representation, normals, up, points, seed, meshes, .. } = self.settings;
        let (mesh, transform) = normalise(mesh, up)?;
        let planes = rasterize_on(self.device, &mesh, &transform, size, representation, normals)?;
        if planes.is_background() {
            let problem = "no view of it shows a surface";
            return Err(Error::new("mesh", problem, "check that its triangles have an area"));
        }
        let points = DistancePoints::draw(&mesh, points / 2, seed, self.device)?;
        Ok(Record { planes, points, mesh: meshes.then_some(mesh) })
    }
}

struct Pending<'a> {
    source: &'a Source,
    /// Whether the set has something of that name.
    known: bool,
}

struct Made {
    name: String,
    origin: Origin,
    known: bool,
    /// Of the record, or why there is none.
    bytes: std::result::Result<Vec<u8>, String>,
    sha256: String,
}

/// The end of a set's files.
struct Writer {
    set: PathBuf,
    manifest: Manifest,
    journal: Journal,
    /// Locked while the set is written.
    file: File,
    shard: u32,
    end: u64,
}

impl Writer {
    /// Opens a set or begins one; what a stopped build has left without a line is cut off.
    fn open(set: &Path, settings: &SetSettings) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io(set, &error);
        if !Manifest::is_in(set) {
            // Its own first file may have been stopped on its way.
            let foreign = |name: std::ffi::OsString| !name.to_string_lossy().starts_with(".hexcuda-");
            if std::fs::read_dir(set).is_ok_and(|all| all.flatten().any(|entry| foreign(entry.file_name()))) {
                let problem = "the folder is no set and not empty";
                return Err(Error::new(set.display(), problem, "name a new folder"));
            }
            std::fs::create_dir_all(set).map_err(failed)?;
            Manifest::new(settings.clone()).write(set)?;
        }
        std::fs::create_dir_all(set.join("shards")).map_err(failed)?;
        let path = Journal::path(set);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|error| Error::io(&path, &error))?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::new(set.display(), "another build of this set goes on", "wait for its end"));
        }
        // Not before the lock: another build may just have ended.
        let manifest = Manifest::read(set)?;
        if let Some((ours, theirs)) = manifest.settings.difference(settings) {
            let problem = format!("the set has `{ours}`, this command `{theirs}`");
            return Err(Error::new(set.display(), problem, "leave the option out or build another set"));
        }
        let journal = Journal::read(set, &manifest)?;
        file.set_len(journal.len).map_err(|error| Error::io(&path, &error))?;
        let mut writer = Self { set: set.to_path_buf(), manifest, journal, file, shard: 0, end: 0 };
        writer.cut()?;
        Ok(writer)
    }

    fn cut(&mut self) -> Result<()> {
        let lengths = self.journal.shard_lengths();
        for (shard, &len) in lengths.iter().enumerate() {
            let path = shard_path(&self.set, shard as u32);
            let failed = |error: std::io::Error| Error::io(&path, &error);
            let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            let found = file.metadata().map_err(failed)?.len();
            if found < len {
                let problem = format!("it has {found} bytes, the journal has {len} in it");
                return Err(Error::new(path.display(), problem, super::REBUILD));
            }
            file.set_len(len).map_err(failed)?;
        }
        // At most one more was begun.
        let next = shard_path(&self.set, lengths.len() as u32);
        if next.exists() {
            std::fs::remove_file(&next).map_err(|error| Error::io(&next, &error))?;
        }
        self.shard = lengths.len().saturating_sub(1) as u32;
        self.end = lengths.last().copied().unwrap_or(0);
        Ok(())
    }

    /// Bytes first, and their lines when they are on the disk.
    fn append(&mut self, made: Vec<Made>) -> Result<()> {
        let mut lines = Vec::new();
        let mut open: Option<(PathBuf, File)> = None;
        for Made { name, origin, bytes, sha256, .. } in made {
            let (place, skipped) = match bytes {
                Err(reason) => (None, Some(reason)),
                Ok(bytes) => {
                    if self.end >= (self.manifest.settings.shard as u64) << 20 {
                        close(open.take())?;
                        (self.shard, self.end) = (self.shard + 1, 0);
                    }
                    let path = shard_path(&self.set, self.shard);
                    let failed = |error: std::io::Error| Error::io(&path, &error);
                    if open.is_none() {
                        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
                        let mut file = file.map_err(failed)?;
                        file.seek(SeekFrom::Start(self.end)).map_err(failed)?;
                        open = Some((path.clone(), file));
                    }
                    if let Some((_, file)) = &mut open {
                        file.write_all(&bytes).map_err(failed)?;
                    }
                    let (shard, offset, len) = (self.shard, self.end, bytes.len() as u64);
                    self.end += len;
                    (Some(Place { shard, offset, len, sha256 }), None)
                }
            };
            lines.extend(self.journal.push(Entry { name, origin, place, skipped })?);
        }
        close(open)?;
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| Error::io(Journal::path(&self.set), &error))
    }

    fn finish(mut self) -> Result<()> {
        let (lines, head) = (self.journal.lines(), self.journal.head().to_string());
        if !self.manifest.finished || self.manifest.lines != lines {
            self.manifest = Manifest { finished: true, lines, head, ..self.manifest };
            self.manifest.write(&self.set)?;
        }
        Ok(())
    }
}

/// Waits until the bytes are on the disk.
fn close(open: Option<(PathBuf, File)>) -> Result<()> {
    open.map_or(Ok(()), |(path, file)| file.sync_data().map_err(|error| Error::io(&path, &error)))
}
