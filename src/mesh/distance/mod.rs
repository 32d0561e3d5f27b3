//! Distances to a triangle mesh, and which side of it a point is on.
//!
//! A point is inside where the generalised winding number (Jacobson, Kavan, Sorkine-Hornung,
//! "Robust inside-outside segmentation using generalized winding numbers", SIGGRAPH 2013) is above
//! one half in magnitude. The magnitude makes a mesh that is wholly inside-out as good as one that is
//! not. Repeated faces count once, and pieces of mixed winding are made to agree first
//! (`Topology::orientation`).
//!
//! Where the surface is closed (every edge is run through as often one way as the other, which also
//! holds for pieces that cut into each other) the number is whole and is counted exactly; it is then
//! also the same for all points of a ball that the surface stays out of, which spares most of the
//! counting. Elsewhere it comes from the hierarchy of dipoles.
//!
//! Inside, everything is scaled by a power of two to a box of about one, so that squares neither
//! overflow nor underflow whatever the units. Detail below 1e-18 of the mesh's extent (one vertex
//! at 1e30 beside a head of size 1) is lost; distances stay finite.

mod bvh;
mod cuda;
mod lanes;
mod winding;

use rayon::prelude::*;

use self::bvh::{Bvh, Nearest};
use self::cuda::CardMesh;
use self::winding::Dipoles;
use super::Mesh;
use super::topology::Topology;
use crate::cpu::simd::{self, Vectorised};
use crate::device::Device;
use crate::error::{Error, Result};

pub(crate) use self::winding::Crossing;

/// Points of a task; they follow each other along a Morton curve.
const TASK: usize = 1024;
/// Points that a card has at a time: their queries take 40 bytes each.
const CARD_TASK: usize = 1 << 22;
/// Balls free of surface that a task remembers.
const BALLS: usize = 4;
/// Points farther out than this many extents of the mesh are drawn in to it to find their triangle.
const HORIZON: f64 = 1e6;

/// The point of a mesh nearest to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closest {
    /// Not negative; NaN for a query that is not finite.
    pub distance: f32,
    /// Index of the triangle; one of them where several are equally near.
    pub triangle: u32,
    pub point: [f32; 3],
}

/// A mesh prepared for distance queries. Its answers do not depend on the number of threads.
pub struct MeshDistance {
    /// In the units of the mesh.
    corners: Vec<[[f32; 3]; 3]>,
    weights: Vec<i8>,
    frame: Frame,
    bvh: Bvh,
    winding: Winding,
}

enum Winding {
    Crossings,
    Dipoles(Vec<Dipoles>),
}

/// `(p - centre) * scale`: the frame in which the hierarchy lives.
#[derive(Clone, Copy)]
struct Frame {
    centre: [f64; 3],
    scale: f64,
}

impl MeshDistance {
    /// # Errors
    /// A mesh without triangles, with an index out of range or with a vertex that is not finite.
    pub fn new(mesh: &Mesh) -> Result<Self> {
        Self::with_topology(mesh, &Topology::new(mesh)?)
    }

    /// As `new`, for a caller that has the topology of `mesh` already.
    pub(crate) fn with_topology(mesh: &Mesh, topology: &Topology) -> Result<Self> {
        let Some((low, high)) = mesh.bounds() else {
            return Err(Error::new("mesh", "has no triangles", "give a mesh with at least one triangle"));
        };
        let orientation = topology.orientation(mesh);
        let corners: Vec<[[f32; 3]; 3]> = (0..mesh.triangles.len()).map(|t| mesh.corners(t)).collect();
        let frame = Frame::new(low, high);
        let framed: Vec<[[f32; 3]; 3]> = corners.iter().map(|c| c.map(|p| frame.to(p))).collect();
        let bvh = Bvh::new(&framed, &orientation.weights);
        let winding =
            if orientation.closed { Winding::Crossings } else { Winding::Dipoles(winding::dipoles(&bvh)) };
        Ok(Self { corners, weights: orientation.weights, frame, bvh, winding })
    }

    /// Whether the winding number is a whole number everywhere off the surface.
    pub fn is_closed(&self) -> bool {
        matches!(self.winding, Winding::Crossings)
    }

    /// The nearest point of the surface.
    pub fn closest(&self, p: [f32; 3]) -> Closest {
        self.closest_of(&[p])[0]
    }

