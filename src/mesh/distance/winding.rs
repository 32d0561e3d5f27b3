//! The generalised winding number: exact by counting crossings where the surface is closed, by the
//! hierarchy of dipoles where it is not.
//!
//! Dipoles: Barill, Dickson, Schmidt, Levin, Jacobson, "Fast winding numbers for soups and clouds",
//! SIGGRAPH 2018: far from a group of triangles their solid angle is that of one dipole, the sum of
//! their area vectors at their area-weighted centre.

use glam::DVec3;

use super::bvh::{Bvh, Kind};
use super::lanes::{self, Lanes, Lanes3, WIDTH};

/// A group is far from beyond this many of its radii (the paper's beta; at 3 the error on heads
/// stays below 0.01 of a turn).
const FAR: f32 = 3.0;

/// One dipole for each of the eight children of a node.
pub struct Dipoles {
    centre: Lanes3,
    /// Sum of area vectors.
    moment: Lanes3,
    /// Squared distance beyond which the dipole stands for the group; infinite where it has none.
    far: Lanes,
}

/// The dipoles of all nodes, in their order.
pub fn dipoles(bvh: &Bvh) -> Vec<Dipoles> {
    // Leaves below a child are consecutive: from its first to the first of what comes after it.
    let mut spans = vec![(0, 0); bvh.nodes.len()];
    for index in (0..bvh.nodes.len()).rev() {
        let node = &bvh.nodes[index];
        let used = (0..WIDTH).filter(|&lane| node.low[0][lane] <= node.high[0][lane]);
        spans[index] = used
            .map(|lane| span(node.child[lane].kind(), &spans))
            .fold((usize::MAX, 0), |all, s| (all.0.min(s.0), all.1.max(s.1)));
    }
    (bvh.nodes.iter())
        .map(|node| {
            let zero = [[0.0; WIDTH]; 3];
            let mut all = Dipoles { centre: zero, moment: zero, far: [0.0; WIDTH] };
            for lane in (0..WIDTH).filter(|&lane| node.low[0][lane] <= node.high[0][lane]) {
                all.set(lane, bvh, span(node.child[lane].kind(), &spans));
            }
            all
        })
        .collect()
}

fn span(child: Kind, spans: &[(usize, usize)]) -> (usize, usize) {
    match child {
        Kind::Node(index) => spans[index],
        Kind::Leaf(index) => (index, index + 1),
    }
}

impl Dipoles {
    /// Centre, moment and far, lane by lane.
    pub fn lanes(&self) -> impl Iterator<Item = &Lanes> {
        self.centre.iter().chain(&self.moment).chain([&self.far])
    }

    fn set(&mut self, lane: usize, bvh: &Bvh, (first, end): (usize, usize)) {
        let triangles = || {
            bvh.leaves[first..end].iter().flat_map(|leaf| {
                (0..WIDTH).filter(|&lane| leaf.weight[lane] != 0.0).map(|lane| {
                    let corners = leaf.corners_of(lane).map(|p| DVec3::from_array(p.map(f64::from)));
                    (corners, f64::from(leaf.weight[lane]))
                })
            })
        };
        let (mut moment, mut weighted, mut total) = (DVec3::ZERO, DVec3::ZERO, 0.0);
        for ([a, b, c], weight) in triangles() {
            let area = 0.5 * (b - a).cross(c - a);
            moment += weight * area;
            weighted += area.length() * (a + b + c) / 3.0;
            total += area.length();
        }
        if total == 0.0 {
            return;
        }
        let centre = weighted / total;
        let radius2 = triangles()
            .flat_map(|(corners, _)| corners)
            .map(|corner| corner.distance_squared(centre))
            .fold(0.0, f64::max);
        for axis in 0..3 {
            self.centre[axis][lane] = centre[axis] as f32;
            self.moment[axis][lane] = moment[axis] as f32;
        }
        self.far[lane] = FAR * FAR * radius2 as f32;
    }
}

/// Indices of nodes and leaves still to look at.
#[derive(Default)]
pub struct Stack(Vec<usize>);

/// The winding number at `p` by dipoles, and by solid angles near the surface.
#[inline(always)]
pub fn by_dipoles(bvh: &Bvh, dipoles: &[Dipoles], p: [f32; 3], stack: &mut Stack) -> f32 {
    let stack = &mut stack.0;
    stack.clear();
    stack.push(0);
    let mut solid_angle = 0.0;
    while let Some(index) = stack.pop() {
        let all = &dipoles[index];
        let (mut part, mut near) = ([0.0; WIDTH], [false; WIDTH]);
        for lane in 0..WIDTH {
            let d = [all.centre[0][lane] - p[0], all.centre[1][lane] - p[1], all.centre[2][lane] - p[2]];
            let d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            let dot = d[0] * all.moment[0][lane] + d[1] * all.moment[1][lane] + d[2] * all.moment[2][lane];
            let value = dot / (lanes::larger(d2, f32::MIN_POSITIVE) * d2.sqrt());
            near[lane] = d2 < all.far[lane];
            part[lane] = if d2 > all.far[lane] { value } else { 0.0 };
        }
        solid_angle += part.iter().sum::<f32>();
        for lane in (0..WIDTH).filter(|&lane| near[lane]) {
            match bvh.nodes[index].child[lane].kind() {
                Kind::Node(node) => stack.push(node),
                Kind::Leaf(leaf) => {
                    let leaf = &bvh.leaves[leaf];
                    solid_angle += lanes::solid_angles(p, &leaf.corners, &leaf.weight);
                }
            }
        }
    }
    solid_angle * (0.25 * std::f32::consts::FRAC_1_PI)
}

