//! Which tile a product of matrices is computed in, and into how many parts its depth is split: those that a simple
//! model of the card finds fastest.
//!
//! The model: a multiprocessor works off its tiles at the share of its peak rate that stands above each kernel
//! (`kernels/*.cu`, "expect"), and the busiest one sets the time; meanwhile every tile brings its operands in from the
//! memory, of which no cache saves anything; the parts of a split depth are then written, read and added up.
//! The ratio of rates to bandwidth is that of an RTX 3060 (tools/card_model.py has the sources).

use crate::cuda::Precision;

/// A kernel that computes a product in tiles of rows x columns.
pub struct Tile<K> {
    pub rows: usize,
    pub columns: usize,
    /// Of a block.
    pub threads: u32,
    /// Of the card's peak rate, as expected of the kernel.
    pub share: f64,
    pub kernel: K,
}

impl<K> Tile<K> {
    pub const fn new([rows, columns]: [usize; 2], threads: u32, share: f64, kernel: K) -> Self {
        Self { rows, columns, threads, share, kernel }
    }
}

/// The extents of a product.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    /// Parts that the depth may be split into.
    pub most_splits: usize,
}

impl Product {
    pub fn tiles<K>(&self, tile: &Tile<K>) -> usize {
        self.rows.div_ceil(tile.rows) * self.columns.div_ceil(tile.columns)
    }
}

/// A card, and the precision that it multiplies at.
#[derive(Clone, Copy, Debug)]
pub struct Precise {
    pub precision: Precision,
    pub multiprocessors: usize,
}

/// Bytes that the memory moves a clock and multiprocessor: 360 GB/s over 28 multiprocessors at 1.777 GHz.
const BYTES: f64 = 7.2;

/// Threads of the blocks that a multiprocessor has to hold to hide the latency of its memory: fewer reach less than
/// a tile's share of the peak rate.
const RESIDENT_THREADS: usize = 512;

/// Tiles a multiprocessor up to which a depth is split: more even out the multiprocessors' work no further.
const MOST_TILES: usize = 16;

impl Precise {
    /// Floating-point operations a clock and multiprocessor.
    fn operations(&self) -> f64 {
        match self.precision {
            Precision::Tf32 | Precision::Fp32 => 256.0,
            Precision::Bf16 | Precision::Fp16 => 512.0,
        }
    }

    /// Bytes of a factor's value.
    fn value(&self) -> f64 {
        match self.precision {
            Precision::Tf32 | Precision::Fp32 => 4.0,
            Precision::Bf16 | Precision::Fp16 => 2.0,
        }
    }

    /// Clocks that a product takes in such tiles.
    fn clocks<K>(&self, product: &Product, tile: &Tile<K>, splits: usize) -> f64 {
        let blocks = product.tiles(tile) * splits;
        let depth = product.depth.div_ceil(splits) as f64;
        let resident = RESIDENT_THREADS / tile.threads as usize;
        let busiest = blocks.div_ceil(self.multiprocessors).max(resident) as f64;
        let operations = 2.0 * (tile.rows * tile.columns) as f64 * depth;
        let compute = busiest * operations / (self.operations() * tile.share);
        let bandwidth = BYTES * self.multiprocessors as f64;
        let factors = blocks as f64 * (tile.rows + tile.columns) as f64 * depth * self.value();
        let sums = 4.0 * (product.rows * product.columns) as f64;
        let memory = (factors + splits as f64 * sums) / bandwidth;
        // One part is the product itself.
        let adding = if splits > 1 { (splits + 1) as f64 * sums / bandwidth } else { 0.0 };
        compute.max(memory) + adding
    }
}

/// The tile that takes the least time with its splits; of equal ones the first, with the fewest splits. Only the last
/// takes channels that do not come in `whole` pieces.
///
/// # Panics
/// Where there is no tile.
pub fn choose<K>(tiles: &[Tile<K>], product: Product, whole: bool, on: Precise) -> (&Tile<K>, usize) {
    let usable = if whole { tiles } else { &tiles[tiles.len() - 1..] };
    let candidates = usable.iter().flat_map(|tile| {
        let enough = (MOST_TILES * on.multiprocessors).div_ceil(product.tiles(tile).max(1));
        (1..=product.most_splits.min(enough)).map(move |splits| (tile, splits))
    });
    let time = |&(tile, splits): &(&Tile<K>, usize)| on.clocks(&product, tile, splits);
    candidates.min_by(|a, b| time(a).total_cmp(&time(b))).expect("every product has a tile and one part")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Precise = Precise { precision: Precision::Tf32, multiprocessors: 28 };

    fn tiles() -> [Tile<()>; 3] {
        [([128, 128], 256, 0.8), ([128, 64], 256, 0.7), ([64, 64], 128, 0.55)]
            .map(|(extents, threads, share)| Tile::new(extents, threads, share, ()))
    }

    fn chosen(product: Product, whole: bool) -> ([usize; 2], usize) {
        let tiles = tiles();
        let (tile, splits) = choose(&tiles, product, whole, ON);
        ([tile.rows, tile.columns], splits)
    }

    #[test]
    fn a_clock_counts_the_busiest_multiprocessor() {
        // 29 tiles on 28 multiprocessors: two on one of them. 2 * 128 * 128 * 4096 operations each at 0.8 * 256 a clock.
        let product = Product { rows: 29 * 128, columns: 128, depth: 4096, most_splits: 1 };
        let expected = 2.0 * 2.0 * 128.0 * 128.0 * 4096.0 / (0.8 * 256.0);
        assert!((ON.clocks(&product, &tiles()[0], 1) / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn parts_cost_their_bytes() {
        // Too shallow to multiply for long: what is left is 3 times the sums written, and 3 read and 1 written after.
        let product = Product { rows: 2800, columns: 1280, depth: 0, most_splits: 3 };
        let expected = 7.0 * 4.0 * 2800.0 * 1280.0 / (7.2 * 28.0);
        assert!((ON.clocks(&product, &tiles()[2], 3) / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn few_large_tiles_are_split_rather_than_made_small() {
        let product = Product { rows: 1152, columns: 128, depth: 98_304, most_splits: 192 };
        let (tile, splits) = chosen(product, true);
        assert_eq!(tile, [128, 128]);
        assert!(9 * splits >= 2 * 28, "{splits} parts leave multiprocessors idle");
    }

    #[test]
    fn few_rows_and_odd_channels_take_the_small_tile() {
        // Half of each larger tile would be empty.
        let narrow = Product { rows: 64, columns: 112 * 64, depth: 4096, most_splits: 1 };
        assert_eq!(chosen(narrow, true), ([64, 64], 1));
        assert_eq!(
            chosen(Product { rows: 9999, columns: 999, depth: 99, most_splits: 1 }, false),
            ([64, 64], 1)
        );
    }
}
