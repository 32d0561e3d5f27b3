//! Each claim of the study beside what the runs show.

mod learned_priors;

use super::grid::{Role, SEEDS};
use super::run::RunResult;
use crate::console;
use crate::error::Result;
use crate::hexplane::Representation;
use crate::model::{LatentKind, PriorKind};
use crate::train::Initialisation;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Supported,
    #[serde(rename = "not supported")]
    NotSupported,
    Undecided,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub claim: String,
    pub outcome: Outcome,
    /// The number that decides, and what it is.
    pub effect: f64,
    pub measure: String,
    /// Standard deviation over the seeds of the cell that decides.
    pub spread: f64,
    /// The cells that show it, the one that decides first.
    pub cells: Vec<String>,
    /// A sentence with the numbers.
    pub why: String,
}

/// From this share of the variance on a decoder shows the mesh that it was given.
const WORKS: f64 = 0.5;
/// Up to this share it shows the mean of the set, whatever it was given.
const FAILS: f64 = 0.05;
/// So far below the mean of the set a decoder still shows nothing else.
const NEAR: f64 = 0.1;
/// A rate that was so many times its last value has exploded and come down.
const EXPLODES: f64 = 10.0;
/// From this share of a gradient on it lies nowhere else.
const ONLY: f64 = 0.9;
/// Pixels from the edge that count as at the edge.
const EDGE: usize = 2;

/// The runs of one cell.
struct Runs<'a> {
    runs: Vec<&'a RunResult>,
}

impl<'a> Runs<'a> {
    fn all(results: &'a [RunResult]) -> Vec<Self> {
        let mut cells: Vec<Self> = Vec::new();
        for result in results {
            match cells.iter_mut().find(|cell| cell.name() == result.cell) {
                Some(cell) => cell.runs.push(result),
                None => cells.push(Self { runs: vec![result] }),
            }
        }
        cells
    }

    fn name(&self) -> &str {
        &self.runs[0].cell
    }

    fn first(&self) -> &RunResult {
        self.runs[0]
    }

    fn mean_of(&self, of: impl Fn(&RunResult) -> f64) -> Stat {
        Stat::new(&self.runs.iter().map(|run| of(run)).collect::<Vec<_>>())
    }

    /// The share of the set's variance that is explained by decoding what was encoded.
    fn explained(&self) -> Stat {
        self.mean_of(|run| run.end.as_ref().map_or(f64::NAN, |end| end.of_mean))
    }

    /// The same by decoding a draw of the posterior, as training steps do.
    fn drawn(&self) -> Stat {
        self.mean_of(|run| run.end.as_ref().and_then(|end| end.of_draw).unwrap_or(f64::NAN))
    }

    /// Of a standard prior.
    fn is(&self, representation: Representation, kind: LatentKind) -> bool {
        let settings = &self.first().settings;
        settings.representation == representation
            && settings.latent.kind == kind
            && settings.latent.prior == PriorKind::Standard
            && settings.training.blur == 0.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Stat {
    mean: f64,
    deviation: f64,
}

impl Stat {
    fn new(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Self { mean, deviation: if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 } }
    }
}

/// What the cells say about a claim; nothing where none of them can.
type Claim = fn(&[Runs]) -> Option<Verdict>;

/// Of all claims, in the order in which the study makes them. A claim for which the grid has no cell is left out; with
/// fewer seeds than a spread needs none is decided.
pub fn verdicts(results: &[RunResult]) -> Vec<Verdict> {
    let cells = Runs::all(results);
    let claims: [Claim; 9] = [
        must_fail,
        explodes,
        collapses,
        shows_the_mean,
        gradient_at_the_edge,
        no_schedule,
        continuous_repairs,
        other_latents_work,
        learned_priors::repair,
    ];
    let mut found: Vec<Verdict> = claims.iter().filter_map(|claim| claim(&cells)).collect();
    let seeds = cells.iter().map(|cell| cell.runs.len()).min().unwrap_or(0);
    if seeds < SEEDS {
        for verdict in &mut found {
            verdict.outcome = Outcome::Undecided;
            verdict.why += &format!(" Undecided for want of seeds: {seeds} of {SEEDS}.");
        }
    }
    found
}

fn gaussian_binary(cell: &&Runs) -> bool {
    cell.is(Representation::Binary, LatentKind::Gaussian)
}

fn study<'a, 'b>(cells: &'b [Runs<'a>]) -> Option<&'b Runs<'a>> {
    cells.iter().find(|cell| cell.first().role == Role::Study && gaussian_binary(cell))
}

