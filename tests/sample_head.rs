//! The built-in heads are sound meshes of recognisable heads. Topology and anatomy are measured
//! here from the triangles alone, with plain loops.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use hexcuda::mesh::Mesh;
use hexcuda::mesh::sample_head::{DEFAULT_TRIANGLES, HeadParameters, family, head};

static USUAL: LazyLock<Mesh> = LazyLock::new(|| head(0, DEFAULT_TRIANGLES));
static OTHERS: LazyLock<Vec<Mesh>> = LazyLock::new(|| family(1, 4, 6_000));

fn all() -> impl Iterator<Item = &'static Mesh> {
    std::iter::once(&*USUAL).chain(OTHERS.iter())
}

fn corners(mesh: &Mesh) -> impl Iterator<Item = [[f64; 3]; 3]> + '_ {
    (0..mesh.triangles.len()).map(|t| mesh.corners(t).map(|p| p.map(f64::from)))
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] - b[i])
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Normal of a triangle, as long as twice its area.
fn doubled_area([a, b, c]: [[f64; 3]; 3]) -> [f64; 3] {
    cross(minus(b, a), minus(c, a))
}

/// Where the line through `through` along `axis` leaves the mesh, on the side of `sign`.
fn outermost(mesh: &Mesh, through: [f64; 3], axis: usize, sign: f64) -> f64 {
    let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut best = f64::NEG_INFINITY;
    for [a, b, c] in corners(mesh) {
        let side = |p: [f64; 3], q: [f64; 3]| {
            (q[u] - p[u]) * (through[v] - p[v]) - (q[v] - p[v]) * (through[u] - p[u])
        };
        let weights = [side(b, c), side(c, a), side(a, b)];
        let whole: f64 = weights.iter().sum();
        if whole != 0.0 && weights.iter().all(|w| w * whole >= 0.0) {
            let hit = weights[0] * a[axis] + weights[1] * b[axis] + weights[2] * c[axis];
            best = best.max(sign * hit / whole);
        }
    }
    assert!(best.is_finite(), "no surface along axis {axis} from {through:?}");
    sign * best
}

fn front(mesh: &Mesh, x: f64, y: f64) -> f64 {
    outermost(mesh, [x, y, 0.0], 2, 1.0)
}

fn extreme(mesh: &Mesh, axis: usize, sign: f32) -> [f32; 3] {
    let order = |p: &&[f32; 3], q: &&[f32; 3]| (sign * p[axis]).total_cmp(&(sign * q[axis]));
    *mesh.positions.iter().max_by(order).expect("a head has vertices")
}

/// Every edge once in each direction, one closed fan a vertex, one shell, Euler characteristic 2.
fn assert_sphere(mesh: &Mesh) {
    let mut apex = HashMap::new();
    for &[a, b, c] in &mesh.triangles {
        for (from, to, top) in [(a, b, c), (b, c, a), (c, a, b)] {
            assert!(from != to && apex.insert((from, to), top).is_none(), "edge {from}-{to} twice");
        }
    }
    let mut rings = vec![Vec::new(); mesh.positions.len()];
    for &(a, b) in apex.keys() {
        assert!(apex.contains_key(&(b, a)), "edge {a}-{b} is open");
        rings[a as usize].push(b);
    }
    for (v, ring) in rings.iter().enumerate() {
        let (mut at, mut steps) = (apex[&(v as u32, ring[0])], 1);
        while at != ring[0] {
            at = apex[&(v as u32, at)];
            steps += 1;
        }
        assert_eq!(steps, ring.len(), "vertex {v} has several fans");
    }
    let (mut reached, mut open) = (HashSet::from([0u32]), vec![0u32]);
    while let Some(v) = open.pop() {
        open.extend(rings[v as usize].iter().copied().filter(|&n| reached.insert(n)));
    }
    assert_eq!(reached.len(), mesh.positions.len(), "several shells");
    let euler = mesh.positions.len() as i64 - apex.len() as i64 / 2 + mesh.triangles.len() as i64;
    assert_eq!(euler, 2);
}

#[test]
fn heads_are_closed_spheres_of_the_volume_of_a_head() {
    for mesh in all() {
        assert_sphere(mesh);
        // Divergence theorem. Positive: outward. Litres of heads with necks: 4 to 6 for grown people.
        let volume = corners(mesh).map(|[a, b, c]| dot(a, cross(b, c))).sum::<f64>() / 6.0;
        assert!((3_500.0..7_000.0).contains(&volume), "{volume} cm3");
    }
}

