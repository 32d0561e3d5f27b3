//! What a set of posteriors says about a latent: the divergence of each dimension, and how many dimensions are in use.

/// The posterior of one item: a mean and a log-variance a dimension.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gaussian {
    pub mean: Vec<f32>,
    pub log_variance: Vec<f32>,
}

/// A dimension is in use where the variance of its mean over the data is above this (Burda et al., "Importance weighted
/// autoencoders", ICLR 2016, section 5.2).
pub const ACTIVE_VARIANCE: f64 = 0.01;

/// By dimension, over a set of items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PosteriorStatistics {
    /// KL(posterior || N(0, 1)) in nats, mean over the items.
    pub kl: Vec<f64>,
    /// Of the posterior's mean over the items, divided by their number.
    pub variance_of_mean: Vec<f64>,
    /// Mean over the items.
    pub log_variance: Vec<f64>,
}

impl PosteriorStatistics {
    /// # Panics
    /// Where the items have not all the same dimensions.
    pub fn new(items: &[Gaussian]) -> Self {
        let dimensions = items.first().map_or(0, |item| item.mean.len());
        assert!(items.iter().all(|item| [&item.mean, &item.log_variance].map(Vec::len) == [dimensions; 2]));
        let mean = |of: &dyn Fn(&Gaussian, usize) -> f64| -> Vec<f64> {
            let mean = |d| items.iter().map(|item| of(item, d)).sum::<f64>() / items.len() as f64;
            (0..dimensions).map(mean).collect()
        };
        let kl = mean(&|item, d| kl(f64::from(item.mean[d]), f64::from(item.log_variance[d])));
        let centre = mean(&|item, d| f64::from(item.mean[d]));
        Self {
            kl,
            variance_of_mean: mean(&|item, d| (f64::from(item.mean[d]) - centre[d]).powi(2)),
            log_variance: mean(&|item, d| f64::from(item.log_variance[d])),
        }
    }

    /// Nats an item.
    pub fn rate(&self) -> f64 {
        self.kl.iter().sum()
    }

    /// Dimensions in use.
    pub fn active_units(&self) -> usize {
        self.variance_of_mean.iter().filter(|&&variance| variance > ACTIVE_VARIANCE).count()
    }
}

/// KL(N(mean, exp(log_variance)) || N(0, 1)) in nats.
fn kl(mean: f64, log_variance: f64) -> f64 {
    let l = log_variance.clamp(crate::ops::LEAST_LOG_VARIANCE.into(), crate::ops::MOST_LOG_VARIANCE.into());
    0.5 * (mean * mean + l.exp_m1() - l)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numerical integration of q ln(q / p).
    fn integrated(mean: f64, deviation: f64) -> f64 {
        let (steps, reach) = (200_000, 12.0);
        let step = 2.0 * reach / f64::from(steps);
        let log_density = |x: f64, mean: f64, deviation: f64| {
            -0.5 * ((x - mean) / deviation).powi(2) - deviation.ln() - 0.5 * std::f64::consts::TAU.ln()
        };
        let at = |i: i32| {
            let x = mean + deviation * (f64::from(i) * step - reach);
            let q = log_density(x, mean, deviation);
            q.exp() * (q - log_density(x, 0.0, 1.0)) * step * deviation
        };
        (0..=steps).map(at).sum()
    }

    #[test]
    fn the_divergence_is_the_integral() {
        for (mean, deviation) in [(0.0, 1.0), (0.7, 1.0), (-2.0, 0.3), (0.1, 2.5)] {
            let found = kl(mean, 2.0 * f64::ln(deviation));
            assert!((found - integrated(mean, deviation)).abs() < 1e-9, "{mean} {deviation}: {found}");
        }
    }

    #[test]
    fn statistics_are_those_of_the_dimensions() {
        // The first dimension follows the data, the second hardly, the third is the prior.
        let items: Vec<Gaussian> = [-1.0, 1.0, -1.0, 1.0]
            .map(|x: f32| Gaussian { mean: vec![x, 0.05 * x, 0.0], log_variance: vec![-2.0, -1.0, 0.0] })
            .to_vec();
        let statistics = PosteriorStatistics::new(&items);
        assert_eq!(statistics.active_units(), 1);
        assert!((statistics.variance_of_mean[0] - 1.0).abs() < 1e-12);
        assert_eq!((statistics.kl[2], statistics.log_variance[1]), (0.0, -1.0));
        // The divergence of each adds up: means 1 and 0.05, variances exp(-2) and exp(-1).
        let expected =
            0.5 * (1.0 + (-2.0f64).exp() - 1.0 + 2.0) + 0.5 * (0.0025 + (-1.0f64).exp() - 1.0 + 1.0);
        assert!((statistics.rate() - expected).abs() < 1e-9);
        assert_eq!(PosteriorStatistics::new(&[]).active_units(), 0);
    }
}
