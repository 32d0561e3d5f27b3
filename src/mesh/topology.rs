//! How the triangles of a mesh hang together once equal positions are one vertex: edges, pieces,
//! health, and the oriented surface that inside and outside are defined by.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Mesh;
use crate::error::{Error, Result};

/// What can be counted on a mesh after welding equal positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Distinct positions that triangles use.
    pub vertices: usize,
    /// Triangles with three distinct corners.
    pub faces: usize,
    /// Pieces that no edge connects.
    pub components: usize,
    /// Edges of one triangle.
    pub boundary_edges: usize,
    /// Edges of more than two triangles.
    pub non_manifold_edges: usize,
    /// Every edge has exactly two triangles (and there is one).
    pub watertight: bool,
}

/// The oriented surface whose winding number says what is inside.
#[derive(Clone, Debug)]
pub(crate) struct Orientation {
    /// One a triangle: 1 as it is, -1 turned round, 0 not counted.
    pub weights: Vec<i8>,
    /// Every edge is run through as often in one direction as in the other: the winding number is
    /// then a whole number everywhere off the surface.
    pub closed: bool,
}

/// One use of an edge by a triangle.
#[derive(Clone, Copy)]
struct EdgeUse {
    /// Both vertices, the smaller one in the upper half.
    edge: u64,
    triangle: u32,
    /// Whether the triangle runs from the smaller to the larger vertex.
    forward: bool,
}

/// Welded corners and sorted edges of a mesh.
pub struct Topology {
    vertices: usize,
    corners: Vec<[u32; 3]>,
    edges: Vec<EdgeUse>,
}

impl Topology {
    /// # Errors
    /// A triangle that names a vertex that is not there, a vertex of a triangle that is not
    /// finite, 2^31 triangles or more.
    pub fn new(mesh: &Mesh) -> Result<Self> {
        check(mesh)?;
        let (vertices, corners) = weld(mesh);
        let mut edges: Vec<EdgeUse> = Vec::with_capacity(3 * corners.len());
        for (triangle, face) in corners.iter().enumerate().filter(|(_, face)| is_proper(face)) {
            for side in 0..3 {
                let (from, to) = (face[side], face[(side + 1) % 3]);
                edges.push(EdgeUse {
                    edge: u64::from(from.min(to)) << 32 | u64::from(from.max(to)),
                    triangle: triangle as u32,
                    forward: from < to,
                });
            }
        }
        edges.par_sort_unstable_by_key(|use_| (use_.edge, use_.triangle));
        Ok(Self { vertices, corners, edges })
    }

    fn edges(&self) -> impl Iterator<Item = &[EdgeUse]> {
        self.edges.chunk_by(|a, b| a.edge == b.edge)
    }

    /// For each triangle, one that stands for its component: triangles that share edges.
    pub(super) fn components(&self) -> Vec<u32> {
        let mut pieces = Pieces::new(self.corners.len());
        for pair in self.edges().flat_map(|uses| uses.windows(2)) {
            pieces.join(pair[0].triangle, pair[1].triangle, false);
        }
        (0..self.corners.len() as u32).map(|triangle| pieces.root(triangle).0).collect()
    }

    pub fn health(&self) -> Health {
        let (mut boundary_edges, mut non_manifold_edges) = (0, 0);
        for uses in self.edges() {
            match uses.len() {
                1 => boundary_edges += 1,
                2 => {}
                _ => non_manifold_edges += 1,
            }
        }
        let roots = self.components();
        let proper = |triangle: &u32| is_proper(&self.corners[*triangle as usize]);
        let faces = (0..self.corners.len() as u32).filter(proper).count();
        let components =
            (0..self.corners.len() as u32).filter(proper).filter(|&t| roots[t as usize] == t).count();
        Health {
            vertices: self.vertices,
            faces,
            components,
            boundary_edges,
            non_manifold_edges,
            watertight: faces > 0 && boundary_edges == 0 && non_manifold_edges == 0,
        }
    }

    /// Which triangles count, and which way round, for inside and outside:
    /// - of triangles on the same three corners one counts, in the direction of the majority; as many
    ///   one way as the other cancel (a wall between two rooms), unless that leaves nothing at
    ///   all (a mesh that has every face on both sides), when the first of each counts;
    /// - a piece whose neighbours disagree about the direction is made to agree, in the direction that
    ///   most of its area already has; a piece that agrees stays as it is.
    pub(crate) fn orientation(&self, mesh: &Mesh) -> Orientation {
        let mut weights: Vec<i8> = self.corners.iter().map(|face| i8::from(is_proper(face))).collect();
        // Triangles on the same corners of a piece of more than one make edges of more than two.
        if self.edges().any(|uses| uses.len() > 2) {
            self.count_repeated_once(&mut weights);
        }
        let kept = |use_: &&EdgeUse| weights[use_.triangle as usize] != 0;
        let turn = |use_: &EdgeUse| use_.forward == (weights[use_.triangle as usize] > 0);
        let pairs: Vec<(u32, u32, bool)> = self
            .edges()
            .filter_map(|uses| {
                let mut uses = uses.iter().filter(kept);
                match (uses.next(), uses.next(), uses.next()) {
                    (Some(a), Some(b), None) => Some((a.triangle, b.triangle, turn(a) == turn(b))),
                    _ => None,
                }
            })
            .collect();
        if pairs.iter().any(|pair| pair.2) {
            self.make_neighbours_agree(mesh, &pairs, &mut weights);
        }
        let balance = |uses: &[EdgeUse]| -> i32 {
            uses.iter()
                .map(|u| i32::from(weights[u.triangle as usize]) * if u.forward { 1 } else { -1 })
                .sum()
        };
        let closed = self.edges().all(|uses| balance(uses) == 0);
        Orientation { weights, closed }
    }

