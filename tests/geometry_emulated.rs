//! The geometry kernels on the software driver, against the CPU: rasteriser, field, marching cubes and distances.

use hexcuda::check::check_geometry;
use hexcuda::cuda::Precision;
use hexcuda::device::{Device, DeviceChoice};
use hexcuda::hexplane::field::{self, CardField, Field, surface_on};
use hexcuda::hexplane::rasterize::{Normals, rasterize, rasterize_in_batches, rasterize_on};
use hexcuda::hexplane::{Planes, Representation, files};
use hexcuda::mesh::distance::MeshDistance;
use hexcuda::mesh::marching_cubes::{
    CardVolume, DenseCardVolume, DenseVolume, Volume, marching_cubes, marching_cubes_in_slabs,
    marching_cubes_on_card,
};
use hexcuda::mesh::sample_head::head;
use hexcuda::mesh::{Mesh, Similarity, io};
use hexcuda::rng::Rng;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

fn emulated() -> Device {
    DeviceChoice::Emulated.select(Precision::default()).unwrap()
}

/// A closed surface like a potato, `2 * rings * rings` triangles wound outwards.
fn potato(rings: u32) -> Mesh {
    let columns = 2 * rings;
    let mut mesh = Mesh::default();
    for ring in 0..=rings {
        let (sin, cos) = (std::f32::consts::PI * ring as f32 / rings as f32).sin_cos();
        for column in 0..columns {
            let (s, c) = (std::f32::consts::TAU * column as f32 / columns as f32).sin_cos();
            let r = 0.7 + 0.1 * (3.0 * c * sin).sin();
            mesh.positions.push([r * sin * c, 0.9 * cos, 0.8 * r * sin * s]);
        }
    }
    for ring in 0..rings {
        for column in 0..columns {
            let at = |ring: u32, column: u32| ring * columns + column % columns;
            let (a, b) = (at(ring, column), at(ring, column + 1));
            let (c, d) = (at(ring + 1, column), at(ring + 1, column + 1));
            mesh.triangles.extend([[a, b, c], [b, d, c]]);
        }
    }
    mesh
}

/// Triangles at random places with edges of about `size`, wound at random.
fn soup(triangles: u32, place: f32, size: f32) -> Mesh {
    let mut rng = Rng::named(5, "soup");
    let mut mesh = Mesh::default();
    for t in 0..triangles {
        let centre = [0; 3].map(|_| rng.range(-place, place));
        for _ in 0..3 {
            mesh.positions.push(centre.map(|c| c + rng.range(-size, size)));
        }
        mesh.triangles.push([3 * t, 3 * t + 1, 3 * t + 2]);
    }
    mesh
}

fn joined(mut a: Mesh, b: &Mesh) -> Mesh {
    let first = a.positions.len() as u32;
    a.positions.extend(&b.positions);
    a.triangles.extend(b.triangles.iter().map(|triangle| triangle.map(|v| v + first)));
    a
}

fn flipped(mut mesh: Mesh) -> Mesh {
    mesh.triangles.iter_mut().for_each(|triangle| triangle.swap(1, 2));
    mesh
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn same_bits(name: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{name}");
    let wrong = (0..ours.len()).filter(|&i| ours[i].to_bits() != expected[i].to_bits());
    let wrong: Vec<_> = wrong.map(|i| (i, ours[i], expected[i])).collect();
    assert!(wrong.is_empty(), "{name}: {} of {} differ: {:?}", wrong.len(), ours.len(), &wrong[..1]);
}

#[track_caller]
fn draws_the_same(device: &Device, name: &str, mesh: &Mesh, size: usize) {
    let cases = [
        (Representation::Continuous, Normals::Interpolated),
        (Representation::Continuous, Normals::Face),
        (Representation::Binary, Normals::Face),
    ];
    for (representation, normals) in cases {
        let name = format!("{name}, {representation:?}, {normals:?}");
        let draw = || rasterize_on(device, mesh, &Similarity::default(), size, representation, normals);
        let ours = draw().unwrap();
        let cpu = rasterize(mesh, &Similarity::default(), size, representation, normals).unwrap();
        same_bits(&name, &ours.values, &cpu.values);
        assert!(ours.values == draw().unwrap().values, "{name}: another run, other bits");
    }
}

#[test]
fn planes_are_those_of_the_cpu() {
    let device = emulated();
    draws_the_same(&device, "closed", &potato(8), 48);
    draws_the_same(&device, "inside out", &flipped(potato(8)), 33);
    let mut given = potato(6);
    given.normals = Some(given.positions.iter().map(|p| p.map(|c| c * 0.9)).collect());
    draws_the_same(&device, "with normals of its own", &given, 32);
}

#[test]
fn planes_of_a_soup_are_those_of_the_cpu() {
    let device = emulated();
    // Huge, sticking out of the cube, small and without area; a mesh that no winding helps.
    let mut mesh = joined(soup(40, 1.0, 2.9), &soup(200, 0.9, 0.1));
    let first = mesh.positions.len() as u32;
    mesh.positions.extend([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.5, -0.2, 0.3]]);
    mesh.triangles.push([first, first + 1, first + 2]);
    draws_the_same(&device, "soup", &mesh, 64);
    let Device::Cuda(queue) = &device else { panic!("the software driver is a card") };
    let (kind, normals) = (Representation::Continuous, Normals::Interpolated);
    let whole = rasterize(&mesh, &Similarity::default(), 64, kind, normals).unwrap();
    let batches = rasterize_in_batches(queue, &mesh, 64, kind, normals, 100).unwrap();
    same_bits("soup in batches", &batches.values, &whole.values);
    draws_the_same(&device, "one pixel", &mesh, 1);
}

