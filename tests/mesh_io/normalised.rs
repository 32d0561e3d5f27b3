//! Into the cube and back, welding and normals.

use super::*;

#[test]
fn up_turns_the_head_upright_and_the_face_forward() {
    // (up, face) of the file, as docs/method.md and the docs of `Up` name them.
    let conventions = [
        ("y", [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
        ("-y", [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]),
        ("x", [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
        ("-x", [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
        ("z", [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]),
        ("-z", [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]),
    ];
    for (name, up, face) in conventions {
        let axis: Up = name.parse().unwrap();
        assert_eq!(axis.to_string(), name);
        assert_eq!(serde_json::to_value(axis).unwrap(), json!(name));
        let (_, similarity) = normalise(&tetrahedron(), axis).unwrap();
        assert_eq!(similarity.turn(up), [0.0, 1.0, 0.0], "{name}");
        assert_eq!(similarity.turn(face), [0.0, 0.0, 1.0], "{name}");
        let [a, b, c] = similarity.rotation.map(glam::DVec3::from_array);
        assert_eq!(a.cross(b).dot(c), 1.0, "{name}: a proper rotation");
    }
    assert!("up".parse::<Up>().unwrap_err().to_string().contains("use y, -y, x, -x, z or -z"));
}

#[test]
fn used_vertices_fill_the_cube_and_go_back() {
    let mut mesh = tetrahedron();
    // Not used by a triangle: no part in the box.
    mesh.positions.push([100.0, 0.0, 0.0]);
    mesh.normals = Some(vertex_normals(&mesh));
    let (normalised, similarity) = normalise(&mesh, Up::Z).unwrap();
    let (low, high) = normalised.bounds().unwrap();
    // 1 x 2 x 3 becomes x, z, y; one rounding to single precision.
    for (axis, half) in [0.3, 0.9, 0.6].into_iter().enumerate() {
        assert!((high[axis] - half).abs() < 1e-7 && (low[axis] + half).abs() < 1e-7, "{low:?} {high:?}");
    }
    let back = denormalise(&normalised, &similarity);
    for (found, expected) in back.positions.iter().flatten().zip(mesh.positions.iter().flatten()) {
        // Half a unit in the last place of 0.9, over the scale of 0.6, at coordinates up to 67.
        assert!((found - expected).abs() <= 1e-5, "{found} {expected}");
    }
    assert_eq!(back.normals.unwrap()[..4], mesh.normals.unwrap()[..4]);
}

#[test]
fn meshes_without_a_size_are_refused() {
    let refused = |change: &dyn Fn(&mut Mesh), part: &str| {
        let mut mesh = tetrahedron();
        change(&mut mesh);
        let message = normalise(&mesh, Up::Y).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&|mesh| mesh.triangles.clear(), "no triangles");
    refused(&|mesh| mesh.positions[3][0] = f32::NAN, "vertex 3");
    refused(&|mesh| mesh.triangles[0][0] = 4, "beyond the 4 vertices");
    refused(&|mesh| mesh.positions.fill([1.0; 3]), "one point");
}

#[test]
fn the_largest_extents_work_and_a_far_outlier_is_named() {
    let extreme = tetrahedron().transformed(|p| p.map(|c| (c - 1.5) * 2e38), |n| n);
    let (low, high) = normalise(&extreme, Up::Y).unwrap().0.bounds().unwrap();
    assert!(low[2] == -0.9 && high[2] == 0.9, "{low:?} {high:?}");
    let mut mesh = Mesh::default();
    for copy in 0..100 {
        mesh.positions.extend(TETRAHEDRON.map(|[x, y, z]| [x + copy as f32, y, z]));
        mesh.triangles.extend(FACES.map(|face| face.map(|index| index + 4 * copy)));
    }
    assert!(normalise(&mesh, Up::Y).is_ok());
    mesh.positions[17] = [1e30, 0.0, 0.0];
    let message = normalise(&mesh, Up::Y).unwrap_err().to_string();
    assert!(message.contains("98 %") && message.contains("remove the outliers"), "{message}");
}

#[test]
fn normals_do_not_depend_on_the_triangulation_and_cross_seams() {
    // A cube of quads split either way, every face with vertices of its own: (1, 1, 1) / sqrt 3.
    let mut mesh = Mesh::default();
    for (axis, flip, turn) in (0..3).flat_map(|axis| [(axis, false, axis), (axis, true, axis + 1)]) {
        let side = if flip { -1.0 } else { 1.0 };
        let corner = |u: f32, v: f32| {
            let mut p = [0.0; 3];
            (p[axis], p[(axis + 1) % 3], p[(axis + 2) % 3]) = (side, u, v);
            p
        };
        let mut ring = [corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)];
        if flip {
            ring.reverse();
        }
        ring.rotate_left(turn % 2);
        let first = mesh.positions.len() as u32;
        mesh.positions.extend(ring);
        mesh.triangles.extend([[first, first + 1, first + 2], [first, first + 2, first + 3]]);
    }
    for (normal, position) in vertex_normals(&mesh).iter().zip(&mesh.positions) {
        for axis in 0..3 {
            assert!((normal[axis] - position[axis] / 3f32.sqrt()).abs() < 1e-6, "{position:?} {normal:?}");
        }
    }
    let welded = weld(&mesh);
    assert_eq!((welded.positions.len(), welded.triangles.len()), (8, 12));
}

#[test]
fn normals_are_finite_where_there_is_nothing_to_go_by() {
    let positions = vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 5.0, 5.0], [0.5, 0.0, 0.0]];
    // Two sides of one triangle, a needle, and a vertex that nothing uses.
    let triangles = vec![[0, 1, 2], [0, 2, 1], [0, 4, 1]];
    let normals = vertex_normals(&Mesh { positions, normals: None, triangles });
    assert_eq!(normals[3], [0.0, 1.0, 0.0]);
    assert_eq!(normals[0].map(f32::abs), [0.0, 0.0, 1.0]);
    assert!(normals.iter().flatten().all(|c| c.is_finite()));
}
