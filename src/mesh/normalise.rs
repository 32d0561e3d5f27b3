//! Into the cube and back: orientation, centre and scale (docs/method.md, "Frame and views"); welding
//! and normals.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use clap::ValueEnum;
use glam::DVec3;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Mesh, Similarity};
use crate::error::{Error, Result};

/// Longest half-extent of a normalised mesh.
pub const HALF_EXTENT: f64 = 0.9;
/// Where all but 1 % of the vertices at either end of each axis lie this close together (half-extent,
/// normalised), an outlier has shrunk the mesh to less than a tenth of a pixel of a 1024 x 1024 plane.
const COLLAPSED: f64 = 1e-4;

/// The axis of the file that points up; it is turned to +y, and the face to +z.
///
/// With z up the face looks along -y (Blender, MakeHuman), with -z up along +y. With x, -x or -y up
/// the turn is about z, so that the face must look along +z as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Up {
    #[default]
    #[value(name = "y")]
    #[serde(rename = "y")]
    Y,
    #[value(name = "-y")]
    #[serde(rename = "-y")]
    MinusY,
    #[value(name = "x")]
    #[serde(rename = "x")]
    X,
    #[value(name = "-x")]
    #[serde(rename = "-x")]
    MinusX,
    #[value(name = "z")]
    #[serde(rename = "z")]
    Z,
    #[value(name = "-z")]
    #[serde(rename = "-z")]
    MinusZ,
}

impl Up {
    /// Rows of the proper rotation onto y up.
    pub fn rotation(self) -> [[f64; 3]; 3] {
        match self {
            Self::Y => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            Self::MinusY => [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]],
            Self::X => [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
            Self::MinusX => [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
            Self::Z => [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]],
            Self::MinusZ => [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        }
    }
}

impl Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Y => "y",
            Self::MinusY => "-y",
            Self::X => "x",
            Self::MinusX => "-x",
            Self::Z => "z",
            Self::MinusZ => "-z",
        })
    }
}

impl FromStr for Up {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        ValueEnum::from_str(text, false)
            .map_err(|_| Error::usage("up", format_args!("{text:?} is no axis"), "use y, -y, x, -x, z or -z"))
    }
}

/// The mesh in the cube: `up` turned to +y, the bounding-box centre of the vertices that triangles use
/// at the origin, its longest half-extent [`HALF_EXTENT`]; and the map that did it.
///
/// # Errors
/// No triangles, indices out of range, vertices that are not finite, all vertices in one point, or an
/// outlier so far away that the rest of the mesh vanishes.
pub fn normalise(mesh: &Mesh, up: Up) -> Result<(Mesh, Similarity)> {
    let fault = |problem: &str, remedy: &str| Err(Error::new("mesh", problem, remedy));
    if let Some(problem) = mesh_fault(mesh) {
        return fault(&problem, "look at the file or at what made the mesh");
    }
    let turn = Similarity { rotation: up.rotation(), ..Similarity::default() };
    let mut used = vec![false; mesh.positions.len()];
    mesh.triangles.iter().flatten().for_each(|&vertex| used[vertex as usize] = true);
    let points: Vec<[f64; 3]> = (mesh.positions.iter().zip(&used))
        .filter(|(_, used)| **used)
        .map(|(p, _)| turn.turn(p.map(f64::from)))
        .collect();

    // Of all vertices, and of those without 1 % at either end of each axis.
    let (mut centre, mut half, mut core_half) = ([0.0; 3], 0.0_f64, 0.0_f64);
    for axis in 0..3 {
        let mut along: Vec<f64> = points.iter().map(|p| p[axis]).collect();
        let (trim, last) = (along.len() / 100, along.len() - 1);
        along.sort_unstable_by(f64::total_cmp);
        centre[axis] = 0.5 * (along[0] + along[last]);
        half = half.max(0.5 * (along[last] - along[0]));
        core_half = core_half.max(0.5 * (along[last - trim] - along[trim]));
    }
    let scale = HALF_EXTENT / half;
    if half == 0.0 || !scale.is_finite() {
        return fault("all vertices lie in one point", "give a mesh with an extent");
    }
    if core_half * scale < COLLAPSED {
        return fault(
            &format!(
                "98 % of the vertices lie within {core_half:e} of their middle, a few as far as {half:e}"
            ),
            "remove the outliers",
        );
    }
    let similarity = Similarity { centre, scale, ..turn };
    Ok((mesh.transformed(|p| similarity.apply(p), |n| similarity.turn(n)), similarity))
}

/// The mesh back in the frame and the units of its file.
pub fn denormalise(mesh: &Mesh, similarity: &Similarity) -> Mesh {
    mesh.transformed(|p| similarity.invert(p), |n| similarity.turn_back(n))
}

