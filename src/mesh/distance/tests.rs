use super::*;
use crate::rng::Rng;
use glam::DVec3;

/// A sphere of radius `r` around `centre`: a subdivided octahedron with its vertices on the sphere.
pub fn sphere(levels: usize, r: f32, centre: [f32; 3]) -> Mesh {
    let axes: [[f32; 3]; 6] =
        [[1., 0., 0.], [-1., 0., 0.], [0., 1., 0.], [0., -1., 0.], [0., 0., 1.], [0., 0., -1.]];
    let mut positions: Vec<DVec3> = axes.iter().map(|p| DVec3::from_array(p.map(f64::from))).collect();
    let mut triangles =
        vec![[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]];
    for _ in 0..levels {
        let mut middles = std::collections::BTreeMap::new();
        let mut next = Vec::new();
        for [a, b, c] in triangles {
            let mut middle = |u: u32, v: u32| {
                *middles.entry((u.min(v), u.max(v))).or_insert_with(|| {
                    positions.push((positions[u as usize] + positions[v as usize]).normalize());
                    positions.len() as u32 - 1
                })
            };
            let (ab, bc, ca) = (middle(a, b), middle(b, c), middle(c, a));
            next.extend([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]);
        }
        triangles = next;
    }
    let place = |p: DVec3| std::array::from_fn(|i| (p[i] * f64::from(r) + f64::from(centre[i])) as f32);
    Mesh { positions: positions.into_iter().map(place).collect(), normals: None, triangles }
}

fn soup(triangles: usize, size: f32, seed: u64) -> Mesh {
    let mut rng = Rng::named(seed, "soup");
    let mut mesh = Mesh::default();
    for t in 0..triangles as u32 {
        let centre = [0; 3].map(|_| rng.range(-0.8, 0.8));
        for _ in 0..3 {
            mesh.positions.push(centre.map(|c| c + rng.range(-size, size)));
        }
        mesh.triangles.push([3 * t, 3 * t + 1, 3 * t + 2]);
    }
    mesh
}

fn points(count: usize, size: f32) -> Vec<[f32; 3]> {
    let mut rng = Rng::named(1, "points");
    (0..count).map(|_| [0; 3].map(|_| rng.range(-size, size))).collect()
}

/// Distance from `p` to a triangle by the regions of the plane (Ericson, Real-Time Collision Detection,
/// 5.1.5), another way than the code's.
fn to_triangle(p: DVec3, [a, b, c]: [DVec3; 3]) -> f64 {
    let (ab, ac, ap) = (b - a, c - a, p - a);
    let (d1, d2) = (ab.dot(ap), ac.dot(ap));
    if d1 <= 0.0 && d2 <= 0.0 {
        return ap.length();
    }
    let bp = p - b;
    let (d3, d4) = (ab.dot(bp), ac.dot(bp));
    if d3 >= 0.0 && d4 <= d3 {
        return bp.length();
    }
    let vc = d1 * d4 - d3 * d2;
    if vc <= 0.0 && d1 >= 0.0 && d3 <= 0.0 {
        return (ap - ab * (d1 / (d1 - d3))).length();
    }
    let cp = p - c;
    let (d5, d6) = (ab.dot(cp), ac.dot(cp));
    if d6 >= 0.0 && d5 <= d6 {
        return cp.length();
    }
    let vb = d5 * d2 - d1 * d6;
    if vb <= 0.0 && d2 >= 0.0 && d6 <= 0.0 {
        return (ap - ac * (d2 / (d2 - d6))).length();
    }
    let va = d3 * d6 - d5 * d4;
    if va <= 0.0 && d4 - d3 >= 0.0 && d5 - d6 >= 0.0 {
        return (bp - (c - b) * ((d4 - d3) / ((d4 - d3) + (d5 - d6)))).length();
    }
    let n = ab.cross(ac);
    (n.dot(ap) / n.length()).abs()
}

fn corners(mesh: &Mesh) -> Vec<[DVec3; 3]> {
    let wide = |p: [f32; 3]| DVec3::from_array(p.map(f64::from));
    (0..mesh.triangles.len()).map(|t| mesh.corners(t).map(wide)).collect()
}

/// Sum of solid angles over 4 pi, by angles between planes rather than by the arctangent of the code:
/// the sum of the dihedral angles less pi (Girard).
fn exact_winding(mesh: &Mesh, p: [f32; 3]) -> f64 {
    let p = DVec3::from_array(p.map(f64::from));
    let solid_angle = |[a, b, c]: [DVec3; 3]| {
        let [a, b, c] = [a - p, b - p, c - p];
        let angle = |at: DVec3, to: DVec3, and: DVec3| at.cross(to).angle_between(at.cross(and));
        (angle(a, b, c) + angle(b, c, a) + angle(c, a, b) - std::f64::consts::PI) * a.dot(b.cross(c)).signum()
    };
    corners(mesh).into_iter().map(solid_angle).sum::<f64>() / (4.0 * std::f64::consts::PI)
}

