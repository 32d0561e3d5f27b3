//! What the data's covariance says about a Gaussian latent before anything is trained: the linear theory.
//!
//! A linear decoder with Gaussian noise of variance s and a standard normal prior is probabilistic PCA (Tipping and Bishop,
//! "Probabilistic principal component analysis", 1999): of the directions of the data, those with an eigenvalue above s
//! are kept and all others are dropped, and the ELBO of a linear VAE has its optimum there (Lucas et al., "Don't blame
//! the ELBO!", NeurIPS 2019, section 4). A kept direction of eigenvalue e costs ln(e / s) / 2 nats, leaves an error of s
//! and has a posterior mean of variance 1 - s / e.

use crate::model::{Architecture, VIEWS};
use nalgebra::DMatrix;
use rayon::prelude::*;
use serde::Serialize;

/// Which values one latent direction may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The patch of a latent site, each with directions of its own: what the linear path of the network sees.
    Site,
    /// All planes of a mesh: as many directions as meshes differ in.
    Mesh,
}

/// How a pixel's deviation is measured.
#[derive(Clone, Copy, Debug)]
pub enum Metric<'a> {
    /// Squares, weighed by channel.
    Squared(&'a [f32]),
    /// Near the collapsed solution of a Bernoulli likelihood, whose pixels all say their own mean p over the data: the
    /// log-likelihood there is a quadratic form of curvature p (1 - p) in the logits, so that a direction grows where the
    /// covariance of (x - p) / sqrt(p (1 - p)) has an eigenvalue above the weight of the KL. Pixels that never change
    /// say nothing.
    Bernoulli,
}

/// The variances of the directions of a data set, in the unit of the loss.
#[derive(Clone, Debug, Serialize)]
pub struct Spectrum {
    pub scope: Scope,
    /// Of every direction that the latent has room for, largest first.
    pub eigenvalues: Vec<f64>,
    /// What is left beyond that room, as a sum.
    pub residual: f64,
}

/// What the theory says for one variance of the decoder.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Predicted {
    /// Latent directions whose posterior mean varies by more than the bound for a unit in use.
    pub active: usize,
    /// Nats a mesh.
    pub rate: f64,
    /// The squared error of a mesh, weighed, as a sum.
    pub distortion: f64,
}

impl Spectrum {
    /// Of `planes`, `[6, N, N, channels]` a mesh.
    pub fn new(scope: Scope, metric: Metric, a: &Architecture, planes: &[&[f32]]) -> Self {
        let blocks = match scope {
            Scope::Mesh => 1,
            Scope::Site => VIEWS * a.latent_size().pow(2),
        };
        let room = match scope {
            Scope::Mesh => a.latent_floats(),
            Scope::Site => a.latent_channels,
        };
        let of_block = |block: usize| {
            let rows: Vec<Vec<f64>> = planes.iter().map(|planes| values(scope, a, planes, block)).collect();
            let mut found = variances(&scaled(metric, a.channels, rows));
            let residual = found.iter().skip(room).sum::<f64>();
            found.truncate(room);
            (found, residual)
        };
        let parts: Vec<(Vec<f64>, f64)> = (0..blocks).into_par_iter().map(of_block).collect();
        let residual = parts.iter().map(|(_, residual)| residual).sum();
        let mut eigenvalues: Vec<f64> = parts.into_iter().flat_map(|(found, _)| found).collect();
        eigenvalues.sort_by(|a, b| b.total_cmp(a));
        Self { scope, eigenvalues, residual }
    }

    /// The sum of all variances: the error of the mean alone.
    pub fn total(&self) -> f64 {
        self.eigenvalues.iter().sum::<f64>() + self.residual
    }

    /// For a decoder of variance `noise`; `least` is the variance of a posterior mean from which a unit counts as in use.
    pub fn at(&self, noise: f64, least: f64) -> Predicted {
        let alive = self.eigenvalues.iter().take_while(|&&e| e > noise);
        Predicted {
            active: self.eigenvalues.iter().take_while(|&&e| e > noise && 1.0 - noise / e > least).count(),
            rate: alive.clone().map(|e| 0.5 * (e / noise).ln()).sum(),
            distortion: self.eigenvalues.iter().map(|e| e.min(noise)).sum::<f64>() + self.residual,
        }
    }

    /// The decoder's variance where it is fitted to its own error, times `share`: s = share distortion(s) / values. 0
    /// where everything is learned by heart.
    pub fn self_consistent(&self, share: f64, values: usize) -> f64 {
        let mut noise = share * self.total() / values as f64;
        for _ in 0..ROUNDS {
            noise = share * self.at(noise, 0.0).distortion / values as f64;
        }
        noise
    }
}

/// Rounds of a fixed point that shrinks by a constant factor a round where directions are few beside the values.
const ROUNDS: usize = 200;

/// The values of a mesh that belong to a block of the scope.
fn values(scope: Scope, a: &Architecture, planes: &[f32], block: usize) -> Vec<f64> {
    if scope == Scope::Mesh {
        return planes.iter().map(|&x| f64::from(x)).collect();
    }
    let (sites, size) = (a.latent_size(), a.planes);
    let (view, i, j) = (block / (sites * sites), block / sites % sites, block % sites);
    let lines = (0..a.patch).map(|y| ((view * size + i * a.patch + y) * size + j * a.patch) * a.channels);
    lines.flat_map(|start| planes[start..][..a.patch * a.channels].iter().map(|&x| f64::from(x))).collect()
}

