//! Continuous planes whose depth goes on behind the silhouette, which is what a network may see instead of the far face.
//!
//! Background lies at depth 1, up to the whole cube behind the surface beside it: in a squared error that jump counts more than all that the
//! surface itself does, although meshes do not depend on it (`field` reads the depth of foreground alone). Filled by push-pull (Gortler
//! et al., "The Lumigraph", SIGGRAPH 1996, section 3.4): means of the known pixels at ever half the resolution, and from the coarsest one
//! back what is still unknown from there.

use super::{Planes, Representation};

/// Depth, and three components of the normal.
const CHANNELS: usize = 4;
/// The length of a normal below which a pixel is background, squared.
const LEAST: f32 = 0.25;

impl Planes {
    /// Background pixels with a depth that goes on smoothly from the surface around them; a view without surface stays as it is.
    ///
    /// # Panics
    /// With binary planes, which have no depth.
    pub fn filled(mut self) -> Self {
        assert_eq!(self.representation, Representation::Continuous, "depth is filled in");
        fill(&mut self.values, self.size);
        self
    }

    /// Background as rasterised, (1, 0, 0, 0), wherever the normal is shorter than a half: the inverse of [`Self::filled`] on what was rasterised.
    ///
    /// # Panics
    /// With binary planes, which have no depth.
    pub fn emptied(mut self) -> Self {
        assert_eq!(self.representation, Representation::Continuous, "depth is emptied");
        for pixel in self.values.chunks_exact_mut(CHANNELS).filter(|pixel| is_background(pixel)) {
            pixel.copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
        }
        self
    }
}

/// As [`Planes::filled`], of values `[views, size, size, 4]`.
pub fn fill(values: &mut [f32], size: usize) {
    for view in values.chunks_exact_mut(size * size * CHANNELS) {
        let known = Level::of(view, size);
        if known.weights.contains(&0.0) && known.weights.contains(&1.0) {
            let depths = known.completed();
            view.iter_mut().step_by(CHANNELS).zip(depths).for_each(|(to, depth)| *to = depth);
        }
    }
}

fn is_background(pixel: &[f32]) -> bool {
    let length_squared: f32 = pixel[1..].iter().map(|n| n * n).sum();
    length_squared < LEAST
}

/// Depths at one resolution, with the weight 1 or 0 of those known.
struct Level {
    size: usize,
    depths: Vec<f32>,
    weights: Vec<f32>,
}

impl Level {
    fn of(view: &[f32], size: usize) -> Self {
        let pixels = || view.chunks_exact(CHANNELS);
        Self {
            size,
            depths: pixels().map(|pixel| pixel[0]).collect(),
            weights: pixels().map(|pixel| if is_background(pixel) { 0.0 } else { 1.0 }).collect(),
        }
    }

    /// Means of what is known of two by two pixels.
    fn halved(&self) -> Self {
        let size = self.size.div_ceil(2);
        let (mut depths, mut weights) = (vec![0.0; size * size], vec![0.0; size * size]);
        for (i, (depths, weights)) in
            depths.chunks_exact_mut(size).zip(weights.chunks_exact_mut(size)).enumerate()
        {
            for y in (2 * i)..(2 * i + 2).min(self.size) {
                let row = y * self.size..(y + 1) * self.size;
                for (x, (depth, weight)) in
                    self.depths[row.clone()].iter().zip(&self.weights[row]).enumerate()
                {
                    depths[x / 2] += depth * weight;
                    weights[x / 2] += weight;
                }
            }
            for (depth, weight) in depths.iter_mut().zip(weights).filter(|(_, weight)| **weight > 0.0) {
                *depth /= *weight;
                *weight = 1.0;
            }
        }
        Self { size, depths, weights }
    }

    /// All depths; what is not known from half the resolution, smoothed over the pixels beside it.
    fn completed(mut self) -> Vec<f32> {
        if !self.weights.contains(&0.0) {
            return self.depths;
        }
        let coarse = self.halved();
        let (n, half) = (self.size, coarse.size);
        let coarse = coarse.completed();
        let at = |y: usize, x: usize| coarse[(y / 2) * half + x / 2];
        for y in 0..n {
            for x in 0..n {
                if self.weights[y * n + x] == 0.0 {
                    let beside = at(y.saturating_sub(1), x)
                        + at((y + 1).min(n - 1), x)
                        + at(y, x.saturating_sub(1))
                        + at(y, (x + 1).min(n - 1));
                    self.depths[y * n + x] = 0.125 * beside + 0.5 * at(y, x);
                }
            }
        }
        self.depths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Similarity;

    /// A slope inside a disc.
    fn planes(size: usize) -> Planes {
        let mut planes = Planes::background(Representation::Continuous, size, Similarity::default());
        for view in planes.values.chunks_exact_mut(size * size * CHANNELS).take(5) {
            for (k, pixel) in view.chunks_exact_mut(CHANNELS).enumerate() {
                let at = |k: usize| (k as f32 + 0.5) / size as f32 - 0.5;
                let (x, y) = (at(k % size), at(k / size));
                if x * x + y * y < 0.1 {
                    pixel.copy_from_slice(&[0.4 + 0.2 * x, 0.0, 0.6, 0.8]);
                }
            }
        }
        planes
    }

    #[test]
    fn depth_goes_on_behind_the_silhouette_and_back() {
        for size in [1, 2, 13, 32, 50] {
            let planes = planes(size);
            let filled = planes.clone().filled();
            for (before, after) in
                planes.values.chunks_exact(CHANNELS).zip(filled.values.chunks_exact(CHANNELS))
            {
                assert_eq!(before[1..], after[1..]);
                assert!(before[1] == 0.0 && before[2] == 0.0 || before[0] == after[0]);
            }
            assert_eq!(filled.clone().emptied(), planes, "{size}");
            assert_eq!(filled.view(5), planes.view(5), "nothing is known of this view");
        }
    }

    #[test]
    fn what_is_filled_in_lies_within_the_depths_around_it_and_has_no_jump() {
        let size = 32;
        let filled = planes(size).filled();
        let depth = |y: usize, x: usize| filled.view(0)[(y * size + x) * CHANNELS];
        for y in 0..size {
            for x in 0..size {
                assert!((0.33..0.47).contains(&depth(y, x)), "{y} {x}: {}", depth(y, x));
                assert!(x == 0 || (depth(y, x) - depth(y, x - 1)).abs() < 0.04, "{y} {x}");
            }
        }
        assert!(depth(16, 0) < depth(16, 31));
    }
}
