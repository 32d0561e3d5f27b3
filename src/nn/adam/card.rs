//! Adam on a card: nothing of an update needs the host, so that a step can be recorded whole.

use super::{Adam, LossScale, Outcome, elsewhere};
use crate::cuda::{Array, Launch, Queue, Read, THREADS, Write, int, kernels};
use crate::device::Buffer;
use crate::error::Result;
use std::sync::Arc;

/// Values of a partial sum of the kernel.
const CHUNK: usize = 256 * 16;

/// Values of the state: norm, updates, scale, steps since the scale changed, whether it has halted (1 or 0).
const STATE: usize = 5;

/// What the kernels need beside the moments.
pub(super) struct Card {
    queue: Arc<Queue>,
    /// Sums of squares.
    partial: Array<f64>,
    state: Array<f64>,
    /// Scale of the next gradients; factor, rate and correction of this update.
    scalars: Array<f32>,
    rate_factor: Array<f64>,
    ends: Array<i32>,
    factors: Array<f32>,
}

impl Card {
    pub fn new(queue: &Arc<Queue>, len: usize, rates: &[(usize, f32)]) -> Result<Self> {
        let ends = rates.iter().map(|&(end, _)| int(end)).collect::<Result<Vec<_>>>()?;
        let factors: Vec<f32> = rates.iter().map(|&(_, factor)| factor).collect();
        Ok(Self {
            queue: queue.clone(),
            partial: queue.array(len.div_ceil(CHUNK), "sums of Adam")?,
            state: queue.array(STATE, "the state of Adam")?,
            scalars: queue.array(4, "the state of Adam")?,
            rate_factor: queue.array(1, "the state of Adam")?,
            ends: queue.array_from(&ends, "Adam's stretches")?,
            factors: queue.array_from(&factors, "Adam's rates")?,
        })
    }

    /// Makes `outcome` the state from which the next update goes on.
    pub fn load(&self, outcome: &Outcome) -> Result<()> {
        let Outcome { norm, updates, scale, halted } = *outcome;
        let state = [norm, updates as f64, scale.factor, scale.steady as f64, f64::from(u8::from(halted))];
        self.queue.upload(&state, self.state.write())?;
        self.queue.upload(&[scale.factor as f32, 0.0, 0.0, 0.0], self.scalars.write())
    }

    pub fn set_rate_factor(&self, factor: f64) -> Result<()> {
        self.queue.upload(&[factor], self.rate_factor.write())
    }

    /// Waits for the last update.
    pub fn outcome(&self) -> Result<Outcome> {
        let mut state = [0.0; STATE];
        self.queue.download(self.state.read(), &mut state)?;
        Ok(outcome_of(&state))
    }
}

fn outcome_of(state: &[f64; STATE]) -> Outcome {
    let [norm, updates, factor, steady, halted] = *state;
    let scale = LossScale { factor, steady: steady as u64 };
    Outcome { norm, updates: updates as u64, scale, halted: halted != 0.0 }
}

impl Adam {
    /// Bytes of [`Adam::letter`].
    pub const LETTER: usize = STATE * size_of::<f64>();

    /// What a card leaves of an update, to be read later by [`Adam::open`]; `None` on the CPU.
    pub fn letter(&self) -> Option<Read<u8>> {
        self.card.as_ref().map(|card| card.state.read().cast())
    }

    /// The outcome that stands in a letter, which is the last that is known from now on.
    ///
    /// # Panics
    /// Where the letter is of another length.
    pub fn open(&mut self, letter: &[u8]) -> Outcome {
        let mut state = [0.0; STATE];
        bytemuck::cast_slice_mut(&mut state).copy_from_slice(letter);
        self.outcome = outcome_of(&state);
        self.outcome
    }

    /// On a card: where the next update finds its factor on the learning rate, and the next backward pass its scale.
    pub fn on_card(&self) -> Option<(Write<f64>, Read<f32>)> {
        self.card.as_ref().map(|card| (card.rate_factor.write(), card.scalars.read().part(0..1)))
    }

    /// Queues an update on a card. Where `loss` (nothing: not looked at) or the gradient is not finite nothing
    /// changes, but for the scale of the gradients; at scale 1 the updates halt.
    pub fn enqueue(&self, parameters: Write<f32>, gradients: Read<f32>, loss: Read<f32>) -> Result<()> {
        let (Some(card), Buffer::Cuda(_, first), Buffer::Cuda(_, second)) =
            (&self.card, &self.first, &self.second)
        else {
            return Err(elsewhere());
        };
        let (queue, s, n) = (&card.queue, &self.settings, int(parameters.len)?);
        let blocks = card.partial.len();
        let partial = card.partial.write();
        kernels::adam::norm_partial(queue, Launch::blocks(blocks, THREADS), gradients, partial, n)?;
        kernels::adam::prepare(
            queue,
            Launch::blocks(1, THREADS),
            partial.into(),
            card.state.write(),
            card.scalars.write(),
            loss,
            card.rate_factor.read(),
            int(blocks)?,
            s.learning_rate,
            s.beta1,
            s.beta2,
            s.clip_norm,
            LossScale::first(&self.first.device()).factor,
        )?;
        kernels::adam::update(
            queue,
            Launch::items(parameters.len, THREADS),
            parameters,
            gradients,
            first.write(),
            second.write(),
            card.scalars.read(),
            card.ends.read(),
            card.factors.read(),
            int(self.rates.len())?,
            n,
            s.beta1 as f32,
            s.beta2 as f32,
            s.epsilon as f32,
        )
    }
}