    fn count_repeated_once(&self, weights: &mut [i8]) {
        let mut faces: Vec<([u32; 3], u32, bool)> = (self.corners.iter().enumerate())
            .filter(|(_, face)| is_proper(face))
            .map(|(triangle, face)| {
                let mut sorted = *face;
                sorted.sort_unstable();
                let start = face.iter().position(|v| *v == sorted[0]).unwrap_or(0);
                (sorted, triangle as u32, face[(start + 1) % 3] == sorted[1])
            })
            .collect();
        faces.par_sort_unstable();
        let mut nothing_left = true;
        for same in faces.chunk_by(|a, b| a.0 == b.0) {
            let even = 2 * same.iter().filter(|face| face.2).count();
            let keep = match even.cmp(&same.len()) {
                std::cmp::Ordering::Equal => None,
                majority => same.iter().find(|face| face.2 == majority.is_gt()),
            };
            same.iter().for_each(|face| weights[face.1 as usize] = 0);
            if let Some(face) = keep {
                weights[face.1 as usize] = 1;
                nothing_left = false;
            }
        }
        if nothing_left {
            faces.chunk_by(|a, b| a.0 == b.0).for_each(|same| weights[same[0].1 as usize] = 1);
        }
    }

    fn make_neighbours_agree(&self, mesh: &Mesh, pairs: &[(u32, u32, bool)], weights: &mut [i8]) {
        let mut pieces = Pieces::new(weights.len());
        pairs.iter().for_each(|&(a, b, differ)| pieces.join(a, b, differ));
        // Area on either side, by root: [same direction as the root, opposite].
        let mut areas = vec![[0.0f64; 2]; weights.len()];
        for triangle in 0..weights.len() {
            let (root, differs) = pieces.root(triangle as u32);
            areas[root as usize][usize::from(differs)] += area(mesh.corners(triangle));
        }
        for (triangle, weight) in weights.iter_mut().enumerate() {
            let (root, differs) = pieces.root(triangle as u32);
            let [same, opposite] = areas[root as usize];
            if differs == (same >= opposite) {
                *weight = -*weight;
            }
        }
    }
}

/// Triangles joined into pieces (union-find), each with its direction relative to the root's.
struct Pieces {
    parent: Vec<u32>,
    differs: Vec<bool>,
}

impl Pieces {
    fn new(count: usize) -> Self {
        Self { parent: (0..count as u32).collect(), differs: vec![false; count] }
    }

    /// The smallest triangle of the piece, and whether `triangle` differs from it in direction.
    fn root(&mut self, triangle: u32) -> (u32, bool) {
        let (mut root, mut differs) = (triangle, false);
        while self.parent[root as usize] != root {
            differs ^= self.differs[root as usize];
            root = self.parent[root as usize];
        }
        let (mut at, mut rest) = (triangle, differs);
        while self.parent[at as usize] != root && at != root {
            let (next, step) = (self.parent[at as usize], self.differs[at as usize]);
            self.parent[at as usize] = root;
            self.differs[at as usize] = rest;
            rest ^= step;
            at = next;
        }
        (root, differs)
    }

    /// Where both are joined already the older direction stands (a Moebius strip has none).
    fn join(&mut self, a: u32, b: u32, differ: bool) {
        let ((a, a_differs), (b, b_differs)) = (self.root(a), self.root(b));
        if a != b {
            let (low, high) = (a.min(b), a.max(b));
            self.parent[high as usize] = low;
            self.differs[high as usize] = a_differs ^ b_differs ^ differ;
        }
    }
}

fn is_proper(face: &[u32; 3]) -> bool {
    face[0] != face[1] && face[1] != face[2] && face[2] != face[0]
}

/// Area of a triangle in f64.
pub(crate) fn area(corners: [[f32; 3]; 3]) -> f64 {
    let [a, b, c] = corners.map(|p| glam::DVec3::from_array(p.map(f64::from)));
    0.5 * (b - a).cross(c - a).length()
}

