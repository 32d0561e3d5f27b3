//! y[n, ...] = x[n, ...] + e[n mod V, ...]: a learned array for each of the V views (or one for
//! all images), broadcast over the batch.

use super::cuda::{self, Source, Target, bf16};
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: x `[B*V, H, W, C]`, e `[V, H, W, C]`.
#[derive(Clone, Debug)]
pub struct AddEmbedding;

impl Op for AddEmbedding {
    fn name(&self) -> &'static str {
        "add_embedding"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fits = |x: &Shape, e: &Shape| matches!((x.nhwc(), e.nhwc()), (Some(x), Some(e)) if e[0] > 0 && x[0] % e[0] == 0 && x[1..] == e[1..]);
        match inputs {
            [x, e] if fits(x, e) => Ok(*x),
            _ => Err(Error::new(
                "add_embedding",
                format!("expected [B*V, H, W, C] and [V, H, W, C], found {inputs:?}"),
                "match the image size and make the batch a multiple of V",
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
        let (x, e) = (&inputs[0].values, &inputs[1].values);
        x.iter().enumerate().map(|(i, x)| x + e[i % e.len()]).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        let (x, e) = (call.inputs[0].values, call.inputs[1].values);
        let row = row_len(call.inputs[1].shape);
        call.output.par_chunks_mut(row).enumerate().for_each(|(r, out)| {
            let (x, e) = (&x[r * row..][..row], &e[r * row % e.len()..][..row]);
            out.iter_mut().zip(x).zip(e).for_each(|((y, x), e)| *y = x + e);
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let cotangent = call.output_gradient;
        if let Some(dx) = &mut call.gradients[0] {
            dx.store_slice(cotangent);
        }
        let len = call.inputs[1].shape.len();
        if let Some(de) = &mut call.gradients[1] {
            de.store(|i| cotangent[i..].iter().step_by(len).sum());
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (queue, x, e) = (call.queue, call.inputs[0].values, call.inputs[1].values.wide());
        let (launch, n, period) = (Launch::items(x.len(), THREADS), int(x.len())?, int(e.len)?);
        match call.output {
            Target::Wide(y) => kernels::add_embedding::forward(queue, launch, x.wide(), e, y, n, period),
            Target::Narrow(y) => kernels::add_embedding::forward_narrow(
                queue,
                launch,
                x.narrow(),
                e,
                y,
                n,
                period,
                bf16(queue),
            ),
        }
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let (queue, dy) = (call.queue, call.output_gradient);
        if let Some(dx) = call.gradients[0] {
            cuda::pass(queue, dy, dx.values, dx.add())?;
        }
        let Some(de) = call.gradients[1] else { return Ok(()) };
        let period = de.values.len();
        let (launch, repeats) = (Launch::items(period, THREADS), int(dy.len() / period)?);
        let (values, period, add) = (de.values.wide(), int(period)?, de.add());
        match dy {
            Source::Wide(dy) => {
                kernels::add_embedding::backward_de(queue, launch, dy, values, period, repeats, add)
            }
            Source::Narrow(dy) => kernels::add_embedding::backward_de_narrow(
                queue,
                launch,
                dy,
                values,
                period,
                repeats,
                add,
                bf16(queue),
            ),
        }
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, x: &[usize], e: &[usize]| Case {
            name: name.into(),
            op: Box::new(AddEmbedding),
            inputs: vec![CaseInput::normal(x), CaseInput::normal(e)],
            terms: x[0] / e[0] + 1,
        };
        vec![
            case("one for all", &[3, 2, 3, 5], &[1, 2, 3, 5]),
            case("six views, two meshes", &[12, 2, 1, 3], &[6, 2, 1, 3]),
        ]
    }
}

/// Values of one image row: the unit of work.
fn row_len(shape: Shape) -> usize {
    shape.extents()[2..].iter().product()
}
