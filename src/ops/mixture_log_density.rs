//! ln p(z) under a mixture of K Gaussians with diagonal covariances: ln of the sum of p_k N(z; mean_k, exp(log_variance_k)), p the
//! softmax of the logits, mean over the meshes of a batch. The half of a divergence by Monte Carlo that belongs to a learned
//! prior: components that are parameters, or posteriors of learned pseudo-inputs (Tomczak and Welling, "VAE with a VampPrior",
//! AISTATS 2018, equation 9).

use super::cuda;
use super::gaussian_log_density::LOG_TAU;
use super::gaussian_sample::clamped;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::{math, simd};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: z of `meshes` = B meshes, `[B*images, ...]`; means and log-variances `[K*images, ...]`; logits `[K]`. Output: a scalar,
/// nats.
#[derive(Clone, Debug)]
pub struct MixtureLogDensity {
    pub meshes: usize,
}

/// Dimensions that a component's terms are added up over in f32 at a time, before f64.
const LINE: usize = 64;

impl MixtureLogDensity {
    /// Writes p_k N(z_b; ...) in nats for every mesh and component.
    fn densities(&self, z: &[f32], mean: &[f32], log_variance: &[f32], into: &mut [f32]) {
        let n = z.len() / self.meshes;
        let components = into.len() / self.meshes;
        into.par_iter_mut().enumerate().for_each(|(index, density)| {
            let (z, k) = (&z[index / components * n..][..n], index % components);
            let (mean, log_variance) = (&mean[k * n..][..n], &log_variance[k * n..][..n]);
            *density = (-0.5 * simd::dispatch(|| squares(z, mean, log_variance))) as f32;
        });
    }
}

/// The sum over dimensions of (z - mean)^2 / variance + log_variance + ln(2 pi).
#[inline(always)]
fn squares(z: &[f32], mean: &[f32], log_variance: &[f32]) -> f64 {
    let lines = z.chunks(LINE).zip(mean.chunks(LINE).zip(log_variance.chunks(LINE)));
    let line = |(z, (mean, log_variance)): (&[f32], (&[f32], &[f32]))| -> f64 {
        let mut sum = 0.0;
        for ((z, mean), l) in z.iter().zip(mean).zip(log_variance) {
            let (d, l) = (z - mean, clamped(*l).0);
            sum += d * d * math::exp(-l) + (l + LOG_TAU);
        }
        f64::from(sum)
    };
    lines.map(line).sum()
}

/// ln of the sum of the exponentials.
fn log_sum(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let most = values.clone().fold(f32::NEG_INFINITY, |most, x| if x > most { x } else { most });
    most + values.map(|x| (x - most).exp()).sum::<f32>().ln()
}