#[test]
fn distances_agree_with_brute_force() {
    for (mesh, scale) in
        [(sphere(4, 0.7, [0.1, 0.0, 0.0]), 1.0), (soup(300, 0.2, 2), 1.0), (soup(300, 0.2, 2), 37.0)]
    {
        let mesh = mesh.transformed(|p| p.map(|c| c * scale + 5.0 * (scale - 1.0)), |n| n);
        let points: Vec<[f32; 3]> = points(1500, 1.2)
            .iter()
            .map(|p| p.map(|c| c * scale as f32 + 5.0 * (scale as f32 - 1.0)))
            .collect();
        let distance = MeshDistance::new(&mesh).unwrap();
        let triangles = corners(&mesh);
        for (p, found) in points.iter().zip(distance.closest_of(&points)) {
            let p = DVec3::from_array(p.map(f64::from));
            let expected = triangles.iter().map(|t| to_triangle(p, *t)).fold(f64::INFINITY, f64::min);
            // The triangle is found in f32 at the scale of the box (2 here), whose rounding is 1.2e-7.
            let tolerance = 1e-6 * scale;
            assert!((f64::from(found.distance) - expected).abs() < tolerance, "{p} {found:?} {expected}");
            let point = DVec3::from_array(found.point.map(f64::from));
            assert!((point.distance(p) - expected).abs() < 4.0 * tolerance);
            assert!(to_triangle(point, triangles[found.triangle as usize]) < 4.0 * tolerance);
        }
    }
}

/// The cap of a cut neck is such a fan.
#[test]
fn needles_are_measured_like_other_triangles() {
    let rim = 1000;
    let on_rim = |i: u32| {
        let angle = f64::from(i) / f64::from(rim) * std::f64::consts::TAU;
        [(0.8 * angle.cos()) as f32, (0.1 * angle.cos()) as f32 - 0.2, (0.8 * angle.sin()) as f32]
    };
    let mut positions: Vec<[f32; 3]> = (0..rim).map(on_rim).collect();
    positions.push([0.0, -0.2, 0.0]);
    let triangles = (0..rim).map(|i| [rim, (i + 1) % rim, i]).collect();
    let mesh = Mesh { positions, normals: None, triangles };
    let triangles = corners(&mesh);
    let mut points = points(1000, 0.7);
    points.iter_mut().for_each(|p| p[1] = 0.125 * p[0] - 0.2 + 0.01 * p[1]);
    let found = MeshDistance::new(&mesh).unwrap().distances(&points);
    for (p, found) in points.iter().zip(found) {
        let p = DVec3::from_array(p.map(f64::from));
        let expected = triangles.iter().map(|t| to_triangle(p, *t)).fold(f64::INFINITY, f64::min);
        // As above, times the square root of the aspect of 160.
        assert!((f64::from(found) - expected).abs() < 1e-6 * 13.0, "{p}: {found} {expected}");
    }
}

#[test]
fn one_point_and_many_agree() {
    let mesh = soup(500, 0.1, 3);
    let distance = MeshDistance::new(&mesh).unwrap();
    let points = points(300, 1.0);
    let (many, signed) = (distance.distances(&points), distance.signed_distances(&points));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| distance.signed_distances(&points)), signed);
    for ((p, many), signed) in points.iter().zip(many).zip(signed) {
        assert!((distance.closest(*p).distance - many).abs() < 1e-6);
        assert_eq!(signed.abs(), many);
        assert_eq!(signed < 0.0, distance.winding_number(*p).abs() > 0.5);
    }
}

#[test]
fn a_box_has_its_signed_distance_in_closed_form() {
    let half = [0.5f32, 0.3, 0.8];
    let positions = (0..8).map(|i| std::array::from_fn(|a| if i >> a & 1 == 1 { half[a] } else { -half[a] }));
    let quads: [[u32; 4]; 6] =
        [[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]];
    let triangles = quads.iter().flat_map(|q| [[q[0], q[1], q[2]], [q[0], q[2], q[3]]]).collect();
    let mesh = Mesh { positions: positions.collect(), normals: None, triangles };
    let distance = MeshDistance::new(&mesh).unwrap();
    assert!(distance.is_closed());
    assert_eq!(distance.winding_number([0.0; 3]), 1.0);
    let mut points = points(4000, 1.0);
    // Above edges, corners and diagonals, where rays meet several triangles at once.
    points.extend([[0.0, 0.0, 0.1], [0.5, 0.3, 0.0], [0.5, 0.1, 0.9], [-0.5, -0.3, -0.9], [0.25, 0.15, 0.2]]);
    for (p, found) in points.iter().zip(distance.signed_distances(&points)) {
        let q: [f64; 3] = std::array::from_fn(|a| f64::from(p[a].abs()) - f64::from(half[a]));
        let outside = DVec3::from_array(q.map(|c| c.max(0.0))).length();
        let expected = outside + q[0].max(q[1]).max(q[2]).min(0.0);
        assert!((f64::from(found) - expected).abs() < 1e-6, "{p:?}: {found} {expected}");
    }
}