fn best<'a, 'b>(cells: impl Iterator<Item = &'b Runs<'a>>) -> Option<&'b Runs<'a>>
where
    'a: 'b,
{
    cells.max_by(|a, b| a.explained().mean.total_cmp(&b.explained().mean))
}

fn names<'a: 'b, 'b>(cells: impl Iterator<Item = &'b Runs<'a>>) -> Vec<String> {
    cells.map(|cell| cell.name().to_string()).collect()
}

/// Supported where `works` is below [`FAILS`], not supported from [`WORKS`] on.
fn fails(explained: f64) -> Outcome {
    match explained {
        x if x <= FAILS => Outcome::Supported,
        x if x >= WORKS => Outcome::NotSupported,
        _ => Outcome::Undecided,
    }
}

fn repairs(explained: f64) -> Outcome {
    match fails(explained) {
        Outcome::Supported => Outcome::NotSupported,
        Outcome::NotSupported => Outcome::Supported,
        Outcome::Undecided => Outcome::Undecided,
    }
}

const EXPLAINED: &str = "share of the variance explained";

fn must_fail(cells: &[Runs]) -> Option<Verdict> {
    let tried: Vec<&Runs> =
        cells.iter().filter(gaussian_binary).filter(|c| c.first().role != Role::Schedule).collect();
    let best = best(tried.iter().copied())?;
    let explained = best.explained();
    let working = tried.iter().filter(|cell| cell.explained().mean >= WORKS).count();
    Some(Verdict {
        claim: "A Gaussian latent on binary planes fails, whatever its weight and likelihood".into(),
        outcome: fails(explained.mean),
        effect: explained.mean,
        measure: EXPLAINED.into(),
        spread: explained.deviation,
        why: format!(
            "{working} of {} combinations explain at least {WORKS} of the variance; the best, {}, explains {:.3}.",
            tried.len(),
            best.name(),
            explained.mean
        ),
        cells: names(std::iter::once(best).chain(tried.iter().copied().filter(|c| c.name() != best.name()))),
    })
}

fn explodes(cells: &[Runs]) -> Option<Verdict> {
    let study = study(cells)?;
    let ratio = |run: &RunResult| {
        let rates = || run.looks.iter().filter_map(|look| look.posterior.as_ref()).map(|p| p.rate);
        let (peak, last) = (rates().fold(0.0, f64::max), rates().next_back().unwrap_or(0.0));
        peak / last.max(1e-9)
    };
    let after_start = |run: &RunResult| {
        let rates: Vec<f64> = run.looks.iter().filter_map(|l| l.posterior.as_ref()).map(|p| p.rate).collect();
        rates.iter().copied().fold(0.0, f64::max) / rates.first().copied().unwrap_or(1.0).max(1e-9)
    };
    let diverged = study.runs.iter().filter(|run| run.diverged.is_some()).count();
    let (down, up) = (study.mean_of(ratio), study.mean_of(after_start));
    let exploded = diverged > 0 || up.mean >= EXPLODES;
    Some(Verdict {
        claim: "The KL divergence explodes".into(),
        outcome: if exploded { Outcome::Supported } else { Outcome::NotSupported },
        effect: up.mean,
        measure: "highest KL over that at the start".into(),
        spread: up.deviation,
        why: format!(
            "The KL rises to {:.3} times its first value and ends at 1/{:.3} of its highest; {diverged} of {} runs leave the \
             finite numbers. An explosion would be a factor of {EXPLODES}.",
            up.mean,
            down.mean,
            study.runs.len()
        ),
        cells: vec![study.name().into()],
    })
}

