//! Triangles to visibility keys: binning by bands of rows, exact spans, depth.

use super::BAND;
use super::screen::{Edge, Outline, Screen, Snapped};
use crate::mesh::Mesh;
use rayon::prelude::*;
use std::ops::Range;

/// No surface in this pixel: larger than any key.
pub const EMPTY: u64 = u64::MAX;

/// Triangles a binning task looks at.
const CHUNK: usize = 4096;

/// The triangles that may touch each band, of one screen.
pub struct Bins {
    /// Per chunk of triangles, per band.
    chunks: Vec<Vec<Vec<u32>>>,
}

impl Bins {
    pub fn new(snapped: &Snapped, screen: &Screen) -> Self {
        let bands = screen.size.div_ceil(BAND);
        let chunk = |(index, triangles): (usize, &[[u32; 3]])| {
            let mut of_band = vec![Vec::new(); bands];
            for triangle in index * CHUNK..index * CHUNK + triangles.len() {
                let Some(outline) = screen.triangle(snapped, triangle) else { continue };
                let (first, past) = outline.rows;
                for band in &mut of_band[first as usize / BAND..=(past - 1) as usize / BAND] {
                    band.push(triangle as u32);
                }
            }
            of_band
        };
        Self { chunks: snapped.triangles.par_chunks(CHUNK).enumerate().map(chunk).collect() }
    }

    pub fn band(&self, band: usize) -> impl Iterator<Item = usize> {
        self.chunks.iter().flat_map(move |chunk| chunk[band].iter().map(|&triangle| triangle as usize))
    }
}

/// Visibility keys of a band of rows, as the near view lies on the screen.
pub struct Fragments {
    pub near: Vec<u64>,
    pub far: Vec<u64>,
}

impl Fragments {
    pub fn new(pixels: usize) -> Self {
        Self { near: vec![EMPTY; pixels], far: vec![EMPTY; pixels] }
    }

    /// Forgets what was there and draws `triangles` into `rows`.
    pub fn fill(
        &mut self,
        mesh: &Mesh,
        snapped: &Snapped,
        screen: &Screen,
        triangles: impl Iterator<Item = usize>,
        rows: Range<usize>,
    ) {
        self.near.fill(EMPTY);
        self.far.fill(EMPTY);
        for triangle in triangles {
            if let Some(outline) = screen.triangle(snapped, triangle) {
                let depth = DepthPlane::new(mesh.corners(triangle).map(|p| screen.project(p)));
                self.draw(&outline, &depth, triangle as u64, screen.size, &rows);
            }
        }
    }

    fn draw(&mut self, outline: &Outline, depth: &DepthPlane, id: u64, size: usize, rows: &Range<usize>) {
        let first = outline.rows.0.max(rows.start as i32);
        let past = outline.rows.1.min(rows.end as i32);
        let width = outline.cols.1 - outline.cols.0;
        let mut edges = outline.edges(first);
        edges.iter_mut().for_each(|edge| edge.value -= Outline::bias(edge));
        for row in first..past {
            let (start, end) = span(&edges, width);
            if start < end {
                let base = (row as usize - rows.start) * size + outline.cols.0 as usize;
                let pixels = base + start as usize..base + end as usize;
                let by = depth.b * (f64::from(row) + 0.5 - depth.y);
                let column = outline.cols.0 + start;
                let near = &mut self.near[pixels.clone()];
                for ((near, far), column) in near.iter_mut().zip(&mut self.far[pixels]).zip(column..) {
                    let t = depth.at(f64::from(column), by);
                    if (0.0..=1.0).contains(&t) {
                        *near = (*near).min(u64::from(t.to_bits()) << 32 | id);
                        *far = (*far).min(u64::from((1.0 - t).to_bits()) << 32 | id);
                    }
                }
            }
            edges.iter_mut().for_each(|edge| edge.value += edge.row_step);
        }
    }
}

/// The columns (from the bounding box, `start..end` within `0..width`) where all edge functions are >= 0.
///
/// The quotients are exact: numerators are integers below 2^53 (see `GUARD`), so the rounding error of
/// the division is below 1/divisor, the least distance of a fraction from the next integer.
fn span(edges: &[Edge; 3], width: i32) -> (i32, i32) {
    let (mut start, mut end) = (0, width);
    for edge in edges {
        if edge.step > 0 {
            if edge.value < 0 {
                let first = (edge.step - 1 - edge.value) as f64 / edge.step as f64;
                start = start.max(first as i32);
            }
        } else if edge.value < 0 {
            return (0, 0);
        } else if edge.step < 0 {
            let last = edge.value as f64 / -edge.step as f64;
            end = end.min((last as i32).saturating_add(1));
        }
    }
    (start, end)
}

/// Depth over the screen: the contract's step 4.
struct DepthPlane {
    a: f64,
    b: f64,
    x: f64,
    y: f64,
    z: f64,
    low: f64,
    high: f64,
}

impl DepthPlane {
    fn new([p0, p1, p2]: [[f64; 3]; 3]) -> Self {
        let [dx1, dy1, dz1] = std::array::from_fn(|k| p1[k] - p0[k]);
        let [dx2, dy2, dz2] = std::array::from_fn(|k| p2[k] - p0[k]);
        let det = dx1 * dy2 - dx2 * dy1;
        let (a, b) = if det == 0.0 {
            (0.0, 0.0)
        } else {
            ((dz1 * dy2 - dz2 * dy1) / det, (dx1 * dz2 - dx2 * dz1) / det)
        };
        let (low, high) = (p0[2].min(p1[2]).min(p2[2]), p0[2].max(p1[2]).max(p2[2]));
        Self { a, b, x: p0[0], y: p0[1], z: p0[2], low, high }
    }

    fn at(&self, column: f64, by: f64) -> f32 {
        let t = (self.a * (column + 0.5 - self.x) + by) + self.z;
        // These selects, unlike min and max, turn -0 into the +0 that the keys need.
        let t = if t > self.low { t } else { self.low };
        (if t < self.high { t } else { self.high }) as f32
    }
}
