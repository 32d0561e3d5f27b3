//! A second-stage prior: a flow over the latents of a network that is trained already.
//!
//! Two stages as in Dai & Wipf, "Diagnosing and Enhancing VAE Models" (ICLR 2019); the flow as in Lipman et al., "Flow Matching
//! for Generative Modeling" (ICLR 2023), and Liu et al., "Flow Straight and Fast" (ICLR 2023). A latent is its coefficients c
//! along the principal components of the latents that the flow is fitted to, each divided by its deviation. Standard normal
//! noise e goes to c along x_t = (1 - t) e + t c. The velocity at x_t is (E[c | x_t] - x_t) / (1 - t), so that all it needs is an
//! estimate of c. Were c standard normal too, it would be t / (t^2 + (1 - t)^2) x_t, and the flow the identity: that is where it
//! starts, as the Gaussian of the principal components. A network adds to the estimate what a Gaussian does not say.

use super::LatentBasis;
use crate::cpu::arena::Arena;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::nn::{Builder, initialise};
use crate::ops::{Add, Silu};
use crate::shape::Shape;
use crate::tape::{Graph, ParameterLayout, Value};
use std::f32::consts::PI;

/// Values of the time that the network reads beside the coefficients.
const TIMES: usize = 4;

/// Residual blocks of the network.
const BLOCKS: usize = 2;

/// A fitted flow.
pub struct Flow {
    /// Channels of the network.
    pub width: usize,
    pub basis: LatentBasis,
    pub layout: ParameterLayout,
    pub parameters: Buffer,
}

impl Flow {
    /// A flow whose network adds nothing yet: the Gaussian of the basis.
    pub fn new(width: usize, basis: LatentBasis, device: &Device, seed: u64) -> Result<Self> {
        let (layout, parameters) = (ParameterLayout::default(), Buffer::Cpu(Arena::zeros(0)));
        let mut flow = Self { width, basis, layout, parameters };
        flow.record(&mut Graph::default(), 1)?;
        let mut values = Arena::zeros(flow.layout.len());
        initialise(&flow.layout, seed, values.as_mut_slice());
        flow.parameters = Buffer::Cpu(values).into_device(device, "the second-stage prior")?;
        Ok(flow)
    }

    /// The network for so many x at once: its input, which [`Flow::input`] makes of each, and what it adds to the estimates.
    pub fn record(&mut self, graph: &mut Graph, count: usize) -> Result<(Value, Value)> {
        let input = graph.input(Shape::new(&[count, 1, 1, self.basis.len() + TIMES]));
        let mut b = Builder { graph, layout: &mut self.layout, rate: 1.0 };
        let mut x = b.conv("flow.in", input, 1, 1, self.width, false)?;
        for block in 0..BLOCKS {
            let mut branch = x;
            for (part, zero) in [(1, false), (2, true)] {
                branch = b.graph.apply(Silu, &[branch])?;
                branch = b.conv(&format!("flow.block{block}.conv{part}"), branch, 1, 1, self.width, zero)?;
            }
            x = b.graph.apply(Add, &[x, branch])?;
        }
        x = b.graph.apply(Silu, &[x])?;
        Ok((input, b.conv("flow.out", x, 1, 1, self.basis.len(), true)?))
    }

    /// What the network reads of x at `time`: x, of variance 1 were all Gaussian, and the time.
    pub fn input(x: &[f32], time: f32) -> Vec<f32> {
        let times: [f32; TIMES] = [time, (PI * time).cos(), (PI * time).sin(), (2.0 * PI * time).cos()];
        let deviation = variance(time).sqrt();
        x.iter().map(|x| x / deviation).chain(times).collect()
    }

    /// The estimate of c of which x is known at `time`, were all Gaussian.
    pub fn gaussian_estimate(x: &[f32], time: f32) -> Vec<f32> {
        let factor = time / variance(time);
        x.iter().map(|x| factor * x).collect()
    }
}

/// Of x at `time`, were all Gaussian.
fn variance(time: f32) -> f32 {
    time * time + (1.0 - time) * (1.0 - time)
}
