//! Measurements of the parts of the program, for `hexcuda bench`.

mod limits;
mod roofline;
mod steps;

pub use limits::{Bound, Limits, Share, Stream, Work};
pub use roofline::roofline;
pub use steps::{Steps, steps};

use crate::cuda::Queue;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::hexplane::Representation;
use crate::hexplane::field::{self, CardField, Field, surface_on};
use crate::hexplane::rasterize::{Normals, rasterize_on};
use crate::mesh::distance::MeshDistance;
use crate::mesh::marching_cubes::{
    CardVolume, DenseCardVolume, DenseVolume, Volume, marching_cubes, marching_cubes_on_card,
};
use crate::mesh::{Mesh, Similarity};
use crate::nn::Adam;
use crate::rng::Rng;
use crate::tape::PassTimes;
use crate::train::{Settings, Trainer};
use serde::Serialize;
use std::time::Instant;

/// Times of one thing, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub name: String,
    pub least_ms: f64,
    pub median_ms: f64,
    pub most_ms: f64,
    /// A rate at the median, with its unit.
    pub rate: Option<(f64, &'static str)>,
    /// What it has to do at least, where shapes tell.
    pub work: Option<Work>,
}

/// Times `work` after one run that is not counted.
fn measure(
    name: impl Into<String>,
    runs: usize,
    mut work: impl FnMut() -> Result<()>,
) -> Result<Measurement> {
    work()?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        work()?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    Ok(Measurement::of(name, times))
}

impl Measurement {
    /// Of at least one time in milliseconds.
    fn of(name: impl Into<String>, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let (least, most) = (times[0], times[times.len() - 1]);
        Self {
            name: name.into(),
            least_ms: least,
            median_ms: times[times.len() / 2],
            most_ms: most,
            rate: None,
            work: None,
        }
    }

    /// `amount` a run in units of `unit` a second.
    fn at_rate(mut self, amount: f64, unit: &'static str) -> Self {
        self.rate = Some((amount / (1e-3 * self.median_ms), unit));
        self
    }

    /// Bound by memory: moves `values` of 4 bytes.
    fn moving(mut self, values: usize, stream: Stream) -> Self {
        self.work = Some(Work { operations: 0.0, bytes: 4.0 * values as f64, stream });
        self
    }
}

/// Rasterisation, field, marching cubes and distances of a normalised mesh. Those of a card begin and end in the
/// memory of the host.
pub fn geometry(
    device: &Device,
    mesh: &Mesh,
    transform: &Similarity,
    runs: usize,
) -> Result<Vec<Measurement>> {
    let (kind, normals) = (Representation::Continuous, Normals::Interpolated);
    let draw = || rasterize_on(device, mesh, transform, 512, kind, normals);
    let planes = draw()?;
    let mut rows = Vec::new();
    let name = format!("six planes of 512x512, {} triangles", mesh.triangles.len());
    let row = measure(name, runs, || draw().map(drop))?.at_rate(6.0 * 512.0 * 512.0 / 1e6, "Mpixel/s");
    rows.push(row.moving(values_of(mesh) + planes.values.len(), Stream::Copy));
    let settings = field::Settings::default();
    for grid in [128, 256, 512] {
        let name = format!("planes 512 to mesh, grid {grid}");
        let work = || surface_on(device, &planes, &settings, grid, 0.5).map(drop);
        rows.push(measure(name, runs, work)?);
    }
    let name = "marching cubes of a dense 256^3 volume";
    rows.push(match device {
        Device::Cpu | Device::CpuBf16 => {
            let dense = dense(&Field::new(&planes, &settings)?, 256)?;
            let values = dense.dims().iter().product::<usize>() + values_of(&marching_cubes(&dense, 0.0)?);
            measure(name, runs, || marching_cubes(&dense, 0.0).map(drop))?.moving(values, Stream::Copy)
        }
        Device::Cuda(queue) => {
            let dense = dense_on_card(queue, &CardField::new(queue, &planes, &settings)?, 256)?;
            measure(name, runs, || marching_cubes_on_card(queue, &dense, 0.0).map(drop))?
        }
    });
    let mut rng = Rng::new(0, 0);
    let points: Vec<[f32; 3]> =
        (0..1_000_000).map(|_| std::array::from_fn(|_| rng.range(-1.0, 1.0))).collect();
    rows.push(measure("distance structure", runs, || MeshDistance::new(mesh).map(drop))?);
    let distance = MeshDistance::new(mesh)?;
    for count in [2048, points.len()] {
        let name = format!("signed distances of {count} points in the cube");
        let work =
            || distance.signed_distances_on(device, &points[..count]).map(std::hint::black_box).map(drop);
        rows.push(measure(name, runs, work)?.at_rate(count as f64 / 1e6, "Mpoint/s"));
    }
    Ok(rows)
}

/// Positions and corners.
fn values_of(mesh: &Mesh) -> usize {
    3 * (mesh.positions.len() + mesh.triangles.len())
}

/// The same volume with all its samples in memory.
fn dense(field: &Field, grid: usize) -> Result<DenseVolume> {
    let volume = field.on_grid(grid)?;
    let [nx, ny, nz] = volume.dims();
    let mut values = vec![0.0; nx * ny * nz];
    for (row, out) in values.chunks_exact_mut(nx).enumerate() {
        volume.row(row % ny, row / ny, 0, out);
    }
    DenseVolume::new(volume.dims(), volume.origin(), volume.spacing(), values)
}

/// The same on a card.
fn dense_on_card(queue: &Queue, field: &CardField, grid: usize) -> Result<DenseCardVolume> {
    let volume = field.on_grid(grid)?;
    let values = queue.array(grid.pow(3), "the dense volume")?;
    volume.sample(queue, 0..grid, values.write())?;
    Ok(DenseCardVolume { dims: volume.dims(), origin: volume.origin(), spacing: volume.spacing(), values })
}

/// Each op of one training step, forward and backward, and the optimiser.
pub fn network(device: &Device, settings: &Settings, runs: usize) -> Result<Vec<Measurement>> {
    let mut settings = settings.clone();
    settings.training.batch = 1;
    let mut trainer = Trainer::new(device, &settings, 1, None)?;
    let mut rows = Vec::new();
    for op in trainer.time_ops(runs)? {
        for (direction, times) in ["forward", "backward"].into_iter().zip(op.passes) {
            let Some(PassTimes { least, median, most, operations, bytes }) = times else { continue };
            let row = Measurement {
                name: format!("{} {direction}", op.name),
                least_ms: least,
                median_ms: median,
                most_ms: most,
                rate: None,
                work: Some(Work { operations, bytes, stream: Stream::Copy }),
            };
            rows.push(if operations > 0.0 { row.at_rate(operations / 1e9, "GFLOP/s") } else { row });
        }
    }
    let len = trainer.model.layout.len();
    let zeros = || Buffer::zeros(device, len, "a block of parameters");
    let (mut parameters, gradients) = (zeros()?, zeros()?);
    let mut adam = Adam::new(settings.optimiser, &trainer.model.layout, device)?;
    let name = format!("adam, {} parameters", trainer.model.parameter_count());
    let update = || {
        adam.update(&mut parameters, &gradients, 1.0)?;
        Ok(())
    };
    // The norm reads the gradients once, the update reads 4 arrays and writes 3.
    let row = measure(name, runs, update)?.at_rate(8.0 * 4.0 * len as f64 / 1e9, "GB/s");
    rows.push(row.moving(8 * len, Stream::Update));
    Ok(rows)
}
