//! What the machine can do at most, measured on all threads, and each operation's share of it.
//!
//! An operation takes no less than its floating-point operations at the peak rate and no less than its bytes at the
//! bandwidth of memory; the larger of the two is its bound (Williams, Waterman and Patterson, "Roofline: An
//! Insightful Visual Performance Model for Multicore Architectures", CACM 2009). Bytes are the least: every array read or
//! written once. Operations are those of the definition, so that minimal filtering, which does with fewer products,
//! can exceed 100 %; so can arrays that the last pass left in a cache.

use crate::cpu::arena::Arena;
use crate::cpu::peak::multiply_add;
use crate::cpu::simd::{self, Level, Vectorised};
use crate::error::Result;
use crate::memory;
use rayon::prelude::*;
use serde::Serialize;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long a thread multiplies, in bursts of so many rounds: some 0.1 ms.
const PEAK_TIME: Duration = Duration::from_millis(50);
const ROUNDS: usize = 1 << 15;
/// Passes over memory, of which the fastest counts.
const PASSES: usize = 8;
/// Floats of a task of [`Stream::Update`]: those of Adam's.
const CHUNK: usize = 1 << 14;
/// A bound below this many milliseconds is that of waking threads, not of the operation.
const LEAST_MS: f64 = 1e-3;

/// What the machine can do at most.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    pub threads: usize,
    /// The level that the program uses.
    pub level: &'static str,
    /// Multiplications and additions in registers, narrowest vectors first.
    pub peaks: Vec<Peak>,
    /// GB/s of a copy: a byte copied counts twice, read and written.
    pub copy: f64,
    /// GB/s of one pass that reads four arrays and writes three of them back, as Adam does.
    pub update: f64,
    /// Bytes of each array that was streamed.
    pub array_bytes: usize,
}

/// The rate of one kind of vectors.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    pub level: &'static str,
    pub gflops: f64,
}

/// Which pass over memory an operation is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Copy,
    Update,
}

/// The least that an operation has to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Floating-point operations; 0 where memory bounds it whatever they are.
    pub operations: f64,
    pub bytes: f64,
    pub stream: Stream,
}

/// What bounds an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    Operations,
    Bytes,
}

/// How near an operation comes to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    pub bound: Bound,
    /// The least time.
    pub bound_ms: f64,
    /// The least time over the time taken.
    pub share: f64,
}

impl Limits {
    /// Measures for about a second and takes up to 1 GiB meanwhile.
    ///
    /// # Errors
    /// Where there is not enough memory for arrays that are larger than the caches.
    pub fn measure() -> Result<Self> {
        let len = array_len();
        memory::require("bench", 4 * 4 * len, "close other programs")?;
        let threads = rayon::current_num_threads();
        let peak = |level: Level| Peak { level: level.name(), gflops: peak(level) / 1e9 };
        let peaks = simd::levels().into_iter().map(peak).collect();
        // Ones and not zeros, which a system may keep in a single page.
        let mut arrays: [Arena; 4] = std::array::from_fn(|_| Arena::zeros(len));
        arrays.iter_mut().for_each(|array| array.as_mut_slice().fill(1.0));
        let [copy, update] = [Stream::Copy, Stream::Update].map(|stream| stream.bandwidth(&mut arrays) / 1e9);
        Ok(Self { threads, level: simd::level().name(), peaks, copy, update, array_bytes: 4 * len })
    }

    /// GFLOP/s of the level that the program uses.
    pub fn peak(&self) -> f64 {
        self.peaks.iter().find(|peak| peak.level == self.level).map_or(f64::NAN, |peak| peak.gflops)
    }

    /// The share of its bound that an operation of `work` reaches in `milliseconds`; `None` where the bound is too
    /// small to mean anything.
    pub fn share(&self, work: &Work, milliseconds: f64) -> Option<Share> {
        let bandwidth = match work.stream {
            Stream::Copy => self.copy,
            Stream::Update => self.update,
        };
        let operations = work.operations / (1e6 * self.peak());
        let bytes = work.bytes / (1e6 * bandwidth);
        let bound = if operations > bytes { Bound::Operations } else { Bound::Bytes };
        let bound_ms = operations.max(bytes);
        (bound_ms >= LEAST_MS).then(|| Share { bound, bound_ms, share: bound_ms / milliseconds })
    }
}

