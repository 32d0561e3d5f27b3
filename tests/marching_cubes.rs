//! Marching cubes against closed forms, against flood fill of the interpolant, and against the
//! definition of a closed oriented manifold.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use hexcuda::mesh::Mesh;
use hexcuda::mesh::marching_cubes::{DenseVolume, Volume, marching_cubes};
use hexcuda::rng::Rng;

fn sub(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] - b[i])
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3])
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|i| a[i] * b[i]).sum()
}

/// Area and signed volume (positive when the triangles are counter-clockwise from outside).
fn area_and_volume(mesh: &Mesh) -> (f64, f64) {
    (0..mesh.triangles.len()).fold((0.0, 0.0), |(area, volume), index| {
        let [a, b, c] = mesh.corners(index).map(|p| p.map(f64::from));
        let normal = cross(sub(b, a), sub(c, a));
        (area + 0.5 * dot(normal, normal).sqrt(), volume + dot(a, cross(b, c)) / 6.0)
    })
}

/// Asserts a closed, oriented 2-manifold without degenerate triangles or doubled or unused
/// vertices; returns its Euler characteristic and its number of components.
fn closed_manifold(mesh: &Mesh) -> (i64, usize) {
    let mut next_around: HashMap<u32, HashMap<u32, u32>> = HashMap::new();
    let mut directed = HashSet::new();
    for (index, triangle) in mesh.triangles.iter().enumerate() {
        let [a, b, c] = mesh.corners(index).map(|p| p.map(f64::from));
        let normal = cross(sub(b, a), sub(c, a));
        assert!(dot(normal, normal) > 0.0, "triangle {index} {triangle:?} is degenerate: {a:?} {b:?} {c:?}");
        for i in 0..3 {
            let [v, w, u] = [0, 1, 2].map(|k| triangle[(i + k) % 3]);
            assert!(directed.insert((v, w)), "edge {v} -> {w} is walked twice");
            next_around.entry(v).or_default().insert(w, u);
        }
    }
    assert!(directed.iter().all(|&(v, w)| directed.contains(&(w, v))), "the mesh has a border");
    assert_eq!(next_around.len(), mesh.positions.len(), "every vertex is used");
    let distinct: HashSet<_> = mesh.positions.iter().map(|p| p.map(|c| (c + 0.0).to_bits())).collect();
    assert_eq!(distinct.len(), mesh.positions.len(), "every position is there once");
    for (vertex, next) in &next_around {
        let start = *next.keys().next().expect("a used vertex has a neighbour");
        let mut at = start;
        let mut steps = 0;
        loop {
            at = next[&at];
            steps += 1;
            if at == start {
                break;
            }
        }
        assert_eq!(steps, next.len(), "the triangles around vertex {vertex} are one fan");
    }
    let euler = mesh.positions.len() as i64 - directed.len() as i64 / 2 + mesh.triangles.len() as i64;
    (euler, components(&mesh.triangles, mesh.positions.len()))
}

fn components(triangles: &[[u32; 3]], vertices: usize) -> usize {
    let mut parent: Vec<usize> = (0..vertices).collect();
    fn root(parent: &mut [usize], mut v: usize) -> usize {
        while parent[v] != v {
            parent[v] = parent[parent[v]];
            v = parent[v];
        }
        v
    }
    for triangle in triangles {
        let [a, b, c] = triangle.map(|v| root(&mut parent, v as usize));
        parent[b] = a;
        let c = root(&mut parent, c);
        parent[c] = a;
    }
    (0..vertices).filter(|&v| parent[v] == v).count()
}

fn dense(dims: [usize; 3], values: Vec<f32>) -> DenseVolume {
    DenseVolume::new(dims, [0.0; 3], [1.0; 3], values).expect("a value for each sample")
}

/// An `n`^3 grid over [-1, 1]^3.
fn cube_grid(n: usize, function: impl Fn([f32; 3]) -> f32) -> DenseVolume {
    DenseVolume::sampled([n; 3], [-1.0; 3], [2.0 / (n - 1) as f32; 3], function).expect("a small grid")
}

fn length(p: [f32; 3]) -> f32 {
    p.iter().map(|c| c * c).sum::<f32>().sqrt()
}

