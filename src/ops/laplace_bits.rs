//! Bits of a latent under a factorised prior: -log2 of F(y + step/2) - F(y - step/2), F a Laplace law with a location and a scale
//! (Balle et al., "Variational image compression with a scale hyperprior", ICLR 2018, equations 6 and 9, there of other laws).

use super::cuda;
use super::gaussian_kl::of_one;
use super::quantisation_noise::{BLOCK_CHANNELS, CHANNEL_THREADS, store_sums, width};
use super::{Backward, Case, CaseInput, ELEMENTWISE_CHUNK, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::shape::Shape;
use rayon::prelude::*;
use std::f32::consts::{LN_2, LOG2_E};

/// The scale of a law is exp(log_scale) and this share of the step: a law is never so narrow that an entry outside its step pulls
/// at the network without bound, and one that never leaves it costs 5e-4 bits.
pub const LEAST_SCALE: f32 = 1.0 / 16.0;

/// Inputs: y of `meshes` = B meshes, `[B*images, ..., C]`; locations and log-scales of one shape, whose P values belong to the
/// entries of a mesh in turn, P a multiple of C: an entry or a channel each; log-steps `[C]`. The output has the shape of one mesh:
/// bits of each entry, mean over the meshes.
#[derive(Clone, Debug)]
pub struct LaplaceBits {
    pub meshes: usize,
}

/// A step about a value beside the law, in scales of the law.
#[derive(Clone, Copy)]
struct Interval {
    scale: f32,
    /// The share of exp(log_scale) in it.
    own: f32,
    /// Of the value from the location.
    distance: f32,
    /// Ends of the step beyond the location; the first is negative where the location lies inside.
    near: f32,
    far: f32,
    width: f32,
    /// Whether gradients reach the logarithms of scale and step.
    of_scale: bool,
    of_step: bool,
}

/// Slopes of ln of the mass: by the distance, times the scale, and by the logarithms of scale and step.
struct Slopes {
    by_distance: f32,
    by_scale: f32,
    by_step: f32,
}

impl Interval {
    fn new(distance: f32, log_scale: f32, log_step: f32) -> Self {
        let ((own, of_scale), (step, of_step)) = (width(log_scale), width(log_step));
        let scale = own + LEAST_SCALE * step;
        Self {
            scale,
            own: own / scale,
            distance,
            near: (distance.abs() - 0.5 * step) / scale,
            far: (distance.abs() + 0.5 * step) / scale,
            width: step / scale,
            of_scale,
            of_step,
        }
    }

    /// Of a step about the location, a sum of positive terms.
    fn mass_inside(&self) -> f32 {
        -0.5 * (self.near.exp_m1() + (-self.far).exp_m1())
    }

    /// Without cancellation: beyond the step what is left is an exponential of a difference, inside the mass or its complement is
    /// a sum of positive terms.
    fn log_mass(&self) -> f32 {
        if self.near >= 0.0 {
            return (-(-self.width).exp_m1()).ln() - self.near - LN_2;
        }
        let outside = 0.5 * (self.near.exp() + (-self.far).exp());
        if outside < 0.5 { (-outside).ln_1p() } else { self.mass_inside().ln() }
    }

    fn slopes(&self) -> Slopes {
        let Self { near, far, width, .. } = *self;
        if near >= 0.0 {
            let rest = width / width.exp_m1();
            return Slopes { by_distance: -1.0, by_scale: near - rest, by_step: 0.5 * width + rest };
        }
        let (a, b, half) = (near.exp(), (-far).exp(), 0.5 / self.mass_inside());
        Slopes {
            by_distance: -half * b * (far + near).exp_m1(),
            by_scale: half * (near * a - far * b),
            by_step: half * 0.5 * width * (a + b),
        }
    }

    fn by_value(&self) -> f32 {
        let slope = self.slopes().by_distance / self.scale;
        if self.distance < 0.0 { -slope } else { slope }
    }

    fn by_log_scale(&self) -> f32 {
        if self.of_scale { self.own * self.slopes().by_scale } else { 0.0 }
    }

    fn by_log_step(&self) -> f32 {
        let Slopes { by_scale, by_step, .. } = self.slopes();
        if self.of_step { by_step + (1.0 - self.own) * by_scale } else { 0.0 }
    }
}

/// What a call reads of the laws.
struct Laws<'a> {
    y: &'a [f32],
    location: &'a [f32],
    log_scale: &'a [f32],
    log_step: &'a [f32],
}

impl Laws<'_> {
    /// Of the entry at `i` of the batch, of the law at `i` modulo their number.
    fn interval(&self, i: usize) -> Interval {
        let law = i % self.location.len();
        let log_step = self.log_step[law % self.log_step.len()];
        Interval::new(self.y[i] - self.location[law], self.log_scale[law], log_step)
    }
}

