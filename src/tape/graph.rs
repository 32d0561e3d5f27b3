//! The recorded computation.

use super::ParameterLayout;
use crate::error::Result;
use crate::ops::Op;
use crate::shape::Shape;
use std::ops::Range;

/// A handle of an array in a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(pub(super) usize);

#[derive(Debug)]
pub(super) enum Origin {
    /// Filled from outside before a replay; carries no gradient.
    Input,
    /// A piece of the parameters.
    Parameter(Range<usize>),
    Node,
}

#[derive(Debug)]
pub(super) struct ValueInfo {
    pub shape: Shape,
    pub origin: Origin,
    /// Whether a parameter stands behind it.
    pub differentiable: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub op: Box<dyn Op>,
    pub inputs: Vec<Value>,
    pub output: Value,
}

/// Ops in the order in which they were applied.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) values: Vec<ValueInfo>,
    pub(super) nodes: Vec<Node>,
    /// Inputs that a tape fills once.
    pub(super) constants: Vec<(Value, Vec<f32>)>,
    /// Whether cheap ops run again in backward instead of keeping their outputs (Chen et al., "Training Deep Nets with
    /// Sublinear Memory Cost", 2016): the same bits in less memory and more time.
    pub recompute: bool,
}

impl Graph {
    pub fn input(&mut self, shape: Shape) -> Value {
        self.push(ValueInfo { shape, origin: Origin::Input, differentiable: false })
    }

    /// An input with the same values `[n]` in every replay.
    pub fn constant(&mut self, values: &[f32]) -> Value {
        let value = self.input(Shape::new(&[values.len()]));
        self.constants.push((value, values.to_vec()));
        value
    }

    /// The parameter `name` of `layout`, which must exist there.
    pub fn parameter(&mut self, layout: &ParameterLayout, name: &str) -> Value {
        let parameter = layout.get(name);
        let origin = Origin::Parameter(parameter.range.clone());
        self.push(ValueInfo { shape: parameter.shape, origin, differentiable: true })
    }

    /// Records `op` on `inputs`; the error is the op's own when the shapes do not fit.
    pub fn apply(&mut self, op: impl Op + 'static, inputs: &[Value]) -> Result<Value> {
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.shape(input)).collect();
        let shape = op.shape(&shapes)?;
        let flows = |(i, input): (usize, &Value)| self.values[input.0].differentiable && op.differentiable(i);
        let differentiable = inputs.iter().enumerate().any(flows);
        let output = self.push(ValueInfo { shape, origin: Origin::Node, differentiable });
        self.nodes.push(Node { op: Box::new(op), inputs: inputs.to_vec(), output });
        Ok(output)
    }

    pub fn shape(&self, value: Value) -> Shape {
        self.values[value.0].shape
    }

    fn push(&mut self, info: ValueInfo) -> Value {
        self.values.push(info);
        Value(self.values.len() - 1)
    }
}
