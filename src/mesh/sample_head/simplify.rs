//! Edge collapse under quadric error metrics (Garland and Heckbert, "Surface simplification using
//! quadric error metrics", SIGGRAPH 1997): few triangles where the head is flat, many where it is not.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use glam::{DMat3, DVec3};

/// Weight of the vertex itself beside the planes of its triangles: makes the best position unique
/// on flat parts and keeps the triangles there even.
const POINT_WEIGHT: f64 = 4e-4;

/// Smallest cosine that a collapse may leave between a triangle's normal before and after.
const TURN_LIMIT: f64 = 0.35;

/// A triangle's height over its longest side below which no collapse may bring it further down.
const SLIVER: f64 = 0.1;

/// The weighted sum of squared distances to planes and points: `x.Ax + 2 b.x + c`.
#[derive(Clone, Copy)]
struct Quadric {
    a: DMat3,
    b: DVec3,
    c: f64,
}

impl Quadric {
    const NONE: Self = Self { a: DMat3::ZERO, b: DVec3::ZERO, c: 0.0 };

    fn plane(normal: DVec3, through: DVec3, weight: f64) -> Self {
        let offset = -normal.dot(through);
        let outer = DMat3::from_cols(normal * normal.x, normal * normal.y, normal * normal.z);
        Self { a: outer * weight, b: normal * (weight * offset), c: weight * offset * offset }
    }

    fn point(p: DVec3, weight: f64) -> Self {
        Self { a: DMat3::IDENTITY * weight, b: -p * weight, c: p.length_squared() * weight }
    }

    fn plus(self, other: Self) -> Self {
        Self { a: self.a + other.a, b: self.b + other.b, c: self.c + other.c }
    }

    /// Where the sum is smallest, and how large it is there. The points make `a` positive definite.
    fn best(&self) -> (DVec3, f64) {
        let x = self.a.inverse() * -self.b;
        (x, (self.b.dot(x) + self.c).max(0.0))
    }
}

/// An edge in the queue; stale once either end has changed since.
struct Candidate {
    cost: f64,
    ends: [u32; 2],
    versions: [u32; 2],
}

