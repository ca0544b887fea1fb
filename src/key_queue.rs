//! A queue that holds every key at most once. Its length is bounded by the number of keys, whatever the rate of events.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The capacity that an empty queue keeps. At the start it holds every key, but later few wait at once.
const KEPT: usize = 1024;

/// The waiting keys, oldest first, each with the value from when it was first added.
#[derive(Debug)]
pub struct KeyQueue<K, V> {
    inner: Mutex<Queued<K, V>>,
    arrival: Notify,
}

#[derive(Debug)]
struct Queued<K, V> {
    order: VecDeque<K>,
    waiting: HashMap<K, V>,
}

impl<K, V> Default for Queued<K, V> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<K, V> Default for KeyQueue<K, V> {
    fn default() -> Self {
        Self { inner: Mutex::default(), arrival: Notify::new() }
    }
}

impl<K: Hash + Eq + Clone, V> KeyQueue<K, V> {
    /// Adds keys that are not waiting already.
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut inner = self.inner.lock();
        let before = inner.order.len();
        for (key, value) in entries {
            let inner = &mut *inner;
            inner.waiting.entry(key).or_insert_with_key(|key| {
                inner.order.push_back(key.clone());
                value
            });
        }
        if inner.order.len() > before {
            drop(inner);
            self.arrival.notify_one();
        }
    }

    /// Adds a key, unless it is waiting already.
    pub fn push(&self, key: K, value: V) {
        self.extend([(key, value)]);
    }

    /// Takes the key that has waited longest.
    pub fn try_next(&self) -> Option<(K, V)> {
        let mut inner = self.inner.lock();
        let key = inner.order.pop_front()?;
        let value = inner.waiting.remove(&key)?;
        if !inner.order.is_empty() {
            self.arrival.notify_one();
        } else if inner.order.capacity() > KEPT {
            *inner = Queued::default();
        }
        Some((key, value))
    }

    /// Takes the key that has waited longest, as soon as there is one. Cancel-safe.
    pub async fn next(&self) -> (K, V) {
        loop {
            if let Some(entry) = self.try_next() {
                return entry;
            }
            self.arrival.notified().await;
        }
    }

    /// The number of waiting keys.
    pub fn len(&self) -> usize {
        self.inner.lock().order.len()
    }

    /// Whether no key is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_key_waits_once_in_order_of_its_first_mention() {
        let queue = KeyQueue::default();
        queue.extend([("b", 1), ("a", 2), ("b", 3)]);
        queue.push("a", 4);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.try_next(), Some(("b", 1)));
        queue.push("b", 5);
        assert_eq!(queue.try_next(), Some(("a", 2)));
        assert_eq!(queue.try_next(), Some(("b", 5)));
        assert_eq!(queue.try_next(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_empty_queue_gives_back_the_memory_of_a_long_one() {
        let queue = KeyQueue::default();
        queue.extend((0..100_000).map(|key| (key, ())));
        while queue.try_next().is_some() {}
        let inner = queue.inner.lock();
        assert!(inner.order.capacity() <= KEPT && inner.waiting.capacity() <= KEPT);
    }

    #[tokio::test]
    async fn several_readers_get_every_key_once() {
        let queue: Arc<KeyQueue<usize, ()>> = Arc::default();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    loop {
                        match queue.next().await.0 {
                            key if key >= 1000 => {
                                queue.push(key, ());
                                return got;
                            }
                            key => got.push(key),
                        }
                    }
                })
            })
            .collect();
        queue.extend((0..1000).map(|key| (key, ())));
        queue.push(1000, ());
        let mut all = Vec::new();
        for reader in readers {
            all.extend(reader.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }
}
