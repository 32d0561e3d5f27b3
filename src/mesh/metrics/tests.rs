use super::*;
use crate::mesh::distance::tests::sphere;

fn settings() -> Settings {
    Settings { samples: 20_000, iou_grid: 64, ..Settings::default() }
}

fn cube(half: f32, centre: [f32; 3]) -> Mesh {
    let corner = |i: usize| std::array::from_fn(|a| centre[a] + if i >> a & 1 == 1 { half } else { -half });
    let quads: [[u32; 4]; 6] =
        [[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]];
    let triangles = quads.iter().flat_map(|q| [[q[0], q[1], q[2]], [q[0], q[2], q[3]]]).collect();
    Mesh { positions: (0..8).map(corner).collect(), normals: None, triangles }
}

#[test]
fn a_mesh_equals_itself() {
    let mesh = sphere(4, 0.7, [0.0; 3]);
    let found = compare(&mesh, &mesh, &settings()).unwrap();
    // Samples are rounded to f32: half an ulp of one is 6e-8 on each axis.
    assert!(found.chamfer_l1.unwrap() < 1e-7 && found.hausdorff_95.unwrap() < 2e-7);
    assert!(found.scores.iter().all(|s| (s.f_score, s.precision, s.recall) == (1.0, 1.0, 1.0)));
    assert!(found.normal_consistency.unwrap() > 0.999);
    assert_eq!((found.volume_iou, found.near_surface_accuracy), (Some(1.0), 1.0));
    assert!(found.health.watertight && found.health == found.reference_health);
}

#[test]
fn concentric_spheres_in_closed_form() {
    let (inner, outer) = (0.6f64, 0.615f64);
    let found =
        compare(&sphere(6, inner as f32, [0.0; 3]), &sphere(6, outer as f32, [0.0; 3]), &settings()).unwrap();
    // The chords of a sphere of 32,768 triangles sag by about (edge 0.015)^2 / (8 r) < 5e-5.
    let gap = outer - inner;
    assert!((found.chamfer_l1.unwrap() - gap).abs() < 1e-4, "{found:?}");
    assert!((found.chamfer_l2.unwrap() - gap * gap).abs() < 2.0 * gap * 1e-4);
    assert!((found.hausdorff_95.unwrap() - gap).abs() < 1e-4);
    let f: Vec<f64> = found.scores.iter().map(|s| s.f_score).collect();
    assert_eq!(f, [0.0, 0.0, 1.0]);
    // Neighbouring normals differ by at most an edge over the radius, 0.026: a cosine of 0.9997.
    assert!(found.normal_consistency.unwrap() > 0.999);
    let within = |radius: f64| {
        let centre = |i: usize| ((2 * i + 1) as f64 / 64.0 - 1.0).powi(2);
        let cell = |i: &usize| centre(i % 64) + centre(i / 64 % 64) + centre(i / 4096) < radius * radius;
        (0..64usize.pow(3)).filter(cell).count() as f64
    };
    // The sag moves the surfaces by 5e-5, 1/600 of a cell; each crosses about 4,600 cells.
    assert!((found.volume_iou.unwrap() - within(inner) / within(outer)).abs() < 1e-3, "{found:?}");
    // They differ between the spheres: 0 < offset along the normal < 1.5 sigma, 0.4332 of all.
    assert!((found.near_surface_accuracy - (1.0 - 0.4332)).abs() < 0.015, "{}", found.near_surface_accuracy);
}

#[test]
fn two_references_are_as_far_apart_as_compared() {
    let [a, b] =
        [0.6, 0.615].map(|radius| Reference::new(&sphere(6, radius, [0.0; 3]), &settings()).unwrap());
    for most in [500, usize::MAX] {
        // The sag of the chords, as above.
        assert!((a.chamfer_l1(&b, most) - 0.015).abs() < 1e-4, "{}", a.chamfer_l1(&b, most));
        assert_eq!(a.chamfer_l1(&b, most), b.chamfer_l1(&a, most));
    }
}

