//! One training step: a batch of planes and points in, an update of the weights out.

use super::{Item, Settings};
use crate::cpu::arena::Arena;
use crate::error::{Error, Result};
use crate::hexplane::field::TAU;
use crate::model::{Autoencoder, Halves, LinearCode, VIEWS};
use crate::nn::Adam;
use crate::ops::{FieldLoss, Mse, WeightedSum};
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tape::{Graph, Plan, Tape, Value};

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
    gradients: Arena,
    tape: Tape,
    recorded: Recorded,
    batch: usize,
}

struct Recorded {
    halves: Halves,
    weight: Value,
    mse: Value,
    sdf: Option<Sdf>,
    loss: Value,
}

struct Sdf {
    points: Value,
    distances: Value,
    loss: Value,
}

impl Trainer {
    /// A fresh network for `meshes` meshes; `code` starts its linear path.
    pub fn new(settings: &Settings, meshes: usize, code: Option<&LinearCode>) -> Result<Self> {
        settings.validate()?;
        let mut model = Autoencoder::new(settings.trained_architecture(), settings.seed, code)?;
        let batch = settings.training.batch.min(meshes).max(1);
        let mut graph = Graph::default();
        let recorded = record(&mut model, &mut graph, settings, batch)?;
        let mut tape = Tape::new(graph, Some(recorded.loss), &recorded.kept())?;
        tape.input_mut(recorded.weight).fill(1.0);
        tape.input_mut(recorded.weight)[0] = settings.training.depth_weight;
        let len = model.layout.len();
        Ok(Self {
            adam: Adam::new(settings.optimiser, &model.layout),
            step: 0,
            settings: settings.clone(),
            gradients: Arena::zeros(len),
            model,
            tape,
            recorded,
            batch,
        })
    }

    pub fn plan(&self) -> &Plan {
        self.tape.plan()
    }

    /// Times of each op, as [`Tape::time_ops`] gives them.
    pub fn time_ops(&mut self, runs: usize) -> Vec<crate::tape::OpTimes> {
        self.tape.time_ops(self.model.parameters.as_slice(), &mut self.gradients, runs)
    }

    /// One update on the batch that belongs to the current step. An error says that the loss left
    /// the finite numbers; the weights are as before then.
    pub fn step(&mut self, items: &[Item]) -> Result<Losses> {
        let chosen = self.chosen(items.len());
        for (slot, &index) in chosen.iter().enumerate() {
            self.load(slot, &items[index], index);
        }
        self.tape.forward(self.model.parameters.as_slice());
        self.tape.backward(self.model.parameters.as_slice(), &mut self.gradients);
        let factor = self.settings.training.schedule.factor(self.step, self.settings.training.steps);
        let gradient_norm =
            self.adam.update(self.model.parameters.as_mut_slice(), self.gradients.as_slice(), factor);
        let scalar = |value: Value| f64::from(self.tape.value(value)[0]);
        let losses = Losses {
            total: scalar(self.recorded.loss),
            reconstruction: scalar(self.recorded.mse),
            sdf: self.recorded.sdf.as_ref().map_or(0.0, |sdf| scalar(sdf.loss)),
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

    /// Which meshes this step takes: an epoch visits all of them in an order drawn for it.
    fn chosen(&self, meshes: usize) -> Vec<usize> {
        let first = self.step * self.batch as u64;
        let at = |k: u64| {
            let (epoch, place) = (k / meshes as u64, (k % meshes as u64) as usize);
            shuffled(meshes, self.settings.seed, epoch)[place]
        };
        (first..first + self.batch as u64).map(at).collect()
    }

    fn load(&mut self, slot: usize, item: &Item, index: usize) {
        let len = item.planes.values.len();
        self.tape.input_mut(self.recorded.halves.planes)[slot * len..][..len]
            .copy_from_slice(&item.planes.values);
        let Some(sdf) = &self.recorded.sdf else { return };
        let count = self.settings.training.sdf_points;
        let mut rng = Rng::new(self.settings.seed, STREAM_POINTS ^ ((index as u64) << 32));
        rng.seek(self.step * count as u64);
        let pairs = item.points.points.len() / 2;
        // Even entries of the pool are near the surface, odd ones anywhere.
        let picks: Vec<usize> = (0..count).map(|i| 2 * rng.below(pairs) + i % 2).collect();
        let points = &mut self.tape.input_mut(sdf.points)[slot * 3 * count..][..3 * count];
        for (point, &pick) in points.chunks_exact_mut(3).zip(&picks) {
            point.copy_from_slice(&item.points.points[pick]);
        }
        let distances = &mut self.tape.input_mut(sdf.distances)[slot * count..][..count];
        for (distance, &pick) in distances.iter_mut().zip(&picks) {
            *distance = item.points.distances[pick];
        }
    }
}

impl Recorded {
    fn kept(&self) -> Vec<Value> {
        self.sdf.iter().map(|sdf| sdf.loss).chain([self.mse]).collect()
    }
}

fn record(model: &mut Autoencoder, graph: &mut Graph, settings: &Settings, batch: usize) -> Result<Recorded> {
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

/// A permutation of `0..n` drawn for an epoch (Fisher-Yates).
fn shuffled(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = Rng::new(seed, STREAM_ORDER ^ (epoch << 32));
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.below(i + 1));
    }
    order
}
