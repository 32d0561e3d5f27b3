//! The patches of images, gathered into lines.

use crate::cpu::gemm::PITCH;
use crate::cpu::simd::prefetch;
use std::ops::Range;

/// The patches of images: patch (b, i, j) is `kernel_height` x `kernel_width` pixels with its
/// corner at (i * stride - top, j * stride - left); pixels outside are zero.
pub(in crate::cpu) struct Patches<'a> {
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

    /// Writes `values` of the patches `rows`, a patch a line of [`PITCH`] floats.
    pub fn gather(&self, rows: Range<usize>, values: Range<usize>, lines: &mut [f32]) {
        let mut place = self.place(rows.start);
        for line in lines.chunks_mut(PITCH).take(rows.len()) {
            self.gather_next(&mut place, &values, line);
        }
    }

    pub fn place(&self, row: usize) -> Place {
        let (j, row) = (row % self.grid_width, row / self.grid_width);
        Place { image: row / self.grid_height, i: row % self.grid_height, j }
    }

    fn advance(&self, place: &mut Place) {
        place.j += 1;
        if place.j == self.grid_width {
            (place.j, place.i) = (0, place.i + 1);
            if place.i == self.grid_height {
                (place.i, place.image) = (0, place.image + 1);
            }
        }
    }

    /// Has the processor bring `values` of `count` patches from `place` on near; leaves `place` at the next one.
    pub fn prefetch(&self, place: &mut Place, count: usize, values: &Range<usize>) {
        for _ in 0..count {
            self.for_each_run(*place, values, |run| {
                if let Run::Image { start, len, .. } = run {
                    prefetch(&self.images[start..start + len]);
                }
            });
            self.advance(place);
        }
    }

    /// Writes `values` of one patch and leaves `place` at the next one.
    #[inline]
    pub fn gather_next(&self, place: &mut Place, values: &Range<usize>, line: &mut [f32]) {
        self.for_each_run(*place, values, |run| match run {
            Run::Outside(at) => line[at].fill(0.0),
            Run::Image { at, start, len, first } => {
                let line = &mut line[at];
                let last = first + len;
                line[..first].fill(0.0);
                copy(&self.images[start..start + len], &mut line[first..last]);
                line[last..].fill(0.0);
            }
        });
        self.advance(place);
    }

    /// A row of a patch is one run of the image row; what hangs over its ends is outside.
    #[inline(always)]
    fn for_each_run(&self, place: Place, values: &Range<usize>, mut visit: impl FnMut(Run)) {
        let run = self.kernel_width * self.channels;
        let image_row = self.width * self.channels;
        let left = ((place.j * self.stride) as isize - self.left) * self.channels as isize;
        // A patch without values has no rows either.
        let mut kernel_row = values.start.checked_div(run).unwrap_or(0);
        let mut at = values.start;
        while at < values.end {
            let end = values.end.min((kernel_row + 1) * run);
            let here = at - values.start..end - values.start;
            let y = (place.i * self.stride + kernel_row) as isize - self.top;
            let x = left + (at - kernel_row * run) as isize;
            let first = (-x).clamp(0, here.len() as isize) as usize;
            let last = (image_row as isize - x).clamp(first as isize, here.len() as isize) as usize;
            if y < 0 || y >= self.height as isize || first == last {
                visit(Run::Outside(here));
            } else {
                let row = (place.image * self.height + y as usize) * image_row;
                let start = row + (x + first as isize) as usize;
                visit(Run::Image { at: here, start, len: last - first, first });
            }
            at = end;
            kernel_row += 1;
        }
    }
}

/// Of a patch: its image, and its row and column in the grid.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Place {
    image: usize,
    i: usize,
    j: usize,
}

/// What a row of a patch sees of its image; `at`: where it lies in the line.
enum Run {
    Outside(Range<usize>),
    /// `len` values from `start` on, the first at `first` of the run.
    Image {
        at: Range<usize>,
        start: usize,
        len: usize,
        first: usize,
    },
}

/// Rows of a few pixels of a few channels cost less than the call that copies long runs.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match (<&[f32; 32]>::try_from(from), <&mut [f32; 32]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}
