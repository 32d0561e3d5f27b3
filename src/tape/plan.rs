//! The static memory plan: every buffer of a step gets its place in one arena before the first
//! step; buffers whose lifetimes do not meet share the place.

mod place;
mod uses;

use super::graph::{Graph, Origin, Value};
use crate::cpu::arena::padded;
use crate::device::Kind;
use crate::ops::cuda::words;
use crate::ops::{Memory, Storage};
use crate::shape::Shape;
use place::place;
use std::fmt;
use std::ops::Range;
use uses::{Passing, Uses};

/// Where everything of a [`Graph`] lies in the arena. Ranges count floats, of which two narrow values share one.
#[derive(Debug)]
pub struct Plan {
    pub(super) values: Vec<Range<usize>>,
    /// Which values, with their gradients, lie in 2 bytes.
    pub(super) narrow: Vec<bool>,
    /// Where parameters lie in 2 bytes a value for the products; empty where none do.
    pub(super) rounded_parameters: Range<usize>,
    /// The gradient of each value that has one in the arena or among the parameters' gradients.
    pub(super) gradients: Vec<Option<Range<usize>>>,
    pub(super) nodes: Vec<NodePlan>,
    pub(super) loss_gradient: Option<Range<usize>>,
    buffers: Vec<Buffer>,
    len: usize,
}

impl Plan {
    /// Where backward of a node finds a value of the graph: where it was made again, or where it was kept.
    pub(super) fn in_backward<'a>(&'a self, again: &'a [Again], value: usize) -> &'a Range<usize> {
        again.iter().find(|again| again.value == value).map_or(&self.values[value], |again| &again.range)
    }
}

#[derive(Debug, Default)]
pub(super) struct NodePlan {
    pub saved: Range<usize>,
    pub forward_workspace: Range<usize>,
    pub backward_workspace: Range<usize>,
    pub backward_inputs: Vec<usize>,
    pub backward_output: bool,
    pub targets: Vec<Target>,
    /// A repeated input with (the buffer of its gradient, the gradient it belongs to).
    pub repeated: Vec<(usize, Range<usize>, Range<usize>)>,
    /// Inputs that are computed again before backward.
    pub again: Vec<Again>,
    /// The factors of a product that are rounded to 2 bytes a value, where it is one of a card that wants that.
    pub factors: Option<Factors<Range<usize>>>,
}

/// A value that is computed again rather than kept.
#[derive(Clone, Debug)]
pub(super) struct Again {
    /// The node that makes it.
    pub node: usize,
    pub value: usize,
    /// Where it lies meanwhile.
    pub range: Range<usize>,
    pub workspace: Range<usize>,
}

/// Where the rounded copies of a product's factors go that lie in fp32; empty, or `None`, where none is needed.
#[derive(Clone, Debug)]
pub(super) struct Factors<T> {
    /// Of the first two inputs.
    pub forward: [T; 2],
    /// The same in backward, and of the cotangent.
    pub backward: [T; 3],
}

/// Where backward of a node writes the gradient of one input.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub input: usize,
    pub parameter: bool,
    pub add: bool,
    pub range: Range<usize>,
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Input,
    Activation,
    Saved,
    Gradient,
    Workspace,
    /// Copies in 2 bytes a value of what lies in fp32 and is a factor of products.
    Rounded,
}

impl Usage {
    const ALL: [Self; 6] =
        [Self::Input, Self::Activation, Self::Saved, Self::Gradient, Self::Workspace, Self::Rounded];
}

#[derive(Clone, Debug)]
struct Buffer {
    usage: Usage,
    len: usize,
    /// First and last moment of use; forward of node i is moment i, its backward 2n - 1 - i.
    first: usize,
    last: usize,
    offset: usize,
}

/// Buffers while their lifetimes are still growing.
struct Drafts {
    buffers: Vec<Buffer>,
    /// As in [`Plan`].
    narrow: Vec<bool>,
}

impl Drafts {
    fn add(&mut self, usage: Usage, len: usize, first: usize, last: usize) -> usize {
        self.buffers.push(Buffer { usage, len: padded(len), first, last, offset: 0 });
        self.buffers.len() - 1
    }

    /// For a value of the graph, or its gradient.
    fn add_value(&mut self, usage: Usage, graph: &Graph, value: usize, moment: usize) -> usize {
        self.add(usage, words(graph.values[value].shape.len(), self.narrow[value]), moment, moment)
    }

    /// For the rounded copy of a value of the graph, or of its gradient, where that lies in fp32.
    fn add_rounded(&mut self, graph: &Graph, value: Value, moment: usize) -> Option<usize> {
        let info = &graph.values[value.0];
        let needed = !self.narrow[value.0] && !matches!(info.origin, Origin::Parameter(_));
        needed.then(|| self.add(Usage::Rounded, words(info.shape.len(), true), moment, moment))
    }

