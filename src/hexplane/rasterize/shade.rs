//! Visibility keys to pixel values: depth, and the normal of the visible triangle.

use super::Normals;
use super::fill::{EMPTY, Fragments, LANES};
use super::screen::Screen;
use crate::cpu::unwritten::Part;
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

/// A pixel that shows no surface.
const BACKGROUND: [f32; 4] = [1.0, 0.0, 0.0, 0.0];

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
    triangles: &'a [[u32; 3]],
    representation: Representation,
    pub side: Side,
    /// Geometric unit normals, one a triangle; zero where the triangle has no area.
    faces: Vec<[f32; 3]>,
    /// One a vertex; `None` for face normals.
    vertices: Option<Cow<'a, [[f32; 3]]>>,
}

/// What shading a row needs and forgets.
pub struct Scratch {
    /// The facets used last, by the last digits of their triangle: most are seen in several rows.
    facets: Vec<Facet>,
    /// The triangles that they are of.
    triangles: Vec<u32>,
    /// x, y and z of the normals of a row, not of unit length, with room for the lanes that stick out.
    normals: [Vec<f32>; 3],
    /// The values of a row, with the same room.
    pixels: Vec<[f32; 4]>,
    hits: Vec<f32>,
}

impl Scratch {
    pub fn new(size: usize) -> Self {
        Self {
            facets: vec![Facet::default(); CACHED],
            triangles: vec![u32::MAX; CACHED],
            normals: std::array::from_fn(|_| vec![0.0; size + LANES]),
            pixels: vec![BACKGROUND; size + LANES],
            hits: vec![0.0; size],
        }
    }
}

/// Normals of the vertices: those of the mesh, or made from the triangles around them.
pub fn normals_of(mesh: &Mesh) -> Cow<'_, [[f32; 3]]> {
    match &mesh.normals {
        Some(given) => Cow::Borrowed(given.as_slice()),
        None => Cow::Owned(vertex_normals(mesh)),
    }
}

impl<'a> Shader<'a> {
    pub fn new(mesh: &'a Mesh, representation: Representation, normals: Normals) -> Self {
        let continuous = representation == Representation::Continuous;
        let faces = if continuous { face_normals(mesh) } else { Vec::new() };
        let vertices = (continuous && normals == Normals::Interpolated).then(|| normals_of(mesh));
        Self { triangles: &mesh.triangles, representation, side: Side::Winding, faces, vertices }
    }

    /// Writes `rows` of a view from the keys of a band to `out`. `far`: of the mirror image. Counts nothing for binary
    /// planes, which have no sides.
    #[inline(always)]
    pub fn resolve(
        &self,
        screen: &Screen,
        fragments: &Fragments,
        rows: Range<usize>,
        far: bool,
        scratch: &mut Scratch,
        mut out: Part,
    ) -> Count {
        let mut total = Count::default();
        scratch.triangles.fill(u32::MAX);
        let keys = if far { &fragments.far } else { &fragments.near };
        let (mirror, size) = (far && !screen.mirror_rows, screen.size);
        let count = rows.len();
        for place in 0..count {
            let local = if far && screen.mirror_rows { count - 1 - place } else { place };
            let (row, keys) = (rows.start + local, &keys[local * fragments.stride..][..fragments.stride]);
            match self.representation {
                Representation::Binary => {
                    let hits = &mut scratch.hits[..size];
                    keys.iter().zip(&mut *hits).for_each(|(&key, hit)| *hit = f32::from(key != EMPTY));
                    if mirror {
                        hits.reverse();
                    }
                    out.append(hits);
                }
                Representation::Continuous => {
                    total = total.add(self.normals(screen, far, &keys[..size], row, scratch));
                    write_row(keys, &scratch.normals, &mut scratch.pixels);
                    let pixels = &mut scratch.pixels[..size];
                    if mirror {
                        pixels.reverse();
                    }
                    out.append(pixels.as_flattened());
                }
            }
        }
        total
    }

