//! Images and weights as the tile products take them: rounded to bf16, to the nearest and to even ones between two.

use super::tiles::{SIDE, STEP, STEP_OF_B, TILE};
use crate::cpu::simd::{self, Vectorised};
use rayon::prelude::*;

/// The bits of `x` with those of bf16 above, rounded. NaN stays NaN.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let even = (bits >> 16) & 1;
    if x.is_nan() { bits | 1 << 22 } else { bits.wrapping_add(0x7fff + even) }
}

/// Two values in bf16 in a word, `first` in the lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    rounded(second) & 0xffff_0000 | rounded(first) >> 16
}

/// A line that a tile reads rows of: whole steps, and an odd number of cache lines, so that rows do not compete for
/// the same sets of a cache.
pub fn pitch(len: usize) -> usize {
    (len.div_ceil(STEP) | 1) * STEP
}

/// Images whose pixels, or whole squares of pixels, are the places of a grid, one after the other in memory: a line of
/// the grid is `line` places long, the image's after `padding` places of zeros, and the grid has `lines` of them for an
/// image, `padding` ones of zeros before it. So a tap of a convolution is a shift by a number of places, whatever the
/// row, and the zeros that end a line are those which begin the next.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// `[batch, square * height, square * width, channels]`.
    pub values: &'a [f32],
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub square: usize,
    pub channels: usize,
    pub line: usize,
    pub lines: usize,
    pub padding: usize,
}

impl Images<'_> {
    /// Values of a place.
    pub fn depth(&self) -> usize {
        self.square * self.square * self.channels
    }

    pub fn places(&self) -> usize {
        self.batch * self.lines * self.line
    }

    /// Where the values of a place begin, unless they are zeros.
    fn pixel(&self, place: usize) -> Option<usize> {
        let (line, j) = (place / self.line, place % self.line);
        let (image, i) = (line / self.lines, line % self.lines);
        let (i, j) = (i.checked_sub(self.padding)?, j.checked_sub(self.padding)?);
        let inside = image < self.batch && i < self.height && j < self.width;
        let row = (image * self.height + i) * self.square;
        inside.then(|| (row * self.width + j) * self.square * self.channels)
    }

    /// Writes the places from `first` on into `into`, a place a line of `pitch` values, zeros behind its depth.
    pub fn gather(&self, first: usize, into: &mut [u16], pitch: usize) {
        simd::dispatch(Gather { images: self, first, into, pitch });
    }
}

struct Gather<'a> {
    images: &'a Images<'a>,
    first: usize,
    into: &'a mut [u16],
    pitch: usize,
}

impl Vectorised for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let images = self.images;
        let run = images.square * images.channels;
        for (index, line) in self.into.chunks_exact_mut(self.pitch).enumerate() {
            let Some(start) = images.pixel(self.first + index) else {
                line.fill(0);
                continue;
            };
            let (values, rest) = line.split_at_mut(images.depth());
            rest.fill(0);
            for (row, values) in values.chunks_exact_mut(run).enumerate() {
                let from = &images.values[start + row * images.width * run..][..run];
                values.iter_mut().zip(from).for_each(|(to, &x)| *to = (rounded(x) >> 16) as u16);
            }
        }
    }
}

/// What multiplies the places: B(tap, d, n), `depth` x `columns` values a tap.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub values: &'a [f32],
    pub taps: usize,
    pub depth: usize,
    pub columns: usize,
    /// B(tap, d, n) is `values[tap][d][n]`, or with this `values[taps - 1 - tap][n][d]`.
    pub adjoint: bool,
}

impl Matrix<'_> {
    /// Steps of a tap.
    pub fn steps(&self) -> usize {
        self.depth.div_ceil(STEP)
    }

    pub fn panels(&self) -> usize {
        self.columns.div_ceil(SIDE)
    }

    /// Values in bf16 of a packed panel.
    pub fn panel_len(&self) -> usize {
        self.taps * self.steps() * STEP_OF_B
    }

    /// Writes the matrix as [`super::tiles::Kernel::run`] takes it, panel after panel, two values a word.
    pub fn pack(&self, words: &mut [u32]) {
        let tiles = words.par_chunks_exact_mut(STEP_OF_B / 2).enumerate();
        tiles.with_min_len(8).for_each(|(index, words)| {
            let (step, panel) = (index % (self.taps * self.steps()), index / (self.taps * self.steps()));
            for (half, words) in words.chunks_exact_mut(TILE * TILE).enumerate() {
                let (tap, d) = (step / self.steps(), step % self.steps() * STEP);
                let n = panel * SIDE + half * TILE;
                simd::dispatch(Pack { matrix: self, tap, d, n, words });
            }
        });
    }
}

