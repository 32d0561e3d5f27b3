//! Triangle meshes: reading and writing, normalisation, distances, metrics, marching cubes and the
//! built-in sample heads.

pub mod distance;
mod fragments;
pub mod io;
pub mod marching_cubes;
pub mod metrics;
pub mod normalise;
pub mod sample_head;
pub mod topology;
mod triangle_mesh;

pub use fragments::without_fragments;
pub use triangle_mesh::{Mesh, Similarity};
