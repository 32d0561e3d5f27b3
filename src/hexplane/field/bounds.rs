//! Smallest and largest votes over a rectangle of pixels and an interval of depths.

use super::ViewTaps;
use super::tap::{larger, smaller};

/// Extremes of the taps of a block of pixels.
#[derive(Clone, Copy, Debug)]
struct Block {
    depth: [f32; 2],
    slope: [f32; 2],
    floor: [f32; 2],
}

impl Block {
    fn join(self, other: Self) -> Self {
        let join = |a: [f32; 2], b: [f32; 2]| [smaller(a[0], b[0]), larger(a[1], b[1])];
        Self {
            depth: join(self.depth, other.depth),
            slope: join(self.slope, other.slope),
            floor: join(self.floor, other.floor),
        }
    }

    /// Bounds of the votes at world depths within `[near, far]`, not yet clamped to tau.
    fn votes(&self, [near, far]: [f32; 2]) -> (f32, f32) {
        // distance * slope grows with the slope where the distance is positive.
        let least = self.depth[0] - far;
        let most = self.depth[1] - near;
        let least = least * self.slope[usize::from(least < 0.0)];
        let most = most * self.slope[usize::from(most > 0.0)];
        (larger(least, self.floor[0]), larger(most, self.floor[1]))
    }
}

/// A pyramid of blocks of 1, 2, 4, ... pixels along an edge.
#[derive(Debug)]
pub(super) struct Bounds {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    size: usize,
    blocks: Vec<Block>,
}

impl Bounds {
    pub fn new(taps: &ViewTaps, size: usize) -> Self {
        let block = |pixel: usize| {
            let tap = taps.tap(pixel);
            Block { depth: [tap.depth; 2], slope: [tap.slope; 2], floor: [tap.floor; 2] }
        };
        let mut levels = vec![Level { size, blocks: (0..size * size).map(block).collect() }];
        while let Some(level) = levels.last()
            && level.size > 1
        {
            levels.push(level.halved());
        }
        Self { levels }
    }

    /// Bounds of the votes of the pixels in `columns` x `rows` (ends included) at depths in `depths`.
    pub fn of(&self, columns: [usize; 2], rows: [usize; 2], depths: [f32; 2]) -> (f32, f32) {
        // The finest level on which the rectangle touches at most 3 x 3 blocks: they reach less than half its
        // extent beyond it.
        let touches = |ends: [usize; 2], level: usize| (ends[1] >> level) - (ends[0] >> level);
        let fits = |level: &usize| touches(columns, *level) <= 2 && touches(rows, *level) <= 2;
        let level = (0..self.levels.len()).find(fits).unwrap_or(self.levels.len() - 1);
        let Level { size, blocks } = &self.levels[level];
        let mut bounds = (f32::INFINITY, f32::NEG_INFINITY);
        for row in rows[0] >> level..=rows[1] >> level {
            for column in columns[0] >> level..=columns[1] >> level {
                let (least, most) = blocks[row * size + column].votes(depths);
                bounds = (smaller(bounds.0, least), larger(bounds.1, most));
            }
        }
        bounds
    }
}

impl Level {
    fn halved(&self) -> Self {
        let size = self.size.div_ceil(2);
        let last = self.size - 1;
        let block = |i: usize| {
            let (row, column) = (2 * (i / size), 2 * (i % size));
            let at = |row: usize, column: usize| self.blocks[row.min(last) * self.size + column.min(last)];
            at(row, column).join(at(row, column + 1)).join(at(row + 1, column)).join(at(row + 1, column + 1))
        };
        Self { size, blocks: (0..size * size).map(block).collect() }
    }
}
