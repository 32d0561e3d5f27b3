//! What a training step on a card does beside the ops, against the CPU: the optimiser and the plane cache.

use super::Outcome;
use super::geometry::compare;
use crate::cuda::{Inbox, Queue};
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::hexplane::cache::{Place, PlaneCache, Storage};
use crate::nn::{Adam, AdamSettings};
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tape::{ParameterLayout, Role};
use half::f16;
use std::sync::Arc;

/// Two stretches with a learning rate of their own; one ends inside a block of threads.
const PARAMETERS: [(usize, f32); 2] = [(4500, 1.0), (700, 0.25)];

/// Values of a mesh's planes in the cache.
const PLANES: usize = 3000;

/// Five updates of a value, each rounded a dozen times: 60 roundings of 2^-24, which rarely all add up.
const ADAM_TOLERANCE: f64 = 1e-6;

/// The optimiser and the plane cache on `device`. Nothing to check on the CPU itself.
///
/// # Errors
/// Those of the device.
pub fn check_training(device: &Device) -> Result<Vec<Outcome>> {
    let Device::Cuda(queue) = device else { return Ok(Vec::new()) };
    let mut outcomes = Vec::new();
    for (case, clip_norm) in [("clipped", 1.0), ("not clipped", 0.0)] {
        let settings = AdamSettings { learning_rate: 0.01, clip_norm, ..AdamSettings::default() };
        outcomes.push(compare("adam", case.to_string(), ADAM_TOLERANCE, device, |on| adam(on, settings))?);
    }
    for storage in [Storage::Fp16, Storage::Fp32] {
        for (room, what) in [(2, "resident"), (0, "sent ahead")] {
            let case = format!("{storage:?}, {what}").to_lowercase();
            outcomes.push(compare("cache", case, 0.0, device, |on| match on {
                Device::Cpu | Device::CpuBf16 => Ok(rounded(storage)),
                Device::Cuda(_) => cached(queue, storage, room),
            })?);
        }
    }
    Ok(outcomes)
}

/// The weights after five updates, the third of which has a gradient that is not finite.
fn adam(device: &Device, settings: AdamSettings) -> Result<Vec<f32>> {
    let mut layout = ParameterLayout::default();
    for (index, (len, rate)) in PARAMETERS.into_iter().enumerate() {
        layout.add(&format!("p{index}"), Shape::new(&[len]), Role::Bias, false, rate);
    }
    let mut rng = Rng::named(0, "check/adam");
    let mut values = || (0..layout.len()).map(|_| rng.normal()).collect::<Vec<f32>>();
    let mut parameters = Buffer::zeros(device, layout.len(), "a check")?;
    parameters.load(0, &values())?;
    let mut gradients = Buffer::zeros(device, layout.len(), "a check")?;
    let mut adam = Adam::new(settings, &layout, device)?;
    for step in 0..5 {
        // A power of two, or 1.
        let scale = adam.outcome().scale.factor as f32;
        let mut gradient: Vec<f32> = values().iter().map(|g| g * scale).collect();
        if step == 2 {
            gradient[17] = f32::INFINITY;
        }
        gradients.load(0, &gradient)?;
        let before = adam.outcome();
        let outcome = adam.update(&mut parameters, &gradients, 0.5)?;
        if !outcome.norm.is_finite() {
            // As if the step had not been.
            adam.restore(before.updates, Some(before.scale))?;
        }
    }
    let weights = parameters.values()?.into_owned();
    Ok(weights)
}

fn meshes() -> [Vec<f32>; 2] {
    let mut rng = Rng::named(0, "check/cache");
    [0, 1].map(|_| (0..PLANES).map(|_| rng.range(-1.0, 1.0)).collect())
}

/// What a step sees of two meshes, the first of them twice.
fn rounded(storage: Storage) -> Vec<f32> {
    let [a, b] = meshes();
    let round = |x: &f32| match storage {
        Storage::Fp16 => f16::from_f32(*x).to_f32(),
        Storage::Fp32 => *x,
    };
    [&a, &b, &a].into_iter().flatten().map(round).collect()
}

fn cached(queue: &Arc<Queue>, storage: Storage, room: usize) -> Result<Vec<f32>> {
    let meshes = meshes();
    let mut cache = PlaneCache::new(queue, storage, PLANES, room)?;
    let mut inbox = Inbox::new(queue, PLANES * storage.bytes())?;
    let seen = queue.array::<f32>(3 * PLANES, "a check")?;
    for (turn, mesh) in [0, 1, 0].into_iter().enumerate() {
        let place = inbox.open()?;
        let from = match cache.place(mesh) {
            Place::Resident(from) => from,
            Place::New(into) => {
                storage.send(queue, &meshes[mesh], into)?;
                into.into()
            }
            Place::Elsewhere => {
                storage.send(queue, &meshes[mesh], place)?;
                place.into()
            }
        };
        inbox.filled()?;
        storage.unpack(queue, from, seen.write().part(turn * PLANES..(turn + 1) * PLANES))?;
        inbox.emptied()?;
    }
    let mut values = vec![0.0; 3 * PLANES];
    queue.download(seen.read(), &mut values)?;
    Ok(values)
}
