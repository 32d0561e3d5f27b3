//! One training step in a file, for a comparison with another program: what it read, its losses, the gradient of every
//! parameter and the weights after the update.

use super::checkpoint::{FileTensor, FileValues, file_tensors, write_tensors};
use super::{Losses, Trainer};
use crate::error::Result;
use crate::model::VIEWS;
use std::collections::HashMap;
use std::path::Path;

/// The batch of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepInputs {
    /// `[6 B, N, N, C]`.
    pub planes: Vec<f32>,
    /// `[B, P, 3]`; empty without the SDF loss, as the distances are.
    pub points: Vec<f32>,
    /// `[B, P]`.
    pub distances: Vec<f32>,
}

/// Writes the step that `trainer` has just made of `inputs`: the tensors `planes` `[6 B, C, N, N]`, `points` `[B, P, 3]`,
/// `distances` `[B, P]`, `losses` (total, reconstruction, sdf, gradient norm before clipping; `[4]`), and for every
/// parameter of the checkpoint `gradient.NAME` (before clipping) and `updated.NAME` in the checkpoint's layouts.
///
/// # Errors
/// Those of the device and of writing; the file is written whole or not at all.
pub fn write_step(path: &Path, trainer: &Trainer, inputs: &StepInputs, losses: &Losses) -> Result<()> {
    let model = &trainer.model;
    let (size, channels) = (model.architecture.planes, model.architecture.channels);
    let views = inputs.planes.len() / (size * size * channels);
    let meshes = views / VIEWS;
    let points = inputs.distances.len() / meshes;
    let scalars = [losses.total, losses.reconstruction, losses.sdf, losses.gradient_norm];
    let plain = |name: &str, shape: &[usize], values: Vec<f32>| FileTensor {
        name: name.into(),
        shape: shape.to_vec(),
        values: FileValues::InOrder(values),
    };
    let planes = channels_first(&inputs.planes, size, channels);
    let (gradients, updated) = (trainer.gradients().values()?, model.parameters.values()?);
    let mut tensors = vec![
        plain("planes", &[views, channels, size, size], planes),
        plain("points", &[meshes, points, 3], inputs.points.clone()),
        plain("distances", &[meshes, points], inputs.distances.clone()),
        plain("losses", &[scalars.len()], scalars.map(|loss| loss as f32).to_vec()),
    ];
    tensors.extend(file_tensors("gradient.", &model.layout, &gradients));
    tensors.extend(file_tensors("updated.", &model.layout, &updated));
    write_tensors(path, tensors, HashMap::new())
}

/// `[V, N, N, C]` to `[V, C, N, N]`.
fn channels_first(planes: &[f32], size: usize, channels: usize) -> Vec<f32> {
    let views = planes.chunks_exact(size * size * channels);
    let of_view = |view: &[f32]| {
        (0..channels).flat_map(|c| view[c..].iter().step_by(channels).copied()).collect::<Vec<f32>>()
    };
    views.flat_map(of_view).collect()
}

#[cfg(test)]
mod tests {
    use super::channels_first;

    #[test]
    fn pixels_become_channels() {
        let (size, channels) = (3, 4);
        let planes: Vec<f32> = (0..2 * size * size * channels).map(|i| i as f32).collect();
        let turned = channels_first(&planes, size, channels);
        for (view, c, y, x) in [(0, 0, 0, 0), (1, 2, 0, 1), (1, 3, 2, 1)] {
            let here = turned[((view * channels + c) * size + y) * size + x];
            assert_eq!(here, planes[((view * size + y) * size + x) * channels + c]);
        }
        assert_eq!(turned.len(), planes.len());
    }
}
