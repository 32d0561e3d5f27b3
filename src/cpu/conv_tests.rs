//! Against plain f64 loops, over shapes that cross every tile and block edge.

use super::*;
use crate::rng::Rng;

fn random(name: &str, len: usize) -> Vec<f32> {
    let mut rng = Rng::named(1, name);
    (0..len).map(|_| rng.range(-1.0, 1.0)).collect()
}

/// Calls `visit(x index, w index, y index)` for every product of the convolution.
fn for_each_product(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let s = shape;
    for b in 0..s.batch {
        for (oh, ow) in (0..s.out_height()).flat_map(|i| (0..s.out_width()).map(move |j| (i, j))) {
            for (kh, kw) in (0..s.kernel_height).flat_map(|i| (0..s.kernel_width).map(move |j| (i, j))) {
                let (i, j) = (oh * s.stride + kh, ow * s.stride + kw);
                if i < s.padding || j < s.padding {
                    continue;
                }
                let (i, j) = (i - s.padding, j - s.padding);
                if i >= s.in_height || j >= s.in_width {
                    continue;
                }
                let x = ((b * s.in_height + i) * s.in_width + j) * s.in_channels;
                let w = (kh * s.kernel_width + kw) * s.in_channels;
                let y = ((b * s.out_height() + oh) * s.out_width() + ow) * s.out_channels;
                for c in 0..s.in_channels {
                    for o in 0..s.out_channels {
                        visit(x + c, (w + c) * s.out_channels + o, y + o);
                    }
                }
            }
        }
    }
}

/// Rounding of a sum of n products of values below 1 in f32: n eps/2 at worst (Higham, section 3.1),
/// and blocks are added once more.
fn assert_close(found: &[f32], expected: &[f64], terms: usize, what: &str) {
    assert_eq!(found.len(), expected.len());
    let tolerance = (terms + 4) as f64 * f64::from(f32::EPSILON);
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(f) - e).abs() <= tolerance, "{what}: value {i} is {f}, expected {e}");
    }
}

fn check(kernel: &Kernel, shape: &ConvShape, add: bool) {
    let s = shape;
    let what = format!("{} x {} tile, {shape:?}, add {add}", kernel.rows, kernel.columns);
    let (x, w) = (random("x", s.input_len()), random("w", s.weight_len()));
    let (bias, dy) = (random("bias", s.out_channels), random("dy", s.output_len()));
    let in_bias = random("in bias", s.in_channels);
    let old = if add { 0.5 } else { 0.0 };
    let mut y64: Vec<f64> = (0..s.output_len()).map(|i| f64::from(bias[i % s.out_channels])).collect();
    let mut dx64: Vec<f64> =
        (0..s.input_len()).map(|i| f64::from(in_bias[i % s.in_channels]) + old).collect();
    let mut dw64 = vec![old; s.weight_len()];
    for_each_product(s, |ix, iw, iy| {
        let (vx, vw, vy) = (f64::from(x[ix]), f64::from(w[iw]), f64::from(dy[iy]));
        y64[iy] += vx * vw;
        dx64[ix] += vw * vy;
        dw64[iw] += vx * vy;
    });
    // What an output holds before must not matter unless it is added to.
    let fill = if add { 0.5 } else { f32::NAN };
    let workspace = |len: usize| vec![f32::NAN; len];

    let mut y = vec![f32::NAN; s.output_len()];
    forward_with(kernel, s, &x, &w, (Some(&bias), false), &mut y, &mut workspace(s.forward_workspace()));
    assert_close(&y, &y64, s.patch(), &format!("forward, {what}"));

    let mut dx = vec![fill; s.input_len()];
    let mut scratch = workspace(s.backward_data_workspace());
    backward_data_with(kernel, s, &dy, &w, (Some(&in_bias), add), &mut dx, &mut scratch);
    let terms = s.kernel_height * s.kernel_width * s.out_channels;
    assert_close(&dx, &dx64, terms, &format!("data, {what}"));

    let mut dw = vec![fill; s.weight_len()];
    let len = transposed_workspace_len(kernel, s.patch(), s.out_channels, s.out_pixels());
    let gradient = Matrix { values: &dy, columns: s.out_channels, transposed: false };
    patches_transposed_by_matrix(kernel, &s.patches(&x), gradient, &mut dw, add, &mut workspace(len));
    assert_close(&dw, &dw64, s.out_pixels(), &format!("weight, {what}"));
}

/// [batch, height, width, in, out, kernel height, kernel width, stride, padding]
fn shape(e: [usize; 9]) -> ConvShape {
    ConvShape {
        batch: e[0],
        in_height: e[1],
        in_width: e[2],
        in_channels: e[3],
        out_channels: e[4],
        kernel_height: e[5],
        kernel_width: e[6],
        stride: e[7],
        padding: e[8],
    }
}

