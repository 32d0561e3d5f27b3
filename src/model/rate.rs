//! A deterministic latent that is trained for a rate: noise of the width of a step in place of rounding, and a factorised prior
//! under which every entry has a number of bits (Balle et al., "Variational image compression with a scale hyperprior", ICLR
//! 2018). A prior belongs to an entry and not to a channel, as heads stand in one frame: what a codec may know of an entry
//! beforehand is its place.

use super::latent::noise;
use super::{Autoencoder, Drawn};
use crate::error::Result;
use crate::nn::Builder;
use crate::ops::{LEAST_SCALE, LaplaceBits, Law, QuantisationNoise};
use crate::tape::{Graph, Role, Value};

/// Parameters of the prior, `[6, s, s, channels]`, and the logarithms of the channels' steps.
pub const RATE_LOCATION: &str = "rate.location";
pub const RATE_LOG_SCALE: &str = "rate.log_scale";
pub const RATE_LOG_STEP: &str = "rate.log_step";

/// Factor on the learning rate of logarithms: Adam moves each by the rate a step, and some hundred steps have to reach an octave.
const LOGARITHM_RATE: f32 = 5.0;

/// Of a channel before data say better: a tenth of the deviation of whitened latents, whose mean magnitude under a Laplace law is
/// the root of a half.
const INITIAL_STEP: f32 = 0.1;
const INITIAL_SCALE: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// The prior of a trained network, of one mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct FactorisedPrior {
    pub location: Vec<f64>,
    pub scale: Vec<f64>,
    /// Of the channels.
    pub steps: Vec<f32>,
}

impl Autoencoder {
    /// The latent that the decoder reads in a training step, and what it has of rate.
    pub(super) fn record_noisy(
        &mut self,
        graph: &mut Graph,
        latent: Value,
        meshes: usize,
        seed: u64,
    ) -> Result<(Value, Drawn)> {
        let extents = self.latent_extents();
        let mut b = Builder { graph, layout: &mut self.layout, rate: 1.0 };
        let location = b.parameter(RATE_LOCATION, &extents, Role::Embedding, true);
        b.rate = LOGARITHM_RATE;
        let log_scale = b.parameter(RATE_LOG_SCALE, &extents, Role::Embedding, true);
        let log_step = b.parameter(RATE_LOG_STEP, &extents[3..], Role::Bias, true);
        let (counter, noise) = noise(graph, Law::Uniform, latent, seed)?;
        let noisy = graph.apply(QuantisationNoise, &[latent, log_step, noise])?;
        let bits = graph.apply(LaplaceBits { meshes }, &[noisy, location, log_scale, log_step])?;
        Ok((noisy, Drawn { counter: Some(counter), rate: Some(bits), ..Drawn::default() }))
    }

    pub(super) fn initialise_rate(&mut self) -> Result<()> {
        if !self.latent.has_rate() {
            return Ok(());
        }
        for (name, start) in [(RATE_LOG_SCALE, INITIAL_SCALE), (RATE_LOG_STEP, INITIAL_STEP)] {
            let len = self.layout.get(name).range.len();
            self.set(name, &vec![start.ln(); len])?;
        }
        Ok(())
    }

    /// What training for a rate has learned; none of other networks.
    ///
    /// # Errors
    /// Those of the device.
    pub fn factorised_prior(&self) -> Result<Option<FactorisedPrior>> {
        if !self.latent.has_rate() {
            return Ok(None);
        }
        let values = self.parameters.values()?;
        let of = |name: &str| &values[self.layout.get(name).range.clone()];
        let steps: Vec<f32> = of(RATE_LOG_STEP).iter().map(|log| log.exp()).collect();
        let scale = |(i, log): (usize, &f32)| {
            f64::from(log.exp()) + f64::from(LEAST_SCALE) * f64::from(steps[i % steps.len()])
        };
        let scale = of(RATE_LOG_SCALE).iter().enumerate().map(scale).collect();
        let location = of(RATE_LOCATION).iter().map(|&x| f64::from(x)).collect();
        Ok(Some(FactorisedPrior { location, scale, steps }))
    }
}

impl FactorisedPrior {
    fn step(&self, entry: usize) -> f64 {
        f64::from(self.steps[entry % self.steps.len()])
    }

    /// Whole steps of each entry from its location, to the nearest.
    pub fn indices(&self, latent: &[f32]) -> Vec<i32> {
        let index =
            |(i, x): (usize, &f32)| ((f64::from(*x) - self.location[i]) / self.step(i)).round() as i32;
        latent.iter().enumerate().map(index).collect()
    }

    /// The probability that an entry has an index.
    pub fn mass(&self, entry: usize, index: i32) -> f64 {
        let width = self.step(entry) / self.scale[entry];
        match f64::from(index.unsigned_abs()) {
            0.0 => -(-0.5 * width).exp_m1(),
            q => -0.5 * (-(q - 0.5) * width).exp() * (-width).exp_m1(),
        }
    }

    /// Of a latent rounded to whole steps from the locations.
    pub fn bits(&self, latent: &[f32]) -> f64 {
        let indices = self.indices(latent);
        // An entry far out has a logarithm where its mass is 0.
        let bits = |(entry, &index): (usize, &i32)| -self.mass(entry, index).max(f64::MIN_POSITIVE).log2();
        indices.iter().enumerate().map(bits).sum()
    }
}
