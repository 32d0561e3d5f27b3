//! Convolution of NHWC images with `[kernel height, kernel width, in, out]` weights, and its adjoints.
//!
//! All are products of gathered patches with a matrix (`blocks`): im2col without the columns. Those of 3 x 3 with
//! stride 1 and enough of everything go by minimal filtering instead (`winograd`).
//! Nothing allocates; the bits do not depend on the number of threads.

use super::blocks::{
    BLOCK, Matrix, Output, Patches, Placement, patches_by_matrix, patches_transposed_by_matrix,
    transposed_workspace_len, workspace_len,
};
use super::gemm::Kernel;
use super::shared::SharedSlice;
use super::simd;
use super::winograd::{self, Correlation, Finish};
use rayon::prelude::*;

/// The extents of a convolution. The kernel must fit into the padded image and the stride must not
/// be 0: the ops check that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub batch: usize,
    pub in_height: usize,
    pub in_width: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel_height: usize,
    pub kernel_width: usize,
    pub stride: usize,
    pub padding: usize,
}

impl ConvShape {
    pub fn out_height(&self) -> usize {
        (self.in_height + 2 * self.padding - self.kernel_height) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.in_width + 2 * self.padding - self.kernel_width) / self.stride + 1
    }

    /// Output pixels of the whole batch.
    pub fn out_pixels(&self) -> usize {
        self.batch * self.out_height() * self.out_width()
    }

    /// Terms of one output value: kernel height x kernel width x in channels.
    pub fn patch(&self) -> usize {
        self.kernel_height * self.kernel_width * self.in_channels
    }

    pub fn input_len(&self) -> usize {
        self.batch * self.in_height * self.in_width * self.in_channels
    }

    pub fn output_len(&self) -> usize {
        self.out_pixels() * self.out_channels
    }

    pub fn weight_len(&self) -> usize {
        self.patch() * self.out_channels
    }

    /// Floats of workspace for [`forward`].
    pub fn forward_workspace(&self) -> usize {
        product_workspace(self.correlation(), self.patch(), self.out_channels)
    }

    /// Floats of workspace for [`backward_data`]: a bias line, or the transposed weights, beside the scratch.
    pub fn backward_data_workspace(&self) -> usize {
        if self.tiles_exactly() {
            return self.patch() + product_workspace(None, self.out_channels, self.patch());
        }
        let taps = self.kernel_height.div_ceil(self.stride) * self.kernel_width.div_ceil(self.stride);
        self.weight_len() + product_workspace(self.adjoint(), taps * self.out_channels, self.in_channels)
    }

    /// Floats of workspace for [`backward_weight`].
    pub fn backward_weight_workspace(&self) -> usize {
        let kernel = Kernel::of(simd::level());
        match self.correlation() {
            Some(correlation) => winograd::weight_gradient_workspace(&kernel, &correlation),
            None => transposed_workspace_len(&kernel, self.patch(), self.out_channels, self.out_pixels()),
        }
    }

    /// The convolution as minimal filtering takes it, where that gains.
    fn correlation(&self) -> Option<Correlation> {
        let fits = self.kernel_height == 3 && self.kernel_width == 3 && self.stride == 1 && self.padding <= 2;
        let correlation = || Correlation {
            batch: self.batch,
            height: self.in_height,
            width: self.in_width,
            depth: self.in_channels,
            out_height: self.out_height(),
            out_width: self.out_width(),
            columns: self.out_channels,
            padding: self.padding,
        };
        fits.then(correlation).filter(Correlation::suits)
    }

    /// Its adjoint in x, likewise, with the weights turned over.
    fn adjoint(&self) -> Option<Correlation> {
        let forward = self.correlation()?;
        let adjoint = Correlation {
            height: forward.out_height,
            width: forward.out_width,
            depth: forward.columns,
            out_height: forward.height,
            out_width: forward.width,
            columns: forward.depth,
            padding: 2 - forward.padding,
            ..forward
        };
        Some(adjoint).filter(Correlation::suits)
    }

    /// The patches tile the image: every input value belongs to exactly one.
    pub(super) fn tiles_exactly(&self) -> bool {
        self.padding == 0
            && self.kernel_height == self.stride
            && self.kernel_width == self.stride
            && self.in_height.is_multiple_of(self.stride)
            && self.in_width.is_multiple_of(self.stride)
    }

    fn patches<'a>(&self, x: &'a [f32]) -> Patches<'a> {
        Patches {
            images: x,
            batch: self.batch,
            height: self.in_height,
            width: self.in_width,
            channels: self.in_channels,
            grid_height: self.out_height(),
            grid_width: self.out_width(),
            kernel_height: self.kernel_height,
            kernel_width: self.kernel_width,
            stride: self.stride,
            top: self.padding as isize,
            left: self.padding as isize,
        }
    }
}

