//! `hexcuda train`: meshes in, a trained autoencoder and its reconstructions out.

use super::serve::{Address, interrupt, until};
use super::{bottleneck, inputs, report};
use crate::console;
use crate::cuda::Precision;
use crate::dataset::Set;
use crate::device::{Device, DeviceChoice};
use crate::error::Result;
use crate::hexplane::Representation;
use crate::mesh::Mesh;
use crate::mesh::normalise::Up;
use crate::nn::Schedule;
use crate::ops::Reduction;
use crate::ranks::Ranks;
use crate::train::budget::{Budget, REFERENCE_BYTES, by_precision, on_card, reference};
use crate::train::{self, Checkpoint, Given, Initialisation, LikelihoodKind, Options, Preset, Settings};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Train on meshes: planes, network, decoded mesh, metrics, report
///
/// In a build with MPI, `mpirun -n N hexcuda train ...` shares each step among N processes (docs/scaling.md).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mesh files, folders of them (OBJ, PLY, STL, GLB, glTF) or sets (`hexcuda dataset`); none: the built-in sample head
    inputs: Vec<PathBuf>,
    /// Run folder [default: runs/NAME-PRESET]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Sizes of everything [default: standard]
    #[arg(long)]
    preset: Option<Preset>,
    /// Settings in TOML; the command line wins over them
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Meshes (files, folders or sets) that are only judged, not trained on
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    held_out: Vec<PathBuf>,
    /// Warped copies of each mesh to train on beside it
    #[arg(long, value_name = "N")]
    augment: Option<usize>,
    /// Go on from the checkpoint in the run folder, to the same bits as without the stop
    #[arg(long)]
    resume: bool,
    /// Updates of the weights
    #[arg(long)]
    steps: Option<u64>,
    /// Stop after this long, for example 90s, 5m or 1h
    #[arg(long, value_parser = duration)]
    time: Option<Duration>,
    /// Seed of every random draw, and of the built-in head
    #[arg(long)]
    seed: Option<u64>,
    /// Meshes a step, of all processes together
    #[arg(long)]
    batch: Option<usize>,
    /// What planes hold: depth and normal, or hit and miss
    #[arg(long)]
    representation: Option<Representation>,
    /// How decoded values give planes a probability
    #[arg(long)]
    likelihood: Option<LikelihoodKind>,
    /// What becomes of the likelihood of a mesh's values
    #[arg(long)]
    reduction: Option<Reduction>,
    /// What a pixel that is hit counts beside one that is not (likelihood bernoulli)
    #[arg(long, value_name = "WEIGHT")]
    positive_weight: Option<f32>,
    /// How the weights start
    #[arg(long)]
    init: Option<Initialisation>,
    /// Of Adam, at its highest
    #[arg(long)]
    learning_rate: Option<f64>,
    /// The learning rate over the steps
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Weight of the SDF loss; 0 leaves it out
    #[arg(long)]
    sdf_weight: Option<f32>,
    /// Weight of the depth channel in the squared error
    #[arg(long)]
    depth_weight: Option<f32>,
    /// The network sees depth behind silhouettes instead of the far face; collections want it (docs/datasets.md)
    #[arg(long)]
    fill_background: bool,
    /// The axis of the input that points up
    #[arg(long, allow_hyphen_values = true)]
    up: Option<Up>,
    /// Write TensorBoard's event file beside metrics.csv
    #[arg(long)]
    tensorboard: bool,
    /// Show the run in a browser from its first step on; the page stays after the last one, until Ctrl-C
    #[arg(long)]
    serve: bool,
    #[command(flatten)]
    address: Address,
    /// Print the memory plan of a step and stop
    #[arg(long)]
    plan: bool,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How a card multiplies in convolutions: tf32 on the tensor cores, fp32 exactly; bf16 and fp16 also store
    /// activations and their gradients in 2 bytes a value. On the CPU bf16 multiplies on AMX, the rest is fp32
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    latent: bottleneck::Options,
}

/// What a command gives a run.
struct Job {
    device: Device,
    settings: Settings,
    meshes: Vec<(String, Mesh)>,
    sets: Vec<Arc<Set>>,
    held_out: Vec<(String, Mesh)>,
    held_out_sets: Vec<Arc<Set>>,
    out: PathBuf,
}

impl Job {
    fn new(args: &Args, ranks: &Ranks) -> Result<Self> {
        let device = super::device_of(ranks, args.device, args.precision, args.quiet)?;
        let settings = settings(args)?;
        let (sets, files) = inputs::sets(&args.inputs)?;
        // Without any input the built-in head; beside sets nothing.
        let alone = !sets.is_empty() && files.is_empty();
        let meshes = if alone { Vec::new() } else { inputs::meshes(&files, settings.seed)? };
        let out = match &args.out {
            Some(out) => out.clone(),
            None => {
                let first = meshes.first().map(|(name, _)| name.clone());
                let name = first.unwrap_or_else(|| inputs::stem(sets[0].path()));
                default_folder(&name, settings.preset, args.resume)
            }
        };
        // Only judged, by the first rank.
        let judged: &[PathBuf] = if ranks.is_first() { &args.held_out } else { &[] };
        let (held_out_sets, held_out) = inputs::sets(judged)?;
        let held_out = if held_out.is_empty() { Vec::new() } else { inputs::meshes(&held_out, 0)? };
        Ok(Self { device, settings, meshes, sets, held_out, held_out_sets, out })
    }
}

