//! The rasteriser against brute force, closed forms and its own contract.

use hexcuda::hexplane::rasterize::{Normals, rasterize};
use hexcuda::hexplane::{Planes, Representation, VIEWS};
use hexcuda::mesh::{Mesh, Similarity};
use proptest::prelude::*;

const FRONT: usize = 2;

fn draw(mesh: &Mesh, size: usize, representation: Representation, normals: Normals) -> Planes {
    rasterize(mesh, &Similarity::default(), size, representation, normals).unwrap()
}

fn continuous(mesh: &Mesh, size: usize) -> Planes {
    draw(mesh, size, Representation::Continuous, Normals::Face)
}

fn binary(mesh: &Mesh, size: usize) -> Planes {
    draw(mesh, size, Representation::Binary, Normals::Face)
}

fn mesh(positions: &[[f32; 3]], triangles: &[[u32; 3]]) -> Mesh {
    Mesh { positions: positions.to_vec(), normals: None, triangles: triangles.to_vec() }
}

/// A sphere of `2 * rings * rings` triangles, wound outwards, with its exact normals.
fn sphere(radius: f32, rings: u32) -> Mesh {
    let columns = 2 * rings;
    let mut normals = Vec::new();
    for ring in 0..=rings {
        let (y, r) = (std::f32::consts::PI * ring as f32 / rings as f32).sin_cos();
        let (y, r) = (r, y);
        for column in 0..columns {
            let (s, c) = (std::f32::consts::TAU * column as f32 / columns as f32).sin_cos();
            normals.push([r * c, y, r * s]);
        }
    }
    let mut triangles = Vec::new();
    for ring in 0..rings {
        for column in 0..columns {
            let at = |ring: u32, column: u32| ring * columns + column % columns;
            let (a, b) = (at(ring, column), at(ring, column + 1));
            let (c, d) = (at(ring + 1, column), at(ring + 1, column + 1));
            triangles.extend([[a, b, c], [b, d, c]]);
        }
    }
    Mesh {
        positions: normals.iter().map(|n| n.map(|c| c * radius)).collect(),
        normals: Some(normals),
        triangles,
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// (u, v) of a pixel centre, by the formula of the frame.
fn centre(size: usize, row: usize, column: usize) -> (f64, f64) {
    let n = size as f64;
    ((2 * column + 1) as f64 / n - 1.0, 1.0 - (2 * row + 1) as f64 / n)
}

/// What plain f64 geometry says of one pixel: the nearest depth, or `None` where a pixel is too close to an
/// edge to say, because vertices are snapped to 1/256 pixel.
fn oracle(mesh: &Mesh, view: usize, size: usize, row: usize, column: usize) -> Option<f64> {
    let (u, v) = centre(size, row, column);
    let mut nearest = 1.0f64;
    for triangle in 0..mesh.triangles.len() {
        let p = mesh.corners(triangle).map(|p| {
            let along = |d: [f32; 3]| (0..3).map(|k| f64::from(d[k]) * f64::from(p[k])).sum::<f64>();
            [along(VIEWS[view].right), along(VIEWS[view].up), 0.5 * (1.0 + along(VIEWS[view].forward))]
        });
        let mut weights = [0.0; 3];
        for k in 0..3 {
            let (a, b) = (p[(k + 1) % 3], p[(k + 2) % 3]);
            let cross = (b[0] - a[0]) * (v - a[1]) - (b[1] - a[1]) * (u - a[0]);
            let length = (b[0] - a[0]).hypot(b[1] - a[1]);
            // Half a subpixel of snapping at each end, with a margin.
            if cross.abs() < length * 2.0 / size as f64 / 128.0 && near_segment(a, b, u, v, size) {
                return None;
            }
            weights[k] = cross;
        }
        let area: f64 = weights.iter().sum();
        if weights.iter().all(|w| w / area > 0.0) {
            let depth: f64 = (0..3).map(|k| weights[k] / area * p[k][2]).sum();
            if (0.0..=1.0).contains(&depth) {
                nearest = nearest.min(depth);
            }
        }
    }
    Some(nearest)
}

fn near_segment(a: [f64; 3], b: [f64; 3], u: f64, v: f64, size: usize) -> bool {
    let margin = 2.0 / size as f64 / 64.0;
    let within = |p: f64, a: f64, b: f64| p > a.min(b) - margin && p < a.max(b) + margin;
    within(u, a[0], b[0]) && within(v, a[1], b[1])
}

fn triangle_soup() -> impl Strategy<Value = Mesh> {
    let point = prop::array::uniform3(-1.2f32..1.2);
    prop::collection::vec(prop::array::uniform3(point), 1..9).prop_map(|soup| {
        let triangles = (0..soup.len() as u32).map(|k| [3 * k, 3 * k + 1, 3 * k + 2]).collect();
        Mesh { positions: soup.into_iter().flatten().collect(), normals: None, triangles }
    })
}

/// A jittered grid over [-0.875, 0.875]^2; many edges pass through the centres of 16 pixels.
fn patch(cells: usize, jitter: &[(u8, u8, bool)]) -> Mesh {
    let step = 1.75 / cells as f32;
    let mut positions = Vec::new();
    for row in 0..=cells {
        for column in 0..=cells {
            let (jx, jy, _) = jitter[row * (cells + 1) + column];
            let inner = |k: usize| k > 0 && k < cells;
            // Less than a quarter of a cell, so that every quadrilateral stays convex.
            let shift = |j: u8| (f32::from(j % 7) - 3.0) / 16.0 * step;
            let x = column as f32 * step - 0.875 + if inner(column) { shift(jx) } else { 0.0 };
            let y = row as f32 * step - 0.875 + if inner(row) { shift(jy) } else { 0.0 };
            positions.push([x, y, f32::from(jx) / 512.0]);
        }
    }
    let mut triangles = Vec::new();
    for row in 0..cells {
        for column in 0..cells {
            let at = |r: usize, c: usize| ((row + r) * (cells + 1) + column + c) as u32;
            let (a, b, c, d) = (at(0, 0), at(0, 1), at(1, 0), at(1, 1));
            // Either diagonal, either winding: coverage must not care.
            let flip = jitter[row * (cells + 1) + column].2;
            triangles.extend(if flip { [[a, b, c], [c, b, d]] } else { [[a, d, b], [a, c, d]] });
        }
    }
    Mesh { positions, normals: None, triangles }
}

/// Few cases by default, for a quick test; proptest's own variable asks for more.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(48),
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn soups_match_brute_force(mesh in triangle_soup()) {
        let size = 24;
        let planes = continuous(&mesh, size);
        let mut said = 0;
        for view in 0..6 {
            for (pixel, value) in planes.view(view).chunks(4).enumerate() {
                let Some(expected) = oracle(&mesh, view, size, pixel / size, pixel % size) else { continue };
                said += 1;
                // Rounding alone, but for the conditioning of steep triangles in this random soup.
                prop_assert!((f64::from(value[0]) - expected).abs() < 1e-5, "view {view} pixel {pixel}: {} {expected}", value[0]);
                let length = dot([value[1], value[2], value[3]], [value[1], value[2], value[3]]);
                prop_assert!((length - f32::from(expected < 1.0)).abs() < 1e-5);
            }
        }
        prop_assert!(said > 6 * size * size / 2);
    }

    #[test]
    fn a_patch_covers_each_pixel_exactly_once(jitter in prop::collection::vec(any::<(u8, u8, bool)>(), 64)) {
        let size = 16;
        let patch = patch(7, &jitter);
        let mut count = vec![0.0; size * size];
        for triangle in &patch.triangles {
            let alone = mesh(&patch.positions, &[*triangle]);
            for (sum, hit) in count.iter_mut().zip(binary(&alone, size).view(FRONT)) {
                *sum += hit;
            }
        }
        // The square [-0.875, 0.875]^2 at 16 pixels: pixels 1..=14.
        let inside = |k: usize| (1..=14).contains(&k);
        for (pixel, count) in count.iter().enumerate() {
            prop_assert_eq!(*count, f32::from(inside(pixel / size) && inside(pixel % size)), "pixel {}", pixel);
        }
    }

    #[test]
    fn the_order_of_triangles_changes_no_depth(mesh in triangle_soup(), turn in 1usize..8) {
        let mut turned = mesh.clone();
        turned.triangles.rotate_left(turn % mesh.triangles.len());
        turned.triangles.reverse();
        prop_assert_eq!(depths(&continuous(&mesh, 32)), depths(&continuous(&turned, 32)));
    }
}

fn depths(planes: &Planes) -> Vec<u32> {
    planes.values.chunks(4).map(|pixel| pixel[0].to_bits()).collect()
}

#[test]
fn a_vertex_on_a_pixel_centre_is_covered_once() {
    // A fan around the centre of pixel (8, 8) of 16: every spoke and the hub lie on pixel centres.
    let hub = 1.0 / 16.0;
    let rim = |dx: f32, dy: f32| [hub + dx * 0.5, hub + dy * 0.5, 0.0];
    let positions = [
        [hub, hub, 0.0],
        rim(1.0, 0.0),
        rim(1.0, 1.0),
        rim(0.0, 1.0),
        rim(-1.0, 1.0),
        rim(-1.0, 0.0),
        rim(-1.0, -1.0),
        rim(0.0, -1.0),
        rim(1.0, -1.0),
    ];
    let mut count = vec![0.0; 256];
    for k in 0..8 {
        let alone = mesh(&positions, &[[0, 1 + k, 1 + (k + 1) % 8]]);
        for view in [FRONT, FRONT + 1] {
            for (pixel, hit) in binary(&alone, 16).view(view).iter().enumerate() {
                // The back view sees the mirror image.
                let mirrored = if view == FRONT { pixel } else { pixel / 16 * 16 + 15 - pixel % 16 };
                count[mirrored] += hit;
            }
        }
    }
    // The fan is 8 x 8 pixels wide between pixel centres: one side of it owns its border.
    assert_eq!(count.iter().sum::<f32>(), 2.0 * 64.0);
    assert!(count.iter().all(|&c| c == 0.0 || c == 2.0));
}

#[test]
fn a_sphere_has_its_closed_form_depths_and_normals() {
    let (size, radius) = (128, 0.9f64);
    let planes = draw(&sphere(0.9, 64), size, Representation::Continuous, Normals::Interpolated);
    for (k, view) in VIEWS.iter().enumerate() {
        for (pixel, value) in planes.view(k).chunks(4).enumerate() {
            let (u, v) = centre(size, pixel / size, pixel % size);
            let square = u * u + v * v;
            if square > 0.92 * 0.92 {
                assert_eq!(value, [1.0, 0.0, 0.0, 0.0], "{} {pixel}", view.name);
            } else if square < 0.8 * 0.8 {
                let w = -(radius * radius - square).sqrt();
                let n = view.unproject([u, v, 0.5 * (1.0 + w)].map(|c| c as f32)).map(|c| c / radius as f32);
                // A chord of pi/64 lies at most 0.9 (1 - cos(pi/64)) = 1.1e-3 inside, which slope and
                // projection make at most 2.4 times as much along the ray; half of it in depth.
                assert!((f64::from(value[0]) - 0.5 * (1.0 + w)).abs() < 1.4e-3, "{} {pixel}", view.name);
                assert!(dot(n, [value[1], value[2], value[3]]) > 0.9999, "{} {pixel} {value:?}", view.name);
            }
        }
    }
}

#[test]
fn face_normals_are_geometric_and_sphere_covers_without_holes() {
    // Triangles of a tenth of a pixel: most cover nothing, all together everything.
    let size = 32;
    let planes = continuous(&sphere(0.9, 120), size);
    for view in 0..6 {
        for (pixel, value) in planes.view(view).chunks(4).enumerate() {
            let (u, v) = centre(size, pixel / size, pixel % size);
            let covered = value[0] < 1.0;
            let radius = u.hypot(v);
            assert!((radius > 0.899) != covered || (0.897..0.901).contains(&radius), "{view} {pixel}");
        }
    }
    let flat = mesh(&[[-0.5, -0.5, 0.0], [0.5, -0.5, 0.5], [-0.5, 0.5, 0.0]], &[[0, 1, 2]]);
    let expected = [-(0.2f32.sqrt()), 0.0, 0.8f32.sqrt()];
    let planes = continuous(&flat, 64);
    let value = &planes.view(FRONT)[4 * (40 * 64 + 20)..][1..4];
    assert!((0..3).all(|axis| (value[axis] - expected[axis]).abs() < 1e-6), "{value:?}");
}

#[test]
fn opposite_silhouettes_are_mirrored_and_binary_is_the_coverage() {
    let mesh = sphere(0.77, 9);
    let size = 50;
    let (planes, mask) = (continuous(&mesh, size), binary(&mesh, size));
    for (value, mask) in planes.values.chunks(4).zip(&mask.values) {
        assert_eq!(f32::from(value[0] < 1.0), *mask);
    }
    for row in 0..size {
        for column in 0..size {
            let at = |view: usize, row: usize, column: usize| mask.view(view)[row * size + column];
            assert_eq!(at(0, row, column), at(1, size - 1 - row, column));
            assert_eq!(at(2, row, column), at(3, row, size - 1 - column));
            assert_eq!(at(4, row, column), at(5, row, size - 1 - column));
        }
    }
}

#[test]
fn an_inside_out_mesh_is_turned_and_a_mixed_one_faces_the_cameras() {
    let good = sphere(0.8, 12);
    let mut inverted = good.clone();
    inverted.triangles.iter_mut().for_each(|t| t.swap(1, 2));
    let mut mixed = good.clone();
    mixed.triangles.iter_mut().step_by(2).for_each(|t| t.swap(1, 2));
    for normals in [Normals::Face, Normals::Interpolated] {
        let draw = |mesh| draw(mesh, 40, Representation::Continuous, normals);
        for other in [&inverted, &mixed] {
            for (a, b) in draw(&good).values.iter().zip(&draw(other).values) {
                // The corners come in another order, so the last bits may differ.
                assert!((a - b).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn through_an_opening_the_outward_normal_faces_away() {
    // A bowl open to the back: the back view sees its inside alone.
    let mut bowl = sphere(0.8, 24);
    let behind = |t: &[u32; 3]| t.iter().all(|&v| bowl.positions[v as usize][2] < 1e-4);
    let triangles: Vec<[u32; 3]> = bowl.triangles.iter().copied().filter(|t| !behind(t)).collect();
    bowl.triangles = triangles;
    for normals in [Normals::Face, Normals::Interpolated] {
        let planes = draw(&bowl, 64, Representation::Continuous, normals);
        for (view, turned) in [(FRONT, 1.0), (FRONT + 1, -1.0)] {
            let middle = &planes.view(view)[4 * (32 * 64 + 32)..][..4];
            assert!(turned * dot([middle[1], middle[2], middle[3]], VIEWS[view].forward) < -0.99);
            let hits: Vec<&[f32]> = planes.view(view).chunks(4).filter(|value| value[0] < 1.0).collect();
            let outward = |value: &&&[f32]| value[3] > 0.0;
            assert!(hits.len() > 1500 && hits.iter().filter(outward).count() == hits.len());
        }
    }
}

#[test]
fn a_mesh_without_normals_is_smooth_all_the_same() {
    let given = sphere(0.9, 32);
    let bare = Mesh { normals: None, ..given.clone() };
    let of = |mesh| draw(mesh, 64, Representation::Continuous, Normals::Interpolated);
    for (a, b) in of(&given).values.chunks(4).zip(of(&bare).values.chunks(4)) {
        assert_eq!(a[0], b[0]);
        // Half of what a face errs at its corners, pi/32 / sqrt(2); but for the poles, where the sphere has
        // a vertex a column.
        let cosine = dot([a[1], a[2], a[3]], [b[1], b[2], b[3]]);
        assert!(a[0] == 1.0 || a[2].abs() > 0.98 || cosine.min(1.0).acos() < 0.035, "{a:?} {b:?}");
    }
}

#[test]
fn bad_vertex_normals_fall_back_to_the_face() {
    let triangle = [[-0.9, -0.9, 0.0], [0.9, -0.9, 0.0], [0.0, 0.9, 0.0]];
    let middle = 4 * (20 * 32 + 16);
    let with = |normal: [f32; 3]| {
        let mesh = Mesh { normals: Some(vec![normal; 3]), ..mesh(&triangle, &[[0, 1, 2]]) };
        let planes = draw(&mesh, 32, Representation::Continuous, Normals::Interpolated);
        <[f32; 3]>::try_from(&planes.view(FRONT)[middle + 1..middle + 4]).unwrap()
    };
    for bad in [[0.0; 3], [f32::NAN, 0.0, 1.0], [f32::INFINITY; 3], [0.9, 0.0, 0.4], [1.0, 0.0, 0.0]] {
        assert_eq!(with(bad), [0.0, 0.0, 1.0], "{bad:?}");
    }
    // Within 60 degrees, of any length and either sign: used.
    for (given, expected) in [
        ([0.6, 0.0, 0.8], [0.6, 0.0, 0.8]),
        ([0.0, -3.0, -4.0], [0.0, 0.6, 0.8]),
        ([0.0, 0.8, 0.6], [0.0, 0.8, 0.6]),
    ] {
        let found = with(given);
        assert!((0..3).all(|axis| (found[axis] - expected[axis]).abs() < 1e-6), "{given:?} {found:?}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mesh = sphere(0.9, 80);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| draw(&mesh, 100, Representation::Continuous, Normals::Interpolated))
    };
    let bits = |planes: Planes| planes.values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let one = bits(on(1));
    assert!(one == bits(on(2)) && one == bits(on(5)));
}

#[test]
fn among_equal_depths_the_lower_triangle_wins() {
    let corners = [[-0.9, -0.9, 0.25], [0.9, -0.9, 0.25], [0.0, 0.9, 0.25]];
    let tilted = |x: f32| [[x, 0.0, 1.0]; 3];
    let both = Mesh {
        positions: [corners, corners].concat(),
        normals: Some([tilted(0.5), tilted(-0.5)].concat()),
        triangles: vec![[0, 1, 2], [3, 4, 5]],
    };
    let swapped = Mesh { triangles: vec![[3, 4, 5], [0, 1, 2]], ..both.clone() };
    for (mesh, sign) in [(both, 1.0), (swapped, -1.0)] {
        let planes = draw(&mesh, 16, Representation::Continuous, Normals::Interpolated);
        for value in planes.view(FRONT).chunks(4).filter(|value| value[0] < 1.0) {
            assert_eq!((value[0], value[1].signum()), (0.375, sign));
        }
    }
}

#[test]
fn what_sticks_out_of_the_cube_is_clipped() {
    let huge = mesh(&[[-3.9, -3.9, 0.0], [3.9, -3.9, 0.0], [0.0, 3.9, 0.0]], &[[0, 1, 2]]);
    assert!(continuous(&huge, 64).view(FRONT).chunks(4).all(|value| value == [0.5, 0.0, 0.0, 1.0]));
    let before = mesh(&[[-0.9, -0.9, 1.5], [0.9, -0.9, 1.5], [0.0, 0.9, 1.5]], &[[0, 1, 2]]);
    assert!(continuous(&before, 64).view(FRONT).chunks(4).all(|value| value == [1.0, 0.0, 0.0, 0.0]));
    // Half of a slope from z = -2 to z = 2 lies in the cube.
    let slope = mesh(
        &[[-1.0, -2.0, -2.0], [1.0, -2.0, -2.0], [1.0, 2.0, 2.0], [-1.0, 2.0, 2.0]],
        &[[0, 1, 2], [0, 2, 3]],
    );
    assert!(binary(&slope, 64).view(FRONT).iter().all(|&hit| hit == 1.0));
    // The faces of the full cube lie on the near and far planes and are seen.
    let cube = cube();
    for value in continuous(&cube, 16).values.chunks(4) {
        assert_eq!(value[0].to_bits(), 0);
    }
}

fn cube() -> Mesh {
    let positions: Vec<[f32; 3]> =
        (0..8).map(|k| [0, 1, 2].map(|axis| if k >> axis & 1 == 1 { 1.0 } else { -1.0 })).collect();
    let quads = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]];
    let triangles: Vec<[u32; 3]> =
        quads.iter().flat_map(|q| [[q[0], q[1], q[2]], [q[0], q[2], q[3]]]).collect();
    mesh(&positions, &triangles)
}

#[test]
fn bad_meshes_are_refused_in_one_line() {
    let good = [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0]];
    let said = |mesh: &Mesh, size| {
        rasterize(mesh, &Similarity::default(), size, Representation::Binary, Normals::Face)
            .unwrap_err()
            .to_string()
    };
    assert!(said(&mesh(&good, &[]), 8).contains("no triangles"));
    assert!(said(&mesh(&good, &[[0, 1, 2], [0, 1, 3]]), 8).contains("triangle 1: corners [0, 1, 3] of 3"));
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let far = [good[0], good[1], [bad, 0.0, 0.0]];
        assert!(said(&mesh(&far, &[[0, 1, 2]]), 8).contains("triangle 0: expected corners in [-1,1]^3"));
        // A vertex that no triangle uses does no harm.
        let unused = [good[0], good[1], good[2], [bad; 3]];
        assert!(binary(&mesh(&unused, &[[0, 1, 2]]), 8).values.contains(&1.0));
    }
    for size in [0, 5000] {
        assert!(said(&mesh(&good, &[[0, 1, 2]]), size).contains("expected 1 to 4096"));
    }
    let short = Mesh { normals: Some(vec![]), ..mesh(&good, &[[0, 1, 2]]) };
    assert!(said(&short, 8).contains("0 normals for 3 vertices"));
}