fn collapses(cells: &[Runs]) -> Option<Verdict> {
    let study = study(cells)?;
    let (active, told) = (study.mean_of(active), study.mean_of(told));
    Some(Verdict {
        claim: "The posterior collapses at the study's own weight".into(),
        outcome: fails(told.mean),
        effect: told.mean,
        measure: "variance explained by the own latent less by another mesh's".into(),
        spread: told.deviation,
        why: format!(
            "{:.1} latent dimensions are in use; decoding another mesh's latent costs {:.3} of the variance.",
            active.mean, told.mean
        ),
        cells: vec![study.name().into()],
    })
}

/// What the own latent tells beyond another mesh's, as a share of the variance.
fn told(run: &RunResult) -> f64 {
    run.end.as_ref().map_or(f64::NAN, |end| end.of_mean - end.of_shuffled)
}

fn active(run: &RunResult) -> f64 {
    let last = run.looks.last().and_then(|look| look.posterior.as_ref());
    last.map_or(f64::NAN, |posterior| posterior.active as f64)
}

fn shows_the_mean(cells: &[Runs]) -> Option<Verdict> {
    let collapsed: Vec<&Runs> =
        cells.iter().filter(gaussian_binary).filter(|cell| cell.mean_of(active).mean == 0.0).collect();
    let worst = collapsed.iter().min_by(|a, b| a.drawn().mean.total_cmp(&b.drawn().mean))?;
    let drawn = worst.drawn();
    let least = collapsed.iter().map(|cell| cell.explained().mean).fold(f64::INFINITY, f64::min);
    let most_told = collapsed.iter().map(|cell| cell.mean_of(told).mean).fold(f64::NEG_INFINITY, f64::max);
    Some(Verdict {
        claim: "What collapses shows the mean of the data".into(),
        outcome: match (most_told <= FAILS, drawn.mean >= -NEAR) {
            (true, true) => Outcome::Supported,
            (false, _) => Outcome::NotSupported,
            (true, false) => Outcome::Undecided,
        },
        effect: drawn.mean,
        measure: "share of the variance explained by a draw, furthest below the mean's 0".into(),
        spread: drawn.deviation,
        why: format!(
            "In {} combinations no latent dimension is in use; they show all meshes alike (another mesh's latent costs at most \
             {most_told:.3} of the variance), and a draw of {} is furthest from the mean of the set, at {:.3}. The posterior's mean, \
             which no training step decodes, is at {least:.3} at the lowest.",
            collapsed.len(),
            worst.name(),
            drawn.mean
        ),
        cells: names(collapsed.into_iter()),
    })
}

fn gradient_at_the_edge(cells: &[Runs]) -> Option<Verdict> {
    let deterministic =
        |representation| cells.iter().find(|c| c.is(representation, LatentKind::Deterministic));
    // Before training means before it knows anything of the data.
    let random = cells
        .iter()
        .filter(gaussian_binary)
        .find(|cell| cell.first().settings.training.initialisation == Initialisation::Random);
    let binary = random.or_else(|| deterministic(Representation::Binary)).or_else(|| study(cells))?;
    let at = |cell: &Runs, first: bool| {
        cell.mean_of(|run| {
            let look = if first { run.looks.first() } else { run.looks.last() };
            look.map_or(f64::NAN, |look| look.edge.within(EDGE))
        })
    };
    let (first, last) = (at(binary, true), at(binary, false));
    let pixels = binary.mean_of(|run| run.looks[0].edge.pixels_within(EDGE));
    let beside = deterministic(Representation::Continuous).map_or(String::new(), |cell| {
        format!(" With continuous planes {:.3} and {:.3}.", at(cell, true).mean, at(cell, false).mean)
    });
    Some(Verdict {
        claim: "Binary planes have a gradient at the silhouette's edge alone".into(),
        outcome: if first.mean >= ONLY { Outcome::Supported } else { Outcome::NotSupported },
        effect: first.mean,
        measure: format!("share of the gradient within {EDGE} pixels of the edge, before training"),
        spread: first.deviation,
        why: format!(
            "{:.3} of the gradient lies there before training and {:.3} at the end, in {:.3} of the pixels.{beside}",
            first.mean, last.mean, pixels.mean
        ),
        cells: vec![binary.name().into()],
    })
}

