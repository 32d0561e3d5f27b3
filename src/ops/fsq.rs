//! y = tanh(x) + (g(x') - tanh(x')): g the nearest of a channel's L levels between -1 and 1, x' the same values without a
//! gradient, as in [`super::OneHot`]. Where both are the same array, y is the level with the gradient of tanh: finite scalar
//! quantisation (Mentzer et al., "Finite scalar quantization: VQ-VAE made simple", ICLR 2024, section 3.1), with levels that lie
//! alike on both sides of 0 for even L, too.

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: x `[..., C]`, the same again and the levels `[C]` of the channels, each at least 2; the first alone carries a
/// gradient. The output has the shape of x.
#[derive(Clone, Debug)]
pub struct Fsq;

/// The level nearest to `t` in -1..=1, of `levels`.
fn nearest(t: f32, levels: f32) -> f32 {
    let half = 0.5 * (levels - 1.0);
    (t * half + 0.5 * levels).floor() / half - 1.0
}

impl Op for Fsq {
    fn name(&self) -> &'static str {
        "fsq"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x, same, levels] if x == same && x.extents().last() == Some(&levels.len()) => Ok(*x),
            _ => Err(Error::new(
                "fsq",
                format!("expected [..., C] twice and levels [C], found {inputs:?}"),
                "match them",
            )),
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
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
        let [x, same, levels] = [0, 1, 2].map(|i| &inputs[i].values);
        let grid = |i: usize| {
            let levels = levels[i % levels.len()];
            let t = same[i].tanh();
            let place = |k: f64| 2.0 * k / (levels - 1.0) - 1.0;
            let all = (0..levels as usize).map(|k| place(k as f64));
            let near = all.min_by(|a, b| (a - t).abs().total_cmp(&(b - t).abs())).unwrap_or_default();
            x[i].tanh() + (near - t)
        };
        (0..x.len()).map(grid).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, same, levels] = [0, 1, 2].map(|i| call.inputs[i].values);
        let chunk = (ELEMENTWISE_CHUNK / levels.len()).max(1) * levels.len();
        let tasks = call.output.par_chunks_mut(chunk).zip(x.par_chunks(chunk).zip(same.par_chunks(chunk)));
        tasks.for_each(|(y, (x, same))| {
            for (i, (y, (x, same))) in y.iter_mut().zip(x.iter().zip(same)).enumerate() {
                let t = same.tanh();
                *y = x.tanh() + (nearest(t, levels[i % levels.len()]) - t);
            }
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let (x, dy) = (call.inputs[0].values, call.output_gradient);
        if let Some(dx) = &mut call.gradients[0] {
            dx.store(|i| {
                let t = x[i].tanh();
                (1.0 - t * t) * dy[i]
            });
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, same, levels] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let (launch, n, channels) = (Launch::items(x.len, THREADS), int(x.len)?, int(levels.len)?);
        kernels::fsq::forward(call.queue, launch, x, same, levels, call.output.wide(), n, channels)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let (x, dy) = (call.inputs[0].values.wide(), call.output_gradient.wide());
        let (launch, n) = (Launch::items(x.len, THREADS), int(x.len)?);
        kernels::fsq::backward(call.queue, launch, x, dy, dx.values.wide(), n, dx.add())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize]| {
            let channels = extents[extents.len() - 1];
            // 2, 3, 4, ... levels.
            let levels = Fill::With(|_, shape| (0..shape.len()).map(|c| 2.0 + (c % 7) as f32).collect());
            Case {
                name: name.into(),
                op: Box::new(Fsq),
                inputs: vec![
                    CaseInput::normal(extents),
                    CaseInput::normal(extents),
                    CaseInput { shape: Shape::new(&[channels]), fill: levels },
                ],
                terms: 1,
            }
        };
        vec![case("two levels", &[1]), case("odd", &[2, 3, 5, 7]), case("chunks", &[1500, 11])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_lie_alike_on_both_sides_and_all_are_met() {
        for levels in [2usize, 3, 4, 5, 8, 64] {
            let of = |t: f32| nearest(t, levels as f32);
            let mut met: Vec<f32> = (-100_000..=100_000).map(|i| of(i as f32 / 100_000.0)).collect();
            met.dedup();
            assert_eq!(met.len(), levels);
            assert_eq!([met[0], met[levels - 1]], [-1.0, 1.0]);
            assert!(met.iter().zip(met.iter().rev()).all(|(a, b)| (a + b).abs() < 1e-6), "{met:?}");
        }
    }
}
