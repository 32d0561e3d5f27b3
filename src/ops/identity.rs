//! y = x: the template for a new op.

use super::cuda::{self, Target, bf16};
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub struct Identity;

impl Op for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x] => Ok(*x),
            _ => Err(Error::new(
                "identity",
                format!("expected 1 input, found {}", inputs.len()),
                "pass one array",
            )),
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { passed_on: vec![0], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Alike(1)
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        inputs[0].values.clone()
    }

    fn forward_cpu(&self, call: Forward) {
        call.output.copy_from_slice(call.inputs[0].values);
    }

    fn backward_cpu(&self, mut call: Backward) {
        let cotangent = call.output_gradient;
        if let Some(dx) = &mut call.gradients[0] {
            dx.store_slice(cotangent);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (queue, x) = (call.queue, call.inputs[0].values);
        let (launch, n) = (Launch::items(x.len(), THREADS), int(x.len())?);
        match call.output {
            Target::Wide(y) => kernels::identity::forward(queue, launch, x.wide(), y, n),
            Target::Narrow(y) => {
                kernels::identity::forward_narrow(queue, launch, x.narrow(), y, n, bf16(queue))
            }
        }
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        cuda::pass(call.queue, call.output_gradient, dx.values, dx.add())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(Identity),
            inputs: vec![CaseInput::normal(extents)],
            terms: 1,
        };
        vec![case("one value", &[1]), case("odd", &[2, 3, 5, 7])]
    }
}
