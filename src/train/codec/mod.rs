//! Fits the codec of [`crate::model::codec`] to latents of a trained network.

mod coding;
mod file;
mod gains;

pub use coding::{Alphabet, CodeEncoder, latent_of_code};
pub use file::CodecFile;
pub use gains::channel_gains;
pub(super) use gains::deviation;

use crate::error::{Error, Result};
use crate::model::codec::tables::{LEVELS, integers, laplace, level_of};
use crate::model::codec::{BASIS_BITS, Code, Codec, IndexCodec, MOST_WHOLE, PARTS, ValueCodec, ValueParts};
use crate::model::{LatentBasis, USUAL_COMPONENTS};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How a codec is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecSettings {
    /// What a step of any channel changes of decoded planes: root of the mean squared error with the loss's weights. None where the
    /// network was trained for a rate and has steps of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f32>,
    /// Principal components at most that predict a continuous latent.
    #[serde(default = "usual_components")]
    pub components: usize,
}

fn usual_components() -> usize {
    USUAL_COMPONENTS
}

impl Default for CodecSettings {
    /// About where heads that were left out lose a tenth of their F-score (docs/codec.md).
    fn default() -> Self {
        Self { step: Some(0.004), components: USUAL_COMPONENTS }
    }
}

impl CodecSettings {
    /// # Errors
    /// Wrong usage, where the step makes no sense.
    pub fn validate(&self) -> Result<()> {
        let Self { step, components } = *self;
        let problem = match step {
            Some(step) if !(1e-6..=10.0).contains(&step) => format!("step is {step}, expected 1e-6 to 10"),
            _ if !(1..=MOST_COMPONENTS).contains(&components) => {
                format!("components is {components}, expected 1 to {MOST_COMPONENTS}")
            }
            _ => return Ok(()),
        };
        Err(Error::usage("codec", problem, "change the option"))
    }
}

/// Of the quick preset 98 KB each in the codec's file.
const MOST_COMPONENTS: usize = 4096;

/// Parts that the latents are divided into: what one of them has beside the components of the others says how far a new latent
/// lies from its prediction.
const FOLDS: usize = 5;

/// Latents that the smooth estimate of a scale counts for, beside those that there are.
const SMOOTH_WEIGHT: f64 = 10.0;

/// Observations that a Laplace law counts for, beside the counts of a level, and a slot's mean beside an entry's own.
const LAW_WEIGHT: f64 = 400.0;
const SLOT_WEIGHT: f64 = 4.0;

/// Quarter-octaves at which the laws are learned: a level serves many steps.
const LEARNED_AT: [i8; 5] = [-8, -4, 0, 4, 8];

/// Of the channels in the order of coding, what layers behind the first end at.
const LAYER_ENDS: [f64; 3] = [1.0 / 16.0, 1.0 / 4.0, 1.0];

/// A codec of continuous latents of `shape`: those of so many meshes, then as often those of copies of each in the same order, then others.
/// `steps` are those of the channels, a step of all of them over the gains of [`channel_gains`] or learned ones; `components` predict at most.
///
/// # Errors
/// Fewer than two latents, or a step too narrow for them.
pub fn fit_values(
    (latents, meshes): (&[Vec<f32>], usize),
    shape: [usize; 4],
    steps: &[f32],
    components: usize,
) -> Result<Codec> {
    enough(latents.len())?;
    let (steps, channels) = (steps.to_vec(), steps.len());
    let in_steps = |latent: &Vec<f32>| -> Vec<f32> {
        latent.iter().enumerate().map(|(i, z)| z / steps[i % channels]).collect()
    };
    let scaled: Vec<Vec<f32>> = latents.iter().map(in_steps).collect();
    let residuals = left_over(&scaled, meshes, components);
    let scales = scales(&residuals, shape);
    let basis = Prediction::fit(&scaled, components);
    let whole = |x: f64| {
        let rounded = x.round();
        if rounded.abs() > f64::from(MOST_WHOLE) {
            let problem = format!("a latent lies {:.0} steps from 0", x / PARTS);
            return Err(Error::usage("codec", problem, "take a wider --step"));
        }
        Ok(rounded as i32)
    };
    let parts = ValueParts {
        shape,
        order: order(&scales, channels),
        ends: ends(channels),
        mean: basis.mean.iter().map(|&x| whole(f64::from(x) * PARTS)).collect::<Result<_>>()?,
        basis: basis
            .components
            .iter()
            .map(|&x| whole(f64::from(x) * PARTS * f64::from(1u32 << BASIS_BITS)))
            .collect::<Result<_>>()?,
        // The mean magnitude of a Gaussian is its deviation times the root of 2/pi.
        coefficient_levels: basis.deviations.iter().map(|&d| level_of(0.8 * f64::from(d))).collect(),
        levels: scales.iter().map(|&scale| level_of(scale)).collect(),
        laws: (0..LEVELS).map(laplace).collect(),
        steps,
    };
    let broken = |problem: String| Error::new("codec", problem, "report this");
    let mut codec = ValueCodec::new(parts).map_err(broken)?;
    let laws = learned_laws(&codec, &residuals);
    codec = ValueCodec::new(ValueParts { laws, ..codec.parts }).map_err(broken)?;
    Ok(Codec::Values(Box::new(codec)))
}

