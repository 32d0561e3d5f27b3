//! What each channel of a latent does to decoded planes: its step in the codec is as wide as that allows.

use crate::error::Result;
use crate::hexplane::Representation;
use crate::model::Autoencoder;
use crate::rng::Rng;
use crate::train::{Decoder, Settings};

const STREAM: u64 = 0x6761_696e;

/// Latents that channels are tried on, in turn.
const TRIED: usize = 4;
/// What a channel is moved by, beside its deviation over the latents.
const MOVE: f64 = 0.2;
/// The smallest gain beside the largest: a channel without effect has a step all the same.
const LEAST: f32 = 1e-4;

/// Of each channel, the root of the mean squared change of decoded planes, weighted as in the loss, for a change of 1 with a random sign at
/// every site.
///
/// # Errors
/// Those of the device.
pub fn channel_gains(model: &mut Autoencoder, latents: &[Vec<f32>], settings: &Settings) -> Result<Vec<f32>> {
    let channels = model.architecture.latent_channels;
    let weights = weights(settings);
    let mut decoder = Decoder::new(model)?;
    let mut decode = |latent: &[f32]| decoder.values(model, latent);
    let tried = &latents[..TRIED.min(latents.len())];
    let as_they_are: Vec<Vec<f32>> = tried.iter().map(|latent| decode(latent)).collect::<Result<_>>()?;
    let mut rng = Rng::new(settings.seed, STREAM);
    let mut gains = Vec::new();
    for channel in 0..channels {
        let at = channel % tried.len();
        let by = (MOVE * deviation(latents, channel, channels)).max(1e-6) as f32;
        let mut moved = tried[at].clone();
        for x in moved.iter_mut().skip(channel).step_by(channels) {
            *x += if rng.next_u32() & 1 == 0 { by } else { -by };
        }
        gains.push(difference(&decode(&moved)?, &as_they_are[at], &weights) / by);
    }
    let most = gains.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    Ok(gains.iter().map(|gain| gain.max(LEAST * most)).collect())
}

/// Of the channels of planes, with the sum 1.
fn weights(settings: &Settings) -> Vec<f64> {
    let mut weights = vec![1.0; settings.architecture.channels];
    if settings.representation == Representation::Continuous {
        weights[0] = f64::from(settings.training.depth_weight);
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Of a channel about its mean over latents and sites.
pub(in crate::train) fn deviation(latents: &[Vec<f32>], channel: usize, channels: usize) -> f64 {
    let values =
        || latents.iter().flat_map(|l| l.iter().skip(channel).step_by(channels)).map(|&x| f64::from(x));
    let count = values().count() as f64;
    let mean = values().sum::<f64>() / count;
    (values().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn difference(a: &[f32], b: &[f32], weights: &[f64]) -> f32 {
    let square = |(i, (a, b)): (usize, (&f32, &f32))| weights[i % weights.len()] * f64::from(a - b).powi(2);
    let sum: f64 = a.iter().zip(b).enumerate().map(square).sum();
    (sum / (a.len() / weights.len()) as f64).sqrt() as f32
}
