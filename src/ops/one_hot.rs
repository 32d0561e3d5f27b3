//! y = s(x) + (h(x') - s(x')) of every row of K scores: s the softmax of x / T, h one-hot of the largest score, x' the same
//! scores without a gradient. Where both are the same array, y is one-hot and has the gradient of the softmax: the
//! straight-through estimator, and with Gumbel noise on the scores that of Jang et al., "Categorical reparameterization with
//! Gumbel-softmax", ICLR 2017, section 2.2. Written with two inputs, what backward computes is the derivative of what forward
//! computes, so that the check of every op holds for it.

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::{math, simd};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: scores `[..., G*classes]`, the same again and the temperature `[1]`; the first alone carries a gradient. The output
/// has the shape of the scores.
#[derive(Clone, Debug)]
pub struct OneHot {
    /// Of a row; the last extent is a multiple of it.
    pub classes: usize,
}

/// Lanes of a warp, which computes a row.
pub(super) const LANES: usize = 32;

/// The first of the largest scores.
fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

/// e^x for x <= 0, and 0 below e^-40: shares that no sum of f32 shows, whose products with a gradient would be denormal numbers,
/// on which a processor spends a hundred times as long.
#[inline(always)]
pub(super) fn exp_or_nothing(x: f32) -> f32 {
    let y = math::exp(x);
    if x < -40.0 { 0.0 } else { y }
}

/// Writes the softmax of `row` / T.
#[inline(always)]
pub(super) fn softmax(row: &[f32], inverse_temperature: f32, into: &mut [f32]) {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most });
    into.iter_mut().zip(row).for_each(|(y, x)| *y = exp_or_nothing((x - most) * inverse_temperature));
    let sum: f32 = into.iter().sum();
    into.iter_mut().for_each(|y| *y /= sum);
}

