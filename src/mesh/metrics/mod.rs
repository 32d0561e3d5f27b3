//! How well one mesh reproduces another. Every quantity is computed in the frame given: normalise
//! both meshes with the reference's similarity first.
//!
//! Distances run from samples of one mesh to the *surface* of the other. With `d(p, M)` the Euclidean
//! distance, R the samples of the reference and C those of the candidate:
//! - precision at t: share of C with d(c, reference) <= t; recall: share of R with d(r, candidate) <= t;
//!   F-score: their harmonic mean (Knapitsch et al., "Tanks and temples", 2017);
//! - `chamfer_l1`: (mean over R of d + mean over C of d) / 2; `chamfer_l2`: the same with d squared;
//! - `hausdorff_95`: the larger of the two 95th percentiles of d over R and over C;
//! - `normal_consistency`: (mean over R + mean over C) / 2 of |n(p) . n(q)|, q the nearest point of the
//!   other surface, n the normals of the triangles that p and q lie on;
//! - `volume_iou`: of the insides on the cell centres of a grid over [-1, 1]^3;
//! - `near_surface_accuracy`: share of points near the reference's surface (a sample plus a normal
//!   deviate of standard deviation 0.01 on each axis) that are inside both or outside both.
//!
//! Inside is as in [`super::distance`].

pub mod sampling;
mod volume;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::sampling::Samples;
use super::Mesh;
use super::distance::{Closest, MeshDistance};
use super::topology::{Health, Topology};
use crate::device::Device;
use crate::error::{Error, Result};

/// Standard deviation of the offset of the near-surface points, in units of the frame.
pub const NEAR_SURFACE: f32 = 0.01;

/// Largest grid a side: its counts take half a gigabyte.
const LARGEST_GRID: usize = 512;

/// How the metrics are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Area-uniform samples of each mesh, and points near the surface.
    pub samples: usize,
    pub seed: u64,
    /// Cells a side of the grid of the volume IoU.
    pub iou_grid: usize,
    /// Distances at which precision, recall and F-score are taken.
    pub thresholds: Vec<f32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { samples: 100_000, seed: 0, iou_grid: 128, thresholds: vec![0.005, 0.01, 0.02] }
    }
}

impl Settings {
    /// Whether the numbers lie in the ranges that memory and sense allow.
    pub fn validate(&self) -> Result<()> {
        let wrong = |name: &str, found: String, remedy: &str| {
            Err(Error::usage(format!("metrics: {name}"), format!("is {found}"), remedy))
        };
        if self.samples == 0 || self.samples > 1 << 28 {
            return wrong("samples", self.samples.to_string(), "choose 1 to 2^28");
        }
        if self.iou_grid == 0 || self.iou_grid > LARGEST_GRID {
            return wrong("iou_grid", self.iou_grid.to_string(), "choose 1 to 512");
        }
        match self.thresholds.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
            Some(threshold) => wrong("thresholds", threshold.to_string(), "choose positive distances"),
            None => Ok(()),
        }
    }
}

/// Precision, recall and F-score at one distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub threshold: f32,
    pub f_score: f64,
    pub precision: f64,
    pub recall: f64,
}

/// The quantities of the module's page. What a candidate without triangles cannot have is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub samples: usize,
    pub seed: u64,
    pub iou_grid: usize,
    pub chamfer_l1: Option<f64>,
    pub chamfer_l2: Option<f64>,
    pub scores: Vec<Score>,
    pub normal_consistency: Option<f64>,
    pub hausdorff_95: Option<f64>,
    /// `None` where neither mesh has an inside.
    pub volume_iou: Option<f64>,
    pub near_surface_accuracy: f64,
    pub health: Health,
    pub reference_health: Health,
}

impl Metrics {
    /// The scores at a threshold, if it is one of the settings'.
    pub fn at(&self, threshold: f32) -> Option<&Score> {
        self.scores.iter().find(|score| score.threshold == threshold)
    }
}

/// Compares a candidate with a reference; for several candidates prepare a [`Reference`].
///
/// # Errors
/// As [`Reference::new`] and [`Reference::compare`].
pub fn compare(reference: &Mesh, candidate: &Mesh, settings: &Settings) -> Result<Metrics> {
    compare_on(&Device::Cpu, reference, candidate, settings)
}

/// [`compare`] with distances and sides of points from a device. A card may take another of several triangles that are
/// equally near: that moves distances by some 1e-6 of them, and the normal consistency by what the normals of such
/// triangles differ.
///
/// # Errors
/// As [`compare`], and those of the device.
pub fn compare_on(
    device: &Device,
    reference: &Mesh,
    candidate: &Mesh,
    settings: &Settings,
) -> Result<Metrics> {
    Reference::on(device, reference, settings)?.compare(candidate)
}

/// A reference with what every comparison needs of it.
pub struct Reference {
    device: Device,
    settings: Settings,
    health: Health,
    distance: MeshDistance,
    samples: Samples,
    near: Vec<[f32; 3]>,
    near_inside: Vec<bool>,
    inside: Vec<bool>,
}

impl Reference {
    /// # Errors
    /// Settings out of range; a mesh without triangles, with an index out of range or with a vertex
    /// that is not finite.
    pub fn new(mesh: &Mesh, settings: &Settings) -> Result<Self> {
        Self::on(&Device::Cpu, mesh, settings)
    }

