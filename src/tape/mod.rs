//! The tape: a graph of ops is recorded once, its memory planned once, then every step replays it
//! forward and backward without an allocation of its own.

mod buckets;
mod cpu;
mod cuda;
mod graph;
mod parameters;
mod plan;

pub use buckets::Bucket;
pub use graph::{Graph, Value};
pub use parameters::{Parameter, ParameterLayout, Role};
pub use plan::{Plan, Usage};

use crate::cpu::products::Products;
use crate::cuda::{Event, Read, Write};
use crate::device::{Buffer, Device, Kind};
use crate::error::{Error, Result};
use crate::memory;
use graph::Origin;

impl Graph {
    /// The memory that a tape of this graph takes on a kind of device.
    pub fn plan(&self, on: Kind, loss: Option<Value>, keep: &[Value]) -> Result<Plan> {
        if let Some(loss) = loss.filter(|&loss| self.shape(loss).len() != 1) {
            let shape = self.shape(loss);
            return Err(Error::new("tape", format!("the loss must be a scalar, not {shape}"), "reduce it"));
        }
        Ok(Plan::new(self, on, loss, keep))
    }
}

/// What the gradients of a backward pass are scaled by.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    One,
    /// One value on the tape's card, read when the pass runs.
    There(Read<f32>),
}

/// A recorded graph with its memory.
pub struct Tape {
    graph: Graph,
    plan: Plan,
    arena: Buffer,
    /// Of convolutions on the CPU.
    products: Products,
}

