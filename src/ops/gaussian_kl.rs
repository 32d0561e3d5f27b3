//! KL(N(mean, exp(log_variance)) || N(0, 1)) = (mean^2 + exp(log_variance) - 1 - log_variance) / 2 of every latent dimension,
//! in nats (Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014, appendix B), mean over the meshes of a batch.

use super::cuda;
use super::gaussian_sample::clamped;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: mean and log-variance `[B*images, ...]` of `meshes` = B meshes; the output has the shape of one of them.
#[derive(Clone, Debug)]
pub struct GaussianKl {
    pub meshes: usize,
}

/// The shape of one of `meshes` parts of the first extent.
pub(super) fn of_one(shape: Shape, meshes: usize) -> Option<Shape> {
    let mut extents = shape.extents().to_vec();
    let first = extents.first_mut().filter(|first| meshes > 0 && first.is_multiple_of(meshes))?;
    *first /= meshes;
    Some(Shape::new(&extents))
}

impl Op for GaussianKl {
    fn name(&self) -> &'static str {
        "gaussian_kl"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let shape = match inputs {
            [mean, log_variance] if mean == log_variance => of_one(*mean, self.meshes),
            _ => None,
        };
        shape.ok_or_else(|| {
            Error::new(
                "gaussian_kl",
                format!("expected two equal shapes of {} meshes, found {inputs:?}", self.meshes),
                "match them",
            )
        })
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { backward_inputs: vec![0, 1], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let (mean, log_variance) = (&inputs[0].values, &inputs[1].values);
        let dimensions = mean.len() / self.meshes;
        let mut kl = vec![0.0; dimensions];
        for i in 0..mean.len() {
            let l = log_variance[i].clamp(-30.0, 20.0);
            kl[i % dimensions] += (mean[i].powi(2) + l.exp() - 1.0 - l) / 2.0 / self.meshes as f64;
        }
        kl
    }

    fn forward_cpu(&self, call: Forward) {
        let (mean, log_variance) = (call.inputs[0].values, call.inputs[1].values);
        let (dimensions, half) = (call.output.len(), 0.5 / self.meshes as f32);
        call.output.par_chunks_mut(ELEMENTWISE_CHUNK).enumerate().for_each(|(chunk, kl)| {
            let first = chunk * ELEMENTWISE_CHUNK;
            kl.fill(0.0);
            for start in (0..self.meshes).map(|mesh| mesh * dimensions + first) {
                let values = mean[start..].iter().zip(&log_variance[start..]);
                for (kl, (m, l)) in kl.iter_mut().zip(values) {
                    let l = clamped(*l).0;
                    // Near l = 0 what is left of the exponential is l^2 / 2.
                    *kl += half * (m * m + (l.exp_m1() - l));
                }
            }
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (cotangent, dimensions) = (call.output_gradient, call.output_gradient.len());
        let scale = |i: usize| cotangent[i % dimensions] / self.meshes as f32;
        let (mean, log_variance) = (call.inputs[0].values, call.inputs[1].values);
        if let Some(gradient) = &mut call.gradients[0] {
            gradient.store(|i| scale(i) * mean[i]);
        }
        if let Some(gradient) = &mut call.gradients[1] {
            gradient.store(|i| match clamped(log_variance[i]) {
                (l, true) => scale(i) * 0.5 * l.exp_m1(),
                (_, false) => 0.0,
            });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [mean, log_variance] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (kl, meshes) = (call.output.wide(), int(self.meshes)?);
        let (launch, dimensions) = (Launch::items(kl.len, THREADS), int(kl.len)?);
        int(mean.len)?;
        kernels::gaussian_kl::forward(call.queue, launch, mean, log_variance, kl, dimensions, meshes)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let dkl = call.output_gradient.wide();
        for (index, gradient) in call.gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let values = call.inputs[index].values.wide();
            let (launch, n) = (Launch::items(values.len, THREADS), int(values.len)?);
            let (into, of_log_variance, add) = (gradient.values.wide(), index as i32, gradient.add());
            let dimensions = int(dkl.len)?;
            let queue = call.queue;
            kernels::gaussian_kl::backward(
                queue,
                launch,
                values,
                dkl,
                into,
                n,
                dimensions,
                of_log_variance,
                add,
            )?;
        }
        Ok(())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, meshes: usize, extents: &[usize], low: f32, high: f32| {
            let log_variance = CaseInput { shape: Shape::new(extents), fill: Fill::Uniform { low, high } };
            Case {
                name: name.into(),
                op: Box::new(GaussianKl { meshes }),
                inputs: vec![CaseInput::normal(extents), log_variance],
                terms: meshes,
            }
        };
        vec![
            case("one value", 1, &[1], -1.0, 1.0),
            case("three meshes", 3, &[6, 3, 5, 7], -4.0, 2.0),
            // Some below the range. Above it exp(20) would leave the differences of the check no digits.
            case("clamped", 2, &[4, 67], -45.0, 1.0),
            case("chunks", 2, &[2, 16_400], -3.0, 1.0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::products::Products;
    use crate::ops::{Gradient, Tensor};

    #[test]
    fn no_gradient_reaches_a_log_variance_beyond_its_range() {
        let shape = Shape::new(&[4]);
        let log_variance = [-31.0, -30.0, 20.0, 21.0];
        let mut gradient = [f32::NAN; 4];
        GaussianKl { meshes: 1 }.backward_cpu(Backward {
            products: Products::Fp32,
            inputs: &[Tensor { shape, values: &[0.0; 4] }, Tensor { shape, values: &log_variance }],
            output: &[],
            output_gradient: &[2.0; 4],
            saved: &[],
            workspace: &mut [],
            gradients: vec![None, Some(Gradient { values: &mut gradient, add: false })],
        });
        assert_eq!(gradient, [0.0, (-30.0f32).exp_m1(), 20f32.exp_m1(), 0.0]);
    }
}
