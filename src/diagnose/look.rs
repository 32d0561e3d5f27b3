//! What is seen of a run in its course: posterior, reconstruction, gradients.

use super::edge::{self, DISTANCES, Profile};
use crate::error::Result;
use crate::hexplane::Planes;
use crate::model::{Gaussian, PosteriorStatistics, PriorKind};
use crate::train::{Decoder, Encoder, GradientParts, Item, Losses, Trainer};
use serde::{Deserialize, Serialize};

/// Over all meshes of the set, after so many steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    pub step: u64,
    /// Passes over the set.
    pub epoch: f64,
    /// Of the step before.
    pub losses: Option<[f64; 3]>,
    pub posterior: Option<PosteriorLook>,
    /// The squared error of a value, not weighed.
    pub squared_error: f64,
    /// 1 - squared error / that of the mean of the set: 0 for a decoder that knows nothing but this mean.
    pub explained: f64,
    /// The same for the squared distance of what is decoded from the mean of the set: how much outputs differ at all.
    pub output_variance: f64,
    /// Share of the pixels that show a surface, decoded.
    pub occupied: f64,
    pub gradient: Option<GradientParts>,
    /// Of the reconstruction's gradient in what is decoded.
    pub edge: Profile,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PosteriorLook {
    /// Nats a mesh: the divergence from the prior; from a learned one by several draws a mesh.
    pub rate: f64,
    pub active: usize,
    /// Nats by channel of the latent, summed over sites and views; none from a learned prior, whose divergence is one number
    /// for the whole latent.
    pub by_channel: Vec<f64>,
    /// The least and the largest, mean over the meshes.
    pub log_variance: [f64; 2],
    /// The largest variance of a posterior mean.
    pub variance_of_mean: f64,
    /// The largest magnitude of a posterior mean.
    pub mean: f64,
}

/// Draws a mesh of the divergence from a learned prior.
pub const PASSES: usize = 4;

/// What does not change in the course of a run.
pub struct Set<'a> {
    pub items: &'a [Item],
    pub planes: Vec<Planes>,
    /// Over the set, value by value.
    pub mean: Vec<f64>,
    /// The squared error of that mean, a value.
    pub variance: f64,
    pub occupied: f64,
    distances: Vec<Vec<usize>>,
}

impl<'a> Set<'a> {
    pub fn new(items: &'a [Item]) -> Result<Self> {
        let planes = items.iter().map(Item::planes).collect::<Result<Vec<Planes>>>()?;
        let count = planes.len() as f64;
        let values = planes[0].values.len();
        let mean: Vec<f64> = (0..values)
            .map(|at| planes.iter().map(|p| f64::from(p.values[at])).sum::<f64>() / count)
            .collect();
        let variance = planes.iter().map(|planes| difference(planes, &mean)).sum::<f64>() / count;
        let occupied = planes.iter().map(edge::occupied).sum::<f64>() / count;
        let distances = planes.iter().map(edge::distances).collect();
        Ok(Self { items, planes, mean, variance, occupied, distances })
    }

    /// The share of the variance of the set, which must have one, that a squared error of a value leaves explained.
    pub fn explained(&self, squared_error: f64) -> f64 {
        1.0 - squared_error / self.variance
    }
}

/// The mean squared difference of planes from `mean`.
fn difference(planes: &Planes, mean: &[f64]) -> f64 {
    let sum: f64 = planes.values.iter().zip(mean).map(|(&x, m)| (f64::from(x) - m).powi(2)).sum();
    sum / mean.len() as f64
}

/// The mean squared difference of two planes.
pub fn squared_error(a: &Planes, b: &Planes) -> f64 {
    let sum: f64 = a.values.iter().zip(&b.values).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    sum / a.values.len() as f64
}

impl Look {
    /// # Errors
    /// Those of the device.
    pub fn new(trainer: &mut Trainer, set: &Set, losses: Option<Losses>) -> Result<Self> {
        let gradient = trainer.gradient_parts(set.items)?;
        let learned = trainer.model.latent.prior != PriorKind::Standard;
        let divergence = if learned { trainer.divergence(set.items, PASSES)? } else { None };
        let (step, batch) = (trainer.step, trainer.batch());
        let model = &mut trainer.model;
        let (mut encoder, mut decoder) = (Encoder::new(model)?, Decoder::new(model)?);
        let mut posteriors: Vec<Gaussian> = Vec::new();
        let mut sums = [[0.0; 2]; DISTANCES];
        let (mut error, mut spread, mut occupied) = (0.0, 0.0, 0.0);
        for (planes, distances) in set.planes.iter().zip(&set.distances) {
            let latent = encoder.encode(model, planes)?;
            posteriors.extend(encoder.posterior(model, planes)?);
            let decoded = decoder.decode(model, &latent, planes.transform)?;
            error += squared_error(&decoded, planes);
            spread += difference(&decoded, &set.mean);
            occupied += edge::occupied(&decoded);
            edge::add(&mut sums, distances, &decoded, planes);
        }
        let count = set.items.len() as f64;
        let channels = trainer.model.architecture.latent_channels;
        Ok(Self {
            step,
            epoch: step as f64 * batch as f64 / count,
            losses: losses.map(|l| [l.total, l.reconstruction, l.kl]),
            posterior: (!posteriors.is_empty())
                .then(|| PosteriorLook::new(&posteriors, channels, divergence)),
            squared_error: error / count,
            explained: set.explained(error / count),
            output_variance: spread / count / set.variance,
            occupied: occupied / count,
            gradient,
            edge: edge::profile(&sums),
        })
    }
}

impl PosteriorLook {
    /// `divergence` from a learned prior takes the place of that from the standard one, which is not its rate.
    fn new(posteriors: &[Gaussian], channels: usize, divergence: Option<f64>) -> Self {
        let statistics = PosteriorStatistics::new(posteriors);
        let mut by_channel = Vec::new();
        if divergence.is_none() {
            by_channel.resize(channels, 0.0);
            statistics.kl.iter().enumerate().for_each(|(d, kl)| by_channel[d % channels] += kl);
        }
        let logs = statistics.log_variance.iter().copied();
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        Self {
            rate: divergence.unwrap_or_else(|| statistics.rate()),
            active: statistics.active_units(),
            by_channel,
            log_variance: [
                logs.clone().fold(f64::INFINITY, f64::min),
                logs.fold(f64::NEG_INFINITY, f64::max),
            ],
            variance_of_mean: largest(&mut statistics.variance_of_mean.iter().copied()),
            mean: largest(&mut posteriors.iter().flat_map(|p| &p.mean).map(|&x| f64::from(x.abs()))),
        }
    }
}