    fn extend(&mut self, buffer: usize, moment: usize) {
        let buffer = &mut self.buffers[buffer];
        buffer.first = buffer.first.min(moment);
        buffer.last = buffer.last.max(moment);
    }
}

/// Buffer numbers of a node before they have places.
struct NodeDraft {
    memory: Memory,
    saved: usize,
    forward_workspace: usize,
    backward_workspace: Option<usize>,
    targets: Vec<TargetDraft>,
    again: Vec<AgainDraft>,
    /// As in [`NodePlan`].
    factors: Option<Factors<Option<usize>>>,
}

struct AgainDraft {
    node: usize,
    value: usize,
    buffer: usize,
    /// Buffer and floats of it.
    workspace: (usize, usize),
}

struct TargetDraft {
    input: usize,
    add: bool,
    place: TargetPlace,
}

enum TargetPlace {
    Parameter(Range<usize>),
    Buffer(usize),
    Repeated { buffer: usize, of: usize },
}

impl Plan {
    pub(super) fn new(graph: &Graph, on: Kind, loss: Option<Value>, keep: &[Value]) -> Self {
        let end = 2 * graph.nodes.len();
        let narrow = narrow_values(graph, on, loss, keep);
        let mut drafts = Drafts { buffers: Vec::new(), narrow };
        let rounded = draft_parameters(graph, on, &mut drafts, end);
        let values = draft_values(graph, &mut drafts, loss, keep, end);
        let mut nodes = draft_nodes(graph, on, &mut drafts, &values);
        let (gradients, wanted) = draft_backward(graph, &mut drafts, &mut nodes, &values, loss);
        let Drafts { mut buffers, narrow } = drafts;
        let len = place(&mut buffers);
        let places = Places { graph, buffers: &buffers, narrow: &narrow };
        let value_range = |v: usize| values[v].map_or(0..0, |buffer| places.of(buffer, v));
        let gradient_range = |v: usize| gradients[v].map(|buffer| places.of(buffer, v));
        let rounded_parameters = places.whole(rounded);
        let values = (0..graph.values.len()).map(value_range).collect();
        let gradients_of = |v: usize| if wanted[v] { gradient_range(v) } else { None };
        let loss_gradient = loss.and_then(|loss| gradient_range(loss.0));
        let gradients = (0..graph.values.len()).map(gradients_of).collect();
        let nodes = nodes.into_iter().enumerate().map(|(index, draft)| places.node(index, draft)).collect();
        Self { values, gradients, nodes, loss_gradient, rounded_parameters, narrow, len, buffers }
    }

    /// Floats of the arena.
    pub fn arena_len(&self) -> usize {
        self.len
    }

    /// Floats if no buffer shared its place.
    pub fn unshared_len(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.len).sum()
    }
}

/// Buffers that have their places.
struct Places<'a> {
    graph: &'a Graph,
    buffers: &'a [Buffer],
    narrow: &'a [bool],
}

impl Places<'_> {
    fn range(&self, buffer: usize, len: usize) -> Range<usize> {
        let offset = self.buffers[buffer].offset;
        offset..offset + len
    }

    /// That of a value of the graph, or its gradient, in a buffer.
    fn of(&self, buffer: usize, value: usize) -> Range<usize> {
        self.range(buffer, words(self.graph.values[value].shape.len(), self.narrow[value]))
    }

    fn whole(&self, buffer: Option<usize>) -> Range<usize> {
        buffer.map_or(0..0, |buffer| self.range(buffer, self.buffers[buffer].len))
    }

    fn node(&self, index: usize, draft: NodeDraft) -> NodePlan {
        let memory = draft.memory;
        let backward_workspace = draft.backward_workspace;
        let mut plan = NodePlan {
            saved: self.range(draft.saved, memory.saved),
            forward_workspace: self.range(draft.forward_workspace, memory.forward_workspace),
            backward_workspace: backward_workspace
                .map_or(0..0, |buffer| self.range(buffer, memory.backward_workspace)),
            backward_inputs: memory.backward_inputs,
            backward_output: memory.backward_output,
            factors: draft.factors.map(|factors| Factors {
                forward: factors.forward.map(|buffer| self.whole(buffer)),
                backward: factors.backward.map(|buffer| self.whole(buffer)),
            }),
            ..NodePlan::default()
        };
        for AgainDraft { node, value, buffer, workspace } in draft.again {
            let range = self.of(buffer, value);
            plan.again.push(Again { node, value, range, workspace: self.range(workspace.0, workspace.1) });
        }
        for TargetDraft { input, add, place } in draft.targets {
            let value = self.graph.nodes[index].inputs[input].0;
            let (parameter, range) = match place {
                TargetPlace::Parameter(range) => (true, range),
                TargetPlace::Buffer(buffer) => (false, self.of(buffer, value)),
                TargetPlace::Repeated { buffer, of } => {
                    plan.repeated.push((value, self.of(buffer, value), self.of(of, value)));
                    (false, self.of(buffer, value))
                }
            };
            plan.targets.push(Target { input, parameter, add, range });
        }
        plan
    }
}