/// Values of a task: whole rows.
pub(super) fn chunk(classes: usize) -> usize {
    (ELEMENTWISE_CHUNK / classes).max(1) * classes
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fits = |x: &Shape| x.extents().last().is_some_and(|last| last.is_multiple_of(self.classes));
        match inputs {
            [x, same, temperature] if x == same && fits(x) && temperature.len() == 1 => Ok(*x),
            _ => Err(Error::new(
                "one_hot",
                format!(
                    "expected scores [..., G*{}] twice and a temperature, found {inputs:?}",
                    self.classes
                ),
                "match them",
            )),
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        // The softmax, which kernels make in registers.
        let workspace = if let Kind::Cpu(_) = on { inputs[0].len() } else { 0 };
        Memory {
            forward_workspace: workspace,
            backward_workspace: workspace,
            backward_inputs: vec![0, 2],
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
        let temperature = inputs[2].values[0];
        let softmax = |row: &[f64]| -> Vec<f64> {
            let sum: f64 = row.iter().map(|x| (x / temperature).exp()).sum();
            row.iter().map(|x| (x / temperature).exp() / sum).collect()
        };
        let rows = inputs[0].values.chunks(self.classes).zip(inputs[1].values.chunks(self.classes));
        let row = |(x, same): (&[f64], &[f64])| {
            let most = same.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let first = same.iter().position(|&x| x == most);
            let (soft, soft_same) = (softmax(x), softmax(same));
            let hard = |k: usize| if Some(k) == first { 1.0 } else { 0.0 };
            (0..self.classes).map(|k| soft[k] + (hard(k) - soft_same[k])).collect::<Vec<f64>>()
        };
        rows.flat_map(row).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, same] = [0, 1].map(|i| call.inputs[i].values);
        let (classes, size) = (self.classes, chunk(self.classes));
        let inverse = 1.0 / call.inputs[2].values[0];
        let tasks = call.output.par_chunks_mut(size).zip(call.workspace.par_chunks_mut(size));
        tasks.zip(x.par_chunks(size).zip(same.par_chunks(size))).for_each(|((y, soft), (x, same))| {
            simd::dispatch(|| {
                let rows = y.chunks_mut(classes).zip(soft.chunks_mut(classes));
                for ((y, soft), (x, same)) in rows.zip(x.chunks(classes).zip(same.chunks(classes))) {
                    softmax(x, inverse, y);
                    softmax(same, inverse, soft);
                    let at = largest(same);
                    for (k, (y, soft)) in y.iter_mut().zip(soft).enumerate() {
                        *y += (if k == at { 1.0 } else { 0.0 }) - *soft;
                    }
                }
            });
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (x, dy, classes, size) =
            (call.inputs[0].values, call.output_gradient, self.classes, chunk(self.classes));
        let inverse = 1.0 / call.inputs[2].values[0];
        let Some(dx) = &mut call.gradients[0] else { return };
        let add = dx.add;
        let tasks = dx.values.par_chunks_mut(size).zip(call.workspace.par_chunks_mut(size));
        tasks.zip(x.par_chunks(size).zip(dy.par_chunks(size))).for_each(|((dx, soft), (x, dy))| {
            simd::dispatch(|| {
                let rows = dx.chunks_mut(classes).zip(soft.chunks_mut(classes));
                for ((dx, soft), (x, dy)) in rows.zip(x.chunks(classes).zip(dy.chunks(classes))) {
                    softmax(x, inverse, soft);
                    let mean: f32 = soft.iter().zip(dy).map(|(s, dy)| s * dy).sum();
                    for ((dx, s), dy) in dx.iter_mut().zip(soft).zip(dy) {
                        let slope = *s * (dy - mean) * inverse;
                        *dx = if add { *dx + slope } else { slope };
                    }
                }
            });
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, same, temperature] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let rows = x.len / self.classes;
        let launch = Launch::items(rows * LANES, THREADS);
        int(x.len)?;
        let (y, rows, classes) = (call.output.wide(), int(rows)?, int(self.classes)?);
        kernels::one_hot::forward(call.queue, launch, x, same, temperature, y, rows, classes)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let [x, temperature] = [0, 2].map(|i| call.inputs[i].values.wide());
        let rows = x.len / self.classes;
        let launch = Launch::items(rows * LANES, THREADS);
        let (dy, into) = (call.output_gradient.wide(), dx.values.wide());
        let (queue, rows, classes) = (call.queue, int(rows)?, int(self.classes)?);
        kernels::one_hot::backward(queue, launch, x, temperature, dy, into, rows, classes, dx.add())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, classes: usize, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(OneHot { classes }),
            inputs: vec![
                CaseInput::normal(extents),
                CaseInput::normal(extents),
                CaseInput { shape: Shape::new(&[1]), fill: Fill::Uniform { low: 0.4, high: 0.9 } },
            ],
            terms: classes,
        };
        vec![
            case("two classes", 2, &[1, 2]),
            case("groups", 5, &[2, 3, 3, 15]),
            case("more than a warp", 67, &[3, 7, 134]),
            case("chunks", 700, &[40, 700]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::products::Products;
    use crate::ops::{Law, Noise, Tensor};

    fn codes(scores: &[f32], classes: usize, temperature: f32) -> Vec<f32> {
        let shape = Shape::new(&[scores.len()]);
        let scores = Tensor { shape, values: scores };
        let (mut output, mut workspace) = (vec![0.0; shape.len()], vec![0.0; shape.len()]);
        OneHot { classes }.forward_cpu(Forward {
            products: Products::Fp32,
            inputs: &[scores, scores, Tensor { shape: Shape::new(&[1]), values: &[temperature] }],
            output: &mut output,
            saved: &mut [],
            workspace: &mut workspace,
        });
        output
    }

    /// The largest of scores with Gumbel noise is a draw of their softmax (Gumbel, "Statistical theory of extreme values",
    /// 1954), whatever the temperature, and one-hot to the last bit.
    #[test]
    fn scores_with_gumbel_noise_are_draws_of_the_softmax() {
        const DRAWS: usize = 100_000;
        let logits = [0.0f32, 1.0, -1.0, 2.5, 0.3];
        let noise = Noise { law: Law::Gumbel, extents: Shape::new(&[5 * DRAWS]), seed: 0, stream: 1 };
        let mut scores = vec![0.0; 5 * DRAWS];
        noise.forward_cpu(Forward {
            products: Products::Fp32,
            inputs: &[Tensor { shape: Shape::new(&[2]), values: &[0.0, 0.0] }],
            output: &mut scores,
            saved: &mut [],
            workspace: &mut [],
        });
        scores.chunks_mut(5).for_each(|row| row.iter_mut().zip(logits).for_each(|(x, l)| *x += l));
        let codes = codes(&scores, 5, 0.7);
        assert!(codes.iter().all(|&y| y == 0.0 || y == 1.0));
        assert!(codes.chunks(5).all(|row| row.iter().sum::<f32>() == 1.0));
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        for (k, logit) in logits.into_iter().enumerate() {
            let share = f64::from(logit).exp() / sum;
            let found = codes.iter().skip(k).step_by(5).filter(|&&y| y == 1.0).count() as f64 / DRAWS as f64;
            // Five standard errors of a share of 100,000 draws.
            let allowed = 5.0 * (share * (1.0 - share) / DRAWS as f64).sqrt();
            assert!((found - share).abs() < allowed, "class {k}: {found} beside {share}");
        }
    }
}
