//! Augmentation as steps go: each visit of a mesh sees it mirrored, turned and scaled as drawn for that visit.
//!
//! A mirror image is made on the planes, exactly: every view's columns run the other way, left and right trade places, and
//! the x of normals changes its sign. A turn or another scale shows what the planes do not have, so that the warped mesh is
//! rasterised. Distances go with the map: it is a similarity, which multiplies all of them alike.

use super::{Item, Settings};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::hexplane::rasterize::rasterize_on;
use crate::mesh::{Mesh, Similarity};
use crate::rng::Rng;
use glam::{DMat3, DVec3, EulerRot};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Warped meshes reach no farther than this along an axis: inside the cube with a margin.
const REACH: f64 = 0.97;
/// Words of a visit's draw, and room for more.
const WORDS: u64 = 16;

/// `[augmentation]` of a configuration; nothing of it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Probability of a mirror image.
    pub mirror: f32,
    /// Largest turn about each axis, in degrees.
    pub turn: f32,
    /// Largest change of the size, as a share of it.
    pub scale: f32,
}

impl Augmentation {
    /// # Errors
    /// Numbers that make no small change.
    pub fn validate(&self) -> Result<()> {
        let problem = if !(0.0..=1.0).contains(&self.mirror) {
            "mirror must be a probability, from 0 to 1"
        } else if !(0.0..=45.0).contains(&self.turn) {
            "turn must be from 0 to 45 degrees"
        } else if !(0.0..=0.5).contains(&self.scale) {
            "scale must be from 0 to 0.5"
        } else {
            return Ok(());
        };
        Err(Error::usage("settings: augmentation", problem, "change the line of the configuration file"))
    }

    /// Whether every visit sees the mesh as it is.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether meshes are rasterised for it.
    pub fn needs_meshes(&self) -> bool {
        self.turn > 0.0 || self.scale > 0.0
    }

    /// What visit number `visit` of a run sees.
    pub(super) fn draw(&self, seed: u64, visit: u64) -> Warp {
        let mut rng = Rng::named(seed, "augmentation");
        rng.seek(WORDS * visit);
        let mirrored = rng.uniform() < self.mirror;
        let mut about = |most: f32| f64::from(rng.range(-most, most));
        let turn = self.turn.to_radians();
        let angles = [about(turn), about(turn), about(turn)];
        let scale = 1.0 + about(self.scale);
        Warp { mirrored, angles, scale }
    }
}

/// One draw: mirrored in x, then turned, then scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Warp {
    mirrored: bool,
    /// About y, x and z, in radians.
    angles: [f64; 3],
    scale: f64,
}

/// The map of a draw on points of the normalised frame.
pub(super) struct Map {
    turn: DMat3,
    pub scale: f64,
}

impl Warp {
    /// Planes of the item under the draw, and what it does to its points.
    pub fn planes<'a>(&self, item: &'a Item, settings: &Settings) -> Result<(Cow<'a, [f32]>, Map)> {
        let (size, kind) = (settings.architecture.planes, settings.representation);
        if !settings.augmentation.needs_meshes() {
            let map = Map { turn: self.turn(), scale: 1.0 };
            let values = item.values()?;
            let values = if self.mirrored { Cow::Owned(mirrored(&values, size, kind)) } else { values };
            return Ok((values, map));
        }
        let Some(mesh) = item.mesh()? else { return Err(without_mesh(&item.name)) };
        let (mesh, map) = self.warped(&mesh);
        // Here, whatever trains: a card has no memory to spare, and the bits are the same.
        let identity = Similarity::default();
        let planes = rasterize_on(&Device::Cpu, &mesh, &identity, size, kind, settings.normals)?;
        let blur = settings.training.blur;
        let planes = if blur > 0.0 { planes.blurred(blur) } else { planes };
        let planes = if settings.architecture.fill_background { planes.filled() } else { planes };
        Ok((Cow::Owned(planes.values), map))
    }

    fn turn(&self) -> DMat3 {
        let [y, x, z] = self.angles;
        let mirror = DVec3::new(if self.mirrored { -1.0 } else { 1.0 }, 1.0, 1.0);
        DMat3::from_euler(EulerRot::YXZ, y, x, z) * DMat3::from_diagonal(mirror)
    }

    fn warped(&self, mesh: &Mesh) -> (Mesh, Map) {
        let turn = self.turn();
        let farthest = |far: f64, p: &[f32; 3]| {
            far.max((turn * DVec3::from_array(p.map(f64::from))).abs().max_element())
        };
        let far = mesh.positions.iter().fold(0.0, farthest);
        let scale = self.scale.min(REACH / far);
        let map = Map { turn, scale };
        let mut warped = mesh.transformed(
            |p| (scale * (turn * DVec3::from_array(p))).to_array(),
            |n| (turn * DVec3::from_array(n)).to_array(),
        );
        if self.mirrored {
            warped.triangles.iter_mut().for_each(|triangle| triangle.swap(1, 2));
        }
        (warped, map)
    }
}

