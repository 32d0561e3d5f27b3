//! The three screens that the six views share, and triangles on their subpixel grids.

use super::GUARD;
use crate::hexplane::{VIEWS, View};
use crate::mesh::Mesh;
use rayon::prelude::*;

/// Subpixels along the edge of a pixel.
pub const SUBPIXELS: i32 = 256;

/// (near, far): the view that is rasterised and its mirror image.
pub const PAIRS: [(usize, usize); 3] = [(0, 1), (2, 3), (4, 5)];

/// One world axis as a screen axis: `sign * p[axis]`.
#[derive(Clone, Copy)]
struct Lane {
    axis: usize,
    sign: f64,
}

impl Lane {
    fn along(direction: [f32; 3]) -> Self {
        let axis = (0..3).find(|&axis| direction[axis] != 0.0).expect("a view looks along an axis");
        Self { axis, sign: f64::from(direction[axis]) }
    }

    /// `extent * (1 + sign * c) / 2` in f64.
    fn scaled(self, p: [f32; 3], extent: f64) -> f64 {
        (1.0 + self.sign * f64::from(p[self.axis])) * (0.5 * extent)
    }

    fn snapped(self, p: [f32; 3], extent: i32) -> i32 {
        let c = ((f64::from(p[self.axis]) + 1.0) * (f64::from(extent) / 2.0) + 0.5) as i32;
        if self.sign > 0.0 { c } else { extent - c }
    }
}

/// A vertex as a screen sees it: x right, y down.
#[derive(Clone, Copy, Default)]
pub struct Vertex {
    /// x and y on the subpixel grid.
    pub snapped: [i32; 2],
    /// x, y in pixels and depth in [0,1], not snapped.
    pub point: [f64; 3],
}

/// The screen of a pair of opposite views, as its near view sees it.
pub struct Screen<'a> {
    pub near: usize,
    pub far: usize,
    /// Whether the far view mirrors the rows (bottom) or the columns (back, right).
    pub mirror_rows: bool,
    pub size: usize,
    pub triangles: &'a [[u32; 3]],
    vertices: Vec<Vertex>,
}

impl<'a> Screen<'a> {
    /// The corners of all triangles are within [`GUARD`].
    pub fn new((near, far): (usize, usize), mesh: &'a Mesh, size: usize) -> Self {
        let View { right, up, forward, .. } = VIEWS[near];
        let [x, y, depth] = [right, up.map(|c| -c), forward].map(Lane::along);
        let (pixels, extent) = (size as f64, SUBPIXELS * size as i32);
        let vertex = |p: &[f32; 3]| {
            // No triangle uses a vertex that is out of bounds.
            let bounded = p.iter().all(|c| c.abs() <= GUARD);
            let p = if bounded { *p } else { [0.0; 3] };
            Vertex {
                snapped: [x.snapped(p, extent), y.snapped(p, extent)],
                point: [x.scaled(p, pixels), y.scaled(p, pixels), depth.scaled(p, 1.0)],
            }
        };
        let vertices = mesh.positions.par_iter().with_min_len(1024).map(vertex).collect();
        let mirror_rows = VIEWS[far].right == right;
        Self { near, far, mirror_rows, size, triangles: &mesh.triangles, vertices }
    }

    /// Minus the forward axis of the near view, or of the far one.
    #[inline(always)]
    pub fn towards_camera(&self, far: bool) -> [f32; 3] {
        // The two look against each other.
        VIEWS[if far { self.near } else { self.far }].forward
    }

    #[inline(always)]
    fn corners(&self, triangle: usize) -> [&Vertex; 3] {
        let [a, b, c] = self.triangles[triangle];
        [&self.vertices[a as usize], &self.vertices[b as usize], &self.vertices[c as usize]]
    }

    /// First and past-the-last row that the triangle may touch.
    #[inline(always)]
    pub fn rows(&self, triangle: usize) -> (i32, i32) {
        let [a, b, c] = self.corners(triangle);
        self.centres(a.snapped[1], b.snapped[1], c.snapped[1])
    }

