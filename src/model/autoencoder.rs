//! The network: encoder and decoder over single views with shared weights, views as the batch.

use super::latent::LOG_VARIANCE;
use super::{Architecture, Bottleneck, LatentKind, LinearCode, Posterior, VIEWS};
use crate::cpu::arena::Arena;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::hexplane::{Planes, fill};
use crate::memory;
use crate::nn::{Builder, initialise};
use crate::ops::{Add, ScaleChannels, Sigmoid};
use crate::shape::Shape;
use crate::tape::{Graph, ParameterLayout, Value};
use std::borrow::Cow;

/// Factors on the learning rate. Adam moves every weight by about the learning rate a step whatever
/// its gradient; the patch convolutions of the linear path add up thousands of such moves, and a
/// latent of the leading component moves a whole patch, so that at the full rate the first steps
/// destroy the linear code that the network starts from.
const ENCODER_RATE: f32 = 0.1;
/// Of the linear path, times the values of its patch: the moves of all of them add up.
const LINEAR_RATE_PATCH: f32 = 20.0;

/// Where logits are decoded, the linear path's estimate x of a hit, and what is added to it, becomes the logit
/// 16 (x - 1/2): the logarithm of the odds of two Gaussians about 0 and 1 of deviation 1/4, of which the surface is
/// where it was. All before it keeps the units that its learning rates are tuned for. Measured as the cross entropy
/// after 200 steps on 18 heads (quick preset with 12 latent channels): 2.6e-3 at a gain of 4, 3.6e-4 at 8, 4.6e-5 at
/// 16, 3.2e-5 at 32; a higher one starts from more certain mistakes.
const LOGIT_GAIN: f32 = 16.0;

/// The factor for the patch convolutions of the linear path.
fn linear_rate(a: &Architecture) -> f32 {
    (LINEAR_RATE_PATCH / (a.patch * a.patch * a.channels) as f32).min(1.0)
}

/// Architecture, names and values of all parameters.
pub struct Autoencoder {
    pub architecture: Architecture,
    pub latent: Bottleneck,
    pub layout: ParameterLayout,
    pub parameters: Buffer,
}

/// The recorded values of one pass.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    /// Planes in, `[6B, N, N, channels]`.
    pub planes: Value,
    /// `[6B, s, s, latent_channels]`.
    pub latent: Value,
    /// Planes out, of the shape of `planes`; their logits where the network decodes these.
    pub decoded: Value,
}

impl Autoencoder {
    /// A network with random weights drawn from `seed`; with a linear code, its linear path starts
    /// as that code and everything else adds nothing at first.
    pub fn new(architecture: Architecture, seed: u64, code: Option<&LinearCode>) -> Result<Self> {
        Self::with_latent(architecture, Bottleneck::default(), seed, code)
    }

    /// The same with a latent of any kind.
    pub fn with_latent(
        architecture: Architecture,
        latent: Bottleneck,
        seed: u64,
        code: Option<&LinearCode>,
    ) -> Result<Self> {
        let mut model = Self { latent, ..Self::without_values(architecture)? };
        model.record_training(&mut Graph::default(), 1, 0)?;
        let remedy = match model.latent.kind {
            LatentKind::Categorical => "take fewer --classes or --groups, smaller widths or fewer blocks",
            _ => "take smaller widths or fewer blocks",
        };
        memory::require("the network", 4 * model.layout.len(), remedy)?;
        let mut values = Arena::zeros(model.layout.len());
        initialise(&model.layout, seed, values.as_mut_slice());
        model.parameters = Buffer::Cpu(values);
        let code = code.filter(|_| model.architecture.linear_path);
        if let Some(code) = code {
            model.set("encoder.linear.weight", &code.encoder_weight)?;
            model.set("encoder.linear.bias", &code.encoder_bias)?;
            model.set("decoder.linear.weight", &code.decoder_weight)?;
            let middle = if model.architecture.logits { 0.5 } else { 0.0 };
            let bias: Vec<f32> = code.decoder_bias.iter().map(|bias| bias - middle).collect();
            model.set("decoder.linear.bias", &bias)?;
        }
        model.initialise_latent(seed, code)?;
        Ok(model)
    }

    /// A network to record, whose layout fills with that and whose parameters have no memory.
    pub fn without_values(architecture: Architecture) -> Result<Self> {
        architecture.validate()?;
        let parameters = Buffer::Cpu(Arena::zeros(0));
        let (latent, layout) = (Bottleneck::default(), ParameterLayout::default());
        Ok(Self { architecture, latent, layout, parameters })
    }

