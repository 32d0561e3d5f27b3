//! What a run comes to: its reconstructions beside controls that know less, and meshes.

use super::edge;
use super::look::{Set, squared_error};
use crate::device::Device;
use crate::error::Result;
use crate::hexplane::rasterize::rasterize;
use crate::hexplane::{Planes, Representation, picture};
use crate::mesh::metrics::Reference;
use crate::mesh::{Mesh, Similarity};
use crate::model::{Gaussian, LatentKind};
use crate::rng::Rng;
use crate::train::{Decoder, Encoder, Prior, Settings, Trainer, highest_of_planes, mesh_of_planes};
use serde::{Deserialize, Serialize};
use std::path::Path;

const STREAM_POSTERIOR: u64 = 0x706f_7374;

/// Levels of the occupancy at which outputs are cut.
pub const LEVELS: [f32; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Meshes that are measured; a set may hold many.
const MEASURED: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Share of the set's variance that is explained by decoding the mean of the posterior.
    pub of_mean: f64,
    /// By decoding a draw from the posterior; `None` without one.
    pub of_draw: Option<f64>,
    /// By decoding the latent of another mesh of the set: as `of_mean` where the latent says nothing.
    pub of_shuffled: f64,
    /// By decoding the latent 0.
    pub of_zero: f64,
    /// Share of meshes without a surface at the level of the settings: decoded, and drawn from the prior.
    pub empty: f64,
    pub empty_drawn: Option<f64>,
    /// The highest occupancy of the decoded, mean over the meshes.
    pub highest: f64,
    /// By [`LEVELS`], of the first mesh: vertices of its surface, and share of occupied pixels.
    pub vertices: Vec<usize>,
    pub occupied: Vec<f64>,
    /// F-score at 0.02, mean over the first meshes: decoded, and without the network.
    pub score: f64,
    pub ceiling: f64,
}

/// Decoder and what surrounds it.
struct Judge<'a> {
    device: &'a Device,
    settings: &'a Settings,
    trainer: &'a Trainer,
    decoder: Decoder,
}

impl End {
    /// With the picture of the first mesh and a draw in `picture`, if asked for.
    ///
    /// # Errors
    /// Those of the device and of writing.
    pub fn new(
        trainer: &mut Trainer,
        set: &Set,
        settings: &Settings,
        device: &Device,
        picture: Option<&Path>,
    ) -> Result<Self> {
        let (mut encoder, decoder) = (Encoder::new(&mut trainer.model)?, Decoder::new(&mut trainer.model)?);
        let mut latents = Vec::new();
        let mut posteriors: Vec<Option<Gaussian>> = Vec::new();
        for planes in &set.planes {
            latents.push(encoder.encode(&trainer.model, planes)?);
            posteriors.push(encoder.posterior(&trainer.model, planes)?);
        }
        let drawn = draws_from_the_prior(trainer, settings, set.items.len())?;
        let mut judge = Judge { device, settings, trainer, decoder };
        let decoded: Vec<Planes> =
            latents.iter().map(|latent| judge.decode(latent)).collect::<Result<_>>()?;
        let count = latents.len();
        let mut end = Self::default();
        let explained = |decoded: &[Planes]| {
            let errors = decoded.iter().zip(&set.planes).map(|(a, b)| squared_error(a, b));
            set.explained(errors.sum::<f64>() / count as f64)
        };
        end.of_mean = explained(&decoded);
        let shuffled: Vec<Planes> = (0..count).map(|at| decoded[(at + 1) % count].clone()).collect();
        end.of_shuffled = explained(&shuffled);
        end.of_zero = explained(&vec![judge.decode(&vec![0.0; latents[0].len()])?; count]);
        if posteriors.iter().all(Option::is_some) {
            let draws = posteriors.iter().flatten().enumerate().map(|(at, p)| draw(settings.seed, at, p));
            let draws: Vec<Planes> = draws.map(|latent| judge.decode(&latent)).collect::<Result<_>>()?;
            end.of_draw = Some(explained(&draws));
        }
        let drawn: Vec<Planes> = drawn.iter().map(|latent| judge.decode(latent)).collect::<Result<_>>()?;
        let meshes = judge.meshes(&decoded)?;
        end.empty = share_of_empty(&meshes);
        end.empty_drawn = if drawn.is_empty() { None } else { Some(share_of_empty(&judge.meshes(&drawn)?)) };
        let highest: Vec<f32> =
            decoded.iter().map(|planes| highest_of_planes(planes, settings)).collect::<Result<_>>()?;
        end.highest = highest.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        end.levels(&judge, &decoded[0])?;
        end.scores(&judge, set, &meshes)?;
        if let Some(path) = picture {
            let rows = Pictures {
                input: &set.planes[0],
                decoded: &decoded[0],
                drawn: drawn.first(),
                mesh: &meshes[0],
            };
            rows.write(path)?;
        }
        Ok(end)
    }

