//! The halves of a trained network by themselves, and the way from planes to a mesh.

use super::{Item, Settings, Trainer};
use crate::device::Device;
use crate::error::Result;
use crate::hexplane::Planes;
use crate::hexplane::field::{self, highest_occupancy, surface_on};
use crate::mesh::{Mesh, Similarity};
use crate::model::{Architecture, Autoencoder, Gaussian, LinearCode, Posterior};
use crate::tape::{Graph, Tape, Value};
use std::borrow::Cow;

/// Planes of one mesh to its latent.
pub struct Encoder {
    tape: Tape,
    planes: Value,
    latent: Value,
    posterior: Posterior,
}

/// A latent to planes.
pub struct Decoder {
    tape: Tape,
    latent: Value,
    planes: Value,
    size: usize,
}

impl Encoder {
    pub fn new(model: &mut Autoencoder) -> Result<Self> {
        let mut graph = Graph::default();
        let planes = graph.input(model.planes_shape(1));
        let posterior = model.record_posterior(&mut graph, planes)?;
        let latent = model.record_code(&mut graph, posterior)?;
        let kept: Vec<Value> = [latent, posterior.mean].into_iter().chain(posterior.log_variance).collect();
        let tape = Tape::new(&model.parameters.device(), graph, None, &kept)?;
        Ok(Self { tape, planes, latent, posterior })
    }

    /// The latent `[6, s, s, channels]` that stands for planes: the mean of their posterior, or its likeliest code.
    pub fn encode(&mut self, model: &Autoencoder, planes: &Planes) -> Result<Vec<f32>> {
        self.encode_seen(model, &model.seen(planes))
    }

    /// The latent of what the network sees of planes.
    fn encode_seen(&mut self, model: &Autoencoder, seen: &[f32]) -> Result<Vec<f32>> {
        self.tape.load(self.planes, 0, seen)?;
        self.tape.forward(&model.parameters)?;
        self.tape.value(self.latent)
    }

    /// What the encoder says of planes, before a discrete latent makes classes or levels of it.
    pub fn mean(&mut self, model: &Autoencoder, planes: &Planes) -> Result<Vec<f32>> {
        self.encode(model, planes)?;
        self.tape.value(self.posterior.mean)
    }

    /// The posterior of such planes; `None` where the latent is not a Gaussian.
    pub fn posterior(&mut self, model: &Autoencoder, planes: &Planes) -> Result<Option<Gaussian>> {
        self.posterior_of_seen(model, &model.seen(planes))
    }

    /// The same of what the network sees of planes.
    pub fn posterior_of_seen(&mut self, model: &Autoencoder, seen: &[f32]) -> Result<Option<Gaussian>> {
        let Some(log_variance) = self.posterior.log_variance else { return Ok(None) };
        let mean = self.encode_seen(model, seen)?;
        Ok(Some(Gaussian { mean, log_variance: self.tape.value(log_variance)? }))
    }
}

impl Decoder {
    pub fn new(model: &mut Autoencoder) -> Result<Self> {
        let mut graph = Graph::default();
        let latent = graph.input(model.latent_shape(1));
        let decoded = model.record_decoder(&mut graph, latent)?;
        let planes = model.record_planes(&mut graph, decoded)?;
        let size = model.architecture.planes;
        Ok(Self {
            tape: Tape::new(&model.parameters.device(), graph, None, &[planes])?,
            latent,
            planes,
            size,
        })
    }

    /// Planes of a latent of the right length, in the frame of `transform`.
    pub fn decode(&mut self, model: &Autoencoder, latent: &[f32], transform: Similarity) -> Result<Planes> {
        let (representation, size) = (model.architecture.representation(), self.size);
        Ok(model.shown(Planes { representation, size, values: self.values(model, latent)?, transform }))
    }

    /// What the network decodes by itself, `[6, N, N, channels]`.
    pub fn values(&mut self, model: &Autoencoder, latent: &[f32]) -> Result<Vec<f32>> {
        self.tape.load(self.latent, 0, latent)?;
        self.tape.forward(&model.parameters)?;
        self.tape.value(self.planes)
    }
}

/// Encoder and decoder of a network that trains, with their memory once they were needed.
#[derive(Default)]
pub(super) struct Midway {
    halves: Option<(Encoder, Decoder)>,
}

impl Midway {
    /// Gives `each` every item, its planes, and what the network makes of them now.
    ///
    /// # Errors
    /// Those of the device, and of `each`.
    pub fn each(
        &mut self,
        trainer: &mut Trainer,
        settings: &Settings,
        items: &[&Item],
        mut each: impl FnMut(&Item, &Planes, Planes) -> Result<()>,
    ) -> Result<()> {
        let mut copy;
        let mut of_copy = None;
        let on_card = matches!(trainer.model.parameters.device(), Device::Cuda(_));
        let (model, halves) = if on_card {
            // A card's memory is full of planes while it trains: a copy of the weights does it here.
            copy = settings.network(None)?;
            copy.parameters.load(0, &trainer.model.parameters.values()?)?;
            (&mut copy, &mut of_copy)
        } else {
            (&mut trainer.model, &mut self.halves)
        };
        let (encoder, decoder) = match halves {
            Some(halves) => halves,
            none => none.insert((Encoder::new(model)?, Decoder::new(model)?)),
        };
        for item in items {
            let planes = item.planes()?;
            let latent = encoder.encode(model, &planes)?;
            let decoded = decoder.decode(model, &latent, planes.transform)?;
            each(item, &planes, decoded)?;
        }
        Ok(())
    }
}

/// The mesh of an item in the normalised frame; of a set that keeps no meshes what its planes give back.
pub(super) fn input_mesh<'a>(item: &'a Item, device: &Device, settings: &Settings) -> Result<Cow<'a, Mesh>> {
    match item.mesh()? {
        Some(mesh) => Ok(mesh),
        None => Ok(Cow::Owned(mesh_of_planes(device, &item.planes()?, settings)?)),
    }
}

/// Planes through the linear code alone: the baseline.
pub fn linear_planes(architecture: &Architecture, code: &LinearCode, planes: &Planes) -> Result<Planes> {
    // A network whose every other layer adds nothing is the linear code.
    let small = Architecture {
        widths: vec![1; architecture.widths.len()],
        encoder_blocks: vec![0; architecture.widths.len()],
        decoder_blocks: vec![0; architecture.widths.len()],
        linear_path: true,
        embedding: false,
        exchange: false,
        ..architecture.clone()
    };
    let mut model = Autoencoder::new(small, 0, Some(code))?;
    let latent = Encoder::new(&mut model)?.encode(&model, planes)?;
    Decoder::new(&mut model)?.decode(&model, &latent, planes.transform)
}

/// Planes to field to marching cubes, in the normalised frame; empty where nothing is inside.
pub fn mesh_of_planes(device: &Device, planes: &Planes, settings: &Settings) -> Result<Mesh> {
    let extraction = &settings.extraction;
    surface_on(device, planes, &field::Settings::default(), extraction.grid, extraction.iso)
}

/// The highest occupancy of planes where [`mesh_of_planes`] looks for a surface.
pub fn highest_of_planes(planes: &Planes, settings: &Settings) -> Result<f32> {
    highest_occupancy(planes, &field::Settings::default(), settings.extraction.grid)
}
