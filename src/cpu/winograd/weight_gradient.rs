//! The gradient of the weights: the adjoint of the same algorithm in the weights. For each of the 36 points the
//! transformed tiles of the input times the (adjointly) transformed tiles of the gradient, summed over all tiles.

use super::transforms::{self, Ends, INPUT, OUTPUT, OutputAdjoint, POINTS, TAPS, WeightsAdjoint};
use super::{Correlation, Lines36, SKEW, transform_tiles};
use crate::cpu::gemm::{Kernel, Lines, PITCH};
use crate::cpu::shared::SharedSlice;
use crate::cpu::vector::{Vector, VectorWork, with_vectors};
use rayon::prelude::*;
use std::ops::Range;

/// Floats that the tiles of one point may take: a part of a core's own cache.
const POINT_BUDGET: usize = 7 << 14;

struct Plan {
    /// Tiles at a time.
    chunk: usize,
    lines: Lines36,
    /// Panels of the kernel's columns.
    panels: usize,
    /// Floats of a point of the transformed gradient, `[panel][tile][kernel columns]`.
    gradient: usize,
    /// Blocks of the kernel's rows, as (block of the depth, first channel in it).
    rows: usize,
    /// Floats of a point of the sums, `[block of rows][panel][kernel rows][kernel columns]`.
    sums: usize,
}

impl Plan {
    fn new(kernel: &Kernel, s: &Correlation) -> Self {
        let panels = s.columns.div_ceil(kernel.columns);
        let width = panels * kernel.columns;
        let chunk = s.tiles().min((POINT_BUDGET / (s.blocks() * PITCH + width)).max(1));
        // Equal chunks rather than a short last one.
        let chunk = s.tiles().div_ceil(s.tiles().div_ceil(chunk));
        let rows = (0..s.blocks()).map(|block| s.block(block).len().div_ceil(kernel.rows)).sum();
        Self {
            chunk,
            lines: Lines36::new(s, chunk),
            panels,
            gradient: chunk * width + SKEW,
            rows,
            sums: rows * panels * kernel.rows * kernel.columns + SKEW,
        }
    }

    fn len(&self) -> usize {
        self.lines.len() + POINTS * (self.gradient + self.sums)
    }

    /// Block of the depth and first channel in it of a block of rows.
    fn channels(&self, kernel: &Kernel, s: &Correlation, row: usize) -> (usize, usize) {
        // All blocks of the depth but the last are of one length.
        let whole = s.block(0).len().div_ceil(kernel.rows);
        (row / whole, row % whole * kernel.rows)
    }
}

/// Floats of workspace for [`weight_gradient`].
pub fn weight_gradient_workspace(kernel: &Kernel, s: &Correlation) -> usize {
    Plan::new(kernel, s).len()
}

/// dw `[3, 3, depth, columns]` = or += the adjoint of the correlation in its weights, applied to dy.
pub fn weight_gradient(
    kernel: &Kernel,
    s: &Correlation,
    images: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    add: bool,
    workspace: &mut [f32],
) {
    assert_eq!(dy.len(), s.batch * s.out_height * s.out_width * s.columns, "the gradient fits the extents");
    assert_eq!(dw.len(), TAPS * TAPS * s.depth * s.columns, "the weights fit the extents");
    let plan = Plan::new(kernel, s);
    let (lines, rest) = workspace.split_at_mut(plan.lines.len());
    let (gradient, rest) = rest.split_at_mut(POINTS * plan.gradient);
    let sums = &mut rest[..POINTS * plan.sums];
    for start in (0..s.tiles()).step_by(plan.chunk) {
        let tiles = start..s.tiles().min(start + plan.chunk);
        transform_tiles(kernel, s, images, plan.lines, &tiles, lines);
        transform_gradient(kernel, s, &plan, dy, &tiles, gradient);
        let (lines, gradient) = (&*lines, &*gradient);
        sums.par_chunks_exact_mut(plan.sums).enumerate().for_each(|(point, sums)| {
            let lines = &lines[plan.lines.place(point, 0, 0)..];
            let gradient = &gradient[point * plan.gradient..(point + 1) * plan.gradient];
            multiply(kernel, s, &plan, (lines, gradient), tiles.len(), sums, start > 0);
        });
    }
    let dw = SharedSlice::new(dw);
    (0..plan.rows).into_par_iter().for_each(|row| {
        with_vectors(kernel.level, StoreWeights { kernel, s, plan: &plan, row, sums, dw: &dw, add });
    });
}

/// One point: all sums over `tiles` tiles.
fn multiply(
    kernel: &Kernel,
    s: &Correlation,
    plan: &Plan,
    (lines, gradient): (&[f32], &[f32]),
    tiles: usize,
    sums: &mut [f32],
    accumulate: bool,
) {
    let tile = kernel.rows * kernel.columns;
    for (index, sums) in sums.chunks_exact_mut(tile).take(plan.rows * plan.panels).enumerate() {
        let (row, panel) = (index / plan.panels, index % plan.panels);
        let (block, first) = plan.channels(kernel, s, row);
        let lines = &lines[plan.lines.place(0, block, 0) + first..];
        let gradient = &gradient[panel * plan.chunk * kernel.columns..];
        kernel.run(Lines::Depth, tiles, lines, gradient, sums, accumulate);
    }
}