#[test]
fn a_card_refuses_what_the_cpu_refuses() {
    let device = emulated();
    let mut broken = potato(4);
    broken.triangles[3][1] = 9999;
    let draw = |mesh: &Mesh, size: usize| {
        let (at, kind) = (Similarity::default(), Representation::Continuous);
        let ours = rasterize_on(&device, mesh, &at, size, kind, Normals::Face).unwrap_err();
        let cpu = rasterize(mesh, &at, size, kind, Normals::Face).unwrap_err();
        assert_eq!(ours.to_string(), cpu.to_string());
    };
    draw(&broken, 32);
    draw(&potato(4), 0);
    draw(&Mesh::default(), 32);
}

/// Planes of a mesh with what a decoder may do to them: noise, normals of any length, numbers that are none.
fn planes(size: usize, representation: Representation) -> Planes {
    let (at, mesh) = (Similarity::default(), potato(8));
    let mut planes = rasterize(&mesh, &at, size, representation, Normals::Interpolated).unwrap();
    let mut rng = Rng::named(2, "planes");
    planes.values.iter_mut().for_each(|value| *value += rng.range(-0.1, 0.1));
    for (at, value) in [(101, f32::NAN), (333, f32::INFINITY), (700, f32::NEG_INFINITY)] {
        planes.values[at] = value;
    }
    planes
}

#[test]
fn the_field_is_that_of_the_cpu() {
    let Device::Cuda(queue) = emulated() else { panic!("the software driver is a card") };
    let mut rng = Rng::named(3, "points");
    let points: Vec<[f32; 3]> = (0..700).map(|_| [0; 3].map(|_| rng.range(-1.0, 1.0))).collect();
    for (size, representation, tau) in [
        (40, Representation::Continuous, 0.02),
        (33, Representation::Continuous, 0.3),
        (32, Representation::Binary, 0.02),
    ] {
        let (planes, settings) = (planes(size, representation), field::Settings { tau });
        let cpu = Field::new(&planes, &settings).unwrap();
        let card = CardField::new(&queue, &planes, &settings).unwrap();
        let name = format!("{representation:?}, tau {tau}");
        let ours = card.values(&points).unwrap();
        same_bits(&name, &ours, &cpu.values(&points));
        assert_eq!(bits(&ours), bits(&card.values(&points).unwrap()), "{name}: another run, other bits");
        let (n, volume) = (19, cpu.on_grid(19).unwrap());
        let mut expected = vec![0.0; n * n * n];
        for (row, out) in expected.chunks_exact_mut(n).enumerate() {
            volume.row(row % n, row / n, 0, out);
        }
        let grid = card.on_grid(n).unwrap();
        for planes in [0..n, 3..8] {
            let there = queue.array(planes.len() * n * n, "planes of the grid").unwrap();
            grid.sample(&queue, planes.clone(), there.write()).unwrap();
            let mut values = vec![0.0; there.len()];
            queue.download(there.read(), &mut values).unwrap();
            same_bits(&name, &values, &expected[planes.start * n * n..planes.end * n * n]);
        }
        assert_eq!(
            (grid.dims(), grid.origin(), grid.spacing()),
            (volume.dims(), volume.origin(), volume.spacing())
        );
    }
}

/// The triangles by the bits of their corners, each from its least corner on.
fn triangles(mesh: &Mesh) -> BTreeSet<[[u32; 3]; 3]> {
    let canonical = |triangle: usize| {
        let corners = mesh.corners(triangle).map(|p| p.map(f32::to_bits));
        let least = (0..3).min_by_key(|&k| corners[k]).unwrap();
        [corners[least], corners[(least + 1) % 3], corners[(least + 2) % 3]]
    };
    (0..mesh.triangles.len()).map(canonical).collect()
}

