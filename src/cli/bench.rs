//! `hexcuda bench`: microbenchmarks of the kernels at the shapes of a preset, and of the geometry.

use crate::bench::{Bound, Limits, Measurement, Share, geometry, network, roofline, step};
use crate::console;
use crate::cuda::Precision;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::files;
use crate::mesh::io;
use crate::mesh::normalise::{Up, normalise};
use crate::mesh::sample_head::head;
use crate::train::{Preset, Settings};
use serde::Serialize;
use std::io::Write;
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
    #[arg(long, conflicts_with_all = ["mesh", "runs", "roofline"])]
    step: bool,
    /// How a card multiplies in convolutions
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
    let settings = Settings::preset(args.preset);
    if let (Some(path), Device::Cuda(_)) = (&args.roofline, &device) {
        let remedy = "add --device cpu; docs/kernels.md has the roofline of a card";
        return Err(Error::usage(path.display(), "only the CPU's limits are measured", remedy));
    }
    // Before what they are compared with, while the processor is as cool.
    let limits = match device {
        Device::Cpu if !args.step => Some(Limits::measure()?),
        _ => None,
    };
    let (rows, what) = if args.step {
        (vec![step(&device, &settings, super::inputs::HEAD_TRIANGLES)?], "one run".to_string())
    } else {
        let mut rows = of_geometry(&args, &device)?;
        rows.extend(network(&device, &settings, args.runs as usize)?);
        (rows, format!("medians of {} runs, least and most in brackets", args.runs))
    };
    if let (Some(path), Some(limits)) = (&args.roofline, &limits) {
        let picture = roofline(limits, &rows);
        files::write_atomic(path, |file| file.write_all(picture.as_bytes()))?;
    }
    let rows: Vec<Row> = rows.iter().map(|row| Row::new(row, limits.as_ref())).collect();
    if args.json {
        let all = serde_json::json!({ "device": device.to_string(), "limits": limits, "rows": rows });
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