    /// The nearest points of the surface to `points`, in their order.
    pub fn closest_of(&self, points: &[[f32; 3]]) -> Vec<Closest> {
        self.in_order(points, |points| simd::dispatch(ClosestTask { mesh: self, points }))
    }

    /// Distances to the surface, not negative, in the units of the mesh.
    pub fn distances(&self, points: &[[f32; 3]]) -> Vec<f32> {
        self.in_order(points, |points| {
            let closest = simd::dispatch(ClosestTask { mesh: self, points });
            closest.into_iter().map(|closest| closest.distance).collect()
        })
    }

    /// Distances to the surface, negative inside, in the units of the mesh.
    pub fn signed_distances(&self, points: &[[f32; 3]]) -> Vec<f32> {
        self.in_order(points, |points| {
            let closest = simd::dispatch(ClosestTask { mesh: self, points });
            let inside = simd::dispatch(InsideTask { mesh: self, points, closest: Some(&closest) });
            let sign = |inside: bool| if inside { -1.0 } else { 1.0 };
            closest.iter().zip(inside).map(|(closest, inside)| closest.distance * sign(inside)).collect()
        })
    }

    /// [`MeshDistance::signed_distances`] on a device. A card takes another of several triangles that are equally
    /// near within the rounding of f32, which moves a distance by some 1e-6 of it at most.
    ///
    /// # Errors
    /// Those of the device.
    pub fn signed_distances_on(&self, device: &Device, points: &[[f32; 3]]) -> Result<Vec<f32>> {
        let Device::Cuda(queue) = device else { return Ok(self.signed_distances(points)) };
        let card = CardMesh::new(queue, self)?;
        self.in_order_on_card(points, |points| card.signed_distances(points))
    }

    /// [`MeshDistance::closest_of`] on a device, as [`MeshDistance::signed_distances_on`].
    ///
    /// # Errors
    /// Those of the device.
    pub fn closest_of_on(&self, device: &Device, points: &[[f32; 3]]) -> Result<Vec<Closest>> {
        let Device::Cuda(queue) = device else { return Ok(self.closest_of(points)) };
        let card = CardMesh::new(queue, self)?;
        self.in_order_on_card(points, |points| card.closest_of(points))
    }

    /// [`MeshDistance::inside`] on a device, with the same answers.
    ///
    /// # Errors
    /// Those of the device.
    pub fn inside_on(&self, device: &Device, points: &[[f32; 3]]) -> Result<Vec<bool>> {
        let Device::Cuda(queue) = device else { return Ok(self.inside(points)) };
        let card = CardMesh::new(queue, self)?;
        self.in_order_on_card(points, |points| card.inside(points))
    }

    /// Which of the points are inside. On the surface itself either answer can come.
    pub fn inside(&self, points: &[[f32; 3]]) -> Vec<bool> {
        self.in_order(points, |points| simd::dispatch(InsideTask { mesh: self, points, closest: None }))
    }

    /// The generalised winding number: 1 inside a closed surface with outward normals, 0 outside;
    /// exact for a closed mesh, to about 0.01 for an open one.
    pub fn winding_number(&self, p: [f32; 3]) -> f32 {
        simd::dispatch(WindingTask { mesh: self, p })
    }

    /// The corners of a triangle, as the mesh has them.
    pub(crate) fn corners(&self, triangle: u32) -> &[[f32; 3]; 3] {
        &self.corners[triangle as usize]
    }

    /// The corners of each triangle, and its part (1, -1 or 0) in the winding number.
    pub(crate) fn oriented(&self) -> impl Iterator<Item = (&[[f32; 3]; 3], i8)> {
        self.corners.iter().zip(self.weights.iter().copied())
    }

    #[inline(always)]
    fn winding_at(&self, p: [f32; 3], stack: &mut winding::Stack) -> f32 {
        match &self.winding {
            Winding::Crossings => winding::by_crossings(&self.bvh, p, stack) as f32,
            Winding::Dipoles(dipoles) => winding::by_dipoles(&self.bvh, dipoles, p, stack),
        }
    }

    /// The points along a Morton curve.
    fn order(&self, points: &[[f32; 3]]) -> Vec<u32> {
        let mut order: Vec<(u32, u32)> =
            points.par_iter().enumerate().map(|(i, p)| (self.frame.morton(*p), i as u32)).collect();
        order.par_sort_unstable();
        order.into_iter().map(|(_, index)| index).collect()
    }

