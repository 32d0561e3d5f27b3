//! Times the convolution cores: `cargo bench --bench conv [-- NAME...]` prints, tab-separated, the
//! median milliseconds and GFLOP/s of forward, data gradient and weight gradient for every shape, or for
//! those named. `tools/peers/conv.py` runs it beside PyTorch.

use hexcuda::cpu::conv::{self, ConvShape};
use hexcuda::rng::Rng;
use std::time::{Duration, Instant};

/// Name, [batch, extent, in, out, kernel, stride, padding].
const SHAPES: &[(&str, [usize; 7])] = &[
    ("3x3_64_96", [6, 64, 96, 96, 3, 1, 1]),
    ("3x3_32_192", [6, 32, 192, 192, 3, 1, 1]),
    ("3x3_16_448", [6, 16, 448, 448, 3, 1, 1]),
    ("3x3_8_448", [6, 8, 448, 448, 3, 1, 1]),
    ("3x3_8_448_b48", [48, 8, 448, 448, 3, 1, 1]),
    ("2x2_64_96_192", [6, 64, 96, 192, 2, 2, 0]),
    ("2x2_32_192_448", [6, 32, 192, 448, 2, 2, 0]),
    ("patch8_512_4_96", [6, 512, 4, 96, 8, 8, 0]),
    ("patch32_512_4_256", [6, 512, 4, 256, 32, 32, 0]),
    ("1x1_16_448_256", [6, 16, 448, 256, 1, 1, 0]),
];

/// Long enough for a median, short enough for a whole table in half a minute.
const BUDGET: Duration = Duration::from_millis(400);

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    println!("shape\tforward ms\tGFLOP/s\tdata ms\tGFLOP/s\tweight ms\tGFLOP/s");
    for (name, extents) in SHAPES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            report(name, extents);
        }
    }
}

fn report(name: &str, &[batch, extent, in_channels, out_channels, kernel, stride, padding]: &[usize; 7]) {
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
    let mut random = |n: usize| (0..n).map(|_| rng.range(-1.0, 1.0)).collect::<Vec<f32>>();
    let (mut x, w, mut y) =
        (random(shape.input_len()), random(shape.weight_len()), random(shape.output_len()));
    let mut dw = vec![0.0; w.len()];
    let mut workspace = vec![0.0; shape.forward_workspace()];
    let forward = median(|| conv::forward(&shape, &x, &w, None, &mut y, &mut workspace));
    let mut workspace = vec![0.0; shape.backward_weight_workspace()];
    let weight = median(|| conv::backward_weight(&shape, &x, &y, &mut dw, false, &mut workspace));
    let mut workspace = vec![0.0; shape.backward_data_workspace()];
    let data = median(|| conv::backward_data(&shape, &y, &w, None, &mut x, false, &mut workspace));
    let operations = 2.0 * (shape.out_pixels() * shape.weight_len()) as f64;
    print!("{name}");
    for seconds in [forward, data, weight] {
        print!("\t{:.3}\t{:.0}", seconds * 1e3, operations / seconds * 1e-9);
    }
    println!();
}

/// Median seconds of a call.
fn median(mut call: impl FnMut()) -> f64 {
    call();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed() < BUDGET {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
