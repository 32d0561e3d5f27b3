//! The gradient of a matrix that patches were multiplied with.

use super::panels::copy_line;
use super::patches::Place;
use super::{Division, Matrix, Patches, WANTED_TASKS, run_tasks, write};
use crate::cpu::gemm::{Kernel, Lines, MAX_LINE, PITCH};
use crate::cpu::shared::SharedSlice;
use crate::cpu::simd::{self, Vectorised, prefetch};
use rayon::prelude::*;
use std::ops::Range;

/// Patches gathered at once: with 256 columns of their matrix they share an L2 cache with the sums.
const PATCHES: usize = 128;
/// Columns of a task, rounded up to whole tiles.
const MAX_COLUMNS: usize = 256;

/// Values copied at once to a sliver, of which some may be the next patch's place.
const COPIED: usize = 16;
/// The slivers of a line, which are at most a quarter as many.
const A_LEN: usize = PATCHES * PITCH + MAX_LINE / 4 * COPIED;
const B_LEN: usize = PATCHES * MAX_COLUMNS;
const C_LEN: usize = MAX_LINE * MAX_COLUMNS;
const REGION: usize = A_LEN + B_LEN + C_LEN;

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

/// Scratch for [`patches_transposed_by_matrix`] with `len` x `columns` results over `count` patches.
pub(in crate::cpu) fn transposed_workspace_len(
    kernel: &Kernel,
    len: usize,
    columns: usize,
    count: usize,
) -> usize {
    Split::new(kernel, len, columns, count).partial_len() + REGION * rayon::current_num_threads()
}

/// dw = or += patches^T (len x count) * matrix (count x columns), the matrix a row a patch.
pub(in crate::cpu) fn patches_transposed_by_matrix(
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
    let to = SharedSlice::new(if direct { &mut *dw } else { &mut *partial });
    run_tasks(split.sums * split.rows.parts * split.columns.parts, scratch, REGION, |task, region| {
        let columns = split.columns.part(task % split.columns.parts);
        let rows = split.rows.part(task / split.columns.parts % split.rows.parts);
        let sum = task / split.columns.parts / split.rows.parts;
        let block = Block { kernel, patches, matrix, rows, columns };
        block.sum(split.range(sum), region);
        // SAFETY: every sum and block of rows and columns has its own place and one task.
        unsafe { block.store(&region[A_LEN + B_LEN..], &to, sum * size, add && direct) };
    });
    if !direct {
        add_partial_sums(partial, size, dw, add);
    }
}

/// A part of the result.
struct Block<'a> {
    kernel: &'a Kernel,
    patches: &'a Patches<'a>,
    matrix: Matrix<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Block<'_> {
    /// Over some of the patches, to the end of the region: `[panel][sliver][tile rows][tile columns]`.
    fn sum(&self, patches: Range<usize>, region: &mut [f32]) {
        let (a, rest) = region.split_at_mut(A_LEN);
        let (b, c) = rest.split_at_mut(B_LEN);
        let Kernel { rows, columns, .. } = *self.kernel;
        let slivers = self.rows.len().div_ceil(rows);
        let panels = self.columns.len().div_ceil(columns);
        // An empty sum still writes its zeros.
        for start in (0..patches.len().max(1)).step_by(PATCHES) {
            let part = patches.start + start..patches.end.min(patches.start + start + PATCHES);
            simd::dispatch(Gather { block: self, rows: part.clone(), to: a });
            simd::dispatch(Pack { block: self, rows: part.clone(), to: b });
            let next = part.end..patches.end.min(part.end + PATCHES);
            let mut ahead = Ahead::new(self, next, panels * slivers);
            let tiles = c.chunks_exact_mut(rows * columns).take(panels * slivers);
            for (index, c) in tiles.enumerate() {
                ahead.fetch(index + 1);
                let b = &b[index / slivers * part.len() * columns..];
                let a = &a[index % slivers * sliver_len(self.kernel)..];
                self.kernel.run(Lines::Sliver, part.len(), a, b, c, start > 0);
            }
        }
    }

    /// # Safety
    /// Nobody else uses this block's part of the result from `first` on.
    unsafe fn store(&self, sums: &[f32], to: &SharedSlice, first: usize, add: bool) {
        let Kernel { rows, columns, .. } = *self.kernel;
        let panel = self.rows.len().next_multiple_of(rows) * columns;
        for (line, row) in self.rows.clone().enumerate() {
            for (column, sums) in self.columns.clone().step_by(columns).zip(sums.chunks_exact(panel)) {
                let count = columns.min(self.columns.end - column);
                // SAFETY: the caller's promise.
                let to = unsafe { to.part(first + row * self.matrix.columns + column, count) };
                write(to, &sums[line * columns..line * columns + count], None, add);
            }
        }
    }
}

/// Brings what the next patches need near while tiles are computed: waiting for memory would take a fifth of the time.
struct Ahead<'a> {
    block: &'a Block<'a>,
    patches: Range<usize>,
    place: Place,
    done: usize,
    tiles: usize,
}

impl<'a> Ahead<'a> {
    fn new(block: &'a Block<'a>, patches: Range<usize>, tiles: usize) -> Self {
        Self { block, place: block.patches.place(patches.start), patches, done: 0, tiles }
    }

    /// The share of so many tiles.
    fn fetch(&mut self, tiles: usize) {
        let Block { patches, matrix, rows, columns, .. } = self.block;
        let until = self.patches.len() * tiles / self.tiles;
        patches.prefetch(&mut self.place, until - self.done, rows);
        for patch in self.patches.start + self.done..self.patches.start + until {
            prefetch(&matrix.values[patch * matrix.columns..][columns.clone()]);
        }
        self.done = until;
    }
}

/// Floats from sliver to sliver.
fn sliver_len(kernel: &Kernel) -> usize {
    PATCHES * kernel.rows + COPIED
}

/// Gathers patches into slivers, `[patch][tile row]`. Rows beyond the block hold anything: their sums are not stored.
struct Gather<'a> {
    block: &'a Block<'a>,
    rows: Range<usize>,
    to: &'a mut [f32],
}

impl Vectorised for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Block { kernel, patches, rows, .. } = self.block;
        let mut line = [0.0; PITCH];
        let mut place = patches.place(self.rows.start);
        for patch in 0..self.rows.len() {
            patches.gather_next(&mut place, rows, &mut line);
            for (sliver, first) in (0..rows.len()).step_by(kernel.rows).enumerate() {
                let at = sliver * sliver_len(kernel) + patch * kernel.rows;
                let to: &mut [f32; COPIED] =
                    (&mut self.to[at..at + COPIED]).try_into().expect("COPIED values");
                *to = line[first..first + COPIED].try_into().expect("COPIED values");
            }
        }
    }
}

/// Packs rows of the matrix into panels `[row][tile column]`. The columns beyond the block
/// keep what they hold: their sums are not stored.
struct Pack<'a> {
    block: &'a Block<'a>,
    rows: Range<usize>,
    to: &'a mut [f32],
}

impl Vectorised for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Block { kernel, matrix, columns, .. } = self.block;
        let panel = self.rows.len() * kernel.columns;
        for (line, row) in self.rows.enumerate() {
            let row = &matrix.values[row * matrix.columns..][columns.clone()];
            for (values, panel) in row.chunks(kernel.columns).zip(self.to.chunks_exact_mut(panel)) {
                copy_line(values, &mut panel[line * kernel.columns..][..values.len()]);
            }
        }
    }
}

pub(in crate::cpu) fn add_partial_sums(partial: &[f32], size: usize, dw: &mut [f32], add: bool) {
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
