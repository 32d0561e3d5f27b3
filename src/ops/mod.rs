//! Differentiable operations: one file per op, the same order of sections in each (name, shape
//! rule, memory, oracle, CPU forward and backward, CUDA forward and backward, cases). [`OPS`] is the registry that checks,
//! tests and benchmarks run over. `identity.rs` is the template to copy.

mod add;
mod add_embedding;
mod bce;
mod categorical_kl;
mod conv2d;
mod conv_transpose2d;
pub mod cuda;
mod field_loss;
mod fsq;
mod gaussian_kl;
mod gaussian_log_density;
mod gaussian_sample;
mod group_norm;
mod identity;
mod kl_term;
mod laplace_bits;
mod mixture_log_density;
mod mse;
mod noise;
mod one_hot;
mod optimal_sigma;
mod perplexity;
mod quantisation_noise;
mod scale_channels;
mod sigmoid;
mod silhouette_loss;
mod silu;
mod view_mean;
mod weighted_sum;

pub use add::Add;
pub use add_embedding::AddEmbedding;
pub use bce::Bce;
pub use categorical_kl::CategoricalKl;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv2d::Conv2d;
pub use field_loss::FieldLoss;
pub use fsq::Fsq;
pub use gaussian_kl::GaussianKl;
pub use gaussian_log_density::GaussianLogDensity;
pub use gaussian_sample::{GaussianSample, LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE};
pub use group_norm::GroupNorm;
pub use identity::Identity;
pub use kl_term::{KlTerm, Reduction};
pub use laplace_bits::{LEAST_SCALE, LaplaceBits};
pub use mixture_log_density::MixtureLogDensity;
pub use mse::Mse;
pub use noise::{Law, Noise};
pub use one_hot::OneHot;
pub use optimal_sigma::OptimalSigma;
pub use perplexity::{Codes, Perplexity};
pub use quantisation_noise::QuantisationNoise;
pub use scale_channels::ScaleChannels;
pub use sigmoid::Sigmoid;
pub use silhouette_loss::SilhouetteLoss;
pub use silu::Silu;
pub use view_mean::ViewMean;
pub use weighted_sum::WeightedSum;

use crate::cpu::products::Products;
use crate::device::Kind;
use crate::error::Result;
use crate::rng::Rng;
use crate::shape::Shape;
use std::fmt::Debug;

/// Every op, as an instance whose [`Op::cases`] cover its attributes.
pub static OPS: &[&dyn Op] = &[
    &Identity,
    &Add,
    &AddEmbedding,
    &ViewMean { views: 6 },
    &Mse,
    &WeightedSum { weights: Vec::new() },
    &Conv2d { stride: 1, padding: 0 },
    &ConvTranspose2d { stride: 1, padding: 0 },
    &GroupNorm { groups: 1, silu: false },
    &Silu,
    &ScaleChannels { factors: Vec::new() },
    &FieldLoss { tau: crate::hexplane::field::TAU },
    &Sigmoid,
    &Bce { positive_weight: 1.0 },
    &OptimalSigma { floor: 1e-3, offset: 0.0 },
    &SilhouetteLoss { clamp: 0.5 },
    &Noise { law: Law::Normal, extents: Shape::SCALAR, seed: 0, stream: 0 },
    &GaussianSample,
    &GaussianKl { meshes: 1 },
    &KlTerm::PLAIN,
    &GaussianLogDensity { meshes: 1 },
    &MixtureLogDensity { meshes: 1 },
    &OneHot { classes: 1 },
    &CategoricalKl { classes: 1, meshes: 1 },
    &Fsq,
    &Perplexity { codes: Codes::OneHot { classes: 1 } },
    &QuantisationNoise,
    &LaplaceBits { meshes: 1 },
];

/// One differentiable function of arrays. No method has a default: a missing half does not compile.
pub trait Op: Debug + Send + Sync {
    /// The stem of the file, e.g. `conv2d`.
    fn name(&self) -> &'static str;

    /// The shape of the output, or why these inputs do not fit.
    fn shape(&self, inputs: &[Shape]) -> Result<Shape>;

    /// Whether input `index` can carry a gradient (targets and sample points cannot).
    fn differentiable(&self, index: usize) -> bool;

    /// Memory beside inputs and output on a kind of device, and what backward reads there: the planner's facts.
    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory;

    /// How its arrays lie on a card that stores 2 bytes a value.
    fn storage(&self) -> Storage;

    /// Floating-point operations of forward where they bound it, 0 where memory does; backward takes as many for each
    /// of the first two inputs that wants a gradient.
    fn operations(&self, inputs: &[Shape]) -> f64;

    /// The definition in plain f64 loops; never optimised.
    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64>;

    fn forward_cpu(&self, call: Forward);

    fn backward_cpu(&self, call: Backward);

    /// Queues the launches; the same outputs as on the CPU but for rounding.
    fn forward_cuda(&self, call: cuda::Forward) -> Result<()>;

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()>;

    /// Declared cases: they serve the check, the tests and the benchmarks.
    fn cases(&self) -> Vec<Case>;
}

/// How the arrays of an op, and their gradients, lie on a card whose precision is bf16 or fp16 ([`Kind::narrow`]);
/// elsewhere all are fp32. Parameters, their gradients, what is saved and workspaces are fp32 everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// All in fp32: losses, and what is made for them.
    Exact,
    /// So many of the first inputs and the output lie alike, in fp32 or in 2 bytes a value; further inputs in fp32.
    Alike(usize),
    /// Products of the first input and the second, or of one of them and the cotangent: these are given in 2 bytes a
    /// value, however they lie. Further inputs in fp32; the output and gradients are written as they lie.
    Product,
}

