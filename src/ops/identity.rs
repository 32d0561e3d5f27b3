//! y = x: the template for a new op.

use super::cuda;
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle};
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
        Memory::default()
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
        let x = call.inputs[0].values;
        let launch = Launch::items(x.len, THREADS);
        kernels::identity::forward(call.queue, launch, x, call.output, int(x.len)?)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let dy = call.output_gradient;
        let launch = Launch::items(dy.len, THREADS);
        kernels::identity::backward(call.queue, launch, dy, dx.values, int(dy.len)?, dx.add())
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
