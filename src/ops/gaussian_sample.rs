//! z = mean + exp(log_variance / 2) noise: a sample of a Gaussian whose gradient reaches its parameters (Kingma and Welling,
//! "Auto-encoding variational Bayes", ICLR 2014, section 2.4).

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::{math, simd};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Where log-variances are clamped as they are read; beyond, their gradient is 0. exp(20 / 2) is 22,026, exp(-30 / 2)
/// 3e-7: no more than a rounding of a mean of 1.
pub const LEAST_LOG_VARIANCE: f32 = -30.0;
pub const MOST_LOG_VARIANCE: f32 = 20.0;

/// Inputs: mean, log-variance and noise of one shape, which the output has. The noise carries no gradient.
#[derive(Clone, Debug)]
pub struct GaussianSample;

/// The log-variance as ops read it, and whether a gradient reaches it. Not a number stays one.
pub(super) fn clamped(x: f32) -> (f32, bool) {
    let range = LEAST_LOG_VARIANCE..=MOST_LOG_VARIANCE;
    (x.clamp(*range.start(), *range.end()), range.contains(&x))
}

impl Op for GaussianSample {
    fn name(&self) -> &'static str {
        "gaussian_sample"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [mean, log_variance, noise] if mean == log_variance && mean == noise => Ok(*mean),
            _ => Err(Error::new(
                "gaussian_sample",
                format!("expected three equal shapes, found {inputs:?}"),
                "match them",
            )),
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index < 2
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { backward_inputs: vec![1, 2], passed_on: vec![0], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let [mean, log_variance, noise] = [0, 1, 2].map(|i| &inputs[i].values);
        let sample = |i: usize| mean[i] + log_variance[i].clamp(-30.0, 20.0).exp().sqrt() * noise[i];
        (0..mean.len()).map(sample).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let [mean, log_variance, noise] =
            [0, 1, 2].map(|i| call.inputs[i].values.par_chunks(ELEMENTWISE_CHUNK));
        let chunks = call.output.par_chunks_mut(ELEMENTWISE_CHUNK).zip(mean.zip(log_variance).zip(noise));
        chunks.for_each(|(z, ((mean, log_variance), noise))| {
            simd::dispatch(|| {
                for (((z, mean), log_variance), noise) in z.iter_mut().zip(mean).zip(log_variance).zip(noise)
                {
                    *z = mean + math::exp(0.5 * clamped(*log_variance).0) * noise;
                }
            });
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let cotangent = call.output_gradient;
        if let Some(mean) = &mut call.gradients[0] {
            mean.store_slice(cotangent);
        }
        let (log_variance, noise) = (call.inputs[1].values, call.inputs[2].values);
        if let Some(gradient) = &mut call.gradients[1] {
            gradient.store(|i| match clamped(log_variance[i]) {
                (log_variance, true) => 0.5 * math::exp(0.5 * log_variance) * noise[i] * cotangent[i],
                (_, false) => 0.0,
            });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [mean, log_variance, noise] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let (launch, n) = (Launch::items(mean.len, THREADS), int(mean.len)?);
        kernels::gaussian_sample::forward(
            call.queue,
            launch,
            mean,
            log_variance,
            noise,
            call.output.wide(),
            n,
        )
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        if let Some(mean) = call.gradients[0] {
            cuda::pass(call.queue, call.output_gradient, mean.values, mean.add())?;
        }
        let Some(gradient) = call.gradients[1] else { return Ok(()) };
        let (log_variance, noise) = (call.inputs[1].values.wide(), call.inputs[2].values.wide());
        let (launch, n) = (Launch::items(noise.len, THREADS), int(noise.len)?);
        let (dz, into) = (call.output_gradient.wide(), gradient.values.wide());
        kernels::gaussian_sample::backward(
            call.queue,
            launch,
            log_variance,
            noise,
            dz,
            into,
            n,
            gradient.add(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize], low: f32, high: f32| {
            let normal = CaseInput::normal(extents);
            let log_variance = CaseInput { shape: Shape::new(extents), fill: Fill::Uniform { low, high } };
            Case {
                name: name.into(),
                op: Box::new(GaussianSample),
                inputs: vec![normal.clone(), log_variance, normal],
                terms: 1,
            }
        };
        vec![
            case("one value", &[1], -1.0, 1.0),
            case("odd", &[2, 3, 5, 7], -4.0, 2.0),
            // Some beyond the lower end and some beyond the upper one.
            case("clamped", &[3, 67], -45.0, 35.0),
        ]
    }
}
