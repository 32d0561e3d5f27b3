//! glTF and GLB: accessors, nodes, buffers, and their faults.

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
        ("/accessors/1", json!({ "bufferView": 2, "componentType": 5125, "count": 12, "type": "SCALAR" })),
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
    let chunk = bytes_of(positions.iter().chain(&[normal; 3]).flatten().map(|number| number.to_le_bytes()));
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
    refused(&[("/extensionsRequired", json!(["EXT_meshopt_compression"]))], &["without mesh compression"]);
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
