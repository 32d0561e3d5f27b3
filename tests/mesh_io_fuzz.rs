//! Arbitrary bytes and damaged files through every reader: no panic, no hang, one line for an error,
//! and what is accepted keeps the readers' promises. The cases are the same on every run; more of
//! them with `PROPTEST_CASES=1000000`.

use hexcuda::Result;
use hexcuda::hexplane::{Planes, Representation, files};
use hexcuda::mesh::io::{self, Format, read_bytes};
use hexcuda::mesh::normalise::{mesh_fault, vertex_normals};
use hexcuda::mesh::{Mesh, Similarity};
use hexcuda::model::hexz::Latent;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file of some hundred bytes reads in microseconds; this leaves room for a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

const FORMATS: [Format; 5] = [Format::Obj, Format::Ply, Format::Stl, Format::Glb, Format::Gltf];

/// Numbers that readers trip over.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "3",
    "255",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967295",
    "9223372036854775807",
    "18446744073709551616",
    "1e39",
    "nan",
    "-inf",
    "0.5",
];

/// One piece of damage; places are shares of the length, so that they fit every file.
#[derive(Clone, Debug)]
enum Damage {
    Flip(f64, u8),
    Cut(f64),
    Insert(f64, Vec<u8>),
    /// Overwrites a place by a piece from another.
    Copy(f64, f64, usize),
    Remove(f64, usize),
    /// Replaces the number in text that stands at a place or after it.
    Number(f64, usize),
    /// Overwrites 4 bytes by an integer, as the counts of a binary file are.
    Word(f64, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0.0..1.0f64;
    let word = prop_oneof![Just(0u32), Just(1), Just(u32::MAX), Just(1 << 31), any::<u32>()];
    prop_oneof![
        3 => (place(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (place(), place(), 1..64usize).prop_map(|(to, from, len)| Damage::Copy(to, from, len)),
        1 => (place(), 1..64usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        4 => (place(), 0..NUMBERS.len()).prop_map(|(at, which)| Damage::Number(at, which)),
        2 => (place(), word).prop_map(|(at, value)| Damage::Word(at, value)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let place = |share: &f64| (share * len as f64) as usize;
        if len == 0 {
            return;
        }
        match self {
            Self::Flip(at, bit) => bytes[place(at)] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(place(at)),
            Self::Insert(at, new) => drop(bytes.splice(place(at)..place(at), new.iter().copied())),
            Self::Copy(to, from, count) => {
                let (to, from) = (place(to), place(from));
                let count = *count.min(&(len - to.max(from)));
                bytes.copy_within(from..from + count, to);
            }
            Self::Remove(at, count) => drop(bytes.drain(place(at)..(place(at) + count).min(len))),
            Self::Number(at, which) => {
                let numeric = |byte: &u8| byte.is_ascii_digit() || b"+-.".contains(byte);
                let start = (place(at)..len).find(|&i| bytes[i].is_ascii_digit()).unwrap_or(len);
                let end = (start..len).find(|&i| !numeric(&bytes[i])).unwrap_or(len);
                bytes.splice(start..end, NUMBERS[*which].bytes());
            }
            Self::Word(at, value) => {
                let end = (place(at) + 4).min(len);
                bytes[place(at)..end].copy_from_slice(&value.to_le_bytes()[..end - place(at)]);
            }
        }
    }
}

fn damaged(files: &[Vec<u8>], which: usize, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = files[which].clone();
    damages.iter().for_each(|damage| damage.apply(&mut bytes));
    bytes
}

/// Runs the same cases each time, `share` of the asked number.
fn fuzz<S: Strategy>(share: f64, strategy: S, check: impl Fn(S::Value)) {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = (f64::from(asked.unwrap_or(1000u32)) * share) as u32;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
        check(value);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Reads, and checks what holds for every outcome.
fn timed<T>(read: impl FnOnce() -> Result<T>) -> Option<T> {
    let started = Instant::now();
    let outcome = read();
    assert!(started.elapsed() < LIMIT, "takes {:?}", started.elapsed());
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            let line = error.to_string();
            assert!(line.contains("file") && line.contains("; ") && !line.contains('\n'), "{line}");
            assert!(line.len() < 2000, "{} bytes of message", line.len());
            None
        }
    }
}

fn check_mesh(bytes: &[u8], format: Format) {
    let Some(mesh) = timed(|| read_bytes(bytes, format, "file")) else { return };
    assert_eq!(mesh_fault(&mesh), None);
    for normal in mesh.normals.iter().flatten() {
        let length = normal.iter().map(|c| f64::from(*c).powi(2)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{normal:?}");
    }
}

/// A tetrahedron in every format, with what each of them offers.
fn meshes() -> Vec<(Format, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = Mesh {
        positions: vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        normals: None,
        triangles: vec![[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]],
    };
    mesh.normals = Some(vertex_normals(&mesh));
    let mut files = Vec::new();
    for (format, ending) in FORMATS.into_iter().zip(["obj", "ply", "stl", "glb", "gltf"]) {
        let path = folder.path().join("mesh").with_extension(ending);
        io::write(&path, &mesh).unwrap();
        files.push((format, fs::read(path).unwrap()));
    }
    let ply = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty double y\nproperty uchar z\n\
        property list uchar int flags\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n\
        0 0 0 0\n1 0 0 2 5 5\n0 1 0 0\n0 0 1 1 7\n4 0 1 2 3\n3 0 1 3\n";
    files.push((Format::Ply, ply.into()));
    files.push((Format::Ply, ply.replace("ascii", "binary_big_endian").into()));
    let obj = "o a\nv 0 0 0 1 1 1\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\nf 1/1/1 2//1 3 \\\n 4/1\nf -1 -2 -3\n";
    files.push((Format::Obj, obj.into()));
    let facet =
        "facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n";
    files.push((Format::Stl, format!("solid a\n{facet}{facet}endsolid a\n").into()));
    let scene = r#"{"asset":{"version":"2.0"},"scene":0,"scenes":[{"nodes":[0,1]}],"nodes":[{"mesh":0,
        "scale":[2,1,1],"children":[2]},{"matrix":[1,0,0,0,0,1,0,0,0,0,1,0,3,0,0,1],"mesh":0},{"mesh":0}],
        "meshes":[{"primitives":[{"attributes":{"POSITION":0},"mode":5},{"attributes":{"POSITION":0},"indices":1}]}],
        "buffers":[{"byteLength":44,"uri":"data:;base64,AAAAAAAAAAAAAAAAAACAPwAAAAAAAAAAAAAAAAAAgD8AAAAAAAABAAIAAAA="}],
        "bufferViews":[{"buffer":0,"byteLength":36},{"buffer":0,"byteOffset":36,"byteLength":6}],
        "accessors":[{"bufferView":0,"componentType":5126,"count":3,"type":"VEC3","min":[0,0,0],"max":[1,1,0]},
        {"bufferView":1,"componentType":5123,"count":3,"type":"SCALAR","sparse":{"count":1,
        "indices":{"bufferView":1,"componentType":5123},"values":{"bufferView":1}}}]}"#;
    files.push((Format::Gltf, scene.into()));
    files
}

#[test]
fn arbitrary_bytes_are_no_mesh() {
    fuzz(0.2, vec(any::<u8>(), 0..200), |bytes| {
        for format in FORMATS {
            check_mesh(&bytes, format);
        }
    });
}

#[test]
fn damaged_meshes_are_read_or_refused() {
    let (formats, files): (Vec<Format>, Vec<Vec<u8>>) = meshes().into_iter().unzip();
    for (which, format) in formats.iter().enumerate() {
        // The last PLY is text that claims to be binary: an error from the start.
        if which != 6 {
            read_bytes(&files[which], *format, "file").unwrap();
        }
    }
    fuzz(1.0, (0..files.len(), vec(damage(), 1..5)), |(which, damages)| {
        check_mesh(&damaged(&files, which, &damages), formats[which]);
    });
}

#[test]
fn damaged_planes_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for (representation, name) in [(Representation::Continuous, "a"), (Representation::Binary, "b")] {
        for ending in ["npy", "safetensors"] {
            let path = folder.path().join(name).with_extension(ending);
            let planes = Planes::background(representation, 2, Similarity::default());
            files::write(&path, &planes, files::Precision::F32).unwrap();
            all.push((folder.path().join("file").with_extension(ending), fs::read(path).unwrap()));
        }
    }
    let (paths, originals): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    fuzz(0.5, (0..paths.len(), vec(damage(), 1..4)), |(which, damages)| {
        fs::write(&paths[which], damaged(&originals, which, &damages)).unwrap();
        if let Some(planes) = timed(|| files::read(&paths[which])) {
            assert_eq!(planes.values.len(), 6 * planes.size * planes.size * planes.channels());
            assert!(planes.values.iter().all(|value| value.is_finite()));
        }
    });
}

/// With the checksum made to fit again, so that the damage reaches what lies behind it.
#[test]
fn damaged_latents_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.hexz");
    let latent = Latent {
        shape: [6, 1, 1, 2],
        transform: Similarity::default(),
        model: "00000000-1".into(),
        name: "a".into(),
        values: vec![0.5; 12],
    };
    latent.write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let body = vec![whole[..whole.len() - 4].to_vec()];
    fuzz(0.5, vec(damage(), 1..4), |damages| {
        let mut bytes = damaged(&body, 0, &damages);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        fs::write(&path, bytes).unwrap();
        if let Some(latent) = timed(|| Latent::read(Path::new(&path))) {
            assert_eq!(latent.values.len(), latent.shape.iter().product::<usize>());
            assert!(latent.values.iter().all(|value| value.is_finite()));
        }
    });
}
