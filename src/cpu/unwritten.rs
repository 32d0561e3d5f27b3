//! A vector that tasks write part by part, so that nobody has to fill it first: zeros for planes that are written
//! whole anyway took a fifth of the rasteriser's time.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory for floats that holds nothing yet.
pub struct Unwritten {
    values: Vec<f32>,
    len: usize,
    /// Values that the parts of the last [`Unwritten::parts`] have got.
    written: AtomicUsize,
}

/// A part that nobody else holds, written from its begin to its end.
pub struct Part<'a> {
    /// What is still to be written.
    rest: &'a mut [MaybeUninit<f32>],
    len: usize,
    written: &'a AtomicUsize,
}

impl Unwritten {
    pub fn new(len: usize) -> Self {
        Self { values: Vec::with_capacity(len), len, written: AtomicUsize::new(0) }
    }

    /// Parts of these lengths, one behind the other from the begin on. Whatever was written before has to be
    /// written again.
    ///
    /// # Panics
    /// Where there is no room for a part.
    pub fn parts(&mut self, lens: impl Iterator<Item = usize>) -> impl Iterator<Item = Part<'_>> {
        *self.written.get_mut() = 0;
        let written = &self.written;
        let mut rest = &mut self.values.spare_capacity_mut()[..self.len];
        lens.map(move |len| Part {
            rest: rest.split_off_mut(..len).expect("parts lie inside the whole"),
            len,
            written,
        })
    }

    /// The values.
    ///
    /// # Panics
    /// Where a part was not written to its end.
    pub fn finish(mut self) -> Vec<f32> {
        assert_eq!(*self.written.get_mut(), self.len, "every part is written before the whole is read");
        // SAFETY: `parts` gives out each of the `len` values at most once and starts the count anew, while no older
        // part is left; a part counts what it has initialised, once, when it goes. So a count of `len` is every value.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

impl Part<'_> {
    /// Writes the next values, past the caches where the machine can: nobody reads them soon, and a cache would
    /// fetch the lines first only to have them overwritten.
    ///
    /// # Panics
    /// Where the part has no room for them.
    #[inline]
    pub fn append(&mut self, values: &[f32]) {
        let slots = self.rest.split_off_mut(..values.len()).expect("a part has room for what is its own");
        if !stream(slots, values) {
            slots.iter_mut().zip(values).for_each(|(slot, &value)| _ = slot.write(value));
        }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE belongs to every x86-64. What `stream` stored is ordered with nothing else, so that it must
        // be over before anybody is told.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
        self.written.fetch_add(self.len - self.rest.len(), Ordering::Relaxed);
    }
}

/// Whether it wrote `values`: whole vectors at addresses that allow it.
#[cfg(target_arch = "x86_64")]
#[inline]
fn stream(slots: &mut [MaybeUninit<f32>], values: &[f32]) -> bool {
    use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
    const LANES: usize = 4;
    assert_eq!(slots.len(), values.len());
    let start: *mut f32 = slots.as_mut_ptr().cast();
    if start.align_offset(LANES * size_of::<f32>()) != 0 || !slots.len().is_multiple_of(LANES) {
        return false;
    }
    for (index, values) in values.as_chunks::<LANES>().0.iter().enumerate() {
        // SAFETY: SSE belongs to every x86-64. `values` are four floats; the four at `start + LANES * index` lie in
        // `slots`, which is as long as all values, and are aligned because `start` is.
        unsafe { _mm_stream_ps(start.add(LANES * index), _mm_loadu_ps(values.as_ptr())) };
    }
    true
}

#[cfg(not(target_arch = "x86_64"))]
fn stream(_: &mut [MaybeUninit<f32>], _: &[f32]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let expected: Vec<f32> = (0..70).map(|i| i as f32).collect();
        let mut whole = Unwritten::new(70);
        for _ in 0..2 {
            // Aligned and not, whole vectors and not.
            let parts: Vec<Part> = whole.parts([32, 1, 8, 29].into_iter()).collect();
            for (mut part, values) in parts.into_iter().zip([0..32, 32..33, 33..41, 41..70]) {
                let (first, rest) = expected[values].split_at(part.len / 2);
                part.append(first);
                part.append(rest);
            }
        }
        assert_eq!(whole.finish(), expected);
        assert!(Unwritten::new(0).finish().is_empty());
    }

    #[test]
    #[should_panic(expected = "every part is written")]
    fn what_was_left_out_is_noticed() {
        let mut whole = Unwritten::new(6);
        whole.parts([2; 3].into_iter()).for_each(|mut part| part.append(&[1.0; 2]));
        whole.parts([2; 3].into_iter()).for_each(|mut part| part.append(&[1.0; 1]));
        whole.finish();
    }
}
