//! Against plain f64 loops, over tiles that hang over every edge, for every instruction set.

use super::*;
use crate::cpu::simd;
use crate::rng::Rng;

fn random(name: &str, len: usize) -> Vec<f32> {
    let mut rng = Rng::named(2, name);
    (0..len).map(|_| rng.normal()).collect()
}

/// Calls `visit(x index, w index, y index)` for every product.
fn for_each_product(s: &Correlation, mut visit: impl FnMut(usize, usize, usize)) {
    for pixel in 0..s.batch * s.out_height * s.out_width {
        let (image, i, j) =
            (pixel / s.out_width / s.out_height, pixel / s.out_width % s.out_height, pixel % s.out_width);
        for tap in 0..TAPS * TAPS {
            let (y, x) = ((i + tap / TAPS).wrapping_sub(s.padding), (j + tap % TAPS).wrapping_sub(s.padding));
            if y >= s.height || x >= s.width {
                continue;
            }
            let from = ((image * s.height + y) * s.width + x) * s.depth;
            for c in 0..s.depth {
                for k in 0..s.columns {
                    visit(from + c, (tap * s.depth + c) * s.columns + k, pixel * s.columns + k);
                }
            }
        }
    }
}

/// Relative L2 error. An error of 2^-24 of a product grows by the entries of the transforms (up to 8) and averages out over
/// the `terms` of a sum: measured 3 to 5 times the root of their number times 2^-24.
fn assert_close(found: &[f32], expected: &[f64], terms: usize, what: &str) {
    let tolerance = 8.0 * (terms as f64).sqrt() * 0.5f64.powi(24);
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let error = square(&mut found.iter().zip(expected).map(|(&f, &e)| f64::from(f) - e));
    let relative = (error / square(&mut expected.iter().copied())).sqrt();
    assert!(relative < tolerance, "{what}: relative error {relative:.1e}, at most {tolerance:.1e} expected");
}

fn check(kernel: &Kernel, s: &Correlation, add: bool) {
    let (inputs, outputs) = (s.batch * s.height * s.width * s.depth, s.batch * s.out_height * s.out_width);
    let (x, w) = (random("x", inputs), random("w", TAPS * TAPS * s.depth * s.columns));
    let (bias, dy) = (random("bias", s.columns), random("dy", outputs * s.columns));
    let old = if add { 0.5 } else { 0.0 };
    let mut y64: Vec<f64> = (0..outputs * s.columns).map(|i| f64::from(bias[i % s.columns]) + old).collect();
    let mut dw64 = vec![old; w.len()];
    for_each_product(s, |ix, iw, iy| {
        y64[iy] += f64::from(x[ix]) * f64::from(w[iw]);
        dw64[iw] += f64::from(x[ix]) * f64::from(dy[iy]);
    });
    let what = format!("{} x {}, {s:?}, add {add}", kernel.rows, kernel.columns);
    let fill = if add { 0.5 } else { f32::NAN };
    let mut y = vec![fill; y64.len()];
    let mut workspace = vec![f32::NAN; workspace_len(kernel, s)];
    correlate(kernel, s, &x, &w, &mut y, Finish { bias: Some(&bias), add }, &mut workspace);
    assert_close(&y, &y64, s.depth, &what);
    let mut dw = vec![fill; w.len()];
    let mut workspace = vec![f32::NAN; weight_gradient_workspace(kernel, s)];
    weight_gradient(kernel, s, &x, &dy, &mut dw, add, &mut workspace);
    assert_close(&dw, &dw64, s.tiles().max(16), &format!("weights, {what}"));
}

/// batch, height, width, depth, columns, padding
fn correlation([batch, height, width, depth, columns, padding]: [usize; 6]) -> Correlation {
    let out = |extent: usize| extent + 2 * padding - 2;
    let (out_height, out_width) = (out(height), out(width));
    Correlation { batch, height, width, depth, out_height, out_width, columns, padding }
}

#[test]
fn sums_are_those_of_the_direct_way() {
    let shapes = [
        [1, 4, 4, 16, 16, 1],
        [2, 5, 7, 16, 48, 1],
        [1, 3, 9, 32, 16, 0],
        [1, 2, 1, 16, 32, 2],
        // More tiles than a block of rows; a depth across a line; several chunks of the weight gradient.
        [3, 17, 13, 48, 16, 1],
        [1, 6, 6, 272, 16, 1],
        [1, 9, 8, 272, 304, 1],
        [1, 84, 80, 16, 16, 1],
    ];
    for level in simd::levels() {
        let kernel = Kernel::of(level);
        for (index, shape) in shapes.into_iter().enumerate() {
            check(&kernel, &correlation(shape), index % 2 == 1);
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let s = correlation([2, 21, 18, 32, 80, 1]);
    let kernel = Kernel::of(simd::level());
    let (x, w) = (random("x", 2 * 21 * 18 * 32), random("w", 9 * 32 * 80));
    let dy = random("dy", 2 * 21 * 18 * 80);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut y, mut dw) = (vec![0.0; dy.len()], vec![0.0; w.len()]);
            let finish = Finish { bias: None, add: false };
            correlate(&kernel, &s, &x, &w, &mut y, finish, &mut vec![0.0; workspace_len(&kernel, &s)]);
            let mut workspace = vec![0.0; weight_gradient_workspace(&kernel, &s)];
            weight_gradient(&kernel, &s, &x, &dy, &mut dw, false, &mut workspace);
            (y, dw)
        })
    };
    assert!(run(1) == run(3));
}