/// What an op needs of the memory plan, in floats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Written by forward, read by backward.
    pub saved: usize,
    /// Scratch during forward; its contents are undefined before and after.
    pub forward_workspace: usize,
    /// Scratch during backward.
    pub backward_workspace: usize,
    /// Backward reads these inputs (by index); the others may be gone by then.
    pub backward_inputs: Vec<usize>,
    /// Backward reads the output.
    pub backward_output: bool,
    /// Inputs whose gradient is the cotangent itself. The tape lets one of them take over the cotangent's place where
    /// nobody has written that gradient yet: backward then finds none wanted.
    pub passed_on: Vec<usize>,
    /// Forward is cheap enough to be run again where its output is read in backward, instead of keeping that.
    pub recompute: bool,
}

/// An f64 array given to an oracle.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub shape: Shape,
    pub values: Vec<f64>,
}

/// An array that an op reads.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    pub shape: Shape,
    pub values: &'a [f32],
}

/// One forward call. `output` and `saved` hold garbage on entry and are written whole.
pub struct Forward<'a> {
    /// What convolutions multiply.
    pub products: Products,
    pub inputs: &'a [Tensor<'a>],
    pub output: &'a mut [f32],
    pub saved: &'a mut [f32],
    pub workspace: &'a mut [f32],
}

/// One backward call. `inputs[i].values` is empty where [`Memory::backward_inputs`] does not list
/// `i`, `output` is empty where backward does not read it.
pub struct Backward<'a> {
    /// What convolutions multiply.
    pub products: Products,
    pub inputs: &'a [Tensor<'a>],
    pub output: &'a [f32],
    /// The cotangent: dL/d(output).
    pub output_gradient: &'a [f32],
    pub saved: &'a [f32],
    pub workspace: &'a mut [f32],
    /// One an input; `None` where no gradient is wanted.
    pub gradients: Vec<Option<Gradient<'a>>>,
}

/// Where the gradient of one input goes. The first writer overwrites, later ones add.
pub struct Gradient<'a> {
    pub values: &'a mut [f32],
    pub add: bool,
}

/// A declared case of an op: shapes, contents and the length of its longest sum.
#[derive(Debug)]
pub struct Case {
    /// Unique within the op; the check is seeded by `op/name`.
    pub name: String,
    pub op: Box<dyn Op>,
    pub inputs: Vec<CaseInput>,
    /// The most terms that are added up for one value of the output or of a gradient: the
    /// tolerance grows with its square root.
    pub terms: usize,
}

#[derive(Clone, Debug)]
pub struct CaseInput {
    pub shape: Shape,
    pub fill: Fill,
}

/// How a case's input is filled.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    Normal {
        scale: f32,
    },
    Uniform {
        low: f32,
        high: f32,
    },
    /// For inputs with a structure, such as planes and sample points.
    With(fn(&mut Rng, &Shape) -> Vec<f32>),
}

impl CaseInput {
    pub fn normal(extents: &[usize]) -> Self {
        Self { shape: Shape::new(extents), fill: Fill::Normal { scale: 1.0 } }
    }

    pub fn values(&self, rng: &mut Rng) -> Vec<f32> {
        let n = self.shape.len();
        match self.fill {
            Fill::Normal { scale } => (0..n).map(|_| scale * rng.normal()).collect(),
            Fill::Uniform { low, high } => (0..n).map(|_| rng.range(low, high)).collect(),
            Fill::With(make) => make(rng, &self.shape),
        }
    }
}

impl Gradient<'_> {
    /// Writes or adds `value(i)` at every place.
    pub fn store(&mut self, value: impl Fn(usize) -> f32 + Sync) {
        use rayon::prelude::*;
        let add = self.add;
        self.values.par_chunks_mut(ELEMENTWISE_CHUNK).enumerate().for_each(|(chunk, values)| {
            for (i, slot) in values.iter_mut().enumerate() {
                let value = value(chunk * ELEMENTWISE_CHUNK + i);
                *slot = if add { *slot + value } else { value };
            }
        });
    }

    /// Copies or adds `from`.
    pub fn store_slice(&mut self, from: &[f32]) {
        use rayon::prelude::*;
        let add = self.add;
        let chunks = self.values.par_chunks_mut(ELEMENTWISE_CHUNK).zip(from.par_chunks(ELEMENTWISE_CHUNK));
        chunks.for_each(|(values, from)| match add {
            true => values.iter_mut().zip(from).for_each(|(slot, value)| *slot += value),
            false => values.copy_from_slice(from),
        });
    }

    /// Writes or adds `value(channel, inputs)` at every place, the inputs being what stands there in `from`, of which
    /// all have pixels of `channels` values.
    pub fn store_pixels<const N: usize>(
        &mut self,
        channels: usize,
        from: [&[f32]; N],
        value: impl Fn(usize, [f32; N]) -> f32 + Sync,
    ) {
        use rayon::prelude::*;
        let add = self.add;
        let chunk = (ELEMENTWISE_CHUNK / channels).max(1) * channels;
        self.values.par_chunks_mut(chunk).enumerate().for_each(|(index, values)| {
            let from = from.map(|from| &from[index * chunk..][..values.len()]);
            for start in (0..values.len()).step_by(channels) {
                for channel in 0..channels {
                    let value = value(channel, from.map(|from| from[start + channel]));
                    let slot = &mut values[start + channel];
                    *slot = if add { *slot + value } else { value };
                }
            }
        });
    }
}

/// Values a task of an element-wise pass: 64 KiB, a share of the L2 cache. A constant, so that
/// the result does not depend on the number of threads.
pub(crate) const ELEMENTWISE_CHUNK: usize = 1 << 14;