#[test]
fn winding_numbers_agree_with_solid_angles() {
    let mut open = sphere(4, 0.7, [0.0; 3]);
    open.triangles.retain(|t| open.positions[t[0] as usize][1] > -0.4);
    // Two that overlap: the number is two where they do.
    let mut two = sphere(3, 0.5, [0.2, 0.0, 0.0]);
    let other = sphere(3, 0.5, [-0.2, 0.0, 0.0]);
    two.triangles.extend(other.triangles.iter().map(|t| t.map(|v| v + two.positions.len() as u32)));
    two.positions.extend(other.positions);
    let mut inverted = sphere(3, 0.6, [0.0; 3]);
    inverted.triangles.iter_mut().for_each(|t| t.swap(0, 1));
    // What `FAR` promises for one surface; a soup has as many dipoles with less that cancels.
    for (mesh, closed, tolerance) in
        [(open, false, 0.01), (two, true, 1e-6), (inverted, true, 1e-6), (soup(400, 0.2, 5), false, 0.03)]
    {
        let distance = MeshDistance::new(&mesh).unwrap();
        assert_eq!(distance.is_closed(), closed);
        for p in points(300, 1.1) {
            let (found, expected) = (f64::from(distance.winding_number(p)), exact_winding(&mesh, p));
            assert!((found - expected).abs() < tolerance, "{p:?}: {found} {expected}");
        }
    }
}

#[test]
fn wrong_windings_and_repeated_faces_do_not_change_the_sign() {
    let good = sphere(3, 0.6, [0.1, 0.0, 0.0]);
    let points = points(2000, 1.0);
    let expected = MeshDistance::new(&good).unwrap().inside(&points);
    assert!(expected.iter().filter(|inside| **inside).count() > 100);
    let mut inverted = good.clone();
    inverted.triangles.iter_mut().for_each(|t| t.swap(0, 1));
    let mut mixed = good.clone();
    mixed.triangles.iter_mut().step_by(3).for_each(|t| t.swap(0, 1));
    let mut repeated = good.clone();
    repeated.triangles.extend(good.triangles[..50].iter());
    let mut both_sides = good.clone();
    both_sides.triangles.extend(good.triangles.iter().map(|t| [t[1], t[0], t[2]]));
    for mesh in [inverted, mixed, repeated, both_sides] {
        let distance = MeshDistance::new(&mesh).unwrap();
        assert_eq!(distance.inside(&points), expected);
        let signed = distance.signed_distances(&points);
        assert!(signed.iter().zip(&expected).all(|(d, inside)| (*d < 0.0) == *inside));
    }
}

#[test]
fn degenerate_meshes_give_finite_distances() {
    let mesh = |positions: &[[f32; 3]]| Mesh {
        positions: positions.to_vec(),
        normals: None,
        triangles: (0..positions.len() as u32 / 3).map(|t| [3 * t, 3 * t + 1, 3 * t + 2]).collect(),
    };
    let huge = 1e30;
    for (positions, p, expected) in [
        (vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.2, 0.2, -2.0], 2.0),
        (vec![[1.0, 2.0, 3.0]; 3], [1.0, 2.0, 5.0], 2.0),
        (vec![[0.0; 3], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]], [2.0, 1.0, 0.0], 1.0),
        (vec![[0.0; 3], [0.0; 3], [3.0, 0.0, 0.0]], [2.0, 1.0, 0.0], 1.0),
        ([[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]].repeat(1000), [0.2, 0.2, 0.5], 0.5),
        (vec![[0.0; 3], [huge, 0.0, 0.0], [0.0, huge, 0.0]], [1e29, 1e29, 1e29], 1e29),
        (vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0, huge], huge),
        (vec![[1e-30; 3], [2e-30; 3], [3e-30, 1e-30, 0.0]], [1.0, 0.0, 0.0], 1.0),
        (vec![[f32::MAX; 3], [f32::MIN; 3], [0.0; 3]], [0.0; 3], 0.0),
    ] {
        let distance = MeshDistance::new(&mesh(&positions)).unwrap();
        let many = distance.signed_distances(&[p, [f32::NAN; 3], p, [f32::INFINITY, 0.0, 0.0]]);
        assert!((many[0] - expected).abs() <= 1e-6 * expected, "{positions:?}: {} {expected}", many[0]);
        assert_eq!(many[0], many[2]);
        assert!(many[1].is_nan() && many[3].is_nan() && distance.winding_number(p).is_finite());
    }
    assert!(MeshDistance::new(&Mesh::default()).is_err());
    // A head beside an outlier: the outlier sets the scale, which is documented to lose the head.
    let mut outlier = sphere(2, 1.0, [0.0; 3]);
    outlier.positions.push([huge; 3]);
    outlier.triangles.push([0, 1, outlier.positions.len() as u32 - 1]);
    let found = MeshDistance::new(&outlier).unwrap().signed_distances(&points(50, 2.0));
    assert!(found.iter().all(|d| d.is_finite()));
}