    /// Runs `task` on stretches of the points along a Morton curve, and puts the results back in
    /// order.
    fn in_order<T: Copy + Default + Send>(
        &self,
        points: &[[f32; 3]],
        task: impl Fn(&[[f32; 3]]) -> Vec<T> + Sync,
    ) -> Vec<T> {
        if points.len() == 1 {
            return task(points);
        }
        let order = self.order(points);
        let found: Vec<Vec<T>> = order
            .par_chunks(TASK)
            .map(|stretch| {
                let points: Vec<[f32; 3]> = stretch.iter().map(|&i| points[i as usize]).collect();
                task(&points)
            })
            .collect();
        let mut out = vec![T::default(); points.len()];
        for (index, value) in order.into_iter().zip(found.into_iter().flatten()) {
            out[index as usize] = value;
        }
        out
    }
}

impl MeshDistance {
    /// As `in_order`, a stretch after the other, so that any number of points fits the card.
    fn in_order_on_card<T: Copy + Default>(
        &self,
        points: &[[f32; 3]],
        task: impl Fn(&[[f32; 3]]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let order = self.order(points);
        let mut out = vec![T::default(); points.len()];
        for stretch in order.chunks(CARD_TASK) {
            let points: Vec<[f32; 3]> = stretch.iter().map(|&index| points[index as usize]).collect();
            for (&index, value) in stretch.iter().zip(task(&points)?) {
                out[index as usize] = value;
            }
        }
        Ok(out)
    }
}

impl Default for Closest {
    fn default() -> Self {
        Self { distance: f32::NAN, triangle: 0, point: [f32::NAN; 3] }
    }
}

struct ClosestTask<'a> {
    mesh: &'a MeshDistance,
    points: &'a [[f32; 3]],
}

impl Vectorised for ClosestTask<'_> {
    type Output = Vec<Closest>;

    #[inline(always)]
    fn run(self) -> Vec<Closest> {
        let Self { mesh, points } = self;
        let mut stack = bvh::Stack::default();
        let mut last: Option<(u32, [f32; 3])> = None;
        let mut out = Vec::with_capacity(points.len());
        for &point in points {
            if !point.iter().all(|c| c.is_finite()) {
                out.push(Closest::default());
                continue;
            }
            let p = mesh.frame.to(point);
            // The last point's nearest point is on the surface, so no farther than the nearest.
            let start = match last {
                None => Nearest { distance: f32::INFINITY, triangle: 0 },
                Some((triangle, q)) => {
                    let d = [p[0] - q[0], p[1] - q[1], p[2] - q[2]];
                    // Widened, so that what it stands for is found again or bettered.
                    let distance = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) * (1.0 + 1e-5);
                    Nearest { distance, triangle }
                }
            };
            let nearest = mesh.bvh.nearest(p, start, &mut stack);
            let closest = refined(point, &mesh.corners[nearest.triangle as usize], nearest.triangle);
            last = Some((nearest.triangle, mesh.frame.to(closest.point)));
            out.push(closest);
        }
        out
    }
}

struct InsideTask<'a> {
    mesh: &'a MeshDistance,
    points: &'a [[f32; 3]],
    closest: Option<&'a [Closest]>,
}

impl Vectorised for InsideTask<'_> {
    type Output = Vec<bool>;

    #[inline(always)]
    fn run(self) -> Vec<bool> {
        let Self { mesh, points, closest } = self;
        let mut stack = winding::Stack::default();
        let mut balls =
            Balls { all: [Ball { centre: [f32::NAN; 3], radius: 0.0, inside: false }; BALLS], next: 0 };
        let mut out = Vec::with_capacity(points.len());
        for (index, &point) in points.iter().enumerate() {
            let radius = closest.map_or(0.0, |closest| closest[index].distance);
            let use_balls = mesh.is_closed() && closest.is_some();
            let known = if use_balls { balls.inside(point, radius) } else { None };
            // Not by a closure, which is not inlined and so not compiled for wide vectors.
            let inside = match known {
                Some(inside) => inside,
                None => mesh.winding_at(mesh.frame.to(point), &mut stack).abs() > 0.5,
            };
            if use_balls && known.is_none_or(|_| balls.is_worth(radius)) {
                balls.keep(Ball { centre: point, radius, inside });
            }
            out.push(inside);
        }
        out
    }
}

struct WindingTask<'a> {
    mesh: &'a MeshDistance,
    p: [f32; 3],
}

impl Vectorised for WindingTask<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        self.mesh.winding_at(self.mesh.frame.to(self.p), &mut winding::Stack::default())
    }
}

