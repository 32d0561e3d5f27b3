//! Places of a grid times a matrix for each tap: forward, and the gradient of the data.

use super::lines::{Images, Matrix, pitch};
use super::tiles::{Kernel, Rows, SIDE};
use crate::cpu::blocks::run_tasks;
use crate::cpu::shared::SharedSlice;
use std::ops::Range;

/// Bytes of a task's lines: a part of an L2 cache.
const LINES_BUDGET: usize = 768 << 10;
/// Enough tasks to occupy the threads where the shape allows it.
const WANTED_TASKS: usize = 16;
/// Floats of a tile of sums.
const SUMS: usize = SIDE * SIDE;

/// out(place) = sum over taps (i, j) of images(place + i lines + j places) matrix(tap).
pub struct Product<'a> {
    pub images: Images<'a>,
    /// High and wide.
    pub taps: [usize; 2],
    pub matrix: Matrix<'a>,
    /// Places of an image that are wanted: those beyond wrap around a line.
    pub out_height: usize,
    pub out_width: usize,
}

/// Where the product goes: the place (b, i, j) at b `image` + i `row` + j `place`, in runs of `run` values that lie
/// `run_pitch` apart.
pub struct Target<'a> {
    pub values: SharedSlice<'a>,
    pub image: usize,
    pub row: usize,
    pub place: usize,
    pub run: usize,
    pub run_pitch: usize,
    /// Added to every pixel.
    pub bias: Option<&'a [f32]>,
    /// Add to what is there instead of overwriting it.
    pub add: bool,
}

/// How the product is divided into tasks.
struct Division {
    /// Values in bf16 between two lines.
    pitch: usize,
    /// Places of a task, in whole tiles.
    places: usize,
    /// Lines behind them that their last place reads.
    reach: usize,
    blocks: usize,
    /// Panels of a task.
    panels: usize,
    groups: usize,
}

impl Division {
    fn of(product: &Product) -> Self {
        let pitch = pitch(product.images.depth());
        let all = product.images.places();
        let most = (LINES_BUDGET / (2 * pitch) / SIDE).max(1) * SIDE;
        let panels = product.matrix.panels();
        let blocks = |groups: usize| WANTED_TASKS.div_ceil(groups).max(all.div_ceil(most));
        // Each block of places reads the whole matrix, 2 bytes a value, each group of panels all images, 4 bytes.
        let moved = |groups: usize| {
            blocks(groups) * 2 * panels * product.matrix.panel_len()
                + groups * 4 * all * product.images.depth()
        };
        let groups = (1..=panels.min(WANTED_TASKS)).min_by_key(|&groups| moved(groups)).unwrap_or(1);
        let places = all.div_ceil(blocks(groups)).next_multiple_of(SIDE).min(most);
        let blocks = all.div_ceil(places);
        let panels = panels.div_ceil(groups);
        let groups = product.matrix.panels().div_ceil(panels);
        let reach = product.shifts().max().unwrap_or(0);
        Self { pitch, places, reach, blocks, panels, groups }
    }

    /// Floats of a task's lines.
    fn lines(&self) -> usize {
        (self.places + self.reach) * self.pitch / 2
    }

    fn region(&self) -> usize {
        self.lines() + SUMS
    }
}

impl Product<'_> {
    fn shifts(&self) -> impl Iterator<Item = usize> + '_ {
        let [high, wide] = self.taps;
        (0..high).flat_map(move |i| (0..wide).map(move |j| i * self.images.line + j))
    }

    /// Floats of the matrix in bf16, and of a bias for every column.
    fn packed(&self) -> [usize; 2] {
        [self.matrix.panels() * self.matrix.panel_len() / 2, self.matrix.columns.next_multiple_of(SIDE)]
    }

    /// Floats of workspace for [`Product::run`].
    pub fn workspace(&self) -> usize {
        let [matrix, bias] = self.packed();
        matrix + bias + Division::of(self).region() * rayon::current_num_threads()
    }

    pub fn run(&self, kernel: &Kernel, target: &Target, workspace: &mut [f32]) {
        let division = Division::of(self);
        let [matrix, bias] = self.packed();
        let (packed, workspace) = workspace.split_at_mut(matrix);
        let (biases, workspace) = workspace.split_at_mut(bias);
        self.matrix.pack(bytemuck::cast_slice_mut(packed));
        let packed: &[u16] = bytemuck::cast_slice(packed);
        let bias = target.bias.map(|bias| {
            biases.chunks_mut(bias.len()).for_each(|line| line.copy_from_slice(&bias[..line.len()]));
            &*biases
        });
        let taps: Vec<usize> = self.shifts().map(|shift| shift * division.pitch).collect();
        run_tasks(division.blocks * division.groups, workspace, division.region(), |task, region| {
            let (block, group) = (task / division.groups, task % division.groups);
            let (lines, rest) = region.split_at_mut(division.lines());
            let lines: &mut [u16] = bytemuck::cast_slice_mut(lines);
            let first = block * division.places;
            let last = self.images.places().min(first + division.places);
            self.images.gather(first, lines, division.pitch);
            let panels = group * division.panels..self.matrix.panels().min((group + 1) * division.panels);
            for panel in panels {
                let b = &packed[panel * self.matrix.panel_len()..];
                let columns = panel * SIDE..self.matrix.columns.min((panel + 1) * SIDE);
                for place in (first..last).step_by(SIDE) {
                    let rows = Rows {
                        values: &lines[(place - first) * division.pitch..],
                        pitch: division.pitch,
                        taps: &taps,
                        steps: self.matrix.steps(),
                    };
                    kernel.run(&rows, b, rest, SIDE, false);
                    self.store(&rest[..SUMS], place, &columns, target, bias);
                }
            }
        });
    }

    /// Writes a tile of sums, those of places from `first` on.
    fn store(
        &self,
        sums: &[f32],
        first: usize,
        columns: &Range<usize>,
        target: &Target,
        bias: Option<&[f32]>,
    ) {
        let Images { batch, line, lines, .. } = self.images;
        for (place, sums) in (first..).zip(sums.chunks_exact(SIDE)) {
            let (j, i, image) = (place % line, place / line % lines, place / line / lines);
            if j >= self.out_width || i >= self.out_height || image >= batch {
                continue;
            }
            let base = image * target.image + i * target.row + j * target.place;
            let mut column = columns.start;
            while column < columns.end {
                let run = column / target.run;
                let end = columns.end.min((run + 1) * target.run);
                let start = base + run * target.run_pitch + column - run * target.run;
                // SAFETY: tasks own different places or columns, and each pair of them has its own place in the
                // target.
                let values = unsafe { target.values.part(start, end - column) };
                let sums = &sums[column - columns.start..end - columns.start];
                write(values, sums, bias.map(|bias| &bias[column..end]), target.add);
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
