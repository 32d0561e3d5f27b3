//! The passes over the signs of the grid: count, number, place the vertices, connect them.
//!
//! As in flying edges (Schroeder, Maynard and Geveci, LDAV 2015) a vertex belongs to the grid edge
//! it lies on, the rows number their edges in order after a prefix sum over counts, and no table
//! of vertices is searched. Rows are words of sign bits here, so that 64 edges or cells are
//! classified at once. Every number follows from the grid, none from the threads.
//!
//! Edges and cells are named by their sample at the high end: edge (x, y, z) along x comes from
//! sample x - 1; index 0 comes from beyond the grid, and index dims leads beyond it.

use rayon::prelude::*;

use super::Volume;
use super::cell::Patch;
use super::polygon::{EDGES, edge_point};
use super::samples::Samples;
use super::tables::{CASE_EDGES, CASES, EDGE_CORNERS};
use crate::error::{Error, Result};
use crate::mesh::Mesh;

/// Vertices of a mesh, so that a vertex in a cell, numbered after those of all edges, has a u32
/// number as well (there are fewer cells with such a vertex than edges).
const MAX_VERTICES: u64 = 1 << 31;

/// The smallest distance of a vertex from the samples, in spacings, see [`margins`].
const MARGIN: f64 = 1.0 / 1024.0;

/// Signs with their low neighbours along x: bit `x` of the result is bit `x - 1` of the row.
fn shifted(row: &[u64], word: usize) -> u64 {
    row[word] << 1 | if word == 0 { 0 } else { row[word - 1] >> 63 }
}

/// The crossed edges of row (y, z) along each axis, word by word.
fn crossed<V: Volume + ?Sized>(samples: &Samples<V>, y: usize, z: usize) -> impl Iterator<Item = [u64; 3]> {
    let row = samples.signs(y, z);
    let below = samples.signs(y.wrapping_sub(1), z);
    let behind = samples.signs(y, z.wrapping_sub(1));
    (0..row.len()).map(move |w| [row[w] ^ shifted(row, w), row[w] ^ below[w], row[w] ^ behind[w]])
}

/// For each row the number of its first vertex on an edge along x, y and z.
pub struct Numbering {
    rows_per_plane: usize,
    first: Vec<[u32; 3]>,
    /// First vertex of each plane, and the number of all at the end.
    planes: Vec<u32>,
}

impl Numbering {
    /// # Errors
    /// When there are too many vertices.
    pub fn count<V: Volume + ?Sized>(samples: &Samples<V>) -> Result<Self> {
        let rows_per_plane = samples.dims()[1] + 1;
        let rows = rows_per_plane * (samples.dims()[2] + 1);
        let mut first = vec![[0u32; 3]; rows];
        first.par_chunks_mut(rows_per_plane).enumerate().for_each(|(z, plane)| {
            for (y, counts) in plane.iter_mut().enumerate() {
                for word in crossed(samples, y, z).filter(|&word| word != [0; 3]) {
                    for axis in 0..3 {
                        counts[axis] += word[axis].count_ones();
                    }
                }
            }
        });
        let mut total = 0u64;
        let mut planes = Vec::with_capacity(samples.dims()[2] + 2);
        for plane in first.chunks_mut(rows_per_plane) {
            planes.push(total as u32);
            for count in plane.iter_mut().flatten() {
                let start = total as u32;
                total += u64::from(*count);
                *count = start;
            }
            check_count(total)?;
        }
        planes.push(total as u32);
        Ok(Self { rows_per_plane, first, planes })
    }

    pub fn total(&self) -> u32 {
        self.planes[self.planes.len() - 1]
    }

    /// Numbers of row (y, z); anything for a row beyond the grid, which has no vertices.
    fn row(&self, y: usize, z: usize) -> [u32; 3] {
        if y >= self.rows_per_plane || z >= self.planes.len() - 1 {
            return [0; 3];
        }
        self.first[z * self.rows_per_plane + y]
    }
}

pub fn check_count(vertices: u64) -> Result<()> {
    if vertices <= MAX_VERTICES {
        return Ok(());
    }
    Err(Error::new(
        "marching cubes",
        format!("the surface has more than {MAX_VERTICES} vertices"),
        "take a coarser grid or smooth the volume",
    ))
}

/// Where the vertices lie: grid positions in f64, and the margins on the edges of each axis.
pub struct Placement {
    origin: [f64; 3],
    spacing: [f64; 3],
    margins: [f64; 3],
}

