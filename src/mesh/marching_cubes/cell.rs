//! Cells whose signs leave the surface open: the values of the trilinear interpolant decide.
//!
//! Faces are decided by the asymptotic decider (Nielson and Hamann, "The asymptotic decider",
//! Visualization 1991). The interior has the ambiguities of Chernyaev ("Marching cubes 33", CERN
//! CN/95-17, 1995); instead of his tables, whose published forms needed repairs (Lewiner et al.
//! 2003, Custodio et al. 2013), the connectivity of the interpolant is computed: a slice of it at
//! constant z is bilinear, every connected piece of a slice holds a corner of the slice, and the
//! pieces change only where a corner of the slice or the saddle changes its sign. That is a
//! handful of z, and union-find over the slices between them is exact.
//!
//! The surface cuts the cell into regions, and the regions with the pieces of surface between
//! them form a tree, because a cell has no handle. So two contour loops bound the same piece of
//! surface exactly where they have the same region on either side.

use super::polygon::{self, EDGES};
use super::tables::{EDGE_CORNERS, FACE_CORNERS, Loops, is_ambiguous};

/// Triangles of one cell.
#[derive(Default)]
pub struct Patch {
    pub triangles: Vec<[u8; 3]>,
    /// The vertices of the edges (garbage where the surface does not cross) and then those within
    /// the cell, in cell units.
    pub points: Vec<[f64; 3]>,
}

impl Patch {
    /// Fills the patch for a cell with the corner values `d` above the level (negative inside),
    /// and its edge vertices at `points`.
    pub fn polygonise(&mut self, d: &[f64; 8], points: [[f64; 3]; EDGES]) {
        self.triangles.clear();
        self.points.clear();
        self.points.extend(points);
        let case = (0..8).fold(0u8, |case, corner| case | u8::from(d[corner] < 0.0) << corner);
        let joined = joined_faces(case, d);
        let loops = Loops::trace(case, joined);
        let mut regions = Regions::of_boundary(case, joined);
        if loops.len() > 1 {
            regions.join_inside(d);
        }
        let sides: [[usize; 2]; 4] = std::array::from_fn(|index| {
            if index >= loops.len() {
                return [usize::MAX; 2];
            }
            let ends = EDGE_CORNERS[loops.get(index)[0] as usize];
            let (inside, outside) = if d[ends[0]] < 0.0 { (0, 1) } else { (1, 0) };
            [regions.root(ends[inside]), regions.root(ends[outside])]
        });
        let mut done = [false; 4];
        for first in 0..loops.len() {
            if done[first] {
                continue;
            }
            let partner =
                (first + 1..loops.len()).find(|&other| !done[other] && sides[other] == sides[first]);
            if let Some(other) = partner {
                done[other] = true;
                self.tube(loops.get(first), loops.get(other));
            } else {
                self.disc(loops.get(first));
            }
        }
    }

    fn add(&mut self, point: [f64; 3]) -> u8 {
        self.points.push(point);
        (self.points.len() - 1) as u8
    }

    fn mean(&self, vertices: impl Iterator<Item = u8> + Clone) -> [f64; 3] {
        let count = vertices.clone().count() as f64;
        let sum =
            |axis: usize| vertices.clone().map(|vertex| self.points[vertex as usize][axis]).sum::<f64>();
        std::array::from_fn(|axis| sum(axis) / count)
    }

    /// A disc in a loop, around its centre where its own vertices do not do.
    fn disc(&mut self, polygon: &[u8]) {
        if polygon::disc(polygon, &self.points, &mut self.triangles) {
            return;
        }
        let centre = self.add(self.mean(polygon.iter().copied()));
        for (i, &edge) in polygon.iter().enumerate() {
            self.triangles.push([edge, polygon[(i + 1) % polygon.len()], centre]);
        }
    }

    /// A tube between two loops, by way of a waist where their own vertices do not do. The waist
    /// is the first loop, halfway to the middle of the tube.
    fn tube(&mut self, a: &[u8], b: &[u8]) {
        if polygon::strip(a, b, &self.points, &mut self.triangles) {
            return;
        }
        let middle = self.mean(a.iter().chain(b).copied());
        let mut waist = [0; EDGES];
        let waist = &mut waist[..a.len()];
        for (vertex, &edge) in waist.iter_mut().zip(a) {
            let point = self.points[edge as usize];
            *vertex = self.add(std::array::from_fn(|axis| 0.5 * (point[axis] + middle[axis])));
        }
        polygon::strip(waist, b, &self.points, &mut self.triangles);
        waist.reverse();
        polygon::strip(a, waist, &self.points, &mut self.triangles);
    }
}

