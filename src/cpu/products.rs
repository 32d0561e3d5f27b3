//! Convolutions and their adjoints by what is multiplied: values of fp32, or of bf16 where the shape goes that way.

use super::bf16;
use super::conv::{self, ConvShape};

/// The factors of a convolution's products. What is read, summed and written is fp32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    #[default]
    Fp32,
    /// Both factors rounded to bf16, 8 significant bits, in what [`bf16`] takes.
    Bf16,
}

impl Products {
    fn workspace(self, narrow: impl FnOnce() -> Option<usize>, wide: impl FnOnce() -> usize) -> usize {
        let narrow = if self == Self::Bf16 { narrow() } else { None };
        narrow.unwrap_or_else(wide)
    }

    /// Floats of workspace for [`Products::forward`].
    pub fn forward_workspace(self, shape: &ConvShape) -> usize {
        self.workspace(|| bf16::forward_workspace(shape), || shape.forward_workspace())
    }

    /// Floats of workspace for [`Products::backward_data`].
    pub fn backward_data_workspace(self, shape: &ConvShape) -> usize {
        self.workspace(|| bf16::backward_data_workspace(shape), || shape.backward_data_workspace())
    }

    /// Floats of workspace for [`Products::backward_weight`].
    pub fn backward_weight_workspace(self, shape: &ConvShape) -> usize {
        self.workspace(|| bf16::backward_weight_workspace(shape), || shape.backward_weight_workspace())
    }

    /// [`conv::forward_into`].
    pub fn forward(
        self,
        shape: &ConvShape,
        x: &[f32],
        w: &[f32],
        (bias, add): (Option<&[f32]>, bool),
        y: &mut [f32],
        workspace: &mut [f32],
    ) {
        if self == Self::Fp32 || !bf16::forward(shape, x, w, (bias, add), y, workspace) {
            conv::forward_into(shape, x, w, bias, y, add, workspace);
        }
    }

    /// [`conv::backward_data`].
    pub fn backward_data(
        self,
        shape: &ConvShape,
        dy: &[f32],
        w: &[f32],
        (bias, add): (Option<&[f32]>, bool),
        dx: &mut [f32],
        workspace: &mut [f32],
    ) {
        if self == Self::Fp32 || !bf16::backward_data(shape, dy, w, (bias, add), dx, workspace) {
            conv::backward_data(shape, dy, w, bias, dx, add, workspace);
        }
    }

    /// [`conv::backward_weight`].
    pub fn backward_weight(
        self,
        shape: &ConvShape,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        add: bool,
        workspace: &mut [f32],
    ) {
        if self == Self::Fp32 || !bf16::backward_weight(shape, x, dy, dw, add, workspace) {
            conv::backward_weight(shape, x, dy, dw, add, workspace);
        }
    }
}
