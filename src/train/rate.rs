//! What training for a rate starts from: steps at which a bit costs what its weight says, and a prior that knows the meshes.

use super::codec::{deviation, scales};
use super::likelihood::weights;
use super::validation::spread;
use super::{Encoder, Item, LikelihoodKind, Settings};
use crate::error::Result;
use crate::model::{Autoencoder, RATE_LOCATION, RATE_LOG_SCALE, RATE_LOG_STEP};
use crate::ops::{LEAST_SCALE, Reduction};
use std::f64::consts::LN_2;

/// Meshes that the prior starts from.
const MOST: usize = 64;

/// Of the deviation of a channel, where nothing says what its steps cost.
const STEP: f64 = 0.1;

/// Noise of this many deviations has the variance of what it is added to.
const WIDEST: f64 = 3.464_101_615_137_754;

/// Starts steps and prior from the latents of `items`; nothing where the latent has no rate.
///
/// # Errors
/// Those of the device and of the items.
pub fn start_rate(model: &mut Autoencoder, items: &[Item], settings: &Settings) -> Result<()> {
    if !model.latent.has_rate() {
        return Ok(());
    }
    let mut encoder = Encoder::new(model)?;
    let of = |item: &&Item| encoder.encode(model, &item.planes()?);
    let latents: Vec<Vec<f32>> = spread(items, MOST).iter().map(of).collect::<Result<_>>()?;
    let shape = model.latent_extents();
    let (entries, channels) = (latents[0].len(), shape[3]);
    let mean = |i: usize| latents.iter().map(|l| f64::from(l[i])).sum::<f64>() / latents.len() as f64;
    let location: Vec<f64> = (0..entries).map(mean).collect();
    let residual = |latent: &Vec<f32>| latent.iter().zip(&location).map(|(x, m)| f64::from(*x) - m).collect();
    let residuals: Vec<Vec<f64>> = latents.iter().map(residual).collect();
    let costs = unit_costs(model, settings)?;
    let step = |channel: usize| {
        let deviation = deviation(&latents, channel, channels).max(f64::from(f32::MIN_POSITIVE));
        let balanced = costs.as_ref().map(|costs| balanced_step(settings.latent.rate_weight, costs[channel]));
        balanced.unwrap_or(STEP * deviation).min(WIDEST * deviation)
    };
    let steps: Vec<f64> = (0..channels).map(step).collect();
    let scales = scales(&residuals, shape);
    // A mesh alone is its own mean.
    let scale = |(i, scale): (usize, &f64)| scale.max(f64::from(LEAST_SCALE) * steps[i % channels]);
    let scales: Vec<f64> = scales.iter().enumerate().map(scale).collect();
    let logarithms = |values: &[f64]| values.iter().map(|x| x.ln() as f32).collect::<Vec<f32>>();
    model.set(RATE_LOCATION, &location.iter().map(|&x| x as f32).collect::<Vec<_>>())?;
    model.set(RATE_LOG_SCALE, &logarithms(&scales))?;
    model.set(RATE_LOG_STEP, &logarithms(&steps))
}

/// The step at which the last bit of an entry saves as much error as it weighs: the error of a uniform quantiser is cost step^2 /
/// 12 and falls by 2 ln 2 of it a bit (Gish & Pierce 1968).
fn balanced_step(weight: f64, cost: f64) -> f64 {
    (12.0 * weight / (2.0 * LN_2 * cost.max(f64::MIN_POSITIVE))).sqrt()
}

/// What a change of 1 of an entry of each channel adds to the loss of a mesh by the linear path; none without that path or where
/// the loss is no squared error.
fn unit_costs(model: &Autoencoder, settings: &Settings) -> Result<Option<Vec<f64>>> {
    let likelihood = &settings.likelihood;
    if !model.architecture.linear_path || likelihood.kind != LikelihoodKind::Mse {
        return Ok(None);
    }
    let architecture = &model.architecture;
    let unit = match likelihood.reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / architecture.plane_values() as f64,
    };
    let (values, weights) = (model.parameters.values()?, weights(settings));
    let decoder = &values[model.layout.get("decoder.linear.weight").range.clone()];
    let mut costs = vec![0.0; architecture.latent_channels];
    // [patch, patch, channels, latent_channels]
    for (tap, row) in decoder.chunks(architecture.latent_channels).enumerate() {
        let weight = unit * f64::from(weights[tap % architecture.channels]);
        costs.iter_mut().zip(row).for_each(|(cost, w)| *cost += weight * f64::from(*w).powi(2));
    }
    Ok(Some(costs))
}
