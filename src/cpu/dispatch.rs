//! Portable loops, compiled once more for the vector unit that this machine has.

/// Work whose loops gain from wide vectors. `run` and all that it calls in its inner loops must be
/// `#[inline(always)]`: only what is inlined is compiled for the wider unit.
///
/// Nothing contracts a multiplication and an addition into one rounding here, so every version
/// gives the same bits.
pub trait Vectorised {
    type Output;
    fn run(self) -> Self::Output;
}

/// Runs `work` in the widest version that this processor executes.
pub fn vectorised<W: Vectorised>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: `run_avx2` needs AVX2, which the line above has just asked the processor for.
        return unsafe { run_avx2(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<W: Vectorised>(work: W) -> W::Output {
    work.run()
}