/// A ball that no surface enters, in the units of the mesh.
#[derive(Clone, Copy)]
struct Ball {
    centre: [f32; 3],
    radius: f32,
    inside: bool,
}

/// The balls of a few points before.
struct Balls {
    all: [Ball; BALLS],
    next: usize,
}

impl Balls {
    /// Where two free balls overlap, no surface lies between their centres.
    #[inline(always)]
    fn inside(&self, point: [f32; 3], radius: f32) -> Option<bool> {
        self.all.iter().find_map(|ball| {
            let d: [f64; 3] = std::array::from_fn(|i| f64::from(point[i]) - f64::from(ball.centre[i]));
            // Less by far more than the rounding of the two radii.
            let reach = (f64::from(ball.radius) + f64::from(radius)) * (1.0 - 1e-5);
            (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] < reach * reach).then_some(ball.inside)
        })
    }

    fn is_worth(&self, radius: f32) -> bool {
        radius > self.all[self.next].radius
    }

    fn keep(&mut self, ball: Ball) {
        self.all[self.next] = ball;
        self.next = (self.next + 1) % BALLS;
    }
}

impl Frame {
    /// A box around the origin is only scaled, by a power of two, which changes no digit.
    fn new(low: [f32; 3], high: [f32; 3]) -> Self {
        let (low, high) = (low.map(f64::from), high.map(f64::from));
        let extent = (0..3).map(|axis| high[axis] - low[axis]).fold(0.0, f64::max);
        let middle: [f64; 3] = std::array::from_fn(|axis| 0.5 * (low[axis] + high[axis]));
        let centre = if middle.iter().all(|c| c.abs() <= extent) { [0.0; 3] } else { middle };
        let scale = if extent > 0.0 { (-extent.log2().ceil()).exp2() } else { 1.0 };
        Self { centre, scale }
    }

    #[inline(always)]
    fn to(&self, p: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|axis| {
            let c = (f64::from(p[axis]) - self.centre[axis]) * self.scale;
            c.clamp(-HORIZON, HORIZON) as f32
        })
    }

    /// Ten bits an axis over twice the box; what lies beyond is drawn in.
    fn morton(&self, p: [f32; 3]) -> u32 {
        let p = self.to(p);
        (0..3).fold(0, |code, axis| {
            let t = ((p[axis] + 2.0) * 256.0).clamp(0.0, 1023.0) as u32;
            code | spread(t) << axis
        })
    }
}

/// Two zero bits between any two of the lower ten.
fn spread(x: u32) -> u32 {
    let x = (x | x << 16) & 0x0300_00ff;
    let x = (x | x << 8) & 0x0300_f00f;
    let x = (x | x << 4) & 0x030c_30c3;
    (x | x << 2) & 0x0924_9249
}

/// The nearest point of one triangle, in f64 and in the units of the mesh: the distance is then as
/// exact as its type.
#[inline(always)]
fn refined(p: [f32; 3], corners: &[[f32; 3]; 3], triangle: u32) -> Closest {
    let [a, b, c] = corners.map(|corner| glam::DVec3::from_array(corner.map(f64::from)));
    let p = glam::DVec3::from_array(p.map(f64::from));
    let on_edge = |from: glam::DVec3, to: glam::DVec3| {
        let edge = to - from;
        let length2 = edge.length_squared();
        let t = if length2 > 0.0 { ((p - from).dot(edge) / length2).clamp(0.0, 1.0) } else { 0.0 };
        from + edge * t
    };
    let mut best = on_edge(a, b);
    for other in [on_edge(b, c), on_edge(c, a)] {
        if other.distance_squared(p) < best.distance_squared(p) {
            best = other;
        }
    }
    let (ab, ac) = (b - a, c - a);
    let normal = ab.cross(ac);
    let n2 = normal.length_squared();
    if n2 > 0.0 {
        // Barycentric coordinates by cross products with the normal, which keep slivers exact.
        let s = (p - a).cross(ac).dot(normal) / n2;
        let t = ab.cross(p - a).dot(normal) / n2;
        let foot = a + ab * s + ac * t;
        if s >= 0.0 && t >= 0.0 && s + t <= 1.0 && foot.distance_squared(p) < best.distance_squared(p) {
            best = foot;
        }
    }
    let point = best.to_array().map(|c| c as f32);
    Closest { distance: best.distance(p) as f32, triangle, point }
}

#[cfg(test)]
pub(crate) mod tests;
