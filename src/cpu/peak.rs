//! How fast this processor multiplies and adds: the roof of what is bound by operations.

use super::simd::{Level, best};
use super::vector::{Vector, VectorWork, with_vectors};
use std::hint::black_box;

/// Sums that go on independently of each other. A core that starts two multiply-adds a cycle and ends each after 4
/// needs 8; with more than 14, sums, factor and addend do not fit into 16 registers.
const CHAINS: usize = 12;
/// Floats of the widest vector.
const WIDEST: usize = 16;

/// Lets the calling thread multiply and add `rounds` times in registers alone; returns the floating-point operations
/// that this took, two for each multiplication with its addition.
///
/// # Panics
/// With a level that this processor lacks.
pub fn multiply_add(level: Level, rounds: usize) -> f64 {
    assert!(level <= best(), "this processor lacks {level:?}");
    let mut operations = 0.0;
    with_vectors(level, Chains { rounds, operations: &mut operations });
    operations
}

struct Chains<'a> {
    rounds: usize,
    operations: &'a mut f64,
}

impl VectorWork for Chains<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // Chains that start alike would be one to the compiler, constants could be folded.
        let starts: [f32; WIDEST + CHAINS] = black_box(std::array::from_fn(|i| i as f32));
        let factor = black_box(0.999f32);
        // SAFETY: `LANES` is at most `WIDEST`, and so many floats follow each of the first `CHAINS` of `starts`.
        let mut sums: [V; CHAINS] = std::array::from_fn(|i| unsafe { V::load(starts.as_ptr().add(i)) });
        let addend = sums[0];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.times_plus(factor, addend);
            }
        }
        let mut end = [0.0; WIDEST];
        let total = sums.into_iter().fold(V::zero(), V::add);
        // SAFETY: `end` has room for `WIDEST` floats, and `LANES` is at most that.
        unsafe { total.store(end.as_mut_ptr()) };
        black_box(end);
        *self.operations = 2.0 * (self.rounds * CHAINS * V::LANES) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::levels;

    #[test]
    fn operations_grow_with_rounds_and_width() {
        for level in levels() {
            let lanes = match level {
                Level::Plain => 4.0,
                Level::Avx2 => 8.0,
                Level::Avx512 => 16.0,
            };
            assert_eq!(multiply_add(level, 10), 2.0 * 10.0 * 12.0 * lanes);
        }
    }
}