/// Transforms `tiles` of `dy` into panels.
fn transform_gradient(
    kernel: &Kernel,
    s: &Correlation,
    plan: &Plan,
    dy: &[f32],
    tiles: &Range<usize>,
    panels: &mut [f32],
) {
    let panels = SharedSlice::new(panels);
    tiles.clone().into_par_iter().with_min_len(4).for_each(|tile| {
        let line = tile - tiles.start;
        with_vectors(kernel.level, TransformGradient { kernel, s, plan, dy, tile, line, panels: &panels });
    });
}

struct TransformGradient<'a> {
    kernel: &'a Kernel,
    s: &'a Correlation,
    plan: &'a Plan,
    dy: &'a [f32],
    tile: usize,
    /// Its number in the chunk.
    line: usize,
    panels: &'a SharedSlice<'a>,
}

impl VectorWork for TransformGradient<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let s = self.s;
        let [image, top, left] = s.corner(self.tile);
        let mut pixels = [[None; OUTPUT]; OUTPUT];
        for (i, row) in pixels.iter_mut().enumerate() {
            for (j, pixel) in row.iter_mut().enumerate() {
                if top + i < s.out_height && left + j < s.out_width {
                    let place = (image * s.out_height + top + i) * s.out_width + left + j;
                    *pixel = Some(place * s.columns);
                }
            }
        }
        let width = self.kernel.columns;
        for column in (0..s.columns).step_by(V::LANES) {
            let (panel, offset) = (column / width, column % width);
            let place = (panel * self.plan.chunk + self.line) * width + offset;
            let to = self.panels.address(place, (POINTS - 1) * self.plan.gradient + V::LANES);
            let ends =
                GradientToPanels { dy: self.dy, pixels: &pixels, column, to, point: self.plan.gradient };
            transforms::both_axes::<V, OutputAdjoint, OUTPUT, INPUT>(&ends);
        }
    }
}

struct GradientToPanels<'a> {
    dy: &'a [f32],
    pixels: &'a [[Option<usize>; OUTPUT]; OUTPUT],
    column: usize,
    to: *mut f32,
    point: usize,
}

impl<V: Vector> Ends<V> for GradientToPanels<'_> {
    #[inline(always)]
    fn get(&self, i: usize, j: usize) -> V {
        match self.pixels[i][j] {
            // SAFETY: the pixel lies in dy, whose length was compared; columns come in whole vectors.
            Some(pixel) => unsafe { V::load(self.dy.as_ptr().add(pixel + self.column)) },
            None => V::zero(),
        }
    }

    #[inline(always)]
    fn put(&self, i: usize, j: usize, value: V) {
        // SAFETY: inside the panels by the assertion of `address`; every tile has lines of its own.
        unsafe { value.store(self.to.add((i * INPUT + j) * self.point)) }
    }
}

/// The way back from the sums of a block of rows to weights.
struct StoreWeights<'a> {
    kernel: &'a Kernel,
    s: &'a Correlation,
    plan: &'a Plan,
    row: usize,
    sums: &'a [f32],
    dw: &'a SharedSlice<'a>,
    add: bool,
}

impl VectorWork for StoreWeights<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (s, plan) = (self.s, self.plan);
        let Kernel { rows, columns, .. } = *self.kernel;
        let (block, first) = plan.channels(self.kernel, s, self.row);
        let channels = s.block(block);
        for (index, channel) in (channels.start + first..channels.end).take(rows).enumerate() {
            for column in (0..s.columns).step_by(V::LANES) {
                let tile = self.row * plan.panels + column / columns;
                let place = (tile * rows + index) * columns + column % columns;
                let sums = &self.sums[place..place + (POINTS - 1) * plan.sums + V::LANES];
                let start = channel * s.columns + column;
                let ends = SumsToWeights { work: &self, sums, start };
                transforms::both_axes::<V, WeightsAdjoint, INPUT, TAPS>(&ends);
            }
        }
    }
}

struct SumsToWeights<'a> {
    work: &'a StoreWeights<'a>,
    /// From a row and column of the first point on, to the same of the last.
    sums: &'a [f32],
    /// Of the channel and column in a tap.
    start: usize,
}

impl<V: Vector> Ends<V> for SumsToWeights<'_> {
    #[inline(always)]
    fn get(&self, i: usize, j: usize) -> V {
        // SAFETY: the slice holds all points.
        unsafe { V::load(self.sums.as_ptr().add((i * INPUT + j) * self.work.plan.sums)) }
    }

    #[inline(always)]
    fn put(&self, i: usize, j: usize, value: V) {
        let s = self.work.s;
        let at = (i * TAPS + j) * s.depth * s.columns + self.start;
        let to = self.work.dw.address(at, V::LANES);
        // SAFETY: inside dw by the assertion of `address`; every block of rows has its own channels.
        unsafe {
            let value = if self.work.add { V::load(to).add(value) } else { value };
            value.store(to);
        }
    }
}