impl Map {
    pub fn apply(&self, p: [f32; 3]) -> [f32; 3] {
        (self.scale * (self.turn * DVec3::from_array(p.map(f64::from)))).as_vec3().to_array()
    }
}

/// What `turn` and `scale` cannot do without.
pub(super) fn without_mesh(name: &str) -> Error {
    let problem = "augmentation turns or scales meshes, and the set keeps none";
    Error::new(name, problem, "build the set with --meshes true, or set turn and scale to 0")
}

/// The planes of the mirror image in x, `[6, size, size, channels]`.
fn mirrored(values: &[f32], size: usize, kind: Representation) -> Vec<f32> {
    let channels = kind.channels();
    let (row, view) = (size * channels, size * size * channels);
    // Views: top, bottom, front, back, left, right.
    let mut mirrored: Vec<f32> = Vec::with_capacity(values.len());
    for from in [0, 1, 2, 3, 5, 4] {
        for line in values[from * view..(from + 1) * view].chunks_exact(row) {
            mirrored.extend(line.chunks_exact(channels).rev().flatten());
        }
    }
    if kind == Representation::Continuous {
        // Background keeps a zero without a sign.
        mirrored.iter_mut().skip(1).step_by(4).filter(|x| **x != 0.0).for_each(|x| *x = -*x);
    }
    mirrored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hexplane::rasterize::{Normals, rasterize};
    use crate::mesh::normalise::{Up, normalise};
    use crate::mesh::sample_head::head;

    fn planes(mesh: &Mesh, kind: Representation) -> Vec<f32> {
        rasterize(mesh, &Similarity::default(), 64, kind, Normals::Interpolated).unwrap().values
    }

    #[test]
    fn mirrored_planes_are_those_of_the_mirrored_mesh() {
        let (mesh, _) = normalise(&head(1, 5000), Up::Y).unwrap();
        let warp = Warp { mirrored: true, angles: [0.0; 3], scale: 1.0 };
        let (image, _) = warp.warped(&mesh);
        for kind in [Representation::Continuous, Representation::Binary] {
            let (ours, theirs) = (mirrored(&planes(&mesh, kind), 64, kind), planes(&image, kind));
            assert_ne!(ours, planes(&mesh, kind));
            let pixels = ours.chunks(kind.channels()).zip(theirs.chunks(kind.channels()));
            // The rasteriser rounds and breaks ties towards one side; neither changes more than the last digits but for
            // a pixel whose centre lies on an edge.
            let differ = pixels.filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 1e-4)).count();
            assert!(differ * 500 < 6 * 64 * 64, "{kind:?}: {differ} pixels");
            assert_eq!(mirrored(&ours, 64, kind), planes(&mesh, kind));
        }
    }

    #[test]
    fn draws_follow_from_seed_and_visit_and_keep_their_bounds() {
        let augmentation = Augmentation { mirror: 0.5, turn: 10.0, scale: 0.2 };
        let draws: Vec<Warp> = (0..500).map(|visit| augmentation.draw(3, visit)).collect();
        assert_eq!(draws[7], augmentation.draw(3, 7));
        assert_ne!(draws[7], augmentation.draw(4, 7));
        let mirrored = draws.iter().filter(|draw| draw.mirrored).count();
        // Five deviations of a fair coin.
        assert!((194..=306).contains(&mirrored), "{mirrored}");
        for draw in &draws {
            assert!(draw.angles.iter().all(|angle| angle.abs() <= 10f64.to_radians() + 1e-6));
            assert!((0.8 - 1e-6..=1.2 + 1e-6).contains(&draw.scale), "{draw:?}");
        }
        let (mesh, _) = normalise(&head(0, 2000), Up::Y).unwrap();
        for draw in &draws[..20] {
            let (warped, map) = draw.warped(&mesh);
            let (low, high) = warped.bounds().unwrap();
            assert!(low.iter().chain(&high).all(|c| c.abs() < 0.971), "{low:?} {high:?}");
            assert_eq!(map.apply(mesh.positions[5]), warped.positions[5]);
        }
        assert!(Augmentation { turn: 50.0, ..augmentation }.validate().is_err());
    }
}
