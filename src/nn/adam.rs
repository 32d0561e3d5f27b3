//! Adam (Kingma & Ba, ICLR 2015, algorithm 1) with gradient clipping by the global norm, in one
//! pass over parameters, gradients and moments.

use crate::cpu::arena::padded;
use crate::cuda::{Array, Launch, Queue, Read, THREADS, Write, int, kernels};
use crate::device::{Buffer, Device};
use crate::error::{Error, Result};
use crate::tape::ParameterLayout;
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

/// The optimiser's state for one block of parameters.
pub struct Adam {
    pub settings: AdamSettings,
    /// First and second moments, in the layout of the parameters.
    pub first: Buffer,
    pub second: Buffer,
    /// Updates made so far.
    pub updates: u64,
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
            Device::Cpu => None,
            Device::Cuda(queue) => Some(Card::new(queue, len, &rates)?),
        };
        Ok(Self { settings, first, second, updates: 0, rates, card })
    }

    /// One update at `rate_factor` times the learning rate, of gradients that were scaled up by `scale`; returns
    /// the global norm of the gradient before clipping. A gradient that is not finite changes nothing: the
    /// caller sees it in the norm.
    pub fn update(
        &mut self,
        parameters: &mut Buffer,
        gradients: &Buffer,
        rate_factor: f64,
        scale: f32,
    ) -> Result<f64> {
        match (parameters, gradients) {
            (Buffer::Cpu(parameters), Buffer::Cpu(gradients)) => {
                Ok(self.update_cpu(parameters.as_mut_slice(), gradients.as_slice(), rate_factor, scale))
            }
            (Buffer::Cuda(queue, parameters), Buffer::Cuda(_, gradients)) => {
                self.update_cuda(queue, parameters.write(), gradients.read(), rate_factor, scale)
            }
            _ => Err(elsewhere()),
        }
    }

    /// (learning rate over its bias correction, reciprocal root of the second one's) of update `updates`.
    fn rates_now(&self, rate_factor: f64) -> (f32, f32) {
        let (settings, t) = (&self.settings, self.updates as f64);
        let rate = settings.learning_rate * rate_factor / (1.0 - settings.beta1.powf(t));
        (rate as f32, (1.0 / (1.0 - settings.beta2.powf(t)).sqrt()) as f32)
    }

    /// The norm is the only thing that is waited for.
    fn update_cuda(
        &mut self,
        queue: &Queue,
        parameters: Write<f32>,
        gradients: Read<f32>,
        rate_factor: f64,
        scale: f32,
    ) -> Result<f64> {
        let (Some(card), Buffer::Cuda(_, first), Buffer::Cuda(_, second)) =
            (&self.card, &self.first, &self.second)
        else {
            return Err(elsewhere());
        };
        let (n, blocks) = (int(parameters.len)?, card.partial.len());
        let (partial, norm) = (card.partial.write(), card.norm.write());
        kernels::adam::norm_partial(queue, Launch::blocks(blocks, THREADS), gradients, partial, n)?;
        kernels::adam::norm(
            queue,
            Launch::blocks(1, THREADS),
            partial.into(),
            norm,
            int(blocks)?,
            1.0 / scale,
        )?;
        self.updates += 1;
        let (rate, second_correction) = self.rates_now(rate_factor);
        let s = &self.settings;
        kernels::adam::update(
            queue,
            Launch::items(parameters.len, THREADS),
            parameters,
            gradients,
            first.write(),
            second.write(),
            norm.into(),
            card.ends.read(),
            card.factors.read(),
            int(self.rates.len())?,
            n,
            rate,
            s.beta1 as f32,
            s.beta2 as f32,
            second_correction,
            s.epsilon as f32,
            s.clip_norm,
            1.0 / scale,
        )?;
        let mut found = [0.0];
        queue.download(norm, &mut found)?;
        if !found[0].is_finite() {
            self.updates -= 1;
        }
        Ok(found[0])
    }

    fn update_cpu(&mut self, parameters: &mut [f32], gradients: &[f32], rate_factor: f64, scale: f32) -> f64 {
        let norm = global_norm(gradients) / f64::from(scale);
        if !norm.is_finite() {
            return norm;
        }
        self.updates += 1;
        let (rate, second_correction) = self.rates_now(rate_factor);
        let settings = &self.settings;
        let clipped = settings.clip_norm > 0.0 && norm > settings.clip_norm;
        let scale = if clipped { (settings.clip_norm / norm) as f32 } else { 1.0 } / scale;
        let (beta1, beta2) = (settings.beta1 as f32, settings.beta2 as f32);
        let epsilon = settings.epsilon as f32;
        let (Buffer::Cpu(first), Buffer::Cpu(second)) = (&mut self.first, &mut self.second) else {
            return norm;
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
            p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(moments).for_each(|((p, g), (m, v))| {
                for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                    let g = scale * g;
                    *m += (1.0 - beta1) * (g - *m);
                    *v += (1.0 - beta2) * (g * g - *v);
                    *p -= rate * *m / (v.sqrt() * second_correction + epsilon);
                }
            });
        }
        norm
    }
}

/// What the kernels need beside the moments.
struct Card {
    /// Sums of squares.
    partial: Array<f64>,
    norm: Array<f64>,
    ends: Array<i32>,
    factors: Array<f32>,
}

/// Values of a partial sum of the kernel.
const CUDA_CHUNK: usize = 256 * 16;

impl Card {
    fn new(queue: &Queue, len: usize, rates: &[(usize, f32)]) -> Result<Self> {
        let ends = rates.iter().map(|&(end, _)| int(end)).collect::<Result<Vec<_>>>()?;
        let factors: Vec<f32> = rates.iter().map(|&(_, factor)| factor).collect();
        Ok(Self {
            partial: queue.array(len.div_ceil(CUDA_CHUNK), "sums of Adam")?,
            norm: queue.array(1, "the gradient's norm")?,
            ends: queue.array_from(&ends, "Adam's stretches")?,
            factors: queue.array_from(&factors, "Adam's rates")?,
        })
    }
}

fn elsewhere() -> Error {
    Error::new("Adam", "its moments are on another device", "this is a defect: please report it")
}

fn global_norm(gradients: &[f32]) -> f64 {
    let partial: Vec<f64> = gradients
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut lanes = [0.0f64; 8];
            for group in chunk.chunks(8) {
                group.iter().zip(&mut lanes).for_each(|(g, lane)| *lane += f64::from(*g) * f64::from(*g));
            }
            lanes.iter().sum()
        })
        .collect();
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
            adam.update_cpu(&mut parameters, gradient, 1.0, 1.0);
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
        assert!(!adam.update_cpu(&mut parameters, &[f32::NAN; 16], 1.0, 1.0).is_finite());
        assert_eq!((parameters, adam.updates), ([1.0; 16], 0));
    }
}
