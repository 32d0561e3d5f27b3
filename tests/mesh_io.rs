//! Mesh files: what is written by hand or by us reads as what it means, and every fault is one line
//! that names the file, the place and what to do.

use std::fs;
use std::path::Path;

use hexcuda::mesh::Mesh;
use hexcuda::mesh::io::{self, Format, read_bytes};
use hexcuda::mesh::normalise::{Up, denormalise, normalise, vertex_normals, weld};
use serde_json::{Value, json};

const TETRAHEDRON: [[f32; 3]; 4] = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]];
const FACES: [[u32; 3]; 4] = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]];

fn tetrahedron() -> Mesh {
    Mesh { positions: TETRAHEDRON.to_vec(), normals: None, triangles: FACES.to_vec() }
}

fn ok(bytes: impl AsRef<[u8]>, format: Format) -> Mesh {
    read_bytes(bytes.as_ref(), format, "mesh").unwrap()
}

/// The message of a refusal, one line that starts with the name and holds `parts`.
fn refused(bytes: impl AsRef<[u8]>, format: Format, parts: &[&str]) {
    let message = read_bytes(bytes.as_ref(), format, "file").unwrap_err().to_string();
    assert!(message.starts_with("file: ") && message.contains("; "), "{message}");
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} in {message:?}"));
}

/// Every corner of every triangle, which is what a format without shared vertices keeps.
fn corners(mesh: &Mesh) -> Vec<[[f32; 3]; 3]> {
    (0..mesh.triangles.len()).map(|index| mesh.corners(index)).collect()
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    // Values that text must not round.
    let mut mesh = tetrahedron();
    mesh.positions[1] = [0.1, 1.0 / 3.0, 1e-30];
    mesh.normals = Some(vertex_normals(&mesh));
    for ending in ["obj", "ply", "stl", "glb", "gltf", "PLY"] {
        let path = folder.path().join(format!("mesh.{ending}"));
        io::write(&path, &mesh).unwrap();
        let read = io::read(&path).unwrap();
        assert_eq!(corners(&read), corners(&mesh), "{ending}");
        if ending != "stl" {
            assert_eq!(read.positions.len(), 4, "{ending}");
            let (found, expected) = (read.normals.unwrap(), mesh.normals.clone().unwrap());
            // Numbered by the first corner that uses it, in OBJ.
            for (position, normal) in read.positions.iter().zip(&found) {
                let index = mesh.positions.iter().position(|p| p == position).unwrap();
                let error = (0..3).map(|axis| (normal[axis] - expected[index][axis]).abs());
                // Normals are made unit length again: the rounding of one multiplication.
                assert!(error.fold(0.0, f32::max) <= 2.0 * f32::EPSILON, "{ending}");
            }
        }
    }
    mesh.normals = None;
    for (ending, has_normals) in [("obj", false), ("ply", false), ("glb", true)] {
        let path = folder.path().join(format!("plain.{ending}"));
        io::write(&path, &mesh).unwrap();
        let read = io::read(&path).unwrap();
        assert_eq!((read.positions, read.normals.is_some()), (mesh.positions.clone(), has_normals));
    }
}

#[test]
fn paths_that_cannot_be_read_or_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let read = |name: &str| io::read(&at(name)).unwrap_err().to_string();
    let write = |path: &Path| io::write(path, &tetrahedron()).unwrap_err().to_string();
    assert!(read("missing.obj").contains("missing.obj: No such file"));
    assert!(read("mesh.fbx").contains("use .obj, .ply, .stl, .glb or .gltf"));
    assert!(read("mesh").contains("no ending"));
    fs::create_dir(at("folder.ply")).unwrap();
    assert!(read("folder.ply").contains("name a file, not a folder"));
    fs::write(at("empty.stl"), b"").unwrap();
    assert!(read("empty.stl").contains("empty.stl: the file is empty"));
    io::write(&at("mesh.glb"), &tetrahedron()).unwrap();
    fs::rename(at("mesh.glb"), at("mesh.obj")).unwrap();
    assert!(read("mesh.obj").contains("expected OBJ, the content is GLB; rename it to end in .glb"));
    // Sparse: takes no room on the disk.
    fs::File::create(at("huge.obj")).unwrap().set_len(io::MAX_BYTES + 1).unwrap();
    assert!(read("huge.obj").contains("simplify the mesh"));

    assert!(write(&at("mesh.xyz")).contains("use .obj"));
    assert!(write(&at("nowhere/mesh.obj")).contains("does not exist; create it"));
    let empty = io::write(&at("none.obj"), &Mesh::default()).unwrap_err().to_string();
    assert!(empty.contains("no triangles") && !at("none.obj").exists());
    let mut broken = tetrahedron();
    broken.positions[2][1] = f32::NAN;
    assert!(io::write(&at("nan.stl"), &broken).unwrap_err().to_string().contains("vertex 2"));
    broken = tetrahedron();
    broken.triangles[0][0] = 9;
    assert!(io::write(&at("index.stl"), &broken).unwrap_err().to_string().contains("[9, 2, 1]"));
}

