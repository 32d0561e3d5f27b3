//! Marching cubes over a regular grid of samples.

mod volume;

pub use volume::{DenseVolume, Volume};
