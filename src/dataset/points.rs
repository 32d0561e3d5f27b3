//! Points of a mesh with their true signed distance, as the SDF loss reads them.

use crate::device::Device;
use crate::error::Result;
use crate::mesh::Mesh;
use crate::mesh::distance::MeshDistance;
use crate::mesh::metrics::sampling::{self, Samples};
use crate::rng::Rng;

/// Standard deviation of the offset of a near point from the surface, in world units: about the
/// width of the band in which the field is not clipped.
const NEAR: f32 = 0.02;
const STREAM: u64 = 0x706f_6f6c;

/// Even entries lie near the surface, odd ones anywhere in the cube.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DistancePoints {
    pub points: Vec<[f32; 3]>,
    /// In world units, negative inside.
    pub distances: Vec<f32>,
}

impl DistancePoints {
    /// Twice `pairs` points of a normalised mesh.
    ///
    /// # Errors
    /// Those of the mesh and of the device.
    pub fn draw(mesh: &Mesh, pairs: usize, seed: u64, device: &Device) -> Result<Self> {
        if pairs == 0 {
            return Ok(Self::default());
        }
        let mut rng = Rng::new(seed, STREAM);
        let surface = Samples::new(mesh, pairs, seed, "training").points;
        let mut points = Vec::with_capacity(2 * pairs);
        for near in sampling::near(&surface, NEAR, seed) {
            points.push(near);
            points.push(std::array::from_fn(|_| rng.range(-1.0, 1.0)));
        }
        let distances = MeshDistance::new(mesh)?.signed_distances_on(device, &points)?;
        Ok(Self { points, distances })
    }
}
