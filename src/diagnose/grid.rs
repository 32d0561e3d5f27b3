//! The runs of a diagnosis: representation x likelihood x reduction x beta x latent with one network, and the controls.

use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::model::{Architecture, LatentKind, MOST_COMPONENTS, PriorKind};
use crate::nn::Schedule;
use crate::ops::Reduction;
use crate::train::{Initialisation, LikelihoodKind, Preset, Settings};
use serde::{Deserialize, Serialize};

/// What a cell is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The study's own combination.
    Study,
    /// Along beta, with all else alike.
    Sweep,
    /// A schedule or safeguard beside the cell that is like it in all else.
    Schedule,
    /// Binary planes made soft.
    Blurred,
    /// Another latent.
    Latent,
}

/// One combination of settings; its runs differ in their seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub name: String,
    pub role: Role,
    pub settings: Settings,
}

impl Cell {
    pub fn learned_prior(&self) -> bool {
        self.settings.latent.prior != PriorKind::Standard
    }
}

/// The study's weight of the KL and the steps of its warm-up.
const STUDY_BETA: f64 = 1e-6;
const STUDY_WARMUP: u64 = 3000;

/// Seeds a cell is run with at least; a spread needs so many.
pub const SEEDS: usize = 3;

/// A grid: its cells, how many built-in heads it takes where no mesh is named, and how many steps lie between two looks
/// at a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    pub cells: Vec<Cell>,
    pub heads: usize,
    pub looks: u64,
}

impl Grid {
    /// `quick` and `standard` are whole grids at planes of 32 and 64; `paper` is the study's combination at its own size
    /// beside its working counterpart.
    pub fn preset(preset: Preset) -> Self {
        match preset {
            Preset::Paper => Self { cells: study(), heads: 8, looks: 24 },
            Preset::Quick => Self { cells: cells(&base(preset)), heads: 12, looks: 10 },
            Preset::Standard => Self { cells: cells(&base(preset)), heads: 24, looks: 20 },
        }
    }

    /// With a component of a learned prior for each of so many meshes: the divergence of a mesh that none stands for grows
    /// without bound.
    ///
    /// # Errors
    /// Wrong usage where a prior cannot have so many.
    pub fn for_meshes(&self, meshes: usize) -> Result<Self> {
        let mut grid = self.clone();
        for cell in grid.cells.iter_mut().filter(|cell| cell.learned_prior()) {
            if meshes > MOST_COMPONENTS {
                let problem = format!(
                    "{meshes} meshes, but the prior of {} has a component a mesh, expected at most {MOST_COMPONENTS}",
                    cell.name
                );
                let remedy = "take fewer meshes, or cells without a learned prior by --only";
                return Err(Error::usage("diagnose", problem, remedy));
            }
            cell.settings.latent.components = meshes;
        }
        Ok(grid)
    }
}

/// What all cells of a grid share: the plain mean, no SDF loss, the study's clipping.
fn base(preset: Preset) -> Settings {
    let mut settings = Settings::preset(preset);
    let a = &mut settings.architecture;
    let small = |planes, stem, widths: &[usize], latent_channels| Architecture {
        planes,
        stem,
        patch: stem << (widths.len() - 1),
        widths: widths.to_vec(),
        encoder_blocks: vec![0, 1],
        decoder_blocks: vec![0, 1],
        latent_channels,
        ..Settings::preset(preset).architecture
    };
    let (steps, batch, grid) = match preset {
        Preset::Quick => {
            *a = small(32, 4, &[32, 64], 32);
            (1200, 4, 48)
        }
        Preset::Standard => {
            *a = small(64, 8, &[64, 128], 64);
            (2000, 8, 64)
        }
        Preset::Paper => (480, 1, 128),
    };
    let training = &mut settings.training;
    (training.steps, training.batch) = (steps, batch);
    // In the steps of a small grid a random start of continuous planes does not come as far as their mean.
    training.initialisation =
        if preset == Preset::Paper { Initialisation::Random } else { Initialisation::Principal };
    training.schedule = if preset == Preset::Paper { Schedule::Constant } else { Schedule::Plateau };
    (training.depth_weight, training.sdf_weight) = (1.0, 0.0);
    settings.optimiser.learning_rate = if preset == Preset::Paper { 1e-4 } else { 3e-3 };
    (settings.optimiser.beta1, settings.optimiser.beta2) = (0.9, 0.999);
    settings.optimiser.clip_norm = 1.0;
    settings.extraction.grid = grid;
    settings.metrics.samples = 4000;
    settings.metrics.iou_grid = 32;
    settings
}

/// `settings` on planes of a kind, which leave the weights of the losses alone.
fn on(settings: &Settings, representation: Representation) -> Settings {
    let mut settings = settings.clone();
    settings.represent(representation);
    (settings.training.depth_weight, settings.training.sdf_weight) = (1.0, 0.0);
    settings
}

fn gaussian(
    base: &Settings,
    representation: Representation,
    kind: LikelihoodKind,
    reduction: Reduction,
    beta: f64,
) -> Settings {
    let mut settings = on(base, representation);
    (settings.likelihood.kind, settings.likelihood.reduction) = (kind, reduction);
    (settings.latent.kind, settings.latent.beta) = (LatentKind::Gaussian, beta);
    settings
}

