//! Fits the second-stage prior of [`crate::model::Flow`] to latents of a trained network.

mod draw;
mod file;

pub use draw::FlowDraws;
pub use file::SecondStage;

use crate::device::{Buffer, Device};
use crate::error::{Error, Result};
use crate::model::{Flow, LatentBasis, USUAL_COMPONENTS};
use crate::nn::{Adam, AdamSettings, Schedule};
use crate::ops::Mse;
use crate::rng::Rng;
use crate::tape::{Graph, Scale, Tape, Value};
use serde::{Deserialize, Serialize};

const STREAM_STEPS: u64 = 0x666c_6f77;
const STREAM_JUDGED: u64 = 0x6a75_6467;

/// How a flow is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowSettings {
    /// Updates, of which the best one is kept.
    pub steps: u64,
    /// Latents an update.
    pub batch: usize,
    /// Channels of the network.
    pub width: usize,
    pub seed: u64,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self { steps: 2000, batch: 64, width: 128, seed: 0 }
    }
}

/// Bounds that keep the products of sizes far from overflow; memory runs out long before.
const MOST_BATCH: usize = 1 << 12;
const MOST_WIDTH: usize = 1 << 12;

impl FlowSettings {
    /// # Errors
    /// Wrong usage, where a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let problem = if !(1..=MOST_BATCH).contains(&self.batch) {
            format!("batch is {}, expected 1 to {MOST_BATCH}", self.batch)
        } else if !(1..=MOST_WIDTH).contains(&self.width) {
            format!("width is {}, expected 1 to {MOST_WIDTH}", self.width)
        } else {
            return Ok(());
        };
        Err(Error::usage("prior", problem, "change the option"))
    }
}

const LEARNING_RATE: f64 = 1e-3;

/// Updates between two looks at the latents that were set aside.
const LOOK_EVERY: u64 = 50;

/// Times at which a latent that was set aside is judged, and draws of noise at each.
const JUDGED_TIMES: [f32; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];
const JUDGED_DRAWS: usize = 4;

/// What fitting has come to. Errors are squared errors of estimates of latents that were set aside, along the components, as shares of
/// the variance of those that the flow was fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Latents that the flow was fitted to, and their principal components that it has.
    pub latents: usize,
    pub components: usize,
    /// Latents that were set aside.
    pub judged: usize,
    /// Of the Gaussian; none where nothing was set aside.
    pub gaussian_error: Option<f64>,
    /// Of the flow.
    pub error: Option<f64>,
    /// The update that was kept; 0: the Gaussian, which none was better than.
    pub step: u64,
}

/// Fits a flow to `latents`; `set_aside` decides which update is kept. Without such latents the Gaussian is: nothing
/// would tell learning from copying.
///
/// # Errors
/// Fewer than two latents that differ, those of the device, and a loss that is not finite.
pub fn fit(
    latents: &[Vec<f32>],
    set_aside: &[Vec<f32>],
    settings: &FlowSettings,
    device: &Device,
) -> Result<(Flow, FitReport)> {
    settings.validate()?;
    let remedy = "name more meshes";
    if latents.len() < 2 {
        let problem = format!("{} latent to fit a prior to, expected at least 2", latents.len());
        return Err(Error::usage("prior", problem, remedy));
    }
    let basis = LatentBasis::fit(latents, USUAL_COMPONENTS);
    if basis.is_empty() {
        return Err(Error::usage("prior", "the meshes have all the same latent", "name meshes that differ"));
    }
    let flow = Flow::new(settings.width, basis, device, settings.seed)?;
    let mut fitting = Fitting::new(flow, settings, device)?;
    let mut report = FitReport {
        latents: latents.len(),
        components: fitting.flow.basis.len(),
        judged: set_aside.len(),
        gaussian_error: None,
        error: None,
        step: 0,
    };
    if !set_aside.is_empty() {
        let along = |all: &[Vec<f32>]| -> Vec<Vec<f32>> {
            all.iter().map(|latent| fitting.flow.basis.coefficients(latent)).collect()
        };
        let (latents, set_aside) = (along(latents), along(set_aside));
        fitting.keep_best(&latents, &set_aside, &mut report)?;
    }
    Ok((fitting.flow, report))
}

struct Fitting<'a> {
    flow: Flow,
    settings: &'a FlowSettings,
    tape: Tape,
    input: Value,
    target: Value,
    loss: Value,
    adam: Adam,
    gradients: Buffer,
}

/// The coefficients of one latent at one time.
struct Sample {
    input: Vec<f32>,
    /// What the Gaussian's estimate lacks.
    target: Vec<f32>,
}

