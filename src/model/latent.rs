//! From what the encoder says to what the decoder reads: the latent by its kind, in training and outside.

use super::{Autoencoder, Halves, LatentKind, PriorKind};
use crate::error::Result;
use crate::nn::Builder;
use crate::ops::{
    Add, CategoricalKl, Codes, Fsq, GaussianKl, GaussianSample, Law, Noise, OneHot, Perplexity,
};
use crate::shape::Shape;
use crate::tape::{Graph, Value};

/// The stream of the latent's noise: "latent".
const STREAM: u64 = 0x6c61_7465_6e74;

/// The head of a Gaussian latent beside `encoder.out`, which gives the mean.
pub(super) const LOG_VARIANCE: &str = "encoder.log_variance";
/// From the encoder's output to the logits of all classes, and from one-hot codes to what the decoder reads.
pub(super) const LOGITS: &str = "latent.logits";
pub(super) const CODEBOOK: &str = "latent.codebook";

/// From the encoder's output to what is rounded between -1 and 1, and from levels to what the decoder reads.
pub(super) const INTO_LEVELS: &str = "latent.in";
pub(super) const FROM_LEVELS: &str = "latent.out";

/// The outputs of the encoder.
#[derive(Clone, Copy, Debug)]
pub struct Posterior {
    /// `[6B, s, s, latent_channels]`; the latent itself where it is deterministic.
    pub mean: Value,
    /// Of a Gaussian latent, of the shape of the mean.
    pub log_variance: Option<Value>,
}

/// What a latent has in a training step beside the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drawn {
    /// The number of the draw, as [`Noise::counter`] has it: to be loaded before each step.
    pub counter: Option<Value>,
    /// Of Gumbel-softmax, `[1]`: to be loaded before each step.
    pub temperature: Option<Value>,
    /// Nats a latent dimension of a mesh, or a group of classes at a site, or of the whole latent where the prior is learned; bits
    /// an entry of a deterministic latent that is trained for a rate. Mean over the meshes.
    pub rate: Option<Value>,
    /// Codes in use.
    pub perplexity: Option<Value>,
    /// The codes that this counts.
    pub codes: Option<Value>,
}

impl Autoencoder {
    /// Records encoder, latent and decoder for `meshes` meshes, with noise of `seed`.
    pub fn record_training(
        &mut self,
        graph: &mut Graph,
        meshes: usize,
        seed: u64,
    ) -> Result<(Halves, Drawn)> {
        let planes = graph.input(self.planes_shape(meshes));
        let posterior = self.record_posterior(graph, planes)?;
        let (latent, drawn) = match (self.latent.kind, posterior.log_variance) {
            (LatentKind::Gaussian, Some(log_variance)) => {
                let (counter, noise) = noise(graph, Law::Normal, posterior.mean, seed)?;
                let sample = graph.apply(GaussianSample, &[posterior.mean, log_variance, noise])?;
                let kl = match self.latent.prior {
                    PriorKind::Standard => {
                        graph.apply(GaussianKl { meshes }, &[posterior.mean, log_variance])?
                    }
                    _ => self.record_divergence(graph, meshes, [sample, log_variance, noise])?,
                };
                (sample, Drawn { counter: Some(counter), rate: Some(kl), ..Drawn::default() })
            }
            (LatentKind::Categorical, _) => {
                self.record_draw_of_classes(graph, posterior.mean, meshes, seed)?
            }
            (LatentKind::Fsq, _) => {
                let (codes, levels) = self.record_levels(graph, posterior.mean)?;
                let perplexity = Perplexity { codes: Codes::Levels { most: self.latent.most_levels() } };
                let perplexity = Some(graph.apply(perplexity, &[codes, levels])?);
                let drawn = Drawn { perplexity, codes: Some(codes), ..Drawn::default() };
                (self.record_from_levels(graph, codes)?, drawn)
            }
            _ if self.latent.has_rate() => self.record_noisy(graph, posterior.mean, meshes, seed)?,
            (LatentKind::Deterministic | LatentKind::Gaussian, _) => (posterior.mean, Drawn::default()),
        };
        let decoded = self.record_decoder(graph, latent)?;
        Ok((Halves { planes, latent, decoded }, drawn))
    }

    /// From the encoder's output to the latent that stands for it: its mean, its likeliest class or its nearest level.
    pub fn record_code(&mut self, graph: &mut Graph, posterior: Posterior) -> Result<Value> {
        let codes = self.record_codes(graph, posterior)?;
        self.record_from_codes(graph, codes)
    }

