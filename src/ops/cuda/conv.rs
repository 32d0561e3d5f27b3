//! Launches of the convolution kernels, which `conv2d` and `conv_transpose2d` share: their three products (output
//! from input, input from output, weights from both) are the same, in another order.

use super::tile::{self, Precise, Product, Tile};
use super::{Gradient, Source, Target};
use crate::cpu::conv::ConvShape;
use crate::cuda::{Launch, Precision, Queue, Read, Write, int};
use crate::error::Result;

/// Images and weights to images: `(x, w, bias, y)`.
pub type ForwardKernel = fn(
    &Queue,
    Launch,
    Read<f32>,
    Read<f32>,
    Read<f32>,
    Write<f32>,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
) -> Result<()>;

/// The same of 2-byte arrays; whether `y` lies in floats comes before the extents.
pub type NarrowForwardKernel = fn(
    &Queue,
    Launch,
    Read<u16>,
    Read<u16>,
    Read<f32>,
    Write<u16>,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
) -> Result<()>;

/// The gradient of the images: `(dy, w, dx)`, then extents, then add.
pub type InputKernel = fn(
    &Queue,
    Launch,
    Read<f32>,
    Read<f32>,
    Write<f32>,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
) -> Result<()>;

/// The same of 2-byte arrays; whether `dx` lies in floats comes before the extents.
pub type NarrowInputKernel = fn(
    &Queue,
    Launch,
    Read<u16>,
    Read<u16>,
    Write<u16>,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
) -> Result<()>;

/// Parts of the gradient of the weights: `(x, dy, partial)`.
pub type WeightKernel = fn(
    &Queue,
    Launch,
    Read<f32>,
    Read<f32>,
    Write<f32>,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
) -> Result<()>;

/// The same of 2-byte arrays.
pub type NarrowWeightKernel = fn(
    &Queue,
    Launch,
    Read<u16>,
    Read<u16>,
    Write<f32>,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
    i32,
) -> Result<()>;

/// Tiles for one product, the largest first, by kernels K of fp32 arrays and N of 2-byte ones; the last takes any
/// channels, the others whole pieces of 16 bytes.
pub struct Tiles<K: 'static, N: 'static> {
    pub tf32: [Tile<K>; 3],
    pub bf16: [Tile<N>; 2],
    pub fp16: [Tile<N>; 2],
    pub fp32: [Tile<K>; 2],
}

/// A kernel of one kind or the other.
pub enum Chosen<K, N> {
    Wide(K),
    Narrow(N),
}

impl Chosen<ForwardKernel, NarrowForwardKernel> {
    /// Queues y = the product of two factors, plus bias; `e` as [`extents`] gives them.
    pub fn run(
        self,
        queue: &Queue,
        launch: Launch,
        [x, w]: [Source; 2],
        bias: Read<f32>,
        y: Target,
        e: [i32; 11],
    ) -> Result<()> {
        let [b, h, v, i, oh, ov, o, kh, kw, s, p] = e;
        match self {
            Self::Wide(run) => {
                let (x, w, y) = (x.wide(), w.wide(), y.wide());
                run(queue, launch, x, w, bias, y, b, h, v, i, oh, ov, o, kh, kw, s, p)
            }
            Self::Narrow(run) => {
                let (x, w, (y, wide)) = (x.narrow(), w.narrow(), y.either());
                run(queue, launch, x, w, bias, y, wide, b, h, v, i, oh, ov, o, kh, kw, s, p)
            }
        }
    }
}

impl Chosen<InputKernel, NarrowInputKernel> {
    /// Queues dx = or += the product of two factors.
    pub fn run(
        self,
        queue: &Queue,
        launch: Launch,
        [dy, w]: [Source; 2],
        dx: Gradient,
        e: [i32; 11],
    ) -> Result<()> {
        let [b, h, v, i, oh, ov, o, kh, kw, s, p] = e;
        match self {
            Self::Wide(run) => {
                let (dy, w, to) = (dy.wide(), w.wide(), dx.values.wide());
                run(queue, launch, dy, w, to, b, h, v, i, oh, ov, o, kh, kw, s, p, dx.add())
            }
            Self::Narrow(run) => {
                let (dy, w, (to, wide)) = (dy.narrow(), w.narrow(), dx.values.either());
                run(queue, launch, dy, w, to, wide, b, h, v, i, oh, ov, o, kh, kw, s, p, dx.add())
            }
        }
    }
}

