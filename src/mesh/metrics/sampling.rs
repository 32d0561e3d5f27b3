//! Area-uniform samples of a surface, and points near it.

use glam::DVec3;
use rayon::prelude::*;

use crate::mesh::{Mesh, topology};
use crate::rng::Rng;

/// Points on a surface with the unit normals of the triangles they lie on.
pub struct Samples {
    pub points: Vec<[f32; 3]>,
    /// Zero on a triangle without area.
    pub normals: Vec<DVec3>,
}

impl Samples {
    /// `count` points, area-uniform and stratified: the surface is cut into `count` stretches of equal area,
    /// in the order of the triangles, and one point is drawn in each, which has less variance
    /// than independent draws. A mesh without any area counts its triangles as equal.
    pub fn new(mesh: &Mesh, count: usize, seed: u64, stream: &str) -> Self {
        let mut ends: Vec<f64> = (0..mesh.triangles.len()).map(|t| topology::area(mesh.corners(t))).collect();
        if ends.iter().all(|area| *area == 0.0) {
            ends.fill(1.0);
        }
        let mut total = 0.0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let stream = Rng::named(seed, stream);
        let draw = |index: usize| {
            let mut rng = stream.clone();
            rng.seek(4 * index as u64);
            let target = (index as f64 + f64::from(rng.uniform())) / count as f64 * total;
            let last = ends.partition_point(|end| *end < total);
            // Never a triangle without area: the first whose end lies beyond the target.
            let triangle = ends.partition_point(|end| *end <= target).min(last);
            let (r, t) = (f64::from(rng.uniform()).sqrt(), f64::from(rng.uniform()));
            let corners = mesh.corners(triangle);
            let [a, b, c] = corners.map(|p| DVec3::from_array(p.map(f64::from)));
            let point = a * (1.0 - r) + (b * (1.0 - t) + c * t) * r;
            (point.to_array().map(|x| x as f32), normal(&corners))
        };
        let (points, normals) = (0..count).into_par_iter().map(draw).unzip();
        Self { points, normals }
    }
}

/// Each point moved by a normal deviate of standard deviation `sigma` on each axis.
pub fn near(points: &[[f32; 3]], sigma: f32, seed: u64) -> Vec<[f32; 3]> {
    let stream = Rng::named(seed, "near surface");
    let moved = |(index, point): (usize, &[f32; 3])| {
        let mut rng = stream.clone();
        rng.seek(12 * index as u64);
        point.map(|x| x + sigma * rng.normal())
    };
    points.par_iter().enumerate().map(moved).collect()
}

/// Unit normal of a triangle, zero without area.
pub fn normal(corners: &[[f32; 3]; 3]) -> DVec3 {
    let [a, b, c] = corners.map(|p| DVec3::from_array(p.map(f64::from)));
    (b - a).cross(c - a).normalize_or_zero()
}
