//! Hot operations at small shapes for a counter of instructions: `instructions OPERATION TIMES` runs one so often on
//! the calling thread alone and prints the vector instructions in use. `tools/instructions.py` runs it.

use hexcuda::cpu::conv::{self, ConvShape};
use hexcuda::cpu::products::Products;
use hexcuda::cpu::simd;
use hexcuda::device::{Buffer, Device, Kind};
use hexcuda::hexplane::Representation;
use hexcuda::hexplane::rasterize::{Normals, rasterize};
use hexcuda::mesh::normalise::{Up, normalise};
use hexcuda::mesh::sample_head::head;
use hexcuda::nn::{Adam, AdamSettings};
use hexcuda::ops::{Backward, Forward, Gradient, GroupNorm, Op, Tensor};
use hexcuda::rng::Rng;
use hexcuda::shape::Shape;
use hexcuda::tape::{ParameterLayout, Role};
use std::error::Error;
use std::hint::black_box;

/// What one call does, with all that it needs.
type Call = Box<dyn FnMut() -> Result<(), Box<dyn Error>>>;

fn random(rng: &mut Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.normal()).collect()
}

/// 3 x 3, 64 channels, six images of 16 x 16: minimal filtering takes it.
const CONVOLUTION: ConvShape = ConvShape {
    batch: 6,
    in_height: 16,
    in_width: 16,
    in_channels: 64,
    out_channels: 64,
    kernel_height: 3,
    kernel_width: 3,
    stride: 1,
    padding: 1,
};

fn convolution_forward(rng: &mut Rng) -> Call {
    let shape = CONVOLUTION;
    let (x, w) = (random(rng, shape.input_len()), random(rng, shape.weight_len()));
    let (mut y, mut workspace) = (vec![0.0; shape.output_len()], vec![0.0; shape.forward_workspace()]);
    Box::new(move || {
        conv::forward(&shape, &x, &w, None, black_box(&mut y), &mut workspace);
        Ok(())
    })
}

fn convolution_weight_gradient(rng: &mut Rng) -> Call {
    let shape = CONVOLUTION;
    let (x, dy) = (random(rng, shape.input_len()), random(rng, shape.output_len()));
    let (mut dw, mut workspace) =
        (vec![0.0; shape.weight_len()], vec![0.0; shape.backward_weight_workspace()]);
    Box::new(move || {
        conv::backward_weight(&shape, &x, &dy, black_box(&mut dw), false, &mut workspace);
        Ok(())
    })
}

/// Six images of 32 x 32 with 64 channels, SiLU behind.
fn group_norm_backward(rng: &mut Rng) -> Call {
    let (op, shape, line) =
        (GroupNorm { groups: 4, silu: true }, Shape::new(&[6, 32, 32, 64]), Shape::new(&[64]));
    let memory = op.memory(Kind::Cpu(Products::Fp32), &[shape, line, line]);
    let (x, gamma, beta, dy) =
        (random(rng, shape.len()), random(rng, 64), random(rng, 64), random(rng, shape.len()));
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; shape.len()], vec![0.0; 64], vec![0.0; 64]);
    let mut saved = vec![0.0; memory.saved];
    let mut workspace = vec![0.0; memory.forward_workspace.max(memory.backward_workspace)];
    let mut known = false;
    Box::new(move || {
        let inputs =
            [(shape, &x), (line, &gamma), (line, &beta)].map(|(shape, values)| Tensor { shape, values });
        if !known {
            let (output, workspace) = (&mut dx[..], &mut workspace[..]);
            op.forward_cpu(Forward {
                products: Products::Fp32,
                inputs: &inputs,
                output,
                saved: &mut saved,
                workspace,
            });
            known = true;
        }
        let gradients = [&mut dx, &mut dgamma, &mut dbeta];
        op.backward_cpu(Backward {
            products: Products::Fp32,
            inputs: &inputs,
            output: &[],
            output_gradient: &dy,
            saved: &saved,
            workspace: &mut workspace,
            gradients: gradients.map(|values| Some(Gradient { values, add: false })).into(),
        });
        black_box(&dx);
        Ok(())
    })
}

/// 2^18 parameters, clipped.
fn adam(rng: &mut Rng) -> Result<Call, Box<dyn Error>> {
    let (len, device) = (1 << 18, Device::Cpu);
    let mut layout = ParameterLayout::default();
    layout.add("weights", Shape::new(&[len]), Role::Bias, false, 1.0);
    let mut adam = Adam::new(AdamSettings::default(), &layout, &device)?;
    let mut parameters = Buffer::zeros(&device, len, "parameters")?;
    let mut gradients = Buffer::zeros(&device, len, "gradients")?;
    gradients.load(0, &random(rng, len))?;
    Ok(Box::new(move || {
        adam.update(&mut parameters, &gradients, 1.0)?;
        Ok(())
    }))
}

/// Six planes of 128 x 128 of a head of 2,000 triangles.
fn rasteriser() -> Result<Call, Box<dyn Error>> {
    let (mesh, transform) = normalise(&head(0, 2000), Up::default())?;
    Ok(Box::new(move || {
        let kind = Representation::Continuous;
        black_box(rasterize(&mesh, &transform, 128, kind, Normals::Interpolated)?);
        Ok(())
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operation, times] = arguments.as_slice() else {
        return Err("usage: instructions OPERATION TIMES".into());
    };
    // No second thread, which would count its own waiting.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let mut rng = Rng::new(1, 0);
    let mut call = match operation.as_str() {
        "convolution_forward" => convolution_forward(&mut rng),
        "convolution_weight_gradient" => convolution_weight_gradient(&mut rng),
        "group_norm_backward" => group_norm_backward(&mut rng),
        "adam" => adam(&mut rng)?,
        "rasteriser" => rasteriser()?,
        other => return Err(format!("no operation is named {other}").into()),
    };
    for _ in 0..times.parse()? {
        call()?;
    }
    println!("{}", simd::level().name());
    Ok(())
}