impl Placement {
    /// Margins keep a vertex off the samples, so that the up to six vertices around a sample that
    /// lies on the level are distinct and no triangle is degenerate: 1/1024 of the spacing, or four
    /// units in the last place of the largest coordinate where that is more.
    ///
    /// # Errors
    /// When origin and spacing are not finite, the spacing is not positive, or neighbouring
    /// samples are too close for f32 positions.
    pub fn new(dims: [usize; 3], origin: [f32; 3], spacing: [f32; 3]) -> Result<Self> {
        let [origin, spacing] = [origin, spacing].map(|v| v.map(f64::from));
        let mut margins = [MARGIN; 3];
        for axis in 0..3 {
            let far = origin[axis] + spacing[axis] * dims[axis] as f64;
            let largest = origin[axis].abs().max(far.abs());
            margins[axis] = MARGIN.max(4.0 * largest * f64::from(f32::EPSILON) / spacing[axis]);
            let sound =
                spacing[axis] > 0.0 && largest + spacing[axis] < f64::from(f32::MAX) && margins[axis] < 0.25;
            if !sound {
                return Err(Error::new(
                    "volume",
                    format!(
                        "expected a positive spacing that f32 positions resolve, found origin {} and spacing {} \
                         on axis {axis}",
                        origin[axis], spacing[axis]
                    ),
                    "move the grid towards the origin or take a coarser one",
                ));
            }
        }
        Ok(Self { origin, spacing, margins })
    }

    /// Origin, spacing and margins, as the kernels take them.
    pub fn table(&self) -> [f64; 9] {
        let mut table = [0.0; 9];
        for (row, values) in table.chunks_exact_mut(3).zip([self.origin, self.spacing, self.margins]) {
            row.copy_from_slice(&values);
        }
        table
    }

    /// Where the surface crosses an edge along `axis` from a sample `low` to one `high` above the
    /// level, as a fraction of the edge.
    fn crossing(&self, axis: usize, low: f64, high: f64) -> f64 {
        let margin = self.margins[axis];
        (low / (low - high)).max(margin).min(1.0 - margin)
    }

    /// The position of a point in the cell whose high corner is the sample (x, y, z).
    fn position(&self, cell: [usize; 3], point: [f64; 3]) -> [f32; 3] {
        std::array::from_fn(|axis| {
            (self.origin[axis] + self.spacing[axis] * (cell[axis] as f64 - 1.0 + point[axis])) as f32
        })
    }
}

/// The set bits of a word, ascending.
fn bits_of(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// Positions of the vertices on edges.
pub fn edge_vertices<V: Volume + ?Sized>(
    samples: &Samples<V>,
    numbering: &Numbering,
    placement: &Placement,
) -> Vec<[f32; 3]> {
    let mut positions = vec![[0.0; 3]; numbering.total() as usize];
    let mut rest = &mut positions[..];
    let mut planes = Vec::with_capacity(numbering.planes.len());
    for ends in numbering.planes.windows(2) {
        let (plane, after) = rest.split_at_mut((ends[1] - ends[0]) as usize);
        planes.push(plane);
        rest = after;
    }
    planes.into_par_iter().enumerate().for_each(|(z, plane)| {
        let mut next = 0;
        let rows = if plane.is_empty() { 0 } else { numbering.rows_per_plane };
        for y in 0..rows {
            for axis in 0..3 {
                for (word, crossed) in crossed(samples, y, z).enumerate() {
                    for bit in bits_of(crossed[axis]) {
                        let high = [64 * word + bit, y, z];
                        plane[next] = edge_vertex(samples, placement, axis, high);
                        next += 1;
                    }
                }
            }
        }
    });
    positions
}

fn edge_vertex<V: Volume + ?Sized>(
    samples: &Samples<V>,
    placement: &Placement,
    axis: usize,
    high: [usize; 3],
) -> [f32; 3] {
    let mut low = high;
    low[axis] = low[axis].wrapping_sub(1);
    let [from, to] = [low, high].map(|[x, y, z]| samples.above(x, y, z));
    let mut point = [1.0; 3];
    point[axis] = placement.crossing(axis, from, to);
    placement.position(high, point)
}

/// Triangles of one plane of cells. Vertices in cells are numbered from `Numbering::total` on,
/// within the plane.
#[derive(Default)]
struct Plane {
    triangles: Vec<[u32; 3]>,
    centres: Vec<[f32; 3]>,
}

/// The mesh of the surface, from its vertices on edges.
///
/// # Errors
/// When there are too many vertices.
pub fn connect<V: Volume + ?Sized>(
    samples: &Samples<V>,
    numbering: &Numbering,
    placement: &Placement,
    mut positions: Vec<[f32; 3]>,
) -> Result<Mesh> {
    let planes: Vec<Plane> = (0..=samples.dims()[2])
        .into_par_iter()
        .map(|z| {
            let mut walker = Walker {
                samples,
                placement,
                total: numbering.total(),
                plane: Plane::default(),
                patch: Patch::default(),
            };
            for y in 0..=samples.dims()[1] {
                walker.row(y, z, numbering);
            }
            walker.plane
        })
        .collect();
    let centres: usize = planes.iter().map(|plane| plane.centres.len()).sum();
    check_count(u64::from(numbering.total()) + centres as u64)?;
    let mut triangles = vec![[0; 3]; planes.iter().map(|plane| plane.triangles.len()).sum()];
    let mut rest = &mut triangles[..];
    let mut parts = Vec::with_capacity(planes.len());
    for plane in &planes {
        let (part, after) = rest.split_at_mut(plane.triangles.len());
        let shift = (positions.len() - numbering.total() as usize) as u32;
        parts.push((part, plane, shift));
        positions.extend_from_slice(&plane.centres);
        rest = after;
    }
    parts.into_par_iter().for_each(|(part, plane, shift)| {
        for (out, triangle) in part.iter_mut().zip(&plane.triangles) {
            *out = triangle.map(|vertex| if vertex < numbering.total() { vertex } else { vertex + shift });
        }
    });
    Ok(Mesh { positions, normals: None, triangles })
}

/// Walks the cells of a plane that the surface crosses.
struct Walker<'a, V: ?Sized> {
    samples: &'a Samples<'a, V>,
    placement: &'a Placement,
    total: u32,
    plane: Plane,
    patch: Patch,
}

