//! Shapes edited through the latent: planes are painted on, and the latent follows under the brush.
//!
//! The latent z of a mesh is decoded, the strokes are applied ([`super::brush`]), and both the planes before and those
//! after are encoded. A site of a view is touched where a pixel of its patch was changed; there, and nowhere else, the
//! latent becomes z + (E(after) - E(before)), so that what the network loses between decoding and encoding does not
//! count as an edit and a stroke that changes nothing changes nothing. A discrete latent, of which a difference is no
//! code, takes E(after). Every other site keeps its bits.
//!
//! *Other views.* What is raised is to be seen from the side ([`super::brush`]). Where that moves an outline the latent is
//! left as it is: few networks show an outline that they were not trained on, and around it they show noise, which costs
//! more of the surface than the raise adds. (Built-in head, preset `standard`, a cheek raised beyond the brow: of 128³ points
//! 609 are to come inside; with the sites of all views taken 961 are missing, with those of the painted view alone 620. A
//! network of 12 heads is no better at it.) For the same reason a view that was not painted on is followed only where it then
//! shows more pixels right than before. Views with sites that were left are told.
//!
//! What a touched site reaches of the decoded planes is bounded by the decoder's convolutions ([`reach`]); beyond, planes change
//! only through the statistics of its normalisations. The largest change there is told as `outside`.

