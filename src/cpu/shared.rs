//! A slice that several tasks write at places that do not overlap.

use std::marker::PhantomData;

pub(super) struct SharedSlice<'a> {
    start: *mut f32,
    len: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is `part`, whose callers hold disjoint parts.
unsafe impl Sync for SharedSlice<'_> {}

impl<'a> SharedSlice<'a> {
    pub fn new(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), owner: PhantomData }
    }

    /// # Safety
    /// No two parts that live at the same time may overlap.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches that parts are disjoint")]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "a part lies inside the slice");
        // SAFETY: inside the borrowed slice by the assertion, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// Where a part begins; what is done there is up to the caller's own care.
    ///
    /// # Panics
    /// Where the part leaves the slice.
    pub fn address(&self, start: usize, len: usize) -> *mut f32 {
        assert!(start <= self.len && len <= self.len - start, "a part lies inside the slice");
        self.start.wrapping_add(start)
    }
}
