//! The runs in a folder: found by looking, named by ids, and never written to.
//!
//! A request names a run by an id that must be one of those that were found: no path is ever made of what a request
//! says.

use super::failure::{Answer, Failure};
use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::model::LatentKind;
use crate::train::{Inputs, SecondStage, Settings, is_growing};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// How deep runs may lie in the folder that is served, and how many folders are looked into.
const DEPTH: usize = 4;
const MOST_FOLDERS: usize = 10_000;
const MOST_RUNS: usize = 1000;

/// Tells two states of a file apart: files are replaced whole.
pub type Stamp = (Option<SystemTime>, u64);

/// Of a file; none where it is not there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then(|| (metadata.modified().ok(), metadata.len()))
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run folder.
#[derive(Clone)]
pub struct Run {
    pub id: String,
    pub path: PathBuf,
    pub settings: Arc<Settings>,
}

/// What `/api/runs` says of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    pub representation: Representation,
    pub latent: LatentKind,
    pub preset: crate::train::Preset,
    pub planes: usize,
    pub state: Progress,
    pub step: u64,
    pub steps: u64,
    pub meshes: Vec<String>,
    pub pair: Option<String>,
    pub priors: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    Training,
    Done,
    Stopped,
}

/// The folder that is served.
pub struct Runs {
    root: PathBuf,
    /// Every run that was ever found, by its id.
    seen: Mutex<BTreeMap<String, PathBuf>>,
    settings: Mutex<HashMap<PathBuf, (Stamp, Arc<Settings>)>>,
    /// CRC-32 of first meshes.
    inputs: Mutex<HashMap<PathBuf, (Stamp, u32)>>,
}

impl Runs {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            seen: Mutex::default(),
            settings: Mutex::default(),
            inputs: Mutex::default(),
        }
    }

    /// The run of an id: 404 where there never was one, 410 where it has been deleted.
    pub fn find(&self, id: &str) -> Answer<Run> {
        let known = lock(&self.seen).get(id).cloned();
        if let Some(path) = known.filter(|path| is_run(path)) {
            return Ok(Run { id: id.to_string(), settings: self.settings(&path)?, path });
        }
        if let Some(run) = self.all().into_iter().find(|run| run.id == id) {
            return Ok(run);
        }
        if lock(&self.seen).contains_key(id) {
            return Err(Failure::gone(id));
        }
        // As it came, it may hold anything.
        let shown: String = id.escape_debug().take(100).collect();
        Err(Failure::unknown(format!("there is no run {shown}")))
    }

    /// Every run of the folder, in the order of ids. What cannot be read is left out.
    pub fn all(&self) -> Vec<Run> {
        let (mut found, mut waiting, mut looked) = (Vec::new(), vec![(self.root.clone(), Vec::new())], 0);
        while let Some((folder, names)) = waiting.pop() {
            looked += 1;
            if is_run(&folder) {
                // Not `.`, which a browser takes out of an address.
                let id = if names.is_empty() { "~".to_string() } else { names.join("~") };
                found.push((id, folder));
            } else if names.len() < DEPTH && looked < MOST_FOLDERS {
                waiting.extend(folders(&folder).into_iter().map(|name| {
                    let path = folder.join(&name);
                    let mut names = names.clone();
                    names.push(name);
                    (path, names)
                }));
            }
        }
        found.sort();
        // Two folders can come to one id by a `~` in their names: the first one has it.
        found.dedup_by(|a, b| a.0 == b.0);
        found.truncate(MOST_RUNS);
        lock(&self.seen).extend(found.iter().cloned());
        let run =
            |(id, path): (String, PathBuf)| Some(Run { settings: self.settings(&path).ok()?, id, path });
        found.into_iter().filter_map(run).collect()
    }

    /// What there is to say of every run.
    pub fn records(&self) -> Vec<Record> {
        let runs = self.all();
        runs.iter().map(|run| self.record(run, &runs)).collect()
    }

    /// Of one run, beside all.
    pub fn record(&self, run: &Run, all: &[Run]) -> Record {
        let Run { id, path, settings } = run;
        let step = last_row(&path.join("metrics.csv")).map_or(0, |(step, _)| step);
        let kind = settings.latent.kind;
        let mut priors = Vec::new();
        if kind != LatentKind::Deterministic {
            priors.push("own");
        }
        if SecondStage::path(path).is_file() {
            priors.push("second-stage");
        }
        let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        Record {
            id: id.clone(),
            name: full.file_name().map_or_else(|| id.clone(), |name| name.to_string_lossy().into_owned()),
            representation: settings.representation,
            latent: kind,
            preset: settings.preset,
            planes: settings.architecture.planes,
            state: progress(path, step, settings.training.steps),
            step,
            steps: settings.training.steps,
            meshes: mesh_names(path),
            pair: self.pair(run, all),
            priors,
        }
    }

    /// A run of the same first mesh with the other representation: of the same preset before another, in the same
    /// folder before elsewhere.
    fn pair(&self, run: &Run, all: &[Run]) -> Option<String> {
        let own = self.input(&run.path)?;
        let other = |there: &&Run| {
            there.settings.representation != run.settings.representation
                && self.input(&there.path) == Some(own)
        };
        let apart = |there: &Run| {
            (there.settings.preset != run.settings.preset, there.path.parent() != run.path.parent())
        };
        all.iter().filter(other).min_by_key(|there| apart(there)).map(|there| there.id.clone())
    }

    fn input(&self, run: &Path) -> Option<u32> {
        let path = run.join("input.ply");
        cached(&self.inputs, &path, |path| {
            std::fs::read(path).map(|bytes| crc32fast::hash(&bytes)).map_err(|error| Error::io(path, &error))
        })
        .ok()
    }

    fn settings(&self, run: &Path) -> Result<Arc<Settings>> {
        cached(&self.settings, &run.join("config.toml"), |path| {
            let settings = Settings::load(None, Some(path))?;
            settings.validate().map_err(|error| error.within(path.display()))?;
            Ok(Arc::new(settings))
        })
    }
}

