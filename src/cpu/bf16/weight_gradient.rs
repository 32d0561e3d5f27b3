//! The gradient of the weights: a product that sums over places.

use super::lines::{AsColumns, AsRows, Images, Turn, pitch};
use super::tiles::{Kernel, Rows, SIDE, STEP, STEP_OF_B, TILE};
use crate::cpu::blocks::{add_partial_sums, run_tasks};
use crate::cpu::shared::SharedSlice;
use crate::cpu::simd;

/// Rows and columns of a task's sums.
const MOST_SIDE: usize = 128;
/// Places at a time: with [`MOST_SIDE`] of both factors, and the sums of 9 taps, a part of an L2 cache.
const CHUNK: usize = 1024;
/// Enough tasks to occupy the threads where the shape allows it.
const WANTED_TASKS: usize = 16;

/// dw(tap (i, j), d, o) = sum over places of images(place + i lines + j places, d) gradients(place, o).
pub struct WeightGradient<'a> {
    pub images: Images<'a>,
    /// In the lines of `images`, without zeros before them.
    pub gradients: Images<'a>,
    pub taps: [usize; 2],
}

/// How it is divided, and where the factors lie.
struct Division {
    taps: usize,
    depth: usize,
    columns: usize,
    /// Steps of places.
    steps: usize,
    /// Words of two places a row of the images, with those that the last taps read.
    row: usize,
    rows_a_task: usize,
    columns_a_task: usize,
    /// Partial sums.
    sums: usize,
}

/// Which partial sum, and where its rows and columns begin.
struct Task {
    sum: usize,
    row: usize,
    column: usize,
}

impl Division {
    fn of(gradient: &WeightGradient) -> Self {
        let [high, wide] = gradient.taps;
        let (depth, columns) = (gradient.images.depth(), gradient.gradients.depth());
        let steps = gradient.images.places().div_ceil(STEP);
        let reach = (high - 1) * gradient.images.line + wide - 1;
        let side = |len: usize| len.next_multiple_of(SIDE).min(MOST_SIDE);
        let (rows_a_task, columns_a_task) = (side(depth), side(columns));
        let blocks = depth.div_ceil(rows_a_task) * columns.div_ceil(columns_a_task);
        // A partial sum costs a pass over the result: it must be long enough to be worth it.
        let sums = WANTED_TASKS.div_ceil(blocks).min(steps * STEP / CHUNK).max(1);
        let row = pitch(steps * STEP + reach) / 2;
        Self { taps: high * wide, depth, columns, steps, row, rows_a_task, columns_a_task, sums }
    }

    /// Rows and columns of a task.
    fn block(&self, task: &Task) -> [usize; 2] {
        [self.rows_a_task.min(self.depth - task.row), self.columns_a_task.min(self.columns - task.column)]
    }

    /// Writes or adds the sums of a task.
    fn store(&self, task: &Task, sums: &[f32], into: &SharedSlice, add: bool) {
        let [high, wide] = self.block(task);
        for (tap, line) in (0..self.taps).flat_map(|tap| (0..high).map(move |line| (tap, line))) {
            let from = &sums[(tap * self.rows_a_task + line) * self.columns_a_task..][..wide];
            let row = (task.sum * self.taps + tap) * self.depth + task.row + line;
            // SAFETY: tasks own different partial sums, rows or columns.
            let to = unsafe { into.part(row * self.columns + task.column, wide) };
            match add {
                true => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
                false => to.copy_from_slice(from),
            }
        }
    }

    /// Values of the result.
    fn size(&self) -> usize {
        self.taps * self.depth * self.columns
    }

    /// Floats of both factors, and of partial sums.
    fn parts(&self) -> [usize; 3] {
        let panels = self.columns.div_ceil(SIDE);
        let partial = if self.sums == 1 { 0 } else { self.sums * self.size() };
        [self.depth.next_multiple_of(SIDE) * self.row, panels * self.steps * STEP_OF_B / 2, partial]
    }

    /// Floats of the lines that are turned at a time, or of the sums of a task.
    fn region(&self) -> usize {
        let lines = pitch(self.depth.max(self.columns)) * STEP / 2;
        lines.max(self.taps * self.rows_a_task * self.columns_a_task)
    }
}

