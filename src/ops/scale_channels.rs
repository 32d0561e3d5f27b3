//! y[..., c] = s_c x[..., c]: fixed factors, which give each channel its own unit.

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Input x `[..., C]` for C factors; the output has its shape.
#[derive(Clone, Debug)]
pub struct ScaleChannels {
    pub factors: Vec<f32>,
}

/// Channels there may be: those of a hexplane.
const MOST_CHANNELS: usize = 4;

impl ScaleChannels {
    /// The factors as kernels take them.
    fn four(&self) -> [f32; MOST_CHANNELS] {
        std::array::from_fn(|c| self.factors.get(c).copied().unwrap_or(0.0))
    }
}

impl Op for ScaleChannels {
    fn name(&self) -> &'static str {
        "scale_channels"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x] if x.extents().last() == Some(&self.factors.len()) && self.factors.len() <= MOST_CHANNELS => {
                Ok(*x)
            }
            _ => Err(Error::new(
                "scale_channels",
                format!(
                    "expected one [..., {}] of at most {MOST_CHANNELS} channels, found {inputs:?}",
                    self.factors.len()
                ),
                "give one factor a channel",
            )),
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory::default()
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let factor = |i: usize| f64::from(self.factors[i % self.factors.len()]);
        inputs[0].values.iter().enumerate().map(|(i, x)| factor(i) * x).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let (x, channels) = (call.inputs[0].values, self.factors.len());
        let chunk = (ELEMENTWISE_CHUNK / channels).max(1) * channels;
        call.output.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                y.iter_mut().zip(x).zip(&self.factors).for_each(|((y, x), factor)| *y = factor * x);
            }
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (cotangent, factors) = (call.output_gradient, &self.factors);
        if let Some(dx) = &mut call.gradients[0] {
            dx.store_pixels(factors.len(), [cotangent], |c, [dy]| factors[c] * dy);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (x, [s0, s1, s2, s3]) = (call.inputs[0].values.wide(), self.four());
        let (launch, channels) = (Launch::items(x.len, THREADS), int(self.factors.len())?);
        kernels::scale_channels::forward(
            call.queue,
            launch,
            x,
            call.output.wide(),
            int(x.len)?,
            channels,
            s0,
            s1,
            s2,
            s3,
        )
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let (dy, [s0, s1, s2, s3]) = (call.output_gradient.wide(), self.four());
        let (launch, channels) = (Launch::items(dy.len, THREADS), int(self.factors.len())?);
        let n = int(dy.len)?;
        kernels::scale_channels::backward(
            call.queue,
            launch,
            dy,
            dx.values.wide(),
            n,
            channels,
            s0,
            s1,
            s2,
            s3,
            dx.add(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, factors: &[f32], extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(ScaleChannels { factors: factors.to_vec() }),
            inputs: vec![CaseInput::normal(extents)],
            terms: 1,
        };
        vec![case("one value", &[-2.0], &[1]), case("odd", &[0.5, 3.0, -1.0], &[2, 3, 5, 3])]
    }
}
