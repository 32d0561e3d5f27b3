//! Times the operations of a training step of the preset `paper` on one mesh: `cargo bench --bench operations [-- NAME...]`
//! prints, tab-separated, name, kind and extents (batch, extent, in, out, kernel, stride, padding), then the median
//! milliseconds of forward, data gradient and weight gradient (group norm: forward and whole backward; Adam: the
//! update), for all or for those named. `tools/pytorch/operations.py` runs it beside PyTorch.

use hexcuda::cpu::arena::Arena;
use hexcuda::cpu::conv::{self, ConvShape};
use hexcuda::device::{Buffer, Device};
use hexcuda::error::Result;
use hexcuda::nn::{Adam, AdamSettings};
use hexcuda::ops::{GroupNorm, Mse};
use hexcuda::rng::Rng;
use hexcuda::shape::Shape;
use hexcuda::tape::{Graph, ParameterLayout, Role, Tape};
use std::time::{Duration, Instant};

/// Name, kind, [batch, extent of the input, in, out, kernel, stride, padding].
const ROWS: &[(&str, &str, [usize; 7])] = &[
    ("stem", "conv", [6, 512, 4, 128, 8, 8, 0]),
    ("down_128", "conv", [6, 64, 128, 256, 2, 2, 0]),
    ("down_256", "conv", [6, 32, 256, 512, 2, 2, 0]),
    ("encoder_out", "conv", [6, 16, 512, 256, 1, 1, 0]),
    ("linear_in", "conv", [6, 512, 4, 256, 32, 32, 0]),
    ("decoder_in", "conv", [6, 16, 256, 512, 3, 1, 1]),
    ("3x3_512", "conv", [6, 16, 512, 512, 3, 1, 1]),
    ("3x3_256", "conv", [6, 32, 256, 256, 3, 1, 1]),
    ("3x3_128", "conv", [6, 64, 128, 128, 3, 1, 1]),
    ("up_512", "transposed", [6, 16, 512, 256, 2, 2, 0]),
    ("up_256", "transposed", [6, 32, 256, 128, 2, 2, 0]),
    ("decoder_out", "transposed", [6, 64, 128, 4, 8, 8, 0]),
    ("linear_out", "transposed", [6, 16, 256, 4, 32, 32, 0]),
    ("norm_512", "norm", [6, 16, 512, 512, 0, 0, 0]),
    ("norm_256", "norm", [6, 32, 256, 256, 0, 0, 0]),
    ("norm_128", "norm", [6, 64, 128, 128, 0, 0, 0]),
    ("adam", "adam", [1, 1, 37_875_976, 1, 0, 0, 0]),
];

/// Channels a group, as the network has it.
const CHANNELS_A_GROUP: usize = 16;

/// Long enough for a median, short enough for a whole table in half a minute.
const BUDGET: Duration = Duration::from_millis(400);

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    for (name, kind, extents) in ROWS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            let times = match *kind {
                "norm" => norm(extents)?,
                "adam" => adam(extents[2])?,
                kind => convolution(extents, kind == "transposed"),
            };
            let texts = extents.iter().map(usize::to_string).chain(times.iter().map(|ms| format!("{ms:.4}")));
            println!("{name}\t{kind}\t{}", texts.collect::<Vec<_>>().join("\t"));
        }
    }
    Ok(())
}

/// As the arrays of a step lie: on whole cache lines, in large pages.
fn random(rng: &mut Rng, n: usize) -> Arena {
    let mut values = Arena::zeros(n);
    values.as_mut_slice().fill_with(|| rng.range(-1.0, 1.0));
    values
}

