//! Vertices on the subpixel grid, and the three screens that the six views share.

use super::GUARD;
use crate::hexplane::{VIEWS, View};
use crate::mesh::Mesh;
use crate::{Error, Result};
use rayon::prelude::*;

/// Subpixels along the edge of a pixel.
pub const SUBPIXELS: i32 = 256;

/// (near, far): the view that is rasterised and its mirror image.
pub const PAIRS: [(usize, usize); 3] = [(0, 1), (2, 3), (4, 5)];

/// A vertex that no triangle can use: not a number, or beyond the guard.
const INVALID: [i32; 3] = [i32::MIN; 3];

/// World coordinates of the vertices on the subpixel grid.
pub struct Snapped<'a> {
    vertices: Vec<[i32; 3]>,
    pub triangles: &'a [[u32; 3]],
}

impl<'a> Snapped<'a> {
    /// Errors name the first triangle with an unusable corner; vertices without a triangle do not matter.
    /// Indices are in range.
    pub fn new(mesh: &'a Mesh, size: usize) -> Result<Self> {
        let half = f64::from(SUBPIXELS) * size as f64 / 2.0;
        let snap = |c: f32| ((f64::from(c) + 1.0) * half + 0.5) as i32;
        // A comparison with NaN is false, so NaN is unusable too.
        let vertices: Vec<[i32; 3]> = mesh
            .positions
            .par_iter()
            .with_min_len(1024)
            .map(|p| if p.iter().all(|c| c.abs() <= GUARD) { p.map(snap) } else { INVALID })
            .collect();
        let unusable = |corners: &[u32; 3]| corners.iter().any(|&v| vertices[v as usize] == INVALID);
        if let Some(triangle) = mesh.triangles.par_iter().with_min_len(1024).position_first(unusable) {
            let place = format!("mesh: triangle {triangle}");
            let problem = format!("expected corners in [-1,1]^3, found {:?}", mesh.corners(triangle));
            return Err(Error::new(place, problem, "normalise the mesh, or repair its coordinates"));
        }
        Ok(Self { vertices, triangles: &mesh.triangles })
    }

    fn corners(&self, triangle: usize) -> [[i32; 3]; 3] {
        self.triangles[triangle].map(|v| self.vertices[v as usize])
    }
}

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

    fn snapped(self, p: [i32; 3], extent: i32) -> i32 {
        if self.sign > 0.0 { p[self.axis] } else { extent - p[self.axis] }
    }
}

/// The screen of a pair of opposite views, as its near view sees it: x right, y down, depth in [0,1].
pub struct Screen {
    pub near: usize,
    pub far: usize,
    /// Whether the far view mirrors the rows (bottom) or the columns (back, right).
    pub mirror_rows: bool,
    pub size: usize,
    x: Lane,
    y: Lane,
    depth: Lane,
}

impl Screen {
    pub fn new((near, far): (usize, usize), size: usize) -> Self {
        let View { right, up, forward, .. } = VIEWS[near];
        Self {
            near,
            far,
            mirror_rows: VIEWS[far].right == right,
            size,
            x: Lane::along(right),
            y: Lane::along(up.map(|c| -c)),
            depth: Lane::along(forward),
        }
    }

    /// (x, y, depth) of a corner: pixels and [0,1], not snapped.
    pub fn project(&self, p: [f32; 3]) -> [f64; 3] {
        let size = self.size as f64;
        [self.x.scaled(p, size), self.y.scaled(p, size), self.depth.scaled(p, 1.0)]
    }

    /// Minus the forward axis of the near view.
    pub fn towards_camera(&self) -> [f32; 3] {
        VIEWS[self.near].forward.map(|c| -c)
    }

    /// The triangle on the subpixel grid; `None` where it covers no pixel for sure.
    pub fn triangle(&self, snapped: &Snapped, triangle: usize) -> Option<Outline> {
        let extent = SUBPIXELS * self.size as i32;
        let mut order = [0, 1, 2];
        let corners = snapped.corners(triangle);
        let mut xy = corners.map(|p| [self.x.snapped(p, extent), self.y.snapped(p, extent)]);
        let (cols, rows) = (self.centres(xy.map(|p| p[0])), self.centres(xy.map(|p| p[1])));
        if cols.0 >= cols.1 || rows.0 >= rows.1 {
            return None;
        }
        let [a, b, c] = xy.map(|p| p.map(i64::from));
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        if area == 0 {
            return None;
        }
        if area < 0 {
            xy.swap(1, 2);
            order.swap(1, 2);
        }
        Some(Outline { xy, order, area: area.abs(), cols, rows })
    }

    /// First and past-the-last pixel on the screen whose centre lies within the three coordinates.
    fn centres(&self, [a, b, c]: [i32; 3]) -> (i32, i32) {
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
#[derive(Clone, Copy)]
pub struct Edge {
    pub value: i64,
    pub step: i64,
    pub row_step: i64,
}

impl Outline {
    /// The three edge functions at the centre of pixel (row, first column). Edge k is opposite corner k, so
    /// its function over the area is the barycentric weight of that corner.
    pub fn edges(&self, row: i32) -> [Edge; 3] {
        let centre = |pixel: i32| i64::from(pixel * SUBPIXELS + SUBPIXELS / 2);
        let (x, y) = (centre(self.cols.0), centre(row));
        std::array::from_fn(|k| {
            let [from, to] = [self.xy[(k + 1) % 3], self.xy[(k + 2) % 3]].map(|p| p.map(i64::from));
            let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
            Edge {
                value: dx * (y - from[1]) - dy * (x - from[0]),
                step: -dy * i64::from(SUBPIXELS),
                row_step: dx * i64::from(SUBPIXELS),
            }
        })
    }

    /// 0 for a top or left edge, whose pixels belong to the triangle, 1 for the others.
    pub fn bias(edge: &Edge) -> i64 {
        let left = edge.step > 0;
        let top = edge.step == 0 && edge.row_step > 0;
        i64::from(!(left || top))
    }
}
