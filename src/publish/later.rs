//! A schedule of keys to look at again later.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Keys to look at later, each at the earliest of its times.
#[derive(Debug)]
pub(super) struct Later<K> {
    times: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Later<K> {
    fn default() -> Self {
        Self { times: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Hash + Ord + Clone> Later<K> {
    /// Schedules a key for a time, unless it is scheduled earlier.
    pub(super) fn add(&mut self, key: K, at: Instant) {
        if let Some(before) = self.times.get(&key).copied() {
            if before <= at {
                return;
            }
            self.order.remove(&(before, key.clone()));
        }
        self.times.insert(key.clone(), at);
        self.order.insert((at, key));
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.times.remove_entry(key) {
            self.order.remove(&(entry.1, entry.0));
        }
    }

    /// Takes a key that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<K> {
        self.order.first().filter(|(at, _)| *at <= now)?;
        let (_, key) = self.order.pop_first()?;
        self.times.remove(&key);
        Some(key)
    }

    /// The earliest time of all.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_has_its_earliest_time_and_no_other() {
        let now = Instant::now();
        let mut later = Later::default();
        for (key, seconds) in [("a", 5), ("a", 9), ("a", 2), ("b", 3), ("c", 1)] {
            later.add(key, now + Duration::from_secs(seconds));
        }
        later.remove(&"c");
        assert_eq!(later.due(now), None);
        assert_eq!(later.next(), Some(now + Duration::from_secs(2)));
        let late = now + Duration::from_secs(60);
        assert_eq!([later.due(late), later.due(late), later.due(late)], [Some("a"), Some("b"), None]);
        assert_eq!((later.len(), later.times.len()), (0, 0));
    }
}
