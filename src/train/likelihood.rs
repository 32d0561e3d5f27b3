//! The likelihood of planes given what was decoded: the reconstruction term of the loss.

use super::Settings;
use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::model::Halves;
use crate::ops::{Bce, Mse, OptimalSigma, Reduction, WeightedSum};
use crate::shape::Shape;
use crate::tape::{Graph, Tape, Value};
use serde::{Deserialize, Serialize};
use std::f32::consts::TAU as CIRCLE;

/// How decoded values give planes a probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LikelihoodKind {
    /// The squared error: a Gaussian of a fixed deviation.
    #[default]
    Mse,
    /// A Gaussian of the deviation that is best for each step's error.
    Sigma,
    /// A coin a pixel, whose logit is decoded; of binary planes alone.
    Bernoulli,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Likelihood {
    pub kind: LikelihoodKind,
    /// Of the values of a mesh; meshes are averaged.
    pub reduction: Reduction,
    /// Of `bernoulli`: what a pixel that is hit counts beside one that is not.
    pub positive_weight: f32,
    /// Of `sigma`: the least deviation, in the unit of the planes.
    pub sigma_floor: f32,
}

impl Default for Likelihood {
    fn default() -> Self {
        Self {
            kind: LikelihoodKind::Mse,
            reduction: Reduction::Mean,
            positive_weight: 1.0,
            // Planes that lie in half precision, as in a card's cache, are off by up to 5e-4: a density that tells less
            // than twice that apart describes the rounding.
            sigma_floor: 1e-3,
        }
    }
}

impl Likelihood {
    /// Whether it goes with the planes, and its numbers make sense.
    pub fn validate(&self, representation: Representation) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let bernoulli = self.kind == LikelihoodKind::Bernoulli;
        let (problem, remedy) = if bernoulli && representation != Representation::Binary {
            (
                "likelihood bernoulli is for binary planes, these are continuous",
                "add --representation binary or take --likelihood mse or sigma",
            )
        } else if !positive(self.positive_weight) {
            ("positive_weight must be a positive number", "1 weighs all pixels alike")
        } else if !bernoulli && self.positive_weight != 1.0 {
            ("positive_weight is for likelihood bernoulli", "add --likelihood bernoulli or leave it out")
        } else if !positive(self.sigma_floor) {
            ("sigma_floor must be a positive number", "0.001 is the default")
        } else {
            return Ok(());
        };
        Err(Error::usage("settings", problem, remedy))
    }
}

/// The recorded reconstruction term.
pub(super) struct Reconstruction {
    /// Of the channels in the squared error, `[channels]`.
    weight: Option<Value>,
    pub loss: Value,
}

impl Reconstruction {
    /// Records the term for what `halves` decoded of its planes.
    pub fn record(graph: &mut Graph, settings: &Settings, halves: &Halves) -> Result<Self> {
        let likelihood = &settings.likelihood;
        let (decoded, planes) = (halves.decoded, halves.planes);
        let (weight, mean) = match likelihood.kind {
            LikelihoodKind::Bernoulli => {
                let positive_weight = likelihood.positive_weight;
                (None, graph.apply(Bce { positive_weight }, &[decoded, planes])?)
            }
            LikelihoodKind::Mse | LikelihoodKind::Sigma => {
                let weight = graph.input(Shape::new(&[settings.architecture.channels]));
                let error = graph.apply(Mse, &[decoded, planes, weight])?;
                let mean = match likelihood.kind {
                    LikelihoodKind::Sigma => graph.apply(best_gaussian(settings), &[error])?,
                    _ => error,
                };
                (Some(weight), mean)
            }
        };
        let loss = match likelihood.reduction {
            Reduction::Mean => mean,
            Reduction::Sum => {
                let values = settings.architecture.plane_values() as f32;
                graph.apply(WeightedSum { weights: vec![values] }, &[mean])?
            }
        };
        Ok(Self { weight, loss })
    }

    /// Gives the term its constants.
    pub fn load(&self, tape: &mut Tape, settings: &Settings) -> Result<()> {
        self.weight.map_or(Ok(()), |weight| tape.load(weight, 0, &weights(settings)))
    }
}

/// The weight of each channel in the squared error.
pub(super) fn weights(settings: &Settings) -> Vec<f32> {
    let mut weights = vec![1.0; settings.architecture.channels];
    weights[0] = settings.training.depth_weight;
    weights
}

