//! Group normalisation (Wu and He, "Group Normalization", ECCV 2018), affine, optionally followed by
//! the SiLU in the same pass.
//!
//! Inputs: x `[batch, height, width, channels]`, gamma `[channels]`, beta `[channels]`. Statistics are
//! taken for each image and group of channels; saved: their means, then their 1 / sqrt(variance + eps).

use super::cuda::{self, Source, Target, bf16};
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::group_norm::{Before, EPSILON, Extents, GradientSums, InputGradient, Normalise, Norms};
use crate::cuda::{Launch, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub struct GroupNorm {
    pub groups: usize,
    /// Follow with x sigmoid(x).
    pub silu: bool,
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let error = |problem: String, remedy: &str| Err(Error::new("group_norm", problem, remedy));
        let [x, gamma, beta] = inputs else {
            return error(format!("expected 3 inputs, found {}", inputs.len()), "pass x, gamma and beta");
        };
        let Some([_, height, width, channels]) = x.nhwc() else {
            return error(format!("expected 4 extents of x, found {x}"), "pass NHWC images");
        };
        if height * width * channels == 0 {
            return error(format!("the images {x} are empty"), "use extents of 1 or more");
        }
        if self.groups == 0 || channels % self.groups != 0 {
            return error(
                format!("{channels} channels do not divide into {} groups", self.groups),
                "choose a number of groups that divides the channels",
            );
        }
        for (name, shape) in [("gamma", gamma), ("beta", beta)] {
            if shape.extents() != [channels] {
                return error(
                    format!("expected {name} [{channels}], found {shape}"),
                    "pass a value a channel",
                );
            }
        }
        Ok(*x)
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let e = Extents::new(inputs[0], self.groups);
        let saved = 2 * e.images * e.groups;
        let (forward_workspace, backward_workspace) = match on {
            Kind::Cpu(_) => (e.partial_len() + 2 * e.lines_len(), e.partial_len() + 4 * e.lines_len()),
            Kind::Cuda { .. } => {
                let partial = cuda_partial_len(e.images, e.pixels, e.channels);
                (partial, partial + saved)
            }
        };
        Memory {
            saved,
            forward_workspace,
            backward_workspace,
            backward_inputs: vec![0, 1, 2],
            backward_output: false,
            passed_on: Vec::new(),
            recompute: true,
        }
    }

    fn storage(&self) -> Storage {
        Storage::Alike(1)
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let x = &inputs[0].values;
        let [images, height, width, channels] = inputs[0].shape.nhwc().unwrap_or_default();
        let (pixels, group_width) = (height * width, channels / self.groups);
        let mut y = vec![0.0; x.len()];
        for (image, group) in (0..images).flat_map(|i| (0..self.groups).map(move |g| (i, g))) {
            let members: Vec<usize> = (0..pixels)
                .flat_map(|p| {
                    (0..group_width).map(move |c| (image * pixels + p) * channels + group * group_width + c)
                })
                .collect();
            let count = members.len() as f64;
            let mean = members.iter().map(|&i| x[i]).sum::<f64>() / count;
            let variance = members.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / count;
            for i in members {
                let c = i % channels;
                let u =
                    (x[i] - mean) / (variance + EPSILON).sqrt() * inputs[1].values[c] + inputs[2].values[c];
                y[i] = if self.silu { u / (1.0 + (-u).exp()) } else { u };
            }
        }
        y
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, gamma, beta] = call.inputs else { return };
        let e = Extents::new(x.shape, self.groups);
        let (partial, lines) = call.workspace.split_at_mut(e.partial_len());
        e.statistics(x.values, &mut partial[..e.partial_len()], call.saved);
        let (mean, rstd) = lines[..2 * e.lines_len()].split_at_mut(e.lines_len());
        e.spread(call.saved, mean, rstd);
        let norms = Norms { mean, rstd, gamma: gamma.values, beta: beta.values, silu: self.silu };
        e.for_each_chunk(call.output, &Normalise { norms, x: x.values });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let [x, gamma, beta] = call.inputs else { return };
        let (x, gamma, beta, dy) = (x.values, gamma.values, beta.values, call.output_gradient);
        let e = Extents::new(call.inputs[0].shape, self.groups);
        let (partial, lines) = call.workspace.split_at_mut(e.partial_len());
        let (mean, lines) = lines.split_at_mut(e.lines_len());
        let (rstd, lines) = lines.split_at_mut(e.lines_len());
        let (plain, lines) = lines.split_at_mut(e.lines_len());
        let product = &mut lines[..e.lines_len()];
        e.spread(call.saved, mean, rstd);
        let norms = Norms { mean, rstd, gamma, beta, silu: self.silu };
        let [dx, dgamma, dbeta] = &mut call.gradients[..] else { return };
        // The slope of the SiLU costs as much as all else: where dx is free, du waits there for the second pass.
        let free = dx.as_mut().filter(|dx| self.silu && !dx.add).map(|dx| &mut *dx.values);
        let keeps = free.is_some();
        e.reduce(partial, &GradientSums::new(norms, x, dy, free));
        for (gradient, offset) in [(dgamma, e.channels), (dbeta, 0)] {
            if let Some(gradient) = gradient {
                gradient.store(|c| e.over_images(partial, offset + c));
            }
        }
        let Some(dx) = dx else { return };
        e.group_means(partial, 0, gamma, plain);
        e.group_means(partial, e.channels, gamma, product);
        let before = match (keeps, dx.add) {
            (true, _) => Before::Kept,
            (false, true) => Before::Gradient,
            (false, false) => Before::Anything,
        };
        e.for_each_chunk(dx.values, &InputGradient { norms, x, dy, plain, product, before });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let (x, [gamma, beta]) = (call.inputs[0].values, [1, 2].map(|i| call.inputs[i].values.wide()));
        let c = CudaExtents::new(call.inputs[0].shape, self)?;
        let (queue, partial, saved) = (call.queue, call.workspace, call.saved);
        let (chunks, groups, values) = (c.chunks_launch(), c.groups_launch(), c.values_launch());
        let (pixels, channels, count, n, silu) = (c.pixels, c.channels, c.groups, c.values, c.silu);
        let (sums, found, epsilon) = (partial.into(), saved.into(), EPSILON as f32);
        match call.output {
            Target::Wide(y) => {
                let x = x.wide();
                kernels::group_norm::forward_partial(queue, chunks, x, partial, pixels, channels)?;
                kernels::group_norm::forward_statistics(
                    queue, groups, x, sums, saved, pixels, channels, c.chunks, epsilon,
                )?;
                kernels::group_norm::forward(
                    queue, values, x, found, gamma, beta, y, n, channels, count, silu,
                )
            }
            Target::Narrow(y) => {
                let (x, kind) = (x.narrow(), bf16(queue));
                kernels::group_norm::forward_partial_narrow(
                    queue, chunks, x, partial, pixels, channels, kind,
                )?;
                kernels::group_norm::forward_statistics_narrow(
                    queue, groups, x, sums, saved, pixels, channels, c.chunks, epsilon, kind,
                )?;
                kernels::group_norm::forward_narrow(
                    queue, values, x, found, gamma, beta, y, n, channels, count, silu, kind,
                )
            }
        }
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let [gamma, beta] = [1, 2].map(|i| call.inputs[i].values.wide());
        let c = CudaExtents::new(call.inputs[0].shape, self)?;
        let (queue, saved, x, dy) = (call.queue, call.saved, call.inputs[0].values, call.output_gradient);
        let partial = call.workspace.part(0..c.partial_len());
        let (pixels, channels, groups, silu) = (c.pixels, c.channels, c.groups, c.silu);
        let launch = c.chunks_launch();
        match (x, dy) {
            (Source::Wide(x), Source::Wide(dy)) => kernels::group_norm::backward_partial(
                queue, launch, x, dy, saved, gamma, beta, partial, pixels, channels, groups, silu,
            )?,
            (x, dy) => {
                let (x, dy, kind) = (x.narrow(), dy.narrow(), bf16(queue));
                kernels::group_norm::backward_partial_narrow(
                    queue, launch, x, dy, saved, gamma, beta, partial, pixels, channels, groups, silu, kind,
                )?;
            }
        }
        for (gradient, offset) in [(call.gradients[1], channels), (call.gradients[2], 0)] {
            if let Some(gradient) = gradient {
                let (launch, add) = (Launch::items(channels as usize, 64), gradient.add());
                let (values, lines) = (gradient.values.wide(), c.images * c.chunks);
                kernels::group_norm::backward_affine(
                    queue,
                    launch,
                    partial.into(),
                    values,
                    lines,
                    channels,
                    offset,
                    add,
                )?;
            }
        }
        let Some(dx) = call.gradients[0] else { return Ok(()) };
        let means = call.workspace.part(c.partial_len()..call.workspace.len);
        let (launch, sums) = (c.groups_launch(), partial.into());
        kernels::group_norm::backward_means(queue, launch, sums, gamma, means, pixels, channels, c.chunks)?;
        let (launch, means, n, add) = (c.values_launch(), means.into(), c.values, dx.add());
        match dx.values {
            Target::Wide(dx) => {
                let (x, dy) = (x.wide(), dy.wide());
                kernels::group_norm::backward_dx(
                    queue, launch, x, dy, saved, gamma, beta, means, dx, n, channels, groups, silu, add,
                )
            }
            Target::Narrow(dx) => {
                let (x, dy, kind) = (x.narrow(), dy.narrow(), bf16(queue));
                kernels::group_norm::backward_dx_narrow(
                    queue, launch, x, dy, saved, gamma, beta, means, dx, n, channels, groups, silu, add, kind,
                )
            }
        }
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, groups, silu, x: [usize; 4], fill| Case {
            name: name.into(),
            op: Box::new(GroupNorm { groups, silu }),
            inputs: vec![
                CaseInput { shape: Shape::new(&x), fill },
                CaseInput::normal(&[x[3]]),
                CaseInput::normal(&[x[3]]),
            ],
            terms: x[0] * x[1] * x[2] * x[3],
        };
        let normal = Fill::Normal { scale: 1.0 };
        vec![
            case("one group", 1, false, [1, 3, 2, 4], normal),
            case("groups of 3", 2, false, [2, 3, 5, 6], normal),
            case("groups of 3, SiLU", 2, true, [2, 3, 5, 6], normal),
            case("a channel a group, SiLU", 17, true, [1, 2, 3, 17], normal),
            case("off centre", 2, true, [1, 4, 4, 4], Fill::Uniform { low: 3.0, high: 5.0 }),
            case("two chunks of pixels", 1, true, [1, 9, 29, 1], normal),
        ]
    }
}

