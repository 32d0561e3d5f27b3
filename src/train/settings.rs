//! Every setting of a run, its presets, and the file that holds them.

use super::{Augmentation, Likelihood, LikelihoodKind, Validation};
use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::hexplane::cache::Storage;
use crate::hexplane::rasterize::Normals;
use crate::mesh::metrics;
use crate::mesh::normalise::Up;
use crate::model::{Architecture, Autoencoder, Bottleneck, DEPTH_SCALE, LatentKind, LinearCode};
use crate::nn::{AdamSettings, Schedule};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Bounds that keep the products of sizes far from overflow; memory runs out long before.
const MOST_MESHES: usize = 1 << 16;
const MOST_POINTS: usize = 1 << 24;
/// Of the quick preset 0.8 MB each, of the paper preset 13 MB.
const MOST_SNAPSHOTS: usize = 1000;
const SNAPSHOTS: usize = 12;

/// Weight of the SDF loss, a distance, beside the squared error of continuous planes.
const SDF_WEIGHT: f32 = 0.03;
/// Of binary planes none: all that the true distances add to the silhouettes is where these are wrong, in hollows that no
/// view looks into. At 0.03 the quick preset digs them out of the planes of the built-in head (squared error 1.6e-3
/// instead of 4e-7, scars across the head), for a mesh that fits better than the silhouettes do (F at 0.01 0.43, their
/// hull 0.37).
const SILHOUETTE_WEIGHT: f32 = 0.0;

/// Sizes of a run. `quick` and `standard` are for a CPU, `paper` has the sizes of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Planes 128, latent 24,576 floats.
    Quick,
    /// Planes 256, latent 98,304 floats.
    Standard,
    /// Planes 512, latent 393,216 floats, 38 M parameters.
    Paper,
}

/// How the weights start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Initialisation {
    /// The linear path starts as the principal components of the data.
    Principal,
    /// All weights random, no linear path (the study's setting).
    Random,
}

/// A whole run: what `config.toml` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub preset: Preset,
    pub seed: u64,
    /// The axis of the meshes that points up.
    pub up: Up,
    pub normals: Normals,
    pub representation: Representation,
    pub architecture: Architecture,
    #[serde(default)]
    pub latent: Bottleneck,
    pub training: Training,
    #[serde(default)]
    pub likelihood: Likelihood,
    /// What each visit of a mesh sees.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Of sets.
    #[serde(default)]
    pub validation: Validation,
    pub optimiser: AdamSettings,
    pub extraction: Extraction,
    pub metrics: metrics::Settings,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    pub steps: u64,
    /// Meshes a step at most.
    pub batch: usize,
    pub initialisation: Initialisation,
    pub schedule: Schedule,
    /// Weight of the depth channel in the squared error; 1 is the plain mean over all values.
    pub depth_weight: f32,
    /// Weight of the SDF loss beside the reconstruction; 0 leaves it out.
    pub sdf_weight: f32,
    /// Points with their true distance a mesh and step, half near the surface, half in the cube.
    pub sdf_points: usize,
    /// Warped copies of each mesh that are trained on beside it: slightly turned and stretched, every
    /// other one mirrored.
    pub augment: usize,
    /// Of binary planes: the deviation in pixels of the Gaussian that makes them soft before training; 0 leaves them as they are.
    #[serde(default)]
    pub blur: f32,
    /// Normalise again in backward instead of keeping what was normalised: the same bits in less memory, and some
    /// per cent more time.
    #[serde(default)]
    pub recompute: bool,
    /// How planes lie in a card's cache.
    #[serde(default)]
    pub plane_cache: Storage,
    /// Most meshes whose planes stay on a card; none: as many as fit. The rest is read from disk, ahead of its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_meshes: Option<usize>,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Most decoded planes of the first mesh that a run keeps of its way; 0 for none.
    #[serde(default = "usual_snapshots")]
    pub snapshots: usize,
}