/// A tile of 16 pairs of terms from `d` on and 16 columns from `n` on.
struct Pack<'a> {
    matrix: &'a Matrix<'a>,
    tap: usize,
    d: usize,
    n: usize,
    words: &'a mut [u32],
}

impl Vectorised for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let m = self.matrix;
        let (terms, columns) = (m.depth - self.d, m.columns.saturating_sub(self.n));
        if m.adjoint {
            let start = (m.taps - 1 - self.tap) * m.columns + self.n;
            let mut rows = [[0; TILE]; TILE];
            for (index, row) in rows.iter_mut().enumerate().take(columns) {
                let line: [f32; 2 * TILE] = padded(m.values, (start + index) * m.depth + self.d, terms);
                let pairs = line.as_chunks().0;
                row.iter_mut().zip(pairs).for_each(|(word, &[first, second])| *word = pair(first, second));
            }
            return transpose(&rows, self.words);
        }
        for (index, words) in self.words.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
            let line = |term: usize| -> [f32; TILE] {
                let there = if term < terms { columns } else { 0 };
                padded(m.values, (self.tap * m.depth + self.d + term) * m.columns + self.n, there)
            };
            let both = line(2 * index).into_iter().zip(line(2 * index + 1));
            words.iter_mut().zip(both).for_each(|(word, (first, second))| *word = pair(first, second));
        }
    }
}

/// The values from `start` on, zeros behind the first `count`.
#[inline(always)]
fn padded<const N: usize>(values: &[f32], start: usize, count: usize) -> [f32; N] {
    if count >= N {
        return *values[start..].first_chunk().expect("a matrix has its values");
    }
    let mut line = [0.0; N];
    if count > 0 {
        line[..count].copy_from_slice(&values[start..start + count]);
    }
    line
}

/// `to` `[column][row]`.
#[inline(always)]
fn transpose(rows: &[[u32; TILE]; TILE], to: &mut [u32]) {
    for (column, to) in to.chunks_exact_mut(TILE).enumerate() {
        to.iter_mut().zip(rows).for_each(|(to, row)| *to = row[column]);
    }
}

/// 32 places, gathered, turned for a product that sums over places.
pub struct Turn<'a> {
    /// 32 lines of `pitch` values.
    pub lines: &'a [u16],
    pub pitch: usize,
    /// Values of a place, in whole tiles.
    pub depth: usize,
}

impl Turn<'_> {
    /// The places `2 * i` and `2 * i + 1` of the values from `at` on, in words.
    #[inline(always)]
    fn pairs(&self, at: usize) -> [[u32; TILE]; TILE] {
        let mut words = [[0; TILE]; TILE];
        for (words, lines) in words.iter_mut().zip(self.lines.chunks(2 * self.pitch)) {
            let (first, second) = (&lines[at..][..TILE], &lines[self.pitch + at..][..TILE]);
            let both = first.iter().zip(second);
            words.iter_mut().zip(both).for_each(|(w, (&a, &b))| *w = u32::from(b) << 16 | u32::from(a));
        }
        words
    }
}

/// Rows of the first factor: `write(d, words)` is given the 32 places of value d.
pub struct AsRows<'a, W>(pub Turn<'a>, pub W);

impl<W: FnMut(usize, &[u32; TILE])> Vectorised for AsRows<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        for at in (0..self.0.depth).step_by(TILE) {
            let mut turned = [0; TILE * TILE];
            transpose(&self.0.pairs(at), &mut turned);
            turned.as_chunks().0.iter().enumerate().for_each(|(i, words)| (self.1)(at + i, words));
        }
    }
}

/// A step of the second factor: `write(n, words)` is given the tile of 16 pairs of places and the columns from n on.
pub struct AsColumns<'a, W>(pub Turn<'a>, pub W);

impl<W: FnMut(usize, &[[u32; TILE]; TILE])> Vectorised for AsColumns<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        for at in (0..self.0.depth).step_by(TILE) {
            (self.1)(at, &self.0.pairs(at));
        }
    }
}
