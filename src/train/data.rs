//! Meshes as the network sees them: planes and points with their true distance, made once, or those of a set.

use super::Settings;
use crate::cpu::mapped::{Block, BlockFile};
use crate::dataset::{DistancePoints, SetMesh};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hexplane::rasterize::rasterize_on;
use crate::hexplane::{Planes, fill};
use crate::mesh::normalise::normalise;
use crate::mesh::{Mesh, Similarity};
use std::borrow::Cow;

/// Points of a mesh that steps draw from: enough that a run of some hundred steps at 2,048 points
/// seldom meets one twice, at a cost of some tenths of a second.
const POOL: usize = 1 << 16;

/// One mesh, ready for training.
pub struct Item {
    pub name: String,
    content: Content,
    /// Whether the network sees depth behind the silhouettes.
    fill: bool,
}

enum Content {
    Prepared(Box<Prepared>),
    InSet(SetMesh),
}

struct Prepared {
    mesh: Mesh,
    planes: StoredPlanes,
    points: DistancePoints,
}

/// The planes of an item, on disk where memory is short.
struct StoredPlanes {
    values: Block,
    like: Planes,
}

impl Item {
    /// A mesh of a set; it is read when it is used.
    pub fn in_set(mesh: SetMesh, settings: &Settings) -> Self {
        let fill = settings.architecture.fill_background;
        Self { name: mesh.name().to_string(), content: Content::InSet(mesh), fill }
    }

    /// The planes as the network sees them, in place where they lie so in fp32.
    ///
    /// # Errors
    /// Those of a set that is broken, as of all that follows.
    pub fn values(&self) -> Result<Cow<'_, [f32]>> {
        Ok(match &self.content {
            Content::Prepared(item) => Cow::Borrowed(&item.planes.values),
            Content::InSet(mesh) => {
                let mut values = mesh.record()?.planes();
                if self.fill {
                    fill(values.to_mut(), mesh.set.settings.size);
                }
                values
            }
        })
    }

    /// A copy of the planes in memory, as they were rasterised.
    pub fn planes(&self) -> Result<Planes> {
        Ok(match &self.content {
            Content::Prepared(item) => {
                let planes = Planes { values: item.planes.values.to_vec(), ..item.planes.like.clone() };
                if self.fill { planes.emptied() } else { planes }
            }
            Content::InSet(mesh) => {
                let values = mesh.record()?.planes().into_owned();
                let (size, representation) = (mesh.set.settings.size, mesh.set.settings.representation);
                Planes { representation, size, values, transform: mesh.record()?.transform() }
            }
        })
    }

    /// Points in the normalised frame with their distance, even ones near the surface; none where there is no SDF loss.
    pub fn points(&self) -> Result<(&[[f32; 3]], &[f32])> {
        Ok(match &self.content {
            Content::Prepared(item) => (&item.points.points, &item.points.distances),
            Content::InSet(mesh) => {
                let record = mesh.record()?;
                (record.points(), record.distances())
            }
        })
    }

    /// From the mesh's own frame to the normalised one.
    pub fn transform(&self) -> Result<Similarity> {
        Ok(match &self.content {
            Content::Prepared(item) => item.planes.like.transform,
            Content::InSet(mesh) => mesh.record()?.transform(),
        })
    }

    /// In the normalised frame; `None` in a set that keeps no meshes.
    pub fn mesh(&self) -> Result<Option<Cow<'_, Mesh>>> {
        Ok(match &self.content {
            Content::Prepared(item) => Some(Cow::Borrowed(&item.mesh)),
            Content::InSet(mesh) => mesh.record()?.mesh().map(Cow::Owned),
        })
    }

    /// Whether there is one.
    pub fn has_mesh(&self) -> bool {
        match &self.content {
            Content::Prepared(_) => true,
            Content::InSet(mesh) => mesh.set.settings.meshes,
        }
    }

    /// Has what lies on the disk read ahead of its use.
    pub fn prefetch(&self) {
        if let Content::InSet(mesh) = &self.content {
            mesh.set.prefetch(mesh.index);
        }
    }
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
        let (mesh, _, planes) = self.planes(mesh).map_err(|error| error.within(name))?;
        if planes.is_background() {
            let problem = "no view of it shows a surface";
            return Err(Error::new(name, problem, "check that its triangles have an area"));
        }
        let pairs = if self.settings.training.sdf_weight == 0.0 { 0 } else { POOL / 2 };
        let points = DistancePoints::draw(&mesh, pairs, self.settings.seed, self.device)?;
        let fill = self.settings.architecture.fill_background;
        let planes = if fill { planes.filled() } else { planes };
        let values = file.store(index, &planes.values)?;
        let planes = StoredPlanes { values, like: Planes { values: Vec::new(), ..planes } };
        let content = Content::Prepared(Box::new(Prepared { mesh, planes, points }));
        Ok(Item { name: name.to_string(), content, fill })
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
}
