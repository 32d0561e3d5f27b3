//! Meshes as the network sees them: planes and points with their true distance, made once.

use super::Settings;
use crate::cpu::mapped::{Block, BlockFile};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hexplane::field::TAU;
use crate::hexplane::rasterize::rasterize_on;
use crate::hexplane::{Planes, Representation};
use crate::mesh::distance::MeshDistance;
use crate::mesh::metrics::sampling::{self, Samples};
use crate::mesh::normalise::normalise;
use crate::mesh::{Mesh, Similarity};
use crate::rng::Rng;

/// Points of a mesh that steps draw from: enough that a run of some hundred steps at 2,048 points
/// seldom meets one twice, at a cost of some tenths of a second.
const POOL: usize = 1 << 16;
/// Standard deviation of the offset of a near point from the surface, in world units: about the
/// width of the band in which the field is not clipped.
const NEAR: f32 = 0.02;
const STREAM_POOL: u64 = 0x706f_6f6c;

/// One mesh, ready for training.
pub struct Item {
    pub name: String,
    /// In the normalised frame.
    pub mesh: Mesh,
    pub transform: Similarity,
    pub planes: StoredPlanes,
    pub points: DistancePoints,
}

/// The planes of an item, on disk where memory is short.
pub struct StoredPlanes {
    pub values: Block,
    representation: Representation,
    size: usize,
    transform: Similarity,
}

impl StoredPlanes {
    /// Stores `planes` as block `index` of `file`.
    pub fn new(planes: &Planes, file: &BlockFile, index: usize) -> Result<Self> {
        let values = file.store(index, &planes.values)?;
        let &Planes { representation, size, transform, .. } = planes;
        Ok(Self { values, representation, size, transform })
    }

    /// A copy in memory.
    pub fn load(&self) -> Planes {
        let Self { representation, size, transform, .. } = *self;
        Planes { representation, size, values: self.values.to_vec(), transform }
    }
}

/// Points with their true signed distance, clipped to the band of the field. Even entries lie near
/// the surface, odd ones anywhere in the cube.
#[derive(Default)]
pub struct DistancePoints {
    pub points: Vec<[f32; 3]>,
    pub distances: Vec<f32>,
}

/// What is needed to make an [`Item`].
pub struct Prepare<'a> {
    pub settings: &'a Settings,
    /// What rasterises and measures distances.
    pub device: &'a Device,
}

impl Prepare<'_> {
    /// Normalises and rasterises; `name` stands in messages and results, the planes in block `index` of `file`.
    pub fn item(&self, name: &str, mesh: &Mesh, file: &BlockFile, index: usize) -> Result<Item> {
        let (mesh, transform, planes) = self.planes(mesh).map_err(|error| error.within(name))?;
        if planes.is_background() {
            let problem = "no view of it shows a surface";
            return Err(Error::new(name, problem, "check that its triangles have an area"));
        }
        let distance_points = match self.settings.training.sdf_weight {
            0.0 => DistancePoints::default(),
            _ => self.distance_points(&mesh)?,
        };
        let planes = StoredPlanes::new(&planes, file, index)?;
        Ok(Item { name: name.to_string(), mesh, transform, planes, points: distance_points })
    }

    /// The normalised mesh, the transform and the planes of a mesh in its own frame.
    pub fn planes(&self, mesh: &Mesh) -> Result<(Mesh, Similarity, Planes)> {
        let settings = self.settings;
        let (mesh, transform) = normalise(mesh, settings.up)?;
        let size = settings.architecture.planes;
        let kind = settings.representation;
        let mut planes = rasterize_on(self.device, &mesh, &transform, size, kind, settings.normals)?;
        if settings.training.blur > 0.0 {
            planes = planes.blurred(settings.training.blur);
        }
        Ok((mesh, transform, planes))
    }

    fn distance_points(&self, mesh: &Mesh) -> Result<DistancePoints> {
        let mut rng = Rng::new(self.settings.seed, STREAM_POOL);
        let surface = Samples::new(mesh, POOL / 2, self.settings.seed, "training").points;
        let mut points = Vec::with_capacity(POOL);
        for near in sampling::near(&surface, NEAR, self.settings.seed) {
            points.push(near);
            points.push(std::array::from_fn(|_| rng.range(-1.0, 1.0)));
        }
        let mut distances = MeshDistance::new(mesh)?.signed_distances_on(self.device, &points)?;
        distances.iter_mut().for_each(|d| *d = d.clamp(-TAU, TAU));
        Ok(DistancePoints { points, distances })
    }
}
