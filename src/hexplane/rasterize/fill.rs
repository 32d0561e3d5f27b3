//! Triangles to visibility keys: binning by bands of rows, exact coverage, depth.

use super::BAND;
use super::screen::{Edge, Outline, Screen};
use rayon::prelude::*;
use std::ops::Range;

/// No surface in this pixel: larger than any key.
pub const EMPTY: u64 = u64::MAX;

/// Pixels of a row that are drawn at once: a vector register of f64 where the machine has the widest.
pub const LANES: usize = 8;

/// Bounding boxes up to this wide are walked whole; of wider ones the span of every row is found first.
const NARROW: i32 = 2 * LANES as i32;

/// Triangles a binning task looks at.
const CHUNK: usize = 2048;

/// The triangles that may touch each band, of one screen.
pub struct Bins {
    /// Per chunk of triangles, per band.
    chunks: Vec<Vec<Vec<u32>>>,
}

impl Bins {
    pub fn new(screen: &Screen) -> Self {
        let bands = screen.size.div_ceil(BAND);
        let chunk = |(index, triangles): (usize, &[[u32; 3]])| {
            // Twice what triangles spread evenly ask for.
            let mut of_band: Vec<Vec<u32>> =
                (0..bands).map(|_| Vec::with_capacity(2 * triangles.len() / bands)).collect();
            for triangle in index * CHUNK..index * CHUNK + triangles.len() {
                let (first, past) = screen.rows(triangle);
                if first < past {
                    for band in &mut of_band[first as usize / BAND..=(past - 1) as usize / BAND] {
                        band.push(triangle as u32);
                    }
                }
            }
            of_band
        };
        Self { chunks: screen.triangles.par_chunks(CHUNK).enumerate().map(chunk).collect() }
    }

    pub fn band(&self, band: usize) -> impl Iterator<Item = usize> {
        self.chunks.iter().flat_map(move |chunk| chunk[band].iter().map(|&triangle| triangle as usize))
    }
}

/// Visibility keys of a band of rows, as the near view lies on the screen.
pub struct Fragments {
    /// Keys from one row to the next: the row, and room for the lanes that stick out of it.
    pub stride: usize,
    pub near: Vec<u64>,
    pub far: Vec<u64>,
}

impl Fragments {
    pub fn new(size: usize) -> Self {
        let stride = size + LANES;
        let keys = vec![EMPTY; BAND * stride];
        Self { stride, near: keys.clone(), far: keys }
    }

    /// Forgets what was there and draws `triangles` into `rows`.
    #[inline(always)]
    pub fn fill(&mut self, screen: &Screen, triangles: impl Iterator<Item = usize>, rows: Range<usize>) {
        self.near.fill(EMPTY);
        self.far.fill(EMPTY);
        for triangle in triangles {
            if let Some(outline) = screen.outline(triangle) {
                let depth = DepthPlane::new(screen.points(triangle));
                self.draw(&outline, &depth, triangle as u64, &rows);
            }
        }
    }

    #[inline(always)]
    fn draw(&mut self, outline: &Outline, depth: &DepthPlane, id: u64, rows: &Range<usize>) {
        let first = outline.rows.0.max(rows.start as i32);
        let past = outline.rows.1.min(rows.end as i32);
        let width = outline.cols.1 - outline.cols.0;
        let mut edges = outline.edges(first);
        for edge in &mut edges {
            edge.value -= edge.bias();
        }
        let base = (first as usize - rows.start) * self.stride + outline.cols.0 as usize;
        if width > NARROW {
            self.draw_wide(outline, depth, id, edges, first..past, base);
            return;
        }
        // Column by column of blocks, so that what a row changes is one addition an edge.
        for column in (0..width).step_by(LANES) {
            // Not by `map`, which is not inlined and so not compiled for wide vectors.
            let [a, b, c] = &edges;
            let at_column = f64::from(column);
            let mut values = [a.block(at_column), b.block(at_column), c.block(at_column)];
            let steps = [a.row_step as f64, b.row_step as f64, c.row_step as f64];
            let across = depth.across(f64::from(outline.cols.0 + column));
            let mut at = base + column as usize;
            for row in first..past {
                let mut inside = [true; LANES];
                for (values, step) in values.iter_mut().zip(steps) {
                    for (inside, value) in inside.iter_mut().zip(values) {
                        *inside &= *value >= 0.0;
                        *value += step;
                    }
                }
                self.keep(at, &depth.block(&across, row), &inside, id);
                at += self.stride;
            }
        }
    }

