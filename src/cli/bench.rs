//! `hexcuda bench`: microbenchmarks of the kernels at the shapes of a preset, and of the geometry; whole training steps.

use crate::bench::{Bound, Limits, Measurement, Share, Steps, geometry, network, roofline, steps};
use crate::console;
use crate::cuda::Precision;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use crate::mesh::io;
use crate::mesh::normalise::{Up, normalise};
use crate::mesh::sample_head::head;
use crate::train::{Checkpoint, Preset, Settings};
use serde::Serialize;
use std::io::Write;
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
    #[arg(long, group = "training", conflicts_with_all = ["runs", "roofline"])]
    step: bool,
    /// Time this many training steps, after one that does not count, and nothing else
    #[arg(long, group = "training", conflicts_with_all = ["runs", "roofline"], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: Option<u32>,
    /// Take settings, weights and moments from this run folder
    #[arg(long, requires = "training", conflicts_with = "preset")]
    run: Option<PathBuf>,
    /// Write the last step's inputs, losses, gradients and new weights here (.safetensors)
    #[arg(long, requires = "training")]
    gradients: Option<PathBuf>,
    /// How a card multiplies in convolutions; on the CPU bf16 takes AMX, the rest is fp32
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Draw the operations under the machine's measured limits, as SVG; on the CPU
    #[arg(long, value_name = "FILE.svg")]
    roofline: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, args.precision, false)?;
    if let (Some(path), Device::Cuda(_) | Device::CpuBf16) = (&args.roofline, &device) {
        let remedy = "add --device cpu without --precision bf16; docs/kernels.md has the roofline of a card";
        return Err(Error::usage(path.display(), "only the CPU's limits in fp32 are measured", remedy));
    }
    let whole = args.step || args.steps.is_some();
    // Before what they are compared with, while the processor is as cool.
    let limits = match device {
        Device::Cpu if !whole => Some(Limits::measure()?),
        _ => None,
    };
    let (rows, step_ms, what) = if whole {
        let (row, times) = of_training(&args, &device)?;
        let what = if args.step { "one run".to_string() } else { format!("median of {} steps", times.len()) };
        (vec![row], times, what)
    } else {
        let mut rows = of_geometry(&args, &device)?;
        rows.extend(network(&device, &Settings::preset(args.preset), args.runs as usize)?);
        (rows, Vec::new(), format!("medians of {} runs, least and most in brackets", args.runs))
    };
    if let (Some(path), Some(limits)) = (&args.roofline, &limits) {
        let picture = roofline(limits, &rows);
        files::write_atomic(path, |file| file.write_all(picture.as_bytes()))?;
    }
    let rows: Vec<Row> = rows.iter().map(|row| Row::new(row, limits.as_ref())).collect();
    if args.json {
        let mut all = serde_json::json!({ "device": device.to_string(), "limits": limits, "rows": rows });
        if !step_ms.is_empty() {
            all["step_ms"] = step_ms.into();
            all["peak_memory_bytes"] = memory::peak().into();
        }
        let text =
            serde_json::to_string_pretty(&all).map_err(|error| Error::new("bench", error, "report this"))?;
        return console::result(format_args!("{text}"));
    }
    console::result(format_args!("{device}; {what}"))?;
    limits.as_ref().map_or(Ok(()), print_limits)?;
    rows.iter().try_for_each(print)
}

/// A measurement beside what bounds it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    times: &'a Measurement,
    share: Option<Share>,
}

impl<'a> Row<'a> {
    fn new(times: &'a Measurement, limits: Option<&Limits>) -> Self {
        let share = limits.zip(times.work).and_then(|(limits, work)| limits.share(&work, times.median_ms));
        Self { times, share }
    }
}

fn print_limits(limits: &Limits) -> Result<()> {
    let peaks: Vec<String> =
        limits.peaks.iter().map(|peak| format!("{} {:.0}", peak.level, peak.gflops)).collect();
    console::result(format_args!(
        "limits of {} threads: multiply-adds in registers {} GFLOP/s; memory {:.1} GB/s as a copy, {:.1} GB/s as \
         Adam's streams (4 arrays read, 3 written)",
        limits.threads,
        peaks.join(", "),
        limits.copy,
        limits.update
    ))?;
    console::result(format_args!(
        "shares: the least time, by operations at the {} peak or by bytes with every array moved once, over the \
         median. Operations are those of the direct convolution, so minimal filtering can exceed 100 %; so can \
         arrays that a cache holds, and the field loss, which reads a part of its planes.",
        limits.level
    ))
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

fn print(Row { times: row, share }: &Row) -> Result<()> {
    let times = format!("{:>10.3} ms [{:.3}, {:.3}]", row.median_ms, row.least_ms, row.most_ms);
    let rate = row.rate.as_ref().map_or(String::new(), |(value, unit)| format!("{value:.1} {unit}"));
    let share = share.as_ref().map_or(String::new(), |share| {
        let bound = match share.bound {
            Bound::Operations => "operations",
            Bound::Bytes => "bytes",
        };
        format!("{:>5.0} % of {bound}", 100.0 * share.share)
    });
    let line = format!("{:<58}{times:<40}{rate:<18}{share}", row.name);
    console::result(format_args!("{}", line.trim_end()))
}
