//! The built-in sample heads: a family of sculpted busts, so that everything can be tried, tested
//! and shown without a file.
//!
//! A head is an implicit surface under parameters drawn from a seed. It is polygonised on a grid that
//! is finer over the face and simplified to the number of triangles asked for; its normals are the
//! gradient. Reading order: `parameters`, `implicit`, `sculpture`, `features`, `polygonise`, `simplify`.

mod features;
mod implicit;
mod parameters;
mod polygonise;
mod sculpture;
mod simplify;

pub use parameters::HeadParameters;
use rayon::prelude::*;

use super::Mesh;
use sculpture::Sculpture;

/// Triangles of a head when nobody asks for another number.
pub const DEFAULT_TRIANGLES: usize = 20_000;

/// Fewest and most triangles that [`head`] aims at: below, the features dissolve; above, memory runs short.
pub const TRIANGLE_RANGE: std::ops::RangeInclusive<usize> = 2_000..=4_000_000;

/// The head of a seed with `triangles` triangles, or one fewer (clamped to [`TRIANGLE_RANGE`]).
///
/// One closed, outward-oriented 2-manifold of genus 0 with unit normals; centimetres, y up, the face
/// along +z, the origin between the eyes and the ear canals. Same arguments, same bits.
pub fn head(seed: u64, triangles: usize) -> Mesh {
    head_with(HeadParameters::from_seed(seed), triangles)
}

/// As [`head`], from given parameters.
pub fn head_with(parameters: HeadParameters, triangles: usize) -> Mesh {
    let wanted = triangles.clamp(*TRIANGLE_RANGE.start(), *TRIANGLE_RANGE.end());
    polygonise::polygonise(&Sculpture::new(parameters), wanted)
}

/// The heads of the seeds `first_seed ..`, `count` of them.
pub fn family(first_seed: u64, count: usize, triangles: usize) -> Vec<Mesh> {
    (0..count as u64).into_par_iter().map(|i| head(first_seed.wrapping_add(i), triangles)).collect()
}