#[test]
fn one_sample_inside_is_an_octahedron() {
    let mut values = vec![1.0; 27];
    values[13] = -1.0;
    let mesh = marching_cubes(&dense([3; 3], values.clone()), 0.0).expect("a volume");
    assert_eq!((mesh.positions.len(), mesh.triangles.len()), (6, 8));
    assert_eq!(closed_manifold(&mesh), (2, 1));
    // Half the spacing along each axis: volume 4/3 r^3.
    let (_, volume) = area_and_volume(&mesh);
    assert!((volume - 4.0 / 3.0 * 0.125).abs() < 1e-6);
    values[14] = -1.0;
    let mesh = marching_cubes(&dense([3; 3], values), 0.0).expect("a volume");
    assert_eq!((mesh.positions.len(), mesh.triangles.len()), (10, 16));
    assert_eq!(closed_manifold(&mesh), (2, 1));
}

#[test]
fn all_inside_is_closed_at_the_border() {
    let mesh = marching_cubes(&dense([5, 4, 3], vec![-1.0; 60]), 0.0).expect("a volume");
    assert_eq!(closed_manifold(&mesh), (2, 1));
    let (_, volume) = area_and_volume(&mesh);
    // Each side lies 1/1024 outside the border; the cut corners and edges are of second order.
    let shell = 2.0 / 1024.0 * (12.0 + 8.0 + 6.0);
    assert!((volume - 24.0 - shell).abs() < 1e-4, "{volume}");
    let empty = marching_cubes(&dense([5, 4, 3], vec![1.0; 60]), 0.0).expect("a volume");
    assert!(empty.positions.is_empty() && empty.triangles.is_empty());
}

#[test]
fn spheres_and_tori_converge() {
    let pi = std::f64::consts::PI;
    let errors = [16, 32, 64].map(|n| {
        let mesh = marching_cubes(&cube_grid(n, |p| length(p) - 0.7), 0.0).expect("a sphere");
        assert_eq!(closed_manifold(&mesh), (2, 1));
        let (area, volume) = area_and_volume(&mesh);
        [(area / (4.0 * pi * 0.49) - 1.0).abs(), (volume / (4.0 / 3.0 * pi * 0.343) - 1.0).abs()]
    });
    for pair in errors.windows(2) {
        // Second order: a quarter of the error at half the spacing, with some slack.
        assert!(pair[0].iter().zip(&pair[1]).all(|(coarse, fine)| *fine < 0.35 * coarse), "{errors:?}");
    }
    let torus =
        |p: [f32; 3]| (((p[0] * p[0] + p[1] * p[1]).sqrt() - 0.6).powi(2) + p[2] * p[2]).sqrt() - 0.25;
    let mesh = marching_cubes(&cube_grid(48, torus), 0.0).expect("a torus");
    assert_eq!(closed_manifold(&mesh), (0, 1));
    let (_, volume) = area_and_volume(&mesh);
    assert!((volume / (2.0 * pi * pi * 0.6 * 0.0625) - 1.0).abs() < 0.01);
    // Another level of the same field is the torus of another radius.
    let mesh = marching_cubes(&cube_grid(48, torus), 0.1).expect("a torus");
    let (_, volume) = area_and_volume(&mesh);
    assert!((volume / (2.0 * pi * pi * 0.6 * 0.1225) - 1.0).abs() < 0.01);
}

/// Small integers put many samples on the level and make every ambiguity common.
#[test]
fn integer_noise_is_a_closed_manifold() {
    let mut rng = Rng::named(1, "integer noise");
    for (dims, magnitude) in
        [([2, 2, 2], 1), ([7, 9, 5], 1), ([17, 8, 9], 2), ([65, 3, 4], 1), ([33, 17, 18], 3), ([63, 9, 8], 9)]
    {
        for _ in 0..4 {
            let count = dims.iter().product();
            let values = (0..count).map(|_| rng.below(2 * magnitude + 1) as f32 - magnitude as f32).collect();
            closed_manifold(&marching_cubes(&dense(dims, values), 0.0).expect("a volume"));
        }
    }
}

