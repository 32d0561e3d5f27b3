//! One run of a cell: trained from its seed, looked at in its course, judged at its end, kept in a file.

use super::end::End;
use super::grid::{Cell, Role};
use super::look::{Look, Set};
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::files::write_atomic;
use crate::model::{LinearCode, PlanesOf};
use crate::train::{Losses, Settings, Trainer, Wait, start_prior};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Of the files of a diagnosis; another one is not read.
pub const FORMAT: u32 = 1;

/// `runs/CELL-SEED.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub format: u32,
    pub cell: String,
    pub role: Role,
    pub seed: u64,
    /// The meshes, by name.
    pub meshes: Vec<String>,
    pub settings: Settings,
    pub parameters: usize,
    /// Mean share of pixels that show a surface, in the data.
    pub data_occupied: f64,
    /// The squared error of the set's mean, a value.
    pub data_variance: f64,
    pub looks: Vec<Look>,
    pub end: Option<End>,
    /// What stopped the run, where a loss left the finite numbers.
    pub diverged: Option<String>,
}

/// What a run is made in.
pub struct Place<'a> {
    pub device: &'a Device,
    pub folder: &'a Path,
    /// Steps between two looks.
    pub every: u64,
    pub interrupt: &'a AtomicBool,
}

impl RunResult {
    pub fn path(folder: &Path, cell: &Cell, seed: u64) -> PathBuf {
        folder.join("runs").join(format!("{}-s{seed}.json", cell.name))
    }

    pub fn picture(folder: &Path, cell: &str) -> PathBuf {
        folder.join("pictures").join(format!("{cell}.png"))
    }

    /// A finished run of this cell; none where there is no file.
    ///
    /// # Errors
    /// A file that is damaged, of another version or of other settings.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, &error)),
        };
        #[derive(Deserialize)]
        struct OfFormat {
            format: u32,
        }
        let remedy = "delete it, and the run is made again";
        let broken = |error: serde_json::Error| {
            Error::new(format!("{}: line {}", path.display(), error.line()), error, remedy)
        };
        let OfFormat { format } = serde_json::from_str(&text).map_err(broken)?;
        if format != FORMAT {
            let problem = format!("a run of format {format}, this program reads format {FORMAT}");
            return Err(Error::new(path.display(), problem, "name another folder with --out"));
        }
        serde_json::from_str(&text).map(Some).map_err(broken)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|error| Error::new("run", error, "report this"))?;
        write_atomic(path, |file| writeln!(file, "{text}"))
    }
}

/// The settings of a cell's run.
pub fn settings_of(cell: &Cell, seed: u64) -> Settings {
    Settings { seed, ..cell.settings.clone() }
}

/// Trains and judges; a run whose loss leaves the finite numbers ends there, which is a result.
///
/// # Errors
/// Those of the device and of writing, and an interruption.
pub fn run(cell: &Cell, seed: u64, set: &Set, place: &Place) -> Result<RunResult> {
    let settings = settings_of(cell, seed);
    let values = |at: usize| Ok(Cow::Borrowed(&set.planes[at].values[..]));
    let planes = PlanesOf { count: set.planes.len(), values: &values };
    let code = LinearCode::fit(&settings.architecture, &planes)?;
    let mut trainer = Trainer::new(place.device, &settings, set.items.len(), Some(&code))?;
    start_prior(&mut trainer.model, set.items, settings.seed)?;
    let mut result = RunResult {
        format: FORMAT,
        cell: cell.name.clone(),
        role: cell.role,
        seed,
        meshes: set.items.iter().map(|item| item.name.clone()).collect(),
        parameters: trainer.model.parameter_count(),
        data_occupied: set.occupied,
        data_variance: set.variance,
        looks: vec![Look::new(&mut trainer, set, None)?],
        end: None,
        diverged: None,
        settings,
    };
    let total = result.settings.training.steps;
    let mut last: Option<Losses> = None;
    while trainer.step < total {
        if place.interrupt.load(Ordering::SeqCst) {
            let remedy = "the same command goes on with the runs that are missing";
            return Err(Error::interrupted("diagnose", "stopped; finished runs are kept", remedy));
        }
        let stepped = trainer.step(set.items).and_then(|()| {
            while let Some((_, losses)) = trainer.done(Wait::All)? {
                last = Some(losses);
            }
            Ok(())
        });
        match stepped {
            Err(error) if error.kind() == Kind::Diverged => {
                result.diverged = Some(error.to_string());
                break;
            }
            stepped => stepped?,
        }
        if trainer.step.is_multiple_of(place.every) || trainer.step == total {
            result.looks.push(Look::new(&mut trainer, set, last)?);
        }
    }
    let picture = (seed == 0).then(|| RunResult::picture(place.folder, &cell.name));
    let settings = &result.settings;
    result.end = Some(End::new(&mut trainer, set, settings, place.device, picture.as_deref())?);
    result.write(&RunResult::path(place.folder, cell, seed))?;
    Ok(result)
}
