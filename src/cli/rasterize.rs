//! `hexcuda rasterize`: a mesh to its six planes.

use crate::cuda::Precision;
use crate::device::DeviceChoice;
use crate::error::Result;
use crate::hexplane::rasterize::{Normals, rasterize_on};
use crate::hexplane::{Representation, files};
use crate::mesh::io;
use crate::mesh::normalise::{Up, normalise};
use std::path::PathBuf;

/// Render the six planes of a mesh
#[derive(Debug, clap::Args)]
pub struct Args {
    /// .obj, .ply, .stl, .glb or .gltf
    mesh: PathBuf,
    /// .safetensors, .npy or .png
    #[arg(short, long)]
    out: PathBuf,
    /// Pixels along an edge
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    /// What a pixel holds
    #[arg(long, default_value = "continuous")]
    representation: Representation,
    /// Which normals a pixel holds
    #[arg(long, default_value = "interpolated")]
    normals: Normals,
    /// The axis of the mesh that points up
    #[arg(long, default_value_t, allow_hyphen_values = true)]
    up: Up,
    /// Store half floats (safetensors)
    #[arg(long)]
    fp16: bool,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, Precision::default(), false)?;
    let (mesh, transform) =
        normalise(&io::read(&args.mesh)?, args.up).map_err(|error| error.within(args.mesh.display()))?;
    let size = args.size as usize;
    let planes = rasterize_on(&device, &mesh, &transform, size, args.representation, args.normals)?;
    let precision = if args.fp16 { files::Precision::F16 } else { files::Precision::F32 };
    files::write(&args.out, &planes, precision)
}
