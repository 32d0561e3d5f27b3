//! The indexed triangle mesh and the similarity transform that normalises it.

use serde::{Deserialize, Serialize};

/// An indexed triangle mesh. Counter-clockwise triangles seen from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    pub positions: Vec<[f32; 3]>,
    /// Unit normals, one a vertex, where the file or the maker gave them.
    pub normals: Option<Vec<[f32; 3]>>,
    pub triangles: Vec<[u32; 3]>,
}

impl Mesh {
    /// The three corners of triangle `index`.
    pub fn corners(&self, index: usize) -> [[f32; 3]; 3] {
        self.triangles[index].map(|vertex| self.positions[vertex as usize])
    }

    /// Smallest and largest coordinates of the vertices that triangles use; `None` without any.
    pub fn bounds(&self) -> Option<([f32; 3], [f32; 3])> {
        let mut used = self.triangles.iter().flatten().map(|&vertex| self.positions[vertex as usize]);
        let first = used.next()?;
        Some(used.fold((first, first), |(low, high), p| {
            (
                std::array::from_fn(|axis| low[axis].min(p[axis])),
                std::array::from_fn(|axis| high[axis].max(p[axis])),
            )
        }))
    }

    /// CRC-32 of all that the mesh holds, to tell two of one name apart.
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        // Lengths first: no two arrays run into each other.
        for len in [self.positions.len(), self.normals.as_ref().map_or(0, Vec::len), self.triangles.len()] {
            hasher.update(&(len as u64).to_le_bytes());
        }
        hasher.update(bytemuck::cast_slice(&self.positions));
        hasher.update(bytemuck::cast_slice(self.normals.as_deref().unwrap_or_default()));
        hasher.update(bytemuck::cast_slice(&self.triangles));
        hasher.finalize()
    }

    /// The mesh under a similarity; normals are turned, not scaled.
    pub fn transformed(
        &self,
        map: impl Fn([f64; 3]) -> [f64; 3],
        turn: impl Fn([f64; 3]) -> [f64; 3],
    ) -> Mesh {
        let through = |v: &[f32; 3], f: &dyn Fn([f64; 3]) -> [f64; 3]| f(v.map(f64::from)).map(|c| c as f32);
        Mesh {
            positions: self.positions.iter().map(|p| through(p, &map)).collect(),
            normals: self.normals.as_ref().map(|all| all.iter().map(|n| through(n, &turn)).collect()),
            triangles: self.triangles.clone(),
        }
    }
}

/// `normalised = scale * (rotation * p - centre)`: a rotation onto y up and z forward, then the
/// bounding-box centre to the origin and the longest half-extent to 0.9 (docs/method.md, "Frame and views").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Rows of a proper rotation.
    pub rotation: [[f64; 3]; 3],
    /// In units of the file, after the rotation.
    pub centre: [f64; 3],
    /// Normalised units per unit of the file; positive.
    pub scale: f64,
}

impl Default for Similarity {
    fn default() -> Self {
        Self { rotation: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], centre: [0.0; 3], scale: 1.0 }
    }
}

impl Similarity {
    pub fn apply(&self, p: [f64; 3]) -> [f64; 3] {
        let turned = self.turn(p);
        std::array::from_fn(|axis| self.scale * (turned[axis] - self.centre[axis]))
    }

    pub fn invert(&self, p: [f64; 3]) -> [f64; 3] {
        self.turn_back(std::array::from_fn(|axis| p[axis] / self.scale + self.centre[axis]))
    }

    /// The rotation alone, for directions.
    pub fn turn(&self, v: [f64; 3]) -> [f64; 3] {
        self.rotation.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
    }

    pub fn turn_back(&self, v: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|column| (0..3).map(|row| self.rotation[row][column] * v[row]).sum())
    }
}
