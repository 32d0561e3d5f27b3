//! `hexcuda extract`: planes to a mesh, without any network.

use crate::cuda::Precision;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::hexplane::field::{Settings, highest_occupancy, no_surface, surface_on};
use crate::hexplane::files;
use crate::mesh::io;
use crate::mesh::normalise::denormalise;
use std::path::PathBuf;

/// Extract a mesh from planes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// .safetensors or .npy
    planes: PathBuf,
    /// .obj, .ply, .stl, .glb or .gltf
    #[arg(short, long)]
    out: PathBuf,
    /// Samples along an edge of the grid
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=2048))]
    grid: u32,
    /// Level of the occupancy, between 0 and 1
    #[arg(long, default_value_t = 0.5)]
    iso: f32,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

pub fn run(args: Args) -> Result<()> {
    if !(args.iso > 0.0 && args.iso < 1.0) {
        return Err(Error::usage(
            "--iso",
            format!("{} is not between 0 and 1", args.iso),
            "0.5 is the surface",
        ));
    }
    io::Format::from_path(&args.out)?;
    let device = super::device(args.device, Precision::default(), false)?;
    let planes = files::read(&args.planes)?;
    let mesh = surface_on(&device, &planes, &Settings::default(), args.grid as usize, args.iso)?;
    if mesh.triangles.is_empty() {
        let highest = highest_occupancy(&planes, &Settings::default(), args.grid as usize)?;
        let problem = no_surface(args.iso, highest);
        return Err(Error::new(args.planes.display(), problem, "check the planes or try another --iso"));
    }
    io::write(&args.out, &denormalise(&mesh, &planes.transform))
}
