//! Writing a set: meshes in parallel, their bytes to the disk, then their lines to the journal. What stops a build at any
//! moment costs the meshes in flight; the next one cuts off what has no line and goes on.

use super::journal::{Entry, Journal, Place, shard_path};
use super::made::{Facts, Made};
use super::manifest::{Manifest, hex};
use super::{DistancePoints, Record, SetSettings, Source};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hexplane::rasterize::rasterize_on;
use crate::mesh::Mesh;
use crate::mesh::normalise::normalise;
use crate::ranks::Ranks;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Meshes in flight for each thread: so many that a large one holds few up.
const IN_FLIGHT: usize = 4;
/// Bytes that are written at a time at most, but for the last mesh.
const BATCH: usize = 256 << 20;

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
    pub fn run(&self, sources: &[Source], progress: impl FnMut(Progress)) -> Result<Report> {
        self.run_among(&Ranks::alone(), sources, progress)
    }

    /// The same as one of several ranks, which are given the same and make a share each; the first one writes and knows what
    /// came of it. The set is that of one process to the byte.
    ///
    /// # Errors
    /// As [`Build::run`]. One of the first rank alone is for it to end the job with.
    pub fn run_among(
        &self,
        ranks: &Ranks,
        sources: &[Source],
        mut progress: impl FnMut(Progress),
    ) -> Result<Report> {
        let open = || {
            self.settings.validate()?;
            let writer = Writer::open(self.set, self.settings)?;
            let (pending, report) = self.pending(sources, &writer)?;
            Ok((writer, pending, report))
        };
        let opened = ranks.agree(ranks.is_first().then(open).transpose())?;
        let (mut first, pending) = match opened {
            Some((writer, pending, report)) => (Some((writer, report)), pending),
            None => (None, Vec::new()),
        };
        let pending = spread(ranks, sources, pending)?;
        let (mut done, of) = (0, pending.len());
        // Of each rank; the first one's cores say how many.
        let [share] = ranks.spread_words([(IN_FLIGHT * rayon::current_num_threads()) as u64]);
        for chunk in pending.chunks(share as usize * ranks.size()) {
            let [interrupted] = ranks.any([self.interrupt.load(Ordering::SeqCst)]);
            if interrupted {
                let problem = format!("interrupted: {done} of {of} meshes made");
                return Err(Error::interrupted(self.set.display(), problem, "the same command goes on"));
            }
            let own: Vec<&Pending> = chunk.iter().skip(ranks.rank()).step_by(ranks.size()).collect();
            // One at a time: they take differently long.
            let made: Vec<Made> = own.par_iter().with_max_len(1).map(|pending| self.make(pending)).collect();
            let rows = chunk.len().div_ceil(ranks.size());
            let mut made = made.into_iter();
            let mut batch = Vec::new();
            for _ in 0..rows {
                batch.extend(row(ranks, made.next())?);
                // Of several ranks there are many, which need not be in memory all at once.
                if let Some((writer, report)) = first.as_mut().filter(|_| weight(&batch) > BATCH) {
                    writer.take(std::mem::take(&mut batch), report)?;
                }
            }
            done += chunk.len();
            if let Some((writer, report)) = &mut first {
                writer.take(batch, report)?;
                progress(Progress { done, of });
            }
        }
        let Some((writer, mut report)) = first else { return Ok(Report::default()) };
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
        let (name, known) = (pending.source.name.clone(), pending.known);
        let record = mesh.and_then(|mesh| self.record(&mesh));
        match record.map(|record| record.to_bytes(self.settings.storage)) {
            Ok(bytes) => {
                let sha256 = hex(&Sha256::digest(&bytes));
                Made { facts: Facts { name, origin, known, skipped: None, sha256 }, bytes }
            }
            Err(error) => {
                let (skipped, sha256) = (Some(error.to_string()), String::new());
                Made { facts: Facts { name, origin, known, skipped, sha256 }, bytes: Vec::new() }
            }
        }
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

/// What is to be made, as the first rank has found it.
fn spread<'a>(ranks: &Ranks, sources: &'a [Source], pending: Vec<Pending<'a>>) -> Result<Vec<Pending<'a>>> {
    if ranks.is_alone() {
        return Ok(pending);
    }
    let mut hash = crc32fast::Hasher::new();
    sources
        .iter()
        .for_each(|source| hash.update(format!("{}\n{}\n", source.name, source.source()).as_bytes()));
    let remedy = "give all ranks the same command, and folders that they share";
    ranks.require_same(hash.finalize().into(), "the meshes that it finds", remedy)?;
    let place: HashMap<(&str, String), usize> =
        sources.iter().enumerate().map(|(i, source)| ((source.name.as_str(), source.source()), i)).collect();
    let word = |pending: &Pending| {
        let index = place[&(pending.source.name.as_str(), pending.source.source())] as u64;
        2 * index + u64::from(pending.known)
    };
    let mut bytes: Vec<u8> = pending.iter().flat_map(|pending| word(pending).to_le_bytes()).collect();
    ranks.spread_bytes(&mut bytes);
    let words = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    Ok(words.map(|word| Pending { source: &sources[word as usize / 2], known: word % 2 == 1 }).collect())
}

/// The next mesh of each rank on the first, which others have none of.
fn row(ranks: &Ranks, own: Option<Made>) -> Result<Vec<Made>> {
    if ranks.is_alone() {
        return Ok(own.into_iter().collect());
    }
    let message = own.map_or(Ok(Vec::new()), |made| made.to_message())?;
    let all = ranks.gather(message).into_iter().filter(|message| !message.is_empty());
    all.map(|message| Made::from_message(&message)).collect()
}

fn weight(batch: &[Made]) -> usize {
    batch.iter().map(|made| made.bytes.len()).sum()
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

    /// Appends what was made and counts it.
    fn take(&mut self, made: Vec<Made>, report: &mut Report) -> Result<()> {
        for Facts { name, known, skipped, .. } in made.iter().map(|made| &made.facts) {
            match skipped {
                None if *known => report.changed += 1,
                None => report.added += 1,
                Some(reason) => report.skipped.push((name.clone(), reason.clone())),
            }
        }
        self.append(made)
    }

    /// Bytes first, and their lines when they are on the disk.
    fn append(&mut self, made: Vec<Made>) -> Result<()> {
        let mut lines = Vec::new();
        let mut open: Option<(PathBuf, File)> = None;
        for Made { facts: Facts { name, origin, skipped, sha256, .. }, bytes } in made {
            let place = match &skipped {
                Some(_) => None,
                None => {
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
                    Some(Place { shard, offset, len, sha256 })
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
