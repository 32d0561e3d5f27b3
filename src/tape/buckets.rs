//! The gradients in stretches that are final one after the other while backward goes on, for whoever has use for the first ones
//! before the last ones are there.

use super::Plan;
use std::collections::BTreeMap;
use std::ops::Range;

/// A stretch of the gradients, in the layout of the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub range: Range<usize>,
    /// The node whose backward is the last to write into it, so that it is final behind that one. Backward takes nodes from the
    /// highest to the lowest.
    pub node: usize,
}

impl Plan {
    /// By the first value of each parameter that has a gradient: where its gradient lies, and the last node that writes it. A
    /// parameter that several nodes read has its gradient from all of them.
    fn last_writers(&self) -> BTreeMap<usize, (Range<usize>, usize)> {
        let mut writers: BTreeMap<usize, (Range<usize>, usize)> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for target in node.targets.iter().filter(|target| target.parameter) {
                let range = target.range.clone();
                writers
                    .entry(range.start)
                    .and_modify(|(_, node)| *node = (*node).min(index))
                    .or_insert((range, index));
            }
        }
        writers
    }

    /// All of `len` values of the gradients in buckets of at least `least` values, but for one, in the order in which they are
    /// final. Layers are made in the order in which they run, so that neighbours are final one after the other.
    pub fn buckets(&self, len: usize, least: usize) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = Vec::new();
        let (mut end, mut last) = (len, usize::MAX);
        for (range, node) in self.last_writers().into_values().rev() {
            last = last.min(node);
            if end - range.start >= least {
                buckets.push(Bucket { range: range.start..end, node: last });
                (end, last) = (range.start, usize::MAX);
            }
        }
        if end > 0 {
            buckets.push(Bucket { range: 0..end, node: last });
        }
        buckets.sort_by_key(|bucket| std::cmp::Reverse(bucket.node));
        buckets
    }
}
