//! Random numbers of a step, the same on every device: the words of [`crate::rng`] at the position that the number of the
//! draw gives, as standard normal deviates (Box and Muller, "A note on the generation of random normal deviates", 1958),
//! standard Gumbel ones, or even ones of width 1 about 0.

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::rng::{Rng, philox};
use crate::shape::Shape;
use rayon::prelude::*;
use std::f32::consts::TAU;

/// Input: the number of the draw as `[2]`, its low 16 bits and the rest ([`Noise::counter`]): small integers, which floats
/// hold exactly. It carries no gradient. Output: deviates of the shape `extents`.
#[derive(Clone, Debug)]
pub struct Noise {
    pub law: Law,
    pub extents: Shape,
    pub seed: u64,
    pub stream: u64,
}

/// The distribution of the deviates, in the order that the kernel counts them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Normal,
    Gumbel,
    /// Evenly in (-1/2, 1/2): what rounding to whole numbers does to a value that lies anywhere.
    Uniform,
}

/// Values a task makes, in whole blocks of Philox.
const CHUNK: usize = 1 << 12;

impl Noise {
    /// The input that belongs to a draw.
    pub fn counter(draw: u64) -> [f32; 2] {
        [(draw & 0xffff) as f32, (draw >> 16) as f32]
    }

    /// Blocks of four words a draw takes.
    fn blocks(&self) -> u64 {
        self.extents.len().div_ceil(4) as u64
    }

    fn four(&self, block: u64) -> [f32; 4] {
        let counter = [block as u32, (block >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let u = philox(counter, [self.seed as u32, (self.seed >> 32) as u32]).map(uniform);
        let normals = |a: f32, b: f32| {
            let (radius, (sine, cosine)) = ((-2.0 * a.ln()).sqrt(), (TAU * b).sin_cos());
            [radius * cosine, radius * sine]
        };
        match self.law {
            Law::Gumbel => u.map(|u| -(-u.ln()).ln()),
            Law::Uniform => u.map(|u| u - 0.5),
            Law::Normal => {
                let ([a, b], [c, d]) = (normals(u[0], u[1]), normals(u[2], u[3]));
                [a, b, c, d]
            }
        }
    }
}

/// Uniform in (0, 1): 23 bits and a half, so that every value is exact and neither end is met, of which the logarithms
/// would be infinite.
fn uniform(word: u32) -> f32 {
    ((word >> 9) as f32 + 0.5) * (1.0 / (1 << 23) as f32)
}

impl Op for Noise {
    fn name(&self) -> &'static str {
        "noise"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [counter] if counter.len() == 2 => Ok(self.extents),
            _ => Err(Error::new(
                "noise",
                format!("expected a counter [2], found {inputs:?}"),
                "pass the number of the draw",
            )),
        }
    }

    fn differentiable(&self, _index: usize) -> bool {
        false
    }

    fn memory(&self, _on: Kind, _inputs: &[Shape]) -> Memory {
        Memory::default()
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let draw = inputs[0].values[0] as u64 + 65_536 * inputs[0].values[1] as u64;
        let mut rng = Rng::new(self.seed, self.stream);
        rng.seek(4 * self.blocks() * draw);
        let mut uniform = || (f64::from(rng.next_u32() / 512) + 0.5) / 8_388_608.0;
        let mut values = Vec::new();
        while values.len() < self.extents.len() {
            let (a, b) = (uniform(), uniform());
            let turn = 2.0 * std::f64::consts::PI * b;
            values.extend(match self.law {
                Law::Normal => [(-2.0 * a.ln()).sqrt() * turn.cos(), (-2.0 * a.ln()).sqrt() * turn.sin()],
                Law::Gumbel => [-(-a.ln()).ln(), -(-b.ln()).ln()],
                Law::Uniform => [a - 0.5, b - 0.5],
            });
        }
        values.truncate(self.extents.len());
        values
    }

