//! Principal components of whole latents: the directions in which the meshes of a set differ.

use super::principal::leading_eigenpairs;
use nalgebra::DMatrix;
use rayon::prelude::*;

/// Components at most: of some hundred heads they leave less than a hundredth of the variance out.
const MOST: usize = 64;

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
    /// Of at least two latents of one length.
    pub fn fit(latents: &[Vec<f32>]) -> Self {
        let (count, len) = (latents.len(), latents[0].len());
        let mean: Vec<f32> = (0..len)
            .into_par_iter()
            .map(|i| (latents.iter().map(|latent| f64::from(latent[i])).sum::<f64>() / count as f64) as f32)
            .collect();
        let centred: Vec<Vec<f32>> =
            latents.par_iter().map(|latent| latent.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
        // The products of latents have the eigenvalues of the covariance, which has millions of entries.
        let products: Vec<f64> = (0..count * count)
            .into_par_iter()
            .map(|at| dot(&centred[at / count], &centred[at % count]))
            .collect();
        let products = DMatrix::from_vec(count, count, products);
        let (values, vectors) = leading_eigenpairs(&products, MOST.min(count - 1));
        let floor = LEAST_VARIANCE * values.first().copied().unwrap_or_default();
        let kept = values.iter().take_while(|&&value| value > floor).count().min(MOST.min(count - 1));
        let component = |k: usize| -> Vec<f32> {
            let length = values[k].sqrt();
            let at = |i: usize| -> f64 {
                (0..count).map(|j| vectors[(j, k)] * f64::from(centred[j][i])).sum::<f64>() / length
            };
            (0..len).into_par_iter().map(|i| at(i) as f32).collect()
        };
        Self {
            components: (0..kept).flat_map(component).collect(),
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
        let at = |i: usize| -> f32 {
            let sum: f32 = weights.iter().enumerate().map(|(k, w)| w * self.components[k * len + i]).sum();
            self.mean[i] + sum
        };
        (0..len).into_par_iter().map(at).collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
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
        let basis = LatentBasis::fit(&latents);
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
        let basis = LatentBasis::fit(&[vec![1.0, 0.0], vec![3.0, 0.0]]);
        assert_eq!((basis.len(), basis.mean.clone()), (1, vec![2.0, 0.0]));
        // Two values that lie 2 apart have the variance 2.
        assert!((basis.deviations[0] - 2f32.sqrt()).abs() < 1e-6);
    }
}
