//! y = a + b for two arrays of one shape.

use super::cuda::{self, Target, bf16};
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

#[derive(Clone, Debug)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [a, b] if a == b => Ok(*a),
            _ => Err(Error::new("add", format!("expected two equal shapes, found {inputs:?}"), "match them")),
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { passed_on: vec![0, 1], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Alike(2)
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        inputs[0].values.iter().zip(&inputs[1].values).map(|(a, b)| a + b).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let (a, b) = (call.inputs[0].values, call.inputs[1].values);
        call.output.par_chunks_mut(ELEMENTWISE_CHUNK).enumerate().for_each(|(chunk, out)| {
            let start = chunk * ELEMENTWISE_CHUNK;
            let (a, b) = (&a[start..][..out.len()], &b[start..][..out.len()]);
            out.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = a + b);
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let cotangent = call.output_gradient;
        for gradient in call.gradients.iter_mut().flatten() {
            gradient.store_slice(cotangent);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [a, b] = [0, 1].map(|i| call.inputs[i].values);
        let (queue, launch, n) = (call.queue, Launch::items(a.len(), THREADS), int(a.len())?);
        match call.output {
            Target::Wide(y) => kernels::add::forward(queue, launch, a.wide(), b.wide(), y, n),
            Target::Narrow(y) => {
                kernels::add::forward_narrow(queue, launch, a.narrow(), b.narrow(), y, n, bf16(queue))
            }
        }
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let dy = call.output_gradient;
        call.gradients.iter().flatten().try_for_each(|dx| cuda::pass(call.queue, dy, dx.values, dx.add()))
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(Add),
            inputs: vec![CaseInput::normal(extents), CaseInput::normal(extents)],
            terms: 2,
        };
        vec![case("one value", &[1]), case("odd", &[2, 3, 5, 7])]
    }
}
