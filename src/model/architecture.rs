//! The numbers that fix the shape of the network.

use crate::error::{Error, Result};
use crate::hexplane::Representation;
use crate::hexplane::rasterize::MAX_SIZE;
use serde::{Deserialize, Serialize};

/// Bounds that keep the products of sizes far from overflow; memory runs out long before.
const MOST_BLOCKS: usize = 64;
const MOST_CHANNELS: usize = 1 << 14;

/// Sizes of the autoencoder. The encoder's stem is a patch convolution of `stem` pixels to the
/// first width; each further width lies at half the resolution of the one before; the last one at
/// `patch` = stem * 2^(widths - 1) pixels a site, where the latent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Pixels along an edge of a plane.
    pub planes: usize,
    /// Values a pixel: 4 for continuous planes, 1 for binary ones.
    pub channels: usize,
    /// Pixels along an edge of the patch that one latent site stands for.
    pub patch: usize,
    /// In the linear code, depth counts this much more than a component of a normal, in amplitude.
    #[serde(default = "usual_depth_scale")]
    pub depth_scale: f32,
    /// Floats a latent site.
    pub latent_channels: usize,
    pub stem: usize,
    pub widths: Vec<usize>,
    /// Residual blocks at each width, on the way down and on the way up.
    pub encoder_blocks: Vec<usize>,
    pub decoder_blocks: Vec<usize>,
    /// A linear path (patch convolution in, patch transposed convolution out) beside the network.
    pub linear_path: bool,
    /// Learned per-view arrays at the latent's resolution.
    pub embedding: bool,
    /// The views of a mesh see each other's mean at the latent's resolution.
    pub exchange: bool,
    /// Of continuous planes: depth goes on behind the silhouettes in what the network sees and decodes ([`fill`](crate::hexplane::fill)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fill_background: bool,
    /// What is decoded are logits of hits; follows from the likelihood, and stands in no file.
    #[serde(skip)]
    pub logits: bool,
}

fn usual_depth_scale() -> f32 {
    super::DEPTH_SCALE
}

impl Architecture {
    /// The scale of a channel of continuous planes in the linear code.
    pub fn channel_scale(&self, channel: usize) -> f32 {
        if self.channels > 1 && channel == 0 { self.depth_scale } else { 1.0 }
    }

    /// What the planes hold.
    pub fn representation(&self) -> Representation {
        if self.channels == 1 { Representation::Binary } else { Representation::Continuous }
    }

    /// Values of the planes of one mesh.
    pub fn plane_values(&self) -> usize {
        super::VIEWS * self.planes * self.planes * self.channels
    }

    /// Sites along an edge of the latent.
    pub fn latent_size(&self) -> usize {
        self.planes / self.patch
    }

    /// Floats of the latent of one mesh, `[6, s, s, latent_channels]`.
    pub fn latent_floats(&self) -> usize {
        super::VIEWS * self.latent_size().pow(2) * self.latent_channels
    }

    /// Whether the numbers fit each other.
    pub fn validate(&self) -> Result<()> {
        let levels = self.widths.len();
        let problem = if levels == 0 || levels > 10 {
            format!("widths has {levels} entries, expected 1 to 10")
        } else if self.encoder_blocks.len() != levels || self.decoder_blocks.len() != levels {
            format!("encoder_blocks and decoder_blocks must have {levels} entries like widths")
        } else if self.encoder_blocks.iter().chain(&self.decoder_blocks).any(|&blocks| blocks > MOST_BLOCKS) {
            format!("encoder_blocks and decoder_blocks must be at most {MOST_BLOCKS}")
        } else if self.planes > MAX_SIZE {
            format!("planes is {}, expected at most {MAX_SIZE}", self.planes)
        } else if self.widths.iter().chain([&self.latent_channels]).any(|&width| width > MOST_CHANNELS) {
            format!("widths and latent_channels must be at most {MOST_CHANNELS}")
        } else if self.stem == 0 || self.patch != self.stem << (levels - 1) {
            format!("patch is {}, expected stem * 2^(widths - 1) = {}", self.patch, self.stem << (levels - 1))
        } else if self.planes == 0 || !self.planes.is_multiple_of(self.patch) {
            format!("planes is {}, expected a multiple of the patch, {}", self.planes, self.patch)
        } else if !(self.depth_scale > 0.0 && self.depth_scale.is_finite()) {
            format!("depth_scale is {}, expected a positive number", self.depth_scale)
        } else if self.fill_background && self.channels == 1 {
            "fill_background is for continuous planes: binary ones have no depth".to_string()
        } else if self.latent_channels == 0 || self.widths.contains(&0) {
            "latent_channels and widths must be positive".to_string()
        } else {
            return Ok(());
        };
        Err(Error::usage("architecture", problem, "correct the settings of the network"))
    }
}
