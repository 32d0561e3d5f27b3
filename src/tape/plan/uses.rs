//! Who makes, reads and writes a value or its gradient.

use super::super::graph::{Graph, Value};
use crate::ops::Memory;

/// By value: the node that makes it, and those that read it.
pub(super) struct Uses {
    pub made: Vec<Option<usize>>,
    read: Vec<Vec<usize>>,
}

impl Uses {
    pub fn new(graph: &Graph) -> Self {
        let mut uses =
            Self { made: vec![None; graph.values.len()], read: vec![Vec::new(); graph.values.len()] };
        for (index, node) in graph.nodes.iter().enumerate() {
            uses.made[node.output.0] = Some(index);
            node.inputs.iter().for_each(|input| uses.read[input.0].push(index));
        }
        uses
    }

    /// By value: the node that makes it again before backward of the node that reads it there. So it is where the graph
    /// asks for that, what makes it is cheap and has its own inputs at hand, and one node alone reads it in backward.
    pub fn made_again(&self, graph: &Graph, memories: &[&Memory]) -> Vec<Option<usize>> {
        let reads = |value: usize, reader: usize| {
            let inputs = &graph.nodes[reader].inputs;
            memories[reader].backward_inputs.iter().any(|&i| inputs[i].0 == value)
        };
        let at_hand = |input: &Value| self.made[input.0].is_none_or(|node| !memories[node].recompute);
        let maker = |value: usize| {
            let maker = self.made[value].filter(|&maker| graph.recompute && memories[maker].recompute)?;
            let readers = self.read[value].iter().filter(|&&reader| reads(value, reader)).count();
            let can = readers == 1 && !memories[maker].backward_output;
            (can && graph.nodes[maker].inputs.iter().all(at_hand)).then_some(maker)
        };
        (0..graph.values.len()).map(maker).collect()
    }

    /// The next node, in the order of backward after node `index`, that adds to the gradient of `value`.
    fn next_writer(&self, value: usize, index: usize) -> Option<usize> {
        self.read[value].iter().copied().filter(|&reader| reader < index).max()
    }
}

/// The place of a node's cotangent, which inputs may take over whose gradient it is.
pub(super) struct Passing {
    index: usize,
    /// Whether nobody reads it after this node but who takes it over.
    free: bool,
    taken_by: Vec<usize>,
}

impl Passing {
    pub fn new(uses: &Uses, gradients: &[Option<usize>], index: usize, cotangent: usize) -> Self {
        // Where an earlier cotangent went to several values, one of them may still be read there.
        let mut places = gradients.iter().zip(&uses.made);
        let free = !places.any(|(place, made)| *place == Some(cotangent) && *made < Some(index));
        Self { index, free, taken_by: Vec::new() }
    }

    /// Whether `value` takes the place over. Several do where each is read before anybody adds to another.
    pub fn take(&mut self, uses: &Uses, value: usize) -> bool {
        let before = |a: usize, b: usize| uses.next_writer(b, self.index) < uses.made[a];
        let apart = self.taken_by.iter().all(|&other| before(value, other) && before(other, value));
        let takes = self.free && apart;
        if takes {
            self.taken_by.push(value);
        }
        takes
    }
}
