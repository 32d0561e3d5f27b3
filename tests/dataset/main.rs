//! Sets as a whole: what they hold is what a mesh gives, a build that was stopped anywhere goes on to the same bytes,
//! what was changed on the disk is named, and training reads it.

mod build;
mod card;
mod corrupt;
mod train;

use hexcuda::dataset::{Build, Report, Set, SetSettings, Source, in_folders};
use hexcuda::device::Device;
use hexcuda::mesh::{Mesh, io};
use std::collections::BTreeMap;
use std::f32::consts::PI;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// Small and quick, with every part of a record.
fn settings() -> SetSettings {
    SetSettings { size: 16, points: 64, shard: 1, ..SetSettings::default() }
}

/// A closed ellipsoid of `width`, rings of vertices between two poles.
fn ellipsoid(width: f32) -> Mesh {
    const RINGS: u32 = 5;
    const AROUND: u32 = 8;
    let mut positions = vec![[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]];
    let mut triangles = Vec::new();
    for ring in 0..RINGS {
        let polar = PI * (ring + 1) as f32 / (RINGS + 1) as f32;
        for k in 0..AROUND {
            let turn = 2.0 * PI * k as f32 / AROUND as f32;
            let radius = polar.sin();
            positions.push([width * radius * turn.sin(), polar.cos(), radius * turn.cos()]);
            let at = |ring: u32, k: u32| 2 + ring * AROUND + k % AROUND;
            if ring == 0 {
                triangles.push([0, at(0, k), at(0, k + 1)]);
            } else {
                triangles.push([at(ring - 1, k), at(ring, k), at(ring, k + 1)]);
                triangles.push([at(ring - 1, k), at(ring, k + 1), at(ring - 1, k + 1)]);
            }
            if ring + 1 == RINGS {
                triangles.push([at(ring, k), 1, at(ring, k + 1)]);
            }
        }
    }
    Mesh { positions, normals: None, triangles }
}

/// A folder with `count` meshes, some of them in a folder of their own, and a broken one.
fn meshes(folder: &Path, count: usize) -> PathBuf {
    let meshes = folder.join("meshes");
    fs::create_dir_all(meshes.join("more")).unwrap();
    for index in 0..count {
        let name = if index % 3 == 2 { format!("more/e{index}.ply") } else { format!("e{index}.obj") };
        io::write(&meshes.join(name), &ellipsoid(0.5 + 0.05 * index as f32)).unwrap();
    }
    fs::write(meshes.join("broken.obj"), "v 0 0 0\nf 1 2 3\n").unwrap();
    fs::write(meshes.join("notes.txt"), "no mesh").unwrap();
    meshes
}

fn build_from(sources: &[Source], set: &Path, settings: &SetSettings) -> hexcuda::Result<Report> {
    let interrupt = AtomicBool::new(false);
    Build { set, settings, device: &Device::Cpu, interrupt: &interrupt }.run(sources, |_| {})
}

fn build(meshes: &Path, set: &Path) -> hexcuda::Result<Report> {
    build_from(&in_folders(&[meshes.to_path_buf()])?, set, &settings())
}

/// The files of a set with their bytes.
fn files(set: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in [set.to_path_buf(), set.join("shards")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.insert(path.strip_prefix(set).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn put(set: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    if set.exists() {
        fs::remove_dir_all(set).unwrap();
    }
    fs::create_dir_all(set.join("shards")).unwrap();
    for (name, bytes) in files {
        fs::write(set.join(name), bytes).unwrap();
    }
}

fn names(set: &Set) -> Vec<String> {
    set.entries.iter().map(|entry| entry.name.clone()).collect()
}

/// Exit code and both streams of the program.
fn program(arguments: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hexcuda"))
        .args(arguments)
        .current_dir(folder)
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