fn no_schedule(cells: &[Runs]) -> Option<Verdict> {
    let tried: Vec<&Runs> = cells.iter().filter(|cell| cell.first().role == Role::Schedule).collect();
    let best = best(tried.iter().copied())?;
    let explained = best.explained();
    let each: Vec<String> =
        tried.iter().map(|cell| format!("{} {:.3}", cell.name(), cell.explained().mean)).collect();
    Some(Verdict {
        claim: "No schedule repairs it".into(),
        outcome: fails(explained.mean),
        effect: explained.mean,
        measure: format!("{EXPLAINED}, best of the controls"),
        spread: explained.deviation,
        why: format!("Explained: {}.", each.join(", ")),
        cells: names(std::iter::once(best).chain(tried.iter().copied().filter(|c| c.name() != best.name()))),
    })
}

/// Cells of binary planes that fail, beside those of other planes with all else alike.
fn continuous_repairs(cells: &[Runs]) -> Option<Verdict> {
    let failed = cells.iter().filter(gaussian_binary).filter(|cell| cell.explained().mean < WORKS);
    let twin = |cell: &Runs| {
        cells.iter().find(|other| {
            let (a, b) = (&cell.first().settings, &other.first().settings);
            other.is(Representation::Continuous, LatentKind::Gaussian)
                && (&a.likelihood, &a.latent) == (&b.likelihood, &b.latent)
        })
    };
    let pairs: Vec<(&Runs, &Runs)> = failed.filter_map(|cell| Some((cell, twin(cell)?))).collect();
    let (_, worst) = pairs.iter().min_by(|a, b| a.1.explained().mean.total_cmp(&b.1.explained().mean))?;
    let repaired = pairs.iter().filter(|(_, twin)| twin.explained().mean >= WORKS).count();
    let explained = worst.explained();
    Some(Verdict {
        claim: "Continuous planes repair it, with all else alike".into(),
        outcome: match repaired {
            0 => Outcome::NotSupported,
            n if n == pairs.len() => Outcome::Supported,
            _ => Outcome::Undecided,
        },
        effect: repaired as f64 / pairs.len() as f64,
        measure: "share of failing combinations that work with continuous planes".into(),
        spread: explained.deviation,
        why: format!(
            "{repaired} of {} combinations that fail on binary planes work on continuous ones; {} explains {:.3}.",
            pairs.len(),
            worst.name(),
            explained.mean
        ),
        cells: pairs.iter().flat_map(|(a, b)| [a.name().to_string(), b.name().to_string()]).collect(),
    })
}

fn other_latents_work(cells: &[Runs]) -> Option<Verdict> {
    let others = cells.iter().filter(|cell| {
        let settings = &cell.first().settings;
        let plain = [LatentKind::Gaussian, LatentKind::Deterministic].contains(&settings.latent.kind);
        settings.representation == Representation::Binary && !plain
    });
    let tried: Vec<&Runs> = others.collect();
    let worst = tried.iter().min_by(|a, b| a.explained().mean.total_cmp(&b.explained().mean))?;
    let explained = worst.explained();
    let each: Vec<String> =
        tried.iter().map(|cell| format!("{} {:.3}", cell.name(), cell.explained().mean)).collect();
    Some(Verdict {
        claim: "Discrete latents work on binary planes".into(),
        outcome: repairs(explained.mean),
        effect: explained.mean,
        measure: format!("{EXPLAINED}, worst of them"),
        spread: explained.deviation,
        why: format!("Explained: {}.", each.join(", ")),
        cells: names(tried.into_iter()),
    })
}

/// The table on standard output.
pub(super) fn print(verdicts: &[Verdict], quiet: bool) -> Result<()> {
    for verdict in verdicts.iter().filter(|_| !quiet) {
        let outcome = match verdict.outcome {
            Outcome::Supported => "supported",
            Outcome::NotSupported => "not supported",
            Outcome::Undecided => "undecided",
        };
        console::result(format_args!("{outcome:<14} {}", verdict.claim))?;
        console::result(format_args!(
            "{:<14} {} {:.3} ± {:.3}. {}",
            "", verdict.measure, verdict.effect, verdict.spread, verdict.why
        ))?;
    }
    Ok(())
}
