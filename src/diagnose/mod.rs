//! `diagnose`: a grid of runs that tests why a Gaussian latent fails on binary planes, with what is predicted before and what
//! is found, claim by claim.

mod edge;
mod end;
mod grid;
mod look;
mod page;
mod prediction;
mod run;
mod spectrum;
mod verdict;

pub use edge::Profile;
pub use end::{End, LEVELS};
pub use grid::{Cell, Grid, Role, SEEDS};
pub use look::{Look, PosteriorLook};
pub use prediction::Prediction;
pub use run::RunResult;
pub use spectrum::{Metric, Predicted, Scope, Spectrum};
pub use verdict::{Outcome, Verdict, verdicts};

use crate::console;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::mesh::Mesh;
use crate::train::{Item, Prepare, prepare_all};
use look::Set;
use rayon::ThreadPoolBuilder;
use run::{Place, settings_of};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a folder says that it holds, to be compared with what is wanted.
const MANIFEST: &str = "diagnosis.json";
const PREDICTIONS: &str = "predictions.json";
/// What to do about a folder of something else.
const ELSEWHERE: &str = "name another folder with --out";

/// What a diagnosis is asked to do beside its grid.
pub struct Options<'a> {
    pub out: PathBuf,
    pub seeds: u64,
    pub quiet: bool,
    pub device: Device,
    /// Set by Ctrl-C.
    pub interrupt: &'a AtomicBool,
}

/// One run that is to be made.
struct Task<'a> {
    cell: &'a Cell,
    seed: u64,
}

/// Runs what is missing of `grid` over `meshes` (name, mesh in its own frame), and writes `predictions.json`, a file a run,
/// `verdicts.json` and `report.html` into the folder. Predictions are written before the first step.
///
/// # Errors
/// A folder of another version or grid, bad settings, those of the device and of writing, and an interruption; what is
/// finished stays.
pub fn diagnose(grid: &Grid, meshes: &[(String, Mesh)], options: &Options) -> Result<()> {
    if meshes.len() < 2 {
        let remedy = "name a folder with more meshes, or none for the built-in family";
        return Err(Error::usage("diagnose", "one mesh has no variance, expected at least 2 meshes", remedy));
    }
    let grid = &grid.for_meshes(meshes.len())?;
    grid.cells.iter().try_for_each(|cell| cell.settings.validate())?;
    let out = &options.out;
    same_grid(out, grid, meshes)?;
    let items = prepared(grid, meshes, options)?;
    let sets: HashMap<String, Set> =
        (items.iter()).map(|(key, items)| Ok((key.clone(), Set::new(items)?))).collect::<Result<_>>()?;
    if sets.values().any(|set| set.variance == 0.0) {
        let remedy = "name meshes that differ";
        return Err(Error::new(
            "diagnose",
            "the meshes all look alike, there is nothing to tell apart",
            remedy,
        ));
    }
    for folder in ["runs", "pictures"] {
        let folder = out.join(folder);
        std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, &error))?;
    }
    write_json(&out.join(MANIFEST), &manifest(grid, meshes)?)?;
    let predictions: Vec<Prediction> = grid
        .cells
        .iter()
        .filter_map(|cell| {
            let planes: Vec<&[f32]> =
                sets[&key(cell)].planes.iter().map(|planes| &planes.values[..]).collect();
            Prediction::new(cell, &planes)
        })
        .collect();
    let predictions =
        serde_json::to_value(&predictions).map_err(|error| Error::new(PREDICTIONS, error, "report this"))?;
    write_json(&out.join(PREDICTIONS), &predictions)?;
    let results = all_runs(grid, &sets, options)?;
    let verdicts = verdicts(&results);
    write_json(&out.join("verdicts.json"), &verdicts)?;
    page::write(out, &out.join("report.html"), &grid.cells, &results, &predictions, &verdicts)?;
    verdict::print(&verdicts, options.quiet)?;
    if options.quiet {
        Ok(())
    } else {
        console::result(format_args!("{}", out.join("report.html").display()))
    }
}