/// Why a mesh cannot be worked with: no triangles, an index out of range, a vertex that is not finite.
pub fn mesh_fault(mesh: &Mesh) -> Option<String> {
    if mesh.triangles.is_empty() {
        return Some("the mesh has no triangles".to_string());
    }
    let count = mesh.positions.len();
    let out_of_range = |triangle: &&[u32; 3]| triangle.iter().any(|&vertex| vertex as usize >= count);
    if let Some(triangle) = mesh.triangles.iter().find(out_of_range) {
        return Some(format!("triangle {triangle:?} refers beyond the {count} vertices"));
    }
    if mesh.normals.as_ref().is_some_and(|normals| normals.len() != count) {
        return Some("the mesh has not one normal a vertex".to_string());
    }
    let not_finite = |position: &[f32; 3]| !position.iter().all(|c| c.is_finite());
    let index = mesh.positions.iter().position(not_finite)?;
    Some(format!("vertex {index} is {:?}, not finite", mesh.positions[index]))
}

/// One vertex a place: positions of the same value are merged (zero and negative zero too), the
/// triangles that lose their area by it are left out. Normals are dropped: a seam has several.
///
/// What counts edges, components or holes counts them on this.
pub fn weld(mesh: &Mesh) -> Mesh {
    let (places, positions) = places(mesh);
    let triangles = mesh.triangles.iter().map(|triangle| triangle.map(|vertex| places[vertex as usize]));
    let triangles = triangles.filter(|&[a, b, c]| a != b && b != c && c != a).collect();
    Mesh { positions, normals: None, triangles }
}

/// The index of its place for every vertex, and the places in the order of their first vertex.
fn places(mesh: &Mesh) -> (Vec<u32>, Vec<[f32; 3]>) {
    let mut positions = Vec::new();
    let mut index_of: HashMap<[u32; 3], u32> = HashMap::with_capacity(mesh.positions.len());
    let place_of = |position: &[f32; 3]| {
        let position = position.map(|c| c + 0.0);
        *index_of.entry(position.map(f32::to_bits)).or_insert_with(|| {
            positions.push(position);
            positions.len() as u32 - 1
        })
    };
    let places = mesh.positions.iter().map(place_of).collect();
    (places, positions)
}

/// Triangles whose corners are held at a time: some megabytes.
const STRETCH: usize = 1 << 16;

/// Unit normals, one a vertex: the normals of the triangles around its place, weighted by their angle
/// there (Thürmer and Wüthrich, "Computing vertex normals from polygonal facets", 1998), so that the
/// triangulation does not matter and seams in the file do not show.
///
/// Creases are smoothed over: on a head there are none worth a threshold. Triangles without area count
/// nothing. Where nothing usable is left (a vertex that no triangle uses, or normals that cancel out)
/// the normal is that of one of its triangles, else +y; it is always finite.
pub fn vertex_normals(mesh: &Mesh) -> Vec<[f32; 3]> {
    let (places, positions) = places(mesh);
    let mut sums = vec![DVec3::ZERO; positions.len()];
    let mut fallback = vec![DVec3::Y; positions.len()];
    let around = |triangle: &[u32; 3]| triangle.map(|vertex| places[vertex as usize] as usize);
    let corner = |triangle: &[u32; 3]| {
        let [a, b, c] = around(triangle).map(|place| DVec3::from_array(positions[place].map(f64::from)));
        let normal = (b - a).cross(c - a).try_normalize()?;
        Some((normal, [angle(a, b, c), angle(b, c, a), angle(c, a, b)]))
    };
    // Arcs on all cores, sums in the order of the triangles.
    for stretch in mesh.triangles.chunks(STRETCH) {
        let corners: Vec<Option<(DVec3, [f64; 3])>> =
            stretch.par_iter().with_min_len(1024).map(corner).collect();
        for (triangle, corners) in stretch.iter().zip(corners) {
            let Some((normal, angles)) = corners else { continue };
            for (place, angle) in around(triangle).into_iter().zip(angles) {
                sums[place] += angle * normal;
                fallback[place] = normal;
            }
        }
    }
    let of_place = |place: usize| {
        // The angles sum to about 2 pi: less than this is what rounding leaves of normals that cancel.
        let sum = sums[place];
        let normal = if sum.length() > 1e-9 { sum.normalize() } else { fallback[place] };
        normal.as_vec3().to_array()
    };
    places.par_iter().with_min_len(1024).map(|&place| of_place(place as usize)).collect()
}

/// The angle at `p` between the directions to `q` and `r`.
fn angle(p: DVec3, q: DVec3, r: DVec3) -> f64 {
    let (u, v) = (q - p, r - p);
    u.cross(v).length().atan2(u.dot(v))
}

/// The normals of a file, made unit length; those that are zero or not finite replaced by computed ones.
pub fn mend_normals(mesh: &Mesh, mut normals: Vec<[f32; 3]>) -> Vec<[f32; 3]> {
    let mut computed = None;
    for (index, normal) in normals.iter_mut().enumerate() {
        let wide = DVec3::from_array(normal.map(f64::from));
        *normal = match wide.try_normalize() {
            Some(unit) => unit.as_vec3().to_array(),
            None => computed.get_or_insert_with(|| vertex_normals(mesh))[index],
        };
    }
    normals
}
