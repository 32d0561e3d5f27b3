//! The latent's part of a training step: what it reads, what it adds to the loss and what it reports.

use crate::error::Result;
use crate::model::{Bottleneck, Rate};
use crate::ops::{KlTerm, Noise};
use crate::shape::Shape;
use crate::tape::{Graph, Value};

/// The rate of a latent on the graph of a step.
pub(super) struct RateTerm {
    rate: Rate,
    weight: Value,
    /// What it adds to the loss.
    pub term: Value,
    /// The divergence of a mesh in nats, without weight, cap and free bits.
    pub nats: Value,
}

/// Most floats that [`RateTerm::inputs`] gives for a step.
pub(super) const MOST_INPUTS: usize = 4;

impl RateTerm {
    pub fn record(graph: &mut Graph, rate: Rate, latent: &Bottleneck) -> Result<Self> {
        let (weight, one) = (graph.input(Shape::new(&[1])), graph.constant(&[1.0]));
        let term = KlTerm {
            free_bits: latent.free_bits,
            reduction: latent.kl_reduction,
            cap: latent.kl_cap.unwrap_or(f32::INFINITY),
        };
        let term = graph.apply(term, &[rate.kl, weight])?;
        let nats = graph.apply(KlTerm::PLAIN, &[rate.kl, one])?;
        Ok(Self { rate, weight, term, nats })
    }

    /// The input that holds the weight.
    pub fn weight(&self) -> Value {
        self.weight
    }

    /// What `step` (from 0) reads: small integers and the weight, a list an input.
    pub fn inputs(&self, latent: &Bottleneck, step: u64) -> Vec<(Value, Vec<f32>)> {
        let weight = latent.kl_weight(step) as f32;
        vec![(self.rate.counter, Noise::counter(step).to_vec()), (self.weight, vec![weight])]
    }
}
