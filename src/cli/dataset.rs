//! `hexcuda dataset`: sets of meshes, made once and read in place.

use super::inputs::HEAD_TRIANGLES;
use super::serve::interrupt;
use crate::console;
use crate::cuda::Precision;
use crate::dataset::{self, Build, Manifest, Progress, Set, SetSettings, Source};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::hexplane::cache::Storage;
use crate::hexplane::rasterize::Normals;
use crate::hexplane::{Planes, Representation, files};
use crate::mesh::io;
use crate::mesh::normalise::{Up, denormalise};
use crate::ranks::Ranks;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Seconds between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Names that a line lists at most.
const NAMED: usize = 5;

/// Build, check and read sets of meshes for training
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Rasterise all meshes below folders into a set; the same command goes on where it was stopped, and adds what is new
    ///
    /// In a build with MPI, `mpirun -n N hexcuda dataset build ...` shares the work among N processes (docs/scaling.md).
    Build {
        /// Folders with OBJ, PLY, STL, GLB and glTF files at any depth, or files
        #[arg(required = true)]
        folders: Vec<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// Write built-in heads straight into a set: those of `hexcuda head --count`
    Synth {
        /// Heads of the seeds from --first-seed on
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
        /// Seed of the first head
        #[arg(long, default_value_t = 0)]
        first_seed: u64,
        /// About how many triangles a head has
        #[arg(long, default_value_t = HEAD_TRIANGLES as u32, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
        triangles: u32,
        #[command(flatten)]
        options: Options,
    },
    /// What a set holds, and what was skipped
    Info {
        set: PathBuf,
        /// All of it, with every mesh
        #[arg(long)]
        json: bool,
    },
    /// Compare every byte of a set with its checksum
    Verify { set: PathBuf },
    /// One mesh of a set: its planes, itself, or what is known of it
    Export {
        set: PathBuf,
        /// As `info --json` lists it
        name: String,
        /// .safetensors, .npy, .png (planes), .obj, .ply, .stl, .glb, .gltf (the mesh in its own units); none: JSON
        #[arg(short, long)]
        out: Option<PathBuf>,
    },
}

