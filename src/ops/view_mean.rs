//! y[b, v] = mean over the V views of x[b, .]: what the views of one mesh have in common, handed
//! back to each of them.

use super::cuda::{self, Target, bf16};
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;

/// Input x `[B*views, H, W, C]`; the output has its shape.
#[derive(Clone, Debug)]
pub struct ViewMean {
    pub views: usize,
}

impl ViewMean {
    /// Values of one view of all meshes, values of an image, views.
    fn extents(&self, shape: Shape) -> Result<(i32, i32, i32)> {
        let image = shape.len() / shape.extents()[0];
        int(shape.len())?;
        Ok((int(shape.len() / self.views)?, int(image)?, int(self.views)?))
    }

    /// Writes or adds the mean of each group of `views` images to all of the group. The map is
    /// its own adjoint, so both directions run it.
    fn spread(&self, shape: Shape, from: &[f32], into: &mut [f32], add: bool) {
        let image = shape.len() / shape.extents()[0];
        let scale = 1.0 / self.views as f32;
        let group = self.views * image;
        into.par_chunks_mut(group).zip(from.par_chunks(group)).for_each(|(into, from)| {
            for i in 0..image {
                let mean = scale * from[i..].iter().step_by(image).sum::<f32>();
                for slot in into[i..].iter_mut().step_by(image) {
                    *slot = if add { *slot + mean } else { mean };
                }
            }
        });
    }
}

impl Op for ViewMean {
    fn name(&self) -> &'static str {
        "view_mean"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [x] if x.nhwc().is_some_and(|x| x[0] % self.views == 0) => Ok(*x),
            _ => Err(Error::new(
                "view_mean",
                format!("expected one [B*{}, H, W, C], found {inputs:?}", self.views),
                "make the batch a multiple of the number of views",
            )),
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory::default()
    }

    fn storage(&self) -> Storage {
        Storage::Alike(1)
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let x = &inputs[0];
        let image = x.shape.len() / x.shape.extents()[0];
        let group = self.views * image;
        let mean = |i: usize| {
            let first = i / group * group + i % image;
            (0..self.views).map(|v| x.values[first + v * image]).sum::<f64>() / self.views as f64
        };
        (0..x.values.len()).map(mean).collect()
    }

    fn forward_cpu(&self, call: Forward) {
        self.spread(call.inputs[0].shape, call.inputs[0].values, call.output, false);
    }

    fn backward_cpu(&self, mut call: Backward) {
        let shape = call.inputs[0].shape;
        if let Some(dx) = &mut call.gradients[0] {
            self.spread(shape, call.output_gradient, dx.values, dx.add);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let x = call.inputs[0];
        let (n, image, views) = self.extents(x.shape)?;
        let launch = Launch::items(n as usize, THREADS);
        let (queue, x) = (call.queue, x.values);
        match call.output {
            Target::Wide(y) => kernels::view_mean::forward(queue, launch, x.wide(), y, n, image, views),
            Target::Narrow(y) => {
                kernels::view_mean::forward_narrow(queue, launch, x.narrow(), y, n, image, views, bf16(queue))
            }
        }
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let (n, image, views) = self.extents(call.inputs[0].shape)?;
        let (launch, dy) = (Launch::items(n as usize, THREADS), call.output_gradient);
        let (queue, add) = (call.queue, dx.add());
        match dx.values {
            Target::Wide(dx) => {
                kernels::view_mean::backward(queue, launch, dy.wide(), dx, n, image, views, add)
            }
            Target::Narrow(dx) => kernels::view_mean::backward_narrow(
                queue,
                launch,
                dy.narrow(),
                dx,
                n,
                image,
                views,
                add,
                bf16(queue),
            ),
        }
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, views: usize, extents: &[usize]| Case {
            name: name.into(),
            op: Box::new(ViewMean { views }),
            inputs: vec![CaseInput::normal(extents)],
            terms: views,
        };
        vec![case("six views, two meshes", 6, &[12, 2, 3, 5]), case("one view", 1, &[2, 1, 1, 3])]
    }
}
