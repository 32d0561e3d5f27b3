//! One training step: a batch of planes and points in, an update of the weights out.

use super::budget::Budget;
use super::{Item, Settings};
use crate::cuda::{Precision, Queue};
use crate::device::{Buffer, Device, Kind};
use crate::error::{Error, Result};
use crate::hexplane::cache::PlaneCache;
use crate::hexplane::field::TAU;
use crate::model::{Autoencoder, Halves, LinearCode, VIEWS};
use crate::nn::Adam;
use crate::ops::{FieldLoss, Mse, WeightedSum};
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tape::{Graph, Plan, Tape, Value};
use std::sync::Arc;

/// What gradients in fp16 are scaled up by at first: its range ends at 65,504.
const MOST_SCALE: f32 = 65_536.0;

const STREAM_ORDER: u64 = 0x6f72_6465;
const STREAM_POINTS: u64 = 0x706f_696e;

/// What a step reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    pub total: f64,
    pub reconstruction: f64,
    pub sdf: f64,
    /// Before clipping.
    pub gradient_norm: f64,
    pub learning_rate: f64,
}

/// The network, its optimiser and the memory of a step.
pub struct Trainer {
    pub model: Autoencoder,
    pub adam: Adam,
    /// Steps done.
    pub step: u64,
    settings: Settings,
    gradients: Buffer,
    tape: Tape,
    /// On a card.
    cache: Option<PlaneCache>,
    recorded: Recorded,
    batch: usize,
}

pub(super) struct Recorded {
    halves: Halves,
    weight: Value,
    mse: Value,
    sdf: Option<Sdf>,
    pub loss: Value,
}

struct Sdf {
    points: Value,
    distances: Value,
    loss: Value,
}

impl Trainer {
    /// A fresh network for `meshes` meshes; `code` starts its linear path.
    pub fn new(
        device: &Device,
        settings: &Settings,
        meshes: usize,
        code: Option<&LinearCode>,
    ) -> Result<Self> {
        settings.validate()?;
        let batch = settings.training.batch.min(meshes).max(1);
        let cache = match device {
            Device::Cpu => None,
            Device::Cuda(queue) => Some(plane_cache(queue, settings, meshes, batch)?),
        };
        let mut model = Autoencoder::new(settings.trained_architecture(), settings.seed, code)?.on(device)?;
        let mut graph = Graph::default();
        let recorded = record(&mut model, &mut graph, settings, batch)?;
        let mut tape = Tape::new(device, graph, Some(recorded.loss), &recorded.kept())?;
        let mut weights = vec![1.0; model.architecture.channels];
        weights[0] = settings.training.depth_weight;
        tape.load(recorded.weight, 0, &weights)?;
        let len = model.layout.len();
        Ok(Self {
            adam: Adam::new(settings.optimiser, &model.layout, device)?,
            step: 0,
            settings: settings.clone(),
            gradients: Buffer::zeros(device, len, "the gradients")?,
            model,
            tape,
            cache,
            recorded,
            batch,
        })
    }

    /// Refuses what does not fit the card, before anything is made for it.
    pub fn require(device: &Device, settings: &Settings, meshes: usize) -> Result<()> {
        let Device::Cuda(queue) = device else { return Ok(()) };
        settings.validate()?;
        let batch = settings.training.batch.min(meshes).max(1);
        let budget = Budget::new(settings, device.kind(), batch)?;
        budget.require(format!("{queue:?}"), settings, batch, queue.context().free()?)
    }

    /// Frees the planes that are kept on a card; a later step would upload them again.
    pub fn drop_cache(&mut self) {
        self.cache = None;
    }

    pub fn plan(&self) -> &Plan {
        self.tape.plan()
    }

    /// Times of each op, as [`Tape::time_ops`] gives them.
    pub fn time_ops(&mut self, runs: usize) -> Result<Vec<crate::tape::OpTimes>> {
        self.tape.time_ops(&self.model.parameters, &mut self.gradients, runs)
    }

    /// One update on the batch that belongs to the current step. An error says that the loss left
    /// the finite numbers; the weights are as before then.
    pub fn step(&mut self, items: &[Item]) -> Result<Losses> {
        let chosen = self.chosen(items.len());
        for (slot, &index) in chosen.iter().enumerate() {
            self.load(slot, &items[index], index)?;
        }
        self.tape.forward(&self.model.parameters)?;
        let factor = self.settings.training.schedule.factor(self.step, self.settings.training.steps);
        let gradient_norm = self.descend(factor)?;
        let scalar = |value: Value| self.tape.value(value).map(|value| f64::from(value[0]));
        let losses = Losses {
            total: scalar(self.recorded.loss)?,
            reconstruction: scalar(self.recorded.mse)?,
            sdf: self.recorded.sdf.as_ref().map_or(Ok(0.0), |sdf| scalar(sdf.loss))?,
            gradient_norm,
            learning_rate: factor * self.settings.optimiser.learning_rate,
        };
        if !losses.total.is_finite() || !gradient_norm.is_finite() {
            return Err(Error::new(
                format!("step {}", self.step + 1),
                format!("the loss is {} and its gradient {gradient_norm}", losses.total),
                "resume with a lower --learning-rate; the weights of the step before are kept",
            ));
        }
        self.step += 1;
        Ok(losses)
    }

