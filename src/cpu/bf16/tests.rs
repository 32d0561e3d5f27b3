//! Against f64 sums of rounded factors, and AMX against plain code.

use super::*;
use crate::rng::Rng;
use half::bf16;

fn random(name: &str, len: usize) -> Vec<f32> {
    let mut rng = Rng::named(1, name);
    (0..len).map(|_| rng.range(-1.0, 1.0)).collect()
}

fn kernels() -> Vec<Kernel> {
    // The same where AMX is not to be had.
    vec![Kernel::plain(), Kernel::best()]
}

fn shape(extents: [usize; 5], kernel: usize, stride: usize, padding: usize) -> ConvShape {
    let [batch, in_height, in_width, in_channels, out_channels] = extents;
    ConvShape {
        batch,
        in_height,
        in_width,
        in_channels,
        out_channels,
        kernel_height: kernel,
        kernel_width: kernel,
        stride,
        padding,
    }
}

/// Calls `visit(x index, w index, y index)` for every product of the convolution.
fn for_each_product(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (high, wide) = (s.out_height(), s.out_width());
    for y in 0..s.batch * high * wide {
        let (b, i, j) = (y / wide / high, y / wide % high, y % wide);
        for (di, dj) in (0..s.kernel_height).flat_map(|i| (0..s.kernel_width).map(move |j| (i, j))) {
            let row = (i * s.stride + di).wrapping_sub(s.padding);
            let column = (j * s.stride + dj).wrapping_sub(s.padding);
            if row >= s.in_height || column >= s.in_width {
                continue;
            }
            for (c, o) in (0..s.in_channels).flat_map(|c| (0..s.out_channels).map(move |o| (c, o))) {
                let x = ((b * s.in_height + row) * s.in_width + column) * s.in_channels + c;
                let w = ((di * s.kernel_width + dj) * s.in_channels + c) * s.out_channels + o;
                visit(x, w, y * s.out_channels + o);
            }
        }
    }
}

/// Factors are those of bf16, so that what is left is the rounding of sums: n eps/2 at worst (Higham, section 3.1).
fn assert_close(found: &[f32], expected: &[f64], terms: usize, what: &str) {
    let tolerance = (terms + 4) as f64 * f64::from(f32::EPSILON);
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(f) - e).abs() <= tolerance, "{what}: value {i} is {f}, expected {e}");
    }
}

