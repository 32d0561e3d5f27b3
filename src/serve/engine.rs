//! The network of a run, ready to encode and decode, as long as its checkpoint is the same.

use super::failure::{Answer, Failure};
use super::lru::Lru;
use super::runs::{Run, Stamp, is_run, lock, stamp};
use crate::device::Device;
use crate::error::Result;
use crate::hexplane::Planes;
use crate::mesh::Similarity;
use crate::model::hexz::model_hash;
use crate::model::{Autoencoder, LatentKind};
use crate::train::{Decoder, Encoder, Prior, SecondStage, Settings, load_model};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Networks that are kept: those of a pair of runs.
const MOST: usize = 2;

/// A network with the memory of both of its halves.
pub struct Engine {
    pub model: Autoencoder,
    pub settings: Settings,
    /// [`model_hash`], which latents carry.
    pub hash: String,
    encoder: Encoder,
    decoder: Decoder,
    prior: Option<(PriorKey, Prior)>,
}

/// Of the second stage or not, the seed, and the state of its file.
type PriorKey = (bool, u64, Option<Stamp>);

impl Engine {
    fn load(run: &Path, device: &Device) -> Result<Self> {
        let (model, settings) = load_model(run)?;
        let hash = model_hash(&model)?;
        let mut model = model.on(device)?;
        let (encoder, decoder) = (Encoder::new(&mut model)?, Decoder::new(&mut model)?);
        Ok(Self { model, settings, hash, encoder, decoder, prior: None })
    }

    /// The latent of planes.
    pub fn encode(&mut self, planes: &Planes) -> Answer<Vec<f32>> {
        let expected = self.settings.architecture.plane_values();
        if planes.values.len() != expected {
            return Err(Failure::changed(
                "the network of the run is of another size now: load the page again",
            ));
        }
        Ok(self.encoder.encode(&self.model, planes)?)
    }

    pub fn decode(&mut self, latent: &[f32], transform: Similarity) -> Answer<Planes> {
        if latent.len() != self.settings.architecture.latent_floats() {
            return Err(Failure::changed(
                "the network of the run is of another size now: load the page again",
            ));
        }
        Ok(self.decoder.decode(&self.model, latent, transform)?)
    }

    /// Draw `index` of `seed` from the run's own prior, or from that of its second stage.
    pub fn draw(&mut self, run: &Path, second_stage: bool, seed: u64, index: u64) -> Answer<Vec<f32>> {
        let file = SecondStage::path(run);
        if second_stage && !file.is_file() {
            return Err(Failure::unknown("this run has no second-stage prior: fit one with hexcuda prior"));
        }
        if !second_stage && self.model.latent.kind == LatentKind::Deterministic {
            return Err(Failure::bad("a deterministic latent has no prior of its own"));
        }
        let key = (second_stage, seed, if second_stage { stamp(&file) } else { None });
        if self.prior.as_ref().is_none_or(|(known, _)| *known != key) {
            let model = &mut self.model;
            let prior = if second_stage {
                let device = model.parameters.device();
                let (_, flow) = SecondStage::read(run, model, &device)?;
                Prior::second_stage(model, flow, seed)?
            } else {
                Prior::new(model, seed)?
            };
            self.prior = Some((key, prior));
        }
        match &mut self.prior {
            Some((_, prior)) => Ok(prior.draw(&self.model, index)?),
            None => Err(Failure::busy()),
        }
    }
}

/// The network in the checkpoint that a run had.
type Loaded = (Stamp, Arc<Mutex<Engine>>);

/// The networks that were used last.
pub struct Engines {
    device: Device,
    loaded: Mutex<Lru<PathBuf, Loaded>>,
}

impl Engines {
    pub fn new(device: Device) -> Self {
        Self { device, loaded: Mutex::new(Lru::new(MOST)) }
    }

    /// The network in the checkpoint of a run as it is now.
    pub fn of(&self, run: &Run) -> Answer<Arc<Mutex<Engine>>> {
        let path = run.path.join("checkpoint.safetensors");
        // Held while one is read, so that two requests do not read it twice.
        let mut loaded = lock(&self.loaded);
        let Some(now) = stamp(&path) else {
            return Err(match is_run(&run.path) {
                true => Failure::unknown("this run has no checkpoint yet: its first one is still to come"),
                false => Failure::gone(&run.id),
            });
        };
        if let Some((_, engine)) = loaded.get(&run.path).filter(|(then, _)| *then == now) {
            return Ok(engine);
        }
        // Of a run that trains the old one may be the same size as all the memory that is left: it goes first.
        loaded.remove(&run.path);
        let engine = Arc::new(Mutex::new(Engine::load(&run.path, &self.device)?));
        loaded.put(run.path.clone(), (now, engine.clone()));
        Ok(engine)
    }
}