/// What was made of a file, as long as it is the same.
fn cached<T: Clone>(
    cache: &Mutex<HashMap<PathBuf, (Stamp, T)>>,
    path: &Path,
    make: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let now = stamp(path).ok_or_else(|| Error::io(path, &std::io::ErrorKind::NotFound.into()))?;
    if let Some((_, value)) = lock(cache).get(path).filter(|(then, _)| *then == now) {
        return Ok(value.clone());
    }
    let value = make(path)?;
    let mut cache = lock(cache);
    if cache.len() > 2 * MOST_RUNS {
        cache.clear();
    }
    cache.insert(path.to_path_buf(), (now, value.clone()));
    Ok(value)
}

/// Whether a folder holds a run that has begun to train.
pub fn is_run(folder: &Path) -> bool {
    folder.join("config.toml").is_file() && folder.join("metrics.csv").is_file()
}

/// Names of the folders in one, in order, without hidden ones; links are not followed, so that nothing outside is served.
fn folders(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let entries = entries.filter_map(|entry| entry.ok()).filter(is_folder);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names.truncate(MOST_FOLDERS);
    names
}

fn progress(run: &Path, step: u64, steps: u64) -> Progress {
    if is_growing(&run.join("metrics.csv")) {
        return Progress::Training;
    }
    let time = |name: &str| stamp(&run.join(name)).and_then(|(time, _)| time);
    // A run that was ended by its time has results too; one that goes on again has a newer checkpoint.
    let finished =
        time("summary.json").is_some_and(|end| step >= steps || time("checkpoint.safetensors") <= Some(end));
    if finished { Progress::Done } else { Progress::Stopped }
}

/// Names of the meshes of a run.
pub fn mesh_names(run: &Path) -> Vec<String> {
    if let Some(inputs) = Inputs::read(run) {
        return inputs.meshes;
    }
    // A run of an older program, once it has ended.
    let Some(summary) = summary(run) else { return vec!["mesh 0".to_string()] };
    let name = |of: &serde_json::Value| of["name"].as_str().unwrap_or("mesh").to_string();
    summary["meshes"].as_array().map_or_else(|| vec![name(&summary)], |all| all.iter().map(name).collect())
}

/// `summary.json` of a run that has ended.
pub fn summary(run: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(run.join("summary.json")).ok()?).ok()
}

/// Step and loss of the last whole row of a `metrics.csv`, read from its end.
pub fn last_row(path: &Path) -> Option<(u64, f64)> {
    const TAIL: u64 = 4096;
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let whole = &text[..text.rfind('\n')?];
    let mut words = whole.rsplit('\n').next()?.split(',');
    // step, seconds, loss
    let step = words.next()?.parse().ok()?;
    Some((step, words.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_is_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let found = |text: &str| {
            std::fs::write(&path, text).unwrap();
            last_row(&path)
        };
        assert_eq!(found("step,seconds,loss\n"), None);
        assert_eq!(found("step,seconds,loss\n1,0.5,2e-3\n2,1.0,1e"), Some((1, 2e-3)));
        let long: String = (1..=1000).map(|step| format!("{step},0.5,0.25,0\n")).collect();
        assert_eq!(found(&long), Some((1000, 0.25)));
    }
}
