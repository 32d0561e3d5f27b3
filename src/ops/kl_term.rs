//! The part of the loss that a rate has: min(weight R, cap), R the sum or the mean over the latent dimensions of max(lambda,
//! KL_d). The lambda nats that a dimension has for nothing are the free bits of Kingma et al., "Improving variational
//! inference with inverse autoregressive flow", NeurIPS 2016, appendix C.8, each dimension a group of its own.

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// How the terms of a mesh become one number; meshes are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Their sum: nats a mesh.
    Sum,
    /// Their mean: nats a latent dimension or a value of the planes.
    Mean,
}

impl Reduction {
    /// As files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
        }
    }
}

/// Inputs: the divergence of each dimension in nats, mean over the meshes of a batch, and the weight `[1]`, which carries no
/// gradient. Output: a scalar. Above the cap, no gradient flows.
#[derive(Clone, Debug)]
pub struct KlTerm {
    /// Nats a dimension; 0 for none. A divergence by Monte Carlo may be below 0 and counts as it is then.
    pub free_bits: f32,
    pub reduction: Reduction,
    /// Of the weighted sum; infinite for none.
    pub cap: f32,
}

impl KlTerm {
    /// The rate of a mesh in nats, where the weight is 1.
    pub const PLAIN: Self = Self { free_bits: 0.0, reduction: Reduction::Sum, cap: f32::INFINITY };

    fn scale(&self, dimensions: usize) -> f64 {
        match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => 1.0 / dimensions as f64,
        }
    }

    fn free(&self, kl: f32) -> bool {
        self.free_bits > 0.0 && kl < self.free_bits
    }
}

impl Op for KlTerm {
    fn name(&self) -> &'static str {
        "kl_term"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [kl, weight] if !kl.is_empty() && weight.len() == 1 => Ok(Shape::scalar()),
            _ => Err(Error::new(
                "kl_term",
                format!("expected divergences and one weight, found {inputs:?}"),
                "pass both",
            )),
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        // Whether the term is below its cap.
        Memory { saved: 1, backward_inputs: vec![0, 1], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let (kl, weight) = (&inputs[0].values, inputs[1].values[0]);
        let free = f64::from(self.free_bits);
        let mut sum = 0.0;
        for &kl in kl {
            sum += if free > 0.0 { kl.max(free) } else { kl };
        }
        if self.reduction == Reduction::Mean {
            sum /= kl.len() as f64;
        }
        vec![(weight * sum).min(f64::from(self.cap))]
    }

    fn forward_cpu(&self, call: Forward) {
        let (kl, weight) = (call.inputs[0].values, call.inputs[1].values[0]);
        let counted = |&kl: &f32| f64::from(if self.free(kl) { self.free_bits } else { kl });
        let sum: f64 = kl.iter().map(counted).sum();
        let term = weight * (sum * self.scale(kl.len())) as f32;
        // Not a number is not above the cap, and shows in the loss.
        let capped = term > self.cap;
        call.output[0] = if capped { self.cap } else { term };
        call.saved[0] = if capped { 0.0 } else { 1.0 };
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (kl, weight) = (call.inputs[0].values, call.inputs[1].values[0]);
        let slope = weight * self.scale(kl.len()) as f32 * call.output_gradient[0];
        let open = call.saved[0] != 0.0;
        if let Some(gradient) = &mut call.gradients[0] {
            gradient.store(|i| if open && !self.free(kl[i]) { slope } else { 0.0 });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [kl, weight] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (n, scale) = (int(kl.len)?, self.scale(kl.len) as f32);
        kernels::kl_term::forward(
            call.queue,
            Launch::blocks(1, THREADS),
            kl,
            weight,
            call.output.wide(),
            call.saved,
            n,
            self.free_bits,
            scale,
            self.cap,
        )
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(gradient) = call.gradients[0] else { return Ok(()) };
        let [kl, weight] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (n, scale) = (int(kl.len)?, self.scale(kl.len) as f32);
        kernels::kl_term::backward(
            call.queue,
            Launch::items(kl.len, THREADS),
            kl,
            weight,
            call.saved,
            call.output_gradient.wide(),
            gradient.values.wide(),
            n,
            self.free_bits,
            scale,
            gradient.add(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, op: KlTerm, extents: &[usize]| {
            let uniform = |extents: &[usize], low, high| CaseInput {
                shape: Shape::new(extents),
                fill: Fill::Uniform { low, high },
            };
            let inputs = vec![uniform(extents, 0.0, 1.0), uniform(&[1], 0.5, 2.0)];
            Case { name: name.into(), op: Box::new(op), inputs, terms: extents.iter().product() }
        };
        let mean = KlTerm { reduction: Reduction::Mean, ..Self::PLAIN };
        vec![
            case("one dimension", Self::PLAIN, &[1]),
            case("sum", Self::PLAIN, &[6, 3, 5, 7]),
            case("mean with free bits", KlTerm { free_bits: 0.4, ..mean.clone() }, &[2, 301]),
            case("below its cap", KlTerm { cap: 3.0, ..mean }, &[700]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Buffer, Device};
    use crate::tape::{Graph, ParameterLayout, Role, Scale, Tape};

    /// The term of two divergences at a weight, and its gradient.
    fn term(op: KlTerm, kl: [f32; 2], weight: f32) -> (f32, [f32; 2]) {
        let mut layout = ParameterLayout::default();
        layout.add("kl", Shape::new(&[2]), Role::Bias, false, 1.0);
        let mut graph = Graph::default();
        let (of, by) = (graph.parameter(&layout, "kl"), graph.input(Shape::new(&[1])));
        let loss = graph.apply(op, &[of, by]).unwrap();
        let mut tape = Tape::new(&Device::Cpu, graph, Some(loss), &[]).unwrap();
        tape.load(by, 0, &[weight]).unwrap();
        let mut parameters = Buffer::zeros(&Device::Cpu, layout.len(), "a test").unwrap();
        parameters.load(0, &kl).unwrap();
        let mut gradients = Buffer::zeros(&Device::Cpu, layout.len(), "a test").unwrap();
        tape.forward(&parameters).unwrap();
        tape.backward(&parameters, &mut gradients, Scale::One).unwrap();
        let gradients = gradients.values().unwrap();
        (tape.value(loss).unwrap()[0], [gradients[0], gradients[1]])
    }

    #[test]
    fn above_the_cap_no_gradient_flows() {
        let capped = KlTerm { cap: 2.0, ..KlTerm::PLAIN };
        assert_eq!(term(capped.clone(), [3.0, 4.0], 0.25), (1.75, [0.25, 0.25]));
        assert_eq!(term(capped.clone(), [3.0, 4.0], 0.5), (2.0, [0.0, 0.0]));
        assert!(term(capped, [f32::NAN, 4.0], 0.5).0.is_nan());
    }

    #[test]
    fn a_dimension_below_its_free_bits_costs_the_same_and_has_no_gradient() {
        let free = KlTerm { free_bits: 3.5, ..KlTerm::PLAIN };
        assert_eq!(term(free, [3.0, 4.0], 2.0), (15.0, [0.0, 2.0]));
    }
}
