//! y = sum_i w_i x_i of scalars: the total loss of its parts.

use super::cuda;
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// As many scalar inputs as weights.
#[derive(Clone, Debug)]
pub struct WeightedSum {
    pub weights: Vec<f32>,
}

impl Op for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fits = inputs.len() == self.weights.len() && inputs.iter().all(|shape| shape.len() == 1);
        fits.then(Shape::scalar).ok_or_else(|| {
            Error::new(
                "weighted_sum",
                format!("expected {} scalars, found {inputs:?}", self.weights.len()),
                "pass one scalar a weight",
            )
        })
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
        vec![inputs.iter().zip(&self.weights).map(|(x, &w)| f64::from(w) * x.values[0]).sum()]
    }

    fn forward_cpu(&self, call: Forward) {
        call.output[0] = call.inputs.iter().zip(&self.weights).map(|(x, w)| w * x.values[0]).sum();
    }

    fn backward_cpu(&self, mut call: Backward) {
        let cotangent = call.output_gradient[0];
        for (gradient, weight) in call.gradients.iter_mut().zip(&self.weights) {
            if let Some(gradient) = gradient {
                gradient.store(|_| weight * cotangent);
            }
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        call.inputs.iter().zip(&self.weights).enumerate().try_for_each(|(i, (x, &weight))| {
            let launch = Launch::blocks(1, 1);
            kernels::weighted_sum::forward(
                call.queue,
                launch,
                x.values.wide(),
                call.output.wide(),
                weight,
                i32::from(i > 0),
            )
        })
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        call.gradients.iter().zip(&self.weights).try_for_each(|(dx, &weight)| {
            let Some(dx) = dx else { return Ok(()) };
            let (launch, dy) = (Launch::blocks(1, 1), call.output_gradient.wide());
            kernels::weighted_sum::backward(call.queue, launch, dy, dx.values.wide(), weight, dx.add())
        })
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, weights: &[f32]| Case {
            name: name.into(),
            op: Box::new(WeightedSum { weights: weights.to_vec() }),
            inputs: vec![CaseInput::normal(&[]); weights.len()],
            terms: weights.len(),
        };
        vec![case("one", &[0.5]), case("three", &[1.0, -0.25, 3.0])]
    }
}