#[test]
fn the_number_of_triangles_is_the_one_asked_for() {
    for (asked, given) in [(0, 2_000), (12_345, 12_344), (60_000, 60_000)] {
        let mesh = head(3, asked);
        assert_eq!(mesh.triangles.len(), given);
        assert_sphere(&mesh);
    }
}

#[test]
fn normals_are_unit_and_agree_with_the_triangles() {
    for mesh in all() {
        let normals = mesh.normals.as_ref().expect("sample heads have normals");
        assert_eq!(normals.len(), mesh.positions.len());
        // Rounding of three f32 components.
        assert!(normals.iter().map(|n| n.map(f64::from)).all(|n| (dot(n, n) - 1.0).abs() < 1e-6));
        let (mut area, mut agreeing) = (0.0, 0.0);
        for (triangle, corners) in mesh.triangles.iter().zip(corners(mesh)) {
            let face = doubled_area(corners);
            let length = dot(face, face).sqrt();
            let close = |&v: &u32| dot(normals[v as usize].map(f64::from), face) > 0.5 * length;
            area += length;
            agreeing += if triangle.iter().all(close) { length } else { 0.0 };
        }
        // Within 60 degrees everywhere but at the creases of lids, lips and ears.
        assert!(agreeing > 0.97 * area, "{}", agreeing / area);
    }
}

#[test]
fn triangles_do_not_fold_back_on_their_neighbours() {
    for mesh in all() {
        let faces: Vec<[f64; 3]> = corners(mesh).map(doubled_area).collect();
        let mut owner = HashMap::new();
        for (t, &[a, b, c]) in mesh.triangles.iter().enumerate() {
            owner.extend([((a, b), t), ((b, c), t), ((c, a), t)]);
        }
        let folded = owner.iter().filter(|&(&(a, b), &t)| {
            let (f, g) = (faces[t], faces[owner[&(b, a)]]);
            dot(f, g) < -0.9 * (dot(f, f) * dot(g, g)).sqrt()
        });
        // Turned by more than 154 degrees: only in the narrow slit of the lips and behind the ears.
        let share = folded.count() as f64 / owner.len() as f64;
        assert!(share < 1e-3, "{share}");
    }
}

#[test]
fn the_usual_head_is_symmetric() {
    for (x, y) in [(1.0, 5.0), (3.2, 0.0), (4.5, -2.5), (1.2, -3.7), (2.0, -6.2), (3.0, -9.0), (4.0, -14.0)] {
        let (left, right) = (front(&USUAL, x, y), front(&USUAL, -x, y));
        // A millimetre: mirrored places are triangulated differently.
        assert!((left - right).abs() < 0.1, "({x}, {y}): {left} and {right}");
    }
}

#[test]
fn the_nose_is_foremost_and_the_ears_are_widest() {
    for mesh in all() {
        let tip = extreme(mesh, 2, 1.0);
        assert!(tip[0].abs() < 0.5 && (-4.8..-2.2).contains(&tip[1]), "nose tip {tip:?}");
        for sign in [-1.0, 1.0] {
            let ear = extreme(mesh, 0, sign);
            assert!((-5.0..2.8).contains(&ear[1]) && (-5.0..1.0).contains(&ear[2]), "ear {ear:?}");
            let skull = outermost(mesh, [0.0, 4.0, -1.0], 0, f64::from(sign));
            assert!(f64::from(ear[0].abs()) > skull.abs() + 0.3, "ear {ear:?}, skull {skull}");
        }
    }
}