/// Pixels of a chunk in the kernels.
const CUDA_CHUNK: usize = 256;

/// Two lines of channels for every chunk of every image, to a whole cache line.
fn cuda_partial_len(images: usize, pixels: usize, channels: usize) -> usize {
    crate::cpu::arena::padded(images * pixels.div_ceil(CUDA_CHUNK) * 2 * channels)
}

/// The extents as the kernels take them.
struct CudaExtents {
    images: i32,
    pixels: i32,
    channels: i32,
    groups: i32,
    chunks: i32,
    /// Of an image.
    values: i32,
    silu: i32,
}

impl CudaExtents {
    fn new(x: Shape, op: &GroupNorm) -> Result<Self> {
        let [images, height, width, channels] = x.nhwc().unwrap_or_default();
        let pixels = height * width;
        Ok(Self {
            images: int(images)?,
            pixels: int(pixels)?,
            channels: int(channels)?,
            groups: int(op.groups)?,
            chunks: int(pixels.div_ceil(CUDA_CHUNK))?,
            values: int(pixels * channels)?,
            silu: i32::from(op.silu),
        })
    }

    fn partial_len(&self) -> usize {
        cuda_partial_len(self.images as usize, self.pixels as usize, self.channels as usize)
    }

    fn chunks_launch(&self) -> Launch {
        let grid = [self.chunks as u32, (self.channels as u32).div_ceil(32), self.images as u32];
        Launch { grid, block: [256, 1, 1], shared: 0 }
    }

    fn groups_launch(&self) -> Launch {
        Launch { grid: [self.groups as u32, self.images as u32, 1], block: [128, 1, 1], shared: 0 }
    }

    fn values_launch(&self) -> Launch {
        Launch {
            grid: [(self.values as u32).div_ceil(256), self.images as u32, 1],
            block: [256, 1, 1],
            shared: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |groups, x: &[usize], gamma: usize| {
            let shapes = [Shape::new(x), Shape::new(&[gamma]), Shape::new(&[4])];
            let op = GroupNorm { groups, silu: false };
            op.shape(&shapes).expect_err("these shapes do not fit").to_string()
        };
        assert!(refusal(3, &[1, 2, 2, 4], 4).contains("do not divide into 3 groups"));
        assert!(refusal(0, &[1, 2, 2, 4], 4).contains("do not divide into 0 groups"));
        assert!(refusal(2, &[1, 2, 2, 4], 5).contains("expected gamma [4]"));
        assert!(refusal(2, &[1, 0, 2, 4], 4).contains("are empty"));
        assert!(refusal(2, &[2, 2, 4], 4).contains("4 extents"));
    }
}
