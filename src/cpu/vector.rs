//! Vectors of f32: one body of code for every instruction set.

use super::simd::Level;

/// A register of floats. Values exist only inside [`VectorWork::run`], where the processor has the instructions.
pub(super) trait Vector: Copy {
    const LANES: usize;

    /// # Safety
    /// `LANES` floats can be read there.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `LANES` floats can be written there.
    unsafe fn store(self, to: *mut f32);

    fn zero() -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn times(self, factor: f32) -> Self;
    /// self factor + other, rounded once where the processor can.
    fn times_plus(self, factor: f32, other: Self) -> Self;
}

/// Work that is compiled for every instruction set. `run` and all that it calls must be `#[inline(always)]`.
pub(super) trait VectorWork {
    fn run<V: Vector>(self);
}

/// Runs `work` with the vectors of `level`, which must be one that this processor has.
pub(super) fn with_vectors(level: Level, work: impl VectorWork) {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx512 => unsafe { x86::with_avx512(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Level::Avx2 => unsafe { x86::with_avx2(work) },
        _ => work.run::<Plain>(),
    }
}

const PLAIN: usize = 4;

/// What the compiler makes of four floats: SSE2, NEON.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; PLAIN]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Vector for Plain {
    const LANES: usize = PLAIN;

    // SAFETY: `from` has `LANES` floats, by the caller's promise.
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above.
        Self(unsafe { from.cast::<[f32; PLAIN]>().read_unaligned() })
    }

    // SAFETY: `to` has room for `LANES` floats, by the caller's promise.
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; PLAIN]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; PLAIN])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn times(self, factor: f32) -> Self {
        Self(self.0.map(|a| a * factor))
    }

    #[inline(always)]
    fn times_plus(self, factor: f32, other: Self) -> Self {
        self.zip(other, |a, b| a * factor + b)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Vector, VectorWork};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
    pub fn with_avx512<W: VectorWork>(work: W) {
        work.run::<__m512>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn with_avx2<W: VectorWork>(work: W) {
        work.run::<__m256>();
    }

    macro_rules! vector {
        ($kind:ty, $lanes:literal, $load:ident, $store:ident, $zero:ident, $add:ident, $sub:ident, $mul:ident,
         $fma:ident, $splat:ident) => {
            impl Vector for $kind {
                const LANES: usize = $lanes;

                // SAFETY: `from` has `LANES` floats, by the caller's promise.
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as above, and the instructions are there (`Vector`).
                    unsafe { $load(from) }
                }

                // SAFETY: `to` has room for `LANES` floats, by the caller's promise.
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above, and the instructions are there (`Vector`).
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: the instructions are there (`Vector`).
                    unsafe { $zero() }
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: the instructions are there (`Vector`).
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    // SAFETY: the instructions are there (`Vector`).
                    unsafe { $sub(self, other) }
                }

                #[inline(always)]
                fn times(self, factor: f32) -> Self {
                    // SAFETY: the instructions are there (`Vector`).
                    unsafe { $mul(self, $splat(factor)) }
                }

                #[inline(always)]
                fn times_plus(self, factor: f32, other: Self) -> Self {
                    // SAFETY: the instructions are there (`Vector`).
                    unsafe { $fma(self, $splat(factor), other) }
                }
            }
        };
    }

    vector!(
        __m512,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_setzero_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_set1_ps
    );
    vector!(
        __m256,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_setzero_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_set1_ps
    );
}