    fn forward_cpu(&self, call: Forward) {
        let counter = call.inputs[0].values;
        let first = (counter[0] as u64 + ((counter[1] as u64) << 16)) * self.blocks();
        call.output.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
            let first = first + (chunk * CHUNK / 4) as u64;
            for (block, values) in values.chunks_mut(4).enumerate() {
                let four = self.four(first + block as u64);
                values.copy_from_slice(&four[..values.len()]);
            }
        });
    }

    fn backward_cpu(&self, _call: Backward) {}

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let n = self.extents.len();
        kernels::noise::forward(
            call.queue,
            Launch::items(n.div_ceil(4), THREADS),
            call.inputs[0].values.wide(),
            call.output.wide(),
            int(n)?,
            self.law as i32,
            self.seed as u32,
            (self.seed >> 32) as u32,
            self.stream as u32,
            (self.stream >> 32) as u32,
        )
    }

    fn backward_cuda(&self, _call: cuda::Backward) -> Result<()> {
        Ok(())
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, law: Law, extents: &[usize], draw: fn(&mut Rng, &Shape) -> Vec<f32>| Case {
            name: name.into(),
            op: Box::new(Noise { law, extents: Shape::new(extents), seed: 7 << 33 | 5, stream: 3 << 40 | 9 }),
            inputs: vec![CaseInput { shape: Shape::new(&[2]), fill: Fill::With(draw) }],
            terms: 1,
        };
        let far: fn(&mut Rng, &Shape) -> Vec<f32> = |_, _| vec![65_535.0, 16_000_001.0];
        vec![
            case("the first draw", Law::Normal, &[3], |_, _| vec![0.0, 0.0]),
            case("far on", Law::Normal, &[2, 3, 5, 7], far),
            case("chunks", Law::Normal, &[9001], |_, _| vec![3.0, 1.0]),
            case("gumbel", Law::Gumbel, &[9002], far),
            case("uniform", Law::Uniform, &[9003], far),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::products::Products;
    use crate::ops::Tensor;

    fn draw(law: Law, n: usize, draw: u64) -> Vec<f32> {
        let noise = Noise { law, extents: Shape::new(&[n]), seed: 1, stream: 2 };
        let mut output = vec![0.0; n];
        let counter = Noise::counter(draw);
        noise.forward_cpu(Forward {
            products: Products::Fp32,
            inputs: &[Tensor { shape: Shape::new(&[2]), values: &counter }],
            output: &mut output,
            saved: &mut [],
            workspace: &mut [],
        });
        output
    }

    /// Mean, variance, skewness and kurtosis against the closed forms: 0, 1, 0 and 3 of the normal law; Euler's constant,
    /// pi^2 / 6, 12 sqrt(6) zeta(3) / pi^3 and 27 / 5 of the Gumbel law (Johnson et al., "Continuous Univariate
    /// Distributions", volume 2, 2nd ed., chapter 22); 0, 1 / 12, 0 and 9 / 5 of the even one.
    #[test]
    fn moments_are_those_of_the_laws() {
        const N: usize = 1 << 20;
        let gumbel = [0.577_215_66, 1.644_934_07, 1.139_547_1, 5.4];
        let even = [0.0, 1.0 / 12.0, 0.0, 1.8];
        for (law, expected) in
            [(Law::Normal, [0.0, 1.0, 0.0, 3.0]), (Law::Gumbel, gumbel), (Law::Uniform, even)]
        {
            let x = draw(law, N, 5);
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / N as f64;
            let moment =
                |power: i32| x.iter().map(|&x| (f64::from(x) - mean).powi(power)).sum::<f64>() / N as f64;
            let variance = moment(2);
            let found = [mean, variance, moment(3) / variance.powf(1.5), moment(4) / variance.powi(2)];
            // Standard errors at 2^20 draws are at most 0.001, 0.002, 0.01 and 0.06 (the kurtosis of the Gumbel law);
            // five of them.
            for ((found, expected), error) in found.iter().zip(expected).zip([0.005, 0.01, 0.05, 0.3]) {
                assert!((found - expected).abs() < error, "{law:?}: {found} beside {expected}");
            }
        }
    }

    #[test]
    fn draws_and_neighbours_do_not_repeat() {
        let (a, b) = (draw(Law::Normal, 1001, 0), draw(Law::Normal, 1001, 1));
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() / 1000.0;
        assert!(a.iter().all(|x| !b.contains(x)), "two draws share a number");
        // A correlation of 1,000 independent pairs has a standard error of 0.032.
        assert!(product(&a, &b).abs() < 0.16 && product(&a, &a[1..]).abs() < 0.16);
        assert_eq!(Noise::counter((5 << 16) + 3), [3.0, 5.0]);
    }
}
