//! Sampling: one sign bit for every sample of the grid, values for the blocks the surface meets.

use rayon::prelude::*;

use super::Volume;
use crate::error::{Error, Result};

/// Samples of a block along x, y and z. One sign group of a row is one block wide.
const BLOCK: [usize; 3] = [16, 8, 8];
const BLOCK_VALUES: usize = BLOCK[0] * BLOCK[1] * BLOCK[2];
const ABSENT: u32 = u32::MAX;

/// What lies beyond the grid: outside, so far that the surface stays at the border.
const BEYOND: f64 = f32::MAX as f64;

/// Signs and values of a volume about a level. The grid is closed by a virtual layer of outside
/// samples on every side.
pub struct Samples<'a, V: ?Sized> {
    volume: &'a V,
    dims: [usize; 3],
    level: f32,
    /// Words of a row of signs; there is at least one bit beyond the last sample.
    words: usize,
    /// Rows of signs: y fastest, with the row dims[1] and the plane dims[2] beyond the grid.
    bits: Vec<u64>,
    beyond: Vec<u64>,
    layers: Vec<Layer>,
}

/// The blocks of one z that have samples on both sides of the level.
#[derive(Default)]
struct Layer {
    /// Number of the block (x fastest) in `values`, or ABSENT.
    index: Vec<u32>,
    values: Vec<f32>,
}

impl<'a, V: Volume + ?Sized> Samples<'a, V> {
    /// Samples the blocks whose range holds the level.
    ///
    /// # Errors
    /// When a sample is not a number, or the grid does not fit into memory.
    pub fn take(volume: &'a V, level: f32) -> Result<Self> {
        let dims = volume.dims();
        let words = dims[0] / 64 + 1;
        let too_large = || {
            Error::new(
                "marching cubes",
                format!(
                    "the signs of {} x {} x {} samples do not fit into memory",
                    dims[0], dims[1], dims[2]
                ),
                "take a coarser grid",
            )
        };
        let plane = dims[1].checked_add(1).and_then(|rows| rows.checked_mul(words)).ok_or_else(too_large)?;
        let count =
            dims[2].checked_add(1).and_then(|planes| planes.checked_mul(plane)).ok_or_else(too_large)?;
        let mut bits = Vec::new();
        bits.try_reserve_exact(count).map_err(|_| too_large())?;
        bits.resize(count, 0u64);
        let layers: Vec<Result<Layer>> = bits
            .par_chunks_mut(BLOCK[2] * plane)
            .enumerate()
            .map(|(block_z, bits)| {
                let sampler = Sampler { volume, dims, level, words, z0: block_z * BLOCK[2], bits };
                sampler.layer()
            })
            .collect();
        // In the order of z, so that the same error is reported whatever the threads did.
        let layers = layers.into_iter().collect::<Result<_>>()?;
        Ok(Self { volume, dims, level, words, bits, beyond: vec![0; words], layers })
    }

    pub fn dims(&self) -> [usize; 3] {
        self.dims
    }

    /// Signs of row (y, z), a bit a sample, set inside. Rows beyond the grid are outside.
    pub fn signs(&self, y: usize, z: usize) -> &[u64] {
        if y > self.dims[1] || z > self.dims[2] {
            return &self.beyond;
        }
        let start = (z * (self.dims[1] + 1) + y) * self.words;
        &self.bits[start..start + self.words]
    }

    /// The value of a sample above the level, finite, with the sign of its bit.
    pub fn above(&self, x: usize, y: usize, z: usize) -> f64 {
        let dims = self.dims;
        if x >= dims[0] || y >= dims[1] || z >= dims[2] {
            return BEYOND;
        }
        let layer = &self.layers[z / BLOCK[2]];
        let block = (y / BLOCK[1]) * dims[0].div_ceil(BLOCK[0]) + x / BLOCK[0];
        let value = match layer.index[block] {
            // A block on one side, asked for by its neighbour: few samples, taken when needed.
            ABSENT => {
                let mut one = [0.0];
                self.volume.row(y, z, x, &mut one);
                one[0]
            }
            number => {
                let row = (z % BLOCK[2]) * BLOCK[1] + y % BLOCK[1];
                layer.values[number as usize * BLOCK_VALUES + row * BLOCK[0] + x % BLOCK[0]]
            }
        };
        let above = f64::from(value.clamp(-f32::MAX, f32::MAX)) - f64::from(self.level);
        // A loose range or a volume that rounds a short row differently must not turn the sign.
        let inside = self.signs(y, z)[x / 64] >> (x % 64) & 1 == 1;
        if inside { above.min(-f64::MIN_POSITIVE) } else { above.max(0.0) }
    }
}

/// Samples one layer of blocks.
struct Sampler<'a, V: ?Sized> {
    volume: &'a V,
    dims: [usize; 3],
    level: f32,
    words: usize,
    z0: usize,
    bits: &'a mut [u64],
}

