//! From what the encoder says to what the decoder reads: the latent of a training step, by its kind.

use super::{Autoencoder, Halves, LatentKind};
use crate::error::Result;
use crate::ops::{GaussianKl, GaussianSample, Law, Noise};
use crate::shape::Shape;
use crate::tape::{Graph, Value};

/// The stream of the latent's noise: "latent".
const STREAM: u64 = 0x6c61_7465_6e74;

/// The outputs of the encoder.
#[derive(Clone, Copy, Debug)]
pub struct Posterior {
    /// `[6B, s, s, latent_channels]`; the latent itself where it is deterministic.
    pub mean: Value,
    /// Of a Gaussian latent, of the shape of the mean.
    pub log_variance: Option<Value>,
}

/// What a latent with a rate has in a training step.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The number of the draw, as [`Noise::counter`] has it: to be loaded before each step.
    pub counter: Value,
    /// Nats a latent dimension `[6, s, s, latent_channels]`, mean over the meshes.
    pub kl: Value,
}

impl Autoencoder {
    /// Records encoder, latent and decoder for `meshes` meshes, with noise of `seed`.
    pub fn record_training(
        &mut self,
        graph: &mut Graph,
        meshes: usize,
        seed: u64,
    ) -> Result<(Halves, Option<Rate>)> {
        let planes = graph.input(self.planes_shape(meshes));
        let posterior = self.record_posterior(graph, planes)?;
        let (latent, rate) = match (self.latent.kind, posterior.log_variance) {
            (LatentKind::Gaussian, Some(log_variance)) => {
                let counter = graph.input(Shape::new(&[2]));
                let extents = graph.shape(posterior.mean);
                let noise = Noise { law: Law::Normal, extents, seed, stream: STREAM };
                let noise = graph.apply(noise, &[counter])?;
                let sample = graph.apply(GaussianSample, &[posterior.mean, log_variance, noise])?;
                let kl = graph.apply(GaussianKl { meshes }, &[posterior.mean, log_variance])?;
                (sample, Some(Rate { counter, kl }))
            }
            _ => (posterior.mean, None),
        };
        let decoded = self.record_decoder(graph, latent)?;
        Ok((Halves { planes, latent, decoded }, rate))
    }
}
