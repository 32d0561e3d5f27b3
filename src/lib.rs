//! hexcuda: 3-D meshes to compact latents and back, through six orthographic planes.
//!
//! Reading order: [`error`], [`shape`], [`rng`] stand alone; [`mesh`] and [`hexplane`] are the
//! geometry; [`cpu`] holds the cores that [`ops`] are made of.

pub mod bench;
pub mod check;
pub mod cli;
pub mod console;
pub mod cpu;
pub mod cuda;
pub mod dataset;
pub mod device;
pub mod diagnose;
pub mod error;
pub mod files;
pub mod hexplane;
pub mod memory;
pub mod mesh;
pub mod model;
pub mod nn;
pub mod ops;
pub mod page;
pub mod ranks;
pub mod rng;
pub mod serve;
pub mod shape;
pub mod tape;
pub mod train;

pub use error::{Error, Result};
