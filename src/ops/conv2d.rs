//! y = x * w + bias: 2-D cross-correlation of NHWC images.
//!
//! Inputs: x `[batch, height, width, in]`, w `[kernel height, kernel width, in, out]`, bias `[out]`.

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
pub struct Conv2d {
    pub stride: usize,
    /// Zeros around the image, the same on all four sides.
    pub padding: usize,
}

impl Conv2d {
    fn conv_shape(&self, inputs: &[Shape]) -> Result<ConvShape> {
        let [x, w, bias] = conv_inputs("conv2d", inputs, self.stride)?;
        let ([batch, height, width, channels], [kernel_height, kernel_width, in_channels, out_channels]) =
            (x, w);
        if channels != in_channels {
            return Err(mismatch("conv2d", "channels of the image", channels, in_channels));
        }
        if bias[0] != out_channels {
            return Err(mismatch("conv2d", "values of bias", bias[0], out_channels));
        }
        for (name, extent, kernel) in [("height", height, kernel_height), ("width", width, kernel_width)] {
            if kernel > extent + 2 * self.padding {
                return Err(Error::new(
                    "conv2d",
                    format!(
                        "the kernel's {name} {kernel} exceeds the padded image's {extent} + 2 x {}",
                        self.padding
                    ),
                    "use a smaller kernel, a larger image or more padding",
                ));
            }
        }
        Ok(ConvShape {
            batch,
            in_height: height,
            in_width: width,
            in_channels,
            out_channels,
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

/// Extents of x (rank 4), w (rank 4) and bias (rank 1, its extent first), none of w's and the
/// stride 0.
pub(super) fn conv_inputs(op: &str, inputs: &[Shape], stride: usize) -> Result<[[usize; 4]; 3]> {
    let error = |problem: String, remedy: &str| Err(Error::new(op, problem, remedy));
    let [x, w, bias] = inputs else {
        return error(format!("expected 3 inputs, found {}", inputs.len()), "pass x, w and bias");
    };
    let (Some(x), Some(w)) = (x.nhwc(), w.nhwc()) else {
        return error(
            format!("expected 4 extents of x and w, found {x} and {w}"),
            "pass NHWC images and [height, width, in, out] weights",
        );
    };
    let [bias] = bias.extents() else {
        return error(format!("expected 1 extent of bias, found {bias}"), "pass one value a channel");
    };
    if stride == 0 {
        return error("the stride is 0".into(), "use a stride of 1 or more");
    }
    if w.contains(&0) {
        return error(format!("the weights {w:?} are empty"), "use extents of 1 or more");
    }
    Ok([x, w, [*bias, 1, 1, 1]])
}

pub(super) fn mismatch(op: &str, what: &str, found: usize, expected: usize) -> Error {
    Error::new(
        op,
        format!("expected {expected} {what} to fit the weights, found {found}"),
        "make the extents agree",
    )
}

/// The kernels' tiles for each of the three products.
static FORWARD: Tiles<ForwardKernel, NarrowForwardKernel> = tiles!(
    conv2d,
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
    conv2d_backward_dx,
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
    conv2d_backward_dw,
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

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let s = self.conv_shape(inputs)?;
        Ok(Shape::new(&[s.batch, s.out_height(), s.out_width(), s.out_channels]))
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let Ok(s) = self.conv_shape(inputs) else { return Memory::default() };
        let (forward_workspace, backward_workspace) = match on {
            Kind::Cpu(products) => {
                let backward = products
                    .backward_data_workspace(&s)
                    .max(products.backward_weight_workspace(&s))
                    .max(conv::backward_bias_workspace(s.output_len(), s.out_channels));
                (products.forward_workspace(&s), backward)
            }
            Kind::Cuda { multiprocessors, precision } => {
                let conv = Conv { shape: &s, precision, multiprocessors };
                (0, conv.workspace(&WEIGHT, s.out_pixels(), s.out_channels))
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
        // Each output value takes a multiplication and an addition a tap and channel.
        let taps: usize = inputs[1].extents()[..3].iter().product();
        self.shape(inputs).map_or(0.0, |output| 2.0 * taps as f64 * output.len() as f64)
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let [x, w, bias] = inputs else { return Vec::new() };
        let ([batch, height, width, channels], [kh, kw, _, out]) =
            (x.shape.nhwc().unwrap_or_default(), w.shape.nhwc().unwrap_or_default());
        let out_height = (height + 2 * self.padding - kh) / self.stride + 1;
        let out_width = (width + 2 * self.padding - kw) / self.stride + 1;
        let mut y = Vec::with_capacity(batch * out_height * out_width * out);
        for b in 0..batch {
            for i in 0..out_height {
                for j in 0..out_width {
                    for o in 0..out {
                        let mut sum = bias.values[o];
                        for (di, dj) in (0..kh).flat_map(|di| (0..kw).map(move |dj| (di, dj))) {
                            let row = (i * self.stride + di).wrapping_sub(self.padding);
                            let column = (j * self.stride + dj).wrapping_sub(self.padding);
                            if row >= height || column >= width {
                                continue;
                            }
                            for c in 0..channels {
                                sum += x.values[((b * height + row) * width + column) * channels + c]
                                    * w.values[((di * kw + dj) * channels + c) * out + o];
                            }
                        }
                        y.push(sum);
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
        call.products.forward(&shape, x.values, w.values, bias, call.output, call.workspace);
    }

    fn backward_cpu(&self, mut call: Backward) {
        let shape = self.accepted(call.inputs);
        let (x, w, dy) = (call.inputs[0].values, call.inputs[1].values, call.output_gradient);
        let [dx, dw, db] = &mut call.gradients[..] else { return };
        if let Some(dx) = dx {
            call.products.backward_data(&shape, dy, w, (None, dx.add), dx.values, call.workspace);
        }
        if let Some(dw) = dw {
            call.products.backward_weight(&shape, x, dy, dw.values, dw.add, call.workspace);
        }
        if let Some(db) = db {
            conv::backward_bias(dy, shape.out_channels, db.values, db.add, call.workspace);
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [x, w, bias] = [0, 1, 2].map(|i| call.inputs[i].values);
        let shape = self.conv_shape(&call.inputs.iter().map(|input| input.shape).collect::<Vec<_>>())?;
        let conv = Conv::new(call.queue, &shape);
        let (run, launch) = conv.product(&FORWARD, conv.output());
        run.run(call.queue, launch, [x, w], bias.wide(), call.output, extents(&shape, false)?)
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let shape = self.conv_shape(&call.inputs.iter().map(|input| input.shape).collect::<Vec<_>>())?;
        let ([x, w], queue) = ([0, 1].map(|i| call.inputs[i].values), call.queue);
        let (conv, e) = (Conv::new(queue, &shape), extents(&shape, false)?);
        if let Some(dx) = call.gradients[0] {
            let (run, launch) = conv.product(&INPUT, conv.input());
            run.run(queue, launch, [call.factor, w], dx, e)?;
        }
        let partial = call.workspace;
        let sum = |parts: usize, gradient: Gradient| {
            let (values, from) = (gradient.values.wide(), partial.into());
            let (launch, parts, length) = (Launch::items(values.len, 256), int(parts)?, int(values.len)?);
            kernels::conv2d::backward_sum(queue, launch, from, values, parts, length, gradient.add())
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
            Source::Wide(dy) => kernels::conv2d::backward_bias(queue, launch, dy, partial, pixels, n)?,
            Source::Narrow(dy) => {
                kernels::conv2d::backward_bias_narrow(queue, launch, dy, partial, pixels, n, bf16(queue))?;
            }
        }
        sum(chunks, db)
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, stride, padding, x: [usize; 4], w: [usize; 4]| Case {
            name: name.into(),
            op: Box::new(Conv2d { stride, padding }),
            inputs: vec![CaseInput::normal(&x), CaseInput::normal(&w), CaseInput::normal(&[w[3]])],
            terms: (w[0] * w[1] * w[2].max(w[3])).max(x[0] * x[1] * x[2]),
        };
        vec![
            case("one value", 1, 0, [1, 1, 1, 1], [1, 1, 1, 1]),
            case("3x3 padded, two tiles of columns", 1, 1, [2, 3, 5, 3], [3, 3, 3, 5]),
            case("1x1, 33 channels out", 1, 0, [1, 3, 5, 3], [1, 1, 3, 33]),
            case("3x3, tiles of minimal filtering", 1, 1, [3, 7, 6, 16], [3, 3, 16, 32]),
            case("3x3 strided, padded, odd", 2, 1, [1, 6, 5, 3], [3, 3, 3, 4]),
            case("patches of 4", 4, 0, [1, 8, 8, 3], [4, 4, 3, 5]),
            case("2x2 strided, a row left over", 2, 0, [1, 5, 4, 3], [2, 2, 3, 4]),
            case("oblong kernel, stride 3", 3, 2, [1, 4, 7, 2], [2, 5, 2, 3]),
            case("padding wider than the image", 1, 2, [1, 1, 2, 2], [3, 3, 2, 2]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(stride: usize, padding: usize, shapes: &[&[usize]]) -> String {
        let shapes: Vec<Shape> = shapes.iter().map(|s| Shape::new(s)).collect();
        Conv2d { stride, padding }.shape(&shapes).expect_err("these shapes do not fit").to_string()
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x: &[usize] = &[1, 4, 4, 3];
        let w: &[usize] = &[5, 3, 3, 2];
        assert!(refusal(1, 0, &[x, w, &[2]]).contains("height 5 exceeds"));
        assert!(refusal(0, 1, &[x, w, &[2]]).contains("stride is 0"));
        assert!(refusal(1, 1, &[x, w, &[3]]).contains("2 values of bias"));
        assert!(refusal(1, 1, &[&[1, 4, 4, 2], w, &[2]]).contains("3 channels"));
        assert!(refusal(1, 1, &[x, w]).contains("3 inputs"));
        assert!(refusal(1, 1, &[&[4, 4, 3], w, &[2]]).contains("4 extents"));
        assert!(refusal(1, 1, &[x, &[1, 1, 3, 0], &[0]]).contains("empty"));
    }
}
