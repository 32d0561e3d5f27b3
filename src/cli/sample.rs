//! `hexcuda sample` and `hexcuda interpolate`: latents that no mesh was encoded to, decoded to meshes.

use super::inputs::stem;
use super::latent::{EXACT, Taken, read_latent};
use super::nearest::{Nearest, Neighbours};
use crate::console;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::hexplane::field::no_surface;
use crate::hexplane::{Planes, picture};
use crate::mesh::normalise::denormalise;
use crate::mesh::topology::{Health, Topology};
use crate::mesh::{Similarity, io, without_fragments};
use crate::model::hexz::Latent;
use crate::model::{Autoencoder, LatentKind};
use crate::train::{
    Decoder, Encoder, Prepare, Prior, SecondStage, Settings, highest_of_planes, load_model, mesh_of_planes,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Blocks of a contact sheet: a picture of some 10,000 rows.
const MOST_ON_A_SHEET: usize = 48;

/// Draw latents from the prior of a run and decode them to meshes
#[derive(Debug, clap::Args)]
pub struct SampleArgs {
    /// The run folder with the trained network, or one of its checkpoints
    #[arg(long)]
    run: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Draw from the prior that hexcuda prior has fitted, not from the latent's own; a deterministic latent has no other
    #[arg(long)]
    second_stage: bool,
    /// Meshes or folders of them, usually those trained on: say which is nearest to each sample, and how far
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    nearest_to: Vec<PathBuf>,
}

/// Decode the way between two meshes or latent files, along a line
#[derive(Debug, clap::Args)]
pub struct InterpolateArgs {
    /// The run folder with the trained network, or one of its checkpoints
    #[arg(long)]
    run: PathBuf,
    /// Where the way begins: a mesh, or a .hexz file of this run
    a: PathBuf,
    /// Where it ends
    b: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Meshes; of a way with both of its ends
    #[arg(short, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    n: u32,
    /// Leave out components with fewer triangles than this share of the largest one's: specks where views contradict each other
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    least_component: f64,
    /// Folder for the meshes, numbered in order, and the picture of their planes, planes.png
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of one latent.
#[derive(Serialize)]
struct Row {
    name: String,
    /// Without a surface, none.
    file: Option<PathBuf>,
    health: Option<Health>,
    /// Components that were too small to keep.
    fragments: usize,
    /// Of planes without a surface.
    highest_occupancy: Option<f32>,
    /// Of a surface, where meshes are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<Nearest>,
}

/// Decodes latents to meshes and keeps their planes for the picture.
struct Sequence<'a> {
    common: &'a Common,
    settings: &'a Settings,
    device: &'a Device,
    model: &'a Autoencoder,
    decoder: Decoder,
    neighbours: Option<Neighbours>,
    rows: Vec<Row>,
    planes: Vec<(String, Planes)>,
}

pub fn sample(args: SampleArgs) -> Result<()> {
    let device = super::device(args.common.device, EXACT, args.common.json)?;
    let (model, settings) = load_model(&args.run)?;
    let mut model = model.on(&device)?;
    let mut prior = prior(&args, &mut model, &device)?;
    let decoder = Decoder::new(&mut model)?;
    let named = !args.nearest_to.is_empty();
    let neighbours = named.then(|| Neighbours::new(&args.nearest_to, &settings)).transpose()?;
    let mut sequence = Sequence::new(&args.common, &settings, &device, &model, decoder)?;
    sequence.neighbours = neighbours;
    for index in 0..args.common.n {
        let latent = prior.draw(&model, index.into())?;
        sequence.add(&format!("sample-{index:03}"), &latent, Similarity::default())?;
    }
    sequence.finish()
}

/// The run's own prior, or the one of a second stage.
fn prior(args: &SampleArgs, model: &mut Autoencoder, device: &Device) -> Result<Prior> {
    let (run, has_none) = (&args.run, model.latent.kind == LatentKind::Deterministic);
    if args.second_stage || has_none && SecondStage::path(run).exists() {
        let (_, flow) = SecondStage::read(run, model, device)?;
        return Prior::second_stage(model, flow, args.seed);
    }
    Prior::new(model, args.seed).map_err(|error| error.within(run.display()))
}

pub fn interpolate(args: InterpolateArgs) -> Result<()> {
    if args.common.n < 2 {
        return Err(Error::usage("-n", "is 1, but a way has two ends", "take at least 2"));
    }
    let device = super::device(args.common.device, EXACT, args.common.json)?;
    let (model, settings) = load_model(&args.run)?;
    let mut model = model.on(&device)?;
    let prepare = Prepare { settings: &settings, device: &device };
    let [a, b] =
        [end(&mut model, &prepare, &args.run, &args.a)?, end(&mut model, &prepare, &args.run, &args.b)?];
    let decoder = Decoder::new(&mut model)?;
    let mut sequence = Sequence::new(&args.common, &settings, &device, &model, decoder)?;
    for index in 0..args.common.n {
        let t = index as f32 / (args.common.n - 1) as f32;
        let mixed: Vec<f32> = a.values.iter().zip(&b.values).map(|(a, b)| (1.0 - t) * a + t * b).collect();
        // All meshes in the frame of the first: they stand beside each other.
        sequence.add(&format!("step-{index:03}"), &mixed, a.transform)?;
    }
    sequence.finish()
}

/// The latent of a mesh, or of a latent file.
fn end(model: &mut Autoencoder, prepare: &Prepare, run: &Path, path: &Path) -> Result<Latent> {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("hexz")) {
        return read_latent(path, run, model, Taken::default());
    }
    let mesh = io::read(path)?;
    let (_, transform, planes) = prepare.planes(&mesh).map_err(|error| error.within(path.display()))?;
    let values = Encoder::new(model)?.encode(model, &planes)?;
    Ok(Latent { shape: model.latent_extents(), transform, model: String::new(), name: stem(path), values })
}

