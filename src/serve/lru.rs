//! The few things that were used last.

use std::collections::VecDeque;

/// At most `most` entries; the one that was used longest ago makes room for a new one.
pub struct Lru<K, V> {
    most: usize,
    /// In the order of use, the last one at the end.
    entries: VecDeque<(K, V)>,
}

impl<K: PartialEq, V: Clone> Lru<K, V> {
    pub fn new(most: usize) -> Self {
        Self { most, entries: VecDeque::new() }
    }

    /// A copy of an entry, which is then the one used last.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let at = self.entries.iter().position(|(found, _)| found == key)?;
        let entry = self.entries.remove(at)?;
        let value = entry.1.clone();
        self.entries.push_back(entry);
        Some(value)
    }

    /// Adds an entry, or replaces the one of this key.
    pub fn put(&mut self, key: K, value: V) {
        self.remove(&key);
        while self.entries.len() >= self.most {
            self.entries.pop_front();
        }
        self.entries.push_back((key, value));
    }

    pub fn remove(&mut self, key: &K) {
        self.entries.retain(|(found, _)| found != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_goes_first() {
        let mut lru = Lru::new(2);
        lru.put("a", 1);
        lru.put("b", 2);
        assert_eq!(lru.get(&"a"), Some(1));
        lru.put("c", 3);
        assert_eq!((lru.get(&"a"), lru.get(&"b"), lru.get(&"c")), (Some(1), None, Some(3)));
        lru.put("a", 4);
        assert_eq!((lru.get(&"a"), lru.get(&"c")), (Some(4), Some(3)));
    }
}