    /// (x, y, depth) of the corners in the mesh's own order, not snapped.
    #[inline(always)]
    pub fn points(&self, triangle: usize) -> [[f64; 3]; 3] {
        let [a, b, c] = self.corners(triangle);
        [a.point, b.point, c.point]
    }

    /// The triangle on the subpixel grid; `None` where it covers no pixel for sure.
    #[inline(always)]
    pub fn outline(&self, triangle: usize) -> Option<Outline> {
        let [a, b, c] = self.corners(triangle);
        let (a, mut b, mut c) = (a.snapped, b.snapped, c.snapped);
        let (cols, rows) = (self.centres(a[0], b[0], c[0]), self.centres(a[1], b[1], c[1]));
        if cols.0 >= cols.1 || rows.0 >= rows.1 {
            return None;
        }
        let away = |p: [i32; 2], axis: usize| i64::from(p[axis] - a[axis]);
        let area = away(b, 0) * away(c, 1) - away(b, 1) * away(c, 0);
        if area == 0 {
            return None;
        }
        let mut order = [0, 1, 2];
        if area < 0 {
            (b, c, order) = (c, b, [0, 2, 1]);
        }
        Some(Outline { xy: [a, b, c], order, area: area.abs(), cols, rows })
    }

    /// First and past-the-last pixel on the screen whose centre lies within the three coordinates.
    #[inline(always)]
    fn centres(&self, a: i32, b: i32, c: i32) -> (i32, i32) {
        let (low, high) = (a.min(b).min(c), a.max(b).max(c));
        let half = SUBPIXELS / 2;
        let first = (low + half - 1).div_euclid(SUBPIXELS);
        let past = (high + half).div_euclid(SUBPIXELS);
        (first.max(0), past.min(self.size as i32))
    }
}

/// A triangle of positive area on the subpixel grid.
pub struct Outline {
    /// Corners (x, y).
    pub xy: [[i32; 2]; 3],
    /// Which corner of the mesh's triangle each one is.
    pub order: [usize; 3],
    /// Twice the area, in subpixels squared.
    pub area: i64,
    /// Bounding box in pixels: first, past the last.
    pub cols: (i32, i32),
    pub rows: (i32, i32),
}

/// An edge function along a row: `value` at the first column of the bounding box, `step` a column.
/// All of them are integers below 2^53 (see [`GUARD`]), and so are the function's values over the box.
#[derive(Clone, Copy)]
pub struct Edge {
    pub value: i64,
    pub step: i64,
    pub row_step: i64,
}

impl Outline {
    /// The three edge functions at the centre of pixel (row, first column). Edge k is opposite corner k, so
    /// its function over the area is the barycentric weight of that corner.
    #[inline(always)]
    pub fn edges(&self, row: i32) -> [Edge; 3] {
        let [a, b, c] = self.xy;
        [self.edge(b, c, row), self.edge(c, a, row), self.edge(a, b, row)]
    }

    #[inline(always)]
    fn edge(&self, from: [i32; 2], to: [i32; 2], row: i32) -> Edge {
        let centre = |pixel: i32| pixel * SUBPIXELS + SUBPIXELS / 2;
        let dx = i64::from(to[0] - from[0]);
        let dy = i64::from(to[1] - from[1]);
        let x = i64::from(centre(self.cols.0) - from[0]);
        let y = i64::from(centre(row) - from[1]);
        let subpixels = i64::from(SUBPIXELS);
        Edge { value: dx * y - dy * x, step: -dy * subpixels, row_step: dx * subpixels }
    }
}

impl Edge {
    /// 0 for a top or left edge, whose pixels belong to the triangle, 1 for the others.
    #[inline(always)]
    pub fn bias(&self) -> i64 {
        let left = self.step > 0;
        let top = self.step == 0 && self.row_step > 0;
        i64::from(!(left || top))
    }
}
