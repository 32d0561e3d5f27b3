//! In-plane distance from the background to the silhouette.

use super::tap::{is_foreground, smaller};

/// Distance in pixels where a column holds no foreground; its square is far above any other in f32.
const NONE: f32 = 1e6;

/// For every pixel of a view `[size, size]`: `-tau` on the foreground, else the world distance to the
/// nearest foreground pixel centre less one pixel, at most `tau`. `scratch` has `size` floats.
///
/// Distances beyond tau are not needed, so the exact Euclidean distance is taken within a window:
/// first along columns, then the smallest of dx^2 + dy^2 along rows (the separation of Felzenszwalb and
/// Huttenlocher, "Distance transforms of sampled functions", 2012, without the lower envelope, which pays
/// only for unbounded reach).
pub(crate) fn silhouette_distance(
    pixels: &[[f32; 4]],
    size: usize,
    tau: f32,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let edge = 2.0 / size as f32;
    // A pixel further than this clamps to tau.
    let reach = ((tau / edge) as usize + 2).min(size);
    column_distances(pixels, size, out);
    for (row, pixels) in out.chunks_exact_mut(size).zip(pixels.chunks_exact(size)) {
        for (square, &distance) in scratch.iter_mut().zip(&*row) {
            *square = distance * distance;
        }
        for (x, (value, &pixel)) in row.iter_mut().zip(pixels).enumerate() {
            if is_foreground(pixel) {
                *value = -tau;
                continue;
            }
            let low = x.saturating_sub(reach);
            let window = &scratch[low..(x + reach + 1).min(size)];
            let nearest = window.iter().enumerate().fold(NONE * NONE, |best, (i, &square)| {
                let dx = x.abs_diff(low + i) as f32;
                smaller(best, square + dx * dx)
            });
            *value = smaller((nearest.sqrt() - 1.0) * edge, tau);
        }
    }
}

/// Pixels to the nearest foreground in the same column: 0 on it, [`NONE`] without any.
fn column_distances(pixels: &[[f32; 4]], size: usize, out: &mut [f32]) {
    for (distance, &pixel) in out.iter_mut().zip(pixels).take(size) {
        *distance = if is_foreground(pixel) { 0.0 } else { NONE };
    }
    for i in size..size * size {
        out[i] = if is_foreground(pixels[i]) { 0.0 } else { smaller(out[i - size] + 1.0, NONE) };
    }
    for i in (0..size * size - size).rev() {
        out[i] = smaller(out[i], out[i + size] + 1.0);
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