fn usual_snapshots() -> usize {
    SNAPSHOTS
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extraction {
    /// Samples along an edge of the marching-cubes grid.
    pub grid: usize,
    /// Level of the occupancy.
    pub iso: f32,
}

impl Settings {
    pub fn preset(preset: Preset) -> Self {
        let (planes, patch, latent_channels, grid) = match preset {
            Preset::Quick => (128, 16, 64, 128),
            Preset::Standard => (256, 16, 64, 192),
            Preset::Paper => (512, 32, 256, 256),
        };
        let (widths, encoder_blocks, decoder_blocks): (&[usize], &[usize], &[usize]) = match preset {
            Preset::Quick | Preset::Standard => (&[128, 256], &[0, 0], &[2, 1]),
            Preset::Paper => (&[128, 256, 512], &[0, 0, 2], &[1, 2, 4]),
        };
        let (steps, learning_rate) = match preset {
            Preset::Quick => (125, 3e-3),
            Preset::Standard => (135, 3e-3),
            Preset::Paper => (110, 1e-3),
        };
        Self {
            preset,
            seed: 0,
            up: Up::default(),
            normals: Normals::Interpolated,
            representation: Representation::Continuous,
            architecture: Architecture {
                planes,
                channels: Representation::Continuous.channels(),
                patch,
                depth_scale: DEPTH_SCALE,
                latent_channels,
                stem: 8,
                widths: widths.to_vec(),
                encoder_blocks: encoder_blocks.to_vec(),
                decoder_blocks: decoder_blocks.to_vec(),
                linear_path: true,
                embedding: true,
                exchange: true,
                fill_background: false,
                logits: false,
            },
            latent: Bottleneck::default(),
            training: Training {
                steps,
                batch: 4,
                initialisation: Initialisation::Principal,
                schedule: Schedule::Plateau,
                depth_weight: DEPTH_SCALE * DEPTH_SCALE,
                sdf_weight: SDF_WEIGHT,
                sdf_points: 2048,
                augment: 0,
                blur: 0.0,
                recompute: preset == Preset::Paper,
                plane_cache: Storage::Fp16,
                cached_meshes: None,
                checkpoint_every: 100,
                snapshots: SNAPSHOTS,
            },
            likelihood: Likelihood::default(),
            augmentation: Augmentation::default(),
            validation: Validation::default(),
            // What came first to the quality of slower settings: docs/performance.md, "Time to quality".
            optimiser: AdamSettings {
                learning_rate,
                beta1: 0.8,
                beta2: 0.9,
                clip_norm: 0.0,
                ..AdamSettings::default()
            },
            extraction: Extraction { grid, iso: 0.5 },
            metrics: metrics::Settings::default(),
        }
    }

    /// Takes planes of this kind, with the settings that follow from it.
    pub fn represent(&mut self, representation: Representation) {
        if representation == self.representation {
            return;
        }
        self.representation = representation;
        self.architecture.channels = representation.channels();
        (self.training.depth_weight, self.training.sdf_weight) = match representation {
            Representation::Continuous => (DEPTH_SCALE * DEPTH_SCALE, SDF_WEIGHT),
            Representation::Binary => (1.0, SILHOUETTE_WEIGHT),
        };
    }

    /// The preset (`chosen`, else the file's own, else standard) with what `file` changes on it.
    pub fn load(chosen: Option<Preset>, file: Option<&Path>) -> Result<Self> {
        Self::load_for(chosen, None, file)
    }

    /// The same for planes of the kind `asked`, else of the file's own, else continuous ones.
    pub fn load_for(
        chosen: Option<Preset>,
        asked: Option<Representation>,
        file: Option<&Path>,
    ) -> Result<Self> {
        let base = |preset: Preset, representation: Representation| {
            let mut settings = Self::preset(preset);
            settings.represent(representation);
            settings
        };
        let Some(path) = file else {
            let representation = asked.unwrap_or(Representation::Continuous);
            return Ok(base(chosen.unwrap_or(Preset::Standard), representation));
        };
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        let problem = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            let place = format!("{}: line {line}", path.display());
            Error::new(place, error.message(), "correct the settings; config.toml of a run shows all of them")
        };
        let mut changes: toml::Table = text.parse().map_err(problem)?;
        #[derive(Deserialize)]
        struct OfPreset {
            preset: Option<Preset>,
            representation: Option<Representation>,
        }
        let own: OfPreset = toml::from_str(&text).map_err(problem)?;
        let preset = chosen.or(own.preset).unwrap_or(Preset::Standard);
        let of_file = own.representation.unwrap_or(Representation::Continuous);
        let representation = asked.unwrap_or(of_file);
        if representation != of_file {
            forget_pixels(&mut changes);
        }
        let mut all = base(preset, representation).to_table()?;
        merge(&mut all, changes);
        all.insert("preset".into(), toml::Value::try_from(preset).map_err(unwritable)?);
        all.insert("representation".into(), toml::Value::try_from(representation).map_err(unwritable)?);
        let settings: Self = all.try_into().map_err(|error: toml::de::Error| {
            let remedy = "correct the settings; config.toml of a run shows all of them";
            Error::new(path.display(), error, remedy)
        })?;
        Ok(settings)
    }

    /// Those of a network that is not trained any more: without the SDF loss, copies and augmentation, so that they ask
    /// nothing of meshes that only training needs.
    pub fn without_training(&self) -> Self {
        let mut settings = Self { augmentation: Augmentation::default(), ..self.clone() };
        settings.training.sdf_weight = 0.0;
        settings.training.augment = 0;
        settings
    }

    /// Whether the settings make sense together.
    pub fn validate(&self) -> Result<()> {
        self.architecture.validate()?;
        self.latent.validate(&[])?;
        self.optimiser.validate()?;
        self.metrics.validate()?;
        self.augmentation.validate()?;
        self.validation.validate()?;
        let training = &self.training;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let problem = if training.steps == 0 {
            "steps is 0, expected at least 1"
        } else if training.batch == 0 {
            "batch is 0, expected at least 1"
        } else if training.batch > MOST_MESHES {
            "batch is more than 65,536 meshes"
        } else if training.checkpoint_every == 0 {
            "checkpoint_every is 0, expected at least 1"
        } else if training.snapshots > MOST_SNAPSHOTS {
            "snapshots is more than 1,000"
        } else if !positive(training.depth_weight.into())
            || !training.sdf_weight.is_finite()
            || training.sdf_weight < 0.0
        {
            "depth_weight must be positive and sdf_weight at least 0"
        } else if training.sdf_weight > 0.0 && training.sdf_points < 2 {
            "sdf_points must be at least 2 where sdf_weight is not 0"
        } else if training.sdf_points > MOST_POINTS {
            "sdf_points is more than 16,777,216"
        } else if self.latent.kind == LatentKind::Categorical
            && self.latent.groups > self.architecture.latent_channels
        {
            "there are more groups of classes than latent_channels"
        } else if !(2..=2048).contains(&self.extraction.grid) {
            "grid must be from 2 to 2048"
        } else if !(self.extraction.iso > 0.0 && self.extraction.iso < 1.0) {
            "iso must lie between 0 and 1"
        } else if self.architecture.channels != self.representation.channels() {
            match self.representation {
                Representation::Continuous => "channels must be 4 for continuous planes",
                Representation::Binary => "channels must be 1 for binary planes",
            }
        } else if !(training.blur.is_finite() && (0.0..=64.0).contains(&training.blur)) {
            "blur must be from 0 to 64 pixels"
        } else if self.representation == Representation::Continuous && training.blur > 0.0 {
            "blur is for binary planes, these are continuous"
        } else if self.representation == Representation::Binary && training.depth_weight != 1.0 {
            "depth_weight must be 1 for binary planes, which have no depth"
        } else {
            return self.likelihood.validate(self.representation);
        };
        Err(Error::usage("settings", problem, "change the option or the line of the configuration file"))
    }

    /// The network that these settings train: a random start has no linear path, a coin is told by its logit.
    pub fn trained_architecture(&self) -> Architecture {
        let linear_path =
            self.architecture.linear_path && self.training.initialisation == Initialisation::Principal;
        let logits = self.likelihood.kind == LikelihoodKind::Bernoulli;
        Architecture { linear_path, logits, ..self.architecture.clone() }
    }

    /// The network that training starts from; `code` starts its linear path.
    pub fn network(&self, code: Option<&LinearCode>) -> Result<Autoencoder> {
        Autoencoder::with_latent(self.trained_architecture(), self.latent.clone(), self.seed, code)
    }

    /// The same to record alone.
    pub fn network_without_values(&self) -> Result<Autoencoder> {
        let network = Autoencoder::without_values(self.trained_architecture())?;
        Ok(Autoencoder { latent: self.latent.clone(), ..network })
    }

    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(unwritable)
    }

    pub(super) fn to_table(&self) -> Result<toml::Table> {
        toml::Table::try_from(self).map_err(unwritable)
    }
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::new("settings", error, "this is a bug: report it with the configuration")
}

/// Leaves out what a file says of pixels of another kind.
fn forget_pixels(changes: &mut toml::Table) {
    for (section, key) in [("architecture", "channels"), ("training", "depth_weight")] {
        if let Some(toml::Value::Table(section)) = changes.get_mut(section) {
            section.remove(key);
        }
    }
}

/// Tables are merged, everything else is replaced.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(changes)) => merge(inner, changes),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
