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

/// Facets kept at hand: those of a few rows of a head of 20,000 triangles, within a core's own cache.
const CACHED: usize = 512;

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
        let band = Band { screen, far, mirror: far && !screen.mirror_rows };
        let mut facets = vec![(u32::MAX, Facet::default()); CACHED];
        let size = screen.size;
        let channels = self.representation.channels();
        let count = rows.len();
        for (local, (row, keys)) in rows.zip(keys.chunks(size)).enumerate() {
            let target = if far && screen.mirror_rows { count - 1 - local } else { local };
            let out = &mut out[target * size * channels..][..size * channels];
            match self.representation {
                Representation::Binary => {
                    for (column, &key) in keys.iter().enumerate() {
                        let target = if band.mirror { size - 1 - column } else { column };
                        out[target] = f32::from(key != EMPTY);
                    }
                }
                Representation::Continuous => {
                    let (pixels, _) = out.as_chunks_mut::<4>();
                    total = total.add(self.resolve_row(&band, keys, row, &mut facets, pixels));
                }
            }
        }
        total
    }

    fn resolve_row(
        &self,
        band: &Band,
        keys: &[u64],
        row: usize,
        facets: &mut Facets,
        out: &mut [[f32; 4]],
    ) -> Count {
        let mut count = Count::default();
        for (column, &key) in keys.iter().enumerate() {
            let target = if band.mirror { keys.len() - 1 - column } else { column };
            out[target] = if key == EMPTY {
                [1.0, 0.0, 0.0, 0.0]
            } else {
                let (depth, triangle) = (f32::from_bits((key >> 32) as u32), key as u32);
                let slot = &mut facets[triangle as usize % CACHED];
                if slot.0 != triangle {
                    *slot = (triangle, self.facet(band, triangle as usize));
                }
                count.hits += 1;
                count.inside += usize::from(slot.1.inside);
                let [x, y, z] = slot.1.at(row as f32, column as f32);
                [depth, x, y, z]
            };
        }
        count
    }

    fn facet(&self, band: &Band, triangle: usize) -> Facet {
        let screen = band.screen;
        let towards = screen.towards_camera().map(|c| if band.far { -c } else { c });
        let mut face = self.faces[triangle];
        let inside = dot(face, towards) < 0.0;
        if face == [0.0; 3] {
            face = towards;
        } else if self.side == Side::Inverted || (self.side == Side::Seen && inside) {
            face = face.map(|c| -c);
        }
        let smooth = self.vertices.as_ref().zip(screen.triangle(self.snapped, triangle));
        let Some((normals, outline)) = smooth else {
            return Facet { inside, face, ..Facet::default() };
        };
        let inverse = 1.0 / outline.area as f32;
        let corners = outline.order.map(|k| normals[self.snapped.triangles[triangle][k] as usize]);
        let origin = [outline.rows.0, outline.cols.0];
        let mut facet = Facet { inside, face, origin: origin.map(|k| k as f32), ..Facet::default() };
        for (corner, edge) in corners.iter().zip(outline.edges(outline.rows.0)) {
            let [weight, down, across] =
                [edge.value, edge.row_step, edge.step].map(|value| value as f32 * inverse);
            for (axis, c) in corner.iter().enumerate() {
                facet.normal[axis] += weight * c;
                facet.down[axis] += down * c;
                facet.across[axis] += across * c;
            }
        }
        facet
    }
}

/// Rows of one view: the near one of a screen or its mirror image.
struct Band<'a> {
    screen: &'a Screen,
    far: bool,
    /// Whether the columns are mirrored.
    mirror: bool,
}

/// The normal over one triangle.
#[derive(Clone, Copy, Default)]
struct Facet {
    /// Whether the winding turns its back on the camera.
    inside: bool,
    /// Geometric, outward.
    face: [f32; 3],
    /// Interpolated, at pixel `origin` (row, column); zero for face normals.
    normal: [f32; 3],
    /// Its change a row and a column.
    down: [f32; 3],
    across: [f32; 3],
    origin: [f32; 2],
}

/// The facets used last, by the last digits of their triangle: most are seen in several rows.
type Facets = [(u32, Facet)];

impl Facet {
    fn at(&self, row: f32, column: f32) -> [f32; 3] {
        let (down, across) = (row - self.origin[0], column - self.origin[1]);
        let n: [f32; 3] =
            std::array::from_fn(|k| self.normal[k] + self.down[k] * down + self.across[k] * across);
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
