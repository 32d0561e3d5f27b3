//! Adam (Kingma & Ba, ICLR 2015, algorithm 1) with gradient clipping by the global norm, in one
//! pass over parameters, gradients and moments.

mod card;

use crate::cpu::arena::padded;
use crate::cpu::simd::{self, Vectorised};
use crate::cuda::{Precision, Read};
use crate::device::{Buffer, Device, Kind};
use crate::error::{Error, Result};
use crate::tape::ParameterLayout;
use card::Card;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Values a task updates: 4 arrays of 64 KiB. Fixed, so that the norm does not depend on the
/// number of threads.
const CHUNK: usize = 1 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamSettings {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Gradients are scaled so that their global L2 norm is at most this; 0 turns it off.
    pub clip_norm: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip_norm: 1.0 }
    }
}

impl AdamSettings {
    /// Whether the numbers lie where the algorithm is defined.
    pub fn validate(&self) -> Result<()> {
        let problem = if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            "learning_rate must be a positive number"
        } else if ![self.beta1, self.beta2].iter().all(|beta| (0.0..1.0).contains(beta)) {
            "beta1 and beta2 must be at least 0 and less than 1"
        } else if !(self.epsilon.is_finite() && self.epsilon > 0.0) {
            "epsilon must be a positive number"
        } else if !(self.clip_norm.is_finite() && self.clip_norm >= 0.0) {
            "clip_norm must be at least 0"
        } else {
            return Ok(());
        };
        Err(Error::usage(
            "settings: optimiser",
            problem,
            "change the option or the line of the configuration file",
        ))
    }
}

/// What gradients are scaled up by before they are rounded to fp16 (Micikevicius et al., "Mixed Precision
/// Training", ICLR 2018, section 3.2): an overflow divides it by 16, and it doubles after 2,000 steps without one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// At least 1; 1 where nothing is rounded to fp16.
    pub factor: f64,
    /// Steps since it changed.
    pub steady: u64,
}

impl LossScale {
    /// fp16 ends at 65,504, which the scale of a loss itself need not stay below.
    const MOST: f64 = 65_536.0;

    fn first(device: &Device) -> Self {
        let half = matches!(device.kind(), Kind::Cuda { precision: Precision::Fp16, .. });
        Self { factor: if half { Self::MOST } else { 1.0 }, steady: 0 }
    }
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Global L2 norm of the gradient before clipping.
    pub norm: f64,
    /// Updates made so far.
    pub updates: u64,
    /// For the next step.
    pub scale: LossScale,
    /// The loss or its gradient was not finite, at scale 1: the weights stay as they are from here on.
    pub halted: bool,
}

/// The optimiser's state for one block of parameters.
pub struct Adam {
    pub settings: AdamSettings,
    /// First and second moments, in the layout of the parameters.
    pub first: Buffer,
    pub second: Buffer,
    /// Of the last update whose outcome is known.
    outcome: Outcome,
    /// (end, factor on the learning rate) of consecutive stretches of the block.
    rates: Vec<(usize, f32)>,
    card: Option<Card>,
}

impl Adam {
    pub fn new(settings: AdamSettings, layout: &ParameterLayout, device: &Device) -> Result<Self> {
        let len = layout.len();
        let mut rates: Vec<(usize, f32)> = Vec::new();
        for parameter in layout.iter() {
            let end = padded(parameter.range.end);
            match rates.last_mut() {
                Some(last) if last.1 == parameter.rate => last.0 = end,
                _ => rates.push((end, parameter.rate)),
            }
        }
        let first = Buffer::zeros(device, len, "Adam's first moments")?;
        let second = Buffer::zeros(device, len, "Adam's second moments")?;
        let card = match device {
            Device::Cpu | Device::CpuBf16 => None,
            Device::Cuda(queue) => Some(Card::new(queue, len, &rates)?),
        };
        let outcome = Outcome { norm: 0.0, updates: 0, scale: LossScale::first(device), halted: false };
        let mut adam = Self { settings, first, second, outcome, rates, card };
        adam.restore(0, None)?;
        Ok(adam)
    }

