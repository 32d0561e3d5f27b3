//! Convolutions of 3 x 3 with stride 1 by minimal filtering: F(4x4, 3x3) takes 36 products for 16 outputs where the
//! direct way takes 144 (Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, CVPR 2016).
//!
//! The images are cut into tiles of 4 x 4 outputs. Transformed tiles are the rows of 36 matrix products, one for each
//! point of the transform, that the micro-kernels of the direct way compute; weights are transformed a panel at a
//! time into scratch, so that they never go through memory. As there, the division into tasks depends on shapes alone
//! and every sum has one order.

mod transforms;
mod weight_gradient;

use super::blocks::run_tasks;
use super::gemm::{Kernel, Lines, MAX_LINE, PITCH};
use super::shared::SharedSlice;
use super::vector::{Vector, VectorWork, with_vectors};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;
use transforms::{Ends, INPUT, Input, OUTPUT, Output, POINTS, TAPS, Weights};

pub(super) use weight_gradient::{weight_gradient, weight_gradient_workspace};

/// Turns minimal filtering off where it is `off`: its rounding errors are some ten times those of the direct way.
pub const SWITCH: &str = "HEXCUDA_WINOGRAD";

/// Channels come in whole vectors.
const CHANNELS: usize = 16;
/// Below this many tiles the transform of the weights costs more than it saves.
const LEAST_TILES: usize = 12;
/// Floats of transformed tiles at a time: a part of a shared cache.
const LINES_BUDGET: usize = 1 << 21;
/// Blocks of tiles that one pass over the transformed weights serves.
const BLOCKS: usize = 2;
/// Blocks of tiles that pay for the transform of a panel of weights.
const LEAST_BLOCKS: usize = 4;
const WANTED_TASKS: usize = 16;
/// Keeps the 36 products' places apart in the sets of a cache.
const SKEW: usize = 48;

/// A correlation y(i, j) = sum over taps of x(i + di - padding, j + dj - padding) w(di, dj), NHWC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correlation {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub depth: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub columns: usize,
    pub padding: usize,
}

fn switched_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(SWITCH).as_deref() != Ok("off"))
}

impl Correlation {
    /// Whether minimal filtering takes it, and gains.
    pub fn suits(&self) -> bool {
        switched_on() && self.fits() && self.tiles() >= LEAST_TILES
    }

    /// Whether minimal filtering takes it.
    pub fn fits(&self) -> bool {
        let whole = |channels: usize| channels > 0 && channels.is_multiple_of(CHANNELS);
        whole(self.depth) && whole(self.columns) && self.tiles() > 0
    }

    fn tiles_high(&self) -> usize {
        self.out_height.div_ceil(OUTPUT)
    }

    fn tiles_wide(&self) -> usize {
        self.out_width.div_ceil(OUTPUT)
    }

    fn tiles(&self) -> usize {
        self.batch * self.tiles_high() * self.tiles_wide()
    }

    /// Image and first output pixel of a tile.
    fn corner(&self, tile: usize) -> [usize; 3] {
        let (row, column) = (tile / self.tiles_wide(), tile % self.tiles_wide());
        [row / self.tiles_high(), row % self.tiles_high() * OUTPUT, column * OUTPUT]
    }

    /// Blocks of the depth that fit into a line.
    fn blocks(&self) -> usize {
        self.depth.div_ceil(MAX_LINE)
    }

    fn block(&self, index: usize) -> Range<usize> {
        index * MAX_LINE..self.depth.min((index + 1) * MAX_LINE)
    }
}

/// Transformed tiles: `[point][block of the depth][tile]` lines of [`PITCH`] floats.
#[derive(Clone, Copy)]
struct Lines36 {
    /// Lines of a block.
    tiles: usize,
    /// Floats of a point.
    point: usize,
}

impl Lines36 {
    fn new(s: &Correlation, tiles: usize) -> Self {
        Self { tiles, point: (s.blocks() * tiles * PITCH).next_multiple_of(1024) + SKEW }
    }

    fn len(&self) -> usize {
        POINTS * self.point
    }

    fn place(&self, point: usize, block: usize, tile: usize) -> usize {
        point * self.point + (block * self.tiles + tile) * PITCH
    }
}

