//! How lively the residual of a site is beside what its scales say, from what is decoded of it already.
//!
//! Where the first channels of a site lie farther from the prediction than usual, the later ones do too. The level of an entry is moved
//! by w (log2 found - log2 expected) levels an octave, of sums of magnitudes of the site so far. All of it is whole numbers: every
//! machine takes the same level.

use super::tables::{LEVELS, PER_OCTAVE};

/// The weight w in 1/256: 0.71 to 0.77 serve 20 heads best, at three step widths.
const WEIGHT: i32 = 184;
/// What both sums begin with, in 1/256 of a step, so that the first entries of a site say little.
const START: u32 = 512;
/// Fraction bits of a logarithm.
const FRACTION: u32 = 6;
/// Magnitudes above this count as this.
const LARGEST: u32 = 1 << 12;

#[derive(Clone)]
pub struct Activity {
    found: u32,
    expected: u32,
}

impl Default for Activity {
    fn default() -> Self {
        Self { found: START, expected: START }
    }
}

impl Activity {
    /// The level of an entry whose own is `base`.
    pub fn level(&self, base: usize) -> usize {
        let ratio = log2(self.found) as i32 - log2(self.expected) as i32;
        let unit = 256 << FRACTION;
        let shift = (WEIGHT * PER_OCTAVE * ratio + unit / 2).div_euclid(unit);
        (base as i32 + shift).clamp(0, LEVELS as i32 - 1) as usize
    }

    /// Takes in an entry; `expected` is the mean magnitude under its own level, in 1/256.
    pub fn add(&mut self, q: i32, expected: u32) {
        self.found = self.found.saturating_add(256 * q.unsigned_abs().min(LARGEST));
        self.expected = self.expected.saturating_add(expected);
    }
}

/// The logarithm to base 2 of a positive number, rounded down to 1/64.
fn log2(x: u32) -> u32 {
    let whole = x.ilog2();
    // Scaled to [2^31, 2^32), then squared bit by bit.
    let mut mantissa = u64::from(x) << (31 - whole);
    let mut log = whole;
    for _ in 0..FRACTION {
        mantissa = (mantissa * mantissa) >> 31;
        let above = mantissa >> 32 != 0;
        log = log << 1 | u32::from(above);
        mantissa >>= u32::from(above);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_reals() {
        for x in (1..5000).chain([u32::MAX, u32::MAX - 1, 1 << 31, 1 << 16]) {
            let expected = f64::from(x).log2() * 64.0;
            // Rounded down, and six squarings of a mantissa of 31 bits are exact to far below 1/64.
            let found = f64::from(log2(x));
            assert!(found <= expected + 1e-4 && expected < found + 1.0 + 1e-4, "{x}: {found} {expected}");
        }
    }

    #[test]
    fn levels_follow_what_was_found() {
        let mut activity = Activity::default();
        assert_eq!(activity.level(20), 20);
        activity.add(60, 256);
        assert!(activity.level(20) > 30);
        let mut quiet = Activity::default();
        (0..100).for_each(|_| quiet.add(0, 256));
        assert!(quiet.level(20) < 10 && quiet.level(0) == 0);
        (0..100_000).for_each(|_| activity.add(i32::MIN, u32::MAX));
        assert!(activity.level(63) <= 63);
    }
}
