use super::*;
use crate::mesh::Similarity;
use crate::mesh::marching_cubes::Volume;
use crate::rng::Rng;

/// Planes of a union of spheres, traced exactly.
fn spheres(size: usize, spheres: &[([f32; 3], f32)]) -> Planes {
    let mut planes = Planes::background(Representation::Continuous, size, Similarity::default());
    for (view, camera) in VIEWS.iter().enumerate() {
        for i in 0..size * size {
            let at = |index: usize| (2 * index + 1) as f32 / size as f32 - 1.0;
            let (u, v) = (at(i % size), -at(i / size));
            for &(centre, radius) in spheres {
                let [cu, cv, ct] = camera.project(centre);
                let inside = radius * radius - (u - cu).powi(2) - (v - cv).powi(2);
                let depth = ct - 0.5 * inside.max(0.0).sqrt();
                let pixel = &mut planes.values[(view * size * size + i) * 4..][..4];
                if inside > 0.0 && depth < pixel[0] {
                    let p = camera.unproject([u, v, depth]);
                    let normal: [f32; 3] = std::array::from_fn(|k| (p[k] - centre[k]) / radius);
                    pixel[0] = depth;
                    pixel[1..].copy_from_slice(&normal);
                }
            }
        }
    }
    planes
}

fn sphere_distance(p: [f32; 3], spheres: &[([f32; 3], f32)]) -> f32 {
    let to = |&(c, r): &([f32; 3], f32)| (0..3).map(|k| (p[k] - c[k]).powi(2)).sum::<f32>().sqrt() - r;
    spheres.iter().map(to).fold(f32::MAX, f32::min)
}

fn random_points(n: usize) -> Vec<[f32; 3]> {
    let mut rng = Rng::new(11, 0);
    (0..n).map(|_| std::array::from_fn(|_| rng.range(-1.0, 1.0))).collect()
}

const TWO: [([f32; 3], f32); 2] = [([-0.3, 0.1, 0.0], 0.45), ([0.4, -0.2, 0.3], 0.35)];

#[test]
fn two_spheres_come_out_as_their_distance() {
    let field = Field::new(&spheres(128, &TWO), &Settings::default()).unwrap();
    let points = random_points(20_000);
    let (mut worst, mut signs) = (0.0f32, 0);
    for (&p, value) in points.iter().zip(field.values(&points)) {
        let distance = sphere_distance(p, &TWO);
        if distance.abs() < 0.005 {
            worst = worst.max((value - distance).abs());
        } else if (value > 0.0) != (distance > 0.0) {
            signs += 1;
        }
        assert_eq!(value, field.value(p));
        assert!((field.occupancy(p) - (0.5 - value / (2.0 * TAU))).abs() < 1e-6);
    }
    // On the limb a pixel (1/64) sees the surface at up to half a pixel's distance.
    assert!(worst < 0.5 / 64.0, "off by {worst} near the surface");
    // What no view sees: the groove between the spheres.
    assert!(signs < 10, "{signs} points on the wrong side");
}

#[test]
fn a_depth_edge_is_no_ramp() {
    // A small sphere before a large one. Half a pixel beside its limb, as the front sees it, the field
    // between the two must be outside; mixed depths would put a wall there.
    let pair = [([0.0, 0.0, 0.7], 0.15), ([0.0, 0.0, -0.2], 0.6)];
    let field = Field::new(&spheres(64, &pair), &Settings::default()).unwrap();
    for k in 0..32 {
        let (sin, cos) = (0.2 * k as f32).sin_cos();
        for z in [0.42, 0.5, 0.55] {
            assert!(field.value([0.19 * cos, 0.19 * sin, z]) > 0.0, "wall at angle {k}, z {z}");
        }
    }
}

#[test]
fn an_opening_does_not_hollow_the_inside() {
    // The bottom view looks into a sphere open below: it sees the inside of the far wall.
    let sphere = [([0.0; 3], 0.6)];
    let mut planes = spheres(64, &sphere);
    let pixels: &mut [[f32; 4]] = bytemuck::cast_slice_mut(&mut planes.values);
    for pixel in &mut pixels[64 * 64..2 * 64 * 64] {
        if pixel[0] < 1.0 {
            // Up through the bottom, on to the top wall, whose outward normal points along the ray.
            *pixel = [1.0 - pixel[0], pixel[1], -pixel[2], pixel[3]];
        }
    }
    let field = Field::new(&planes, &Settings::default()).unwrap();
    for p in random_points(2000) {
        let radius = sphere_distance(p, &[([0.0; 3], 0.0)]);
        if radius < 0.5 {
            assert!(field.value(p) < 0.0, "hollow at {p:?}");
        }
    }
}

