//! Layers: composites of ops with named parameters.

use crate::error::Result;
use crate::ops::{Add, AddEmbedding, Conv2d, ConvTranspose2d, GroupNorm, ViewMean};
use crate::shape::Shape;
use crate::tape::{Graph, ParameterLayout, Role, Value};

/// Channels a group of the group normalisation (Wu & He, ECCV 2018, use 16 to 32 groups at 256
/// channels).
const CHANNELS_A_GROUP: usize = 16;

/// Records layers on a graph. Parameters are made at their first use and shared by name later, so
/// that the encoder alone, the decoder alone and the whole network are graphs over one layout.
pub struct Builder<'a> {
    pub graph: &'a mut Graph,
    pub layout: &'a mut ParameterLayout,
    /// Factor on the learning rate of the parameters that are made next.
    pub rate: f32,
}

impl Builder<'_> {
    /// An array that is learned, as it is.
    pub fn parameter(&mut self, name: &str, extents: &[usize], role: Role, zero: bool) -> Value {
        if !self.layout.contains(name) {
            self.layout.add(name, Shape::new(extents), role, zero, self.rate);
        }
        self.graph.parameter(self.layout, name)
    }

    fn channels(&self, x: Value) -> usize {
        self.graph.shape(x).extents()[3]
    }

    /// Square convolution with bias; "same" padding for stride 1, none otherwise.
    pub fn conv(
        &mut self,
        name: &str,
        x: Value,
        kernel: usize,
        stride: usize,
        out: usize,
        zero: bool,
    ) -> Result<Value> {
        let shape = [kernel, kernel, self.channels(x), out];
        let weight = self.parameter(&format!("{name}.weight"), &shape, Role::Conv, zero);
        let bias = self.parameter(&format!("{name}.bias"), &[out], Role::Bias, true);
        let padding = if stride == 1 { kernel / 2 } else { 0 };
        self.graph.apply(Conv2d { stride, padding }, &[x, weight, bias])
    }

    /// Patch transposed convolution (stride = kernel) with bias.
    pub fn conv_transpose(
        &mut self,
        name: &str,
        x: Value,
        stride: usize,
        out: usize,
        zero: bool,
    ) -> Result<Value> {
        let shape = [stride, stride, out, self.channels(x)];
        let weight = self.parameter(&format!("{name}.weight"), &shape, Role::ConvTranspose, zero);
        let bias = self.parameter(&format!("{name}.bias"), &[out], Role::Bias, true);
        self.graph.apply(ConvTranspose2d { stride, padding: 0 }, &[x, weight, bias])
    }

    /// Group normalisation and SiLU.
    pub fn norm(&mut self, name: &str, x: Value) -> Result<Value> {
        let channels = self.channels(x);
        let groups = groups(channels);
        let scale = self.parameter(&format!("{name}.weight"), &[channels], Role::Scale, false);
        let shift = self.parameter(&format!("{name}.bias"), &[channels], Role::Bias, true);
        self.graph.apply(GroupNorm { groups, silu: true }, &[x, scale, shift])
    }

    /// x + conv3x3(norm(conv3x3(norm(x)))): the pre-activation residual block (He et al., ECCV
    /// 2016); the last convolution starts at zero, so that the block starts as the identity.
    pub fn residual(&mut self, name: &str, x: Value) -> Result<Value> {
        let channels = self.channels(x);
        let mut branch = x;
        for (part, zero) in [(1, false), (2, true)] {
            branch = self.norm(&format!("{name}.norm{part}"), branch)?;
            branch = self.conv(&format!("{name}.conv{part}"), branch, 3, 1, channels, zero)?;
        }
        self.graph.apply(Add, &[x, branch])
    }

    /// A learned array for each of `views` images, added to x.
    pub fn embedding(&mut self, name: &str, x: Value, views: usize) -> Result<Value> {
        let extents = self.graph.shape(x);
        let [_, height, width, channels] = [0, 1, 2, 3].map(|i| extents.extents()[i]);
        let e = self.parameter(name, &[views, height, width, channels], Role::Embedding, true);
        self.graph.apply(AddEmbedding, &[x, e])
    }

    /// x + conv1x1(norm(mean over the views of x)); starts as the identity.
    pub fn exchange(&mut self, name: &str, x: Value, views: usize) -> Result<Value> {
        let channels = self.channels(x);
        let normed = self.norm(&format!("{name}.norm"), x)?;
        let mean = self.graph.apply(ViewMean { views }, &[normed])?;
        let branch = self.conv(&format!("{name}.conv"), mean, 1, 1, channels, true)?;
        self.graph.apply(Add, &[x, branch])
    }
}

/// As many groups of [`CHANNELS_A_GROUP`] as divide the channels evenly.
fn groups(channels: usize) -> usize {
    (1..=channels / CHANNELS_A_GROUP).rev().find(|groups| channels.is_multiple_of(*groups)).unwrap_or(1)
}
