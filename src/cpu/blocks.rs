//! Implicit GEMM: patches of an NHWC image are gathered block by block into lines that the
//! micro-kernel reads, so that no matrix of patches ever exists.
//!
//! The division into tasks depends on the shapes alone and every value is summed by one task in a
//! fixed order, so the bits do not depend on the number of threads. Which scratch region a task uses does.

use super::gemm::{Kernel, Lines, MAX_LINE, PITCH};
use super::shared::SharedSlice;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of a task of [`patches_by_matrix`], rounded down to whole tiles: 140 lines, 256 x 256 of
/// B and 140 x 256 of C share an L2 cache of 1 MiB.
const MAX_ROWS: usize = 140;
/// Columns of a task, rounded up to whole tiles.
const MAX_COLUMNS: usize = 256;
/// Patches gathered at once by [`patches_transposed_by_matrix`].
const PATCHES: usize = 128;
/// Tiles of rows of a task at least: packing B costs a pass over it that this many tiles pay for.
const LEAST_TILES: usize = 6;
/// Enough tasks to occupy the threads where the shape allows it.
const WANTED_TASKS: usize = 16;

const A_LEN: usize = MAX_ROWS * PITCH;
const B_LEN: usize = MAX_LINE * MAX_COLUMNS;
const C_LEN: usize = MAX_LINE * MAX_COLUMNS;
const REGION: usize = A_LEN + B_LEN + C_LEN;

/// Scratch for one call: a region a thread.
pub(super) fn workspace_len() -> usize {
    REGION * rayon::current_num_threads()
}

/// The patches of images: patch (b, i, j) is `kernel_height` x `kernel_width` pixels with its
/// corner at (i * stride - top, j * stride - left); pixels outside are zero.
pub(super) struct Patches<'a> {
    /// `[batch, height, width, channels]`.
    pub images: &'a [f32],
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub grid_height: usize,
    pub grid_width: usize,
    pub kernel_height: usize,
    pub kernel_width: usize,
    pub stride: usize,
    pub top: isize,
    pub left: isize,
}

impl Patches<'_> {
    pub fn count(&self) -> usize {
        self.batch * self.grid_height * self.grid_width
    }

    /// Values of a patch.
    pub fn len(&self) -> usize {
        self.kernel_height * self.kernel_width * self.channels
    }

    /// Writes `values` of the patches `rows`, a patch a line.
    fn gather(&self, rows: Range<usize>, values: Range<usize>, lines: &mut [f32]) {
        let mut j = rows.start % self.grid_width;
        let mut i = rows.start / self.grid_width % self.grid_height;
        let mut image = rows.start / self.grid_width / self.grid_height;
        for line in lines.chunks_mut(PITCH).take(rows.len()) {
            self.gather_line(image, i, j, &values, line);
            j += 1;
            if j == self.grid_width {
                (j, i) = (0, i + 1);
                if i == self.grid_height {
                    (i, image) = (0, image + 1);
                }
            }
        }
    }

    /// A row of a patch is one run of the image row; what hangs over its ends is zero.
    #[inline]
    fn gather_line(&self, image: usize, i: usize, j: usize, values: &Range<usize>, line: &mut [f32]) {
        let run = self.kernel_width * self.channels;
        let image_row = self.width * self.channels;
        let left = ((j * self.stride) as isize - self.left) * self.channels as isize;
        let mut at = values.start;
        while at < values.end {
            let kernel_row = at / run;
            let end = values.end.min((kernel_row + 1) * run);
            let line = &mut line[at - values.start..end - values.start];
            let y = (i * self.stride + kernel_row) as isize - self.top;
            let x = left + (at - kernel_row * run) as isize;
            let first = (-x).clamp(0, line.len() as isize) as usize;
            let last = (image_row as isize - x).clamp(first as isize, line.len() as isize) as usize;
            if y < 0 || y >= self.height as isize || first == last {
                line.fill(0.0);
            } else {
                let row = (image * self.height + y as usize) * image_row;
                let start = row + (x + first as isize) as usize;
                line[..first].fill(0.0);
                line[first..last].copy_from_slice(&self.images[start..start + last - first]);
                line[last..].fill(0.0);
            }
            at = end;
        }
    }
}

