//! hexcuda: 3-D meshes to compact latents and back, through six orthographic planes.
//!
//! Reading order: [`error`], [`shape`], [`rng`] stand alone; [`mesh`] and [`hexplane`] are the
//! geometry; [`cpu`] holds the cores that [`ops`] are made of.

pub mod check;
pub mod cpu;
pub mod error;
pub mod files;
pub mod hexplane;
pub mod mesh;
pub mod ops;
pub mod report;
pub mod rng;
pub mod shape;
pub mod tape;

pub use error::{Error, Result};