/// Operations a second of all threads together, each at the median of its bursts: one that another program interrupts
/// does not count, nor does one that runs before the other threads have begun.
fn peak(level: Level) -> f64 {
    let rate = || {
        let (mut rates, start) = (Vec::new(), Instant::now());
        while start.elapsed() < PEAK_TIME {
            let burst = Instant::now();
            let operations = multiply_add(level, ROUNDS);
            rates.push(operations / burst.elapsed().as_secs_f64());
        }
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    rayon::broadcast(|_| rate()).iter().sum()
}

impl Stream {
    /// Bytes a second; the best of several passes.
    fn bandwidth(self, arrays: &mut [Arena; 4]) -> f64 {
        let [a, b, c, d] = arrays.each_mut().map(Arena::as_mut_slice);
        let len = a.len();
        let (mut best, share) = (0.0f64, len.div_ceil(rayon::current_num_threads()));
        for _ in 0..=PASSES {
            let start = Instant::now();
            let passed = match self {
                Self::Copy => {
                    b.par_chunks_mut(share)
                        .zip(a.par_chunks(share))
                        .for_each(|(to, from)| to.copy_from_slice(from));
                    2
                }
                Self::Update => {
                    let written =
                        a.par_chunks_mut(CHUNK).zip(b.par_chunks_mut(CHUNK)).zip(c.par_chunks_mut(CHUNK));
                    written
                        .zip(d.par_chunks(CHUNK))
                        .for_each(|(((a, b), c), d)| simd::dispatch(Update { a, b, c, d }));
                    7
                }
            };
            best = best.max((4 * passed * len) as f64 / start.elapsed().as_secs_f64());
            black_box((&a, &b, &c));
        }
        best
    }
}

/// Three arrays that a fourth is added to: the streams of Adam with little arithmetic.
struct Update<'a> {
    a: &'a mut [f32],
    b: &'a mut [f32],
    c: &'a mut [f32],
    d: &'a [f32],
}

impl Vectorised for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let n = self.a.len();
        let (a, b, c, d) = (&mut self.a[..n], &mut self.b[..n], &mut self.c[..n], &self.d[..n]);
        for i in 0..n {
            a[i] += d[i];
            b[i] += d[i];
            c[i] += d[i];
        }
    }
}

/// Floats of an array: twice the last-level cache, 16 to 256 MiB.
fn array_len() -> usize {
    (2 * last_level_cache().unwrap_or(32 << 20)).clamp(16 << 20, 256 << 20) / 4
}

/// Bytes of the largest cache, where the system tells (Linux).
fn last_level_cache() -> Option<usize> {
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    caches
        .filter_map(|cache| kibibytes(&std::fs::read_to_string(cache.ok()?.path().join("size")).ok()?))
        .max()
}

/// `32768K` in bytes.
fn kibibytes(text: &str) -> Option<usize> {
    text.trim().strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let peaks = vec![Peak { level: simd::level().name(), gflops: 200.0 }];
        Limits {
            threads: 2,
            level: simd::level().name(),
            peaks,
            copy: 20.0,
            update: 10.0,
            array_bytes: 1 << 26,
        }
    }

    #[test]
    fn the_larger_bound_counts() {
        let work = |operations, bytes, stream| Work { operations, bytes, stream };
        let of =
            |work: Work| limits().share(&work, 4.0).map(|share| (share.bound, share.bound_ms, share.share));
        // 200 operations take 1 ns, 20 bytes of a copy 1 ns, 10 bytes of an update 1 ns.
        assert_eq!(of(work(4e8, 2e7, Stream::Copy)), Some((Bound::Operations, 2.0, 0.5)));
        assert_eq!(of(work(1e8, 2e7, Stream::Copy)), Some((Bound::Bytes, 1.0, 0.25)));
        assert_eq!(of(work(0.0, 2e7, Stream::Update)), Some((Bound::Bytes, 2.0, 0.5)));
        assert_eq!(of(work(0.0, 8.0, Stream::Copy)), None);
    }

    #[test]
    fn sizes_of_caches_are_read() {
        assert_eq!([kibibytes("32768K\n"), kibibytes("1M"), kibibytes("")], [Some(32 << 20), None, None]);
    }

    #[test]
    fn an_update_adds_to_three_arrays() {
        let (mut a, mut b, mut c) = ([1.0; 3], [2.0; 3], [3.0; 3]);
        Update { a: &mut a, b: &mut b, c: &mut c, d: &[1.0, 2.0, 4.0] }.run();
        assert_eq!((a, b, c), ([2.0, 3.0, 5.0], [3.0, 4.0, 6.0], [4.0, 5.0, 7.0]));
    }
}