    /// Backward and the update; returns the norm of the gradient. In fp16 gradients are scaled up by as much as
    /// does not overflow (Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2), found anew in
    /// every step, so that a resumed run needs to know nothing of it.
    fn descend(&mut self, factor: f64) -> Result<f64> {
        let half =
            matches!(self.model.parameters.device().kind(), Kind::Cuda { precision: Precision::Fp16, .. });
        let mut scale = if half { MOST_SCALE } else { 1.0 };
        loop {
            self.tape.backward(&self.model.parameters, &mut self.gradients, scale)?;
            let norm = self.adam.update(&mut self.model.parameters, &self.gradients, factor, scale)?;
            if norm.is_finite() || scale <= 1.0 {
                return Ok(norm);
            }
            scale /= 16.0;
        }
    }

    /// Which meshes this step takes: an epoch visits all of them in an order drawn for it.
    fn chosen(&self, meshes: usize) -> Vec<usize> {
        let first = self.step * self.batch as u64;
        let at = |k: u64| {
            let (epoch, place) = (k / meshes as u64, (k % meshes as u64) as usize);
            shuffled(meshes, self.settings.seed, epoch)[place]
        };
        (first..first + self.batch as u64).map(at).collect()
    }

    fn load(&mut self, slot: usize, item: &Item, index: usize) -> Result<()> {
        let len = item.planes.values.len();
        let input = self.recorded.halves.planes;
        match (&mut self.cache, self.tape.on_card(input)) {
            (Some(cache), Some(there)) => {
                cache.load(index, &item.planes.values, there.part(slot * len..(slot + 1) * len))?;
            }
            _ => self.tape.load(input, slot * len, &item.planes.values)?,
        }
        let Some(sdf) = &self.recorded.sdf else { return Ok(()) };
        let count = self.settings.training.sdf_points;
        let mut rng = Rng::new(self.settings.seed, STREAM_POINTS ^ ((index as u64) << 32));
        rng.seek(self.step * count as u64);
        let pairs = item.points.points.len() / 2;
        // Even entries of the pool are near the surface, odd ones anywhere.
        let picks: Vec<usize> = (0..count).map(|i| 2 * rng.below(pairs) + i % 2).collect();
        let points: Vec<f32> = picks.iter().flat_map(|&pick| item.points.points[pick]).collect();
        self.tape.load(sdf.points, slot * 3 * count, &points)?;
        let distances: Vec<f32> = picks.iter().map(|&pick| item.points.distances[pick]).collect();
        self.tape.load(sdf.distances, slot * count, &distances)
    }
}

impl Recorded {
    pub fn kept(&self) -> Vec<Value> {
        self.sdf.iter().map(|sdf| sdf.loss).chain([self.mse]).collect()
    }
}

pub(super) fn record(
    model: &mut Autoencoder,
    graph: &mut Graph,
    settings: &Settings,
    batch: usize,
) -> Result<Recorded> {
    let halves = model.record(graph, batch)?;
    let weight = graph.input(Shape::new(&[model.architecture.channels]));
    let mse = graph.apply(Mse, &[halves.decoded, halves.planes, weight])?;
    let training = &settings.training;
    if training.sdf_weight == 0.0 {
        return Ok(Recorded { halves, weight, mse, sdf: None, loss: mse });
    }
    let points = graph.input(Shape::new(&[batch, training.sdf_points, 3]));
    let distances = graph.input(Shape::new(&[batch, training.sdf_points]));
    debug_assert_eq!(graph.shape(halves.decoded).extents()[0], VIEWS * batch);
    let sdf = graph.apply(FieldLoss { tau: TAU }, &[halves.decoded, points, distances])?;
    let loss = graph.apply(WeightedSum { weights: vec![1.0, training.sdf_weight] }, &[mse, sdf])?;
    Ok(Recorded { halves, weight, mse, sdf: Some(Sdf { points, distances, loss: sdf }), loss })
}

/// The cache takes what the step leaves.
fn plane_cache(queue: &Arc<Queue>, settings: &Settings, meshes: usize, batch: usize) -> Result<PlaneCache> {
    let budget = Budget::new(settings, Device::Cuda(queue.clone()).kind(), batch)?;
    let free = queue.context().free()?;
    budget.require(format!("{queue:?}"), settings, batch, free)?;
    let storage = settings.training.plane_cache;
    let room = budget.room(free).min(meshes);
    PlaneCache::new(queue, storage, budget.mesh / storage.bytes(), room)
}

/// A permutation of `0..n` drawn for an epoch (Fisher-Yates).
fn shuffled(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = Rng::new(seed, STREAM_ORDER ^ (epoch << 32));
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.below(i + 1));
    }
    order
}