    /// The last outcome that is known.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Goes on after `updates` updates, with what fp16 needs to know of them.
    pub fn restore(&mut self, updates: u64, scale: Option<LossScale>) -> Result<()> {
        let first = LossScale::first(&self.first.device());
        // A run in fp16 may go on in another precision, and the other way round.
        let scale = scale.filter(|_| first.factor > 1.0).unwrap_or(first);
        self.settle(Outcome { norm: 0.0, updates, scale, halted: false })
    }

    /// Makes `outcome` the state from which the next update goes on.
    fn settle(&mut self, outcome: Outcome) -> Result<()> {
        self.outcome = outcome;
        self.card.as_ref().map_or(Ok(()), |card| card.load(&outcome))
    }

    /// One update at `rate_factor` times the learning rate; the outcome is waited for. A gradient that is not
    /// finite changes nothing.
    pub fn update(
        &mut self,
        parameters: &mut Buffer,
        gradients: &Buffer,
        rate_factor: f64,
    ) -> Result<Outcome> {
        match (parameters, gradients, &self.card) {
            (Buffer::Cpu(parameters), Buffer::Cpu(gradients), None) => {
                self.update_cpu(parameters.as_mut_slice(), gradients.as_slice(), rate_factor);
            }
            (Buffer::Cuda(_, parameters), Buffer::Cuda(_, gradients), Some(card)) => {
                card.set_rate_factor(rate_factor)?;
                self.enqueue(parameters.write(), gradients.read(), Read::default())?;
                self.outcome = card.outcome()?;
            }
            _ => return Err(elsewhere()),
        }
        Ok(self.outcome)
    }

    fn update_cpu(&mut self, parameters: &mut [f32], gradients: &[f32], rate_factor: f64) {
        let norm = global_norm(gradients);
        self.outcome.norm = norm;
        if !norm.is_finite() {
            return;
        }
        self.outcome.updates += 1;
        let (rate, second_correction) = self.rates_now(rate_factor);
        let settings = &self.settings;
        let clipped = settings.clip_norm > 0.0 && norm > settings.clip_norm;
        let scale = if clipped { (settings.clip_norm / norm) as f32 } else { 1.0 };
        let (beta1, beta2) = (settings.beta1 as f32, settings.beta2 as f32);
        let epsilon = settings.epsilon as f32;
        let (Buffer::Cpu(first), Buffer::Cpu(second)) = (&mut self.first, &mut self.second) else {
            return;
        };
        let mut rest = (parameters, gradients, first.as_mut_slice(), second.as_mut_slice());
        let mut start = 0;
        for &(end, factor) in &self.rates {
            let rate = rate * factor;
            let (p, g, m, v) = rest;
            let (p, p_rest) = p.split_at_mut(end - start);
            let (g, g_rest) = g.split_at(end - start);
            let (m, m_rest) = m.split_at_mut(end - start);
            let (v, v_rest) = v.split_at_mut(end - start);
            rest = (p_rest, g_rest, m_rest, v_rest);
            start = end;
            let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
            let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(moments);
            chunks.for_each(|((p, g), (m, v))| {
                simd::dispatch(Chunk { p, g, m, v, scale, beta1, beta2, rate, second_correction, epsilon });
            });
        }
    }

    /// (learning rate over its bias correction, reciprocal root of the second one's) of the update that is counted.
    fn rates_now(&self, rate_factor: f64) -> (f32, f32) {
        let (settings, t) = (&self.settings, self.outcome.updates as f64);
        let rate = settings.learning_rate * rate_factor / (1.0 - settings.beta1.powf(t));
        (rate as f32, (1.0 / (1.0 - settings.beta2.powf(t)).sqrt()) as f32)
    }
}

/// The update of a few parameters.
struct Chunk<'a> {
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    scale: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    second_correction: f32,
    epsilon: f32,
}

