//! What a step reads of its meshes, as the host has it.

use super::{STREAM_POINTS, Trainer};
use crate::error::Result;
use crate::hexplane::field::TAU;
use crate::rng::Rng;
use crate::train::{Item, Settings};
use rayon::prelude::*;
use std::borrow::Cow;
use std::time::Instant;

/// One mesh of a step.
pub(super) struct Example<'a> {
    pub planes: Cow<'a, [f32]>,
    /// `[n, 3]`; none without the SDF loss.
    pub points: Vec<f32>,
    pub distances: Vec<f32>,
}

impl Trainer {
    /// The meshes `chosen` for the current step, as its visits see them.
    pub(super) fn examples<'a>(&mut self, items: &'a [Item], chosen: &[usize]) -> Result<Vec<Example<'a>>> {
        let started = Instant::now();
        let first = self.first_visit(self.step);
        let reader = self.reader();
        let visits = chosen.par_iter().enumerate().with_max_len(1);
        let one = |(slot, &index): (usize, &usize)| reader.example(&items[index], index, first + slot as u64);
        let examples = visits.map(one).collect();
        self.input += started.elapsed();
        examples
    }

    /// Points `[n, 3]` of this step and their distances `[n]`, clipped to the band of the field; none without the SDF loss.
    pub(super) fn drawn(&self, item: &Item, index: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let (points, distances) = self.reader().picked(item, index)?;
        Ok((points, clipped(distances)))
    }

    fn reader(&self) -> Reader<'_> {
        Reader { settings: &self.settings, step: self.step, points: self.recorded.sdf.is_some() }
    }
}

/// What the draws of a step depend on.
struct Reader<'a> {
    settings: &'a Settings,
    step: u64,
    /// Whether there is an SDF loss.
    points: bool,
}

impl Reader<'_> {
    fn example<'a>(&self, item: &'a Item, index: usize, visit: u64) -> Result<Example<'a>> {
        let augmentation = &self.settings.augmentation;
        if augmentation.is_off() {
            let (points, distances) = self.picked(item, index)?;
            return Ok(Example { planes: item.values()?, points, distances: clipped(distances) });
        }
        let (planes, map) = augmentation.draw(self.settings.seed, visit).planes(item, self.settings)?;
        let (mut points, mut distances) = self.picked(item, index)?;
        for point in points.as_chunks_mut().0 {
            *point = map.apply(*point);
        }
        distances.iter_mut().for_each(|distance| *distance *= map.scale as f32);
        Ok(Example { planes, points, distances: clipped(distances) })
    }

    fn picked(&self, item: &Item, index: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        if !self.points {
            return Ok((Vec::new(), Vec::new()));
        }
        let count = self.settings.training.sdf_points;
        let mut rng = Rng::new(self.settings.seed, STREAM_POINTS ^ ((index as u64) << 32));
        rng.seek(self.step * count as u64);
        let (points, distances) = item.points()?;
        let pairs = points.len() / 2;
        // Even entries of the pool are near the surface, odd ones anywhere.
        let picks: Vec<usize> = (0..count).map(|i| 2 * rng.below(pairs) + i % 2).collect();
        let picked = picks.iter().flat_map(|&pick| points[pick]).collect();
        Ok((picked, picks.iter().map(|&pick| distances[pick]).collect()))
    }
}

fn clipped(mut distances: Vec<f32>) -> Vec<f32> {
    distances.iter_mut().for_each(|distance| *distance = distance.clamp(-TAU, TAU));
    distances
}
