//! One training step: a batch of planes and points in, an update of the weights out.

mod batch;
mod card;
mod parts;
mod share;

use super::bottleneck::LatentPart;
use super::budget::Budget;
use super::likelihood::Reconstruction;
use super::{Item, Settings, StepInputs};
use crate::device::{Buffer, Device};
use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::hexplane::field::TAU;
use crate::memory;
use crate::model::{Autoencoder, Halves, LinearCode, VIEWS};
use crate::nn::Adam;
use crate::ops::{FieldLoss, SilhouetteLoss, WeightedSum};
use crate::ranks::Ranks;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tape::{Graph, Plan, Scale, Tape, Value};
use batch::Example;
use card::Card;
pub(super) use card::InboxLayout;
pub use parts::GradientParts;
use share::Share;
pub use share::SharedTimes;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

const STREAM_ORDER: u64 = 0x6f72_6465;
const STREAM_POINTS: u64 = 0x706f_696e;

/// What a step reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    pub total: f64,
    pub reconstruction: f64,
    pub sdf: f64,
    /// Of the latent, in nats a mesh, without its weight; 0 for a deterministic one.
    pub kl: f64,
    /// The weight of the divergence in this step.
    pub kl_weight: f64,
    /// Of a latent that is trained for a rate, in bits a mesh, without its weight; 0 for others.
    pub rate: f64,
    /// The weight of these bits.
    pub rate_weight: f64,
    /// Codes of a discrete latent that the batch makes use of, as exp of their entropy; 0 for others.
    pub perplexity: f64,
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
    recorded: Recorded,
    /// Meshes of a step, over all ranks.
    batch: usize,
    /// What this rank takes of it.
    share: Share,
    /// What was spent on reading the meshes of steps on the host.
    input: Duration,
    /// Steps whose losses are known and were not asked for.
    known: VecDeque<(u64, Losses)>,
    card: Option<Card>,
}

/// Which steps' losses to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Those that lie so far back that a card has not to be waited for.
    Behind,
    /// Those of all steps so far.
    All,
}