impl LaplaceBits {
    fn fits(&self, inputs: &[Shape]) -> Option<Shape> {
        let [y, location, log_scale, log_step] = inputs else { return None };
        let one = of_one(*y, self.meshes).filter(|one| !one.is_empty())?;
        let (period, channels) = (location.len(), log_step.len());
        let periods = period > 0 && one.len().is_multiple_of(period) && period.is_multiple_of(channels);
        let channelled = y.extents().last() == Some(&channels);
        (location == log_scale && channelled && periods).then_some(one)
    }
}

impl Op for LaplaceBits {
    fn name(&self) -> &'static str {
        "laplace_bits"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.fits(inputs).ok_or_else(|| {
            let problem = format!(
                "expected y of {} meshes, locations, scales and steps in turn, found {inputs:?}",
                self.meshes
            );
            Error::new("laplace_bits", problem, "match them")
        })
    }

    fn differentiable(&self, _index: usize) -> bool {
        true
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory { backward_inputs: vec![0, 1, 2, 3], ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let [y, location, log_scale, log_step] = [0, 1, 2, 3].map(|i| &inputs[i].values);
        let entries = y.len() / self.meshes;
        let mut bits = vec![0.0; entries];
        for i in 0..y.len() {
            let law = i % location.len();
            let step = log_step[i % log_step.len()].clamp(-20.0, 20.0).exp();
            let scale = log_scale[law].clamp(-20.0, 20.0).exp() + step / 16.0;
            let distance = (y[i] - location[law]).abs();
            // What lies beyond x in the upper tail; the law is symmetric.
            let beyond = |x: f64| {
                if x < 0.0 { 1.0 - 0.5 * (x / scale).exp() } else { 0.5 * (-x / scale).exp() }
            };
            let mass = beyond(distance - 0.5 * step) - beyond(distance + 0.5 * step);
            bits[i % entries] -= mass.log2() / self.meshes as f64;
        }
        bits
    }

    fn forward_cpu(&self, call: Forward) {
        let [y, location, log_scale, log_step] = [0, 1, 2, 3].map(|i| call.inputs[i].values);
        let laws = Laws { y, location, log_scale, log_step };
        let (entries, scale) = (call.output.len(), -LOG2_E / self.meshes as f32);
        call.output.par_chunks_mut(ELEMENTWISE_CHUNK).enumerate().for_each(|(chunk, bits)| {
            for (k, bits) in bits.iter_mut().enumerate() {
                let entry = chunk * ELEMENTWISE_CHUNK + k;
                let mass = |mesh: usize| laws.interval(mesh * entries + entry).log_mass();
                *bits = scale * (0..self.meshes).map(mass).sum::<f32>();
            }
        });
    }

    fn backward_cpu(&self, mut call: Backward) {
        let [y, location, log_scale, log_step] = [0, 1, 2, 3].map(|i| call.inputs[i].values);
        let laws = Laws { y, location, log_scale, log_step };
        let (cotangent, entries) = (call.output_gradient, call.output_gradient.len());
        let scale = -LOG2_E / self.meshes as f32;
        if let Some(dy) = &mut call.gradients[0] {
            dy.store(|i| scale * cotangent[i % entries] * laws.interval(i).by_value());
        }
        let sum = |first: usize, period: usize, of: fn(&Interval) -> f32| -> f64 {
            let terms = (first..y.len()).step_by(period);
            let sum: f64 = terms.map(|i| f64::from(cotangent[i % entries] * of(&laws.interval(i)))).sum();
            f64::from(scale) * sum
        };
        let period = location.len();
        if let Some(gradient) = &mut call.gradients[1] {
            store_sums(gradient, |law| -sum(law, period, Interval::by_value));
        }
        if let Some(gradient) = &mut call.gradients[2] {
            store_sums(gradient, |law| sum(law, period, Interval::by_log_scale));
        }
        if let Some(gradient) = &mut call.gradients[3] {
            store_sums(gradient, |channel| sum(channel, log_step.len(), Interval::by_log_step));
        }
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [y, location, log_scale, log_step] = [0, 1, 2, 3].map(|i| call.inputs[i].values.wide());
        let bits = call.output.wide();
        int(y.len)?;
        kernels::laplace_bits::forward(
            call.queue,
            Launch::items(bits.len, THREADS),
            y,
            location,
            log_scale,
            log_step,
            bits,
            int(bits.len)?,
            int(self.meshes)?,
            int(location.len)?,
            int(log_step.len)?,
        )
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let [y, location, log_scale, log_step] = [0, 1, 2, 3].map(|i| call.inputs[i].values.wide());
        let (queue, dbits) = (call.queue, call.output_gradient.wide());
        let [n, entries, period, channels] = [y.len, dbits.len, location.len, log_step.len].map(int);
        let (n, entries, period, channels) = (n?, entries?, period?, channels?);
        for (index, gradient) in call.gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let (into, add) = (gradient.values.wide(), gradient.add());
            let items = |items: usize| Launch::items(items, THREADS);
            match index {
                0 => kernels::laplace_bits::backward_dy(
                    queue,
                    items(y.len),
                    y,
                    location,
                    log_scale,
                    log_step,
                    dbits,
                    into,
                    n,
                    entries,
                    period,
                    channels,
                    add,
                )?,
                1 | 2 => kernels::laplace_bits::backward_law(
                    queue,
                    items(location.len),
                    y,
                    location,
                    log_scale,
                    log_step,
                    dbits,
                    into,
                    n,
                    entries,
                    period,
                    channels,
                    i32::from(index == 2),
                    add,
                )?,
                _ => kernels::laplace_bits::backward_step(
                    queue,
                    Launch::blocks(log_step.len.div_ceil(BLOCK_CHANNELS), CHANNEL_THREADS),
                    y,
                    location,
                    log_scale,
                    log_step,
                    dbits,
                    into,
                    n,
                    entries,
                    period,
                    channels,
                    add,
                )?,
            }
        }
        Ok(())
    }

    fn cases(&self) -> Vec<Case> {
        let scaled = |name: &str, meshes, [y, law]: [&[usize]; 2], spread, scale, step: [f32; 2]| {
            let channels = y[y.len() - 1];
            let uniform = |extents: &[usize], [low, high]: [f32; 2]| CaseInput {
                shape: Shape::new(extents),
                fill: Fill::Uniform { low, high },
            };
            Case {
                name: name.into(),
                op: Box::new(LaplaceBits { meshes }),
                inputs: vec![
                    CaseInput { shape: Shape::new(y), fill: Fill::Normal { scale: spread } },
                    CaseInput { shape: Shape::new(law), fill: Fill::Normal { scale: 0.5 } },
                    uniform(law, scale),
                    uniform(&[channels], step),
                ],
                // Of the sum for a step; an exponential errs by as much as its exponent, which is some ten at most.
                terms: 10 * y.iter().product::<usize>() / channels,
            }
        };
        let case = |name: &str, meshes, shapes: [&[usize]; 2], spread, step| {
            scaled(name, meshes, shapes, spread, [-1.5, 1.0], step)
        };
        vec![
            case("one value", 1, [&[1, 1], &[1, 1]], 1.0, [-1.0, 0.0]),
            case("a law an entry, three meshes", 3, [&[6, 3, 5, 7], &[2, 3, 5, 7]], 1.0, [-3.0, 1.5]),
            case("a law a channel, narrow steps", 2, [&[4, 3, 3, 37], &[37]], 1.0, [-6.0, -3.0]),
            case("tails", 2, [&[4, 130], &[2, 130]], 20.0, [-3.0, 1.0]),
            case("inside the step", 2, [&[4, 40], &[40]], 0.2, [1.5, 3.0]),
            // Some below the range, where what is left of the scale is a share of the step.
            scaled("collapsed scales", 1, [&[3, 67], &[67]], 1.0, [-28.0, 0.0], [-1.0, 0.5]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(distance: f32, scale: f32, step: f32) -> f64 {
        f64::from(-LOG2_E * Interval::new(distance, scale.ln(), step.ln()).log_mass())
    }

    /// At whole numbers of steps the masses are those of a law on them, and add up to 1.
    #[test]
    fn masses_add_up() {
        for (scale, step) in [(1.0, 0.1), (0.3, 1.0), (0.01, 1.0), (5.0, 0.5)] {
            let mass = |q: i32| (-bits(q as f32 * step, scale, step)).exp2();
            let sum: f64 = (-3000..=3000).map(mass).sum();
            // Roundings of exponents of some tens; the last of 3,000 steps lies beyond exp(-60).
            assert!((sum - 1.0).abs() < 1e-5, "{scale} {step}: {sum}");
        }
    }

    /// An exponential in the tail: bits grow along a line, without an end; and a law that collapses costs next to nothing.
    #[test]
    fn the_ends_are_finite_and_right() {
        let (near, far) = (bits(1e3, 1.0, 0.1), bits(1e6, 1.0, 0.1));
        let scale = 1.0 + 0.1 / 16.0;
        assert!(((far - near) * scale * std::f64::consts::LN_2 / (1e6 - 1e3) - 1.0).abs() < 1e-5);
        let collapsed = bits(0.0, 1e-8, 1.0);
        let closed = -(1.0 - (-8.0f64).exp()).log2();
        assert!((collapsed / closed - 1.0).abs() < 1e-4, "{collapsed} beside {closed}");
        for (distance, log_scale, log_step) in
            [(0.0, -100.0, 100.0), (1e9, -100.0, -100.0), (0.0, 100.0, -100.0)]
        {
            let interval = Interval::new(distance, log_scale, log_step);
            assert!(interval.log_mass().is_finite() && interval.by_value().is_finite());
            assert_eq!((interval.by_log_scale(), interval.by_log_step()), (0.0, 0.0));
        }
        assert!(bits(f32::NAN, 1.0, 1.0).is_nan());
    }
}
