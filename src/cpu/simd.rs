//! Which vector instructions to use, decided once at run time.

use std::sync::OnceLock;

/// Instruction sets in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON with FMA on AArch64.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F (with AVX2 and FMA).
    Avx512,
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
        return if is_x86_feature_detected!("avx512f") { Level::Avx512 } else { Level::Avx2 };
    }
    Level::Plain
}

/// Every level that this machine can run, for tests.
#[cfg(test)]
pub(crate) fn levels() -> Vec<Level> {
    [Level::Plain, Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best()).collect()
}

/// Runs `work` compiled for [`level`]: loops that are inlined into it are vectorised for it.
#[inline]
pub fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    match level() {
        // SAFETY: `level` never exceeds `best`, which asked the processor.
        Level::Avx512 => return unsafe { with_avx512(work) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { with_avx2(work) },
        Level::Plain => {}
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
