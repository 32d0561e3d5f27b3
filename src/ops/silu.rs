//! y = x sigmoid(x).

use super::cuda::{self, Target, bf16};
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::{math, simd};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

#[derive(Clone, Debug)]
pub struct Silu;

impl Op for Silu {
    fn name(&self) -> &'static str {
        "silu"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x] => Ok(*x),
            _ => {
                Err(Error::new("silu", format!("expected 1 input, found {}", inputs.len()), "pass one array"))
            }
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { backward_inputs: vec![0], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Alike(1)
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        inputs[0].values.iter().map(|x| x / (1.0 + (-x).exp())).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let chunks = call.inputs[0].values.par_chunks(ELEMENTWISE_CHUNK);
        call.output.par_chunks_mut(ELEMENTWISE_CHUNK).zip(chunks).for_each(|(y, x)| {
            simd::dispatch(|| y.iter_mut().zip(x).for_each(|(y, x)| *y = math::silu(*x)));
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
                    let slope = dy * math::silu_slope(*x);
                    *dx = if add { *dx + slope } else { slope };
                }
            });
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (queue, x) = (call.queue, call.inputs[0].values);
        let (launch, n) = (Launch::items(x.len(), THREADS), int(x.len())?);
        match call.output {
            Target::Wide(y) => kernels::silu::forward(queue, launch, x.wide(), y, n),
            Target::Narrow(y) => kernels::silu::forward_narrow(queue, launch, x.narrow(), y, n, bf16(queue)),
        }
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let (queue, x, dy) = (call.queue, call.inputs[0].values, call.output_gradient);
        let (launch, n, add) = (Launch::items(x.len(), THREADS), int(x.len())?, dx.add());
        match dx.values {
            Target::Wide(dx) => kernels::silu::backward(queue, launch, x.wide(), dy.wide(), dx, n, add),
            Target::Narrow(dx) => kernels::silu::backward_narrow(
                queue,
                launch,
                x.narrow(),
                dy.narrow(),
                dx,
                n,
                add,
                bf16(queue),
            ),
        }
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(Silu),
            inputs: vec![CaseInput::normal(extents)],
            terms: 1,
        };
        vec![case("one value", &[1]), case("odd", &[2, 3, 5, 7])]
    }
}
