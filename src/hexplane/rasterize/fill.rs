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
            let mut of_band = vec![Vec::new(); bands];
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
        for row in first..past {
            let (mut column, end) = if width <= NARROW { (0, width) } else { span(&edges, width) };
            let by = depth.b * (f64::from(row) + 0.5 - depth.y);
            let base = (row as usize - rows.start) * self.stride + outline.cols.0 as usize;
            while column < end {
                let t = depth.block(f64::from(outline.cols.0 + column), by);
                let inside = inside(&edges, f64::from(column));
                let pixels = base + column as usize..;
                let near = self.near[pixels.clone()].first_chunk_mut().expect("a row has room for its lanes");
                let far = self.far[pixels].first_chunk_mut().expect("a row has room for its lanes");
                nearest(near, &t, &inside, id, |t| t);
                nearest(far, &t, &inside, id, |t| 1.0 - t);
                column += LANES as i32;
            }
            for edge in &mut edges {
                edge.value += edge.row_step;
            }
        }
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

/// Whether all edge functions are >= 0, for [`LANES`] columns from `column` of the bounding box on. Exact: the
/// values are integers that f64 holds.
#[inline(always)]
fn inside(edges: &[Edge; 3], column: f64) -> [bool; LANES] {
    let mut all = [true; LANES];
    for edge in edges {
        let (value, step) = (edge.value as f64, edge.step as f64);
        for (lane, inside) in all.iter_mut().enumerate() {
            *inside &= value + step * (column + lane as f64) >= 0.0;
        }
    }
    all
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

    /// At [`LANES`] pixels from `column` on.
    #[inline(always)]
    fn block(&self, column: f64, by: f64) -> [f32; LANES] {
        let mut depths = [0.0; LANES];
        for (lane, depth) in depths.iter_mut().enumerate() {
            let t = (self.a * (column + lane as f64 + 0.5 - self.x) + by) + self.z;
            // These selects, unlike min and max, turn -0 into the +0 that the keys need.
            let t = if t > self.low { t } else { self.low };
            *depth = (if t < self.high { t } else { self.high }) as f32;
        }
        depths
    }
}
