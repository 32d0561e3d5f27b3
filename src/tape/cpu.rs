//! Replaying a node on the CPU.

use super::graph::{Graph, Node, Origin};
use super::plan::Plan;
use crate::cpu::arena::Arena;
use crate::cpu::products::Products;
use crate::ops::{Backward, Forward, Gradient, Tensor};
use crate::shape::Shape;
use rayon::prelude::*;
use std::ops::Range;

pub fn forward(
    graph: &Graph,
    plan: &Plan,
    products: Products,
    arena: &mut Arena,
    index: usize,
    parameters: &[f32],
) {
    let (output, workspace) =
        (plan.values[graph.nodes[index].output.0].clone(), plan.nodes[index].forward_workspace.clone());
    forward_into(graph, plan, products, arena, index, parameters, [output, workspace]);
}

fn forward_into(
    graph: &Graph,
    plan: &Plan,
    products: Products,
    arena: &mut Arena,
    index: usize,
    parameters: &[f32],
    [output, workspace]: [Range<usize>; 2],
) {
    let node = &graph.nodes[index];
    let inputs = Inputs::new(graph, node, |_| true, |value| &plan.values[value]);
    let writes = [output, plan.nodes[index].saved.clone(), workspace];
    let (reads, mut writes) = arena.borrow(&inputs.ranges, &writes);
    let tensors = inputs.tensors(&reads, parameters);
    let (Some(workspace), Some(saved), Some(output)) = (writes.pop(), writes.pop(), writes.pop()) else {
        unreachable!("three pieces were asked for");
    };
    node.op.forward_cpu(Forward { products, inputs: &tensors, output, saved, workspace });
}

pub fn backward(
    graph: &Graph,
    plan: &Plan,
    products: Products,
    arena: &mut Arena,
    index: usize,
    parameters: &[f32],
    gradients: &mut Arena,
) {
    let (node, place) = (&graph.nodes[index], &plan.nodes[index]);
    let Some(cotangent) = plan.gradients[node.output.0].clone() else { return };
    for again in &place.again {
        let places = [again.range.clone(), again.workspace.clone()];
        forward_into(graph, plan, products, arena, again.node, parameters, places);
    }
    let visible = |i: usize| place.backward_inputs.contains(&i);
    let inputs = Inputs::new(graph, node, visible, |value| plan.in_backward(&place.again, value));
    let mut reads = inputs.ranges.clone();
    reads.extend([cotangent, place.saved.clone()]);
    reads.push(if place.backward_output { plan.values[node.output.0].clone() } else { 0..0 });
    let mut writes = vec![place.backward_workspace.clone()];
    writes.extend(place.targets.iter().filter(|target| !target.parameter).map(|target| target.range.clone()));
    let of_parameters: Vec<Range<usize>> =
        place.targets.iter().filter(|target| target.parameter).map(|target| target.range.clone()).collect();
    let (reads, writes) = arena.borrow(&reads, &writes);
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
        products,
        inputs: &inputs.tensors(&reads, parameters),
        output: reads[n - 1],
        output_gradient: reads[n - 3],
        saved: reads[n - 2],
        workspace,
        gradients: given,
    });
    // An input that a node names twice gets its second gradient in a buffer of its own, which is added here: no
    // op has to know.
    for (_, from, into) in &place.repeated {
        let (reads, mut writes) = arena.borrow(std::slice::from_ref(from), std::slice::from_ref(into));
        writes[0].par_iter_mut().zip(reads[0]).for_each(|(sum, x)| *sum += x);
    }
}

/// Where the inputs of a node lie: in the arena or among the parameters.
struct Inputs {
    ranges: Vec<Range<usize>>,
    shapes: Vec<Shape>,
    parameters: Vec<Option<Range<usize>>>,
}

impl Inputs {
    /// Inputs that are not `visible` come out empty.
    fn new<'a>(
        graph: &Graph,
        node: &Node,
        visible: impl Fn(usize) -> bool,
        place: impl Fn(usize) -> &'a Range<usize>,
    ) -> Self {
        let mut all = Self { ranges: Vec::new(), shapes: Vec::new(), parameters: Vec::new() };
        for (i, input) in node.inputs.iter().enumerate() {
            let parameter = match &graph.values[input.0].origin {
                Origin::Parameter(range) if visible(i) => Some(range.clone()),
                _ => None,
            };
            let in_arena = visible(i) && parameter.is_none();
            all.ranges.push(if in_arena { place(input.0).clone() } else { 0..0 });
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
