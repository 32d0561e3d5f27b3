//! Distances from points to a triangle soup, in NumPy files, so that other programs can be compared
//! with this one: `distances TRIANGLES.npy POINTS.npy OUT.npy`, float32 `[n, 3, 3]` and `[n, 3]`. OUT gets
//! the signed distances; what it took, in seconds, goes to stdout as JSON.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::time::Instant;

use hexcuda::mesh::Mesh;
use hexcuda::mesh::distance::MeshDistance;
use npyz::WriterBuilder;

/// Timed runs; the median counts.
const RUNS: usize = 5;

fn read<const N: usize>(path: &str) -> Result<Vec<[f32; N]>, Box<dyn std::error::Error>> {
    let values: Vec<f32> = npyz::NpyFile::new(BufReader::new(File::open(path)?))?.into_vec()?;
    Ok(values.as_chunks().0.to_vec())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn timed(mut work: impl FnMut()) -> f64 {
    let run = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    median((0..RUNS).map(run).collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [triangles, points, out] = arguments.as_slice() else {
        return Err("usage: distances TRIANGLES.npy POINTS.npy OUT.npy".into());
    };
    let positions = read::<3>(triangles)?;
    let triangles = (0..positions.len() as u32 / 3).map(|t| [3 * t, 3 * t + 1, 3 * t + 2]).collect();
    let mesh = Mesh { positions, normals: None, triangles };
    let points = read::<3>(points)?;

    let distance = MeshDistance::new(&mesh)?;
    let build = timed(|| drop(MeshDistance::new(&mesh)));
    let unsigned = timed(|| drop(distance.distances(&points)));
    let inside = timed(|| drop(distance.inside(&points)));
    let mut signed = Vec::new();
    let seconds = timed(|| signed = distance.signed_distances(&points));

    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&[signed.len() as u64])
        .writer(BufWriter::new(File::create(out)?))
        .begin_nd()?;
    writer.extend(signed)?;
    writer.finish()?;
    let closed = distance.is_closed();
    println!(
        "{{\"build\": {build}, \"unsigned\": {unsigned}, \"inside\": {inside}, \"signed\": {seconds}, \
         \"closed\": {closed}}}"
    );
    Ok(())
}