    /// As [`Fragments::draw`], for a triangle so wide that its span is looked for in every row. `base` is the first
    /// pixel of the bounding box in the first of the rows.
    #[inline(always)]
    fn draw_wide(
        &mut self,
        outline: &Outline,
        depth: &DepthPlane,
        id: u64,
        mut edges: [Edge; 3],
        rows: Range<i32>,
        mut base: usize,
    ) {
        for row in rows {
            let (mut column, end) = span(&edges, outline.cols.1 - outline.cols.0);
            while column < end {
                let mut inside = [true; LANES];
                for edge in &edges {
                    let values = edge.block(f64::from(column));
                    inside.iter_mut().zip(values).for_each(|(inside, value)| *inside &= value >= 0.0);
                }
                let across = depth.across(f64::from(outline.cols.0 + column));
                self.keep(base + column as usize, &depth.block(&across, row), &inside, id);
                column += LANES as i32;
            }
            for edge in &mut edges {
                edge.value += edge.row_step;
            }
            base += self.stride;
        }
    }

    /// Draws the depths `t` of triangle `id` to the pixels from `at` on that are inside it.
    #[inline(always)]
    fn keep(&mut self, at: usize, t: &[f32; LANES], inside: &[bool; LANES], id: u64) {
        let near = self.near[at..].first_chunk_mut().expect("a row has room for its lanes");
        nearest(near, t, inside, id, |t| t);
        let far = self.far[at..].first_chunk_mut().expect("a row has room for its lanes");
        nearest(far, t, inside, id, |t| 1.0 - t);
    }
}

/// Keeps the smaller key of each lane: the one that is there, or that of depth `of(t)`.
#[inline(always)]
fn nearest(
    keys: &mut [u64; LANES],
    t: &[f32; LANES],
    inside: &[bool; LANES],
    id: u64,
    of: impl Fn(f32) -> f32,
) {
    for lane in 0..LANES {
        let drawn = inside[lane] & (t[lane] >= 0.0) & (t[lane] <= 1.0);
        let key = u64::from(of(t[lane]).to_bits()) << 32 | id;
        let key = if drawn { key } else { EMPTY };
        keys[lane] = keys[lane].min(key);
    }
}

impl Edge {
    /// The values at [`LANES`] columns from `column` of the bounding box on. Exact: integers that f64 holds.
    #[inline(always)]
    fn block(&self, column: f64) -> [f64; LANES] {
        let (value, step) = (self.value as f64, self.step as f64);
        let mut values = [0.0; LANES];
        for (lane, out) in values.iter_mut().enumerate() {
            *out = value + step * (column + lane as f64);
        }
        values
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
    #[inline(always)]
    fn new([p0, p1, p2]: [[f64; 3]; 3]) -> Self {
        let (dx1, dy1, dz1) = (p1[0] - p0[0], p1[1] - p0[1], p1[2] - p0[2]);
        let (dx2, dy2, dz2) = (p2[0] - p0[0], p2[1] - p0[1], p2[2] - p0[2]);
        let det = dx1 * dy2 - dx2 * dy1;
        let (a, b) = if det == 0.0 {
            (0.0, 0.0)
        } else {
            ((dz1 * dy2 - dz2 * dy1) / det, (dx1 * dz2 - dx2 * dz1) / det)
        };
        let (low, high) = (p0[2].min(p1[2]).min(p2[2]), p0[2].max(p1[2]).max(p2[2]));
        Self { a, b, x: p0[0], y: p0[1], z: p0[2], low, high }
    }

    /// What the columns add, at [`LANES`] pixels from `column` on.
    #[inline(always)]
    fn across(&self, column: f64) -> [f64; LANES] {
        let mut values = [0.0; LANES];
        for (lane, out) in values.iter_mut().enumerate() {
            *out = self.a * (column + lane as f64 + 0.5 - self.x);
        }
        values
    }

    /// The depths of these pixels in a row.
    #[inline(always)]
    fn block(&self, across: &[f64; LANES], row: i32) -> [f32; LANES] {
        let by = self.b * (f64::from(row) + 0.5 - self.y);
        let mut depths = [0.0; LANES];
        for (depth, across) in depths.iter_mut().zip(across) {
            let t = (across + by) + self.z;
            // These selects, unlike min and max, turn -0 into the +0 that the keys need.
            let t = if t > self.low { t } else { self.low };
            *depth = (if t < self.high { t } else { self.high }) as f32;
        }
        depths
    }
}
