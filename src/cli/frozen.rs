//! A trained run that stays as it is, and what `hexcuda codec` and `hexcuda prior` fit to its latents.

use super::inputs;
use super::latent::EXACT;
use crate::dataset::Set;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::mesh::Mesh;
use crate::model::Autoencoder;
use crate::train::{Item, Prepare, Settings, all_of, load_model, prepare_all, trained_on};
use std::path::PathBuf;
use std::sync::Arc;

/// What both commands take.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Mesh files, folders of them or sets (the part that is trained on), usually what the run was trained on
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The run folder with the trained network, or one of its checkpoints; what is fitted is put there, in place of an earlier one
    #[arg(long)]
    pub run: PathBuf,
    /// Warped copies of each mesh to fit to beside it; of meshes that are named as files
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub augment: usize,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// The network of a run, on a device.
pub struct Frozen<'a> {
    pub model: Autoencoder,
    pub settings: Settings,
    pub device: Device,
    options: &'a Options,
}

/// Meshes of files, by name.
type Named = Vec<(String, Mesh)>;

/// Meshes to fit something to.
#[derive(Default)]
pub struct Sources {
    /// Of files; there may be copies of them.
    meshes: Named,
    of_sets: Vec<Item>,
}

impl Options {
    /// The network that they name.
    pub fn network(&self) -> Result<Frozen<'_>> {
        let device = super::device(self.device, EXACT, self.json || self.quiet)?;
        let (model, settings) = load_model(&self.run)?;
        let model = model.on(&device)?;
        Ok(Frozen { model, settings: settings.without_training(), device, options: self })
    }
}

impl Frozen<'_> {
    /// What the inputs of the command name.
    pub fn sources(&self) -> Result<Sources> {
        let (sets, meshes) = named(&self.options.inputs)?;
        if self.options.augment > 0 && meshes.is_empty() {
            let problem = "copies are made of meshes that are named as files, and there are sets alone";
            return Err(Error::usage("--augment", problem, "leave it out, or name the files"));
        }
        Ok(Sources { meshes, of_sets: trained_on(&sets, &self.settings)? })
    }

    /// They and so many warped copies of each of the files, as the network sees them; copies behind all meshes of files.
    pub fn items(&self, sources: Sources, copies: usize) -> Result<Vec<Item>> {
        let mut items = self.prepared(&sources.meshes, copies)?;
        items.extend(sources.of_sets);
        Ok(items)
    }

    /// Meshes of files, folders and whole sets, to judge by; none without an input.
    pub fn judged(&self, inputs: &[PathBuf]) -> Result<Vec<Item>> {
        let (sets, meshes) = named(inputs)?;
        let mut items = self.prepared(&meshes, 0)?;
        items.extend(all_of(&sets, &self.settings)?);
        Ok(items)
    }

    fn prepared(&self, meshes: &[(String, Mesh)], copies: usize) -> Result<Vec<Item>> {
        let prepare = Prepare { settings: &self.settings, device: &self.device };
        prepare_all(&prepare, meshes, copies, &self.options.run)
    }
}

/// Sets, and the meshes of all else.
fn named(inputs: &[PathBuf]) -> Result<(Vec<Arc<Set>>, Named)> {
    let (sets, files) = inputs::sets(inputs)?;
    let meshes = if files.is_empty() { Vec::new() } else { inputs::meshes(&files, 0)? };
    Ok((sets, meshes))
}

impl Sources {
    /// How many are of files.
    pub fn of_files(&self) -> usize {
        self.meshes.len()
    }

    pub fn names(&self) -> Vec<String> {
        let of_files = self.meshes.iter().map(|(name, _)| name);
        of_files.chain(self.of_sets.iter().map(|item| &item.name)).cloned().collect()
    }

    /// Them without every `n`-th, and these.
    pub fn without_every(self, n: usize) -> (Self, Self) {
        let (mut kept, mut aside) = (Self::default(), Self::default());
        let mut at = 0;
        let mut side = || {
            at += 1;
            at % n == 0
        };
        for mesh in self.meshes {
            if side() { aside.meshes.push(mesh) } else { kept.meshes.push(mesh) }
        }
        for item in self.of_sets {
            if side() { aside.of_sets.push(item) } else { kept.of_sets.push(item) }
        }
        (kept, aside)
    }
}
