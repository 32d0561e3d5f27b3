//! Latents drawn from the prior of a network.

use crate::error::{Error, Result};
use crate::model::{Autoencoder, LatentKind};
use crate::rng::Rng;
use crate::tape::{Graph, Tape, Value};

const STREAM: u64 = 0x0070_7269_6f72;

/// Draws what the decoder reads.
pub struct Prior {
    kind: Kind,
    seed: u64,
}

enum Kind {
    /// So many standard normal deviates.
    Normal(usize),
    Codes(Box<Codes>),
}

/// Discrete codes, and their way to what the decoder reads.
struct Codes {
    tape: Tape,
    codes: Value,
    latent: Value,
    law: Law,
}

/// What a site's codes are, all alike.
enum Law {
    /// One of so many classes, as often as there are groups.
    Classes { groups: usize, classes: usize },
    /// One of the levels of each channel.
    Levels(Vec<usize>),
}

impl Prior {
    /// The prior of `model`, its draws from `seed`.
    ///
    /// # Errors
    /// Wrong usage where the latent has none.
    pub fn new(model: &mut Autoencoder, seed: u64) -> Result<Self> {
        let law = match model.latent.kind {
            LatentKind::Deterministic => {
                let problem = "its latent is deterministic: nothing says which latents are likely";
                return Err(Error::usage("--run", problem, "name a run of another --latent"));
            }
            LatentKind::Gaussian => {
                return Ok(Self { kind: Kind::Normal(model.latent_shape(1).len()), seed });
            }
            LatentKind::Categorical => {
                Law::Classes { groups: model.latent.groups, classes: model.latent.classes }
            }
            LatentKind::Fsq => Law::Levels(model.levels().collect()),
        };
        let mut graph = Graph::default();
        let (codes, latent) = if let Law::Classes { .. } = law {
            let codes = graph.input(model.codes_shape(1));
            (codes, model.record_codebook(&mut graph, codes)?)
        } else {
            let codes = graph.input(model.latent_shape(1));
            (codes, model.record_from_levels(&mut graph, codes)?)
        };
        let tape = Tape::new(&model.parameters.device(), graph, None, &[latent])?;
        Ok(Self { kind: Kind::Codes(Box::new(Codes { tape, codes, latent, law })), seed })
    }

    /// Draw `index`: a latent `[6, s, s, latent_channels]`.
    pub fn draw(&mut self, model: &Autoencoder, index: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::new(self.seed, STREAM ^ (index << 40));
        match &mut self.kind {
            Kind::Normal(len) => Ok((0..*len).map(|_| rng.normal()).collect()),
            Kind::Codes(all) => {
                let Codes { tape, codes, latent, law } = &mut **all;
                let values = law.draw(tape.shape(*codes).len(), &mut rng);
                tape.load(*codes, 0, &values)?;
                tape.forward(&model.parameters)?;
                tape.value(*latent)
            }
        }
    }
}

impl Law {
    fn draw(&self, len: usize, rng: &mut Rng) -> Vec<f32> {
        match self {
            Self::Classes { groups, classes } => {
                let mut values = vec![0.0; len];
                for site in values.chunks_mut(groups * classes) {
                    site.chunks_mut(*classes).for_each(|group| group[rng.below(*classes)] = 1.0);
                }
                values
            }
            Self::Levels(levels) => {
                let level = |i: usize| levels[i % levels.len()];
                (0..len).map(|i| 2.0 * rng.below(level(i)) as f32 / (level(i) - 1) as f32 - 1.0).collect()
            }
        }
    }
}
