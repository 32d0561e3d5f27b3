//! Which vector instructions to use, decided once at run time.

use std::sync::OnceLock;

/// Instruction sets in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON with FMA on AArch64.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, DQ, VL and BW (with AVX2 and FMA): all server and desktop processors that have it.
    Avx512,
}

impl Level {
    /// As [`OVERRIDE`] spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// Overrides the choice: `avx512`, `avx2` or `plain`. What the machine lacks is not used.
pub const OVERRIDE: &str = "HEXCUDA_SIMD";

/// The level of this process: the best one there is, or less where [`OVERRIDE`] asks for less.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| match std::env::var(OVERRIDE).as_deref() {
        Ok("plain") => Level::Plain,
        Ok("avx2") => best().min(Level::Avx2),
        _ => best(),
    })
}

/// The best level of this machine.
pub fn best() -> Level {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw");
        return if wide { Level::Avx512 } else { Level::Avx2 };
    }
    Level::Plain
}

/// Every level that this machine can run, narrowest vectors first.
pub fn levels() -> Vec<Level> {
    [Level::Plain, Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best()).collect()
}

/// Work whose loops gain from wide vectors. Only what is inlined into `run` is compiled for them, so `run` and
/// all that it calls in its inner loops must be `#[inline(always)]`. A closure can stand for it where it is so
/// small that the compiler inlines it at each of the three places that call it.
///
/// Nothing contracts a multiplication and an addition into one rounding here, so every version gives the
/// same bits.
pub trait Vectorised {
    type Output;
    fn run(self) -> Self::Output;
}

impl<R, F: FnOnce() -> R> Vectorised for F {
    type Output = R;

    #[inline(always)]
    fn run(self) -> R {
        self()
    }
}

/// Runs `work` compiled for [`level`].
#[inline]
pub fn dispatch<W: Vectorised>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    match level() {
        // SAFETY: `level` never exceeds `best`, which asked the processor.
        Level::Avx512 => return unsafe { with_avx512(work) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { with_avx2(work) },
        Level::Plain => {}
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
fn with_avx512<W: Vectorised>(work: W) -> W::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<W: Vectorised>(work: W) -> W::Output {
    work.run()
}

/// Has the processor bring `values` into its second cache, where it can be told.
#[inline]
pub(super) fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