impl WeightGradient<'_> {
    /// Floats of workspace for [`WeightGradient::run`].
    pub fn workspace(&self) -> usize {
        let division = Division::of(self);
        division.parts().iter().sum::<usize>() + division.region() * rayon::current_num_threads()
    }

    pub fn run(&self, kernel: &Kernel, dw: &mut [f32], add: bool, workspace: &mut [f32]) {
        let division = Division::of(self);
        let [rows, columns, partial] = division.parts();
        let (rows, workspace) = workspace.split_at_mut(rows);
        let (columns, workspace) = workspace.split_at_mut(columns);
        let (partial, workspace) = workspace.split_at_mut(partial);
        self.turn(&division, rows, columns, workspace);
        let direct = division.sums == 1;
        let factors = [&*rows, &*columns].map(bytemuck::cast_slice);
        let sums = SharedSlice::new(if direct { &mut *dw } else { &mut *partial });
        let high = division.depth.div_ceil(division.rows_a_task);
        let wide = division.columns.div_ceil(division.columns_a_task);
        run_tasks(division.sums * high * wide, workspace, division.region(), |task, region| {
            let task = Task {
                sum: task / wide / high,
                row: task / wide % high * division.rows_a_task,
                column: task % wide * division.columns_a_task,
            };
            self.multiply(kernel, &division, factors, &task, region);
            division.store(&task, region, &sums, add && direct);
        });
        if !direct {
            add_partial_sums(partial, division.size(), dw, add);
        }
    }

    /// Both factors from the images: rows `[depth][place]`, columns `[panel][step]`.
    fn turn(&self, division: &Division, rows: &mut [f32], columns: &mut [f32], workspace: &mut [f32]) {
        let (rows, columns) = (SharedSlice::new(rows), SharedSlice::new(columns));
        // The rows go on behind the places.
        let steps = 2 * division.row / STEP;
        run_tasks(steps, workspace, division.region(), |step, region| {
            let line = pitch(division.depth);
            let lines: &mut [u16] = &mut bytemuck::cast_slice_mut(region)[..STEP * line];
            self.images.gather(step * STEP, lines, line);
            let turn = Turn { lines, pitch: line, depth: division.depth.next_multiple_of(SIDE) };
            simd::dispatch(AsRows(turn, |d: usize, words: &[u32; TILE]| {
                // SAFETY: a step has its own places of every row.
                let to = unsafe { rows.part(d * division.row + step * TILE, TILE) };
                bytemuck::cast_slice_mut(to).as_chunks_mut().0[0] = *words;
            }));
            if step >= division.steps {
                return;
            }
            let line = pitch(division.columns);
            let lines: &mut [u16] = &mut bytemuck::cast_slice_mut(region)[..STEP * line];
            self.gradients.gather(step * STEP, lines, line);
            let turn = Turn { lines, pitch: line, depth: division.columns.next_multiple_of(SIDE) };
            simd::dispatch(AsColumns(turn, |n: usize, words: &[[u32; TILE]; TILE]| {
                let half = TILE * TILE;
                let at = (n / SIDE * division.steps + step) * 2 * half + n / TILE % 2 * half;
                // SAFETY: a step has its own part of every panel.
                let to = unsafe { columns.part(at, half) };
                bytemuck::cast_slice_mut(to).copy_from_slice(words.as_flattened());
            }));
        });
    }

    /// The sums of a task: `[tap][row][column]`, over the places of partial sum `sum`.
    fn multiply(
        &self,
        kernel: &Kernel,
        division: &Division,
        [rows, columns]: [&[u16]; 2],
        task: &Task,
        region: &mut [f32],
    ) {
        let steps =
            task.sum * division.steps / division.sums..(task.sum + 1) * division.steps / division.sums;
        let [high, wide] = division.block(task);
        let row = 2 * division.row;
        for start in steps.clone().step_by(CHUNK / STEP) {
            let count = steps.end.min(start + CHUNK / STEP) - start;
            for column in (0..wide).step_by(SIDE) {
                let b = &columns[((task.column + column) / SIDE * division.steps + start) * STEP_OF_B..];
                for (tap, shift) in self.shifts().enumerate() {
                    for line in (0..high).step_by(SIDE) {
                        let a = Rows {
                            values: &rows[(task.row + line) * row + start * STEP..],
                            pitch: row,
                            taps: &[shift],
                            steps: count,
                        };
                        let at = (tap * division.rows_a_task + line) * division.columns_a_task + column;
                        kernel.run(&a, b, &mut region[at..], division.columns_a_task, start > steps.start);
                    }
                }
            }
        }
    }

    fn shifts(&self) -> impl Iterator<Item = usize> + '_ {
        let [high, wide] = self.taps;
        (0..high).flat_map(move |i| (0..wide).map(move |j| i * self.images.line + j))
    }
}
