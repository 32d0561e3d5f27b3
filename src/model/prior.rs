//! Learned priors of a Gaussian latent: a mixture of Gaussians over the whole latent of a mesh.
//!
//! Over the whole latent and not over the vector of a site: sites drawn one by one do not fit each other, of which no decoder makes
//! a head.

use super::{Autoencoder, VIEWS};
use crate::error::Result;
use crate::nn::Builder;
use crate::ops::{GaussianLogDensity, MixtureLogDensity, WeightedSum};
use crate::tape::{Graph, Role, Value};
use serde::{Deserialize, Serialize};

/// Factor on the learning rate of pseudo-inputs: Adam moves every pixel of a patch by about the rate at once, and the latent by what
/// they all add up to.
const PSEUDO_INPUT_RATE: f32 = 0.02;

/// What latents are likely before a mesh is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PriorKind {
    /// Standard normal in every dimension.
    #[default]
    Standard,
    /// A mixture of Gaussians whose means, variances and weights are learned.
    Mixture,
    /// The mean of the posteriors of learned pseudo-inputs (VampPrior).
    Vamp,
}

impl PriorKind {
    /// As files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Mixture => "mixture",
            Self::Vamp => "vamp",
        }
    }
}

/// Parameters of the mixture, and the pseudo-inputs.
pub const PRIOR_MEAN: &str = "prior.mean";
pub const PRIOR_LOG_VARIANCE: &str = "prior.log_variance";
pub const PRIOR_LOGITS: &str = "prior.logits";
pub const PRIOR_INPUTS: &str = "prior.inputs";

/// The log-variance of each component of a mixture at the start: between that of a posterior and that of the data.
const INITIAL_LOG_VARIANCE: f32 = -2.0;

impl Autoencoder {
    /// ln q(z|x) - ln p(z) of drawn latents, mean over the meshes: a divergence by Monte Carlo, of one draw a mesh.
    pub(super) fn record_divergence(
        &mut self,
        graph: &mut Graph,
        meshes: usize,
        [sample, log_variance, noise]: [Value; 3],
    ) -> Result<Value> {
        let [mean, variance, logits] = self.record_components(graph)?;
        let q = graph.apply(GaussianLogDensity { meshes }, &[log_variance, noise])?;
        let p = graph.apply(MixtureLogDensity { meshes }, &[sample, mean, variance, logits])?;
        graph.apply(WeightedSum { weights: vec![1.0, -1.0] }, &[q, p])
    }

    /// Means, log-variances and logits of the components.
    fn record_components(&mut self, graph: &mut Graph) -> Result<[Value; 3]> {
        let components = self.latent.components;
        let latents = self.latent_shape(components);
        let inputs = self.planes_shape(components);
        let mut b = Builder { graph, layout: &mut self.layout, rate: 1.0 };
        if self.latent.prior == PriorKind::Mixture {
            let mut array = |name: &str, extents: &[usize], role| b.parameter(name, extents, role, true);
            let mean = array(PRIOR_MEAN, latents.extents(), Role::Embedding);
            let log_variance = array(PRIOR_LOG_VARIANCE, latents.extents(), Role::Embedding);
            return Ok([mean, log_variance, array(PRIOR_LOGITS, &[components], Role::Bias)]);
        }
        b.rate = PSEUDO_INPUT_RATE;
        let inputs = b.parameter(PRIOR_INPUTS, inputs.extents(), Role::Embedding, true);
        let posterior = self.record_posterior(graph, inputs)?;
        let log_variance = posterior.log_variance.unwrap_or(posterior.mean);
        Ok([posterior.mean, log_variance, graph.constant(&vec![0.0; components])])
    }

    /// What a mixture starts from besides its means.
    pub(super) fn initialise_prior(&mut self) -> Result<()> {
        if self.latent.prior == PriorKind::Mixture {
            let len = self.layout.get(PRIOR_LOG_VARIANCE).range.len();
            self.set(PRIOR_LOG_VARIANCE, &vec![INITIAL_LOG_VARIANCE; len])?;
        }
        Ok(())
    }

    /// Values of one component in the parameter of its kind of prior: a latent, or planes.
    pub fn component_len(&self) -> usize {
        match self.latent.prior {
            PriorKind::Vamp => VIEWS * self.architecture.planes.pow(2) * self.architecture.channels,
            PriorKind::Standard | PriorKind::Mixture => self.latent_shape(1).len(),
        }
    }
}
