//! Register-tiled micro-kernels: C (rows x columns) = or += A (rows x depth) B (depth x columns).
//!
//! Values of A are broadcast; a constant step between its lines lets one register address all rows. B is a packed
//! panel, `[depth][columns]`, and the rows of C may lie anywhere.

use super::simd::Level;

/// Floats between two lines of A. Not a multiple of 1 KiB, so that the lines of a tile do not
/// compete for the same sets of the L1 cache.
pub(super) const PITCH: usize = MAX_LINE + 16;
/// The longest line of A.
pub(super) const MAX_LINE: usize = 256;
/// The most rows and columns of a tile.
pub(super) const MOST_ROWS: usize = 14;
pub(super) const MOST_COLUMNS: usize = 32;

/// (depth, A, B, rows of C, first values of C)
type Run = unsafe fn(usize, *const f32, *const f32, *const *mut f32, First);

/// What a tile of C begins with.
#[derive(Clone, Copy)]
pub(super) struct First {
    /// What is there.
    pub add: bool,
    /// A value a column; null: none.
    bias: *const f32,
}

/// A micro-kernel of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// What it runs on.
    pub level: Level,
    /// Rows of the tile.
    pub rows: usize,
    /// Columns of the tile.
    pub columns: usize,
    /// In the order of [`Lines`].
    run: [Run; 3],
}

/// What a line of A is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// A(i, k) = a[i * PITCH + k].
    Rows,
    /// A(i, k) = a[k * PITCH + i]: the product with the transpose.
    Depth,
    /// A(i, k) = a[k * rows + i]: the transpose, packed for one row of tiles.
    Sliver,
}

/// Rows of C that kernels write to.
pub(super) type Rows = [*mut f32; MOST_ROWS];

impl First {
    pub const ZERO: Self = Self { add: false, bias: std::ptr::null() };
    pub const THERE: Self = Self { add: true, bias: std::ptr::null() };

    /// What is there, if `add`, and the bias of the columns of the tile.
    ///
    /// # Panics
    /// Where a bias does not cover the tile.
    pub fn new(kernel: &Kernel, add: bool, bias: Option<&[f32]>) -> Self {
        assert!(bias.is_none_or(|bias| bias.len() >= kernel.columns));
        Self { add, bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr) }
    }
}

impl Kernel {
    pub fn of(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                let run: [Run; 3] = [x86::avx512::<ROWS>, x86::avx512::<DEPTH>, x86::avx512::<SLIVER>];
                Self { level, rows: x86::AVX512_ROWS, columns: 32, run }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                let run: [Run; 3] = [x86::avx2::<ROWS>, x86::avx2::<DEPTH>, x86::avx2::<SLIVER>];
                Self { level, rows: x86::AVX2_ROWS, columns: 16, run }
            }
            _ => {
                let run: [Run; 3] = [plain::<ROWS>, plain::<DEPTH>, plain::<SLIVER>];
                Self { level: Level::Plain, rows: PLAIN_ROWS, columns: PLAIN_COLUMNS, run }
            }
        }
    }

    /// A tile of C that is packed, `[rows][columns]`: C = A B, or C += A B with `accumulate`.
    #[inline]
    pub fn run(&self, lines: Lines, depth: usize, a: &[f32], b: &[f32], c: &mut [f32], accumulate: bool) {
        assert!(c.len() >= self.rows * self.columns);
        let base = c.as_mut_ptr();
        let rows: Rows = std::array::from_fn(|i| base.wrapping_add(i * self.columns));
        let first = if accumulate { First::THERE } else { First::ZERO };
        // SAFETY: the rows that the kernel has lie in C by the assertion.
        unsafe { self.run_rows(lines, depth, a, b, &rows, first) }
    }

    /// C = first + A B, its rows anywhere.
    ///
    /// # Safety
    /// Each of the kernel's rows has room for its columns and nobody else uses it; a bias in `first` is alive.
    #[inline]
    pub unsafe fn run_rows(
        &self,
        lines: Lines,
        depth: usize,
        a: &[f32],
        b: &[f32],
        rows: &Rows,
        first: First,
    ) {
        let (count, step, length) = match lines {
            Lines::Rows => (self.rows, PITCH, depth),
            Lines::Depth => (depth, PITCH, self.rows),
            Lines::Sliver => (depth, self.rows, self.rows),
        };
        assert!(count == 0 || a.len() >= (count - 1) * step + length);
        assert!(b.len() >= depth * self.columns);
        // SAFETY: the kernel reads what the assertions cover and writes what the caller vouches for, and `of` is
        // given a level that this processor has (`simd::level`, `simd::levels`).
        unsafe { self.run[lines as usize](depth, a.as_ptr(), b.as_ptr(), rows.as_ptr(), first) }
    }
}