/// A transposed convolution is the data gradient of the convolution that goes the other way.
fn convolution(extents: &[usize; 7], transposed: bool) -> Vec<f64> {
    let &[batch, extent, from, to, kernel, stride, padding] = extents;
    let (extent, in_channels, out_channels) =
        if transposed { (extent * stride, to, from) } else { (extent, from, to) };
    let shape = ConvShape {
        batch,
        in_height: extent,
        in_width: extent,
        in_channels,
        out_channels,
        kernel_height: kernel,
        kernel_width: kernel,
        stride,
        padding,
    };
    let mut rng = Rng::new(1, 0);
    let [mut x, w, mut y] =
        [shape.input_len(), shape.weight_len(), shape.output_len()].map(|n| random(&mut rng, n));
    let (x, w, y) = (x.as_mut_slice(), w.as_slice(), y.as_mut_slice());
    let [mut dw, mut scratch] = [shape.weight_len(), shape.forward_workspace()].map(Arena::zeros);
    let forward = median(|| conv::forward(&shape, x, w, None, y, scratch.as_mut_slice()));
    let mut scratch = Arena::zeros(shape.backward_weight_workspace());
    let dw = dw.as_mut_slice();
    let weight = median(|| conv::backward_weight(&shape, x, y, dw, false, scratch.as_mut_slice()));
    let mut scratch = Arena::zeros(shape.backward_data_workspace());
    let data = median(|| conv::backward_data(&shape, y, w, None, x, false, scratch.as_mut_slice()));
    if transposed { vec![data, forward, weight] } else { vec![forward, data, weight] }
}

/// Forward and backward with the SiLU.
fn norm(&[batch, extent, channels, ..]: &[usize; 7]) -> Result<Vec<f64>> {
    let shape = Shape::new(&[batch, extent, extent, channels]);
    let mut layout = ParameterLayout::default();
    layout.add("x", shape, Role::Embedding, false, 1.0);
    layout.add("gamma", Shape::new(&[channels]), Role::Scale, false, 1.0);
    layout.add("beta", Shape::new(&[channels]), Role::Bias, false, 1.0);
    let mut graph = Graph::default();
    let inputs = ["x", "gamma", "beta"].map(|name| graph.parameter(&layout, name));
    let y = graph.apply(GroupNorm { groups: channels / CHANNELS_A_GROUP, silu: true }, &inputs)?;
    let (target, weight) = (graph.input(shape), graph.input(Shape::new(&[channels])));
    let loss = graph.apply(Mse, &[y, target, weight])?;
    let mut tape = Tape::new(&Device::Cpu, graph, Some(loss), &[])?;
    let mut parameters = Buffer::zeros(&Device::Cpu, layout.len(), "the inputs")?;
    parameters.load(0, random(&mut Rng::new(1, 0), layout.len()).as_slice())?;
    let mut gradients = Buffer::zeros(&Device::Cpu, layout.len(), "their gradients")?;
    tape.load(weight, 0, &vec![1.0; channels])?;
    let times = tape.time_ops(&parameters, &mut gradients, 15)?;
    // The nodes come in the order of recording.
    Ok(times.into_iter().take(1).flat_map(|op| op.passes).flatten().map(|pass| pass.median).collect())
}

/// The update with clipping.
fn adam(count: usize) -> Result<Vec<f64>> {
    let mut layout = ParameterLayout::default();
    layout.add("weights", Shape::new(&[count]), Role::Bias, false, 1.0);
    let mut rng = Rng::new(1, 0);
    let mut filled = || -> Result<Buffer> {
        let mut buffer = Buffer::zeros(&Device::Cpu, layout.len(), "parameters")?;
        buffer.load(0, random(&mut rng, count).as_slice())?;
        Ok(buffer)
    };
    let (mut parameters, gradients) = (filled()?, filled()?);
    let mut adam = Adam::new(AdamSettings::default(), &layout, &Device::Cpu)?;
    let mut outcome = Ok(());
    let time = median(|| {
        let update = adam.update(&mut parameters, &gradients, 1.0).map(drop);
        outcome = std::mem::replace(&mut outcome, Ok(())).and(update);
    });
    outcome.map(|()| vec![time])
}

/// Median milliseconds of a call.
fn median(mut call: impl FnMut()) -> f64 {
    call();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed() < BUDGET {
        let start = Instant::now();
        call();
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