    /// The normals of the visible triangles of a row: run by run of pixels that show the same one.
    #[inline(always)]
    fn normals(&self, screen: &Screen, far: bool, keys: &[u64], row: usize, scratch: &mut Scratch) -> Count {
        let mut count = Count::default();
        let mut column = 0;
        while column < keys.len() {
            if keys[column] == EMPTY {
                let ahead = keys[column..].first_chunk::<LANES>();
                column += if ahead.is_some_and(is_empty) { LANES } else { 1 };
                continue;
            }
            let (start, triangle) = (column, keys[column] as u32);
            while column < keys.len() && keys[column] as u32 == triangle {
                column += 1;
            }
            let slot = triangle as usize % CACHED;
            if scratch.triangles[slot] != triangle {
                scratch.triangles[slot] = triangle;
                scratch.facets[slot] = self.facet(screen, far, triangle as usize);
            }
            let facet = &scratch.facets[slot];
            facet.write(row as f32, start..column, &mut scratch.normals);
            count.hits += column - start;
            count.inside += if facet.inside { column - start } else { 0 };
        }
        count
    }

    #[inline(always)]
    fn facet(&self, screen: &Screen, far: bool, triangle: usize) -> Facet {
        let towards = screen.towards_camera(far);
        let mut face = self.faces[triangle];
        let inside = dot(face, towards) < 0.0;
        if face == [0.0; 3] {
            face = towards;
        } else if self.side == Side::Inverted || (self.side == Side::Seen && inside) {
            face = [-face[0], -face[1], -face[2]];
        }
        let normal = [face[0], face[1], face[2], 0.0];
        let flat = Facet { inside, face, normal, sided: true, ..Facet::default() };
        let Some(normals) = &self.vertices else { return flat };
        let Some(outline) = screen.outline(triangle) else { return flat };
        let triangle = self.triangles[triangle];
        let normal = |corner: usize| normals[triangle[outline.order[corner]] as usize];
        let corners = [normal(0), normal(1), normal(2)];
        let sign = common_side(&corners, face);
        let inverse = 1.0 / outline.area as f32 * sign.unwrap_or(1.0);
        let origin = [outline.rows.0 as f32, outline.cols.0 as f32];
        let mut facet = Facet { inside, face, origin, sided: sign.is_some(), ..Facet::default() };
        let edges = outline.edges(outline.rows.0);
        for (corner, edge) in corners.iter().zip(&edges) {
            let weight = edge.value as f32 * inverse;
            let down = edge.row_step as f32 * inverse;
            let across = edge.step as f32 * inverse;
            // Four lanes make one vector.
            let corner = [corner[0], corner[1], corner[2], 0.0];
            for (axis, c) in corner.iter().enumerate() {
                facet.normal[axis] += weight * c;
                facet.down[axis] += down * c;
                facet.across[axis] += across * c;
            }
        }
        facet
    }
}

/// 1 where the normals of all corners are within 60 degrees of the face's, -1 where their opposites are, so that
/// what is interpolated between them is too (such vectors form a convex cone). `None` where a pixel could decide
/// otherwise: near the limit, and for lengths so far from 1 that rounding could.
#[inline(always)]
fn common_side(corners: &[[f32; 3]; 3], face: [f32; 3]) -> Option<f32> {
    let sign = 1f32.copysign(dot(corners[0], face));
    let agrees = |n: &[f32; 3]| {
        let (square, cosine) = (dot(*n, *n), sign * dot(*n, face));
        (0.25..4.0).contains(&square) && cosine > 0.0 && cosine * cosine > 1.01 * COS2_LIMIT * square
    };
    corners.iter().all(agrees).then_some(sign)
}

/// The normal over one triangle of a view.
#[derive(Clone, Copy, Default)]
struct Facet {
    /// Whether the winding turns its back on the camera.
    inside: bool,
    /// Whether `normal` is on the outside all over the triangle, and not far from `face`.
    sided: bool,
    /// Geometric, outward.
    face: [f32; 3],
    /// Interpolated, at pixel `origin` (row, column).
    normal: [f32; 4],
    /// Its change a row and a column.
    down: [f32; 4],
    across: [f32; 4],
    origin: [f32; 2],
}

