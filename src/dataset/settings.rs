//! What a set holds of each mesh.

use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::hexplane::cache::Storage;
use crate::hexplane::rasterize::{MAX_SIZE, Normals};
use crate::mesh::normalise::Up;
use serde::{Deserialize, Serialize};

/// All meshes of a set are made alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSettings {
    /// Pixels along an edge of a plane.
    pub size: usize,
    pub representation: Representation,
    pub normals: Normals,
    /// The axis of the meshes that points up.
    pub up: Up,
    /// Of the planes.
    pub storage: Storage,
    /// Points with their true distance a mesh; half of them near the surface. 0: none.
    pub points: usize,
    /// Of their draws.
    pub seed: u64,
    /// Whether the normalised meshes are kept beside their planes.
    pub meshes: bool,
    /// Where a shard has this many MiB, the next mesh begins another one.
    pub shard: usize,
}

impl Default for SetSettings {
    fn default() -> Self {
        Self {
            size: 128,
            representation: Representation::Continuous,
            normals: Normals::Interpolated,
            up: Up::default(),
            storage: Storage::Fp16,
            points: 8192,
            seed: 0,
            meshes: true,
            shard: 1024,
        }
    }
}

impl SetSettings {
    /// Values of the planes of a mesh.
    pub fn values(&self) -> usize {
        6 * self.size * self.size * self.representation.channels()
    }

    /// # Errors
    /// Numbers beyond what files and memory hold.
    pub fn validate(&self) -> Result<()> {
        let problem = if !(1..=MAX_SIZE).contains(&self.size) {
            format!("size is {}, expected 1 to {MAX_SIZE}", self.size)
        } else if !self.points.is_multiple_of(2) || self.points > 1 << 24 {
            format!("points is {}, expected an even number up to 16,777,216", self.points)
        } else if !(1..=1 << 20).contains(&self.shard) {
            format!("shard is {} MiB, expected 1 to 1,048,576", self.shard)
        } else {
            return Ok(());
        };
        Err(Error::usage("settings of the set", problem, "change the option"))
    }

    /// The first setting in which `wanted` differs, as both have it.
    pub fn difference(&self, wanted: &Self) -> Option<(String, String)> {
        let [ours, theirs] =
            [self, wanted].map(|settings| serde_json::to_value(settings).unwrap_or_default());
        let ours = ours.as_object()?;
        let (key, value) = ours.iter().find(|(key, value)| theirs[key] != **value)?;
        Some((format!("{key} = {value}"), format!("{key} = {}", theirs[key])))
    }
}
