//! y[..., c] = x[..., c] + exp(log_step_c) noise: what rounding to whole steps does to a latent, as noise that has a gradient
//! (Balle et al., "End-to-end optimized image compression", ICLR 2017, section 3), a learned step for each channel.

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Gradient, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Where logarithms of steps and scales are clamped as they are read, on both sides of 0; beyond, their gradient is 0. Exponentials
/// and their quotients stay finite there, and no latent comes near them: exp(-20) is 2e-9.
pub(super) const MOST_LOG_WIDTH: f32 = 20.0;

/// Threads of a kernel that adds up channels, 32 of them a block, as kernels/channels.cuh has it.
pub(super) const CHANNEL_THREADS: u32 = 512;
pub(super) const BLOCK_CHANNELS: usize = 32;

/// Inputs: x `[..., C]`; log-steps `[C]`; noise of the shape of x, evenly in (-1/2, 1/2), which carries no gradient. The output has
/// the shape of x.
#[derive(Clone, Debug)]
pub struct QuantisationNoise;

/// exp of the logarithm of a width as ops read it, and whether a gradient reaches it. Not a number stays one.
pub(super) fn width(log: f32) -> (f32, bool) {
    let range = -MOST_LOG_WIDTH..=MOST_LOG_WIDTH;
    (log.clamp(*range.start(), *range.end()).exp(), range.contains(&log))
}

/// Writes or adds `value(channel)`, a sum over all pixels, at every channel.
pub(super) fn store_sums(gradient: &mut Gradient, value: impl Fn(usize) -> f64 + Sync) {
    let add = gradient.add;
    gradient.values.par_iter_mut().enumerate().for_each(|(channel, slot)| {
        let value = value(channel) as f32;
        *slot = if add { *slot + value } else { value };
    });
}

impl Op for QuantisationNoise {
    fn name(&self) -> &'static str {
        "quantisation_noise"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x, log_step, noise]
                if x == noise && !x.is_empty() && x.extents().last() == Some(&log_step.len()) =>
            {
                Ok(*x)
            }
            _ => Err(Error::new(
                "quantisation_noise",
                format!("expected [..., C], [C] and noise of the first shape, found {inputs:?}"),
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
        let [x, log_step, noise] = [0, 1, 2].map(|i| &inputs[i].values);
        let step = |i: usize| log_step[i % log_step.len()].clamp(-20.0, 20.0).exp();
        (0..x.len()).map(|i| x[i] + step(i) * noise[i]).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, log_step, noise] = [0, 1, 2].map(|i| call.inputs[i].values);
        let steps: Vec<f32> = log_step.iter().map(|&log| width(log).0).collect();
        let pixels = x.par_chunks(steps.len()).zip(noise.par_chunks(steps.len()));
        call.output.par_chunks_mut(steps.len()).zip(pixels).with_min_len(64).for_each(|(y, (x, noise))| {
            for (((y, x), noise), step) in y.iter_mut().zip(x).zip(noise).zip(&steps) {
                *y = x + step * noise;
            }
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let cotangent = call.output_gradient;
        if let Some(dx) = &mut call.gradients[0] {
            dx.store_slice(cotangent);
        }
        let (log_step, noise) = (call.inputs[1].values, call.inputs[2].values);
        if let Some(gradient) = &mut call.gradients[1] {
            store_sums(gradient, |channel| match width(log_step[channel]) {
                (step, true) => {
                    let [noise, cotangent] =
                        [noise, cotangent].map(|values| values[channel..].iter().step_by(log_step.len()));
                    f64::from(step) * noise.zip(cotangent).map(|(u, dy)| f64::from(u * dy)).sum::<f64>()
                }
                (_, false) => 0.0,
            });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, log_step, noise] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let (launch, n, channels) = (Launch::items(x.len, THREADS), int(x.len)?, int(log_step.len)?);
        let y = call.output.wide();
        kernels::quantisation_noise::forward(call.queue, launch, x, log_step, noise, y, n, channels)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        if let Some(x) = call.gradients[0] {
            cuda::pass(call.queue, call.output_gradient, x.values, x.add())?;
        }
        let Some(gradient) = call.gradients[1] else { return Ok(()) };
        let (log_step, noise) = (call.inputs[1].values.wide(), call.inputs[2].values.wide());
        let (pixels, channels) = (int(noise.len / log_step.len)?, int(log_step.len)?);
        kernels::quantisation_noise::backward(
            call.queue,
            Launch::blocks(log_step.len.div_ceil(BLOCK_CHANNELS), CHANNEL_THREADS),
            log_step,
            noise,
            call.output_gradient.wide(),
            gradient.values.wide(),
            pixels,
            channels,
            gradient.add(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize], low: f32, high: f32| {
            let uniform = |extents: &[usize], low, high| CaseInput {
                shape: Shape::new(extents),
                fill: Fill::Uniform { low, high },
            };
            let channels = extents[extents.len() - 1];
            Case {
                name: name.into(),
                op: Box::new(QuantisationNoise),
                inputs: vec![
                    CaseInput::normal(extents),
                    uniform(&[channels], low, high),
                    uniform(extents, -0.5, 0.5),
                ],
                terms: extents.iter().product::<usize>() / channels,
            }
        };
        vec![
            case("one value", &[1], -1.0, 1.0),
            case("odd", &[4, 3, 5, 37], -3.0, 1.0),
            case("many pixels", &[6, 9, 9, 2], -1.0, 1.0),
            // Some below the range. Above it exp(20) would leave the differences of the check no digits.
            case("clamped", &[5, 64], -30.0, 1.0),
        ]
    }
}
