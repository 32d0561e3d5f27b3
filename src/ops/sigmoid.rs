//! y = 1 / (1 + e^-x): logits to probabilities.

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::{math, simd};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Of an array of any shape.
#[derive(Clone, Debug)]
pub struct Sigmoid;

impl Op for Sigmoid {
    fn name(&self) -> &'static str {
        "sigmoid"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x] => Ok(*x),
            _ => {
                let problem = format!("expected 1 input, found {}", inputs.len());
                Err(Error::new("sigmoid", problem, "pass one array"))
            }
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    /// Backward reads the input, not the output: near 1 that has lost the digits of its distance from it.
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
        inputs[0].values.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let chunks = call.inputs[0].values.par_chunks(ELEMENTWISE_CHUNK);
        call.output.par_chunks_mut(ELEMENTWISE_CHUNK).zip(chunks).for_each(|(y, x)| {
            simd::dispatch(|| y.iter_mut().zip(x).for_each(|(y, x)| *y = math::sigmoids(*x).0));
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let Some(dx) = &mut call.gradients[0] else { return };
        let add = dx.add;
        let x = call.inputs[0].values.par_chunks(ELEMENTWISE_CHUNK);
        let dy = call.output_gradient.par_chunks(ELEMENTWISE_CHUNK);
        dx.values.par_chunks_mut(ELEMENTWISE_CHUNK).zip(x.zip(dy)).for_each(|(dx, (x, dy))| {
            simd::dispatch(|| {
                for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                    let (up, down) = math::sigmoids(*x);
                    let slope = dy * (up * down);
                    *dx = if add { *dx + slope } else { slope };
                }
            });
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let x = call.inputs[0].values.wide();
        let launch = Launch::items(x.len, THREADS);
        kernels::sigmoid::forward(call.queue, launch, x, call.output.wide(), int(x.len)?)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let (x, dy) = (call.inputs[0].values.wide(), call.output_gradient.wide());
        let launch = Launch::items(x.len, THREADS);
        kernels::sigmoid::backward(call.queue, launch, x, dy, dx.values.wide(), int(x.len)?, dx.add())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize], scale: f32| Case {
            name: name.into(),
            op: Box::new(Sigmoid),
            inputs: vec![CaseInput { shape: Shape::new(extents), fill: Fill::Normal { scale } }],
            terms: 1,
        };
        vec![
            case("one value", &[1], 1.0),
            case("odd", &[2, 3, 5, 7], 1.0),
            case("most are certain", &[6, 9, 9, 1], 20.0),
        ]
    }
}