struct Found {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

/// All three products, written where NaN was or added to 0.5.
fn compute(s: &ConvShape, kernel: &Kernel, add: bool) -> Found {
    let fill = |len: usize| vec![if add { 0.5 } else { f32::NAN }; len];
    let (x, w) = (random("x", s.input_len()), random("w", s.weight_len()));
    let (bias, dy) = (random("bias", s.out_channels), random("dy", s.output_len()));
    let in_bias = random("in bias", s.in_channels);
    let grid = Grid::of(s).expect("it goes this way");
    let (mut y, mut dx, mut dw) = (fill(s.output_len()), fill(s.input_len()), fill(s.weight_len()));
    let scratch = |len: usize| vec![f32::NAN; len];
    let product = grid.forward(&x, &w);
    product.run(kernel, &forward_target(s, &mut y, (Some(&bias), add)), &mut scratch(product.workspace()));
    let product = grid.backward_data(&dy, &w);
    let target = data_target(&grid, &mut dx, (Some(&in_bias), add));
    product.run(kernel, &target, &mut scratch(product.workspace()));
    let gradient = grid.backward_weight(&x, &dy);
    gradient.run(kernel, &mut dw, add, &mut scratch(gradient.workspace()));
    Found { y, dx, dw }
}

fn check(s: &ConvShape, add: bool) {
    let rounded =
        |values: Vec<f32>| -> Vec<f64> { values.iter().map(|&x| bf16::from_f32(x).to_f64()).collect() };
    let (x, w, dy) = (
        rounded(random("x", s.input_len())),
        rounded(random("w", s.weight_len())),
        rounded(random("dy", s.output_len())),
    );
    let (bias, in_bias) = (random("bias", s.out_channels), random("in bias", s.in_channels));
    let old = if add { 0.5 } else { 0.0 };
    let from = |bias: &[f32], len: usize| -> Vec<f64> {
        (0..len).map(|i| f64::from(bias[i % bias.len()]) + old).collect()
    };
    let (mut y, mut dx) = (from(&bias, s.output_len()), from(&in_bias, s.input_len()));
    let mut dw = vec![old; s.weight_len()];
    for_each_product(s, |ix, iw, iy| {
        y[iy] += x[ix] * w[iw];
        dx[ix] += w[iw] * dy[iy];
        dw[iw] += x[ix] * dy[iy];
    });
    for kernel in kernels() {
        let found = compute(s, &kernel, add);
        assert_close(&found.y, &y, s.patch(), &format!("forward, {s:?}"));
        let terms = s.kernel_height * s.kernel_width * s.out_channels;
        assert_close(&found.dx, &dx, terms, &format!("data, {s:?}"));
        assert_close(&found.dw, &dw, s.out_pixels(), &format!("weight, {s:?}"));
    }
}

#[test]
fn products_are_those_of_rounded_factors() {
    for add in [false, true] {
        check(&shape([1, 1, 1, 1, 1], 1, 1, 0), add);
        check(&shape([2, 5, 7, 3, 5], 3, 1, 1), add);
        check(&shape([3, 6, 4, 33, 40], 3, 1, 1), add);
        check(&shape([1, 4, 5, 5, 3], 3, 1, 2), add);
        check(&shape([1, 9, 6, 2, 7], 5, 1, 0), add);
        check(&shape([2, 8, 12, 3, 34], 4, 4, 0), add);
        check(&shape([1, 6, 6, 40, 5], 2, 2, 0), add);
        check(&shape([2, 3, 3, 70, 66], 1, 1, 0), add);
    }
}

#[test]
fn several_tasks_partial_sums_and_blocks_of_columns() {
    check(&shape([2, 33, 33, 4, 6], 3, 1, 1), false);
    check(&shape([2, 33, 33, 4, 6], 3, 1, 1), true);
    check(&shape([1, 7, 5, 150, 140], 3, 1, 1), false);
}

#[test]
fn amx_and_plain_code_give_the_same_bits() {
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for s in [shape([2, 9, 7, 40, 35], 3, 1, 1), shape([1, 32, 32, 4, 40], 8, 8, 0)] {
        let [plain, best] = [Kernel::plain(), Kernel::best()].map(|kernel| compute(&s, &kernel, true));
        assert_eq!(bits(&plain.y), bits(&best.y), "forward, {s:?}");
        assert_eq!(bits(&plain.dx), bits(&best.dx), "data, {s:?}");
        assert_eq!(bits(&plain.dw), bits(&best.dw), "weight, {s:?}");
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let s = shape([2, 33, 20, 36, 70], 3, 1, 1);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| compute(&s, &Kernel::best(), false))
    };
    let (one, three) = (on(1), on(3));
    assert!(one.y == three.y && one.dx == three.dx && one.dw == three.dw);
}

#[test]
fn a_value_that_is_not_a_number_stays_one() {
    let s = shape([1, 1, 1, 5, 1], 1, 1, 0);
    let mut scratch = vec![0.0; forward_workspace(&s).unwrap()];
    for x in [f32::NAN, f32::from_bits(0xffff_ffff), f32::INFINITY] {
        let (x, mut y) = ([x, 0.0, 0.0, 0.0, 0.0], [0.0]);
        assert!(forward(&s, &x, &[1.0; 5], (None, false), &mut y, &mut scratch));
        assert_eq!(y[0].is_nan(), x[0].is_nan(), "{} becomes {}", x[0], y[0]);
    }
}

#[test]
fn planes_are_multiplied_in_fp32() {
    let of = |channels: usize| shape([1, 8, 8, channels, 16], 4, 4, 0);
    for (channels, narrow) in [(4, false), (5, true)] {
        let s = of(channels);
        let found = [forward_workspace(&s), backward_data_workspace(&s)].map(|len| len.is_some());
        assert_eq!(found, [narrow; 2], "{channels} channels");
        assert!(backward_weight_workspace(&s).is_some());
    }
}

#[test]
fn what_shifts_cannot_say_goes_the_other_way() {
    let none = |s: &ConvShape| Grid::of(s).is_none();
    assert!(none(&shape([1, 6, 5, 3, 4], 3, 2, 1)), "strides that overlap");
    assert!(none(&shape([1, 5, 4, 3, 4], 2, 2, 0)), "a row left over");
    assert!(none(&shape([1, 2, 2, 2, 2], 1, 1, 2)), "wider padding than the kernel reaches over");
    assert!(none(&ConvShape { kernel_width: 5, ..shape([1, 8, 8, 2, 2], 3, 1, 1) }), "oblong");
    assert!(none(&shape([0, 4, 4, 1, 1], 1, 1, 0)), "nothing");
}
