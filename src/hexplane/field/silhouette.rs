//! In-plane distance from the background to the silhouette.

use super::tap::{is_foreground, smaller};
use crate::cpu::simd::{self, Vectorised};

/// Distance in pixels where a column holds no foreground; its square is far above any other in f32.
const NONE: f32 = 1e6;

/// For every pixel of a view `[size, size]`: `-tau` on the foreground, else the world distance to the
/// nearest foreground pixel centre less one pixel, at most `tau`. `scratch` has `size` floats.
///
/// Distances beyond tau are not needed, so the exact Euclidean distance is taken within a window:
/// first along columns, then the smallest of dx^2 + dy^2 along rows (the separation of Felzenszwalb and
/// Huttenlocher, "Distance transforms of sampled functions", 2012, without the lower envelope, which pays
/// only for unbounded reach). Both passes go a row at a time with a pixel a lane of a vector register.
pub(crate) fn silhouette_distance(
    pixels: &[[f32; 4]],
    size: usize,
    tau: f32,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    simd::dispatch(Transform { pixels, size, tau, out, scratch });
}

struct Transform<'a> {
    pixels: &'a [[f32; 4]],
    size: usize,
    tau: f32,
    out: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Vectorised for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { pixels, size, tau, out, scratch } = self;
        let edge = 2.0 / size as f32;
        // A pixel further than this clamps to tau.
        let reach = ((tau / edge) as usize + 2).min(size - 1);
        column_distances(pixels, size, out);
        for row in out.chunks_exact_mut(size) {
            row_distances(row, reach, scratch);
            for value in row {
                // Only the foreground has the distance 0.
                let outside = smaller((value.sqrt() - 1.0) * edge, tau);
                *value = if *value == 0.0 { -tau } else { outside };
            }
        }
    }
}

/// From distances along columns to squared distances: the smallest within `reach` along the row.
#[inline(always)]
fn row_distances(row: &mut [f32], reach: usize, squares: &mut [f32]) {
    for (square, distance) in squares.iter_mut().zip(&mut *row) {
        *square = *distance * *distance;
        *distance = *square;
    }
    for offset in 1..=reach {
        let apart = (offset * offset) as f32;
        for (best, &square) in row.iter_mut().zip(&squares[offset..]) {
            *best = smaller(*best, square + apart);
        }
        for (best, &square) in row[offset..].iter_mut().zip(&*squares) {
            *best = smaller(*best, square + apart);
        }
    }
}

/// Pixels to the nearest foreground in the same column: 0 on it, [`NONE`] without any.
#[inline(always)]
fn column_distances(pixels: &[[f32; 4]], size: usize, out: &mut [f32]) {
    let (first, rest) = out.split_at_mut(size);
    let (first_pixels, pixels) = pixels.split_at(size);
    for (distance, &pixel) in first.iter_mut().zip(first_pixels) {
        *distance = if is_foreground(pixel) { 0.0 } else { NONE };
    }
    let mut above: &[f32] = first;
    for (row, pixels) in rest.chunks_exact_mut(size).zip(pixels.chunks_exact(size)) {
        for ((distance, &above), &pixel) in row.iter_mut().zip(above).zip(pixels) {
            let further = smaller(above + 1.0, NONE);
            *distance = if is_foreground(pixel) { 0.0 } else { further };
        }
        above = row;
    }
    let mut rows = out.chunks_exact_mut(size).rev();
    let Some(mut below) = rows.next() else { return };
    for row in rows {
        for (distance, &below) in row.iter_mut().zip(&*below) {
            *distance = smaller(*distance, below + 1.0);
        }
        below = row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn brute_force(pixels: &[[f32; 4]], size: usize, tau: f64) -> Vec<f64> {
        let hit = |i: usize| pixels[i][3] != 0.0;
        let distance = |i: usize, j: usize| {
            let [dx, dy] = [(i % size).abs_diff(j % size), (i / size).abs_diff(j / size)];
            ((dx * dx + dy * dy) as f64).sqrt()
        };
        let outside = |i: usize| {
            let nearest =
                (0..size * size).filter(|&j| hit(j)).map(|j| distance(i, j)).fold(f64::MAX, f64::min);
            ((nearest - 1.0) * 2.0 / size as f64).min(tau)
        };
        (0..size * size).map(|i| if hit(i) { -tau } else { outside(i) }).collect()
    }

    #[test]
    fn distances_are_those_of_brute_force() {
        let mut rng = Rng::new(3, 0);
        // Sparse, dense and empty views; tau from below a pixel to beyond the plane.
        for (size, share, tau) in
            [(37, 0.004, 0.3), (32, 0.05, 0.02), (29, 0.6, 0.2), (24, 0.02, 1.0), (8, 0.0, 0.1)]
        {
            let pixels: Vec<[f32; 4]> = (0..size * size)
                .map(|_| if rng.uniform() < share { [0.5, 0.0, 0.0, 1.0] } else { [1.0, 0.0, 0.0, 0.0] })
                .collect();
            let (mut out, mut scratch) = (vec![f32::NAN; size * size], vec![f32::NAN; size]);
            silhouette_distance(&pixels, size, tau, &mut out, &mut scratch);
            for (i, (&ours, expected)) in
                out.iter().zip(brute_force(&pixels, size, f64::from(tau))).enumerate()
            {
                // A square root and two products of f32.
                assert!((f64::from(ours) - expected).abs() < 4e-7, "{size} {i}: {ours} {expected}");
            }
        }
    }
}