impl Op for MixtureLogDensity {
    fn name(&self) -> &'static str {
        "mixture_log_density"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fits = match inputs {
            [z, mean, log_variance, logits] => {
                self.meshes > 0
                    && z.len().is_multiple_of(self.meshes)
                    && mean == log_variance
                    && !logits.is_empty()
                    && mean.len() == logits.len() * (z.len() / self.meshes)
            }
            _ => false,
        };
        fits.then(Shape::scalar).ok_or_else(|| {
            let problem = format!(
                "expected z of {} meshes, means, log-variances, logits, found {inputs:?}",
                self.meshes
            );
            Error::new("mixture_log_density", problem, "match them")
        })
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, inputs: &[Shape]) -> Memory {
        // The share of each component in the density of each mesh.
        let shares = self.meshes * inputs[3].len();
        Memory { saved: shares, backward_inputs: vec![0, 1, 2, 3], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let [z, mean, log_variance, logits] = [0, 1, 2, 3].map(|i| &inputs[i].values);
        let n = z.len() / self.meshes;
        let all: f64 = logits.iter().map(|x| x.exp()).sum();
        let mut sum = 0.0;
        for z in z.chunks(n) {
            let joint = |k: usize| {
                let mut density = (logits[k].exp() / all).ln();
                for d in 0..n {
                    let variance = log_variance[k * n + d].clamp(-30.0, 20.0).exp();
                    density -= 0.5 * (z[d] - mean[k * n + d]).powi(2) / variance;
                    density -= 0.5 * (std::f64::consts::TAU * variance).ln();
                }
                density
            };
            let joints: Vec<f64> = (0..logits.len()).map(joint).collect();
            let most = joints.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            sum += most + joints.iter().map(|joint| (joint - most).exp()).sum::<f64>().ln();
        }
        vec![sum / self.meshes as f64]
    }

    fn forward_cpu(&self, call: Forward) {
        let [z, mean, log_variance, logits] = [0, 1, 2, 3].map(|i| call.inputs[i].values);
        self.densities(z, mean, log_variance, call.saved);
        let norm = log_sum(logits.iter().copied());
        let mut sum = 0.0;
        for row in call.saved.chunks_mut(logits.len()) {
            row.iter_mut().zip(logits).for_each(|(density, logit)| *density += logit);
            let all = log_sum(row.iter().copied());
            sum += all - norm;
            row.iter_mut().for_each(|density| *density = (*density - all).exp());
        }
        call.output[0] = sum / self.meshes as f32;
    }

    fn backward_cpu(&self, mut call: Backward) {
        let [z, mean, log_variance, logits] = [0, 1, 2, 3].map(|i| call.inputs[i].values);
        let (n, components, shares) = (z.len() / self.meshes, logits.len(), call.saved);
        let scale = call.output_gradient[0] / self.meshes as f32;
        if let Some(dz) = &mut call.gradients[0] {
            dz.store(|at| {
                let (b, d) = (at / n, at % n);
                let pull = |k: usize| {
                    let c = k * n + d;
                    shares[b * components + k] * (mean[c] - z[at]) * math::exp(-clamped(log_variance[c]).0)
                };
                scale * (0..components).map(pull).sum::<f32>()
            });
        }
        let over_meshes = |c: usize, of: fn(f32, f32) -> f32| {
            let (k, d, inverse) = (c / n, c % n, math::exp(-clamped(log_variance[c]).0));
            let term = |b: usize| shares[b * components + k] * of(z[b * n + d] - mean[c], inverse);
            scale * (0..self.meshes).map(term).sum::<f32>()
        };
        if let Some(gradient) = &mut call.gradients[1] {
            gradient.store(|c| over_meshes(c, |d, inverse| d * inverse));
        }
        if let Some(gradient) = &mut call.gradients[2] {
            gradient.store(|c| match clamped(log_variance[c]).1 {
                true => over_meshes(c, |d, inverse| 0.5 * (d * d * inverse - 1.0)),
                false => 0.0,
            });
        }
        if let Some(gradient) = &mut call.gradients[3] {
            let norm = log_sum(logits.iter().copied());
            gradient.store(|k| {
                let share: f32 = (0..self.meshes).map(|b| shares[b * components + k]).sum();
                scale * (share - self.meshes as f32 * (logits[k] - norm).exp())
            });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [z, mean, log_variance, logits] = [0, 1, 2, 3].map(|i| call.inputs[i].values.wide());
        let (n, queue) = (int(z.len / self.meshes)?, call.queue);
        let launch = Launch::blocks(logits.len, THREADS).over(self.meshes, 1);
        let saved = call.saved;
        kernels::mixture_log_density::forward_component(queue, launch, z, mean, log_variance, saved, n)?;
        let (components, meshes, y) = (int(logits.len)?, int(self.meshes)?, call.output.wide());
        let launch = Launch::blocks(1, 1);
        kernels::mixture_log_density::forward(queue, launch, logits, saved, y, components, meshes)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let [z, mean, log_variance, logits] = [0, 1, 2, 3].map(|i| call.inputs[i].values.wide());
        let (values, queue, shares) = (z.len / self.meshes, call.queue, call.saved);
        let (n, dy) = (int(values)?, call.output_gradient.wide());
        let (components, meshes) = (int(logits.len)?, int(self.meshes)?);
        let launch = |y: usize| Launch::items(values, THREADS).over(y, 1);
        for (index, gradient) in call.gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let (into, add) = (gradient.values.wide(), gradient.add());
            match index {
                0 => kernels::mixture_log_density::backward_dz(
                    queue,
                    launch(self.meshes),
                    z,
                    mean,
                    log_variance,
                    shares,
                    dy,
                    into,
                    n,
                    components,
                    add,
                )?,
                1 | 2 => kernels::mixture_log_density::backward_component(
                    queue,
                    launch(logits.len),
                    z,
                    mean,
                    log_variance,
                    shares,
                    dy,
                    into,
                    n,
                    meshes,
                    i32::from(index == 2),
                    add,
                )?,
                _ => kernels::mixture_log_density::backward_logits(
                    queue,
                    Launch::blocks(1, 1),
                    logits,
                    shares,
                    dy,
                    into,
                    components,
                    meshes,
                    add,
                )?,
            }
        }
        Ok(())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, meshes: usize, components: usize, n: usize, low: f32| {
            let fill = Fill::Uniform { low, high: 1.5 };
            let spread = |rows: usize| [rows, n];
            Case {
                name: name.into(),
                op: Box::new(MixtureLogDensity { meshes }),
                inputs: vec![
                    CaseInput::normal(&spread(meshes)),
                    CaseInput { shape: Shape::new(&spread(components)), fill: Fill::Normal { scale: 0.3 } },
                    CaseInput { shape: Shape::new(&spread(components)), fill },
                    CaseInput::normal(&[components]),
                ],
                // A share is the exponential of a sum, and errs by as much of itself as that sum in all.
                terms: 16 * n * components,
            }
        };
        vec![
            case("one value", 1, 2, 1, -0.5),
            case("three meshes", 3, 5, 7, -0.5),
            case("more than a line", 2, 3, 301, 1.0),
        ]
    }
}