/// Floats of workspace for a product, by minimal filtering or directly with a matrix of `depth` x `columns`.
fn product_workspace(correlation: Option<Correlation>, depth: usize, columns: usize) -> usize {
    match correlation {
        Some(s) => winograd::workspace_len(&Kernel::of(simd::level()), &s),
        None => workspace_len(depth, columns),
    }
}

/// y = x * w + bias: x `[batch, in height, in width, in]`, w `[kernel height, kernel width, in, out]`,
/// bias `[out]`, y `[batch, out height, out width, out]`.
pub fn forward(
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    workspace: &mut [f32],
) {
    forward_into(shape, x, w, bias, y, false, workspace);
}

/// [`forward`] that adds to y where `add` says so: the gradient of a transposed convolution.
pub fn forward_into(
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    add: bool,
    workspace: &mut [f32],
) {
    forward_with(&Kernel::of(simd::level()), shape, x, w, (bias, add), y, workspace);
}

fn forward_with(
    kernel: &Kernel,
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    (bias, add): (Option<&[f32]>, bool),
    y: &mut [f32],
    workspace: &mut [f32],
) {
    if let Some(correlation) = shape.correlation() {
        return winograd::correlate(kernel, &correlation, x, w, y, Finish { bias, add }, workspace);
    }
    let output =
        Output { values: SharedSlice::new(y), placement: Placement::dense(shape.out_channels), bias, add };
    let weights = Matrix { values: w, columns: shape.out_channels, transposed: false };
    patches_by_matrix(kernel, &shape.patches(x), weights, &output, workspace);
}

/// dx = or += the adjoint of [`forward`] in x, applied to dy; with `bias` `[in]` added to every pixel
/// it is the transposed convolution.
pub fn backward_data(
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    dx: &mut [f32],
    add: bool,
    workspace: &mut [f32],
) {
    backward_data_with(&Kernel::of(simd::level()), shape, dy, w, (bias, add), dx, workspace);
}

fn backward_data_with(
    kernel: &Kernel,
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    (bias, add): (Option<&[f32]>, bool),
    dx: &mut [f32],
    workspace: &mut [f32],
) {
    if shape.tiles_exactly() {
        return whole_tiles(kernel, shape, dy, w, (bias, add), dx, workspace);
    }
    let (transposed, scratch) = workspace.split_at_mut(shape.weight_len());
    if let Some(adjoint) = shape.adjoint() {
        gather_weights(shape, w, (0, shape.kernel_height), (0, shape.kernel_width), transposed);
        return winograd::correlate(kernel, &adjoint, dy, transposed, dx, Finish { bias, add }, scratch);
    }
    let values = SharedSlice::new(dx);
    let mut output = Output { values, placement: Placement::dense(1), bias, add };
    let mut rest = transposed;
    for row in 0..shape.stride {
        let rows = Taps::of_residue(row, shape, shape.kernel_height, shape.in_height);
        for column in 0..shape.stride {
            let columns = Taps::of_residue(column, shape, shape.kernel_width, shape.in_width);
            let taps = rows.taps * columns.taps;
            let (weights, others) = rest.split_at_mut(taps * shape.in_channels * shape.out_channels);
            rest = others;
            gather_weights(shape, w, (row, rows.taps), (column, columns.taps), weights);
            output.placement = residue_placement(shape, &rows, &columns);
            let matrix = Matrix { values: weights, columns: shape.in_channels, transposed: false };
            let patches = gradient_patches(shape, dy, (rows, columns));
            patches_by_matrix(kernel, &patches, matrix, &output, scratch);
        }
    }
}