/// The winding number of a closed surface at `p`: crossings of the ray from `p` along z, counted with
/// their direction, through the nearer side of the box.
#[inline(always)]
pub fn by_crossings(bvh: &Bvh, p: [f32; 3], stack: &mut Stack) -> i32 {
    let up = bvh.high[2] - p[2] < p[2] - bvh.low[2];
    let stack = &mut stack.0;
    stack.clear();
    stack.push(0);
    let mut count = 0;
    while let Some(index) = stack.pop() {
        let node = &bvh.nodes[index];
        let mut met = [false; WIDTH];
        for (lane, met) in met.iter_mut().enumerate() {
            let beyond = if up { node.high[2][lane] >= p[2] } else { node.low[2][lane] <= p[2] };
            *met = (node.low[0][lane] <= p[0])
                & (p[0] <= node.high[0][lane])
                & (node.low[1][lane] <= p[1])
                & (p[1] <= node.high[1][lane])
                & beyond;
        }
        for lane in (0..WIDTH).filter(|&lane| met[lane]) {
            match node.child[lane].kind() {
                Kind::Node(node) => stack.push(node),
                Kind::Leaf(leaf) => {
                    let leaf = &bvh.leaves[leaf];
                    for lane in (0..WIDTH).filter(|&lane| leaf.weight[lane] != 0.0) {
                        let corners = leaf.corners_of(lane).map(|c| c.map(f64::from));
                        let crossing = Crossing::new(&corners, f64::from(p[0]), f64::from(p[1]));
                        if let Some(crossing) = crossing
                            && crossing.is_above(f64::from(p[2])) == up
                        {
                            count += crossing.sign * leaf.weight[lane] as i32;
                        }
                    }
                }
            }
        }
    }
    // All crossings of a line sum to zero, so those below count the other way round.
    if up { count } else { -count }
}

/// Where the vertical line through a point of the xy plane crosses a triangle.
pub struct Crossing {
    /// 1 where the triangle is counter-clockwise seen from +z, else -1.
    pub sign: i32,
    corners: [DVec3; 3],
    point: [f64; 2],
}

impl Crossing {
    /// `None` where the line misses. The sign is the winding number of the projected triangle,
    /// summed over its edges by half-open rules: what an edge adds depends on the edge and the point
    /// alone and changes sign with its direction, so that a line never slips between two
    /// triangles, nor meets both, where they share an edge or a vertex.
    #[inline(always)]
    pub fn new(corners: &[[f64; 3]; 3], x: f64, y: f64) -> Option<Self> {
        let [a, b, c] = *corners;
        let sign = edge(a, b, x, y) + edge(b, c, x, y) + edge(c, a, x, y);
        (sign != 0).then(|| Self { sign, corners: corners.map(DVec3::from_array), point: [x, y] })
    }

    /// Whether the crossing lies above `z`.
    #[inline(always)]
    pub fn is_above(&self, z: f64) -> bool {
        let [a, b, c] = self.corners;
        if z >= a.z.max(b.z).max(c.z) {
            return false;
        }
        if z < a.z.min(b.z).min(c.z) {
            return true;
        }
        let normal = (b - a).cross(c - a);
        normal.dot(a - DVec3::new(self.point[0], self.point[1], z)) * f64::from(self.sign) > 0.0
    }

    /// The height of the crossing.
    pub fn z(&self) -> f64 {
        let [a, b, c] = self.corners;
        let (low, high) = (a.z.min(b.z).min(c.z), a.z.max(b.z).max(c.z));
        let normal = (b - a).cross(c - a);
        let rise = normal.x * (a.x - self.point[0]) + normal.y * (a.y - self.point[1]);
        let z = a.z + rise / normal.z;
        // Steep triangles round beyond their own heights; 0 / 0 is such a triangle.
        if z >= low && z <= high {
            z
        } else if z > high {
            high
        } else {
            low
        }
    }
}

#[inline(always)]
fn edge(from: [f64; 3], to: [f64; 3], x: f64, y: f64) -> i32 {
    let upward = to[1] > y;
    if (from[1] > y) == upward {
        return 0;
    }
    let (low, high) = if upward { (from, to) } else { (to, from) };
    let left = (high[0] - low[0]) * (y - low[1]) - (x - low[0]) * (high[1] - low[1]);
    match (left > 0.0, upward) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => -1,
    }
}
