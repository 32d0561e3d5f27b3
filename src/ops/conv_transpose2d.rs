//! The adjoint of [`super::Conv2d`] in its image, plus a bias: an upsampling convolution.
//!
//! Inputs: x `[batch, height, width, in]`, w `[kernel height, kernel width, out, in]`, bias `[out]`;
//! y is `(height - 1) stride - 2 padding + kernel height` high.

use super::conv2d::{conv_inputs, mismatch};
use super::cuda::conv::{
    Conv, ForwardKernel, InputKernel, NarrowForwardKernel, NarrowInputKernel, NarrowWeightKernel, Tiles,
    WeightKernel, extents, tiles,
};
use super::cuda::{self, Gradient, Source, bf16};
use super::{Backward, Case, CaseInput, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::conv::{self, ConvShape};
use crate::cuda::{Launch, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;

#[derive(Clone, Debug)]
pub struct ConvTranspose2d {
    pub stride: usize,
    /// Lines cut off the result on all four sides.
    pub padding: usize,
}

impl ConvTranspose2d {
    /// The convolution of which this is the adjoint: its image is our output.
    fn conv_shape(&self, inputs: &[Shape]) -> Result<ConvShape> {
        let op = "conv_transpose2d";
        let [x, w, bias] = conv_inputs(op, inputs, self.stride)?;
        let ([batch, height, width, channels], [kernel_height, kernel_width, out_channels, in_channels]) =
            (x, w);
        if channels != in_channels {
            return Err(mismatch(op, "channels of the image", channels, in_channels));
        }
        if bias[0] != out_channels {
            return Err(mismatch(op, "values of bias", bias[0], out_channels));
        }
        let extent = |name: &str, extent: usize, kernel: usize| {
            let whole = extent.checked_sub(1).map(|steps| steps * self.stride + kernel);
            whole.and_then(|whole| whole.checked_sub(2 * self.padding)).filter(|&left| left > 0).ok_or_else(
                || {
                    let problem = format!(
                        "{name} {extent}, kernel {kernel} and padding {} leave nothing",
                        self.padding
                    );
                    Error::new(op, problem, "use a larger image or less padding")
                },
            )
        };
        Ok(ConvShape {
            batch,
            in_height: extent("height", height, kernel_height)?,
            in_width: extent("width", width, kernel_width)?,
            in_channels: out_channels,
            out_channels: in_channels,
            kernel_height,
            kernel_width,
            stride: self.stride,
            padding: self.padding,
        })
    }

    /// For calls whose shapes `shape` has accepted.
    fn accepted(&self, inputs: &[super::Tensor]) -> ConvShape {
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
        self.conv_shape(&shapes).expect("the shape rule accepted these inputs")
    }
}

/// The kernels' tiles for each of the three products.
static FORWARD: Tiles<ForwardKernel, NarrowForwardKernel> = tiles!(
    conv_transpose2d,
    forward_tf32_128x128,
    forward_tf32_128x64,
    forward_tf32_64x64,
    forward_bf16_128x128,
    forward_bf16_64x64,
    forward_fp16_128x128,
    forward_fp16_64x64,
    forward_fp32_128x64,
    forward_fp32_64x64
);
static INPUT: Tiles<InputKernel, NarrowInputKernel> = tiles!(
    conv_transpose2d_backward_dx,
    tf32_128x128,
    tf32_128x64,
    tf32_64x64,
    bf16_128x128,
    bf16_64x64,
    fp16_128x128,
    fp16_64x64,
    fp32_128x64,
    fp32_64x64
);
static WEIGHT: Tiles<WeightKernel, NarrowWeightKernel> = tiles!(
    conv_transpose2d_backward_dw,
    tf32_128x128,
    tf32_128x64,
    tf32_64x64,
    bf16_128x128,
    bf16_64x64,
    fp16_128x128,
    fp16_64x64,
    fp32_128x64,
    fp32_64x64
);

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let s = self.conv_shape(inputs)?;
        Ok(Shape::new(&[s.batch, s.in_height, s.in_width, s.in_channels]))
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let Ok(s) = self.conv_shape(inputs) else { return Memory::default() };
        let (forward_workspace, backward_workspace) = match on {
            Kind::Cpu(products) => {
                let backward = products
                    .forward_workspace(&s)
                    .max(products.backward_weight_workspace(&s))
                    .max(conv::backward_bias_workspace(s.input_len(), s.in_channels));
                (products.backward_data_workspace(&s), backward)
            }
            Kind::Cuda { multiprocessors, precision } => {
                let conv = Conv { shape: &s, precision, multiprocessors };
                (0, conv.workspace(&WEIGHT, s.input_len() / s.in_channels, s.in_channels))
            }
        };
        Memory {
            saved: 0,
            forward_workspace,
            backward_workspace,
            backward_inputs: vec![0, 1],
            backward_output: false,
            passed_on: Vec::new(),
            recompute: false,
        }
    }

    fn storage(&self) -> Storage {
        Storage::Product
    }

    fn operations(&self, inputs: &[Shape]) -> f64 {
        // Each input value meets every tap and output channel.
        let taps: usize = inputs[1].extents()[..3].iter().product();
        2.0 * taps as f64 * inputs[0].len() as f64
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let [x, w, bias] = inputs else { return Vec::new() };
        let ([batch, height, width, channels], [kh, kw, out, _]) =
            (x.shape.nhwc().unwrap_or_default(), w.shape.nhwc().unwrap_or_default());
        let out_height = (height - 1) * self.stride + kh - 2 * self.padding;
        let out_width = (width - 1) * self.stride + kw - 2 * self.padding;
        let mut y: Vec<f64> =
            (0..batch * out_height * out_width * out).map(|i| bias.values[i % out]).collect();
        for b in 0..batch {
            for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                for (di, dj) in (0..kh).flat_map(|di| (0..kw).map(move |dj| (di, dj))) {
                    let row = (i * self.stride + di).wrapping_sub(self.padding);
                    let column = (j * self.stride + dj).wrapping_sub(self.padding);
                    if row >= out_height || column >= out_width {
                        continue;
                    }
                    for (o, c) in (0..out).flat_map(|o| (0..channels).map(move |c| (o, c))) {
                        y[((b * out_height + row) * out_width + column) * out + o] += x.values
                            [((b * height + i) * width + j) * channels + c]
                            * w.values[((di * kw + dj) * out + o) * channels + c];
                    }
                }
            }
        }
        y
    }

    fn forward_cpu(&self, call: Forward) {
        let [x, w, bias] = call.inputs else { return };
        let shape = self.accepted(call.inputs);
        let bias = (Some(bias.values), false);
        call.products.backward_data(&shape, x.values, w.values, bias, call.output, call.workspace);
    }

    fn backward_cpu(&self, mut call: Backward) {
        let shape = self.accepted(call.inputs);
        let (x, w, dy) = (call.inputs[0].values, call.inputs[1].values, call.output_gradient);
        let [dx, dw, db] = &mut call.gradients[..] else { return };
        if let Some(dx) = dx {
            call.products.forward(&shape, dy, w, (None, dx.add), dx.values, call.workspace);
        }
        if let Some(dw) = dw {
            call.products.backward_weight(&shape, dy, x, dw.values, dw.add, call.workspace);
        }
        if let Some(db) = db {
            conv::backward_bias(dy, shape.in_channels, db.values, db.add, call.workspace);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, w, bias] = [0, 1, 2].map(|i| call.inputs[i].values);
        let shape = self.conv_shape(&call.inputs.iter().map(|input| input.shape).collect::<Vec<_>>())?;
        let conv = Conv::new(call.queue, &shape);
        let (run, launch) = conv.product(&FORWARD, conv.input());
        run.run(call.queue, launch, [x, w], bias.wide(), call.output, extents(&shape, true)?)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let shape = self.conv_shape(&call.inputs.iter().map(|input| input.shape).collect::<Vec<_>>())?;
        let ([x, w], queue) = ([0, 1].map(|i| call.inputs[i].values), call.queue);
        let (conv, e) = (Conv::new(queue, &shape), extents(&shape, true)?);
        if let Some(dx) = call.gradients[0] {
            let (run, launch) = conv.product(&INPUT, conv.output());
            run.run(queue, launch, [call.factor, w], dx, e)?;
        }
        let partial = call.workspace;
        let sum = |parts: usize, gradient: Gradient| {
            let (values, from) = (gradient.values.wide(), partial.into());
            let (launch, parts, length) = (Launch::items(values.len, 256), int(parts)?, int(values.len)?);
            kernels::conv_transpose2d::backward_sum(
                queue,
                launch,
                from,
                values,
                parts,
                length,
                gradient.add(),
            )
        };
        if let Some(dw) = call.gradients[1] {
            let (run, launch, splits) = conv.weight_product(&WEIGHT);
            // A single part that overwrites is the gradient itself.
            let direct = splits == 1 && !dw.add;
            run.run(queue, launch, [x, call.factor], if direct { dw.values.wide() } else { partial }, e)?;
            if !direct {
                sum(splits, dw)?;
            }
        }
        let (Some(db), dy) = (call.gradients[2], call.output_gradient) else { return Ok(()) };
        let channels = db.values.len();
        let ((launch, chunks), n) = (conv.bias_launch(dy.len() / channels, channels), int(channels)?);
        let pixels = int(dy.len() / channels)?;
        match dy {
            Source::Wide(dy) => {
                kernels::conv_transpose2d::backward_bias(queue, launch, dy, partial, pixels, n)?
            }
            Source::Narrow(dy) => {
                kernels::conv_transpose2d::backward_bias_narrow(
                    queue,
                    launch,
                    dy,
                    partial,
                    pixels,
                    n,
                    bf16(queue),
                )?;
            }
        }
        sum(chunks, db)
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, stride, padding, x: [usize; 4], w: [usize; 4]| Case {
            name: name.into(),
            op: Box::new(ConvTranspose2d { stride, padding }),
            inputs: vec![CaseInput::normal(&x), CaseInput::normal(&w), CaseInput::normal(&[w[2]])],
            terms: (w[0] * w[1] * w[2].max(w[3])).max(x[0] * x[1] * x[2] * stride * stride),
        };
        vec![
            case("one value", 1, 0, [1, 1, 1, 1], [1, 1, 1, 1]),
            case("2x2 doubling", 2, 0, [2, 3, 3, 5], [2, 2, 4, 5]),
            case("patches of 4, 33 channels in", 4, 0, [1, 2, 2, 33], [4, 4, 1, 33]),
            case("4x4 doubling, padded", 2, 1, [1, 3, 4, 3], [4, 4, 2, 3]),
            case("3x3, stride 2", 2, 1, [1, 3, 4, 3], [3, 3, 2, 3]),
            case("gaps between the patches", 3, 0, [1, 2, 3, 3], [2, 2, 4, 3]),
            case("oblong, stride 1", 1, 1, [1, 4, 3, 2], [3, 4, 3, 2]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |padding: usize, x: &[usize], w: &[usize], bias: usize| {
            let shapes = [Shape::new(x), Shape::new(w), Shape::new(&[bias])];
            let op = ConvTranspose2d { stride: 2, padding };
            op.shape(&shapes).expect_err("these shapes do not fit").to_string()
        };
        assert!(refusal(1, &[1, 1, 3, 4], &[2, 2, 3, 4], 3).contains("leave nothing"));
        assert!(refusal(0, &[1, 0, 3, 4], &[2, 2, 3, 4], 3).contains("leave nothing"));
        assert!(refusal(0, &[1, 2, 2, 3], &[2, 2, 3, 4], 3).contains("4 channels"));
        assert!(refusal(0, &[1, 2, 2, 4], &[2, 2, 3, 4], 4).contains("3 values of bias"));
    }
}