pub(super) struct Recorded {
    halves: Halves,
    reconstruction: Reconstruction,
    sdf: Option<Sdf>,
    latent: LatentPart,
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
        Self::among(&Rc::new(Ranks::alone()), device, settings, meshes, code)
    }

    /// The same on one of the ranks that train together; [`Trainer::spread`] gives all of them the network of the first.
    pub fn among(
        ranks: &Rc<Ranks>,
        device: &Device,
        settings: &Settings,
        meshes: usize,
        code: Option<&LinearCode>,
    ) -> Result<Self> {
        settings.validate()?;
        let batch = settings.training.batch.min(meshes).max(1);
        let slots = share::slots(ranks, settings, batch)?;
        let card = match device {
            Device::Cpu | Device::CpuBf16 => None,
            Device::Cuda(queue) => Some(Card::new(queue, settings, meshes, slots.len())?),
        };
        let mut model = settings.network(code)?.on(device)?;
        let mut graph = Graph::default();
        let recorded = record(&mut model, &mut graph, settings, slots.len())?;
        let mut kept = recorded.kept();
        if !ranks.is_alone() {
            kept.extend(recorded.latent.codes());
        }
        let mut tape = Tape::new(device, graph, Some(recorded.loss), &kept)?;
        recorded.reconstruction.load(&mut tape, settings)?;
        let len = model.layout.len();
        let share = Share::new(ranks, slots, &tape, &recorded, (settings, &model))?;
        Ok(Self {
            adam: Adam::new(settings.optimiser, &model.layout, device)?,
            step: 0,
            settings: settings.clone(),
            gradients: Buffer::zeros(device, len, "the gradients")?,
            model,
            tape,
            recorded,
            batch,
            share,
            input: Duration::ZERO,
            known: VecDeque::new(),
            card,
        })
    }

    /// Refuses what does not fit the card or the memory, before anything is made for it.
    pub fn require(device: &Device, settings: &Settings, meshes: usize) -> Result<()> {
        Self::require_among(&Ranks::alone(), device, settings, meshes)
    }

    /// The same for one of several ranks, also where these cannot share a step.
    pub fn require_among(ranks: &Ranks, device: &Device, settings: &Settings, meshes: usize) -> Result<()> {
        settings.validate()?;
        let batch = share::slots(ranks, settings, settings.training.batch.min(meshes).max(1))?.len();
        let Device::Cuda(queue) = device else { return require_memory(device, settings, batch) };
        let budget = Budget::new(settings, device.kind(), batch)?;
        budget.require(format!("{queue:?}"), settings, batch, queue.context().free()?)
    }

    /// The network and its steps; what a step takes besides is free for the results.
    pub fn into_model(self) -> (Autoencoder, u64) {
        (self.model, self.step)
    }

    /// Meshes a step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    pub fn plan(&self) -> &Plan {
        self.tape.plan()
    }

    /// Times of each op, as [`Tape::time_ops`] gives them.
    pub fn time_ops(&mut self, runs: usize) -> Result<Vec<crate::tape::OpTimes>> {
        self.tape.time_ops(&self.model.parameters, &mut self.gradients, runs)
    }

    /// Time that the host spent on reading, converting and warping what steps so far were given; on a card that was beside
    /// the steps, and without what its cache took from the host.
    pub fn input_time(&self) -> Duration {
        self.input
    }

    /// What the next step of `items` reads, as the host has it.
    ///
    /// # Errors
    /// Those of a set that is broken.
    pub fn inputs(&mut self, items: &[Item]) -> Result<StepInputs> {
        let mut inputs = StepInputs::default();
        let chosen = self.chosen(items.len());
        for example in self.examples(items, &chosen)? {
            inputs.planes.extend_from_slice(&example.planes);
            inputs.points.extend(example.points);
            inputs.distances.extend(example.distances);
        }
        Ok(inputs)
    }

    /// The gradients of the last step before clipping, in the layout of the parameters; in fp16 on a card scaled.
    pub fn gradients(&self) -> &Buffer {
        &self.gradients
    }

    /// One update on the batch that belongs to the current step; a card has it queued then. An error says that the
    /// loss left the finite numbers, here or from [`Trainer::done`]; the weights are as before that step then.
    pub fn step(&mut self, items: &[Item]) -> Result<()> {
        let chosen = self.chosen(items.len());
        let factor = self.settings.training.schedule.factor(self.step, self.settings.training.steps);
        if let Some(mut card) = self.card.take() {
            let queued = card.step(self, items, &chosen, factor);
            self.card = Some(card);
            queued?;
            self.step += 1;
            return Ok(());
        }
        for (slot, example) in self.examples(items, &chosen)?.into_iter().enumerate() {
            self.load_example(slot, &example)?;
        }
        self.chosen_at(self.step + 1, items.len()).into_iter().for_each(|next| items[next].prefetch());
        for (input, values) in self.scalars(self.step) {
            self.tape.load(input, 0, &values)?;
        }
        self.tape.forward(&self.model.parameters)?;
        let reported = self.backward(Scale::One)?;
        let mut losses = self.losses(reported, self.step, factor * self.settings.optimiser.learning_rate);
        if losses.total.is_finite() {
            let outcome = self.adam.update(&mut self.model.parameters, &self.gradients, factor)?;
            losses.gradient_norm = outcome.norm;
        }
        if !losses.gradient_norm.is_finite() {
            return Err(diverged(self.step + 1, &losses));
        }
        self.step += 1;
        self.known.push_back((self.step, losses));
        Ok(())
    }

    /// What `step` (from 0) left in the values that [`Recorded::reported`] names; its gradient is not known yet.
    fn losses(&self, reported: [f32; REPORTED], step: u64, learning_rate: f64) -> Losses {
        let [total, reconstruction, sdf, amount, perplexity] = reported.map(f64::from);
        let Recorded { sdf: has_sdf, latent, .. } = &self.recorded;
        let perplexity = latent.perplexity().map_or(0.0, |_| perplexity);
        let own = &self.settings.latent;
        let amount = latent.rate.as_ref().map_or((0.0, 0.0), |_| (amount, own.weight_at(step)));
        let (bits, nats) = if own.has_rate() { (amount, (0.0, 0.0)) } else { ((0.0, 0.0), amount) };
        Losses {
            total,
            reconstruction,
            sdf: if has_sdf.is_some() { sdf } else { 0.0 },
            kl: nats.0,
            kl_weight: nats.1,
            rate: bits.0,
            rate_weight: bits.1,
            perplexity,
            gradient_norm: f64::NAN,
            learning_rate,
        }
    }

    /// The next step, counted from 1, whose losses are known and were not asked for yet.
    pub fn done(&mut self, wait: Wait) -> Result<Option<(u64, Losses)>> {
        if let Some(mut card) = self.card.take() {
            let read = card.read(self, wait);
            self.card = Some(card);
            self.known.extend(read?);
        }
        Ok(self.known.pop_front())
    }

    /// The number of the visit of a mesh that this rank's first one of `step` is, over all ranks and steps.
    fn first_visit(&self, step: u64) -> u64 {
        step * self.batch as u64 + self.share.slots.start as u64
    }

    /// What `step` (from 0) reads besides meshes: a few floats an input.
    fn scalars(&self, step: u64) -> Vec<(Value, Vec<f32>)> {
        self.recorded.latent.inputs(&self.settings, step, self.share.draw(step))
    }

    /// Which meshes this step takes on this rank: an epoch visits all of them in an order drawn for it.
    fn chosen(&self, meshes: usize) -> Vec<usize> {
        self.chosen_at(self.step, meshes)
    }

    fn chosen_at(&self, step: u64, meshes: usize) -> Vec<usize> {
        let first = self.first_visit(step);
        let mut order = (u64::MAX, Vec::new());
        let at = |k: u64| {
            let (epoch, place) = (k / meshes as u64, (k % meshes as u64) as usize);
            if epoch != order.0 {
                order = (epoch, shuffled(meshes, self.settings.seed, epoch));
            }
            order.1[place]
        };
        (first..first + self.share.slots.len() as u64).map(at).collect()
    }

    /// The mesh as it is at `slot` of the batch.
    fn load(&mut self, slot: usize, item: &Item, index: usize) -> Result<()> {
        let (points, distances) = self.drawn(item, index)?;
        self.load_example(slot, &Example { planes: item.values()?, points, distances })
    }

    fn load_example(&mut self, slot: usize, example: &Example) -> Result<()> {
        let Example { planes, points, distances } = example;
        self.tape.load(self.recorded.halves.planes, slot * planes.len(), planes)?;
        let Some(sdf) = &self.recorded.sdf else { return Ok(()) };
        self.tape.load(sdf.points, slot * points.len(), points)?;
        self.tape.load(sdf.distances, slot * distances.len(), distances)
    }
}

