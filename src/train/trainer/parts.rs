//! What a look at a training step finds beside its losses: the gradients of the two sides of a loss with a rate, apart from each
//! other, and the divergence over all meshes.

use super::{Item, Trainer};
use crate::error::Result;
use crate::tape::{Scale, Value};
use serde::{Deserialize, Serialize};

/// Of one batch, over all parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientParts {
    /// Norm of the gradient of what is not the rate: reconstruction and SDF.
    pub reconstruction: f64,
    /// Norm of the gradient of the rate's term, its weight included.
    pub rate: f64,
    /// Of the angle between the two; 0 where one of them is.
    pub cosine: f64,
}

impl Trainer {
    /// For the batch of the next step; `None` where the latent has no rate.
    ///
    /// The term is linear in its weight as long as no cap holds: it is measured at a weight where both sides are of one size,
    /// so that their difference has digits left, and scaled back.
    ///
    /// # Errors
    /// Those of the device.
    pub fn gradient_parts(&mut self, items: &[Item]) -> Result<Option<GradientParts>> {
        let Some(weight) = self.recorded.latent.weight() else { return Ok(None) };
        for (slot, index) in self.chosen(items.len()).into_iter().enumerate() {
            self.load(slot, &items[index], index)?;
        }
        for (input, values) in self.scalars(self.step) {
            self.tape.load(input, 0, &values)?;
        }
        let own = self.settings.latent.weight_at(self.step);
        let without = self.gradient_at(weight, 0.0)?;
        let mut measured = if self.settings.latent.kl_cap.is_some() { own } else { 1.0 };
        let mut rate = difference(&self.gradient_at(weight, measured)?, &without);
        let ratio = norm(&without) / norm(&rate);
        if self.settings.latent.kl_cap.is_none() && ratio.is_normal() {
            measured *= ratio;
            rate = difference(&self.gradient_at(weight, measured)?, &without);
        }
        let (a, b) = (norm(&without), norm(&rate));
        let cosine = if a * b > 0.0 { dot(&without, &rate) / (a * b) } else { 0.0 };
        let scale = if measured == 0.0 { 0.0 } else { own / measured };
        Ok(Some(GradientParts { reconstruction: a, rate: b * scale, cosine }))
    }

    /// The divergence of a step in nats a mesh, over `passes` draws of all `items` with the noise of the steps to come; `None`
    /// where the latent has none. Against a learned prior it is that of a draw, of which one batch says little.
    ///
    /// # Errors
    /// Those of the device.
    pub fn divergence(&mut self, items: &[Item], passes: usize) -> Result<Option<f64>> {
        let Some(plain) = self.recorded.latent.rate.as_ref().map(|rate| rate.plain) else { return Ok(None) };
        let draws = (passes * items.len()).div_ceil(self.batch);
        let mut sum = 0.0;
        for draw in 0..draws {
            for slot in 0..self.batch {
                let index = (draw * self.batch + slot) % items.len();
                self.load(slot, &items[index], index)?;
            }
            for (input, values) in self.scalars(self.step + draw as u64) {
                self.tape.load(input, 0, &values)?;
            }
            self.tape.forward(&self.model.parameters)?;
            sum += f64::from(self.tape.value(plain)?[0]);
        }
        Ok(Some(sum / draws as f64))
    }

    fn gradient_at(&mut self, weight: Value, value: f64) -> Result<Vec<f32>> {
        self.tape.load(weight, 0, &[value as f32])?;
        self.tape.forward(&self.model.parameters)?;
        self.tape.backward(&self.model.parameters, &mut self.gradients, Scale::One)?;
        Ok(self.gradients.values()?.into_owned())
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}