#[track_caller]
fn same_surface(name: &str, ours: &Mesh, cpu: &Mesh) {
    let vertices =
        |mesh: &Mesh| -> BTreeSet<[u32; 3]> { mesh.positions.iter().map(|p| p.map(f32::to_bits)).collect() };
    assert_eq!(ours.positions.len(), cpu.positions.len(), "{name}: vertices");
    assert_eq!(ours.triangles.len(), cpu.triangles.len(), "{name}: triangles");
    assert!(vertices(ours) == vertices(cpu), "{name}: the vertices differ");
    assert!(triangles(ours) == triangles(cpu), "{name}: the triangles differ");
    // Watertight: an edge is run through once each way.
    let mut edges = BTreeSet::new();
    for [a, b, c] in &ours.triangles {
        for edge in [(*a, *b), (*b, *c), (*c, *a)] {
            assert!(edges.insert(edge), "{name}: edge {edge:?} twice");
        }
    }
    assert!(edges.iter().all(|&(a, b)| edges.contains(&(b, a))), "{name}: an open edge");
}

fn volume(dims: [usize; 3], value: impl FnMut() -> f32) -> (Vec<f32>, DenseVolume) {
    let values: Vec<f32> = std::iter::repeat_with(value).take(dims.iter().product()).collect();
    let dense = DenseVolume::new(dims, [-1.0, 0.5, 2.0], [0.1, 0.2, 0.3], values.clone()).unwrap();
    (values, dense)
}

#[test]
fn marching_cubes_makes_the_mesh_of_the_cpu() {
    let Device::Cuda(queue) = emulated() else { panic!("the software driver is a card") };
    let mut rng = Rng::named(7, "noise");
    // Noise has every case, open cells above all; few values put samples on the level. A row of signs ends on a
    // word's border, before it and behind it.
    for (dims, steps) in [([9, 8, 7], 0), ([32, 5, 6], 3), ([33, 3, 4], 0), ([2, 2, 2], 2)] {
        let level = 0.25;
        let (values, dense) = volume(dims, || match steps {
            0 => rng.range(-1.0, 1.5),
            steps => level + (rng.below(2 * steps + 1) as f32 - steps as f32),
        });
        let card = DenseCardVolume {
            dims,
            origin: dense.origin(),
            spacing: dense.spacing(),
            values: queue.array_from(&values, "a volume").unwrap(),
        };
        let ours = marching_cubes_on_card(&queue, &card, level).unwrap();
        same_surface(&format!("{dims:?}"), &ours, &marching_cubes(&dense, level).unwrap());
        assert!(ours == marching_cubes_on_card(&queue, &card, level).unwrap(), "another run, another mesh");
        for planes in [2, 3, 5] {
            let in_slabs = marching_cubes_in_slabs(&queue, &card, level, planes).unwrap();
            assert!(ours == in_slabs, "{dims:?}: another mesh in slabs of {planes} planes");
        }
        let nothing = marching_cubes_on_card(&queue, &card, -9.0).unwrap();
        assert!(nothing.positions.is_empty() && nothing.triangles.is_empty());
    }
}

#[test]
fn marching_cubes_refuses_what_the_cpu_refuses() {
    let Device::Cuda(queue) = emulated() else { panic!("the software driver is a card") };
    let mut index = 0;
    let (values, dense) = volume([5, 4, 3], || {
        index += 1;
        if index > 33 { f32::NAN } else { -1.0 }
    });
    let card = DenseCardVolume {
        dims: dense.dims(),
        origin: dense.origin(),
        spacing: dense.spacing(),
        values: queue.array_from(&values, "a volume").unwrap(),
    };
    for level in [0.0, f32::NAN] {
        let cpu = marching_cubes(&dense, level).unwrap_err().to_string();
        assert_eq!(marching_cubes_on_card(&queue, &card, level).unwrap_err().to_string(), cpu);
        assert_eq!(marching_cubes_in_slabs(&queue, &card, level, 2).unwrap_err().to_string(), cpu);
    }
}

#[test]
fn planes_become_the_mesh_of_the_cpu() {
    let device = emulated();
    for representation in [Representation::Continuous, Representation::Binary] {
        let planes = planes(32, representation);
        for iso in [0.5, 0.4] {
            let surface =
                |device: &Device| surface_on(device, &planes, &field::Settings::default(), 20, iso).unwrap();
            same_surface(&format!("{representation:?} at {iso}"), &surface(&device), &surface(&Device::Cpu));
        }
    }
}