/// Whether a folder holds a diagnosis.
pub fn is_diagnosis(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Writes the page of a diagnosis anew, of the runs that its folder holds.
///
/// # Errors
/// A folder without a finished run, a file that is damaged or of another version, and those of writing.
pub fn report(out: &Path, path: &Path) -> Result<()> {
    let manifest = read_manifest(out)?.unwrap_or_default();
    let broken = |error| Error::new(out.join(MANIFEST).display(), error, "run the diagnosis again");
    let cells: Vec<Cell> = serde_json::from_value(manifest["cells"].clone()).map_err(broken)?;
    let predictions = read_json(&out.join(PREDICTIONS))?.unwrap_or_default();
    let mut results = Vec::new();
    for cell in &cells {
        for seed in 0.. {
            match RunResult::read(&RunResult::path(out, cell, seed))? {
                Some(result) => results.push(result),
                None => break,
            }
        }
    }
    if results.is_empty() {
        let remedy = "the command that began the diagnosis goes on with it";
        return Err(Error::new(out.display(), "no run of this diagnosis is finished yet", remedy));
    }
    page::write(out, path, &cells, &results, &predictions, &verdicts(&results))
}

/// What cells must share to be trained on the same planes.
fn key(cell: &Cell) -> String {
    let s = &cell.settings;
    format!("{:?}-{}-{}", s.representation, s.architecture.planes, s.training.blur)
}

/// The meshes as the cells see them, by [`key`].
fn prepared(grid: &Grid, meshes: &[(String, Mesh)], options: &Options) -> Result<HashMap<String, Vec<Item>>> {
    let mut items = HashMap::new();
    for cell in &grid.cells {
        if let Entry::Vacant(free) = items.entry(key(cell)) {
            let prepare = Prepare { settings: &cell.settings, device: &options.device };
            free.insert(prepare_all(&prepare, meshes, 0, &options.out)?);
        }
    }
    Ok(items)
}

/// What the folder holds, to be compared with what another command would make of it.
fn manifest(grid: &Grid, meshes: &[(String, Mesh)]) -> Result<serde_json::Value> {
    let cells =
        serde_json::to_value(&grid.cells).map_err(|error| Error::new("grid", error, "report this"))?;
    let names: Vec<&str> = meshes.iter().map(|(name, _)| name.as_str()).collect();
    let checksums: Vec<String> = meshes.iter().map(|(_, mesh)| format!("{:08x}", mesh.checksum())).collect();
    Ok(serde_json::json!({
        "format": run::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "meshes": names,
        "checksums": checksums,
        "cells": cells,
    }))
}

/// Refuses a folder that holds something else. A grid that has grown since is none: finished runs keep their settings.
fn same_grid(out: &Path, grid: &Grid, meshes: &[(String, Mesh)]) -> Result<()> {
    let Some(found) = read_manifest(out)? else { return Ok(()) };
    match unlike(&found, &manifest(grid, meshes)?) {
        Some(what) => {
            let problem = format!("this folder holds a diagnosis of {what}");
            Err(Error::new(out.join(MANIFEST).display(), problem, ELSEWHERE))
        }
        None => Ok(()),
    }
}

/// What the folder says that it holds; none where it holds no diagnosis.
fn read_manifest(out: &Path) -> Result<Option<serde_json::Value>> {
    let path = out.join(MANIFEST);
    let found = read_json(&path)?;
    match found {
        Some(found) if found["format"] != run::FORMAT => {
            let problem = format!(
                "a diagnosis of format {}, this program reads format {}",
                found["format"],
                run::FORMAT
            );
            Err(Error::new(path.display(), problem, ELSEWHERE))
        }
        found => Ok(found),
    }
}

fn read_json(path: &Path) -> Result<Option<serde_json::Value>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, &error)),
    };
    let broken = |error: serde_json::Error| {
        Error::new(format!("{}: line {}", path.display(), error.line()), error, "delete it; runs are kept")
    };
    serde_json::from_str(&text).map(Some).map_err(broken)
}

