//! Visibility keys to pixel values: depth, and the normal of the visible triangle.

use super::Normals;
use super::fill::EMPTY;
use super::screen::{Screen, Snapped};
use crate::hexplane::Representation;
use crate::mesh::Mesh;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// The cosine of 60 degrees, squared.
const COS2_LIMIT: f32 = 0.25;

pub struct Shader<'a> {
    snapped: &'a Snapped<'a>,
    representation: Representation,
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
        let vertices = match &mesh.normals {
            Some(given) if continuous && normals == Normals::Interpolated => {
                Some(Cow::Borrowed(given.as_slice()))
            }
            _ => None,
        };
        Self { snapped, representation, faces, vertices }
    }

    /// Writes `rows` of a view from the keys of a band. `far`: into the mirror image.
    pub fn resolve(&self, screen: &Screen, keys: &[u64], rows: Range<usize>, far: bool, out: &mut [f32]) {
        let size = screen.size;
        let channels = self.representation.channels();
        let count = rows.len();
        for (row, keys) in rows.zip(keys.chunks(size)).enumerate().map(|(k, (row, keys))| ((k, row), keys)) {
            let (local, row) = row;
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
                    self.resolve_row(screen, keys, row, far, mirror_columns, pixels);
                }
            }
        }
    }

    fn resolve_row(
        &self,
        screen: &Screen,
        keys: &[u64],
        row: usize,
        far: bool,
        mirror: bool,
        out: &mut [[f32; 4]],
    ) {
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
                let [x, y, z] = run.as_ref().map_or([0.0; 3], |(_, run)| run.at(column as f32));
                [depth, x, y, z]
            };
        }
    }

    fn run(&self, screen: &Screen, triangle: usize, row: usize, far: bool) -> Run {
        let towards = screen.towards_camera().map(|c| if far { -c } else { c });
        let mut face = self.faces[triangle];
        let facing = if far { screen.forward(face) } else { -screen.forward(face) };
        if face == [0.0; 3] {
            face = towards;
        } else if facing < 0.0 {
            face = face.map(|c| -c);
        }
        let smooth = self.vertices.as_ref().zip(screen.triangle(self.snapped, triangle));
        let Some((normals, outline)) = smooth else {
            return Run { face, normal: [0.0; 3], step: [0.0; 3], origin: 0.0 };
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
        Run { face, normal, step, origin: outline.cols.0 as f32 }
    }
}

/// The normal along a row of one triangle.
struct Run {
    /// Faces the camera.
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
