//! Places in the arena.

use super::Buffer;
use std::ops::Range;

/// Largest first, each at the lowest place that is free during its whole life; returns the length
/// of the arena.
pub(super) fn place(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|&i| buffers[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].len), i));
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for i in order {
        let meets = |&&j: &&usize| buffers[j].first <= buffers[i].last && buffers[i].first <= buffers[j].last;
        let mut taken: Vec<Range<usize>> = placed
            .iter()
            .filter(meets)
            .map(|&j| buffers[j].offset..buffers[j].offset + buffers[j].len)
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut offset = 0;
        for range in taken {
            if offset + buffers[i].len <= range.start {
                break;
            }
            offset = offset.max(range.end);
        }
        buffers[i].offset = offset;
        end = end.max(offset + buffers[i].len);
        placed.push(i);
    }
    end
}