/// What a folder's manifest has that is not in the one that is wanted.
fn unlike(found: &serde_json::Value, wanted: &serde_json::Value) -> Option<String> {
    let list = |of: &serde_json::Value, part: &str| of[part].as_array().cloned().unwrap_or_default();
    if found["meshes"] != wanted["meshes"] {
        return Some("other meshes".into());
    }
    // Folders of before have names alone.
    if found.get("checksums").is_some() {
        let (theirs, ours) = (list(found, "checksums"), list(wanted, "checksums"));
        let names = list(wanted, "meshes");
        if let Some(at) = (0..names.len()).find(|&at| theirs.get(at) != ours.get(at)) {
            return Some(format!("another mesh by the name of {}", names[at].as_str().unwrap_or_default()));
        }
    }
    let (theirs, ours) = (list(found, "cells"), list(wanted, "cells"));
    let grown = !theirs.is_empty() && theirs.iter().all(|cell| ours.contains(cell));
    (!grown).then(|| "another grid".into())
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::new(path.display(), error, "report this"))?;
    write_atomic(path, |file| writeln!(file, "{text}"))
}

/// The results of all runs in the order of the grid; those that a file holds are not made again. On the CPU each run has
/// one thread and as many go on at once as there are threads: small networks have too little work for more.
fn all_runs(grid: &Grid, sets: &HashMap<String, Set>, options: &Options) -> Result<Vec<RunResult>> {
    let tasks: Vec<Task> =
        grid.cells.iter().flat_map(|cell| (0..options.seeds).map(move |seed| Task { cell, seed })).collect();
    let wide = grid.cells.iter().any(|cell| cell.settings.architecture.planes >= WIDE);
    let workers = match options.device {
        Device::Cpu | Device::CpuBf16 if !wide => rayon::current_num_threads(),
        _ => 1,
    };
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |device: &Device| -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(task) = tasks.get(at) else { return Ok(()) };
            let result = one_run(task, grid, sets, options, device)?;
            let mut done = done.lock().expect("no run panics while it holds the list");
            done.push((at, result));
            if !options.quiet {
                console::note(format_args!(
                    "{} of {}: {}",
                    done.len(),
                    tasks.len(),
                    line(&done[done.len() - 1].1)
                ));
            }
        }
    };
    if workers == 1 {
        work(&options.device)?;
    } else {
        // A device is not shared between threads; those of the CPU hold nothing.
        let cpu = || match options.device {
            Device::CpuBf16 => Device::CpuBf16,
            _ => Device::Cpu,
        };
        std::thread::scope(|scope| -> Result<()> {
            let worker = || -> Result<()> {
                let pool = ThreadPoolBuilder::new().num_threads(1).build();
                let failed = |error| Error::new("threads", error, "close some programs");
                pool.map_err(failed)?.install(|| work(&cpu()))
            };
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a run does not panic"))
        })?;
    }
    let mut done = done.into_inner().expect("no run panics while it holds the list");
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Planes from this size on keep all threads busy by themselves.
const WIDE: usize = 128;

fn one_run(
    task: &Task,
    grid: &Grid,
    sets: &HashMap<String, Set>,
    options: &Options,
    device: &Device,
) -> Result<RunResult> {
    let path = RunResult::path(&options.out, task.cell, task.seed);
    let found = RunResult::read(&path)?;
    if let Some(found) = found.filter(|found| found.settings == settings_of(task.cell, task.seed)) {
        return Ok(found);
    }
    let every = (task.cell.settings.training.steps / grid.looks).max(1);
    let place = Place { device, folder: &options.out, every, interrupt: options.interrupt };
    run::run(task.cell, task.seed, &sets[&key(task.cell)], &place)
}

/// A run in a line.
fn line(result: &RunResult) -> String {
    let rate = result
        .looks
        .last()
        .and_then(|look| look.posterior.as_ref())
        .map_or("-".to_string(), |p| format!("{:.1} nats, {} active", p.rate, p.active));
    let end = result.end.as_ref().map_or("no end".to_string(), |end| {
        format!("explains {:.3}, {:.0} % empty", end.of_mean, 100.0 * end.empty)
    });
    let diverged = result.diverged.as_ref().map_or(String::new(), |why| format!("; {why}"));
    format!("{} seed {}: {rate}, {end}{diverged}", result.cell, result.seed)
}
