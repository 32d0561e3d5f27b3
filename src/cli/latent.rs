//! `hexcuda encode` and `hexcuda decode`: a mesh to a latent file and back, with a trained run.

use super::inputs::stem;
use crate::console;
use crate::cuda::Precision;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::hexplane::field::no_surface;
use crate::hexplane::files;
use crate::mesh::io;
use crate::mesh::normalise::denormalise;
use crate::model::Autoencoder;
use crate::model::hexz::{Latent, model_hash};
use crate::train::{Decoder, Encoder, Prepare, highest_of_planes, load_model, mesh_of_planes};
use std::path::{Path, PathBuf};

/// A latent that one device encodes is decoded on another, which the roundings of a tensor core would make visible;
/// one mesh takes too little time for their speed to matter.
pub(super) const EXACT: Precision = Precision::Fp32;

/// Encode a mesh to a latent file
#[derive(Debug, clap::Args)]
pub struct EncodeArgs {
    /// The run folder with the trained network
    #[arg(long)]
    run: PathBuf,
    /// .obj, .ply, .stl, .glb or .gltf
    mesh: PathBuf,
    /// A .hexz file
    #[arg(short, long)]
    out: PathBuf,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How a card multiplies in convolutions: tf32 on the tensor cores, fp32 exactly; the CPU does fp32
    #[arg(long, value_enum, default_value_t = EXACT)]
    precision: Precision,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Decode a latent file to a mesh
#[derive(Debug, clap::Args)]
pub struct DecodeArgs {
    /// The run folder with the network that made the file
    #[arg(long)]
    run: PathBuf,
    /// A .hexz file
    latent: PathBuf,
    /// .obj, .ply, .stl, .glb or .gltf
    #[arg(short, long)]
    out: PathBuf,
    /// Keep the decoded planes too
    #[arg(long, value_name = "FILE")]
    planes: Option<PathBuf>,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How a card multiplies in convolutions: tf32 on the tensor cores, fp32 exactly; the CPU does fp32
    #[arg(long, value_enum, default_value_t = EXACT)]
    precision: Precision,
}

pub fn encode(args: EncodeArgs) -> Result<()> {
    let device = super::device(args.device, args.precision, args.quiet)?;
    let (model, settings) = load_model(&args.run)?;
    let mesh = io::read(&args.mesh)?;
    let prepare = Prepare { settings: &settings, device: &device };
    let (_, transform, planes) = prepare.planes(&mesh).map_err(|error| error.within(args.mesh.display()))?;
    let mut model = model.on(&device)?;
    let values = Encoder::new(&mut model)?.encode(&model, &planes)?;
    let latent = Latent {
        shape: model.latent_extents(),
        transform,
        model: model_hash(&model)?,
        name: stem(&args.mesh),
        values,
    };
    let bytes = latent.write(&args.out)?;
    if !args.quiet {
        console::result(format_args!(
            "{}: {} floats, {bytes} bytes",
            args.out.display(),
            latent.values.len()
        ))?;
    }
    Ok(())
}

pub fn decode(args: DecodeArgs) -> Result<()> {
    io::Format::from_path(&args.out)?;
    let device = super::device(args.device, args.precision, false)?;
    let (model, settings) = load_model(&args.run)?;
    let latent = read_latent(&args.latent, &model)?;
    let mut model = model.on(&device)?;
    let planes = Decoder::new(&mut model)?.decode(&model, &latent.values, latent.transform)?;
    if let Some(path) = &args.planes {
        files::write(path, &planes, files::Precision::F32)?;
    }
    let mesh = mesh_of_planes(&device, &planes, &settings)?;
    if mesh.triangles.is_empty() {
        let problem = no_surface(settings.extraction.iso, highest_of_planes(&planes, &settings)?);
        return Err(Error::new(args.latent.display(), problem, "train longer or look at --planes"));
    }
    io::write(&args.out, &denormalise(&mesh, &latent.transform))
}

/// The latent in a file that `model` made.
pub(super) fn read_latent(path: &Path, model: &Autoencoder) -> Result<Latent> {
    let latent = Latent::read(path)?;
    let expected = model_hash(model)?;
    if latent.model != expected {
        let problem = format!("it was made by model {}, this run holds {expected}", latent.model);
        return Err(Error::new(path.display(), problem, "name the run that encoded it with --run"));
    }
    let (found, wanted) = (latent.values.len(), model.latent_shape(1).len());
    if found != wanted {
        let problem = format!("expected {wanted} floats, found {found}");
        return Err(Error::new(path.display(), problem, "encode the mesh again"));
    }
    Ok(latent)
}