#[test]
fn positions_stay_distinct_far_from_the_origin() {
    let mut rng = Rng::named(1, "far from the origin");
    let values: Vec<f32> = (0..1000).map(|_| rng.below(3) as f32 - 1.0).collect();
    let volume = DenseVolume::new([10; 3], [1000.0, -5.0, 3.0], [0.01; 3], values.clone()).expect("a volume");
    closed_manifold(&marching_cubes(&volume, 0.0).expect("a resolved grid"));
    let volume = DenseVolume::new([10; 3], [1000.0, -5.0, 3.0], [1e-4; 3], values).expect("a volume");
    let error = marching_cubes(&volume, 0.0).expect_err("0.0001 is two units in the last place of 1000");
    assert!(error.to_string().contains("spacing"), "{error}");
}

#[test]
fn infinite_samples_are_far_from_the_level() {
    let mut rng = Rng::named(1, "infinite samples");
    let kinds = [f32::NEG_INFINITY, -1.0, 0.0, 1.0, f32::INFINITY, f32::MAX, f32::MIN];
    let values = (0..512).map(|_| kinds[rng.below(kinds.len())]).collect();
    closed_manifold(&marching_cubes(&dense([8; 3], values), 0.0).expect("a volume"));
}

/// Euler characteristic and components of a trilinear cell below a level, from the cubical
/// complex of its inside samples on an `n`^3 grid.
fn sampled_topology(corners: &[f64; 8], level: f64, n: usize) -> (i64, usize) {
    let at = |i: usize| i as f64 / (n - 1) as f64;
    let inside: Vec<bool> = (0..n * n * n)
        .map(|index| {
            let t = [at(index % n), at(index / n % n), at(index / n / n)];
            let value: f64 = (0..8)
                .map(|c| (0..3).fold(corners[c], |v, a| v * if c >> a & 1 == 1 { t[a] } else { 1.0 - t[a] }))
                .sum();
            value < level
        })
        .collect();
    let full = |x: usize, y: usize, z: usize, extent: usize| {
        (0..8).filter(|o| o & !extent == 0).all(|o| {
            let [i, j, k] = [x + (o & 1), y + (o >> 1 & 1), z + (o >> 2)];
            i < n && j < n && k < n && inside[i + n * (j + n * k)]
        })
    };
    let mut euler = 0;
    let mut edges = Vec::new();
    for index in 0..n * n * n {
        let [x, y, z] = [index % n, index / n % n, index / n / n];
        for extent in 0..8usize {
            if full(x, y, z, extent) {
                euler += if extent.count_ones() % 2 == 0 { 1 } else { -1 };
                match extent {
                    1 => edges.push([index as u32, index as u32 + 1, index as u32]),
                    2 => edges.push([index as u32, (index + n) as u32, index as u32]),
                    4 => edges.push([index as u32, (index + n * n) as u32, index as u32]),
                    _ => {}
                }
            }
        }
    }
    let outside = inside.iter().filter(|&&inside| !inside).count();
    (euler, components(&edges, n * n * n) - outside)
}

/// All sign patterns with random magnitudes: the inside of the mesh of one cell has the topology
/// of the interpolant's inside. A closed surface has twice the Euler characteristic of its inside.
#[test]
fn every_sign_pattern_has_the_topology_of_the_interpolant() {
    let mut rng = Rng::named(1, "sign patterns");
    let (mut compared, mut tunnels) = (0, 0);
    for case in 0..256usize {
        for round in 0..6 {
            let corners: [f32; 8] = std::array::from_fn(|corner| {
                // Wide spreads of magnitude make tunnels more common.
                let magnitude =
                    if round % 2 == 0 { rng.range(0.05, 1.0) } else { rng.range(-3.0, 1.0).exp() };
                if case >> corner & 1 == 1 { -magnitude } else { magnitude }
            });
            let mesh = marching_cubes(&dense([2; 3], corners.to_vec()), 0.0).expect("a cell");
            if case == 0 {
                continue;
            }
            let (euler, _) = closed_manifold(&mesh);
            let solid = |n| {
                let [below, at, above] =
                    [-0.02, 0.0, 0.02].map(|l| sampled_topology(&corners.map(f64::from), l, n));
                (below == at && at == above).then_some(at)
            };
            // Where nearby levels differ, a neck may be too thin for the samples to tell. A coarse
            // grid that disagrees may have missed one as well: a fine one has the last word.
            let expected = solid(12).filter(|coarse| euler == 2 * coarse.0).or_else(|| solid(48));
            if let Some((inside, pieces)) = expected {
                compared += 1;
                tunnels += usize::from(inside < pieces as i64);
                assert_eq!(euler, 2 * inside, "case {case:08b} {corners:?}");
            }
        }
    }
    assert!(compared > 1200 && tunnels > 0, "{compared} compared, {tunnels} tunnels");
}