    /// From the encoder's output to the code of it: one-hot classes, levels between -1 and 1, or its mean.
    pub fn record_codes(&mut self, graph: &mut Graph, posterior: Posterior) -> Result<Value> {
        match self.latent.kind {
            LatentKind::Deterministic | LatentKind::Gaussian => Ok(posterior.mean),
            LatentKind::Categorical => {
                let logits = self.record_logits(graph, posterior.mean)?;
                let one = graph.constant(&[1.0]);
                graph.apply(OneHot { classes: self.latent.classes }, &[logits, logits, one])
            }
            LatentKind::Fsq => Ok(self.record_levels(graph, posterior.mean)?.0),
        }
    }

    /// From such a code to what the decoder reads.
    pub fn record_from_codes(&mut self, graph: &mut Graph, codes: Value) -> Result<Value> {
        match self.latent.kind {
            LatentKind::Deterministic | LatentKind::Gaussian => Ok(codes),
            LatentKind::Categorical => self.record_codebook(graph, codes),
            LatentKind::Fsq => self.record_from_levels(graph, codes),
        }
    }

    /// The shape of the one-hot codes of a categorical latent.
    pub fn codes_shape(&self, meshes: usize) -> Shape {
        let latent = self.latent_shape(meshes);
        let mut extents = latent.extents().to_vec();
        extents[3] = self.latent.groups * self.latent.classes;
        Shape::new(&extents)
    }

    /// From one-hot codes to what the decoder reads: the sum of a learned vector a group.
    pub fn record_codebook(&mut self, graph: &mut Graph, codes: Value) -> Result<Value> {
        self.record_map(graph, CODEBOOK, codes, self.architecture.latent_channels)
    }

    fn record_logits(&mut self, graph: &mut Graph, mean: Value) -> Result<Value> {
        let all = self.latent.groups * self.latent.classes;
        self.record_map(graph, LOGITS, mean, all)
    }

    fn record_draw_of_classes(
        &mut self,
        graph: &mut Graph,
        mean: Value,
        meshes: usize,
        seed: u64,
    ) -> Result<(Value, Drawn)> {
        let classes = self.latent.classes;
        let logits = self.record_logits(graph, mean)?;
        let (counter, noise) = noise(graph, Law::Gumbel, logits, seed)?;
        let temperature = graph.input(Shape::new(&[1]));
        let scores = graph.apply(Add, &[logits, noise])?;
        let codes = graph.apply(OneHot { classes }, &[scores, scores, temperature])?;
        let kl = graph.apply(CategoricalKl { classes, meshes }, &[logits])?;
        let perplexity = graph.apply(Perplexity { codes: Codes::OneHot { classes } }, &[codes])?;
        let drawn = Drawn {
            counter: Some(counter),
            temperature: Some(temperature),
            rate: Some(kl),
            perplexity: Some(perplexity),
            codes: Some(codes),
        };
        Ok((self.record_codebook(graph, codes)?, drawn))
    }

    /// The nearest levels, and how many each channel has.
    fn record_levels(&mut self, graph: &mut Graph, mean: Value) -> Result<(Value, Value)> {
        let levels: Vec<f32> = self.levels().map(|levels| levels as f32).collect();
        let levels = graph.constant(&levels);
        let x = self.record_map(graph, INTO_LEVELS, mean, self.architecture.latent_channels)?;
        Ok((graph.apply(Fsq, &[x, x, levels])?, levels))
    }

    /// From levels between -1 and 1 to what the decoder reads.
    pub fn record_from_levels(&mut self, graph: &mut Graph, codes: Value) -> Result<Value> {
        self.record_map(graph, FROM_LEVELS, codes, self.architecture.latent_channels)
    }

    fn record_map(&mut self, graph: &mut Graph, name: &str, x: Value, out: usize) -> Result<Value> {
        Builder { graph, layout: &mut self.layout, rate: 1.0 }.conv(name, x, 1, 1, out, false)
    }

    /// Levels of each channel: those of the settings in turn.
    pub fn levels(&self) -> impl Iterator<Item = usize> {
        self.latent.fsq_levels.iter().copied().cycle().take(self.architecture.latent_channels)
    }
}

/// The number of the draw, and noise of the shape of `like`.
pub(super) fn noise(graph: &mut Graph, law: Law, like: Value, seed: u64) -> Result<(Value, Value)> {
    let counter = graph.input(Shape::new(&[2]));
    let noise = Noise { law, extents: graph.shape(like), seed, stream: STREAM };
    Ok((counter, graph.apply(noise, &[counter])?))
}