/// [`backward_data`] where every row of the product is a whole patch of dx.
fn whole_tiles(
    kernel: &Kernel,
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    (bias, add): (Option<&[f32]>, bool),
    dx: &mut [f32],
    workspace: &mut [f32],
) {
    let (bias_line, scratch) = workspace.split_at_mut(shape.patch());
    let bias = bias.map(|bias| {
        bias_line.chunks_exact_mut(bias.len()).for_each(|line| line.copy_from_slice(bias));
        &*bias_line
    });
    let output = Output { values: SharedSlice::new(dx), placement: tile_placement(shape), bias, add };
    let matrix = Matrix { values: w, columns: shape.patch(), transposed: true };
    let pixels = gradient_patches(shape, dy, (Taps::ONE, Taps::ONE));
    patches_by_matrix(kernel, &pixels, matrix, &output, scratch);
}

/// Along one axis: the input places i with (i + padding) % stride == residue see the taps
/// residue, residue + stride, ... of the kernel, and so a stride-1 correlation of dy.
#[derive(Clone, Copy)]
struct Taps {
    /// How many taps.
    taps: usize,
    /// The first such i.
    first: usize,
    /// How many such i there are.
    count: usize,
    /// The patch of the first i begins at -before in dy.
    before: isize,
}

impl Taps {
    /// One tap on each pixel of dy; `count` is set by the caller's grid.
    const ONE: Self = Self { taps: 1, first: 0, count: 0, before: 0 };

    fn of_residue(residue: usize, shape: &ConvShape, kernel: usize, extent: usize) -> Self {
        let stride = shape.stride;
        let taps = kernel.saturating_sub(residue).div_ceil(stride);
        let first = (residue + stride - shape.padding % stride) % stride;
        let quotient = (first + shape.padding) / stride;
        let count = extent.saturating_sub(first).div_ceil(stride);
        Self { taps, first, count, before: taps as isize - 1 - quotient as isize }
    }
}

fn gradient_patches<'a>(shape: &ConvShape, dy: &'a [f32], (rows, columns): (Taps, Taps)) -> Patches<'a> {
    let whole = shape.tiles_exactly();
    Patches {
        images: dy,
        batch: shape.batch,
        height: shape.out_height(),
        width: shape.out_width(),
        channels: shape.out_channels,
        grid_height: if whole { shape.out_height() } else { rows.count },
        grid_width: if whole { shape.out_width() } else { columns.count },
        kernel_height: rows.taps,
        kernel_width: columns.taps,
        stride: 1,
        top: rows.before,
        left: columns.before,
    }
}

/// A row of the product is a whole patch of dx: its kernel rows lie an image row apart.
fn tile_placement(shape: &ConvShape) -> Placement {
    let image_row = shape.in_width * shape.in_channels;
    Placement {
        grid_height: shape.out_height(),
        grid_width: shape.out_width(),
        origin: 0,
        image: shape.in_height * image_row,
        row: shape.stride * image_row,
        column: shape.stride * shape.in_channels,
        segment: shape.kernel_width * shape.in_channels,
        segment_pitch: image_row,
    }
}

/// A row of the product is a pixel of dx; the pixels of a residue lie a stride apart.
fn residue_placement(shape: &ConvShape, rows: &Taps, columns: &Taps) -> Placement {
    let image_row = shape.in_width * shape.in_channels;
    Placement {
        grid_height: rows.count,
        grid_width: columns.count,
        origin: rows.first * image_row + columns.first * shape.in_channels,
        image: shape.in_height * image_row,
        row: shape.stride * image_row,
        column: shape.stride * shape.in_channels,
        segment: shape.in_channels,
        segment_pitch: 0,
    }
}

/// The weights of a residue: `[taps high][taps wide][out][in]`, the taps in reverse.
fn gather_weights(
    shape: &ConvShape,
    w: &[f32],
    (row, rows): (usize, usize),
    (column, columns): (usize, usize),
    weights: &mut [f32],
) {
    let tap_len = shape.in_channels * shape.out_channels;
    weights.par_chunks_mut(tap_len.max(1)).enumerate().for_each(|(tap, weights)| {
        let (i, j) = (tap / columns, tap % columns);
        let kernel_row = row + shape.stride * (rows - 1 - i);
        let kernel_column = column + shape.stride * (columns - 1 - j);
        let start = (kernel_row * shape.kernel_width + kernel_column) * tap_len;
        transpose(&w[start..start + tap_len], shape.out_channels, weights);
    });
}

