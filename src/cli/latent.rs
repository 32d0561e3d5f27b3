//! `hexcuda encode` and `hexcuda decode`: a mesh to a latent file and back, with a trained run.

use super::inputs::stem;
use super::measured::{COLUMNS, Errors, Measure};
use crate::console;
use crate::cuda::Precision;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::hexplane::field::no_surface;
use crate::hexplane::files;
use crate::mesh::io;
use crate::mesh::normalise::denormalise;
use crate::mesh::{Mesh, Similarity};
use crate::model::Autoencoder;
use crate::model::codec::{Code, Codec, Coded};
use crate::model::hexz::{AnyLatent, Latent, model_hash};
use crate::train::{
    CodeEncoder, CodecFile, Decoder, Prepare, highest_of_planes, latent_of_code, load_model, mesh_of_planes,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A latent that one device encodes is decoded on another, which the roundings of a tensor core would make visible;
/// one mesh takes too little time for their speed to matter.
pub(super) const EXACT: Precision = Precision::Fp32;

/// Encode a mesh to a latent file
///
/// A run with a codec (`hexcuda codec`) writes coded layers, any other the latent's floats.
#[derive(Debug, clap::Args)]
pub struct EncodeArgs {
    /// The run folder with the trained network, or one of its checkpoints, such as RUN/best.safetensors
    #[arg(long)]
    run: PathBuf,
    /// .obj, .ply, .stl, .glb or .gltf
    mesh: PathBuf,
    /// A .hexz file
    #[arg(short, long)]
    out: PathBuf,
    /// Write the latent's floats though the run has a codec
    #[arg(long)]
    uncompressed: bool,
    /// Quarter-octaves that steps are wider than the codec's own; below 0 narrower
    #[arg(long, value_name = "N", allow_hyphen_values = true, default_value_t = 0, value_parser = clap::value_parser!(i8).range(-32..=32))]
    coarser: i8,
    /// Fail where the decoded mesh lies farther from the source, as the 95 % Hausdorff distance in the normalised frame, of which the
    /// source's longest half-extent is 0.9; the file is written all the same
    #[arg(long, value_name = "DISTANCE", value_parser = positive)]
    max_error: Option<f64>,
    /// Print the layers of the file with the error of the mesh up to each
    #[arg(long)]
    list: bool,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How a card multiplies in convolutions: tf32 on the tensor cores, fp32 exactly; the CPU does fp32
    #[arg(long, value_enum, default_value_t = EXACT)]
    precision: Precision,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Decode a latent file to a mesh
#[derive(Debug, clap::Args)]
pub struct DecodeArgs {
    /// The run folder with the network that made the file, or one of its checkpoints
    #[arg(long)]
    run: PathBuf,
    /// A .hexz file
    latent: PathBuf,
    /// .obj, .ply, .stl, .glb or .gltf
    #[arg(short, long)]
    out: PathBuf,
    /// Take only the first layers of a coded file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    layers: Option<u8>,
    /// Take a coded file that is cut within a layer, up to its last whole one
    #[arg(long)]
    partial: bool,
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

fn positive(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| format!("{text} is no positive distance"))
}

pub fn encode(args: EncodeArgs) -> Result<()> {
    let device = super::device(args.device, args.precision, args.quiet || args.json)?;
    let (model, settings) = load_model(&args.run)?;
    let codec = codec(&args, &model)?;
    let source = io::read(&args.mesh)?;
    let prepare = Prepare { settings: &settings, device: &device };
    let (mesh, transform, planes) =
        prepare.planes(&source).map_err(|error| error.within(args.mesh.display()))?;
    let mut model = model.on(&device)?;
    let code = CodeEncoder::new(&mut model)?.encode(&model, &planes)?;
    let written = write(&args, &mut model, (codec.as_ref(), &code), transform)?;
    if args.quiet && args.max_error.is_none() {
        return Ok(());
    }
    let mut decoder = Decoder::new(&mut model)?;
    let mut measure = Measure::new(&model, &mut decoder, (&settings, &device), &mesh)?;
    let ceiling = measure.planes(&planes)?;
    let errors: Vec<Errors> =
        written.latents.iter().map(|latent| measure.latent(latent)).collect::<Result<_>>()?;
    if !args.quiet {
        announce(&args, &source, &written, &errors, &ceiling)?;
    }
    bound(&args, &errors)
}

/// That of the run, where one is wanted.
fn codec(args: &EncodeArgs, model: &Autoencoder) -> Result<Option<(CodecFile, Codec)>> {
    let wanted = args.coarser != 0 || args.list;
    if args.uncompressed {
        if wanted {
            let problem = "an uncompressed latent has no steps and no layers";
            let remedy = "leave out --uncompressed, or --coarser and --list";
            return Err(Error::usage("encode", problem, remedy));
        }
        return Ok(None);
    }
    if !wanted && !CodecFile::path(&args.run).exists() {
        return Ok(None);
    }
    let found = CodecFile::read(&args.run, model)?;
    if args.coarser != 0 && matches!(found.1, Codec::Indices(_)) {
        let problem = "a discrete latent has no steps that could be wider";
        return Err(Error::usage("--coarser", problem, "leave it out"));
    }
    Ok(Some(found))
}

/// What was written: the bytes of the header and of each layer, and the latents that the layers up to each decode to; of an
/// uncompressed file the whole and its latent.
struct Written {
    bytes: usize,
    layers: Vec<usize>,
    latents: Vec<Vec<f32>>,
}

fn write(
    args: &EncodeArgs,
    model: &mut Autoencoder,
    (codec, code): (Option<&(CodecFile, Codec)>, &Code),
    transform: Similarity,
) -> Result<Written> {
    let (name, hash) = (stem(&args.mesh), model_hash(model)?);
    let Some((file, codec)) = codec else {
        let values = latent_of_code(model, code)?;
        let latent = Latent { shape: model.latent_extents(), transform, model: hash, name, values };
        let bytes = latent.write(&args.out)?;
        return Ok(Written { bytes, layers: Vec::new(), latents: vec![latent.values] });
    };
    let layers = codec.encode(code, args.coarser);
    let broken = |problem: String| Error::new(args.out.display(), problem, "report this");
    // Only where layers are listed those before the last one matter.
    let first = if args.list { 1 } else { layers.len() };
    let decoded = (first..=layers.len()).map(|count| codec.decode(&layers[..count], args.coarser));
    let decoded: Vec<Code> = decoded.collect::<std::result::Result<_, _>>().map_err(broken)?;
    let latents = decoded.iter().map(|code| latent_of_code(model, code)).collect::<Result<_>>()?;
    let (sizes, total) = (layers.iter().map(Vec::len).collect(), layers.len());
    let coded = Coded {
        model: hash,
        codec: file.hash,
        coarser: args.coarser,
        shape: codec.shape(),
        transform,
        name,
        layers,
        total,
    };
    let bytes = coded.to_bytes().map_err(broken)?;
    write_atomic(&args.out, |file| file.write_all(&bytes))?;
    Ok(Written { bytes: bytes.len(), layers: sizes, latents })
}

fn announce(
    args: &EncodeArgs,
    source: &Mesh,
    written: &Written,
    errors: &[Errors],
    ceiling: &Errors,
) -> Result<()> {
    let vertices = source.positions.len();
    let floats = written.latents[0].len();
    let bits = 8.0 * written.bytes as f64 / vertices as f64;
    let header = written.bytes - written.layers.iter().sum::<usize>();
    let error = &errors[errors.len() - 1];
    // Bytes of the file up to the end of each layer.
    let mut end = header;
    let ends = written.layers.iter().map(|len| {
        end += len;
        end
    });
    let rows: Vec<(usize, usize, Option<&Errors>)> = written
        .layers
        .iter()
        .zip(ends)
        .enumerate()
        .map(|(at, (&len, end))| (len, end, errors.get(at).filter(|_| args.list)))
        .collect();
    if args.json {
        let layers: Vec<Value> = rows
            .iter()
            .map(|(bytes, end, error)| json!({ "bytes": bytes, "end": end, "error": error }))
            .collect();
        let report = json!({
            "file": args.out, "bytes": written.bytes, "vertices": vertices, "bits_per_vertex": bits, "floats": floats,
            "coded": !written.layers.is_empty(), "coarser": args.coarser, "header": header, "layers": layers,
            "error": error, "ceiling": ceiling,
        });
        return console::result(format_args!("{report:#}"));
    }
    console::result(format_args!(
        "{}: {floats} floats, {} bytes, {bits:.2} bits a vertex of the source",
        args.out.display(),
        written.bytes
    ))?;
    console::result(format_args!("{:<22}  {COLUMNS}", ""))?;
    console::result(format_args!("{:<22}{}", "decoded", error.columns()))?;
    console::result(format_args!("{:<22}{}", "ceiling", ceiling.columns()))?;
    if args.list {
        console::result(format_args!("{:<6}{:>8}{:>8}  {COLUMNS}", "layer", "bytes", "end"))?;
        for (at, (bytes, end, error)) in rows.iter().enumerate() {
            let columns = error.map(Errors::columns).unwrap_or_default();
            console::result(format_args!("{:<6}{bytes:>8}{end:>8}{columns}", at + 1))?;
        }
    }
    Ok(())
}

/// Whether the decoded mesh lies as near as was asked.
fn bound(args: &EncodeArgs, errors: &[Errors]) -> Result<()> {
    let Some(most) = args.max_error else { return Ok(()) };
    let problem = match errors.last().and_then(|error| error.hausdorff_95) {
        Some(found) if found <= most => return Ok(()),
        Some(found) => format!("its mesh has a 95 % Hausdorff distance of {found:.5}, more than {most}"),
        None => "it decodes to no surface".to_string(),
    };
    Err(Error::new(args.out.display(), problem, "take narrower steps with --coarser -4, or train longer"))
}

pub fn decode(args: DecodeArgs) -> Result<()> {
    io::Format::from_path(&args.out)?;
    let device = super::device(args.device, args.precision, false)?;
    let (model, settings) = load_model(&args.run)?;
    let mut model = model.on(&device)?;
    let taken = Taken { partial: args.partial, layers: args.layers.map(usize::from), tell: true };
    let latent = read_latent(&args.latent, &args.run, &mut model, taken)?;
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

/// How much of a coded file is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// Up to the last whole layer of a file that is cut within one.
    pub partial: bool,
    /// The first layers at most.
    pub layers: Option<usize>,
    /// A line says where layers are missing.
    pub tell: bool,
}

/// The latent in a file that `model` of the run made.
pub(super) fn read_latent(path: &Path, run: &Path, model: &mut Autoencoder, taken: Taken) -> Result<Latent> {
    let found = AnyLatent::read(path, taken.partial)?;
    let made_by = match &found {
        AnyLatent::Plain(latent) => &latent.model,
        AnyLatent::Coded(coded) => &coded.model,
    };
    let expected = model_hash(model)?;
    if *made_by != expected {
        let problem = format!("it was made by model {made_by}, this run holds {expected}");
        return Err(Error::new(path.display(), problem, "name the run that encoded it with --run"));
    }
    let latent = match found {
        AnyLatent::Plain(latent) => latent,
        AnyLatent::Coded(coded) => decoded(path, run, model, coded, taken)?,
    };
    let (found, wanted) = (latent.values.len(), model.latent_shape(1).len());
    if found != wanted {
        let problem = format!("expected {wanted} floats, found {found}");
        return Err(Error::new(path.display(), problem, "encode the mesh again"));
    }
    Ok(latent)
}

fn decoded(
    path: &Path,
    run: &Path,
    model: &mut Autoencoder,
    mut coded: Coded,
    taken: Taken,
) -> Result<Latent> {
    let (file, codec) = CodecFile::read(run, model)?;
    let wrong = |problem: String| Error::new(path.display(), problem, "encode the mesh again");
    if coded.codec != file.hash {
        return Err(wrong(format!(
            "it was made with codec {:08x}, this run holds {:08x}",
            coded.codec, file.hash
        )));
    }
    if coded.shape != codec.shape() {
        return Err(wrong(format!("its shape is {:?}, expected {:?}", coded.shape, codec.shape())));
    }
    coded.layers.truncate(taken.layers.unwrap_or(usize::MAX));
    if taken.tell && coded.layers.len() < coded.total {
        console::note(format_args!(
            "{}: {} of {} layers; the rest is predicted",
            path.display(),
            coded.layers.len(),
            coded.total
        ));
    }
    let code = codec.decode(&coded.layers, coded.coarser).map_err(wrong)?;
    let values = latent_of_code(model, &code)?;
    let Coded { transform, model: hash, name, .. } = coded;
    Ok(Latent { shape: model.latent_extents(), transform, model: hash, name, values })
}
