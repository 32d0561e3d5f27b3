//! `report.html`: the page of the runs in a folder as one file, with what a server would answer inside.

use super::about::{about, metrics_of};
use super::app::App;
use super::failure::{Answer, Failure};
use super::runs::{Run, mesh_names, summary};
use super::source::{Source, Surface};
use super::wire;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::page::{self, Block, Lattice};
use crate::train::list_snapshots;
use axum::http::StatusCode;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;

/// Bytes that a file may have, where nobody asks for another number.
pub const LIMIT: usize = 12_000_000;
/// What the file has beside its blocks: modules, style, settings, metrics.
const REST: usize = 700_000;

/// What a file holds, and what found no room in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub runs: usize,
    pub runs_left_out: usize,
    pub parts_left_out: usize,
}

/// Writes the page of the run in `root`, or of the runs below it, whole or not at all.
///
/// The first run is there whatever it takes; further ones, then snapshots and further meshes in turns, as long as the
/// file stays below `limit` bytes.
///
/// # Errors
/// A folder without a run; a file of a run that is missing or broken; those of writing.
pub fn export(root: &Path, out: &Path, device: Device, limit: usize) -> Result<Contents> {
    let app = App::new(root, device, 1);
    let runs = found(&app, root)?;
    let mut file = Packed::new(limit.saturating_sub(REST));
    let mut held: Vec<Held> = Vec::new();
    for run in &runs {
        readable(run)?;
        match file.add(&app, run, &of_mesh(0), held.is_empty()) {
            Ok(true) => held.push(Held::new(run)?),
            Ok(false) => {}
            // One that has only just begun does not keep the others out.
            Err(failure) if failure.status == StatusCode::NOT_FOUND && runs.len() > 1 => {}
            Err(failure) => return Err(failure.into_error(run.path.display())),
        }
    }
    let Some(shown) = held.first() else {
        let problem = "no run here has a checkpoint yet";
        return Err(Error::new(root.display(), problem, "wait for the first one"));
    };
    let title = format!("{} \u{b7} hexcuda", app.runs.record(shown.run, &runs).name);
    fill(&app, &mut file, &mut held)?;
    let page = page::file(&title, &data(&app, &file, &held, &runs)?, &file.blocks);
    write_atomic(out, |file| file.write_all(page.as_bytes()))?;
    Ok(Contents {
        runs: held.len(),
        runs_left_out: runs.len() - held.len(),
        parts_left_out: held.iter().map(Held::left_out).sum(),
    })
}

/// The runs, each with its pair behind it.
fn found(app: &App, root: &Path) -> Result<Vec<Run>> {
    let all = app.runs.all();
    if all.is_empty() {
        // A run that cannot be read says why.
        let why =
            app.runs.find("~").err().filter(|failure| failure.status == StatusCode::INTERNAL_SERVER_ERROR);
        let none = || {
            let problem = "no run here or below: expected a folder with config.toml and metrics.csv";
            Error::new(root.display(), problem, "name the folder of hexcuda train")
        };
        return Err(why.map_or_else(none, |failure| failure.into_error(root.display())));
    }
    let mut order: Vec<Run> = Vec::new();
    for run in &all {
        let pair = app.runs.record(run, &all).pair;
        for next in
            [Some(run), all.iter().find(|other| Some(&other.id) == pair.as_ref())].into_iter().flatten()
        {
            if !order.iter().any(|known| known.id == next.id) {
                order.push(next.clone());
            }
        }
    }
    Ok(order)
}

/// Refuses a summary that is broken, without which the page would say that the run goes on.
fn readable(run: &Run) -> Result<()> {
    let path = run.path.join("summary.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(()) };
    let broken = |error: serde_json::Error| {
        let place = format!("{}: line {}", path.display(), error.line());
        Error::new(place, error, "train again or restore the file")
    };
    serde_json::from_slice::<Value>(&text).map(drop).map_err(broken)
}

/// Planes or the mesh of a source.
#[derive(Clone, Debug)]
enum Part {
    Planes(String),
    Mesh(String),
}

/// What shows a mesh of a run.
fn of_mesh(index: usize) -> Vec<Part> {
    let planes = ["input", "decoded"].map(|kind| Part::Planes(format!("{kind}:{index}")));
    let meshes = ["source", "decoded"].map(|kind| Part::Mesh(format!("{kind}:{index}")));
    planes.into_iter().chain(meshes).collect()
}

fn of_snapshot(step: u64) -> Vec<Part> {
    let source = format!("snapshot:{step}");
    vec![Part::Planes(source.clone()), Part::Mesh(source)]
}

/// A part as it goes into the file, or why there is none.
enum Entry {
    Block(Block),
    Empty(String),
}

/// A run in the file.
struct Held<'a> {
    run: &'a Run,
    snapshots: Vec<u64>,
    /// The first so many meshes.
    meshes: usize,
    /// Snapshots and meshes that may still come, the next one last.
    waiting: [Vec<u64>; 2],
}

impl<'a> Held<'a> {
    fn new(run: &'a Run) -> Result<Self> {
        let mut steps = list_snapshots(&run.path)?;
        // What is decoded at the end is there already.
        if summary(&run.path).is_some() {
            steps.pop();
        }
        let mut snapshots: Vec<u64> = spread(steps.len()).into_iter().map(|at| steps[at]).collect();
        snapshots.reverse();
        let more = (1..mesh_names(&run.path).len() as u64).rev().collect();
        Ok(Self { run, snapshots: Vec::new(), meshes: 1, waiting: [snapshots, more] })
    }

