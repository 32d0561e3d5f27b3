//! Shapes of dense row-major arrays. Images are `[batch, height, width, channels]` (NHWC) inside
//! the program and `[batch, channels, height, width]` in files.

use std::fmt;

/// Up to four extents; a scalar has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; 4],
    rank: usize,
}

impl Shape {
    /// One value.
    pub const SCALAR: Self = Self { extents: [1; 4], rank: 0 };

    /// # Panics
    /// With more than four extents: no array of this program has more.
    pub fn new(extents: &[usize]) -> Self {
        assert!(extents.len() <= 4, "at most four extents, not {extents:?}");
        let mut all = [1; 4];
        all[..extents.len()].copy_from_slice(extents);
        Self { extents: all, rank: extents.len() }
    }

    pub fn scalar() -> Self {
        Self::SCALAR
    }

    pub fn extents(&self) -> &[usize] {
        &self.extents[..self.rank]
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of values; 1 for a scalar.
    pub fn len(&self) -> usize {
        self.extents().iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The four extents of an NHWC image, or `None` for another rank.
    pub fn nhwc(&self) -> Option<[usize; 4]> {
        (self.rank == 4).then_some(self.extents)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.extents(), f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.extents(), f)
    }
}
