//! The latent's part of a training step: what it reads, what it adds to the loss and what it reports.

use super::Settings;
use crate::error::Result;
use crate::model::{Bottleneck, Drawn, PriorKind};
use crate::ops::{KlTerm, Noise, Reduction};
use crate::shape::Shape;
use crate::tape::{Graph, Value};

/// The latent on the graph of a step.
pub(super) struct LatentPart {
    drawn: Drawn,
    pub rate: Option<Rate>,
}

/// Of a latent whose divergence or bits count.
pub(super) struct Rate {
    weight: Value,
    /// What it adds to the loss.
    pub term: Value,
    /// The divergence of a mesh in nats, without weight, cap and free bits; or its bits.
    pub plain: Value,
}

/// Most floats that [`LatentPart::inputs`] gives for a step.
pub(super) const MOST_INPUTS: usize = 4;

impl LatentPart {
    pub fn record(graph: &mut Graph, drawn: Drawn, latent: &Bottleneck) -> Result<Self> {
        let rate = drawn.rate.map(|rate| Rate::record(graph, rate, latent)).transpose()?;
        Ok(Self { drawn, rate })
    }

    /// The input that holds the weight of the rate.
    pub fn weight(&self) -> Option<Value> {
        self.rate.as_ref().map(|rate| rate.weight)
    }

    pub fn perplexity(&self) -> Option<Value> {
        self.drawn.perplexity
    }

    /// The codes that the perplexity counts.
    pub fn codes(&self) -> Option<Value> {
        self.drawn.codes
    }

    /// What `step` (from 0) reads, a list an input, where its noise is that of `draw`.
    pub fn inputs(&self, settings: &Settings, step: u64, draw: u64) -> Vec<(Value, Vec<f32>)> {
        let latent = &settings.latent;
        let mut inputs = Vec::new();
        inputs.extend(self.drawn.counter.map(|counter| (counter, Noise::counter(draw).to_vec())));
        // The divergence from a learned prior is one number, that of the whole latent.
        let whole = latent.prior != PriorKind::Standard && latent.kl_reduction == Reduction::Mean;
        let dimensions = if whole { settings.architecture.latent_floats() } else { 1 };
        let weight = (latent.weight_at(step) / dimensions as f64) as f32;
        inputs.extend(self.rate.as_ref().map(|rate| (rate.weight, vec![weight])));
        let temperature = latent.temperature_at(step, settings.training.steps);
        inputs.extend(self.drawn.temperature.map(|input| (input, vec![temperature])));
        inputs
    }
}

impl Rate {
    fn record(graph: &mut Graph, rate: Value, latent: &Bottleneck) -> Result<Self> {
        let (weight, one) = (graph.input(Shape::new(&[1])), graph.constant(&[1.0]));
        // Bits have neither cap nor free bits: these are as a file without them has them.
        let term = KlTerm {
            free_bits: latent.free_bits as f32,
            reduction: latent.kl_reduction,
            cap: latent.kl_cap.map_or(f32::INFINITY, |cap| cap as f32),
        };
        let term = graph.apply(term, &[rate, weight])?;
        let plain = graph.apply(KlTerm::PLAIN, &[rate, one])?;
        Ok(Self { weight, term, plain })
    }
}
