//! Binary cross entropy of logits: mean over all values of w t ln(1 + e^-x) + (1 - t) ln(1 + e^x), the negative
//! logarithm of the Bernoulli likelihood of a target t in [0, 1] where the weight w is 1.

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::math;
use crate::cpu::simd::{self, Vectorised};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: logits x and target of one shape. The target carries no gradient. Output: a scalar.
#[derive(Clone, Debug)]
pub struct Bce {
    /// What a target of 1 counts beside one of 0.
    pub positive_weight: f32,
}

/// Values a partial sum of the kernel covers.
const CUDA_CHUNK: usize = 256 * 16;

/// The sum over some values, in [`LANES`] parts.
struct Entropies<'a> {
    x: &'a [f32],
    target: &'a [f32],
    weight: f32,
}

const LANES: usize = 16;

impl Vectorised for Entropies<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self { x, target, weight } = self;
        let entropy = |x: f32, t: f32| {
            let (up, down) = math::softplus(x);
            weight * t * down + (1.0 - t) * up
        };
        let mut sums = [0.0f64; LANES];
        let ((x, x_rest), (t, t_rest)) = (x.as_chunks::<LANES>(), target.as_chunks::<LANES>());
        for (x, t) in x.iter().zip(t) {
            for lane in 0..LANES {
                sums[lane] += f64::from(entropy(x[lane], t[lane]));
            }
        }
        for (sum, (&x, &t)) in sums.iter_mut().zip(x_rest.iter().zip(t_rest)) {
            *sum += f64::from(entropy(x, t));
        }
        sums.iter().sum()
    }
}

impl Op for Bce {
    fn name(&self) -> &'static str {
        "bce"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x, target] if x == target && !x.is_empty() => Ok(Shape::scalar()),
            _ => {
                let problem = format!("expected logits and a target of one shape, found {inputs:?}");
                Err(Error::new("bce", problem, "match them"))
            }
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let n = inputs[0].len();
        Memory {
            forward_workspace: match on {
                Kind::Cpu(_) => n.div_ceil(ELEMENTWISE_CHUNK),
                // A partial sum in f64.
                Kind::Cuda { .. } => 2 * n.div_ceil(CUDA_CHUNK),
            },
            backward_inputs: vec![0, 1],
            ..Memory::default()
        }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let (x, target) = (&inputs[0].values, &inputs[1].values);
        let weight = f64::from(self.positive_weight);
        let of = |(&x, &t): (&f64, &f64)| weight * t * (-x).exp().ln_1p() + (1.0 - t) * x.exp().ln_1p();
        vec![x.iter().zip(target).map(of).sum::<f64>() / x.len() as f64]
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, target] = [0, 1].map(|i| call.inputs[i].values);
        let weight = self.positive_weight;
        let chunks = x.par_chunks(ELEMENTWISE_CHUNK).zip(target.par_chunks(ELEMENTWISE_CHUNK));
        call.workspace.par_iter_mut().zip(chunks).for_each(|(partial, (x, target))| {
            *partial = simd::dispatch(Entropies { x, target, weight }) as f32;
        });
        let total: f64 = call.workspace.iter().map(|&partial| f64::from(partial)).sum();
        call.output[0] = (total / x.len() as f64) as f32;
    }

    fn backward_cpu(&self, mut call: Backward) {
        let [x, target] = [0, 1].map(|i| call.inputs[i].values);
        let scale = call.output_gradient[0] / x.len() as f32;
        let weight = self.positive_weight;
        let Some(dx) = &mut call.gradients[0] else { return };
        let add = dx.add;
        let chunks = x.par_chunks(ELEMENTWISE_CHUNK).zip(target.par_chunks(ELEMENTWISE_CHUNK));
        dx.values.par_chunks_mut(ELEMENTWISE_CHUNK).zip(chunks).for_each(|(dx, (x, target))| {
            simd::dispatch(|| {
                for ((dx, x), t) in dx.iter_mut().zip(x).zip(target) {
                    let (up, down) = math::sigmoids(*x);
                    let slope = scale * ((1.0 - t) * up - weight * t * down);
                    *dx = if add { *dx + slope } else { slope };
                }
            });
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, target] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (n, queue, blocks) = (int(x.len)?, call.queue, x.len.div_ceil(CUDA_CHUNK));
        let (launch, partial) = (Launch::blocks(blocks, THREADS), call.workspace.cast());
        kernels::bce::forward_partial(queue, launch, x, target, partial, self.positive_weight, n)?;
        // The mean of partial sums, whatever they are of.
        let launch = Launch::blocks(1, THREADS);
        kernels::mse::forward(queue, launch, partial.into(), call.output.wide(), int(blocks)?, n)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let [x, target] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (n, dy, weight) = (int(x.len)?, call.output_gradient.wide(), self.positive_weight);
        let launch = Launch::items(x.len, THREADS);
        kernels::bce::backward(call.queue, launch, x, target, dy, dx.values.wide(), weight, n, dx.add())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, positive_weight: f32, extents: &[usize], scale: f32| Case {
            name: name.into(),
            op: Box::new(Bce { positive_weight }),
            inputs: vec![
                CaseInput { shape: Shape::new(extents), fill: Fill::Normal { scale } },
                CaseInput { shape: Shape::new(extents), fill: Fill::Uniform { low: 0.0, high: 1.0 } },
            ],
            terms: extents.iter().product(),
        };
        vec![
            case("one value", 1.0, &[1, 1, 1, 1], 1.0),
            case("odd, weighted", 2.5, &[2, 3, 5, 4], 1.0),
            case("most are certain", 0.5, &[6, 9, 9, 1], 20.0),
            case("many chunks", 1.0, &[6, 61, 47, 1], 3.0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::products::Products;
    use crate::ops::Tensor;

    /// A coin that falls as often as its logit says costs its entropy; far from it, the distance; at no logit ln 2.
    #[test]
    fn closed_forms() {
        let loss = |weight: f32, x: &[f32], target: &[f32]| {
            let shape = Shape::new(&[x.len()]);
            let inputs = [x, target].map(|values| Tensor { shape, values });
            let mut output = [f32::NAN];
            Bce { positive_weight: weight }.forward_cpu(Forward {
                products: Products::Fp32,
                inputs: &inputs,
                output: &mut output,
                saved: &mut [],
                workspace: &mut [f32::NAN],
            });
            f64::from(output[0])
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} is not {b}");
        near(loss(1.0, &[0.0; 5], &[0.0, 1.0, 1.0, 0.0, 0.5]), 2f64.ln());
        let p = 0.2f64;
        near(
            loss(1.0, &[(p / (1.0 - p)).ln() as f32], &[p as f32]),
            -p * p.ln() - (1.0 - p) * (1.0 - p).ln(),
        );
        near(loss(1.0, &[-100.0, 1e30], &[1.0, 1.0]), 50.0);
        near(loss(3.0, &[-100.0, 50.0], &[1.0, 0.0]), (300.0 + 50.0) / 2.0);
        assert!(loss(1.0, &[f32::NAN, 0.0], &[1.0, 1.0]).is_nan());
        // Not lost beside 1.
        let tiny = loss(1.0, &[-30.0], &[0.0]);
        assert!((tiny / (-30f64).exp() - 1.0).abs() < 1e-6, "{tiny}");
    }
}