impl Chosen<WeightKernel, NarrowWeightKernel> {
    /// Queues the parts of the gradient of the weights.
    pub fn run(
        self,
        queue: &Queue,
        launch: Launch,
        [x, dy]: [Source; 2],
        partial: Write<f32>,
        e: [i32; 11],
    ) -> Result<()> {
        let [b, h, v, i, oh, ov, o, kh, kw, s, p] = e;
        match self {
            Self::Wide(run) => {
                let (x, dy) = (x.wide(), dy.wide());
                run(queue, launch, x, dy, partial, b, h, v, i, oh, ov, o, kh, kw, s, p)
            }
            Self::Narrow(run) => {
                let (x, dy) = (x.narrow(), dy.narrow());
                run(queue, launch, x, dy, partial, b, h, v, i, oh, ov, o, kh, kw, s, p)
            }
        }
    }
}

/// The tiles of a product: the kernels of a module, whose names may have a prefix.
macro_rules! tiles {
    ($module:ident, $tf32l:ident, $tf32m:ident, $tf32s:ident, $bf16l:ident, $bf16s:ident, $fp16l:ident, $fp16s:ident,
     $fp32m:ident, $fp32s:ident) => {
        Tiles {
            tf32: [
                $crate::ops::cuda::tile::Tile::new([128, 128], 256, 0.8, kernels::$module::$tf32l),
                $crate::ops::cuda::tile::Tile::new([128, 64], 256, 0.7, kernels::$module::$tf32m),
                $crate::ops::cuda::tile::Tile::new([64, 64], 128, 0.55, kernels::$module::$tf32s),
            ],
            bf16: [
                $crate::ops::cuda::tile::Tile::new([128, 128], 256, 0.75, kernels::$module::$bf16l),
                $crate::ops::cuda::tile::Tile::new([64, 64], 128, 0.5, kernels::$module::$bf16s),
            ],
            fp16: [
                $crate::ops::cuda::tile::Tile::new([128, 128], 256, 0.75, kernels::$module::$fp16l),
                $crate::ops::cuda::tile::Tile::new([64, 64], 128, 0.5, kernels::$module::$fp16s),
            ],
            fp32: [
                $crate::ops::cuda::tile::Tile::new([128, 64], 256, 0.6, kernels::$module::$fp32m),
                $crate::ops::cuda::tile::Tile::new([64, 64], 128, 0.5, kernels::$module::$fp32s),
            ],
        }
    };
}
pub(in crate::ops) use tiles;

/// Blocks a multiprocessor that add up the gradient of a bias.
const BIAS_BLOCKS: usize = 6;

/// The least pixels of a part of the weights' gradient.
const LEAST_PIXELS: usize = 512;

/// Pixels that a block of the bias gradient adds up, at least.
const BIAS_PIXELS: usize = 64;

/// A chosen kernel, the threads of its blocks, how many tiles there are, and into how many parts the depth is split.
struct Choice<K, N> {
    kernel: Chosen<K, N>,
    threads: u32,
    count: usize,
    splits: usize,
}

/// A convolution on one card.
pub struct Conv<'a> {
    pub shape: &'a ConvShape,
    pub precision: Precision,
    pub multiprocessors: usize,
}

impl<'a> Conv<'a> {
    pub fn new(queue: &Queue, shape: &'a ConvShape) -> Self {
        let multiprocessors = queue.context().card.multiprocessors;
        Self { shape, precision: queue.precision(), multiprocessors }
    }

    /// Channels in whole pieces of 16 bytes.
    fn whole(&self) -> bool {
        let piece = match self.precision {
            Precision::Tf32 | Precision::Fp32 => 4,
            Precision::Bf16 | Precision::Fp16 => 8,
        };
        self.shape.in_channels.is_multiple_of(piece) && self.shape.out_channels.is_multiple_of(piece)
    }

    /// Output pixels by output channels; the depth is the patch.
    pub fn output(&self) -> Product {
        let s = self.shape;
        Product { rows: s.out_pixels(), columns: s.out_channels, depth: s.patch(), most_splits: 1 }
    }