    /// As [`Reference::new`], with distances and sides of points from a device, as [`compare_on`].
    ///
    /// # Errors
    /// As [`Reference::new`], and those of the device.
    pub fn on(device: &Device, mesh: &Mesh, settings: &Settings) -> Result<Self> {
        settings.validate()?;
        let topology = Topology::new(mesh)?;
        let distance = MeshDistance::with_topology(mesh, &topology)?;
        let samples = Samples::new(mesh, settings.samples, settings.seed, "reference samples");
        let near = sampling::near(&samples.points, NEAR_SURFACE, settings.seed);
        Ok(Self {
            settings: settings.clone(),
            health: topology.health(),
            near_inside: distance.inside_on(device, &near)?,
            inside: volume::inside(device, &distance, settings.iou_grid)?,
            device: device.clone(),
            distance,
            samples,
            near,
        })
    }

    /// The reference's distances, for whoever needs them too.
    pub fn distance(&self) -> &MeshDistance {
        &self.distance
    }

    /// # Errors
    /// A candidate with an index out of range or with a vertex that is not finite. One without
    /// triangles is a result: its scores and its IoU are zero, its distances `None`.
    pub fn compare(&self, candidate: &Mesh) -> Result<Metrics> {
        let topology = Topology::new(candidate)?;
        if candidate.triangles.is_empty() {
            return Ok(self.of_nothing(topology.health()));
        }
        let distance = MeshDistance::with_topology(candidate, &topology)?;
        let samples = Samples::new(candidate, self.settings.samples, self.settings.seed, "candidate samples");
        let device = &self.device;
        let to_candidate = distance.closest_of_on(device, &self.samples.points)?;
        let to_reference = self.distance.closest_of_on(device, &samples.points)?;
        let mean_of_both = |value: &dyn Fn(&Closest) -> f64| {
            Some(0.5 * (mean(to_candidate.iter().map(value)) + mean(to_reference.iter().map(value))))
        };
        let consistency = 0.5
            * (mean(aligned(&self.samples, &to_candidate, &distance))
                + mean(aligned(&samples, &to_reference, &self.distance)));
        let near_inside = distance.inside_on(device, &self.near)?;
        let agree = near_inside.iter().zip(&self.near_inside).filter(|(a, b)| a == b).count();
        let inside = volume::inside(device, &distance, self.settings.iou_grid)?;
        Ok(Metrics {
            chamfer_l1: mean_of_both(&|closest| f64::from(closest.distance)),
            chamfer_l2: mean_of_both(&|closest| f64::from(closest.distance).powi(2)),
            scores: scores(&self.settings.thresholds, &to_candidate, &to_reference),
            normal_consistency: Some(consistency),
            hausdorff_95: Some(percentile_95(&to_candidate).max(percentile_95(&to_reference))),
            volume_iou: volume::iou(&self.inside, &inside),
            near_surface_accuracy: agree as f64 / self.near.len() as f64,
            ..self.of_nothing(topology.health())
        })
    }

    /// The Chamfer L1 between two references, each by its own samples; evenly chosen among them, about `most` where they are
    /// more. On the CPU: for many comparisons of few points.
    pub fn chamfer_l1(&self, other: &Self, most: usize) -> f64 {
        let one_way = |from: &Self, to: &Self| {
            let all = &from.samples.points;
            // Samples lie in the order of the surface: every so manieth is area-uniform too.
            let points: Vec<[f32; 3]> = all.iter().step_by(all.len().div_ceil(most)).copied().collect();
            mean(to.distance.distances(&points).into_iter().map(f64::from))
        };
        0.5 * (one_way(self, other) + one_way(other, self))
    }

    fn of_nothing(&self, health: Health) -> Metrics {
        let zero = |&threshold| Score { threshold, f_score: 0.0, precision: 0.0, recall: 0.0 };
        let outside = self.near_inside.iter().filter(|inside| !**inside).count();
        Metrics {
            samples: self.settings.samples,
            seed: self.settings.seed,
            iou_grid: self.settings.iou_grid,
            chamfer_l1: None,
            chamfer_l2: None,
            scores: self.settings.thresholds.iter().map(zero).collect(),
            normal_consistency: None,
            hausdorff_95: None,
            volume_iou: Some(0.0),
            near_surface_accuracy: outside as f64 / self.near.len() as f64,
            health,
            reference_health: self.health,
        }
    }
}

fn scores(thresholds: &[f32], to_candidate: &[Closest], to_reference: &[Closest]) -> Vec<Score> {
    let share = |all: &[Closest], threshold: f32| {
        all.iter().filter(|closest| closest.distance <= threshold).count() as f64 / all.len() as f64
    };
    let score = |&threshold| {
        let (precision, recall) = (share(to_reference, threshold), share(to_candidate, threshold));
        let sum = precision + recall;
        let f_score = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Score { threshold, f_score, precision, recall }
    };
    thresholds.iter().map(score).collect()
}

/// |cos| between the normals of the sampled triangles and of the nearest ones.
fn aligned(samples: &Samples, closest: &[Closest], other: &MeshDistance) -> impl Iterator<Item = f64> {
    let both = samples.normals.iter().zip(closest);
    both.map(|(normal, closest)| normal.dot(sampling::normal(other.corners(closest.triangle))).abs())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0usize, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / count.max(1) as f64
}

/// Nearest rank: the smallest distance that at least 95 % do not exceed.
fn percentile_95(closest: &[Closest]) -> f64 {
    let mut distances: Vec<f32> = closest.par_iter().map(|closest| closest.distance).collect();
    let rank = (distances.len() * 95).div_ceil(100).max(1) - 1;
    f64::from(*distances.select_nth_unstable_by(rank, f32::total_cmp).1)
}

#[cfg(test)]
mod tests;