impl<V: Volume + ?Sized> Walker<'_, V> {
    fn row(&mut self, y: usize, z: usize, numbering: &Numbering) {
        let (y0, z0) = (y.wrapping_sub(1), z.wrapping_sub(1));
        let rows = [(y0, z0), (y, z0), (y0, z), (y, z)];
        let signs = rows.map(|(y, z)| self.samples.signs(y, z));
        // Cells are visited in the order of x, and an edge is crossed only in visited cells, so
        // that counting along is numbering.
        let first = rows.map(|(y, z)| numbering.row(y, z));
        let mut next =
            Next { x: first.map(|row| row[0]), y: [first[1][1], first[3][1]], z: [first[2][2], first[3][2]] };
        for word in 0..signs[0].len() {
            let high = signs.map(|row| row[word]);
            let low = signs.map(|row| shifted(row, word));
            let any = high.iter().chain(&low).fold(0, |any, signs| any | signs);
            let all = high.iter().chain(&low).fold(u64::MAX, |all, signs| all & signs);
            for bit in bits_of(any & !all) {
                let case = (0..4).fold(0, |case, row| {
                    case | (low[row] >> bit & 1) << (2 * row) | (high[row] >> bit & 1) << (2 * row + 1)
                });
                let vertices = next.visit(CASE_EDGES[case as usize]);
                match CASES[case as usize].triangles() {
                    Some(triangles) => self.plane.triangles.extend(
                        triangles.iter().map(|triangle| triangle.map(|edge| vertices[edge as usize])),
                    ),
                    None => self.open_cell([64 * word + bit, y, z], &vertices),
                }
            }
        }
    }

    /// A cell whose values must decide.
    fn open_cell(&mut self, cell: [usize; 3], vertices: &[u32; 12]) {
        let [x, y, z] = cell;
        let d: [f64; 8] = std::array::from_fn(|corner| {
            let back =
                |index: usize, bit: usize| if corner >> bit & 1 == 1 { index } else { index.wrapping_sub(1) };
            self.samples.above(back(x, 0), back(y, 1), back(z, 2))
        });
        let points: [[f64; 3]; EDGES] = std::array::from_fn(|edge| {
            let [low, high] = EDGE_CORNERS[edge].map(|corner| d[corner]);
            edge_point(edge, self.placement.crossing(edge / 4, low, high))
        });
        self.patch.polygonise(&d, points);
        let first = self.total + self.plane.centres.len() as u32;
        let placement = self.placement;
        self.plane
            .centres
            .extend(self.patch.points[EDGES..].iter().map(|&centre| placement.position(cell, centre)));
        self.plane.triangles.extend(self.patch.triangles.iter().map(|triangle| {
            triangle.map(|vertex| match (vertex as usize).checked_sub(EDGES) {
                None => vertices[vertex as usize],
                Some(inner) => first + inner as u32,
            })
        }));
    }
}

/// The next vertices on the twelve edges of a cell: along x in the four rows, along y and z in
/// the two rows each that own such edges.
struct Next {
    x: [u32; 4],
    y: [u32; 2],
    z: [u32; 2],
}

impl Next {
    /// Numbers of the vertices on the crossed edges of the cell, garbage on the others; goes on
    /// to the next cell.
    fn visit(&mut self, edges: u16) -> [u32; 12] {
        let crossed = |edge: usize| u32::from(edges >> edge & 1);
        let mut vertices = [0; 12];
        vertices[..4].copy_from_slice(&self.x);
        for (row, next) in self.x.iter_mut().enumerate() {
            *next += crossed(row);
        }
        for row in 0..2 {
            for (base, next) in [(4, &mut self.y[row]), (8, &mut self.z[row])] {
                // The low edge was the high edge of a cell visited just before.
                vertices[base + 2 * row] = next.wrapping_sub(1);
                vertices[base + 2 * row + 1] = *next;
                *next += crossed(base + 2 * row + 1);
            }
        }
        vertices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_vertices_are_refused() {
        assert!(check_count(1 << 31).is_ok());
        assert!(check_count((1 << 31) + 1).is_err_and(|e| e.to_string().contains("more than 2147483648")));
    }
}