    /// Cells of stride x stride input pixels by what they hold; the depth is the taps that meet a pixel.
    pub fn input(&self) -> Product {
        let s = self.shape;
        let cells = |n: usize| (n - 1 + s.padding) / s.stride - s.padding / s.stride + 1;
        Product {
            rows: s.batch * cells(s.in_height) * cells(s.in_width),
            columns: s.stride * s.stride * s.in_channels,
            depth: s.kernel_height.div_ceil(s.stride) * s.kernel_width.div_ceil(s.stride) * s.out_channels,
            most_splits: 1,
        }
    }

    /// The patch by output channels; the depth is the output pixels, which may be split.
    fn weights(&self) -> Product {
        let (s, depth) = (self.shape, self.shape.out_pixels());
        let most_splits = depth.div_ceil(LEAST_PIXELS).max(1);
        Product { rows: s.patch(), columns: s.out_channels, depth, most_splits }
    }

    fn choose<K: Copy, N: Copy>(&self, tiles: &Tiles<K, N>, product: Product) -> Choice<K, N> {
        let on = Precise { precision: self.precision, multiprocessors: self.multiprocessors };
        let whole = self.whole();
        let wide = |tiles: &[Tile<K>]| {
            let (tile, splits) = tile::choose(tiles, product, whole, on);
            let (threads, count) = (tile.threads, product.tiles(tile));
            Choice { kernel: Chosen::Wide(tile.kernel), threads, count, splits }
        };
        let narrow = |tiles: &[Tile<N>]| {
            let (tile, splits) = tile::choose(tiles, product, whole, on);
            let (threads, count) = (tile.threads, product.tiles(tile));
            Choice { kernel: Chosen::Narrow(tile.kernel), threads, count, splits }
        };
        match self.precision {
            Precision::Tf32 => wide(&tiles.tf32),
            Precision::Fp32 => wide(&tiles.fp32),
            Precision::Bf16 => narrow(&tiles.bf16),
            Precision::Fp16 => narrow(&tiles.fp16),
        }
    }

    /// The kernel for a product of the images, with its launch.
    pub fn product<K: Copy, N: Copy>(&self, tiles: &Tiles<K, N>, product: Product) -> (Chosen<K, N>, Launch) {
        let choice = self.choose(tiles, product);
        (choice.kernel, Launch::blocks(choice.count, choice.threads))
    }

    /// Floats for the parts of the gradients of weights and bias.
    pub fn workspace<K: Copy, N: Copy>(
        &self,
        tiles: &Tiles<K, N>,
        bias_pixels: usize,
        channels: usize,
    ) -> usize {
        let weights = self.choose(tiles, self.weights()).splits * self.shape.weight_len();
        weights.max(self.bias_chunks(bias_pixels) * channels)
    }

    fn bias_chunks(&self, pixels: usize) -> usize {
        pixels.div_ceil(BIAS_PIXELS).clamp(1, BIAS_BLOCKS * self.multiprocessors)
    }

    /// The kernel for the gradient of the weights, with its launch and parts.
    pub fn weight_product<K: Copy, N: Copy>(&self, tiles: &Tiles<K, N>) -> (Chosen<K, N>, Launch, usize) {
        let choice = self.choose(tiles, self.weights());
        let launch = Launch::blocks(choice.count, choice.threads).over(1, choice.splits);
        (choice.kernel, launch, choice.splits)
    }

    /// Launch and chunks of the sums over `pixels` of `channels`.
    pub fn bias_launch(&self, pixels: usize, channels: usize) -> (Launch, usize) {
        let chunks = self.bias_chunks(pixels);
        let grid = [chunks as u32, channels.div_ceil(256) as u32, 1];
        (Launch { grid, block: [256, 1, 1], shared: 0 }, chunks)
    }
}

/// The eleven extents that every kernel takes: batch, the image that the op reads, the one that it writes, taps,
/// stride, padding.
pub fn extents(s: &ConvShape, transposed: bool) -> Result<[i32; 11]> {
    let from = [s.in_height, s.in_width, s.in_channels];
    let to = [s.out_height(), s.out_width(), s.out_channels];
    let ([h, w, c], [oh, ow, oc]) = if transposed { (to, from) } else { (from, to) };
    int(s.input_len().max(s.output_len()))?;
    let all = [s.batch, h, w, c, oh, ow, oc, s.kernel_height, s.kernel_width, s.stride, s.padding];
    let mut found = [0; 11];
    for (slot, value) in found.iter_mut().zip(all) {
        *slot = int(value)?;
    }
    Ok(found)
}
