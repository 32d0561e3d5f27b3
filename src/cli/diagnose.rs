//! `hexcuda diagnose`: why a Gaussian latent fails on binary planes, tested by a grid of runs.

use super::inputs;
use crate::console;
use crate::cuda::Precision;
use crate::device::DeviceChoice;
use crate::diagnose::{self, Grid, Options, SEEDS};
use crate::error::{Error, Result};
use crate::mesh::sample_head::family;
use crate::train::Preset;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Triangles of a head of the built-in family: more than planes of a diagnosis can show.
const TRIANGLES: usize = 5000;

/// Test why a Gaussian latent fails on binary planes: a grid of runs, predictions, verdicts
///
/// Runs that a folder holds are not made again: the same command goes on where it was stopped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mesh files or folders of them; none: a built-in family of heads
    inputs: Vec<PathBuf>,
    /// Folder of the diagnosis
    #[arg(long)]
    out: PathBuf,
    /// quick: planes 32, some minutes; standard: planes 64; paper: as --study
    #[arg(long, default_value = "quick")]
    preset: Preset,
    /// The study's own settings: planes 512, 38 M parameters, binary, and what works beside it
    #[arg(long)]
    study: bool,
    /// Runs of every cell, each from a seed of its own; fewer than three decide nothing
    #[arg(long, default_value_t = SEEDS as u64, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Updates of the weights, instead of the preset's
    #[arg(long)]
    steps: Option<u64>,
    /// Pixels along an edge of a plane, instead of the preset's
    #[arg(long)]
    planes: Option<usize>,
    /// Meshes of the built-in family, instead of the preset's
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    count: Option<u32>,
    /// Only cells whose name begins so
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How convolutions multiply: fp32; bf16 on the CPU's AMX or a card; tf32 or fp16 on a card
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, args.precision, args.quiet)?;
    let grid = grid(&args)?;
    let meshes = if args.inputs.is_empty() {
        let heads = family(0, args.count.map_or(grid.heads, |count| count as usize), TRIANGLES);
        heads.into_iter().enumerate().map(|(at, head)| (format!("head_{at:03}"), head)).collect()
    } else {
        inputs::meshes(&args.inputs, 0)?
    };
    ctrlc::set_handler(|| INTERRUPT.store(true, Ordering::SeqCst))
        .map_err(|error| Error::new("Ctrl-C", error, "run hexcuda in another shell"))?;
    if !args.quiet {
        let (cells, meshes) = (grid.cells.len(), meshes.len());
        console::note(format_args!(
            "{cells} cells x {} seeds on {meshes} meshes, on {device}, into {}",
            args.seeds,
            args.out.display()
        ));
    }
    let options =
        Options { out: args.out, seeds: args.seeds, quiet: args.quiet, device, interrupt: &INTERRUPT };
    diagnose::diagnose(&grid, &meshes, &options)
}

fn grid(args: &Args) -> Result<Grid> {
    let mut grid = Grid::preset(if args.study { Preset::Paper } else { args.preset });
    for settings in grid.cells.iter_mut().map(|cell| &mut cell.settings) {
        settings.training.steps = args.steps.unwrap_or(settings.training.steps);
        settings.architecture.planes = args.planes.unwrap_or(settings.architecture.planes);
    }
    if let Some(only) = &args.only {
        grid.cells.retain(|cell| cell.name.starts_with(only.as_str()));
        if grid.cells.is_empty() {
            let problem = format!("--only {only}: no cell has a name that begins so");
            return Err(Error::usage("diagnose", problem, "docs/method.md lists the cells"));
        }
    }
    grid.cells.iter().try_for_each(|cell| cell.settings.validate())?;
    Ok(grid)
}