fn enough(count: usize) -> Result<()> {
    if count >= 2 {
        return Ok(());
    }
    let problem = format!("{count} latent to fit a codec to, expected at least 2");
    Err(Error::usage("codec", problem, "name more meshes"))
}

/// A basis, or the mean alone where one latent has none.
struct Prediction;

impl Prediction {
    fn fit(latents: &[Vec<f32>], components: usize) -> LatentBasis {
        match latents {
            [one] => LatentBasis { mean: one.clone(), components: Vec::new(), deviations: Vec::new() },
            _ => LatentBasis::fit(latents, components),
        }
    }
}

/// What the components of the other folds leave of each latent. Copies of a mesh are in one fold.
fn left_over(latents: &[Vec<f32>], meshes: usize, components: usize) -> Vec<Vec<f64>> {
    let meshes = if meshes < 2 { latents.len() } else { meshes };
    let folds = FOLDS.min(meshes);
    let fold_of = |latent: usize| latent % meshes % folds;
    let mut found = vec![Vec::new(); latents.len()];
    for fold in 0..folds {
        let others: Vec<Vec<f32>> =
            latents.iter().enumerate().filter(|&(i, _)| fold_of(i) != fold).map(|(_, l)| l.clone()).collect();
        let basis = Prediction::fit(&others, components);
        for (at, latent) in latents.iter().enumerate().filter(|&(i, _)| fold_of(i) == fold) {
            let predicted = basis.latent(&basis.coefficients(latent));
            found[at] = latent.iter().zip(&predicted).map(|(x, p)| f64::from(x - p)).collect();
        }
    }
    found
}

/// The scale of each entry's residual: the mean magnitude over the latents, drawn towards the product of its channel's and its site's
/// in the view, which more values speak for.
pub(super) fn scales(residuals: &[Vec<f64>], shape: [usize; 4]) -> Vec<f64> {
    let [views, rows, columns, channels] = shape;
    let (count, sites) = (residuals.len() as f64, rows * columns);
    let own: Vec<f64> = (0..residuals[0].len())
        .map(|i| residuals.iter().map(|residual| residual[i].abs()).sum::<f64>() / count)
        .collect();
    let mut found = vec![0.0; own.len()];
    for view in 0..views {
        let at = |site: usize, channel: usize| (view * sites + site) * channels + channel;
        let of_channel: Vec<f64> = (0..channels)
            .map(|c| (0..sites).map(|site| own[at(site, c)]).sum::<f64>() / sites as f64)
            .collect();
        let of_site: Vec<f64> = (0..sites)
            .map(|site| (0..channels).map(|c| own[at(site, c)]).sum::<f64>() / channels as f64)
            .collect();
        let mean = (of_site.iter().sum::<f64>() / sites as f64).max(f64::MIN_POSITIVE);
        for site in 0..sites {
            for channel in 0..channels {
                let smooth = of_channel[channel] * of_site[site] / mean;
                let sum = count * own[at(site, channel)] + SMOOTH_WEIGHT * smooth;
                found[at(site, channel)] = sum / (count + SMOOTH_WEIGHT);
            }
        }
    }
    found
}

/// Channels by what their residuals change of planes, most first: steps are equal in that.
fn order(scales: &[f64], channels: usize) -> Vec<usize> {
    let energy = |c: usize| scales.iter().skip(c).step_by(channels).map(|s| s * s).sum::<f64>();
    let energies: Vec<f64> = (0..channels).map(energy).collect();
    let mut order: Vec<usize> = (0..channels).collect();
    order.sort_by(|&a, &b| energies[b].total_cmp(&energies[a]));
    order
}

