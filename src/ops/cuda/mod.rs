//! What the CUDA halves of ops are called with, and what they share.

pub mod conv;
pub mod tile;

use crate::cuda::{Launch, Precision, Queue, Read, THREADS, Write, int, kernels};
use crate::error::Result;
use crate::shape::Shape;

/// An array that an op reads: in fp32, or in the 2 bytes a value of the queue's precision.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    Wide(Read<f32>),
    Narrow(Read<u16>),
}

/// An array that an op writes, or adds to.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Wide(Write<f32>),
    Narrow(Write<u16>),
}

impl Source {
    /// Values.
    pub fn len(self) -> usize {
        match self {
            Self::Wide(piece) => piece.len,
            Self::Narrow(piece) => piece.len,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// # Panics
    /// Where the array is narrow: the op has not declared by [`super::Storage`] that it reads it in fp32.
    pub fn wide(self) -> Read<f32> {
        match self {
            Self::Wide(piece) => piece,
            Self::Narrow(_) => panic!("an op was given 2 bytes a value where it declares fp32"),
        }
    }

    /// # Panics
    /// Where the array is wide: the op has not declared by [`super::Storage`] that it reads it in 2 bytes a value.
    pub fn narrow(self) -> Read<u16> {
        match self {
            Self::Narrow(piece) => piece,
            Self::Wide(_) => panic!("an op was given fp32 where it declares 2 bytes a value"),
        }
    }
}

impl Default for Source {
    /// Nothing.
    fn default() -> Self {
        Self::Wide(Read::default())
    }
}

impl From<Target> for Source {
    fn from(target: Target) -> Self {
        match target {
            Target::Wide(piece) => Self::Wide(piece.into()),
            Target::Narrow(piece) => Self::Narrow(piece.into()),
        }
    }
}

impl Target {
    /// The first `len` values of whole words of the arena.
    ///
    /// # Panics
    /// Where the piece is smaller.
    pub fn of(piece: Write<f32>, len: usize, narrow: bool) -> Self {
        if narrow { Self::Narrow(piece.cast().part(0..len)) } else { Self::Wide(piece.part(0..len)) }
    }

    /// Values.
    pub fn len(self) -> usize {
        Source::from(self).len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// # Panics
    /// As [`Source::wide`].
    pub fn wide(self) -> Write<f32> {
        match self {
            Self::Wide(piece) => piece,
            Self::Narrow(_) => panic!("an op is to write 2 bytes a value where it declares fp32"),
        }
    }

    /// The place of the values, and 1 where it is one of floats: as kernels take it that write either.
    pub fn either(self) -> (Write<u16>, i32) {
        match self {
            Self::Wide(piece) => (piece.cast(), 1),
            Self::Narrow(piece) => (piece, 0),
        }
    }
}

/// Whether the 2-byte format of the queue is bf16, not fp16: the flag as kernels take it.
pub fn bf16(queue: &Queue) -> i32 {
    i32::from(queue.precision() == Precision::Bf16)
}

/// Floats that `len` values take: the arena counts in whole ones.
pub fn words(len: usize, narrow: bool) -> usize {
    if narrow { len.div_ceil(2) } else { len }
}

/// Queues a copy of `from`, rounded to 2 bytes a value, at `place`.
pub fn round(queue: &Queue, from: Read<f32>, place: Write<f32>) -> Result<Source> {
    let into = place.cast::<u16>().part(0..from.len);
    let launch = Launch::items(from.len.div_ceil(2), THREADS);
    kernels::identity::round(queue, launch, from, into, int(from.len)?, bf16(queue))?;
    Ok(Source::Narrow(into.into()))
}

/// Queues into = `from`, or += it, of two arrays that lie alike.
pub fn pass(queue: &Queue, from: Source, into: Target, add: i32) -> Result<()> {
    let (launch, n) = (Launch::items(from.len(), THREADS), int(from.len())?);
    match into {
        Target::Wide(into) => kernels::identity::backward(queue, launch, from.wide(), into, n, add),
        Target::Narrow(into) => {
            kernels::identity::backward_narrow(queue, launch, from.narrow(), into, n, add, bf16(queue))
        }
    }
}

/// An array on the card that an op reads.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    pub shape: Shape,
    pub values: Source,
}

/// One forward call: as [`super::Forward`].
pub struct Forward<'a> {
    pub queue: &'a Queue,
    pub inputs: &'a [Tensor],
    pub output: Target,
    pub saved: Write<f32>,
    pub workspace: Write<f32>,
}

/// One backward call: as [`super::Backward`].
pub struct Backward<'a> {
    pub queue: &'a Queue,
    pub inputs: &'a [Tensor],
    pub output: Source,
    /// The cotangent: dL/d(output).
    pub output_gradient: Source,
    /// The same as a factor: in 2 bytes a value where the op is a product of such ([`super::Storage`]), else as it lies.
    pub factor: Source,
    pub saved: Read<f32>,
    pub workspace: Write<f32>,
    /// One an input; `None` where no gradient is wanted.
    pub gradients: &'a [Option<Gradient>],
}

/// Where the gradient of one input goes. The first writer overwrites, later ones add.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    pub values: Target,
    pub add: bool,
}

impl Gradient {
    /// The flag as kernels take it.
    pub fn add(&self) -> i32 {
        i32::from(self.add)
    }
}
