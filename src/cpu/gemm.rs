//! Register-tiled micro-kernels: C (rows x columns) = or += A (rows x depth) B (depth x columns).
//!
//! A stands as it was gathered, a patch a line of [`PITCH`] floats, and its values are broadcast;
//! the constant pitch lets one register address all rows. B and C are packed tiles.

use super::simd::Level;

/// Floats between two lines of A. Not a multiple of 1 KiB, so that the lines of a tile do not
/// compete for the same sets of the L1 cache.
pub(super) const PITCH: usize = MAX_LINE + 16;
/// The longest line of A.
pub(super) const MAX_LINE: usize = 256;

/// (depth, A, B, C, accumulate)
type Run = unsafe fn(usize, *const f32, *const f32, *mut f32, bool);

/// A micro-kernel of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// What it runs on.
    pub level: Level,
    /// Rows of the tile.
    pub rows: usize,
    /// Columns of the tile.
    pub columns: usize,
    lines_are_rows: Run,
    lines_are_depth: Run,
}

/// What a line of A is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// A(i, k) = a[i * PITCH + k].
    Rows,
    /// A(i, k) = a[k * PITCH + i]: the product with the transpose.
    Depth,
}

impl Kernel {
    pub fn of(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Self::new(level, 14, 32, x86::avx512::<false>, x86::avx512::<true>),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self::new(level, 6, 16, x86::avx2::<false>, x86::avx2::<true>),
            _ => Self::new(Level::Plain, PLAIN_ROWS, PLAIN_COLUMNS, plain::<false>, plain::<true>),
        }
    }

    fn new(level: Level, rows: usize, columns: usize, lines_are_rows: Run, lines_are_depth: Run) -> Self {
        Self { level, rows, columns, lines_are_rows, lines_are_depth }
    }

    /// C = A B, or C += A B with `accumulate`. B is `[depth][columns]`, C is `[rows][columns]`.
    #[inline]
    pub fn run(&self, lines: Lines, depth: usize, a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
        let (run, count, length) = match lines {
            Lines::Rows => (self.lines_are_rows, self.rows, depth),
            Lines::Depth => (self.lines_are_depth, depth, self.rows),
        };
        assert!(count == 0 || a.len() >= (count - 1) * PITCH + length);
        assert!(b.len() >= depth * self.columns && c.len() >= self.rows * self.columns);
        // SAFETY: the kernel reads and writes exactly what the assertions cover, and `of` is given
        // a level that this processor has (`simd::level`, `simd::levels`).
        unsafe { run(depth, a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), accumulate) }
    }
}

/// Steps of A in floats: (row, depth).
const fn steps(transposed: bool) -> (usize, usize) {
    if transposed { (1, PITCH) } else { (PITCH, 1) }
}

/// 8 x 8 fills half of the 32 vector registers of AArch64, 4 x 8 half of the 16 of SSE2.
const PLAIN_ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };
const PLAIN_COLUMNS: usize = 8;

/// Arrays of constant size, which the compiler keeps in vector registers (NEON on AArch64).
///
/// # Safety
/// The lengths that [`Kernel::run`] asserts.
unsafe fn plain<const TRANSPOSED: bool>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    accumulate: bool,
) {
    let (row, along) = steps(TRANSPOSED);
    let mut sums = [[0.0f32; PLAIN_COLUMNS]; PLAIN_ROWS];
    for k in 0..depth {
        // SAFETY: k < depth and i < PLAIN_ROWS stay inside A and B by the caller's promise.
        unsafe {
            let b: &[f32; PLAIN_COLUMNS] = &*b.add(k * PLAIN_COLUMNS).cast();
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = *a.add(i * row + k * along);
                for (sum, b) in sums.iter_mut().zip(b) {
                    // Without the instruction a fused multiply-add is a library call.
                    *sum = if cfg!(target_arch = "aarch64") { a.mul_add(*b, *sum) } else { a * b + *sum };
                }
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: C holds PLAIN_ROWS x PLAIN_COLUMNS floats by the caller's promise.
        let c: &mut [f32; PLAIN_COLUMNS] = unsafe { &mut *c.add(i * PLAIN_COLUMNS).cast() };
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = if accumulate { *c + sum } else { *sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::steps;
    use std::arch::x86_64::*;

    /// 14 x 32: 28 sums, 2 vectors of B and 1 of A in the 32 registers.
    ///
    /// # Safety
    /// A processor with AVX-512 F and the lengths that [`super::Kernel::run`] asserts.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512<const TRANSPOSED: bool>(
        depth: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        accumulate: bool,
    ) {
        let (row, along) = steps(TRANSPOSED);
        let mut sums = [[_mm512_setzero_ps(); 2]; 14];
        // SAFETY: k < depth, i < 14 and 32 columns stay inside A, B and C by the caller's promise.
        unsafe {
            for k in 0..depth {
                let b = b.add(k * 32);
                let b = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
                let a = a.add(k * along);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*a.add(i * row));
                    sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums.iter().enumerate() {
                    let c = c.add(i * 32 + j * 16);
                    let sum = if accumulate { _mm512_add_ps(_mm512_loadu_ps(c), sum) } else { sum };
                    _mm512_storeu_ps(c, sum);
                }
            }
        }
    }

    /// 6 x 16: 12 sums, 2 vectors of B and 1 of A in the 16 registers.
    ///
    /// # Safety
    /// A processor with AVX2 and FMA and the lengths that [`super::Kernel::run`] asserts.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<const TRANSPOSED: bool>(
        depth: usize,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        accumulate: bool,
    ) {
        let (row, along) = steps(TRANSPOSED);
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        // SAFETY: k < depth, i < 6 and 16 columns stay inside A, B and C by the caller's promise.
        unsafe {
            for k in 0..depth {
                let b = b.add(k * 16);
                let b = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                let a = a.add(k * along);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_set1_ps(*a.add(i * row));
                    sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums.iter().enumerate() {
                    let c = c.add(i * 16 + j * 8);
                    let sum = if accumulate { _mm256_add_ps(_mm256_loadu_ps(c), sum) } else { sum };
                    _mm256_storeu_ps(c, sum);
                }
            }
        }
    }
}