mod obj {
    use super::*;

    #[test]
    fn the_forms_that_exporters_write_are_read() {
        let text = "# a comment \\\r\nmtllib missing.mtl\r\no first\r\nv 0 0 0 1.0\r\nv 1 0 0 0.1 0.2 0.3\r\n\
            v 1 1 0\r\nv 0 1 0\r\nvt 0 0\r\nvn 0 0 2\r\ng lid\r\nusemtl skin\r\ns off\r\n\
            f 1/1/1 2/1/1 \\\r\n 3/1/1 4/1/1\r\no second\r\nv 0 0 1 # at the back\r\nf -1//1 -4//1 1//1\r\nl 1 2\r\nf 1 1 2";
        let mesh = ok(text, Format::Obj);
        assert_eq!(mesh.triangles.len(), 3);
        assert_eq!(
            corners(&mesh)[0],
            [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]],
            "the quad splits at its first diagonal"
        );
        assert_eq!(corners(&mesh)[2], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]);
        let normals = mesh.normals.unwrap();
        assert!(mesh.triangles.iter().flatten().all(|&vertex| normals[vertex as usize] == [0.0, 0.0, 1.0]));
    }

    #[test]
    fn a_position_with_two_normals_becomes_two_vertices() {
        let text =
            "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvn 0 0 1\nvn 0 1 0\nf 1//1 2//1 3//1\nf 1//2 4//2 2//2\n";
        let mesh = ok(text, Format::Obj);
        assert_eq!((mesh.positions.len(), mesh.triangles.len()), (6, 2));
        assert_eq!(weld(&mesh).positions.len(), 4);
    }

    #[test]
    fn missing_and_zero_normals_are_computed() {
        let text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 0\nvn 0 0 3\nf 1//1 2//2 3\n";
        assert_eq!(ok(text, Format::Obj).normals.unwrap(), [[0.0, 0.0, 1.0]; 3]);
    }

    #[test]
    fn old_macintosh_line_ends_are_read() {
        assert_eq!(ok("v 0 0 0\rv 1 0 0\rv 0 1 0\rf 1 2 3\r", Format::Obj).triangles, [[0, 1, 2]]);
    }

    #[test]
    fn faults_name_their_line() {
        let refused = |text: &str, parts: &[&str]| refused(text, Format::Obj, parts);
        let v3 = "v 0 0 0\nv 1 0 0\nv 0 1 0\n";
        refused("v 0 0 0\nv 1 0\n", &["line 2", "expected 3 numbers after v, found 2"]);
        refused("v 0 0 x\n", &["line 1", "\"x\""]);
        refused("v 0 0 0\n\nv 0 nan 0\n", &["line 3", "vertex 2", "NaN"]);
        refused("v 0 0 1e39\n", &["line 1", "not finite"]);
        refused(&format!("{v3}f 1 2 4\n"), &["line 4", "vertex 3 counted from 0, there are 3"]);
        refused(&format!("{v3}f 0 1 2\n"), &["line 4", "vertex index"]);
        refused(&format!("{v3}f 1 2 -4\n"), &["line 4", "\"-4\""]);
        refused(&format!("{v3}f 1//1 2//1 3//1\n"), &["line 4", "normal 1, there are 0"]);
        refused(&format!("{v3}f 1 2 99999999999999999999\n"), &["line 4"]);
        refused(v3, &["no triangles among 3 vertices"]);
        refused(&format!("{v3}f 1 1 2\n"), &["no triangles"]);
        refused("PK\u{3}\u{4} not a mesh", &["no triangles"]);
        let many: String = (0..10_001).map(|_| " 1").collect();
        refused(&format!("{v3}f{many}\n"), &["line 4", "10001 corners", "triangulate"]);
    }
}