impl<'a> Fitting<'a> {
    fn new(mut flow: Flow, settings: &'a FlowSettings, device: &Device) -> Result<Self> {
        let mut graph = Graph::default();
        let (input, correction) = flow.record(&mut graph, settings.batch)?;
        let target = graph.input(graph.shape(correction));
        let weight = graph.constant(&weights(&flow.basis));
        let loss = graph.apply(Mse, &[correction, target, weight])?;
        let tape = Tape::new(device, graph, Some(loss), &[])?;
        let adam = AdamSettings { learning_rate: LEARNING_RATE, ..AdamSettings::default() };
        Ok(Self {
            adam: Adam::new(adam, &flow.layout, device)?,
            gradients: Buffer::zeros(device, flow.layout.len(), "the gradients")?,
            flow,
            settings,
            tape,
            input,
            target,
            loss,
        })
    }

    /// Makes all updates; leaves the parameters that served the latents that were set aside best.
    fn keep_best(
        &mut self,
        latents: &[Vec<f32>],
        set_aside: &[Vec<f32>],
        report: &mut FitReport,
    ) -> Result<()> {
        let judged = self.judged(set_aside);
        let mut best = self.flow.parameters.values()?.into_owned();
        let mut least = self.error(&judged)?;
        report.gaussian_error = Some(least);
        for step in 0..self.settings.steps {
            self.step(latents, step)?;
            if !(step + 1).is_multiple_of(LOOK_EVERY) && step + 1 < self.settings.steps {
                continue;
            }
            let error = self.error(&judged)?;
            if error < least {
                (least, report.step) = (error, step + 1);
                best = self.flow.parameters.values()?.into_owned();
            }
        }
        report.error = Some(least);
        self.flow.parameters.load(0, &best)
    }

    /// One update on latents and times drawn for it.
    fn step(&mut self, latents: &[Vec<f32>], step: u64) -> Result<()> {
        let mut rng = Rng::new(self.settings.seed, STREAM_STEPS ^ (step << 32));
        for slot in 0..self.settings.batch {
            let latent = &latents[rng.below(latents.len())];
            let time = rng.uniform();
            let sample = sample(latent, time, &mut rng);
            self.load(slot, &sample)?;
        }
        self.tape.forward(&self.flow.parameters)?;
        self.tape.backward(&self.flow.parameters, &mut self.gradients, Scale::One)?;
        let factor = Schedule::Cosine.factor(step, self.settings.steps);
        let outcome = self.adam.update(&mut self.flow.parameters, &self.gradients, factor)?;
        if !outcome.norm.is_finite() {
            let place = format!("prior, step {}", step + 1);
            return Err(Error::diverged(place, "its loss is not finite", "fit it to other meshes"));
        }
        Ok(())
    }

    fn load(&mut self, slot: usize, sample: &Sample) -> Result<()> {
        self.tape.load(self.input, slot * sample.input.len(), &sample.input)?;
        self.tape.load(self.target, slot * sample.target.len(), &sample.target)
    }

    /// The same times and noise at every look, in whole batches.
    fn judged(&self, set_aside: &[Vec<f32>]) -> Vec<Sample> {
        let mut rng = Rng::new(self.settings.seed, STREAM_JUDGED);
        let mut judged = Vec::new();
        for _ in 0..JUDGED_DRAWS {
            let pairs = set_aside.iter().flat_map(|latent| JUDGED_TIMES.map(|time| (latent, time)));
            judged.extend(pairs.map(|(latent, time)| sample(latent, time, &mut rng)));
        }
        judged
    }

    /// Mean over the samples; what fills up the last batch counts twice.
    fn error(&mut self, judged: &[Sample]) -> Result<f64> {
        let batch = self.settings.batch;
        let batches = judged.len().div_ceil(batch);
        let mut sum = 0.0;
        for first in (0..batches).map(|at| at * batch) {
            for slot in 0..batch {
                self.load(slot, &judged[(first + slot) % judged.len()])?;
            }
            self.tape.forward(&self.flow.parameters)?;
            sum += f64::from(self.tape.value(self.loss)?[0]);
        }
        Ok(sum / batches as f64)
    }
}

/// Of coefficients at `time` of their way from noise.
fn sample(coefficients: &[f32], time: f32, rng: &mut Rng) -> Sample {
    let x: Vec<f32> = coefficients.iter().map(|c| time * c + (1.0 - time) * rng.normal()).collect();
    let estimate = Flow::gaussian_estimate(&x, time);
    let target = coefficients.iter().zip(&estimate).map(|(c, estimate)| c - estimate).collect();
    Sample { target, input: Flow::input(&x, time) }
}

/// Of the coefficients in the loss: their variances in the latent, of mean 1.
fn weights(basis: &LatentBasis) -> Vec<f32> {
    let variances: Vec<f32> = basis.deviations.iter().map(|deviation| deviation * deviation).collect();
    let mean = variances.iter().sum::<f32>() / variances.len() as f32;
    variances.iter().map(|variance| variance / mean).collect()
}
