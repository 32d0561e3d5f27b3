//! Where each parameter lies: all of them in one block, so that the optimiser makes one pass.

use crate::cpu::arena::padded;
use crate::shape::Shape;
use std::ops::Range;

/// What a parameter is, which decides how it is initialised and how files store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Convolution weight `[KH, KW, Cin, Cout]`; `[Cout, Cin, KH, KW]` in files, as PyTorch has it.
    Conv,
    /// Weight of the adjoint, `[KH, KW, Cout, Cin]`; `[Cin, Cout, KH, KW]` in files.
    ConvTranspose,
    /// Added to a result.
    Bias,
    /// Multiplies a normalised value.
    Scale,
    /// One array a view, `[V, H, W, C]`; `[V, C, H, W]` in files.
    Embedding,
}

#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: String,
    pub shape: Shape,
    pub role: Role,
    /// Starts at zero whatever the initialisation: the last layer of a branch.
    pub zero: bool,
    /// Factor on the learning rate.
    pub rate: f32,
    pub range: Range<usize>,
}

/// The parameters of a model in the order of their making.
#[derive(Clone, Debug, Default)]
pub struct ParameterLayout {
    parameters: Vec<Parameter>,
}

impl ParameterLayout {
    /// # Panics
    /// When `name` is taken: two layers of one name would share their weights in silence.
    pub fn add(&mut self, name: &str, shape: Shape, role: Role, zero: bool, rate: f32) {
        assert!(
            self.parameters.iter().all(|parameter| parameter.name != name),
            "two parameters named {name}"
        );
        let start = self.len();
        let range = start..start + shape.len();
        self.parameters.push(Parameter { name: name.to_string(), shape, role, zero, rate, range });
    }

    /// # Panics
    /// When there is none of that name: the model asks only for what it made.
    pub fn get(&self, name: &str) -> &Parameter {
        let found = self.parameters.iter().find(|parameter| parameter.name == name);
        found.unwrap_or_else(|| panic!("no parameter is named {name}"))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// Floats of the whole block, with the padding between parameters.
    pub fn len(&self) -> usize {
        self.parameters.last().map_or(0, |last| padded(last.range.end))
    }

    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Learned values, without the padding.
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.range.len()).sum()
    }
}
