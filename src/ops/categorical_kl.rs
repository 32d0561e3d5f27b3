//! KL(softmax(logits) || uniform) = sum of q ln q + ln K of every row of K logits, in nats, mean over the meshes of a batch.

use super::cuda;
use super::gaussian_kl::of_one;
use super::one_hot::{LANES, exp_or_nothing};
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::simd;
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Input: logits `[B*images, H, W, G*classes]` of `meshes` = B meshes; output `[images, H, W, G]`.
#[derive(Clone, Debug)]
pub struct CategoricalKl {
    pub classes: usize,
    pub meshes: usize,
}

/// Rows of a task.
const ROWS: usize = 64;

/// The largest of a row, the sum of exp(x - largest), and the mean of ln q.
#[inline(always)]
fn entropy(row: &[f32]) -> (f32, f32, f32) {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most });
    let (mut sum, mut weighted) = (0.0, 0.0);
    for x in row {
        let e = exp_or_nothing(x - most);
        sum += e;
        weighted += e * (x - most);
    }
    (most, sum, weighted / sum - sum.ln())
}

impl CategoricalKl {
    fn rows(&self, logits: usize) -> usize {
        logits / self.classes / self.meshes
    }
}

impl Op for CategoricalKl {
    fn name(&self) -> &'static str {
        "categorical_kl"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let one = match inputs {
            [logits] => of_one(*logits, self.meshes),
            _ => None,
        };
        let shape = one.and_then(|one| {
            let mut extents = one.extents().to_vec();
            let last = extents.last_mut().filter(|last| last.is_multiple_of(self.classes))?;
            *last /= self.classes;
            Some(Shape::new(&extents))
        });
        shape.ok_or_else(|| {
            let (classes, meshes) = (self.classes, self.meshes);
            let problem = format!("expected logits [..., G*{classes}] of {meshes} meshes, found {inputs:?}");
            Error::new("categorical_kl", problem, "match them")
        })
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
        let rows = self.rows(inputs[0].values.len());
        let mut kl = vec![0.0; rows];
        for (row, logits) in inputs[0].values.chunks(self.classes).enumerate() {
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            for x in logits {
                let q = x.exp() / sum;
                kl[row % rows] += q * (q * self.classes as f64).ln() / self.meshes as f64;
            }
        }
        kl
    }

    fn forward_cpu(&self, call: Forward) {
        let (logits, rows) = (call.inputs[0].values, call.output.len());
        let uniform = (self.classes as f32).ln();
        call.output.par_chunks_mut(ROWS).enumerate().for_each(|(task, kl)| {
            simd::dispatch(|| {
                for (i, kl) in kl.iter_mut().enumerate() {
                    let start = |mesh: usize| (mesh * rows + task * ROWS + i) * self.classes;
                    let of = |mesh: usize| entropy(&logits[start(mesh)..][..self.classes]).2 + uniform;
                    *kl = (0..self.meshes).map(of).sum::<f32>() / self.meshes as f32;
                }
            });
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (logits, cotangent, classes) = (call.inputs[0].values, call.output_gradient, self.classes);
        let Some(gradient) = &mut call.gradients[0] else { return };
        let (add, size) = (gradient.add, ROWS * classes);
        let tasks = gradient.values.par_chunks_mut(size).zip(logits.par_chunks(size)).enumerate();
        tasks.for_each(|(task, (gradient, logits))| {
            simd::dispatch(|| {
                let rows = gradient.chunks_mut(classes).zip(logits.chunks(classes)).enumerate();
                for (i, (gradient, row)) in rows {
                    let (most, sum, mean) = entropy(row);
                    let scale = cotangent[(task * ROWS + i) % cotangent.len()] / self.meshes as f32;
                    let logarithm = sum.ln();
                    for (slot, x) in gradient.iter_mut().zip(row) {
                        let slope = scale * (exp_or_nothing(x - most) / sum) * (x - most - logarithm - mean);
                        *slot = if add { *slot + slope } else { slope };
                    }
                }
            });
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (logits, kl) = (call.inputs[0].values.wide(), call.output.wide());
        int(logits.len)?;
        let (launch, rows) = (Launch::items(kl.len * LANES, THREADS), int(kl.len)?);
        let (classes, meshes) = (int(self.classes)?, int(self.meshes)?);
        kernels::categorical_kl::forward(call.queue, launch, logits, kl, rows, classes, meshes)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(gradient) = call.gradients[0] else { return Ok(()) };
        let (logits, dkl) = (call.inputs[0].values.wide(), call.output_gradient.wide());
        let launch = Launch::items(logits.len / self.classes * LANES, THREADS);
        let (rows, classes, meshes) = (int(dkl.len)?, int(self.classes)?, int(self.meshes)?);
        let (queue, into) = (call.queue, gradient.values.wide());
        let add = gradient.add();
        kernels::categorical_kl::backward(queue, launch, logits, dkl, into, rows, classes, meshes, add)
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, classes: usize, meshes: usize, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(CategoricalKl { classes, meshes }),
            inputs: vec![CaseInput::normal(extents)],
            terms: classes * meshes,
        };
        vec![
            case("two classes", 2, 1, &[1, 2]),
            case("groups", 5, 2, &[4, 3, 3, 15]),
            case("more than a warp", 67, 3, &[6, 5, 134]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::products::Products;
    use crate::ops::Tensor;

    /// ln K of a certain class, 0 of equal logits, and ln(K / 2) of two that share all.
    #[test]
    fn closed_forms() {
        let logits = [80.0f32, 0.0, 0.0, 0.0, 0.7, 0.7, 0.7, 0.7, 80.0, 80.0, 0.0, 0.0].map(|x: f32| x - 3.0);
        let shape = Shape::new(&[1, 1, 3, 4]);
        let mut output = [0.0; 3];
        CategoricalKl { classes: 4, meshes: 1 }.forward_cpu(Forward {
            products: Products::Fp32,
            inputs: &[Tensor { shape, values: &logits }],
            output: &mut output,
            saved: &mut [],
            workspace: &mut [],
        });
        for (found, expected) in output.into_iter().zip([4f32.ln(), 0.0, 2f32.ln()]) {
            assert!((found - expected).abs() < 1e-6, "{found} beside {expected}");
        }
    }
}