/// [`Lines`] as a constant.
const ROWS: usize = Lines::Rows as usize;
const DEPTH: usize = Lines::Depth as usize;
const SLIVER: usize = Lines::Sliver as usize;

/// Steps of A in floats: (row, depth).
const fn steps(lines: usize, rows: usize) -> (usize, usize) {
    match lines {
        ROWS => (PITCH, 1),
        DEPTH => (1, PITCH),
        _ => (1, rows),
    }
}

/// 8 x 8 fills half of the 32 vector registers of AArch64, 4 x 8 half of the 16 of SSE2.
const PLAIN_ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };
const PLAIN_COLUMNS: usize = 8;

/// Arrays of constant size, which the compiler keeps in vector registers (NEON on AArch64).
///
/// # Safety
/// What [`Kernel::run_rows`] asserts and asks for.
unsafe fn plain<const LINES: usize>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *const *mut f32,
    first: First,
) {
    let (row, along) = steps(LINES, PLAIN_ROWS);
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
    let mut bias = [0.0f32; PLAIN_COLUMNS];
    if !first.bias.is_null() {
        // SAFETY: `First::new` has seen that many values.
        bias = unsafe { first.bias.cast::<[f32; PLAIN_COLUMNS]>().read() };
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: row i of C holds PLAIN_COLUMNS floats by the caller's promise.
        let c: &mut [f32; PLAIN_COLUMNS] = unsafe { &mut *(*c.add(i)).cast() };
        for ((c, sum), bias) in c.iter_mut().zip(sums).zip(bias) {
            let sum = sum + bias;
            *c = if first.add { *c + sum } else { sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{First, steps};
    use std::arch::x86_64::*;

    pub const AVX512_ROWS: usize = 14;
    pub const AVX2_ROWS: usize = 6;

    /// A kernel of `$rows` rows of two vectors each: so many sums, 2 vectors of B and 1 of A fill the registers.
    macro_rules! kernel {
        ($name:ident, $features:literal, $rows:expr, $lanes:literal, $zero:ident, $load:ident, $store:ident,
         $splat:ident, $add:ident, $fma:ident) => {
            /// # Safety
            /// A processor with the features, and what [`super::Kernel::run_rows`] asserts and asks for.
            #[target_feature(enable = $features)]
            pub unsafe fn $name<const LINES: usize>(
                depth: usize,
                a: *const f32,
                b: *const f32,
                c: *const *mut f32,
                first: First,
            ) {
                let (row, along) = steps(LINES, $rows);
                let mut sums = [[$zero(); 2]; $rows];
                // SAFETY: k < depth, i < rows and the columns stay inside A, B, C and the bias by the caller's promise.
                unsafe {
                    for k in 0..depth {
                        let b = b.add(k * 2 * $lanes);
                        let b = [$load(b), $load(b.add($lanes))];
                        let a = a.add(k * along);
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let a = $splat(*a.add(i * row));
                            sums[0] = $fma(a, b[0], sums[0]);
                            sums[1] = $fma(a, b[1], sums[1]);
                        }
                    }
                    if !first.bias.is_null() {
                        let bias = [$load(first.bias), $load(first.bias.add($lanes))];
                        for sums in &mut sums {
                            *sums = [$add(sums[0], bias[0]), $add(sums[1], bias[1])];
                        }
                    }
                    for (i, sums) in sums.iter().enumerate() {
                        for (j, &sum) in sums.iter().enumerate() {
                            let c = (*c.add(i)).add(j * $lanes);
                            $store(c, if first.add { $add($load(c), sum) } else { sum });
                        }
                    }
                }
            }
        };
    }

    kernel!(
        avx512,
        "avx512f",
        AVX512_ROWS,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_fmadd_ps
    );
    kernel!(
        avx2,
        "avx2,fma",
        AVX2_ROWS,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_fmadd_ps
    );
}
