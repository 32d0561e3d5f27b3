//! Marching cubes: the surface where a volume crosses a level, as a closed triangle mesh.
//!
//! The mesh is a closed, oriented 2-manifold for every volume, also one with samples on the
//! level, and has the topology of the trilinear interpolant in every cell. Samples equal to the
//! level are outside. Where the inside reaches the border of the grid, the surface is closed there.
//!
//! A volume is sampled only in the blocks whose range holds the level; one bit a sample is kept of
//! the whole grid. The mesh is the same for any number of threads.
//!
//! Reading order: `volume`, `samples`, `extract`, then `tables`, `cell` and `polygon` for what
//! happens within a cell.

mod cell;
mod cuda;
mod extract;
mod polygon;
mod samples;
mod tables;
mod volume;

pub use cuda::{CardVolume, DenseCardVolume, marching_cubes_in_slabs, marching_cubes_on_card};
pub use volume::{DenseVolume, Volume};

use crate::error::{Error, Result};
use crate::mesh::Mesh;

/// The surface of `volume` at `level`, counter-clockwise seen from where the values are above it.
///
/// The mesh has no normals, no vertex twice and no degenerate triangle. Vertices stay 1/1024 of
/// the spacing away from the samples, and as far outside the border where they close the surface.
///
/// # Errors
/// When the level is not finite, the grid has fewer than 2 samples along an axis, its spacing is
/// not positive or too fine for f32 positions, a sample is NaN (a block that its range tells apart
/// from the level is not looked at), or the surface has too many vertices.
pub fn marching_cubes<V: Volume + ?Sized>(volume: &V, level: f32) -> Result<Mesh> {
    check(volume.dims(), level)?;
    let placement = extract::Placement::new(volume.dims(), volume.origin(), volume.spacing())?;
    let samples = samples::Samples::take(volume, level)?;
    let numbering = extract::Numbering::count(&samples)?;
    let positions = extract::edge_vertices(&samples, &numbering, &placement);
    extract::connect(&samples, &numbering, &placement, positions)
}

fn check(dims: [usize; 3], level: f32) -> Result<()> {
    if !level.is_finite() {
        return Err(Error::new(
            "marching cubes",
            format!("expected a finite level, found {level}"),
            "give a number",
        ));
    }
    if dims.iter().any(|&n| n < 2) {
        return Err(Error::new(
            "volume",
            format!(
                "expected at least 2 samples along each axis, found {} x {} x {}",
                dims[0], dims[1], dims[2]
            ),
            "take a finer grid",
        ));
    }
    Ok(())
}
