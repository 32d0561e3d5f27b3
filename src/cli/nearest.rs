//! Which of some meshes, usually those trained on, samples are nearest to: by that a network that only repeats them is seen.

use super::inputs;
use crate::console;
use crate::error::Result;
use crate::mesh::Mesh;
use crate::mesh::metrics::{self, Reference};
use crate::mesh::normalise::normalise;
use crate::train::Settings;
use rayon::prelude::*;
use serde::Serialize;
use std::path::PathBuf;

/// Samples of a surface by which the nearest mesh is searched for, and how many of the nearest are then measured by all samples
/// of the run's metrics: what that many samples do not tell apart.
const SEARCHED_BY: usize = 1000;
const FINALISTS: usize = 3;

/// Meshes whose own nearest one is searched for at most; evenly chosen among more, so that the search grows with their number
/// and not with its square.
const MOST_YARDSTICKS: usize = 64;

/// The mesh that is nearest to a sample.
#[derive(Serialize)]
pub struct Nearest {
    pub name: String,
    /// Symmetric, in the normalised frame.
    pub chamfer_l1: f64,
    /// The same of each of the meshes to its nearest other one, their median; none of one mesh alone.
    pub between_meshes: Option<f64>,
}

/// Meshes that samples are compared with.
pub struct Neighbours {
    metrics: metrics::Settings,
    meshes: Vec<(String, Reference)>,
    between: Option<f64>,
    found: Vec<f64>,
}

impl Neighbours {
    /// The meshes of files and folders, normalised as those of the run.
    ///
    /// # Errors
    /// Files that cannot be read, meshes without triangles or extent.
    pub fn new(inputs: &[PathBuf], settings: &Settings) -> Result<Self> {
        // No volume is compared.
        let metrics = metrics::Settings { iou_grid: 1, ..settings.metrics.clone() };
        let mut meshes = Vec::new();
        for (name, mesh) in inputs::meshes(inputs, 0)? {
            let reference =
                normalise(&mesh, settings.up).and_then(|(mesh, _)| Reference::new(&mesh, &metrics));
            let reference = reference.map_err(|error| error.within(&name))?;
            meshes.push((name, reference));
        }
        let mut neighbours = Self { metrics, meshes, between: None, found: Vec::new() };
        let all = neighbours.meshes.len();
        let chosen = all.min(MOST_YARDSTICKS);
        let places = (0..chosen).map(|k| k * all / chosen);
        let nearest = places.map(|at| neighbours.nearest(&neighbours.meshes[at].1, Some(at)));
        let between: Vec<f64> =
            nearest.collect::<Vec<_>>().into_iter().flatten().map(|(_, distance)| distance).collect();
        neighbours.between = median(between);
        Ok(neighbours)
    }

    /// Of a sample in the normalised frame.
    ///
    /// # Errors
    /// A mesh without triangles.
    pub fn of(&mut self, mesh: &Mesh) -> Result<Option<Nearest>> {
        let found = self.nearest(&Reference::new(mesh, &self.metrics)?, None);
        self.found.extend(found.map(|(_, distance)| distance));
        Ok(found.map(|(at, chamfer_l1)| Nearest {
            name: self.meshes[at].0.clone(),
            chamfer_l1,
            between_meshes: self.between,
        }))
    }

    /// The place of the nearest mesh but for `except`, and its distance.
    fn nearest(&self, from: &Reference, except: Option<usize>) -> Option<(usize, f64)> {
        let others: Vec<usize> = (0..self.meshes.len()).filter(|&at| Some(at) != except).collect();
        let measured = |at: usize, samples: usize| (at, from.chamfer_l1(&self.meshes[at].1, samples));
        let mut ranked: Vec<(usize, f64)> =
            others.into_par_iter().map(|at| measured(at, SEARCHED_BY)).collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        let finalists = ranked.into_iter().take(FINALISTS).map(|(at, _)| measured(at, usize::MAX));
        finalists.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// What all samples come to, beside the meshes.
    pub fn print(&self) -> Result<()> {
        let number = |value: Option<f64>| value.map_or("n/a".to_string(), |value| format!("{value:.4}"));
        let found = median(self.found.clone());
        let ratio = match (found, self.between) {
            (Some(found), Some(between)) if between > 0.0 => format!("{:.2}", found / between),
            _ => "n/a".to_string(),
        };
        console::result(format_args!(
            "median distance to the nearest of {} meshes: samples {}, the meshes themselves to another one {}; ratio {ratio}, about 1 \
             for new ones of their kind, towards 0 for copies",
            self.meshes.len(),
            number(found),
            number(self.between)
        ))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(0.5 * (lower + upper))
}