/// Where the rows of a product go: row (b, i, j) at `origin` + b `image` + i `row` + j `column`, cut
/// into segments of `segment` values that lie `segment_pitch` apart.
pub(super) struct Placement {
    pub grid_height: usize,
    pub grid_width: usize,
    pub origin: usize,
    pub image: usize,
    pub row: usize,
    pub column: usize,
    pub segment: usize,
    pub segment_pitch: usize,
}

impl Placement {
    /// Rows of `columns` values one after the other.
    pub fn dense(columns: usize) -> Self {
        Self {
            grid_height: 1,
            grid_width: 1,
            origin: 0,
            image: columns,
            row: 0,
            column: 0,
            segment: columns,
            segment_pitch: 0,
        }
    }

    fn of_row(&self, row: usize) -> usize {
        let j = row % self.grid_width;
        let i = row / self.grid_width % self.grid_height;
        let image = row / self.grid_width / self.grid_height;
        self.origin + image * self.image + i * self.row + j * self.column
    }
}

/// The output of a product and how it is written.
pub(super) struct Output<'a> {
    pub values: SharedSlice<'a>,
    pub placement: Placement,
    /// Added to every row; as long as a row.
    pub bias: Option<&'a [f32]>,
    /// Add to what is there instead of overwriting it.
    pub add: bool,
}

/// A row-major matrix.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub values: &'a [f32],
    pub columns: usize,
}

/// output = patches (count x len) * matrix (len x columns).
pub(super) fn patches_by_matrix(
    kernel: &Kernel,
    patches: &Patches,
    matrix: Matrix,
    output: &Output,
    workspace: &mut [f32],
) {
    let columns = Division::new(matrix.columns, MAX_COLUMNS, kernel.columns);
    let wanted = (patches.count() * columns.parts).div_ceil(WANTED_TASKS).next_multiple_of(kernel.rows);
    let most = MAX_ROWS / kernel.rows * kernel.rows;
    let rows = Division::new(patches.count(), wanted.clamp(LEAST_TILES * kernel.rows, most), kernel.rows);
    run_tasks(rows.parts * columns.parts, workspace, REGION, |task, region| {
        let [a, b, c] = parts(region);
        let rows = rows.part(task / columns.parts);
        let columns = columns.part(task % columns.parts);
        let tiles = Tiles::new(kernel, rows.len(), columns.len());
        // An empty sum still writes its zeros.
        for start in (0..patches.len().max(1)).step_by(MAX_LINE) {
            let values = start..patches.len().min(start + MAX_LINE);
            patches.gather(rows.clone(), values.clone(), a);
            pack(matrix, values.clone(), columns.clone(), kernel.columns, b);
            tiles.multiply(Lines::Rows, values.len(), a, b, c, start > 0);
        }
        tiles.store(c, rows, columns, output);
    });
}

/// dw = patches^T (len x count) * matrix (count x columns), the matrix a row a patch.
pub(super) fn patches_transposed_by_matrix(
    kernel: &Kernel,
    patches: &Patches,
    matrix: Matrix,
    dw: &mut [f32],
    add: bool,
    workspace: &mut [f32],
) {
    let split = Split::new(kernel, patches.len(), matrix.columns, patches.count());
    let (partial, scratch) = workspace.split_at_mut(split.partial_len());
    let size = patches.len() * matrix.columns;
    let direct = split.sums == 1;
    let output = Output {
        values: SharedSlice::new(if direct { &mut *dw } else { partial }),
        placement: Placement::dense(matrix.columns),
        bias: None,
        add: add && direct,
    };
    run_tasks(split.sums * split.rows.parts * split.columns.parts, scratch, REGION, |task, region| {
        let [a, b, c] = parts(region);
        let columns = split.columns.part(task % split.columns.parts);
        let rows = split.rows.part(task / split.columns.parts % split.rows.parts);
        let sum = task / split.columns.parts / split.rows.parts;
        let range = split.range(sum);
        let tiles = Tiles::new(kernel, rows.len(), columns.len());
        for start in range.clone().step_by(PATCHES) {
            let block = start..range.end.min(start + PATCHES);
            patches.gather(block.clone(), rows.clone(), a);
            pack(matrix, block.clone(), columns.clone(), kernel.columns, b);
            tiles.multiply(Lines::Depth, block.len(), a, b, c, start > range.start);
        }
        let first = sum * patches.len();
        tiles.store(c, first + rows.start..first + rows.end, columns, &output);
    });
    if !direct {
        add_partial_sums(partial, size, dw, add);
    }
}

