//! The negative logarithm of a Gaussian likelihood whose deviation is the best one for the squared error at hand
//! (Rybkin, Daniilidis and Levine, "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021), in nats a
//! value: y = (ln s^2 + m / s^2) / 2 + offset with s^2 = max(m, floor^2) and m the mean squared error.

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// Input and output: a scalar.
#[derive(Clone, Debug)]
pub struct OptimalSigma {
    /// The least deviation; positive. Without it the density, and with it the gradient, has no bound.
    pub floor: f32,
    /// What does not depend on the error: (ln 2 pi) / 2, less half the mean logarithm of the weights of the error.
    pub offset: f32,
}

impl OptimalSigma {
    /// Not a number stays one.
    fn variance(&self, error: f32) -> f32 {
        let least = self.floor * self.floor;
        if error < least { least } else { error }
    }
}

impl Op for OptimalSigma {
    fn name(&self) -> &'static str {
        "optimal_sigma"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [error] if error.len() == 1 => Ok(Shape::scalar()),
            _ => {
                let problem = format!("expected one scalar, found {inputs:?}");
                Err(Error::new("optimal_sigma", problem, "pass a mean squared error"))
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
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let error = inputs[0].values[0];
        let variance = error.max(f64::from(self.floor).powi(2));
        vec![0.5 * (variance.ln() + error / variance) + f64::from(self.offset)]
    }

    fn forward_cpu(&self, call: Forward) {
        let error = call.inputs[0].values[0];
        let variance = self.variance(error);
        call.output[0] = 0.5 * (variance.ln() + error / variance) + self.offset;
    }

    /// The deviation is the best one, or constant: in neither case does a change of it count to first order.
    fn backward_cpu(&self, mut call: Backward) {
        let slope = 0.5 * call.output_gradient[0] / self.variance(call.inputs[0].values[0]);
        if let Some(gradient) = &mut call.gradients[0] {
            gradient.store(|_| slope);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (launch, error, y) = (Launch::blocks(1, 1), call.inputs[0].values.wide(), call.output.wide());
        kernels::optimal_sigma::forward(call.queue, launch, error, y, self.floor * self.floor, self.offset)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(gradient) = call.gradients[0] else { return Ok(()) };
        let (launch, error, dy) =
            (Launch::blocks(1, 1), call.inputs[0].values.wide(), call.output_gradient.wide());
        let (into, least) = (gradient.values.wide(), self.floor * self.floor);
        kernels::optimal_sigma::backward(call.queue, launch, error, dy, into, least, gradient.add())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, floor: f32, offset: f32, [low, high]: [f32; 2]| Case {
            name: name.into(),
            op: Box::new(OptimalSigma { floor, offset }),
            inputs: vec![CaseInput { shape: Shape::scalar(), fill: Fill::Uniform { low, high } }],
            terms: 1,
        };
        vec![
            case("above the floor", 1e-3, 0.0, [1e-3, 2e-2]),
            case("below the floor", 0.25, 0.92, [0.0, 0.05]),
            case("above one", 0.1, -3.5, [2.0, 8.0]),
        ]
    }
}
