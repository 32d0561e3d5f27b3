//! ln q(z) of samples z = mean + exp(log_variance / 2) noise of a Gaussian: minus half the sum over dimensions of noise^2 +
//! log_variance + ln(2 pi), mean over the meshes of a batch. The half of a divergence by Monte Carlo that belongs to the
//! posterior.

use super::cuda;
use super::gaussian_sample::clamped;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Inputs: log-variance and noise of one shape, of `meshes` meshes; the noise carries no gradient. Output: a scalar, nats.
#[derive(Clone, Debug)]
pub struct GaussianLogDensity {
    pub meshes: usize,
}

/// ln(2 pi).
pub(super) const LOG_TAU: f32 = 1.837_877;

impl Op for GaussianLogDensity {
    fn name(&self) -> &'static str {
        "gaussian_log_density"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [log_variance, noise]
                if log_variance == noise && self.meshes > 0 && noise.len().is_multiple_of(self.meshes) =>
            {
                Ok(Shape::scalar())
            }
            _ => Err(Error::new(
                "gaussian_log_density",
                format!("expected two equal shapes of {} meshes, found {inputs:?}", self.meshes),
                "match them",
            )),
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { backward_inputs: vec![0], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let (log_variance, noise) = (&inputs[0].values, &inputs[1].values);
        let density = |i: usize| {
            let deviation = (0.5 * log_variance[i].clamp(-30.0, 20.0)).exp();
            -0.5 * noise[i].powi(2) - (deviation * std::f64::consts::TAU.sqrt()).ln()
        };
        vec![(0..noise.len()).map(density).sum::<f64>() / self.meshes as f64]
    }

    fn forward_cpu(&self, call: Forward) {
        let (log_variance, noise) = (call.inputs[0].values, call.inputs[1].values);
        let pairs = noise.iter().zip(log_variance);
        let sum: f64 = pairs.map(|(e, l)| f64::from(e * e + (clamped(*l).0 + LOG_TAU))).sum();
        call.output[0] = (-0.5 * sum / self.meshes as f64) as f32;
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (log_variance, slope) =
            (call.inputs[0].values, -0.5 * call.output_gradient[0] / self.meshes as f32);
        if let Some(gradient) = &mut call.gradients[0] {
            gradient.store(|i| if clamped(log_variance[i]).1 { slope } else { 0.0 });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [log_variance, noise] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (n, meshes, launch) = (int(noise.len)?, int(self.meshes)?, Launch::blocks(1, THREADS));
        let y = call.output.wide();
        kernels::gaussian_log_density::forward(call.queue, launch, log_variance, noise, y, n, meshes)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(gradient) = call.gradients[0] else { return Ok(()) };
        let (log_variance, dy) = (call.inputs[0].values.wide(), call.output_gradient.wide());
        let (launch, n) = (Launch::items(log_variance.len, THREADS), int(log_variance.len)?);
        let (into, meshes, add) = (gradient.values.wide(), int(self.meshes)?, gradient.add());
        kernels::gaussian_log_density::backward(call.queue, launch, log_variance, dy, into, n, meshes, add)
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, meshes: usize, extents: &[usize], low: f32, high: f32| {
            let log_variance = CaseInput { shape: Shape::new(extents), fill: Fill::Uniform { low, high } };
            Case {
                name: name.into(),
                op: Box::new(GaussianLogDensity { meshes }),
                inputs: vec![log_variance, CaseInput::normal(extents)],
                terms: extents.iter().product(),
            }
        };
        vec![
            case("one value", 1, &[1], -1.0, 1.0),
            case("three meshes", 3, &[6, 3, 5, 7], -4.0, 2.0),
            case("clamped", 2, &[4, 67], -45.0, 35.0),
        ]
    }
}
