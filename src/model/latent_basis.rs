//! Principal components of whole latents: the directions in which the meshes of a set differ.

use super::principal::leading_eigenpairs;
use nalgebra::DMatrix;
use rayon::prelude::*;
use std::ops::Range;

/// Components that are usually enough: of some hundred heads they leave less than a hundredth of the variance out.
pub const USUAL_COMPONENTS: usize = 64;

/// Entries of latents that are worked on at a time.
const BLOCK: usize = 256;
const LANES: usize = 16;

/// Smallest variance of a component beside the largest: below it is the rounding of f32.
const LEAST_VARIANCE: f64 = 1e-10;

/// Mean, directions and deviations of a set of latents.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentBasis {
    pub mean: Vec<f32>,
    /// Of unit length, one after the other.
    pub components: Vec<f32>,
    /// Of the coefficients along the components, in falling order.
    pub deviations: Vec<f32>,
}

impl LatentBasis {
    /// Of at least two latents of one length; `most` components.
    pub fn fit(latents: &[Vec<f32>], most: usize) -> Self {
        let (count, len) = (latents.len(), latents[0].len());
        let mean: Vec<f32> = (0..len)
            .into_par_iter()
            .map(|i| (latents.iter().map(|latent| f64::from(latent[i])).sum::<f64>() / count as f64) as f32)
            .collect();
        let centred: Vec<Vec<f32>> =
            latents.par_iter().map(|latent| latent.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
        // The products of latents have the eigenvalues of the covariance, which has millions of entries.
        let products: Vec<Vec<f64>> = (0..count)
            .into_par_iter()
            .map(|row| centred[..=row].iter().map(|other| dot(&centred[row], other)).collect())
            .collect();
        let products =
            DMatrix::from_fn(count, count, |row, column| products[row.max(column)][row.min(column)]);
        let (values, vectors) = leading_eigenpairs(&products, most.min(count - 1));
        let floor = LEAST_VARIANCE * values.first().copied().unwrap_or_default();
        let kept = values.iter().take_while(|&&value| value > floor).count().min(most.min(count - 1));
        let component = |k: usize, range: Range<usize>| -> Vec<f32> {
            let rows = centred.iter().map(|latent| &latent[range.clone()]);
            let sums = weighted_sum(rows.zip(vectors.column(k).iter().copied()), range.len());
            sums.iter().map(|sum| (sum / values[k].sqrt()) as f32).collect()
        };
        // Block by block, so that the part of all latents that a block takes stays in the processor's cache.
        let blocks: Vec<Range<usize>> =
            (0..len).step_by(BLOCK).map(|start| start..(start + BLOCK).min(len)).collect();
        let of_blocks: Vec<Vec<Vec<f32>>> =
            blocks.par_iter().map(|range| (0..kept).map(|k| component(k, range.clone())).collect()).collect();
        Self {
            components: (0..kept)
                .flat_map(|k| of_blocks.iter().flat_map(move |block| block[k].clone()))
                .collect(),
            deviations: values[..kept].iter().map(|v| (v / (count - 1) as f64).sqrt() as f32).collect(),
            mean,
        }
    }

    /// Components.
    pub fn len(&self) -> usize {
        self.deviations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.deviations.is_empty()
    }

    /// Of a latent, along the components, divided by their deviations.
    pub fn coefficients(&self, latent: &[f32]) -> Vec<f32> {
        let centred: Vec<f32> = latent.iter().zip(&self.mean).map(|(x, m)| x - m).collect();
        let components = self.components.par_chunks(self.mean.len()).zip(&self.deviations);
        components.map(|(component, &deviation)| dot(component, &centred) as f32 / deviation).collect()
    }

    /// The latent of such coefficients.
    pub fn latent(&self, coefficients: &[f32]) -> Vec<f32> {
        let len = self.mean.len();
        let weights: Vec<f32> = coefficients.iter().zip(&self.deviations).map(|(c, d)| c * d).collect();
        let mut latent = vec![0.0; len];
        latent.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
            for (k, weight) in weights.iter().enumerate() {
                let from = &self.components[k * len + block * BLOCK..][..values.len()];
                values.iter_mut().zip(from).for_each(|(value, x)| *value += weight * x);
            }
        });
        latent.iter().zip(&self.mean).map(|(x, mean)| mean + x).collect()
    }
}

/// In partial sums that a vector register holds, in an order that is fixed.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let (wide, rest) = (a.chunks_exact(LANES).zip(b.chunks_exact(LANES)), a.len() / LANES * LANES);
    for (a, b) in wide {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    let rest: f64 = a[rest..].iter().zip(&b[rest..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

fn weighted_sum<'a>(rows: impl Iterator<Item = (&'a [f32], f64)>, len: usize) -> Vec<f64> {
    let mut sums = vec![0.0; len];
    for (row, weight) in rows {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn coefficients_have_the_deviations_and_latents_come_back() {
        let mut rng = Rng::new(3, 0);
        let (len, rank, count) = (300, 4, 40);
        let directions: Vec<Vec<f32>> = (0..rank).map(|_| (0..len).map(|_| rng.normal()).collect()).collect();
        let latents: Vec<Vec<f32>> = (0..count)
            .map(|_| {
                let weights: Vec<f32> = (0..rank).map(|k| rng.normal() / (1 + k) as f32).collect();
                let at = |i: usize| 2.0 + (0..rank).map(|k| weights[k] * directions[k][i]).sum::<f32>();
                (0..len).map(at).collect()
            })
            .collect();
        let basis = LatentBasis::fit(&latents, USUAL_COMPONENTS);
        assert_eq!(basis.len(), rank);
        let all: Vec<Vec<f32>> = latents.iter().map(|latent| basis.coefficients(latent)).collect();
        for k in 0..rank {
            let mean = all.iter().map(|c| f64::from(c[k])).sum::<f64>() / count as f64;
            let variance =
                all.iter().map(|c| (f64::from(c[k]) - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
            // 300 products, each rounded to 2^-24 of some units.
            assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-4, "{mean}, {variance}");
        }
        for latent in &latents {
            let back = basis.latent(&basis.coefficients(latent));
            assert!(back.iter().zip(latent).all(|(x, expected)| (x - expected).abs() < 1e-4));
        }
    }

    #[test]
    fn two_latents_have_one_direction() {
        let basis = LatentBasis::fit(&[vec![1.0, 0.0], vec![3.0, 0.0]], USUAL_COMPONENTS);
        assert_eq!((basis.len(), basis.mean.clone()), (1, vec![2.0, 0.0]));
        // Two values that lie 2 apart have the variance 2.
        assert!((basis.deviations[0] - 2f32.sqrt()).abs() < 1e-6);
    }
}