/// Which values lie in 2 bytes: where the device stores so, all but inputs, parameters, what is kept, what an op wants
/// in fp32, and what has to lie like one of those.
fn narrow_values(graph: &Graph, on: Kind, loss: Option<Value>, keep: &[Value]) -> Vec<bool> {
    let mut narrow: Vec<bool> =
        graph.values.iter().map(|value| on.narrow() && matches!(value.origin, Origin::Node)).collect();
    keep.iter().copied().chain(loss).for_each(|value| narrow[value.0] = false);
    loop {
        let before = narrow.clone();
        for node in &graph.nodes {
            // So many of the first inputs lie like the output; from which input on all are in fp32.
            let (alike, wide) = match node.op.storage() {
                Storage::Exact => (0, 0),
                Storage::Alike(count) => (count, count),
                Storage::Product => (0, 2),
            };
            let exact_output = (node.op.storage() == Storage::Exact).then_some(&node.output);
            node.inputs[wide..].iter().chain(exact_output).for_each(|value| narrow[value.0] = false);
            let group = || node.inputs[..alike].iter().chain((alike > 0).then_some(&node.output));
            if group().any(|value| !narrow[value.0]) {
                group().for_each(|value| narrow[value.0] = false);
            }
        }
        if narrow == before {
            return narrow;
        }
    }
}

/// Room for the parameters in 2 bytes a value, up to the last that is a factor of a product.
fn draft_parameters(graph: &Graph, on: Kind, drafts: &mut Drafts, end: usize) -> Option<usize> {
    let products = graph.nodes.iter().filter(|node| on.narrow() && node.op.storage() == Storage::Product);
    let ends =
        products.flat_map(|node| &node.inputs[..2]).filter_map(|input| match &graph.values[input.0].origin {
            Origin::Parameter(range) => Some(padded(range.end)),
            Origin::Input | Origin::Node => None,
        });
    let values = ends.max()?;
    Some(drafts.add(Usage::Rounded, words(values, true), 0, end))
}

/// The arena buffer of each value; parameters have none.
fn draft_values(
    graph: &Graph,
    drafts: &mut Drafts,
    loss: Option<Value>,
    keep: &[Value],
    end: usize,
) -> Vec<Option<usize>> {
    let mut values: Vec<Option<usize>> = graph
        .values
        .iter()
        .map(|value| match value.origin {
            Origin::Input => Some(drafts.add(Usage::Input, value.shape.len(), 0, end)),
            _ => None,
        })
        .collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        values[node.output.0] = Some(drafts.add_value(Usage::Activation, graph, node.output.0, index));
        node.inputs
            .iter()
            .filter_map(|input| values[input.0])
            .for_each(|buffer| drafts.extend(buffer, index));
    }
    for value in keep.iter().copied().chain(loss) {
        if let Some(buffer) = values[value.0] {
            drafts.extend(buffer, end);
        }
    }
    values
}

fn draft_nodes(graph: &Graph, on: Kind, drafts: &mut Drafts, values: &[Option<usize>]) -> Vec<NodeDraft> {
    let draft = |(index, node): (usize, &super::graph::Node)| {
        let shapes: Vec<Shape> = node.inputs.iter().map(|&input| graph.shape(input)).collect();
        let memory = node.op.memory(on, &shapes);
        debug_assert!(values[node.output.0].is_some());
        let product = on.narrow() && node.op.storage() == Storage::Product;
        let mut rounded = |i: usize| drafts.add_rounded(graph, node.inputs[i], index);
        NodeDraft {
            factors: product.then(|| Factors { forward: [rounded(0), rounded(1)], backward: [None; 3] }),
            saved: drafts.add(Usage::Saved, memory.saved, index, index),
            forward_workspace: drafts.add(Usage::Workspace, memory.forward_workspace, index, index),
            backward_workspace: None,
            targets: Vec::new(),
            again: Vec::new(),
            memory,
        }
    };
    graph.nodes.iter().enumerate().map(draft).collect()
}