/// How a correlation is divided.
struct Plan {
    /// Tiles at a time, in whole blocks of the kernel's rows.
    chunk: usize,
    lines: Lines36,
    /// Panels of the kernel's columns.
    panels: usize,
    /// Floats of a point of the transformed weights of a panel.
    weights: usize,
    /// Floats of a point of the products of [`BLOCKS`] blocks.
    products: usize,
}

impl Plan {
    fn new(kernel: &Kernel, s: &Correlation) -> Self {
        let most = (LINES_BUDGET / (POINTS * s.blocks() * PITCH) / kernel.rows).max(1) * kernel.rows;
        let chunk = s.tiles().next_multiple_of(kernel.rows).min(most);
        Self {
            chunk,
            lines: Lines36::new(s, chunk),
            panels: s.columns.div_ceil(kernel.columns),
            weights: s.depth * kernel.columns + SKEW,
            products: BLOCKS * kernel.rows * kernel.columns,
        }
    }

    fn region(&self) -> usize {
        POINTS * (self.weights + self.products)
    }
}

/// Floats of workspace for [`correlate`].
pub(super) fn workspace_len(kernel: &Kernel, s: &Correlation) -> usize {
    let plan = Plan::new(kernel, s);
    plan.lines.len() + rayon::current_num_threads() * plan.region()
}

/// What is done with the sums of a pixel.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    /// Added to every pixel.
    pub bias: Option<&'a [f32]>,
    /// Add to what is there.
    pub add: bool,
}

/// y = or += the correlation of `images` `[batch, height, width, depth]` with `weights` `[3, 3, depth, columns]`.
pub(super) fn correlate(
    kernel: &Kernel,
    s: &Correlation,
    images: &[f32],
    weights: &[f32],
    y: &mut [f32],
    finish: Finish,
    workspace: &mut [f32],
) {
    let plan = Plan::new(kernel, s);
    let (lines, scratch) = workspace.split_at_mut(plan.lines.len());
    let y = SharedSlice::new(y);
    for start in (0..s.tiles()).step_by(plan.chunk) {
        let tiles = start..s.tiles().min(start + plan.chunk);
        transform_tiles(kernel, s, images, plan.lines, &tiles, lines);
        let blocks = tiles.len().div_ceil(kernel.rows);
        let groups = WANTED_TASKS.div_ceil(plan.panels).min(blocks / LEAST_BLOCKS).max(1);
        run_tasks(plan.panels * groups, scratch, plan.region(), |task, scratch| {
            let (panel, group) = (task % plan.panels, task / plan.panels);
            let (transformed, products) = scratch.split_at_mut(POINTS * plan.weights);
            let columns = panel * kernel.columns..s.columns.min((panel + 1) * kernel.columns);
            let into = &mut *transformed;
            with_vectors(kernel.level, TransformWeights { kernel, s, plan: &plan, weights, columns, into });
            let part = PanelOfBlocks { kernel, s, plan: &plan, lines, weights: transformed, panel };
            let blocks = group * blocks / groups..(group + 1) * blocks / groups;
            for first in blocks.clone().step_by(BLOCKS) {
                let blocks = first..blocks.end.min(first + BLOCKS);
                part.multiply(blocks.clone(), products);
                let (products, tiles) = (&*products, tiles.clone());
                with_vectors(
                    kernel.level,
                    StoreTiles { part: &part, blocks, tiles, products, y: &y, finish },
                );
            }
        });
    }
}

/// Transforms `tiles` of `images` into `lines`.
fn transform_tiles(
    kernel: &Kernel,
    s: &Correlation,
    images: &[f32],
    layout: Lines36,
    tiles: &Range<usize>,
    lines: &mut [f32],
) {
    /// Tiles of a task.
    const TASK: usize = 4;
    assert_eq!(images.len(), s.batch * s.height * s.width * s.depth, "the images fit the extents");
    let lines = SharedSlice::new(lines);
    (0..tiles.len().div_ceil(TASK)).into_par_iter().for_each(|task| {
        let first = tiles.start + task * TASK;
        let part = first..tiles.end.min(first + TASK);
        let lines = &lines;
        with_vectors(kernel.level, TransformTiles { s, images, layout, start: tiles.start, part, lines });
    });
}

