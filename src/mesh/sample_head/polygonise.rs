//! From the implicit surface to a closed triangle mesh: marching cubes on a fine grid, then edge
//! collapse, which keeps the triangles where the features are.

use glam::{DVec3, dvec3};
use rayon::prelude::*;

use super::implicit::ramp;
use super::sculpture::Sculpture;
use super::simplify::simplify;
use crate::mesh::Mesh;
use crate::mesh::marching_cubes::{Volume, marching_cubes};

/// A box around every head of the family, in centimetres.
const LOW: [f64; 3] = [-13.0, -19.0, -14.5];
const HIGH: [f64; 3] = [13.0, 15.0, 15.5];

/// Grid spacing over the face that resolves the lids, and how many triangles it gives at least:
/// from 90,000 (the smallest heads) on.
const FINE_SPACING: f64 = 0.2;
const FINE_TRIANGLES: f64 = 90_000.0;

/// The field changes by less than this for each centimetre (1 for a true distance; the blends and the flat
/// ellipsoids of the ears exceed it).
const STEEPEST: f64 = 2.0;

/// About `wanted` triangles of the zero level of the sculpture.
pub fn polygonise(sculpture: &Sculpture, wanted: usize) -> Mesh {
    // The number of triangles goes with the area over the squared spacing; collapsing at least half
    // of them takes the grid's imprint away.
    let spacing = FINE_SPACING * (FINE_TRIANGLES / 2.0 / wanted as f64).sqrt().min(1.0);
    let grid = Grid::new(sculpture, spacing);
    let fine = marching_cubes(&grid, 0.0)
        .expect("the level is finite, the grid is large enough, the field is no NaN");
    let positions = fine.positions.par_iter().map(|&p| onto(sculpture, grid.place(p), spacing)).collect();
    let (positions, triangles) = simplify(positions, fine.triangles, wanted);
    let normal = |&p: &DVec3| gradient(sculpture, p, 0.1).normalize_or(DVec3::Y).as_vec3().to_array();
    Mesh {
        normals: Some(positions.par_iter().map(normal).collect()),
        positions: positions.iter().map(|p| p.as_vec3().to_array()).collect(),
        triangles,
    }
}

/// The field on a rectilinear grid that is `spacing` apart over the face and wider elsewhere; to
/// marching cubes it is a regular grid of spacing 1, whose indices [`Grid::place`] brings to centimetres.
struct Grid<'a> {
    sculpture: &'a Sculpture,
    lines: [Vec<f64>; 3],
}

impl<'a> Grid<'a> {
    fn new(sculpture: &'a Sculpture, spacing: f64) -> Self {
        let widths: [fn(f64) -> f64; 3] = [
            |x| 0.85 + 0.25 * ramp(x.abs(), 4.5, 6.5),
            |y| 0.6 + 0.4 * ramp(y.abs(), 0.8, 1.6) + 0.9 * ramp(y, 2.5, 6.0) + 0.9 * ramp(-y, 10.0, 13.0),
            |z| 0.9 + 0.4 * ramp(-z, -8.0, -4.0) + 0.9 * ramp(-z, 3.5, 7.0),
        ];
        let line = |axis: usize| {
            let next = |&at: &f64| (at < HIGH[axis]).then(|| at + spacing * widths[axis](at));
            std::iter::successors(Some(LOW[axis]), next).collect()
        };
        Self { sculpture, lines: [line(0), line(1), line(2)] }
    }

    fn sample(&self, index: [usize; 3]) -> DVec3 {
        dvec3(self.lines[0][index[0]], self.lines[1][index[1]], self.lines[2][index[2]])
    }

    /// From fractional indices to centimetres, linear between the grid lines. Vertices keep away
    /// from the samples, because those close to one make slivers; [`onto`] brings them back to the surface.
    fn place(&self, index: [f32; 3]) -> DVec3 {
        let along = |axis: usize| {
            let (line, at) = (&self.lines[axis], f64::from(index[axis]));
            let cell = (at as usize).min(line.len() - 2);
            let fraction = at - cell as f64;
            let kept = if fraction == 0.0 { 0.0 } else { fraction.clamp(0.1, 0.9) };
            line[cell] + (line[cell + 1] - line[cell]) * kept
        };
        dvec3(along(0), along(1), along(2))
    }
}

impl Volume for Grid<'_> {
    fn dims(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.lines[axis].len())
    }

    fn origin(&self) -> [f32; 3] {
        [0.0; 3]
    }

    fn spacing(&self) -> [f32; 3] {
        [1.0; 3]
    }

    fn row(&self, y: usize, z: usize, x0: usize, out: &mut [f32]) {
        for (x, value) in (x0..).zip(out) {
            *value = self.sculpture.field(self.sample([x, y, z])) as f32;
        }
    }

    fn range(&self, low: [usize; 3], high: [usize; 3]) -> (f32, f32) {
        let (low, high) = (self.sample(low), self.sample(high));
        let middle = self.sculpture.field(0.5 * (low + high));
        let reach = STEEPEST * 0.5 * low.distance(high);
        ((middle - reach) as f32, (middle + reach) as f32)
    }
}

/// One Newton step towards the surface, no further than a part of the grid spacing.
fn onto(sculpture: &Sculpture, p: DVec3, spacing: f64) -> DVec3 {
    let slope = gradient(sculpture, p, 0.1 * spacing);
    let step = slope * (sculpture.field(p) / slope.length_squared().max(0.25));
    p - step.clamp_length_max(0.15 * spacing)
}

/// Central differences over twice `reach` centimetres.
fn gradient(sculpture: &Sculpture, p: DVec3, reach: f64) -> DVec3 {
    let along = |axis: DVec3| sculpture.field(p + axis * reach) - sculpture.field(p - axis * reach);
    dvec3(along(DVec3::X), along(DVec3::Y), along(DVec3::Z)) / (2.0 * reach)
}