pub fn run(args: &Args, ranks: &Rc<Ranks>) -> Result<()> {
    if args.plan {
        let device = super::device(args.device, args.precision, args.quiet)?;
        return print_plan(&device, args.precision, &settings(args)?);
    }
    let job = ranks.agree(Job::new(args, ranks))?;
    let Job { device, settings, meshes, sets, held_out, held_out_sets, out } = job;
    // A second Ctrl-C while the checkpoint is written changes nothing.
    let interrupt = interrupt()?;
    if !args.quiet {
        let in_sets: usize = sets.iter().map(|set| set.entries.len()).sum();
        let several = if ranks.is_alone() { String::new() } else { format!("{} ranks of ", ranks.size()) };
        console::note(format_args!(
            "{} mesh(es), preset {:?} on {several}{device}, into {}",
            meshes.len() + in_sets,
            settings.preset,
            out.display()
        ));
    }
    let options = Options {
        out,
        held_out,
        resume: args.resume,
        time: args.time,
        quiet: args.quiet,
        tensorboard: args.tensorboard,
        device,
        interrupt,
    };
    let server = match ranks.is_first() {
        true => args.address.serve_beside(&options.out, args.serve)?,
        false => None,
    };
    let given = Given { meshes: &meshes, sets: &sets, held_out_sets: &held_out_sets };
    train::train_among(ranks, &settings, &given, &options)?;
    if ranks.is_first() {
        report::of_trained(&options.out, args.quiet)?;
    }
    if let Some(server) = server {
        until(interrupt);
        server.stop();
    }
    Ok(())
}

/// Preset, then file, then command line; a resumed run starts from its own settings.
fn settings(args: &Args) -> Result<Settings> {
    let resumed = args.out.as_ref().filter(|_| args.resume).map(|out| out.join("checkpoint.safetensors"));
    let mut settings = match (&resumed, &args.config, args.preset) {
        (Some(path), None, None) => Checkpoint::read(path)?.settings,
        (_, config, preset) => Settings::load_for(preset, args.representation, config.as_deref())?,
    };
    if let Some(representation) = args.representation {
        settings.represent(representation);
    }
    let likelihood = &mut settings.likelihood;
    set(&mut likelihood.kind, args.likelihood);
    set(&mut likelihood.reduction, args.reduction);
    set(&mut likelihood.positive_weight, args.positive_weight);
    let training = &mut settings.training;
    set(&mut training.steps, args.steps);
    set(&mut training.batch, args.batch);
    set(&mut training.augment, args.augment);
    set(&mut training.initialisation, args.init);
    set(&mut training.schedule, args.schedule);
    set(&mut training.sdf_weight, args.sdf_weight);
    set(&mut training.depth_weight, args.depth_weight);
    set(&mut settings.optimiser.learning_rate, args.learning_rate);
    set(&mut settings.seed, args.seed);
    set(&mut settings.up, args.up);
    settings.architecture.fill_background |= args.fill_background;
    args.latent.apply(&mut settings.latent)?;
    settings.validate()?;
    Ok(settings)
}

fn set<T: Copy>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

/// `runs/NAME-PRESET`, numbered where that holds a run already.
fn default_folder(name: &str, preset: Preset, resume: bool) -> PathBuf {
    let base = format!("{name}-{preset:?}").to_lowercase();
    let free = |path: &Path| resume || !path.join("checkpoint.safetensors").exists();
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let mut names = std::iter::once(base.clone()).chain(numbered).map(|name| Path::new("runs").join(name));
    names.find(|path| free(path)).unwrap_or_else(|| Path::new("runs").join(base))
}

fn print_plan(device: &Device, precision: Precision, settings: &Settings) -> Result<()> {
    let batch = settings.training.batch;
    console::result(format_args!("one step of {batch} mesh(es), preset {:?}, on {device}", settings.preset))?;
    console::result(format_args!("{}", Budget::new(settings, device.kind(), batch)?))?;
    let (name, kind, bytes) = match device {
        Device::Cpu | Device::CpuBf16 => {
            ("a card of 12 GB such as an RTX 3060".to_string(), reference(precision), REFERENCE_BYTES)
        }
        Device::Cuda(queue) => (device.to_string(), device.kind(), queue.context().free()?),
    };
    let budget = Budget::new(settings, kind, batch)?;
    console::result(format_args!("on {name}: {}", on_card(&budget, bytes)))?;
    let steps = by_precision(settings, kind, batch)?;
    console::result(format_args!("a step by --precision: {steps}"))
}

/// A number with s, m or h behind it.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let split = text.len() - text.chars().last().map_or(0, char::len_utf8);
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number and s, m or h, for example 5m".to_string()),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * factor);
    let valid = seconds.filter(|&seconds| seconds > 0.0 && seconds < 1e9);
    valid.map(Duration::from_secs_f64).ok_or_else(|| format!("{text} is not a duration, for example 5m"))
}