struct TransformTiles<'a> {
    s: &'a Correlation,
    images: &'a [f32],
    layout: Lines36,
    /// The tile of the first line.
    start: usize,
    part: Range<usize>,
    lines: &'a SharedSlice<'a>,
}

impl VectorWork for TransformTiles<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for tile in self.part.clone() {
            for block in 0..self.s.blocks() {
                self.tile::<V>(tile, block);
            }
        }
    }
}

impl TransformTiles<'_> {
    #[inline(always)]
    fn tile<V: Vector>(&self, tile: usize, block: usize) {
        let s = self.s;
        let [image, top, left] = s.corner(tile);
        // Where each pixel of the tile begins, if it lies in the image.
        let mut pixels = [[None; INPUT]; INPUT];
        for (i, row) in pixels.iter_mut().enumerate() {
            for (j, pixel) in row.iter_mut().enumerate() {
                let (y, x) = ((top + i).wrapping_sub(s.padding), (left + j).wrapping_sub(s.padding));
                if y < s.height && x < s.width {
                    *pixel = Some(((image * s.height + y) * s.width + x) * s.depth);
                }
            }
        }
        let channels = s.block(block);
        let place = self.layout.place(0, block, tile - self.start);
        let line = self.lines.address(place, (POINTS - 1) * self.layout.point + channels.len());
        for offset in (0..channels.len()).step_by(V::LANES) {
            let to = line.wrapping_add(offset);
            let ends = TileToLines {
                images: self.images,
                pixels: &pixels,
                channel: channels.start + offset,
                to,
                point: self.layout.point,
            };
            transforms::both_axes::<V, Input, INPUT, INPUT>(&ends);
        }
    }
}

struct TileToLines<'a> {
    images: &'a [f32],
    pixels: &'a [[Option<usize>; INPUT]; INPUT],
    channel: usize,
    to: *mut f32,
    point: usize,
}

impl<V: Vector> Ends<V> for TileToLines<'_> {
    #[inline(always)]
    fn get(&self, i: usize, j: usize) -> V {
        match self.pixels[i][j] {
            // SAFETY: the pixel lies in the image, whose extents `transform_tiles` has compared, and channels come in
            // whole vectors.
            Some(pixel) => unsafe { V::load(self.images.as_ptr().add(pixel + self.channel)) },
            None => V::zero(),
        }
    }

    #[inline(always)]
    fn put(&self, i: usize, j: usize, value: V) {
        // SAFETY: inside the lines by the assertion of `address`; every tile has lines of its own.
        unsafe { value.store(self.to.add((i * INPUT + j) * self.point)) }
    }
}

/// The weights of the columns of a panel, `[point][depth][kernel columns]`.
struct TransformWeights<'a> {
    kernel: &'a Kernel,
    s: &'a Correlation,
    plan: &'a Plan,
    weights: &'a [f32],
    columns: Range<usize>,
    into: &'a mut [f32],
}

impl VectorWork for TransformWeights<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let s = self.s;
        assert_eq!(self.weights.len(), TAPS * TAPS * s.depth * s.columns, "the weights fit the extents");
        assert!(self.into.len() >= POINTS * self.plan.weights, "a panel has its room");
        assert!(s.depth * self.kernel.columns <= self.plan.weights, "a point has its room");
        for channel in 0..s.depth {
            for column in self.columns.clone().step_by(V::LANES) {
                let place = channel * self.kernel.columns + column - self.columns.start;
                let ends = WeightsToPanel {
                    s,
                    weights: &self.weights[channel * s.columns + column..],
                    // SAFETY: inside the panel by the assertion above.
                    to: unsafe { self.into.as_mut_ptr().add(place) },
                    point: self.plan.weights,
                };
                transforms::both_axes::<V, Weights, TAPS, INPUT>(&ends);
            }
        }
    }
}

struct WeightsToPanel<'a> {
    s: &'a Correlation,
    /// From a channel and column of the first tap on.
    weights: &'a [f32],
    to: *mut f32,
    point: usize,
}

impl<V: Vector> Ends<V> for WeightsToPanel<'_> {
    #[inline(always)]
    fn get(&self, i: usize, j: usize) -> V {
        let at = (i * TAPS + j) * self.s.depth * self.s.columns;
        // SAFETY: inside the weights, whose length `run` has compared; columns come in whole vectors.
        unsafe { V::load(self.weights.as_ptr().add(at)) }
    }

    #[inline(always)]
    fn put(&self, i: usize, j: usize, value: V) {
        // SAFETY: inside the panel, whose length `run` has compared.
        unsafe { value.store(self.to.add((i * INPUT + j) * self.point)) }
    }
}

