//! Triangulation of contour loops: discs, and strips between two loops.
//!
//! Vertices 0 to 11 are those of the edges of the cell, 12 and up lie within it.
//!
//! No triangle side other than a piece of a loop may lie in a face of the cell: the neighbour
//! could draw the same side, and four triangles would meet in it. Two different cells share no
//! other pair of vertices, so that the sides of this module are met by two triangles each.

use super::tables::{EDGE_CORNERS, EDGE_FACES};

/// Vertices 0 to 11 are those of the edges; the others lie within the cell.
pub const EDGES: usize = 12;

const MAX_EDGES: usize = 12;

/// The point at `t` on an edge of the unit cell.
pub fn edge_point(edge: usize, t: f64) -> [f64; 3] {
    let corner = EDGE_CORNERS[edge][0];
    std::array::from_fn(|axis| if axis == edge / 4 { t } else { (corner >> axis & 1) as f64 })
}

fn shares_face(a: u8, b: u8) -> bool {
    let faces = |vertex: u8| EDGE_FACES.get(vertex as usize).copied().unwrap_or(0);
    faces(a) & faces(b) != 0
}

fn squared_distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum()
}

/// The cost of a side within the cell: its squared length, infinite where it lies in a face.
fn side_cost(a: u8, b: u8, points: &[[f64; 3]]) -> f64 {
    if shares_face(a, b) { f64::INFINITY } else { squared_distance(points[a as usize], points[b as usize]) }
}

/// Triangulates a loop without new vertices, with the shortest diagonals (the dynamic programme
/// of Klincsek 1980). Returns false, and adds nothing, where no triangulation avoids the faces.
pub fn disc(polygon: &[u8], points: &[[f64; 3]], triangles: &mut Vec<[u8; 3]>) -> bool {
    let n = polygon.len();
    let mut cost = [[0.0f64; MAX_EDGES]; MAX_EDGES];
    let mut apex = [[0usize; MAX_EDGES]; MAX_EDGES];
    for span in 2..n {
        for i in 0..n - span {
            let j = i + span;
            let (best, middle) = (i + 1..j)
                .map(|k| (cost[i][k] + cost[k][j], k))
                .fold((f64::INFINITY, 0), |best, next| if next.0 < best.0 { next } else { best });
            let side = if span == n - 1 { 0.0 } else { side_cost(polygon[i], polygon[j], points) };
            cost[i][j] = best + side;
            apex[i][j] = middle;
        }
    }
    if cost[0][n - 1].is_infinite() {
        return false;
    }
    let mut open = [(0, 0); MAX_EDGES];
    let mut depth = 1;
    open[0] = (0, n - 1);
    while depth > 0 {
        depth -= 1;
        let (i, j) = open[depth];
        if j - i < 2 {
            continue;
        }
        let k = apex[i][j];
        triangles.push([polygon[i], polygon[k], polygon[j]]);
        open[depth] = (i, k);
        open[depth + 1] = (k, j);
        depth += 2;
    }
    true
}

/// The strip of triangles between two loops that bound a tube, with the shortest sides. Returns
/// false, and adds nothing, where none avoids the faces.
pub fn strip(a: &[u8], b: &[u8], points: &[[f64; 3]], triangles: &mut Vec<[u8; 3]>) -> bool {
    let mut best: Option<(f64, Strip)> = None;
    for start_a in 0..a.len() {
        for start_b in 0..b.len() {
            let candidate = Strip { start: [start_a, start_b], steps: 0 };
            let found = candidate.shortest(a, b, points);
            if let Some((cost, strip)) = found
                && best.as_ref().is_none_or(|(least, _)| cost < *least)
            {
                best = Some((cost, strip));
            }
        }
    }
    best.inspect(|(_, strip)| strip.emit(a, b, triangles)).is_some()
}

/// A walk around two loops, forwards along `a`, backwards along `b`, from one side back to it.
/// The first step is along `a`, the last along `b`; every closed strip has such a place.
struct Strip {
    start: [usize; 2],
    /// Bit `s` is set where step `s` is along `b`.
    steps: u32,
}

impl Strip {
    fn side(&self, a: &[u8], b: &[u8], i: usize, j: usize) -> (u8, u8) {
        let backwards = (self.start[1] + b.len() - j % b.len()) % b.len();
        (a[(self.start[0] + i) % a.len()], b[backwards])
    }

    fn shortest(mut self, a: &[u8], b: &[u8], points: &[[f64; 3]]) -> Option<(f64, Strip)> {
        let (n, m) = (a.len(), b.len());
        let mut cost = [[f64::INFINITY; MAX_EDGES]; MAX_EDGES];
        let mut along_b = [[false; MAX_EDGES]; MAX_EDGES];
        for i in 0..=n {
            for j in 0..=m {
                // (n, 0) is the first side again; (0, j) and (i, m) break the rule of the steps.
                let barred = (i, j) == (n, 0) || (i == 0 && j > 0) || (j == m && i < n);
                if barred {
                    continue;
                }
                let (p, q) = self.side(a, b, i, j);
                let from_a = if i > 0 && (i, j) != (n, m) { cost[i - 1][j] } else { f64::INFINITY };
                let from_b = if j > 0 { cost[i][j - 1] } else { f64::INFINITY };
                let before = if (i, j) == (0, 0) { 0.0 } else { from_a.min(from_b) };
                cost[i][j] = before + side_cost(p, q, points);
                along_b[i][j] = from_b < from_a;
            }
        }
        let total = cost[n][m];
        let (mut i, mut j) = (n, m);
        while total.is_finite() && (i, j) != (0, 0) {
            if along_b[i][j] {
                j -= 1;
                self.steps |= 1 << (i + j);
            } else {
                i -= 1;
            }
        }
        total.is_finite().then_some((total, self))
    }

    fn emit(&self, a: &[u8], b: &[u8], triangles: &mut Vec<[u8; 3]>) {
        let (mut i, mut j) = (0, 0);
        for step in 0..a.len() + b.len() {
            let (p, q) = self.side(a, b, i, j);
            if self.steps >> step & 1 == 1 {
                j += 1;
                triangles.push([p, self.side(a, b, i, j).1, q]);
            } else {
                i += 1;
                triangles.push([p, self.side(a, b, i, j).0, q]);
            }
        }
    }
}
