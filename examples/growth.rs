//! Times a part of the geometry at any size, for `tools/peers/growth.py`: `growth WORK MESH COUNT`. WORK is
//! `rasterize` (COUNT pixels an edge), `extract` (COUNT samples an edge, from planes of 512), `distances` (COUNT points in
//! the cube, the structure built anew) or `compare` (COUNT samples a side, with the mesh of planes 512, grid 256). Prints the
//! median seconds, the triangles of the mesh and the peak memory in bytes as JSON.

use hexcuda::device::Device;
use hexcuda::hexplane::field::{Settings, surface_on};
use hexcuda::hexplane::rasterize::{Normals, rasterize};
use hexcuda::hexplane::{Planes, Representation};
use hexcuda::mesh::distance::MeshDistance;
use hexcuda::mesh::normalise::{Up, normalise};
use hexcuda::mesh::{Mesh, Similarity, io, metrics};
use hexcuda::rng::Rng;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// Runs go on until they have taken this many seconds, or are this many; the median counts.
const SECONDS: f64 = 2.0;
const RUNS: usize = 15;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn planes(mesh: &Mesh, transform: &Similarity, size: usize) -> hexcuda::Result<Planes> {
    rasterize(mesh, transform, size, Representation::Continuous, Normals::Interpolated)
}

fn surface(planes: &Planes, grid: usize) -> hexcuda::Result<Mesh> {
    surface_on(&Device::Cpu, planes, &Settings::default(), grid, 0.5)
}

fn timed(mut work: impl FnMut() -> hexcuda::Result<()>) -> Outcome<f64> {
    let (mut seconds, begin) = (Vec::new(), Instant::now());
    while seconds.len() < RUNS && (seconds.is_empty() || begin.elapsed().as_secs_f64() < SECONDS) {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [work, mesh, count] = arguments.as_slice() else {
        return Err("usage: growth rasterize|extract|distances|compare MESH COUNT".into());
    };
    let (mesh, transform) = normalise(&io::read(Path::new(mesh))?, Up::default())?;
    let count: usize = count.parse()?;
    let seconds = match work.as_str() {
        "rasterize" => timed(|| planes(&mesh, &transform, count).map(|planes| drop(black_box(planes))))?,
        "extract" => {
            let planes = planes(&mesh, &transform, 512)?;
            timed(|| surface(&planes, count).map(|mesh| drop(black_box(mesh))))?
        }
        "distances" => {
            let mut rng = Rng::new(0, 0);
            let points: Vec<[f32; 3]> =
                (0..count).map(|_| std::array::from_fn(|_| rng.range(-1.0, 1.0))).collect();
            timed(|| {
                black_box(MeshDistance::new(&mesh)?.signed_distances(&points));
                Ok(())
            })?
        }
        "compare" => {
            let candidate = surface(&planes(&mesh, &transform, 512)?, 256)?;
            let settings = metrics::Settings { samples: count, ..metrics::Settings::default() };
            timed(|| metrics::compare(&mesh, &candidate, &settings).map(|found| drop(black_box(found))))?
        }
        other => return Err(format!("no work is named {other}").into()),
    };
    let (triangles, peak) = (mesh.triangles.len(), hexcuda::memory::peak().unwrap_or(0));
    println!("{{\"seconds\": {seconds}, \"triangles\": {triangles}, \"peak_bytes\": {peak}}}");
    Ok(())
}
