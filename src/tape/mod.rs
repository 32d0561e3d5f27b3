//! The tape: a graph of ops is recorded once, its memory planned once, then every step replays it
//! forward and backward without an allocation of its own.

mod graph;
mod parameters;
mod plan;

pub use graph::{Graph, Value};
pub use parameters::{Parameter, ParameterLayout, Role};
pub use plan::{Plan, Usage};

use crate::cpu::arena::Arena;
use crate::error::{Error, Result};
use crate::ops::{Backward, Forward, Gradient, Tensor};
use graph::{Node, Origin};
use rayon::prelude::*;
use std::ops::Range;

/// A recorded graph with its memory.
pub struct Tape {
    graph: Graph,
    plan: Plan,
    arena: Arena,
}

impl Tape {
    /// Plans and allocates. With a `loss` (a scalar) the tape can run backward; `keep` are values
    /// that are read after a replay.
    pub fn new(graph: Graph, loss: Option<Value>, keep: &[Value]) -> Result<Self> {
        if let Some(loss) = loss.filter(|&loss| graph.shape(loss).len() != 1) {
            let shape = graph.shape(loss);
            return Err(Error::new("tape", format!("the loss must be a scalar, not {shape}"), "reduce it"));
        }
        let plan = Plan::new(&graph, loss, keep);
        let arena = Arena::zeros(plan.arena_len());
        Ok(Self { graph, plan, arena })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn shape(&self, value: Value) -> crate::shape::Shape {
        self.graph.shape(value)
    }

    /// The memory of an input, to be filled before `forward`.
    pub fn input_mut(&mut self, input: Value) -> &mut [f32] {
        debug_assert!(matches!(self.graph.values[input.0].origin, Origin::Input));
        &mut self.arena.as_mut_slice()[self.plan.values[input.0].clone()]
    }

    /// An input, a kept value or the loss after `forward`.
    pub fn value(&self, value: Value) -> &[f32] {
        &self.arena.as_slice()[self.plan.values[value.0].clone()]
    }

    /// Runs every node in the order of recording.
    pub fn forward(&mut self, parameters: &[f32]) {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let place = &self.plan.nodes[index];
            let inputs = Inputs::new(&self.graph, &self.plan, node, |_| true);
            let writes = [
                self.plan.values[node.output.0].clone(),
                place.saved.clone(),
                place.forward_workspace.clone(),
            ];
            let (reads, mut writes) = self.arena.borrow(&inputs.ranges, &writes);
            let tensors = inputs.tensors(&reads, parameters);
            let (Some(workspace), Some(saved), Some(output)) = (writes.pop(), writes.pop(), writes.pop())
            else {
                unreachable!("three pieces were asked for");
            };
            node.op.forward_cpu(Forward { inputs: &tensors, output, saved, workspace });
        }
    }

    /// Runs the nodes that the loss depends on in reverse. Every parameter of the graph has its
    /// gradient in `gradients` afterwards, in the layout of the parameters.
    pub fn backward(&mut self, parameters: &[f32], gradients: &mut Arena) {
        let Some(seed) = self.plan.loss_gradient.clone() else { return };
        self.arena.as_mut_slice()[seed].fill(1.0);
        for index in (0..self.graph.nodes.len()).rev() {
            self.backward_node(index, parameters, gradients);
        }
    }

    fn backward_node(&mut self, index: usize, parameters: &[f32], gradients: &mut Arena) {
        let (node, place) = (&self.graph.nodes[index], &self.plan.nodes[index]);
        let Some(cotangent) = self.plan.gradients[node.output.0].clone() else { return };
        let inputs = Inputs::new(&self.graph, &self.plan, node, |i| place.backward_inputs.contains(&i));
        let mut reads = inputs.ranges.clone();
        reads.extend([cotangent, place.saved.clone()]);
        reads.push(if place.backward_output { self.plan.values[node.output.0].clone() } else { 0..0 });
        let mut writes = vec![place.backward_workspace.clone()];
        writes.extend(
            place.targets.iter().filter(|target| !target.parameter).map(|target| target.range.clone()),
        );
        let of_parameters: Vec<Range<usize>> = place
            .targets
            .iter()
            .filter(|target| target.parameter)
            .map(|target| target.range.clone())
            .collect();
        let (reads, writes) = self.arena.borrow(&reads, &writes);
        let mut writes = writes.into_iter();
        let workspace = writes.next().unwrap_or_default();
        let mut into_parameters = gradients.borrow(&[], &of_parameters).1.into_iter();
        let mut given: Vec<Option<Gradient>> = node.inputs.iter().map(|_| None).collect();
        for target in &place.targets {
            let values = if target.parameter { into_parameters.next() } else { writes.next() };
            given[target.input] = values.map(|values| Gradient { values, add: target.add });
        }
        let n = reads.len();
        node.op.backward_cpu(Backward {
            inputs: &inputs.tensors(&reads, parameters),
            output: reads[n - 1],
            output_gradient: reads[n - 3],
            saved: reads[n - 2],
            workspace,
            gradients: given,
        });
        self.fold_repeated(index);
    }

    /// An input that a node names twice gets its second gradient in a buffer of its own, which is
    /// added here: no op has to know.
    fn fold_repeated(&mut self, index: usize) {
        for (from, into) in &self.plan.nodes[index].repeated {
            let (reads, mut writes) =
                self.arena.borrow(std::slice::from_ref(from), std::slice::from_ref(into));
            writes[0].par_iter_mut().zip(reads[0]).for_each(|(sum, x)| *sum += x);
        }
    }
}

/// Where the inputs of a node lie: in the arena or among the parameters.
struct Inputs {
    ranges: Vec<Range<usize>>,
    shapes: Vec<crate::shape::Shape>,
    parameters: Vec<Option<Range<usize>>>,
}

impl Inputs {
    /// Inputs that are not `visible` come out empty.
    fn new(graph: &Graph, plan: &Plan, node: &Node, visible: impl Fn(usize) -> bool) -> Self {
        let mut all = Self { ranges: Vec::new(), shapes: Vec::new(), parameters: Vec::new() };
        for (i, input) in node.inputs.iter().enumerate() {
            let parameter = match &graph.values[input.0].origin {
                Origin::Parameter(range) if visible(i) => Some(range.clone()),
                _ => None,
            };
            let in_arena = visible(i) && parameter.is_none();
            all.ranges.push(if in_arena { plan.values[input.0].clone() } else { 0..0 });
            all.shapes.push(graph.shape(*input));
            all.parameters.push(parameter);
        }
        all
    }

    fn tensors<'a>(&self, reads: &[&'a [f32]], parameters: &'a [f32]) -> Vec<Tensor<'a>> {
        let tensor = |i: usize| Tensor {
            shape: self.shapes[i],
            values: self.parameters[i].clone().map_or(reads[i], |range| &parameters[range]),
        };
        (0..self.shapes.len()).map(tensor).collect()
    }
}
