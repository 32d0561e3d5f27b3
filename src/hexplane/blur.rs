//! Binary planes made soft: what they show stays, that they are binary goes.

use super::{Planes, Representation};

/// Deviations that the kernel reaches; what lies beyond is 6e-5 of it.
const REACH: f32 = 4.0;

impl Planes {
    /// Every view convolved with a Gaussian of `deviation` pixels, its edge pixels repeated outside.
    ///
    /// # Panics
    /// With continuous planes, whose background has no depth to be mixed with.
    pub fn blurred(mut self, deviation: f32) -> Self {
        assert_eq!(self.representation, Representation::Binary, "only binary planes are made soft");
        if deviation == 0.0 {
            return self;
        }
        let kernel = kernel(deviation);
        let size = self.size;
        for view in self.values.chunks_exact_mut(size * size) {
            let rows: Vec<f32> = view.chunks_exact(size).flat_map(|row| line(row, &kernel)).collect();
            for x in 0..size {
                let column: Vec<f32> = rows[x..].iter().step_by(size).copied().collect();
                view[x..]
                    .iter_mut()
                    .step_by(size)
                    .zip(line(&column, &kernel))
                    .for_each(|(to, from)| *to = from);
            }
        }
        self
    }
}

/// Odd in length, of sum 1.
fn kernel(deviation: f32) -> Vec<f32> {
    let reach = (REACH * deviation).ceil() as i32;
    let weights: Vec<f32> = (-reach..=reach).map(|x| (-0.5 * (x as f32 / deviation).powi(2)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn line(values: &[f32], kernel: &[f32]) -> Vec<f32> {
    let reach = kernel.len() / 2;
    let last = values.len() - 1;
    let at = |x: usize| -> f32 {
        let near = |k: usize| values[(x + k).saturating_sub(reach).min(last)];
        kernel.iter().enumerate().map(|(k, weight)| weight * near(k)).sum()
    };
    (0..values.len()).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Similarity;

    #[test]
    fn a_pixel_becomes_a_gaussian_and_a_full_view_stays() {
        let size = 33;
        let mut planes = Planes::background(Representation::Binary, size, Similarity::default());
        planes.values[16 * size + 16] = 1.0;
        planes.values[size * size..2 * size * size].fill(1.0);
        let soft = planes.clone().blurred(2.0);
        let sum: f32 = soft.view(0).iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        let ratio = soft.view(0)[16 * size + 18] / soft.view(0)[16 * size + 16];
        assert!((ratio - (-0.5f32).exp()).abs() < 1e-5, "{ratio}");
        assert!(soft.view(1).iter().all(|&x| (x - 1.0).abs() < 1e-5));
        assert!(soft.view(2).iter().all(|&x| x == 0.0));
        assert_eq!(planes.clone().blurred(0.0), planes);
    }
}