mod ply {
    use super::*;

    const PROPERTIES: &str = "element vertex 4\nproperty uchar red\nproperty double z\nproperty float x\n\
        property list uchar short flags\nproperty float y\nelement edge 1\nproperty int vertex1\n\
        element face 2\nproperty float quality\nproperty list uint8 int32 vertex_index\nend_header\n";

    fn binary(big_endian: bool) -> Vec<u8> {
        let name = if big_endian { "big" } else { "little" };
        let mut bytes =
            format!("ply\nformat binary_{name}_endian 1.0\ncomment \u{e9}\n{PROPERTIES}").into_bytes();
        let mut put = |number: &[u8]| {
            let mut number = number.to_vec();
            if big_endian {
                number.reverse();
            }
            bytes.extend(number);
        };
        for [x, y, z] in TETRAHEDRON {
            put(&[255]);
            put(&f64::from(z).to_le_bytes());
            put(&x.to_le_bytes());
            put(&[1]);
            put(&7i16.to_le_bytes());
            put(&y.to_le_bytes());
        }
        put(&5i32.to_le_bytes());
        for face in [&[0, 2, 1][..], &[0, 1, 2, 3]] {
            put(&0.5f32.to_le_bytes());
            put(&[face.len() as u8]);
            face.iter().for_each(|index: &i32| put(&index.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn text_and_both_byte_orders_read_the_same() {
        let text = format!(
            "ply\r\nformat ascii 1.0\r\n{}0 0 0 1 7 0\n0 0 1 0 0\n0 0 0 2 1 1 2\n0 3 0 0 0\n5\n0.5 3 0 2 1\n0.5 4 0 1 2 3",
            PROPERTIES.replace('\n', "\r\n")
        );
        let little = ok(binary(false), Format::Ply);
        assert_eq!(little.positions, TETRAHEDRON);
        assert_eq!(little.triangles.len(), 3);
        assert_eq!(little, ok(binary(true), Format::Ply));
        assert_eq!(little, ok(text, Format::Ply));
    }

    #[test]
    fn truncation_anywhere_is_an_error_and_never_a_panic() {
        let whole = binary(false);
        for length in 1..whole.len() {
            refused(&whole[..length], Format::Ply, &[]);
        }
    }

    #[test]
    fn faults_name_their_place() {
        let head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
            element face 1\nproperty list uchar int vertex_indices\nend_header\n";
        let refused = |text: String, parts: &[&str]| refused(text, Format::Ply, parts);
        let v3 = "0 0 0\n1 0 0\n0 1 0\n";
        refused(format!("{head}0 0 0\n0 nan 0\n0 1 0\n3 0 1 2\n"), &["line 10", "vertex 1", "NaN"]);
        refused(format!("{head}0 0 0\n0 a 0\n0 1 0\n3 0 1 2\n"), &["line 11", "\"a\""]);
        refused(format!("{head}{v3}3 0 1 3\n"), &["line 12", "vertex 3", "there are 3"]);
        refused(format!("{head}{v3}3 0 1 -1\n"), &["line 13", "vertex index", "-1"]);
        refused(format!("{head}{v3}4 0 1 2\n"), &["ends in the middle"]);
        let huge = head.replace("vertex 3", "vertex 4000000000000000000");
        refused(format!("{huge}{v3}"), &["element vertex", "are left"]);
        let huge = head.replace("face 1", "face 18446744073709551615");
        refused(format!("{huge}{v3}"), &["element face", "are left"]);
        refused(head.replace("face 1", "face 18446744073709551616"), &["header"]);
        refused(format!("{}{v3}3 0 1 2\n", head.replace("float z", "float w")), &["no property z"]);
        refused(
            format!("{}{v3}3 0 1 2\n", head.replace("vertex_indices", "strip")),
            &["no property vertex_indices"],
        );
        refused(head.replace("float z", "float x"), &["twice"]);
        refused("ply\nformat ascii 1.0\n".to_string(), &["end_header"]);
        refused("plx\n".to_string(), &["expected \"ply\""]);
        let cloud = head.split("element face").next().unwrap();
        refused(format!("{cloud}end_header\n{v3}"), &["no triangles among 3 vertices", "point cloud"]);
    }
}

mod stl {
    use super::*;

    fn text(corners: &[[[f32; 3]; 3]]) -> String {
        let facet = |corners: &[[f32; 3]; 3]| {
            let vertices: String =
                corners.iter().map(|[x, y, z]| format!("      vertex {x} {y} {z}\n")).collect();
            format!("  facet normal 0 0 0\n    outer loop\n{vertices}    endloop\n  endfacet\n")
        };
        let facets: String = corners.iter().map(facet).collect();
        format!("solid a name\n{facets}endsolid\n")
    }

    fn binary(header: &[u8], corners: &[[[f32; 3]; 3]]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        bytes.resize(80, b' ');
        bytes.extend((corners.len() as u32).to_le_bytes());
        for facet in corners {
            bytes.extend([0; 12]);
            facet.iter().flatten().for_each(|number| bytes.extend(number.to_le_bytes()));
            bytes.extend([0; 2]);
        }
        bytes
    }

    #[test]
    fn text_and_binary_share_vertices_at_equal_places() {
        let mut facets = corners(&tetrahedron());
        facets[1][0] = [-0.0, 0.0, 0.0];
        let read = [
            ok(text(&facets), Format::Stl),
            ok(text(&facets).to_uppercase(), Format::Stl),
            ok(binary(b"", &facets), Format::Stl),
            ok(binary(b"solid but binary", &facets), Format::Stl),
        ];
        for mesh in read {
            assert_eq!((mesh.positions.len(), mesh.triangles.len()), (4, 4));
            assert_eq!(corners(&mesh), corners(&tetrahedron()));
            assert_eq!(mesh.normals, None);
        }
    }

    #[test]
    fn faults_name_their_place() {
        let facets = corners(&tetrahedron());
        let whole = binary(b"", &facets);
        for length in 1..whole.len() {
            refused(&whole[..length], Format::Stl, &[]);
        }
        refused(&whole[..whole.len() - 1], Format::Stl, &["byte 80", "4 facets need 284 bytes", "has 283"]);
        let mut claims_more = whole.clone();
        claims_more[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
        refused(claims_more, Format::Stl, &["4294967295 facets"]);
        let mut broken = facets.clone();
        broken[2][1][0] = f32::INFINITY;
        refused(binary(b"", &broken), Format::Stl, &["byte 208", "vertex 7", "inf"]);
        refused(text(&broken), Format::Stl, &["line 19", "vertex 7", "inf"]);
        let text = text(&facets);
        refused(text.replace("endsolid", ""), Format::Stl, &["before endsolid"]);
        refused(text.replacen("vertex 0", "corner 0", 1), Format::Stl, &["line 4", "\"corner\""]);
        refused(text.replacen("vertex 0 0 0", "vertex 0 0", 1), Format::Stl, &["line 4", "3 numbers"]);
        refused(text.replacen("      vertex 0 0 0\n", "", 1), Format::Stl, &["line 7", "found 2"]);
        refused("solid nothing\nendsolid\n", Format::Stl, &["no triangles"]);
    }
}

mod gltf {
    use super::*;

    fn bytes_of<const N: usize>(numbers: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
        numbers.into_iter().flatten().collect()
    }

    fn glb(document: &Value, chunk: &[u8]) -> Vec<u8> {
        let mut text = document.to_string().into_bytes();
        text.resize(text.len().next_multiple_of(4), b' ');
        let mut bytes = b"glTF".to_vec();
        let length = 12 + 8 + text.len() + 8 + chunk.len();
        [2, length, text.len()].iter().for_each(|&number| bytes.extend((number as u32).to_le_bytes()));
        bytes.extend(b"JSON");
        bytes.extend(text);
        bytes.extend((chunk.len() as u32).to_le_bytes());
        bytes.extend(b"BIN\0");
        bytes.extend(chunk);
        bytes
    }

    /// Positions at 0 (stride 16), indices as u16 at 64, as u8 at 88, all of the tetrahedron.
    fn chunk() -> Vec<u8> {
        let mut bytes =
            bytes_of(TETRAHEDRON.iter().flat_map(|&[x, y, z]| [x, y, z, f32::NAN]).map(f32::to_le_bytes));
        bytes.extend(bytes_of(FACES.iter().flatten().map(|&index| (index as u16).to_le_bytes())));
        bytes.extend(FACES.iter().flatten().map(|&index| index as u8));
        bytes
    }

    fn document() -> Value {
        json!({
            "asset": { "version": "2.0" },
            "scene": 0, "scenes": [{ "nodes": [0] }], "nodes": [{ "mesh": 0 }],
            "meshes": [{ "primitives": [{ "attributes": { "POSITION": 0 }, "indices": 1 }] }],
            "accessors": [
                { "bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3" },
                { "bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR" },
                { "bufferView": 1, "byteOffset": 24, "componentType": 5121, "count": 12, "type": "SCALAR" },
            ],
            "bufferViews": [
                { "buffer": 0, "byteLength": 64, "byteStride": 16 },
                { "buffer": 0, "byteOffset": 64, "byteLength": 36 },
            ],
            "buffers": [{ "byteLength": 100 }],
        })
    }

    /// The document with values put at JSON pointers.
    fn with(changes: &[(&str, Value)]) -> Value {
        let mut document = document();
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match document.pointer_mut(parent).unwrap() {
                Value::Array(items) if key == "-" => items.push(value.clone()),
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
                object => object[key] = value.clone(),
            }
        }
        document
    }

    fn read(document: &Value) -> Mesh {
        ok(glb(document, &chunk()), Format::Glb)
    }

    #[test]
    fn interleaved_vertices_and_indices_of_all_widths_are_read() {
        assert_eq!(read(&document()), tetrahedron());
        assert_eq!(read(&with(&[("/meshes/0/primitives/0/indices", json!(2))])), tetrahedron());
        let wide = bytes_of(FACES.iter().flatten().map(|index| index.to_le_bytes()));
        let mut long = chunk();
        long.extend(wide);
        let changes = [
            ("/bufferViews/-", json!({ "buffer": 0, "byteOffset": 100, "byteLength": 48 })),
            (
                "/accessors/1",
                json!({ "bufferView": 2, "componentType": 5125, "count": 12, "type": "SCALAR" }),
            ),
        ];
        assert_eq!(ok(glb(&with(&changes), &long), Format::Glb), tetrahedron());
    }

    #[test]
    fn strips_fans_and_plain_vertices_become_triangles() {
        let primitive =
            |mode: u32| ("/meshes/0/primitives/0", json!({ "attributes": { "POSITION": 0 }, "mode": mode }));
        assert_eq!(read(&with(&[primitive(4)])).triangles, [[0, 1, 2]]);
        assert_eq!(read(&with(&[primitive(5)])).triangles, [[0, 1, 2], [1, 3, 2]]);
        assert_eq!(read(&with(&[primitive(6)])).triangles, [[0, 1, 2], [0, 2, 3]]);
        for mode in 0..4 {
            refused(glb(&with(&[primitive(mode)]), &chunk()), Format::Glb, &["no triangles"]);
        }
    }

    #[test]
    fn node_transforms_apply_and_mirrors_keep_the_outside_outside() {
        let nodes = json!([
            { "children": [1, 2], "translation": [10.0, 0.0, 0.0] },
            { "mesh": 0, "scale": [2.0, 1.0, 1.0], "rotation": [0.0, 0.0, 0.5_f32.sqrt(), 0.5_f32.sqrt()] },
            { "mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1] },
        ]);
        let mesh = read(&with(&[("/nodes", nodes)]));
        assert_eq!((mesh.positions.len(), mesh.triangles.len()), (8, 8));
        // Scaled by 2 along x, turned by 90 degrees about z, moved by 10: (x, y, z) -> (10 - y, 2 x, z).
        for (found, [x, y, z]) in mesh.positions.iter().zip(TETRAHEDRON) {
            let error = (found[0] - (10.0 - y)).abs() + (found[1] - 2.0 * x).abs() + (found[2] - z).abs();
            // The rotation is given in single precision.
            assert!(error < 1e-5, "{found:?}");
        }
        let volume = |triangles: &[[u32; 3]]| -> f32 {
            let p = |index: u32| glam::Vec3::from_array(mesh.positions[index as usize]);
            triangles.iter().map(|&[a, b, c]| p(a).dot(p(b).cross(p(c))) / 6.0).sum()
        };
        assert!((volume(&mesh.triangles[..4]) - 2.0).abs() < 1e-4);
        assert!((volume(&mesh.triangles[4..]) - 1.0).abs() < 1e-4, "the mirrored copy faces outwards");
    }

    #[test]
    fn normals_turn_with_the_inverse_transpose() {
        // The plane x + y = 1 under a scale of (2, 1, 1) has the normal (1, 2, 0) / sqrt 5.
        let positions = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0f32]];
        let normal = [0.5_f32.sqrt(), 0.5_f32.sqrt(), 0.0];
        let chunk =
            bytes_of(positions.iter().chain(&[normal; 3]).flatten().map(|number| number.to_le_bytes()));
        let document = |scale: [f32; 3]| {
            let accessor = |offset: u32| json!({ "bufferView": 0, "byteOffset": offset, "componentType": 5126, "count": 3, "type": "VEC3" });
            with(&[
                ("/nodes/0", json!({ "mesh": 0, "scale": scale })),
                ("/meshes/0/primitives/0", json!({ "attributes": { "POSITION": 0, "NORMAL": 1 } })),
                ("/accessors", json!([accessor(0), accessor(36)])),
                ("/bufferViews", json!([{ "buffer": 0, "byteLength": 72 }])),
                ("/buffers/0/byteLength", json!(72)),
            ])
        };
        for (scale, expected) in [([2.0, 1.0, 1.0], [1.0, 2.0]), ([-2.0, 1.0, 1.0], [-1.0, 2.0])] {
            let mesh = ok(glb(&document(scale), &chunk), Format::Glb);
            for [x, y, z] in mesh.normals.unwrap() {
                let error =
                    (x - expected[0] / 5f32.sqrt()).abs() + (y - expected[1] / 5f32.sqrt()).abs() + z.abs();
                assert!(error < 1e-6, "{x} {y} {z}");
            }
        }
    }

    #[test]
    fn quantised_and_sparse_accessors_are_decoded() {
        let quantised = |component: u32, normalized: bool, bytes: Vec<u8>| {
            let mut whole = bytes.clone();
            whole.resize(64, 0);
            whole.extend(&chunk()[64..]);
            let size = bytes.len() / 4;
            let changes = [
                ("/extensionsRequired", json!(["KHR_mesh_quantization"])),
                ("/bufferViews/0/byteStride", json!(size)),
                ("/accessors/0/componentType", json!(component)),
                ("/accessors/0/normalized", json!(normalized)),
            ];
            ok(glb(&with(&changes), &whole), Format::Glb).positions
        };
        let signed = [[0i16, 0, 0], [32_767, 0, 0], [0, -32_768, 0], [0, 0, 16_384]];
        let bytes = bytes_of(signed.iter().flat_map(|&[x, y, z]| [x, y, z, 0]).map(i16::to_le_bytes));
        assert_eq!(quantised(5122, false, bytes.clone())[2], [0.0, -32_768.0, 0.0]);
        let found = quantised(5122, true, bytes);
        assert_eq!(found[..3], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]);
        assert_eq!(found[3][2], 16_384.0 / 32_767.0);
        let bytes: Vec<u8> = [[0u8, 0, 0, 0], [255, 0, 0, 0], [0, 51, 0, 0], [0, 0, 1, 0]].concat();
        assert_eq!(quantised(5121, true, bytes)[2], [0.0, 0.2, 0.0]);

        // Index 3 of the indices at byte 64 are [0, 2, 1, 0, ...]: replace vertex 0, 2, 1 by vertices 1, 2, 3.
        let sparse = json!({ "count": 3,
            "indices": { "bufferView": 1, "componentType": 5123 },
            "values": { "bufferView": 0, "byteOffset": 16 } });
        let changes = [("/accessors/0/sparse", sparse.clone())];
        let [_, b, c, d] = TETRAHEDRON;
        assert_eq!(read(&with(&changes)).positions, [b, d, c, d]);
        let zeros = json!({ "componentType": 5126, "count": 4, "type": "VEC3", "sparse": sparse });
        assert_eq!(read(&with(&[("/accessors/0", zeros)])).positions, [b, d, c, [0.0; 3]]);
    }

    #[test]
    fn buffers_beside_the_file_and_inside_the_text_are_read() {
        use base64::Engine;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.gltf");
        fs::write(folder.path().join("my buffer.bin"), chunk()).unwrap();
        let uri = |uri: &str| with(&[("/buffers/0/uri", json!(uri))]).to_string();
        fs::write(&path, uri("my%20buffer.bin")).unwrap();
        assert_eq!(io::read(&path).unwrap(), tetrahedron());
        let encoded = base64::engine::general_purpose::STANDARD.encode(chunk());
        assert_eq!(
            ok(uri(&format!("data:application/octet-stream;base64,{encoded}")), Format::Gltf),
            tetrahedron()
        );

        fs::write(&path, uri("missing.bin")).unwrap();
        assert!(io::read(&path).unwrap_err().to_string().contains("missing.bin: No such file"));
        for outside in ["../buffer.bin", "/etc/passwd", "%2e%2e/buffer.bin", "https://a.b/c.bin"] {
            fs::write(&path, uri(outside)).unwrap();
            assert!(io::read(&path).unwrap_err().to_string().contains("not beside the file"), "{outside}");
        }
        refused(uri("my%20buffer.bin"), Format::Gltf, &["buffer 0", "not beside the file"]);
        refused(uri("data:;base64,*"), Format::Gltf, &["buffer 0", "base64"]);
    }

    #[test]
    fn faults_name_the_item() {
        let refused = |changes: &[(&str, Value)], parts: &[&str]| {
            refused(glb(&with(changes), &chunk()), Format::Glb, parts);
        };
        refused(
            &[("/extensionsRequired", json!(["KHR_draco_mesh_compression"]))],
            &["draco", "without mesh compression"],
        );
        refused(
            &[("/extensionsRequired", json!(["EXT_meshopt_compression"]))],
            &["without mesh compression"],
        );
        refused(&[("/extensionsRequired", json!(["VENDOR_thing"]))], &["VENDOR_thing is not supported"]);
        refused(&[("/nodes/0/children", json!([0]))], &["node 0", "no tree"]);
        refused(&[("/nodes/0/children", json!([7]))], &["node 7", "there is none"]);
        refused(&[("/nodes/0/mesh", json!(7))], &["node 0", "mesh 7"]);
        refused(&[("/scene", json!(7))], &["scene 7"]);
        refused(&[("/nodes/0/scale", json!([2e38, 2e38, 2e38]))], &["mesh 0 under node 0", "not finite"]);
        let primitive = "/meshes/0/primitives/0";
        refused(&[(primitive, json!({ "attributes": { "POSITION": 9 } }))], &["accessor 9", "there is none"]);
        refused(&[(primitive, json!({ "attributes": { "POSITION": 1 } }))], &["accessor 1", "Vec3"]);
        refused(&[("/accessors/0/count", json!(3))], &["mesh 0", "index 3 is beyond the 3 vertices"]);
        refused(
            &[("/accessors/0/count", json!(5))],
            &["accessor 0", "do not fit in the 64 bytes of buffer view 0"],
        );
        refused(&[("/accessors/0/count", json!(u64::MAX))], &["accessor 0", "do not fit"]);
        refused(&[("/accessors/0/byteOffset", json!(u64::MAX))], &["accessor 0", "do not fit"]);
        refused(&[("/accessors/1/componentType", json!(5126))], &["accessor 1", "unsigned integers"]);
        refused(&[("/bufferViews/0/byteLength", json!(u64::MAX))], &["accessor 0", "do not fit"]);
        refused(&[("/bufferViews/0/byteStride", json!(8))], &["accessor 0", "stride of 8 for 12 bytes"]);
        refused(&[("/bufferViews/0/buffer", json!(3))], &["buffer 3, there is none"]);
        refused(&[("/buffers/0/byteLength", json!(101))], &["buffer 0", "expected 101 bytes, found 100"]);
        let empty = json!({ "componentType": 5126, "count": 1u64 << 40, "type": "VEC3" });
        refused(&[("/accessors/0", empty)], &["accessor 0", "without a buffer"]);
    }

    #[test]
    fn truncation_anywhere_is_an_error_and_never_a_panic() {
        let whole = glb(&document(), &chunk());
        for length in 1..whole.len() {
            refused(&whole[..length], Format::Glb, &[]);
        }
        let mut short_header = whole.clone();
        short_header[8..12].copy_from_slice(&3u32.to_le_bytes());
        refused(short_header, Format::Glb, &["JSON chunk"]);
        let mut version = whole;
        version[4] = 1;
        refused(version, Format::Glb, &["expected version 2, found 1"]);
        refused("{\"asset\": }", Format::Gltf, &["JSON", "line 1 column"]);
    }
}

mod normalised {
    use super::*;

    #[test]
    fn up_turns_the_head_upright_and_the_face_forward() {
        // (up, face) of the file, as method.md and the docs of `Up` name them.
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
                assert!(
                    (normal[axis] - position[axis] / 3f32.sqrt()).abs() < 1e-6,
                    "{position:?} {normal:?}"
                );
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
}
