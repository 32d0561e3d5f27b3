//! `snapshots/STEP.safetensors`: what the network makes of the first mesh on its way, in fp16, for whoever looks back at
//! a run or follows it.
//!
//! The steps follow from the settings alone and each file from the weights of its step, so that a run that was stopped
//! and resumed has the same files as one that was not. They lie evenly in the logarithm of the step, because most
//! happens at first. A snapshot takes one encoding and one decoding of a mesh, about a third of a step of one mesh
//! on the device: 12 of them are 3 % of the quick preset's 125 steps, and nothing in a run of thousands.

use super::evaluate::Midway;
use super::{Item, Settings, Trainer};
use crate::error::{Error, Result};
use crate::hexplane::{Planes, files};
use half::f16;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folder in a run.
const FOLDER: &str = "snapshots";

/// The snapshots of a run that trains.
pub struct Snapshots {
    folder: PathBuf,
    steps: BTreeSet<u64>,
    midway: Midway,
}

impl Snapshots {
    /// For a run in `out`. Files of other steps, of a run that was to have fewer, are removed, so that their number stays bounded.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn new(out: &Path, settings: &Settings) -> Result<Self> {
        let folder = out.join(FOLDER);
        let steps = snapshot_steps(settings.training.steps, settings.training.snapshots);
        for step in list_snapshots(out)?.into_iter().filter(|step| !steps.contains(step)) {
            let path = snapshot_path(out, step);
            std::fs::remove_file(&path).map_err(|error| Error::io(&path, &error))?;
        }
        Ok(Self { folder, steps, midway: Midway::default() })
    }

    /// Keeps what the network of the step that was just made decodes for `item`, where one is due.
    ///
    /// # Errors
    /// Those of the device and of the folder.
    pub fn note(&mut self, trainer: &mut Trainer, settings: &Settings, item: &Item) -> Result<()> {
        if !self.steps.contains(&trainer.step) {
            return Ok(());
        }
        let mut decoded = None;
        self.midway.each(trainer, settings, &[item], |_, _, planes| {
            decoded = storable(planes);
            Ok(())
        })?;
        let Some(decoded) = decoded else { return Ok(()) };
        std::fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, &error))?;
        let path = self.folder.join(format!("{}.safetensors", trainer.step));
        files::write(&path, &decoded, files::Precision::F16)
    }
}

/// Within what fp16 holds; none where a network has left the finite numbers, which its losses say already.
fn storable(mut planes: Planes) -> Option<Planes> {
    let most = f32::from(f16::MAX);
    let finite = planes.values.iter().all(|value| value.is_finite());
    planes.values.iter_mut().for_each(|value| *value = value.clamp(-most, most));
    finite.then_some(planes)
}

/// At most `count` steps of `steps`, the first and the last among them, evenly in their logarithm.
pub fn snapshot_steps(steps: u64, count: usize) -> BTreeSet<u64> {
    match count {
        0 => BTreeSet::new(),
        1 => BTreeSet::from([steps]),
        _ => {
            let place = |k: usize| (steps as f64).powf(k as f64 / (count - 1) as f64).round() as u64;
            (0..count).map(|k| place(k).clamp(1, steps)).collect()
        }
    }
}

/// The steps of which the run in `out` has a snapshot, in order.
///
/// # Errors
/// A folder that cannot be read; one that is missing holds none.
pub fn list_snapshots(out: &Path) -> Result<Vec<u64>> {
    let folder = out.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&folder, &error)),
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| Error::io(&folder, &error))?.file_name();
        let step = name.to_str().and_then(|name| name.strip_suffix(".safetensors"));
        // Only names that are written here, so that the path of a step is that of its file.
        steps.extend(step.and_then(|text| text.parse::<u64>().ok().filter(|step| step.to_string() == text)));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Where the snapshot of a step lies.
pub fn snapshot_path(out: &Path, step: u64) -> PathBuf {
    out.join(FOLDER).join(format!("{step}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_bounded_and_span_the_run() {
        assert_eq!(
            snapshot_steps(125, 12).into_iter().collect::<Vec<_>>(),
            [1, 2, 4, 6, 9, 14, 22, 33, 52, 81, 125]
        );
        for (steps, count) in [(1, 12), (2, 3), (1_000_000, 12), (7, 1000), (100, 1)] {
            let found = snapshot_steps(steps, count);
            assert!(found.len() <= count && found.contains(&steps), "{steps} {count}: {found:?}");
            assert!(found.iter().all(|step| (1..=steps).contains(step)), "{steps} {count}: {found:?}");
        }
        assert!(snapshot_steps(100, 0).is_empty());
    }
}
