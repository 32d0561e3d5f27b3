//! Whether a learned prior repairs what the standard one loses.

use super::{EXPLAINED, FAILS, Outcome, Runs, Verdict, WORKS, names};
use crate::hexplane::Representation;
use crate::model::{Bottleneck, PriorKind};
use crate::train::Settings;

/// A cell with a learned prior, and the one that has the standard prior and is like it in all else.
struct Pair<'a, 'b> {
    learned: &'b Runs<'a>,
    standard: Option<&'b Runs<'a>>,
}

/// Judged where the standard prior fails; undecided where neither kind of learned prior, or only one, was tried there.
pub(super) fn repair(cells: &[Runs]) -> Option<Verdict> {
    let pairs = pairs(cells);
    let all = names(pairs.iter().map(|pair| pair.learned));
    let judged: Vec<&Pair> = pairs.iter().filter(|pair| pair.standard_fails()).collect();
    let missing: Vec<&str> = [PriorKind::Mixture, PriorKind::Vamp]
        .into_iter()
        .filter(|&kind| !judged.iter().any(|pair| prior(pair.learned) == kind))
        .map(PriorKind::name)
        .collect();
    let by_explained =
        |a: &&&Pair, b: &&&Pair| a.learned.explained().mean.total_cmp(&b.learned.explained().mean);
    let worst = judged.iter().min_by(by_explained);
    let best = judged.iter().max_by(by_explained);
    // The one that decides: where even the worst works they all do, and where not even the best does, none.
    let works = worst.is_some_and(|pair| pair.learned.explained().mean >= WORKS);
    let decides = if works { worst } else { best }.map_or(pairs.first()?.learned, |pair| pair.learned);
    let explained = decides.explained();
    let outcome = match (missing.is_empty(), works) {
        (true, true) => Outcome::Supported,
        (true, false) if explained.mean <= FAILS => Outcome::NotSupported,
        _ => Outcome::Undecided,
    };
    let mut why =
        format!("Explained at nats a mesh: {}.", pairs.iter().map(Pair::told).collect::<Vec<_>>().join("; "));
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        why += &format!(" Undecided for want of cells: {missing} beside a standard prior that fails.");
    }
    let meshes = decides.first().meshes.len();
    why +=
        &format!(" Knowing {meshes} meshes by heart takes ln {meshes} = {:.3} nats.", (meshes as f64).ln());
    Some(Verdict {
        claim: "A learned prior repairs it, with all else alike".into(),
        outcome,
        effect: explained.mean,
        measure: format!(
            "{EXPLAINED} where the standard prior fails, {} of them",
            if works { "worst" } else { "best" }
        ),
        spread: explained.deviation,
        why,
        cells: std::iter::once(decides.name().to_string())
            .chain(all.into_iter().filter(|name| name != decides.name()))
            .collect(),
    })
}

fn pairs<'a, 'b>(cells: &'b [Runs<'a>]) -> Vec<Pair<'a, 'b>> {
    let learned = cells.iter().filter(|cell| {
        cell.first().settings.representation == Representation::Binary && prior(cell) != PriorKind::Standard
    });
    let standard = |learned: &Runs| {
        let latent = &learned.first().settings.latent;
        let usual = Bottleneck::default();
        let latent = Bottleneck { prior: usual.prior, components: usual.components, ..latent.clone() };
        cells.iter().find(|cell| {
            let (ours, theirs) = (&learned.first().settings, &cell.first().settings);
            *theirs == Settings { latent: latent.clone(), seed: theirs.seed, ..ours.clone() }
        })
    };
    learned.map(|learned| Pair { learned, standard: standard(learned) }).collect()
}

fn prior(cell: &Runs) -> PriorKind {
    cell.first().settings.latent.prior
}

impl Pair<'_, '_> {
    fn standard_fails(&self) -> bool {
        self.standard.is_some_and(|cell| cell.explained().mean <= FAILS)
    }

    /// What both explain, and at which rate.
    fn told(&self) -> String {
        let of = |cell: &Runs| {
            let rate = cell.mean_of(|run| {
                let last = run.looks.last().and_then(|look| look.posterior.as_ref());
                last.map_or(f64::NAN, |posterior| posterior.rate)
            });
            let left = cell.runs.iter().filter(|run| run.diverged.is_some()).count();
            let diverged = if left > 0 {
                format!(" ({left} of {} runs diverged)", cell.runs.len())
            } else {
                String::new()
            };
            format!(
                "{} {:.3} at {:.3} ± {:.3}{diverged}",
                cell.name(),
                cell.explained().mean,
                rate.mean,
                rate.deviation
            )
        };
        let standard =
            self.standard.map_or(String::new(), |cell| format!(", the standard prior {}", of(cell)));
        format!("{}{standard}", of(self.learned))
    }
}
