//! What latents start from: codes that a linear start can be told by at once.
//!
//! What is rounded, or put into classes, are not the channels of a whitened linear code themselves but mixtures of all of them,
//! in which each channel has a share by what its errors cost. Rounded to as many levels, every mixture errs by the same share e of
//! its variance r^2. With channel d scaled by s_d before an orthonormal map Q and back behind its transpose, it errs by e r^2 /
//! s_d^2, which costs lambda_d e r^2 / s_d^2, lambda_d the cost of a unit. As r^2 is the mean of s_d^2, the sum is least where s_d^2
//! goes with the root of lambda_d. Mixed, the heavy tails of single channels are gone, too.

use super::latent::{CODEBOOK, FROM_LEVELS, INTO_LEVELS, LOG_VARIANCE, LOGITS};
use super::{Autoencoder, LatentKind, LinearCode};
use crate::error::Result;
use crate::rng::Rng;
use std::f64::consts::PI;

/// Squared distance to a code, over twice its logit's fall.
const WIDTH: f64 = 0.005;

/// Deviations of a mixture that the levels span on each side.
const SPAN: f64 = 3.0;

/// The map of whitened channels to mixtures, of variance 1 on the average, and back.
struct Mixing {
    /// s_d / r.
    scales: Vec<f64>,
}

impl Mixing {
    /// For channels whose errors cost `lambda` a unit.
    fn new(lambda: &[f64]) -> Self {
        let most = lambda.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        // A channel that costs nothing still has a scale to divide by.
        let squares: Vec<f64> = lambda.iter().map(|lambda| (lambda / most).max(1e-6).sqrt()).collect();
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        Self { scales: squares.iter().map(|square| (square / mean).sqrt()).collect() }
    }

    /// Entry (mixture, channel) of the orthonormal discrete cosine transform (Ahmed et al., IEEE Transactions on Computers 1974).
    fn cosine(&self, mixture: usize, channel: usize) -> f64 {
        let n = self.scales.len() as f64;
        let norm = if mixture == 0 { (1.0 / n).sqrt() } else { (2.0 / n).sqrt() };
        norm * (PI * (channel as f64 + 0.5) * mixture as f64 / n).cos()
    }

    /// The share of a channel in a mixture.
    fn share(&self, mixture: usize, channel: usize) -> f64 {
        self.cosine(mixture, channel) * self.scales[channel]
    }

    /// The share of a mixture in a channel.
    fn back(&self, mixture: usize, channel: usize) -> f64 {
        self.cosine(mixture, channel) / self.scales[channel]
    }
}

impl Autoencoder {
    /// Overwrites what does not start like all other weights.
    pub(super) fn initialise_latent(&mut self, seed: u64, code: Option<&LinearCode>) -> Result<()> {
        let mixing = Mixing::new(&self.costs(code));
        match self.latent.kind {
            LatentKind::Deterministic => self.initialise_rate(),
            LatentKind::Gaussian => {
                let values = vec![self.latent.initial_log_variance as f32; self.architecture.latent_channels];
                self.set(&format!("{LOG_VARIANCE}.bias"), &values)?;
                self.initialise_prior()
            }
            LatentKind::Categorical => self.initialise_codebook(seed, &mixing),
            LatentKind::Fsq => self.initialise_levels(&mixing),
        }
    }

    /// What a unit of each latent channel changes in the planes, squared and summed, with depth scaled as in the linear code.
    fn costs(&self, code: Option<&LinearCode>) -> Vec<f64> {
        let a = &self.architecture;
        let mut costs = vec![if code.is_some() { 0.0 } else { 1.0 }; a.latent_channels];
        // [patch, patch, channels, latent_channels]
        let weights = code.map_or(&[][..], |code| &code.decoder_weight);
        for (tap, weights) in weights.chunks(a.latent_channels).enumerate() {
            let scale = f64::from(a.channel_scale(tap % a.channels));
            costs.iter_mut().zip(weights).for_each(|(cost, w)| *cost += (scale * f64::from(*w)).powi(2));
        }
        costs
    }

    fn initialise_levels(&mut self, mixing: &Mixing) -> Result<()> {
        let channels = self.architecture.latent_channels;
        let matrix = |entry: &dyn Fn(usize, usize) -> f64| -> Vec<f32> {
            (0..channels * channels).map(|i| entry(i / channels, i % channels) as f32).collect()
        };
        // Weights are [in, out].
        let into = matrix(&|channel, mixture| mixing.share(mixture, channel) / SPAN);
        let back = matrix(&|mixture, channel| mixing.back(mixture, channel) * SPAN);
        self.set(&format!("{INTO_LEVELS}.weight"), &into)?;
        self.set(&format!("{FROM_LEVELS}.weight"), &back)
    }

    /// Each group has a share of the mixtures, in which its codes start as standard normal draws. Its logits start as minus the
    /// squared distance to each code over twice [`WIDTH`], but for what is the same for all: the nearest code is the likeliest.
    fn initialise_codebook(&mut self, seed: u64, mixing: &Mixing) -> Result<()> {
        let (channels, groups, classes) =
            (self.architecture.latent_channels, self.latent.groups, self.latent.classes);
        let all = groups * classes;
        let (mut logits, mut bias) = (vec![0.0f32; channels * all], vec![0.0f32; all]);
        let mut codebook = vec![0.0f32; all * channels];
        let mut rng = Rng::named(seed, CODEBOOK);
        for mixture in 0..channels {
            let group = mixture * groups / channels;
            for class in group * classes..(group + 1) * classes {
                let code = f64::from(rng.normal());
                bias[class] -= (0.5 * code * code / WIDTH) as f32;
                for channel in 0..channels {
                    codebook[class * channels + channel] += (code * mixing.back(mixture, channel)) as f32;
                    logits[channel * all + class] += (code * mixing.share(mixture, channel) / WIDTH) as f32;
                }
            }
        }
        self.set(&format!("{LOGITS}.weight"), &logits)?;
        self.set(&format!("{LOGITS}.bias"), &bias)?;
        self.set(&format!("{CODEBOOK}.weight"), &codebook)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixtures_have_the_variance_of_the_channels_and_lead_back() {
        let mixing = Mixing::new(&[9.0, 4.0, 1.0, 0.5, 0.0]);
        // In all, of as many whitened channels.
        let all: f64 = (0..25).map(|i| mixing.share(i / 5, i % 5).powi(2)).sum();
        assert!((all - 5.0).abs() < 1e-12);
        for (a, b) in (0..25).map(|i| (i / 5, i % 5)) {
            let product: f64 = (0..5).map(|mixture| mixing.share(mixture, a) * mixing.back(mixture, b)).sum();
            assert!((product - if a == b { 1.0 } else { 0.0 }).abs() < 1e-12, "{a} {b}: {product}");
        }
        // What costs more errs less.
        assert!(mixing.scales.windows(2).all(|pair| pair[0] > pair[1]));
    }
}
