//! `hexcuda compare`: how well one mesh reproduces another.

use crate::console;
use crate::cuda::Precision;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::mesh::io;
use crate::mesh::metrics::{Metrics, Settings, compare_on};
use crate::mesh::normalise::{Up, normalise};
use std::path::PathBuf;

/// Measure how well mesh B reproduces mesh A, in the normalised frame of A
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reference
    a: PathBuf,
    /// What reproduces it
    b: PathBuf,
    /// Area-uniform samples of each mesh
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    samples: u32,
    /// Of the random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, Precision::default(), false)?;
    let (a, transform) =
        normalise(&io::read(&args.a)?, Up::default()).map_err(|error| error.within(args.a.display()))?;
    let b = io::read(&args.b)?.transformed(|p| transform.apply(p), |n| transform.turn(n));
    let settings = Settings { samples: args.samples as usize, seed: args.seed, ..Settings::default() };
    let metrics = compare_on(&device, &a, &b, &settings)?;
    if args.json {
        let text = serde_json::to_string_pretty(&metrics);
        console::result(format_args!(
            "{}",
            text.map_err(|error| Error::new("compare", error, "report this"))?
        ))?;
    } else {
        print(&metrics)?;
    }
    Ok(())
}

fn print(metrics: &Metrics) -> Result<()> {
    let number = |value: Option<f64>| value.map_or("n/a".to_string(), |value| format!("{value:.6}"));
    for score in &metrics.scores {
        console::result(format_args!(
            "F-score at {:<6}     {:.4}  (precision {:.4}, recall {:.4})",
            score.threshold, score.f_score, score.precision, score.recall
        ))?;
    }
    console::result(format_args!("Chamfer L1           {}", number(metrics.chamfer_l1)))?;
    console::result(format_args!("Chamfer L2 (squared) {}", number(metrics.chamfer_l2)))?;
    console::result(format_args!("Hausdorff 95 %       {}", number(metrics.hausdorff_95)))?;
    console::result(format_args!("normal consistency   {}", number(metrics.normal_consistency)))?;
    console::result(format_args!("volume IoU           {}", number(metrics.volume_iou)))?;
    console::result(format_args!("near-surface         {:.6}", metrics.near_surface_accuracy))?;
    for (name, health) in [("A", &metrics.reference_health), ("B", &metrics.health)] {
        console::result(format_args!(
            "{name}: {} vertices, {} faces, {} components, {} boundary and {} non-manifold edges, {}",
            health.vertices,
            health.faces,
            health.components,
            health.boundary_edges,
            health.non_manifold_edges,
            if health.watertight { "watertight" } else { "not watertight" }
        ))?;
    }
    console::result(format_args!(
        "{} samples a mesh, seed {}; lengths in the normalised frame of A",
        metrics.samples, metrics.seed
    ))
}
