//! Replaying a node on a card.

use super::graph::{Graph, Node, Origin};
use super::plan::Plan;
use crate::cuda::{Launch, Queue, Read, THREADS, Write, int, kernels};
use crate::error::Result;
use crate::ops::cuda::{Backward, Forward, Gradient, Tensor};

/// Where a tape of a card has its numbers.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub queue: &'a Queue,
    pub arena: Write<f32>,
    pub parameters: Read<f32>,
}

impl Memory<'_> {
    fn input(self, graph: &Graph, plan: &Plan, value: super::Value) -> Read<f32> {
        match &graph.values[value.0].origin {
            Origin::Parameter(range) => self.parameters.part(range.clone()),
            Origin::Input | Origin::Node => self.arena.part(plan.values[value.0].clone()).into(),
        }
    }

    /// Inputs that are not `visible` come out empty.
    fn tensors(
        self,
        graph: &Graph,
        plan: &Plan,
        node: &Node,
        visible: impl Fn(usize) -> bool,
    ) -> Vec<Tensor> {
        let tensor = |(i, &input): (usize, &super::Value)| Tensor {
            shape: graph.shape(input),
            values: if visible(i) { self.input(graph, plan, input) } else { Read::default() },
        };
        node.inputs.iter().enumerate().map(tensor).collect()
    }
}

pub fn forward(graph: &Graph, plan: &Plan, memory: Memory, index: usize) -> Result<()> {
    let (node, place) = (&graph.nodes[index], &plan.nodes[index]);
    node.op.forward_cuda(Forward {
        queue: memory.queue,
        inputs: &memory.tensors(graph, plan, node, |_| true),
        output: memory.arena.part(plan.values[node.output.0].clone()),
        saved: memory.arena.part(place.saved.clone()),
        workspace: memory.arena.part(place.forward_workspace.clone()),
    })
}

pub fn backward(
    graph: &Graph,
    plan: &Plan,
    memory: Memory,
    index: usize,
    gradients: Write<f32>,
) -> Result<()> {
    let (node, place) = (&graph.nodes[index], &plan.nodes[index]);
    let Some(cotangent) = plan.gradients[node.output.0].clone() else { return Ok(()) };
    let (queue, arena) = (memory.queue, memory.arena);
    let mut given: Vec<Option<Gradient>> = node.inputs.iter().map(|_| None).collect();
    for target in &place.targets {
        let block = if target.parameter { gradients } else { arena };
        given[target.input] = Some(Gradient { values: block.part(target.range.clone()), add: target.add });
    }
    let output = || arena.part(plan.values[node.output.0].clone()).into();
    node.op.backward_cuda(Backward {
        queue,
        inputs: &memory.tensors(graph, plan, node, |i| place.backward_inputs.contains(&i)),
        output: if place.backward_output { output() } else { Read::default() },
        output_gradient: arena.part(cotangent).into(),
        saved: arena.part(place.saved.clone()).into(),
        workspace: arena.part(place.backward_workspace.clone()),
        gradients: &given,
    })?;
    // As on the CPU: the second gradient of an input that the node names twice.
    place.repeated.iter().try_for_each(|(from, into)| {
        let launch = Launch::items(from.len(), THREADS);
        let (from, into) = (arena.part(from.clone()).into(), arena.part(into.clone()));
        kernels::identity::backward(queue, launch, from, into, int(into.len)?, 1)
    })
}
