//! `hexcuda bench`: microbenchmarks of the kernels at the shapes of a preset, and of the geometry.

use crate::bench::{Measurement, geometry, network, step};
use crate::console;
use crate::cuda::Precision;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::mesh::io;
use crate::mesh::normalise::{Up, normalise};
use crate::mesh::sample_head::head;
use crate::train::{Preset, Settings};
use std::path::{Path, PathBuf};

/// Time the kernels of a training step and the geometry; medians of several runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mesh that the geometry is timed on; none: the built-in head
    mesh: Option<PathBuf>,
    /// The preset whose network is timed
    #[arg(long, default_value = "standard")]
    preset: Preset,
    /// Counted runs of each
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Run one training step of the preset and nothing else, for a profiler or the software driver's counters
    #[arg(long, conflicts_with_all = ["mesh", "runs"])]
    step: bool,
    /// How a card multiplies in convolutions
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, args.precision, false)?;
    let settings = Settings::preset(args.preset);
    let (rows, what) = if args.step {
        (vec![step(&device, &settings, super::inputs::HEAD_TRIANGLES)?], "one run".to_string())
    } else {
        let mut rows = of_geometry(&args, &device)?;
        rows.extend(network(&device, &settings, args.runs as usize)?);
        (rows, format!("medians of {} runs, least and most in brackets", args.runs))
    };
    if args.json {
        let text =
            serde_json::to_string_pretty(&serde_json::json!({ "device": device.to_string(), "rows": rows }));
        console::result(format_args!(
            "{}",
            text.map_err(|error| Error::new("bench", error, "report this"))?
        ))?;
    } else {
        console::result(format_args!("{device}; {what}"))?;
        rows.iter().try_for_each(print)?;
    }
    Ok(())
}

fn of_geometry(args: &Args, device: &Device) -> Result<Vec<Measurement>> {
    let mesh = match &args.mesh {
        Some(path) => io::read(path)?,
        None => head(0, super::inputs::HEAD_TRIANGLES),
    };
    let (mesh, transform) = normalise(&mesh, Up::default())
        .map_err(|error| error.within(args.mesh.as_deref().unwrap_or(Path::new("the head")).display()))?;
    geometry(device, &mesh, &transform, args.runs as usize)
}

fn print(row: &Measurement) -> Result<()> {
    let times = format!("{:>10.3} ms [{:.3}, {:.3}]", row.median_ms, row.least_ms, row.most_ms);
    let rate = row.rate.as_ref().map_or(String::new(), |(value, unit)| format!("{value:.1} {unit}"));
    console::result(format_args!("{:<58}{times:<40}{rate}", row.name))
}
