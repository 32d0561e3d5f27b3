//! Whole training steps and nothing else: for another program's to be compared with, for a profiler, or for the
//! counters of the software driver.

use super::Measurement;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::mesh::Mesh;
use crate::train::{Checkpoint, Prepare, Settings, Trainer, Wait, prepare_all, write_step};
use std::path::Path;
use std::time::Instant;

/// What to run.
pub struct Steps<'a> {
    pub settings: &'a Settings,
    /// Weights, moments and count of steps to start from; none: fresh weights.
    pub checkpoint: Option<&'a Path>,
    /// (name, mesh in its own frame), at least one.
    pub meshes: &'a [(String, Mesh)],
    /// Whether one step comes before those that count: it pays for what comes once, such as loading kernels.
    pub warm_up: bool,
    /// Steps that count, at least 1.
    pub count: usize,
    /// Where the last step goes, as [`write_step`] has it.
    pub record: Option<&'a Path>,
}

/// The measurement of the steps and the milliseconds of each, in order. Each is waited for.
///
/// # Errors
/// Those of preparing the meshes, of the checkpoint, of a step and of writing.
pub fn steps(device: &Device, steps: &Steps) -> Result<(Measurement, Vec<f64>)> {
    let Steps { settings, meshes, .. } = *steps;
    let prepare = Prepare { settings, device: &Device::Cpu };
    let items = prepare_all(&prepare, meshes, 0, &std::env::temp_dir())?;
    let mut trainer = Trainer::new(device, settings, items.len(), None)?;
    if let Some(path) = steps.checkpoint {
        Checkpoint::restore(path, &mut trainer)?;
    }
    let mut times = Vec::new();
    let total = steps.count + usize::from(steps.warm_up);
    for step in 1..=total {
        let record = steps.record.filter(|_| step == total);
        let inputs = record.map(|_| trainer.inputs(&items)).transpose()?;
        let start = Instant::now();
        trainer.step(&items)?;
        let done = trainer.done(Wait::All)?;
        times.push(1e3 * start.elapsed().as_secs_f64());
        if let (Some(path), Some(inputs)) = (record, inputs) {
            let remedy = "this is a defect: please report it";
            let (_, losses) = done.ok_or_else(|| Error::new("bench", "the step left no losses", remedy))?;
            write_step(path, &trainer, &inputs, &losses)?;
        }
    }
    let counted = times.split_off(usize::from(steps.warm_up));
    let batch = settings.training.batch.min(items.len());
    let what = if steps.warm_up { "a training step" } else { "the first training step" };
    Ok((Measurement::of(format!("{what}, {batch} meshes"), counted.clone()), counted))
}
