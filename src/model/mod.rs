//! The six-plane autoencoder and the linear code it starts from.

mod architecture;
mod autoencoder;
mod bottleneck;
pub mod codec;
mod flow;
pub mod hexz;
mod latent;
mod latent_basis;
mod latent_start;
mod posterior;
mod principal;
mod prior;
mod rate;

pub use architecture::Architecture;
pub use autoencoder::{Autoencoder, Halves};
pub use bottleneck::{Bottleneck, LatentKind, MOST_COMPONENTS};
pub use flow::Flow;
pub use latent::{Drawn, Posterior};
pub use latent_basis::{LatentBasis, USUAL_COMPONENTS};
pub use posterior::{ACTIVE_VARIANCE, Gaussian, PosteriorStatistics};
pub use principal::{DEPTH_SCALE, LinearCode, PlanesOf};
pub use prior::{PRIOR_INPUTS, PRIOR_LOG_VARIANCE, PRIOR_LOGITS, PRIOR_MEAN, PriorKind};
pub use rate::{FactorisedPrior, RATE_LOCATION, RATE_LOG_SCALE, RATE_LOG_STEP};

/// Views of a mesh: images that share one latent.
pub const VIEWS: usize = crate::hexplane::VIEWS.len();