    fn left_out(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }
}

/// The indices of `count` things, so that the first few of them lie spread over all: the last, the first, then whichever is
/// farthest from those before.
fn spread(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < count {
        let gap = |at: &usize| order.iter().map(|&known| at.abs_diff(known)).min().unwrap_or(*at);
        order.extend((0..count).max_by_key(gap));
    }
    order
}

/// Snapshots and further meshes of all runs in turns, until none of a kind has room.
fn fill(app: &App, file: &mut Packed, held: &mut [Held]) -> Result<()> {
    let mut full = vec![[false; 2]; held.len()];
    while held.iter().zip(&full).any(|(held, full)| (0..2).any(|k| !full[k] && !held.waiting[k].is_empty())) {
        for (held, full) in held.iter_mut().zip(&mut full) {
            for (kind, full) in full.iter_mut().enumerate() {
                let Some(&next) = held.waiting[kind].last().filter(|_| !*full) else { continue };
                let parts = if kind == 0 { of_snapshot(next) } else { of_mesh(next as usize) };
                let added = file.add(app, held.run, &parts, false);
                *full = !added.map_err(|failure| failure.into_error(held.run.path.display()))?;
                if *full {
                    continue;
                }
                held.waiting[kind].pop();
                match kind {
                    0 => held.snapshots.push(next),
                    _ => held.meshes += 1,
                }
            }
        }
    }
    held.iter_mut().for_each(|held| held.snapshots.sort_unstable());
    Ok(())
}

/// The data blocks of the file, and where they are.
struct Packed {
    /// Bytes that are left.
    room: usize,
    blocks: Vec<Block>,
    /// "RUN planes SOURCE" to the name of a block.
    names: Map<String, Value>,
    /// Why a mesh is none.
    empty: Map<String, Value>,
}

impl Packed {
    fn new(room: usize) -> Self {
        Self { room, blocks: Vec::new(), names: Map::new(), empty: Map::new() }
    }

    /// Adds all parts, or none where they have no room and need not be there.
    fn add(&mut self, app: &App, run: &Run, parts: &[Part], needed: bool) -> Answer<bool> {
        let made: Vec<(String, Entry)> =
            parts.par_iter().map(|part| entry(app, run, part)).collect::<Answer<_>>()?;
        let size =
            |(_, entry): &(String, Entry)| if let Entry::Block(block) = entry { block.size() } else { 0 };
        let size: usize = made.iter().map(size).sum();
        if size > self.room && !needed {
            return Ok(false);
        }
        self.room = self.room.saturating_sub(size);
        for (key, entry) in made {
            match entry {
                Entry::Block(block) => {
                    self.names.insert(key, json!(page::block_name(self.blocks.len())));
                    self.blocks.push(block);
                }
                Entry::Empty(why) => {
                    self.empty.insert(key, json!(why));
                }
            }
        }
        Ok(true)
    }
}

fn entry(app: &App, run: &Run, part: &Part) -> Answer<(String, Entry)> {
    let (key, source) = match part {
        Part::Planes(source) => (format!("{} planes {source}", run.id), Source::parse(source)?),
        Part::Mesh(source) => (format!("{} mesh {source}", run.id), Source::parse(source)?),
    };
    if let Part::Planes(_) = part {
        let bytes = wire::planes(&app.shown(run, &source)?.planes);
        return Ok((key, Entry::Block(Block::new(&bytes)?)));
    }
    let (mesh, of) = match app.surface(run, &source, run.settings.extraction.iso)? {
        Surface::Empty(why) => return Ok((key, Entry::Empty(why))),
        Surface::Mesh(mesh, of) => (mesh, of),
    };
    let Some(lattice) = Lattice::new(&mesh) else {
        return Ok((key, Entry::Empty("no triangle of this mesh has an area".into())));
    };
    let of = of.filter(|_| !matches!(source, Source::Mesh(_)));
    let distances = match of {
        Some(index) => app.distances(run, index, &lattice.positions())?,
        None => None,
    };
    Ok((key, Entry::Block(Block::new(&lattice.bytes(distances.as_deref()))?)))
}

/// What the page reads first: runs, metrics, and the names of blocks.
fn data(app: &App, file: &Packed, held: &[Held], all: &[Run]) -> Result<Value> {
    let (mut runs, mut metrics) = (Vec::new(), Map::new());
    for one in held {
        let run = one.run;
        let failed = |failure: Failure| failure.into_error(run.path.display());
        let mut details = about(app, run).map_err(failed)?;
        let names = &mesh_names(&run.path)[..one.meshes];
        let pair = app.runs.record(run, all).pair;
        details["meshes"] = json!(names);
        details["snapshots"] = json!(one.snapshots);
        details["pair"] = json!(pair.filter(|id| held.iter().any(|other| other.run.id == *id)));
        runs.push(details);
        metrics.insert(run.id.clone(), json!(metrics_of(app, run, 0).map_err(failed)?));
    }
    Ok(json!({ "runs": runs, "metrics": metrics, "blocks": file.names, "empty": file.empty }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_spread_over_all() {
        assert_eq!(spread(0), [0usize; 0]);
        assert_eq!(spread(1), [0]);
        let order = spread(9);
        assert_eq!(order[..2], [8, 0]);
        assert_eq!(order[2], 4);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..9).collect::<Vec<_>>());
    }
}
