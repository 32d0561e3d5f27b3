//! What the CUDA halves of ops are called with, and what they share.

pub mod conv;

use crate::cuda::{Queue, Read, Write};
use crate::shape::Shape;

/// An array on the card that an op reads.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    pub shape: Shape,
    pub values: Read<f32>,
}

/// One forward call: as [`super::Forward`].
pub struct Forward<'a> {
    pub queue: &'a Queue,
    pub inputs: &'a [Tensor],
    pub output: Write<f32>,
    pub saved: Write<f32>,
    pub workspace: Write<f32>,
}

/// One backward call: as [`super::Backward`].
pub struct Backward<'a> {
    pub queue: &'a Queue,
    pub inputs: &'a [Tensor],
    pub output: Read<f32>,
    /// The cotangent: dL/d(output).
    pub output_gradient: Read<f32>,
    pub saved: Read<f32>,
    pub workspace: Write<f32>,
    /// One an input; `None` where no gradient is wanted.
    pub gradients: &'a [Option<Gradient>],
}

/// Where the gradient of one input goes. The first writer overwrites, later ones add.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    pub values: Write<f32>,
    pub add: bool,
}

impl Gradient {
    /// The flag as kernels take it.
    pub fn add(&self) -> i32 {
        i32::from(self.add)
    }
}