/// Blocks of tiles times a panel of weights.
struct PanelOfBlocks<'a> {
    kernel: &'a Kernel,
    s: &'a Correlation,
    plan: &'a Plan,
    lines: &'a [f32],
    weights: &'a [f32],
    panel: usize,
}

impl PanelOfBlocks<'_> {
    /// The products of all points: `[point][block][kernel rows][kernel columns]`.
    fn multiply(&self, blocks: Range<usize>, products: &mut [f32]) {
        let Kernel { rows, columns, .. } = *self.kernel;
        for point in 0..POINTS {
            for (index, block) in blocks.clone().enumerate() {
                let sums = &mut products[point * self.plan.products + index * rows * columns..];
                for part in 0..self.s.blocks() {
                    let depth = self.s.block(part);
                    let tiles = &self.lines[self.plan.lines.place(point, part, block * rows)..];
                    let weights = &self.weights[point * self.plan.weights + depth.start * columns..];
                    self.kernel.run(Lines::Rows, depth.len(), tiles, weights, sums, part > 0);
                }
            }
        }
    }
}

/// The way back from products to pixels.
struct StoreTiles<'a> {
    part: &'a PanelOfBlocks<'a>,
    blocks: Range<usize>,
    /// Of the chunk.
    tiles: Range<usize>,
    products: &'a [f32],
    y: &'a SharedSlice<'a>,
    finish: Finish<'a>,
}

impl VectorWork for StoreTiles<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Kernel { rows, columns, .. } = *self.part.kernel;
        assert!(self.products.len() >= POINTS * self.part.plan.products, "all points have their room");
        let first = self.tiles.start + self.blocks.start * rows;
        let last = self.tiles.end.min(self.tiles.start + self.blocks.end * rows);
        for tile in first..last {
            let (row, start) = (tile - first, self.part.panel * columns);
            for column in (start..self.part.s.columns.min(start + columns)).step_by(V::LANES) {
                self.tile::<V>(tile, row * columns + column - start, column);
            }
        }
    }
}

impl StoreTiles<'_> {
    #[inline(always)]
    fn tile<V: Vector>(&self, tile: usize, place: usize, column: usize) {
        let s = self.part.s;
        let [image, top, left] = s.corner(tile);
        let bias = match self.finish.bias {
            // SAFETY: the slice has that many values.
            Some(bias) => unsafe { V::load(bias[column..column + V::LANES].as_ptr()) },
            None => V::zero(),
        };
        let products = &self.products[place..];
        let ends = ProductsToPixels { tiles: self, products, bias, corner: [image, top, left], column };
        transforms::both_axes::<V, Output, INPUT, OUTPUT>(&ends);
    }
}

struct ProductsToPixels<'a, V> {
    tiles: &'a StoreTiles<'a>,
    /// From a row and column of the first point on.
    products: &'a [f32],
    bias: V,
    corner: [usize; 3],
    column: usize,
}

impl<V: Vector> Ends<V> for ProductsToPixels<'_, V> {
    #[inline(always)]
    fn get(&self, i: usize, j: usize) -> V {
        let at = (i * INPUT + j) * self.tiles.part.plan.products;
        // SAFETY: inside the products by the assertion in `run`.
        unsafe { V::load(self.products.as_ptr().add(at)) }
    }

    #[inline(always)]
    fn put(&self, i: usize, j: usize, value: V) {
        let ([image, top, left], s) = (self.corner, self.tiles.part.s);
        if top + i >= s.out_height || left + j >= s.out_width {
            return;
        }
        let pixel = (image * s.out_height + top + i) * s.out_width + left + j;
        let to = self.tiles.y.address(pixel * s.columns + self.column, V::LANES);
        let value = value.add(self.bias);
        // SAFETY: inside the output by the assertion of `address`; every pixel and panel has one task.
        unsafe {
            let value = if self.tiles.finish.add { V::load(to).add(value) } else { value };
            value.store(to);
        }
    }
}

#[cfg(test)]
mod tests;