    fn levels(&mut self, judge: &Judge, decoded: &Planes) -> Result<()> {
        for level in LEVELS {
            let mut settings = judge.settings.clone();
            settings.extraction.iso = level;
            self.vertices.push(mesh_of_planes(judge.device, decoded, &settings)?.positions.len());
            self.occupied.push(match decoded.representation {
                Representation::Binary => {
                    let above = decoded.values.iter().filter(|&&x| x >= level).count();
                    above as f64 / decoded.values.len() as f64
                }
                Representation::Continuous => edge::occupied(decoded),
            });
        }
        Ok(())
    }

    fn scores(&mut self, judge: &Judge, set: &Set, meshes: &[Mesh]) -> Result<()> {
        let count = MEASURED.min(meshes.len());
        for ((item, mesh), planes) in set.items.iter().zip(meshes).zip(&set.planes).take(count) {
            let Some(input) = item.mesh()? else { continue };
            let reference = Reference::on(judge.device, &input, &judge.settings.metrics)?;
            let score = |mesh: &Mesh| -> Result<f64> {
                let metrics = reference.compare(mesh)?;
                Ok(metrics.at(0.02).map_or(f64::NAN, |score| score.f_score))
            };
            self.score += score(mesh)? / count as f64;
            self.ceiling += score(&mesh_of_planes(judge.device, planes, judge.settings)?)? / count as f64;
        }
        Ok(())
    }
}

impl Judge<'_> {
    /// In the frame in which all meshes are compared, the normalised one.
    fn decode(&mut self, latent: &[f32]) -> Result<Planes> {
        self.decoder.decode(&self.trainer.model, latent, Similarity::default())
    }

    fn meshes(&self, planes: &[Planes]) -> Result<Vec<Mesh>> {
        planes.iter().map(|planes| mesh_of_planes(self.device, planes, self.settings)).collect()
    }
}

fn share_of_empty(meshes: &[Mesh]) -> f64 {
    meshes.iter().filter(|mesh| mesh.triangles.is_empty()).count() as f64 / meshes.len() as f64
}

/// As many as there are meshes; none where the latent has no prior.
fn draws_from_the_prior(trainer: &mut Trainer, settings: &Settings, count: usize) -> Result<Vec<Vec<f32>>> {
    if settings.latent.kind == LatentKind::Deterministic {
        return Ok(Vec::new());
    }
    let mut prior = Prior::new(&mut trainer.model, settings.seed)?;
    (0..count as u64).map(|at| prior.draw(&trainer.model, at)).collect()
}

fn draw(seed: u64, at: usize, posterior: &Gaussian) -> Vec<f32> {
    let mut rng = Rng::new(seed, STREAM_POSTERIOR ^ ((at as u64) << 32));
    let values = posterior.mean.iter().zip(&posterior.log_variance);
    values.map(|(mean, log_variance)| mean + (0.5 * log_variance).exp() * rng.normal()).collect()
}

struct Pictures<'a> {
    input: &'a Planes,
    decoded: &'a Planes,
    drawn: Option<&'a Planes>,
    mesh: &'a Mesh,
}

impl Pictures<'_> {
    fn write(&self, path: &Path) -> Result<()> {
        // What a camera sees of the mesh; nothing where it is empty.
        let seen = if self.mesh.triangles.is_empty() {
            Planes::background(Representation::Continuous, MESH_PICTURE, Similarity::default())
        } else {
            let normals = crate::hexplane::rasterize::Normals::Interpolated;
            rasterize(self.mesh, &Similarity::default(), MESH_PICTURE, Representation::Continuous, normals)?
        };
        let mut blocks = vec![("input", self.input), ("decoded", self.decoded)];
        blocks.extend(self.drawn.map(|drawn| ("drawn from the prior", drawn)));
        blocks.push(("mesh of what was decoded", &seen));
        picture::write_png(path, &picture::contact_sheet(&blocks))
    }
}

/// Pixels of a view of a mesh.
const MESH_PICTURE: usize = 128;