/// A field that counts its samples and knows its range by its Lipschitz constant.
struct Ball {
    n: usize,
    sampled: AtomicUsize,
}

impl Ball {
    fn at(&self, index: [f32; 3]) -> f32 {
        length(index.map(|i| -1.0 + i * self.spacing()[0])) - 0.8
    }
}

impl Volume for Ball {
    fn dims(&self) -> [usize; 3] {
        [self.n; 3]
    }
    fn origin(&self) -> [f32; 3] {
        [-1.0; 3]
    }
    fn spacing(&self) -> [f32; 3] {
        [2.0 / (self.n - 1) as f32; 3]
    }
    fn row(&self, y: usize, z: usize, x0: usize, out: &mut [f32]) {
        self.sampled.fetch_add(out.len(), Ordering::Relaxed);
        out.iter_mut().enumerate().for_each(|(i, value)| *value = self.at([x0 + i, y, z].map(|i| i as f32)));
    }
    fn range(&self, low: [usize; 3], high: [usize; 3]) -> (f32, f32) {
        let reach = (0..3).map(|axis| ((high[axis] - low[axis]) as f32).powi(2)).sum::<f32>().sqrt() / 2.0;
        let value = self.at(std::array::from_fn(|axis| (low[axis] + high[axis]) as f32 / 2.0));
        let change = reach * self.spacing()[0] * 1.001;
        (value - change, value + change)
    }
}

#[test]
fn only_blocks_around_the_surface_are_sampled() {
    let n = 150;
    let ball = Ball { n, sampled: AtomicUsize::new(0) };
    let volume: &dyn Volume = &ball;
    let mesh = marching_cubes(volume, 0.0).expect("a ball");
    assert_eq!(closed_manifold(&mesh), (2, 1));
    let sampled = ball.sampled.load(Ordering::Relaxed);
    assert!(sampled < n * n * n * 4 / 10, "{sampled} of {}", n * n * n);
    let values = (0..n * n * n).map(|i| ball.at([i % n, i / n % n, i / n / n].map(|i| i as f32))).collect();
    let all = DenseVolume::new([n; 3], ball.origin(), ball.spacing(), values).expect("a volume");
    assert_eq!(marching_cubes(&all, 0.0).expect("a ball"), mesh);
}

#[test]
fn the_mesh_does_not_depend_on_the_threads() {
    let mut rng = Rng::named(1, "threads");
    let values = (0..40 * 37 * 31).map(|_| rng.normal()).collect();
    let volume = dense([40, 37, 31], values);
    let meshes = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| marching_cubes(&volume, 0.1)).expect("a volume")
    });
    closed_manifold(&meshes[0]);
    assert!(meshes[0] == meshes[1] && meshes[0] == meshes[2]);
}

#[test]
fn bad_volumes_are_refused() {
    let mut values = vec![1.0; 4 * 9 * 20];
    values[3 + 4 * (8 + 9 * 7)] = f32::NAN;
    values[4 * 9 * 19] = f32::NAN;
    let error = marching_cubes(&dense([4, 9, 20], values), 0.0).expect_err("NaN");
    assert!(error.to_string().contains("(3, 8, 7)"), "{error}");
    let error = marching_cubes(&dense([4, 1, 3], vec![0.0; 12]), 0.0).expect_err("one row");
    assert!(error.to_string().contains("4 x 1 x 3"), "{error}");
    let error = marching_cubes(&dense([2; 3], vec![0.0; 8]), f32::INFINITY).expect_err("no level");
    assert!(error.to_string().contains("finite level"), "{error}");
    for (origin, spacing) in [(f32::NAN, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, f32::NAN), (0.0, f32::MAX)] {
        let volume = DenseVolume::new([2; 3], [origin; 3], [spacing; 3], vec![-1.0; 8]).expect("8 values");
        assert!(marching_cubes(&volume, 0.0).is_err(), "origin {origin}, spacing {spacing}");
    }
}
