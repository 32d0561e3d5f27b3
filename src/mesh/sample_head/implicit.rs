//! Building blocks of the sculpture: signed distances (negative inside) and their smooth blends.
//!
//! The formulas are those of I. Quilez, "3D SDFs" and "smooth minimum" (iquilezles.org/articles).
//! Only sums, products, quotients and square roots, so every machine computes the same bits.

use glam::DVec3;

/// Smooth minimum: exactly `min(a, b)` where they differ by more than `k`, below it by up to `k/4`.
pub fn join(a: f64, b: f64, k: f64) -> f64 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - 0.25 * k * h * h
}

/// What is in both `a` and `b`, the edge rounded over `k`.
pub fn intersect(a: f64, b: f64, k: f64) -> f64 {
    -join(-a, -b, k)
}

/// `a` without `tool`, the edge rounded over `k`.
pub fn carve(a: f64, tool: f64, k: f64) -> f64 {
    -join(-a, tool, k)
}

/// An axis-parallel ellipsoid; first-order exact near its surface.
pub fn ellipsoid(p: DVec3, centre: DVec3, radii: DVec3) -> f64 {
    let q = (p - centre) / radii;
    let (length, slope) = (q.length(), (q / radii).length());
    if slope == 0.0 { -radii.min_element() } else { length * (length - 1.0) / slope }
}

/// The hull of two balls along a segment, without the tangent correction of a true round cone:
/// the radius runs linearly from `from.1` to `to.1`.
pub fn limb(p: DVec3, from: (DVec3, f64), to: (DVec3, f64)) -> f64 {
    let (along, q) = (to.0 - from.0, p - from.0);
    let t = (q.dot(along) / along.length_squared()).clamp(0.0, 1.0);
    (q - along * t).length() - (from.1 + (to.1 - from.1) * t)
}

/// A soft bump: 1 at the centre, 0 with two vanishing derivatives on the ellipsoid `radii`.
pub fn bump(p: DVec3, centre: DVec3, radii: DVec3) -> f64 {
    let h = (1.0 - ((p - centre) / radii).length_squared()).max(0.0);
    h * h * h
}

/// From 0 below `low` to 1 above `high`, smoothly.
pub fn ramp(x: f64, low: f64, high: f64) -> f64 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// `|x|` without the kink at 0: mirrored parts meet smoothly in the midsagittal plane.
pub fn mirrored(x: f64, softness: f64) -> f64 {
    (x * x + softness * softness).sqrt() - softness
}
