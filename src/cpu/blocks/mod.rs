//! Implicit GEMM: patches of an NHWC image are gathered block by block into lines that the
//! micro-kernel reads, so that no matrix of patches ever exists. The other factor is packed once a call, and sums go
//! from registers to where they belong.
//!
//! The division into tasks depends on the shapes alone and every value is summed by one task in a
//! fixed order, so the bits do not depend on the number of threads. Which scratch region a task uses does.

mod gradient;
mod panels;
mod patches;

use super::gemm::{First, Kernel, Lines, MAX_LINE, MOST_ROWS, PITCH, Rows};
use super::shared::SharedSlice;
use panels::Panels;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use gradient::{add_partial_sums, patches_transposed_by_matrix, transposed_workspace_len};
pub(super) use panels::Matrix;
pub(super) use patches::Patches;

/// Rows of a task of [`patches_by_matrix`], rounded down to whole tiles: their lines and as many lines of the panels
/// share an L2 cache of 1 MiB.
const MAX_ROWS: usize = 140;
/// Columns of a task, rounded up to whole tiles. Each such part gathers the patches again.
const MAX_COLUMNS: usize = 512;
/// Tiles of rows of a task at least: a panel is read from afar for so many.
const LEAST_TILES: usize = 6;
/// Enough tasks to occupy the threads where the shape allows it.
const WANTED_TASKS: usize = 16;
/// Side of the squares of a transposition, and rows of a task that packs: 16 lines of 64 bytes in and out.
pub(super) const BLOCK: usize = 16;

const A_LEN: usize = MAX_ROWS * PITCH;
const C_LEN: usize = MAX_ROWS * MAX_COLUMNS;
const REGION: usize = A_LEN + C_LEN;

