//! Eight boxes or eight triangles at once, component by component, in loops that compile to vector
//! instructions.

/// Boxes of a node and triangles of a leaf.
pub const WIDTH: usize = 8;

pub type Lanes = [f32; WIDTH];

/// `[axis][lane]`.
pub type Lanes3 = [Lanes; 3];

/// The smaller number; the second where one is NaN. One instruction, unlike `f32::min`.
#[inline(always)]
pub fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[inline(always)]
fn cross(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[inline(always)]
fn minus(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

#[inline(always)]
fn at(all: &Lanes3, lane: usize) -> [f32; 3] {
    [all[0][lane], all[1][lane], all[2][lane]]
}

/// Squared distances from `p` to eight boxes; infinite for an empty one (low = +inf, high = -inf).
#[inline(always)]
pub fn to_boxes(p: [f32; 3], low: &Lanes3, high: &Lanes3) -> Lanes {
    let mut out = [0.0; WIDTH];
    for (lane, out) in out.iter_mut().enumerate() {
        let mut sum = 0.0;
        for axis in 0..3 {
            let outside = larger(larger(low[axis][lane] - p[axis], p[axis] - high[axis][lane]), 0.0);
            sum += outside * outside;
        }
        *out = sum;
    }
    out
}

/// Squared distances from `p` to eight triangles: the least of the distances to the three edges
/// and, where the foot of the perpendicular lies in the triangle, to the plane. Each of the four
/// is the distance to a point of the triangle, so that rounding in slivers, and triangles without
/// an area or a length, cannot give less than the truth by more than rounding.
#[inline(always)]
pub fn to_triangles(p: [f32; 3], corners: &[Lanes3; 3]) -> Lanes {
    let mut out = [0.0; WIDTH];
    for (lane, out) in out.iter_mut().enumerate() {
        let a = at(&corners[0], lane);
        let (ab, ac) = (minus(at(&corners[1], lane), a), minus(at(&corners[2], lane), a));
        let (ap, bc) = (minus(p, a), minus(ac, ab));
        let bp = minus(ap, ab);
        let (along_ab, along_ac) = (dot(ab, ap), dot(ac, ap));
        let (ab2, ac2) = (dot(ab, ab), dot(ac, ac));

        let to_edge = |from: [f32; 3], edge: [f32; 3], along: f32, length2: f32| {
            let t = smaller(larger(along / larger(length2, f32::MIN_POSITIVE), 0.0), 1.0);
            let d = minus(from, [edge[0] * t, edge[1] * t, edge[2] * t]);
            dot(d, d)
        };
        let edges = smaller(
            to_edge(ap, ab, along_ab, ab2),
            smaller(to_edge(ap, ac, along_ac, ac2), to_edge(bp, bc, dot(bc, bp), dot(bc, bc))),
        );

        // Barycentric coordinates by cross products: from dot products their rounding grows with the
        // square of a needle's aspect, which moves the foot by as much as 0.3 % of its length.
        let normal = cross(ab, ac);
        let (v, w) = (dot(cross(ap, ac), normal), dot(cross(ab, ap), normal));
        let det = dot(normal, normal);
        let scale = 1.0 / larger(det, f32::MIN_POSITIVE);
        let (s, t) = (v * scale, w * scale);
        let d = [ap[0] - ab[0] * s - ac[0] * t, ap[1] - ab[1] * s - ac[1] * t, ap[2] - ab[2] * s - ac[2] * t];
        let plane = dot(d, d);
        // Bitwise and: no branches. The last one refuses a plane that rounding made up.
        let inside = (v >= 0.0) & (w >= 0.0) & (s + t <= 1.0) & (det > f32::MIN_POSITIVE);
        *out = if inside { smaller(plane, edges) } else { edges };
    }
    out
}

/// Solid angles of eight triangles seen from `p`, positive from behind, times `weight` (Van
/// Oosterom & Strackee, "The solid angle of a plane triangle", 1983). Summed in lane order.
#[inline(always)]
pub fn solid_angles(p: [f32; 3], corners: &[Lanes3; 3], weight: &Lanes) -> f32 {
    let mut out = [0.0; WIDTH];
    for (lane, out) in out.iter_mut().enumerate() {
        let [a, b, c] = [0, 1, 2].map(|corner| minus(at(&corners[corner], lane), p));
        let [la, lb, lc] = [dot(a, a).sqrt(), dot(b, b).sqrt(), dot(c, c).sqrt()];
        let (ab, ac) = (minus(b, a), minus(c, a));
        // a . (b x c), by differences: far from the triangle the plain product cancels.
        let normal =
            [ab[1] * ac[2] - ab[2] * ac[1], ab[2] * ac[0] - ab[0] * ac[2], ab[0] * ac[1] - ab[1] * ac[0]];
        let numerator = dot(a, normal);
        let denominator = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb;
        *out = 2.0 * weight[lane] * atan2(numerator, denominator);
    }
    out.iter().sum()
}

/// `atan2` without branches, within 1e-6; 0 at the origin. The arctangent on [0, 1] is Abramowitz
/// & Stegun 4.4.49 (error below 2e-8).
#[inline(always)]
fn atan2(y: f32, x: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let (low, high) = (smaller(ax, ay), larger(ax, ay));
    let t = low / larger(high, f32::MIN_POSITIVE);
    let s = t * t;
    let mut sum = 0.002_866_225_7;
    for c in [
        -0.016_165_737,
        0.042_909_615,
        -0.075_289_64,
        0.106_562_64,
        -0.142_089,
        0.199_935_51,
        -0.333_331_45,
        1.0,
    ] {
        sum = sum * s + c;
    }
    let first = t * sum;
    let octant = if ay > ax { std::f32::consts::FRAC_PI_2 - first } else { first };
    let half = if x < 0.0 { std::f32::consts::PI - octant } else { octant };
    if y < 0.0 { -half } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atan2_agrees_with_the_library() {
        for i in 0..2000 {
            let angle = f64::from(i) * 0.00314 - std::f64::consts::PI;
            for r in [1e-12, 1.0, 1e9] {
                let (y, x) = ((r * angle.sin()) as f32, (r * angle.cos()) as f32);
                let expected = f64::from(y).atan2(f64::from(x));
                assert!((f64::from(atan2(y, x)) - expected).abs() < 1e-6, "{y} {x}");
            }
        }
        assert_eq!(atan2(0.0, 0.0), 0.0);
    }
}
