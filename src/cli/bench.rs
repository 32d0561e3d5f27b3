//! `hexcuda bench`: microbenchmarks of the kernels at the shapes of a preset, and of the geometry; whole training steps.

use crate::bench::{Measurement, Steps, geometry, network, steps};
use crate::console;
use crate::cuda::Precision;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::memory;
use crate::mesh::io;
use crate::mesh::normalise::{Up, normalise};
use crate::mesh::sample_head::head;
use crate::train::{Checkpoint, Preset, Settings};
use std::path::{Path, PathBuf};

/// Time the kernels of a training step and the geometry, or whole training steps; medians of several runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mesh that the geometry is timed on, or that is trained on; none: built-in heads
    mesh: Option<PathBuf>,
    /// The preset whose network is timed
    #[arg(long, default_value = "standard")]
    preset: Preset,
    /// Counted runs of each
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Run one training step of the preset and nothing else, for a profiler or the software driver's counters
    #[arg(long, group = "training", conflicts_with = "runs")]
    step: bool,
    /// Time this many training steps, after one that does not count, and nothing else
    #[arg(long, group = "training", conflicts_with = "runs", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: Option<u32>,
    /// Take settings, weights and moments from this run folder
    #[arg(long, requires = "training", conflicts_with = "preset")]
    run: Option<PathBuf>,
    /// Write the last step's inputs, losses, gradients and new weights here (.safetensors)
    #[arg(long, requires = "training")]
    gradients: Option<PathBuf>,
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
    let (rows, step_ms, what) = if args.step || args.steps.is_some() {
        let (row, times) = of_training(&args, &device)?;
        let what = if args.step { "one run".to_string() } else { format!("median of {} steps", times.len()) };
        (vec![row], times, what)
    } else {
        let mut rows = of_geometry(&args, &device)?;
        rows.extend(network(&device, &Settings::preset(args.preset), args.runs as usize)?);
        (rows, Vec::new(), format!("medians of {} runs, least and most in brackets", args.runs))
    };
    if args.json {
        let mut all = serde_json::json!({ "device": device.to_string(), "rows": rows });
        if !step_ms.is_empty() {
            all["step_ms"] = step_ms.into();
            all["peak_memory_bytes"] = memory::peak().into();
        }
        let text = serde_json::to_string_pretty(&all);
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

/// The training steps and the milliseconds of each.
fn of_training(args: &Args, device: &Device) -> Result<(Measurement, Vec<f64>)> {
    let checkpoint = args.run.as_ref().map(|run| run.join("checkpoint.safetensors"));
    let settings = match &checkpoint {
        Some(path) => Checkpoint::read(path)?.settings,
        None => Settings::preset(args.preset),
    };
    let built_in = |seed: u64| (format!("built-in head {seed}"), head(seed, super::inputs::HEAD_TRIANGLES));
    let meshes = match &args.mesh {
        Some(path) => vec![(super::inputs::stem(path), io::read(path)?)],
        None => (0..settings.training.batch as u64).map(built_in).collect(),
    };
    let plan = Steps {
        settings: &settings,
        checkpoint: checkpoint.as_deref(),
        meshes: &meshes,
        warm_up: !args.step,
        count: args.steps.unwrap_or(1) as usize,
        record: args.gradients.as_deref(),
    };
    steps(device, &plan)
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