impl Vectorised for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let n = self.p.len();
        let (p, g, m, v) = (&mut self.p[..n], &self.g[..n], &mut self.m[..n], &mut self.v[..n]);
        for i in 0..n {
            let g = self.scale * g[i];
            m[i] += (1.0 - self.beta1) * (g - m[i]);
            v[i] += (1.0 - self.beta2) * (g * g - v[i]);
            p[i] -= self.rate * m[i] / (v[i].sqrt() * self.second_correction + self.epsilon);
        }
    }
}

/// The sum of the squares of a few gradients, in eight parts.
struct Squares<'a>(&'a [f32]);

impl Vectorised for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut lanes = [0.0f64; 8];
        let (groups, rest) = self.0.as_chunks::<8>();
        for group in groups {
            for k in 0..8 {
                lanes[k] += f64::from(group[k]) * f64::from(group[k]);
            }
        }
        for (lane, g) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(*g) * f64::from(*g);
        }
        lanes.iter().sum()
    }
}

fn elsewhere() -> Error {
    Error::new("Adam", "its moments are on another device", "this is a defect: please report it")
}

fn global_norm(gradients: &[f32]) -> f64 {
    let chunks = gradients.par_chunks(CHUNK);
    let partial: Vec<f64> = chunks.map(|chunk| simd::dispatch(Squares(chunk))).collect();
    partial.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(n: usize) -> ParameterLayout {
        let mut layout = ParameterLayout::default();
        layout.add("p", crate::shape::Shape::new(&[n]), crate::tape::Role::Bias, false, 1.0);
        layout
    }

    /// Algorithm 1 of the paper in f64.
    fn oracle(settings: &AdamSettings, start: &[f32], gradients: &[Vec<f32>]) -> Vec<f64> {
        let mut p: Vec<f64> = start.iter().map(|&x| f64::from(x)).collect();
        let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
        for (step, gradient) in gradients.iter().enumerate() {
            let t = step as f64 + 1.0;
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let scale = if norm > settings.clip_norm { settings.clip_norm / norm } else { 1.0 };
            for i in 0..p.len() {
                let g = scale * f64::from(gradient[i]);
                m[i] = settings.beta1 * m[i] + (1.0 - settings.beta1) * g;
                v[i] = settings.beta2 * v[i] + (1.0 - settings.beta2) * g * g;
                let m_hat = m[i] / (1.0 - settings.beta1.powf(t));
                let v_hat = v[i] / (1.0 - settings.beta2.powf(t));
                p[i] -= settings.learning_rate * m_hat / (v_hat.sqrt() + settings.epsilon);
            }
        }
        p
    }

    #[test]
    fn follows_the_paper() {
        let settings = AdamSettings { learning_rate: 0.01, ..AdamSettings::default() };
        let mut rng = crate::rng::Rng::new(3, 0);
        let n = CHUNK + 48;
        let start: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
        // Some steps below the clipping norm, some above.
        let gradients: Vec<Vec<f32>> =
            (0..5).map(|step| (0..n).map(|_| rng.normal() * 0.003 * (step + 1) as f32).collect()).collect();
        let mut adam = Adam::new(settings, &layout(n), &Device::Cpu).unwrap();
        let mut parameters = start.clone();
        for gradient in &gradients {
            adam.update_cpu(&mut parameters, gradient, 1.0);
        }
        // Five updates of at most 0.01, each rounded a dozen times: 5 * 12 * 2^-24 * 4 (size of p).
        for (ours, expected) in parameters.iter().zip(oracle(&settings, &start, &gradients)) {
            assert!((f64::from(*ours) - expected).abs() < 1.5e-5, "{ours} against {expected}");
        }
    }

    #[test]
    fn a_broken_gradient_changes_nothing() {
        let mut adam = Adam::new(AdamSettings::default(), &layout(16), &Device::Cpu).unwrap();
        let mut parameters = [1.0; 16];
        adam.update_cpu(&mut parameters, &[f32::NAN; 16], 1.0);
        assert!(!adam.outcome.norm.is_finite());
        assert_eq!((parameters, adam.outcome.updates), ([1.0; 16], 0));
    }
}
