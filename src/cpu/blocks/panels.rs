//! A matrix packed into the panels that micro-kernels read.

use super::BLOCK;
use crate::cpu::gemm::{Kernel, MAX_LINE, MOST_COLUMNS};
use crate::cpu::shared::SharedSlice;
use rayon::prelude::*;
use std::ops::Range;

/// A matrix of `columns` columns.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Matrix<'a> {
    pub values: &'a [f32],
    pub columns: usize,
    /// The values stand column by column.
    pub transposed: bool,
}

/// A matrix in blocks of [`MAX_LINE`] rows, each `[panel][row][column of the tile]`. Columns beyond the last keep what
/// they held: their sums are not stored.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    rows: usize,
    /// Columns of a panel.
    tile: usize,
    panels: usize,
    columns: usize,
}

impl Panels {
    pub fn new(kernel: &Kernel, rows: usize, columns: usize) -> Self {
        Self { rows, tile: kernel.columns, panels: columns.div_ceil(kernel.columns), columns }
    }

    /// Floats for `rows` x `columns`, whatever the kernel.
    pub fn most_len(rows: usize, columns: usize) -> usize {
        rows * columns.next_multiple_of(MOST_COLUMNS)
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn len(&self) -> usize {
        self.rows * self.panels * self.tile
    }

    /// Where the panel from `column` on begins in the block of the rows `block`.
    pub fn place(&self, block: &Range<usize>, column: usize) -> usize {
        block.start * self.panels * self.tile + column * block.len()
    }

    pub fn pack(&self, matrix: Matrix, to: &mut [f32]) {
        let to = SharedSlice::new(&mut to[..self.len()]);
        // Tasks of a few rows of the matrix as it stands, which are read in one go.
        let stored_rows = if matrix.transposed { matrix.columns } else { self.rows };
        (0..stored_rows.div_ceil(BLOCK)).into_par_iter().for_each(|task| {
            let part = task * BLOCK..stored_rows.min((task + 1) * BLOCK);
            for block in (0..self.rows).step_by(MAX_LINE) {
                let block = block..self.rows.min(block + MAX_LINE);
                if matrix.transposed {
                    self.pack_transposed(matrix, &block, part.clone(), &to);
                } else {
                    let rows = part.start.max(block.start)..part.end.min(block.end);
                    self.pack_rows(matrix, &block, rows, &to);
                }
            }
        });
    }

    fn pack_rows(&self, matrix: Matrix, block: &Range<usize>, rows: Range<usize>, to: &SharedSlice) {
        for row in rows {
            let values = &matrix.values[row * matrix.columns..(row + 1) * matrix.columns];
            for (panel, values) in values.chunks(self.tile).enumerate() {
                let place = self.place(block, panel * self.tile) + (row - block.start) * self.tile;
                // SAFETY: every row and panel has its own place, and a row is in one task.
                copy_line(values, unsafe { to.part(place, values.len()) });
            }
        }
    }

    fn pack_transposed(&self, matrix: Matrix, block: &Range<usize>, columns: Range<usize>, to: &SharedSlice) {
        for start in block.clone().step_by(BLOCK) {
            let rows = start..block.end.min(start + BLOCK);
            // The values of a small square, so that both sides are walked along their lines.
            let mut square = [[0.0f32; BLOCK]; BLOCK];
            for (j, column) in columns.clone().enumerate() {
                let values = &matrix.values[column * self.rows..(column + 1) * self.rows][rows.clone()];
                for (i, value) in values.iter().enumerate() {
                    square[i][j] = *value;
                }
            }
            let panel = columns.start / self.tile * self.tile;
            for (row, line) in rows.zip(&square) {
                let mut from = 0;
                // A square may span several narrow panels.
                for first in (panel..columns.end).step_by(self.tile) {
                    let here = first.max(columns.start)..columns.end.min(first + self.tile);
                    let place =
                        self.place(block, first) + (row - block.start) * self.tile + here.start - first;
                    // SAFETY: every row and column has its own place, and a column is in one task.
                    let to = unsafe { to.part(place, here.len()) };
                    to.copy_from_slice(&line[from..from + here.len()]);
                    from += here.len();
                }
            }
        }
    }
}

/// Copies a line of a panel; whole ones without a call.
#[inline(always)]
pub(super) fn copy_line(from: &[f32], to: &mut [f32]) {
    match (<&[f32; MOST_COLUMNS]>::try_from(from), <&mut [f32; MOST_COLUMNS]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}
