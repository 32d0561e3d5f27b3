//! Visibility keys to pixel values: depth, and the normal of the visible triangle.

use super::Normals;
use super::fill::EMPTY;
use super::screen::{Screen, Snapped};
use crate::hexplane::Representation;
use crate::mesh::Mesh;
use crate::mesh::normalise::vertex_normals;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// The cosine of 60 degrees, squared.
const COS2_LIMIT: f32 = 0.25;

/// Which side of a triangle is its outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one its corners run around anticlockwise.
    Winding,
    /// The other one: the mesh is inside out.
    Inverted,
    /// The one that is seen: the winding says nothing.
    Seen,
}

/// Pixels that show a surface, and those of them that show its inside by the winding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub hits: usize,
    pub inside: usize,
}

impl Count {
    pub fn add(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, inside: self.inside + other.inside }
    }

    /// What the winding of the whole mesh is worth.
    pub fn side(self) -> Side {
        match (5 * self.inside, self.hits) {
            (five, hits) if five <= 2 * hits => Side::Winding,
            (five, hits) if five < 3 * hits => Side::Seen,
            _ => Side::Inverted,
        }
    }
}

pub struct Shader<'a> {
    pub snapped: &'a Snapped<'a>,
    representation: Representation,
    pub side: Side,
    /// Geometric unit normals, one a triangle; zero where the triangle has no area.
    faces: Vec<[f32; 3]>,
    /// One a vertex; `None` for face normals.
    vertices: Option<Cow<'a, [[f32; 3]]>>,
}

impl<'a> Shader<'a> {
    pub fn new(
        mesh: &'a Mesh,
        snapped: &'a Snapped<'a>,
        representation: Representation,
        normals: Normals,
    ) -> Self {
        let continuous = representation == Representation::Continuous;
        let faces = if continuous { face_normals(mesh) } else { Vec::new() };
        let vertices = (continuous && normals == Normals::Interpolated).then(|| match &mesh.normals {
            Some(given) => Cow::Borrowed(given.as_slice()),
            None => Cow::Owned(vertex_normals(mesh)),
        });
        Self { snapped, representation, side: Side::Winding, faces, vertices }
    }

    /// Writes `rows` of a view from the keys of a band. `far`: into the mirror image. Counts nothing for
    /// binary planes, which have no sides.
    pub fn resolve(
        &self,
        screen: &Screen,
        keys: &[u64],
        rows: Range<usize>,
        far: bool,
        out: &mut [f32],
    ) -> Count {
        let mut total = Count::default();
        let size = screen.size;
        let channels = self.representation.channels();
        let count = rows.len();
        for (local, (row, keys)) in rows.zip(keys.chunks(size)).enumerate() {
            let target = if far && screen.mirror_rows { count - 1 - local } else { local };
            let out = &mut out[target * size * channels..][..size * channels];
            let mirror_columns = far && !screen.mirror_rows;
            match self.representation {
                Representation::Binary => {
                    for (column, &key) in keys.iter().enumerate() {
                        let target = if mirror_columns { size - 1 - column } else { column };
                        out[target] = f32::from(key != EMPTY);
                    }
                }
                Representation::Continuous => {
                    let (pixels, _) = out.as_chunks_mut::<4>();
                    total = total.add(self.resolve_row(screen, keys, row, far, mirror_columns, pixels));
                }
            }
        }
        total
    }

    fn resolve_row(
        &self,
        screen: &Screen,
        keys: &[u64],
        row: usize,
        far: bool,
        mirror: bool,
        out: &mut [[f32; 4]],
    ) -> Count {
        let mut count = Count::default();
        // Neighbours mostly see the same triangle: its normal is set up once a run.
        let mut run: Option<(u32, Run)> = None;
        for (column, &key) in keys.iter().enumerate() {
            let target = if mirror { keys.len() - 1 - column } else { column };
            out[target] = if key == EMPTY {
                [1.0, 0.0, 0.0, 0.0]
            } else {
                let (depth, triangle) = (f32::from_bits((key >> 32) as u32), key as u32);
                if run.as_ref().is_none_or(|(of, _)| *of != triangle) {
                    run = Some((triangle, self.run(screen, triangle as usize, row, far)));
                }
                let Some((_, run)) = &run else { unreachable!("it was set above") };
                count.hits += 1;
                count.inside += usize::from(run.inside);
                let [x, y, z] = run.at(column as f32);
                [depth, x, y, z]
            };
        }
        count
    }

    fn run(&self, screen: &Screen, triangle: usize, row: usize, far: bool) -> Run {
        let towards = screen.towards_camera().map(|c| if far { -c } else { c });
        let mut face = self.faces[triangle];
        let inside = dot(face, towards) < 0.0;
        if face == [0.0; 3] {
            face = towards;
        } else if self.side == Side::Inverted || (self.side == Side::Seen && inside) {
            face = face.map(|c| -c);
        }
        let smooth = self.vertices.as_ref().zip(screen.triangle(self.snapped, triangle));
        let Some((normals, outline)) = smooth else {
            return Run { inside, face, normal: [0.0; 3], step: [0.0; 3], origin: 0.0 };
        };
        let inverse = 1.0 / outline.area as f32;
        let corners = outline.order.map(|k| normals[self.snapped.triangles[triangle][k] as usize]);
        let (mut normal, mut step) = ([0.0; 3], [0.0; 3]);
        for (corner, edge) in corners.iter().zip(outline.edges(row as i32)) {
            let (weight, slope) = (edge.value as f32 * inverse, edge.step as f32 * inverse);
            for axis in 0..3 {
                normal[axis] += weight * corner[axis];
                step[axis] += slope * corner[axis];
            }
        }
        Run { inside, face, normal, step, origin: outline.cols.0 as f32 }
    }
}

/// The normal along a row of one triangle.
struct Run {
    /// Whether the winding turns its back on the camera.
    inside: bool,
    /// Geometric, outward.
    face: [f32; 3],
    /// Interpolated, at column `origin`; zero for face normals.
    normal: [f32; 3],
    step: [f32; 3],
    origin: f32,
}

impl Run {
    fn at(&self, column: f32) -> [f32; 3] {
        let along = column - self.origin;
        let n: [f32; 3] = std::array::from_fn(|axis| self.normal[axis] + self.step[axis] * along);
        let square = dot(n, n);
        let cosine = dot(n, self.face);
        // False for NaN and for the zero vector.
        if square > f32::MIN_POSITIVE && cosine * cosine >= COS2_LIMIT * square {
            let scale = square.sqrt().recip().copysign(cosine);
            n.map(|c| c * scale)
        } else {
            self.face
        }
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn face_normals(mesh: &Mesh) -> Vec<[f32; 3]> {
    let normal = |triangle: usize| {
        let [a, b, c] = mesh.corners(triangle).map(|p| p.map(f64::from));
        let [u, v]: [[f64; 3]; 2] = [b, c].map(|p| std::array::from_fn(|axis| p[axis] - a[axis]));
        let n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
        let length = (n[0] * n[0] + n[1] * n[1] + n[2] * n[2]).sqrt();
        if length > 0.0 { n.map(|c| (c / length) as f32) } else { [0.0; 3] }
    };
    (0..mesh.triangles.len()).into_par_iter().with_min_len(1024).map(normal).collect()
}