#[test]
fn binary_planes_give_the_hull_of_their_silhouettes() {
    let size = 32;
    let mut rng = Rng::new(5, 0);
    let mut planes = Planes::background(Representation::Binary, size, Similarity::default());
    planes.values.iter_mut().for_each(|b| *b = rng.uniform());
    let field = Field::new(&planes, &Settings::default()).unwrap();
    for p in random_points(500) {
        let mut expected = 1.0f64;
        for (view, camera) in VIEWS.iter().enumerate() {
            let [u, v, _] = camera.project(p).map(f64::from);
            let at = |c: f64| ((c + 1.0) * 0.5 * size as f64 - 0.5).clamp(0.0, (size - 1) as f64);
            let (x, y) = (at(u), at(-v));
            let mut occupancy = 0.0;
            for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (r, c) = (y.floor() + f64::from(row), x.floor() + f64::from(column));
                let weight = (1.0 - (x - c).abs()) * (1.0 - (y - r).abs());
                let pixel = (r as usize).min(size - 1) * size + (c as usize).min(size - 1);
                occupancy += weight * f64::from(planes.view(view)[pixel]);
            }
            expected = expected.min(occupancy);
        }
        assert!((f64::from(field.occupancy(p)) - expected).abs() < 1e-5);
    }
}

#[test]
fn the_grid_samples_the_field_and_bounds_it() {
    for (size, n) in [(48, 33), (300, 7), (2, 5), (600, 2)] {
        let field = Field::new(&spheres(size, &TWO), &Settings::default()).unwrap();
        let grid = field.on_grid(n).unwrap();
        let at = |i: usize| -1.0 + grid.spacing()[0] * i as f32;
        let mut values = vec![0.0; n * n * n];
        for (i, row) in values.chunks_mut(n).enumerate() {
            let (y, z) = (i % n, i / n);
            grid.row(y, z, 0, row);
            for (x, &value) in row.iter().enumerate() {
                assert_eq!(value, field.value([at(x), at(y), at(z)]), "{size}/{n}: {x} {y} {z}");
            }
            let mut part = vec![0.0; n - 1];
            grid.row(y, z, 1, &mut part);
            assert_eq!(part, row[1..]);
        }
        let mut rng = Rng::new(size as u64, 0);
        let mut useful = 0;
        for _ in 0..300 {
            let low: [usize; 3] = std::array::from_fn(|_| rng.below(n));
            let high = low.map(|i| (i + rng.below(6)).min(n - 1));
            let (least, most) = grid.range(low, high);
            useful += usize::from(least > 0.0 || most < 0.0);
            for z in low[2]..=high[2] {
                for y in low[1]..=high[1] {
                    for value in &values[(z * n + y) * n..][low[0]..=high[0]] {
                        assert!((least..=most).contains(value), "{value} not in {least}..{most}");
                    }
                }
            }
        }
        assert!(size != 48 || useful > 150, "only {useful} of 300 boxes are told apart from the surface");
    }
}

#[test]
fn nothing_seen_is_nothing_there_and_bad_planes_are_refused() {
    let empty = Planes::background(Representation::Continuous, 16, Similarity::default());
    let field = Field::new(&empty, &Settings::default()).unwrap();
    assert_eq!(field.value([0.0; 3]), TAU);
    let mut broken = spheres(16, &TWO);
    broken.values.iter_mut().step_by(3).for_each(|x| *x = f32::NAN);
    assert!(Field::new(&broken, &Settings::default()).unwrap().value([0.0; 3]).is_finite());
    broken.values.pop();
    assert!(Field::new(&broken, &Settings::default()).is_err());
    assert!(Field::new(&empty, &Settings { tau: f32::NAN }).is_err());
    assert!(field.on_grid(1).is_err());
}