#[test]
fn the_profile_is_that_of_a_face() {
    for (seed, mesh) in all().enumerate() {
        let m = HeadParameters::from_seed(seed as u64);
        // Heights below the eyes go with the length of the face.
        let stretch = m.face_length / HeadParameters::default().face_length;
        let at = |y: f64| front(mesh, 0.0, if y < 0.0 { y * stretch } else { y });
        let along = |from: f64, to: f64| (0..=20).map(move |i| at(from + (to - from) * f64::from(i) / 20.0));
        let least = |from: f64, to: f64| along(from, to).fold(f64::INFINITY, f64::min);
        let most = |from: f64, to: f64| along(from, to).fold(f64::NEG_INFINITY, f64::max);
        let tip = f64::from(extreme(mesh, 2, 1.0)[2]);
        let (brow, root, subnasale) = (most(1.6, 3.0), least(0.0, 1.6), least(-6.0, -4.6));
        assert!(root < brow && brow < tip - 1.0, "seed {seed}: tip {tip}, root {root}, brow {brow}");
        assert!(subnasale < tip - 1.0, "seed {seed}: tip {tip}, subnasale {subnasale}");
        // The mouth is a notch between two lips, the fold above the chin one between lip and chin.
        let (upper, slit, lower) = (most(-6.6, -6.0), least(-7.1, -6.5), most(-7.7, -7.0));
        assert!(slit < upper.min(lower) - 0.1, "seed {seed}: {upper} {slit} {lower}");
        let (fold, chin) = (least(-9.0, -8.0), most(-10.5, -9.3));
        assert!(fold < lower - 0.2 && fold < chin - 0.05, "seed {seed}: {lower} {fold} {chin}");
        // The throat lies far behind the chin.
        assert!(at(-13.5) < chin - 2.5, "seed {seed}: chin {chin}, throat {}", at(-13.5));
    }
}

#[test]
fn sockets_lie_behind_brow_and_hold_an_eyeball() {
    for (seed, mesh) in all().enumerate() {
        let x = 0.5 * HeadParameters::from_seed(seed as u64).eye_spacing;
        for x in [-x, x] {
            let [brow, ball, corner, cheek] =
                [(1.0, 2.1), (1.0, -0.2), (0.5, 0.2), (1.0, -3.0)].map(|(s, y)| front(mesh, s * x, y));
            assert!(ball < brow - 0.3, "seed {seed}: eye {ball}, brow {brow}");
            assert!(corner < ball - 0.1 && ball < cheek + 1.0, "seed {seed}: {corner} {ball} {cheek}");
        }
    }
}

#[test]
fn proportions_are_human() {
    for mesh in all() {
        let across = |axis: usize| {
            let through = [0.0, 4.0, if axis == 0 { -1.0 } else { 0.0 }];
            outermost(mesh, through, axis, 1.0) - outermost(mesh, through, axis, -1.0)
        };
        // Cephalic index: people lie between 0.70 and 0.90.
        let index = across(0) / across(2);
        assert!((0.70..0.90).contains(&index), "{index}");
        // The neck is cut flat, and is as wide as a neck.
        let base = mesh.bounds().expect("a head has triangles").0[1];
        let cut = corners(mesh).filter(|t| t.iter().all(|p| p[1] < f64::from(base) + 0.05));
        let area: f64 = cut.map(doubled_area).map(|n| 0.5 * dot(n, n).sqrt()).sum();
        assert!((70.0..200.0).contains(&area), "{area} cm2");
    }
}

#[test]
fn a_seed_gives_the_same_bits_on_any_number_of_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    assert!(pool.install(|| head(2, 6_000)) == OTHERS[1]);
}

#[test]
fn seeds_give_different_heads() {
    // Depths of the face, then height, back and breadth of the skull, breadth of jaw and neck.
    let depths = [(0.0, 6.0), (0.0, -3.4), (2.0, -6.2), (0.0, -9.9), (4.5, -2.5)];
    let outlines =
        [(1, [0.0, 0.0, 0.0]), (0, [0.0, 4.0, -1.0]), (0, [0.0, -7.0, 1.3]), (0, [0.0, -16.0, -3.0])];
    let shape = |mesh: &Mesh| -> Vec<f64> {
        let sides = outlines.map(|(axis, through)| outermost(mesh, through, axis, 1.0));
        let back = outermost(mesh, [0.0, 2.0, 0.0], 2, -1.0);
        depths.map(|(x, y)| front(mesh, x, y)).into_iter().chain(sides).chain([back]).collect()
    };
    let shapes: Vec<_> = all().map(shape).collect();
    for (i, a) in shapes.iter().enumerate() {
        for b in &shapes[..i] {
            let apart = a.iter().zip(b).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
            // Twice the millimetre that the triangulation may account for.
            assert!(apart > 0.2, "largest difference {apart} cm");
        }
    }
}

#[test]
fn seed_0_is_the_default() {
    assert_eq!(HeadParameters::from_seed(0), HeadParameters::default());
    assert_ne!(HeadParameters::from_seed(1), HeadParameters::from_seed(2));
}
