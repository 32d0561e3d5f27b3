//! Warped copies of meshes: more shapes than there are files.

use crate::mesh::Mesh;
use crate::rng::Rng;
use glam::{DMat3, DVec3, EulerRot};

/// Largest change of an axis' length, as a share of it.
const STRETCH: f32 = 0.08;
/// Largest turn about each axis, in radians (4 degrees).
const TURN: f32 = 0.07;

/// Copy `index` of a mesh: turned and stretched at random, mirrored in x where `index` is even.
pub fn warped(mesh: &Mesh, seed: u64, name: &str, index: usize) -> Mesh {
    let mut rng = Rng::named(seed, &format!("warp {index} of {name}"));
    let mut draw = |most: f32| f64::from(rng.range(-most, most));
    let turn = DMat3::from_euler(EulerRot::YXZ, draw(TURN), draw(TURN), draw(TURN));
    let mut stretch = DVec3::new(1.0 + draw(STRETCH), 1.0 + draw(STRETCH), 1.0 + draw(STRETCH));
    let mirrored = index.is_multiple_of(2);
    if mirrored {
        stretch.x = -stretch.x;
    }
    let map = turn * DMat3::from_diagonal(stretch);
    // Normals go with the inverse transpose, and keep their length.
    let normals = map.inverse().transpose();
    let mut copy = mesh.transformed(
        |p| (map * DVec3::from(p)).to_array(),
        |n| (normals * DVec3::from(n)).normalize_or_zero().to_array(),
    );
    if mirrored {
        copy.triangles.iter_mut().for_each(|triangle| triangle.swap(1, 2));
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::sample_head::head;

    fn volume(mesh: &Mesh) -> f64 {
        let corners =
            (0..mesh.triangles.len()).map(|t| mesh.corners(t).map(|p| DVec3::from(p.map(f64::from))));
        corners.map(|[a, b, c]| a.dot(b.cross(c)) / 6.0).sum()
    }

    #[test]
    fn copies_keep_their_outside_and_differ() {
        let mesh = head(0, 2000);
        let copies: Vec<Mesh> = (0..4).map(|index| warped(&mesh, 1, "a", index)).collect();
        for copy in &copies {
            // Three stretches of at most 8 %.
            let ratio = volume(copy) / volume(&mesh);
            assert!((0.92f64.powi(3)..1.08f64.powi(3)).contains(&ratio), "{ratio}");
        }
        assert!(copies.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(copies[2], warped(&mesh, 1, "a", 2));
    }
}
