//! Mesh files: what is written by hand or by us reads as what it means, and every fault is one line
//! that names the file, the place and what to do.

mod gltf;
mod normalised;
mod obj;
mod ply;
mod stl;

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
