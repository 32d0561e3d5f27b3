//! Priors: what a learned one starts from, and latents drawn from them.

use super::second_stage::FlowDraws;
use super::{Encoder, Item};
use crate::error::{Error, Result};
use crate::model::{
    Autoencoder, Flow, Gaussian, LatentKind, PRIOR_INPUTS, PRIOR_LOG_VARIANCE, PRIOR_LOGITS, PRIOR_MEAN,
    PriorKind,
};
use crate::ops::{LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE};
use crate::rng::Rng;
use crate::tape::{Graph, Tape, Value};

const STREAM: u64 = 0x0070_7269_6f72;

/// Deviation of what is added to a component of a learned prior that starts from a mesh which another one has started from.
const APART: f32 = 0.1;

/// Starts the components of a learned prior from `items` in turn: their posteriors' means, or their planes as pseudo-inputs.
pub fn start_prior(model: &mut Autoencoder, items: &[Item], seed: u64) -> Result<()> {
    let name = match model.latent.prior {
        PriorKind::Standard => return Ok(()),
        PriorKind::Mixture => PRIOR_MEAN,
        PriorKind::Vamp => PRIOR_INPUTS,
    };
    let start = model.layout.get(name).range.start;
    let mut encoder = Encoder::new(model)?;
    let mut rng = Rng::named(seed, name);
    for component in 0..model.latent.components {
        let item = &items[component % items.len()];
        let mut values = match model.latent.prior {
            PriorKind::Vamp => item.values()?.into_owned(),
            _ => encoder.encode(model, &item.planes()?)?,
        };
        if component >= items.len() {
            values.iter_mut().for_each(|x| *x += APART * rng.normal());
        }
        model.parameters.load(start + component * model.component_len(), &values)?;
    }
    Ok(())
}

/// The learned prior of `model`.
fn mixture(model: &mut Autoencoder) -> Result<Kind> {
    let values = model.parameters.values()?.into_owned();
    let of = |name: &str| &values[model.layout.get(name).range.clone()];
    let (count, len) = (model.latent.components, model.component_len());
    if model.latent.prior == PriorKind::Mixture {
        let pairs = of(PRIOR_MEAN).chunks(len).zip(of(PRIOR_LOG_VARIANCE).chunks(len));
        let components =
            pairs.map(|(mean, l)| Gaussian { mean: mean.to_vec(), log_variance: l.to_vec() }).collect();
        let weights: Vec<f64> = of(PRIOR_LOGITS).iter().map(|&logit| f64::from(logit).exp()).collect();
        let all: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let up_to = |weight: f64| {
            sum += weight / all;
            sum
        };
        return Ok(Kind::Mixture(components, weights.into_iter().map(up_to).collect()));
    }
    let inputs = of(PRIOR_INPUTS).to_vec();
    let mut encoder = Encoder::new(model)?;
    let mut components = Vec::new();
    for seen in inputs.chunks(len) {
        components.extend(encoder.posterior_of_seen(model, seen)?);
    }
    Ok(Kind::Mixture(components, (1..=count).map(|k| k as f64 / count as f64).collect()))
}

/// Draws what the decoder reads.
pub struct Prior {
    kind: Kind,
    seed: u64,
}

enum Kind {
    /// So many standard normal deviates.
    Normal(usize),
    /// The components of a learned one, and the share of each and all before it.
    Mixture(Vec<Gaussian>, Vec<f64>),
    Codes(Box<Codes>),
    Flow(Box<FlowDraws>),
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
                let remedy = "fit a prior to it with hexcuda prior, or name a run of another --latent";
                return Err(Error::usage("--run", problem, remedy));
            }
            LatentKind::Gaussian => {
                let kind = match model.latent.prior {
                    PriorKind::Standard => Kind::Normal(model.latent_shape(1).len()),
                    _ => mixture(model)?,
                };
                return Ok(Self { kind, seed });
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

    /// The second-stage prior of `model`.
    pub fn second_stage(model: &mut Autoencoder, flow: Flow, seed: u64) -> Result<Self> {
        Ok(Self { kind: Kind::Flow(Box::new(FlowDraws::new(flow, Some(model))?)), seed })
    }

    /// Draw `index`: a latent `[6, s, s, latent_channels]`.
    pub fn draw(&mut self, model: &Autoencoder, index: u64) -> Result<Vec<f32>> {
        let mut rng = Rng::new(self.seed, STREAM ^ (index << 40));
        match &mut self.kind {
            Kind::Normal(len) => Ok((0..*len).map(|_| rng.normal()).collect()),
            Kind::Mixture(components, shares) => {
                let u = rng.uniform_f64();
                let at = shares.iter().position(|&share| u < share).unwrap_or(components.len() - 1);
                let Gaussian { mean, log_variance } = &components[at];
                let draw = |(mean, l): (&f32, &f32)| {
                    mean + (0.5 * l.clamp(LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE)).exp() * rng.normal()
                };
                Ok(mean.iter().zip(log_variance).map(draw).collect())
            }
            Kind::Codes(all) => {
                let Codes { tape, codes, latent, law } = &mut **all;
                let values = law.draw(tape.shape(*codes).len(), &mut rng);
                tape.load(*codes, 0, &values)?;
                tape.forward(&model.parameters)?;
                tape.value(*latent)
            }
            Kind::Flow(draws) => draws.draw(model, &mut rng),
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