impl Tape {
    /// Plans and allocates on `device`. With a `loss` (a scalar) the tape can run backward; `keep` are values
    /// that are read after a replay.
    pub fn new(device: &Device, graph: Graph, loss: Option<Value>, keep: &[Value]) -> Result<Self> {
        let plan = graph.plan(device.kind(), loss, keep)?;
        if let Device::Cpu | Device::CpuBf16 = device {
            let remedy = "take smaller planes or widths, or a smaller --batch";
            memory::require("the tape", 4 * plan.arena_len(), remedy)?;
        }
        let arena = Buffer::zeros(device, plan.arena_len(), "the arena of a step")?;
        let mut tape = Self { graph, plan, arena, products: device.products() };
        for (input, values) in std::mem::take(&mut tape.graph.constants) {
            tape.load(input, 0, &values)?;
        }
        Ok(tape)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn shape(&self, value: Value) -> crate::shape::Shape {
        self.graph.shape(value)
    }

    /// Overwrites an input from its value `start` on, before `forward`.
    pub fn load(&mut self, input: Value, start: usize, values: &[f32]) -> Result<()> {
        let place = &self.plan.values[input.0];
        debug_assert!(matches!(self.graph.values[input.0].origin, Origin::Input));
        assert!(start + values.len() <= place.len(), "the values fit into the input");
        self.arena.load(place.start + start, values)
    }

    /// The place of an input, a kept value or the loss on the card; `None` on the CPU.
    pub fn on_card(&self, input: Value) -> Option<Write<f32>> {
        match &self.arena {
            Buffer::Cpu(_) => None,
            Buffer::Cuda(_, arena) => Some(arena.write().part(self.plan.values[input.0].clone())),
        }
    }

    /// An input, a kept value or the loss after `forward`.
    pub fn value(&self, value: Value) -> Result<Vec<f32>> {
        self.arena.part(self.plan.values[value.0].clone())
    }

    /// Runs every node in the order of recording. The parameters are on the tape's device.
    pub fn forward(&mut self, parameters: &Buffer) -> Result<()> {
        (0..self.graph.nodes.len()).try_for_each(|index| self.forward_node(index, parameters))
    }

    fn forward_node(&mut self, index: usize, parameters: &Buffer) -> Result<()> {
        match (&mut self.arena, parameters) {
            (Buffer::Cpu(arena), Buffer::Cpu(parameters)) => {
                let (graph, plan) = (&self.graph, &self.plan);
                cpu::forward(graph, plan, self.products, arena, index, parameters.as_slice());
                Ok(())
            }
            (Buffer::Cuda(queue, arena), Buffer::Cuda(_, parameters)) => {
                let (arena, parameters) = (arena.write(), parameters.read());
                let memory = cuda::Memory {
                    graph: &self.graph,
                    plan: &self.plan,
                    queue,
                    arena,
                    parameters,
                    again: &[],
                };
                memory.forward(index)
            }
            _ => Err(elsewhere()),
        }
    }

    /// Runs the nodes that the loss depends on in reverse. Every parameter of the graph has its
    /// gradient in `gradients` afterwards, in the layout of the parameters, scaled.
    pub fn backward(&mut self, parameters: &Buffer, gradients: &mut Buffer, scale: Scale) -> Result<()> {
        self.backward_with(parameters, gradients, scale, &mut |_, _| Ok(()))
    }

    /// The same. Behind each node `after` is called with its number and the gradients, of which those are final that
    /// [`Plan::buckets`] says.
    pub fn backward_with(
        &mut self,
        parameters: &Buffer,
        gradients: &mut Buffer,
        scale: Scale,
        after: &mut dyn FnMut(usize, &Buffer) -> Result<()>,
    ) -> Result<()> {
        self.seed(scale)?;
        (0..self.graph.nodes.len()).rev().try_for_each(|index| {
            self.backward_node(index, parameters, gradients)?;
            after(index, gradients)
        })
    }

    /// The gradient of the loss by itself, scaled.
    fn seed(&mut self, scale: Scale) -> Result<()> {
        let Some(seed) = self.plan.loss_gradient.clone() else { return Ok(()) };
        match (&mut self.arena, scale) {
            (Buffer::Cpu(arena), Scale::One) => {
                arena.as_mut_slice()[seed].fill(1.0);
                Ok(())
            }
            (Buffer::Cuda(queue, arena), Scale::One) => queue.fill(arena.write().part(seed), 1.0),
            (Buffer::Cuda(queue, arena), Scale::There(scale)) => queue.copy(scale, arena.write().part(seed)),
            (Buffer::Cpu(_), Scale::There(_)) => Err(elsewhere()),
        }
    }

    fn backward_node(&mut self, index: usize, parameters: &Buffer, gradients: &mut Buffer) -> Result<()> {
        match (&mut self.arena, parameters, gradients) {
            (Buffer::Cpu(arena), Buffer::Cpu(parameters), Buffer::Cpu(gradients)) => {
                let (graph, plan) = (&self.graph, &self.plan);
                cpu::backward(graph, plan, self.products, arena, index, parameters.as_slice(), gradients);
                Ok(())
            }
            (Buffer::Cuda(queue, arena), Buffer::Cuda(_, parameters), Buffer::Cuda(_, gradients)) => {
                let (arena, parameters) = (arena.write(), parameters.read());
                let memory = cuda::Memory {
                    graph: &self.graph,
                    plan: &self.plan,
                    queue,
                    arena,
                    parameters,
                    again: &[],
                };
                memory.backward(index, gradients.write())
            }
            _ => Err(elsewhere()),
        }
    }
}

fn elsewhere() -> Error {
    Error::new("tape", "its parameters are on another device", "this is a defect: please report it")
}

/// A point in a device's own time.
enum Moment {
    Cpu(std::time::Instant),
    Cuda(Event),
}

impl Moment {
    fn now(on: &Buffer) -> Result<Self> {
        match on {
            Buffer::Cpu(_) => Ok(Self::Cpu(std::time::Instant::now())),
            Buffer::Cuda(queue, _) => queue.mark().map(Self::Cuda),
        }
    }

