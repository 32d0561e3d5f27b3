//! What is expected of every cell before it is trained.

use super::grid::Cell;
use super::spectrum::{Metric, Predicted, Scope, Spectrum};
use crate::model::{ACTIVE_VARIANCE, LatentKind, PriorKind};
use crate::ops::Reduction;
use crate::train::{LikelihoodKind, Settings};
use serde::Serialize;

/// Of one cell with a Gaussian latent and the standard prior.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    pub cell: String,
    /// The variance of the decoder that weights and reductions come to, in the unit of the squared error of a value; for
    /// a Bernoulli likelihood the weight of the KL beside nats.
    pub noise: f64,
    /// Betas below which the strongest, the median and the weakest direction of the data live.
    pub critical_beta: [f64; 3],
    pub site: Predicted,
    pub mesh: Predicted,
    /// The sum of all variances a mesh: the error of the mean alone.
    pub total: f64,
    /// Over decades on both sides of the data's own variances; empty where the decoder's variance is fitted.
    pub curve: Vec<CurvePoint>,
}

/// What is predicted along the variances of a decoder.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CurvePoint {
    /// As [`Prediction::noise`].
    pub weight: f64,
    pub site: CurveValue,
    pub mesh: CurveValue,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct CurveValue {
    pub active: usize,
    /// Nats a mesh.
    pub rate: f64,
    /// 1 - distortion / total.
    pub explained: f64,
}

impl Prediction {
    /// `None` where the cell's latent is no Gaussian, or has another prior than the theory. `planes` are those that it trains on.
    pub fn new(cell: &Cell, planes: &[&[f32]]) -> Option<Self> {
        let settings = &cell.settings;
        if settings.latent.kind != LatentKind::Gaussian || settings.latent.prior != PriorKind::Standard {
            return None;
        }
        let a = &settings.architecture;
        let mut weights = vec![1.0; a.channels];
        weights[0] = settings.training.depth_weight;
        let metric = match settings.likelihood.kind {
            LikelihoodKind::Bernoulli => Metric::Bernoulli,
            LikelihoodKind::Mse | LikelihoodKind::Sigma => Metric::Squared(&weights),
        };
        let [site, mesh] = [Scope::Site, Scope::Mesh].map(|scope| Spectrum::new(scope, metric, a, planes));
        let values = a.plane_values();
        let noise = |spectrum: &Spectrum| match settings.likelihood.kind {
            LikelihoodKind::Sigma => spectrum.self_consistent(noise_of(settings), values),
            _ => noise_of(settings),
        };
        let at = |spectrum: &Spectrum| spectrum.at(noise(spectrum), ACTIVE_VARIANCE);
        let found = &site.eigenvalues;
        let living = found.iter().take_while(|&&e| e > found[0] * LEAST_SHARE).count().max(1);
        let per_beta = noise_of(settings) / settings.latent.beta;
        let critical_beta = [0, living / 2, living - 1].map(|k| found[k] / per_beta);
        let (of_site, of_mesh) = (at(&site), at(&mesh));
        let (noise, total) = (noise(&site), site.total());
        let fixed = settings.likelihood.kind != LikelihoodKind::Sigma;
        Some(Self {
            cell: cell.name.clone(),
            noise,
            critical_beta,
            site: of_site,
            mesh: of_mesh,
            total,
            curve: if fixed { curve(&site, &mesh) } else { Vec::new() },
        })
    }
}

fn curve(site: &Spectrum, mesh: &Spectrum) -> Vec<CurvePoint> {
    let of = |spectrum: &Spectrum, weight: f64| {
        let Predicted { active, rate, distortion } = spectrum.at(weight, ACTIVE_VARIANCE);
        CurveValue { active, rate, explained: 1.0 - distortion / spectrum.total() }
    };
    let (low, high) = (1e-7 * mesh.eigenvalues[0], 3.0 * mesh.eigenvalues[0]);
    let weight = |k: u32| low * (high / low).powf(f64::from(k) / f64::from(CURVE_POINTS));
    (0..=CURVE_POINTS)
        .map(weight)
        .map(|weight| CurvePoint { weight, site: of(site, weight), mesh: of(mesh, weight) })
        .collect()
}

const CURVE_POINTS: u32 = 60;

/// Directions below this share of the strongest are rounding.
const LEAST_SHARE: f64 = 1e-9;

/// With the loss r sum w (x - x')^2 + beta k KL, the variance 1 / (2 s) = r / (beta k) of a Gaussian likelihood beside
/// which the KL has the weight 1. For a fitted deviation its share of the mean squared error; for a Bernoulli
/// likelihood beta k / r, in nats.
fn noise_of(settings: &Settings) -> f64 {
    let a = &settings.architecture;
    let r = match settings.likelihood.reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / a.plane_values() as f64,
    };
    let k = match settings.latent.kl_reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / a.latent_floats() as f64,
    };
    let weight = settings.latent.beta * k / r;
    match settings.likelihood.kind {
        LikelihoodKind::Mse => weight / 2.0,
        LikelihoodKind::Sigma | LikelihoodKind::Bernoulli => weight,
    }
}
