//! The six-plane autoencoder and the linear code it starts from.

mod architecture;
mod autoencoder;
pub mod hexz;
mod principal;

pub use architecture::Architecture;
pub use autoencoder::{Autoencoder, Halves};
pub use principal::{DEPTH_SCALE, LinearCode};

/// Views of a mesh: images that share one latent.
pub const VIEWS: usize = crate::hexplane::VIEWS.len();