impl<V: Volume + ?Sized> Sampler<'_, V> {
    fn layer(mut self) -> Result<Layer> {
        let blocks = [self.dims[0].div_ceil(BLOCK[0]), self.dims[1].div_ceil(BLOCK[1])];
        let mut layer = Layer::default();
        if self.z0 >= self.dims[2] {
            return Ok(layer);
        }
        layer.index = vec![ABSENT; blocks[0] * blocks[1]];
        let mut buffer = Vec::new();
        for block_y in 0..blocks[1] {
            let mut block_x = 0;
            while block_x < blocks[0] {
                let start = block_x;
                let mut constant = None;
                while block_x < blocks[0] && constant.is_none() {
                    constant = self.constant_sign(block_x, block_y);
                    block_x += 1;
                }
                let end = block_x - usize::from(constant.is_some());
                if start < end {
                    self.sample(start..end, block_y, &mut buffer)?;
                    self.keep_mixed(start..end, block_y, &buffer, &mut layer);
                }
                if constant == Some(true) {
                    self.fill_inside(end, block_y);
                }
            }
        }
        Ok(layer)
    }

    /// One past the last sample of the layer's blocks in y and z.
    fn limits(&self, block_y: usize) -> [usize; 2] {
        [self.dims[1].min((block_y + 1) * BLOCK[1]), self.dims[2].min(self.z0 + BLOCK[2])]
    }

    /// Whether a block is inside or outside as a whole, where its range tells.
    fn constant_sign(&self, block_x: usize, block_y: usize) -> Option<bool> {
        let [y_end, z_end] = self.limits(block_y);
        let x_end = self.dims[0].min((block_x + 1) * BLOCK[0]);
        let low = [block_x * BLOCK[0], block_y * BLOCK[1], self.z0];
        let (least, most) = self.volume.range(low, [x_end - 1, y_end - 1, z_end - 1]);
        if most < self.level {
            Some(true)
        } else if least >= self.level {
            Some(false)
        } else {
            None
        }
    }

    fn fill_inside(&mut self, block_x: usize, block_y: usize) {
        let [y_end, z_end] = self.limits(block_y);
        let signs = self.whole(block_x);
        for z in self.z0..z_end {
            for y in block_y * BLOCK[1]..y_end {
                self.set(block_x, y, z, signs);
            }
        }
    }

    /// The sign group of a block row that is inside as a whole.
    fn whole(&self, block_x: usize) -> u16 {
        let samples = BLOCK[0].min(self.dims[0] - block_x * BLOCK[0]);
        u16::MAX >> (BLOCK[0] - samples)
    }

    fn place(&self, block_x: usize, y: usize, z: usize) -> (usize, usize) {
        let row = (z - self.z0) * (self.dims[1] + 1) + y;
        (row * self.words + block_x / 4, block_x % 4 * BLOCK[0])
    }

    fn set(&mut self, block_x: usize, y: usize, z: usize, signs: u16) {
        let (word, shift) = self.place(block_x, y, z);
        self.bits[word] |= u64::from(signs) << shift;
    }

    /// Samples neighbouring blocks row by row into `buffer` (rows of whole blocks) and sets the
    /// signs.
    fn sample(
        &mut self,
        blocks: std::ops::Range<usize>,
        block_y: usize,
        buffer: &mut Vec<f32>,
    ) -> Result<()> {
        let [y_end, z_end] = self.limits(block_y);
        let x0 = blocks.start * BLOCK[0];
        let length = self.dims[0].min(blocks.end * BLOCK[0]) - x0;
        let stride = blocks.len() * BLOCK[0];
        buffer.clear();
        buffer.resize(stride * BLOCK[1] * BLOCK[2], f32::INFINITY);
        for z in self.z0..z_end {
            for y in block_y * BLOCK[1]..y_end {
                let row_in_block = (z % BLOCK[2]) * BLOCK[1] + y % BLOCK[1];
                let row = &mut buffer[row_in_block * stride..][..stride];
                self.volume.row(y, z, x0, &mut row[..length]);
                if row.iter().fold(false, |any, value| any | value.is_nan()) {
                    let x = x0 + row.iter().position(|value| value.is_nan()).unwrap_or(0);
                    return Err(not_a_number(x, y, z));
                }
                for (group, block_x) in row.chunks_exact(BLOCK[0]).zip(blocks.clone()) {
                    self.set(block_x, y, z, signs_of(group, self.level));
                }
            }
        }
        Ok(())
    }

    fn keep_mixed(&self, blocks: std::ops::Range<usize>, block_y: usize, buffer: &[f32], layer: &mut Layer) {
        let [y_end, z_end] = self.limits(block_y);
        let stride = blocks.len() * BLOCK[0];
        for block_x in blocks.clone() {
            let (mut any, mut all) = (0, u16::MAX);
            for z in self.z0..z_end {
                for y in block_y * BLOCK[1]..y_end {
                    let (word, shift) = self.place(block_x, y, z);
                    let signs = (self.bits[word] >> shift) as u16;
                    (any, all) = (any | signs, all & signs);
                }
            }
            if any == 0 || all == self.whole(block_x) {
                continue;
            }
            let number = (layer.values.len() / BLOCK_VALUES) as u32;
            layer.index[block_y * self.dims[0].div_ceil(BLOCK[0]) + block_x] = number;
            let x = (block_x - blocks.start) * BLOCK[0];
            for row in buffer.chunks_exact(stride) {
                layer.values.extend_from_slice(&row[x..x + BLOCK[0]]);
            }
        }
    }
}

pub fn not_a_number(x: usize, y: usize, z: usize) -> Error {
    Error::new(
        format!("volume sample ({x}, {y}, {z})"),
        "expected a number, found NaN",
        "check what the volume was made from",
    )
}

/// Sixteen signs. Bytes of 0 and 1 are gathered into bits by a multiplication that moves byte `i`
/// to bit `56 + i`; the compiler makes the comparison a vector one.
fn signs_of(values: &[f32], level: f32) -> u16 {
    let gather = |eight: &[f32]| {
        let bytes: [u8; 8] = std::array::from_fn(|i| u8::from(eight[i] < level));
        u64::from_le_bytes(bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56
    };
    (gather(&values[..8]) | gather(&values[8..16]) << 8) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_gathered_in_order() {
        for bit in 0..16 {
            let values: [f32; 16] = std::array::from_fn(|i| if i == bit { -1.0 } else { 0.0 });
            assert_eq!(signs_of(&values, 0.0), 1 << bit);
        }
    }
}