/// Scratch for [`patches_transposed_by_matrix`] with `len` x `columns` results over `count` patches.
pub(super) fn transposed_workspace_len(kernel: &Kernel, len: usize, columns: usize, count: usize) -> usize {
    Split::new(kernel, len, columns, count).partial_len() + workspace_len()
}

pub(super) fn add_partial_sums(partial: &[f32], size: usize, dw: &mut [f32], add: bool) {
    const CHUNK: usize = 1 << 12;
    dw.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, dw)| {
        let (first, rest) = partial.split_at(size);
        let start = chunk * CHUNK;
        let first = &first[start..start + dw.len()];
        if add {
            dw.iter_mut().zip(first).for_each(|(d, p)| *d += p);
        } else {
            dw.copy_from_slice(first);
        }
        for sum in rest.chunks_exact(size) {
            dw.iter_mut().zip(&sum[start..]).for_each(|(d, p)| *d += p);
        }
    });
}

/// A range cut into equal parts of whole tiles; the last part may be shorter.
#[derive(Clone, Copy)]
struct Division {
    len: usize,
    part: usize,
    parts: usize,
}

impl Division {
    /// Parts of at most `most`, a multiple of `tile`.
    fn new(len: usize, most: usize, tile: usize) -> Self {
        let part = len.div_ceil(len.div_ceil(most).max(1)).next_multiple_of(tile).max(tile);
        Self { len, part, parts: len.div_ceil(part) }
    }

    fn part(&self, index: usize) -> Range<usize> {
        index * self.part..self.len.min((index + 1) * self.part)
    }
}

/// How a gradient of the weights is divided: over its rows and columns, and where these are few
/// also over the patches, in partial sums that are added in order afterwards.
struct Split {
    rows: Division,
    columns: Division,
    count: usize,
    sums: usize,
}

impl Split {
    fn new(kernel: &Kernel, len: usize, columns: usize, count: usize) -> Self {
        let most = MAX_LINE / kernel.rows * kernel.rows;
        let size = len * columns;
        let rows = Division::new(len, most, kernel.rows);
        let columns = Division::new(columns, MAX_COLUMNS, kernel.columns);
        let wanted = WANTED_TASKS.div_ceil((rows.parts * columns.parts).max(1));
        // A partial sum costs a pass over the result: it must be long enough to be worth it.
        let sums = if size == 0 { 1 } else { wanted.min(count / (4 * PATCHES)).max(1) };
        Self { rows, columns, count, sums }
    }

    fn range(&self, sum: usize) -> Range<usize> {
        sum * self.count / self.sums..(sum + 1) * self.count / self.sums
    }

    fn partial_len(&self) -> usize {
        if self.sums == 1 { 0 } else { self.sums * self.rows.len * self.columns.len }
    }
}

/// Runs the tasks on as many threads as there are scratch regions. A task must not care which
/// region it gets.
pub(super) fn run_tasks(
    tasks: usize,
    workspace: &mut [f32],
    region: usize,
    run: impl Fn(usize, &mut [f32]) + Sync,
) {
    assert!(workspace.len() >= region, "the workspace holds at least one region");
    let next = AtomicUsize::new(0);
    workspace.par_chunks_exact_mut(region).with_max_len(1).for_each(|region| {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            run(task, region);
        }
    });
}