/// What a set is made with. A set that is there has its settings already; options that are named must agree.
#[derive(Debug, clap::Args)]
struct Options {
    /// The set: a new folder, or a set to go on with
    #[arg(short, long)]
    out: PathBuf,
    /// Pixels along an edge of a plane [default: 128]
    #[arg(long)]
    size: Option<usize>,
    /// What a pixel holds [default: continuous]
    #[arg(long)]
    representation: Option<Representation>,
    /// Which normals a pixel holds [default: interpolated]
    #[arg(long)]
    normals: Option<Normals>,
    /// The axis of the meshes that points up [default: y]
    #[arg(long, allow_hyphen_values = true)]
    up: Option<Up>,
    /// How planes lie in the set: in half precision or in single [default: fp16]
    #[arg(long)]
    storage: Option<Storage>,
    /// Points with their signed distance a mesh, for the SDF loss; 0 for none [default: 8192]
    #[arg(long)]
    points: Option<usize>,
    /// Of the draws of these points [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Whether meshes are kept beside their planes: for metrics, and for augmentation that turns or scales [default: true]
    #[arg(long)]
    meshes: Option<bool>,
    /// A shard with so many MiB is full [default: 1024]
    #[arg(long, value_name = "MIB")]
    shard: Option<usize>,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

impl Options {
    fn settings(&self) -> Result<SetSettings> {
        let base = match Manifest::is_in(&self.out) {
            true => Manifest::read(&self.out)?.settings,
            false => SetSettings::default(),
        };
        let settings = SetSettings {
            size: self.size.unwrap_or(base.size),
            representation: self.representation.unwrap_or(base.representation),
            normals: self.normals.unwrap_or(base.normals),
            up: self.up.unwrap_or(base.up),
            storage: self.storage.unwrap_or(base.storage),
            points: self.points.unwrap_or(base.points),
            seed: self.seed.unwrap_or(base.seed),
            meshes: self.meshes.unwrap_or(base.meshes),
            shard: self.shard.unwrap_or(base.shard),
        };
        settings.validate()?;
        Ok(settings)
    }
}

pub fn run(args: Args, ranks: &Ranks) -> Result<()> {
    let builds = matches!(args.command, Command::Build { .. } | Command::Synth { .. });
    if !ranks.is_alone() && !builds {
        let problem =
            format!("{} processes were started, and only build and synth use several", ranks.size());
        return ranks.agree(Err(Error::usage("dataset", problem, "start the program by itself")));
    }
    match args.command {
        Command::Build { folders, options } => {
            build(&ranks.agree(dataset::in_folders(&folders))?, &options, ranks)
        }
        Command::Synth { count, first_seed, triangles, options } => {
            build(&dataset::heads(count, first_seed, triangles as usize), &options, ranks)
        }
        Command::Info { set, json } => info(&set, json),
        Command::Verify { set } => verify(&set),
        Command::Export { set, name, out } => export(&set, &name, out.as_deref()),
    }
}

fn build(sources: &[Source], options: &Options, ranks: &Ranks) -> Result<()> {
    let begun = options.settings().and_then(|settings| {
        let device = super::device_of(ranks, options.device, Precision::default(), options.quiet)?;
        Ok((settings, device))
    });
    let (settings, device) = ranks.agree(begun)?;
    let (started, mut last) = (Instant::now(), Instant::now());
    let progress = |Progress { done, of }: Progress| {
        if options.quiet || last.elapsed() < LINE_EVERY {
            return;
        }
        last = Instant::now();
        let rate = done as f64 / started.elapsed().as_secs_f64();
        let left = (of - done) as f64 / rate;
        console::note(format_args!("{done}/{of} meshes, {rate:.1} a second, {left:.0} s left"));
    };
    let build = Build { set: &options.out, settings: &settings, device: &device, interrupt: interrupt()? };
    let report = build.run_among(ranks, sources, progress)?;
    if !ranks.is_first() {
        return Ok(());
    }
    let set = Set::open(&options.out)?;
    if set.entries.is_empty() {
        let first = report.skipped.first().map_or(String::new(), |(name, why)| format!("{name}: {why}"));
        let problem = format!("none of {} meshes could be taken ({first})", report.skipped.len());
        return Err(Error::new(options.out.display(), problem, "mend the files and build again"));
    }
    if options.quiet {
        return Ok(());
    }
    for (name, reason) in &report.skipped {
        console::note(format_args!("skipped {name}: {reason}"));
    }
    console::result(format_args!(
        "{}: {} added, {} changed, {} unchanged, {} skipped; {} meshes, {:.1} MB",
        options.out.display(),
        report.added,
        report.changed,
        report.unchanged,
        report.skipped.len(),
        set.entries.len(),
        mega(set.bytes().0),
    ))
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn info(path: &Path, as_json: bool) -> Result<()> {
    let set = Set::open_unfinished(path)?;
    let (bytes, unused) = set.bytes();
    if as_json {
        let facts = json!({
            "settings": set.settings, "finished": set.unfinished().is_none(), "shards": set.shards(),
            "bytes": bytes, "unused_bytes": unused, "meshes": set.entries, "skipped": set.skipped,
        });
        return console::result(facts);
    }
    let SetSettings { size, representation, normals, up, storage, points, seed, meshes, .. } = &set.settings;
    let kept = if *meshes { "kept" } else { "not kept" };
    console::result(format_args!(
        "{}: {} meshes, {} skipped",
        path.display(),
        set.entries.len(),
        set.skipped.len()
    ))?;
    console::result(format_args!(
        "planes 6 x {size} x {size}, {representation:?}, {storage:?}, normals {normals:?}, up {up}; {points} points \
         (seed {seed}); meshes {kept}"
    ))?;
    console::result(format_args!(
        "{:.1} MB in {} shard(s), {:.1} MB of them of meshes that were replaced",
        mega(bytes),
        set.shards(),
        mega(unused)
    ))?;
    if let Some(problem) = set.unfinished() {
        console::result(problem)?;
    }
    set.skipped.iter().try_for_each(|entry| {
        let reason = entry.skipped.as_deref().unwrap_or_default();
        console::result(format_args!("skipped {}: {reason}", entry.name))
    })
}

fn verify(path: &Path) -> Result<()> {
    let set = Set::open(path)?;
    let names = set.corrupted();
    if names.is_empty() {
        let (count, bytes) = (set.entries.len(), mega(set.bytes().0));
        return console::result(format_args!(
            "{}: {count} meshes, {bytes:.1} MB, all as written",
            path.display()
        ));
    }
    let more = names.len().saturating_sub(NAMED);
    let mut list = names[..names.len().min(NAMED)].join(", ");
    if more > 0 {
        list += &format!(" and {more} more");
    }
    let problem = format!("the bytes of {} mesh(es) are not those that were written: {list}", names.len());
    Err(Error::new(path.display(), problem, "remove the set and build it again"))
}

fn export(path: &Path, name: &str, out: Option<&Path>) -> Result<()> {
    let set = Set::open_unfinished(path)?;
    let index = set.find(name)?;
    let record = set.record(index)?;
    let Some(out) = out else {
        let mesh = record.mesh();
        let facts = json!({
            "mesh": set.entries[index], "transform": record.transform(), "points": record.points().len(),
            "vertices": mesh.as_ref().map(|mesh| mesh.positions.len()),
            "triangles": mesh.as_ref().map(|mesh| mesh.triangles.len()),
        });
        return console::result(facts);
    };
    if io::Format::from_path(out).is_ok() {
        let Some(mesh) = record.mesh() else {
            let problem = "the set keeps no meshes";
            return Err(Error::new(
                path.display(),
                problem,
                "export its planes, or take the file it is from",
            ));
        };
        return io::write(out, &denormalise(&mesh, &record.transform()));
    }
    let SetSettings { size, representation, storage, .. } = set.settings;
    let planes =
        Planes { representation, size, values: record.planes().into_owned(), transform: record.transform() };
    let precision = if storage == Storage::Fp16 { files::Precision::F16 } else { files::Precision::F32 };
    files::write(out, &planes, precision)
}