const SHAPES: &[[usize; 9]] = &[
    [1, 1, 1, 1, 1, 1, 1, 1, 0],
    [2, 5, 4, 3, 7, 3, 3, 1, 1],
    [1, 5, 7, 2, 33, 3, 2, 1, 0],
    [1, 3, 3, 2, 3, 3, 3, 1, 2],
    [2, 7, 6, 5, 4, 3, 3, 2, 1],
    [1, 9, 8, 3, 5, 2, 3, 3, 1],
    [1, 7, 7, 2, 3, 1, 1, 2, 0],
    [1, 8, 6, 3, 5, 2, 2, 2, 0],
    [2, 8, 12, 4, 17, 4, 4, 4, 0],
    [1, 9, 9, 4, 3, 4, 4, 4, 0],
    [1, 8, 8, 1, 2, 4, 4, 4, 2],
    // Depth across a line (256): 27 x 10 = 270, 1 x 257; rows across a task (140); columns across 256.
    [1, 3, 5, 30, 15, 3, 3, 1, 1],
    [1, 2, 2, 257, 2, 1, 1, 1, 0],
    [1, 13, 12, 2, 2, 1, 1, 1, 0],
    [1, 2, 3, 3, 259, 1, 1, 1, 0],
    [1, 2, 2, 2, 3, 2, 2, 1, 0],
];

#[test]
fn every_level_agrees_with_plain_loops() {
    for level in simd::levels() {
        let kernel = Kernel::of(level);
        for &extents in SHAPES {
            check(&kernel, &shape(extents), false);
        }
        check(&kernel, &shape(SHAPES[1]), true);
        check(&kernel, &shape(SHAPES[4]), true);
        check(&kernel, &shape(SHAPES[8]), true);
    }
}

/// Enough patches for partial sums, several tasks and several blocks of patches.
#[test]
fn many_pixels() {
    for level in simd::levels() {
        check(&Kernel::of(level), &shape([1, 40, 41, 3, 5, 3, 3, 1, 1]), false);
        check(&Kernel::of(level), &shape([1, 40, 41, 3, 5, 3, 3, 1, 1]), true);
    }
}

/// Around the rows of the tiles: 1 to 29 pixels, one more and one fewer than 14, 6 and 4.
#[test]
fn row_edges() {
    for level in simd::levels() {
        for width in 1..30 {
            check(&Kernel::of(level), &shape([1, 1, width, 3, 2, 1, 1, 1, 0]), false);
            check(&Kernel::of(level), &shape([1, 2, 3, width, width + 3, 1, 1, 1, 0]), false);
        }
    }
}

#[test]
fn threads_do_not_change_the_bits() {
    let s = shape([2, 31, 29, 6, 40, 3, 3, 1, 1]);
    let (x, w) = (random("x", s.input_len()), random("w", s.weight_len()));
    let (bias, dy) = (random("bias", s.out_channels), random("dy", s.output_len()));
    let run = || {
        let mut y = vec![0.0; s.output_len()];
        forward(&s, &x, &w, Some(&bias), &mut y, &mut vec![0.0; s.forward_workspace()]);
        let mut dx = vec![0.0; s.input_len()];
        backward_data(&s, &dy, &w, None, &mut dx, false, &mut vec![0.0; s.backward_data_workspace()]);
        let mut dw = vec![0.0; s.weight_len()];
        backward_weight(&s, &x, &dy, &mut dw, false, &mut vec![0.0; s.backward_weight_workspace()]);
        let mut db = vec![0.0; s.out_channels];
        let mut scratch = vec![0.0; backward_bias_workspace(dy.len(), s.out_channels)];
        backward_bias(&dy, s.out_channels, &mut db, false, &mut scratch);
        [y, dx, dw, db].map(|v| v.iter().map(|f| f.to_bits()).collect::<Vec<_>>())
    };
    let with_threads = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool").install(run)
    };
    let one = with_threads(1);
    assert!(one == with_threads(2), "2 threads differ from 1");
    assert!(one == with_threads(3), "3 threads differ from 1");
}

#[test]
fn the_bias_gradient_sums_all_pixels() {
    for (pixels, channels) in [(1, 1), (3, 64), (777, 4), (2000, 5), (1030, 100), (5, 0)] {
        let dy = random("dy", pixels * channels);
        let mut expected = vec![0.25; channels];
        for (i, &d) in dy.iter().enumerate() {
            expected[i % channels] += f64::from(d);
        }
        let mut db = vec![0.25; channels];
        let mut workspace = vec![f32::NAN; backward_bias_workspace(dy.len(), channels)];
        backward_bias(&dy, channels, &mut db, true, &mut workspace);
        assert_close(&db, &expected, pixels.min(BIAS_PIXELS), "bias");
    }
}
