//! Replaying a node on a card.

use super::graph::{Graph, Node, Origin};
use super::plan::{Again, Plan};
use crate::cuda::{Queue, Read, Write};
use crate::error::Result;
use crate::ops::cuda::{Backward, Forward, Gradient, Source, Target, Tensor, pass, round};
use std::ops::Range;

/// A recorded graph and where a tape of a card has its numbers.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub graph: &'a Graph,
    pub plan: &'a Plan,
    pub queue: &'a Queue,
    pub arena: Write<f32>,
    pub parameters: Read<f32>,
    /// Values that lie elsewhere than the plan has them, since they were made again.
    pub again: &'a [Again],
}

impl Memory<'_> {
    /// A piece of the arena that holds a value of the graph, or its gradient.
    fn target(&self, value: usize, range: &Range<usize>) -> Target {
        let len = self.graph.values[value].shape.len();
        Target::of(self.arena.part(range.clone()), len, self.plan.narrow[value])
    }

    fn value(&self, value: usize) -> Source {
        match &self.graph.values[value].origin {
            Origin::Parameter(range) => Source::Wide(self.parameters.part(range.clone())),
            Origin::Input | Origin::Node => {
                self.target(value, self.plan.in_backward(self.again, value)).into()
            }
        }
    }

    /// The same in 2 bytes a value, rounded into `place` where it lies in fp32 in the arena.
    fn factor(&self, value: usize, place: &Range<usize>) -> Result<Source> {
        match (&self.graph.values[value].origin, self.value(value)) {
            (Origin::Parameter(range), _) => {
                let rounded = self.arena.part(self.plan.rounded_parameters.clone()).cast::<u16>();
                Ok(Source::Narrow(rounded.part(range.clone()).into()))
            }
            (_, Source::Wide(from)) => round(self.queue, from, self.arena.part(place.clone())),
            (_, narrow) => Ok(narrow),
        }
    }

    /// Inputs that are not `visible` come out empty, the first ones rounded into `factors`.
    fn tensors(
        &self,
        node: &Node,
        factors: Option<&[Range<usize>]>,
        visible: impl Fn(usize) -> bool,
    ) -> Result<Vec<Tensor>> {
        let tensor = |(i, input): (usize, &super::Value)| {
            let values = match factors.and_then(|places| places.get(i)) {
                _ if !visible(i) => Source::default(),
                Some(place) => self.factor(input.0, place)?,
                None => self.value(input.0),
            };
            Ok(Tensor { shape: self.graph.shape(*input), values })
        };
        node.inputs.iter().enumerate().map(tensor).collect()
    }

    /// What products read of the parameters, in 2 bytes a value: 6 bytes moved a parameter and one launch. Products
    /// that round on the way would read 4 bytes in every tile, for each pixel of the images anew.
    fn round_parameters(&self) -> Result<()> {
        let place = self.plan.rounded_parameters.clone();
        if place.is_empty() {
            return Ok(());
        }
        round(self.queue, self.parameters.part(0..2 * place.len()), self.arena.part(place)).map(drop)
    }

    /// Runs a node; the first one of a replay rounds the parameters too.
    pub fn forward(&self, index: usize) -> Result<()> {
        if index == 0 {
            self.round_parameters()?;
        }
        let output = &self.plan.values[self.graph.nodes[index].output.0];
        self.forward_into(index, output, &self.plan.nodes[index].forward_workspace)
    }

    fn forward_into(&self, index: usize, output: &Range<usize>, workspace: &Range<usize>) -> Result<()> {
        let (node, place) = (&self.graph.nodes[index], &self.plan.nodes[index]);
        let factors = place.factors.as_ref().map(|factors| &factors.forward[..]);
        node.op.forward_cuda(Forward {
            queue: self.queue,
            inputs: &self.tensors(node, factors, |_| true)?,
            output: self.target(node.output.0, output),
            saved: self.arena.part(place.saved.clone()),
            workspace: self.arena.part(workspace.clone()),
        })
    }

    pub fn backward(&self, index: usize, gradients: Write<f32>) -> Result<()> {
        let (node, place) = (&self.graph.nodes[index], &self.plan.nodes[index]);
        let Some(cotangent) = &self.plan.gradients[node.output.0] else { return Ok(()) };
        for again in &place.again {
            self.forward_into(again.node, &again.range, &again.workspace)?;
        }
        let here = Self { again: &place.again, ..*self };
        let mut given: Vec<Option<Gradient>> = node.inputs.iter().map(|_| None).collect();
        for target in &place.targets {
            let values = if target.parameter {
                Target::Wide(gradients.part(target.range.clone()))
            } else {
                self.target(node.inputs[target.input].0, &target.range)
            };
            given[target.input] = Some(Gradient { values, add: target.add });
        }
        let factors = place.factors.as_ref().map(|factors| &factors.backward);
        let output_gradient = self.target(node.output.0, cotangent).into();
        let factor = match (output_gradient, factors) {
            (Source::Wide(from), Some([.., into])) => round(self.queue, from, self.arena.part(into.clone()))?,
            (as_it_lies, _) => as_it_lies,
        };
        let visible = |i: usize| place.backward_inputs.contains(&i);
        node.op.backward_cuda(Backward {
            queue: self.queue,
            inputs: &here.tensors(node, factors.map(|factors| &factors[..2]), visible)?,
            output: if place.backward_output { self.value(node.output.0) } else { Source::default() },
            output_gradient,
            factor,
            saved: self.arena.part(place.saved.clone()).into(),
            workspace: self.arena.part(place.backward_workspace.clone()),
            gradients: &given,
        })?;
        // As on the CPU: the second gradient of an input that the node names twice.
        place.repeated.iter().try_for_each(|(input, from, into)| {
            pass(self.queue, self.target(*input, from).into(), self.target(*input, into), 1)
        })
    }
}