/// Where two triangles are equally near within the rounding of f32, either may be found: their distances differ by
/// some roundings of the squares (2^-24 each) and of what is left of a difference of coordinates of up to 2.
#[test]
fn distances_are_those_of_the_cpu() {
    let device = emulated();
    let mut rng = Rng::named(9, "points");
    let mut points: Vec<[f32; 3]> = (0..600).map(|_| [0; 3].map(|_| rng.range(-1.2, 1.2))).collect();
    points.extend([[f32::NAN, 0.0, 0.0], [1e30, 0.0, 0.0], [0.0, f32::INFINITY, 0.0]]);
    let mut open = potato(9);
    open.triangles.drain(0..60);
    for (name, mesh) in [
        ("closed", potato(9)),
        ("inside out", flipped(potato(9))),
        ("open", open),
        ("soup", soup(150, 0.8, 0.2)),
        ("one triangle", soup(1, 0.2, 0.5)),
    ] {
        let distance = MeshDistance::new(&mesh).unwrap();
        let ours = distance.signed_distances_on(&device, &points).unwrap();
        let cpu = distance.signed_distances(&points);
        assert!(ours.iter().any(|&d| d < 0.0) == cpu.iter().any(|&d| d < 0.0), "{name}");
        for ((&a, &b), p) in ours.iter().zip(&cpu).zip(&points) {
            let close = (a - b).abs() <= 1e-6 * b.abs() + 1e-6;
            assert!(close || (a.is_nan() && b.is_nan()), "{name}: {a} for {b} at {p:?}");
        }
        let again = distance.signed_distances_on(&device, &points).unwrap();
        assert_eq!(bits(&ours), bits(&again), "{name}: another run, other bits");
        assert!(distance.signed_distances_on(&device, &[]).unwrap().is_empty());
    }
}

#[test]
fn the_check_of_a_card_passes() {
    let outcomes = check_geometry(&emulated(), |_| true).unwrap();
    assert_eq!(outcomes.len(), 7);
    let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(check_geometry(&Device::Cpu, |_| true).unwrap().is_empty());
    let surfaces = check_geometry(&emulated(), |name| name == "surface").unwrap();
    assert!(surfaces.len() == 2 && surfaces.iter().all(|outcome| outcome.op == "surface"), "{surfaces:?}");
}

/// What stands in the way of a grid on a card is its memory: it is taken in slabs that fit, and refused in one line where
/// none does.
#[test]
fn a_card_of_little_memory_extracts_in_slabs() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (kind, frame) = (Representation::Continuous, Similarity::default());
    let planes = rasterize(&potato(8), &frame, 32, kind, Normals::Interpolated).unwrap();
    files::write(&at("planes.npy"), &planes, files::Precision::F32).unwrap();
    let extract = |grid: &str, memory: &str, out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
        command.args(["extract", "planes.npy", "-o", out, "--grid", grid, "--device", "emulated"]);
        command.current_dir(place.path()).env("CUDA_EMULATOR_MEMORY", memory);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // The planes take 150 kB, the samples, signs and counts of the grid 1 MB: more than half of the rest.
    for (memory, out) in [("64M", "whole.ply"), ("1M", "slabs.ply")] {
        let (code, said) = extract("60", memory, out);
        assert_eq!(code, Some(0), "{said}");
    }
    assert!(
        fs::read(at("whole.ply")).unwrap() == fs::read(at("slabs.ply")).unwrap(),
        "another mesh in slabs"
    );
    let (code, said) = extract("1000", "1M", "none.ply");
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("cuda-emulator: ")).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("1000 x 1000 x 1000") && lines[0].contains("MiB"),
        "{said}"
    );
    assert!(lines[0].contains("take a coarser grid") && !at("none.ply").exists(), "{said}");
}

#[test]
fn the_commands_make_the_same_files_without_a_finding() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    io::write(&at("head.ply"), &head(1, 600)).unwrap();
    let run = |arguments: &[&str], report: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
        command.args(arguments).current_dir(place.path()).env("CUDA_EMULATOR_REPORT", at(report));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        if arguments.contains(&"emulated") {
            let report: serde_json::Value = serde_json::from_slice(&fs::read(at(report)).unwrap()).unwrap();
            assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{}", report["findings"]);
            assert!(!report["kernels"].as_array().unwrap().is_empty(), "{report}");
        }
    };
    for device in ["cpu", "emulated"] {
        let (planes, mesh) = (format!("{device}.npy"), format!("{device}.ply"));
        run(&["rasterize", "head.ply", "-o", &planes, "--size", "48", "--device", device], "first.json");
        run(&["extract", &planes, "-o", &mesh, "--grid", "24", "--device", device], "second.json");
    }
    assert!(fs::read(at("cpu.npy")).unwrap() == fs::read(at("emulated.npy")).unwrap(), "the planes differ");
    let read = |name: &str| io::read(&at(name)).unwrap();
    same_surface("the surface of a head", &read("emulated.ply"), &read("cpu.ply"));
}