/// The lines, panels and sums of a task.
fn parts(region: &mut [f32]) -> [&mut [f32]; 3] {
    let (a, rest) = region.split_at_mut(A_LEN);
    let (b, c) = rest.split_at_mut(B_LEN);
    [a, b, c]
}

/// Packs a block of the matrix into panels `[depth][tile columns]`. The columns beyond the block
/// keep what they hold: their sums are not stored.
fn pack(matrix: Matrix, rows: Range<usize>, columns: Range<usize>, tile: usize, panels: &mut [f32]) {
    match tile {
        32 => pack_panels::<32>(matrix, rows, columns, panels),
        16 => pack_panels::<16>(matrix, rows, columns, panels),
        _ => pack_panels::<8>(matrix, rows, columns, panels),
    }
}

fn pack_panels<const TILE: usize>(
    matrix: Matrix,
    rows: Range<usize>,
    columns: Range<usize>,
    panels: &mut [f32],
) {
    let depth = rows.len();
    for (k, row) in rows.enumerate() {
        let row = &matrix.values[row * matrix.columns..][columns.clone()];
        let (whole, rest) = row.as_chunks::<TILE>();
        let mut at = k * TILE;
        for values in whole {
            panels[at..at + TILE].copy_from_slice(values);
            at += depth * TILE;
        }
        if !rest.is_empty() {
            panels[at..at + rest.len()].copy_from_slice(rest);
        }
    }
}

/// The tiles of a task's block of C: `[panel][sliver][tile rows][tile columns]`.
struct Tiles<'a> {
    kernel: &'a Kernel,
    slivers: usize,
    panels: usize,
}

impl<'a> Tiles<'a> {
    fn new(kernel: &'a Kernel, rows: usize, columns: usize) -> Self {
        Self { kernel, slivers: rows.div_ceil(kernel.rows), panels: columns.div_ceil(kernel.columns) }
    }

    fn multiply(&self, lines: Lines, depth: usize, a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
        let Kernel { rows, columns, .. } = *self.kernel;
        let step = if lines == Lines::Rows { rows * PITCH } else { rows };
        let tiles = c.chunks_exact_mut(rows * columns).take(self.panels * self.slivers);
        for (index, c) in tiles.enumerate() {
            let a = &a[index % self.slivers * step..];
            let b = &b[index / self.slivers * depth * columns..];
            self.kernel.run(lines, depth, a, b, c, accumulate);
        }
    }

    /// Writes the block to rows `rows`, columns `columns` of the output.
    fn store(&self, c: &[f32], rows: Range<usize>, columns: Range<usize>, output: &Output) {
        let tile = self.kernel.columns;
        let place = &output.placement;
        for (index, row) in rows.enumerate() {
            let base = place.of_row(row);
            let line = index / self.kernel.rows * self.kernel.rows * tile + index % self.kernel.rows * tile;
            let mut column = columns.start;
            while column < columns.end {
                let panel = (column - columns.start) / tile;
                let in_panel = (column - columns.start) % tile;
                let segment = column / place.segment;
                let end = columns.end.min(column + tile - in_panel).min((segment + 1) * place.segment);
                let at = line + panel * self.slivers * self.kernel.rows * tile + in_panel;
                let sums = &c[at..at + end - column];
                let start = base + segment * place.segment_pitch + column - segment * place.segment;
                // SAFETY: tasks own disjoint blocks of rows and columns, and a placement gives every
                // (row, column) its own place.
                let values = unsafe { output.values.part(start, sums.len()) };
                write(values, sums, output.bias.map(|bias| &bias[column..end]), output.add);
                column = end;
            }
        }
    }
}

#[inline]
fn write(values: &mut [f32], sums: &[f32], bias: Option<&[f32]>, add: bool) {
    match (bias, add) {
        (None, false) => values.copy_from_slice(sums),
        (None, true) => values.iter_mut().zip(sums).for_each(|(v, s)| *v += s),
        (Some(bias), add) => {
            for ((value, sum), bias) in values.iter_mut().zip(sums).zip(bias) {
                *value = sum + bias + if add { *value } else { 0.0 };
            }
        }
    }
}