    /// From here until what was queued since is done.
    fn milliseconds(self, on: &Buffer) -> Result<f64> {
        match (self, Self::now(on)?) {
            (Self::Cpu(start), Self::Cpu(end)) => Ok(1e3 * (end - start).as_secs_f64()),
            (Self::Cuda(start), Self::Cuda(end)) => start.milliseconds_to(&end),
            _ => Err(elsewhere()),
        }
    }
}

/// What an op took and what it has to do at least, forward and backward; `None` where it does not run.
#[derive(Clone, Debug)]
pub struct OpTimes {
    /// The op and the shapes of its first inputs.
    pub name: String,
    pub passes: [Option<PassTimes>; 2],
}

/// One direction of an op.
#[derive(Clone, Copy, Debug)]
pub struct PassTimes {
    /// Milliseconds.
    pub least: f64,
    pub median: f64,
    pub most: f64,
    /// Floating-point operations; 0 where memory bounds it.
    pub operations: f64,
    /// Of the arrays that it reads or writes, each of them once, in fp32.
    pub bytes: f64,
}

impl Tape {
    /// Times every node over `runs` replays, after one that is not counted.
    pub fn time_ops(
        &mut self,
        parameters: &Buffer,
        gradients: &mut Buffer,
        runs: usize,
    ) -> Result<Vec<OpTimes>> {
        let count = self.graph.nodes.len();
        let mut times = vec![[Vec::new(), Vec::new()]; count];
        for run in 0..=runs {
            for index in 0..2 * count {
                let (node, direction) = if index < count { (index, 0) } else { (2 * count - 1 - index, 1) };
                if index == count {
                    self.seed(Scale::One)?;
                }
                let start = Moment::now(&self.arena)?;
                match direction {
                    0 => self.forward_node(node, parameters)?,
                    _ => self.backward_node(node, parameters, gradients)?,
                }
                let milliseconds = start.milliseconds(&self.arena)?;
                if run > 0 {
                    times[node][direction].push(milliseconds);
                }
            }
        }
        let row = |(index, times): (usize, [Vec<f64>; 2])| {
            let node = &self.graph.nodes[index];
            let shapes: Vec<crate::shape::Shape> = node.inputs.iter().map(|&x| self.graph.shape(x)).collect();
            let work = [Some(self.forward_work(index)), self.backward_work(index)];
            let pass = |(mut times, work): (Vec<f64>, Option<(f64, f64)>)| {
                times.sort_by(f64::total_cmp);
                let (least, most) = (*times.first()?, *times.last()?);
                let (operations, bytes) = work?;
                Some(PassTimes { least, median: times[times.len() / 2], most, operations, bytes })
            };
            let [forward, backward] = times;
            let [of_forward, of_backward] = work;
            let name = format!("{} {:?}", node.op.name(), &shapes[..shapes.len().min(2)]);
            OpTimes { name, passes: [pass((forward, of_forward)), pass((backward, of_backward))] }
        };
        Ok(times.into_iter().enumerate().map(row).collect())
    }

    /// (operations, bytes) of a node's forward.
    fn forward_work(&self, index: usize) -> (f64, f64) {
        let (node, place) = (&self.graph.nodes[index], &self.plan.nodes[index]);
        let shapes: Vec<crate::shape::Shape> = node.inputs.iter().map(|&x| self.graph.shape(x)).collect();
        let read: usize = shapes.iter().map(crate::shape::Shape::len).sum();
        let values = read + self.graph.shape(node.output).len() + place.saved.len();
        (node.op.operations(&shapes), 4.0 * values as f64)
    }

    /// The same of its backward; `None` where it has none.
    fn backward_work(&self, index: usize) -> Option<(f64, f64)> {
        let (node, place) = (&self.graph.nodes[index], &self.plan.nodes[index]);
        self.plan.gradients[node.output.0].as_ref()?;
        let len = |input: usize| self.graph.shape(node.inputs[input]).len();
        let output = self.graph.shape(node.output).len();
        let read: usize = place.backward_inputs.iter().map(|&input| len(input)).sum();
        let read = read + place.saved.len() + output * (1 + usize::from(place.backward_output));
        // A gradient that is added to is read as well.
        let written: usize = place.targets.iter().map(|t| len(t.input) * (1 + usize::from(t.add))).sum();
        // A product has as many operations as forward for each of its two factors that wants a gradient.
        let factors = place.targets.iter().filter(|target| target.input < 2).count();
        let (forward, _) = self.forward_work(index);
        Some((forward * factors as f64, 4.0 * (read + written) as f64))
    }
}
