//! Device memory: owned arrays, and the plain addresses that kernels take.

use super::driver::Context;
use crate::error::{Error, Result};
use bytemuck::Pod;
use cudarc::driver::result;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// An array on a card, freed when dropped. Its contents are undefined until they are written.
#[derive(Debug)]
pub struct Array<T> {
    context: Arc<Context>,
    address: u64,
    len: usize,
    kind: PhantomData<T>,
}

/// A piece of device memory that a kernel only reads. It borrows nothing: whoever launches keeps the array alive
/// until the queue has passed the launch, which [`Array`] does by freeing only after what was queued before.
#[derive(Clone, Copy, Debug)]
pub struct Read<T> {
    pub(super) address: u64,
    pub len: usize,
    kind: PhantomData<T>,
}

/// A piece of device memory that a kernel reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Write<T> {
    pub(super) address: u64,
    pub len: usize,
    kind: PhantomData<T>,
}

impl<T> From<Write<T>> for Read<T> {
    fn from(piece: Write<T>) -> Self {
        Self { address: piece.address, len: piece.len, kind: PhantomData }
    }
}

impl<T> Default for Read<T> {
    /// Nothing, at the null address.
    fn default() -> Self {
        Self { address: 0, len: 0, kind: PhantomData }
    }
}

impl<T> Default for Write<T> {
    /// Nothing, at the null address.
    fn default() -> Self {
        Self { address: 0, len: 0, kind: PhantomData }
    }
}

impl<T> Write<T> {
    /// # Panics
    /// Where the range leaves the piece.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} values", self.len);
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Self { address, len: range.len(), kind: PhantomData }
    }

    /// The same bytes as values of another type.
    ///
    /// # Panics
    /// Where the piece does not begin at a multiple of that type's size.
    #[must_use]
    pub fn cast<U>(self) -> Write<U> {
        assert!(self.address.is_multiple_of(size_of::<U>() as u64), "pieces begin at multiples of 64 bytes");
        Write { address: self.address, len: self.len * size_of::<T>() / size_of::<U>(), kind: PhantomData }
    }
}

impl<T> Read<T> {
    /// # Panics
    /// Where the range leaves the piece.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} values", self.len);
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Self { address, len: range.len(), kind: PhantomData }
    }

    /// The same bytes as values of another type.
    ///
    /// # Panics
    /// Where the piece does not begin at a multiple of that type's size.
    #[must_use]
    pub fn cast<U>(self) -> Read<U> {
        assert!(self.address.is_multiple_of(size_of::<U>() as u64), "pieces begin at multiples of 64 bytes");
        Read { address: self.address, len: self.len * size_of::<T>() / size_of::<U>(), kind: PhantomData }
    }
}

impl<T: Pod> Array<T> {
    /// `what` names the array in the error where the card has no room for it.
    pub(super) fn allocate(context: &Arc<Context>, len: usize, what: &str) -> Result<Self> {
        let bytes = len * size_of::<T>();
        if len == 0 {
            return Ok(Self { context: context.clone(), address: 0, len: 0, kind: PhantomData });
        }
        context.bind().map_err(|error| context.failed(what, error))?;
        // SAFETY: the context is current; `drop` frees the memory.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|error| {
            let free = result::mem_get_info().map_or(0, |(free, _)| free);
            let mega = |bytes: usize| bytes.div_ceil(1 << 20);
            let problem = format!(
                "{what} takes {} MB, {} MB are free: {}",
                mega(bytes),
                mega(free),
                super::driver::words(error)
            );
            Error::new(
                format!("{context:?}"),
                problem,
                "take a smaller --preset, --batch or --planes, or --device cpu",
            )
        })?;
        Ok(Self { context: context.clone(), address, len, kind: PhantomData })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn read(&self) -> Read<T> {
        self.write().into()
    }

    /// Kernels run in the order of one queue, so that pieces may overlap; a launch itself must not be given two
    /// that do where it writes.
    pub fn write(&self) -> Write<T> {
        Write { address: self.address, len: self.len, kind: PhantomData }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        if self.address != 0 && self.context.bind().is_ok() {
            // SAFETY: allocated in `allocate` and freed once; cuMemFree waits for what was queued before. An
            // error at this point has nobody to go to.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}