/// A channel of weight w has the deviation s / sqrt(w): the density of a value holds w's logarithm as well.
fn best_gaussian(settings: &Settings) -> OptimalSigma {
    let weights = weights(settings);
    let logarithm = weights.iter().map(|weight| weight.ln()).sum::<f32>() / weights.len() as f32;
    OptimalSigma { floor: settings.likelihood.sigma_floor, offset: 0.5 * (CIRCLE.ln() - logarithm) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::rng::Rng;
    use crate::train::Preset;

    /// The term of planes of `[6 batch, 4, 4, channels]` against what is decoded from them.
    fn term(settings: &Settings, batch: usize, decoded: &[f32], planes: &[f32]) -> f64 {
        let mut graph = Graph::default();
        let shape = Shape::new(&[6 * batch, 4, 4, settings.architecture.channels]);
        let [planes_in, decoded_in] = [(); 2].map(|()| graph.input(shape));
        let halves = Halves { planes: planes_in, latent: planes_in, decoded: decoded_in };
        let term = Reconstruction::record(&mut graph, settings, &halves).unwrap();
        let mut tape = Tape::new(&Device::Cpu, graph, None, &[term.loss]).unwrap();
        term.load(&mut tape, settings).unwrap();
        tape.load(planes_in, 0, planes).unwrap();
        tape.load(decoded_in, 0, decoded).unwrap();
        tape.forward(&crate::device::Buffer::Cpu(crate::cpu::arena::Arena::zeros(0))).unwrap();
        f64::from(tape.value(term.loss).unwrap()[0])
    }

    fn settings(representation: Representation, kind: LikelihoodKind, reduction: Reduction) -> Settings {
        let mut settings = Settings::preset(Preset::Quick);
        settings.represent(representation);
        settings.architecture.planes = 4;
        settings.likelihood = Likelihood { kind, reduction, ..Likelihood::default() };
        settings
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 2e-6 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// Two meshes of continuous planes: minus the logarithm of the density, value by value, with depth's own deviation.
    #[test]
    fn the_sum_of_the_best_gaussian_is_in_nats_a_mesh() {
        let mut settings = settings(Representation::Continuous, LikelihoodKind::Sigma, Reduction::Sum);
        settings.training.depth_weight = 9.0;
        let mut rng = Rng::new(4, 0);
        let n = 2 * 6 * 16 * 4;
        let [planes, decoded] = [(); 2].map(|()| (0..n).map(|_| rng.normal()).collect::<Vec<f32>>());
        let weight = |i: usize| if i.is_multiple_of(4) { 9.0 } else { 1.0 };
        let squares = |i: usize| f64::from(planes[i] - decoded[i]).powi(2);
        let variance = (0..n).map(|i| weight(i) * squares(i)).sum::<f64>() / n as f64;
        let nats = |i: usize| {
            let variance = variance / weight(i);
            0.5 * ((2.0 * std::f64::consts::PI * variance).ln() + squares(i) / variance)
        };
        let expected = (0..n).map(nats).sum::<f64>() / 2.0;
        near(term(&settings, 2, &decoded, &planes), expected);
        settings.likelihood.reduction = Reduction::Mean;
        near(term(&settings, 2, &decoded, &planes), expected / (n / 2) as f64);
        // What is decoded exactly has the density of the floor.
        settings.likelihood.sigma_floor = 0.5;
        settings.training.depth_weight = 1.0;
        let floor = 0.5 * (2.0 * std::f64::consts::PI * 0.25).ln();
        near(term(&settings, 2, &planes, &planes), floor);
    }

    #[test]
    fn reductions_of_the_others() {
        let n = 2 * 6 * 16;
        let planes: Vec<f32> = (0..n).map(|i| (i % 3 == 0) as u8 as f32).collect();
        let decoded = vec![0.25; n];
        let mse = (0.75f64.powi(2) + 2.0 * 0.25f64.powi(2)) / 3.0;
        let of =
            |kind, reduction| term(&settings(Representation::Binary, kind, reduction), 2, &decoded, &planes);
        near(of(LikelihoodKind::Mse, Reduction::Mean), mse);
        near(of(LikelihoodKind::Mse, Reduction::Sum), mse * 96.0);
        let p = 1.0 / (1.0 + (-0.25f64).exp());
        let nats = -(p.ln() + 2.0 * (1.0 - p).ln()) / 3.0;
        near(of(LikelihoodKind::Bernoulli, Reduction::Mean), nats);
        near(of(LikelihoodKind::Bernoulli, Reduction::Sum), nats * 96.0);
        let mut weighted = settings(Representation::Binary, LikelihoodKind::Bernoulli, Reduction::Mean);
        weighted.likelihood.positive_weight = 2.0;
        near(term(&weighted, 2, &decoded, &planes), -(2.0 * p.ln() + 2.0 * (1.0 - p).ln()) / 3.0);
    }
}