/// Bit `f` is set where the inside corners of the ambiguous face `f` are joined: where the saddle
/// of the bilinear interpolant is inside. Both cells of a face compute the same products.
fn joined_faces(case: u8, d: &[f64; 8]) -> u8 {
    (0..6).filter(|&face| is_ambiguous(case, face)).fold(0, |mask, face| {
        let [a, b, c, e] = FACE_CORNERS[face];
        let (inside, outside) =
            if d[a] < 0.0 { (d[a] * d[c], d[b] * d[e]) } else { (d[b] * d[e], d[a] * d[c]) };
        mask | u8::from(inside > outside) << face
    })
}

/// Slices between at most four crossings and two saddle roots.
const MAX_SLICES: usize = 7;

/// Union-find over the corners of the cell and the corners of its slices.
struct Regions {
    parent: [usize; 8 + 4 * MAX_SLICES],
}

impl Regions {
    /// The connectivity of the corners along the edges and within the faces.
    fn of_boundary(case: u8, joined: u8) -> Self {
        let mut regions = Self { parent: std::array::from_fn(|node| node) };
        for [a, b] in EDGE_CORNERS {
            if case >> a & 1 == case >> b & 1 {
                regions.union(a, b);
            }
        }
        for face in (0..6).filter(|&face| is_ambiguous(case, face)) {
            let corners = FACE_CORNERS[face];
            let first_inside = usize::from(case >> corners[0] & 1 == 0);
            let start = if joined >> face & 1 == 1 { first_inside } else { 1 - first_inside };
            regions.union(corners[start], corners[start + 2]);
        }
        regions
    }

    fn root(&self, mut node: usize) -> usize {
        while self.parent[node] != node {
            node = self.parent[node];
        }
        node
    }

    fn union(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// Adds what is connected through the interior, by a sweep along z.
    fn join_inside(&mut self, d: &[f64; 8]) {
        let (crossings, events, count) = sweep_events(d);
        let mut before: [usize; 4] = std::array::from_fn(|line| line);
        let mut inside_before: [bool; 4] = std::array::from_fn(|line| d[line] < 0.0);
        for slice in 0..count - 1 {
            let t = 0.5 * (events[slice] + events[slice + 1]);
            let inside: [bool; 4] =
                std::array::from_fn(|line| (if t < crossings[line] { d[line] } else { d[line + 4] }) < 0.0);
            let nodes: [usize; 4] = std::array::from_fn(|line| 8 + 4 * slice + line);
            for line in 0..4 {
                if inside[line] == inside_before[line] {
                    self.union(nodes[line], before[line]);
                }
            }
            for [a, b] in [[0, 1], [0, 2], [1, 3], [2, 3]] {
                if inside[a] == inside[b] {
                    self.union(nodes[a], nodes[b]);
                }
            }
            if inside[0] == inside[3] && inside[1] == inside[2] && inside[0] != inside[1] {
                let at = |line: usize| d[line] + t * (d[line + 4] - d[line]);
                let diagonals = if inside[0] { [[0, 3], [1, 2]] } else { [[1, 2], [0, 3]] };
                let [product_inside, product_outside] = diagonals.map(|[a, b]| at(a) * at(b));
                let [a, b] = diagonals[usize::from(product_inside <= product_outside)];
                self.union(nodes[a], nodes[b]);
            }
            (before, inside_before) = (nodes, inside);
        }
        for line in 0..4 {
            if inside_before[line] == (d[line + 4] < 0.0) {
                self.union(before[line], line + 4);
            }
        }
    }
}

/// Where each vertical edge changes its sign (past 1 where it does not), and the sorted heights
/// at which a slice changes, from 0 to 1, with their number.
fn sweep_events(d: &[f64; 8]) -> ([f64; 4], [f64; MAX_SLICES + 1], usize) {
    let mut events = [1.0; MAX_SLICES + 1];
    events[0] = 0.0;
    let mut count = 1;
    let mut add = |t: f64| {
        if t > 0.0 && t < 1.0 {
            events[count] = t;
            count += 1;
        }
    };
    let crossings = std::array::from_fn(|line| {
        let (low, high) = (d[line], d[line + 4]);
        if (low < 0.0) == (high < 0.0) { 2.0 } else { low / (low - high) }
    });
    crossings.iter().for_each(|&t| add(t));
    // The saddle of the slice is on the level where d0 d3 = d1 d2, quadratic in z.
    let slope: [f64; 4] = std::array::from_fn(|line| d[line + 4] - d[line]);
    let square = slope[0] * slope[3] - slope[1] * slope[2];
    let linear = d[0] * slope[3] + d[3] * slope[0] - d[1] * slope[2] - d[2] * slope[1];
    let constant = d[0] * d[3] - d[1] * d[2];
    let discriminant = linear * linear - 4.0 * square * constant;
    if discriminant > 0.0 {
        // The stable form (Numerical Recipes, 5.6): no difference of near-equal numbers.
        let q = -0.5 * (linear + discriminant.sqrt().copysign(linear));
        add(q / square);
        add(constant / q);
    }
    events[1..count].sort_by(f64::total_cmp);
    (crossings, events, count + 1)
}
