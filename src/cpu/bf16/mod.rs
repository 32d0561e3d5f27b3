//! Convolutions whose products are those of values in bf16, with sums in fp32: on processors with AMX many times as
//! fast as in fp32. What is read and written lies in fp32; rounding is a part of laying the factors out (`lines`).
//!
//! It takes what shifts of a grid can say: convolutions of stride 1, and those whose patches tile the image, where a
//! patch is one place of the grid. Others go the way of [`super::conv`]. As there, the division into tasks
//! depends on shapes alone and every sum has one order.
//!
//! What reads or writes the planes themselves multiplies them in fp32: bf16 tells depths 1/256 apart, and the linear path
//! passes them on as they are. Measured in `docs/performance.md`; gradients of their weights are sums of many places,
//! and do well in bf16.

mod lines;
mod product;
#[cfg(test)]
mod tests;
mod tiles;
mod weight_gradient;

pub use tiles::{available, means};

use super::conv::ConvShape;
use super::shared::SharedSlice;
use lines::{Images, Matrix};
use product::{Product, Target};
use tiles::Kernel;
use weight_gradient::WeightGradient;

/// Images of at most so many channels are planes: depth and a normal, or less.
const PLANES: usize = 4;

/// A convolution that goes this way.
struct Grid<'s> {
    shape: &'s ConvShape,
    /// Pixels along a side of a place of the input's grid.
    square: usize,
}

impl<'s> Grid<'s> {
    fn of(shape: &'s ConvShape) -> Option<Self> {
        let s = shape;
        let shifts = s.stride == 1 && s.kernel_height == s.kernel_width && s.padding < s.kernel_height;
        if s.batch * s.in_channels * s.out_channels == 0 || !(shifts || s.tiles_exactly()) {
            return None;
        }
        Some(Self { shape, square: if shifts { 1 } else { s.stride } })
    }

    /// The same, unless it reads or writes planes.
    fn beyond_planes(shape: &'s ConvShape) -> Option<Self> {
        Self::of(shape).filter(|grid| grid.shape.in_channels > PLANES)
    }

    /// Taps of the grid, high and wide.
    fn taps(&self) -> [usize; 2] {
        let s = self.shape;
        if self.square == 1 { [s.kernel_height, s.kernel_width] } else { [1, 1] }
    }

    /// The input's images in their grid.
    fn input<'a>(&self, x: &'a [f32]) -> Images<'a> {
        let s = self.shape;
        let (height, width) = (s.in_height / self.square, s.in_width / self.square);
        Images {
            values: x,
            batch: s.batch,
            height,
            width,
            square: self.square,
            channels: s.in_channels,
            line: width + s.padding,
            lines: height + s.padding,
            padding: s.padding,
        }
    }

    /// The output's images in a grid with that many places of zeros before them.
    fn output<'a>(&self, y: &'a [f32], padding: usize) -> Images<'a> {
        let s = self.shape;
        Images {
            values: y,
            batch: s.batch,
            height: s.out_height(),
            width: s.out_width(),
            square: 1,
            channels: s.out_channels,
            line: s.out_width() + padding,
            lines: s.out_height() + padding,
            padding,
        }
    }

    fn forward<'a>(&self, x: &'a [f32], w: &'a [f32]) -> Product<'a> {
        let (s, images, taps) = (self.shape, self.input(x), self.taps());
        let matrix = Matrix {
            values: w,
            taps: taps[0] * taps[1],
            depth: images.depth(),
            columns: s.out_channels,
            adjoint: false,
        };
        Product { images, taps, matrix, out_height: s.out_height(), out_width: s.out_width() }
    }

    fn backward_data<'a>(&self, dy: &'a [f32], w: &'a [f32]) -> Product<'a> {
        let (s, taps) = (self.shape, self.taps());
        let images = self.output(dy, taps[0] - 1 - s.padding);
        let columns = self.square * self.square * s.in_channels;
        let matrix =
            Matrix { values: w, taps: taps[0] * taps[1], depth: s.out_channels, columns, adjoint: true };
        let (out_height, out_width) = (s.in_height / self.square, s.in_width / self.square);
        Product { images, taps, matrix, out_height, out_width }
    }

    fn backward_weight<'a>(&self, x: &'a [f32], dy: &'a [f32]) -> WeightGradient<'a> {
        let images = self.input(x);
        // In the lines of the input's grid, so that a place is a place in both.
        let gradients = Images { line: images.line, lines: images.lines, ..self.output(dy, 0) };
        WeightGradient { images, gradients, taps: self.taps() }
    }
}

/// Floats of workspace for [`forward`]; `None` where the convolution does not go this way.
pub fn forward_workspace(shape: &ConvShape) -> Option<usize> {
    Some(Grid::beyond_planes(shape)?.forward(&[], &[]).workspace())
}

/// Likewise for [`backward_data`].
pub fn backward_data_workspace(shape: &ConvShape) -> Option<usize> {
    Some(Grid::beyond_planes(shape)?.backward_data(&[], &[]).workspace())
}

/// Likewise for [`backward_weight`].
pub fn backward_weight_workspace(shape: &ConvShape) -> Option<usize> {
    Some(Grid::of(shape)?.backward_weight(&[], &[]).workspace())
}

/// As [`super::conv::forward_into`]; whether the convolution goes this way.
pub fn forward(
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    (bias, add): (Option<&[f32]>, bool),
    y: &mut [f32],
    workspace: &mut [f32],
) -> bool {
    let Some(grid) = Grid::beyond_planes(shape) else { return false };
    let target = forward_target(shape, y, (bias, add));
    grid.forward(x, w).run(&Kernel::best(), &target, workspace);
    true
}

/// As [`super::conv::backward_data`]; whether the convolution goes this way.
pub fn backward_data(
    shape: &ConvShape,
    dy: &[f32],
    w: &[f32],
    (bias, add): (Option<&[f32]>, bool),
    dx: &mut [f32],
    workspace: &mut [f32],
) -> bool {
    let Some(grid) = Grid::beyond_planes(shape) else { return false };
    let target = data_target(&grid, dx, (bias, add));
    grid.backward_data(dy, w).run(&Kernel::best(), &target, workspace);
    true
}

/// As [`super::conv::backward_weight`]; whether the convolution goes this way.
pub fn backward_weight(
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    add: bool,
    workspace: &mut [f32],
) -> bool {
    let Some(grid) = Grid::of(shape) else { return false };
    grid.backward_weight(x, dy).run(&Kernel::best(), dw, add, workspace);
    true
}

fn forward_target<'a>(
    shape: &ConvShape,
    y: &'a mut [f32],
    (bias, add): (Option<&'a [f32]>, bool),
) -> Target<'a> {
    let row = shape.out_width() * shape.out_channels;
    Target {
        values: SharedSlice::new(y),
        image: shape.out_height() * row,
        row,
        place: shape.out_channels,
        run: shape.out_channels,
        run_pitch: 0,
        bias,
        add,
    }
}

fn data_target<'a>(grid: &Grid, dx: &'a mut [f32], (bias, add): (Option<&'a [f32]>, bool)) -> Target<'a> {
    let shape = grid.shape;
    let row = shape.in_width * shape.in_channels;
    Target {
        values: SharedSlice::new(dx),
        image: shape.in_height * row,
        row: grid.square * row,
        place: grid.square * shape.in_channels,
        run: grid.square * shape.in_channels,
        run_pitch: row,
        bias,
        add,
    }
}
