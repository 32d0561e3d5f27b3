//! The geometry of a card against that of the CPU, on a built-in head.

use super::{Outcome, relative_error, within};
use crate::device::Device;
use crate::error::Result;
use crate::hexplane::field::{self, surface_on};
use crate::hexplane::rasterize::{Normals, rasterize_on};
use crate::hexplane::{Planes, Representation};
use crate::mesh::distance::MeshDistance;
use crate::mesh::normalise::{Up, normalise};
use crate::mesh::sample_head::head;
use crate::mesh::{Mesh, Similarity};
use crate::rng::Rng;

/// What is checked, by name.
pub const GEOMETRY: [&str; 3] = ["rasterize", "surface", "distance"];

/// Small enough for the software driver; no block of a kernel is full at the end.
const TRIANGLES: usize = 600;
const SIZE: usize = 61;
const GRID: usize = 33;
const POINTS: usize = 512;

/// Two triangles that are equally near within the rounding of f32 may be taken for each other; their distances differ
/// by some roundings of 2^-24.
const DISTANCE_TOLERANCE: f64 = 1e-6;

/// Rasteriser, surface and distances on `device`, as far as their names in [`GEOMETRY`] are `wanted`. The device must make
/// the planes and the surface of the CPU to the last bit, and the same bits twice. Nothing to check on the CPU itself.
///
/// # Errors
/// Those of the device.
pub fn check_geometry(device: &Device, wanted: impl Fn(&str) -> bool) -> Result<Vec<Outcome>> {
    if matches!(device, Device::Cpu | Device::CpuBf16) {
        return Ok(Vec::new());
    }
    let [rasteriser, surface, distance] = GEOMETRY;
    let (mesh, transform) = normalise(&head(0, TRIANGLES), Up::default())?;
    let mut outcomes = Vec::new();
    for representation in [Representation::Continuous, Representation::Binary] {
        let case = format!("{representation:?}").to_lowercase();
        if wanted(rasteriser) {
            let draw = |device: &Device| Ok(planes(device, &mesh, &transform, representation)?.values);
            outcomes.push(compare(rasteriser, format!("{case}, {SIZE} pixels"), 0.0, device, draw)?);
        }
        if wanted(surface) {
            let planes = planes(&Device::Cpu, &mesh, &transform, representation)?;
            let settings = field::Settings::default();
            let make = |device: &Device| Ok(corners(&surface_on(device, &planes, &settings, GRID, 0.5)?));
            outcomes.push(compare(surface, format!("{case}, grid {GRID}"), 0.0, device, make)?);
        }
    }
    if wanted(rasteriser) {
        let (mesh, kind) = (tetrahedron(), Representation::Continuous);
        let draw = |device: &Device| Ok(planes(device, &mesh, &Similarity::default(), kind)?.values);
        outcomes.push(compare(rasteriser, "large triangles, inside out".to_string(), 0.0, device, draw)?);
    }
    let mut open = mesh.clone();
    open.triangles.truncate(TRIANGLES / 2);
    let mut rng = Rng::named(0, "check/distance");
    let points: Vec<[f32; 3]> = (0..POINTS).map(|_| [0; 3].map(|_| rng.range(-1.0, 1.0))).collect();
    for (mesh, case) in [(&mesh, "head"), (&open, "open")].into_iter().filter(|_| wanted(distance)) {
        let structure = MeshDistance::new(mesh)?;
        let distances = |device: &Device| structure.signed_distances_on(device, &points);
        outcomes.push(compare(distance, case.to_string(), DISTANCE_TOLERANCE, device, distances)?);
    }
    Ok(outcomes)
}

/// Four large triangles wound inwards; their edges run through centres of pixels.
fn tetrahedron() -> Mesh {
    let positions = vec![[0.9, 0.9, 0.9], [0.9, -0.9, -0.9], [-0.9, 0.9, -0.9], [-0.9, -0.9, 0.9]];
    let triangles = vec![[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]];
    Mesh { positions, normals: None, triangles }
}

fn planes(
    device: &Device,
    mesh: &Mesh,
    transform: &Similarity,
    representation: Representation,
) -> Result<Planes> {
    rasterize_on(device, mesh, transform, SIZE, representation, Normals::Interpolated)
}

/// The corners of all triangles, in an order that does not depend on that of vertices and triangles.
fn corners(mesh: &Mesh) -> Vec<f32> {
    let from_least = |triangle: usize| {
        let mut corners = mesh.corners(triangle).map(|p| p.map(f32::to_bits));
        let least = (0..3).min_by_key(|&k| corners[k]).unwrap_or(0);
        corners.rotate_left(least);
        corners
    };
    let mut triangles: Vec<[[u32; 3]; 3]> = (0..mesh.triangles.len()).map(from_least).collect();
    triangles.sort_unstable();
    triangles.into_iter().flatten().flatten().map(f32::from_bits).collect()
}

pub(super) fn compare(
    op: &'static str,
    case: String,
    tolerance: f64,
    device: &Device,
    make: impl Fn(&Device) -> Result<Vec<f32>>,
) -> Result<Outcome> {
    let (expected, ours, again) = (make(&Device::Cpu)?, make(device)?, make(device)?);
    let mut failures = Vec::new();
    let mut forward_error = f64::NAN;
    if ours.len() == expected.len() {
        let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
        forward_error = relative_error(&ours, &expected);
    } else {
        failures.push(format!("{} values, the CPU has {}", ours.len(), expected.len()));
    }
    if !within(forward_error, tolerance) {
        failures.push("not the values of the CPU".to_string());
    }
    if ours != again {
        failures.push("another run, other bits".to_string());
    }
    Ok(Outcome { op, case, forward_error, gradient_error: 0.0, tolerance, failures })
}
