//! Mean squared error, with a weight a channel: mean over all values of w_c (x - target)^2.

use super::cuda;
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::simd::{self, Vectorised};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: x and target of one shape, weight `[C]` for their last extent. The target and the
/// weight carry no gradient. Output: a scalar.
#[derive(Clone, Debug)]
pub struct Mse;

/// Values a partial sum of the kernel covers.
const CUDA_CHUNK: usize = 256 * 16;

/// Values a partial sum covers, in whole pixels of C channels; fixed, so that the sum does not
/// depend on the number of threads.
fn chunk_len(channels: usize) -> usize {
    (ELEMENTWISE_CHUNK / channels).max(1) * channels
}

/// The weighted sum of the squared differences of whole pixels, in parts.
struct Squares<'a> {
    x: &'a [f32],
    target: &'a [f32],
    weight: &'a [f32],
}

impl Vectorised for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self { x, target, weight } = self;
        // A line of whole pixels, where a few channels make one.
        let whole = LINE.is_multiple_of(weight.len());
        let lines = if whole { x.len() / LINE * LINE } else { 0 };
        let mut line = [0.0; LINE];
        if whole {
            line.chunks_exact_mut(weight.len()).for_each(|pixel| pixel.copy_from_slice(weight));
        }
        let mut sums = [0.0f64; LINE];
        for (x, t) in x[..lines].as_chunks::<LINE>().0.iter().zip(target[..lines].as_chunks::<LINE>().0) {
            for lane in 0..LINE {
                let d = x[lane] - t[lane];
                sums[lane] += f64::from(line[lane] * d * d);
            }
        }
        for (x, t) in x[lines..].chunks_exact(weight.len()).zip(target[lines..].chunks_exact(weight.len())) {
            for c in 0..weight.len() {
                let d = x[c] - t[c];
                sums[c % LINE] += f64::from(weight[c] * d * d);
            }
        }
        sums.iter().sum()
    }
}

/// Values of a line of [`Squares`]: four channels fill it four times.
const LINE: usize = 16;

impl Op for Mse {
    fn name(&self) -> &'static str {
        "mse"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x, target, weight]
                if x == target && !x.is_empty() && Some(&weight.len()) == x.extents().last() =>
            {
                Ok(Shape::scalar())
            }
            _ => Err(Error::new(
                "mse",
                format!("expected two equal shapes and one weight a channel, found {inputs:?}"),
                "match them",
            )),
        }
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let n = inputs[0].len();
        Memory {
            forward_workspace: match on {
                Kind::Cpu(_) => n.div_ceil(chunk_len(inputs[2].len())),
                // A partial sum in f64.
                Kind::Cuda { .. } => 2 * n.div_ceil(CUDA_CHUNK),
            },
            backward_inputs: vec![0, 1, 2],
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
        let (x, target, weight) = (&inputs[0].values, &inputs[1].values, &inputs[2].values);
        let sum: f64 = (0..x.len()).map(|i| weight[i % weight.len()] * (x[i] - target[i]).powi(2)).sum();
        vec![sum / x.len() as f64]
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, target, weight] = [0, 1, 2].map(|i| call.inputs[i].values);
        let chunk = chunk_len(weight.len());
        let chunks = x.par_chunks(chunk).zip(target.par_chunks(chunk));
        call.workspace.par_iter_mut().zip(chunks).for_each(|(partial, (x, target))| {
            *partial = simd::dispatch(Squares { x, target, weight }) as f32;
        });
        let total: f64 = call.workspace.iter().map(|&partial| f64::from(partial)).sum();
        call.output[0] = (total / x.len() as f64) as f32;
    }

    fn backward_cpu(&self, mut call: Backward) {
        let [x, target, weight] = [0, 1, 2].map(|i| call.inputs[i].values);
        let scale = 2.0 * call.output_gradient[0] / x.len() as f32;
        if let Some(dx) = &mut call.gradients[0] {
            dx.store_pixels(weight.len(), [x, target], |c, [x, target]| scale * weight[c] * (x - target));
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, target, weight] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let (n, channels, queue) = (int(x.len)?, int(weight.len)?, call.queue);
        let blocks = x.len.div_ceil(CUDA_CHUNK);
        let (launch, partial) = (Launch::blocks(blocks, THREADS), call.workspace.cast());
        kernels::mse::forward_partial(queue, launch, x, target, weight, partial, n, channels)?;
        kernels::mse::forward(
            queue,
            Launch::blocks(1, THREADS),
            partial.into(),
            call.output.wide(),
            int(blocks)?,
            n,
        )
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let [x, target, weight] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let (n, channels, dy) = (int(x.len)?, int(weight.len)?, call.output_gradient.wide());
        let launch = Launch::items(x.len, THREADS);
        kernels::mse::backward(
            call.queue,
            launch,
            x,
            target,
            weight,
            dy,
            dx.values.wide(),
            n,
            channels,
            dx.add(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(Mse),
            inputs: vec![
                CaseInput::normal(extents),
                CaseInput::normal(extents),
                CaseInput {
                    shape: Shape::new(&extents[3..]),
                    fill: super::Fill::Uniform { low: 0.5, high: 16.0 },
                },
            ],
            terms: extents.iter().product(),
        };
        vec![
            case("one value", &[1, 1, 1, 1]),
            case("odd", &[2, 3, 5, 4]),
            case("many chunks", &[2, 61, 47, 7]),
        ]
    }
}