fn study() -> Vec<Cell> {
    let base = base(Preset::Paper);
    let of = |representation| {
        let mut settings = gaussian(&base, representation, LikelihoodKind::Mse, Reduction::Mean, STUDY_BETA);
        settings.latent.kl_warmup = STUDY_WARMUP;
        settings
    };
    let mut working = on(&base, Representation::Continuous);
    working.latent.kind = LatentKind::Deterministic;
    // In so few steps the warm-up reaches a sixth of the weight.
    let mut whole = of(Representation::Binary);
    whole.latent.kl_warmup = 0;
    vec![
        cell("study", Role::Study, of(Representation::Binary)),
        cell("study-whole-weight", Role::Study, whole),
        cell("study-continuous", Role::Study, of(Representation::Continuous)),
        cell("study-deterministic", Role::Latent, working),
    ]
}

fn cell(name: impl Into<String>, role: Role, settings: Settings) -> Cell {
    Cell { name: name.into(), role, settings }
}

/// The weight of the KL that drops every direction of these planes at a mean over their values: there schedules and other
/// latents have something to repair.
const FAILING: f64 = 1e-3;

fn cells(base: &Settings) -> Vec<Cell> {
    let mut cells = Vec::new();
    for representation in [Representation::Binary, Representation::Continuous] {
        let name = name_of(representation);
        for beta in [1e-7, 1e-6, 1e-5, 1e-4, FAILING] {
            let settings = gaussian(base, representation, LikelihoodKind::Mse, Reduction::Mean, beta);
            let role = if beta == STUDY_BETA { Role::Study } else { Role::Sweep };
            cells.push(cell(format!("{name}-mse-mean-{beta:e}"), role, settings));
        }
        for beta in [0.1, 1.0, 10.0] {
            let settings = gaussian(base, representation, LikelihoodKind::Mse, Reduction::Sum, beta);
            cells.push(cell(format!("{name}-mse-sum-{beta}"), Role::Sweep, settings));
        }
        let settings = gaussian(base, representation, LikelihoodKind::Sigma, Reduction::Sum, 1.0);
        cells.push(cell(format!("{name}-sigma-sum-1"), Role::Sweep, settings));
    }
    for beta in [0.1, 1.0, 10.0] {
        let settings =
            gaussian(base, Representation::Binary, LikelihoodKind::Bernoulli, Reduction::Sum, beta);
        cells.push(cell(format!("binary-bernoulli-sum-{beta}"), Role::Sweep, settings));
    }
    cells.extend(schedules(base));
    for beta in [1e-6, 1e-4] {
        let mut settings = gaussian(base, Representation::Binary, LikelihoodKind::Mse, Reduction::Mean, beta);
        settings.training.blur = settings.architecture.planes as f32 / 32.0;
        cells.push(cell(format!("blurred-mse-mean-{beta:e}"), Role::Blurred, settings));
    }
    cells.extend(latents(base));
    cells
}

fn name_of(representation: Representation) -> &'static str {
    match representation {
        Representation::Binary => "binary",
        Representation::Continuous => "continuous",
    }
}

/// The study's controls, each alone, where the latent of binary planes fails without.
fn schedules(base: &Settings) -> Vec<Cell> {
    let failing = gaussian(base, Representation::Binary, LikelihoodKind::Mse, Reduction::Mean, FAILING);
    let steps = base.training.steps;
    let one = |name: &str, change: &dyn Fn(&mut Settings)| {
        let mut settings = failing.clone();
        change(&mut settings);
        cell(format!("binary-{name}"), Role::Schedule, settings)
    };
    vec![
        // The same share of the steps as the study's 3,000 of its own.
        one("warm-up", &|s| s.latent.kl_warmup = steps / 2),
        one("cap", &|s| s.latent.kl_cap = Some(1e-3)),
        one("no-clipping", &|s| s.optimiser.clip_norm = 0.0),
        one("free-bits", &|s| s.latent.free_bits = 0.1),
        one("capacity", &|s| {
            s.architecture.widths.iter_mut().for_each(|width| *width *= 2);
            s.architecture.latent_channels *= 2;
        }),
        one("random-start", &|s| s.training.initialisation = Initialisation::Random),
    ]
}

fn latents(base: &Settings) -> Vec<Cell> {
    let mut cells = Vec::new();
    for representation in [Representation::Binary, Representation::Continuous] {
        let mut settings = on(base, representation);
        settings.latent.kind = LatentKind::Deterministic;
        cells.push(cell(format!("{}-deterministic", name_of(representation)), Role::Latent, settings));
    }
    for kind in [LatentKind::Categorical, LatentKind::Fsq] {
        let mut settings = on(base, Representation::Binary);
        settings.latent.kind = kind;
        if kind == LatentKind::Categorical {
            (settings.latent.groups, settings.latent.classes) = (8, 32);
        }
        cells.push(cell(format!("binary-{}", kind.name()), Role::Latent, settings));
    }
    cells.extend(learned_priors(base));
    cells
}

/// Where the standard prior loses everything, and where it works: all else is as in its own cells.
fn learned_priors(base: &Settings) -> Vec<Cell> {
    let mut cells = Vec::new();
    for prior in [PriorKind::Mixture, PriorKind::Vamp] {
        for beta in [FAILING, STUDY_BETA] {
            let mut settings =
                gaussian(base, Representation::Binary, LikelihoodKind::Mse, Reduction::Mean, beta);
            settings.latent.prior = prior;
            cells.push(cell(format!("binary-{}-{beta:e}", prior.name()), Role::Latent, settings));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_valid_and_has_a_name_of_its_own() {
        for preset in [Preset::Quick, Preset::Standard, Preset::Paper] {
            let grid = Grid::preset(preset);
            let mut names: Vec<&str> = grid.cells.iter().map(|cell| cell.name.as_str()).collect();
            for cell in &grid.cells {
                cell.settings.validate().unwrap_or_else(|error| panic!("{}: {error}", cell.name));
                assert!(
                    cell.name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)),
                    "{}",
                    cell.name
                );
            }
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), grid.cells.len());
        }
    }
}
