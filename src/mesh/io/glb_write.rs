//! glTF 2.0 out: one mesh in one buffer, binary or with the buffer inside the text.

use std::borrow::Cow;
use std::io::{self, Write};

use base64::Engine;
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::mesh::normalise::vertex_normals;

pub fn write_glb(writer: &mut impl Write, mesh: &Mesh) -> io::Result<()> {
    let buffer = buffer(mesh);
    let mut text = document(mesh, json!({ "byteLength": buffer.len() })).to_string();
    // Chunks are multiples of four bytes; the buffer is one by its content.
    text.push_str(&" ".repeat(text.len().next_multiple_of(4) - text.len()));
    let size = |bytes: usize| {
        u32::try_from(bytes).map_err(|_| io::Error::other("the mesh does not fit in the 4 GiB of a GLB file"))
    };
    writer.write_all(b"glTF")?;
    writer.write_all(&2u32.to_le_bytes())?;
    writer.write_all(&size(12 + 8 + text.len() + 8 + buffer.len())?.to_le_bytes())?;
    writer.write_all(&size(text.len())?.to_le_bytes())?;
    writer.write_all(b"JSON")?;
    writer.write_all(text.as_bytes())?;
    writer.write_all(&size(buffer.len())?.to_le_bytes())?;
    writer.write_all(b"BIN\0")?;
    writer.write_all(&buffer)
}

pub fn write_gltf(writer: &mut impl Write, mesh: &Mesh) -> io::Result<()> {
    let buffer = buffer(mesh);
    let encoded = base64::engine::general_purpose::STANDARD.encode(&buffer);
    let uri = format!("data:application/octet-stream;base64,{encoded}");
    let document = document(mesh, json!({ "byteLength": buffer.len(), "uri": uri }));
    serde_json::to_writer_pretty(writer, &document).map_err(io::Error::from)
}

/// Positions, normals, indices.
fn buffer(mesh: &Mesh) -> Vec<u8> {
    let normals = match &mesh.normals {
        Some(normals) => Cow::Borrowed(normals),
        None => Cow::Owned(vertex_normals(mesh)),
    };
    let mut buffer = Vec::with_capacity(24 * mesh.positions.len() + 12 * mesh.triangles.len());
    for number in mesh.positions.iter().chain(normals.iter()).flatten() {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    for index in mesh.triangles.iter().flatten() {
        buffer.extend_from_slice(&index.to_le_bytes());
    }
    buffer
}

fn document(mesh: &Mesh, buffer: Value) -> Value {
    const ARRAY_BUFFER: u32 = 34_962;
    const ELEMENT_ARRAY_BUFFER: u32 = 34_963;
    const FLOAT: u32 = 5_126;
    const UNSIGNED_INT: u32 = 5_125;
    let (vertices, indices) = (mesh.positions.len(), 3 * mesh.triangles.len());
    let extreme = |pick: fn(f32, f32) -> f32| -> [f32; 3] {
        let first = mesh.positions[0];
        mesh.positions.iter().fold(first, |best, p| std::array::from_fn(|axis| pick(best[axis], p[axis])))
    };
    json!({
        "asset": { "version": "2.0", "generator": concat!("hexcuda ", env!("CARGO_PKG_VERSION")) },
        "scene": 0,
        "scenes": [{ "nodes": [0] }],
        "nodes": [{ "mesh": 0 }],
        "meshes": [{ "primitives": [{ "attributes": { "POSITION": 0, "NORMAL": 1 }, "indices": 2 }] }],
        "accessors": [
            { "bufferView": 0, "componentType": FLOAT, "count": vertices, "type": "VEC3",
              "min": extreme(f32::min), "max": extreme(f32::max) },
            { "bufferView": 1, "componentType": FLOAT, "count": vertices, "type": "VEC3" },
            { "bufferView": 2, "componentType": UNSIGNED_INT, "count": indices, "type": "SCALAR" },
        ],
        "bufferViews": [
            { "buffer": 0, "byteOffset": 0, "byteLength": 12 * vertices, "target": ARRAY_BUFFER },
            { "buffer": 0, "byteOffset": 12 * vertices, "byteLength": 12 * vertices, "target": ARRAY_BUFFER },
            { "buffer": 0, "byteOffset": 24 * vertices, "byteLength": 4 * indices,
              "target": ELEMENT_ARRAY_BUFFER },
        ],
        "buffers": [buffer],
    })
}