/// Refuses a batch that the memory has no room for, where it has for one mesh; else what is too large has its own line.
fn require_memory(device: &Device, settings: &Settings, batch: usize) -> Result<()> {
    let bytes = |batch: usize| Ok(Budget::new(settings, device.kind(), batch)?.fixed());
    let fits = |batch: usize| -> Result<bool> { Ok(memory::require("a step", bytes(batch)?, "").is_ok()) };
    if batch == 1 || fits(batch)? || !fits(1)? {
        return Ok(());
    }
    let mut smaller = batch / 2;
    while !fits(smaller)? {
        smaller /= 2;
    }
    memory::require(format!("a step of {batch} meshes"), bytes(batch)?, &format!("take --batch {smaller}"))
}

fn diverged(step: u64, losses: &Losses) -> Error {
    let Losses { reconstruction, sdf, kl, rate, .. } = *losses;
    let terms = [("reconstruction", reconstruction), ("SDF", sdf), ("KL", kl), ("rate", rate)];
    let what = terms.iter().find(|(_, value)| !value.is_finite()).map_or("gradient", |(name, _)| name);
    let (loss, gradient) = (losses.total, losses.gradient_norm);
    Error::diverged(
        format!("step {step}"),
        format!("the loss is {loss} and its gradient {gradient}; not finite is first its {what}"),
        "resume with a lower --learning-rate; the weights of the step before are kept",
    )
}

/// Numbers that a step reports.
const REPORTED: usize = 5;

impl Recorded {
    pub fn kept(&self) -> Vec<Value> {
        self.reported()[1..].to_vec()
    }

    /// The loss, its parts (reconstruction, SDF, KL or bits) and the perplexity. What is not there has the reconstruction in its place,
    /// which is not read.
    fn reported(&self) -> [Value; REPORTED] {
        let own = self.reconstruction.loss;
        let sdf = self.sdf.as_ref().map_or(own, |sdf| sdf.loss);
        let rate = self.latent.rate.as_ref().map_or(own, |rate| rate.plain);
        [self.loss, own, sdf, rate, self.latent.perplexity().unwrap_or(own)]
    }
}

pub(super) fn record(
    model: &mut Autoencoder,
    graph: &mut Graph,
    settings: &Settings,
    batch: usize,
) -> Result<Recorded> {
    graph.recompute = settings.training.recompute;
    let (halves, drawn) = model.record_training(graph, batch, settings.seed)?;
    let reconstruction = Reconstruction::record(graph, settings, &halves)?;
    let sdf = record_sdf(graph, settings, batch, model, halves.decoded)?;
    let latent = LatentPart::record(graph, drawn, &settings.latent)?;
    let mut terms = vec![(reconstruction.loss, 1.0)];
    terms.extend(sdf.as_ref().map(|sdf| (sdf.loss, settings.training.sdf_weight)));
    terms.extend(latent.rate.as_ref().map(|rate| (rate.term, 1.0)));
    let (values, weights): (Vec<Value>, Vec<f32>) = terms.into_iter().unzip();
    let loss = match values[..] {
        [only] => only,
        _ => graph.apply(WeightedSum { weights }, &values)?,
    };
    Ok(Recorded { halves, reconstruction, sdf, latent, loss })
}

/// The SDF loss of decoded planes, where it has a weight.
fn record_sdf(
    graph: &mut Graph,
    settings: &Settings,
    batch: usize,
    model: &Autoencoder,
    decoded: Value,
) -> Result<Option<Sdf>> {
    let training = &settings.training;
    if training.sdf_weight == 0.0 {
        return Ok(None);
    }
    let points = graph.input(Shape::new(&[batch, training.sdf_points, 3]));
    let distances = graph.input(Shape::new(&[batch, training.sdf_points]));
    debug_assert_eq!(graph.shape(decoded).extents()[0], VIEWS * batch);
    let planes = model.record_planes(graph, decoded)?;
    let loss = match settings.representation {
        Representation::Continuous => graph.apply(FieldLoss { tau: TAU }, &[planes, points, distances])?,
        Representation::Binary => graph.apply(SilhouetteLoss::usual(), &[planes, points, distances])?,
    };
    Ok(Some(Sdf { points, distances, loss }))
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