/// `to` `[columns][rows]` = `from` `[rows][columns]` transposed.
fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    let rows = from.len() / columns.max(1);
    to.par_chunks_mut((rows * BLOCK).max(1)).enumerate().for_each(|(block, to)| {
        transpose_columns(from, columns, block * BLOCK, to, rows);
    });
}

/// `to` = the columns of `from` from `first` on, each a line of `rows` values.
fn transpose_columns(from: &[f32], columns: usize, first: usize, to: &mut [f32], rows: usize) {
    let lines = to.len() / rows.max(1);
    for start in (0..rows).step_by(BLOCK) {
        let end = rows.min(start + BLOCK);
        for line in 0..lines {
            let to = &mut to[line * rows + start..line * rows + end];
            for (to, from) in to.iter_mut().zip(from[start * columns..].chunks(columns)) {
                *to = from[first + line];
            }
        }
    }
}

/// dw = or += the adjoint of [`forward`] in w, applied to dy.
pub fn backward_weight(
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    add: bool,
    workspace: &mut [f32],
) {
    let kernel = Kernel::of(simd::level());
    if let Some(correlation) = shape.correlation() {
        return winograd::weight_gradient(&kernel, &correlation, x, dy, dw, add, workspace);
    }
    let gradient = Matrix { values: dy, columns: shape.out_channels, transposed: false };
    patches_transposed_by_matrix(&kernel, &shape.patches(x), gradient, dw, add, workspace);
}

/// Values of a chunk of [`backward_bias`], short enough for plain f32 sums.
const BIAS_CHUNK: usize = 1 << 14;
/// Pixels of a chunk at most, for the same reason.
const BIAS_PIXELS: usize = 1 << 9;

fn bias_chunk_pixels(channels: usize) -> usize {
    (BIAS_CHUNK / channels.max(1)).clamp(1, BIAS_PIXELS)
}

/// Floats of workspace for [`backward_bias`] over `len` values.
pub fn backward_bias_workspace(len: usize, channels: usize) -> usize {
    len.div_ceil(bias_chunk_pixels(channels) * channels.max(1)) * channels
}

/// db = or += the sum of dy over all pixels, `[channels]`.
pub fn backward_bias(dy: &[f32], channels: usize, db: &mut [f32], add: bool, workspace: &mut [f32]) {
    if channels == 0 {
        return;
    }
    let partial = &mut workspace[..backward_bias_workspace(dy.len(), channels)];
    dy.par_chunks(bias_chunk_pixels(channels) * channels)
        .zip(partial.par_chunks_exact_mut(channels))
        .for_each(|(dy, sums)| simd::dispatch(|| sum_pixels(dy, sums)));
    for (channel, db) in db.iter_mut().enumerate() {
        let sum: f64 = partial.iter().skip(channel).step_by(channels).map(|&s| f64::from(s)).sum();
        *db = sum as f32 + if add { *db } else { 0.0 };
    }
}

/// Sums over pixels. Few channels are summed as wide lines of several pixels, then folded.
#[inline]
fn sum_pixels(dy: &[f32], sums: &mut [f32]) {
    const WIDE: usize = 64;
    sums.fill(0.0);
    let channels = sums.len();
    if WIDE.is_multiple_of(channels) {
        let mut wide = [0.0f32; WIDE];
        let (lines, rest) = dy.as_chunks::<WIDE>();
        for line in lines {
            wide.iter_mut().zip(line).for_each(|(w, d)| *w += d);
        }
        for pixel in wide.chunks_exact(channels).chain(rest.chunks_exact(channels)) {
            sums.iter_mut().zip(pixel).for_each(|(s, d)| *s += d);
        }
    } else {
        for pixel in dy.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(s, d)| *s += d);
        }
    }
}

#[cfg(test)]
#[path = "conv_tests.rs"]
mod tests;