use super::app::{App, Held, Shown};
use super::brush::{Stroke, apply, fault, is_surface};
use super::engine::Engine;
use super::failure::{Answer, Failure};
use super::runs::{Run, lock, stamp};
use super::source::{Code, Source, same_network, shown};
use crate::hexplane::{Planes, Representation};
use crate::model::hexz::Latent;
use crate::model::{Architecture, LatentKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// A token; none for the latent of `mesh`.
    #[serde(default)]
    latent: Option<String>,
    #[serde(default)]
    mesh: usize,
    strokes: Vec<Stroke>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Reply {
    latent: String,
    changed_sites: usize,
    /// Views that do not show all that was raised, because the network cannot.
    unshown: Vec<usize>,
    outside: f32,
    milliseconds: f64,
}

/// A latent, what it decodes to, and which sites are new in it.
struct Followed {
    values: Vec<f32>,
    decoded: Planes,
    taken: Vec<bool>,
}

impl App {
    pub fn edit(&self, run: &Run, request: &Request) -> Answer<Reply> {
        let started = Instant::now();
        let architecture = &run.settings.architecture;
        if let Some(problem) = fault(&request.strokes, run.settings.representation, architecture.planes) {
            return Err(Failure::bad(problem));
        }
        let source = match &request.latent {
            Some(token) => Source::parse(&format!("latent:{token}"))?,
            None => Source::Input(request.mesh),
        };
        let code = self.latent(run, &source)?;
        let before = self.before(run, &source, &code)?;
        let mut after = before.planes.clone();
        let mut changed = vec![false; 6 * after.size * after.size];
        request.strokes.iter().for_each(|stroke| apply(&mut after, stroke, &mut changed));
        let touched = touched(architecture, &changed);
        let painted = painted(&request.strokes, run.settings.representation);
        let outlines = outlines(architecture, &before.planes, &after);
        let sites = touched.len() / 6;
        let able: Vec<bool> = (0..touched.len())
            .map(|site| touched[site] && (painted[site / sites] || !outlines[site]))
            .collect();
        let found = self.follow(run, &code, &before, &after, (&able, painted))?;
        let left =
            |view: &usize| (view * sites..(view + 1) * sites).any(|site| touched[site] && !found.taken[site]);
        let unshown = (0..6).filter(left).collect();
        let outside = outside(architecture, &found.taken, &before.planes, &found.decoded);
        let mesh = self.name(run, &source)?;
        let latent = Latent {
            shape: [6, architecture.latent_size(), architecture.latent_size(), architecture.latent_channels],
            transform: code.transform,
            model: code.hash,
            name: format!("{}-edited", mesh.trim_end_matches("-edited")),
            values: found.values,
        };
        let token = self.hold(Held { run: run.path.clone(), latent, mesh: code.mesh })?;
        self.keep(run, &token, shown(found.decoded, code.mesh));
        Ok(Reply {
            latent: token,
            changed_sites: found.taken.iter().filter(|taken| **taken).count(),
            unshown,
            outside,
            milliseconds: started.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// What the latent decodes to.
    fn before(&self, run: &Run, source: &Source, code: &Code) -> Answer<Arc<Shown>> {
        if let Source::Latent(_) = source {
            return self.shown(run, source);
        }
        let now = stamp(&run.path.join("checkpoint.safetensors")).unwrap_or_default();
        self.kept(run, source, now, || Ok(shown(self.decode(run, code)?, code.mesh)))
    }

    /// The latent moved at the sites that may follow: those of the views painted on, and of every other view that then
    /// shows more pixels right.
    fn follow(
        &self,
        run: &Run,
        code: &Code,
        before: &Shown,
        after: &Planes,
        (able, painted): (&[bool], [bool; 6]),
    ) -> Answer<Followed> {
        let engine = self.engines.of(run)?;
        let mut engine = lock(&engine);
        same_network(&code.hash, &engine.hash)?;
        let new = moved(&mut engine, code, before, after)?;
        let mut followed = |taken: Vec<bool>| -> Answer<Followed> {
            let channels = code.values.len() / taken.len();
            let mut values = code.values.clone();
            for site in (0..taken.len()).filter(|&site| taken[site]) {
                let range = site * channels..(site + 1) * channels;
                values[range.clone()].copy_from_slice(&new[range]);
            }
            let decoded = engine.decode(&values, code.transform)?;
            Ok(Followed { values, decoded, taken })
        };
        let of_views = |chosen: &dyn Fn(usize) -> bool| -> Vec<bool> {
            (0..able.len()).map(|site| able[site] && chosen(site / (able.len() / 6))).collect()
        };
        let all = followed(able.to_vec())?;
        let better = |view: usize| wrong(&all.decoded, after, view) < wrong(&before.planes, after, view);
        let chosen: [bool; 6] = std::array::from_fn(|view| painted[view] || better(view));
        let taken = of_views(&|view| chosen[view]);
        if taken == able { Ok(all) } else { followed(taken) }
    }

    /// What a source is called.
    pub fn name(&self, run: &Run, source: &Source) -> Answer<String> {
        match source {
            Source::Latent(token) => Ok(self.held(token)?.latent.name.clone()),
            Source::Input(index) | Source::Decoded(index) | Source::Mesh(index) => {
                Ok(self.given(run, *index)?.name.clone())
            }
            Source::Snapshot(step) => Ok(format!("step-{step}")),
        }
    }
}

/// The views that strokes are painted on; a silhouette is also that of the opposite view.
fn painted(strokes: &[Stroke], representation: Representation) -> [bool; 6] {
    let of = |stroke: &Stroke, view: usize| {
        stroke.view == view || representation == Representation::Binary && stroke.view ^ 1 == view
    };
    std::array::from_fn(|view| strokes.iter().any(|stroke| of(stroke, view)))
}

/// The sites in whose patches a pixel of continuous planes has become a surface, or none.
fn outlines(architecture: &Architecture, before: &Planes, after: &Planes) -> Vec<bool> {
    if before.representation == Representation::Binary {
        return vec![false; 6 * architecture.latent_size().pow(2)];
    }
    let [before, after]: [&[[f32; 4]]; 2] = [before, after].map(|p| bytemuck::cast_slice(&p.values));
    let other: Vec<bool> = before.iter().zip(after).map(|(a, b)| is_surface(a) != is_surface(b)).collect();
    touched(architecture, &other)
}

/// The latent with every site moved as the planes were.
fn moved(engine: &mut Engine, code: &Code, before: &Shown, after: &Planes) -> Answer<Vec<f32>> {
    let new = engine.encode(after)?;
    if !matches!(engine.model.latent.kind, LatentKind::Deterministic | LatentKind::Gaussian) {
        return Ok(new);
    }
    let old = encoded(engine, before)?;
    Ok(code.values.iter().zip(new.iter().zip(&old)).map(|(z, (new, old))| z + (new - old)).collect())
}

/// Pixels of a view of continuous planes that are no surface where one is wanted, or the other way round, or two pixels'
/// width off in depth.
fn wrong(planes: &Planes, wanted: &Planes, view: usize) -> usize {
    let [found, wanted]: [&[[f32; 4]]; 2] = [planes, wanted].map(|p| bytemuck::cast_slice(p.view(view)));
    let far = 2.0 / planes.size as f32;
    let is_wrong = |(a, b): &(&[f32; 4], &[f32; 4])| {
        is_surface(a) != is_surface(b) || is_surface(a) && (a[0] - b[0]).abs() > far
    };
    found.iter().zip(wanted).filter(is_wrong).count()
}

/// What planes encode to, once.
fn encoded(engine: &mut Engine, planes: &Shown) -> Answer<Vec<f32>> {
    let mut known = lock(&planes.encoded);
    if let Some((_, values)) = known.as_ref().filter(|(hash, _)| *hash == engine.hash) {
        return Ok(values.clone());
    }
    let values = engine.encode(&planes.planes)?;
    *known = Some((engine.hash.clone(), values.clone()));
    Ok(values)
}

/// The sites, of `[6, s, s]`, whose patches hold one of the pixels of `[6, size, size]` that are marked.
fn touched(architecture: &Architecture, changed: &[bool]) -> Vec<bool> {
    let (size, patch, sites) = (architecture.planes, architecture.patch, architecture.latent_size());
    let mut touched = vec![false; 6 * sites * sites];
    for pixel in (0..changed.len()).filter(|&pixel| changed[pixel]) {
        let (view, row, column) = (pixel / (size * size), pixel / size % size, pixel % size);
        touched[(view * sites + row / patch) * sites + column / patch] = true;
    }
    touched
}

/// How many pixels beyond its own patch a site of the latent reaches in decoded planes: by the 3 x 3 convolution at the
/// latent's resolution, and by the two of each residual block at its level's.
pub fn reach(architecture: &Architecture) -> usize {
    let blocks = architecture.decoder_blocks.iter().enumerate();
    let of_level = blocks.map(|(level, blocks)| 2 * blocks * (architecture.stem << level));
    architecture.patch + of_level.sum::<usize>()
}

/// The largest change of a value that no touched site reaches. The views see each other's mean at the same sites where they
/// exchange.
fn outside(architecture: &Architecture, touched: &[bool], before: &Planes, after: &Planes) -> f32 {
    let (size, patch, sites) = (architecture.planes, architecture.patch, architecture.latent_size());
    let (reach, area, channels) = (reach(architecture), size * size, before.channels());
    let mut within = vec![false; 6 * area];
    for site in (0..touched.len()).filter(|&site| touched[site]) {
        let (own, row, column) = (site / (sites * sites), site / sites % sites, site % sites);
        let span = |at: usize| (at * patch).saturating_sub(reach)..((at + 1) * patch + reach).min(size);
        for view in (0..6).filter(|&view| view == own || architecture.exchange) {
            for y in span(row) {
                let start = view * area + y * size;
                within[start + span(column).start..start + span(column).end].fill(true);
            }
        }
    }
    let pixels = before.values.chunks(channels).zip(after.values.chunks(channels)).zip(&within);
    let far = pixels.filter(|(_, within)| !**within).map(|(pair, _)| pair);
    far.flat_map(|(a, b)| a.iter().zip(b)).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Similarity;
    use crate::train::{Preset, Settings};

    #[test]
    fn the_reach_is_that_of_the_convolutions() {
        // 16 at the latent, two at 16 pixels, four at 8.
        assert_eq!(reach(&Settings::preset(Preset::Standard).architecture), 16 + 2 * 16 + 4 * 8);
    }

    #[test]
    fn only_sites_under_the_brush_are_touched() {
        let architecture = Settings::preset(Preset::Quick).architecture;
        let (size, sites) = (architecture.planes, architecture.latent_size());
        let mut changed = vec![false; 6 * size * size];
        changed[(2 * size + 17) * size + 31] = true;
        let found = touched(&architecture, &changed);
        assert_eq!(found.iter().filter(|t| **t).count(), 1);
        assert!(found[(2 * sites + 1) * sites + 1]);
        let before = Planes::background(Representation::Continuous, size, Similarity::default());
        let mut after = before.clone();
        let architecture = Architecture { exchange: false, decoder_blocks: vec![0, 0], ..architecture };
        // Of this view: inside its reach, and one pixel beyond.
        after.values[4 * ((2 * size + 47) * size + 47)] = 5.0;
        assert_eq!(outside(&architecture, &found, &before, &after), 0.0);
        after.values[4 * ((2 * size + 48) * size + 47)] = 1.5;
        assert_eq!(outside(&architecture, &found, &before, &after), 0.5);
    }
}