/// Scratch for a product of patches of `depth` values with a matrix of `columns`: the matrix, and a region a thread.
pub(super) fn workspace_len(depth: usize, columns: usize) -> usize {
    Panels::most_len(depth, columns) + REGION * rayon::current_num_threads()
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

    /// Of a column, from the beginning of its row.
    fn of_column(&self, column: usize) -> usize {
        let segment = column / self.segment;
        segment * self.segment_pitch + column - segment * self.segment
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

/// output = patches (count x len) * matrix (len x columns).
pub(super) fn patches_by_matrix(
    kernel: &Kernel,
    patches: &Patches,
    matrix: Matrix,
    output: &Output,
    workspace: &mut [f32],
) {
    let panels = Panels::new(kernel, patches.len(), matrix.columns);
    let (packed, scratch) = workspace.split_at_mut(panels.len());
    panels.pack(matrix, packed);
    let columns = Division::new(matrix.columns, MAX_COLUMNS, kernel.columns);
    let wanted = (patches.count() * columns.parts).div_ceil(WANTED_TASKS).next_multiple_of(kernel.rows);
    let most = MAX_ROWS / kernel.rows * kernel.rows;
    let rows = Division::new(patches.count(), wanted.clamp(LEAST_TILES * kernel.rows, most), kernel.rows);
    let product = Product { kernel, patches, panels, packed, output };
    run_tasks(rows.parts * columns.parts, scratch, REGION, |task, region| {
        product.block(rows.part(task / columns.parts), columns.part(task % columns.parts), region);
    });
}

struct Product<'a> {
    kernel: &'a Kernel,
    patches: &'a Patches<'a>,
    panels: Panels,
    packed: &'a [f32],
    output: &'a Output<'a>,
}

impl Product<'_> {
    fn block(&self, rows: Range<usize>, columns: Range<usize>, region: &mut [f32]) {
        let (lines, tiles) = region.split_at_mut(A_LEN);
        let mut starts = [0; MAX_ROWS];
        for (start, row) in starts.iter_mut().zip(rows.clone()) {
            *start = self.output.placement.of_row(row);
        }
        let starts = &starts[..rows.len()];
        let depth = self.patches.len();
        let panel_len = rows.len().next_multiple_of(self.kernel.rows) * self.kernel.columns;
        // An empty sum still writes its zeros.
        for start in (0..depth.max(1)).step_by(MAX_LINE) {
            let values = start..depth.min(start + MAX_LINE);
            self.patches.gather(rows.clone(), values.clone(), lines);
            let panels = columns.clone().step_by(self.kernel.columns);
            for (column, tiles) in panels.zip(tiles.chunks_exact_mut(panel_len)) {
                let b = &self.packed[self.panels.place(&values, column)..];
                match self.run_of(column) {
                    Some(offset) => self.to_output(starts, &values, lines, b, column, offset, tiles),
                    None => self.to_tiles(&values, lines, b, tiles),
                }
            }
        }
        let panels = columns.step_by(self.kernel.columns);
        for (column, tiles) in panels.zip(tiles.chunks_exact(panel_len)) {
            if self.run_of(column).is_none() {
                self.store(starts, column, tiles);
            }
        }
    }

    /// Where in a row of the output the tile's columns from `column` on lie, if one after the other.
    fn run_of(&self, column: usize) -> Option<usize> {
        let segment = self.output.placement.segment;
        let end = self.panels.columns().min((column / segment + 1) * segment);
        (column + self.kernel.columns <= end).then(|| self.output.placement.of_column(column))
    }

    #[expect(clippy::too_many_arguments, reason = "what a panel of a block of a product is")]
    fn to_output(
        &self,
        starts: &[usize],
        values: &Range<usize>,
        lines: &[f32],
        b: &[f32],
        column: usize,
        offset: usize,
        spare: &mut [f32],
    ) {
        let kernel = self.kernel;
        let first = if values.start == 0 {
            First::new(kernel, self.output.add, self.output.bias.map(|bias| &bias[column..]))
        } else {
            First::THERE
        };
        let spare = spare.as_mut_ptr();
        for (sliver, starts) in starts.chunks(kernel.rows).enumerate() {
            let mut rows: Rows = [spare; MOST_ROWS];
            for (row, start) in rows.iter_mut().zip(starts) {
                *row = self.output.values.address(start + offset, kernel.columns);
            }
            let a = &lines[sliver * kernel.rows * PITCH..];
            // SAFETY: `address` has seen each row's room, and tasks own disjoint blocks of rows and columns, of which
            // a placement gives every (row, column) its own place; rows beyond the last go to `spare`, which holds
            // a tile and belongs to this task.
            unsafe { kernel.run_rows(Lines::Rows, values.len(), a, b, &rows, first) };
        }
    }

    /// Sums of columns that do not lie one after the other: `[sliver][tile rows][tile columns]`.
    fn to_tiles(&self, values: &Range<usize>, lines: &[f32], b: &[f32], tiles: &mut [f32]) {
        let Kernel { rows, columns, .. } = *self.kernel;
        for (sliver, tile) in tiles.chunks_exact_mut(rows * columns).enumerate() {
            let a = &lines[sliver * rows * PITCH..];
            self.kernel.run(Lines::Rows, values.len(), a, b, tile, values.start > 0);
        }
    }

    fn store(&self, starts: &[usize], column: usize, tiles: &[f32]) {
        let Output { values, placement, bias, add } = self.output;
        let width = self.kernel.columns;
        for (start, sums) in starts.iter().zip(tiles.chunks_exact(width)) {
            let mut at = column;
            let end = self.panels.columns().min(column + width);
            while at < end {
                let next = end.min((at / placement.segment + 1) * placement.segment);
                let sums = &sums[at - column..next - column];
                // SAFETY: tasks own disjoint blocks of rows and columns, and a placement gives every
                // (row, column) its own place.
                let values = unsafe { values.part(start + placement.of_column(at), sums.len()) };
                write(values, sums, bias.map(|bias| &bias[at..next]), *add);
                at = next;
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
        self.len.min(index * self.part)..self.len.min((index + 1) * self.part)
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