impl<'a> Sequence<'a> {
    fn new(
        common: &'a Common,
        settings: &'a Settings,
        device: &'a Device,
        model: &'a Autoencoder,
        decoder: Decoder,
    ) -> Result<Self> {
        std::fs::create_dir_all(&common.out).map_err(|error| Error::io(&common.out, &error))?;
        let (rows, planes) = (Vec::new(), Vec::new());
        Ok(Self { common, settings, device, model, decoder, neighbours: None, rows, planes })
    }

    fn add(&mut self, name: &str, latent: &[f32], transform: Similarity) -> Result<()> {
        let planes = self.decoder.decode(self.model, latent, transform)?;
        let mesh = mesh_of_planes(self.device, &planes, self.settings)?;
        let (mesh, fragments) = without_fragments(mesh, self.common.least_component)?;
        let mut row = Row {
            name: name.to_string(),
            file: None,
            health: None,
            fragments,
            highest_occupancy: None,
            nearest: None,
        };
        if mesh.triangles.is_empty() {
            row.highest_occupancy = Some(highest_of_planes(&planes, self.settings)?);
        } else {
            let file = self.common.out.join(format!("{name}.ply"));
            io::write(&file, &denormalise(&mesh, &transform))?;
            row.health = Some(Topology::new(&mesh)?.health());
            row.file = Some(file);
            if let Some(neighbours) = &mut self.neighbours {
                row.nearest = neighbours.of(&mesh)?;
            }
        }
        if !self.common.json {
            print(&row, self.settings.extraction.iso)?;
        }
        self.rows.push(row);
        if self.planes.len() < MOST_ON_A_SHEET {
            self.planes.push((name.to_string(), planes));
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let blocks: Vec<(&str, &Planes)> =
            self.planes.iter().map(|(name, planes)| (&**name, planes)).collect();
        picture::write_png(&self.common.out.join("planes.png"), &picture::surface_sheet(&blocks))?;
        if self.common.json {
            let text = serde_json::to_string_pretty(&self.rows)
                .map_err(|error| Error::new("the results", error, "report this"))?;
            return console::result(text);
        }
        self.neighbours.map_or(Ok(()), |neighbours| neighbours.print())
    }
}

fn print(row: &Row, iso: f32) -> Result<()> {
    let Some(health) = &row.health else {
        let found = no_surface(iso, row.highest_occupancy.unwrap_or_default());
        return console::result(format_args!("{}: {found}", row.name));
    };
    let nearest = row.nearest.as_ref();
    let nearest = nearest.map_or(String::new(), |n| format!(", nearest {} at {:.4}", n.name, n.chamfer_l1));
    console::result(format_args!(
        "{}: {} vertices, {} faces, {} components, {} boundary and {} non-manifold edges, {}{}{nearest}",
        row.name,
        health.vertices,
        health.faces,
        health.components,
        health.boundary_edges,
        health.non_manifold_edges,
        if health.watertight { "watertight" } else { "not watertight" },
        match row.fragments {
            0 => String::new(),
            n => format!(", without {n} fragments"),
        }
    ))
}

/// A number from 0 to 1.
fn share(text: &str) -> std::result::Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text} is not a number from 0 to 1"))
}
