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
use crate::memory;
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
        let remedy = "take smaller planes or widths, or a smaller --batch";
        memory::require("the tape", 4 * plan.arena_len(), remedy)?;
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
        (0..self.graph.nodes.len()).for_each(|index| self.forward_node(index, parameters));
    }

    fn forward_node(&mut self, index: usize, parameters: &[f32]) {
        let (node, place) = (&self.graph.nodes[index], &self.plan.nodes[index]);
        let inputs = Inputs::new(&self.graph, &self.plan, node, |_| true);
        let writes =
            [self.plan.values[node.output.0].clone(), place.saved.clone(), place.forward_workspace.clone()];
        let (reads, mut writes) = self.arena.borrow(&inputs.ranges, &writes);
        let tensors = inputs.tensors(&reads, parameters);
        let (Some(workspace), Some(saved), Some(output)) = (writes.pop(), writes.pop(), writes.pop()) else {
            unreachable!("three pieces were asked for");
        };
        node.op.forward_cpu(Forward { inputs: &tensors, output, saved, workspace });
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

/// Name and shapes of an op, its (least, median, most) milliseconds forward and backward, and the
/// floating-point operations of forward (0 where memory bounds it).
pub type OpTimes = (String, [Option<(f64, f64, f64)>; 2], f64);

impl Tape {
    /// Times every node over `runs` replays, after one that is not counted.
    pub fn time_ops(&mut self, parameters: &[f32], gradients: &mut Arena, runs: usize) -> Vec<OpTimes> {
        let count = self.graph.nodes.len();
        let mut times = vec![[Vec::new(), Vec::new()]; count];
        for run in 0..=runs {
            for index in 0..2 * count {
                let (node, direction) = if index < count { (index, 0) } else { (2 * count - 1 - index, 1) };
                if index == count
                    && let Some(seed) = self.plan.loss_gradient.clone()
                {
                    self.arena.as_mut_slice()[seed].fill(1.0);
                }
                let start = std::time::Instant::now();
                match direction {
                    0 => self.forward_node(node, parameters),
                    _ => self.backward_node(node, parameters, gradients),
                }
                if run > 0 {
                    times[node][direction].push(1e3 * start.elapsed().as_secs_f64());
                }
            }
        }
        let row = |(node, times): (&Node, [Vec<f64>; 2])| {
            let shapes: Vec<crate::shape::Shape> = node.inputs.iter().map(|&x| self.graph.shape(x)).collect();
            let differentiable = self.plan.gradients[node.output.0].is_some();
            let [forward, backward] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                (!times.is_empty()).then(|| (times[0], times[times.len() / 2], times[times.len() - 1]))
            });
            let name = format!("{} {:?}", node.op.name(), &shapes[..shapes.len().min(2)]);
            (name, [forward, backward.filter(|_| differentiable)], node.op.operations(&shapes))
        };
        self.graph.nodes.iter().zip(times).map(row).collect()
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