/// Deviations from the mean over the rows, in the unit of the metric.
fn scaled(metric: Metric, channels: usize, mut rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let count = rows.len() as f64;
    for at in 0..rows.first().map_or(0, Vec::len) {
        let mean = rows.iter().map(|row| row[at]).sum::<f64>() / count;
        let factor = match metric {
            Metric::Squared(weights) => f64::from(weights[at % channels]).sqrt(),
            Metric::Bernoulli if mean > 0.0 && mean < 1.0 => (mean * (1.0 - mean)).sqrt().recip(),
            Metric::Bernoulli => 0.0,
        };
        rows.iter_mut().for_each(|row| row[at] = (row[at] - mean) * factor);
    }
    rows
}

/// The eigenvalues of the covariance of centred rows, largest first: those of their Gram matrix, which is small.
fn variances(rows: &[Vec<f64>]) -> Vec<f64> {
    let count = rows.len();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let gram = DMatrix::from_fn(count, count, |i, j| dot(&rows[i], &rows[j]) / count as f64);
    let mut found: Vec<f64> = gram.symmetric_eigenvalues().iter().map(|&e| e.max(0.0)).collect();
    found.sort_by(|a, b| b.total_cmp(a));
    // Centred rows span one direction less.
    found.truncate(count.saturating_sub(1));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Preset, Settings};

    /// Two sites a view along each edge, two floats a site.
    fn small() -> Architecture {
        let architecture = Settings::preset(Preset::Quick).architecture;
        Architecture { planes: 4, patch: 2, channels: 1, latent_channels: 2, ..architecture }
    }

    fn planes(a: &Architecture, value: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..VIEWS * a.planes * a.planes).map(value).collect()
    }

    /// Three meshes that differ in one pixel by -1, 0, 1 and in another, of another site, by 2, -4, 2: variances 2/3 and
    /// 8, the one in each site alone.
    #[test]
    fn eigenvalues_are_those_of_a_hand_made_set() {
        let a = small();
        let set: Vec<Vec<f32>> = [(-1.0, 2.0), (0.0, -4.0), (1.0, 2.0)]
            .map(|(first, second)| {
                planes(&a, |i| {
                    if i == 0 {
                        5.0 + first
                    } else if i == 40 {
                        second
                    } else {
                        0.25
                    }
                })
            })
            .to_vec();
        let set: Vec<&[f32]> = set.iter().map(Vec::as_slice).collect();
        for scope in [Scope::Site, Scope::Mesh] {
            let spectrum = Spectrum::new(scope, Metric::Squared(&[1.0]), &a, &set);
            assert!((spectrum.eigenvalues[0] - 8.0).abs() < 1e-9, "{spectrum:?}");
            assert!((spectrum.eigenvalues[1] - 2.0 / 3.0).abs() < 1e-9);
            assert!(spectrum.eigenvalues[2..].iter().all(|&e| e < 1e-9));
            assert!((spectrum.total() - 8.0 - 2.0 / 3.0).abs() < 1e-9);
            let predicted = spectrum.at(1.0, 0.01);
            assert_eq!(predicted.active, 1);
            assert!((predicted.rate - 0.5 * 8.0f64.ln()).abs() < 1e-9);
            assert!((predicted.distortion - 1.0 - 2.0 / 3.0).abs() < 1e-9);
            assert_eq!(spectrum.at(8.1, 0.01).active, 0);
        }
        let weighed = Spectrum::new(Scope::Mesh, Metric::Squared(&[4.0]), &a, &set);
        assert!((weighed.total() - 4.0 * (8.0 + 2.0 / 3.0)).abs() < 1e-9);
    }

    /// A pixel that is 1 in half of the meshes has the variance 1 in units of its own coin; one that never changes none.
    #[test]
    fn coins_are_measured_in_their_own_unit() {
        let a = small();
        let set = [0.0, 1.0, 1.0, 0.0].map(|x| planes(&a, |i| if i == 3 { x } else { 1.0 }));
        let set: Vec<&[f32]> = set.iter().map(Vec::as_slice).collect();
        let spectrum = Spectrum::new(Scope::Site, Metric::Bernoulli, &a, &set);
        assert!((spectrum.total() - 1.0).abs() < 1e-12);
    }

    /// Two directions of variance 6 and 1 among 10 values. With both kept s = 2 s / 10, which only 0 solves.
    #[test]
    fn a_fitted_variance_is_its_own_error() {
        let spectrum = Spectrum { scope: Scope::Mesh, eigenvalues: vec![6.0, 1.0], residual: 0.0 };
        assert!(spectrum.self_consistent(1.0, 10) < 1e-12);
        // What no direction holds is left: s = (2 s + 0.8) / 10 at 0.1.
        let rest = Spectrum { residual: 0.8, ..spectrum };
        assert!((rest.self_consistent(1.0, 10) - 0.1).abs() < 1e-9);
    }
}