#[test]
fn shifted_cubes_in_closed_form() {
    // Faces on cell boundaries of 64 cells, so that the counts are the volumes.
    let found = compare(&cube(0.5, [0.0; 3]), &cube(0.5, [0.25, 0.0, 0.0]), &settings()).unwrap();
    assert_eq!(found.volume_iou, Some(0.75 / 1.25));
    // Each way: one face (1/6) lies outside the other at 0.25, one inside at min(0.25, distance to the
    // sides); a quarter of each of four lies outside, at 0 to 0.25 from the edge; the rest is shared.
    let inside = {
        let n = 1000;
        let at = |i: usize| ((i as f64 + 0.5) / n as f64).min(1.0 - (i as f64 + 0.5) / n as f64);
        (0..n).map(|i| (0..n).map(|j| at(i).min(at(j)).min(0.25)).sum::<f64>()).sum::<f64>() / (n * n) as f64
    };
    let expected = (0.25 + inside + 4.0 * 0.25 * 0.125) / 6.0;
    // 20,000 stratified samples of values up to 0.25: a standard error below 0.0007.
    assert!((found.chamfer_l1.unwrap() - expected).abs() < 0.002, "{:?} {expected}", found.chamfer_l1);
    let shared = 3.0 / 6.0;
    let score = found.at(0.005).unwrap();
    // Near the shared part, 0.005 more of the four sides and 4 * 0.005 of the inner face's rim.
    assert!((score.recall - (shared + (4.0 * 0.005 + 4.0 * 0.005) / 6.0)).abs() < 0.005, "{score:?}");
}

#[test]
fn open_and_closed_insides_agree() {
    let closed = sphere(4, 0.7, [0.1, 0.0, 0.0]);
    // The winding number stays nearly whole but near the one missing triangle.
    let mut open = closed.clone();
    open.triangles.pop();
    let insides = [closed, open]
        .map(|mesh| volume::inside(&Device::Cpu, &MeshDistance::new(&mesh).unwrap(), 32).unwrap());
    assert!(volume::iou(&insides[0], &insides[1]).unwrap() > 0.999);
    let expected = 4.0 / 3.0 * std::f64::consts::PI * 0.7f64.powi(3) / 8.0 * 32f64.powi(3);
    let count = insides[0].iter().filter(|inside| **inside).count() as f64;
    assert!((count / expected - 1.0).abs() < 0.02, "{count} {expected}");
}

#[test]
fn nothing_is_a_result_and_bad_input_an_error() {
    let mesh = sphere(3, 0.7, [0.0; 3]);
    let reference = Reference::new(&mesh, &settings()).unwrap();
    let found = reference.compare(&Mesh::default()).unwrap();
    assert!(found.scores.iter().all(|s| s.f_score == 0.0 && s.recall == 0.0));
    assert_eq!((found.chamfer_l1, found.hausdorff_95, found.volume_iou), (None, None, Some(0.0)));
    assert!((found.near_surface_accuracy - 0.5).abs() < 0.05);
    let json = serde_json::to_string(&found).unwrap();
    assert!(json.contains("\"chamfer_l1\":null"));
    assert_eq!(serde_json::from_str::<Metrics>(&json).unwrap(), found);
    assert!(Reference::new(&Mesh::default(), &settings()).is_err());
    assert!(Reference::new(&mesh, &Settings { samples: 0, ..settings() }).is_err());
    assert!(Reference::new(&mesh, &Settings { iou_grid: 1 << 40, ..settings() }).is_err());
    let huge = |s: f32| Mesh {
        positions: mesh.positions.iter().map(|p| p.map(|c| c * s)).collect(),
        ..mesh.clone()
    };
    for mesh in [huge(1e30), huge(1e-30), huge(0.0)] {
        let found = reference.compare(&mesh).unwrap();
        assert!(found.chamfer_l1.unwrap().is_finite() && found.volume_iou.is_some());
    }
}

#[test]
fn samples_are_uniform_by_area() {
    // Two triangles of areas 1 and 3.
    let mesh = Mesh {
        positions: vec![
            [0.0; 3],
            [2.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
            [-6.0, 0.0, 1.0],
            [0.0, 1.0, 1.0],
        ],
        normals: None,
        triangles: vec![[0, 1, 2], [3, 4, 5]],
    };
    let samples = Samples::new(&mesh, 4000, 3, "test");
    let first: Vec<&[f32; 3]> = samples.points.iter().filter(|p| p[2] == 0.0).collect();
    assert_eq!(first.len(), 1000);
    // The centroid of [0, 1, 2]; standard error of x: sqrt(2) / 3 / sqrt(1000) = 0.015.
    let x = first.iter().map(|p| f64::from(p[0])).sum::<f64>() / 1000.0;
    let y = first.iter().map(|p| f64::from(p[1])).sum::<f64>() / 1000.0;
    assert!((x - 2.0 / 3.0).abs() < 0.06 && (y - 1.0 / 3.0).abs() < 0.03, "{x} {y}");
}