fn check(mesh: &Mesh) -> Result<()> {
    if mesh.triangles.len() >= 1 << 31 || mesh.positions.len() > u32::MAX as usize {
        let found = format!("{} triangles, {} vertices", mesh.triangles.len(), mesh.positions.len());
        return Err(Error::new("mesh", found, "at most 2^31 triangles fit: simplify the mesh"));
    }
    for (triangle, corners) in mesh.triangles.iter().enumerate() {
        for &vertex in corners {
            let place = || format!("mesh: triangle {triangle}");
            let Some(position) = mesh.positions.get(vertex as usize) else {
                let problem = format!("names vertex {vertex} of {}", mesh.positions.len());
                return Err(Error::new(place(), problem, "repair the mesh"));
            };
            if !position.iter().all(|c| c.is_finite()) {
                let problem = format!("vertex {vertex} is at {position:?}, which is not finite");
                return Err(Error::new(place(), problem, "repair the mesh"));
            }
        }
    }
    Ok(())
}

/// Corners with equal positions get equal numbers, counted from 0 in order of first use.
fn weld(mesh: &Mesh) -> (usize, Vec<[u32; 3]>) {
    let mut of_position: HashMap<[u32; 3], u32> = HashMap::new();
    let mut of_vertex = vec![u32::MAX; mesh.positions.len()];
    let corners = (mesh.triangles.iter())
        .map(|triangle| {
            triangle.map(|vertex| {
                let known = &mut of_vertex[vertex as usize];
                if *known == u32::MAX {
                    let next = of_position.len() as u32;
                    // Adding zero makes -0 and +0 the same position.
                    let bits = mesh.positions[vertex as usize].map(|c| (c + 0.0).to_bits());
                    *known = *of_position.entry(bits).or_insert(next);
                }
                *known
            })
        })
        .collect();
    (of_position.len(), corners)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tetrahedron() -> Mesh {
        Mesh {
            positions: vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            normals: None,
            triangles: vec![[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]],
        }
    }

    fn orientation(mesh: &Mesh) -> Orientation {
        Topology::new(mesh).unwrap().orientation(mesh)
    }

    #[test]
    fn a_closed_mesh_is_watertight_however_its_vertices_are_doubled() {
        let mesh = tetrahedron();
        let soup = Mesh {
            positions: mesh.triangles.iter().flatten().map(|&v| mesh.positions[v as usize]).collect(),
            normals: None,
            triangles: (0..4).map(|t| [3 * t, 3 * t + 1, 3 * t + 2]).collect(),
        };
        let expected = Health {
            vertices: 4,
            faces: 4,
            components: 1,
            boundary_edges: 0,
            non_manifold_edges: 0,
            watertight: true,
        };
        for mesh in [mesh, soup] {
            assert_eq!(Topology::new(&mesh).unwrap().health(), expected);
            assert!(orientation(&mesh).closed);
        }
    }

    #[test]
    fn holes_fins_and_pieces_are_counted() {
        let mut mesh = tetrahedron();
        mesh.positions.extend([[2.0, 2.0, 2.0], [3.0, 2.0, 2.0], [2.0, 3.0, 2.0]]);
        mesh.triangles.extend([[0, 1, 4], [4, 5, 6], [5, 5, 6]]);
        let health = Topology::new(&mesh).unwrap().health();
        // The fin [0,1,4] has two open edges and makes [0,1] an edge of three.
        assert_eq!((health.faces, health.components), (6, 2));
        assert_eq!((health.boundary_edges, health.non_manifold_edges, health.watertight), (5, 1, false));
        assert!(!orientation(&mesh).closed);
    }

    #[test]
    fn mixed_winding_is_mended_and_consistent_winding_is_left() {
        let mut mesh = tetrahedron();
        assert_eq!(orientation(&mesh).weights, [1; 4]);
        mesh.triangles[1].swap(0, 1);
        let mended = orientation(&mesh);
        assert_eq!((mended.weights.as_slice(), mended.closed), ([1, -1, 1, 1].as_slice(), true));
        mesh = tetrahedron();
        mesh.triangles.iter_mut().for_each(|t| t.swap(0, 1));
        assert_eq!(orientation(&mesh).weights, [1; 4]);
    }

    #[test]
    fn repeated_faces_count_once() {
        let mut mesh = tetrahedron();
        mesh.triangles.push([2, 1, 0]);
        let doubled = orientation(&mesh);
        assert_eq!((doubled.weights.iter().map(|w| i32::from(*w)).sum::<i32>(), doubled.closed), (4, true));
        let mut both_sides = tetrahedron();
        let back: Vec<[u32; 3]> = both_sides.triangles.iter().map(|t| [t[1], t[0], t[2]]).collect();
        both_sides.triangles.extend(back);
        let both = orientation(&both_sides);
        assert_eq!((both.weights.as_slice(), both.closed), ([1, 1, 1, 1, 0, 0, 0, 0].as_slice(), true));
    }

    #[test]
    fn a_bad_index_or_number_is_an_error_with_its_triangle() {
        let mut mesh = tetrahedron();
        mesh.triangles[2][1] = 9;
        let text = Topology::new(&mesh).err().unwrap().to_string();
        assert!(text.starts_with("mesh: triangle 2: names vertex 9 of 4"), "{text}");
        mesh = tetrahedron();
        mesh.positions[3][1] = f32::NAN;
        assert!(Topology::new(&mesh).is_err());
    }
}
