//! Validation on the way: at intervals the meshes of sets that are not trained on are decoded and measured as meshes, beside
//! the ceiling of their planes; the best weights are kept, and a run that does not get better ends.

use super::evaluate::{Midway, input_mesh, mesh_of_planes};
use super::{Checkpoint, Item, Settings, Trainer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::mesh::metrics::{Metrics, Reference};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub const BEST: &str = "best.safetensors";
const FILE: &str = "validation.csv";

/// `[validation]` of a configuration: what training does with sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Share of a set's meshes that are not trained on and judged on the way.
    pub share: f64,
    /// Share of a set's meshes that are judged at the end alone.
    pub test_share: f64,
    /// Steps between two looks; 0: none.
    pub every: u64,
    /// Most meshes of a look.
    pub meshes: usize,
    /// Most meshes of each part that are judged at the end.
    pub at_end: usize,
    /// Looks without a better one after which a run ends; 0: it does not.
    pub patience: usize,
}

impl Default for Validation {
    fn default() -> Self {
        Self { share: 0.1, test_share: 0.1, every: 500, meshes: 16, at_end: 64, patience: 0 }
    }
}

impl Validation {
    /// # Errors
    /// Shares that leave nothing to train on.
    pub fn validate(&self) -> Result<()> {
        let shares = [self.share, self.test_share];
        let problem = if shares.iter().any(|share| !(0.0..1.0).contains(share)) {
            "share and test_share must be from 0 to below 1"
        } else if shares.iter().sum::<f64>() >= 1.0 {
            "share and test_share leave nothing to train on"
        } else if self.every > 0 && self.meshes == 0 {
            "meshes is 0, expected at least 1; every = 0 turns looks off"
        } else if self.patience > 0 && self.every == 0 {
            "patience counts looks, and every is 0"
        } else {
            return Ok(());
        };
        Err(Error::usage("settings: validation", problem, "change the line of the configuration file"))
    }
}

/// At most `most` of `items`, evenly.
pub(super) fn spread(items: &[Item], most: usize) -> Vec<&Item> {
    let count = items.len().min(most);
    (0..count).map(|k| &items[k * items.len() / count]).collect()
}

/// The looks of a run so far.
pub(super) struct Validator<'a> {
    out: PathBuf,
    items: Vec<&'a Item>,
    device: &'a Device,
    settings: &'a Settings,
    rows: Vec<Row>,
    /// Mean F-score of each mesh's ceiling, once known.
    ceilings: Vec<f64>,
    midway: Midway,
}

/// A line of the file: means over the meshes of a look.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub step: u64,
    /// The mean of the F-scores at all thresholds, of the network and of the ceiling.
    pub score: f64,
    pub ceiling: f64,
    /// The network's at each.
    scores: Vec<f64>,
}

impl<'a> Validator<'a> {
    /// Goes on with the looks up to `step`.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(
        out: &Path,
        step: u64,
        (settings, device): (&'a Settings, &'a Device),
        items: &'a [Item],
    ) -> Result<Self> {
        let Validation { every, meshes, .. } = settings.validation;
        let items = if every == 0 { Vec::new() } else { spread(items, meshes) };
        let (rows, midway) = (Vec::new(), Midway::default());
        let out = out.to_path_buf();
        let mut validator = Self { out, items, device, settings, rows, ceilings: Vec::new(), midway };
        let path = validator.path();
        if validator.items.is_empty() {
            return Ok(validator);
        }
        if step > 0 && path.exists() {
            validator.rows = read(&path)?.into_iter().filter(|row| row.step <= step).collect();
        }
        validator.write()?;
        Ok(validator)
    }

    fn path(&self) -> PathBuf {
        self.out.join(FILE)
    }

    /// Whether the step that was just made ends with a look.
    pub fn is_due(&self, step: u64) -> bool {
        !self.items.is_empty() && step.is_multiple_of(self.settings.validation.every)
    }

    /// Looks, and keeps the weights where they are the best so far.
    ///
    /// # Errors
    /// Those of the device, of the set and of the folder.
    pub fn look(&mut self, trainer: &mut Trainer) -> Result<Row> {
        let Self { items, device, settings, ceilings, midway, .. } = self;
        let thresholds = settings.metrics.thresholds.len();
        let (mut scores, first) = (vec![0.0; thresholds], ceilings.is_empty());
        midway.each(trainer, settings, items, |item, planes, decoded| {
            let input = input_mesh(item, device, settings)?;
            let reference = Reference::on(device, &input, &settings.metrics)?;
            let metrics = reference.compare(&mesh_of_planes(device, &decoded, settings)?)?;
            scores.iter_mut().zip(&metrics.scores).for_each(|(sum, score)| *sum += score.f_score);
            if first {
                let ceiling = reference.compare(&mesh_of_planes(device, planes, settings)?)?;
                ceilings.push(mean_score(&ceiling));
            }
            Ok(())
        })?;
        let count = items.len() as f64;
        scores.iter_mut().for_each(|sum| *sum /= count);
        let score = scores.iter().sum::<f64>() / thresholds.max(1) as f64;
        let row = Row { step: trainer.step, score, ceiling: ceilings.iter().sum::<f64>() / count, scores };
        let best = self.best().is_none_or(|best| row.score > best.score);
        self.rows.push(row.clone());
        if best {
            Checkpoint::write(&self.out.join(BEST), trainer, self.settings)?;
        }
        self.write()?;
        Ok(row)
    }

    /// The first of the best looks.
    pub fn best(&self) -> Option<&Row> {
        self.rows.iter().reduce(|best, row| if row.score > best.score { row } else { best })
    }

    /// Whether the run is not worth going on with.
    pub fn is_stalled(&self) -> bool {
        let since = self.best().map_or(0, |best| self.rows.iter().filter(|row| row.step > best.step).count());
        self.settings.validation.patience > 0 && since >= self.settings.validation.patience
    }

    fn write(&self) -> Result<()> {
        let mut text = "step,score,ceiling".to_string();
        for threshold in &self.settings.metrics.thresholds {
            let _ = write!(text, ",f_{threshold}");
        }
        for Row { step, score, ceiling, scores } in &self.rows {
            // The shortest digits that give the number back.
            let _ = write!(text, "\n{step},{score:?},{ceiling:?}");
            scores.iter().for_each(|score| {
                let _ = write!(text, ",{score:?}");
            });
        }
        write_atomic(&self.path(), |file| writeln!(file, "{text}"))
    }
}

fn mean_score(metrics: &Metrics) -> f64 {
    metrics.scores.iter().map(|score| score.f_score).sum::<f64>() / metrics.scores.len().max(1) as f64
}

fn read(path: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
    let row = |(number, line): (usize, &str)| {
        let parsed = || {
            let (step, rest) = line.split_once(',')?;
            let numbers: Vec<f64> = rest.split(',').map(|word| word.parse().ok()).collect::<Option<_>>()?;
            let (&[score, ceiling], scores) = numbers.split_first_chunk()?;
            Some(Row { step: step.parse().ok()?, score, ceiling, scores: scores.to_vec() })
        };
        let place = format!("{}: line {}", path.display(), number + 1);
        parsed().ok_or_else(|| Error::new(place, "expected numbers", "remove the line and resume again"))
    };
    text.lines().enumerate().skip(1).map(row).collect()
}