impl Ord for Candidate {
    /// The cheapest is the greatest; the ends make the order total, so that equal costs cannot
    /// depend on the history of the queue.
    fn cmp(&self, other: &Self) -> Ordering {
        other.cost.total_cmp(&self.cost).then_with(|| other.ends.cmp(&self.ends))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Normal of a triangle, as long as twice its area.
fn doubled_area([p, q, r]: [DVec3; 3]) -> DVec3 {
    (q - p).cross(r - p)
}

/// Height over the longest side.
fn flatness(corners: [DVec3; 3], doubled_area: DVec3) -> f64 {
    let side = |i: usize| corners[i].distance_squared(corners[(i + 1) % 3]);
    doubled_area.length() / side(0).max(side(1)).max(side(2))
}

struct Collapser {
    positions: Vec<DVec3>,
    quadrics: Vec<Quadric>,
    versions: Vec<u32>,
    triangles: Vec<[u32; 3]>,
    alive: Vec<bool>,
    live: usize,
    /// Triangles around each vertex, all alive.
    fans: Vec<Vec<u32>>,
    queue: BinaryHeap<Candidate>,
}

/// Collapses edges of a closed 2-manifold until at most `wanted` triangles are left, or no edge can
/// go without folding the surface. Manifoldness, genus and number of shells stay.
pub fn simplify(
    positions: Vec<DVec3>,
    triangles: Vec<[u32; 3]>,
    wanted: usize,
) -> (Vec<DVec3>, Vec<[u32; 3]>) {
    let mut mesh = Collapser::new(positions, triangles);
    while mesh.live > wanted {
        let Some(candidate) = mesh.queue.pop() else { break };
        let [a, b] = candidate.ends;
        if candidate.versions == [mesh.versions[a as usize], mesh.versions[b as usize]] {
            mesh.collapse(a, b);
        }
    }
    mesh.finish()
}

impl Collapser {
    fn new(positions: Vec<DVec3>, triangles: Vec<[u32; 3]>) -> Self {
        let mut quadrics = vec![Quadric::NONE; positions.len()];
        let mut fans = vec![Vec::new(); positions.len()];
        for (index, triangle) in triangles.iter().enumerate() {
            let corners = triangle.map(|v| positions[v as usize]);
            let doubled = doubled_area(corners);
            let area = 0.5 * doubled.length();
            let plane = Quadric::plane(doubled.normalize_or_zero(), corners[0], area);
            for &v in triangle {
                let point = Quadric::point(positions[v as usize], area * POINT_WEIGHT);
                quadrics[v as usize] = quadrics[v as usize].plus(plane).plus(point);
                fans[v as usize].push(index as u32);
            }
        }
        let mut mesh = Self {
            versions: vec![0; positions.len()],
            alive: vec![true; triangles.len()],
            live: triangles.len(),
            queue: BinaryHeap::new(),
            positions,
            quadrics,
            triangles,
            fans,
        };
        for index in 0..mesh.triangles.len() {
            let [a, b, c] = mesh.triangles[index];
            // A closed mesh has each edge in both directions: once is enough.
            for (from, to) in [(a, b), (b, c), (c, a)] {
                if from < to {
                    mesh.enqueue(from, to);
                }
            }
        }
        mesh
    }

    fn enqueue(&mut self, a: u32, b: u32) {
        let ends = if a < b { [a, b] } else { [b, a] };
        let cost = self.joint(ends[0], ends[1]).best().1;
        self.queue.push(Candidate { cost, ends, versions: ends.map(|v| self.versions[v as usize]) });
    }

    fn joint(&self, a: u32, b: u32) -> Quadric {
        self.quadrics[a as usize].plus(self.quadrics[b as usize])
    }

    /// The vertices around `v`, each once: in a closed fan every one follows `v` in one triangle.
    fn ring(&self, v: u32) -> Vec<u32> {
        let after = |&t: &u32| {
            let corners = self.triangles[t as usize];
            let at = corners.iter().position(|&c| c == v).expect("a fan holds triangles of its vertex");
            corners[(at + 1) % 3]
        };
        self.fans[v as usize].iter().map(after).collect()
    }

    /// Merges `b` into `a` at the best position, unless that would pinch or fold the surface.
    fn collapse(&mut self, a: u32, b: u32) {
        let around_b = self.ring(b);
        let shared = self.ring(a).into_iter().filter(|v| around_b.contains(v)).count();
        // The link condition: only the two triangles at the edge may join the rings (Dey et al. 1999).
        if shared != 2 || self.live <= 4 {
            return;
        }
        let joint = self.joint(a, b);
        let target = joint.best().0;
        if self.folds(a, b, target) || self.folds(b, a, target) {
            return;
        }
        self.positions[a as usize] = target;
        self.quadrics[a as usize] = joint;
        self.versions[a as usize] += 1;
        self.versions[b as usize] += 1;
        for triangle in std::mem::take(&mut self.fans[b as usize]) {
            let corners = self.triangles[triangle as usize];
            if corners.contains(&a) {
                self.alive[triangle as usize] = false;
                self.live -= 1;
                for v in corners.into_iter().filter(|&v| v != b) {
                    self.fans[v as usize].retain(|&t| t != triangle);
                }
            } else {
                self.triangles[triangle as usize] = corners.map(|v| if v == b { a } else { v });
                self.fans[a as usize].push(triangle);
            }
        }
        for neighbour in self.ring(a) {
            self.enqueue(a, neighbour);
        }
    }

    /// Whether a triangle that stays would turn over or become a sliver when `v` moves to `target`.
    fn folds(&self, v: u32, other: u32, target: DVec3) -> bool {
        let at = |corners: [u32; 3]| corners.map(|c| self.positions[c as usize]);
        let fan = &self.fans[v as usize];
        let outward: DVec3 = fan.iter().map(|&t| doubled_area(at(self.triangles[t as usize]))).sum();
        fan.iter().map(|&t| self.triangles[t as usize]).filter(|corners| !corners.contains(&other)).any(
            |corners| {
                let old = at(corners);
                let new: [DVec3; 3] = std::array::from_fn(|i| if corners[i] == v { target } else { old[i] });
                let (before, after) = (doubled_area(old), doubled_area(new));
                // The normal of a sliver says little: its whole fan speaks for it.
                let was = flatness(old, before);
                let reference = if was < SLIVER { outward } else { before };
                flatness(new, after) < SLIVER.min(was)
                    || reference.dot(after) < TURN_LIMIT * reference.length() * after.length()
            },
        )
    }

    /// The living triangles over the vertices that they use, in the old order.
    fn finish(self) -> (Vec<DVec3>, Vec<[u32; 3]>) {
        let mut names = vec![u32::MAX; self.positions.len()];
        let mut positions = Vec::new();
        for (v, fan) in self.fans.iter().enumerate() {
            if !fan.is_empty() {
                names[v] = positions.len() as u32;
                positions.push(self.positions[v]);
            }
        }
        let living = self.triangles.iter().zip(&self.alive).filter(|(_, alive)| **alive);
        (positions, living.map(|(triangle, _)| triangle.map(|v| names[v as usize])).collect())
    }
}