fn ends(slots: usize) -> Vec<usize> {
    let mut ends: Vec<usize> =
        LAYER_ENDS.iter().map(|part| ((part * slots as f64).round() as usize).max(1)).collect();
    ends.dedup();
    ends
}

/// The laws of all levels: what residuals of left-out latents were under them, beside Laplace's.
fn learned_laws(codec: &ValueCodec, residuals: &[Vec<f64>]) -> Vec<Vec<u32>> {
    let count = |residual: &Vec<f64>| {
        let mut counts: Vec<Vec<u32>> = codec.parts.laws.iter().map(|law| vec![0; law.len()]).collect();
        LEARNED_AT.iter().for_each(|&coarser| codec.count(residual, coarser, &mut counts));
        counts
    };
    let all: Vec<Vec<Vec<u32>>> = residuals.par_iter().map(count).collect();
    let law = |level: usize| {
        let start = &codec.parts.laws[level];
        let reach = start.len() / 2 - 1;
        let counted = |symbol: usize| all.iter().map(|counts| f64::from(counts[level][symbol])).sum::<f64>();
        let weight = |symbol: usize| {
            // Both signs are alike.
            let mirrored = if symbol > 2 * reach { symbol } else { 2 * reach - symbol };
            let share = f64::from(start[symbol]) / f64::from(1u32 << 16);
            0.5 * (counted(symbol) + counted(mirrored)) + LAW_WEIGHT * share
        };
        integers(&(0..start.len()).map(weight).collect::<Vec<_>>())
    };
    (0..LEVELS).map(law).collect()
}

/// A codec of discrete latents of `[6, s, s, slots]`.
///
/// # Errors
/// Fewer than two latents, or more indices than probabilities of 16 bits tell apart.
pub fn fit_indices(latents: &[Vec<u16>], shape: [usize; 4], alphabet: &Alphabet) -> Result<Codec> {
    enough(latents.len())?;
    let [views, rows, columns, slots] = shape;
    let (len, of_view) = (latents[0].len(), rows * columns * slots);
    let most = (0..len).map(|entry| alphabet.size(entry)).max().unwrap_or_default();
    if most > MOST_INDICES {
        let problem = format!("{most} classes or levels, a codec has at most {MOST_INDICES}");
        return Err(Error::usage("codec", problem, "train with fewer"));
    }
    // Of each slot of a view, over all its sites.
    let mut pooled: Vec<Vec<f64>> =
        (0..views * slots).map(|at| vec![1.0; alphabet.size(at % slots)]).collect();
    let mut own: Vec<Vec<f64>> = (0..len).map(|entry| vec![0.0; alphabet.size(entry)]).collect();
    for latent in latents {
        for (entry, &index) in latent.iter().enumerate() {
            own[entry][usize::from(index)] += 1.0;
            pooled[entry / of_view * slots + entry % slots][usize::from(index)] += 1.0;
        }
    }
    let law = |(entry, counts): (usize, &Vec<f64>)| {
        let pooled = &pooled[entry / of_view * slots + entry % slots];
        let all: f64 = pooled.iter().sum();
        let weights: Vec<f64> =
            counts.iter().zip(pooled).map(|(own, p)| own + SLOT_WEIGHT * p / all).collect();
        integers(&weights)
    };
    let laws = own.iter().enumerate().map(law).collect();
    let codec = IndexCodec::new(shape, ends(slots), laws);
    codec.map(Codec::Indices).map_err(|problem| Error::new("codec", problem, "report this"))
}

/// Half of what 16 bits tell apart.
const MOST_INDICES: usize = 1 << 15;

/// A codec of codes of one kind, of so many meshes and their copies as in [`fit_values`], of the shape `[6, s, s, slots]`; `steps` as in [`fit_values`].
///
/// # Errors
/// As [`fit_values`] and [`fit_indices`].
pub fn fit_codec(
    (codes, meshes): (&[Code], usize),
    shape: [usize; 4],
    alphabet: &Alphabet,
    (steps, components): (&[f32], usize),
) -> Result<Codec> {
    let values: Vec<Vec<f32>> = codes
        .iter()
        .filter_map(|code| if let Code::Values(v) = code { Some(v.clone()) } else { None })
        .collect();
    let indices: Vec<Vec<u16>> = codes
        .iter()
        .filter_map(|code| if let Code::Indices(i) = code { Some(i.clone()) } else { None })
        .collect();
    match alphabet {
        Alphabet::Values => fit_values((&values, meshes), shape, steps, components),
        _ => fit_indices(&indices, shape, alphabet),
    }
}