    /// Overwrites one parameter, in the layout of the program.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let range = self.layout.get(name).range.clone();
        assert_eq!(range.len(), values.len(), "the values fill the parameter");
        self.parameters.load(range.start, values)
    }

    /// The network on `device`.
    pub fn on(mut self, device: &Device) -> Result<Self> {
        self.parameters = self.parameters.into_device(device, "the weights")?;
        Ok(self)
    }

    /// Learned values.
    pub fn parameter_count(&self) -> usize {
        self.layout.count()
    }

    /// Planes as the network sees them.
    pub fn seen<'a>(&self, planes: &'a Planes) -> Cow<'a, [f32]> {
        let mut values = Cow::Borrowed(&planes.values[..]);
        if self.architecture.fill_background {
            fill(values.to_mut(), planes.size);
        }
        values
    }

    /// What the network decoded as planes.
    pub fn shown(&self, planes: Planes) -> Planes {
        if self.architecture.fill_background { planes.emptied() } else { planes }
    }

    /// Records encoder and decoder for `meshes` meshes on `graph`.
    pub fn record(&mut self, graph: &mut Graph, meshes: usize) -> Result<Halves> {
        let planes = graph.input(self.planes_shape(meshes));
        let latent = self.record_encoder(graph, planes)?;
        let decoded = self.record_decoder(graph, latent)?;
        Ok(Halves { planes, latent, decoded })
    }

    pub fn planes_shape(&self, meshes: usize) -> Shape {
        let a = &self.architecture;
        Shape::new(&[VIEWS * meshes, a.planes, a.planes, a.channels])
    }

    /// Extents of the latent of one mesh.
    pub fn latent_extents(&self) -> [usize; 4] {
        let a = &self.architecture;
        [VIEWS, a.latent_size(), a.latent_size(), a.latent_channels]
    }

    pub fn latent_shape(&self, meshes: usize) -> Shape {
        let a = &self.architecture;
        Shape::new(&[VIEWS * meshes, a.latent_size(), a.latent_size(), a.latent_channels])
    }

    /// From planes to the latent that stands for them.
    pub fn record_encoder(&mut self, graph: &mut Graph, planes: Value) -> Result<Value> {
        let posterior = self.record_posterior(graph, planes)?;
        self.record_code(graph, posterior)
    }

    pub fn record_posterior(&mut self, graph: &mut Graph, planes: Value) -> Result<Posterior> {
        let a = self.architecture.clone();
        let mut b = Builder { graph, layout: &mut self.layout, rate: 1.0 };
        let mut x = b.conv("encoder.stem", planes, a.stem, a.stem, a.widths[0], false)?;
        for (level, &width) in a.widths.iter().enumerate() {
            if level > 0 {
                x = b.conv(&format!("encoder.{level}.down"), x, 2, 2, width, false)?;
            }
            if level + 1 == a.widths.len() && a.embedding {
                x = b.embedding("encoder.embedding", x, VIEWS)?;
            }
            for block in 0..a.encoder_blocks[level] {
                x = b.residual(&format!("encoder.{level}.block{block}"), x)?;
            }
        }
        if a.exchange {
            x = b.exchange("encoder.exchange", x, VIEWS)?;
        }
        x = b.norm("encoder.norm", x)?;
        let log_variance = match self.latent.kind {
            LatentKind::Gaussian => Some(b.conv(LOG_VARIANCE, x, 1, 1, a.latent_channels, true)?),
            _ => None,
        };
        b.rate = if a.linear_path { ENCODER_RATE } else { 1.0 };
        let mut mean = b.conv("encoder.out", x, 1, 1, a.latent_channels, a.linear_path)?;
        if a.linear_path {
            b.rate = linear_rate(&a);
            let linear = b.conv("encoder.linear", planes, a.patch, a.patch, a.latent_channels, false)?;
            mean = b.graph.apply(Add, &[linear, mean])?;
        }
        Ok(Posterior { mean, log_variance })
    }

    pub fn record_decoder(&mut self, graph: &mut Graph, latent: Value) -> Result<Value> {
        let a = self.architecture.clone();
        let mut b = Builder { graph, layout: &mut self.layout, rate: 1.0 };
        let top = a.widths.len() - 1;
        let mut x = b.conv("decoder.in", latent, 3, 1, a.widths[top], false)?;
        if a.embedding {
            x = b.embedding("decoder.embedding", x, VIEWS)?;
        }
        if a.exchange {
            x = b.exchange("decoder.exchange", x, VIEWS)?;
        }
        for level in (0..=top).rev() {
            for block in 0..a.decoder_blocks[level] {
                x = b.residual(&format!("decoder.{level}.block{block}"), x)?;
            }
            if level > 0 {
                x = b.conv_transpose(&format!("decoder.{level}.up"), x, 2, a.widths[level - 1], false)?;
            }
        }
        x = b.norm("decoder.norm", x)?;
        let decoded = b.conv_transpose("decoder.out", x, a.stem, a.channels, a.linear_path)?;
        if !a.linear_path {
            return Ok(decoded);
        }
        let factors = (0..a.channels).map(|channel| 1.0 / a.channel_scale(channel)).collect();
        let decoded = b.graph.apply(ScaleChannels { factors }, &[decoded])?;
        b.rate = linear_rate(&a);
        let linear = b.conv_transpose("decoder.linear", latent, a.patch, a.channels, false)?;
        let decoded = b.graph.apply(Add, &[linear, decoded])?;
        if !a.logits {
            return Ok(decoded);
        }
        b.graph.apply(ScaleChannels { factors: vec![LOGIT_GAIN; a.channels] }, &[decoded])
    }

    /// Records what decoded values say as planes: themselves, or the probabilities of logits.
    pub fn record_planes(&self, graph: &mut Graph, decoded: Value) -> Result<Value> {
        if self.architecture.logits { graph.apply(Sigmoid, &[decoded]) } else { Ok(decoded) }
    }
}