/// Stretches what backward of node `index` reads, or gives what is made again its place.
fn draft_reads(
    drafts: &mut Drafts,
    (graph, values, again): (&Graph, &[Option<usize>], &[Option<usize>]),
    nodes: &mut [NodeDraft],
    index: usize,
    moment: usize,
) {
    let (node, memory) = (&graph.nodes[index], &nodes[index].memory);
    let inputs = memory.backward_inputs.iter().map(|&i| node.inputs[i].0);
    let reads: Vec<usize> = inputs.chain(memory.backward_output.then_some(node.output.0)).collect();
    for value in reads {
        let Some(maker) = again[value] else {
            values[value].into_iter().for_each(|buffer| drafts.extend(buffer, moment));
            continue;
        };
        let read_again = graph.nodes[maker].inputs.iter().filter_map(|input| values[input.0]);
        read_again.chain([nodes[maker].saved]).for_each(|buffer| drafts.extend(buffer, moment));
        let buffer = drafts.add_value(Usage::Activation, graph, value, moment);
        let len = nodes[maker].memory.forward_workspace;
        let workspace = (drafts.add(Usage::Workspace, len, moment, moment), len);
        nodes[index].again.push(AgainDraft { node: maker, value, buffer, workspace });
    }
}

/// Gives gradients their buffers in the order of backward and stretches what backward reads.
/// Returns the gradient buffer of each value, and which values get one.
fn draft_backward(
    graph: &Graph,
    drafts: &mut Drafts,
    nodes: &mut [NodeDraft],
    values: &[Option<usize>],
    loss: Option<Value>,
) -> (Vec<Option<usize>>, Vec<bool>) {
    let count = graph.nodes.len();
    let uses = Uses::new(graph);
    let again = uses.made_again(graph, &nodes.iter().map(|node| &node.memory).collect::<Vec<_>>());
    let mut gradients: Vec<Option<usize>> = vec![None; graph.values.len()];
    let mut written = vec![false; graph.values.len()];
    if let Some(loss) = loss {
        gradients[loss.0] = Some(drafts.add(Usage::Gradient, 1, count, count));
        written[loss.0] = true;
    }
    for index in (0..count).rev() {
        let moment = 2 * count - 1 - index;
        let node = &graph.nodes[index];
        let Some(cotangent) = gradients[node.output.0] else { continue };
        drafts.extend(cotangent, moment);
        drafts.extend(nodes[index].saved, moment);
        draft_reads(drafts, (graph, values, &again), nodes, index, moment);
        let draft = &mut nodes[index];
        draft.backward_workspace =
            Some(drafts.add(Usage::Workspace, draft.memory.backward_workspace, moment, moment));
        if let Some(factors) = &mut draft.factors {
            let [a, b] = [node.inputs[0], node.inputs[1]];
            factors.backward = [a, b, node.output].map(|value| drafts.add_rounded(graph, value, moment));
        }
        let mut place = Passing::new(&uses, &gradients, index, cotangent);
        for (i, input) in node.inputs.iter().enumerate() {
            let info = &graph.values[input.0];
            if !info.differentiable || !node.op.differentiable(i) {
                continue;
            }
            let passes = draft.memory.passed_on.contains(&i) && gradients[input.0].is_none();
            if passes && !matches!(info.origin, Origin::Parameter(_)) && place.take(&uses, input.0) {
                gradients[input.0] = Some(cotangent);
                written[input.0] = true;
                continue;
            }
            let repeated = node.inputs[..i].contains(input);
            let place = match (&info.origin, gradients[input.0]) {
                (Origin::Parameter(range), _) => TargetPlace::Parameter(range.clone()),
                (_, Some(of)) if repeated => {
                    let buffer = drafts.add_value(Usage::Gradient, graph, input.0, moment);
                    TargetPlace::Repeated { buffer, of }
                }
                (_, Some(buffer)) => TargetPlace::Buffer(buffer),
                (_, None) => {
                    let buffer = drafts.add_value(Usage::Gradient, graph, input.0, moment);
                    gradients[input.0] = Some(buffer);
                    TargetPlace::Buffer(buffer)
                }
            };
            if let TargetPlace::Buffer(buffer) = place {
                drafts.extend(buffer, moment);
            }
            let add = written[input.0] && !matches!(place, TargetPlace::Repeated { .. });
            written[input.0] = true;
            draft.targets.push(TargetDraft { input: i, add, place });
        }
    }
    (gradients, written)
}

impl fmt::Display for Plan {
    /// A line a kind of buffer: how many, and their bytes if none shared its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |floats: usize| floats as f64 * 4.0 / f64::from(1 << 20);
        for usage in Usage::ALL {
            let of_kind = self.buffers.iter().filter(|buffer| buffer.usage == usage && buffer.len > 0);
            let (count, floats) = of_kind.fold((0, 0), |(n, sum), buffer| (n + 1, sum + buffer.len));
            if count == 0 {
                continue;
            }
            writeln!(
                f,
                "{:<12} {count:>5} buffers {:>10.1} MiB",
                format!("{usage:?}").to_lowercase(),
                mib(floats)
            )?;
        }
        let (len, all) = (self.len, self.unshared_len());
        write!(f, "arena        {:>24.1} MiB ({:.1} MiB without reuse)", mib(len), mib(all))
    }
}
