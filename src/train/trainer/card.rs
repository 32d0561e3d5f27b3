//! Steps on a card: inputs are sent ahead on the copy stream, all else of a step is recorded once and replayed, and
//! its losses are read when later steps are queued already, so that the host never holds the card up.

use super::{Losses, REPORTED, Trainer, Wait, diverged};
use crate::cuda::{Inbox, Mailbox, Queue, Read, Recording, Write};
use crate::device::{Buffer, Device};
use crate::error::{Error, Result};
use crate::hexplane::cache::{Place, PlaneCache};
use crate::nn::Adam;
use crate::tape::{Scale, Value};
use crate::train::bottleneck::MOST_INPUTS;
use crate::train::budget::Budget;
use crate::train::{Item, Settings};
use bytemuck::Pod;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Steps that the card may be behind.
const LAG: usize = 2;

/// What steps on a card hold beside the network and its optimiser.
pub(super) struct Card {
    queue: Arc<Queue>,
    cache: PlaneCache,
    inbox: Inbox,
    layout: InboxLayout,
    mailbox: Mailbox,
    /// (step, learning rate) of the letters under way.
    queued: VecDeque<(u64, f64)>,
    body: Body,
}

/// Forward, backward and update.
enum Body {
    /// The first time: what is loaded then cannot be recorded.
    Fresh,
    Once,
    Recorded(Recording),
    /// The driver has no graphs.
    Plain,
}

/// What the inbox holds for a step, in bytes from its start.
#[derive(Clone, Debug)]
pub struct InboxLayout {
    /// Of one mesh: its planes, points and distances.
    lengths: [usize; 3],
    batch: usize,
}

/// The factor on the learning rate, the floats that the latent reads, and what keeps the rest at multiples of 64 bytes.
const HEAD: usize = 64;
const SCALARS: usize = size_of::<f64>();
const _: () = assert!(SCALARS + MOST_INPUTS * size_of::<f32>() <= HEAD);

impl InboxLayout {
    /// For steps of `batch` meshes with planes of `values` values each.
    pub fn new(settings: &Settings, values: usize, batch: usize) -> Self {
        let (storage, points) = (settings.training.plane_cache, settings.training.sdf_points);
        let points = if settings.training.sdf_weight == 0.0 { 0 } else { points };
        Self { lengths: [values * storage.bytes(), 12 * points, 4 * points], batch }
    }

    fn padded(&self, part: usize) -> usize {
        self.lengths[part].next_multiple_of(64)
    }

    fn mesh(&self) -> usize {
        (0..3).map(|part| self.padded(part)).sum()
    }

    /// Bytes of a step.
    pub fn len(&self) -> usize {
        HEAD + self.batch * self.mesh()
    }

    /// Part 0 (planes), 1 (points) or 2 (distances) of the mesh at `slot` of the batch.
    fn part(&self, slot: usize, part: usize) -> Range<usize> {
        let start = HEAD + slot * self.mesh() + (0..part).map(|part| self.padded(part)).sum::<usize>();
        start..start + self.lengths[part]
    }
}

impl Card {
    /// The cache takes what the step leaves.
    pub fn new(queue: &Arc<Queue>, settings: &Settings, meshes: usize, batch: usize) -> Result<Self> {
        let budget = Budget::new(settings, Device::Cuda(queue.clone()).kind(), batch)?;
        let free = queue.context().free()?;
        budget.require(format!("{queue:?}"), settings, batch, free)?;
        let storage = settings.training.plane_cache;
        let values = budget.mesh / storage.bytes();
        let layout = InboxLayout::new(settings, values, batch);
        let mut room = budget.room(free).min(settings.training.cached_meshes.unwrap_or(usize::MAX));
        if !settings.augmentation.is_off() {
            // No visit sees what another one saw.
            room = 0;
        }
        Ok(Self {
            queue: queue.clone(),
            cache: PlaneCache::new(queue, storage, values, room.min(meshes))?,
            inbox: Inbox::new(queue, layout.len())?,
            layout,
            // Loss, its parts, and what the optimiser leaves.
            mailbox: Mailbox::new(queue, REPORTED * size_of::<f32>() + Adam::LETTER)?,
            queued: VecDeque::new(),
            body: Body::Fresh,
        })
    }

    /// Queues a step of the meshes `chosen` at `factor` times the learning rate.
    pub fn step(
        &mut self,
        trainer: &mut Trainer,
        items: &[Item],
        chosen: &[usize],
        factor: f64,
    ) -> Result<()> {
        self.feed(trainer, items, chosen, factor)?;
        self.run(trainer)?;
        let scalar = |value| -> Result<Read<u8>> { Ok(Read::from(on_card(trainer, value)?).cast()) };
        let mut letter = trainer.recorded.reported().into_iter().map(scalar).collect::<Result<Vec<_>>>()?;
        letter.push(trainer.adam.letter().ok_or_else(elsewhere)?);
        self.mailbox.post(&letter)?;
        self.queued.push_back((trainer.step + 1, factor * trainer.settings.optimiser.learning_rate));
        Ok(())
    }

