//! How far pixels lie from the silhouette's edge, and what share of a gradient lies where.

use crate::hexplane::{Planes, Representation};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Distances that are told apart; the last stands for all beyond.
pub const DISTANCES: usize = 9;

/// Per distance from the edge, over all pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Share of the pixels.
    pub pixels: [f64; DISTANCES],
    /// Share of the sum of magnitudes.
    pub magnitude: [f64; DISTANCES],
}

impl Profile {
    /// Share of the magnitude within `distance` of the edge.
    pub fn within(&self, distance: usize) -> f64 {
        self.magnitude[..=distance].iter().sum()
    }

    /// The same share of the pixels.
    pub fn pixels_within(&self, distance: usize) -> f64 {
        self.pixels[..=distance].iter().sum()
    }
}

/// Whether each pixel `[6, N, N]` shows the surface.
fn hits(planes: &Planes) -> Vec<bool> {
    match planes.representation {
        Representation::Binary => planes.values.iter().map(|&x| x >= 0.5).collect(),
        Representation::Continuous => {
            let squared = |pixel: &[f32]| pixel[1..].iter().map(|n| n * n).sum::<f32>();
            planes.values.chunks_exact(4).map(|pixel| squared(pixel) >= 0.25).collect()
        }
    }
}

/// The share of pixels that show the surface.
pub fn occupied(planes: &Planes) -> f64 {
    let hits = hits(planes);
    hits.iter().filter(|&&hit| hit).count() as f64 / hits.len() as f64
}

/// Of every pixel, in steps between neighbours of a row or column: 0 beside the other side of the edge, at most
/// `DISTANCES - 1`, which is also what a view without an edge holds.
pub fn distances(planes: &Planes) -> Vec<usize> {
    let (hits, size) = (hits(planes), planes.size);
    let mut found = vec![DISTANCES - 1; hits.len()];
    for (hits, found) in hits.chunks_exact(size * size).zip(found.chunks_exact_mut(size * size)) {
        let mut queue: VecDeque<usize> =
            (0..hits.len()).filter(|&at| neighbours(at, size).any(|near| hits[near] != hits[at])).collect();
        queue.iter().for_each(|&at| found[at] = 0);
        while let Some(at) = queue.pop_front() {
            let next = found[at] + 1;
            for near in neighbours(at, size).filter(|_| next < DISTANCES - 1) {
                if found[near] > next {
                    found[near] = next;
                    queue.push_back(near);
                }
            }
        }
    }
    found
}

fn neighbours(at: usize, size: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (at % size, at / size);
    let beside = [(x > 0).then(|| at - 1), (x + 1 < size).then(|| at + 1)];
    let above = [(y > 0).then(|| at - size), (y + 1 < size).then(|| at + size)];
    beside.into_iter().chain(above).flatten()
}

/// Adds the pixels of one mesh to sums of (pixels, magnitude) per distance. The reconstruction's gradient in what is decoded
/// is in proportion to its difference from the planes for a squared error, and for a coin in its logit.
pub fn add(sums: &mut [[f64; 2]; DISTANCES], distances: &[usize], decoded: &Planes, planes: &Planes) {
    let channels = planes.channels();
    let pixels = decoded.values.chunks_exact(channels).zip(planes.values.chunks_exact(channels));
    for (&distance, (a, b)) in distances.iter().zip(pixels) {
        let squared: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        sums[distance][0] += 1.0;
        sums[distance][1] += squared.sqrt();
    }
}

/// The shares of such sums.
pub fn profile(sums: &[[f64; 2]; DISTANCES]) -> Profile {
    let share = |which: usize| {
        let total: f64 = sums.iter().map(|sum| sum[which]).sum();
        sums.map(|sum| if total > 0.0 { sum[which] / total } else { 0.0 })
    };
    Profile { pixels: share(0), magnitude: share(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Similarity;

    #[test]
    fn distances_grow_from_the_edge_of_a_square() {
        let size = 24;
        let mut planes = Planes::background(Representation::Binary, size, Similarity::default());
        for at in 0..size * size {
            if (8..16).contains(&(at % size)) && (8..16).contains(&(at / size)) {
                planes.values[at] = 1.0;
            }
        }
        let found = distances(&planes);
        let at = |x: usize, y: usize| found[y * size + x];
        assert_eq!([at(8, 12), at(9, 12), at(11, 12), at(7, 12), at(6, 12), at(0, 12)], [0, 1, 3, 0, 1, 7]);
        // A corner is reached along rows and columns; a view without an edge has none.
        assert_eq!([at(7, 7), at(0, 0), found[size * size]], [1, 8, 8]);
        assert!((occupied(&planes) - 64.0 / (6 * size * size) as f64).abs() < 1e-12);
    }

    #[test]
    fn shares_add_up() {
        let planes = Planes::background(Representation::Binary, 4, Similarity::default());
        let mut decoded = planes.clone();
        decoded.values[0] = 0.5;
        let mut sums = [[0.0; 2]; DISTANCES];
        add(&mut sums, &distances(&planes), &decoded, &planes);
        let profile = profile(&sums);
        assert_eq!((profile.magnitude[DISTANCES - 1], profile.within(2)), (1.0, 0.0));
        assert_eq!(profile.pixels.iter().sum::<f64>(), 1.0);
    }
}