impl Facet {
    /// Writes outward normals of any length at columns `run` of a row, and whatever up to [`LANES`] further.
    #[inline(always)]
    fn write(&self, row: f32, run: Range<usize>, normals: &mut [Vec<f32>; 3]) {
        let down = row - self.origin[0];
        let mut base = [0.0; 4];
        for (axis, base) in base.iter_mut().enumerate() {
            *base = self.normal[axis] + self.down[axis] * down;
        }
        for start in run.clone().step_by(LANES) {
            let mut across = [0.0; LANES];
            for (lane, across) in across.iter_mut().enumerate() {
                // Columns are whole numbers that f32 holds.
                *across = (start as f32 + lane as f32) - self.origin[1];
            }
            for (axis, normals) in normals.iter_mut().enumerate() {
                let lanes: &mut [f32; LANES] =
                    normals[start..].first_chunk_mut().expect("a row has room for its lanes");
                for (normal, across) in lanes.iter_mut().zip(across) {
                    *normal = base[axis] + self.across[axis] * across;
                }
            }
        }
        if !self.sided {
            self.choose(run, normals);
        }
    }

    /// Turns normals to the side of the face; takes the face's where they are too far from it.
    #[cold]
    fn choose(&self, run: Range<usize>, normals: &mut [Vec<f32>; 3]) {
        for column in run {
            let n: [f32; 3] = std::array::from_fn(|axis| normals[axis][column]);
            let square = dot(n, n);
            let cosine = dot(n, self.face);
            // False for NaN and for the zero vector.
            let near = square > f32::MIN_POSITIVE && cosine * cosine >= COS2_LIMIT * square;
            let chosen = if near { n.map(|c| c * 1f32.copysign(cosine)) } else { self.face };
            normals.iter_mut().zip(chosen).for_each(|(normals, c)| normals[column] = c);
        }
    }
}

/// Depth and unit normal of a row, a few pixels at a time: most of them show nothing.
#[inline(always)]
fn write_row(keys: &[u64], [x, y, z]: &[Vec<f32>; 3], out: &mut [[f32; 4]]) {
    let keys = keys.as_chunks::<LANES>().0;
    let normals = x.as_chunks::<LANES>().0.iter().zip(y.as_chunks().0).zip(z.as_chunks().0);
    for ((keys, ((x, y), z)), out) in keys.iter().zip(normals).zip(out.as_chunks_mut().0) {
        *out = if is_empty(keys) { [BACKGROUND; LANES] } else { block(keys, x, y, z) };
    }
}

#[inline(always)]
fn is_empty(keys: &[u64; LANES]) -> bool {
    keys.iter().fold(EMPTY, |all, key| all & key) == EMPTY
}

#[inline(always)]
fn block(keys: &[u64; LANES], x: &[f32; LANES], y: &[f32; LANES], z: &[f32; LANES]) -> [[f32; 4]; LANES] {
    let mut out = [BACKGROUND; LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        let (x, y, z) = (x[lane], y[lane], z[lane]);
        let scale = (x * x + y * y + z * z).sqrt().recip();
        let depth = f32::from_bits((keys[lane] >> 32) as u32);
        let pixel = [depth, x * scale, y * scale, z * scale];
        *out = if keys[lane] == EMPTY { BACKGROUND } else { pixel };
    }
    out
}

#[inline(always)]
fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn face_normals(mesh: &Mesh) -> Vec<[f32; 3]> {
    let normal = |triangle: &[u32; 3]| {
        let corner = |k: usize| mesh.positions[triangle[k] as usize];
        let (a, b, c) = (corner(0), corner(1), corner(2));
        let along = |p: [f32; 3], axis: usize| f64::from(p[axis]) - f64::from(a[axis]);
        let cross = |i: usize, j: usize| along(b, i) * along(c, j) - along(b, j) * along(c, i);
        let (x, y, z) = (cross(1, 2), cross(2, 0), cross(0, 1));
        let length = (x * x + y * y + z * z).sqrt();
        if length > 0.0 { [(x / length) as f32, (y / length) as f32, (z / length) as f32] } else { [0.0; 3] }
    };
    mesh.triangles.par_iter().with_min_len(1024).map(normal).collect()
}