    /// Sends what the step needs while the card is busy with the one before, and queues its way into the arena.
    fn feed(&mut self, trainer: &mut Trainer, items: &[Item], chosen: &[usize], factor: f64) -> Result<()> {
        let fixed = trainer.settings.augmentation.is_off();
        let examples = if fixed { Vec::new() } else { trainer.examples(items, chosen)? };
        let trainer = &*trainer;
        let (queue, storage) = (&self.queue, self.cache.storage());
        let (rate_factor, _) = trainer.adam.on_card().ok_or_else(elsewhere)?;
        let inbox = self.inbox.open()?;
        let mut moves: Vec<(Read<f32>, Write<f32>)> = Vec::new();
        let mut planes: Vec<(Read<u8>, Write<f32>)> = Vec::new();
        send(queue, &[factor], inbox.part(0..SCALARS))?;
        let mut at = SCALARS;
        for (input, values) in trainer.scalars(trainer.step) {
            let place = inbox.part(at..at + size_of_val(&values[..]));
            at += place.len;
            send(queue, &values, place)?;
            moves.push((place.cast().into(), on_card(trainer, input)?));
        }
        let target = on_card(trainer, trainer.recorded.halves.planes)?;
        for (slot, &index) in chosen.iter().enumerate() {
            let item = &items[index];
            let values = || match examples.get(slot) {
                Some(example) => Ok(Cow::Borrowed(&*example.planes)),
                None => item.values(),
            };
            let len = trainer.settings.architecture.plane_values();
            let place = if fixed { self.cache.place(index) } else { Place::Elsewhere };
            let from = match place {
                Place::Resident(place) => place,
                Place::New(place) => {
                    storage.send(queue, &values()?, place)?;
                    place.into()
                }
                Place::Elsewhere => {
                    let place = inbox.part(self.layout.part(slot, 0));
                    storage.send(queue, &values()?, place)?;
                    place.into()
                }
            };
            planes.push((from, target.part(slot * len..(slot + 1) * len)));
            let Some(sdf) = &trainer.recorded.sdf else { continue };
            let (points, distances) = match examples.get(slot) {
                Some(example) => (example.points.clone(), example.distances.clone()),
                None => trainer.drawn(item, index)?,
            };
            for (part, values, input) in [(1, points, sdf.points), (2, distances, sdf.distances)] {
                let place = inbox.part(self.layout.part(slot, part));
                send(queue, &values, place)?;
                let range = slot * values.len()..(slot + 1) * values.len();
                moves.push((place.cast().into(), on_card(trainer, input)?.part(range)));
            }
        }
        self.inbox.filled()?;
        queue.copy(Read::from(inbox.part(0..SCALARS).cast()), rate_factor)?;
        moves.into_iter().try_for_each(|(from, into)| queue.copy(from, into))?;
        planes.into_iter().try_for_each(|(from, into)| storage.unpack(queue, from, into))?;
        self.inbox.emptied()
    }

    /// Queues forward, backward and update: from the second step on in one call.
    fn run(&mut self, trainer: &mut Trainer) -> Result<()> {
        if let Body::Once = self.body {
            self.body = self.queue.record(|| body(trainer))?.map_or(Body::Plain, Body::Recorded);
        }
        match &self.body {
            Body::Recorded(recording) => self.queue.replay(recording),
            Body::Fresh => {
                // What waits for other ranks is queued anew each time.
                self.body = if trainer.share.ranks.is_alone() { Body::Once } else { Body::Plain };
                body(trainer)
            }
            Body::Once | Body::Plain => body(trainer),
        }
    }

    /// The losses of queued steps, oldest first.
    pub fn read(&mut self, trainer: &mut Trainer, wait: Wait) -> Result<Option<(u64, Losses)>> {
        let left = if wait == Wait::All { 0 } else { LAG };
        if self.mailbox.len() <= left {
            return Ok(None);
        }
        let (Some(letter), Some((step, learning_rate))) = (self.mailbox.take()?, self.queued.pop_front())
        else {
            return Ok(None);
        };
        let (scalars, state) = letter.split_at(REPORTED * size_of::<f32>());
        let scalar = |i: usize| f32::from_ne_bytes(std::array::from_fn(|k| scalars[4 * i + k]));
        let outcome = trainer.adam.open(state);
        let losses = trainer.losses(std::array::from_fn(scalar), step - 1, learning_rate);
        let losses = Losses { gradient_norm: outcome.norm, ..losses };
        if outcome.halted {
            // What was queued behind this step has changed nothing.
            while self.mailbox.take()?.is_some() {}
            self.queued.clear();
            trainer.step = step - 1;
            trainer.adam.restore(outcome.updates, Some(outcome.scale))?;
            return Err(diverged(step, &losses));
        }
        Ok(Some((step, losses)))
    }
}

/// Forward, backward and update of what lies in the arena.
fn body(trainer: &mut Trainer) -> Result<()> {
    let loss = on_card(trainer, trainer.recorded.loss)?;
    let (_, scale) = trainer.adam.on_card().ok_or_else(elsewhere)?;
    trainer.tape.forward(&trainer.model.parameters)?;
    let scale = Scale::There(scale);
    if trainer.share.ranks.is_alone() {
        trainer.tape.backward(&trainer.model.parameters, &mut trainer.gradients, scale)?;
    } else {
        trainer.backward(scale)?;
    }
    match (&trainer.model.parameters, &trainer.gradients) {
        (Buffer::Cuda(_, parameters), Buffer::Cuda(_, gradients)) => {
            trainer.adam.enqueue(parameters.write(), gradients.read(), loss.into())
        }
        _ => Err(elsewhere()),
    }
}

fn on_card(trainer: &Trainer, value: Value) -> Result<Write<f32>> {
    trainer.tape.on_card(value).ok_or_else(elsewhere)
}

/// Sends values ahead.
fn send<T: Pod>(queue: &Queue, values: &[T], into: Write<u8>) -> Result<()> {
    queue.upload_ahead(into, |range, piece| {
        piece.copy_from_slice(&bytemuck::cast_slice::<T, u8>(values)[range]);
    })
}

fn elsewhere() -> Error {
    Error::new("a step", "its network is on another device", "this is a defect: please report it")
}
